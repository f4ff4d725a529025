//! Traefik's PassTLSClientCert: `X-Forwarded-Tls-Client-Cert` and `...-Info`.
//!
//! Source: Traefik `pass_tls_client_cert.go`. `Info` has every field Traefik can write. Traefik
//! escapes nothing inside the quotes of `Info`: a certificate with a name that could be read as
//! another (a quote, a comma in an alternative name, a comma with an equals sign behind it in a
//! DN) has no `Info` here.
//! Readers: Keycloak (`traefik`), Vault (`BASE64`), authentik, applications behind Traefik.
//! No certificate, or one that is not told because it is not verified: neither header. With
//! `when: presented` nothing tells a verified certificate from another. As with Traefik both cover
//! all certificates the client sent, unless `chain: false`.

use openssl::x509::X509Ref;
use percent_encoding::{percent_encode, AsciiSet, NON_ALPHANUMERIC};

use super::common::{all, ascii, base64, san, validity_epochs};
use super::header::{Header, Rendered};
use super::{Facts, LeftOut, Options};
use crate::certificate::{name, serial, San};

/// What Go's `url.QueryEscape` escapes, which makes a space a `+` besides.
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

fn pem(facts: &Facts, options: &Options) -> Rendered {
    facts.read(|certificate| {
        let bodies: Result<Vec<_>, LeftOut> = all(certificate, options)
            .map(|certificate| Ok(base64(&certificate.to_der()?)))
            .collect();
        Ok::<_, LeftOut>(bodies?.join(","))
    })
}

fn info(facts: &Facts, options: &Options) -> Rendered {
    facts.read(|certificate| {
        let parts: Result<Vec<_>, _> = all(certificate, options).map(fields).collect();
        let text = percent_encode(parts?.join(",").as_bytes(), QUERY).to_string();
        Ok::<_, LeftOut>(text.replace(' ', "+"))
    })
}

fn fields(certificate: &X509Ref) -> Result<String, LeftOut> {
    let mut fields = Vec::new();
    let mut field = |key: &str, value: &str| {
        if !value.is_empty() {
            fields.push(format!("{key}=\"{value}\""));
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
    Ok(fields.join(";"))
}

fn plain(name: String) -> Result<String, LeftOut> {
    if name.chars().any(char::is_control) {
        return Err(LeftOut::NotText("a control character in a name"));
    }
    Ok(name)
}

/// DNS, email, IP, URI.
fn names(certificate: &X509Ref) -> Result<String, LeftOut> {
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
        if value.contains([',', '"']) {
            let why = "a subject alternative name would be read as something else";
            return Err(LeftOut::Ambiguous(why.to_owned()));
        }
        list.push(value.to_owned());
    }
    Ok(sorted.concat().join(","))
}
