//! AWS Application Load Balancer: `X-Amzn-Mtls-Clientcert*`.
//!
//! Source: AWS docs, "Mutual authentication with TLS in Application Load Balancer". They disagree
//! on whether `+`, `=` and `/` are percent-encoded in the PEM; all of them are here, which a reader
//! that first turns `+` into `%2B` reads alike.
//! Readers: Keycloak (`aws-alb`), applications behind the load balancer.
//! No certificate: no header. MtlsMode `verify` tells a verified certificate only, unless
//! `when: presented`; mode `passthrough` tells any, with what came beside it, and only in
//! `X-Amzn-Mtls-Clientcert`. There is no header for the verdict.

use super::common::{chain_pem_escaped, issuer_dn, pem_escaped, serial_hex, subject_dn, validity};
use super::header::Header;
use super::MtlsMode;

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("clientcert", "X-Amzn-Mtls-Clientcert", chain_pem_escaped)
        .only_in(MtlsMode::Passthrough),
    Header::new(
        "serial_number",
        "X-Amzn-Mtls-Clientcert-Serial-Number",
        serial_hex,
    )
    .only_in(MtlsMode::Verify),
    Header::new("issuer", "X-Amzn-Mtls-Clientcert-Issuer", issuer_dn).only_in(MtlsMode::Verify),
    Header::new("subject", "X-Amzn-Mtls-Clientcert-Subject", subject_dn).only_in(MtlsMode::Verify),
    Header::new("validity", "X-Amzn-Mtls-Clientcert-Validity", validity).only_in(MtlsMode::Verify),
    Header::new("leaf", "X-Amzn-Mtls-Clientcert-Leaf", pem_escaped).only_in(MtlsMode::Verify),
];
