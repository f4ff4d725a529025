//! Decodes a certificate header in the format `xfcc`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::inbound::Format;
use resty_mtls_fuzz::decode_header;

fuzz_target!(|data: &[u8]| decode_header(Format::Xfcc, data));
