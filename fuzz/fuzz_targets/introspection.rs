//! Parses the response of an introspection endpoint.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::token::parse_introspection_response;
use resty_mtls_fuzz::NOW;

fuzz_target!(|data: &[u8]| {
    match parse_introspection_response(data) {
        Ok(claims) => {
            assert!(claims
                .get("active")
                .is_some_and(|active| active.as_bool() == Some(true)));
            let _ = (
                claims.check_present_times(0, NOW),
                claims.certificate_thumbprint().is_ok(),
            );
        }
        Err(refusal) => assert!(!refusal.to_string().contains(char::is_control)),
    }
});
