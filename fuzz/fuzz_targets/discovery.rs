//! Parses a discovery document.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::token::Discovery;

fuzz_target!(|data: &[u8]| {
    let allowed = ["https://login.example/tenant-1/v2.0"];
    match Discovery::parse(data, "https://idp.example", &allowed) {
        Ok(found) => {
            let issuer = found.issuer.trim_end_matches('/');
            assert!(issuer == "https://idp.example" || issuer == allowed[0]);
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
