//! Which certificate a token is bound to: `cnf.x5t#S256` (RFC 8705 section 3.1).

use openssl::memcmp;
use serde_json::{Map, Value};

use super::{base64url, TokenError};
use crate::text::quoted;

/// SHA-256 of the DER of the certificate that may use a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateThumbprint([u8; 32]);

impl CertificateThumbprint {
    /// Reads base64url without padding of 32 bytes.
    pub fn from_base64url(text: &str) -> Option<CertificateThumbprint> {
        Some(CertificateThumbprint(base64url(text)?.try_into().ok()?))
    }

    /// Whether this is the certificate with that SHA-256; takes the same time for all.
    pub fn matches(&self, sha256: &[u8; 32]) -> bool {
        memcmp::eq(&self.0, sha256)
    }
}

/// `x5t#S256` of a certificate with that SHA-256.
pub fn thumbprint(sha256: &[u8; 32]) -> String {
    use base64::Engine as _;

    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha256)
}

pub(super) fn from_claims(
    claims: &Map<String, Value>,
) -> Result<Option<CertificateThumbprint>, TokenError> {
    match claims.get("cnf") {
        // The null of an optional member is its absence; an empty object is not: it says that the
        // token is bound, and not to what (RFC 7800 section 3.1).
        None | Some(Value::Null) => Ok(None),
        // A DPoP key (RFC 9449 section 6.1) is wanted besides whatever else is.
        Some(Value::Object(cnf)) if cnf.contains_key("jkt") => {
            Err(TokenError::UnsupportedConfirmation("jkt".to_owned()))
        }
        // RFC 7800 section 3.1 lets unknown members be ignored beside a known one. Alone, they are
        // what must be proven: not bound to a certificate is not unbound.
        Some(Value::Object(cnf)) => match cnf.get("x5t#S256") {
            None => match cnf.keys().next() {
                None => Err(TokenError::MalformedConfirmation),
                Some(member) => Err(TokenError::UnsupportedConfirmation(quoted(
                    member.as_bytes(),
                ))),
            },
            Some(Value::String(text)) => CertificateThumbprint::from_base64url(text)
                .map(Some)
                .ok_or(TokenError::MalformedConfirmation),
            Some(_) => Err(TokenError::MalformedConfirmation),
        },
        Some(_) => Err(TokenError::MalformedConfirmation),
    }
}
