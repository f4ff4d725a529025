//! Access tokens: JWTs and the keys that sign them, what an introspection endpoint answers, and
//! whether a token is bound to a client certificate (RFC 8705). All of it on bytes that others
//! wrote, with limits.
//!
//! What is refused: unsigned tokens and those with a symmetric signature, encrypted and nested
//! ones, keys that are named or carried in the token itself, any critical header parameter.

mod algorithm;
mod assertion;
mod binding;
mod claims;
mod discovery;
mod introspection;
mod json;
mod jwks;
mod jws;
mod refusal;
#[cfg(test)]
mod tests;

pub use algorithm::{Algorithm, Kind};
pub use assertion::SigningKey;
pub use binding::{thumbprint, Binding};
pub use claims::{Claims, Expected, OneOf};
pub use discovery::{issuer_url, Discovery, WELL_KNOWN};
pub use introspection::introspect;
pub use jwks::Jwks;
pub use jws::{is_jwt, Jws};
pub use refusal::Refusal;

/// Longest token, in bytes. nginx takes no header line over 8 KB unless told otherwise.
pub const MAX_TOKEN: usize = 32 * 1024;

/// Longest JSON document that is fetched: discovery document, keys, introspection answer.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// Base64url without padding (RFC 7515 section 2).
fn base64url(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;

    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .ok()
}
