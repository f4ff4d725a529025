//! Files of CA certificates: PEM, DER, PKCS #7.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::certificate::bundle;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entries) = bundle::read(bytes) {
        assert!(!entries.is_empty() && entries.len() < bundle::MAX_CERTIFICATES);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        for entry in entries {
            assert!(entry.line <= lines);
        }
    }
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
});
