//! `rfc9440`: `Client-Cert` is one Byte Sequence, `Client-Cert-Chain` a List of them that may
//! extend over several lines. RFC 9440 defines no parameters, and they are refused.

use super::{base64, refused, Ders, MAX_CERTIFICATES};
use crate::Error;

pub(super) fn decode(value: &[u8], chain: &[&[u8]]) -> Result<Ders, Error> {
    let mut ders = vec![sequence(value)?];
    for line in chain {
        for member in line.split(|byte| *byte == b',') {
            if ders.len() == MAX_CERTIFICATES {
                return Err(refused(format!("over {MAX_CERTIFICATES} certificates")));
            }
            // Optional white space is spaces and tabs; nginx rejects other white space.
            ders.push(sequence(member.trim_ascii())?);
        }
    }
    Ok(ders)
}

fn sequence(item: &[u8]) -> Result<Vec<u8>, Error> {
    let inside = item
        .strip_prefix(b":")
        .and_then(|rest| rest.strip_suffix(b":"));
    match inside {
        Some(text) if !text.is_empty() => base64(text),
        _ => Err(refused(
            "not a byte sequence, expected ':base64:'".to_owned(),
        )),
    }
}
