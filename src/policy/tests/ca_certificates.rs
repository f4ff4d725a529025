//! CA certificates of a document.

use super::*;

#[test]
fn from_yaml_bad_ca_error_names_what_the_text_is() {
    let leaf = pem("leaf", false, -1, 30);
    let (a, b) = (ca_pem("CA A"), ca_pem("CA B"));
    let text = format!(
        "_format_version: \"3.0\"\nca_certificates:\n\
         - {{id: {ID_A}, cert: {leaf:?}}}\n\
         - {{id: {ID_B}, cert: {:?}}}\n\
         - {{id: 33333333-3333-4333-8333-333333333333, cert: /etc/ca.pem}}\n\
         - {{id: 44444444-4444-4444-8444-444444444444}}\n\
         - {{id: nonsense, cert: {a:?}}}\n\
         - {{cert: {a:?}, cert_digest: '00'}}\n\
         - {{id: {ID_A}, cert: {b:?}, crt: x}}\n",
        format!("{a}{b}"),
    );
    let digest = hex_digest(&a);
    assert_eq!(
        errors(&text),
        [
            format!(
                "p:3:52: ca_certificates[0].cert: {}",
                Error::NotCa("CN=leaf".to_owned())
            ),
            "p:4:52: ca_certificates[1].cert: 2 certificates found, expected exactly one; give \
             each CA an entry of its own"
                .to_owned(),
            "p:5:52: ca_certificates[2].cert: '/etc/ca.pem' is the path of a file, expected it as \
             'file' in place of 'cert'"
                .to_owned(),
            "p:6:3: ca_certificates[3]: the required field 'cert' is missing".to_owned(),
            "p:7:8: ca_certificates[4].id: 'nonsense' is not a UUID, expected for example \
             '11111111-1111-4111-8111-111111111111'"
                .to_owned(),
            "p:8:10: ca_certificates[5].cert: is the same certificate as ca_certificates[4], \
             expected it once"
                .to_owned(),
            format!(
                "p:8:{}: ca_certificates[5].cert_digest: '00' is not the SHA-256 digest of \
                 'cert', expected '{digest}'",
                10 + format!("{a:?}").len() + ", cert_digest: ".len()
            ),
            "p:9:3: ca_certificates[6].id: the id '11111111-1111-4111-8111-111111111111' is \
             given twice, first at ca_certificates[0]"
                .to_owned(),
            format!(
                "p:9:{}: ca_certificates[6]: unknown field 'crt', did you mean 'cert'?",
                52 + format!("{b:?}").len() + ", ".len()
            ),
        ]
    );
}

fn hex_digest(pem: &str) -> String {
    let der = openssl::x509::X509::from_pem(pem.as_bytes())
        .unwrap()
        .to_der()
        .unwrap();
    crate::text::hex(&openssl::sha::sha256(&der))
}

#[test]
fn from_yaml_right_cert_digest_is_accepted_in_any_case() {
    let pem = ca_pem("CA A");
    let digest = hex_digest(&pem).to_uppercase();
    policy(&format!(
        "_format_version: \"3.0\"\nca_certificates:\n\
         - {{id: {ID_A}, cert: {pem:?}, cert_digest: '{digest}', tags: [x]}}\n"
    ));
}

#[test]
fn from_yaml_ca_outside_its_validity_is_a_warning() {
    let text = format!(
        "_format_version: \"3.0\"\nca_certificates:\n{}{}- {{cert: {:?}}}\n",
        ca_entry(ID_A, &pem("old", true, -3, -2)),
        ca_entry(ID_B, &pem("new", true, 2, 3)),
        ca_pem("nameless"),
    );
    let found = warnings(&policy(&text));
    assert_eq!(found.len(), 3);
    assert!(
        found[0]
            .starts_with("p:3:52: warning: ca_certificates[0].cert: the CA 'CN=old' expired on ")
            && found[0].ends_with(" GMT: it verifies no client"),
        "{}",
        found[0]
    );
    assert!(
        found[1].starts_with(
            "p:4:52: warning: ca_certificates[1].cert: the CA 'CN=new' is not valid before "
        ) && found[1].ends_with(" GMT: it verifies no client"),
        "{}",
        found[1]
    );
    assert_eq!(
        found[2],
        "p:5:3: warning: ca_certificates[2]: has no id, so no plugin can refer to it"
    );
}

#[test]
fn from_yaml_badly_indented_pem_is_reported_as_such() {
    let pem = ca_pem("a");
    let not_alike =
        "a line of the PEM text is not indented as its first line, or not deeper than its \
                     key, expected 'cert: |' and below it all lines indented alike";
    // The indentation of the first line, the second and the others, and the line that is wrong.
    for (first, second, others, expected) in [
        ("    ", "  ", "    ", format!("p:5:1: {not_alike}")),
        ("    ", "", "", format!("p:5:1: {not_alike}")),
        ("    ", "    ", "  ", format!("p:6:1: {not_alike}")),
        ("", "", "", format!("p:4:1: {not_alike}")),
        ("  ", "  ", "  ", format!("p:4:1: {not_alike}")),
    ] {
        let mut text = format!("ca_certificates:\n- id: {ID_A}\n  cert: |\n");
        for (number, line) in pem.lines().enumerate() {
            let blanks = match number {
                0 => first,
                1 => second,
                _ => others,
            };
            text += &format!("{blanks}{line}\n");
        }
        text += "_format_version: '3.0'\nroutes: []\n";
        assert_eq!(errors(&text), [expected], "{text}");
    }
    let deeper = pem.replace('\n', "\n      ");
    let text = format!(
        "_format_version: '3.0'\nca_certificates:\n- id: {ID_A}\n  cert: |\n    {deeper}\n"
    );
    assert_eq!(
        errors(&text),
        ["p:5:5: ca_certificates[0].cert: line 2 of the PEM text begins with blanks, expected all \
          its lines at the indentation of the first one below 'cert: |'"]
    );
}

#[test]
fn from_yaml_private_key_beside_a_ca_is_warned_about() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    let text = format!(
        "_format_version: '3.0'\nca_certificates:\n- {{id: {ID_A}, cert: {:?}}}\n",
        format!("{}{key}", ca_pem("a"))
    );
    assert_eq!(
        warnings(&policy(&text)),
        ["p:3:52: warning: ca_certificates[0].cert: holds a private key in addition to the certificate, \
          which must not be in a policy"]
    );
}
