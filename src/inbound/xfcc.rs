//! `xfcc`: Envoy's `x-forwarded-client-cert`.
//!
//! Envoy writes URI and DNS names without quotes, whatever they contain, so a client with the URI
//! `urn:x;Cert="..."` or `urn:x,Hash=...` in its certificate can forge pairs and elements.
//! Therefore exactly one element is accepted (`SANITIZE_SET`), only the name keys may repeat, and
//! `Hash` must be the digest of the certificate in `Cert` and `Chain`: Envoy writes `Hash` first,
//! from the connection.

use percent_encoding::percent_decode;

use super::{pem, refused, Ders};
use crate::text::hex;
use crate::Error;

/// Most pairs in an element.
const MAX_PAIRS: usize = 200;

#[derive(Default)]
struct Element {
    hash: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    chain: Option<Vec<u8>>,
    subject: Option<Vec<u8>>,
}

pub(super) fn decode(value: &[u8]) -> Result<Ders, Error> {
    let element = read(value)?;
    let text = |value: Vec<u8>| -> Result<Ders, Error> {
        let text: Vec<u8> = percent_decode(&value).collect();
        pem::decode(&text)
    };
    let ders = match (element.cert.map(text).transpose()?, element.chain) {
        (cert, Some(chain)) => {
            let chain = text(chain)?;
            if cert.is_some_and(|cert| cert.first() != chain.first() || cert.len() != 1) {
                return Err(refused("'Cert' is not the first of 'Chain'".to_owned()));
            }
            chain
        }
        (Some(cert), None) if cert.len() == 1 => cert,
        (Some(_), None) => return Err(refused("'Cert' holds several certificates".to_owned())),
        (None, None) => {
            let why = "neither 'Cert' nor 'Chain' in it, expected set_current_client_cert_details \
                       with one of them";
            return Err(refused(why.to_owned()));
        }
    };
    let leaf = ders.first().map(|leaf| hex(&openssl::sha::sha256(leaf)));
    match (element.hash, leaf) {
        (Some(hash), Some(leaf)) if hash.eq_ignore_ascii_case(leaf.as_bytes()) => Ok(ders),
        (Some(_), _) => Err(refused("'Hash' is not that of the certificate".to_owned())),
        (None, _) => Err(refused("no 'Hash' in it".to_owned())),
    }
}

fn read(value: &[u8]) -> Result<Element, Error> {
    let mut element = Element::default();
    let mut rest = value;
    for _ in 0..MAX_PAIRS {
        let equals = rest.iter().position(|byte| *byte == b'=');
        let Some((key, after)) = equals.and_then(|at| Some((rest.get(..at)?, rest.get(at + 1..)?)))
        else {
            return Err(refused("a pair without '='".to_owned()));
        };
        let (value, after) = match after.strip_prefix(b"\"") {
            Some(inside) => quoted(inside)?,
            None => bare(after)?,
        };
        let mut name = None;
        let slot = match key.to_ascii_lowercase().as_slice() {
            b"hash" => &mut element.hash,
            b"cert" => &mut element.cert,
            b"chain" => &mut element.chain,
            b"subject" => &mut element.subject,
            b"by" | b"uri" | b"dns" => &mut name,
            _ => return Err(refused("a pair with an unknown key".to_owned())),
        };
        if slot.replace(value).is_some() {
            return Err(refused("a repeated key".to_owned()));
        }
        match after.split_first() {
            None => return Ok(element),
            Some((b';', after)) => rest = after,
            Some((b',', _)) => {
                return Err(refused(
                    "several elements, expected one (forward_client_cert_details SANITIZE_SET)"
                        .to_owned(),
                ));
            }
            Some(_) => return Err(refused("text after a value".to_owned())),
        }
    }
    Err(refused(format!("over {MAX_PAIRS} pairs")))
}

/// A value in quotes, and the text after it.
fn quoted(inside: &[u8]) -> Result<(Vec<u8>, &[u8]), Error> {
    let mut value = Vec::new();
    let mut bytes = inside.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok((value, inside.get(at + 1..).unwrap_or_default())),
            b'\\' => value.extend(bytes.next().map(|(_, byte)| *byte)),
            byte => value.push(*byte),
        }
    }
    Err(refused("a quote that does not end".to_owned()))
}

/// A value without quotes, and the text after it.
fn bare(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Error> {
    let end = text
        .iter()
        .position(|byte| matches!(byte, b';' | b','))
        .unwrap_or(text.len());
    let (value, after) = text.split_at(end);
    if value.contains(&b'"') {
        return Err(refused("a quote within a bare value".to_owned()));
    }
    Ok((value.to_vec(), after))
}
