//! The header of a proxy in the format `rfc9440`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::inbound::Format;
use resty_mtls_fuzz::read_header;

fuzz_target!(|data: &[u8]| read_header(Format::Rfc9440, data));
