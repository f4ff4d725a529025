//! Compares the revocation status with a model, while fetches, reloads, local shortages and changes
//! of the clock, forward and back, happen in random order.

use std::collections::HashMap;
use std::rc::Rc;

use openssl::base64;

use super::*;
use crate::decision::Outcome;
use crate::engine::{PolicySource, RequestHeaders};
use crate::trust::test_ca::{self, TestCa};

/// splitmix64
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) % bound as u64) as usize
    }
}

/// The settings of a route that the model changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Options {
    strict: bool,
    ssl_verify: bool,
    ttl: i64,
    /// Number of routes before this one, which is the number of its plan.
    others: usize,
}

impl Options {
    fn random(random: &mut Random) -> Options {
        Options {
            strict: random.below(2) == 0,
            ssl_verify: random.below(3) == 0,
            ttl: [20, 60][random.below(2)],
            others: random.below(3),
        }
    }

    /// What the key of a cached status depends on.
    fn key(self) -> (bool, i64) {
        (self.ssl_verify, self.ttl)
    }

    fn policy(self, ca: &str) -> String {
        // Each route has a plan of its own.
        let others: String = (0..self.others)
            .map(|n| {
                format!(
                    "- {{name: other-{n}, plugins: [{{name: header-cert-auth, config: {{\
                     ca_certificates: [6a1f0c5e-3f0b-4c0a-9a58-0d4a1e2b7c11], \
                     certificate_header_name: X-Other-{n}, certificate_header_format: base64_encoded, \
                     skip_consumer_lookup: true}}}}]}}\n"
                )
            })
            .collect();
        let mode = ["IGNORE_CA_ERROR", "STRICT"][usize::from(self.strict)];
        format!(
            "_format_version: '3.0'\nca_certificates:\n- id: 6a1f0c5e-3f0b-4c0a-9a58-0d4a1e2b7c11\n  \
             cert: {ca:?}\nroutes:\n{others}- {{name: a, plugins: [{{name: header-cert-auth, config: {{\
             ca_certificates: [6a1f0c5e-3f0b-4c0a-9a58-0d4a1e2b7c11], certificate_header_name: X-Client, \
             certificate_header_format: base64_encoded, skip_consumer_lookup: true, \
             revocation_check_mode: {mode}, ssl_verify: {}, cert_cache_ttl: {}}}}}]}}\n",
            self.ssl_verify, self.ttl
        )
    }
}

/// A status with the time of its answer and its end.
#[derive(Clone, Copy)]
struct Kept {
    state: RevocationState,
    from: i64,
    until: i64,
}

/// The status that the engine must have by the rules alone.
#[derive(Default)]
struct Model {
    /// thisUpdate of the newest answer since the first that revokes, and whether it revokes.
    evidence: Option<(i64, bool)>,
    statuses: HashMap<(bool, i64), Kept>,
}

impl Model {
    fn is_revoked(&self) -> bool {
        self.evidence.is_some_and(|(_, revokes)| revokes)
    }

    fn outcome(&self, options: Options, now: i64) -> Outcome {
        if self.is_revoked() {
            return Outcome::Refused;
        }
        match self.statuses.get(&options.key()) {
            Some(kept) if kept.from <= now && now < kept.until => match kept.state {
                RevocationState::Good => Outcome::Pass,
                RevocationState::Revoked => Outcome::Refused,
                RevocationState::Unknown if options.strict => Outcome::Refused,
                RevocationState::Unknown => Outcome::Pass,
                RevocationState::Pending => Outcome::Pending,
            },
            _ => Outcome::Pending,
        }
    }

    /// An answer with a signature; returns whether it counts.
    fn answer(&mut self, options: Options, answer: CachedStatus, now: i64) -> bool {
        let dated = answer.this_update.min(now);
        match (answer.state, self.evidence) {
            (RevocationState::Revoked, Some((newest, false))) if dated < newest => false,
            (RevocationState::Revoked, known) => {
                let newest = match known {
                    Some((newest, true)) => newest.max(dated),
                    _ => dated,
                };
                self.evidence = Some((newest, true));
                true
            }
            (_, Some((newest, true))) if dated <= newest => false,
            (_, known) => {
                if let Some((_, true)) = known {
                    self.evidence = Some((dated, false));
                }
                let until = (now + options.ttl).min(answer.next_update).max(now + 1);
                let kept = Kept {
                    state: RevocationState::Good,
                    from: now,
                    until,
                };
                self.statuses.insert(options.key(), kept);
                true
            }
        }
    }

    fn no_answer(&mut self, options: Options, until: i64, now: i64) {
        let known = self.statuses.get(&options.key());
        let holds = |known: &Kept| {
            known.state != RevocationState::Unknown && known.from <= now && now < known.until
        };
        if !self.is_revoked() && !known.is_some_and(holds) {
            let kept = Kept {
                state: RevocationState::Unknown,
                from: now,
                until,
            };
            self.statuses.insert(options.key(), kept);
        }
    }
}

/// A fetch in progress.
struct Fetch<'w> {
    engine: &'w Engine,
    certificate: &'w Certificate,
    /// The plan for which it started.
    started: PlanRef,
    /// The key of the status there.
    key: &'w str,
}

struct World {
    leaf: String,
    ca: String,
    /// Answers of the sources: the number of the source and the bytes. Two are "revoked", the
    /// others are an older and a newer CRL that does not list the certificate.
    answers: [(usize, Vec<u8>); 4],
    start: i64,
}

/// A time in the format of `openssl ca`.
fn generalized_time(seconds: i64) -> String {
    let time = crate::certificate::time::rfc3339(seconds, "Z");
    time.chars()
        .filter(|c| c.is_ascii_alphanumeric() && *c != 'T')
        .collect()
}

impl World {
    fn new() -> World {
        let ca = TestCa::new();
        let leaf = ca.issue(
            "leaf",
            "extendedKeyUsage = clientAuth\n\
             authorityInfoAccess = OCSP;URI:http://ocsp.example.com/\n\
             crlDistributionPoints = URI:http://ca.example.com/ca.crl\n",
        );
        let start = test_ca::now() + 1000;
        let crl = |dated: i64| {
            let times = [generalized_time(dated), generalized_time(start + 5000)];
            let options = ["-crl_lastupdate", &times[0], "-crl_nextupdate", &times[1]];
            ca.crl("", &options)
        };
        let (old, new) = (crl(start - 7200), crl(start + 40));
        ca.add_to_database(&leaf.x509, 'R', "200101000000Z");
        let request = crate::trust::ocsp::request(&leaf.x509, &ca.x509, false).unwrap();
        let decision = ca.ocsp(&request, &ca.file(), &["-nmin", "600"]);
        World {
            leaf: base64::encode_block(&leaf.x509.to_der().unwrap()),
            ca: String::from_utf8(ca.x509.to_pem().unwrap()).unwrap(),
            answers: [(0, decision), (1, crl(start - 3600)), (1, old), (1, new)],
            start,
        }
    }

    fn run(&self, seed: u64, steps: usize) -> HashMap<&'static str, usize> {
        let mut random = Random(seed);
        let engine = Engine::default();
        let headers: &[(&[u8], &[u8])] = &[(b"X-Client", self.leaf.as_bytes())];
        let headers = RequestHeaders {
            headers,
            trusted: true,
        };
        let mut model = Model::default();
        let mut now = self.start;
        let mut options = Options::random(&mut random);
        let load = |options: Options| {
            let label = "policy".to_owned();
            let text = options.policy(&self.ca).into_bytes().into();
            engine.load(PolicySource::Text { text, label }).unwrap();
            PlanRef {
                plan: engine.policy().unwrap().plan(Some("a")).unwrap(),
                epoch: engine.epoch(),
            }
        };
        let mut at = load(options);
        let certificate: Rc<Certificate> = engine
            .unverified_certificate(None, at.plan, &headers, false)
            .unwrap()
            .unwrap();
        // Fetches in progress: the plan for which they started, and the key of the status there.
        let mut fetches: Vec<(PlanRef, String)> = Vec::new();
        let mut seen: HashMap<&'static str, usize> = HashMap::new();
        for step in 0..steps {
            let what = match random.below(10) {
                0 => {
                    options = Options::random(&mut random);
                    at = load(options);
                    "reload"
                }
                1 => {
                    now += [1, 7, 25, -10][random.below(4)];
                    "clock"
                }
                2 | 3 => {
                    fetches.push((
                        at,
                        engine.revocation_status_key(&certificate, at, now).unwrap(),
                    ));
                    "fetch"
                }
                4..=7 if !fetches.is_empty() => {
                    let (begun, key) = fetches.swap_remove(random.below(fetches.len()));
                    let fetch = Fetch {
                        engine: &engine,
                        certificate: &certificate,
                        started: begun,
                        key: &key,
                    };
                    self.end(fetch, at, options, now, &mut random, &mut model)
                }
                _ => "access",
            };
            *seen.entry(what).or_default() += 1;
            let decision = engine
                .access_with_headers(None, at.plan, b"", &headers, now)
                .unwrap();
            let expected = model.outcome(options, now);
            let context = || format!("seed {seed}, step {step}: after '{what}' under {options:?}");
            assert_eq!(decision.outcome, expected, "{}", context());
            let named = match expected {
                Outcome::Pass => "passed",
                Outcome::Refused => "refused",
                _ => "pending",
            };
            *seen.entry(named).or_default() += 1;
        }
        seen
    }

    /// Ends one fetch as revocation.lua does.
    fn end(
        &self,
        fetch: Fetch<'_>,
        at: PlanRef,
        options: Options,
        now: i64,
        random: &mut Random,
        model: &mut Model,
    ) -> &'static str {
        let Fetch {
            engine,
            certificate,
            started: mut begun,
            key,
        } = fetch;
        let same = engine.revocation_status_key(certificate, at, now).unwrap() == key;
        if same {
            begun = at;
        }
        let kind = random.below(6);
        if kind == 5 {
            // A local shortage: nothing is cached.
            return "shortage";
        }
        let failed = |engine: &Engine| {
            engine.set_revocation_status(certificate, begun, RevocationState::Unknown, now + 5, now)
        };
        if !same {
            // The engine rejects every response that was fetched for another policy.
            let source = engine.revocation_source(certificate, begun, 0, now);
            assert_eq!(source.unwrap_err(), Error::NotFound);
            for state in [
                RevocationState::Good,
                RevocationState::Revoked,
                RevocationState::Unknown,
            ] {
                let void = engine.set_revocation_status(certificate, begun, state, now + 1000, now);
                assert_eq!(void.unwrap_err(), Error::NotFound);
            }
            return "void";
        }
        let garbage = (0, b"garbage".to_vec());
        let (index, bytes) = self.answers.get(kind).unwrap_or(&garbage);
        let source: RevocationSource = engine
            .revocation_source(certificate, begun, *index, now)
            .unwrap()
            .unwrap();
        let none = |model: &mut Model| {
            failed(engine).unwrap();
            model.no_answer(options, now + 5, now);
            "failure"
        };
        match engine.check_revocation_response(certificate, begun, &source, bytes, now, now) {
            Ok(result) => {
                let status = result.status();
                assert!(status.until > now || status.state == RevocationState::Revoked);
                let answer = CachedStatus {
                    this_update: status.this_update,
                    ..status
                };
                match (kind, status.state) {
                    (0 | 1, RevocationState::Revoked) => {
                        assert!(model.answer(options, answer, now));
                        "revoked"
                    }
                    (2 | 3, RevocationState::Good) => {
                        assert!(model.answer(options, answer, now));
                        "good"
                    }
                    // An answer that is not newer than the evidence of the revocation.
                    (2 | 3, RevocationState::Revoked) => {
                        assert!(model.is_revoked());
                        "older"
                    }
                    other => panic!("{other:?}"),
                }
            }
            Err(Error::Misuse(why)) => {
                if kind < 2 {
                    assert!(why.contains("older than another answer"), "{why}");
                    assert!(!model.is_revoked());
                }
                none(model)
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_certificate_that_was_found_revoked_does_not_pass_whatever_else_happens_in_any_order() {
    let world = World::new();
    let mut seen: HashMap<&'static str, usize> = HashMap::new();
    for seed in 0..120 {
        for (what, count) in world.run(seed, 200) {
            *seen.entry(what).or_default() += count;
        }
    }
    // The random runs covered every case of the model.
    for what in [
        "reload", "clock", "fetch", "access", "shortage", "void", "revoked", "good", "older",
        "failure", "passed", "refused", "pending",
    ] {
        assert!(
            seen.get(what).is_some_and(|count| *count > 100),
            "{what}: {seen:?}"
        );
    }
}

#[test]
fn a_certificate_revoked_under_one_policy_is_refused_under_the_next_without_asking() {
    let world = World::new();
    let engine = Engine::default();
    let headers: &[(&[u8], &[u8])] = &[(b"X-Client", world.leaf.as_bytes())];
    let headers = RequestHeaders {
        headers,
        trusted: true,
    };
    let now = world.start;
    let mut options = Options {
        strict: false,
        ssl_verify: false,
        ttl: 60,
        others: 0,
    };
    let load = |options: Options| {
        let label = "policy".to_owned();
        let text = options.policy(&world.ca).into_bytes().into();
        engine.load(PolicySource::Text { text, label }).unwrap();
        PlanRef {
            plan: engine.policy().unwrap().plan(Some("a")).unwrap(),
            epoch: engine.epoch(),
        }
    };
    let decide = |at: PlanRef, now| {
        let decision = engine.access_with_headers(None, at.plan, b"", &headers, now);
        decision.unwrap().outcome
    };
    let at = load(options);
    assert_eq!(decide(at, now), Outcome::Pending);
    let certificate = engine.unverified_certificate(None, at.plan, &headers, false);
    let certificate = certificate.unwrap().unwrap();
    let source = engine
        .revocation_source(&certificate, at, 0, now)
        .unwrap()
        .unwrap();
    let answer = |source: &RevocationSource, at, number: usize, now| {
        let bytes = &world.answers[number].1;
        let result = engine.check_revocation_response(&certificate, at, source, bytes, now, now);
        result.map(SourceResult::status)
    };
    let judged = answer(&source, at, 0, now);
    assert_eq!(judged.unwrap().until, now + 60);
    options.ssl_verify = true;
    let at = load(options);
    assert_eq!(decide(at, now + 59), Outcome::Refused);
    // An older CRL that arrives late, then a failure.
    let source = engine
        .revocation_source(&certificate, at, 1, now)
        .unwrap()
        .unwrap();
    let judged = answer(&source, at, 2, now + 59);
    assert_eq!(judged.unwrap().state, RevocationState::Revoked);
    let settled = engine.set_revocation_status(
        &certificate,
        at,
        RevocationState::Unknown,
        now + 64,
        now + 59,
    );
    assert_eq!(settled.unwrap().state, RevocationState::Revoked);
    assert_eq!(decide(at, now + 59), Outcome::Refused);
    // The answer has ended: a newer one is requested, every five seconds, and until it is there
    // the certificate stays revoked.
    assert!(engine.take_refresh().is_none());
    for (later, requested) in [(60, true), (64, false), (65, true), (50_000, true)] {
        let decided = decide(at, now + later);
        assert_eq!(decided, Outcome::Refused);
        assert_eq!(engine.take_refresh().is_some(), requested, "{later}");
    }
    let judged = answer(&source, at, 3, now + 70);
    assert_eq!(judged.unwrap().state, RevocationState::Good);
    assert_eq!(decide(at, now + 70), Outcome::Pass);
}
