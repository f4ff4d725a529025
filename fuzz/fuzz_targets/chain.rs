//! The chain that travels with a TLS session.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::certificate::chain;

fuzz_target!(|bytes: &[u8]| {
    let Ok(certificates) = chain::decode(bytes) else {
        return;
    };
    assert!(chain::is_chain(bytes));
    let encoded = chain::encode(certificates.iter()).unwrap();
    assert_eq!(chain::decode(&encoded).unwrap().len(), certificates.len());
});
