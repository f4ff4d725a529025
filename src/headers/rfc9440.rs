//! RFC 9440: `Client-Cert` and `Client-Cert-Chain`.
//!
//! Source: RFC 9440 sections 2.2 and 2.3; RFC 8941 section 3.3.5 for the encoding. The RFC sets no
//! size limit; the defaults are those of Cloudflare's fields of the same content (10 KiB and
//! 16 KiB).
//! Readers: Keycloak, Vault since 1.19, OpenBao, NanoMDM, nuts-node.
//! No certificate, or one that is not verified, unless `when: presented`: neither header. With
//! `when: presented` a reader cannot see whether the certificate was verified.
//! The chain is never written without the leaf. It is what the client sent, without the leaf.

use super::common::{rfc9440_chain, rfc9440_leaf};
use super::header::Header;

/// Longest `Client-Cert`, in bytes.
pub const LEAF_LIMIT: usize = 10 * 1024;
/// Longest `Client-Cert-Chain`, in bytes.
pub const CHAIN_LIMIT: usize = 16 * 1024;

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("client_cert", "Client-Cert", rfc9440_leaf).limit(LEAF_LIMIT),
    Header::new("client_cert_chain", "Client-Cert-Chain", rfc9440_chain)
        .limit(CHAIN_LIMIT)
        .requires("client_cert"),
];
