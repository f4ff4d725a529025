//! `client-cert-acl`: rules on certificates.

use super::*;
use crate::certificate::normal_form;
use crate::identity::{Condition, SanCondition};
use crate::testing;

/// The rules of one `client-cert-acl`.
fn rules(config: &str) -> Rules {
    let text = with_auth(
        "",
        &format!("- {{name: client-cert-acl, config: {{{config}}}}}\n"),
    );
    (**policy(&text).plans[0].rules.as_ref().unwrap()).clone()
}

fn condition(rule: &str) -> Condition {
    rules(&format!("allow: [{rule}]")).allow.remove(0).condition
}

#[test]
fn client_cert_acl_every_condition_compiles() {
    let digest = "ab".repeat(32);
    let colons = ["AB"; 32].join(":");
    let text = |value: &str| normal_form::text(value).unwrap();
    let subject = |value: &str| Condition::Subject("organizationName".into(), text(value));
    let san = |san| Condition::San(san);
    for (rule, expected) in [
        ("{subject.O: Acme}".to_owned(), subject("Acme")),
        ("{subject.2.5.4.10: Acme}".to_owned(), subject("Acme")),
        (
            "{subject.organizationName: [Acme, Ajax]}".to_owned(),
            Condition::Any(vec![subject("Acme"), subject("Ajax")]),
        ),
        (
            "{issuer.CN: Root}".to_owned(),
            Condition::Issuer("commonName".into(), text("Root")),
        ),
        (
            "{san.dns: API.Example.com}".to_owned(),
            san(SanCondition::Dns(
                normal_form::dns(b"api.example.com").unwrap(),
            )),
        ),
        (
            "{san.dns: '*.example.com'}".to_owned(),
            san(SanCondition::DnsBelow(
                normal_form::dns(b"example.com").unwrap(),
            )),
        ),
        (
            "{san.uri: 'spiffe://a/b'}".to_owned(),
            san(SanCondition::Uri(
                normal_form::uri(b"spiffe://a/b").unwrap(),
            )),
        ),
        (
            "{san.uri: 'spiffe://a/b/*'}".to_owned(),
            san(SanCondition::UriPrefix(
                normal_form::uri_prefix(b"spiffe://a/b/").unwrap(),
            )),
        ),
        (
            "{san.uri: 'spiffe://*'}".to_owned(),
            san(SanCondition::UriPrefix(
                normal_form::uri_prefix(b"spiffe://").unwrap(),
            )),
        ),
        (
            "{san.uri: 'urn:x:*'}".to_owned(),
            san(SanCondition::UriPrefix(
                normal_form::uri_prefix(b"urn:x:").unwrap(),
            )),
        ),
        (
            "{san.uri: 'SPIFFE://A./%62'}".to_owned(),
            san(SanCondition::Uri(
                normal_form::uri(b"spiffe://a/b").unwrap(),
            )),
        ),
        (
            "{san.uri: 'SPIFFE://*'}".to_owned(),
            san(SanCondition::UriPrefix(
                normal_form::uri_prefix(b"spiffe://").unwrap(),
            )),
        ),
        (
            "{san.uri: 'https://Bücher.example:8443/a/*'}".to_owned(),
            san(SanCondition::UriPrefix(
                normal_form::uri_prefix(b"https://xn--bcher-kva.example:8443/a/").unwrap(),
            )),
        ),
        (
            "{san.dns: '*.BÜCHER.example.'}".to_owned(),
            san(SanCondition::DnsBelow(
                normal_form::dns(b"xn--bcher-kva.example").unwrap(),
            )),
        ),
        (
            "{san.email: Ann@Bücher.example}".to_owned(),
            san(SanCondition::Email(
                normal_form::email(b"Ann@xn--bcher-kva.example").unwrap(),
            )),
        ),
        (
            "{san.email: a@b.c}".to_owned(),
            san(SanCondition::Email(normal_form::email(b"a@b.c").unwrap())),
        ),
        (
            "{san.ip: 192.0.2.7}".to_owned(),
            san(SanCondition::Ip(normal_form::ip(&[192, 0, 2, 7]).unwrap())),
        ),
        (
            "{san.ip: '2001:db8::7'}".to_owned(),
            san(SanCondition::Ip(
                normal_form::ip(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]).unwrap(),
            )),
        ),
        (
            "{san.upn: Ann@corp.example.com}".to_owned(),
            san(SanCondition::Upn(
                normal_form::user_principal_name(Some(b"ann@CORP.example.com")).unwrap(),
            )),
        ),
        (
            format!("{{sha256: {digest}}}"),
            Condition::Sha256([0xab; 32]),
        ),
        (
            format!("{{spki_sha256: '{colons}'}}"),
            Condition::SpkiSha256([0xab; 32]),
        ),
        (
            "{issuer_key_id: '0a:0B'}".to_owned(),
            Condition::IssuerKeyId([10, 11].into()),
        ),
        (
            "{eku: [clientAuth, 1.2.3]}".to_owned(),
            Condition::Any(vec![
                Condition::ExtendedKeyUsage("1.3.6.1.5.5.7.3.2".into()),
                Condition::ExtendedKeyUsage("1.2.3".into()),
            ]),
        ),
        (
            "{subject.O: Acme, not: {any: [{subject.O: a}, {all: [{subject.O: b}]}]}}".to_owned(),
            Condition::All(vec![
                subject("Acme"),
                Condition::Not(Box::new(Condition::Any(vec![
                    subject("a"),
                    Condition::All(vec![subject("b")]),
                ]))),
            ]),
        ),
    ] {
        assert_eq!(condition(&rule), expected, "{rule}");
    }
}

#[test]
fn client_cert_acl_ca_is_the_ca_with_this_id() {
    let text = with_auth(
        "",
        &format!("- {{name: client-cert-acl, config: {{deny: [{{not: {{ca: {ID_A}}}}}]}}}}\n"),
    );
    let policy = policy(&text);
    let rules = policy.plans[0].rules.clone().unwrap();
    let Condition::Not(condition) = &rules.deny[0].condition else {
        panic!("{rules:?}");
    };
    let Condition::Ca(condition) = &**condition else {
        panic!("{rules:?}");
    };
    assert_eq!(condition.cas, [*auth(&policy).store.cas()[0].id()]);
}

#[test]
fn client_cert_acl_uris_not_in_normal_form_are_warned_about() {
    let warned = |uri: &str| {
        let rules =
            format!("- {{name: client-cert-acl, config: {{deny: [{{san.uri: {uri:?}}}]}}}}\n");
        warnings_that_contain(&with_auth("", &rules), "normal form")
    };
    for (uri, normal) in [
        ("SPIFFE://Example.org./n%73/*", "spiffe://example.org/ns/*"),
        ("https://x.example:443", "https://x.example/"),
    ] {
        let expected = format!(
            "p:9:53: warning: plugins[1].config.deny[0]['san.uri']: '{uri}' is compared as its \
             normal form, '{normal}'"
        );
        assert_eq!(warned(uri), [expected]);
    }
    for uri in ["spiffe://example.org/ns/*", "spiffe://*", "urn:x:A"] {
        assert_eq!(warned(uri), [""; 0], "{uri}");
    }
}

#[test]
fn client_cert_acl_values_that_look_like_patterns_are_warned_about() {
    let warned = |condition: &str| {
        let rules = format!("- {{name: client-cert-acl, config: {{deny: [{{{condition}}}]}}}}\n");
        warnings_that_contain(&with_auth("", &rules), "compared as it is")
    };
    for (key, value) in [
        ("subject.CN", "client-*"),
        ("subject.OU", "~^ops"),
        ("issuer.O", "^Example$"),
        ("san.email", "*@example.com"),
    ] {
        let column = 46 + key.len();
        let expected = format!(
            "p:9:{column}: warning: plugins[1].config.deny[0]['{key}']: '{value}' is compared as it \
             is: '*', '~' and '^' match only themselves here"
        );
        assert_eq!(warned(&format!("{key}: {value:?}")), [expected]);
    }
    for condition in [
        "subject.CN: a^b~c",
        "san.dns: '*.example.com'",
        "san.uri: 'spiffe://example.org/*'",
    ] {
        assert_eq!(warned(condition), [""; 0], "{condition}");
    }
}

#[test]
fn client_cert_acl_rules_have_names() {
    let rules =
        rules("allow: [{name: staff, subject.O: a}, {subject.O: b}], deny: [{eku: codeSigning}]");
    let names = |rules: &[crate::identity::Rule]| -> Vec<String> {
        rules.iter().map(|rule| rule.name.to_string()).collect()
    };
    assert_eq!(names(&rules.allow), ["staff", "allow[1]"]);
    assert_eq!(names(&rules.deny), ["deny[0]"]);
}

#[test]
fn client_cert_acl_bad_rules_are_refused() {
    let head = "- {name: client-cert-acl, config: {allow: [";
    let deep = |n: usize| format!("{}{{subject.O: x}}{}", "{not: ".repeat(n), "}".repeat(n));
    condition(&deep(16));
    let too_deep = deep(17);
    let prefix = "would also match longer hosts or names, expected '/' or ':' before the '*', \
                  and '/' after a host, for example 'spiffe://example.org/ns/*'";
    for (rule, column, path, message) in [
        (
            "{}",
            0,
            "",
            "an empty rule, expected at least one condition".to_owned(),
        ),
        (
            "{name: x}",
            0,
            "",
            "an empty rule, expected at least one condition".to_owned(),
        ),
        ("x", 0, "", "'x', expected a mapping".to_owned()),
        (
            "{name: \"a\\nb\", eku: clientAuth}",
            7,
            ".name",
            "'a\\nb', expected a name on one line".to_owned(),
        ),
        (
            "{subject.O: null}",
            12,
            "['subject.O']",
            "null, expected text".to_owned(),
        ),
        (
            "{subject.O: []}",
            12,
            "['subject.O']",
            "a list, expected text or a list of texts".to_owned(),
        ),
        (
            "{subject.O: ['']}",
            13,
            "['subject.O'][0]",
            "'', expected text".to_owned(),
        ),
        (
            "{subject.OU: 42}",
            13,
            "['subject.OU']",
            "the number 42, expected text, in quotes".to_owned(),
        ),
        (
            "{subject.organization: x}",
            1,
            "['subject.organization']",
            "'organization' is not an attribute type of OpenSSL's, expected a short name such as \
             'OU', a long name such as 'organizationalUnitName' or an OID such as '2.5.4.11' (case \
             matters)"
                .to_owned(),
        ),
        (
            "{san.dn: x}",
            1,
            "['san.dn']",
            "unknown condition 'san.dn', did you mean 'san.dns'?".to_owned(),
        ),
        (
            "{fingerprint: x}",
            1,
            ".fingerprint",
            "unknown condition 'fingerprint', expected one of subject.*, issuer.*, san.dns, \
             san.uri, san.email, san.ip, san.upn, ca, trust_domain, spiffe_id, sha256, \
             spki_sha256, issuer_key_id, eku, all, any, not"
                .to_owned(),
        ),
        (
            "{san.upn: ann}",
            10,
            "['san.upn']",
            "'ann' is not a user principal name, expected a name such as 'ann@corp.example.com'"
                .to_owned(),
        ),
        (
            "{ca: Root}",
            5,
            ".ca",
            "'Root' is not a UUID, expected the id of an entry of 'ca_certificates'".to_owned(),
        ),
        (
            "{ca: [22222222-2222-4222-8222-222222222223]}",
            6,
            ".ca[0]",
            format!(
                "no entry of 'ca_certificates' has the id '22222222-2222-4222-8222-222222222223', \
                 did you mean '{ID_B}'?"
            ),
        ),
        (
            "{any: [{name: x}]}",
            8,
            ".any[0].name",
            "unknown condition 'name', expected one of subject.*, issuer.*, san.dns, san.uri, \
             san.email, san.ip, san.upn, ca, trust_domain, spiffe_id, sha256, spki_sha256, \
             issuer_key_id, eku, all, any, not"
                .to_owned(),
        ),
        (
            "{all: []}",
            6,
            ".all",
            "a list, expected at least one condition".to_owned(),
        ),
        (
            "{any: {eku: x}}",
            6,
            ".any",
            "a mapping, expected a list, whose items begin with '- '".to_owned(),
        ),
        (
            "{not: [{eku: x}]}",
            6,
            ".not",
            "a list, expected a mapping".to_owned(),
        ),
        (
            "{san.dns: '*'}",
            10,
            "['san.dns']",
            "'*', expected a name or '*.' and a name".to_owned(),
        ),
        (
            "{san.dns: 'a.*'}",
            10,
            "['san.dns']",
            "server name 'a.*': a wildcard at the right end is not supported, expected '*' as the \
             left-most label or a full name"
                .to_owned(),
        ),
        (
            "{san.uri: 'spiffe://a.b*'}",
            10,
            "['san.uri']",
            format!("'spiffe://a.b*' {prefix}"),
        ),
        (
            "{san.uri: 'https://a.b:*'}",
            10,
            "['san.uri']",
            format!("'https://a.b:*' {prefix}"),
        ),
        ("{san.uri: '*'}", 10, "['san.uri']", format!("'*' {prefix}")),
        (
            "{san.uri: 'spiffe://*/ns/*'}",
            10,
            "['san.uri']",
            "'spiffe://*/ns/*': a '*' is allowed at the end only".to_owned(),
        ),
        (
            "{san.uri: 'spiffe://x/a/../b'}",
            10,
            "['san.uri']",
            "'spiffe://x/a/../b' has a '.' or '..' segment, expected a path without them"
                .to_owned(),
        ),
        (
            "{san.uri: 'spiffe://x/a/%2E%2e/*'}",
            10,
            "['san.uri']",
            "'spiffe://x/a/%2E%2e/*' has a '.' or '..' segment, expected a path without them"
                .to_owned(),
        ),
        (
            "{san.uri: 'https://x/?a'}",
            10,
            "['san.uri']",
            "'https://x/?a' has a '?' or '#', expected a URI without query and fragment".to_owned(),
        ),
        (
            "{san.uri: 'spiffe://x/a/'}",
            10,
            "['san.uri']",
            "'spiffe://x/a/' ends in a '/', expected a SPIFFE ID without a slash at its end"
                .to_owned(),
        ),
        (
            "{san.uri: '//x/a'}",
            10,
            "['san.uri']",
            "'//x/a' has no scheme, expected a URI such as 'spiffe://example.org/ns/payments'"
                .to_owned(),
        ),
        (
            "{san.dns: '2001:db8::7'}",
            10,
            "['san.dns']",
            "'2001:db8::7' is an IP address, expected a name, or 'san.ip'".to_owned(),
        ),
        (
            "{san.dns: xn--a.example}",
            10,
            "['san.dns']",
            "'xn--a.example' has a label that begins with 'xn--' and is not an A-label, expected \
             internationalised labels as IDNA writes them"
                .to_owned(),
        ),
        (
            "{san.email: ann}",
            12,
            "['san.email']",
            "'ann' is not a mail address without quotes, comments and blanks, expected an address \
             such as 'ann@example.com'"
                .to_owned(),
        ),
        (
            "{subject.O: \"a\\tb\"}",
            12,
            "['subject.O']",
            "'a\\tb' has a control character, expected text without control characters".to_owned(),
        ),
        (
            "{san.ip: 10.0.0.0/8}",
            9,
            "['san.ip']",
            "'10.0.0.0/8' is not an IP address".to_owned(),
        ),
        (
            "{sha256: abc}",
            9,
            ".sha256",
            "'abc' is not a SHA-256 digest, expected 64 hexadecimal digits, with or without colons"
                .to_owned(),
        ),
        (
            "{issuer_key_id: 'a:b'}",
            16,
            ".issuer_key_id",
            "'a:b' is not a key identifier, expected at most 64 bytes in hexadecimal, with or \
             without colons"
                .to_owned(),
        ),
        (
            "{eku: client}",
            6,
            ".eku",
            "'client' is not a purpose, expected serverAuth, clientAuth, codeSigning, \
             emailProtection, timeStamping, OCSPSigning, anyExtendedKeyUsage or a dotted OID"
                .to_owned(),
        ),
        (
            &too_deep,
            102,
            &".not".repeat(17),
            "nested deeper than 16 levels".to_owned(),
        ),
    ] {
        let text = with_auth("", &format!("{head}{rule}]}}}}\n"));
        let column = head.len() + column + 1;
        assert_errors(
            &text,
            &[&format!(
                "9:{column}: plugins[1].config.allow[0]{path}: {message}"
            )],
        );
    }
}

#[test]
fn rules_on_names_that_several_cas_may_issue_are_warned_about() {
    let root = testing::issue("Root", None, true, 60, &[]);
    let below = testing::issue("Below", Some(&root), true, 60, &[]);
    let sibling = testing::issue("Sibling", Some(&root), true, 60, &[]);
    let lowest = testing::issue("Lowest", Some(&below), true, 60, &[]);
    let other = testing::issue("Other", None, true, 60, &[]);
    // The same subject and key once more
    let again = testing::renew(&root);
    let cas = [
        &root.x509,
        &below.x509,
        &sibling.x509,
        &lowest.x509,
        &other.x509,
        &again,
    ];
    let id = |index: usize| format!("{index}1111111-1111-4111-8111-111111111111");
    let entries: String = cas
        .iter()
        .enumerate()
        .map(|(index, ca)| {
            let pem = String::from_utf8(ca.to_pem().unwrap()).unwrap();
            ca_entry(&id(index), &pem)
        })
        .collect();
    let names = "client-cert-acl, config: {allow: [{eku: clientAuth}, {san.uri: 'spiffe://a/*'}]}";
    let pin = "ab".repeat(32);
    let warned = |cas: &[usize], plugin: &str, fields: &str| {
        let ids: Vec<String> = cas.iter().map(|index| id(*index)).collect();
        let text = format!(
            "_format_version: '3.0'\nca_certificates:\n{entries}consumers: [{{username: ann}}]\n\
             routes: [{{name: r, snis: [r.test]}}, {{name: q, snis: [r.test]}}]\nplugins:\n\
             - {{name: mtls-auth, config: {{ca_certificates: [{}]{fields}}}}}\n- {{name: {plugin}}}\n",
            ids.join(", ")
        );
        warnings_that_contain(&text, "may issue")
    };
    let expected = |path: &str, what: &str, cas: &str| {
        vec![format!(
            "p:13:3: warning: {path}: {what}, and each of several CAs that are not in one chain \
             may issue such a certificate: {cas}"
        )]
    };
    let rule = "the rule allows by names of the certificate";
    let path = "plugins[1].config.allow[1]";
    for (cas, several) in [
        (&[0][..], None),
        (&[0, 1], None),
        (&[3, 0, 1], None),
        (&[0, 5], None),
        (&[0, 4], Some("'CN=Root,O=Example', 'CN=Other,O=Example'")),
        (
            &[1, 2],
            Some("'CN=Below,O=Example', 'CN=Sibling,O=Example'"),
        ),
        (
            &[0, 1, 2],
            Some("'CN=Root,O=Example', 'CN=Below,O=Example', 'CN=Sibling,O=Example'"),
        ),
        // Not in one line without the CA between them
        (&[0, 3], Some("'CN=Root,O=Example', 'CN=Lowest,O=Example'")),
    ] {
        let expected = several.map_or(Vec::new(), |cas| expected(path, rule, cas));
        assert_eq!(warned(cas, names, ""), expected, "{cas:?}");
    }
    let two = "'CN=Root,O=Example', 'CN=Other,O=Example'";
    let first = "plugins[1].config.allow[0]";
    for (plugin, fields, expected) in [
        (
            "client-cert-acl, config: {allow: [{not: {subject.OU: x}}]}".to_owned(),
            "",
            expected(first, rule, two),
        ),
        (
            format!("client-cert-acl, config: {{allow: [{{sha256: {pin}, subject.OU: x}}]}}"),
            "",
            Vec::new(),
        ),
        (
            format!(
                "client-cert-acl, config: {{allow: [{{ca: {}, subject.OU: x}}]}}",
                id(4)
            ),
            "",
            Vec::new(),
        ),
        (
            "client-cert-acl, config: {allow: [{issuer_key_id: 'ab'}], deny: [{san.dns: a.b}]}"
                .to_owned(),
            "",
            Vec::new(),
        ),
        (
            "acl, config: {allow: [x]}".to_owned(),
            ", skip_consumer_lookup: true",
            expected(first, "the group is the CN of the certificate", two),
        ),
        (
            "acl, config: {allow: [x]}".to_owned(),
            ", skip_consumer_lookup: true, authenticated_group_by: DN",
            expected(first, "the group is the subject of the certificate", two),
        ),
        (
            "acl, config: {deny: [x]}".to_owned(),
            ", skip_consumer_lookup: true",
            Vec::new(),
        ),
        ("acl, config: {allow: [x]}".to_owned(), "", Vec::new()),
    ] {
        assert_eq!(
            warned(&[0, 4], &plugin, fields),
            expected,
            "{plugin} {fields}"
        );
    }
}
