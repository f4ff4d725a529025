//! A CRL as it was fetched or lies in a file; for an even first byte the rest is a TBSCertList
//! that the CA signs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use openssl::stack::Stack;
use resty_mtls::trust::crl::{Crl, CrlSet, MAX_FETCHED};
use resty_mtls::trust::Answer;
use resty_mtls_fuzz::{Pki, NOW};

thread_local! {
    static PKI: Pki = Pki::default();
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    PKI.with(|pki| match kind % 2 {
        0 => check(pki, &pki.sign(data)),
        _ => check(pki, data),
    });
});

fn check(pki: &Pki, bytes: &[u8]) {
    let alone = Crl::load(bytes, &pki.ca, MAX_FETCHED)
        .map(|crl| (crl.answer(&pki.leaf, &pki.ca, NOW), crl.until()));
    let mut set = CrlSet::default();
    if set.add(bytes).is_err() {
        assert!(alone.is_err());
        return;
    }
    let mut chain = Stack::new().unwrap();
    chain.push(pki.leaf.clone()).unwrap();
    chain.push(pki.ca.clone()).unwrap();
    let outcome = set.check(&chain, NOW);
    assert_eq!(set.needs_openssl(), set.oddities().next().is_some());
    match alone {
        // The set takes no clock skew into account, so it may refuse what the CRL alone accepts.
        Ok((Answer::Good { until }, same)) => assert_eq!(until, same),
        Ok((Answer::Revoked { .. }, _)) => assert_ne!(outcome.code, 0),
        Ok((Answer::NoAnswer(_), _)) => assert_ne!(outcome.code, 0),
        Err(_) => {}
    }
}
