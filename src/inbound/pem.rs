//! PEM blocks of certificates and nothing else. OpenSSL's reader skips text around the blocks and
//! accepts headers inside them, so that two readers could see different certificates.

use super::{base64, refused, Ders, MAX_CERTIFICATES};
use crate::Error;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

pub(super) fn decode(text: &[u8]) -> Result<Ders, Error> {
    let mut ders = Ders::new();
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        if ders.len() == MAX_CERTIFICATES {
            return Err(refused(format!("over {MAX_CERTIFICATES} certificates")));
        }
        let body = rest
            .strip_prefix(BEGIN)
            .ok_or_else(|| refused("not PEM, expected '-----BEGIN CERTIFICATE-----'".to_owned()))?;
        let end = body
            .windows(END.len())
            .position(|window| window == END)
            .ok_or_else(|| refused("a PEM block without its end".to_owned()))?;
        let (body, after) = body.split_at(end);
        // Line breaks, which Apache replaces by spaces.
        let body: Vec<u8> = body
            .iter()
            .copied()
            .filter(|byte| !matches!(byte, b'\n' | b'\r' | b' ' | b'\t'))
            .collect();
        ders.push(base64(&body)?);
        rest = after
            .strip_prefix(END)
            .unwrap_or_default()
            .trim_ascii_start();
    }
    Ok(ders)
}
