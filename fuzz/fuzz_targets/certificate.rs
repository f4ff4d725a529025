//! A certificate in PEM: every field is read, every header line rendered.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::certificate::Certificate;
use resty_mtls::headers::{Dialect, Facts, Options, Selection, Verified};
use resty_mtls::trust::{sources, CaCertificate};
use resty_mtls_fuzz::NOW;

fuzz_target!(|pem: &[u8]| {
    let _ = CaCertificate::from_pem(pem);
    let Ok(certificate) = Certificate::from_pem(pem) else {
        return;
    };
    let serial = certificate.serial();
    assert!(serial
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
    let _ = (certificate.subject_dn(), certificate.issuer_dn());
    let _ = (
        certificate.subject(),
        certificate.issuer(),
        certificate.san(),
    );
    let _ = (certificate.spki_sha256(), certificate.issuer_key_id());
    let _ = certificate.extended_key_usage();
    let _ = (certificate.not_before(), certificate.not_after());
    assert_eq!(certificate.fingerprint_sha256().len(), 64);
    assert_eq!(certificate.fingerprint_sha1().unwrap().len(), 40);
    let again = Certificate::from_pem(&certificate.chain_pem().unwrap()).unwrap();
    assert_eq!(
        again.intermediates().len(),
        certificate.intermediates().len()
    );

    for urls in [
        sources::ocsp(certificate.leaf()),
        sources::crl(certificate.leaf()),
    ] {
        assert!(urls.len() <= sources::MAX_URLS);
        assert!(urls
            .iter()
            .all(|url| url.bytes().all(|byte| byte.is_ascii_graphic())));
    }
    let facts = Facts {
        certificate: Some(&certificate),
        verdict: Verified::Success,
        issuer: certificate.intermediates().get(0),
        now: NOW,
        own_uris: &[],
    };
    for dialect in Dialect::ALL {
        for (name, value) in Selection::new(dialect, Options::default())
            .lines(&facts)
            .set
        {
            assert!(
                !value.is_empty() && value.trim() == value,
                "{name}: {value:?}"
            );
            assert!(!value.contains(char::is_control), "{name}: {value:?}");
        }
    }
});
