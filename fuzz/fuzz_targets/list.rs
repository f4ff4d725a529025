//! Reads a list of certificates (`client-cert-lists`), and looks a certificate up in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use openssl::stack::Stack;
use resty_mtls::certificate::Certificate;
use resty_mtls::trust::lists::List;
use resty_mtls::trust::selector::CertificateSelectors;
use resty_mtls_fuzz::Pki;

thread_local! {
    static CERTIFICATE: Certificate = {
        let stack = Stack::new().expect("memory");
        Certificate::new(Pki::default().leaf, stack).expect("certificate")
    };
}

fuzz_target!(|data: &[u8]| {
    let Ok(list) = List::read(&mut &*data, data.len() as u64) else {
        return;
    };
    let lines = data.iter().filter(|byte| **byte == b'\n').count();
    assert!(list.len() <= lines);
    CERTIFICATE.with(|certificate| {
        let selectors = CertificateSelectors::verified(certificate, None);
        let found = list.find(&selectors, 0).expect("look-up");
        assert!(found.is_none_or(|found| found.line as usize <= lines && found.until > 0));
    });
});
