use std::fs;
use std::io::Write as _;
use std::path::Path;

use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};
use serde_json::Value;

use super::*;
use crate::headers::{self, ClientInfo, Dialect, DialectConfig, DialectOptions, VerifyResult};
use crate::testing::{self, NOW};
use crate::text::hex;

fn corpus(file: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/corpora")
        .join(file);
    match fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(error) => {
            // Not eprintln!, which the test harness swallows.
            writeln!(
                std::io::stderr(),
                "SKIPPED: ../shared/corpora/{file}: {error}"
            )
            .unwrap();
            None
        }
    }
}

fn one(format: Format, value: &str) -> Result<Option<DerChain>, Error> {
    decode(format, &[value.as_bytes()], &[])
}

fn error(format: Format, value: &str) -> String {
    match one(format, value) {
        Err(error) => error.to_string(),
        Ok(Some(decoded)) => decoded.certificate().map(|_| ()).unwrap_err().to_string(),
        Ok(None) => panic!("{value:?} counts as no certificate"),
    }
}

struct Sample {
    pem: String,
    der: Vec<u8>,
    base64: String,
    escaped: String,
    chain_pem: String,
}

fn sample() -> Sample {
    let pki = testing::pki();
    let text = |x509: &X509| String::from_utf8(x509.to_pem().unwrap()).unwrap();
    let pem = text(&pki.leaf_of_intermediate.x509);
    let der = pki.leaf_of_intermediate.x509.to_der().unwrap();
    Sample {
        base64: openssl::base64::encode_block(&der),
        escaped: escape(&pem),
        chain_pem: pem.clone() + &text(&pki.intermediate.x509),
        pem,
        der,
    }
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[test]
fn decode_header_vectors_in_all_formats() {
    let Some(corpus) = corpus("header-vectors.json") else {
        return;
    };
    let vectors = corpus["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 48);
    for vector in vectors {
        let text = |key: &str| vector[key].as_str().unwrap();
        let hash = text("sha256");
        let xfcc = format!(
            "{};{};{}",
            text("xfcc_hash"),
            text("xfcc_cert"),
            text("xfcc_subject")
        );
        let alb = text("nginx_escaped")
            .replace("%2B", "+")
            .replace("%2F", "/")
            .replace("%3D", "=");
        for (format, value) in [
            (Format::UrlEncoded, text("nginx_escaped")),
            (Format::AwsAlb, text("nginx_escaped")),
            (Format::AwsAlb, &alb),
            (Format::UrlEncoded, &alb),
            (Format::Auto, text("nginx_escaped")),
            (Format::Rfc9440, text("rfc9440")),
            (Format::Auto, text("rfc9440")),
            (Format::Xfcc, &xfcc),
            (Format::Traefik, text("traefik_pem_body")),
            (Format::Base64Encoded, text("traefik_pem_body")),
        ] {
            let decoded = one(format, value).unwrap().unwrap();
            let certificate = decoded
                .certificate()
                .unwrap_or_else(|error| panic!("{} {}: {error}", vector["id"], format.name()));
            assert_eq!(hex(&certificate.digests().leaf), hash, "{}", vector["id"]);
            assert_eq!(certificate.fingerprint_sha256(), hash);
            assert_eq!(
                openssl::base64::encode_block(&certificate.digests().leaf)
                    .replace('+', "-")
                    .replace('/', "_")
                    .trim_end_matches('='),
                text("x5t_S256")
            );
        }
    }
}

#[test]
fn decode_rfc9440_appendix_a() {
    let Some(example) = corpus("rfc9440-appendix-a.json") else {
        return;
    };
    let leaf = example["client_cert_header"].as_str().unwrap();
    let chain = example["client_cert_chain_header"].as_str().unwrap();
    let pems: String = example["chain_pem"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pem| pem.as_str().unwrap())
        .collect();
    let expected = Certificate::from_pem(pems.as_bytes()).unwrap();
    let whole: Vec<&[u8]> = vec![chain.as_bytes()];
    let lines: Vec<&[u8]> = chain.split(", ").map(str::as_bytes).collect();
    for chain in [whole, lines] {
        let certificate = decode(Format::Rfc9440, &[leaf.as_bytes()], &chain)
            .unwrap()
            .unwrap()
            .certificate()
            .unwrap();
        assert_eq!(certificate.digests(), expected.digests());
        assert_eq!(certificate.chain_pem().unwrap(), pems.as_bytes());
    }
}

#[test]
fn decode_reads_what_the_dialects_write() {
    let certificate = Certificate::from_pem(sample().chain_pem.as_bytes()).unwrap();
    let client = ClientInfo {
        certificate: Some(&certificate),
        verify_result: VerifyResult::Success,
        issuer: certificate.intermediates().get(0),
        now: NOW,
        server_uris: &[],
    };
    for (dialect, name, format) in [
        (Dialect::Rfc9440, "Client-Cert", Format::Rfc9440),
        (
            Dialect::Traefik,
            "X-Forwarded-Tls-Client-Cert",
            Format::Traefik,
        ),
    ] {
        let rendered = DialectConfig::new(dialect, DialectOptions::default()).render(&client);
        let line = |name: &str| {
            let mut lines = rendered.lines.iter();
            lines
                .find(|(found, _)| **found == *name)
                .map(|(_, value)| value.as_bytes())
        };
        let chain: Vec<&[u8]> = line("Client-Cert-Chain").into_iter().collect();
        let decoded = decode(format, &[line(name).unwrap()], &chain);
        let back = decoded.unwrap().unwrap().certificate().unwrap();
        assert_eq!(back.digests(), certificate.digests(), "{}", format.name());
    }
    let chain = headers::kong::escape(&certificate.chain_pem().unwrap());
    for format in [Format::UrlEncoded, Format::Auto, Format::AwsAlb] {
        let back = one(format, &chain).unwrap().unwrap().certificate().unwrap();
        assert_eq!(back.digests(), certificate.digests());
    }
}

#[test]
fn decode_absent_empty_or_null_is_no_certificate() {
    for (_, format) in Format::ALL {
        assert!(decode(format, &[], &[]).unwrap().is_none());
        for value in ["", "  ", "(null)"] {
            assert!(one(format, value).unwrap().is_none(), "{}", format.name());
        }
    }
}

#[test]
fn decode_repeated_header_is_refused() {
    let value = sample().base64;
    for (_, format) in Format::ALL {
        for other in [value.as_bytes(), b""] {
            let error = decode(format, &[value.as_bytes(), other], &[]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "certificate header refused: 2 header lines, expected one"
            );
        }
    }
}

#[test]
fn decode_too_much_is_refused() {
    let long = "A".repeat(1 << 20);
    for (_, format) in Format::ALL {
        assert_eq!(
            error(format, &long),
            "certificate header refused: 1048576 bytes are over the limit of 65536"
        );
    }
    let certificate = sample();
    let small = openssl::base64::encode_block(b"0\x00");
    for (format, value) in [
        (Format::Traefik, vec![small.clone(); 17].join(",")),
        (
            Format::UrlEncoded,
            format!("-----BEGIN CERTIFICATE-----{small}-----END CERTIFICATE-----").repeat(17),
        ),
    ] {
        assert_eq!(
            error(format, &value),
            "certificate header refused: over 16 certificates"
        );
    }
    let chain = vec![format!(":{small}:"); 16].join(",");
    let leaf = format!(":{}:", certificate.base64);
    let refused = decode(Format::Rfc9440, &[leaf.as_bytes()], &[chain.as_bytes()]);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "certificate header refused: over 16 certificates"
    );
}

#[test]
fn decode_plus_is_not_a_space() {
    let certificate = sample();
    // A form would write the space of the armour so.
    let form = certificate.escaped.replace("%20", "+");
    assert_eq!(
        error(Format::UrlEncoded, &form),
        "certificate header refused: not PEM, expected '-----BEGIN CERTIFICATE-----'"
    );
    let raw = certificate.escaped.replace("%2B", "+");
    let decoded = one(Format::UrlEncoded, &raw).unwrap().unwrap();
    assert_eq!(decoded.ders, [certificate.der]);
}

#[test]
fn decode_junk_is_refused() {
    let sample = sample();
    let (base64, pem) = (&sample.base64, &sample.pem);
    let not_pem = "not PEM, expected '-----BEGIN CERTIFICATE-----'";
    let der = |junk: &[u8]| openssl::base64::encode_block(&[&sample.der, junk].concat());
    for (format, value, why) in [
        (Format::UrlEncoded, escape(&format!("{pem}x")), not_pem),
        (Format::UrlEncoded, escape(&format!("x{pem}")), not_pem),
        (Format::UrlEncoded, escape(&format!("{pem},")), not_pem),
        (Format::UrlEncoded, sample.base64.clone(), not_pem),
        (
            Format::UrlEncoded,
            escape(&pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            not_pem,
        ),
        (
            Format::UrlEncoded,
            escape(&pem.replace("-----END CERTIFICATE-----", "")),
            "a PEM block without its end",
        ),
        (
            Format::Base64Encoded,
            der(b"\0"),
            "not exactly one DER certificate",
        ),
        (
            Format::Traefik,
            der(&sample.der),
            "not exactly one DER certificate",
        ),
        (
            Format::Rfc9440,
            base64.clone(),
            "not a byte sequence, expected ':base64:'",
        ),
        (
            Format::Rfc9440,
            format!(":{base64}:;a=1"),
            "not a byte sequence, expected ':base64:'",
        ),
        (
            Format::Rfc9440,
            "::".to_owned(),
            "not a byte sequence, expected ':base64:'",
        ),
        (
            Format::Rfc9440,
            ":".to_owned(),
            "not a byte sequence, expected ':base64:'",
        ),
    ] {
        let expected = format!("certificate header refused: {why}");
        assert_eq!(error(format, &value), expected, "{value}");
    }
    for (format, value) in [
        (Format::Base64Encoded, format!("{base64}!")),
        (Format::Base64Encoded, format!("{base64} {base64}")),
        (
            Format::Base64Encoded,
            base64.replace(['+', '/'], "-")[..41].to_owned() + "-_",
        ),
        (Format::Traefik, format!("{base64}, {base64}")),
        (Format::Rfc9440, format!(":{base64}:, :{base64}:")),
        (Format::UrlEncoded, escape(pem).replacen("%0A", "%zz", 2)),
        (Format::UrlEncoded, escape(pem).replacen("%0A", "%00", 2)),
        (
            Format::UrlEncoded,
            escape(&pem.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n", 1)),
        ),
    ] {
        let error = error(format, &value);
        assert!(
            error.starts_with("certificate header refused: not base64"),
            "{value}: {error}"
        );
    }
    assert!(error(Format::Base64Encoded, "MAA=").contains("not a readable X.509 certificate"));
}

#[test]
fn decode_certificate_in_ber_is_refused() {
    let mut der = sample().der;
    // The length in three octets where two would do.
    assert_eq!(der[..2], [0x30, 0x82]);
    der[1] = 0x83;
    der.insert(2, 0);
    assert_eq!(
        error(Format::Base64Encoded, &openssl::base64::encode_block(&der)),
        "certificate header refused: a certificate that is not in DER"
    );
}

#[test]
fn decode_pem_with_spaces_for_line_breaks() {
    let sample = sample();
    let value = sample.pem.replace('\n', " ");
    for format in [Format::UrlEncoded, Format::Auto] {
        let decoded = one(format, &value).unwrap().unwrap();
        assert_eq!(decoded.ders, [sample.der.as_slice()]);
    }
}

#[test]
fn decode_chain_header_needs_its_certificate() {
    let sample = sample();
    let chain = format!(":{}:", sample.base64);
    let chain: [&[u8]; 1] = [chain.as_bytes()];
    for (lines, why) in [
        (vec![], "a chain without a certificate"),
        (vec![&b""[..]], "a chain without a certificate"),
        (
            vec![sample.escaped.as_bytes()],
            "a chain header together with a percent-encoded PEM",
        ),
    ] {
        assert_eq!(
            decode(Format::Auto, &lines, &chain)
                .unwrap_err()
                .to_string(),
            format!("certificate header refused: {why}")
        );
    }
}

mod xfcc {
    use super::*;

    struct Parts {
        hash: String,
        cert: String,
        chain: String,
        key: CertificateDigests,
    }

    fn parts() -> Parts {
        let sample = sample();
        let certificate = Certificate::from_pem(sample.chain_pem.as_bytes()).unwrap();
        Parts {
            hash: format!("Hash={}", certificate.fingerprint_sha256()),
            cert: format!("Cert=\"{}\"", sample.escaped),
            chain: format!("Chain=\"{}\"", escape(&sample.chain_pem)),
            key: *certificate.digests(),
        }
    }

    #[test]
    fn decode_envoy_element() {
        let Parts {
            hash,
            cert,
            chain,
            key,
        } = parts();
        // Subject as Envoy writes it: only what RFC 2253 escapes.
        let value = format!(
            "By=spiffe://edge;{hash};{cert};{chain};Subject=\"CN=Smith\\, \\\"Ann\\\"\";\
             URI=spiffe://a?b=c;URI=;DNS=a.example;DNS=b.example"
        );
        let certificate = one(Format::Xfcc, &value)
            .unwrap()
            .unwrap()
            .certificate()
            .unwrap();
        assert_eq!(*certificate.digests(), key);
        let alone = one(Format::Xfcc, &format!("hash{};{cert}", &hash[4..]));
        assert_eq!(alone.unwrap().unwrap().digests().unwrap().leaf, key.leaf);
    }

    #[test]
    fn decode_forged_pairs_and_elements_are_refused() {
        let ours = parts();
        let other = parts();
        let (hash, cert, chain) = (&ours.hash, &ours.cert, &ours.chain);
        for (value, why) in [
            // A URI name of the client's certificate, as Envoy writes it.
            (
                format!("{hash};URI=urn:x;{}", other.cert),
                "'Hash' is not that of the certificate",
            ),
            (
                format!("{hash};URI=urn:x;{};{}", other.hash, other.cert),
                "a repeated key",
            ),
            (
                format!("{hash};{cert};URI=urn:x;{}", other.cert),
                "a repeated key",
            ),
            (
                format!("{hash};{cert};URI=urn:x;{}", other.chain),
                "'Cert' is not the first of 'Chain'",
            ),
            (
                format!("{hash};{cert};URI=urn:x,{};{}", other.hash, other.cert),
                "several elements, expected one (forward_client_cert_details SANITIZE_SET)",
            ),
            (
                format!("{hash};{cert};URI=urn:x;junk"),
                "a pair without '='",
            ),
            (
                format!("{hash};{cert};URI=urn:x;Key=1"),
                "a pair with an unknown key",
            ),
            (
                format!("{hash};{cert};DNS=a\"b\""),
                "a quote within a bare value",
            ),
            (format!("{hash};{cert};DNS=\"a\"b"), "text after a value"),
            (
                format!("{hash};{cert};Subject=\"CN=a"),
                "a quote that does not end",
            ),
            (format!("{hash};{cert};"), "a pair without '='"),
            (cert.clone(), "no 'Hash' in it"),
            (
                hash.clone(),
                "neither 'Cert' nor 'Chain' in it, expected set_current_client_cert_details with \
                 one of them",
            ),
            (
                format!("{hash};{}", chain.replace("Chain", "Cert")),
                "'Cert' holds several certificates",
            ),
            (
                format!("{hash};{cert};{}", "DNS=a;".repeat(300)),
                "over 200 pairs",
            ),
        ] {
            assert_eq!(
                error(Format::Xfcc, &value),
                format!("certificate header refused: {why}"),
                "{value}"
            );
        }
    }
}
