//! Access tokens: JWTs and the keys that verify them, introspection responses, and the binding of a
//! token to a client certificate (RFC 8705) or key (RFC 9449). All functions work on bytes from other parties, within
//! limits.
//!
//! Unsigned tokens, tokens with a symmetric signature, encrypted and nested tokens, and tokens with
//! a critical header parameter are refused. Keys and key URLs inside a token are ignored; that inside a
//! DPoP proof must be the one that the token is bound to.

mod algorithm;
mod claims;
mod client_assertion;
mod confirmation;
mod discovery;
mod dpop;
mod error;
mod introspection;
mod json;
mod jwks;
mod jws;
#[cfg(test)]
mod tests;

pub use algorithm::{Algorithm, KeyType};
pub use claims::{ClaimRequirements, Claims, RequiredValues};
pub use client_assertion::SigningKey;
pub use confirmation::{thumbprint, CertificateThumbprint, Confirmation};
pub use discovery::{discovery_url, issuer_url, Discovery, WELL_KNOWN};
pub use dpop::{check_proof, nonce, KeyThumbprint, Proof, ProofRequest};
pub use error::TokenError;
pub use introspection::parse_introspection_response;
pub use jwks::Jwks;
pub use jws::{is_jwt, Jws};

/// Longest token, in bytes. By default nginx accepts no header line over 8 KB.
pub const MAX_TOKEN: usize = 32 * 1024;

/// Longest discovery document or introspection response, in bytes.
pub const MAX_DOCUMENT: usize = 256 * 1024;

fn encode_base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;

    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Base64url without padding (RFC 7515 section 2).
fn base64url(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;

    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .ok()
}
