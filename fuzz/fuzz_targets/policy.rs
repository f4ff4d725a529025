//! Compiles a policy document.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::policy::Policy;

fuzz_target!(|text: &[u8]| {
    match Policy::from_yaml(text, "policy.yaml") {
        Ok(policy) => {
            policy.plan(None);
            policy.certificate_request(None);
            policy.certificate_request(Some(b"api.example.com"));
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            for diagnostic in diagnostics {
                let line = diagnostic.to_string();
                assert!(!line.contains('\n'), "{line}");
            }
        }
    }
});
