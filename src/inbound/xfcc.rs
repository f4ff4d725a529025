//! `xfcc`: Envoy's `x-forwarded-client-cert`.
//!
//! Envoy writes URI and DNS names without quotes, whatever they contain, so a client with the URI
//! `urn:x;Cert="..."` or `urn:x,Hash=...` in its certificate can forge pairs and elements.
//! Therefore by default exactly one element is accepted (`SANITIZE_SET`), only the name keys may
//! repeat, and `Hash` must be the digest of the certificate in `Cert` and `Chain`: Envoy writes
//! `Hash` first, from the connection.
//!
//! With `APPEND_FORWARD` each proxy adds the element of its client at the end. [`Element::Last`] is
//! that of the nearest proxy, whose element has the certificate before the names. So an element
//! that a name of the certificate forges comes after one with that certificate, and is refused
//! because that certificate has a name with a comma. [`Element::First`] is that of the outermost
//! proxy, if that removes what its clients send.

use openssl::stack::Stack;
use percent_encoding::percent_decode;

use super::{pem, refused, Ders};
use crate::certificate::{from_der, Certificate, San};
use crate::text::hex;
use crate::Error;

/// Most pairs in a header.
const MAX_PAIRS: usize = 200;

/// Which element of several is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Element {
    /// There must be one only.
    #[default]
    Only,
    /// The last one, from the nearest proxy.
    Last,
    /// The first one, from the outermost proxy.
    First,
}

/// The pairs of an element that are used.
#[derive(Default)]
struct Pairs {
    hash: Option<Vec<u8>>,
    cert: Option<Vec<u8>>,
    chain: Option<Vec<u8>>,
    subject: Option<Vec<u8>>,
}

pub(super) fn decode(value: &[u8], element: Element) -> Result<Ders, Error> {
    let mut elements = read(value, element)?;
    let chosen = match element {
        Element::First if !elements.is_empty() => elements.swap_remove(0),
        _ => elements.pop().unwrap_or_default(),
    };
    if element == Element::Last {
        for before in elements {
            check_names(before)?;
        }
    }
    certificates(chosen)
}

/// Refuses an element whose certificate has a name that could have forged the elements after it.
fn check_names(element: Pairs) -> Result<(), Error> {
    if element.cert.is_none() && element.chain.is_none() {
        return Ok(());
    }
    let ders = certificates(element)?;
    let leaf = from_der(ders.first().map(Vec::as_slice).unwrap_or_default())?;
    let leaf = Certificate::new(leaf, Stack::new()?)?;
    let has_comma = |name: &San| match name {
        San::Uri(text) | San::Dns(text) => text.contains(&b','),
        _ => false,
    };
    let is_unreadable = leaf.has_san() && leaf.san().is_empty();
    if is_unreadable || leaf.san().iter().any(has_comma) {
        let why = "an element before the last has a certificate with a comma in a name, or with \
                   names that cannot be read";
        return Err(refused(why.to_owned()));
    }
    Ok(())
}

fn certificates(element: Pairs) -> Result<Ders, Error> {
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

/// All elements.
fn read(value: &[u8], which: Element) -> Result<Vec<Pairs>, Error> {
    let mut elements = Vec::new();
    let mut element = Pairs::default();
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
            None => {
                elements.push(element);
                return Ok(elements);
            }
            Some((b';', after)) => rest = after,
            Some((b',', _)) if which == Element::Only => {
                return Err(refused(
                    "several elements, expected one (forward_client_cert_details SANITIZE_SET)"
                        .to_owned(),
                ));
            }
            // Proxies may write a blank after the comma.
            Some((b',', after)) => {
                elements.push(std::mem::take(&mut element));
                rest = after.trim_ascii_start();
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
