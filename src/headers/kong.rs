//! Kong's `tls-metadata-headers`, and the two headers of `mtls-auth` with `skip_consumer_lookup`.
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

/// What nginx's NGX_ESCAPE_URI_COMPONENT escapes: everything but the unreserved characters of
/// RFC 3986.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

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
    .map(|(name, value)| Line { name: name.into(), value })
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_keeps_unreserved_only() {
        assert_eq!(escape(b"aZ09-._~ +/=\n%"), "aZ09-._~%20%2B%2F%3D%0A%25");
    }
}
