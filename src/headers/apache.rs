//! Apache mod_ssl's `SSL_CLIENT_*` variables, each in a header of its name.
//!
//! Source: Apache `mod_ssl.xml`, `ssl_engine_vars.c`, set as by
//! `RequestHeader set SSL_CLIENT_S_DN "%{SSL_CLIENT_S_DN}s"`. Names keep UTF-8. Line feeds of PEM
//! become spaces, the last one is removed. A serial stays on one line, where Apache puts a space
//! after 35 octets. The names in parts (`SSL_CLIENT_S_DN_CN`, ...) are not written.
//! Readers: Keycloak (`apache`), Tomcat's SSLValve under other names, applications behind Apache.
//! nginx as the next hop drops names with `_` unless `underscores_in_headers on`.
//! No certificate: `SSL_CLIENT_VERIFY: NONE`, no other header, while Apache sends `(null)`. Not
//! verified: `FAILED:<reason>`, and `GENEROUS` where the route does not verify certificates; the
//! other headers only with `when: presented`.

use openssl::nid::Nid;
use openssl::x509::X509Ref;

use super::common::{
    ascii, days_left, der_base64, not_after, not_before, san, sent_intermediates, serial_hex,
};
use super::header::{Header, RenderResult};
use super::{ClientInfo, DialectOptions, LeftOutReason, VerifyResult};
use crate::certificate::{name, serial, San};
use crate::Error;

/// The headers.
pub const HEADERS: &[Header] = &[
    Header::new("SSL_CLIENT_VERIFY", "SSL_CLIENT_VERIFY", verify),
    Header::new("SSL_CLIENT_M_VERSION", "SSL_CLIENT_M_VERSION", version),
    Header::new("SSL_CLIENT_M_SERIAL", "SSL_CLIENT_M_SERIAL", serial_hex),
    Header::new("SSL_CLIENT_S_DN", "SSL_CLIENT_S_DN", subject_dn).utf8(),
    Header::new("SSL_CLIENT_I_DN", "SSL_CLIENT_I_DN", issuer_dn).utf8(),
    Header::new("SSL_CLIENT_V_START", "SSL_CLIENT_V_START", not_before),
    Header::new("SSL_CLIENT_V_END", "SSL_CLIENT_V_END", not_after),
    Header::new("SSL_CLIENT_V_REMAIN", "SSL_CLIENT_V_REMAIN", days_left).changes_daily(),
    Header::new("SSL_CLIENT_A_SIG", "SSL_CLIENT_A_SIG", signature_algorithm),
    Header::new("SSL_CLIENT_A_KEY", "SSL_CLIENT_A_KEY", key_algorithm),
    Header::numbered("SSL_CLIENT_SAN_Email_", "SSL_CLIENT_SAN_Email_", emails),
    Header::numbered("SSL_CLIENT_SAN_DNS_", "SSL_CLIENT_SAN_DNS_", dns_names),
    Header::new(
        "SSL_CLIENT_CERT_RFC4523_CEA",
        "SSL_CLIENT_CERT_RFC4523_CEA",
        exact_assertion,
    ),
    Header::new("SSL_CLIENT_CERT", "SSL_CLIENT_CERT", pem),
    Header::numbered("SSL_CLIENT_CERT_CHAIN_", "SSL_CLIENT_CERT_CHAIN_", chain),
    Header::unnamed("SSL_CLIENT_B64CERT", der_base64),
];

fn verify(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    Ok(Some(match client.verify_result {
        VerifyResult::NotVerified => "GENEROUS".to_owned(),
        verdict => verdict.text(),
    }))
}

fn version(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| Ok::<_, Error>((certificate.leaf().version() + 1).to_string()))
}

fn subject_dn(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| name::rfc2253_utf8(certificate.leaf().subject_name()))
}

fn issuer_dn(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| name::rfc2253_utf8(certificate.leaf().issuer_name()))
}

fn signature_algorithm(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| long_name(certificate.leaf().signature_algorithm().object().nid()))
}

fn key_algorithm(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let id = certificate.leaf().public_key()?.id();
        long_name(Nid::from_raw(id.as_raw()))
    })
}

fn long_name(algorithm: Nid) -> Result<String, LeftOutReason> {
    match algorithm {
        Nid::UNDEF => Err(LeftOutReason::Unreadable(
            "an algorithm without a name in OpenSSL".to_owned(),
        )),
        algorithm => Ok(algorithm.long_name()?.to_owned()),
    }
}

fn emails(client: &ClientInfo, _: &DialectOptions) -> Result<Vec<String>, LeftOutReason> {
    names(client, |name| matches!(name, San::Email(_)))
}

fn dns_names(client: &ClientInfo, _: &DialectOptions) -> Result<Vec<String>, LeftOutReason> {
    names(client, |name| matches!(name, San::Dns(_)))
}

fn names(client: &ClientInfo, wanted: fn(&San) -> bool) -> Result<Vec<String>, LeftOutReason> {
    let Some(certificate) = client.certificate else {
        return Ok(Vec::new());
    };
    san(certificate.leaf())?
        .iter()
        .filter(|name| wanted(name))
        .map(|name| Ok(ascii(&name.value())?.to_owned()))
        .collect()
}

/// A certificateExactAssertion of RFC 4523, its issuer in RFC 2253.
fn exact_assertion(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| {
        let serial = serial::decimal(certificate.leaf().serial_number())?;
        let issuer = certificate.issuer_dn()?;
        if issuer.contains('"') {
            // Apache does not double it, although RFC 3641 section 3.2 requires that.
            return Err(LeftOutReason::Ambiguous(
                "a quote in the name of the issuer".to_owned(),
            ));
        }
        Ok(format!(
            "{{ serialNumber {serial}, issuer rdnSequence:\"{issuer}\" }}"
        ))
    })
}

fn pem(client: &ClientInfo, _: &DialectOptions) -> RenderResult {
    client.read(|certificate| on_one_line(certificate.leaf()))
}

fn chain(client: &ClientInfo, options: &DialectOptions) -> Result<Vec<String>, LeftOutReason> {
    let Some(certificate) = client.certificate else {
        return Ok(Vec::new());
    };
    sent_intermediates(certificate, options)
        .map(on_one_line)
        .collect()
}

fn on_one_line(certificate: &X509Ref) -> Result<String, LeftOutReason> {
    let pem = String::from_utf8(certificate.to_pem()?)
        .map_err(|_| LeftOutReason::Unreadable("PEM that is not ASCII".to_owned()))?;
    Ok(pem.trim_end().replace('\n', " "))
}
