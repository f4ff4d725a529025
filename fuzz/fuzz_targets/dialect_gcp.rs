//! Renders the headers of the dialect for a certificate, and parses them as its readers do.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::headers::Dialect;

fuzz_target!(|data: &[u8]| resty_mtls_fuzz::dialects::check(Dialect::Gcp, data));
