//! Digests of the signed part of a certificate, and the alternate encoding of its signature.
//!
//! A fingerprint is a digest of the whole DER, but the signature value is not signed. An ECDSA
//! signature (r, s) is also valid as (r, n - s), so everybody can make a second DER of a
//! certificate that verifies, here called its alternate encoding. Therefore a certificate is
//! identified by its TBSCertificate, and a CA by its subject and public key.
//!
//! Other changes outside the signed part are either normalised by OpenSSL when it reads the
//! certificate, or the verification fails. The tests show both.

use std::sync::OnceLock;

use std::cell::RefCell;

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::EcGroup;
use openssl::nid::Nid;
use openssl::pkey::{PKeyRef, Public};
use openssl::sha::{sha256, Sha256};
use openssl::x509::{X509NameRef, X509Ref};

use super::der::{element, integer, DerReader, BIT_STRING, INTEGER, SEQUENCE};
use super::digest;
use crate::cache::Cache;
use crate::openssl_ext::x509 as ext;
use crate::Error;

/// Curves of the keys of CAs.
const COMMON_CURVES: [Nid; 7] = [
    Nid::X9_62_PRIME256V1,
    Nid::SECP384R1,
    Nid::SECP521R1,
    Nid::SECP256K1,
    Nid::BRAINPOOL_P256R1,
    Nid::BRAINPOOL_P384R1,
    Nid::BRAINPOOL_P512R1,
];

/// Most identities of CAs that a thread keeps. Clients send the certificates of few CAs, and
/// encoding the key of one again takes longer than the verification of a signature.
const MAX_CA_IDS: usize = 256;

thread_local! {
    /// By digest of the DER of the certificate, on which alone the identity depends.
    static CA_IDS: RefCell<Cache<[u8; 32], [u8; 32]>> = RefCell::new(Cache::new(MAX_CA_IDS));
}

/// SHA-256 of the DER of the TBSCertificate (RFC 5280 section 4.1).
pub fn tbs_sha256(certificate: &X509Ref) -> Result<[u8; 32], Error> {
    tbs_sha256_of_der(&certificate.to_der()?).ok_or_else(unexpected)
}

/// [`tbs_sha256`] of the DER of a certificate; `None` if it is not one.
pub fn tbs_sha256_of_der(der: &[u8]) -> Option<[u8; 32]> {
    let mut parts = DerReader(der).inside(SEQUENCE)?;
    Some(digest(parts.next(SEQUENCE)?.0))
}

/// The identity of a CA: SHA-256 over its subject, normalised as in OpenSSL's comparison of names,
/// and its public key. A renewed certificate of the CA has the same identity.
pub fn ca_id(certificate: &X509Ref) -> Result<[u8; 32], Error> {
    let der = certificate.to_der()?;
    let key = sha256(&der);
    if let Some(id) = CA_IDS.with_borrow_mut(|ids| ids.find(&key).map(|(_, id)| *id)) {
        return Ok(id);
    }
    let id = ca_id_of(certificate, &der)?;
    CA_IDS.with_borrow_mut(|ids| ids.insert(key, id));
    Ok(id)
}

fn ca_id_of(certificate: &X509Ref, der: &[u8]) -> Result<[u8; 32], Error> {
    let mut hasher = Sha256::new();
    hasher.update(b"resty-mtls CA 1");
    update_name(&mut hasher, certificate.subject_name());
    match certificate.public_key() {
        Ok(key) => hasher.update(&key.public_key_to_der()?),
        // No chain verifies with a key that OpenSSL cannot read, so the digest of the whole
        // certificate is used.
        Err(_) => {
            openssl::error::ErrorStack::get();
            hasher.update(der);
        }
    }
    Ok(hasher.finish())
}

/// Hashes the types and values of a name. White space is compressed, ASCII letters are converted to
/// lower case (RFC 5280 section 7.1), and the string type is ignored.
fn update_name(hasher: &mut Sha256, name: &X509NameRef) {
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    for entry in name.entries() {
        part(ext::oid(entry.object()).as_bytes());
        match ext::to_utf8(entry.data()) {
            Some(value) => {
                let words = value.split(u8::is_ascii_whitespace);
                let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
                part(&words.join(&b' ').to_ascii_lowercase());
            }
            None => part(entry.data().as_slice()),
        }
    }
}

/// The order of the curve of an EC public key, big-endian; `None` for other keys.
pub fn ec_order(key: &PKeyRef<Public>) -> Option<Vec<u8>> {
    let order = || {
        let mut order = BigNum::new()?;
        key.ec_key()?
            .group()
            .order(&mut order, &mut *BigNumContext::new()?)?;
        Ok::<_, openssl::error::ErrorStack>(order.to_vec())
    };
    let order = order();
    if order.is_err() {
        openssl::error::ErrorStack::get();
    }
    order.ok()
}

/// SHA-256 of the alternate encoding of a certificate, which has (r, n - s) as ECDSA signature
/// instead of (r, s). `order` is n, the order of the curve of the issuer's key. `None` if the
/// signature is not an ECDSA signature.
pub fn alternate_sha256(der: &[u8], order: &[u8]) -> Option<[u8; 32]> {
    alternate_der(der, order).map(|der| sha256(&der))
}

/// The alternate encoding of a certificate in DER, see [`alternate_sha256`].
pub fn alternate_der(der: &[u8], order: &[u8]) -> Option<Vec<u8>> {
    let mut parts = DerReader(der).inside(SEQUENCE)?;
    let (tbs, _) = parts.next(SEQUENCE)?;
    let (algorithm, _) = parts.next(SEQUENCE)?;
    let (_, bits) = parts.next(BIT_STRING)?;
    let mut pair = DerReader(bits.strip_prefix(&[0])?).inside(SEQUENCE)?;
    let (r, _) = pair.next(INTEGER)?;
    let (_, s) = pair.next(INTEGER)?;
    if !parts.0.is_empty() || !pair.0.is_empty() {
        return None;
    }
    let order = BigNum::from_slice(order).ok()?;
    let s = BigNum::from_slice(s).ok()?;
    let mut other = BigNum::new().ok()?;
    other.checked_sub(&order, &s).ok()?;
    if other.is_negative() || other.num_bits() == 0 {
        return None;
    }
    let pair = element(SEQUENCE, &[r, &integer(&other)]);
    let signature = element(BIT_STRING, &[&[0], &pair]);
    Some(element(SEQUENCE, &[tbs, algorithm, &signature]))
}

/// [`alternate_sha256`] for each common curve that the issuer's key may be on.
pub fn possible_alternate_sha256s(der: &[u8]) -> impl Iterator<Item = [u8; 32]> + '_ {
    static ORDERS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let order = |curve: &Nid| {
            let mut order = BigNum::new()?;
            EcGroup::from_curve_name(*curve)?.order(&mut order, &mut *BigNumContext::new()?)?;
            Ok::<_, openssl::error::ErrorStack>(order.to_vec())
        };
        // A build of OpenSSL may lack some of them.
        COMMON_CURVES
            .iter()
            .filter_map(|curve| order(curve).ok())
            .collect()
    });
    orders
        .iter()
        .filter_map(move |order| alternate_sha256(der, order))
}

fn unexpected() -> Error {
    Error::OpenSsl("a certificate encoded in an unexpected way".to_owned())
}

#[cfg(test)]
mod tests;
