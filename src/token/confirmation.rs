//! The confirmation claim `cnf` (RFC 7800): the certificate to which a token is bound, `x5t#S256`
//! (RFC 8705 section 3.1), and the key, `jkt` (RFC 9449 section 6.1).

use openssl::memcmp;
use serde_json::{Map, Value};

use super::{base64url, KeyThumbprint, TokenError};
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

/// What a token is bound to. Each of them must be proven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// The certificate of the client.
    pub certificate: Option<CertificateThumbprint>,
    /// The key of the DPoP proof.
    pub key: Option<KeyThumbprint>,
}

pub(super) fn from_claims(claims: &Map<String, Value>) -> Result<Confirmation, TokenError> {
    let cnf = match claims.get("cnf") {
        // `null` counts as absent. An empty object does not: the token is bound, and to nothing
        // that is known (RFC 7800 section 3.1).
        None | Some(Value::Null) => return Ok(Confirmation::default()),
        Some(Value::Object(cnf)) => cnf,
        Some(_) => return Err(TokenError::MalformedConfirmation),
    };
    let text = |name: &str, malformed: TokenError| match cnf.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(malformed),
    };
    let certificate = text("x5t#S256", TokenError::MalformedConfirmation)?
        .map(|text| {
            CertificateThumbprint::from_base64url(text).ok_or(TokenError::MalformedConfirmation)
        })
        .transpose()?;
    let key = text("jkt", TokenError::MalformedKeyConfirmation)?
        .map(|text| KeyThumbprint::from_base64url(text).ok_or(TokenError::MalformedKeyConfirmation))
        .transpose()?;
    // RFC 7800 section 3.1 permits unknown members to be ignored next to a known one. Alone, they
    // must be proven, so such a token does not count as unbound.
    if certificate.is_none() && key.is_none() {
        return Err(match cnf.keys().find(|name| has(cnf, name)) {
            None => TokenError::MalformedConfirmation,
            Some(member) => TokenError::UnsupportedConfirmation(quoted(member.as_bytes())),
        });
    }
    Ok(Confirmation { certificate, key })
}
