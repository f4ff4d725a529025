//! Loads a CRL as from a URL and as from a file. If the first byte is even, the rest is a
//! TBSCertList, which the CA signs.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use openssl::stack::Stack;
use openssl::x509::{CrlStatus, X509Crl};
use resty_mtls::trust::crl::{Crl, CrlSet, LARGEST};
use resty_mtls::trust::{
    CaCertificate, CertificationPath, RevocationStatus, TrustStore, VerifyOptions,
};
use resty_mtls_fuzz::{Pki, NOW};

/// `X509_V_ERR_CERT_REVOKED`.
const REVOKED: i32 = 23;

thread_local! {
    static PKI: (Pki, CertificationPath) = {
        let pki = Pki::default();
        let ca = Arc::new(CaCertificate::from_x509(pki.ca.clone()).unwrap());
        let store = TrustStore::new(&[ca], VerifyOptions::default()).unwrap();
        let path = store.path(&pki.leaf, &Stack::new().unwrap(), NOW).unwrap();
        assert_eq!(path.chain().len(), 2);
        (pki, path)
    };
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    PKI.with(|(pki, path)| match kind % 2 {
        0 => check(pki, path, &pki.sign(data), true),
        _ => check(pki, path, data, is_signed(pki, data)),
    });
});

/// Whether the input itself is a CRL that the CA signed, as some seeds are.
fn is_signed(pki: &Pki, bytes: &[u8]) -> bool {
    let key = pki.ca.public_key().unwrap();
    X509Crl::from_der(bytes)
        .or_else(|_| X509Crl::from_pem(bytes))
        .is_ok_and(|crl| crl.verify(&key).unwrap_or(false))
}

fn check(pki: &Pki, path: &CertificationPath, bytes: &[u8], signed: bool) {
    let single = Crl::load(bytes, &pki.ca, LARGEST).map(|crl| crl.status(&pki.leaf, &pki.ca, NOW));
    let mut set = CrlSet::default();
    if set.add("", bytes).is_err() {
        assert!(single.is_err());
        return;
    }
    set.limitations().for_each(drop);
    set.out_of_force(NOW).for_each(drop);
    set.not_signed_by(path.cas()).for_each(drop);
    let outcome = set.check(path, NOW);
    assert!(outcome.until > NOW);
    let revoked = outcome.code == REVOKED;
    assert!(!revoked || signed);
    // OpenSSL's reading of the entries never finds more than ours.
    let listed = X509Crl::from_der(bytes)
        .is_ok_and(|crl| matches!(crl.get_by_cert(&pki.leaf), CrlStatus::Revoked(_)));
    if listed {
        assert!(!matches!(single, Ok(RevocationStatus::Good { .. })));
    }
    match single {
        // The set allows no clock skew, so it can refuse a certificate that is good by the single
        // CRL.
        Ok(RevocationStatus::Good { .. }) => assert!(!revoked || outcome.depth == 1),
        Ok(RevocationStatus::Revoked { .. }) => assert_ne!(outcome.code, 0),
        // In the set, a CRL of partial scope can give the leaf the status good.
        Ok(RevocationStatus::Unknown(_)) => assert!(!revoked || outcome.depth == 1),
        Err(_) => {}
    }
}
