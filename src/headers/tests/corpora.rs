//! Published values. The files are not part of this repository; without them the tests print that
//! they are skipped.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use super::*;

fn read_test_vectors(file: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/corpora")
        .join(file);
    match fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(error) => {
            // The test harness captures eprintln!, so this writes to stderr itself.
            writeln!(
                std::io::stderr(),
                "SKIPPED: ../shared/corpora/{file}: {error}"
            )
            .unwrap();
            None
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} in {value}"))
}

/// The certificates of odd-names-dev.json, each with its entry in the file. Those that OpenSSL, and
/// so nginx, cannot read are not included.
fn odd_names() -> Option<Vec<(Value, Certificate)>> {
    let mut document = read_test_vectors("odd-names-dev.json")?;
    let mut names = Vec::new();
    for case in std::mem::take(document["cases"].as_array_mut().unwrap()) {
        match Certificate::from_pem(text(&case, "leaf").as_bytes()) {
            Ok(certificate) => names.push((case, certificate)),
            Err(error) => {
                assert!(
                    case["leaf_expect"]["openssl_error"].is_string(),
                    "{}: {error}",
                    case["id"]
                );
            }
        }
    }
    Some(names)
}

#[test]
fn rfc9440_appendix_a() {
    let Some(example) = read_test_vectors("rfc9440-appendix-a.json") else {
        return;
    };
    let pem: Vec<_> = example["chain_pem"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pem| pem.as_str().unwrap())
        .collect();
    let lines = |pem: &[&str]| {
        let certificate = Certificate::from_pem(pem.concat().as_bytes()).unwrap();
        DialectConfig::new(Dialect::Rfc9440, DialectOptions::default())
            .render(&client(&certificate))
            .lines
    };
    let expected = text(&example, "client_cert_chain_header");
    let leaf = (
        "Client-Cert".into(),
        text(&example, "client_cert_header").to_owned(),
    );
    let chain = |value: &str| ("Client-Cert-Chain".into(), value.to_owned());
    // The example sends the root too.
    assert_eq!(lines(&pem), [leaf.clone(), chain(expected)]);
    assert_eq!(
        lines(&pem[..2]),
        [leaf.clone(), chain(expected.split_once(", ").unwrap().0)]
    );
    assert_eq!(lines(&pem[..1]), [leaf]);
}

#[test]
fn header_vectors() {
    let (Some(vectors), Some(names)) = (read_test_vectors("header-vectors.json"), odd_names())
    else {
        return;
    };
    let vectors = vectors["vectors"].as_array().unwrap();
    let large = DialectOptions {
        max_bytes: Some(usize::MAX),
        ..DialectOptions::default()
    };
    let detail = xfcc::XfccDetails {
        cert: true,
        chain: false,
        subject: true,
        uri: false,
        dns: false,
    };
    let xfcc = DialectOptions {
        xfcc: xfcc::XfccOptions {
            mode: xfcc::XfccMode::SanitizeSet,
            detail,
        },
        ..large.clone()
    };
    let mut subjects = 0;
    for vector in vectors {
        let id = text(vector, "id");
        let (_, certificate) = names
            .iter()
            .find(|(case, _)| text(case, "id") == id)
            .unwrap();
        let client = client(certificate);
        let value = |dialect: Dialect, key, options: &DialectOptions| {
            dialect
                .value(key, &client, options)
                .unwrap()
                .unwrap_or_default()
        };
        assert_eq!(
            value(Dialect::Nginx, "ssl_client_escaped_cert", &large),
            text(vector, "nginx_escaped"),
            "{id}"
        );
        assert_eq!(
            value(Dialect::Nginx, "ssl_client_s_dn", &large),
            text(vector, "s_dn"),
            "{id}"
        );
        assert_eq!(
            value(Dialect::Nginx, "ssl_client_serial", &large),
            text(vector, "serial"),
            "{id}"
        );
        assert_eq!(
            value(Dialect::Rfc9440, "client_cert", &large),
            text(vector, "rfc9440"),
            "{id}"
        );
        assert_eq!(
            value(Dialect::Traefik, "pem", &large),
            text(vector, "traefik_pem_body"),
            "{id}"
        );
        // The file has a second backslash for each, which one family of readers removes.
        let mut parts = ["xfcc_hash", "xfcc_cert", "xfcc_subject"].map(|part| text(vector, part));
        let got = value(Dialect::Xfcc, "xfcc", &xfcc);
        if !got.contains(";Subject=") {
            parts[2] = "";
        }
        assert_eq!(got, parts.join(";").trim_end_matches(';'), "{id}");
        subjects += usize::from(!parts[2].is_empty());
    }
    assert!(vectors.len() > 20);
    // Those with non-ASCII characters, two CNs, a comma.
    assert!(subjects * 3 > vectors.len(), "{subjects}");
}

#[test]
fn odd_names_equal_those_of_nginx_and_are_read_back() {
    let Some(names) = odd_names() else { return };
    for (case, certificate) in &names {
        let (id, nginx) = (text(case, "id"), &case["leaf_expect"]);
        let client = client(certificate);
        let large = DialectOptions {
            max_bytes: Some(usize::MAX),
            ..DialectOptions::default()
        };
        for (key, field) in [
            ("ssl_client_s_dn", "s_dn"),
            ("ssl_client_i_dn", "i_dn"),
            ("ssl_client_serial", "serial"),
            ("ssl_client_v_start", "v_start"),
            ("ssl_client_v_end", "v_end"),
            ("ssl_client_fingerprint", "sha1"),
        ] {
            let value = Dialect::Nginx
                .value(key, &client, &large)
                .unwrap()
                .unwrap_or_default();
            assert_eq!(value, text(nginx, field), "{id} {key}");
        }
        for (dialect, options) in dialect_options() {
            for header in dialect.headers() {
                let values = header.values(&client, &options).unwrap_or_default();
                if !values.is_empty() {
                    readers::check_header(dialect, header.key, &values, certificate);
                }
            }
        }
        // A second opinion on the legacy form, where it is not ambiguous.
        if let Ok(Some(legacy)) = Dialect::Nginx.value("ssl_client_s_dn_legacy", &client, &large) {
            let der = certificate.der().unwrap();
            let arguments = [
                "x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "compat",
            ];
            let printed = openssl_text(&arguments, &der);
            assert_eq!(
                printed.trim_start_matches("subject=").trim_start(),
                legacy,
                "{id}"
            );
        }
    }
    assert!(names.len() > 20);
}
