//! Caddy's `{http.request.tls.client.*}` placeholders.
//!
//! Source: Caddy `modules/caddyhttp/replacer.go`; Go `crypto/x509/pkix` for the names. Caddy has
//! no default header names; these are its shorthands `{tls_client_*}`. Names are in Go's order and
//! UTF-8, as Go writes them, and without what Go drops: all but the last CN and serialNumber.
//! Attribute types without a name in Go are an OID and hexadecimal DER, as in Caddy built with Go
//! up to 1.26 (such as 2.11.7); Go 1.27 writes their values as text. A name with a control
//! character, for which Caddy fails the whole request, is left out.
//! Readers: applications behind Caddy.
//! No certificate, or one that is not verified, unless `when: presented`: no header, while Caddy
//! sends the placeholder's own text or the digest of an empty string. There is no header for the
//! verification result: with `when: presented` a reader cannot see whether it was verified.

use super::common::{der_base64, serial_decimal, sha256};
use super::header::{Header, RenderResult};
use super::{ClientInfo, DialectOptions};
use crate::certificate::name;

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new(
        "certificate_der_base64",
        "X-Tls-Client-Certificate-Der-Base64",
        der_base64,
    ),
    Header::new("fingerprint", "X-Tls-Client-Fingerprint", sha256),
    Header::new("subject", "X-Tls-Client-Subject", subject).utf8(),
    Header::new("issuer", "X-Tls-Client-Issuer", issuer).utf8(),
    Header::new("serial", "X-Tls-Client-Serial", serial_decimal),
];

fn subject(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| name::go_pkix(certificate.leaf().subject_name()))
}

fn issuer(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| name::go_pkix(certificate.leaf().issuer_name()))
}
