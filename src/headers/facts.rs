//! What the dialects render: one client, as the route that forwards it sees it.

use openssl::x509::X509Ref;

use super::LeftOut;
use crate::certificate::Certificate;
use crate::openssl_ext::x509::{verify_error_string, UNSPECIFIED};
use crate::trust::Verdict;

/// `X509_V_ERR_CERT_REVOKED`.
const REVOKED: i32 = 23;

/// What is known of the client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verified {
    /// None was presented.
    None,
    /// One was presented, and this route verifies none.
    NotVerified,
    /// Trusted.
    Success,
    /// Not trusted: an `X509_V_ERR_*` number, or `X509_V_ERR_UNSPECIFIED` (1) for what has none,
    /// and the reason in words.
    Failed(i32, &'static str),
    /// Trusted, were it not revoked.
    Revoked,
}

impl Verified {
    /// The verdict with this `X509_V_*` number on a certificate.
    pub fn from_code(code: i32) -> Verified {
        match code {
            0 => Verified::Success,
            REVOKED => Verified::Revoked,
            code => Verified::Failed(code, verify_error_string(code)),
        }
    }

    /// Whether a certificate was presented.
    pub fn is_presented(self) -> bool {
        self != Verified::None
    }

    /// Whether it is trusted.
    pub fn is_success(self) -> bool {
        self == Verified::Success
    }

    /// `NONE`, `SUCCESS` or `FAILED:<reason>`, as nginx's `$ssl_client_verify`. nginx has no word
    /// for "not verified"; it is a failure here, because readers take anything else for trust.
    pub fn text(self) -> String {
        match self {
            Verified::None => "NONE".to_owned(),
            Verified::NotVerified => "FAILED:not verified".to_owned(),
            Verified::Success => "SUCCESS".to_owned(),
            Verified::Failed(_, reason) => format!("FAILED:{reason}"),
            Verified::Revoked => format!("FAILED:{}", verify_error_string(REVOKED)),
        }
    }

    /// The `X509_V_*` number; `None` without a certificate.
    pub fn code(self) -> Option<i32> {
        match self {
            Verified::None => None,
            Verified::NotVerified => Some(UNSPECIFIED),
            Verified::Success => Some(0),
            Verified::Failed(code, _) => Some(code),
            Verified::Revoked => Some(REVOKED),
        }
    }
}

impl From<&Verdict> for Verified {
    fn from(verdict: &Verdict) -> Verified {
        Verified::from_code(verdict.code())
    }
}

/// One client.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// What the client presented. `None` with [`Verified::None`] and only then.
    pub certificate: Option<&'a Certificate>,
    /// What it is worth.
    pub verdict: Verified,
    /// The issuer of the leaf as the verified chain or the trust store has it.
    pub issuer: Option<&'a X509Ref>,
    /// Seconds since the epoch.
    pub now: i64,
    /// URI subject alternative names of this server's own certificate, for XFCC's `By`.
    pub own_uris: &'a [Vec<u8>],
}

impl<'a> Facts<'a> {
    /// Reads something from the certificate, if there is one to be told about. No header says
    /// nothing: an empty text is none.
    pub(super) fn read<E: Into<LeftOut>>(
        &self,
        read: impl FnOnce(&'a Certificate) -> Result<String, E>,
    ) -> Result<Option<String>, LeftOut> {
        match self.certificate {
            Some(certificate) => {
                let text = read(certificate).map_err(Into::into)?;
                Ok(Some(text).filter(|text| !text.is_empty()))
            }
            None => Ok(None),
        }
    }
}
