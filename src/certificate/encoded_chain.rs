//! The encoding of the intermediates that is stored in the TLS session. OpenSSL itself keeps the
//! chain only for the connection of the full handshake, not for resumed ones.
//!
//! Format: a magic number, then for each certificate its length (3 octets, big-endian) and its DER.

use openssl::stack::Stack;
use openssl::x509::{X509Ref, X509};

use crate::Error;

const MAGIC: &[u8; 6] = b"rmtls\x01";

/// Longest encoded chain that is stored in a session, in bytes. The shared session cache of nginx
/// up to 1.27.4 accepts sessions of at most 4096 bytes with the leaf, and every resuming
/// ClientHello contains the ticket.
pub const MAX_ENCODED_LEN: usize = 3072;

/// Maximum number of certificates that are decoded.
const MAX_CERTIFICATES: usize = 100;

/// Encodes the certificates without the leaf, in the given order.
pub fn encode<'a>(certificates: impl Iterator<Item = &'a X509Ref>) -> Result<Vec<u8>, Error> {
    let mut bytes = MAGIC.to_vec();
    for certificate in certificates {
        append(&mut bytes, &certificate.to_der()?)?;
    }
    Ok(bytes)
}

fn append(bytes: &mut Vec<u8>, der: &[u8]) -> Result<(), Error> {
    if der.len() > super::MAX_DER {
        return Err(Error::CertificateTooLarge(der.len(), super::MAX_DER));
    }
    let len = (der.len() as u32).to_be_bytes();
    bytes.extend_from_slice(&len[1..]);
    bytes.extend_from_slice(der);
    Ok(())
}

/// Whether the bytes are an encoded chain. The session data may be that of another module.
pub fn is_encoded_chain(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Decodes the result of [`encode`].
pub fn decode(bytes: &[u8]) -> Result<Stack<X509>, Error> {
    let truncated = || Error::BadCertificate("truncated chain".to_owned());
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(truncated)?;
    let mut certificates = Stack::new()?;
    while let Some((len, after)) = rest.split_first_chunk::<3>() {
        let len = u32::from_be_bytes([0, len[0], len[1], len[2]]) as usize;
        let der = after.get(..len).ok_or_else(truncated)?;
        if certificates.len() == MAX_CERTIFICATES {
            return Err(Error::BadCertificate(format!(
                "more than {MAX_CERTIFICATES} certificates"
            )));
        }
        certificates.push(super::from_der(der)?)?;
        rest = after.get(len..).unwrap_or_default();
    }
    if rest.is_empty() {
        Ok(certificates)
    } else {
        Err(truncated())
    }
}

/// SHA-256 of an encoded chain.
pub fn digest(encoded: &[u8]) -> [u8; 32] {
    super::digest(encoded)
}

/// [`digest`] of the encoded chain of these DERs.
pub(crate) fn digest_of_ders(ders: &[Vec<u8>]) -> Result<[u8; 32], Error> {
    let mut bytes = MAGIC.to_vec();
    for der in ders {
        append(&mut bytes, der)?;
    }
    Ok(digest(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn decode_returns_the_encoded_chain() {
        let pki = testing::pki();
        let bytes = encode([&*pki.intermediate.x509, &*pki.ca.x509].into_iter()).unwrap();
        let back = decode(&bytes).unwrap();
        let ders: Vec<_> = back.iter().map(|c| c.to_der().unwrap()).collect();
        assert_eq!(
            ders,
            [
                pki.intermediate.x509.to_der().unwrap(),
                pki.ca.x509.to_der().unwrap()
            ]
        );
    }

    #[test]
    fn decode_truncated_chain_is_an_error() {
        let pki = testing::pki();
        let bytes = encode([&*pki.intermediate.x509].into_iter()).unwrap();
        for len in 0..bytes.len() {
            match decode(&bytes[..len]) {
                Ok(chain) => assert_eq!((len, chain.len()), (MAGIC.len(), 0)),
                Err(error) => assert!(matches!(error, Error::BadCertificate(_)), "{error}"),
            }
        }
    }

    #[test]
    fn decode_other_bytes_is_an_error() {
        assert!(!is_encoded_chain(b"other"));
        assert!(decode(b"other").is_err());
    }
}
