//! Bundles of SPIFFE trust domains in JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::trust::spiffe_bundle;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = spiffe_bundle::read(bytes) {
        assert!(bundle.cas.len() <= bytes.len());
    }
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
});
