//! The header of a proxy in the format `base64_encoded`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::inbound::Format;
use resty_mtls_fuzz::read_header;

fuzz_target!(|data: &[u8]| read_header(Format::Base64Encoded, data));
