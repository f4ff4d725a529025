//! Names of headers that plugins may set.

use super::Reader;
use crate::headers::kong;
use crate::policy::report::Path;
use crate::policy::tree::Node;
use crate::text::quoted;

/// Longest header name: [`crate::headers::OwnedNames`] compares no longer ones than 127 bytes, and
/// a number and `-Too-Large` may come behind.
const MAX_HEADER_NAME: usize = 110;

/// Headers that frame a message or belong to one hop (RFC 9110 section 7.6.1), folded.
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

/// Headers that clients send and upstreams need, folded: they would be removed from every request.
const OF_THE_CLIENT: &[&str] = &[
    "accept",
    "authorization",
    "content-type",
    "cookie",
    "origin",
    "user-agent",
];

impl<'t> Reader<'t, '_> {
    /// The name of a header that tells of the certificate.
    pub(super) fn told_name<'c>(&mut self, node: &'c Node<'c>, path: &Path<'_>) -> Option<&'c str> {
        let name = self.header_name(node, path)?;
        if !OF_THE_CLIENT.contains(&&*fold_header_name(name)) {
            return Some(name);
        }
        let message = format!("the header '{name}' is the client's own, expected another name");
        self.report.error(node.position, path, message);
        None
    }

    pub(super) fn header_name<'c>(
        &mut self,
        node: &'c Node<'c>,
        path: &Path<'_>,
    ) -> Option<&'c str> {
        let name = self.text(node, path)?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let shown = quoted(name.as_bytes());
        let wrong = if name.is_empty() || !name.bytes().all(token) {
            format!("'{shown}' is not a header name, expected a token such as 'X-Client-Cert'")
        } else if name.len() > MAX_HEADER_NAME {
            format!("the header name '{shown}' is over {MAX_HEADER_NAME} bytes")
        } else if FRAMING.contains(&&*fold_header_name(name)) {
            format!(
                "the header '{shown}' frames the message or belongs to one connection, expected \
                 another name"
            )
        } else if kong::IDENTITY
            .iter()
            .any(|ours| fold_header_name(ours) == fold_header_name(name))
        {
            format!("the header '{shown}' says who the consumer is, expected another name")
        } else {
            return Some(name);
        };
        self.report.error(node.position, path, wrong);
        None
    }
}

/// Two header names are one if they are equal after this, as in [`crate::headers::OwnedNames`].
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
