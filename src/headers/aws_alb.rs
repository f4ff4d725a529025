//! AWS Application Load Balancer: `X-Amzn-Mtls-Clientcert*`.
//!
//! Source: AWS docs, "Mutual authentication with TLS in Application Load Balancer". The
//! docs are inconsistent about whether `+`, `=` and `/` are percent-encoded in the PEM. Here all of
//! them are; a reader that first replaces `+` by `%2B` decodes this correctly too.
//! Readers: Keycloak (`aws-alb`), applications behind the load balancer.
//! No certificate: no header. Mode `verify` describes only a verified certificate, unless
//! `when: presented`; mode `passthrough` forwards any certificate, with those sent with it, and
//! only in `X-Amzn-Mtls-Clientcert`. There is no header for the verification result.

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
