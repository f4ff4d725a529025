//! A certificate: its headers in the dialect are read back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::headers::Dialect;

fuzz_target!(|data: &[u8]| resty_mtls_fuzz::dialects::check(Dialect::Apache, data));
