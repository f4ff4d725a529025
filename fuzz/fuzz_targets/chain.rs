//! Decodes the certificate chain that is stored in a TLS session.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::certificate::encoded_chain;

fuzz_target!(|bytes: &[u8]| {
    let Ok(certificates) = encoded_chain::decode(bytes) else {
        return;
    };
    assert!(encoded_chain::is_encoded_chain(bytes));
    let encoded = encoded_chain::encode(certificates.iter()).unwrap();
    assert_eq!(
        encoded_chain::decode(&encoded).unwrap().len(),
        certificates.len()
    );
});
