//! Checks a DPoP proof. The first line is the URI of the request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::token::{check_proof, KeyThumbprint, ProofRequest};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (uri, proof) = text.split_once('\n').unwrap_or(("https://api.test/", text));
    let key = KeyThumbprint::from_base64url("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    for nonce_key in [None, Some(&[7; 32])] {
        let request = ProofRequest {
            method: "GET",
            uri,
            token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
            key: key.as_ref().unwrap(),
            lifetime: 300,
            leeway: 0,
            nonce_key,
        };
        match check_proof(proof, &request, 1_562_262_618) {
            Ok(found) => assert!(found.expires > 1_562_262_618),
            Err(why) => assert!(!why.to_string().contains(char::is_control)),
        }
    }
});
