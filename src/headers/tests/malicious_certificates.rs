//! Certificates that try to break a header line, or to be read as another certificate.

use super::*;

/// Checks every header line of every dialect for this certificate.
fn check_all_dialects(certificate: &Certificate) {
    let client = ClientInfo {
        issuer: Some(certificate.leaf()),
        ..client(certificate)
    };
    for (dialect, options) in dialect_options() {
        readers::check_dialect(dialect, &options, &client);
    }
}

/// Values with line breaks, delimiters and escapes of the dialects, and non-ASCII characters.
const MALICIOUS_VALUES: &[&str] = &[
    "a\r\nX-Admin: 1",
    "a\nb",
    "a\rb",
    "a\0b",
    "\"",
    "a\",CN=\"admin",
    "a\";Issuer=\"CN=admin",
    "a;b",
    "a,CN=admin",
    "a, CN=admin",
    "a,b",
    "a+CN=admin",
    "a/CN=admin",
    "a/b",
    "a\\/CN=admin",
    "a\\",
    "\\",
    "\\x41",
    "\\41",
    "\\C5\\BD",
    "a=b",
    "=",
    "%0D%0A",
    "100%",
    "$host",
    "#41",
    "#0c0141",
    " a",
    "a ",
    " ",
    "",
    "<a>",
    "a\tb",
    "a\u{7f}b",
    "\u{85}",
    "\u{a0}a",
    "\u{2028}",
    "Ž",
    "ﬀ",
    "\u{1f600}",
    "a,By=x",
    "a;URI=spiffe://admin",
    "a:b, DNS:admin",
    "-----BEGIN CERTIFICATE-----",
];

/// Each value in each string type that can hold it, and bytes that are not valid in any encoding.
fn encoded_values() -> Vec<(u8, Vec<u8>)> {
    let mut contents = Vec::new();
    for text in MALICIOUS_VALUES {
        for tag in [UTF8, PRINTABLE, IA5, TELETEX] {
            contents.push((tag, text.as_bytes().to_vec()));
        }
        contents.push((
            BMP,
            text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        ));
        contents.push((
            UNIVERSAL,
            text.chars()
                .flat_map(|c| (c as u32).to_be_bytes())
                .collect(),
        ));
    }
    // CJK characters whose octets are ASCII.
    contents.push((BMP, b"/CN=admin!".to_vec()));
    contents.push((UNIVERSAL, b"\0\0AB".to_vec()));
    for bytes in [
        &b"\xff"[..],
        b"a\xc5",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xe9\xe8",
        b"\x80\r\n",
    ] {
        for tag in [UTF8, PRINTABLE, IA5, TELETEX] {
            contents.push((tag, bytes.to_vec()));
        }
    }
    contents.push((BIT_STRING, vec![0, 0xaa]));
    contents
}

#[test]
fn subjects_of_every_string_type_are_read_back_or_left_out() {
    let key = key();
    let mut checked = 0;
    for (tag, content) in encoded_values() {
        let content = content.as_slice();
        let last = ("OU", UTF8, &b"last"[..]);
        for attributes in [
            &[("C", PRINTABLE, &b"CZ"[..]), ("CN", tag, content), last][..],
            &[("O", tag, content), last],
            &[("1.2.3.4.5", tag, content), last],
            // The value is at both ends of the printed name.
            &[("O", tag, content), ("CN", tag, content)],
        ] {
            let (Some(subject), Some(issuer)) = (try_name(attributes), try_name(attributes)) else {
                continue;
            };
            checked += 1;
            check_all_dialects(
                &Template {
                    subject,
                    issuer,
                    ..Template::default()
                }
                .issue_without_chain(&key),
            );
        }
    }
    assert!(checked > 4 * MALICIOUS_VALUES.len() * 5, "{checked}");
}

#[test]
fn multi_valued_rdns_are_read_back() {
    let pair = |oid: &str, value: &[u8]| {
        let oid = Asn1Object::from_str(oid).unwrap();
        der(
            0x30,
            &[der(0x06, oid.as_slice()), der(UTF8, value)].concat(),
        )
    };
    let rdns = [
        der(0x31, &pair("C", b"CZ")),
        der(
            0x31,
            &[pair("CN", b"a+b"), pair("UID", b"7"), pair("1.2.3", b"x")].concat(),
        ),
        der(0x31, &[pair("OU", b"1"), pair("OU", b"2")].concat()),
    ];
    let subject = X509Name::from_der(&der(0x30, &rdns.concat())).unwrap();
    let certificate = Template {
        subject,
        ..Template::default()
    }
    .issue_without_chain(&key());
    check_all_dialects(&certificate);
    let value = |dialect: Dialect, key| {
        dialect
            .value(key, &client(&certificate), &DialectOptions::default())
            .unwrap()
            .unwrap()
    };
    assert_eq!(
        value(Dialect::Nginx, "ssl_client_s_dn_legacy"),
        "/C=CZ/CN=a\\+b+UID=7+1.2.3=x/OU=1+OU=2"
    );
    assert_eq!(
        value(Dialect::Haproxy, "ssl_c_s_dn"),
        "/C=CZ/CN=a+b/UID=7/1.2.3=x/OU=1/OU=2"
    );
}

#[test]
fn alternative_names_are_read_back_or_left_out() {
    let key = key();
    let mut contents: Vec<Vec<u8>> = MALICIOUS_VALUES
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .collect();
    contents.extend([
        b"\xff".to_vec(),
        b"a\xc5".to_vec(),
        b"spiffe://a;b,c=\"d\"\\".to_vec(),
    ]);
    for content in &contents {
        for tag in [SAN_DNS, SAN_URI, SAN_EMAIL] {
            let extensions = vec![san(&[
                (SAN_DNS, b"first"),
                (tag, content),
                (SAN_DNS, b"last"),
            ])];
            check_all_dialects(
                &Template {
                    extensions,
                    ..Template::default()
                }
                .issue_without_chain(&key),
            );
        }
    }
    for octets in [&[][..], &[1, 2, 3], &[0; 4], &[0; 5], &[0; 16], &[0; 17]] {
        let extensions = vec![san(&[(SAN_IP, octets)])];
        check_all_dialects(
            &Template {
                extensions,
                ..Template::default()
            }
            .issue_without_chain(&key),
        );
    }
    for content in [&b"\x30\x82"[..], b"\x30\x03\x82\x01a\x05\0"] {
        let certificate = Template {
            extensions: vec![extension("2.5.29.17", content)],
            ..Template::default()
        }
        .issue_without_chain(&key);
        check_all_dialects(&certificate);
        let lines = DialectConfig::new(Dialect::Xfcc, DialectOptions::default())
            .render(&client(&certificate));
        assert_eq!(lines.lines, []);
        assert_eq!(
            lines.left_out[0].1.to_string(),
            "the subject alternative names cannot be read"
        );
    }
}

#[test]
fn serials_of_any_length_and_sign_are_read_back() {
    let key = key();
    for serial in [
        "0",
        "-01",
        "-80",
        "80",
        "FF",
        &"9A".repeat(35),
        &"9A".repeat(36),
        &"F".repeat(400),
    ] {
        let certificate = Template {
            serial: serial.to_owned(),
            ..Template::default()
        }
        .issue_without_chain(&key);
        check_all_dialects(&certificate);
        let value = |dialect: Dialect, key| {
            dialect
                .value(key, &client(&certificate), &DialectOptions::default())
                .unwrap()
                .unwrap()
        };
        if serial == "0" {
            assert_eq!(value(Dialect::CloudFront, "serial_number"), "00");
            assert_eq!(value(Dialect::Caddy, "serial"), "0");
        }
        if serial == "-80" {
            assert_eq!(value(Dialect::CloudFront, "serial_number"), "-80");
            assert_eq!(value(Dialect::Nginx, "ssl_client_serial"), "-80");
            assert_eq!(value(Dialect::Caddy, "serial"), "-128");
        }
    }
    let long = Template {
        serial: "9A".repeat(51),
        ..Template::default()
    }
    .issue_without_chain(&key);
    let lines = DialectConfig::new(Dialect::Gcp, DialectOptions::default()).render(&client(&long));
    let error = lines
        .lines
        .iter()
        .find(|(name, _)| &**name == "X-Client-Cert-Error")
        .unwrap();
    assert_eq!(error.1, "client_cert_serial_number_exceeded_size_limit");
}

#[test]
fn years_outside_1950_to_2049_are_left_out_of_two_digit_dates() {
    let key = key();
    let validity = (-2_208_988_800, 253_402_300_799);
    let certificate = Template {
        validity,
        ..Template::default()
    }
    .issue_without_chain(&key);
    check_all_dialects(&certificate);
    let client = client(&certificate);
    let options = DialectOptions::default();
    let value = |dialect: Dialect, key| dialect.value(key, &client, &options);
    assert_eq!(
        value(Dialect::Nginx, "ssl_client_v_end").unwrap().unwrap(),
        "Dec 31 23:59:59 9999 GMT"
    );
    assert_eq!(
        value(Dialect::Haproxy, "ssl_c_notafter")
            .unwrap_err()
            .to_string(),
        "ssl_c_notafter left out: a year outside 1950 to 2049 cannot be written with two digits"
    );
    assert_eq!(
        value(Dialect::Haproxy, "ssl_c_notbefore")
            .unwrap_err()
            .code(),
        crate::error::Code::LeftOut
    );
}

#[test]
fn large_certificates_are_forwarded_whole_or_not_at_all() {
    let key = key();
    let names: Vec<String> = (0..1000).map(|n| format!("host-{n}.example.com")).collect();
    let many: Vec<_> = names
        .iter()
        .map(|name| (SAN_DNS, name.as_bytes()))
        .collect();
    let certificate = Template {
        extensions: vec![san(&many)],
        ..Template::default()
    }
    .issue_without_chain(&key);
    check_all_dialects(&certificate);
    let lines =
        DialectConfig::new(Dialect::Xfcc, DialectOptions::default()).render(&client(&certificate));
    assert_eq!(
        lines.lines,
        [("x-forwarded-client-cert-Too-Large".into(), "1".to_owned())]
    );
    assert_eq!(lines.left_out[0].1.kind(), "too_large");
    let lines = DialectConfig::new(Dialect::Apache, DialectOptions::default())
        .render(&client(&certificate));
    let flag = ("SSL_CLIENT_SAN_DNS-Too-Large".into(), "1".to_owned());
    assert!(lines.lines.contains(&flag));
    let why = lines
        .left_out
        .iter()
        .find(|(name, _)| &**name == "SSL_CLIENT_SAN_DNS_")
        .unwrap();
    assert_eq!(why.1.to_string(), "1000 values are over the limit of 16");

    let value = "x".repeat(8 * 1024);
    let dn = || name(&[("CN", UTF8, value.as_bytes())]);
    let certificate = Template {
        subject: dn(),
        issuer: dn(),
        ..Template::default()
    }
    .issue_without_chain(&key);
    check_all_dialects(&certificate);
    let subject = Dialect::Nginx.value(
        "ssl_client_s_dn",
        &client(&certificate),
        &DialectOptions::default(),
    );
    assert_eq!(subject.unwrap().unwrap(), format!("CN={value}"));

    let extensions = vec![extension("1.2.3.4", &vec![0x5a; 45 * 1024])];
    let certificate = Template {
        extensions,
        ..Template::default()
    }
    .issue_without_chain(&key);
    check_all_dialects(&certificate);
    for (dialect, expected) in [
        (Dialect::Rfc9440, "Client-Cert-Too-Large"),
        (
            Dialect::CloudflareForwarding,
            "Cf-Client-Cert-Der-Base64-Too-Large",
        ),
        (Dialect::Nginx, "ssl-client-cert-Too-Large"),
        (Dialect::Apache, "SSL_CLIENT_CERT-Too-Large"),
        (Dialect::Haproxy, "X-SSL-Client-Cert-Too-Large"),
        (Dialect::Traefik, "X-Forwarded-Tls-Client-Cert-Too-Large"),
        (Dialect::AwsAlb, "X-Amzn-Mtls-Clientcert-Leaf-Too-Large"),
        (Dialect::CloudFront, "CloudFront-Viewer-Cert-Pem-Too-Large"),
        (Dialect::Azure, "X-ARR-ClientCert-Too-Large"),
        (
            Dialect::Caddy,
            "X-Tls-Client-Certificate-Der-Base64-Too-Large",
        ),
        (Dialect::Kong, "X-Client-Cert-Too-Large"),
    ] {
        let lines =
            DialectConfig::new(dialect, DialectOptions::default()).render(&client(&certificate));
        assert!(
            lines.lines.contains(&(expected.into(), "1".to_owned())),
            "{dialect:?}"
        );
    }
    let lines =
        DialectConfig::new(Dialect::Gcp, DialectOptions::default()).render(&client(&certificate));
    let error = lines
        .lines
        .iter()
        .find(|(name, _)| &**name == "X-Client-Cert-Error")
        .unwrap();
    assert_eq!(error.1, "client_cert_leaf_exceeded_size_limit");
    let raised = DialectOptions {
        max_bytes: Some(64 * 1024),
        ..DialectOptions::default()
    };
    let lines = DialectConfig::new(Dialect::Rfc9440, raised).render(&client(&certificate));
    assert_eq!(&*lines.lines[0].0, "Client-Cert");
}

/// The headers of a dialect for a certificate with this subject.
fn render_subject(dialect: Dialect, attributes: &[(&str, u8, &[u8])]) -> RenderedHeaders {
    let subject = name(attributes);
    let certificate = Template {
        subject,
        ..Template::default()
    };
    let certificate = certificate.issue_without_chain(&key());
    check_all_dialects(&certificate);
    DialectConfig::new(dialect, DialectOptions::default()).render(&client(&certificate))
}

#[test]
fn xfcc_leaves_out_a_subject_that_can_be_read_as_another() {
    let left_out = |attributes: &[(&str, u8, &[u8])]| {
        let lines = render_subject(Dialect::Xfcc, attributes);
        let [(_, value)] = lines.lines.as_slice() else {
            panic!("{attributes:?}");
        };
        assert!(
            !value.contains(['\\', '"']) && !value.contains("admin"),
            "{value}"
        );
        let [(name, why)] = lines.left_out.as_slice() else {
            panic!("{attributes:?}");
        };
        assert_eq!(
            (&**name, why.kind()),
            ("x-forwarded-client-cert: Subject", "ambiguous")
        );
        why.to_string()
    };
    let of_value =
        |attribute: &str| format!("the value of '{attribute}' would be read as something else");
    for value in MALICIOUS_VALUES {
        let special = |c: char| !(' '..='~').contains(&c) || ",+\"\\<>;=#".contains(c);
        if value.is_empty() || value.trim() != *value || value.contains(special) {
            assert_eq!(
                left_out(&[("CN", UTF8, value.as_bytes())]),
                of_value("CN"),
                "{value:?}"
            );
        }
    }
    // An attacker chooses a value that contains the name of another client.
    assert_eq!(left_out(&[("CN", UTF8, b"a,CN=admin")]), of_value("CN"));
    assert_eq!(
        left_out(&[("CN", UTF8, b"alice"), ("O", UTF8, b"x,CN=admin")]),
        of_value("O")
    );
    // Ordinary names that RFC 2253 escapes.
    assert_eq!(
        left_out(&[("O", UTF8, b"DigiCert, Inc."), ("CN", UTF8, b"a")]),
        of_value("O")
    );
    assert_eq!(
        left_out(&[("CN", UTF8, "Žofie".as_bytes())]),
        of_value("CN")
    );
    assert_eq!(left_out(&[("1.2.3.4", UTF8, b"a")]), of_value("1.2.3.4"));
    assert_eq!(
        left_out(&[("CN", UTF8, b"a"), ("CN", UTF8, b"b")]),
        "'CN' has several values, of which readers use one"
    );
}

#[test]
fn xfcc_has_the_subject_of_a_plain_name_and_keeps_other_keys_when_one_is_left_out() {
    let lines = render_subject(
        Dialect::Xfcc,
        &[
            ("C", PRINTABLE, b"US"),
            ("DC", IA5, b"example"),
            ("DC", IA5, b"com"),
            ("O", UTF8, b"Example Corp. (Prague) - R&D"),
            ("emailAddress", IA5, b"ann@example.com"),
            ("CN", UTF8, b"Ann O'Neil"),
        ],
    );
    assert_eq!(lines.left_out, []);
    let (_, value) = &lines.lines[0];
    let subject = "Subject=\"CN=Ann O'Neil,emailAddress=ann@example.com,\
                   O=Example Corp. (Prague) - R&D,DC=com,DC=example,C=US\"";
    assert!(value.contains(subject), "{value}");

    let certificate = Template {
        extensions: vec![san(&[
            (SAN_DNS, b"ann.example.com"),
            (SAN_URI, b"spiffe://example.org/ann"),
            (SAN_URI, b"x;URI=spiffe://example.org/admin"),
        ])],
        ..Template::default()
    };
    let certificate = certificate.issue_without_chain(&key());
    let lines =
        DialectConfig::new(Dialect::Xfcc, DialectOptions::default()).render(&client(&certificate));
    let hash = certificate.fingerprint_sha256();
    let value = format!("Hash={hash};Subject=\"CN=ann\";DNS=ann.example.com");
    assert_eq!(lines.lines, [("x-forwarded-client-cert".into(), value)]);
    let [(name, why)] = lines.left_out.as_slice() else {
        panic!("{lines:?}");
    };
    assert_eq!(&**name, "x-forwarded-client-cert: URI");
    assert_eq!(why.to_string(), "a name would be read as something else");
}

#[test]
fn dialects_without_escapes_leave_out_a_value_that_contains_a_key() {
    for value in [
        "x CN=admin",
        "x;CN=admin",
        "x\\",
        "x\\\";Issuer=",
        "CN =admin",
        "cn=admin",
        "a/CN=admin",
    ] {
        let subject = [("O", UTF8, value.as_bytes()), ("CN", UTF8, b"alice")];
        let lines = render_subject(Dialect::Traefik, &subject);
        let [(name, why)] = lines.left_out.as_slice() else {
            panic!("{value}: {lines:?}");
        };
        assert_eq!(&**name, "X-Forwarded-Tls-Client-Cert-Info", "{value}");
        assert_eq!(why.kind(), "ambiguous", "{value}");
        if value.contains('=') && !value.contains("Issuer") {
            let lines = render_subject(Dialect::Haproxy, &subject);
            assert_eq!(&*lines.left_out[0].0, "X-SSL-Client-DN", "{value}");
            let lines = render_subject(Dialect::Cloudflare, &subject);
            assert_eq!(
                &*lines.left_out[0].0, "Cf-Cert-Subject-DN-Legacy",
                "{value}"
            );
        }
    }
    // Characters that are delimiters for Traefik only.
    for value in ["Widgets, Inc.", "a;b", " a", "a "] {
        let lines = render_subject(Dialect::Traefik, &[("O", UTF8, value.as_bytes())]);
        assert_eq!(lines.left_out.len(), 1, "{value}");
    }
    for value in ["Lab=7", "a+b", "(c) 2026", "100%", "Žofie #1"] {
        let lines = render_subject(Dialect::Traefik, &[("O", UTF8, value.as_bytes())]);
        assert_eq!(lines.left_out, [], "{value}");
    }
}

#[test]
fn traefik_info_with_a_field_that_the_leaf_lacks_is_left_out() {
    let key = key();
    let intermediate = Template {
        subject: name(&[("CN", UTF8, b"admin")]),
        extensions: vec![san(&[(SAN_DNS, b"admin.example.com")])],
        ..Template::default()
    };
    let intermediate = intermediate.issue(&key);
    let names = || vec![san(&[(SAN_DNS, b"ann.example.com")])];
    for (subject, extensions, is_forwarded) in [
        (name(&[("CN", UTF8, b"ann")]), names(), true),
        (name(&[]), names(), false),
        (name(&[("CN", UTF8, b"ann")]), Vec::new(), false),
    ] {
        let leaf = Template {
            subject,
            extensions,
            ..Template::default()
        };
        let mut intermediates = Stack::new().unwrap();
        intermediates.push(intermediate.clone()).unwrap();
        let certificate = Certificate::new(leaf.issue(&key), intermediates).unwrap();
        let value = |chain| {
            let options = DialectOptions {
                chain,
                ..DialectOptions::default()
            };
            Dialect::Traefik.value("info", &client(&certificate), &options)
        };
        assert!(value(false).unwrap().is_some());
        match is_forwarded {
            true => assert!(value(true).unwrap().is_some()),
            false => assert_eq!(
                value(true).unwrap_err().to_string(),
                "info left out: a certificate sent with the leaf has a field that the leaf lacks"
            ),
        }
    }
}

#[test]
fn haproxy_san_leaves_out_a_value_that_contains_a_kind_of_name() {
    for (uri, is_forwarded) in [
        ("urn:DNS:admin", false),
        ("urn:ip address:1", false),
        ("urn:a", true),
    ] {
        let certificate = Template {
            extensions: vec![san(&[(SAN_URI, uri.as_bytes())])],
            ..Template::default()
        };
        let certificate = certificate.issue_without_chain(&key());
        let names = Dialect::Haproxy.value(
            "ssl_c_san",
            &client(&certificate),
            &DialectOptions::default(),
        );
        assert_eq!(names.is_ok(), is_forwarded, "{uri}");
    }
}
