//! `inspect` on fixed certificates, because their texts are compared.

use std::io::{self, Write as _};

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyParam;
use openssl::x509::{X509NameBuilder, X509StoreContext, X509};

use super::super::tests::{run_reading, run_with};
use super::*;
use crate::testing;

/// A client certificate of [`CA`] with an escape sequence in its subject and a serial number of 22
/// octets.
pub(in crate::command) const ODD: &str = "\
-----BEGIN CERTIFICATE-----
MIICCjCCAbygAwIBAgIWASNFZ4mrze8BI0VniavN7wEjRWeJqzAFBgMrZXAwJDEQ
MA4GA1UECgwHRXhhbXBsZTEQMA4GA1UEAwwHVGVzdCBDQTAeFw0yNjExMzAxMjMz
MzZaFw0yNzExMzAxMjMzMzZaMDIxCzAJBgNVBAYTAkNaMRAwDgYDVQQKDAdFeGFt
cGxlMREwDwYDVQQDDAhhbm4bWzMxbTAqMAUGAytlcAMhAJMY7xmyNZFnelE9tGCz
PhCRWPXoVqUGhDf1h2b4uStpo4HvMIHsMAkGA1UdEwQCMAAwDgYDVR0PAQH/BAQD
AgeAMB8GA1UdJQQYMBYGCCsGAQUFBwMCBgorBgEEAYI3FAICMG4GA1UdEQRnMGWC
D2Fubi5leGFtcGxlLmNvbYEPYW5uQGV4YW1wbGUuY29thhlzcGlmZmU6Ly9leGFt
cGxlLm9yZy9ucy9hhwTAAAIHoCAGCisGAQQBgjcUAgOgEgwQYW5uQGNvcnAuZXhh
bXBsZTAdBgNVHQ4EFgQUhgSM/8Z8E5/gLbSqm+YKHo2ix1EwHwYDVR0jBBgwFoAU
ksWJeodAg1z/82zBCHTvyN3gsEgwBQYDK2VwA0EAEkQ5iw2ldggkFj2VG9YXYabn
binJt9uNAPEIdUFFlE9+dtbg/Vt5fGAYUF46gL6I8f3zzZx3o3L6PUZed0weBA==
-----END CERTIFICATE-----
";

pub(in crate::command) const CA: &str = "\
-----BEGIN CERTIFICATE-----
MIIBVzCCAQmgAwIBAgIBATAFBgMrZXAwJDEQMA4GA1UECgwHRXhhbXBsZTEQMA4G
A1UEAwwHVGVzdCBDQTAeFw0yNjExMzAxMjMzMzZaFw0zNjExMjcxMjMzMzZaMCQx
EDAOBgNVBAoMB0V4YW1wbGUxEDAOBgNVBAMMB1Rlc3QgQ0EwKjAFBgMrZXADIQDD
2rHZFYwUqQHT/M5YJJJvCoDLZEThXHJrcGgUGIlFwKNgMF4wHQYDVR0OBBYEFJLF
iXqHQINc//NswQh078jd4LBIMB8GA1UdIwQYMBaAFJLFiXqHQINc//NswQh078jd
4LBIMA8GA1UdEwEB/wQFMAMBAf8wCwYDVR0PBAQDAgIEMAUGAytlcANBAG/bLQGT
IyOCm2h+x0N5vSngvdDAjtI1u/ZcmPjF+V+hB8s8cGCYvJ49LU+ihyIdoZkQDhkL
zMlHGDgD9vx37QU=
-----END CERTIFICATE-----
";

const TIME: &str = "--time=2027-01-15T08:00:00Z";

const ODD_TEXT: &str = "\
subject:            CN=ann\\1B[31m,O=Example,C=CZ
issuer:             CN=Test CA,O=Example
serial:             0123456789ABCDEF0123456789ABCDEF0123456789AB
not before:         2026-11-30T12:33:36Z, 45 days ago
not after:          2027-11-30T12:33:36Z, in 319 days
SAN DNS:            ann.example.com
SAN email:          ann@example.com
SAN URI:            spiffe://example.org/ns/a
SAN IP:             192.0.2.7
SAN UPN:            ann@corp.example
key:                Ed25519, 256 bits
signature:          ED25519
key usage:          digitalSignature
extended key usage: clientAuth, msSmartcardLogin
SHA-1:              1612dbee29e67e72782ad3df10780b137c90652f
SHA-256:            0e74a91bf806f863d78dbbeddcc3d534260249f5bf4fd4d3bb0464ce5ac128e9
SPKI SHA-256:       59c4064d0f4da35c1ee355a05600bcf76ddc4e9e761f6f9d674dbcbe62cfebb0
SPIFFE:             SVID of spiffe://example.org/ns/a
client_auth_eku:    'required', the default, accepts it
auth_level:         0 to 3 accept it, 4 and higher ones refuse it: its key has 128 bits of \
             security, 192 are required
oddity:             its serial number has 22 octets, over the limit of 20
oddity:             a name has control characters
";

fn inspect(input: &[u8], args: &[&str]) -> (u8, String, String) {
    let args = [&["inspect", "-", TIME], args].concat();
    run_reading(&args, &mut &*input)
}

/// Writes a file for the duration of a test.
fn with_file<T>(name: &str, content: &[u8], f: impl FnOnce(&str) -> T) -> T {
    let id = std::process::id();
    let path = std::env::temp_dir().join(format!("resty-mtls-inspect-{name}-{id}"));
    std::fs::write(&path, content).unwrap();
    let result = f(path.to_str().unwrap());
    std::fs::remove_file(&path).unwrap();
    result
}

#[test]
fn a_certificate_is_described_in_every_encoding() {
    let x509 = openssl::x509::X509::from_pem(ODD.as_bytes()).unwrap();
    let der = x509.to_der().unwrap();
    let key = testing::key().private_key_to_pem_pkcs8().unwrap();
    let with_key = [&key[..], ODD.as_bytes()].concat();
    let expected = (0, ODD_TEXT.to_owned(), String::new());
    for bytes in [ODD.as_bytes(), &der, &with_key] {
        assert_eq!(inspect(bytes, &[]), expected);
    }
    let from_file = with_file("pem", ODD.as_bytes(), |path| {
        run_with(&["inspect", TIME, path])
    });
    assert_eq!(from_file, expected);
}

#[test]
fn bytes_behind_a_certificate_are_an_oddity() {
    let der = X509::from_pem(ODD.as_bytes()).unwrap().to_der().unwrap();
    let (status, text, err) = inspect(&[&der[..], b"x"].concat(), &[]);
    let oddity = "oddity of the chain: no file of a policy may be like this: not a certificate in \
                  DER, or bytes behind it\n";
    assert_eq!((status, err), (0, String::new()));
    assert_eq!(text.strip_prefix(ODD_TEXT), Some(oddity));
}

#[test]
fn a_chain_is_described_with_the_order_that_is_wrong() {
    let (status, text, err) = inspect([ODD, CA].concat().as_bytes(), &[]);
    assert_eq!((status, err), (0, String::new()));
    assert!(text.starts_with("certificate 1 of 2, line 1\n  subject:            CN=ann"));
    assert!(text.contains("\ncertificate 2 of 2, line 14\n  subject:            CN=Test CA,"));
    assert!(!text.contains("oddity of the chain"), "{text}");

    let (_, text, _) = inspect([CA, ODD, ODD].concat().as_bytes(), &[]);
    assert!(
        text.ends_with(
            "oddity of the chain: certificate 2 did not issue certificate 1\n\
             oddity of the chain: certificate 3 did not issue certificate 2\n\
             oddity of the chain: a certificate is there twice\n"
        ),
        "{text}"
    );
}

#[test]
fn json_has_the_fields_of_the_documentation() {
    let (status, text, err) = inspect([ODD, CA].concat().as_bytes(), &["--json"]);
    assert_eq!((status, err), (0, String::new()));
    assert!(!text.contains('\u{1b}'), "{text}");
    let mut value: Value = serde_json::from_str(&text).unwrap();
    let chain = value["chain"].take();
    assert_eq!(chain[0]["subject_dn"], "CN=Test CA,O=Example");
    assert_eq!(chain[0]["ca"], true);
    assert_eq!(chain.as_array().unwrap().len(), 1);
    assert_eq!(
        value,
        json!({
            "subject_dn": "CN=ann\\1B[31m,O=Example,C=CZ",
            "issuer_dn": "CN=Test CA,O=Example",
            "serial": "0123456789ABCDEF0123456789ABCDEF0123456789AB",
            "fingerprint_sha1": "1612dbee29e67e72782ad3df10780b137c90652f",
            "fingerprint_sha256":
                "0e74a91bf806f863d78dbbeddcc3d534260249f5bf4fd4d3bb0464ce5ac128e9",
            "spki_sha256": "59c4064d0f4da35c1ee355a05600bcf76ddc4e9e761f6f9d674dbcbe62cfebb0",
            "version": 3,
            "not_before": 1796042016,
            "not_after": 1827578016,
            "subject": { "C": ["CZ"], "O": ["Example"], "CN": ["ann\u{1b}[31m"] },
            "san": {
                "dns": ["ann.example.com"],
                "email": ["ann@example.com"],
                "uri": ["spiffe://example.org/ns/a"],
                "ip": ["192.0.2.7"],
                "dirname": [],
                "upn": ["ann@corp.example"],
            },
            "key_usage": ["digitalSignature"],
            "eku": ["clientAuth", "msSmartcardLogin"],
            "ca": false,
            "self_signed": false,
            "key": { "type": "Ed25519", "bits": 256, "curve": null },
            "signature": "ED25519",
            "spiffe_id": "spiffe://example.org/ns/a",
            "trust_domain": "example.org",
            "spiffe_error": null,
            "client_auth_eku": "required",
            "auth_level": {
                "highest": 3,
                "reason": "its key has 128 bits of security, 192 are required",
            },
            "ocsp": [],
            "crl": [],
            "oddities": [
                "its serial number has 22 octets, over the limit of 20",
                "a name has control characters",
            ],
            "chain": null,
            "chain_oddities": [],
        })
    );
}

#[test]
fn headers_of_a_dialect_are_those_of_a_verified_client() {
    let headers = |dialect| {
        let (status, text, err) = inspect(ODD.as_bytes(), &["--dialect", dialect]);
        assert_eq!((status, err), (0, String::new()));
        text.strip_prefix(ODD_TEXT).unwrap().to_owned()
    };
    assert_eq!(
        headers("gcp").lines().take(3).collect::<Vec<_>>(),
        [
            "headers of the dialect gcp for a verified client:",
            "  X-Client-Cert-Present: true",
            "  X-Client-Cert-Chain-Verified: true",
        ]
    );
    assert!(headers("nginx").contains("  (ssl_client_serial): 0123456789ABCDEF01"));
    assert!(
        headers("traefik").contains(" is left out: "),
        "{}",
        headers("traefik")
    );
    let json = inspect(ODD.as_bytes(), &["--dialect=kong", "--json"]).1;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["headers"][1],
        json!({
            "key": "client_serial",
            "name": "X-Client-Cert-Serial",
            "value": "0123456789ABCDEF0123456789ABCDEF0123456789AB",
            "left_out": [],
        })
    );
}

#[test]
fn pkcs12_needs_the_right_password() {
    let pki = testing::pki();
    let build = |password: &str| {
        let mut builder = Pkcs12::builder();
        builder.pkey(&pki.leaf.key).cert(&pki.leaf.x509);
        builder.ca(testing::stack(&[&pki.ca.x509]));
        builder.build2(password).unwrap().to_der().unwrap()
    };
    let (status, text, err) = inspect(&build(""), &[]);
    assert_eq!((status, err), (0, String::new()));
    assert!(text.starts_with("certificate 1 of 2\n  subject:            CN=leaf,O=Example\n"));

    let file = build("correct horse");
    let with_password = |password: &[u8]| {
        with_file("password", password, |path| {
            inspect(&file, &["--password-file", path, "--json"])
        })
    };
    for password in [
        &b"correct horse"[..],
        b"correct horse\n",
        b"correct horse\r\nx",
    ] {
        let (status, text, err) = with_password(password);
        assert_eq!((status, err), (0, String::new()));
        assert!(text.contains("CN=leaf,O=Example"), "{text}");
    }
    let wrong = "standard input: the password of this PKCS #12 file is wrong\n".to_owned();
    for password in [&b"horse"[..], b"", b"\n"] {
        assert_eq!(with_password(password), (1, String::new(), wrong.clone()));
    }
    let not_pkcs12 = with_file("password", b"x", |path| {
        inspect(ODD.as_bytes(), &["--password-file", path])
    });
    let message = "standard input: not a PKCS #12 file, expected one with --password-file\n";
    assert_eq!(not_pkcs12, (1, String::new(), message.to_owned()));
    let broken = b"\x30\x03\x02\x01\x03";
    let message = "standard input: not a readable PKCS #12 file\n";
    assert_eq!(inspect(broken, &[]), (1, String::new(), message.to_owned()));
}

#[test]
fn what_is_no_certificate_is_an_error_of_one_line() {
    for (input, message) in [
        (&b""[..], "is empty, expected '-----BEGIN CERTIFICATE-----'"),
        (
            b"hello\n",
            "'hello' is neither PEM nor DER, expected '-----BEGIN CERTIFICATE-----'",
        ),
        (
            b"\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "line 2: not a certificate in DER, or bytes behind it",
        ),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "holds a private key and no certificate, expected '-----BEGIN CERTIFICATE-----'",
        ),
        (
            b"Bag Attributes\n-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE \
              KEY-----\n",
            "holds a private key and no certificate, expected '-----BEGIN CERTIFICATE-----'",
        ),
        (
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n\
              -----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "line 4: not a certificate in DER, or bytes behind it",
        ),
    ] {
        let message = format!("standard input: {message}\n");
        assert_eq!(inspect(input, &[]), (1, String::new(), message));
    }
    let too_long = run_reading(&["inspect", "-"], &mut io::repeat(b' '));
    let message = "standard input: over 16 MB, the limit for this file\n";
    assert_eq!(too_long, (1, String::new(), message.to_owned()));
    let many = CA.repeat(1001);
    let message = "standard input: has 1001 certificates, expected at most 1000; 'resty-mtls ca' \
                   lists bundles\n";
    let found = inspect(many.as_bytes(), &[]);
    assert_eq!(found, (1, String::new(), message.to_owned()));
}

#[test]
fn misuse_is_reported() {
    for (args, message) in [
        (
            &["inspect"][..],
            "no file, expected one, or - for standard input",
        ),
        (&["inspect", "a", "b"], "2 files, expected one"),
        (
            &["inspect", "a", "--dialect", "ngnix"],
            "--dialect: unknown dialect 'ngnix', did you mean 'nginx'?",
        ),
        (
            &["inspect", "a", "--time=tomorrow"],
            "--time: 'tomorrow', expected a time such as 2027-01-31T08:00:00Z, 2027-01-31, or \
             seconds since 1970",
        ),
        (
            &["inspect", "a", "--time"],
            "--time: no value, expected TIME",
        ),
    ] {
        let line = format!("resty-mtls: inspect: {message}; see resty-mtls inspect --help\n");
        assert_eq!(run_with(args), (2, String::new(), line));
    }
}

fn oddities(x509: &X509, now: i64) -> Vec<String> {
    let certificate = Certificate::new(x509.clone(), Stack::new().unwrap()).unwrap();
    oddities::of(&Description::new(&certificate, true, now))
}

#[test]
fn oddities_of_names() {
    let pki = testing::pki();
    let names: Vec<String> = (0..1001)
        .map(|number| format!("n{number}.example"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let aki = "it has no authorityKeyIdentifier (AKI)";
    let leaf = testing::issue("a", Some(&pki.ca), false, 100 * 86_400, &names);
    assert_eq!(
        oddities(&leaf.x509, testing::NOW),
        [
            "it has 1001 subject alternative names, over 1,000: mtls.client() has none of them",
            aki
        ]
    );
    let leaf = testing::issue("a", Some(&pki.ca), false, 100 * 86_400, &names[..1000]);
    assert_eq!(oddities(&leaf.x509, testing::NOW), [aki]);

    let day = testing::NOW - 86_400;
    let with = |attributes: &[(&str, &str)], san: Option<&[u8]>| {
        let mut subject = X509NameBuilder::new().unwrap();
        for (name, value) in attributes {
            subject.append_entry_by_text(name, value).unwrap();
        }
        let x509 = testing::issue_with_subject(&pki.ca, &subject.build(), san);
        let mut found = oddities(&x509, day);
        assert_eq!(found.pop().as_deref(), Some(aki));
        assert_eq!(found.remove(0), "it ends in 2 days");
        found
    };
    assert_eq!(with(&[("CN", "a")], None), [""; 0]);
    assert_eq!(
        with(&[], None),
        ["it has neither a subject nor subject alternative names"]
    );
    assert_eq!(
        with(&[("CN", "a"), ("CN", " b\n")], None),
        [
            "its subject has several common names",
            "a name has control characters",
            "an attribute of its subject is empty, or has blanks at an end"
        ]
    );
    let san = |names: &[(u8, &[u8])]| with(&[("CN", "a")], Some(&testing::san_extension(names)));
    assert_eq!(
        san(&[(0x82, b"a\0b"), (0x82, b"\xc3\xa4"), (0x88, &[0x2a])]),
        [
            "it has 1 subject alternative names of types that are not shown",
            "a name has control characters",
            "a subject alternative name is not ASCII, or no IP address"
        ]
    );
    assert_eq!(
        san(&[(0x86, b"spiffe://a/b"), (0x86, b"urn:x")]),
        ["it has a SPIFFE ID and is no SVID: it has several URI names, expected one"]
    );
    assert_eq!(
        san(&[(0x87, &[1, 2, 3])]),
        ["a subject alternative name is not ASCII, or no IP address"]
    );
    assert_eq!(
        with(&[("CN", "a")], Some(b"\x30\x00")),
        ["its subjectAltName extension has no names"]
    );
    assert_eq!(
        with(&[("CN", "a")], Some(b"\x30\x00\x00")),
        ["its subjectAltName extension cannot be read"]
    );
}

#[test]
fn oddities_of_dates_and_signatures() {
    let pki = testing::pki();
    let dated = |from, until| {
        let mut found = oddities(
            &testing::reissue(&pki.ca, &pki.intermediate, from, until),
            1000,
        );
        let rest = found.split_off(found.len() - 2);
        assert_eq!(
            rest,
            [
                "it has no authorityKeyIdentifier (AKI)",
                "it is a CA without subjectKeyIdentifier"
            ]
        );
        // It has no serial number of its own.
        assert_eq!(found.remove(0), "its serial number is 0");
        found
    };
    assert_eq!(dated(0, 4_000_000), [""; 0]);
    assert_eq!(dated(0, 1000), ["it has expired"]);
    assert_eq!(dated(0, 1001), ["it ends in 0 days"]);
    assert_eq!(dated(1001, 4_000_000), ["it is not valid yet"]);
    assert_eq!(
        dated(900, 800),
        ["its notBefore is later than its notAfter", "it has expired"]
    );
    assert_eq!(
        dated(0, 253_402_300_799),
        ["its notAfter is 9999-12-31: it has no end"]
    );

    let sha1 = testing::sign_leaf("a", &pki.ca.key, MessageDigest::sha1());
    assert_eq!(
        oddities(&sha1, testing::NOW - 86_400 * 60),
        [
            "it is not valid yet",
            "its signature has a weak digest: ecdsa-with-SHA1",
            "it has no authorityKeyIdentifier (AKI)"
        ]
    );
}

/// A root with this key, and a leaf with another one, signed with this digest.
fn issued(key: &PKey<Private>, root_key: &PKey<Private>, digest: MessageDigest) -> (X509, X509) {
    let root = testing::issue_for("root", None, true, 86_400, &[], root_key);
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, "leaf").unwrap();
    builder.set_subject_name(&name.build()).unwrap();
    builder.set_issuer_name(root.x509.subject_name()).unwrap();
    builder.set_not_before(root.x509.not_before()).unwrap();
    builder.set_not_after(root.x509.not_after()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.sign(root_key, digest).unwrap();
    (root.x509, builder.build())
}

#[test]
fn auth_level_agrees_with_openssl() {
    let rsa = |bits| PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
    let (weak, strong) = (rsa(1024), testing::key());
    let largest = PKey::generate_ed448().unwrap();
    for (key, digest, highest) in [
        (&weak, MessageDigest::sha256(), 1),
        (&strong, MessageDigest::sha1(), 0),
        (&strong, MessageDigest::sha224(), 2),
        (&strong, MessageDigest::sha256(), 3),
        (&largest, MessageDigest::sha512(), 4),
    ] {
        let (root, leaf) = issued(key, &key_of_ca(), digest);
        let certificate = Certificate::new(leaf.clone(), Stack::new().unwrap()).unwrap();
        let value = Value::Object(Description::new(&certificate, true, testing::NOW).json());
        assert_eq!(value["auth_level"]["highest"], highest);
        for level in 0..=5 {
            let mut store = X509StoreBuilder::new().unwrap();
            let mut param = X509VerifyParam::new().unwrap();
            param.set_auth_level(level);
            param.set_time(testing::NOW);
            store.set_param(&param).unwrap();
            store.add_cert(root.clone()).unwrap();
            let verified = X509StoreContext::new().unwrap().init(
                &store.build(),
                &leaf,
                &Stack::new().unwrap(),
                |context| Ok((context.verify_cert()?, context.error())),
            );
            assert_eq!(
                verified.unwrap().0,
                level <= highest,
                "{level} of {highest}"
            );
        }
    }
}

/// A key of a CA that no level refuses.
fn key_of_ca() -> PKey<Private> {
    let group = openssl::ec::EcGroup::from_curve_name(Nid::SECP521R1).unwrap();
    PKey::from_ec_key(openssl::ec::EcKey::generate(&group).unwrap()).unwrap()
}

/// The certificates of parse-corpus-dev.json, with what OpenSSL prints for each.
#[test]
fn published_certificates_are_described_as_by_openssl() {
    let file = "../shared/corpora/parse-corpus-dev.json";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            // The test harness captures eprintln!.
            writeln!(io::stderr(), "SKIPPED: {file}: {error}").unwrap();
            return;
        }
    };
    let corpus: Value = serde_json::from_slice(&bytes).unwrap();
    let cases = corpus["certs"].as_array().unwrap();
    assert!(cases.len() > 100);
    for case in cases {
        let (id, expected) = (&case["id"], &case["expect"]);
        let pem = case["pem"].as_str().unwrap();
        let (status, text, err) = inspect(pem.as_bytes(), &["--json", "--dialect=haproxy"]);
        if expected["openssl_error"].is_string() {
            assert_eq!(
                (status, text, err.lines().count()),
                (1, String::new(), 1),
                "{id}: {err}"
            );
            continue;
        }
        assert_eq!((status, err), (0, String::new()), "{id}");
        let found: Value = serde_json::from_str(&text).unwrap();
        for (ours, theirs) in [
            ("subject_dn", "s_dn"),
            ("issuer_dn", "i_dn"),
            ("serial", "serial"),
        ] {
            assert_eq!(found[ours], expected[theirs], "{id} {ours}");
        }
        // The corpus has the digests of what is in the PEM block, and so of bytes behind it.
        if found["chain_oddities"] == json!([]) {
            assert_eq!(found["fingerprint_sha256"], expected["sha256"], "{id}");
            assert_eq!(found["fingerprint_sha1"], expected["sha1"], "{id}");
        }
        for (ours, theirs) in [("not_before", "v_start"), ("not_after", "v_end")] {
            // One has tenths of a second.
            let theirs = expected[theirs].as_str().unwrap().replace(".6 ", " ");
            match found[ours].as_i64() {
                Some(seconds) => assert_eq!(crate::certificate::time::openssl(seconds), theirs),
                None => assert!(theirs.contains("Bad"), "{id} {theirs}"),
            }
        }
    }
}
