use super::*;
use crate::engine::reload::PolicySource;
use crate::testing::stack;
use crate::trust::test_ca::{now, TestCa};
use serde_json::json;

const ID: &str = "10000000-0000-4000-8000-000000000001";

/// An engine with one route in STRICT, and its plan.
fn engine(ca: &TestCa, crls: &[&str], ttl: i64) -> (Engine, PlanRef) {
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
    let origin = PolicySource::Text {
        text: policy.to_string().into_bytes().into(),
        label: "text".to_owned(),
    };
    engine.load(origin).unwrap();
    let plan = engine.policy().unwrap().routes.find("a").unwrap();
    let epoch = engine.epoch();
    (engine, PlanRef { plan, epoch })
}

impl SourceResult {
    pub(super) fn status(self) -> CachedStatus {
        match self {
            SourceResult::Status(status, _) => status,
            SourceResult::Parsing => panic!("a small CRL is parsed at once"),
        }
    }
}

fn certificate(ca: &TestCa) -> Certificate {
    let leaf = ca.issue("leaf", "extendedKeyUsage=clientAuth");
    Certificate::new(leaf.x509, stack(&[])).unwrap()
}

#[test]
fn set_revocation_status_does_not_end_a_revocation_but_a_hold() {
    let source = RevocationSource::Crl {
        url: "http://a.example/".to_owned(),
    };
    for (reason, lasting) in [("keyCompromise", true), ("certificateHold", false)] {
        let ca = TestCa::new();
        let (engine, at) = engine(&ca, &[], 60);
        let client = certificate(&ca);
        ca.add_to_database(
            &client.leaf().to_owned(),
            'R',
            &format!("260102030405Z,{reason}"),
        );
        let (now, bytes) = (now() + 1, ca.crl("", &["-crlsec", "3600"]));
        let status = engine
            .check_revocation_response(&client, at, &source, &bytes, now, now)
            .unwrap()
            .status();
        assert_eq!(
            (status.state, status.until),
            (RevocationState::Revoked, now + 60)
        );
        let unknown = |now| {
            let state = RevocationState::Unknown;
            let status = engine.set_revocation_status(&client, at, state, now + 5, now);
            status.unwrap().state
        };
        // A hold counts until its nextUpdate, longer than cert_cache_ttl.
        assert_eq!(unknown(now + 100), RevocationState::Revoked);
        assert_eq!(unknown(now + 3000), RevocationState::Revoked);
        let hour_later = unknown(now + 3700);
        assert_eq!(hour_later == RevocationState::Revoked, lasting, "{reason}");
    }
}

#[test]
fn check_revocation_response_is_cached_from_the_time_of_the_fetch() {
    let source = RevocationSource::Crl {
        url: "http://a.example/".to_owned(),
    };
    let ca = TestCa::new();
    let (engine, at) = engine(&ca, &[], 60);
    let client = certificate(&ca);
    let (bytes, now) = (ca.crl("", &[]), now() + 1);
    let check = |fetched| {
        let status =
            engine.check_revocation_response(&client, at, &source, &bytes, fetched, now + 50);
        status.unwrap().status().until
    };
    assert_eq!(check(now), now + 60);
    assert_eq!(check(now + 50), now + 110);
    // Fetched while the clock was ahead.
    assert_eq!(check(now + 1000), now + 110);
    // Fetched longer ago than cert_cache_ttl: it does not count by itself.
    engine.forget_statuses();
    assert_eq!(check(now - 1000), now - 940);
    let unknown = RevocationState::Unknown;
    let status = engine.set_revocation_status(&client, at, unknown, now + 60, now + 51);
    assert_eq!(status.unwrap().state, unknown);
}

#[test]
fn set_revocation_status_from_the_future_is_not_used_unless_revoked() {
    let source = RevocationSource::Crl {
        url: "http://a.example/".to_owned(),
    };
    let (ca, ahead_by) = (TestCa::new(), 3600);
    let (engine, at) = engine(&ca, &[], 1_000_000);
    let client = certificate(&ca);
    let now = now() + 1;
    let set_status = |state, now| {
        engine
            .set_revocation_status(&client, at, state, now + 5, now)
            .unwrap()
    };
    let ahead =
        engine.set_revocation_status(&client, at, RevocationState::Good, i64::MAX, now + ahead_by);
    assert_eq!(ahead.unwrap().state, RevocationState::Good);
    // The clock is right again: a good status of a later hour does not override a failure of today.
    assert_eq!(
        set_status(RevocationState::Unknown, now).state,
        RevocationState::Unknown
    );
    assert_eq!(
        set_status(RevocationState::Good, now).state,
        RevocationState::Good
    );
    assert_eq!(
        set_status(RevocationState::Unknown, now + 1).state,
        RevocationState::Good
    );
    // A signed revocation stays until the CA signs another status.
    ca.add_to_database(
        &client.leaf().to_owned(),
        'R',
        "260102030405Z,keyCompromise",
    );
    let bytes = ca.crl("", &[]);
    let ahead =
        engine.check_revocation_response(&client, at, &source, &bytes, now, now + 2 + ahead_by / 2);
    assert_eq!(ahead.unwrap().status().state, RevocationState::Revoked);
    assert_eq!(
        set_status(RevocationState::Unknown, now + 3).state,
        RevocationState::Revoked
    );
}

#[test]
fn set_revocation_status_good_ends_when_a_local_crl_changes() {
    let ca = TestCa::new();
    let crl = ca.crl("", &[]);
    let file = format!("{}.crl", ca.file());
    std::fs::write(&file, &crl).unwrap();
    let (engine, at) = engine(&ca, &[&file], 1_000_000);
    let client = certificate(&ca);
    let now = now() + 1;
    let status = engine.set_revocation_status(&client, at, RevocationState::Good, i64::MAX, now);
    let list = engine.crl_in_use(0).unwrap().unwrap();
    assert_eq!(
        (&*list.file, &*list.issuer),
        (&*file, "CN=Test CA,O=Example")
    );
    assert_eq!(status.unwrap().until, list.next_update.unwrap());
    assert_eq!(engine.crl_in_use(1), Ok(None));
}

#[test]
fn expired_crl_is_reported_once() {
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

#[test]
fn check_trust_asks_the_status_of_a_pinned_certificate_only_if_it_names_sources() {
    let dir = std::env::temp_dir().join(format!("resty-mtls-pinned-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (pins, crl) = (dir.join("pins.pem"), dir.join("list.crl"));
    let ca = TestCa::new();
    let plain = Rc::new(certificate(&ca));
    let sourced = ca.issue(
        "sourced",
        "extendedKeyUsage=clientAuth\nauthorityInfoAccess=OCSP;URI:http://a.example/",
    );
    let sourced = Rc::new(Certificate::new(sourced.x509, stack(&[])).unwrap());
    let text = [plain.pem().unwrap(), sourced.pem().unwrap()].concat();
    std::fs::write(&pins, text).unwrap();
    ca.add_to_database(&plain.leaf().to_owned(), 'R', "260102030405Z,keyCompromise");
    std::fs::write(&crl, ca.crl("", &[])).unwrap();
    let engine = |known: bool, crls: &[&str]| {
        let cert = String::from_utf8(ca.x509.to_pem().unwrap()).unwrap();
        let cas = match known {
            true => vec![json!({"id": ID, "cert": cert})],
            false => Vec::new(),
        };
        let config = json!({
            "pinned_certificates": [pins.to_str()], "skip_consumer_lookup": true,
            "revocation_check_mode": "STRICT", "crls": crls,
        });
        let policy = json!({
            "_format_version": "3.0", "ca_certificates": cas,
            "routes": [{"name": "a", "plugins": [{"name": "mtls-auth", "config": config}]}],
        });
        let engine = Engine::default();
        let origin = PolicySource::Text {
            text: policy.to_string().into_bytes().into(),
            label: "text".to_owned(),
        };
        engine.load(origin).unwrap();
        engine
    };
    let now = now() + 1;
    let outcome = |engine: &Engine, certificate: &Rc<Certificate>| {
        let policy = engine.policy().unwrap();
        let plan_id = policy.routes.find("a").unwrap();
        let plan = &policy.plans[plan_id];
        let auth = plan.auth.as_ref().unwrap();
        match engine
            .check_trust(None, (auth, plan_id), &auth.store, None, certificate, now)
            .unwrap()
        {
            TrustResult::Trusted { verdict, .. } => (true, verdict.code()),
            TrustResult::Untrusted(verdict) => (false, verdict.code()),
            TrustResult::Pending => (false, -1),
            TrustResult::Denied(why) | TrustResult::Unavailable(why) => panic!("{why}"),
        }
    };
    // Without sources there is nothing to ask, whether its issuer is known or not.
    for known in [true, false] {
        assert_eq!(outcome(&engine(known, &[]), &plain), (true, 0));
    }
    // Where nobody can ask the sources, STRICT refuses.
    assert_eq!(outcome(&engine(false, &[]), &sourced), (false, NO_STATUS));
    // A local CRL of the issuer counts all the same.
    let with_crl = engine(true, &[crl.to_str().unwrap()]);
    assert_eq!(outcome(&with_crl, &plain), (false, REVOKED));

    for (state, expected) in [
        (RevocationState::Good, (true, 0)),
        (RevocationState::Revoked, (false, REVOKED)),
        (RevocationState::Unknown, (false, NO_STATUS)),
    ] {
        let engine = engine(true, &[]);
        assert_eq!(outcome(&engine, &sourced), (false, -1));
        let plan = engine.policy().unwrap().routes.find("a").unwrap();
        let at = PlanRef {
            plan,
            epoch: engine.epoch(),
        };
        let source = engine.revocation_source(&sourced, at, 0, now).unwrap();
        assert!(matches!(source, Some(RevocationSource::Ocsp { .. })));
        engine
            .set_revocation_status(&sourced, at, state, now + 60, now)
            .unwrap();
        assert_eq!(outcome(&engine, &sourced), expected);
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn load_url_crl_is_in_use_on_this_worker_and_in_its_file() {
    use std::os::unix::fs::PermissionsExt;

    let ca = TestCa::new();
    let cert = String::from_utf8(ca.x509.to_pem().unwrap()).unwrap();
    let config = json!({
        "ca_certificates": [ID], "skip_consumer_lookup": true, "max_crl_bytes": 100_000,
        "crls": [{"url": "http://a.example/", "refresh": 60}],
    });
    let policy = json!({
        "_format_version": "3.0",
        "ca_certificates": [{"id": ID, "cert": cert}],
        "routes": [{"name": "a", "plugins": [{"name": "mtls-auth", "config": config}]}],
    });
    let engine = Engine::default();
    let load = || {
        let origin = PolicySource::Text {
            text: policy.to_string().into_bytes().into(),
            label: "text".to_owned(),
        };
        engine.load(origin).unwrap();
        engine.epoch()
    };
    let epoch = load();
    let times = || {
        let times = engine.with_crl_url(0, |crl| (crl.refresh, crl.crl.times()));
        times.unwrap().unwrap()
    };
    assert_eq!(times(), (Some(60), None));
    assert_eq!(engine.with_crl_url(1, |_| ()), Ok(None));
    let body = |bytes: &[u8]| {
        let mut body = CrlBody::new(100_000);
        body.append(bytes).unwrap();
        body
    };
    let file = std::path::PathBuf::from(format!("{}.url", ca.file()));
    let fetched = |bytes: &[u8]| Some(CrlBytes::Fetched(body(bytes), Some(file.clone())));
    let changes = engine.evidence.borrow().changes();
    let crl = ca.crl("", &[]);
    let loaded = Ok(UrlCrlState::Loaded(None));
    assert_eq!(engine.load_url_crl(0, epoch, fetched(&crl), true), loaded);
    assert!(times().1.is_some());
    assert!(engine.evidence.borrow().changes() > changes);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read(&file).unwrap(), crl);
    let in_use = engine.crl_in_use(0).unwrap().unwrap();
    assert_eq!(&*in_use.file, "http://a.example/");
    // That of the DER in its PEM.
    assert!((100..crl.len()).contains(&in_use.bytes));
    assert_eq!(engine.crl_in_use(1), Ok(None));

    let wait = |bytes| {
        let mut state = engine.load_url_crl(0, epoch, Some(bytes), false);
        while state == Ok(UrlCrlState::Loading) {
            std::thread::sleep(std::time::Duration::from_millis(1));
            state = engine.load_url_crl(0, epoch, None, false);
        }
        state
    };
    assert_eq!(wait(CrlBytes::File(file.clone())), loaded);
    let why = "no CRL found, expected DER or PEM blocks '-----BEGIN X509 CRL-----'";
    assert_eq!(
        wait(CrlBytes::Fetched(body(b"x"), None)),
        Err(Error::Misuse(why.to_owned()))
    );
    assert_eq!(
        engine.load_url_crl(0, epoch, None, false),
        Err(Error::NotFound)
    );
    let unwritable = std::path::PathBuf::from("/nonexistent/a.der");
    let text = "'/nonexistent/a.der' cannot be written: No such file or directory (os error 2)";
    assert_eq!(
        wait(CrlBytes::Fetched(body(&crl), Some(unwritable))),
        Ok(UrlCrlState::Loaded(Some(text.to_owned())))
    );
    let over = CrlBody::new(3).append(b"four");
    assert_eq!(over, Err(Error::Misuse("body is over 3 bytes".to_owned())));

    // Another policy takes over what is in use; its epoch is another.
    let before = times();
    let next = load();
    assert_eq!(times(), before);
    assert_eq!(
        engine.load_url_crl(0, epoch, fetched(&crl), true),
        Err(Error::NotFound)
    );
    assert_eq!(engine.load_url_crl(0, next, fetched(&crl), true), loaded);
}

#[test]
fn issuer_without_a_usable_url_is_reported_once() {
    let ca = TestCa::new();
    let (engine, at) = engine(&ca, &[], 60);
    let ldap = "extendedKeyUsage=clientAuth\ncrlDistributionPoints = URI:ldap:///CN=CA";
    let mut texts = Vec::new();
    for name in ["one", "two"] {
        let leaf = ca.issue(name, ldap);
        let client = Rc::new(Certificate::new(leaf.x509, stack(&[])).unwrap());
        let now = now();
        let policy = engine.policy().unwrap();
        let auth = policy.plans[at.plan].auth.as_ref().unwrap();
        let verdict = auth
            .store
            .verify(client.leaf(), client.intermediates(), now)
            .unwrap();
        let result = engine.check_revocation_status(auth, at.plan, &client, verdict, now);
        assert!(matches!(result, Ok(TrustResult::Untrusted(_))));
        let report = |text: &str| {
            texts.push(text.to_owned());
            Ok(())
        };
        let _ = engine.expired_crl(now, report);
    }
    let expected = "certificates of 'CN=Test CA,O=Example' name no source of revocation statuses \
                    that can be used, expected an http or https URL: 'ldap:///CN=CA'";
    assert_eq!(texts, [expected]);
}

#[test]
fn a_status_of_the_sources_does_not_hide_a_revocation_by_a_crl_that_was_loaded_meanwhile() {
    let ca = TestCa::new();
    let cert = String::from_utf8(ca.x509.to_pem().unwrap()).unwrap();
    let config = json!({
        "ca_certificates": [ID], "skip_consumer_lookup": true,
        "crls": [{"url": "http://a.example/"}],
    });
    let policy = json!({
        "_format_version": "3.0",
        "ca_certificates": [{"id": ID, "cert": cert}],
        "routes": [{"name": "a", "plugins": [{"name": "mtls-auth", "config": config}]}],
    });
    let engine = Engine::default();
    let origin = PolicySource::Text {
        text: policy.to_string().into_bytes().into(),
        label: "text".to_owned(),
    };
    engine.load(origin).unwrap();
    let plan = engine.policy().unwrap().routes.find("a").unwrap();
    let at = PlanRef {
        plan,
        epoch: engine.epoch(),
    };
    let extensions =
        "extendedKeyUsage=clientAuth\nauthorityInfoAccess = OCSP;URI:http://a.example/";
    let client = Rc::new(Certificate::new(ca.issue("leaf", extensions).x509, stack(&[])).unwrap());
    let is_trusted = |now| {
        let policy = engine.policy().unwrap();
        let auth = policy.plans[plan].auth.as_ref().unwrap();
        let verdict = auth
            .store
            .verify(client.leaf(), client.intermediates(), now);
        match engine.check_revocation_status(auth, plan, &client, verdict.unwrap(), now) {
            Ok(TrustResult::Pending) => None,
            Ok(TrustResult::Untrusted(_)) => Some(false),
            _ => Some(true),
        }
    };
    let now = now() + 1;
    // No CRL is there yet: the sources decide.
    assert_eq!(is_trusted(now), None);
    let set = |state| {
        let status = engine.set_revocation_status(&client, at, state, now + 60, now);
        status.unwrap().state
    };
    assert_eq!(set(RevocationState::Good), RevocationState::Good);
    assert_eq!(is_trusted(now), Some(true));
    let load = |bytes: &[u8]| {
        let mut body = CrlBody::new(100_000);
        body.append(bytes).unwrap();
        let bytes = Some(CrlBytes::Fetched(body, None));
        engine.load_url_crl(0, at.epoch, bytes, true).unwrap();
    };
    ca.add_to_database(&client.leaf().to_owned(), 'R', "260102030405Z");
    let changes = engine.evidence.borrow().changes();
    load(&ca.crl("", &["-crlsec", "3600"]));
    assert!(engine.evidence.borrow().changes() > changes);
    assert_eq!(is_trusted(now), Some(false));
    // A status of the sources that comes later does not count.
    for state in [
        RevocationState::Good,
        RevocationState::Unknown,
        RevocationState::Pending,
    ] {
        assert_eq!(set(state), RevocationState::Revoked);
        assert_eq!(is_trusted(now), Some(false));
        engine.forget_statuses();
        assert_eq!(is_trusted(now), Some(false));
    }
}
