//! Kong's `tls-metadata-headers`, and the headers of `mtls-auth` and `acl`.
//!
//! Source: Kong's plugin reference 3.15 (`client_cert_header_name` and its siblings). Kong does
//! not document DN, serial and fingerprint formats; these are nginx's, which Kong runs on.
//! Readers: applications behind Kong or nginx; everything that reads `$ssl_client_escaped_cert`.
//! No certificate: no header. Kong describes any certificate presented without verifying it,
//! and so does `tls-metadata-headers` here; the dialect does so with `when: presented`. There is no
//! header for the verification result.

pub use super::common::escape;
use super::common::{chain_pem_escaped, issuer_dn, pem_escaped, serial_hex, sha1, subject_dn};
use super::header::{Header, RenderResult};
use super::{ClientInfo, DialectOptions};
use crate::certificate::san;
use crate::Error;

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
/// Default of `client_cert_chain_header_name`, which Kong does not have.
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
/// Set by `mtls-auth`: UUID of the credential that matched.
pub const CREDENTIAL_IDENTIFIER: &str = "X-Credential-Identifier";
/// Set by `mtls-auth` to `true` when the consumer is the anonymous one.
pub const ANONYMOUS_CONSUMER: &str = "X-Anonymous-Consumer";
/// Set by `acl`: groups of the consumer.
pub const CONSUMER_GROUPS: &str = "X-Consumer-Groups";
/// Set by `acl`: groups that are read from the certificate.
pub const AUTHENTICATED_GROUPS: &str = "X-Authenticated-Groups";

/// The headers that identify the consumer.
pub const IDENTITY_HEADERS: [&str; 7] = [
    CONSUMER_ID,
    CONSUMER_CUSTOM_ID,
    CONSUMER_USERNAME,
    CREDENTIAL_IDENTIFIER,
    ANONYMOUS_CONSUMER,
    CONSUMER_GROUPS,
    AUTHENTICATED_GROUPS,
];

/// Whether text may be sent unchanged as a header value: not empty, without control characters, and
/// without outer spaces, which readers of headers trim. Non-ASCII characters are permitted.
pub fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control)
}

/// The headers of `tls-metadata-headers` as a dialect; the last two are those of `mtls-auth` with
/// `skip_consumer_lookup`.
pub const HEADERS: &[Header] = &[
    Header::new("client_cert", CERT, pem_escaped),
    Header::new("client_serial", SERIAL, serial_hex),
    Header::new("client_cert_issuer_dn", ISSUER_DN, issuer_dn),
    Header::new("client_cert_subject_dn", SUBJECT_DN, subject_dn),
    Header::new("client_cert_fingerprint", FINGERPRINT, sha1),
    Header::new("client_cert_chain", CHAIN, chain),
    Header::unnamed("client_cert_dn", subject_dn),
    Header::unnamed("client_cert_san", names),
];

fn chain(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    if options.chain {
        chain_pem_escaped(client, options)
    } else {
        Ok(None)
    }
}

/// See [`san::text`].
fn names(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>(san::text(certificate.san())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_header_value_accepts_visible_text_only() {
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
