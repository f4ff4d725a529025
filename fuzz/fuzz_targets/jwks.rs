//! Parses the JWK Set of an issuer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::token::Jwks;

fuzz_target!(|data: &[u8]| {
    match Jwks::parse(data) {
        Ok(keys) => assert!(!keys.is_empty() && keys.len() + keys.left_out().len() <= 1000),
        Err(why) => assert!(!why.is_empty() && !why.contains(char::is_control)),
    }
});
