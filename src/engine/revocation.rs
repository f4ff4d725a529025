//! Whether a trusted certificate still counts. What the network says comes in as bytes: the engine
//! names the sources, the caller fetches, the engine judges.

use std::rc::Rc;

use openssl::sha::{sha256, Sha256};
use openssl::x509::X509;

use super::{Engine, Trust};
use crate::certificate::{self, signed_content, Certificate};
use crate::metrics::{self, Event};
use crate::policy::{Auth, Revocation, RevocationMode};
use crate::text::hex;
use crate::trust::crl::{Crl, CrlExpiry, MAX_FETCHED};
use crate::trust::{chain_ids, ocsp, revocation_urls, ChainIds, RevocationStatus, Verdict};
use crate::Error;

/// `X509_V_ERR_CERT_REVOKED`.
const REVOKED: i32 = 23;
/// `X509_V_ERR_UNABLE_TO_GET_CRL`: no status could be had.
const NO_STATUS: i32 = 3;
/// Seconds after which the policy's own CRLs are looked at again when they gave no answer.
const LOCAL_RETRY: i64 = 60;

/// What is known of the status of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum State {
    /// Its sources gave no answer.
    Unknown = 0,
    /// Not revoked.
    Good = 1,
    /// Revoked.
    Revoked = 2,
}

impl State {
    /// The state with this number.
    pub fn from_number(number: i32) -> Option<State> {
        [State::Unknown, State::Good, State::Revoked]
            .into_iter()
            .find(|state| *state as i32 == number)
    }
}

/// A state that holds before `until`, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// `X509_V_*` number of a refusal for it.
    pub code: i32,
    /// Depth of the certificate that a refusal is about; 0 is the leaf.
    pub depth: u32,
    /// When it was found out: a clock that is set back before that makes it void.
    from: i64,
    /// First second at which it must be asked for again.
    pub until: i64,
    /// Whether only a newer answer ends it, not the lack of one: a signed revocation without
    /// `certificateHold`.
    lasting: bool,
}

/// A plan of the policy that was in force at an epoch. Fetching takes time, and a plan number means
/// something else after a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Number of the plan.
    pub plan: usize,
    /// [`Engine::epoch`] when the number was looked up.
    pub epoch: u64,
}

/// Where a status may be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An OCSP responder, with the request as DER.
    Ocsp {
        /// http or https URL from the certificate.
        url: String,
        /// DER of the OCSPRequest, for POST.
        request: Vec<u8>,
    },
    /// A CRL distribution point.
    Crl {
        /// http or https URL from the certificate.
        url: String,
    },
}

/// Which expired CRLs were reported.
#[derive(Default)]
pub(super) struct CrlWatch {
    epoch: u64,
    /// Those that expired by then were.
    seen: i64,
    /// Not reported yet.
    texts: Vec<String>,
}

impl Status {
    /// A state that is found out at `now`.
    fn new(state: State, now: i64, until: i64) -> Status {
        let code = match state {
            State::Unknown => NO_STATUS,
            State::Good => 0,
            State::Revoked => REVOKED,
        };
        Status {
            state,
            code,
            depth: 0,
            from: now,
            until,
            lasting: false,
        }
    }

    fn holds_at(&self, now: i64) -> bool {
        self.from <= now && now < self.until
    }
}

/// What a status is remembered under. The verified chain, not what the client sent: a client must
/// not get rid of an answer by sending one more certificate, or its own in another encoding.
fn status_id(chain: &ChainIds, revocation: &Revocation) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(chain.status_key(revocation.crls.is_some()));
    hasher.update(&revocation.key);
    hasher.update(&revocation.ttl.to_be_bytes());
    hasher.finish()
}

/// The same for a verified chain, leaf first.
fn chain_id(chain: &[X509], revocation: &Revocation) -> Result<[u8; 32], Error> {
    match chain {
        [] => Err(Error::NotFound),
        chain => Ok(status_id(&chain_ids(chain)?, revocation)),
    }
}

/// The status by the policy's own CRLs alone; `None` when they leave it open and the certificate
/// names sources.
fn local(auth: &Auth, certificate: &Certificate, now: i64) -> Result<Option<Status>, Error> {
    let (leaf, intermediates) = (certificate.leaf(), certificate.intermediates());
    let limit = now.saturating_add(auth.revocation.ttl);
    let path = auth.store.path(leaf, intermediates, now)?;
    let mut unknown = Status::new(State::Unknown, now, limit);
    if let Some(crls) = &auth.revocation.crls {
        let outcome = crls.check(&path, now);
        let until = outcome.until.clamp(now.saturating_add(1), limit);
        let status = |state| Status {
            code: outcome.code,
            depth: outcome.depth,
            ..Status::new(state, now, until)
        };
        match outcome.code {
            0 if !path.chain().is_empty() => return Ok(Some(status(State::Good))),
            // A CA that is revoked must not answer for its clients, though a CRL may lack for these.
            REVOKED => return Ok(Some(status(State::Revoked))),
            // Its sources may have an answer before a CRL comes into force.
            _ => unknown = status(State::Unknown),
        }
        unknown.until = until.min(now.saturating_add(LOCAL_RETRY));
    }
    let sourceless =
        revocation_urls::ocsp(leaf).is_empty() && revocation_urls::crl(leaf).is_empty();
    let settled = sourceless || path.chain().len() < 2;
    Ok(settled.then_some(unknown))
}

impl Engine {
    pub(super) fn unrevoked(
        &self,
        auth: &Auth,
        certificate: &Certificate,
        verdict: Verdict,
        now: i64,
    ) -> Result<Trust, Error> {
        let revocation = &auth.revocation;
        let strict = match revocation.mode {
            RevocationMode::Skip => {
                return Ok(Trust::Yes {
                    until: verdict.until(),
                    verdict,
                });
            }
            RevocationMode::IgnoreCaError => false,
            RevocationMode::Strict => true,
        };
        let ids = verdict.ids().ok_or(Error::NotFound)?;
        let issuer = verdict.cas().first();
        if self
            .revoked
            .borrow_mut()
            .until(*ids.leaf(), issuer, now)
            .is_some()
        {
            metrics::count(Event::StatusHit);
            return Ok(Trust::No(Verdict::refused(REVOKED, 0, now)));
        }
        let key = status_id(ids, revocation);
        let known = self
            .statuses
            .borrow_mut()
            .find(&key)
            .map(|(_, status)| *status);
        let known = known.filter(|status| status.holds_at(now));
        metrics::count_look_up(known.is_some(), Event::StatusHit, Event::StatusMiss);
        let status = match known {
            Some(status) => status,
            None => match local(auth, certificate, now)? {
                Some(status) => {
                    self.statuses.borrow_mut().put(key, status);
                    status
                }
                None => return Ok(Trust::Pending),
            },
        };
        Ok(match status.state {
            State::Revoked => Trust::No(Verdict::refused(status.code, status.depth, now)),
            State::Unknown if strict => Trust::No(Verdict::refused(status.code, status.depth, now)),
            State::Unknown | State::Good => Trust::Yes {
                until: verdict.until().min(status.until),
                verdict,
            },
        })
    }

    /// Source number `index` for the status of a client on a plan, OCSP before
    /// CRL. `None` after the last.
    pub fn source(
        &self,
        certificate: &Certificate,
        at: At,
        index: usize,
        now: i64,
    ) -> Result<Option<Source>, Error> {
        self.with_chain(certificate, at, now, |_, chain| {
            let (Some(leaf), Some(issuer)) = (chain.first(), chain.get(1)) else {
                return Ok(None);
            };
            let responders = revocation_urls::ocsp(leaf);
            if let Some(url) = responders.get(index) {
                let request = ocsp::request(leaf, issuer, false)?;
                return Ok(Some(Source::Ocsp {
                    url: url.clone(),
                    request,
                }));
            }
            let lists = revocation_urls::crl(leaf);
            Ok(lists
                .get(index - responders.len())
                .map(|url| Source::Crl { url: url.clone() }))
        })
    }

    /// Judges what a source answered. `Ok` is a definite status, which is remembered.
    ///
    /// # Errors
    /// Why the bytes are no answer, for the log.
    pub fn judge(
        &self,
        certificate: &Certificate,
        at: At,
        source: &Source,
        bytes: &[u8],
        now: i64,
    ) -> Result<Status, Error> {
        let answer = self.with_chain(certificate, at, now, |auth, chain| {
            let (Some(leaf), Some(issuer)) = (chain.first(), chain.get(1)) else {
                return Ok(RevocationStatus::Unknown(
                    "the chain has no issuer".to_owned(),
                ));
            };
            Ok(match source {
                Source::Ocsp { request, .. } => {
                    ocsp::evaluate(bytes, request, leaf, issuer, auth.store.auth_level(), now)
                }
                Source::Crl { .. } => match self.crl(bytes, issuer) {
                    Ok(crl) => crl.status(leaf, issuer, now),
                    Err(why) => RevocationStatus::Unknown(why),
                },
            })
        })?;
        let status = match answer {
            RevocationStatus::Good { until } => Status::new(State::Good, now, until),
            RevocationStatus::Revoked { until, reason, .. } => Status {
                lasting: reason != "certificateHold",
                ..Status::new(State::Revoked, now, until)
            },
            RevocationStatus::Unknown(why) => return Err(Error::Misuse(why)),
        };
        self.put_status(certificate, at, status, now)
    }

    /// Remembers a status that is known from elsewhere, for at most the time the plan allows. A
    /// certificate that is known as revoked stays so to the end of that time, whatever `state` is:
    /// an answer that arrives late may be older. Gives what is remembered.
    pub fn settle(
        &self,
        certificate: &Certificate,
        at: At,
        state: State,
        until: i64,
        now: i64,
    ) -> Result<Status, Error> {
        self.put_status(certificate, at, Status::new(state, now, until), now)
    }

    fn put_status(
        &self,
        certificate: &Certificate,
        at: At,
        mut status: Status,
        now: i64,
    ) -> Result<Status, Error> {
        self.with_chain(certificate, at, now, |auth, chain| {
            let key = chain_id(chain, &auth.revocation)?;
            let limit = now.saturating_add(auth.revocation.ttl);
            // A local CRL that comes into or goes out of force may revoke what a source calls good.
            let crls = auth.revocation.crls.as_ref();
            let limit = limit.min(crls.map_or(i64::MAX, |crls| crls.next_change(now)));
            // An answer within the clock skew after nextUpdate holds for this once.
            status.until = status.until.min(limit).max(now.saturating_add(1));
            if let [leaf, issuer, ..] = chain {
                let (leaf, issuer) = (
                    signed_content::tbs_sha256(leaf)?,
                    signed_content::ca_id(issuer)?,
                );
                let mut revoked = self.revoked.borrow_mut();
                if status.state == State::Revoked {
                    revoked.add(leaf, issuer, status.until, now);
                } else if let Some(until) = revoked.until(leaf, Some(&issuer), now) {
                    return Ok(Status::new(State::Revoked, now, until));
                }
            }
            let mut statuses = self.statuses.borrow_mut();
            let known = statuses.find(&key).map(|(_, status)| *status);
            match (known, status.state) {
                // Another request got an answer meanwhile.
                (Some(known), State::Unknown)
                    if known.state != State::Unknown && known.holds_at(now) =>
                {
                    return Ok(known);
                }
                (Some(known), State::Unknown) if known.lasting => {
                    status = Status {
                        from: status.from,
                        until: status.until,
                        ..known
                    };
                }
                (Some(known), State::Revoked) => status.lasting |= known.lasting,
                _ => {}
            }
            statuses.put(key, status);
            Ok(status)
        })
    }

    /// Name under which all workers share the status of this client on this plan.
    pub fn status_key(&self, certificate: &Certificate, at: At, now: i64) -> Result<String, Error> {
        self.with_chain(certificate, at, now, |auth, chain| {
            Ok(hex(&chain_id(chain, &auth.revocation)?))
        })
    }

    /// Local CRL number `index` of the policy in force; `None` after the last.
    pub fn with_local_crl<T>(
        &self,
        index: usize,
        read: impl FnOnce(CrlExpiry<'_>) -> T,
    ) -> Result<Option<T>, Error> {
        let policy = self.policy()?;
        let mut lists = policy.crls.iter().flat_map(|set| set.expiries());
        Ok(lists.nth(index).map(read))
    }

    /// Passes on a warning of a local CRL that expired since the policy was compiled, of each once.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no other; those of `write`, after which the warning is
    /// passed on again.
    pub fn expired_crl(
        &self,
        now: i64,
        write: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (policy, epoch) = (self.policy()?, self.epoch());
        let mut watch = self.crl_watch.borrow_mut();
        // A clock that was ahead must not hide what expires from now on.
        if watch.epoch != epoch || now < watch.seen {
            *watch = CrlWatch {
                epoch,
                // What had expired by then is a warning of the policy.
                seen: policy.compiled_at.min(now),
                texts: Vec::new(),
            };
        }
        let seen = watch.seen;
        if now > seen {
            let sets = policy.crls.iter();
            watch
                .texts
                .extend(sets.flat_map(|set| set.expired_since(seen, now)));
            watch.texts.sort();
            watch.texts.dedup();
            watch.seen = now;
        }
        write(watch.texts.last().ok_or(Error::NotFound)?)?;
        watch.texts.pop();
        Ok(())
    }

    /// A CRL, parsed and verified once per worker for the same bytes and issuer.
    fn crl(&self, bytes: &[u8], issuer: &X509) -> Result<Rc<Crl>, String> {
        let issuer_digest = certificate::sha256(issuer).map_err(|error| error.to_string())?;
        let key = sha256(&[sha256(bytes), issuer_digest].concat());
        if let Some((_, crl)) = self.crls.borrow_mut().find(&key) {
            return Ok(crl.clone());
        }
        let crl = Rc::new(Crl::load(bytes, issuer, MAX_FETCHED)?);
        self.crls.borrow_mut().put(key, crl.clone());
        Ok(crl)
    }

    fn with_chain<T>(
        &self,
        certificate: &Certificate,
        at: At,
        now: i64,
        read: impl FnOnce(&Auth, &[X509]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if at.epoch != self.epoch() {
            return Err(Error::NotFound);
        }
        let policy = self.policy()?;
        let plan = policy.plans.get(at.plan).ok_or(Error::NotFound)?;
        let auth = plan.auth.as_ref().ok_or(Error::NotFound)?;
        let chain = auth
            .store
            .chain(certificate.leaf(), certificate.intermediates(), now)?;
        read(auth, &chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::reload::Origin;
    use crate::testing::stack;
    use crate::trust::test_ca::{now, TestCa};
    use serde_json::json;

    const ID: &str = "10000000-0000-4000-8000-000000000001";

    /// An engine with one route in STRICT, and its plan.
    fn engine(ca: &TestCa, crls: &[&str], ttl: i64) -> (Engine, At) {
        let cert = String::from_utf8(ca.x509.to_pem().unwrap()).unwrap();
        let config = json!({
            "ca_certificates": [ID], "skip_consumer_lookup": true, "cert_cache_ttl": ttl,
            "revocation_check_mode": "STRICT", "crls": crls,
        });
        let policy = json!({
            "_format_version": "3.0",
            "ca_certificates": [{"id": ID, "cert": cert}],
            "routes": [{"name": "a", "plugins": [{"name": "mtls-auth", "config": config}]}],
        });
        let engine = Engine::default();
        let origin = Origin::Text {
            text: policy.to_string().into_bytes().into(),
            label: "text".to_owned(),
        };
        engine.load(origin).unwrap();
        let plan = engine.policy().unwrap().routes.find("a").unwrap();
        let epoch = engine.epoch();
        (engine, At { plan, epoch })
    }

    fn certificate(ca: &TestCa) -> Certificate {
        let leaf = ca.issue("leaf", "extendedKeyUsage=clientAuth");
        Certificate::new(leaf.x509, stack(&[])).unwrap()
    }

    #[test]
    fn settle_only_a_newer_answer_ends_a_revocation() {
        let source = Source::Crl {
            url: "http://a.example/".to_owned(),
        };
        for (reason, lasting) in [("keyCompromise", true), ("certificateHold", false)] {
            let ca = TestCa::new();
            let (engine, at) = engine(&ca, &[], 60);
            let client = certificate(&ca);
            let good = ca.crl("", &[]);
            ca.add_to_database(
                &client.leaf().to_owned(),
                'R',
                &format!("260102030405Z,{reason}"),
            );
            let (now, bytes) = (now() + 1, ca.crl("", &[]));
            let status = engine.judge(&client, at, &source, &bytes, now).unwrap();
            assert_eq!((status.state, status.until), (State::Revoked, now + 60));
            // As the caller settles what the source said, and later that no source answers.
            let settle = |state, now| engine.settle(&client, at, state, now + 5, now).unwrap();
            settle(State::Revoked, now);
            let later = settle(State::Unknown, now + 100);
            assert_eq!(later.state == State::Revoked, lasting, "{reason}");
            assert_eq!(later.until, now + 105);
            let status = engine.judge(&client, at, &source, &good, now + 200);
            assert_eq!(status.unwrap().state, State::Good);
            assert_eq!(settle(State::Unknown, now + 300).state, State::Unknown);
        }
    }

    #[test]
    fn settle_status_of_a_time_to_come_is_void_but_for_a_revocation() {
        let source = Source::Crl {
            url: "http://a.example/".to_owned(),
        };
        let (ca, ahead_by) = (TestCa::new(), 3600);
        let (engine, at) = engine(&ca, &[], 1_000_000);
        let client = certificate(&ca);
        let now = now() + 1;
        let settle = |state, now| engine.settle(&client, at, state, now + 5, now).unwrap();
        let ahead = engine.settle(&client, at, State::Good, i64::MAX, now + ahead_by);
        assert_eq!(ahead.unwrap().state, State::Good);
        // The clock is right again: an answer of a later hour does not stand against a failure of today.
        assert_eq!(settle(State::Unknown, now).state, State::Unknown);
        assert_eq!(settle(State::Good, now).state, State::Good);
        assert_eq!(settle(State::Unknown, now + 1).state, State::Good);
        // What the CA signed as revoked stays so until it says otherwise.
        ca.add_to_database(
            &client.leaf().to_owned(),
            'R',
            "260102030405Z,keyCompromise",
        );
        let bytes = ca.crl("", &[]);
        let ahead = engine.judge(&client, at, &source, &bytes, now + 2 + ahead_by / 2);
        assert_eq!(ahead.unwrap().state, State::Revoked);
        assert_eq!(settle(State::Unknown, now + 3).state, State::Revoked);
    }

    #[test]
    fn settle_good_ends_when_a_local_crl_changes() {
        let ca = TestCa::new();
        let crl = ca.crl("", &[]);
        let file = format!("{}.crl", ca.file());
        std::fs::write(&file, &crl).unwrap();
        let (engine, at) = engine(&ca, &[&file], 1_000_000);
        let client = certificate(&ca);
        let now = now() + 1;
        let status = engine.settle(&client, at, State::Good, i64::MAX, now);
        let next = engine
            .with_local_crl(0, |list| {
                assert_eq!((list.file, list.issuer), (&*file, "CN=Test CA,O=Example"));
                list.next_update.unwrap()
            })
            .unwrap();
        assert_eq!(status.unwrap().until, next.unwrap());
        assert_eq!(engine.with_local_crl(1, |_| ()), Ok(None));
    }

    #[test]
    fn expired_crl_is_passed_on_once() {
        let ca = TestCa::new();
        let file = format!("{}.crl", ca.file());
        std::fs::write(&file, ca.crl("", &[])).unwrap();
        let (engine, _) = engine(&ca, &[&file], 60);
        let mut texts = Vec::new();
        let mut expired = |now| {
            engine.expired_crl(now, |text| {
                texts.push(text.to_owned());
                Ok(())
            })
        };
        assert_eq!(expired(now()), Err(Error::NotFound));
        let tomorrow = now() + 86_500;
        assert_eq!(expired(tomorrow), Ok(()));
        assert_eq!(expired(tomorrow), Err(Error::NotFound));
        assert_eq!(expired(tomorrow + 1), Err(Error::NotFound));
        let start = format!("'{file}': CRL of 'CN=Test CA,O=Example': expired at ");
        assert!(texts[0].starts_with(&start), "{texts:?}");
        // Not lost when it does not fit.
        let (engine, _) = self::engine(&ca, &[&file], 60);
        let full = |_: &str| Err(Error::TooSmall);
        assert_eq!(engine.expired_crl(tomorrow, full), Err(Error::TooSmall));
        assert_eq!(engine.expired_crl(tomorrow, |_| Ok(())), Ok(()));
    }
}
