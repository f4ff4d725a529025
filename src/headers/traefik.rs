//! Traefik's PassTLSClientCert: `X-Forwarded-Tls-Client-Cert` and `...-Info`.
//!
//! Source: Traefik `pass_tls_client_cert.go`. `Info` has every field that Traefik can write.
//! Traefik escapes nothing inside the quotes of `Info`, so `Info` is left out if a reader could
//! take a name for another one: a name with a quote, a backslash, a semicolon or a comma, with a
//! space at an end, or with a key (`CN=`, `SAN=`) inside. It is also left out if a certificate sent
//! with the leaf, which the client chooses, has a field that the leaf does not have: a reader that
//! searches for this field would find the wrong one.
//! Readers: Vault (`BASE64`), applications behind Traefik. Not Keycloak's provider `traefik`, which
//! percent-decodes the base64 of `X-Forwarded-Tls-Client-Cert`, where `+` becomes a space, and so
//! cannot read Traefik's own values since 2.9.4 either; use the dialect `nginx` for it.
//! No certificate, or one that is not verified, unless `when: presented`: neither header. With
//! `when: presented` a reader cannot see whether the certificate was verified. As in Traefik, both
//! headers cover all certificates that the client sent, unless `chain: false`.

use openssl::x509::X509Ref;
use percent_encoding::{percent_encode, AsciiSet, NON_ALPHANUMERIC};

use super::common::{all, ascii, base64, san, validity_epochs};
use super::header::{Header, RenderResult};
use super::{ClientInfo, DialectOptions, LeftOutReason};
use crate::certificate::{name, serial, San};

/// What Go's `url.QueryEscape` percent-encodes. It also writes a space as `+`.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b' ');

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("pem", "X-Forwarded-Tls-Client-Cert", pem),
    Header::new("info", "X-Forwarded-Tls-Client-Cert-Info", info),
];

fn pem(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let bodies: Result<Vec<_>, LeftOutReason> = all(certificate, options)
            .map(|certificate| Ok(base64(&certificate.to_der()?)))
            .collect();
        Ok::<_, LeftOutReason>(bodies?.join(","))
    })
}

fn info(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let certificates: Result<Vec<_>, _> = all(certificate, options).map(fields).collect();
        let certificates = certificates?;
        let has = |fields: &Fields, key| fields.iter().any(|(field, _)| *field == key);
        if let [leaf, others @ ..] = certificates.as_slice() {
            if others.iter().flatten().any(|(key, _)| !has(leaf, *key)) {
                let why = "a certificate sent with the leaf has a field that the leaf lacks";
                return Err(LeftOutReason::Ambiguous(why.to_owned()));
            }
        }
        let pair = |(key, value): &(&str, String)| format!("{key}=\"{value}\"");
        let parts: Vec<String> = certificates
            .iter()
            .map(|fields| fields.iter().map(pair).collect::<Vec<_>>().join(";"))
            .collect();
        let text = percent_encode(parts.join(",").as_bytes(), QUERY).to_string();
        Ok::<_, LeftOutReason>(text.replace(' ', "+"))
    })
}

/// Keys and values of one certificate.
type Fields = Vec<(&'static str, String)>;

fn fields(certificate: &X509Ref) -> Result<Fields, LeftOutReason> {
    let mut fields = Fields::new();
    let mut field = |key: &'static str, value: &str| {
        if !value.is_empty() {
            fields.push((key, value.to_owned()));
        }
    };
    field(
        "Subject",
        &plain(name::traefik(certificate.subject_name(), true)?)?,
    );
    field(
        "Issuer",
        &plain(name::traefik(certificate.issuer_name(), false)?)?,
    );
    field(
        "SerialNumber",
        &serial::decimal(certificate.serial_number())?,
    );
    let (not_before, not_after) = validity_epochs(certificate)?;
    field("NB", &not_before.to_string());
    field("NA", &not_after.to_string());
    field("SAN", &names(certificate)?);
    Ok(fields)
}

fn plain(name: String) -> Result<String, LeftOutReason> {
    if name.chars().any(char::is_control) {
        return Err(LeftOutReason::NotText("a control character in a name"));
    }
    Ok(name)
}

/// DNS, email, IP, URI.
fn names(certificate: &X509Ref) -> Result<String, LeftOutReason> {
    let names = san(certificate)?;
    let mut sorted: [Vec<String>; 4] = Default::default();
    let [dns, email, ip, uri] = &mut sorted;
    for name in &names {
        let list = match name {
            San::Dns(_) => &mut *dns,
            San::Email(_) => &mut *email,
            San::Ip(_) => &mut *ip,
            San::Uri(_) => &mut *uri,
            San::Directory { .. } => continue,
        };
        let value = name.value();
        let value = ascii(&value)?;
        if !name::is_traefik_value(value) {
            let why = "a subject alternative name would be read as something else";
            return Err(LeftOutReason::Ambiguous(why.to_owned()));
        }
        list.push(value.to_owned());
    }
    Ok(sorted.concat().join(","))
}
