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
    /// URL of that endpoint for clients that authenticate by certificate (RFC 8705 section 5). One
    /// that cannot be used counts as absent.
    pub mtls_introspection_endpoint: Option<String>,
}

/// What makes a URL that of a discovery document: it is then used as it is.
const WELL_KNOWN_PATH: &str = "/.well-known/";

/// In the issuer of a document for all tenants, the place of a tenant's id (Microsoft Entra).
const TENANT: &str = "{tenantid}";

/// The issuer, from its URL or from the URL of its discovery document: without the well-known part,
/// which stands at the end (OpenID Connect Discovery 1.0 section 4) or before the path (RFC 8414
/// section 3), and without a query.
pub fn issuer_url(url: &str) -> String {
    let Some((before, rest)) = url.split_once(WELL_KNOWN_PATH) else {
        return url.to_owned();
    };
    let rest = rest.split('?').next().unwrap_or_default();
    match rest.split_once('/') {
        Some((_, path)) if !path.is_empty() => format!("{before}/{path}"),
        _ => before.to_owned(),
    }
}

/// The URL of the discovery document, from the URL of the issuer or of the document.
pub fn discovery_url(url: &str) -> String {
    match url.contains(WELL_KNOWN_PATH) {
        true => url.to_owned(),
        false => format!("{}{WELL_KNOWN}", url.trim_end_matches('/')),
    }
}

/// The final slash may be missing in either.
pub(crate) fn is_same_issuer(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

/// Whether `found`, the issuer in a document, stands for `allowed`: where a tenant's id belongs,
/// `allowed` has one.
fn is_template_of(found: &str, allowed: &str) -> bool {
    let Some((before, after)) = found.split_once(TENANT) else {
        return false;
    };
    let tenant = allowed
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    tenant.is_some_and(|tenant| !tenant.is_empty() && tenant.bytes().all(plain))
}

impl Discovery {
    /// Reads the document of an issuer: of `expected`, or of one that the policy allows although it
    /// is not at its own URL.
    ///
    /// # Errors
    /// When it is the document of another issuer, or has an http URL for an https issuer.
    pub fn parse<T: AsRef<str>>(
        bytes: &[u8],
        expected: &str,
        allowed: &[T],
    ) -> Result<Discovery, String> {
        let document = json::object(bytes, MAX_DOCUMENT)?;
        let found = text(&document, "issuer")?.ok_or("no 'issuer' in it")?;
        let mut others = allowed.iter().map(AsRef::as_ref);
        let issuer = match is_same_issuer(found, expected) {
            true => Some(found),
            false => others
                .find(|other| is_same_issuer(found, other) || is_template_of(found, other))
                .map(|other| match found.contains(TENANT) {
                    true => other,
                    false => found,
                }),
        };
        let Some(issuer) = issuer else {
            return Err(format!(
                "is that of the issuer '{}', expected '{}'{}",
                quoted(found.as_bytes()),
                quoted(expected.as_bytes()),
                match allowed {
                    [] => "",
                    _ => " or one of 'issuers_allowed'",
                }
            ));
        };
        let https = expected.starts_with("https://");
        let endpoint = |document: &Map<String, Value>, name: &str| {
            let Some(url) = text(document, name)? else {
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
            issuer: issuer.to_owned(),
            jwks_uri: endpoint(&document, "jwks_uri")?,
            introspection_endpoint: endpoint(&document, "introspection_endpoint")?,
            mtls_introspection_endpoint: document
                .get("mtls_endpoint_aliases")
                .and_then(Value::as_object)
                .and_then(|aliases| endpoint(aliases, "introspection_endpoint").ok()?),
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
