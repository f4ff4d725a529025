//! Parses header values as the readers of each dialect do, and compares the result with the
//! certificate. `fuzz/` includes this file too.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use openssl::x509::{X509NameEntryRef, X509NameRef};

use super::*;
use crate::certificate::San;
use crate::openssl_ext::x509::{oid, to_utf8};

const SEQUENCE: u8 = 0x30;

/// Type and value of an attribute.
type Attribute = (String, Vec<u8>);

/// Fails unless every line of the dialect for a client with a certificate is one line, under a name
/// that inbound requests cannot use, and is read back.
pub fn check_dialect(dialect: Dialect, options: &DialectOptions, client: &ClientInfo) {
    let mut config = DialectConfig::new(dialect, options.clone());
    for header in dialect.headers() {
        if header.name.is_none() {
            config.rename(header.key, Some(header.key)).unwrap();
        }
    }
    let reserved = config.reserved_names();
    for (name, value) in config.render(client).lines {
        assert!(
            reserved.iter().any(|reserved| **reserved == *name),
            "{dialect:?} {name}"
        );
        check_line(dialect, &name, &value);
    }
    for header in dialect.headers() {
        let values = header.values(client, options).unwrap_or_default();
        if !values.is_empty() {
            check_header(dialect, header.key, &values, client.certificate.unwrap());
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

/// Fails unless a reader of this header gets the values of the certificate.
pub fn check_header(dialect: Dialect, key: &str, values: &[String], certificate: &Certificate) {
    let leaf = certificate.leaf();
    let der = leaf.to_der().unwrap();
    let mut chain = Vec::new();
    for intermediate in certificate.intermediates() {
        chain.push(intermediate.to_der().unwrap());
    }
    let whole_chain: Vec<_> = std::iter::once(&der).chain(&chain).cloned().collect();
    let value = values[0].as_str();
    let (subject, issuer) = (leaf.subject_name(), leaf.issuer_name());
    let context = format!("{dialect:?} {key}: {value}");

    match (dialect, key) {
        (_, "ssl_client_escaped_cert" | "leaf" | "pem" | "client_cert") if value.contains('%') => {
            assert_eq!(ders_of_pem(&percent_decoded(value)), [der], "{context}");
        }
        (Dialect::Kong, "client_cert_chain") | (Dialect::AwsAlb, "clientcert") => {
            assert_eq!(
                ders_of_pem(&percent_decoded(value)),
                whole_chain,
                "{context}"
            );
        }
        (Dialect::Apache, "SSL_CLIENT_CERT") => {
            assert_eq!(ders_of_pem(&with_line_feeds(value)), [der], "{context}")
        }
        (Dialect::Apache, "SSL_CLIENT_CERT_CHAIN_") => {
            let read: Vec<_> = values
                .iter()
                .flat_map(|value| ders_of_pem(&with_line_feeds(value)))
                .collect();
            assert_eq!(read, chain, "{context}");
        }
        (
            _,
            "certificate"
            | "certificate_der_base64"
            | "der_base64"
            | "ssl_c_der"
            | "SSL_CLIENT_B64CERT",
        ) => assert_eq!(STANDARD.decode(value).unwrap(), der, "{context}"),
        (_, "ssl_c_chain_der") => {
            assert_eq!(STANDARD.decode(value).unwrap(), chain.concat(), "{context}");
        }
        (Dialect::Traefik, "pem") => {
            let read: Vec<_> = value
                .split(',')
                .map(|body| STANDARD.decode(body).unwrap())
                .collect();
            assert_eq!(read, whole_chain, "{context}");
        }
        (_, "client_cert" | "client_cert_leaf" | "certRFC9440") => {
            assert_eq!(byte_sequence(value), der, "{context}");
        }
        (_, "client_cert_chain" | "certChainRFC9440") => {
            assert_eq!(byte_sequences(value), chain, "{context}");
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
            assert_eq!(
                parse_rfc2253(value),
                rfc2253_attributes(subject),
                "{context}"
            );
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
            assert_eq!(
                parse_rfc2253(value),
                rfc2253_attributes(issuer),
                "{context}"
            );
        }
        (Dialect::Caddy, "subject") => check_go_name(value, subject, &context),
        (Dialect::Caddy, "issuer") => check_go_name(value, issuer, &context),
        (Dialect::Gcp, "client_cert_subject_dn") => {
            assert_eq!(
                STANDARD.decode(value).unwrap(),
                subject.to_der().unwrap(),
                "{context}"
            );
        }
        (Dialect::Gcp, "client_cert_issuer_dn") => {
            assert_eq!(
                STANDARD.decode(value).unwrap(),
                issuer.to_der().unwrap(),
                "{context}"
            );
        }
        (_, "certSubjectDNLegacy" | "ssl_client_s_dn_legacy") => {
            assert_eq!(parse_oneline(value, true), attributes(subject), "{context}");
        }
        (_, "certIssuerDNLegacy" | "ssl_client_i_dn_legacy") => {
            assert_eq!(parse_oneline(value, true), attributes(issuer), "{context}");
        }
        (Dialect::Haproxy, "ssl_c_s_dn") => {
            assert_eq!(
                parse_oneline(value, false),
                attributes(subject),
                "{context}"
            );
        }
        (Dialect::Haproxy, "ssl_c_i_dn") => {
            assert_eq!(parse_oneline(value, false), attributes(issuer), "{context}");
        }
        (Dialect::Haproxy, "ssl_c_s_dn(cn)") => {
            let first = attributes(subject)
                .into_iter()
                .find(|(name, _)| name == "CN")
                .unwrap()
                .1;
            assert_eq!(value.as_bytes(), first, "{context}");
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
            assert_eq!(read, names, "{context}");
        }
        (Dialect::Apache, "SSL_CLIENT_SAN_Email_") => {
            assert_eq!(
                values,
                san_values(certificate, |name| matches!(name, San::Email(_))),
                "{context}"
            );
        }
        (Dialect::Apache, "SSL_CLIENT_SAN_DNS_") => {
            assert_eq!(
                values,
                san_values(certificate, |name| matches!(name, San::Dns(_))),
                "{context}"
            );
        }
        (Dialect::Traefik, "info") => check_traefik_info(value, certificate, &context),
        (Dialect::Xfcc, "xfcc") => check_xfcc(value, certificate, &context),
        (Dialect::Gcp, "client_cert_spiffe_id") => {
            assert!(
                san_values(certificate, |name| matches!(name, San::Uri(_))).contains(&values[0])
            );
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
            assert_eq!(read, names, "{context}");
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
            "{context}"
        ),
        (_, "serial_number") => {
            let read = BigNum::from_hex_str(&value.replace(':', "")).unwrap();
            assert_eq!(read, serial(certificate), "{context}");
        }
        (_, "serial") => {
            assert_eq!(
                BigNum::from_dec_str(value).unwrap(),
                serial(certificate),
                "{context}"
            );
        }
        _ => {}
    }
}

fn serial(certificate: &Certificate) -> BigNum {
    certificate.leaf().serial_number().to_bn().unwrap()
}

fn san_values(certificate: &Certificate, is_wanted: fn(&San) -> bool) -> Vec<String> {
    let names = certificate.san();
    let names = names.iter().filter(|name| is_wanted(name));
    names
        .map(|name| String::from_utf8_lossy(&name.value()).into_owned())
        .collect()
}

/// Fails unless three kinds of readers find the same pairs, and these are those of the certificate:
/// one that removes a layer of backslashes (the crate xfcc-parser; Envoy's own parser gives the
/// same result if there are no backslashes), one that returns quoted values unchanged (Istio's),
/// and one that handles neither quotes nor escapes (Keycloak's). `Subject`, `URI` and `DNS` may be
/// left out.
fn check_xfcc(value: &str, certificate: &Certificate, context: &str) {
    let raw = xfcc_unescaped_pairs(value).unwrap_or_else(|| panic!("{context}"));
    let elements = xfcc_parser::element_list(value.as_bytes()).unwrap();
    assert_eq!(elements.len(), 1, "{context}");
    let element = &elements[0];
    let values_of = |key: &str| -> Vec<&str> {
        let pairs = raw.iter().filter(|(name, _)| *name == key);
        pairs.map(|(_, value)| *value).collect()
    };
    let parsed = [
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
    for (key, theirs) in parsed {
        // The crate does not distinguish an empty value from an absent one.
        let mut ours = values_of(key);
        ours.retain(|value| !value.is_empty());
        assert_eq!(theirs, ours, "{key} of {context}");
    }
    let naive: Vec<_> = value
        .split(';')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(key, value)| (key, value.trim_matches('"')))
        .collect();
    assert_eq!(naive, raw, "{context}");

    assert_eq!(
        values_of("Hash"),
        [certificate.fingerprint_sha256()],
        "{context}"
    );
    let mut whole_chain = vec![certificate.leaf().to_der().unwrap()];
    let leaf = whole_chain.clone();
    for certificate in certificate.intermediates() {
        whole_chain.push(certificate.to_der().unwrap());
    }
    for (key, expected) in [("Cert", leaf), ("Chain", whole_chain)] {
        if let [text] = *values_of(key) {
            assert_eq!(ders_of_pem(&percent_decoded(text)), expected, "{context}");
        }
    }
    match *values_of("Subject") {
        [] => {}
        [text] => {
            let name = rfc2253_attributes(certificate.leaf().subject_name());
            assert_eq!(parse_rfc2253(text), name, "{context}");
            // A reader that handles no escapes finds the same attributes.
            let naive: Vec<Attribute> = text
                .split(',')
                .filter(|pair| !pair.is_empty())
                .map(|pair| pair.split_once('=').unwrap())
                .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
                .collect();
            assert_eq!(naive, name, "{context}");
        }
        _ => panic!("{context}"),
    }
    let is_uri = |name: &San| matches!(name, San::Uri(_));
    let is_dns = |name: &San| matches!(name, San::Dns(_));
    for (key, expected) in [
        ("URI", san_values(certificate, is_uri)),
        ("DNS", san_values(certificate, is_dns)),
    ] {
        let read = values_of(key);
        // Envoy writes `URI=` for a certificate without a URI.
        if !(read.is_empty() || read == [""] && expected.is_empty()) {
            assert_eq!(read, expected, "{key} of {context}");
        }
    }
}

/// A model of github.com/alecholmes/xfccparser, from its observed behaviour: a quoted value ends at
/// a quote without a backslash before it and is returned unchanged, a bare one contains no
/// delimiter. t/headers/readers/xfcc/xfccparser.go runs the module itself if it is installed.
fn xfcc_unescaped_pairs(value: &str) -> Option<Vec<(&str, &str)>> {
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

fn ders_of_pem(text: &[u8]) -> Vec<Vec<u8>> {
    let read = X509::stack_from_pem(text).unwrap();
    read.iter()
        .map(|certificate| certificate.to_der().unwrap())
        .collect()
}

/// Replaces spaces with line feeds as Tomcat's SSLValve does, except those of BEGIN and END.
fn with_line_feeds(value: &str) -> Vec<u8> {
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

/// Short name or OID, and value in UTF-8, of each attribute.
fn attributes(name: &X509NameRef) -> Vec<Attribute> {
    let value = |entry: &X509NameEntryRef| to_utf8(entry.data()).unwrap();
    name.entries()
        .map(|entry| (type_of(entry), value(entry)))
        .collect()
}

/// The attributes in the order of RFC 2253. A value that is written in hexadecimal is its encoded
/// content.
fn rfc2253_attributes(name: &X509NameRef) -> Vec<Attribute> {
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

/// Parses a name of RFC 2253: `\` before a character or two digits, `#` before DER in hexadecimal.
fn parse_rfc2253(text: &str) -> Vec<Attribute> {
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
            Some(digits) => (name, content_of_hex(digits)),
        })
        .collect()
}

/// Content of one DER element in hexadecimal, as OpenSSL stores it: a BIT STRING without its count
/// of unused bits, a SEQUENCE with its header.
fn content_of_hex(digits: &str) -> Vec<u8> {
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

/// Parses `/C=CZ/CN=Ann`: an attribute begins at a `/` that is not escaped (or, with escapes, a
/// `+`) and that a type and `=` follow.
fn parse_oneline(text: &str, escaped: bool) -> Vec<Attribute> {
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
                remove_escapes(value)
            } else {
                value.as_bytes().to_vec()
            };
            (name.to_owned(), value)
        })
        .collect()
}

fn remove_escapes(value: &str) -> Vec<u8> {
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

/// Compares a name in the text form of Go, which has its own order of types and drops all but the
/// last CN and SERIALNUMBER. The tests of `certificate::name` and t/headers/030-dialect-origins.t
/// check the order.
fn check_go_name(text: &str, name: &X509NameRef, context: &str) {
    const GO_TYPES: [(&str, &str); 9] = [
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
        let go_type = GO_TYPES.iter().find(|(openssl, _)| *openssl == short);
        let go = match go_type {
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
    let mut read = parse_rfc2253(text);
    read.sort();
    expected.sort();
    assert_eq!(read, expected, "{context}");
}

/// Parses Traefik's Info: a field contains no quotes, and a comma in a DN begins an attribute only
/// before a known type.
fn check_traefik_info(value: &str, certificate: &Certificate, context: &str) {
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
            Some(_) => panic!("{context}"),
        };
    }
    assert_eq!(
        certificates.len(),
        1 + certificate.intermediates().len(),
        "{context}"
    );
    for (key, field) in &certificates[0] {
        match &**key {
            "Subject" => {
                assert_eq!(
                    parse_traefik_dn(field),
                    traefik_attributes(certificate.leaf().subject_name())
                );
            }
            "SerialNumber" => {
                assert_eq!(
                    BigNum::from_dec_str(field).unwrap(),
                    serial(certificate),
                    "{context}"
                );
            }
            "NB" => assert_eq!(field, &certificate.not_before().unwrap().to_string()),
            "NA" => assert_eq!(field, &certificate.not_after().unwrap().to_string()),
            "SAN" => {
                let mut read: Vec<_> = field.split(',').map(str::to_owned).collect();
                let mut names =
                    san_values(certificate, |name| !matches!(name, San::Directory { .. }));
                read.sort();
                names.sort();
                assert_eq!(read, names, "{context}");
            }
            "Issuer" => {}
            other => panic!("{other} in {context}"),
        }
    }
}

/// Short names of OpenSSL and the types that Traefik writes for them.
const TRAEFIK_TYPES: [(&str, &str); 8] = [
    ("DC", "DC"),
    ("C", "C"),
    ("ST", "ST"),
    ("L", "L"),
    ("O", "O"),
    ("OU", "OU"),
    ("serialNumber", "SN"),
    ("CN", "CN"),
];

fn parse_traefik_dn(text: &str) -> Vec<Attribute> {
    let mut pairs: Vec<Attribute> = Vec::new();
    for part in text.split(',') {
        match part.split_once('=') {
            Some((name, value)) if TRAEFIK_TYPES.iter().any(|(_, known)| *known == name) => {
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

fn traefik_attributes(name: &X509NameRef) -> Vec<Attribute> {
    let all = attributes(name);
    let mut expected = Vec::new();
    for (short, traefik) in TRAEFIK_TYPES {
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
    let issued = certificate_with_special_characters();
    let client = ClientInfo {
        issuer: Some(&issued.issuer),
        ..client(&issued.certificate)
    };
    for (dialect, options) in dialect_options() {
        for header in dialect.headers() {
            match header.values(&client, &options) {
                Ok(values) if !values.is_empty() => {
                    check_header(dialect, header.key, &values, &issued.certificate);
                }
                Ok(_) => {}
                Err(why) => assert_eq!(why.kind(), "ambiguous", "{dialect:?} {}", header.key),
            }
        }
    }
}

#[test]
fn traefik_info_equals_that_of_traefik() {
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
    let certificate = certificate.issue_without_chain(&key());
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
