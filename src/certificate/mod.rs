//! A client certificate with the chain that the client sent, and the values that are read from it.

pub mod bundle;
pub(crate) mod der;
pub mod encoded_chain;
pub mod name;
pub mod normal_form;
pub mod san;
pub mod serial;
pub mod signed_content;
pub mod spiffe;
mod spki;
pub mod time;

use std::cell::OnceCell;
use std::rc::Rc;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::sha;
use openssl::stack::{Stack, StackRef};
use openssl::x509::{X509Ref, X509};
use sha1::{Digest, Sha1};

use crate::openssl_ext::x509 as ext;
use crate::text::hex;
use crate::Error;
pub use san::San;

/// Longest DER of one certificate that is read from bytes. TLS limits a whole chain to 100 KB
/// (`SSL_CTX_set_max_cert_list`).
pub const MAX_DER: usize = 128 * 1024;

/// Header of an encrypted PEM block (RFC 1421).
const ENCRYPTED: &[u8] = b"Proc-Type";

/// Digests that identify a leaf and its chain by all their bytes, because verdicts depend on the
/// signature, and headers contain it. [`signed_content::tbs_sha256`] is equal for all encodings of
/// a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CertificateDigests {
    /// SHA-256 of the leaf's DER.
    pub leaf: [u8; 32],
    /// SHA-256 of the other certificates, in the order sent.
    pub chain: [u8; 32],
}

/// A client certificate as presented: the leaf, and the certificates that were sent with it.
pub struct Certificate {
    leaf: X509,
    intermediates: Rc<Stack<X509>>,
    digests: CertificateDigests,
    names: OnceCell<Vec<San>>,
    attributes: OnceCell<Vec<name::Attribute>>,
    normal_names: OnceCell<normal_form::NormalSans>,
    normal_subject: OnceCell<NormalAttributes>,
    normal_issuer: OnceCell<NormalAttributes>,
    alternate_sha256: OnceCell<[u8; 32]>,
    spki: OnceCell<Option<spki::SpkiDigests>>,
    svid: OnceCell<spiffe::Svid>,
}

/// Attributes of a name with their values in normal form.
type NormalAttributes = Vec<(name::Attribute, normal_form::NormalForm)>;

impl Certificate {
    /// The certificate with this leaf and the certificates sent with it, in the order sent.
    pub fn new(leaf: X509, intermediates: Stack<X509>) -> Result<Certificate, Error> {
        let digests = CertificateDigests {
            leaf: sha256(&leaf)?,
            chain: encoded_chain::digest(&encoded_chain::encode(intermediates.iter())?),
        };
        Ok(Certificate::with_digests(
            leaf,
            Rc::new(intermediates),
            digests,
        ))
    }

    /// The same with known digests.
    pub(crate) fn with_digests(
        leaf: X509,
        intermediates: Rc<Stack<X509>>,
        digests: CertificateDigests,
    ) -> Certificate {
        Certificate {
            leaf,
            intermediates,
            digests,
            names: OnceCell::new(),
            attributes: OnceCell::new(),
            normal_names: OnceCell::new(),
            normal_subject: OnceCell::new(),
            normal_issuer: OnceCell::new(),
            alternate_sha256: OnceCell::new(),
            spki: OnceCell::new(),
            svid: OnceCell::new(),
        }
    }

    /// Length of the DER of leaf and chain in bytes.
    pub fn der_len(&self) -> usize {
        let len = |certificate: &X509Ref| certificate.to_der().map_or(0, |der| der.len());
        len(&self.leaf) + self.intermediates.iter().map(len).sum::<usize>()
    }

    /// Reads PEM text, leaf first.
    pub fn from_pem(pem: &[u8]) -> Result<Certificate, Error> {
        let mut certificates = from_pem(pem, MAX_DER * 2)?.into_iter();
        let leaf = certificates.next().ok_or(Error::NoCertificate)?;
        let mut intermediates = Stack::new()?;
        for certificate in certificates {
            intermediates.push(certificate)?;
        }
        Certificate::new(leaf, intermediates)
    }

    /// The leaf.
    pub fn leaf(&self) -> &X509Ref {
        &self.leaf
    }

    /// The certificates that the client sent with the leaf, in the order sent.
    pub fn intermediates(&self) -> &StackRef<X509> {
        &self.intermediates
    }

    pub(crate) fn shared_intermediates(&self) -> Rc<Stack<X509>> {
        self.intermediates.clone()
    }

    /// Digests of leaf and chain.
    pub fn digests(&self) -> &CertificateDigests {
        &self.digests
    }

    /// Whether the certificate has this SHA-256. `None` when only its alternate encoding has it:
    /// that is the same certificate with other bytes.
    pub fn has_sha256(&self, sha256: &[u8; 32]) -> Option<bool> {
        match self.alternate_sha256.get() {
            Some(other) if other == sha256 => None,
            _ => Some(self.digests.leaf == *sha256),
        }
    }

    /// Stores the SHA-256 of the alternate encoding, which the verification of the chain computes.
    pub(crate) fn set_alternate_sha256(&self, sha256: [u8; 32]) {
        let _ = self.alternate_sha256.set(sha256);
    }

    /// Subject as RFC 2253 text, as nginx's `$ssl_client_s_dn`.
    pub fn subject_dn(&self) -> Result<String, Error> {
        name::rfc2253(self.leaf.subject_name())
    }

    /// Issuer as RFC 2253 text, as nginx's `$ssl_client_i_dn`.
    pub fn issuer_dn(&self) -> Result<String, Error> {
        name::rfc2253(self.leaf.issuer_name())
    }

    /// Serial number in upper-case hexadecimal, as nginx's `$ssl_client_serial`.
    pub fn serial(&self) -> String {
        serial::hex(self.leaf.serial_number())
    }

    /// SHA-1 of the DER in lower-case hexadecimal, as nginx's `$ssl_client_fingerprint`.
    pub fn fingerprint_sha1(&self) -> Result<String, Error> {
        Ok(hex(&Sha1::digest(self.der()?)))
    }

    /// SHA-256 of the DER in lower-case hexadecimal.
    pub fn fingerprint_sha256(&self) -> String {
        hex(&self.digests.leaf)
    }

    /// Start of validity, seconds since the epoch.
    pub fn not_before(&self) -> Result<i64, Error> {
        unix_seconds(self.leaf.not_before())
    }

    /// End of validity, seconds since the epoch.
    pub fn not_after(&self) -> Result<i64, Error> {
        unix_seconds(self.leaf.not_after())
    }

    /// Subject alternative names in certificate order; empty when the extension is absent or
    /// unreadable.
    pub fn san(&self) -> &[San] {
        self.names.get_or_init(|| san::of(&self.leaf))
    }

    /// Whether there is a SAN extension at all, readable or not.
    pub fn has_san(&self) -> bool {
        ext::has_extension(&self.leaf, Nid::SUBJECT_ALT_NAME)
    }

    /// Attributes of the subject in certificate order.
    pub fn subject(&self) -> &[name::Attribute] {
        self.attributes
            .get_or_init(|| name::attributes(self.leaf.subject_name()))
    }

    /// Subject alternative names in normal form, in certificate order.
    pub fn normal_san(&self) -> &normal_form::NormalSans {
        self.normal_names
            .get_or_init(|| normal_form::NormalSans::of(&self.leaf, self.san()))
    }

    /// Attributes of the subject with their values in normal form, in certificate order.
    pub fn normal_subject(&self) -> &[(name::Attribute, normal_form::NormalForm)] {
        self.normal_subject
            .get_or_init(|| normal_form::attributes(self.leaf.subject_name()))
    }

    /// The same of the issuer.
    pub fn normal_issuer(&self) -> &[(name::Attribute, normal_form::NormalForm)] {
        self.normal_issuer
            .get_or_init(|| normal_form::attributes(self.leaf.issuer_name()))
    }

    /// Whether the SubjectPublicKeyInfo has this SHA-256. `None` when only another encoding of the
    /// same key has it, or the key cannot be read.
    pub fn has_spki_sha256(&self, sha256: &[u8; 32]) -> Option<bool> {
        let digests = self.spki.get_or_init(|| spki::SpkiDigests::of(&self.leaf));
        digests.as_ref()?.has(sha256)
    }

    /// SHA-256 of the SubjectPublicKeyInfo, and of the other encodings of the same key.
    pub fn spki_sha256s(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        let digests = self.spki.get_or_init(|| spki::SpkiDigests::of(&self.leaf));
        let unreadable = match digests {
            Some(_) => None,
            None => spki::original_sha256(&self.leaf),
        };
        digests
            .iter()
            .flat_map(spki::SpkiDigests::all)
            .chain(unreadable)
    }

    /// The SPIFFE ID, if the certificate has one.
    pub fn svid(&self) -> &spiffe::Svid {
        self.svid.get_or_init(|| spiffe::Svid::of(self))
    }

    /// keyIdentifier of the authorityKeyIdentifier extension.
    pub fn issuer_key_id(&self) -> Option<Vec<u8>> {
        Some(self.leaf.authority_key_id()?.as_slice().to_vec())
    }

    /// DER of the leaf.
    pub fn der(&self) -> Result<Vec<u8>, Error> {
        Ok(self.leaf.to_der()?)
    }

    /// Whether there is an extendedKeyUsage extension at all, readable or not.
    pub fn has_extended_key_usage(&self) -> bool {
        ext::has_extension(&self.leaf, Nid::EXT_KEY_USAGE)
    }

    /// Purposes of the extendedKeyUsage extension as dotted OIDs; empty when there is none.
    pub fn extended_key_usage(&self) -> Vec<String> {
        ext::extended_key_usage(&self.leaf)
    }

    /// The leaf in PEM.
    pub fn pem(&self) -> Result<Vec<u8>, Error> {
        Ok(self.leaf.to_pem()?)
    }

    /// The whole chain in PEM, leaf first.
    pub fn chain_pem(&self) -> Result<Vec<u8>, Error> {
        let mut pem = self.leaf.to_pem()?;
        for certificate in self.intermediates() {
            pem.extend_from_slice(&certificate.to_pem()?);
        }
        Ok(pem)
    }
}

/// Reads all certificates of a PEM text of at most `max` bytes.
pub(crate) fn from_pem(pem: &[u8], max: usize) -> Result<Vec<X509>, Error> {
    if pem.len() > max {
        return Err(Error::CertificateTooLarge(pem.len(), max));
    }
    // OpenSSL would prompt for the password on the terminal of nginx, and wait.
    if pem
        .windows(ENCRYPTED.len())
        .any(|window| window == ENCRYPTED)
    {
        return Err(Error::BadCertificate("an encrypted PEM block".to_owned()));
    }
    let certificates = X509::stack_from_pem(pem).map_err(|stack| unreadable(&stack))?;
    if certificates.is_empty() {
        return Err(Error::NoCertificate);
    }
    Ok(certificates)
}

/// Reads a certificate in DER of at most [`MAX_DER`] bytes.
pub(crate) fn from_der(der: &[u8]) -> Result<X509, Error> {
    if der.len() > MAX_DER {
        return Err(Error::CertificateTooLarge(der.len(), MAX_DER));
    }
    X509::from_der(der).map_err(|stack| unreadable(&stack))
}

fn unreadable(stack: &ErrorStack) -> Error {
    let reason = stack.errors().first().and_then(|error| error.reason());
    Error::BadCertificate(reason.unwrap_or("malformed").to_owned())
}

/// SHA-256 of the DER.
pub(crate) fn sha256(certificate: &X509Ref) -> Result<[u8; 32], Error> {
    Ok(digest(&certificate.to_der()?))
}

/// SHA-256. It is computed at least once a connection, so `X509_digest` and `SHA256` are not used:
/// their look-up of a provider takes longer than the hashing.
pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = sha::Sha256::new();
    hasher.update(bytes);
    hasher.finish()
}

/// A SHA-256 digest as array.
pub(crate) fn sha256_array(digest: &[u8]) -> Result<[u8; 32], Error> {
    digest
        .try_into()
        .map_err(|_| Error::OpenSsl("SHA-256 of unexpected length".to_owned()))
}

/// The time in seconds since the epoch.
pub(crate) fn unix_seconds(time: &Asn1TimeRef) -> Result<i64, Error> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(since.days) * 86_400 + i64::from(since.secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_pem_refuses_an_encrypted_block_without_a_prompt() {
        let pem = b"-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n\
            DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n\
            -----END CERTIFICATE-----\n";
        let error = from_pem(pem, 1000).unwrap_err().to_string();
        assert_eq!(
            error,
            "not a readable X.509 certificate: an encrypted PEM block"
        );
    }
}
