//! `rfc9440`: `Client-Cert` is one Byte Sequence, `Client-Cert-Chain` a List of them that may
//! extend over several lines. RFC 9440 defines no parameters, and they are refused.
//!
//! HAProxy cannot write a list: `:%[ssl_c_chain_der,base64]:` is one member with all certificates,
//! or `::` without any, for example on a resumed session. Both are read.

use super::{base64, refused, split, Ders, MAX_CERTIFICATES};
use crate::Error;

/// A byte sequence without bytes.
pub(super) const EMPTY: &[u8] = b"::";

pub(super) fn decode(value: &[u8], chain: &[&[u8]]) -> Result<Ders, Error> {
    let mut ders = vec![sequence(value)?];
    for line in chain {
        for member in line.split(|byte| *byte == b',') {
            // Optional white space is spaces and tabs; nginx rejects other white space.
            let member = member.trim_ascii();
            if member == EMPTY {
                continue;
            }
            ders.extend(split(&sequence(member)?)?);
            if ders.len() > MAX_CERTIFICATES {
                return Err(refused(format!("over {MAX_CERTIFICATES} certificates")));
            }
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
