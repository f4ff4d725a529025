//! CA certificates of a policy.

use std::cmp::Ordering;
use std::sync::Arc;

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::x509::{X509Ref, X509};

use crate::certificate::{self, name, signed_content};
use crate::openssl_ext::x509 as ext;
use crate::text::quoted;
use crate::Error;

/// Longest PEM text of one CA entity, in bytes.
const MAX_PEM: usize = 1 << 20;

const DAY: i64 = 86_400;
/// Seconds before its end from which on a CA is warned about.
const ENDS_SOON: i64 = 30 * DAY;

/// Whether a CA certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaValidity {
    /// For 30 days or longer.
    Valid,
    /// Not yet.
    NotYet,
    /// For less than 30 days.
    EndsSoon,
    /// Not any more.
    Expired,
}

fn date(epoch: i64) -> String {
    Asn1Time::from_unix(epoch).map_or_else(|_| epoch.to_string(), |time| time.to_string())
}

/// A CA certificate: an entity of `ca_certificates` in a policy.
#[derive(Debug)]
pub struct CaCertificate {
    x509: X509,
    digest: [u8; 32],
    id: [u8; 32],
    subject_hash: u32,
    ec_order: Option<Vec<u8>>,
    not_before: i64,
    not_after: i64,
}

impl CaCertificate {
    /// Reads exactly one PEM certificate with `CA:TRUE` (Kong: `ca_certificates[].cert`).
    ///
    /// # Errors
    /// When there is no certificate, more than one, an unreadable one or one that is not a CA.
    pub fn from_pem(pem: &[u8]) -> Result<CaCertificate, Error> {
        let mut certificates = certificate::from_pem(pem, MAX_PEM)?;
        let count = certificates.len();
        match (certificates.pop(), count) {
            (Some(x509), 1) => CaCertificate::from_x509(x509),
            _ => Err(Error::SeveralCertificates(count)),
        }
    }

    /// A CA from a certificate with `CA:TRUE`.
    pub fn from_x509(x509: X509) -> Result<CaCertificate, Error> {
        if !ext::is_ca(&x509) {
            // That of an extension which cannot be read.
            ErrorStack::get();
            return Err(Error::NotCa(name::rfc2253(x509.subject_name())?));
        }
        Ok(CaCertificate {
            digest: certificate::sha256(&x509)?,
            id: signed_content::ca_id(&x509)?,
            subject_hash: x509.subject_name_hash(),
            ec_order: ec_order(&x509),
            not_before: certificate::unix_seconds(x509.not_before())?,
            not_after: certificate::unix_seconds(x509.not_after())?,
            x509,
        })
    }

    /// Reads all certificates of a PEM bundle, each of which must be a CA.
    pub fn from_pem_bundle(pem: &[u8]) -> Result<Vec<Arc<CaCertificate>>, Error> {
        certificate::from_pem(pem, 16 * MAX_PEM)?
            .into_iter()
            .map(|x509| CaCertificate::from_x509(x509).map(Arc::new))
            .collect()
    }

    /// Subject as RFC 2253 text.
    pub fn subject(&self) -> String {
        name::rfc2253(self.x509.subject_name()).unwrap_or_default()
    }

    /// SHA-256 of the DER.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Identity of the CA: equal for all certificates with the same subject and key.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// `X509_NAME_hash` of the subject.
    pub(super) fn subject_hash(&self) -> u32 {
        self.subject_hash
    }

    /// Order of the curve of its key, if that is an EC key.
    pub(super) fn ec_order(&self) -> Option<&[u8]> {
        self.ec_order.as_deref()
    }

    /// Start of validity, seconds since the epoch.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// End of validity, seconds since the epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Whether a chain with it may be valid at `now`, in seconds since the epoch.
    pub fn is_valid(&self, now: i64) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Whether and how long it is valid at `now`.
    pub fn validity(&self, now: i64) -> CaValidity {
        match self.not_after.saturating_sub(now) {
            _ if now < self.not_before => CaValidity::NotYet,
            // For OpenSSL a certificate is expired at notAfter itself.
            ..=0 => CaValidity::Expired,
            1..ENDS_SOON => CaValidity::EndsSoon,
            _ => CaValidity::Valid,
        }
    }

    /// A warning if it is not valid at `now`, or not much longer.
    pub fn validity_message(&self, now: i64) -> Option<String> {
        let subject = self.subject();
        let subject = quoted(subject.as_bytes());
        Some(match self.validity(now) {
            CaValidity::Valid => return None,
            CaValidity::NotYet => {
                let when = date(self.not_before);
                format!("the CA '{subject}' is not valid before {when}: it verifies no client")
            }
            CaValidity::EndsSoon => {
                let when = date(self.not_after);
                let days = self.not_after.saturating_sub(now) / DAY;
                format!("the CA '{subject}' ends on {when}, in {days} days")
            }
            CaValidity::Expired => {
                let when = date(self.not_after);
                format!("the CA '{subject}' expired on {when}: it verifies no client")
            }
        })
    }

    /// Whether [`CaCertificate::validity`] became worse after `since` and until `now`.
    pub fn ends_between(&self, since: i64, now: i64) -> bool {
        let times = [self.not_after, self.not_after.saturating_sub(ENDS_SOON - 1)];
        times.iter().any(|time| since < *time && *time <= now)
    }

    pub(crate) fn x509(&self) -> &X509 {
        &self.x509
    }
}

/// Whether `ca` has the issuer name of the certificate, and its key made the signature.
pub(super) fn is_issuer(ca: &X509Ref, certificate: &X509Ref) -> bool {
    let same = ca.subject_name().try_cmp(certificate.issuer_name());
    let key = ca.public_key();
    same.is_ok_and(Ordering::is_eq)
        && key
            .and_then(|key| certificate.verify(&key))
            .unwrap_or(false)
}

/// Order of the curve of the certificate's key, if that is an EC key.
pub(super) fn ec_order(certificate: &X509Ref) -> Option<Vec<u8>> {
    match certificate.public_key() {
        Ok(key) => signed_content::ec_order(&key),
        Err(_) => {
            ErrorStack::get();
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::issue;

    #[test]
    fn from_x509_leaves_no_error_of_an_unreadable_extension() {
        let ca = issue("CA", None, true, 60, &[]);
        let mut der = ca.x509.to_der().unwrap();
        // BasicConstraints with a NULL in place of its boolean
        let constraints = b"\x30\x03\x01\x01\xff";
        let place = der.windows(5).position(|part| part == constraints);
        der[place.unwrap() + 2] = 5;
        let broken = X509::from_der(&der).unwrap();
        let found = CaCertificate::from_x509(broken);
        assert!(matches!(found, Err(Error::NotCa(_))));
        assert!(ErrorStack::get().errors().is_empty());
    }
}
