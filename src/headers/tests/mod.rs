//! Golden files, round trips through readers, and malicious certificates, for every dialect.

mod corpora;
mod golden;
mod malicious_certificates;
mod readers;
mod reserved;

use std::io::Write;
use std::process::{Command, Stdio};

use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::{X509Builder, X509Extension, X509Name, X509};

use super::*;
use crate::certificate::Certificate;

const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const TELETEX: u8 = 0x14;
const IA5: u8 = 0x16;
const UNIVERSAL: u8 = 0x1c;
const BMP: u8 = 0x1e;
const BIT_STRING: u8 = 0x03;

const SAN_EMAIL: u8 = 0x81;
const SAN_DNS: u8 = 0x82;
const SAN_URI: u8 = 0x86;
const SAN_IP: u8 = 0x87;

/// 2026-01-02 03:04:05Z and 2030-01-02 03:04:05Z.
const NOT_BEFORE: i64 = 1_767_323_045;
const NOT_AFTER: i64 = 1_893_553_445;
/// 1136 whole days before `NOT_AFTER`.
const NOW: i64 = NOT_AFTER - 1136 * 86_400 - 1;

/// One DER element.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        len @ 0..=0x7f => bytes.push(len as u8),
        len @ 0x80..=0xffff => bytes.extend([0x82, (len >> 8) as u8, len as u8]),
        len => bytes.extend([0x83, (len >> 16) as u8, (len >> 8) as u8, len as u8]),
    }
    bytes.extend(content);
    bytes
}

/// A name of single-valued RDNs: type (dotted or short), string tag, content. `None` if OpenSSL
/// cannot read the name, and so cannot read a certificate with it.
fn try_name(attributes: &[(&str, u8, &[u8])]) -> Option<X509Name> {
    let mut rdns = Vec::new();
    for (attribute, tag, value) in attributes {
        let oid = Asn1Object::from_str(attribute).unwrap();
        let pair = [der(0x06, oid.as_slice()), der(*tag, value)].concat();
        rdns.extend(der(0x31, &der(0x30, &pair)));
    }
    X509Name::from_der(&der(0x30, &rdns)).ok()
}

fn name(attributes: &[(&str, u8, &[u8])]) -> X509Name {
    try_name(attributes).unwrap()
}

fn san(names: &[(u8, &[u8])]) -> X509Extension {
    let names: Vec<u8> = names
        .iter()
        .flat_map(|(tag, name)| der(*tag, name))
        .collect();
    extension("2.5.29.17", &der(0x30, &names))
}

fn extension(oid: &str, content: &[u8]) -> X509Extension {
    let content = Asn1OctetString::new_from_bytes(content).unwrap();
    X509Extension::new_from_der(&Asn1Object::from_str(oid).unwrap(), false, &content).unwrap()
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// The fields of a certificate that a test sets.
struct Template {
    subject: X509Name,
    issuer: X509Name,
    serial: String,
    validity: (i64, i64),
    extensions: Vec<X509Extension>,
}

impl Default for Template {
    fn default() -> Template {
        Template {
            subject: name(&[("CN", UTF8, b"ann")]),
            issuer: name(&[("CN", UTF8, b"issuer")]),
            serial: "01".to_owned(),
            validity: (NOT_BEFORE, NOT_AFTER),
            extensions: Vec::new(),
        }
    }
}

impl Template {
    fn issue(self, key: &PKey<Private>) -> X509 {
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        let serial = BigNum::from_hex_str(&self.serial).unwrap();
        builder
            .set_serial_number(&serial.to_asn1_integer().unwrap())
            .unwrap();
        builder.set_subject_name(&self.subject).unwrap();
        builder.set_issuer_name(&self.issuer).unwrap();
        builder
            .set_not_before(&Asn1Time::from_unix(self.validity.0).unwrap())
            .unwrap();
        builder
            .set_not_after(&Asn1Time::from_unix(self.validity.1).unwrap())
            .unwrap();
        builder.set_pubkey(key).unwrap();
        for extension in self.extensions {
            builder.append_extension(extension).unwrap();
        }
        builder.sign(key, MessageDigest::sha256()).unwrap();
        // A certificate from a client goes through the parser too.
        X509::from_der(&builder.build().to_der().unwrap()).unwrap()
    }

    fn issue_without_chain(self, key: &PKey<Private>) -> Certificate {
        Certificate::new(self.issue(key), Stack::new().unwrap()).unwrap()
    }
}

/// A certificate and its issuer.
struct IssuedCertificate {
    certificate: Certificate,
    issuer: X509,
}

/// A certificate whose name and alternative names hold characters that dialects must escape, and
/// whose serial has 19 bytes.
fn certificate_with_special_characters() -> IssuedCertificate {
    let issuer_name = || {
        name(&[
            ("C", PRINTABLE, b"CZ"),
            ("O", UTF8, b"Example Lab"),
            ("CN", UTF8, b"Example Issuing CA"),
        ])
    };
    let key_id = |id: &str| {
        let id = BigNum::from_hex_str(id).unwrap().to_vec();
        extension("2.5.29.14", &der(0x04, &id))
    };
    let key = key();
    let issuer = Template {
        subject: issuer_name(),
        issuer: name(&[("CN", UTF8, b"Example Root")]),
        serial: "BEEF0102030405060708090A0B0C0D0E0F10".to_owned(),
        extensions: vec![key_id("E9CB0E181BC2A984AF86BCA99827129C70A2A090")],
        ..Template::default()
    };
    let leaf = Template {
        subject: name(&[
            ("C", PRINTABLE, b"CZ"),
            ("O", UTF8, "Žluť, Widgets + Sons".as_bytes()),
            ("OU", UTF8, b"R&D; Lab=7"),
            ("CN", UTF8, b"Smith, \"Ann\" #1/x"),
        ]),
        issuer: issuer_name(),
        serial: "9ABCDEF00112233445566778899AABBCCDDEEF".to_owned(),
        extensions: vec![
            key_id("C093C51A7E2D0F9E57698BBC9F08FA3ED689CBBE"),
            san(&[
                (SAN_DNS, b"ann.example.com"),
                (SAN_DNS, b"alt.example.com"),
                (SAN_URI, b"spiffe://example.org/ns/prod/sa/ann"),
                (SAN_URI, b"urn:x:a;b,c=d"),
                (SAN_EMAIL, b"ann@example.com"),
                (SAN_IP, &[192, 0, 2, 7]),
                (
                    SAN_IP,
                    &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
                ),
            ]),
        ],
        ..Template::default()
    };
    let issuer = issuer.issue(&key);
    let mut intermediates = Stack::new().unwrap();
    intermediates.push(issuer.clone()).unwrap();
    IssuedCertificate {
        certificate: Certificate::new(leaf.issue(&key), intermediates).unwrap(),
        issuer,
    }
}

const NO_CERTIFICATE: ClientInfo<'static> = ClientInfo {
    certificate: None,
    verify_result: VerifyResult::NoCertificate,
    issuer: None,
    now: NOW,
    server_uris: &[],
};

fn client(certificate: &Certificate) -> ClientInfo<'_> {
    ClientInfo {
        certificate: Some(certificate),
        verify_result: VerifyResult::Success,
        ..NO_CERTIFICATE
    }
}

#[test]
fn possible_names_depend_on_the_mode_and_reserved_names_do_not() {
    let options = |mode| DialectOptions {
        mode,
        ..DialectOptions::default()
    };
    let has = |names: Vec<String>, name: &str| names.iter().any(|own| own == name);
    for (mode, written, free) in [
        (
            MtlsMode::Verify,
            "CloudFront-Viewer-Cert-Pem",
            "Client-Cert",
        ),
        (
            MtlsMode::Passthrough,
            "Client-Cert",
            "CloudFront-Viewer-Cert-Pem",
        ),
    ] {
        let config = DialectConfig::new(Dialect::CloudFront, options(mode));
        assert!(has(config.possible_names(), written));
        assert!(!has(config.possible_names(), free));
        assert!(has(config.reserved_names(), free));
    }
}

fn presented() -> DialectOptions {
    DialectOptions {
        when: Some(ForwardWhen::Presented),
        ..DialectOptions::default()
    }
}

/// Every dialect with all of its keys, in each mode.
fn dialect_options() -> impl Iterator<Item = (Dialect, DialectOptions)> {
    let detail = xfcc::XfccDetails {
        cert: true,
        chain: true,
        subject: true,
        uri: true,
        dns: true,
    };
    let xfcc = xfcc::XfccOptions {
        mode: xfcc::XfccMode::SanitizeSet,
        detail,
    };
    let options = move |mode| DialectOptions {
        mode,
        xfcc,
        ..DialectOptions::default()
    };
    let verify = Dialect::ALL
        .into_iter()
        .map(move |dialect| (dialect, options(MtlsMode::Verify)));
    let passthrough = [Dialect::AwsAlb, Dialect::CloudFront].into_iter();
    verify.chain(passthrough.map(move |dialect| (dialect, options(MtlsMode::Passthrough))))
}

/// Runs the `openssl` command, whose output tests compare with ours.
fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the openssl command");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

fn openssl_text(arguments: &[&str], input: &[u8]) -> String {
    String::from_utf8(openssl(arguments, input))
        .unwrap()
        .trim_end()
        .to_owned()
}

#[test]
fn from_name_finds_every_dialect() {
    for dialect in Dialect::ALL {
        assert_eq!(Dialect::from_name(dialect.name()), Some(dialect));
    }
    assert_eq!(Dialect::from_name("Kong"), None);
}

#[test]
fn headers_have_distinct_keys_and_names_and_known_requirements() {
    for dialect in Dialect::ALL {
        let headers = dialect.headers();
        let mut keys: Vec<_> = headers.iter().map(|header| header.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), headers.len(), "{dialect:?}");

        let mut names = DialectConfig::new(dialect, DialectOptions::default()).possible_names();
        for name in &mut names {
            *name = name.to_ascii_lowercase().replace('_', "-");
            assert!(name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{dialect:?}");

        for header in headers {
            let required = header.requires.unwrap_or(header.key);
            assert!(
                headers.iter().any(|header| header.key == required),
                "{}",
                header.key
            );
        }
    }
}

#[test]
fn rename_moves_the_value_and_keeps_the_old_name_reserved() {
    let issued = certificate_with_special_characters();
    let mut config = DialectConfig::new(Dialect::Rfc9440, DialectOptions::default());
    config.rename("client-cert", Some("X-Leaf")).unwrap();
    let lines = config.render(&client(&issued.certificate));
    let names: Vec<_> = lines.lines.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["X-Leaf", "Client-Cert-Chain"]);
    assert_eq!(
        config.reserved_names(),
        [
            "Client-Cert",
            "Client-Cert-Chain",
            "Client-Cert-Chain-Too-Large",
            "Client-Cert-Too-Large",
            "X-Leaf",
            "X-Leaf-Too-Large",
        ]
    );
    assert_eq!(
        config.rename("Client-Certs", None),
        Err(crate::Error::NotFound)
    );
}

#[test]
fn rename_leaf_to_none_removes_the_chain_too() {
    let issued = certificate_with_special_characters();
    let mut config = DialectConfig::new(Dialect::Rfc9440, DialectOptions::default());
    config.rename("client_cert", None).unwrap();
    assert_eq!(
        config.render(&client(&issued.certificate)),
        RenderedHeaders::default()
    );
    assert!(config.reserved_names().contains(&"Client-Cert".to_owned()));
}

#[test]
fn rename_numbered_and_unnamed_headers() {
    let issued = certificate_with_special_characters();
    let mut apache = DialectConfig::new(Dialect::Apache, DialectOptions::default());
    for header in Dialect::Apache.headers() {
        apache.rename(header.key, None).unwrap();
    }
    apache
        .rename("SSL_CLIENT_CERT_CHAIN_", Some("CERT_CHAIN_"))
        .unwrap();
    let lines = apache.render(&client(&issued.certificate));
    assert_eq!(lines.lines.len(), 1);
    assert_eq!(&*lines.lines[0].0, "CERT_CHAIN_0");
    assert_eq!(apache.possible_names().len(), MAX_NUMBERED + 1);
    assert_eq!(
        apache.possible_names()[MAX_NUMBERED],
        "CERT_CHAIN-Too-Large"
    );

    let mut nginx = DialectConfig::new(Dialect::Nginx, DialectOptions::default());
    nginx
        .rename("ssl_client_v_remain", Some("X-Remain"))
        .unwrap();
    let lines = nginx.render(&client(&issued.certificate));
    assert_eq!(
        lines.lines.last().unwrap(),
        &("X-Remain".into(), "1136".to_owned())
    );
}

#[test]
fn value_by_key_is_the_value_of_the_header() {
    let issued = certificate_with_special_characters();
    let client = client(&issued.certificate);
    let options = DialectOptions::default();
    let value = |dialect: Dialect, key| dialect.value(key, &client, &options);
    assert_eq!(
        value(Dialect::Cloudflare, "certSubjectDNLegacy")
            .unwrap()
            .unwrap(),
        "/C=CZ/O=\\xC5\\xBDlu\\xC5\\xA5, Widgets \\+ Sons/OU=R&D; Lab=7/CN=Smith, \"Ann\" #1\\/x"
    );
    assert!(value(Dialect::Apache, "SSL_CLIENT_CERT_CHAIN_0")
        .unwrap()
        .is_some());
    assert_eq!(value(Dialect::Apache, "SSL_CLIENT_CERT_CHAIN_1"), Ok(None));
    for key in [
        "SSL_CLIENT_CERT_CHAIN_",
        "SSL_CLIENT_CERT_CHAIN_00",
        "SSL_CLIENT_CERT_CHAIN_+0",
        "",
    ] {
        assert_eq!(
            value(Dialect::Apache, key),
            Err(crate::Error::NotFound),
            "{key}"
        );
    }
    assert_eq!(
        value(Dialect::Traefik, "info").unwrap_err().to_string(),
        "info left out: the value of 'O' would be read as something else"
    );
}

#[test]
fn tls_client_auth_has_cloudflares_21_properties() {
    use cloudflare::{tls_client_auth, Property};

    let text = |value: &str| Property::Text(value.to_owned());
    let of = |client: &ClientInfo, name: &str| {
        let properties = tls_client_auth(client);
        assert_eq!(properties.len(), 21);
        properties
            .into_iter()
            .find(|(key, _)| *key == name)
            .unwrap()
            .1
    };
    for (name, value) in tls_client_auth(&NO_CERTIFICATE) {
        let expected = match name {
            "certPresented" | "certRevoked" => text("0"),
            "certVerified" => text("NONE"),
            "certRFC9440TooLarge" | "certChainRFC9440TooLarge" => Property::Flag(false),
            _ => text(""),
        };
        assert_eq!(value, expected, "{name}");
    }

    let issued = certificate_with_special_characters();
    let failed = ClientInfo {
        verify_result: VerifyResult::Failed(18, "self-signed certificate"),
        issuer: Some(&issued.issuer),
        ..client(&issued.certificate)
    };
    assert_eq!(
        of(&failed, "certVerified"),
        text("FAILED:self signed certificate")
    );
    assert_eq!(
        of(&failed, "certSerial"),
        text("9ABCDEF00112233445566778899AABBCCDDEEF")
    );
    // The issuer is not described if verification failed.
    assert_eq!(of(&failed, "certIssuerSKI"), text(""));
    let good = ClientInfo {
        issuer: Some(&issued.issuer),
        ..client(&issued.certificate)
    };
    assert_eq!(
        of(&good, "certIssuerSKI"),
        text("E9CB0E181BC2A984AF86BCA99827129C70A2A090")
    );
    assert_eq!(
        of(&good, "certIssuerSerial"),
        text("BEEF0102030405060708090A0B0C0D0E0F10")
    );
    assert_eq!(of(&good, "certChainRFC9440TooLarge"), Property::Flag(false));

    let big = Template {
        extensions: vec![extension("1.2.3.4", &[0; 8000])],
        ..Template::default()
    };
    let big = big.issue_without_chain(&key());
    assert_eq!(of(&client(&big), "certRFC9440"), text(""));
    assert_eq!(
        of(&client(&big), "certRFC9440TooLarge"),
        Property::Flag(true)
    );
}
