//! `traefik`: `X-Forwarded-Tls-Client-Cert`, the base64 of each certificate the client sent, joined
//! by `,`. Traefik before 2.9.4 percent-encoded it, which is refused.

use super::{base64, refused, Ders, MAX_CERTIFICATES};
use crate::Error;

pub(super) fn decode(value: &[u8]) -> Result<Ders, Error> {
    let mut parts = value.split(|byte| *byte == b',');
    let ders = parts
        .by_ref()
        .take(MAX_CERTIFICATES)
        // A list may have blanks after its commas (RFC 9110 section 5.6.1), as where a proxy joins
        // several header lines.
        .map(|part| base64(part.trim_ascii()))
        .collect::<Result<Ders, Error>>()?;
    match parts.next() {
        None => Ok(ders),
        Some(_) => Err(refused(format!("over {MAX_CERTIFICATES} certificates"))),
    }
}
