//! The confirmation claim `cnf` (RFC 7800), with the certificate to which a token is bound:
//! `x5t#S256` (RFC 8705 section 3.1).

use openssl::memcmp;
use serde_json::{Map, Value};

use super::{base64url, TokenError};
use crate::text::quoted;

/// SHA-256 of the DER of the certificate that may use a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateThumbprint([u8; 32]);

impl CertificateThumbprint {
    /// Reads 32 bytes of base64url without padding.
    pub fn from_base64url(text: &str) -> Option<CertificateThumbprint> {
        Some(CertificateThumbprint(base64url(text)?.try_into().ok()?))
    }

    /// Whether it is the thumbprint of the certificate with this SHA-256, in constant time.
    pub fn matches(&self, sha256: &[u8; 32]) -> bool {
        memcmp::eq(&self.0, sha256)
    }
}

/// `x5t#S256` of the certificate with this SHA-256.
pub fn thumbprint(sha256: &[u8; 32]) -> String {
    use base64::Engine as _;

    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha256)
}

/// Whether there is such a member that is not null.
fn has(cnf: &Map<String, Value>, name: &str) -> bool {
    cnf.get(name).is_some_and(|value| !value.is_null())
}

pub(super) fn from_claims(
    claims: &Map<String, Value>,
) -> Result<Option<CertificateThumbprint>, TokenError> {
    match claims.get("cnf") {
        // `null` counts as absent. An empty object does not: the token is bound, and to nothing
        // that is known (RFC 7800 section 3.1).
        None | Some(Value::Null) => Ok(None),
        // A DPoP key (RFC 9449 section 6.1) must be proven in addition to every other member.
        Some(Value::Object(cnf)) if has(cnf, "jkt") => {
            Err(TokenError::UnsupportedConfirmation("jkt".to_owned()))
        }
        // RFC 7800 section 3.1 permits unknown members to be ignored next to a known one. Alone,
        // they must be proven, so such a token does not count as unbound.
        Some(Value::Object(cnf)) => match cnf.get("x5t#S256") {
            None | Some(Value::Null) => match cnf.keys().find(|name| has(cnf, name)) {
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
