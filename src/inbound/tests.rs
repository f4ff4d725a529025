use std::fs;
use std::io::Write as _;
use std::path::Path;

use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};
use serde_json::Value;

use super::*;
use crate::headers::{self, ClientInfo, Dialect, DialectConfig, DialectOptions, VerifyResult};
use crate::testing::{self, NOW};
use crate::text::hex;

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

fn decode_line(format: Format, value: &str) -> Result<Option<DerChain>, Error> {
    decode(format, XfccElement::Only, &[value.as_bytes()], &[])
}

fn refusal(format: Format, value: &str) -> String {
    match decode_line(format, value) {
        Err(error) => error.to_string(),
        Ok(Some(decoded)) => decoded.certificate().map(|_| ()).unwrap_err().to_string(),
        Ok(None) => panic!("{value:?} counts as no certificate"),
    }
}

/// A certificate in the encodings that proxies use.
struct EncodedCertificate {
    pem: String,
    der: Vec<u8>,
    base64: String,
    percent_encoded_pem: String,
    chain_pem: String,
}

fn encoded_certificate() -> EncodedCertificate {
    let pki = testing::pki();
    let text = |x509: &X509| String::from_utf8(x509.to_pem().unwrap()).unwrap();
    let pem = text(&pki.leaf_of_intermediate.x509);
    let der = pki.leaf_of_intermediate.x509.to_der().unwrap();
    EncodedCertificate {
        base64: openssl::base64::encode_block(&der),
        percent_encoded_pem: percent_encode(&pem),
        chain_pem: pem.clone() + &text(&pki.intermediate.x509),
        pem,
        der,
    }
}

fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[test]
fn decode_header_vectors_in_all_formats() {
    let Some(document) = read_test_vectors("header-vectors.json") else {
        return;
    };
    let vectors = document["vectors"].as_array().unwrap();
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
            let decoded = decode_line(format, value).unwrap().unwrap();
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
    let Some(example) = read_test_vectors("rfc9440-appendix-a.json") else {
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
        let certificate = decode(
            Format::Rfc9440,
            XfccElement::Only,
            &[leaf.as_bytes()],
            &chain,
        )
        .unwrap()
        .unwrap()
        .certificate()
        .unwrap();
        assert_eq!(certificate.digests(), expected.digests());
        assert_eq!(certificate.chain_pem().unwrap(), pems.as_bytes());
    }
}

#[test]
fn decode_reads_the_headers_of_the_dialects() {
    let certificate = Certificate::from_pem(encoded_certificate().chain_pem.as_bytes()).unwrap();
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
        let decoded = decode(format, XfccElement::Only, &[line(name).unwrap()], &chain);
        let back = decoded.unwrap().unwrap().certificate().unwrap();
        assert_eq!(back.digests(), certificate.digests(), "{}", format.name());
    }
    let chain = headers::kong::escape(&certificate.chain_pem().unwrap());
    for format in [Format::UrlEncoded, Format::Auto, Format::AwsAlb] {
        let back = decode_line(format, &chain)
            .unwrap()
            .unwrap()
            .certificate()
            .unwrap();
        assert_eq!(back.digests(), certificate.digests());
    }
}

#[test]
fn decode_absent_empty_or_null_is_no_certificate() {
    for (_, format) in Format::ALL {
        assert!(decode(format, XfccElement::Only, &[], &[])
            .unwrap()
            .is_none());
        for value in ["", "  ", "(null)"] {
            assert!(
                decode_line(format, value).unwrap().is_none(),
                "{}",
                format.name()
            );
        }
    }
}

#[test]
fn decode_repeated_header_is_refused() {
    let value = encoded_certificate().base64;
    for (_, format) in Format::ALL {
        for other in [value.as_bytes(), b""] {
            let error =
                decode(format, XfccElement::Only, &[value.as_bytes(), other], &[]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "certificate header refused: 2 header lines, expected one"
            );
        }
    }
}

#[test]
fn decode_over_the_limits_is_refused() {
    let long = "A".repeat(1 << 20);
    for (_, format) in Format::ALL {
        assert_eq!(
            refusal(format, &long),
            "certificate header refused: 1048576 bytes are over the limit of 65536"
        );
    }
    let certificate = encoded_certificate();
    let small = openssl::base64::encode_block(b"0\x00");
    for (format, value) in [
        (Format::Traefik, vec![small.clone(); 17].join(",")),
        (
            Format::UrlEncoded,
            format!("-----BEGIN CERTIFICATE-----{small}-----END CERTIFICATE-----").repeat(17),
        ),
    ] {
        assert_eq!(
            refusal(format, &value),
            "certificate header refused: over 16 certificates"
        );
    }
    let chain = vec![format!(":{small}:"); 16].join(",");
    let leaf = format!(":{}:", certificate.base64);
    let refused = decode(
        Format::Rfc9440,
        XfccElement::Only,
        &[leaf.as_bytes()],
        &[chain.as_bytes()],
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        "certificate header refused: over 16 certificates"
    );
}

#[test]
fn decode_plus_is_not_a_space() {
    let certificate = encoded_certificate();
    // An HTML form encodes the spaces of the PEM header line as `+`.
    let form = certificate.percent_encoded_pem.replace("%20", "+");
    assert_eq!(
        refusal(Format::UrlEncoded, &form),
        "certificate header refused: not PEM, expected '-----BEGIN CERTIFICATE-----'"
    );
    let raw = certificate.percent_encoded_pem.replace("%2B", "+");
    let decoded = decode_line(Format::UrlEncoded, &raw).unwrap().unwrap();
    assert_eq!(decoded.ders, [certificate.der]);
}

#[test]
fn decode_malformed_value_is_refused() {
    let certificate = encoded_certificate();
    let (base64, pem) = (&certificate.base64, &certificate.pem);
    let not_pem = "not PEM, expected '-----BEGIN CERTIFICATE-----'";
    let der = |junk: &[u8]| openssl::base64::encode_block(&[&certificate.der, junk].concat());
    for (format, value, why) in [
        (
            Format::UrlEncoded,
            percent_encode(&format!("{pem}x")),
            not_pem,
        ),
        (
            Format::UrlEncoded,
            percent_encode(&format!("x{pem}")),
            not_pem,
        ),
        (
            Format::UrlEncoded,
            percent_encode(&format!("{pem},")),
            not_pem,
        ),
        (Format::UrlEncoded, certificate.base64.clone(), not_pem),
        (
            Format::UrlEncoded,
            percent_encode(&pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            not_pem,
        ),
        (
            Format::UrlEncoded,
            percent_encode(&pem.replace("-----END CERTIFICATE-----", "")),
            "a PEM block without its end",
        ),
        (
            Format::Base64Encoded,
            der(b"\0"),
            "not exactly one DER certificate",
        ),
        (
            Format::Traefik,
            der(&certificate.der),
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
            ":".to_owned(),
            "not a byte sequence, expected ':base64:'",
        ),
    ] {
        let expected = format!("certificate header refused: {why}");
        assert_eq!(refusal(format, &value), expected, "{value}");
    }
    for (format, value) in [
        (Format::Base64Encoded, format!("{base64}!")),
        (Format::Base64Encoded, format!("{base64} {base64}")),
        (
            Format::Base64Encoded,
            base64.replace(['+', '/'], "-")[..41].to_owned() + "-_",
        ),
        (Format::Traefik, format!("{base64} {base64}")),
        (Format::Rfc9440, format!(":{base64}:, :{base64}:")),
        (
            Format::UrlEncoded,
            percent_encode(pem).replacen("%0A", "%zz", 2),
        ),
        (
            Format::UrlEncoded,
            percent_encode(pem).replacen("%0A", "%00", 2),
        ),
        (
            Format::UrlEncoded,
            percent_encode(&pem.replacen('\n', "\nProc-Type: 4,ENCRYPTED\n", 1)),
        ),
    ] {
        let error = refusal(format, &value);
        assert!(
            error.starts_with("certificate header refused: not base64"),
            "{value}: {error}"
        );
    }
    assert!(refusal(Format::Base64Encoded, "MAA=").contains("not a readable X.509 certificate"));
}

#[test]
fn decode_certificate_in_ber_is_refused() {
    let mut der = encoded_certificate().der;
    // The length is encoded in three octets, where two are enough.
    assert_eq!(der[..2], [0x30, 0x82]);
    der[1] = 0x83;
    der.insert(2, 0);
    assert_eq!(
        refusal(Format::Base64Encoded, &openssl::base64::encode_block(&der)),
        "certificate header refused: a certificate that is not in DER"
    );
}

#[test]
fn decode_pem_with_spaces_for_line_breaks() {
    let certificate = encoded_certificate();
    let value = certificate.pem.replace('\n', " ");
    for format in [Format::UrlEncoded, Format::Auto] {
        let decoded = decode_line(format, &value).unwrap().unwrap();
        assert_eq!(decoded.ders, [certificate.der.as_slice()]);
    }
}

#[test]
fn decode_chain_of_haproxy_and_lists_with_blanks() {
    let encoded = encoded_certificate();
    let chain = Certificate::from_pem(encoded.chain_pem.as_bytes()).unwrap();
    let intermediate = chain.intermediates()[0].to_der().unwrap();
    let sequence = |ders: &[&[u8]]| format!(":{}:", openssl::base64::encode_block(&ders.concat()));
    let leaf = sequence(&[&encoded.der]);
    let read = |leaf: &str, chain: &[&str]| {
        let chain: Vec<&[u8]> = chain.iter().map(|line| line.as_bytes()).collect();
        decode(
            Format::Rfc9440,
            XfccElement::Only,
            &[leaf.as_bytes()],
            &chain,
        )
    };
    let one = sequence(&[&intermediate]);
    let digests = |chain: &[&str]| read(&leaf, chain).unwrap().unwrap().digests().unwrap();
    for lines in [
        vec![&*one],
        vec!["::", &one],
        vec![&format!("::, {one} ,::")],
    ] {
        assert_eq!(digests(&lines), *chain.digests(), "{lines:?}");
    }
    // One member with all certificates is the same as a list.
    let blob = sequence(&[&intermediate, &encoded.der]);
    let list = format!("{one}, {leaf}");
    assert_eq!(digests(&[&blob]), digests(&[&list]));
    assert_eq!(digests(&["::"]), digests(&[]));
    assert!(read("::", &["::"]).unwrap().is_none());
    assert!(read("::", &[]).unwrap().is_none());
    let truncated = sequence(&[&intermediate, &encoded.der[1..]]);
    let many = sequence(&[&*intermediate; 17]);
    for (leaf, chain, why) in [
        ("::", &*one, "a chain without a certificate"),
        (
            &leaf,
            &truncated,
            "not DER certificates one after the other",
        ),
        (&leaf, &many, "over 16 certificates"),
        (&blob, "", "not exactly one DER certificate"),
    ] {
        let error = read(leaf, &[chain]).unwrap_err().to_string();
        assert_eq!(error, format!("certificate header refused: {why}"));
    }
    let line = format!(
        "{}, {}",
        encoded.base64,
        openssl::base64::encode_block(&intermediate)
    );
    let found = decode_line(Format::Traefik, &line).unwrap().unwrap();
    assert_eq!(found.digests().unwrap(), *chain.digests());
}

#[test]
fn decode_chain_header_needs_its_certificate() {
    let certificate = encoded_certificate();
    let chain = format!(":{}:", certificate.base64);
    let chain: [&[u8]; 1] = [chain.as_bytes()];
    for (lines, why) in [
        (vec![], "a chain without a certificate"),
        (vec![&b""[..]], "a chain without a certificate"),
        (
            vec![certificate.percent_encoded_pem.as_bytes()],
            "a chain header together with a percent-encoded PEM",
        ),
    ] {
        assert_eq!(
            decode(Format::Auto, XfccElement::Only, &lines, &chain)
                .unwrap_err()
                .to_string(),
            format!("certificate header refused: {why}")
        );
    }
}

mod xfcc {
    use super::*;

    /// The values of an XFCC element for one certificate.
    struct ElementParts {
        hash: String,
        cert: String,
        chain: String,
        digests: CertificateDigests,
    }

    fn element_parts() -> ElementParts {
        let encoded = encoded_certificate();
        let certificate = Certificate::from_pem(encoded.chain_pem.as_bytes()).unwrap();
        ElementParts {
            hash: format!("Hash={}", certificate.fingerprint_sha256()),
            cert: format!("Cert=\"{}\"", encoded.percent_encoded_pem),
            chain: format!("Chain=\"{}\"", percent_encode(&encoded.chain_pem)),
            digests: *certificate.digests(),
        }
    }

    #[test]
    fn decode_envoy_element() {
        let ElementParts {
            hash,
            cert,
            chain,
            digests,
        } = element_parts();
        // Envoy escapes in the subject only what RFC 2253 escapes.
        let value = format!(
            "By=spiffe://edge;{hash};{cert};{chain};Subject=\"CN=Smith\\, \\\"Ann\\\"\";\
             URI=spiffe://a?b=c;URI=;DNS=a.example;DNS=b.example"
        );
        let certificate = decode_line(Format::Xfcc, &value)
            .unwrap()
            .unwrap()
            .certificate()
            .unwrap();
        assert_eq!(*certificate.digests(), digests);
        let alone = decode_line(Format::Xfcc, &format!("hash{};{cert}", &hash[4..]));
        assert_eq!(
            alone.unwrap().unwrap().digests().unwrap().leaf,
            digests.leaf
        );
    }

    #[test]
    fn decode_one_of_several_elements() {
        let ElementParts { hash, cert, .. } = element_parts();
        let pki = testing::pki();
        let other = Certificate::new(pki.leaf.x509.clone(), Stack::new().unwrap()).unwrap();
        let pem = String::from_utf8(pki.leaf.x509.to_pem().unwrap()).unwrap();
        let first = format!(
            "By=x;Hash={};Cert=\"{}\"",
            other.fingerprint_sha256(),
            percent_encode(&pem)
        );
        let last = format!("By=spiffe://edge;{hash};{cert};URI=spiffe://a");
        let bare = "By=spiffe://mesh;Hash=00;Subject=\"CN=a, b\";URI=spiffe://b";
        let leaf_of = |element, value: &str| {
            decode(Format::Xfcc, element, &[value.as_bytes()], &[])
                .map(|found| hex(&found.unwrap().digests().unwrap().leaf))
        };
        let ours = hash.strip_prefix("Hash=").unwrap().to_owned();
        for separator in [",", ", "] {
            let value = [&first, bare, &last].join(separator);
            assert!(leaf_of(XfccElement::Only, &value).is_err());
            assert_eq!(leaf_of(XfccElement::Last, &value).unwrap(), ours);
            let found = leaf_of(XfccElement::First, &value).unwrap();
            assert_eq!(found, other.fingerprint_sha256());
        }
        for element in [XfccElement::Last, XfccElement::First] {
            assert_eq!(leaf_of(element, &last).unwrap(), ours);
        }
        // Clients may send text before the last element, in which it must not hide.
        for (value, why) in [
            (format!("{first};Subject=\",{last}"), "text after a value"),
            (format!("dns=\",{last}"), "text after a value"),
            (format!("junk,{last}"), "a pair with an unknown key"),
            (format!("{last},"), "a pair without '='"),
            (
                format!("{},{last}", first.replace("Hash=", "Hash=0")),
                "'Hash' is not that of the certificate",
            ),
            (
                format!("{last},{bare}"),
                "neither 'Cert' nor 'Chain' in it, expected \
                set_current_client_cert_details with one of them",
            ),
        ] {
            let refused = leaf_of(XfccElement::Last, &value).unwrap_err().to_string();
            assert_eq!(
                refused,
                format!("certificate header refused: {why}"),
                "{value}"
            );
        }
    }

    #[test]
    fn decode_last_element_that_a_name_forges_is_refused() {
        let ElementParts { hash, cert, .. } = element_parts();
        // A client whose certificate has this URI would else present the certificate of another.
        let uri = format!("urn:x,{hash};{cert}");
        let pki = testing::pki();
        let subject = pki.leaf.x509.subject_name();
        let names = testing::san_extension(&[(0x86, b"urn:a"), (0x86, uri.as_bytes())]);
        let forger = testing::issue_with_subject(&pki.ca, subject, Some(&names));
        let certificate = Certificate::new(forger.clone(), Stack::new().unwrap()).unwrap();
        let pem = String::from_utf8(forger.to_pem().unwrap()).unwrap();
        let value = format!(
            "By=x;Hash={};Cert=\"{}\";URI={uri}",
            certificate.fingerprint_sha256(),
            percent_encode(&pem)
        );
        let read = |element| decode(Format::Xfcc, element, &[value.as_bytes()], &[]);
        assert_eq!(
            read(XfccElement::Last).unwrap_err().to_string(),
            "certificate header refused: an element before the last has a certificate with a comma in a \
             name, or with names that cannot be read"
        );
        let first = read(XfccElement::First)
            .unwrap()
            .unwrap()
            .digests()
            .unwrap();
        assert_eq!(first, *certificate.digests());
    }

    #[test]
    fn decode_forged_pairs_and_elements_are_refused() {
        let ours = element_parts();
        let other = element_parts();
        let (hash, cert, chain) = (&ours.hash, &ours.cert, &ours.chain);
        for (value, why) in [
            // Envoy writes a URI of the client's certificate without quotes, so it can hold pairs.
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
                refusal(Format::Xfcc, &value),
                format!("certificate header refused: {why}"),
                "{value}"
            );
        }
    }
}
