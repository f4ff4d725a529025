//! Parses a certificate in PEM, reads every field and renders every header.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::certificate::{signed_content, Certificate};
use resty_mtls::headers::{ClientInfo, Dialect, DialectConfig, DialectOptions, VerifyResult};
use resty_mtls::trust::{revocation_urls, CaCertificate};
use resty_mtls_fuzz::NOW;

/// The order of the curve P-256.
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
    0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fuzz_target!(|pem: &[u8]| {
    let _ = CaCertificate::from_pem(pem);
    // These functions also parse bytes that are not a certificate.
    let _ = (
        signed_content::tbs_sha256_of_der(pem),
        signed_content::alternate_der(pem, &P256_ORDER),
    );
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
        certificate.normal_subject(),
        certificate.normal_issuer(),
        certificate.san(),
        certificate.normal_san(),
    );
    let _ = (
        certificate.has_spki_sha256(&[0; 32]),
        certificate.issuer_key_id(),
    );
    let _ = certificate.extended_key_usage();
    let der = certificate.der().unwrap();
    let tbs = signed_content::tbs_sha256_of_der(&der);
    assert!(tbs.is_some());
    if let Some(alternate) = signed_content::alternate_der(&der, &P256_ORDER) {
        assert_eq!(signed_content::tbs_sha256_of_der(&alternate), tbs);
    }
    let _ = signed_content::ca_id(certificate.leaf()).unwrap();
    let _ = (certificate.not_before(), certificate.not_after());
    assert_eq!(certificate.fingerprint_sha256().len(), 64);
    assert_eq!(certificate.fingerprint_sha1().unwrap().len(), 40);
    let again = Certificate::from_pem(&certificate.chain_pem().unwrap()).unwrap();
    assert_eq!(
        again.intermediates().len(),
        certificate.intermediates().len()
    );

    for urls in [
        revocation_urls::ocsp(certificate.leaf()),
        revocation_urls::crl(certificate.leaf()),
    ] {
        assert!(urls.len() <= revocation_urls::MAX_URLS);
        assert!(urls
            .iter()
            .all(|url| url.bytes().all(|byte| byte.is_ascii_graphic())));
    }
    let client = ClientInfo {
        certificate: Some(&certificate),
        verify_result: VerifyResult::Success,
        issuer: certificate.intermediates().get(0),
        now: NOW,
        server_uris: &[],
    };
    for dialect in Dialect::ALL {
        for (name, value) in DialectConfig::new(dialect, DialectOptions::default())
            .render(&client)
            .lines
        {
            assert!(
                !value.is_empty() && value.trim() == value,
                "{name}: {value:?}"
            );
            assert!(!value.contains(char::is_control), "{name}: {value:?}");
        }
    }
});
