//! An OCSP response; for an even first byte the rest is a ResponseData that the CA signs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::trust::{ocsp, RevocationStatus};
use resty_mtls_fuzz::{Pki, NOW};

thread_local! {
    static PKI: (Pki, Vec<u8>) = {
        let pki = Pki::default();
        let request = ocsp::request(&pki.leaf, &pki.ca, false).unwrap();
        (pki, request)
    };
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    PKI.with(|(pki, request)| {
        let evaluate = |bytes: &[u8]| ocsp::evaluate(bytes, request, &pki.leaf, &pki.ca, 2, NOW);
        match kind % 2 {
            0 => {
                evaluate(&pki.ocsp_response(data));
            }
            // Nobody but the CA makes a definite answer.
            _ => assert!(matches!(evaluate(data), RevocationStatus::Unknown(_))),
        }
    });
});
