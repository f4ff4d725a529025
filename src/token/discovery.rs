//! The discovery document of an issuer: OpenID Connect Discovery 1.0 section 4, RFC 8414.

use serde_json::{Map, Value};

use super::{json, MAX_DOCUMENT};
use crate::text::quoted;

/// Suffix of the issuer that yields the URL of its discovery document.
pub const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// Longest URL.
const MAX_URL: usize = 2048;

/// The members of a discovery document that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The issuer, as in the `iss` of its tokens.
    pub issuer: String,
    /// URL of its JWK Set.
    pub jwks_uri: Option<String>,
    /// URL of its introspection endpoint (RFC 7662).
    pub introspection_endpoint: Option<String>,
}

/// The issuer, from its URL or from the URL of its discovery document.
pub fn issuer_url(url: &str) -> &str {
    url.strip_suffix(WELL_KNOWN).unwrap_or(url)
}

impl Discovery {
    /// Reads the document of an issuer, named by its URL with or without the well-known suffix.
    ///
    /// # Errors
    /// When it is the document of another issuer, or has an http URL for an https issuer.
    pub fn parse(bytes: &[u8], issuer: &str) -> Result<Discovery, String> {
        let document = json::object(bytes, MAX_DOCUMENT)?;
        let found = text(&document, "issuer")?.ok_or("no 'issuer' in it")?;
        let expected = issuer_url(issuer);
        // The final slash may be missing in either.
        if found.trim_end_matches('/') != expected.trim_end_matches('/') {
            return Err(format!(
                "is that of the issuer '{}', expected '{}'",
                quoted(found.as_bytes()),
                quoted(expected.as_bytes())
            ));
        }
        let https = expected.starts_with("https://");
        let endpoint = |name: &str| -> Result<Option<String>, String> {
            let Some(url) = text(&document, name)? else {
                return Ok(None);
            };
            let plain = url.starts_with("http://") && !https;
            let graphic = url.bytes().all(|byte| byte.is_ascii_graphic());
            if url.len() > MAX_URL || !graphic || !(url.starts_with("https://") || plain) {
                return Err(format!(
                    "'{name}' is '{}', expected an https URL",
                    quoted(url.as_bytes())
                ));
            }
            Ok(Some(url.to_owned()))
        };
        Ok(Discovery {
            issuer: found.to_owned(),
            jwks_uri: endpoint("jwks_uri")?,
            introspection_endpoint: endpoint("introspection_endpoint")?,
        })
    }
}

fn text<'d>(document: &'d Map<String, Value>, name: &str) -> Result<Option<&'d str>, String> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("'{name}' is not a string")),
    }
}
