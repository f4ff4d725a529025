//! Evaluates an OCSP response. If the first byte is even, the rest is a ResponseData, which the CA
//! signs.

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
            // Only a response that the CA signed has a definite status.
            _ => assert!(matches!(evaluate(data), RevocationStatus::Unknown(_))),
        }
    });
});
