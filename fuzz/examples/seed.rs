//! Writes the first corpus: at least one valid input for each target.

use std::fs;
use std::io::Write;
use std::path::Path;

use openssl::x509::X509;
use resty_mtls::certificate::encoded_chain;
use resty_mtls::headers::Dialect;
use resty_mtls::trust::ocsp;
use resty_mtls_fuzz::{der, Issuer, Pki};

/// UTCTime 2027-01-15 07:00:00, 08:00:00 and 2027-01-16 08:00:00.
const TIMES: [&[u8]; 3] = [b"270115070000Z", b"270115080000Z", b"270116080000Z"];

fn main() {
    let pki = Pki::default();
    let ca = pki.ca.to_pem().unwrap();
    let leaf = pki.leaf.to_pem().unwrap();
    write("certificate", &[&ca, &[leaf.clone(), ca.clone()].concat()]);
    let text = [b"# CA\r\n", &ca[..], b"second\n", &leaf[..]].concat();
    write(
        "certificate_bundle",
        &[&text, &pki.ca.to_der().unwrap(), &pkcs7(&pki)],
    );
    let manifests = format!(
        "kind: Secret\nmetadata: {{name: ca, namespace: a}}\nstringData:\n  ca.crt: |\n{}---\n\
         kind: Ingress\nmetadata:\n  name: i\n  namespace: a\n  annotations:\n    \
         nginx.ingress.kubernetes.io/auth-tls-secret: a/ca\n    \
         nginx.ingress.kubernetes.io/auth-tls-match-cn: CN=(x|y)\n    \
         nginx.ingress.kubernetes.io/auth-tls-verify-client: optional\nspec:\n  rules:\n  \
         - host: a.test\n    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: \
         {{name: w, port: {{number: 80}}}}}}}}]}}\n",
        String::from_utf8(pki.ca.to_pem().unwrap())
            .unwrap()
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    );
    write("import_ingress", &[manifests.as_bytes()]);
    write(
        "inspect",
        &[&text, &pki.leaf.to_der().unwrap(), &pkcs7(&pki)],
    );
    write(
        "chain",
        &[&encoded_chain::encode([&*pki.leaf, &*pki.ca].into_iter()).unwrap()],
    );

    let der = pki.leaf.to_der().unwrap();
    for dialect in Dialect::ALL {
        let target = format!("dialect_{}", dialect.name().replace('-', "_"));
        write(
            &target,
            &[&[b"\x0a", &der[..]].concat(), &certificate_chunks()],
        );
    }

    let (tbs_crl, data) = (tbs_crl(&pki), response_data(&pki));
    let signed = pki.sign(&tbs_crl);
    write(
        "crl",
        &[
            &[b"\0", &tbs_crl[..]].concat(),
            &[b"\x01", &signed[..]].concat(),
        ],
    );
    write(
        "list",
        &[
            b"# revoked\n\nsha256 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b \
              until=2027-01-01T00:00:00Z\nserial 0A:0b CN=CA, O=\"Example, Inc\"\n",
            b"spki_sha256 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b\r\n\
              serial 02 CN=a\\C3\\A9+1.2.3=#0c0161 until=2106-01-01T00:00:00Z\n",
        ],
    );
    let error = b"\x01\x30\x03\x0a\x01\x03";
    write("ocsp_response", &[&[b"\0", &data[..]].concat(), error]);

    let ca = String::from_utf8(ca).unwrap().replace('\n', "\n    ");
    let id = "11111111-1111-4111-8111-111111111111";
    let policy = format!(
        "_format_version: \"3.0\"\nca_certificates:\n- id: {id}\n  cert: |\n    {ca}\nservices:\n\
         - name: api\n  url: http://127.0.0.1:9000\n  routes:\n  - name: api-mtls\n    \
         protocols: [https]\n    snis: [api.example.com]\n    plugins:\n    - name: mtls-auth\n      \
         config: {{ ca_certificates: [{id}], send_ca_dn: true, skip_consumer_lookup: true }}\n\
         plugins:\n- name: tls-metadata-headers\n  config: {{ inject_client_cert_details: true }}\n"
    );
    write("policy", &[policy.as_bytes()]);
    write(
        "cases",
        &[
            b"cases:\n- name: a\n  route: r\n  sni: ''\n  cert: a.pem\n  header: {X-A: b}\n  time: \
              2027-01-31\n  expect: {status: 401, consumer: null, groups: [g], headers: {X-B: c}}\n",
        ],
    );
    write(
        "blocks_file",
        &[
            b"{\"blocks\":[{\"sha256\":\"aa\",\"added\":1,\"until\":7,\"reason\":\"lost\"},\
              {\"serial\":\"0A\",\"issuer_dn\":\"CN=CA\"}]}",
        ],
    );
    write(
        "audit_line",
        &[
            br#"{"tls.client.hash.sha256":"6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b","mtls.decision":"pass"}"#,
            br#"{"mtls":{"decision":"refused","route":"r"},"url.domain":"a.test"}"#,
        ],
    );
    let of_pki = [
        &(der.len() as u16).to_be_bytes()[..],
        &der[..],
        &pki.ca.to_der().unwrap(),
    ];
    write("explain", &[&of_pki.concat()]);
    headers(&pki);
    names();
    tokens();
    let x5c = openssl::base64::encode_block(&pki.ca.to_der().unwrap());
    let bundle = format!(
        r#"{{"keys":[{{"use":"x509-svid","kty":"EC","x5c":["{x5c}"]}}],"spiffe_sequence":1}}"#
    );
    write("spiffe_bundle", &[bundle.as_bytes()]);
    write(
        "server_name",
        &[
            b"api.example.com",
            b"*.example.com",
            b"*",
            "b\u{fc}ro.example".as_bytes(),
        ],
    );
}

/// A PKCS #7 bundle of both certificates.
fn pkcs7(pki: &Pki) -> Vec<u8> {
    let oid = |last: u8| der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, last]]);
    let certificates = [pki.ca.to_der().unwrap(), pki.leaf.to_der().unwrap()].concat();
    let signed = [
        &[2, 1, 1, 0x31, 0][..],
        &der(0x30, &[&oid(1)]),
        &der(0xa0, &[&certificates]),
        &[0x31, 0],
    ];
    der(0x30, &[&oid(2), &der(0xa0, &[&der(0x30, &signed)])])
}

/// Inputs of a kind, a name and another name.
fn names() {
    write(
        "names",
        &[
            b"\x00A.Example.com.\na.example.com",
            b"\x00xn--bcher-kva.example\n*.example",
            b"\x01Ann@Example.com\nann@example.com",
            b"\x02SPIFFE://Example.org./n%73/a%2cb\nspiffe://example.org/ns/../a",
            b"\x02https://[2001:DB8::7]:443\nhttps://192.0.2.7:08443/a//b?c#d",
            b"\x02urn:UUID:F81D4FAE-7dec-11d0-a765-00a0c91e6bf6\nurn:x:%C3%A4%252e",
            b"\x03spiffe://\nspiffe://example.org/ns/",
            b"\x04\xc0\x00\x02\x07\n\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x07",
            "\x05Stra\u{df}e  \u{fb03}\u{200b}\nSTRASSE FFI".as_bytes(),
        ],
    );
}

fn headers(pki: &Pki) {
    let encode = |x509: &X509| openssl::base64::encode_block(&x509.to_der().unwrap());
    let (leaf, ca) = (encode(&pki.leaf), encode(&pki.ca));
    let pem = String::from_utf8([pki.leaf.to_pem().unwrap(), pki.ca.to_pem().unwrap()].concat());
    let escape = |text: &str| {
        let escapes = [
            ('\n', "%0A"),
            (' ', "%20"),
            ('+', "%2B"),
            ('/', "%2F"),
            ('=', "%3D"),
        ];
        escapes
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replace(*from, to))
    };
    let escaped = escape(&pem.unwrap());
    let byte_sequences = format!(":{leaf}:\0:{ca}:, :{leaf}:");
    let hash: String = openssl::sha::sha256(&pki.leaf.to_der().unwrap())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let xfcc =
        format!("By=spiffe://a;Hash={hash};Chain=\"{escaped}\";Subject=\"CN=\\\"x\";URI=;DNS=a");
    write("header_base64_encoded", &[leaf.as_bytes()]);
    write("header_url_encoded", &[escaped.as_bytes()]);
    write("header_aws_alb", &[escaped.replace("%2B", "+").as_bytes()]);
    write("header_rfc9440", &[byte_sequences.as_bytes()]);
    write(
        "header_auto",
        &[byte_sequences.as_bytes(), escaped.as_bytes()],
    );
    write("header_xfcc", &[xfcc.as_bytes()]);
    write("header_traefik", &[format!("{leaf},{ca}").as_bytes()]);
}

fn tokens() {
    let issuer = Issuer::default();
    let header = br#"{"alg":"ES256","kid":"1","typ":"at+jwt"}"#;
    let claims = br#"{"iss":"https://idp.example","aud":["api"],"exp":1800000100,"nbf":0,"scope":"read write","cnf":{"x5t#S256":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}}"#;
    write(
        "jwt",
        &[
            &[b"\0", &header[..], b"\0", claims].concat(),
            &[b"\x01", &issuer.sign(header, b"{}").as_bytes()[..90]].concat(),
        ],
    );
    write("jwks", &[&issuer.jwks()]);
    // RFC 9449 section 7.1
    write(
        "dpop",
        &[b"https://resource.example.org/protectedresource\n\
            eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZy\
            aHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpi\
            VFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9\
            iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9\
            wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05\
            yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1ple\
            mAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"],
    );
    let mut gzip = flate2::write::GzEncoder::new(vec![b'\x10'], flate2::Compression::default());
    gzip.write_all(&issuer.jwks()).unwrap();
    write("gzip", &[&gzip.finish().unwrap()]);
    write(
        "introspection",
        &[
            &[b"{\"active\":true,", &claims[1..]].concat(),
            br#"{"active":false}"#,
        ],
    );
    write(
        "discovery",
        &[br#"{"issuer":"https://idp.example","jwks_uri":"https://idp.example/jwks","introspection_endpoint":"https://idp.example/i"}"#, br#"{"issuer":"https://login.example/{tenantid}/v2.0"}"#],
    );
}

/// A certificate in the chunks of the dialect targets: field, type, length, content.
fn certificate_chunks() -> Vec<u8> {
    let chunks: [(u8, u8, &[u8]); 12] = [
        (0, 0x12, b"CZ"),
        (0, 0x20, b"\xc5\xbdlu\xc5\xa5, Widgets + Sons"),
        (0, 0x3a, b"\0R\0&\0D\0;\0 \0L\0=\x007"),
        (0, 0x00, b"Smith, \"Ann\" #1/x\\"),
        (0, 0xb1, b"\r\nX-Admin: 1"),
        (3, 0x00, b"Issuing CA"),
        (4, 2, b"ann.example.com"),
        (4, 6, b"spiffe://example.org/a;b,By=\"c"),
        (4, 1, b"ann@example.com"),
        (4, 7, b"\xc0\x00\x02\x07"),
        (6, 0, b"\x00\x9a\xbc"),
        (7, 1, b"20600102030405Z"),
    ];
    let mut bytes = vec![0x0b];
    for (field, kind, content) in chunks {
        bytes.extend([field, kind, content.len() as u8]);
        bytes.extend(content);
    }
    bytes
}

/// TBSCertList with one entry.
fn tbs_crl(pki: &Pki) -> Vec<u8> {
    let [before, this, next] = TIMES.map(|time| der(0x17, &[time]));
    let reason = der(0x30, &[b"\x06\x03\x55\x1d\x15", b"\x04\x03\x0a\x01\x01"]);
    let entry = der(0x30, &[b"\x02\x01\x02", &before, &der(0x30, &[&reason])]);
    let number = der(0x30, &[b"\x06\x03\x55\x1d\x14", b"\x04\x03\x02\x01\x01"]);
    der(
        0x30,
        &[
            b"\x02\x01\x01",
            b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
            &pki.ca.subject_name().to_der().unwrap(),
            &this,
            &next,
            &der(0x30, &[&entry]),
            &der(0xa0, &[&der(0x30, &[&number])]),
        ],
    )
}

/// ResponseData with the status "good" for the leaf.
fn response_data(pki: &Pki) -> Vec<u8> {
    let request = ocsp::request(&pki.leaf, &pki.ca, false).unwrap();
    let [_, this, next] = TIMES.map(|time| der(0x18, &[b"20", time]));
    // Four DER headers of two bytes precede the certID.
    let single = der(
        0x30,
        &[&request[8..], b"\x80\x00", &this, &der(0xa0, &[&next])],
    );
    let name = pki.ca.subject_name().to_der().unwrap();
    der(0x30, &[&der(0xa1, &[&name]), &this, &der(0x30, &[&single])])
}

fn write(target: &str, seeds: &[&[u8]]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&dir).unwrap();
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed-{number}")), seed).unwrap();
    }
}
