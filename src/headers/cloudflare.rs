//! Cloudflare's managed transform "Add TLS client auth headers", and the 21 properties of
//! `request.cf.tlsClientAuth` that its values come from.
//!
//! Source: Cloudflare docs, "Managed Transforms" and "Client certificate variables"; workerd
//! `types/defines/cf.d.ts`. Values are those of the properties: `1` and `0`, and the
//! verification result in words. Cloudflare documents neither how the transform writes its Booleans
//! nor how a DN is escaped. Here both DN forms without "Legacy" are OpenSSL's RFC 2253 in ASCII.
//! Readers: origins behind Cloudflare.
//! No certificate: `Cf-Cert-Presented: 0`, `Cf-Cert-Verified: NONE`, `Cf-Cert-Revoked: 0`, no other
//! header. Not verified: `FAILED:<reason>` in OpenSSL 1.x spelling, as Cloudflare writes it;
//! `FAILED` alone where the route does not verify certificates; the other headers only with
//! `when: presented`, while Cloudflare always sets them. Cloudflare's rules language counts a
//! revoked certificate as verified. This dialect does not, so that a reader which ignores
//! `Cf-Cert-Revoked` does not accept it.

use super::common::{
    flag, issuer_dn, key_id, not_after, not_before, rfc9440_chain, rfc9440_leaf, serial_hex, sha1,
    sha256, subject_dn,
};
use super::header::{Header, RenderResult};
use super::nginx::{issuer_dn_legacy, subject_dn_legacy};
use super::rfc9440::{CHAIN_LIMIT, LEAF_LIMIT};
use super::{ClientInfo, DialectOptions, ForwardWhen, VerifyResult};
use crate::certificate::serial;

/// The headers; the last four are properties that the transform does not send.
pub const HEADERS: &[Header] = &[
    Header::new("certRevoked", "Cf-Cert-Revoked", revoked),
    Header::new("certVerified", "Cf-Cert-Verified", verified),
    Header::new("certPresented", "Cf-Cert-Presented", presented),
    Header::new("certIssuerDN", "Cf-Cert-Issuer-DN", issuer_dn),
    Header::new("certSubjectDN", "Cf-Cert-Subject-DN", subject_dn),
    Header::new(
        "certIssuerDNRFC2253",
        "Cf-Cert-Issuer-DN-RFC2253",
        issuer_dn,
    ),
    Header::new(
        "certSubjectDNRFC2253",
        "Cf-Cert-Subject-DN-RFC2253",
        subject_dn,
    ),
    Header::new(
        "certIssuerDNLegacy",
        "Cf-Cert-Issuer-DN-Legacy",
        issuer_dn_legacy,
    ),
    Header::new(
        "certSubjectDNLegacy",
        "Cf-Cert-Subject-DN-Legacy",
        subject_dn_legacy,
    ),
    Header::new("certSerial", "Cf-Cert-Serial", serial_hex),
    Header::new("certIssuerSerial", "Cf-Cert-Issuer-Serial", issuer_serial),
    Header::new(
        "certFingerprintSHA256",
        "Cf-Cert-Fingerprint-SHA256",
        sha256,
    ),
    Header::new("certFingerprintSHA1", "Cf-Cert-Fingerprint-SHA1", sha1),
    Header::new("certNotBefore", "Cf-Cert-Not-Before", not_before),
    Header::new("certNotAfter", "Cf-Cert-Not-After", not_after),
    Header::new("certSKI", "Cf-Cert-SKI", ski),
    Header::new("certIssuerSKI", "Cf-Cert-Issuer-SKI", issuer_ski),
    Header::unnamed("certRFC9440", rfc9440_leaf).limit(LEAF_LIMIT),
    Header::unnamed("certRFC9440TooLarge", leaf_too_large),
    Header::unnamed("certChainRFC9440", rfc9440_chain).limit(CHAIN_LIMIT),
    Header::unnamed("certChainRFC9440TooLarge", chain_too_large),
];

/// A property of `tlsClientAuth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// A string, empty if the certificate has no such value.
    Text(String),
    /// One of the two Boolean properties.
    Flag(bool),
}

/// The 21 properties by name. As at Cloudflare, they describe the certificate even if verification
/// failed. A value that must not be written into a header is empty.
pub fn tls_client_auth(client: &ClientInfo) -> Vec<(&'static str, Property)> {
    let options = DialectOptions {
        when: Some(ForwardWhen::Presented),
        ..DialectOptions::default()
    };
    let property = |header: &Header| {
        let value = header
            .values(client, &options)
            .unwrap_or_default()
            .pop()
            .unwrap_or_default();
        match header.key {
            "certRFC9440TooLarge" | "certChainRFC9440TooLarge" => Property::Flag(value == "1"),
            _ => Property::Text(value),
        }
    };
    HEADERS
        .iter()
        .map(|header| (header.key, property(header)))
        .collect()
}

/// The verification result as Cloudflare spells it.
pub(super) fn verified(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    Ok(Some(match client.verify_result {
        VerifyResult::NotVerified => "FAILED".to_owned(),
        verdict => verdict.text().replace("self-signed", "self signed"),
    }))
}

fn presented(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    flag(client.verify_result.is_presented())
}

fn revoked(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    flag(client.verify_result == VerifyResult::Revoked)
}

fn issuer_serial(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    Ok(client
        .certificate
        .and(client.issuer)
        .map(|issuer| serial::hex(issuer.serial_number())))
}

fn ski(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, crate::Error>(key_id(certificate.leaf())))
}

fn issuer_ski(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    let id = client.certificate.and(client.issuer).map(key_id);
    Ok(id.filter(|id| !id.is_empty()))
}

fn leaf_too_large(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    is_longer(
        rfc9440_leaf(client, options),
        options.max_bytes.unwrap_or(LEAF_LIMIT),
    )
}

fn chain_too_large(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    is_longer(
        rfc9440_chain(client, options),
        options.max_bytes.unwrap_or(CHAIN_LIMIT),
    )
}

fn is_longer(value: RenderResult, limit: usize) -> RenderResult {
    flag(value?.is_some_and(|value| value.len() > limit))
}
