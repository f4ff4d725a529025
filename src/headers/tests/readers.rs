//! What readers of each dialect make of a value, compared with the certificate. `fuzz/` uses this
//! file too.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use openssl::x509::{X509NameEntryRef, X509NameRef};

use super::*;
use crate::certificate::San;
use crate::openssl_ext::x509::{oid, to_utf8};

const SEQUENCE: u8 = 0x30;

/// Type and value of an attribute.
type Pair = (String, Vec<u8>);

/// Fails unless every line of the dialect for a client with a certificate is one line, under a name
/// that inbound requests cannot use, and is read back.
pub fn check_dialect(dialect: Dialect, options: &DialectOptions, client: &ClientInfo) {
    let mut config = DialectConfig::new(dialect, options.clone());
    for header in dialect.headers() {
        if header.name.is_none() {
            config.rename(header.key, Some(header.key)).unwrap();
        }
    }
    let owned = config.reserved_names();
    for (name, value) in config.render(client).lines {
        assert!(
            owned.iter().any(|owned| **owned == *name),
            "{dialect:?} {name}"
        );
        check_line(dialect, &name, &value);
    }
    for header in dialect.headers() {
        let values = header.values(client, options).unwrap_or_default();
        if !values.is_empty() {
            check(dialect, header.key, &values, client.certificate.unwrap());
        }
    }
}

fn check_line(dialect: Dialect, name: &str, value: &str) {
    let raw_utf8 = matches!(
        (dialect, name),
        (Dialect::Apache, "SSL_CLIENT_S_DN" | "SSL_CLIENT_I_DN")
            | (
                Dialect::Caddy,
                "X-Tls-Client-Subject" | "X-Tls-Client-Issuer"
            )
            | (
                Dialect::Haproxy,
                "X-SSL-Client-DN" | "X-SSL-Client-CN" | "X-SSL-Issuer"
            )
    );
    assert!(!value.is_empty(), "{name}");
    assert_eq!(value.trim(), value, "{name}");
    assert!(value.len() <= MAX_VALUE * 2, "{name}");
    for character in value.chars() {
        let fits = match character {
            ' '..='~' => true,
            other => raw_utf8 && !other.is_control() && !other.is_ascii(),
        };
        assert!(fits, "{name}: {value:?}");
    }
}

/// Fails unless a reader of this header gets out what is in the certificate.
pub fn check(dialect: Dialect, key: &str, values: &[String], certificate: &Certificate) {
    let leaf = certificate.leaf();
    let der = leaf.to_der().unwrap();
    let mut chain = Vec::new();
    for sent in certificate.intermediates() {
        chain.push(sent.to_der().unwrap());
    }
    let all: Vec<_> = std::iter::once(&der).chain(&chain).cloned().collect();
    let value = values[0].as_str();
    let (subject, issuer) = (leaf.subject_name(), leaf.issuer_name());
    let what = format!("{dialect:?} {key}: {value}");

    match (dialect, key) {
        (_, "ssl_client_escaped_cert" | "leaf" | "pem" | "client_cert") if value.contains('%') => {
            assert_eq!(pem(&percent_decoded(value)), [der], "{what}");
        }
        (Dialect::Kong, "client_cert_chain") | (Dialect::AwsAlb, "clientcert") => {
            assert_eq!(pem(&percent_decoded(value)), all, "{what}");
        }
        (Dialect::Apache, "SSL_CLIENT_CERT") => assert_eq!(pem(&lines(value)), [der], "{what}"),
        (Dialect::Apache, "SSL_CLIENT_CERT_CHAIN_") => {
            let read: Vec<_> = values.iter().flat_map(|value| pem(&lines(value))).collect();
            assert_eq!(read, chain, "{what}");
        }
        (
            _,
            "certificate"
            | "certificate_der_base64"
            | "der_base64"
            | "ssl_c_der"
            | "SSL_CLIENT_B64CERT",
        ) => assert_eq!(STANDARD.decode(value).unwrap(), der, "{what}"),
        (_, "ssl_c_chain_der") => {
            assert_eq!(STANDARD.decode(value).unwrap(), chain.concat(), "{what}");
        }
        (Dialect::Traefik, "pem") => {
            let read: Vec<_> = value
                .split(',')
                .map(|body| STANDARD.decode(body).unwrap())
                .collect();
            assert_eq!(read, all, "{what}");
        }
        (_, "client_cert" | "client_cert_leaf" | "certRFC9440") => {
            assert_eq!(byte_sequence(value), der, "{what}");
        }
        (_, "client_cert_chain" | "certChainRFC9440") => {
            assert_eq!(byte_sequences(value), chain, "{what}");
        }
        (
            _,
            "ssl_client_s_dn"
            | "certSubjectDN"
            | "certSubjectDNRFC2253"
            | "subject"
            | "client_cert_subject_dn"
            | "SSL_CLIENT_S_DN",
        ) if dialect != Dialect::Caddy && dialect != Dialect::Gcp => {
            assert_eq!(rfc2253(value), reversed(subject), "{what}");
        }
        (
            _,
            "ssl_client_i_dn"
            | "certIssuerDN"
            | "certIssuerDNRFC2253"
            | "issuer"
            | "client_cert_issuer_dn"
            | "SSL_CLIENT_I_DN",
        ) if dialect != Dialect::Caddy && dialect != Dialect::Gcp => {
            assert_eq!(rfc2253(value), reversed(issuer), "{what}");
        }
        (Dialect::Caddy, "subject") => go(value, subject, &what),
        (Dialect::Caddy, "issuer") => go(value, issuer, &what),
        (Dialect::Gcp, "client_cert_subject_dn") => {
            assert_eq!(
                STANDARD.decode(value).unwrap(),
                subject.to_der().unwrap(),
                "{what}"
            );
        }
        (Dialect::Gcp, "client_cert_issuer_dn") => {
            assert_eq!(
                STANDARD.decode(value).unwrap(),
                issuer.to_der().unwrap(),
                "{what}"
            );
        }
        (_, "certSubjectDNLegacy" | "ssl_client_s_dn_legacy") => {
            assert_eq!(oneline(value, true), pairs(subject), "{what}");
        }
        (_, "certIssuerDNLegacy" | "ssl_client_i_dn_legacy") => {
            assert_eq!(oneline(value, true), pairs(issuer), "{what}");
        }
        (Dialect::Haproxy, "ssl_c_s_dn") => {
            assert_eq!(oneline(value, false), pairs(subject), "{what}");
        }
        (Dialect::Haproxy, "ssl_c_i_dn") => {
            assert_eq!(oneline(value, false), pairs(issuer), "{what}");
        }
        (Dialect::Haproxy, "ssl_c_s_dn(cn)") => {
            let first = pairs(subject)
                .into_iter()
                .find(|(name, _)| name == "CN")
                .unwrap()
                .1;
            assert_eq!(value.as_bytes(), first, "{what}");
        }
        (Dialect::Haproxy, "ssl_c_san") => {
            let read: Vec<_> = value
                .split(", ")
                .map(|name| name.split_once(':').unwrap())
                .collect();
            let names: Vec<_> = certificate
                .san()
                .iter()
                .map(|name| {
                    let kind = name.kind().replace("IP", "IP Address");
                    (kind, String::from_utf8(name.value()).unwrap())
                })
                .collect();
            let names: Vec<_> = names
                .iter()
                .map(|(kind, name)| (&**kind, &**name))
                .collect();
            assert_eq!(read, names, "{what}");
        }
        (Dialect::Apache, "SSL_CLIENT_SAN_Email_") => {
            assert_eq!(
                values,
                texts(certificate, |name| matches!(name, San::Email(_))),
                "{what}"
            );
        }
        (Dialect::Apache, "SSL_CLIENT_SAN_DNS_") => {
            assert_eq!(
                values,
                texts(certificate, |name| matches!(name, San::Dns(_))),
                "{what}"
            );
        }
        (Dialect::Traefik, "info") => traefik(value, certificate, &what),
        (Dialect::Xfcc, "xfcc") => xfcc(value, certificate, &what),
        (Dialect::Gcp, "client_cert_spiffe_id") => {
            assert!(texts(certificate, |name| matches!(name, San::Uri(_))).contains(&values[0]));
        }
        (Dialect::Gcp, "client_cert_dnsname_sans") => {
            let read: Vec<_> = value
                .split(',')
                .map(|name| STANDARD.decode(name).unwrap())
                .collect();
            let names: Vec<_> = certificate
                .san()
                .iter()
                .filter_map(|name| match name {
                    San::Dns(name) => Some(name.clone()),
                    _ => None,
                })
                .collect();
            assert_eq!(read, names, "{what}");
        }
        (
            _,
            "ssl_client_serial"
            | "certSerial"
            | "client_serial"
            | "ssl_c_serial"
            | "SSL_CLIENT_M_SERIAL"
            | "client_cert_serial_number",
        ) => assert_eq!(
            BigNum::from_hex_str(value).unwrap(),
            serial(certificate),
            "{what}"
        ),
        (_, "serial_number") => {
            let read = BigNum::from_hex_str(&value.replace(':', "")).unwrap();
            assert_eq!(read, serial(certificate), "{what}");
        }
        (_, "serial") => {
            assert_eq!(
                BigNum::from_dec_str(value).unwrap(),
                serial(certificate),
                "{what}"
            );
        }
        _ => {}
    }
}

fn serial(certificate: &Certificate) -> BigNum {
    certificate.leaf().serial_number().to_bn().unwrap()
}

fn texts(certificate: &Certificate, wanted: fn(&San) -> bool) -> Vec<String> {
    let names = certificate.san();
    let names = names.iter().filter(|name| wanted(name));
    names
        .map(|name| String::from_utf8_lossy(&name.value()).into_owned())
        .collect()
}

/// Fails unless every family of readers finds the same pairs, and those of the certificate: one
/// that removes a layer of backslashes (the crate xfcc-parser, which Envoy's own parser agrees with
/// as long as there is none), one that returns quoted values unchanged (Istio's), and one without
/// support for quotes and escapes (Keycloak's). `Subject`, `URI` and `DNS` may be left out.
fn xfcc(value: &str, certificate: &Certificate, what: &str) {
    let raw = xfcc_raw(value).unwrap_or_else(|| panic!("{what}"));
    let elements = xfcc_parser::element_list(value.as_bytes()).unwrap();
    assert_eq!(elements.len(), 1, "{what}");
    let element = &elements[0];
    let all = |key: &str| -> Vec<&str> {
        let pairs = raw.iter().filter(|(name, _)| *name == key);
        pairs.map(|(_, value)| *value).collect()
    };
    let crates = [
        ("By", element.by.iter().map(|text| &**text).collect()),
        ("Hash", element.hash.iter().map(|text| &**text).collect()),
        ("Cert", element.cert.iter().map(|text| &**text).collect()),
        ("Chain", element.chain.iter().map(|text| &**text).collect()),
        (
            "Subject",
            element.subject.iter().map(|text| &**text).collect(),
        ),
        ("URI", element.uri.iter().map(|text| &**text).collect()),
        (
            "DNS",
            element.dns.iter().map(|text| &**text).collect::<Vec<_>>(),
        ),
    ];
    for (key, theirs) in crates {
        // The crate treats an empty value as absent.
        let mut ours = all(key);
        ours.retain(|value| !value.is_empty());
        assert_eq!(theirs, ours, "{key} of {what}");
    }
    let naive: Vec<_> = value
        .split(';')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(key, value)| (key, value.trim_matches('"')))
        .collect();
    assert_eq!(naive, raw, "{what}");

    assert_eq!(all("Hash"), [certificate.fingerprint_sha256()], "{what}");
    let mut sent = vec![certificate.leaf().to_der().unwrap()];
    let leaf = sent.clone();
    for certificate in certificate.intermediates() {
        sent.push(certificate.to_der().unwrap());
    }
    for (key, expected) in [("Cert", leaf), ("Chain", sent)] {
        if let [text] = *all(key) {
            assert_eq!(pem(&percent_decoded(text)), expected, "{what}");
        }
    }
    match *all("Subject") {
        [] => {}
        [text] => {
            let name = reversed(certificate.leaf().subject_name());
            assert_eq!(rfc2253(text), name, "{what}");
            // Readers without support for escapes split it in the same way.
            let naive: Vec<Pair> = text
                .split(',')
                .filter(|pair| !pair.is_empty())
                .map(|pair| pair.split_once('=').unwrap())
                .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
                .collect();
            assert_eq!(naive, name, "{what}");
        }
        _ => panic!("{what}"),
    }
    let is_uri = |name: &San| matches!(name, San::Uri(_));
    let is_dns = |name: &San| matches!(name, San::Dns(_));
    for (key, expected) in [
        ("URI", texts(certificate, is_uri)),
        ("DNS", texts(certificate, is_dns)),
    ] {
        let read = all(key);
        // Envoy's own form of no URI
        if !(read.is_empty() || read == [""] && expected.is_empty()) {
            assert_eq!(read, expected, "{key} of {what}");
        }
    }
}

/// A model of github.com/alecholmes/xfccparser, made from what it was seen to do: a quoted value
/// ends at a quote without a backslash before it and is handed on as it is, a bare one has no
/// delimiter. t/headers/readers/xfcc/xfccparser.go runs the module itself where it can be had.
fn xfcc_raw(value: &str) -> Option<Vec<(&str, &str)>> {
    let mut pairs = Vec::new();
    let mut rest = value;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(inside) => {
                let closes = |&(place, _): &(usize, &str)| !inside[..place].ends_with('\\');
                let (end, _) = inside.match_indices('"').find(closes)?;
                (&inside[..end], &inside[end + 1..])
            }
            None => after.split_at(after.find([',', ';', '=', '"']).unwrap_or(after.len())),
        };
        pairs.push((key, value));
        match after.strip_prefix(';') {
            Some(after) => rest = after,
            None if after.is_empty() => return Some(pairs),
            None => return None,
        }
    }
}

fn pem(text: &[u8]) -> Vec<Vec<u8>> {
    let read = X509::stack_from_pem(text).unwrap();
    read.iter()
        .map(|certificate| certificate.to_der().unwrap())
        .collect()
}

/// As Tomcat's SSLValve: spaces back to line feeds, but not those of BEGIN and END.
fn lines(value: &str) -> Vec<u8> {
    let body = value
        .strip_prefix("-----BEGIN CERTIFICATE----- ")
        .and_then(|value| value.strip_suffix(" -----END CERTIFICATE-----"))
        .unwrap();
    let body = body.replace(' ', "\n");
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n").into_bytes()
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    bytes
}

fn byte_sequence(value: &str) -> Vec<u8> {
    let item: sfv::Item = sfv::Parser::new(value).parse().unwrap();
    bytes_of(item)
}

fn byte_sequences(value: &str) -> Vec<Vec<u8>> {
    let list: sfv::List = sfv::Parser::new(value).parse().unwrap();
    list.into_iter()
        .map(|member| match member {
            sfv::ListEntry::Item(item) => bytes_of(item),
            sfv::ListEntry::InnerList(_) => panic!("an inner list"),
        })
        .collect()
}

fn bytes_of(item: sfv::Item) -> Vec<u8> {
    assert!(item.params.is_empty());
    match item.bare_item {
        sfv::BareItem::ByteSequence(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// Short name or OID and UTF-8 of each attribute.
fn pairs(name: &X509NameRef) -> Vec<Pair> {
    let value = |entry: &X509NameEntryRef| to_utf8(entry.data()).unwrap();
    name.entries()
        .map(|entry| (type_of(entry), value(entry)))
        .collect()
}

/// As RFC 2253 has them: the content as encoded where it is in hexadecimal.
fn reversed(name: &X509NameRef) -> Vec<Pair> {
    let value = |entry: &X509NameEntryRef| match to_utf8(entry.data()) {
        Some(text) if entry.object().nid() != Nid::UNDEF => text,
        _ => entry.data().as_slice().to_vec(),
    };
    let mut pairs: Vec<_> = name
        .entries()
        .map(|entry| (type_of(entry), value(entry)))
        .collect();
    pairs.reverse();
    pairs
}

fn type_of(entry: &X509NameEntryRef) -> String {
    match entry.object().nid() {
        Nid::UNDEF => oid(entry.object()),
        nid => nid.short_name().unwrap().to_owned(),
    }
}

/// A reader of RFC 2253: `\` before a character or two digits, `#` before DER in hexadecimal.
fn rfc2253(text: &str) -> Vec<Pair> {
    let mut pairs: Vec<(String, String, Vec<u8>)> = Vec::new();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let equals = rest.iter().position(|&byte| byte == b'=').unwrap();
        let name = String::from_utf8(rest[..equals].to_vec()).unwrap();
        rest = &rest[equals + 1..];
        let mut value = Vec::new();
        let mut raw = String::new();
        loop {
            match rest {
                [] => break,
                [b',' | b'+', after @ ..] => {
                    rest = after;
                    assert!(!rest.is_empty(), "a separator at the end of {text}");
                    break;
                }
                [b'\\', high, low, after @ ..]
                    if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    let digits = std::str::from_utf8(&rest[1..3]).unwrap();
                    value.push(u8::from_str_radix(digits, 16).unwrap());
                    raw.push('\\');
                    rest = after;
                }
                [b'\\', escaped, after @ ..] => {
                    value.push(*escaped);
                    raw.push('\\');
                    rest = after;
                }
                [byte, after @ ..] => {
                    value.push(*byte);
                    raw.push(char::from(*byte));
                    rest = after;
                }
            }
        }
        pairs.push((name, raw, value));
    }
    pairs
        .into_iter()
        .map(|(name, raw, value)| match raw.strip_prefix('#') {
            // OpenSSL does not escape a value that is nothing but `#`.
            None | Some("") => (name, value),
            Some(digits) => (name, content(digits)),
        })
        .collect()
}

/// Content of one DER element in hexadecimal; a BIT STRING without its count of unused bits, a
/// SEQUENCE whole, as OpenSSL holds them.
fn content(digits: &str) -> Vec<u8> {
    let der = BigNum::from_hex_str(digits)
        .unwrap_or_else(|_| panic!("#{digits}"))
        .to_vec();
    if der[0] == SEQUENCE {
        return der;
    }
    let header = match der[1] {
        0..=0x7f => 2,
        0x81 => 3,
        0x82 => 4,
        _ => panic!("a long element"),
    };
    der[header + usize::from(der[0] == BIT_STRING)..].to_vec()
}

/// A reader of `/C=CZ/CN=Ann`: an attribute begins at a `/`, or with escapes a `+`, that is not
/// escaped, with a type and `=`.
fn oneline(text: &str, escaped: bool) -> Vec<Pair> {
    let bytes = text.as_bytes();
    let starts: Vec<usize> = (0..bytes.len())
        .filter(|&place| {
            let separator = bytes[place] == b'/' || escaped && bytes[place] == b'+';
            separator && !(escaped && place > 0 && bytes[place - 1] == b'\\')
        })
        .filter(|&place| {
            let after = &bytes[place + 1..];
            let name = after
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'.');
            let len = name.count();
            len > 0 && after.get(len) == Some(&b'=')
        })
        .collect();
    assert_eq!(starts.first(), Some(&0), "{text}");
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            let (name, value) = text[start + 1..end].split_once('=').unwrap();
            let value = if escaped {
                unescaped(value)
            } else {
                value.as_bytes().to_vec()
            };
            (name.to_owned(), value)
        })
        .collect()
}

fn unescaped(value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    loop {
        match rest {
            [] => return bytes,
            [b'\\', b'x', _, _, after @ ..] => {
                let digits = std::str::from_utf8(&rest[2..4]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = after;
            }
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
}

/// Go's text has its own order of types and loses all but the last CN and SERIALNUMBER. What it
/// looks like in order is in the tests of `certificate::name` and t/headers/030-dialect-origins.t.
fn go(text: &str, name: &X509NameRef, what: &str) {
    const NAMED: [(&str, &str); 9] = [
        ("CN", "CN"),
        ("serialNumber", "SERIALNUMBER"),
        ("C", "C"),
        ("O", "O"),
        ("OU", "OU"),
        ("L", "L"),
        ("ST", "ST"),
        ("street", "STREET"),
        ("postalCode", "POSTALCODE"),
    ];
    let mut expected = Vec::new();
    for entry in name.entries() {
        let value = to_utf8(entry.data()).unwrap();
        let short = entry.object().nid().short_name().unwrap_or_default();
        let named = NAMED.iter().find(|(openssl, _)| *openssl == short);
        let go = match named {
            Some((_, go)) => (*go).to_owned(),
            None => oid(entry.object()),
        };
        if ["CN", "SERIALNUMBER"].contains(&&*go) {
            expected.retain(|(name, _)| *name != go);
            if value.is_empty() {
                continue;
            }
        }
        expected.push((go, value));
    }
    let mut read = rfc2253(text);
    read.sort();
    expected.sort();
    assert_eq!(read, expected, "{what}");
}

/// A reader of Traefik's Info: the quotes cannot occur inside, commas in a DN begin an attribute
/// only before a known type.
fn traefik(value: &str, certificate: &Certificate, what: &str) {
    let text = String::from_utf8(percent_decoded(&value.replace('+', " "))).unwrap();
    // Certificates are joined with `,`, their fields with `;`.
    let mut certificates = vec![Vec::new()];
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"").unwrap();
        let (field, after) = after.split_once('"').unwrap();
        let fields = certificates.last_mut().unwrap();
        fields.push((key.to_owned(), field.to_owned()));
        rest = match after.split_at_checked(1) {
            None => "",
            Some((";", after)) => after,
            Some((",", after)) => {
                certificates.push(Vec::new());
                after
            }
            Some(_) => panic!("{what}"),
        };
    }
    assert_eq!(
        certificates.len(),
        1 + certificate.intermediates().len(),
        "{what}"
    );
    for (key, field) in &certificates[0] {
        match &**key {
            "Subject" => {
                assert_eq!(
                    traefik_dn(field),
                    traefik_pairs(certificate.leaf().subject_name())
                );
            }
            "SerialNumber" => {
                assert_eq!(
                    BigNum::from_dec_str(field).unwrap(),
                    serial(certificate),
                    "{what}"
                );
            }
            "NB" => assert_eq!(field, &certificate.not_before().unwrap().to_string()),
            "NA" => assert_eq!(field, &certificate.not_after().unwrap().to_string()),
            "SAN" => {
                let mut read: Vec<_> = field.split(',').map(str::to_owned).collect();
                let mut names = texts(certificate, |name| !matches!(name, San::Directory { .. }));
                read.sort();
                names.sort();
                assert_eq!(read, names, "{what}");
            }
            "Issuer" => {}
            other => panic!("{other} in {what}"),
        }
    }
}

const TRAEFIK: [(&str, &str); 8] = [
    ("DC", "DC"),
    ("C", "C"),
    ("ST", "ST"),
    ("L", "L"),
    ("O", "O"),
    ("OU", "OU"),
    ("serialNumber", "SN"),
    ("CN", "CN"),
];

fn traefik_dn(text: &str) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    for part in text.split(',') {
        match part.split_once('=') {
            Some((name, value)) if TRAEFIK.iter().any(|(_, known)| *known == name) => {
                pairs.push((name.to_owned(), value.into()));
            }
            _ => {
                let (_, value) = pairs.last_mut().unwrap();
                value.push(b',');
                value.extend(part.bytes());
            }
        }
    }
    pairs
}

fn traefik_pairs(name: &X509NameRef) -> Vec<Pair> {
    let all = pairs(name);
    let mut expected = Vec::new();
    for (short, traefik) in TRAEFIK {
        let mut values: Vec<_> = all.iter().filter(|(name, _)| name == short).collect();
        if ["SN", "CN"].contains(&traefik) {
            values = values.pop().into_iter().collect();
        }
        for (_, value) in values.into_iter().filter(|(_, value)| !value.is_empty()) {
            expected.push((traefik.to_owned(), value.clone()));
        }
    }
    expected
}

#[test]
fn every_dialect_is_read_back() {
    let awkward = awkward();
    let client = ClientInfo {
        issuer: Some(&awkward.issuer),
        ..client(&awkward.certificate)
    };
    for (dialect, options) in dialect_options() {
        for header in dialect.headers() {
            match header.values(&client, &options) {
                Ok(values) if !values.is_empty() => {
                    check(dialect, header.key, &values, &awkward.certificate);
                }
                Ok(_) => {}
                Err(why) => assert_eq!(why.kind(), "ambiguous", "{dialect:?} {}", header.key),
            }
        }
    }
}

#[test]
fn traefik_info_is_what_go_writes() {
    let certificate = Template {
        subject: name(&[
            ("CN", UTF8, b"Smith #1/x"),
            ("O", UTF8, "Žluť Widgets + Sons".as_bytes()),
            ("OU", UTF8, b"R&D Lab=7"),
            ("C", PRINTABLE, b"CZ"),
            ("DC", IA5, b"example"),
            ("L", UTF8, b""),
        ]),
        issuer: name(&[("OU", UTF8, b"unseen"), ("O", UTF8, b"Example Lab")]),
        serial: "-7F".to_owned(),
        extensions: vec![san(&[
            (SAN_URI, b"spiffe://example.org/ns/prod/sa/ann"),
            (SAN_IP, &[192, 0, 2, 7]),
            (SAN_EMAIL, b"ann@example.com"),
            (SAN_DNS, b"ann.example.com"),
        ])],
        ..Template::default()
    };
    let certificate = certificate.alone(&key());
    let value = Dialect::Traefik.value("info", &client(&certificate), &DialectOptions::default());
    assert_eq!(
        value.unwrap().unwrap(),
        "Subject%3D%22DC%3Dexample%2CC%3DCZ%2CO%3D%C5%BDlu%C5%A5+Widgets+%2B+Sons%2C\
         OU%3DR%26D+Lab%3D7%2CCN%3DSmith+%231%2Fx%22%3BIssuer%3D%22O%3DExample+Lab%22%3B\
         SerialNumber%3D%22-127%22%3BNB%3D%221767323045%22%3BNA%3D%221893553445%22%3B\
         SAN%3D%22ann.example.com%2Cann%40example.com%2C192.0.2.7%2C\
         spiffe%3A%2F%2Fexample.org%2Fns%2Fprod%2Fsa%2Fann%22"
    );
}
