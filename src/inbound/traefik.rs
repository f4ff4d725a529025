//! `traefik`: `X-Forwarded-Tls-Client-Cert`, the base64 of each certificate the client sent, joined
//! by `,`. Traefik before 2.9.4 percent-encoded it, which is refused.

use super::{base64, refused, Ders, MAX_CERTIFICATES};
use crate::Error;

pub(super) fn decode(value: &[u8]) -> Result<Ders, Error> {
    let mut parts = value.split(|byte| *byte == b',');
    let ders = parts
        .by_ref()
        .take(MAX_CERTIFICATES)
        .map(base64)
        .collect::<Result<Ders, Error>>()?;
    match parts.next() {
        None => Ok(ders),
        Some(_) => Err(refused(format!("over {MAX_CERTIFICATES} certificates"))),
    }
}
