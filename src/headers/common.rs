//! Header values that several dialects share.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use openssl::x509::X509Ref;
use percent_encoding::{percent_encode, AsciiSet, NON_ALPHANUMERIC};

use super::header::RenderResult;
use super::{ClientInfo, DialectOptions, LeftOutReason};
use crate::certificate::{san, serial, time, unix_seconds, Certificate, San};
use crate::text::hex;
use crate::Error;

/// What nginx's NGX_ESCAPE_URI_COMPONENT escapes: everything but the unreserved characters of
/// RFC 3986.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Percent-encodes as nginx's `$ssl_client_escaped_cert`.
pub fn escape(text: &[u8]) -> String {
    // PEM grows by less than this.
    let mut escaped = String::with_capacity(text.len() + text.len() / 4);
    escaped.extend(percent_encode(text, COMPONENT));
    escaped
}

/// Standard base64 with padding, on one line.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// `1` or `0`.
pub(super) fn flag(set: bool) -> RenderResult {
    Ok(Some(if set { "1" } else { "0" }.to_owned()))
}

/// `NONE`, `SUCCESS` or `FAILED:<reason>`.
pub(super) fn verdict(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    Ok(Some(client.verify_result.text()))
}

/// Subject in RFC 2253, ASCII.
pub(super) fn subject_dn(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(Certificate::subject_dn)
}

/// Issuer in RFC 2253, ASCII.
pub(super) fn issuer_dn(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(Certificate::issuer_dn)
}

/// Upper-case hexadecimal.
pub(super) fn serial_hex(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>(certificate.serial()))
}

pub(super) fn serial_decimal(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| serial::decimal(certificate.leaf().serial_number()))
}

/// Lower-case hexadecimal.
pub(super) fn sha1(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(Certificate::fingerprint_sha1)
}

/// Lower-case hexadecimal.
pub(super) fn sha256(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>(certificate.fingerprint_sha256()))
}

pub(super) fn der_base64(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>(base64(&certificate.der()?)))
}

/// PEM with its last line feed, percent-encoded.
pub(super) fn pem_escaped(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>(escape(&certificate.pem()?)))
}

/// The leaf and the certificates sent with it, leaf first, as one percent-encoded PEM text; the
/// leaf alone with `chain: false`.
pub(super) fn chain_pem_escaped(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    if !options.chain {
        return pem_escaped(client, options);
    }
    client.read(|certificate| Ok::<_, Error>(escape(&certificate.chain_pem()?)))
}

/// As `ASN1_TIME_print`.
pub(super) fn not_before(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| certificate.not_before().map(time::openssl))
}

/// As `ASN1_TIME_print`.
pub(super) fn not_after(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| certificate.not_after().map(time::openssl))
}

/// Whole days until the certificate expires, `0` on the last day and after it.
pub(super) fn days_left(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    let days = |until: i64| {
        (until.saturating_sub(client.now) / 86_400)
            .max(0)
            .to_string()
    };
    client.read(|certificate| certificate.not_after().map(days))
}

/// `NotBefore=2023-09-21T01:50:17Z;NotAfter=2024-09-20T01:50:17Z`.
pub(super) fn validity(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let not_before = time::rfc3339(certificate.not_before()?, "Z");
        let not_after = time::rfc3339(certificate.not_after()?, "Z");
        Ok::<_, Error>(format!("NotBefore={not_before};NotAfter={not_after}"))
    })
}

/// One Byte Sequence of RFC 8941.
pub(super) fn rfc9440_leaf(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>(byte_sequence(&certificate.der()?)))
}

/// A List of Byte Sequences without the leaf, in the order sent.
pub(super) fn rfc9440_chain(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let members: Result<Vec<_>, _> = sent_intermediates(certificate, options)
            .map(|certificate| Ok::<_, Error>(byte_sequence(&certificate.to_der()?)))
            .collect();
        Ok::<_, Error>(members?.join(", "))
    })
}

fn byte_sequence(bytes: &[u8]) -> String {
    format!(":{}:", base64(bytes))
}

/// The certificates that the client sent with the leaf; none with `chain: false`.
pub(super) fn sent_intermediates<'a>(
    certificate: &'a Certificate,
    options: &DialectOptions,
) -> impl Iterator<Item = &'a X509Ref> {
    let sent = options.chain.then(|| certificate.intermediates());
    sent.into_iter().flatten()
}

/// The subject alternative names, all or none: an extension that cannot be read may hold a name on
/// which a reader decides.
pub(super) fn san(certificate: &X509Ref) -> Result<Vec<San>, LeftOutReason> {
    let unreadable = |what: &str| LeftOutReason::Unreadable(what.to_owned());
    if san::is_unreadable(certificate) {
        return Err(unreadable("the subject alternative names cannot be read"));
    }
    let names = san::of(certificate);
    if names
        .iter()
        .any(|name| matches!(name, San::Ip(octets) if ![4, 16].contains(&octets.len())))
    {
        return Err(unreadable(
            "a subject alternative name is not an IP address",
        ));
    }
    Ok(names)
}

/// A subject alternative name as printable ASCII.
pub(super) fn ascii(name: &[u8]) -> Result<&str, LeftOutReason> {
    match std::str::from_utf8(name) {
        Ok(text) if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => Ok(text),
        _ => Err(LeftOutReason::NotText(
            "a subject alternative name is not printable ASCII",
        )),
    }
}

/// The subjectKeyIdentifier in upper-case hexadecimal, empty without the extension.
pub(super) fn key_id(certificate: &X509Ref) -> String {
    let id = certificate.subject_key_id();
    id.map(|id| hex(id.as_slice()).to_ascii_uppercase())
        .unwrap_or_default()
}

/// Start and end of validity, in seconds since the epoch.
pub(super) fn validity_epochs(certificate: &X509Ref) -> Result<(i64, i64), LeftOutReason> {
    Ok((
        unix_seconds(certificate.not_before())?,
        unix_seconds(certificate.not_after())?,
    ))
}

/// The leaf, then the certificates sent with it unless `chain: false`.
pub(super) fn all<'a>(
    certificate: &'a Certificate,
    options: &DialectOptions,
) -> impl Iterator<Item = &'a X509Ref> {
    std::iter::once(certificate.leaf()).chain(sent_intermediates(certificate, options))
}
