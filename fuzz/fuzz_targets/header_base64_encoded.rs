//! Decodes a certificate header in the format `base64_encoded`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::inbound::Format;
use resty_mtls_fuzz::decode_header;

fuzz_target!(|data: &[u8]| decode_header(Format::Base64Encoded, data));
