//! AWS CloudFront viewer mTLS: `CloudFront-Viewer-Cert-*`, or RFC 9440 in passthrough mode.
//!
//! Source: AWS docs, "CloudFront headers for viewer mTLS". The serial number is in lower-case
//! hexadecimal with colons, as in their example.
//! Readers: origins behind CloudFront; in passthrough mode those of [`super::rfc9440`].
//! No certificate: `CloudFront-Viewer-Cert-Present: 0` in mode `verify`, else no header. There is
//! no header for the verification result. `Present` is `0` as well for a certificate that the other
//! headers do not describe because it is not verified.

use super::common::{
    flag, issuer_dn, pem_escaped, rfc9440_chain, rfc9440_leaf, sha256, subject_dn, validity,
};
use super::header::{Header, RenderResult};
use super::rfc9440::{CHAIN_LIMIT, LEAF_LIMIT};
use super::{ClientInfo, DialectOptions, MtlsMode};
use crate::certificate::serial;
use crate::text::hex;
use crate::Error;

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("present", "CloudFront-Viewer-Cert-Present", present).only_in(MtlsMode::Verify),
    Header::new(
        "serial_number",
        "CloudFront-Viewer-Cert-Serial-Number",
        serial_number,
    )
    .only_in(MtlsMode::Verify),
    Header::new("issuer", "CloudFront-Viewer-Cert-Issuer", issuer_dn).only_in(MtlsMode::Verify),
    Header::new("subject", "CloudFront-Viewer-Cert-Subject", subject_dn).only_in(MtlsMode::Verify),
    Header::new("sha256", "CloudFront-Viewer-Cert-Sha256", sha256).only_in(MtlsMode::Verify),
    Header::new("validity", "CloudFront-Viewer-Cert-Validity", validity).only_in(MtlsMode::Verify),
    Header::new("pem", "CloudFront-Viewer-Cert-Pem", pem_escaped).only_in(MtlsMode::Verify),
    Header::new("client_cert", "Client-Cert", rfc9440_leaf)
        .limit(LEAF_LIMIT)
        .only_in(MtlsMode::Passthrough),
    Header::new("client_cert_chain", "Client-Cert-Chain", rfc9440_chain)
        .limit(CHAIN_LIMIT)
        .only_in(MtlsMode::Passthrough)
        .requires("client_cert"),
];

fn present(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    flag(client.certificate.is_some())
}

fn serial_number(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let number = certificate.leaf().serial_number();
        let octets: Vec<_> = match serial::octets(number) {
            [] => vec!["00".to_owned()],
            octets => octets.iter().map(|octet| hex(&[*octet])).collect(),
        };
        let sign = if serial::is_negative(number) { "-" } else { "" };
        Ok::<_, Error>(format!("{sign}{}", octets.join(":")))
    })
}
