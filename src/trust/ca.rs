//! One CA certificate of a policy.

use std::sync::Arc;

use openssl::x509::X509;

use crate::certificate::{self, name};
use crate::openssl_ext::x509 as ext;
use crate::Error;

/// Longest PEM text of one CA entity, in bytes.
const MAX_PEM: usize = 1 << 20;

/// A CA certificate: the trust anchor of a policy entity `ca_certificates[]`.
#[derive(Debug)]
pub struct CaCertificate {
    x509: X509,
    digest: [u8; 32],
    not_before: i64,
    not_after: i64,
}

impl CaCertificate {
    /// Reads exactly one PEM certificate that carries `CA:TRUE` (Kong: `ca_certificates[].cert`).
    ///
    /// # Errors
    /// Text that says whether there was no certificate, more than one, an unreadable one or one
    /// that is not a CA.
    pub fn from_pem(pem: &[u8]) -> Result<CaCertificate, Error> {
        let mut certificates = certificate::from_pem(pem, MAX_PEM)?;
        let count = certificates.len();
        match (certificates.pop(), count) {
            (Some(x509), 1) => CaCertificate::from_x509(x509),
            _ => Err(Error::SeveralCertificates(count)),
        }
    }

    /// Takes a certificate that carries `CA:TRUE`.
    pub fn from_x509(x509: X509) -> Result<CaCertificate, Error> {
        if !ext::is_ca(&x509) {
            return Err(Error::NotCa(name::rfc2253(x509.subject_name())?));
        }
        Ok(CaCertificate {
            digest: certificate::sha256(&x509)?,
            not_before: certificate::epoch(x509.not_before())?,
            not_after: certificate::epoch(x509.not_after())?,
            x509,
        })
    }

    /// Every certificate of a PEM bundle, each of which must be a CA.
    pub fn bundle(pem: &[u8]) -> Result<Vec<Arc<CaCertificate>>, Error> {
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

    /// Start of validity, seconds since the epoch.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// End of validity, seconds since the epoch.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    pub(crate) fn x509(&self) -> &X509 {
        &self.x509
    }
}
