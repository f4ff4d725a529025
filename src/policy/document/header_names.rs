//! Checks the header names in plugin configurations.

use super::DocumentReader;
use crate::headers::kong;
use crate::policy::report::Path;
use crate::policy::tree::Node;
use crate::text::quoted;

/// The longest header name, in bytes: [`crate::headers::ReservedHeaders`] compares names of up to
/// 127 bytes, and a number and `-Too-Large` may be appended to the name.
const MAX_HEADER_NAME: usize = 110;

/// Headers that frame a message or belong to one connection (RFC 9110 section 7.6.1), folded.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that clients send and upstreams need, folded. As reserved headers they would be removed
/// from every request.
const CLIENT_HEADERS: &[&str] = &[
    "accept",
    "authorization",
    "content-type",
    "cookie",
    "origin",
    "user-agent",
];

/// Headers with credentials of the client, folded. They cannot carry a certificate or a claim.
const CREDENTIALS: &[&str] = &["authorization", "cookie"];

impl<'t> DocumentReader<'t, '_> {
    /// Reads the name of a header that describes the client certificate to the upstream.
    pub(super) fn upstream_header_name<'c>(
        &mut self,
        node: &'c Node<'c>,
        path: &Path<'_>,
    ) -> Option<&'c str>
    where
        't: 'c,
    {
        let name = self.header_name(node, path)?;
        if !CLIENT_HEADERS.contains(&&*fold_header_name(name)) {
            return Some(name);
        }
        let message = format!("the header '{name}' is sent by clients, expected another name");
        self.report.error(node.position, path, message);
        None
    }

    /// Reads the name of a header that a plugin may set.
    pub(super) fn header_name<'c>(&mut self, node: &'c Node<'c>, path: &Path<'_>) -> Option<&'c str>
    where
        't: 'c,
    {
        let name = self.text(node, path)?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let shown = quoted(name.as_bytes());
        let message = if name.is_empty() || !name.bytes().all(token) {
            format!("'{shown}' is not a header name, expected a token such as 'X-Client-Cert'")
        } else if name.len() > MAX_HEADER_NAME {
            format!("the header name '{shown}' is over {MAX_HEADER_NAME} bytes")
        } else if FRAMING.contains(&&*fold_header_name(name)) {
            format!(
                "the header '{shown}' frames the message or belongs to one connection, expected \
                 another name"
            )
        } else if kong::IDENTITY_HEADERS
            .iter()
            .any(|reserved| fold_header_name(reserved) == fold_header_name(name))
        {
            format!("the header '{shown}' identifies the consumer, expected another name")
        } else {
            return Some(name);
        };
        self.report.error(node.position, path, message);
        None
    }

    /// Reads the name of a header that carries a certificate or a claim.
    pub(super) fn reserved_header_name(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
    ) -> Option<&'t str> {
        let name = self.header_name(node, path)?;
        if CREDENTIALS.contains(&&*fold_header_name(name)) {
            let name = quoted(name.as_bytes());
            let message = format!("the header '{name}' carries credentials, expected another name");
            self.report.error(node.position, path, message);
            return None;
        }
        Some(name)
    }
}

/// Folds a header name for comparison, as [`crate::headers::ReservedHeaders`] does: case does not
/// matter, and all characters but letters and digits are the same.
pub(in crate::policy) fn fold_header_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}
