//! Google Cloud's Application Load Balancer: headers of the operator's choice from its mutual TLS
//! variables, by default as in Google's example.
//!
//! Source: Google Cloud docs, "Custom headers in backend services". Sizes are limited as there, and
//! each value over its limit adds `<variable>_exceeded_size_limit` to `client_cert_error` instead
//! of a `-Too-Large` header. The base of the serial number is not documented; here it is
//! upper-case hexadecimal. Leaf and chain are written only for a verified certificate, even with
//! `when: presented`.
//! Readers: applications behind the load balancer; Vault since 1.19 for leaf and chain.
//! No certificate: `client_cert_present` and `client_cert_chain_verified` are `false`,
//! `client_cert_error` is `client_cert_not_provided`. Not verified: the error is
//! `client_cert_validation_failed`, or `client_cert_validation_not_performed` where the route
//! does not verify certificates. Google sends the other headers empty; here they are not sent.

use super::common::{ascii, base64, rfc9440_chain, rfc9440_leaf, san, serial_hex};
use super::header::{Header, RenderResult};
use super::{ClientInfo, DialectOptions, LeftOutReason, VerifyResult};
use crate::certificate::{serial, time, San};
use crate::Error;

/// Longest leaf and chain, in bytes before they are encoded.
const MAX_DER: usize = 16 * 1024;
/// Longest serial number, in octets.
const MAX_SERIAL: usize = 50;
const MAX_SPIFFE_ID: usize = 2048;
const MAX_NAMES: usize = 512;

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("client_cert_present", "X-Client-Cert-Present", present),
    Header::new(
        "client_cert_chain_verified",
        "X-Client-Cert-Chain-Verified",
        verified,
    ),
    Header::new("client_cert_error", "X-Client-Cert-Error", error),
    Header::new(
        "client_cert_sha256_fingerprint",
        "X-Client-Cert-Hash",
        sha256,
    ),
    Header::new(
        "client_cert_serial_number",
        "X-Client-Cert-Serial-Number",
        serial_number,
    ),
    Header::new("client_cert_spiffe_id", "X-Client-Cert-SPIFFE", spiffe_id)
        .fixed_limit(MAX_SPIFFE_ID),
    Header::new("client_cert_uri_sans", "X-Client-Cert-URI-SANs", uris).fixed_limit(MAX_NAMES),
    Header::new(
        "client_cert_dnsname_sans",
        "X-Client-Cert-DNSName-SANs",
        dns_names,
    )
    .fixed_limit(MAX_NAMES),
    Header::new(
        "client_cert_valid_not_before",
        "X-Client-Cert-Valid-Not-Before",
        not_before,
    ),
    Header::new(
        "client_cert_valid_not_after",
        "X-Client-Cert-Valid-Not-After",
        not_after,
    ),
    Header::new(
        "client_cert_issuer_dn",
        "X-Client-Cert-Issuer-DN",
        issuer_dn,
    )
    .fixed_limit(MAX_NAMES),
    Header::new(
        "client_cert_subject_dn",
        "X-Client-Cert-Subject-DN",
        subject_dn,
    )
    .fixed_limit(MAX_NAMES),
    Header::new("client_cert_leaf", "X-Client-Cert-Leaf", leaf).fixed_limit(MAX_ENCODED),
    Header::new("client_cert_chain", "X-Client-Cert-Chain", chain)
        .fixed_limit(MAX_ENCODED)
        .requires("client_cert_leaf"),
];

/// Enough for [`MAX_DER`] bytes in many certificates, encoded.
const MAX_ENCODED: usize = 2 * MAX_DER;

fn boolean(value: bool) -> RenderResult {
    Ok(Some(value.to_string()))
}

fn present(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    boolean(client.verify_result.is_presented())
}

fn verified(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    boolean(client.verify_result.is_success())
}

fn error(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    let mut words = Vec::new();
    match client.verify_result {
        VerifyResult::Success => {}
        VerifyResult::NoCertificate => words.push("client_cert_not_provided".to_owned()),
        VerifyResult::NotVerified => words.push("client_cert_validation_not_performed".to_owned()),
        VerifyResult::Failed(..) | VerifyResult::Revoked => {
            words.push("client_cert_validation_failed".to_owned());
        }
    }
    for header in HEADERS
        .iter()
        .filter(|header| header.key != "client_cert_error")
    {
        if header
            .values(client, options)
            .is_err_and(|why| why.is_too_large())
        {
            words.push(format!("{}_exceeded_size_limit", header.key));
        }
    }
    Ok(Some(words.join(",")).filter(|words| !words.is_empty()))
}

fn sha256(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>(base64(&certificate.digests().leaf)))
}

fn serial_number(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    if let Some(certificate) = client.certificate {
        let bytes = serial::octets(certificate.leaf().serial_number()).len();
        if bytes > MAX_SERIAL {
            return Err(LeftOutReason::TooLarge {
                bytes,
                limit: MAX_SERIAL,
            });
        }
    }
    serial_hex(client, options)
}

fn is_spiffe_id(uri: &[u8]) -> bool {
    uri.starts_with(b"spiffe://")
}

fn spiffe_id(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let names = san(certificate.leaf())?;
        let ids: Vec<_> = names
            .iter()
            .filter_map(|name| match name {
                San::Uri(uri) if is_spiffe_id(uri) => Some(uri),
                _ => None,
            })
            .collect();
        match ids.as_slice() {
            [] => Ok(String::new()),
            [id] => Ok(ascii(id)?.to_owned()),
            // An SVID has exactly one (SPIFFE X.509-SVID section 2).
            _ => Err(LeftOutReason::Ambiguous(
                "more than one SPIFFE ID".to_owned(),
            )),
        }
    })
}

fn uris(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    names(client, |name| match name {
        San::Uri(uri) if !is_spiffe_id(uri) => Some(uri),
        _ => None,
    })
}

fn dns_names(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    names(client, |name| match name {
        San::Dns(name) => Some(name),
        _ => None,
    })
}

fn names(client: &ClientInfo, wanted: fn(&San) -> Option<&Vec<u8>>) -> RenderResult {
    client.read(|certificate| {
        let names = san(certificate.leaf())?;
        let names: Vec<_> = names
            .iter()
            .filter_map(wanted)
            .map(|name| base64(name))
            .collect();
        Ok::<_, LeftOutReason>(names.join(","))
    })
}

fn not_before(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>(time::rfc3339(certificate.not_before()?, "+00:00")))
}

fn not_after(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>(time::rfc3339(certificate.not_after()?, "+00:00")))
}

fn issuer_dn(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        Ok::<_, LeftOutReason>(base64(&certificate.leaf().issuer_name().to_der()?))
    })
}

fn subject_dn(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        Ok::<_, LeftOutReason>(base64(&certificate.leaf().subject_name().to_der()?))
    })
}

fn leaf(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    let Some(certificate) = client
        .certificate
        .filter(|_| client.verify_result.is_success())
    else {
        return Ok(None);
    };
    check(certificate.der()?.len())?;
    rfc9440_leaf(client, options)
}

fn chain(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    let Some(certificate) = client
        .certificate
        .filter(|_| client.verify_result.is_success())
    else {
        return Ok(None);
    };
    let mut bytes = 0;
    for certificate in certificate.intermediates() {
        bytes += certificate.to_der()?.len();
    }
    check(bytes)?;
    rfc9440_chain(client, options)
}

fn check(bytes: usize) -> Result<(), LeftOutReason> {
    if bytes > MAX_DER {
        return Err(LeftOutReason::TooLarge {
            bytes,
            limit: MAX_DER,
        });
    }
    Ok(())
}
