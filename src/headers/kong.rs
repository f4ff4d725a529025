//! Kong's `tls-metadata-headers`, and the two headers of `mtls-auth` with `skip_consumer_lookup`.
//!
//! Source: Kong's plugin reference 3.15 (`client_cert_header_name` and its siblings). Kong does
//! not document DN, serial and fingerprint formats; these are nginx's, which Kong runs on.
//! Readers: applications behind Kong or nginx; everything that reads `$ssl_client_escaped_cert`.
//! No certificate: no header. Kong does not verify, and tells whatever was presented, as
//! `tls-metadata-headers` does here; the dialect does so with `when: presented`. There is no header
//! for the verdict.

pub use super::common::escape;
use super::common::{chain_pem_escaped, issuer_dn, pem_escaped, serial_hex, sha1, subject_dn};
use super::header::{Header, Rendered};
use super::{Facts, Line, Options, Value};

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

/// The headers of `tls-metadata-headers` as a dialect.
pub const HEADERS: &[Header] = &[
    Header::new("client_cert", CERT, pem_escaped),
    Header::new("client_serial", SERIAL, serial_hex),
    Header::new("client_cert_issuer_dn", ISSUER_DN, issuer_dn),
    Header::new("client_cert_subject_dn", SUBJECT_DN, subject_dn),
    Header::new("client_cert_fingerprint", FINGERPRINT, sha1),
    Header::new("client_cert_chain", CHAIN, chain),
];

fn chain(facts: &Facts, options: &Options) -> Rendered {
    if options.chain {
        chain_pem_escaped(facts, options)
    } else {
        Ok(None)
    }
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
    fn escape_keeps_unreserved_only() {
        assert_eq!(escape(b"aZ09-._~ +/=\n%"), "aZ09-._~%20%2B%2F%3D%0A%25");
    }
}
