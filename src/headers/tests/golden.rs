//! Compares the lines of each dialect with a golden file, for a certificate with special
//! characters. `{...}` is a value that depends on the key, which the `openssl` command computes;
//! `!` begins a header that is left out. `RMTLS_BLESS=1 cargo test` writes the files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::*;

/// Placeholders and their values, longest first.
fn placeholders(issued: &IssuedCertificate) -> Vec<(&'static str, String)> {
    let leaf = issued.certificate.leaf().to_der().unwrap();
    let issuer = issued.issuer.to_der().unwrap();
    let base64 = |der: &[u8]| openssl_text(&["base64", "-A"], der);
    let pem = |der: &[u8]| {
        String::from_utf8(openssl(&["x509", "-inform", "DER", "-outform", "PEM"], der)).unwrap()
    };
    let digest = |algorithm: &str| {
        let text = openssl_text(&["dgst", algorithm, "-r"], &leaf);
        text.split(' ').next().unwrap().to_owned()
    };
    let both = [pem(&leaf), pem(&issuer)].concat();
    let mut placeholders = vec![
        ("{chain pem, escaped}", percent_encoded(&both)),
        ("{pem, escaped}", percent_encoded(&pem(&leaf))),
        ("{pem, spaces}", pem(&leaf).trim_end().replace('\n', " ")),
        (
            "{issuer pem, spaces}",
            pem(&issuer).trim_end().replace('\n', " "),
        ),
        ("{der, base64}", base64(&leaf)),
        ("{issuer der, base64}", base64(&issuer)),
        ("{sha256}", digest("-sha256")),
        (
            "{sha256, base64}",
            base64(&openssl(&["dgst", "-sha256", "-binary"], &leaf)),
        ),
        ("{sha1}", digest("-sha1")),
        ("{SHA1}", digest("-sha1").to_ascii_uppercase()),
    ];
    placeholders.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    placeholders
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").unwrap();
        }
    }
    encoded
}

/// All lines of a dialect in the cases that matter.
fn rendered(dialect: Dialect, issued: &IssuedCertificate) -> String {
    let server_uris = [b"spiffe://example.org/ns/edge/sa/gw".to_vec()];
    let good = ClientInfo {
        issuer: Some(&issued.issuer),
        server_uris: &server_uris,
        ..client(&issued.certificate)
    };
    let failed = ClientInfo {
        verify_result: VerifyResult::Failed(18, "self-signed certificate"),
        ..good
    };
    let revoked = ClientInfo {
        verify_result: VerifyResult::Revoked,
        ..good
    };
    let unverified = ClientInfo {
        verify_result: VerifyResult::NotVerified,
        ..good
    };
    let usual = DialectOptions::default();
    let small = DialectOptions {
        max_bytes: Some(100),
        ..DialectOptions::default()
    };
    let leaf_only = DialectOptions {
        chain: false,
        ..DialectOptions::default()
    };
    let mut cases = vec![
        ("verified", &good, usual.clone()),
        ("verified, chain: false", &good, leaf_only),
        ("verified, max_bytes: 100", &good, small),
        ("no certificate", &NO_CERTIFICATE, usual.clone()),
        ("not verified", &unverified, usual.clone()),
        ("not verified, when: presented", &unverified, presented()),
        ("failed", &failed, usual.clone()),
        ("revoked", &revoked, usual),
    ];
    let passthrough = DialectOptions {
        mode: MtlsMode::Passthrough,
        ..DialectOptions::default()
    };
    if matches!(dialect, Dialect::AwsAlb | Dialect::CloudFront) {
        cases.push((
            "not verified, mode: passthrough",
            &unverified,
            passthrough.clone(),
        ));
        cases.push((
            "no certificate, mode: passthrough",
            &NO_CERTIFICATE,
            passthrough,
        ));
    }
    if dialect == Dialect::Xfcc {
        let detail = xfcc::XfccDetails {
            cert: true,
            chain: true,
            subject: false,
            uri: false,
            dns: false,
        };
        let options = xfcc::XfccOptions {
            detail,
            ..xfcc::XfccOptions::default()
        };
        let options = DialectOptions {
            xfcc: options,
            ..DialectOptions::default()
        };
        cases.push(("verified, detail: [cert, chain]", &good, options));
    }

    let mut text = String::new();
    for (case, client, options) in cases {
        writeln!(text, "# {case}").unwrap();
        let mut config = DialectConfig::new(dialect, options);
        // What has no default name is set under its key.
        for header in dialect
            .headers()
            .iter()
            .filter(|header| header.name.is_none())
        {
            config.rename(header.key, Some(header.key)).unwrap();
        }
        let lines = config.render(client);
        for (name, value) in lines.lines {
            writeln!(text, "{name}: {value}").unwrap();
        }
        for (name, why) in lines.left_out {
            if why.is_too_large() {
                // The sizes are those of the key and the signature.
                writeln!(text, "! {name}: too_large").unwrap();
            } else {
                writeln!(text, "! {name}: {}: {why}", why.kind()).unwrap();
            }
        }
    }
    text
}

#[test]
fn lines_are_the_golden_ones() {
    let issued = certificate_with_special_characters();
    let placeholders = placeholders(&issued);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/headers/tests/golden");
    let bless = std::env::var_os("RMTLS_BLESS").is_some();
    for dialect in Dialect::ALL {
        let file = directory.join(format!("{}.txt", dialect.name()));
        let mut text = rendered(dialect, &issued);
        if bless {
            for (placeholder, value) in &placeholders {
                text = text.replace(value, placeholder);
            }
            fs::write(file, text).unwrap();
            continue;
        }
        let mut expected = fs::read_to_string(&file).unwrap();
        for (placeholder, value) in &placeholders {
            expected = expected.replace(placeholder, value);
        }
        let (text, expected): (Vec<_>, Vec<_>) =
            (text.lines().collect(), expected.lines().collect());
        for (line, expected) in text.iter().zip(&expected) {
            assert_eq!(line, expected, "{}", dialect.name());
        }
        assert_eq!(text.len(), expected.len(), "{}", dialect.name());
    }
}
