//! Parses a discovery document.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::token::Discovery;

fuzz_target!(|data: &[u8]| {
    match Discovery::parse(data, "https://idp.example") {
        Ok(found) => {
            assert_eq!(found.issuer.trim_end_matches('/'), "https://idp.example");
            for url in [found.jwks_uri, found.introspection_endpoint]
                .into_iter()
                .flatten()
            {
                assert!(
                    url.starts_with("https://") && url.bytes().all(|byte| byte.is_ascii_graphic())
                );
            }
        }
        Err(why) => assert!(!why.contains(char::is_control)),
    }
});
