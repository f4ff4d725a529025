//! Kong's `tls-metadata-headers`, and the headers of `mtls-auth` and `acl`.
//!
//! Source: Kong's plugin reference 3.15 (`client_cert_header_name` and its siblings). Kong does
//! not document DN, serial and fingerprint formats; these are nginx's, which Kong runs on.
//! Readers: applications behind Kong or nginx; everything that reads `$ssl_client_escaped_cert`.
//! No certificate, or one not presented on this connection: no header.

use super::{Line, Value};
use percent_encoding::{percent_encode, AsciiSet, NON_ALPHANUMERIC};

/// Default of `client_cert_header_name`.
pub const CERT: &str = "X-Client-Cert";
/// Default of `client_serial_header_name`.
pub const SERIAL: &str = "X-Client-Cert-Serial";
/// Default of `client_cert_issuer_dn_header_name`.
pub const ISSUER_DN: &str = "X-Client-Cert-Issuer-DN";
/// Default of `client_cert_subject_dn_header_name`.
pub const SUBJECT_DN: &str = "X-Client-Cert-Subject-DN";
/// Default of `client_cert_fingerprint_header_name`.
pub const FINGERPRINT: &str = "X-Client-Cert-Fingerprint";
/// Default of `client_cert_chain_header_name`, an addition of ours.
pub const CHAIN: &str = "X-Client-Cert-Chain";
/// Set by `mtls-auth` with `skip_consumer_lookup`: the subject DN.
pub const DN: &str = "X-Client-Cert-Dn";
/// Set by `mtls-auth` with `skip_consumer_lookup`: the subject alternative names.
pub const SAN: &str = "X-Client-Cert-San";

/// Set by `mtls-auth`: UUID of the consumer.
pub const CONSUMER_ID: &str = "X-Consumer-ID";
/// Set by `mtls-auth`: `custom_id` of the consumer.
pub const CONSUMER_CUSTOM_ID: &str = "X-Consumer-Custom-ID";
/// Set by `mtls-auth`: `username` of the consumer.
pub const CONSUMER_USERNAME: &str = "X-Consumer-Username";
/// Set by `mtls-auth`: UUID of the credential that named the consumer.
pub const CREDENTIAL_IDENTIFIER: &str = "X-Credential-Identifier";
/// Set by `mtls-auth` to `true` when the consumer is the anonymous one.
pub const ANONYMOUS_CONSUMER: &str = "X-Anonymous-Consumer";
/// Set by `acl`: groups of the consumer.
pub const CONSUMER_GROUPS: &str = "X-Consumer-Groups";
/// Set by `acl`: groups that the certificate itself gives.
pub const AUTHENTICATED_GROUPS: &str = "X-Authenticated-Groups";

/// What says who the consumer is.
pub const IDENTITY: [&str; 7] = [
    CONSUMER_ID,
    CONSUMER_CUSTOM_ID,
    CONSUMER_USERNAME,
    CREDENTIAL_IDENTIFIER,
    ANONYMOUS_CONSUMER,
    CONSUMER_GROUPS,
    AUTHENTICATED_GROUPS,
];

/// Whether text may be sent as the value of a header as it is: visible, UTF-8 beyond ASCII
/// included, and without the outer spaces that a reader of headers takes away.
pub fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control)
}

/// What nginx's NGX_ESCAPE_URI_COMPONENT escapes: everything but the unreserved characters of
/// RFC 3986.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Percent-encodes as nginx's `$ssl_client_escaped_cert`.
pub fn escape(text: &[u8]) -> String {
    percent_encode(text, COMPONENT).to_string()
}

/// The lines of `tls-metadata-headers` under their default names.
pub fn lines() -> Vec<Line> {
    [
        (CERT, Value::LeafPemEscaped),
        (SERIAL, Value::Serial),
        (ISSUER_DN, Value::IssuerDn),
        (SUBJECT_DN, Value::SubjectDn),
        (FINGERPRINT, Value::Sha1),
        (CHAIN, Value::ChainPemEscaped),
    ]
    .map(|(name, value)| Line {
        name: name.into(),
        value,
    })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_header_value_takes_visible_text_only() {
        for text in ["a", "ann lee", "Ü", "a@b,c"] {
            assert!(is_header_value(text), "{text:?}");
        }
        for text in [
            "", " ", " a", "a ", "a\r\nb", "a\tb", "a\0", "a\u{7f}", "a\u{85}b",
        ] {
            assert!(!is_header_value(text), "{text:?}");
        }
    }

    #[test]
    fn escape_keeps_unreserved_only() {
        assert_eq!(escape(b"aZ09-._~ +/=\n%"), "aZ09-._~%20%2B%2F%3D%0A%25");
    }
}
