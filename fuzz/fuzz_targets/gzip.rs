//! Decodes the content coding gzip. The first byte is the limit in units of 256 bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resty_mtls::gzip;

fuzz_target!(|data: &[u8]| {
    let Some((limit, body)) = data.split_first() else {
        return;
    };
    let max = usize::from(*limit) * 256;
    match gzip::decode(body, max) {
        Ok(decoded) => assert!(decoded.len() <= max),
        Err(why) => assert!(!why.is_empty() && !why.contains(char::is_control)),
    }
});
