//! Which certificate a token is bound to: `cnf.x5t#S256` (RFC 8705 section 3.1).

use openssl::memcmp;
use serde_json::{Map, Value};

use super::{base64url, Refusal};

/// SHA-256 of the DER of the certificate that may use a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding([u8; 32]);

impl Binding {
    /// Reads base64url without padding of 32 bytes.
    pub fn from_text(text: &str) -> Option<Binding> {
        Some(Binding(base64url(text)?.try_into().ok()?))
    }

    /// Whether this is the certificate with that SHA-256; takes the same time for all.
    pub fn fits(&self, sha256: &[u8; 32]) -> bool {
        memcmp::eq(&self.0, sha256)
    }
}

/// `x5t#S256` of a certificate with that SHA-256.
pub fn thumbprint(sha256: &[u8; 32]) -> String {
    use base64::Engine as _;

    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha256)
}

pub(super) fn of(claims: &Map<String, Value>) -> Result<Option<Binding>, Refusal> {
    match claims.get("cnf") {
        None | Some(Value::Null) => Ok(None),
        // Bound in another way (DPoP: cnf.jkt) is not bound to a certificate.
        Some(Value::Object(cnf)) => match cnf.get("x5t#S256") {
            None => Ok(None),
            Some(Value::String(text)) => Binding::from_text(text)
                .map(Some)
                .ok_or(Refusal::BadBinding),
            Some(_) => Err(Refusal::BadBinding),
        },
        Some(_) => Err(Refusal::BadBinding),
    }
}
