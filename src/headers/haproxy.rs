//! HAProxy's `X-SSL-*`, as its documentation sets them from `ssl_c_*` sample fetches.
//!
//! Source: HAProxy `doc/configuration.txt`, `src/ssl_utils.c`. Names are in HAProxy's own format
//! without any escaping, in UTF-8. HAProxy writes the bytes of other string types unchanged,
//! control characters as `%0D`, and does not escape a `/` inside a value. A name that could be read
//! as another name, or with a value that contains a key such as `CN=`, is left out. So is a date
//! outside 1950 to 2049, which two digits of a year cannot express.
//! `ssl_c_san` has DNS, email, URI and IP names; other types are skipped.
//! Readers: Keycloak (`haproxy`), applications behind HAProxy.
//! No certificate: no header, while HAProxy sends empty ones, and `0`, which means success, in
//! `X-SSL-Client-Verify`. Not verified: OpenSSL's error number there, `1` where the route does not
//! verify certificates; the other headers only with `when: presented`.
//! `X-SSL` and `X-SSL-Session_ID` describe the connection, not the certificate, and are not
//! written.

use super::common::{ascii, base64, der_base64, san, sent_intermediates, serial_hex};
use super::header::{Header, RenderResult};
use super::{ClientInfo, DialectOptions, LeftOutReason};
use crate::certificate::{name, time, San};
use crate::Error;

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("ssl_c_verify", "X-SSL-Client-Verify", verify),
    Header::new("ssl_c_s_dn", "X-SSL-Client-DN", subject_dn).utf8(),
    Header::new("ssl_c_s_dn(cn)", "X-SSL-Client-CN", subject_cn).utf8(),
    Header::new("ssl_c_i_dn", "X-SSL-Issuer", issuer_dn).utf8(),
    Header::new("ssl_c_notbefore", "X-SSL-Client-NotBefore", not_before),
    Header::new("ssl_c_notafter", "X-SSL-Client-NotAfter", not_after),
    Header::new("ssl_c_serial", "X-SSL-Client-Serial", serial_hex),
    Header::new("ssl_c_sha1", "X-SSL-Client-SHA1", sha1),
    Header::new("ssl_c_san", "X-SSL-Client-SAN", names),
    Header::new("ssl_c_der", "X-SSL-Client-Cert", der_base64),
    Header::new("ssl_c_chain_der", "X-SSL-Client-Chain", chain_der),
];

fn verify(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    Ok(client.verify_result.code().map(|code| code.to_string()))
}

fn subject_dn(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| name::oneline_unescaped(certificate.leaf().subject_name()))
}

fn issuer_dn(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| name::oneline_unescaped(certificate.leaf().issuer_name()))
}

/// The first CN, as in HAProxy.
fn subject_cn(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let attributes = name::all_readable(certificate.leaf().subject_name())?;
        let cn = attributes.into_iter().find(|attribute| attribute.is("CN"));
        String::from_utf8(cn.map(|cn| cn.value).unwrap_or_default())
            .map_err(|_| LeftOutReason::NotText("the value is not UTF-8"))
    })
}

fn not_before(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| date(certificate.not_before()?))
}

fn not_after(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| date(certificate.not_after()?))
}

fn date(epoch: i64) -> Result<String, LeftOutReason> {
    let why = "a year outside 1950 to 2049 cannot be written with two digits";
    time::utc_time(epoch).ok_or_else(|| LeftOutReason::Ambiguous(why.to_owned()))
}

/// Upper-case hexadecimal, as HAProxy's `hex` converter.
fn sha1(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>(certificate.fingerprint_sha1()?.to_ascii_uppercase()))
}

/// What OpenSSL prints before a name, and readers search for.
const SAN_KINDS: &[&str] = &[
    "DNS",
    "URI",
    "email",
    "IP Address",
    "IP",
    "DirName",
    "othername",
];

/// `DNS:a.example, IP Address:192.0.2.7`, as OpenSSL prints the extension.
fn names(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let mut texts = Vec::new();
        for name in san(certificate.leaf())? {
            let kind = match &name {
                San::Ip(_) => "IP Address",
                San::Directory { .. } => {
                    return Err(LeftOutReason::Ambiguous(
                        "a directory name among others".to_owned(),
                    ))
                }
                San::Dns(_) | San::Email(_) | San::Uri(_) => name.kind(),
            };
            let value = name.value();
            let value = ascii(&value)?;
            if value.contains(',') || name::contains_key(value.as_bytes(), ':', SAN_KINDS) {
                let why = "a subject alternative name would be read as something else";
                return Err(LeftOutReason::Ambiguous(why.to_owned()));
            }
            texts.push(format!("{kind}:{value}"));
        }
        Ok(texts.join(", "))
    })
}

/// The certificates one after the other, without the leaf.
fn chain_der(client: &ClientInfo, options: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let mut der = Vec::new();
        for certificate in sent_intermediates(certificate, options) {
            der.extend(certificate.to_der()?);
        }
        Ok::<_, Error>(base64(&der))
    })
}
