//! The header of a proxy in the format `xfcc`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::inbound::Format;
use resty_mtls_fuzz::read_header;

fuzz_target!(|data: &[u8]| read_header(Format::Xfcc, data));
