//! The result of verifying a client certificate, as headers state it.

use openssl_sys as sys;

use crate::openssl_ext::x509::{verify_error_string, UNSPECIFIED};
use crate::trust::Verdict;

/// The verification result of a request. The numbers are OpenSSL's `X509_V_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VerifyResult {
    /// No certificate was presented.
    NoCertificate,
    /// A certificate was presented, and the route does not verify certificates.
    NotVerified,
    /// The certificate is trusted.
    Success,
    /// The certificate is not trusted: an `X509_V_ERR_*` number, `X509_V_ERR_UNSPECIFIED` where
    /// OpenSSL has no number, and the reason in words.
    Failed(i32, &'static str),
    /// The chain is valid, and the certificate is revoked.
    Revoked,
}

impl VerifyResult {
    /// The result for this `X509_V_*` number on a certificate.
    pub fn from_code(code: i32) -> VerifyResult {
        match code {
            sys::X509_V_OK => VerifyResult::Success,
            sys::X509_V_ERR_CERT_REVOKED => VerifyResult::Revoked,
            code => VerifyResult::Failed(code, verify_error_string(code)),
        }
    }

    /// Whether a certificate was presented.
    pub fn is_presented(self) -> bool {
        self != VerifyResult::NoCertificate
    }

    /// Whether the certificate is trusted.
    pub fn is_success(self) -> bool {
        self == VerifyResult::Success
    }

    /// `NONE`, `SUCCESS` or `FAILED:<reason>`, as nginx's `$ssl_client_verify`. nginx has no text
    /// for "not verified". It is a failure here, because readers trust every other value.
    pub fn text(self) -> String {
        match self {
            VerifyResult::NoCertificate => "NONE".to_owned(),
            VerifyResult::NotVerified => "FAILED:not verified".to_owned(),
            VerifyResult::Success => "SUCCESS".to_owned(),
            VerifyResult::Failed(_, reason) => format!("FAILED:{reason}"),
            VerifyResult::Revoked => {
                format!(
                    "FAILED:{}",
                    verify_error_string(sys::X509_V_ERR_CERT_REVOKED)
                )
            }
        }
    }

    /// The `X509_V_*` number; `None` without a certificate.
    pub fn code(self) -> Option<i32> {
        match self {
            VerifyResult::NoCertificate => None,
            VerifyResult::NotVerified => Some(UNSPECIFIED),
            VerifyResult::Success => Some(sys::X509_V_OK),
            VerifyResult::Failed(code, _) => Some(code),
            VerifyResult::Revoked => Some(sys::X509_V_ERR_CERT_REVOKED),
        }
    }
}

impl From<&Verdict> for VerifyResult {
    fn from(verdict: &Verdict) -> VerifyResult {
        VerifyResult::from_code(verdict.code())
    }
}
