//! AWS CloudFront viewer mTLS: `CloudFront-Viewer-Cert-*`, or RFC 9440 in passthrough mode.
//!
//! Source: AWS docs, "CloudFront headers for viewer mTLS". The serial number is in lower-case
//! hexadecimal with colons, as in their example.
//! Readers: origins behind CloudFront; in passthrough mode those of [`super::rfc9440`].
//! No certificate: `CloudFront-Viewer-Cert-Present: 0` in mode `verify`, else no header. There is
//! no header for the verdict: a certificate that is not told because it is not verified is not
//! `Present` either.

use super::common::{
    issuer_dn, pem_escaped, rfc9440_chain, rfc9440_leaf, sha256, subject_dn, validity,
};
use super::dialect::flag;
use super::header::{Header, Rendered};
use super::rfc9440::{CHAIN_LIMIT, LEAF_LIMIT};
use super::{Facts, Mode, Options};
use crate::certificate::serial;
use crate::text::hex;
use crate::Error;

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("present", "CloudFront-Viewer-Cert-Present", present).only(Mode::Verify),
    Header::new(
        "serial_number",
        "CloudFront-Viewer-Cert-Serial-Number",
        serial_number,
    )
    .only(Mode::Verify),
    Header::new("issuer", "CloudFront-Viewer-Cert-Issuer", issuer_dn).only(Mode::Verify),
    Header::new("subject", "CloudFront-Viewer-Cert-Subject", subject_dn).only(Mode::Verify),
    Header::new("sha256", "CloudFront-Viewer-Cert-Sha256", sha256).only(Mode::Verify),
    Header::new("validity", "CloudFront-Viewer-Cert-Validity", validity).only(Mode::Verify),
    Header::new("pem", "CloudFront-Viewer-Cert-Pem", pem_escaped).only(Mode::Verify),
    Header::new("client_cert", "Client-Cert", rfc9440_leaf)
        .limit(LEAF_LIMIT)
        .only(Mode::Passthrough),
    Header::new("client_cert_chain", "Client-Cert-Chain", rfc9440_chain)
        .limit(CHAIN_LIMIT)
        .only(Mode::Passthrough)
        .beside("client_cert"),
];

fn present(facts: &Facts, _: &Options) -> Rendered {
    flag(facts.certificate.is_some())
}

fn serial_number(facts: &Facts, _: &Options) -> Rendered {
    facts.read(|certificate| {
        let number = certificate.leaf().serial_number();
        let octets: Vec<_> = match serial::octets(number) {
            [] => vec!["00".to_owned()],
            octets => octets.iter().map(|octet| hex(&[*octet])).collect(),
        };
        let sign = if serial::is_negative(number) { "-" } else { "" };
        Ok::<_, Error>(format!("{sign}{}", octets.join(":")))
    })
}
