//! Consumers, groups, rules and revocation of a policy.

use super::*;
use crate::certificate::normal_form;
use crate::identity::{Condition, ConsumerBy, SanCondition};
use crate::testing;

const ID_C: &str = "33333333-3333-4333-8333-333333333333";

/// Two CAs, then one global `mtls-auth` in lines 5 to 8, its further fields from line 9, then
/// `rest`.
fn with_auth(fields: &str, rest: &str) -> String {
    with_cas(&format!(
        "plugins:\n- name: mtls-auth\n  config:\n    ca_certificates: [{ID_A}]\n{fields}{rest}"
    ))
}

fn auth(policy: &Policy) -> &Auth {
    policy.plans[0].auth.as_ref().unwrap()
}

/// A line with what it has wrong: `line:column: path: message` without `p:`.
fn assert_errors(text: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|line| format!("p:{line}")).collect();
    assert_eq!(errors(text), expected, "{text}");
}

fn consumer(policy: &Policy, name: &str) -> crate::identity::Consumer {
    let index = policy.consumers.by_id_or_username(name).unwrap();
    policy.consumers.get(index).unwrap().clone()
}

#[test]
fn mtls_auth_defaults_are_kongs() {
    let policy = policy(&with_auth("", ""));
    let auth = auth(&policy);
    let lookup = auth.lookup.as_ref().unwrap();
    let both = ConsumerBy {
        username: true,
        custom_id: true,
    };
    assert_eq!((lookup.by, lookup.default), (both, None));
    assert!(lookup.dirname.is_empty());
    assert_eq!((auth.anonymous, auth.group_by), (None, Some(GroupBy::Cn)));
    let revocation = &auth.revocation;
    assert_eq!(revocation.mode, RevocationMode::IgnoreCaError);
    assert_eq!((revocation.ttl, revocation.http_timeout), (60_000, 30_000));
    assert!(revocation.ssl_verify && revocation.crls.is_none());
    assert_eq!(
        (&revocation.http_proxy, &revocation.https_proxy),
        (&None, &None)
    );
    assert_eq!(warnings(&policy), [""; 0]);
}

#[test]
fn mtls_auth_every_field_is_read() {
    let text = with_auth(
        "    consumer_by: [custom_id]\n    anonymous: guest\n    default_consumer: \
         33333333-3333-4333-8333-333333333333\n    authenticated_group_by: DN\n    \
         revocation_check_mode: STRICT\n    http_timeout: 1500\n    cert_cache_ttl: 60\n    \
         cache_ttl: 0\n    http_proxy_host: proxy.example.com\n    http_proxy_port: 3128\n    \
         https_proxy_host: '2001:db8::7'\n    https_proxy_port: 65535\n    ssl_verify: false\n    \
         san_dirname_matcher: [CN, organizationName, 2.5.4.11, 1.2.3.4]\n",
        &format!("consumers: [{{username: guest}}, {{username: other, id: {ID_C}}}]\n"),
    );
    let policy = policy(&text);
    let auth = auth(&policy);
    let lookup = auth.lookup.as_ref().unwrap();
    let by = ConsumerBy {
        username: false,
        custom_id: true,
    };
    assert_eq!((lookup.by, lookup.default), (by, Some(1)));
    let dirname: Vec<&str> = lookup.dirname.iter().map(|name| &**name).collect();
    assert_eq!(
        dirname,
        [
            "commonName",
            "organizationName",
            "organizationalUnitName",
            "1.2.3.4"
        ]
    );
    assert_eq!(
        (auth.anonymous, auth.group_by),
        (Some(0), Some(GroupBy::Dn))
    );
    let revocation = &auth.revocation;
    assert_eq!(revocation.mode, RevocationMode::Strict);
    assert_eq!((revocation.ttl, revocation.http_timeout), (60, 1500));
    assert!(!revocation.ssl_verify);
    assert_eq!(
        revocation.http_proxy,
        Some(("proxy.example.com".into(), 3128))
    );
    assert_eq!(revocation.https_proxy, Some(("2001:db8::7".into(), 65535)));
    assert_eq!(warnings(&policy), [""; 0]);
}

#[test]
fn mtls_auth_null_and_empty_lists_switch_off() {
    for off in ["[]", "null", "{}"] {
        let fields = format!("    consumer_by: {off}\n    authenticated_group_by: null\n");
        let policy = policy(&with_auth(&fields, ""));
        let by = auth(&policy).lookup.as_ref().unwrap().by;
        assert!(!by.username && !by.custom_id, "{off}");
        assert_eq!(auth(&policy).group_by, None);
    }
    let skip = policy(&with_auth("    skip_consumer_lookup: true\n", ""));
    assert!(auth(&skip).lookup.is_none());
}

#[test]
fn mtls_auth_bad_values_are_refused() {
    for (field, error) in [
        (
            "consumer_by: [username, id]",
            "9:29: plugins[0].config.consumer_by[1]: 'id', expected 'username' or 'custom_id'",
        ),
        (
            "consumer_by: username",
            "9:18: plugins[0].config.consumer_by: 'username', expected a list",
        ),
        (
            "authenticated_group_by: cn",
            "9:29: plugins[0].config.authenticated_group_by: 'cn', expected 'CN' or 'DN'",
        ),
        (
            "revocation_check_mode: strict",
            "9:28: plugins[0].config.revocation_check_mode: 'strict', expected 'SKIP', \
             'IGNORE_CA_ERROR' or 'STRICT'",
        ),
        (
            "http_timeout: soon",
            "9:19: plugins[0].config.http_timeout: 'soon', expected an integer from 1 to \
             2147483647",
        ),
        (
            "cert_cache_ttl: 0",
            "9:21: plugins[0].config.cert_cache_ttl: the number 0, expected an integer from 1 to \
             2147483647",
        ),
        (
            "cache_ttl: -1",
            "9:16: plugins[0].config.cache_ttl: the number -1, expected an integer from 0 to \
             2147483647",
        ),
        (
            "ssl_verify: maybe",
            "9:17: plugins[0].config.ssl_verify: 'maybe', expected true or false",
        ),
        (
            "http_proxy_host: proxy",
            "9:22: plugins[0].config.http_proxy_host: without 'http_proxy_port', expected both or \
             neither",
        ),
        (
            "https_proxy_port: 3128",
            "9:23: plugins[0].config.https_proxy_port: without 'https_proxy_host', expected both \
             or neither",
        ),
        (
            "{http_proxy_host: 'http://proxy', http_proxy_port: 1}",
            "9:27: plugins[0].config.http_proxy_host: 'http://proxy' is neither a host name nor \
             an address, expected for example 'proxy.example.com'",
        ),
        (
            "{https_proxy_host: proxy, https_proxy_port: 65536}",
            "9:53: plugins[0].config.https_proxy_port: the number 65536, expected an integer from \
             1 to 65535",
        ),
        (
            "anonymous: gest",
            "9:16: plugins[0].config.anonymous: no consumer has the id or username 'gest', did \
             you mean 'guest'?",
        ),
        (
            "default_consumer: a-1",
            "9:23: plugins[0].config.default_consumer: no consumer has the id or username 'a-1'",
        ),
        (
            "anonymous: ''",
            "9:16: plugins[0].config.anonymous: no consumer has the id or username ''",
        ),
        (
            "san_dirname_matcher: [CN, cn]",
            "9:31: plugins[0].config.san_dirname_matcher[1]: 'cn' is not an attribute type \
             of OpenSSL's, expected a short name such as 'OU', a long name such as \
             'organizationalUnitName' or an OID such as '2.5.4.11' (case matters)",
        ),
        (
            "crls: ['']",
            "9:12: plugins[0].config.crls[0]: '', expected the path of a file of CRLs",
        ),
        (
            "crls: [crl.pem]",
            "9:12: plugins[0].config.crls[0]: 'crl.pem': a relative path in a policy that is not \
             a file, expected an absolute path",
        ),
        (
            "crls: [/nonexistent/crl.pem]",
            "9:12: plugins[0].config.crls[0]: '/nonexistent/crl.pem': cannot be read: No such \
             file or directory (os error 2)",
        ),
        (
            "crls: [/etc/passwd]",
            "9:12: plugins[0].config.crls[0]: '/etc/passwd': no CRL found, expected DER or PEM \
             blocks '-----BEGIN X509 CRL-----'",
        ),
    ] {
        // Fields in braces are merged, so that two of them take one line.
        let field = match field.strip_prefix('{') {
            Some(_) => format!("    <<: {field}\n"),
            None => format!("    {field}\n"),
        };
        let rest = "consumers: [{username: guest, custom_id: a-1}]\n";
        assert_errors(&with_auth(&field, rest), &[error]);
    }
}

#[test]
fn mtls_auth_without_consumers_is_warned_about_where_they_would_count() {
    let without = |fields: &str| warnings(&policy(&with_auth(fields, "consumers: []\n")));
    assert_eq!(
        without(""),
        [
            "p:6:3: warning: plugins[0].config: no consumer: every client is refused; expected an \
          entry of 'consumers', or 'skip_consumer_lookup: true' to let every client of the CAs \
          pass"
        ]
    );
    assert_eq!(without("    skip_consumer_lookup: true\n"), [""; 0]);
}

#[test]
fn consumers_nested_and_flat_forms_are_one_policy() {
    let cas = with_auth("", "consumers: []\n").replace("consumers: []\n", "");
    let nested = format!(
        "{cas}consumers:\n\
         - username: ann\n  custom_id: a-1\n  tags: [x]\n\
         \x20 mtls_auth_credentials:\n\
         \x20 - {{id: {ID_C}, subject_name: ann@example.com, ca_certificate: {{id: {ID_B}}}}}\n\
         \x20 - {{subject_name: ann}}\n\
         \x20 acls: [{{group: ops}}, {{group: dev, tags: [y]}}]\n\
         \x20 groups: [{{name: gold}}, silver]\n\
         - custom_id: b-1\n  id: {ID_A}\n"
    );
    let flat = format!(
        "{cas}acls:\n\
         - {{consumer: ann, group: ops}}\n\
         - {{consumer: {{username: ann}}, group: dev}}\n\
         mtls_auth_credentials:\n\
         - {{consumer: ann, subject_name: ann}}\n\
         - {{consumer: {{username: ann}}, id: {ID_C}, subject_name: ann@example.com, \
         ca_certificate: {ID_B}}}\n\
         consumers:\n\
         - {{id: {ID_A}, custom_id: b-1}}\n\
         - {{username: ann, custom_id: a-1, groups: [gold, {{name: silver}}]}}\n"
    );
    let (nested, flat) = (policy(&nested), policy(&flat));
    assert_eq!(nested.digest, flat.digest);
    for policy in [&nested, &flat] {
        assert_eq!(warnings(policy), [""; 0]);
        assert_eq!(policy.consumers.len(), 2);
        let ann = consumer(policy, "ann");
        assert_eq!(&*ann.id, "fac302c2-d2ab-514c-b086-9cd48bdd72e5");
        assert_eq!(ann.custom_id.as_deref(), Some("a-1"));
        assert_eq!(ann.groups, ["ops".into(), "dev".into()]);
        assert_eq!(ann.consumer_groups, ["gold".into(), "silver".into()]);
        assert_eq!(consumer(policy, ID_A).custom_id.as_deref(), Some("b-1"));
        let credentials: std::collections::HashSet<_> = (0..2)
            .map(|index| policy.consumers.credential(index).unwrap())
            .map(|found| {
                (
                    found.id.clone().unwrap(),
                    found.subject_name.clone(),
                    found.ca.is_some(),
                )
            })
            .collect();
        let expected = [
            (ID_C.into(), "ann@example.com".into(), true),
            (
                "6280dd7e-7488-5083-8356-7a9c9b3347a7".into(),
                "ann".into(),
                false,
            ),
        ];
        assert_eq!(credentials, std::collections::HashSet::from(expected));
    }
}

#[test]
fn credentials_take_a_ca_in_four_spellings() {
    let b = ca_pem("CA B");
    let cas = format!(
        "_format_version: \"3.0\"\nca_certificates:\n{}{}",
        ca_entry(ID_A, &ca_pem("CA A")),
        ca_entry(ID_B, &b)
    );
    let with = |ca: &str| {
        policy(&format!(
            "{cas}consumers:\n- username: ann\n  mtls_auth_credentials:\n  - id: {ID_C}\n    \
             subject_name: ann\n    ca_certificate: {ca}\n"
        ))
    };
    let ca = crate::trust::CaCertificate::from_pem(b.as_bytes()).unwrap();
    let upper = ID_B.to_uppercase();
    for spelling in [
        ID_B.to_owned(),
        upper,
        format!("{b:?}"),
        format!("{{id: {ID_B}}}"),
        format!("{{cert: {b:?}}}"),
        format!("{{id: {ID_B}, cert: {b:?}, tags: [x]}}"),
    ] {
        let policy = with(&spelling);
        assert_eq!(policy.digest, with(ID_B).digest, "{spelling}");
        let credential = policy.consumers.credential(0).unwrap();
        assert_eq!(credential.ca, Some(*ca.id()), "{spelling}");
    }
    assert_ne!(with("null").digest, with(ID_B).digest);
    assert_ne!(with(ID_A).digest, with(ID_B).digest);
}

#[test]
fn credentials_for_two_certificates_of_one_ca_are_one() {
    let ca = crate::testing::issue("CA", None, true, 60, &[]);
    let again = crate::testing::issue_for("CA", None, true, 90, &[], &ca.key);
    let pem = |issued: &crate::testing::Issued| {
        let pem = issued.x509.to_pem().unwrap();
        String::from_utf8(pem).unwrap()
    };
    let text = |owner: &str| {
        format!(
            "_format_version: \"3.0\"\nca_certificates:\n{}{}\
             consumers: [{{username: ann}}, {{username: bob}}]\n\
             mtls_auth_credentials:\n\
             - {{id: {ID_C}, subject_name: x, consumer: ann, ca_certificate: {ID_A}}}\n\
             - {{subject_name: x, consumer: {owner}, ca_certificate: {ID_B}}}\n",
            ca_entry(ID_A, &pem(&ca)),
            ca_entry(ID_B, &pem(&again))
        )
    };
    let policy = policy(&text("ann"));
    assert_eq!(
        policy.consumers.credential(0).unwrap().id.as_deref(),
        Some(ID_C)
    );
    assert!(policy.consumers.credential(1).is_none());
    let said =
        "p:8:3: warning: mtls_auth_credentials[1].subject_name: 'x' has a credential for this CA \
                already at mtls_auth_credentials[0], whose certificate has the same subject and \
                key: that one applies to both";
    assert!(
        warnings(&policy).iter().any(|warning| warning == said),
        "{:#?}",
        warnings(&policy)
    );
    assert_errors(
        &text("bob"),
        &[
            "8:3: mtls_auth_credentials[1].subject_name: uniqueness violation: \
             'mtls_auth_credentials' entity with subject_name set to 'x' and another certificate of \
             the same CA, for another consumer, already declared at mtls_auth_credentials[0]",
        ],
    );
}

#[test]
fn consumers_bad_ones_are_refused() {
    for (consumers, expected) in [
        (
            "- {}",
            &["6:3: consumers[0]: neither 'username' nor 'custom_id' is given, expected at least \
               one"][..],
        ),
        (
            "- {username: ann}\n- {username: ann}",
            &["7:3: consumers[1].username: uniqueness violation: 'consumers' entity with username \
               set to 'ann' already declared at consumers[0]"],
        ),
        (
            "- {custom_id: ann}\n- {username: ann}\n- {custom_id: ann}",
            &["8:3: consumers[2].custom_id: uniqueness violation: 'consumers' entity with \
               custom_id set to 'ann' already declared at consumers[0]"],
        ),
        (
            "- {username: a, id: 11111111-1111-4111-8111-111111111111}\n\
             - {username: b, id: 11111111-1111-4111-8111-111111111111}",
            &["7:3: consumers[1].id: uniqueness violation: 'consumers' entity with id set to \
               '11111111-1111-4111-8111-111111111111' already declared at consumers[0]"],
        ),
        (
            "- {username: a, id: 1-2}",
            &["6:21: consumers[0].id: '1-2' is not a UUID, expected for example \
               '11111111-1111-4111-8111-111111111111'"],
        ),
        (
            "- {username: \"a\\r\\nX-Admin: 1\"}\n- {custom_id: ' a'}",
            &[
                "6:14: consumers[0].username: 'a\\r\\nX-Admin: 1' cannot be the value of a \
                 header, expected visible text without spaces around it",
                "7:15: consumers[1].custom_id: ' a' cannot be the value of a header, expected \
                 visible text without spaces around it",
            ],
        ),
        (
            "- {username: 7}\n- {user_name: a}",
            &[
                "6:14: consumers[0].username: the number 7, expected text, in quotes",
                "7:3: consumers[1]: neither 'username' nor 'custom_id' is given, expected at \
                 least one",
                "7:4: consumers[1]: unknown field 'user_name', did you mean 'username'?",
            ],
        ),
        (
            "- {username: a, acls: [payers, 'a b', 7, {group: x}]}",
            &[
                "6:24: consumers[0].acls[0]: 'payers', expected {group: payers}",
                "6:32: consumers[0].acls[1]: 'a b', expected {group: a b}",
                "6:39: consumers[0].acls[2]: the number 7, expected {group: 7}",
            ],
        ),
        (
            "- {username: a, acls: payers}",
            &["6:23: consumers[0].acls: 'payers', expected [{group: payers}]"],
        ),
        (
            "- username: a\nacls: [payers]",
            &["7:8: acls[0]: 'payers', expected {consumer: USERNAME, group: payers}"],
        ),
        (
            "- {username: a, acls: [{}, {group: x}, {group: x}, {group: '', consumer: a}]}",
            &[
                "6:24: consumers[0].acls[0]: the required field 'group' is missing",
                "6:40: consumers[0].acls[2].group: uniqueness violation: the consumer is in the \
                 group 'x' already",
                "6:60: consumers[0].acls[3].group: '' cannot be the value of a header, expected \
                 visible text without spaces around it",
                "6:74: consumers[0].acls[3].consumer: 'a' inside the consumer it belongs to, \
                 expected null or nothing",
            ],
        ),
        (
            "- {username: a, groups: [{}, 7]}",
            &[
                "6:26: consumers[0].groups[0]: the required field 'name' is missing",
                "6:30: consumers[0].groups[1]: the number 7, expected text, in quotes",
            ],
        ),
        (
            "- {username: a, header_cert_auth_credentials: [{}]}",
            &["6:48: consumers[0].header_cert_auth_credentials[0]: the required field \
               'subject_name' is missing"],
        ),
        (
            "- username: ann\nacls:\n- {group: x}\n- {group: x, consumer: an}\n\
             - {group: x, consumer: {name: ann}}\nmtls_auth_credentials:\n\
             - {subject_name: x, consumer: {id: 22222222-2222-4222-8222-222222222222}}",
            &[
                "8:3: acls[0]: the required field 'consumer' is missing",
                "9:24: acls[1].consumer: no consumer has the id or username 'an', did you mean \
                 'ann'?",
                "10:24: acls[2].consumer: a mapping, expected either 'id' or 'username'",
                "10:25: acls[2].consumer: unknown field 'name', expected one of id, username",
                "12:36: mtls_auth_credentials[0].consumer: no consumer has the id \
                 '22222222-2222-4222-8222-222222222222'",
            ],
        ),
    ] {
        assert_errors(&with_cas(&format!("consumers:\n{consumers}\n")), expected);
    }
}

#[test]
fn credentials_bad_ones_are_refused() {
    let other = ca_pem("other");
    let pem = format!("{other:?}");
    for (credentials, expected) in [
        (
            "- {}",
            &["8:5: consumers[0].mtls_auth_credentials[0]: the required field 'subject_name' is \
               missing"][..],
        ),
        (
            "- {subject_name: ''}",
            &["8:20: consumers[0].mtls_auth_credentials[0].subject_name: '', expected a name"],
        ),
        (
            "- {subject_name: a, id: x}",
            &["8:27: consumers[0].mtls_auth_credentials[0].id: 'x' is not a UUID, expected for \
               example '11111111-1111-4111-8111-111111111111'"],
        ),
        (
            "- {subject_name: a}\n  - {subject_name: a}",
            &["9:5: consumers[0].mtls_auth_credentials[1].subject_name: uniqueness violation: \
               'mtls_auth_credentials' entity with subject_name set to 'a' and the same \
               ca_certificate already declared at consumers[0].mtls_auth_credentials[0]"],
        ),
        (
            "- {subject_name: a, id: 33333333-3333-4333-8333-333333333333}\n  \
             - {subject_name: b, id: 33333333-3333-4333-8333-333333333333}",
            &["9:5: consumers[0].mtls_auth_credentials[1].id: uniqueness violation: \
               'mtls_auth_credentials' entity with id set to \
               '33333333-3333-4333-8333-333333333333' already declared at \
               consumers[0].mtls_auth_credentials[0]"],
        ),
        (
            "- {subject_name: a, ca_certificate: 11111111-1111-4111-8111-111111111112}",
            &["8:39: consumers[0].mtls_auth_credentials[0].ca_certificate: no entry of \
               'ca_certificates' has the id '11111111-1111-4111-8111-111111111112', did you mean \
               '11111111-1111-4111-8111-111111111111'?"],
        ),
        (
            "- {subject_name: a, ca_certificate: CA A}",
            &["8:39: consumers[0].mtls_auth_credentials[0].ca_certificate: 'CA A' is neither a \
               UUID nor a PEM certificate, expected the id or the text of an entry of \
               'ca_certificates'"],
        ),
        (
            "- {subject_name: a, ca_certificate: {}}",
            &["8:39: consumers[0].mtls_auth_credentials[0].ca_certificate: a mapping, expected \
               'id' or 'cert'"],
        ),
        (
            &format!("- {{subject_name: a, ca_certificate: {pem}}}"),
            &["8:39: consumers[0].mtls_auth_credentials[0].ca_certificate: the certificate \
               'CN=other' is none of 'ca_certificates', expected one of them"],
        ),
        (
            "- {subject_name: a, ca_certificate: {cert: /etc/ca.pem}}",
            &["8:46: consumers[0].mtls_auth_credentials[0].ca_certificate: '/etc/ca.pem' is the path \
               of a file, which is not read, expected 'cert: |' and below it, indented, the lines from \
               '-----BEGIN CERTIFICATE-----' to '-----END CERTIFICATE-----'"],
        ),
    ] {
        let text = format!("consumers:\n- username: ann\n  mtls_auth_credentials:\n  {credentials}\n");
        assert_errors(&with_cas(&text), expected);
    }
}

#[test]
fn acl_is_read_and_applies_with_mtls_auth() {
    let text = with_cas(&format!(
        "services: [{{name: s, routes: [{{name: r, snis: [r.test]}}, {{name: q, snis: [q.test]}}]}}]\n\
         plugins:\n\
         - {{name: mtls-auth, service: s, config: {{ca_certificates: [{ID_A}]}}}}\n\
         - {{name: acl, service: s, config: {{allow: [ops, dev], hide_groups_header: true}}}}\n\
         - {{name: acl, route: q, config: {{deny: [bad], allow: null, include_consumer_groups: true, \
         always_use_authenticated_groups: true}}}}\n"
    ));
    let policy = policy(&text);
    let acl = |route| plan(&policy, route).acl.as_deref().unwrap();
    let mut expected = Acl::new(vec!["ops".into(), "dev".into()], Vec::new());
    expected.hide_groups_header = true;
    assert_eq!(acl("r"), &expected);
    let mut expected = Acl::new(Vec::new(), vec!["bad".into()]);
    expected.include_consumer_groups = true;
    expected.always_use_authenticated_groups = true;
    assert_eq!(acl("q"), &expected);
    assert!(policy.plans[0].acl.is_none());
    for name in crate::headers::kong::IDENTITY_HEADERS {
        assert!(policy.reserved_headers.contains(name.as_bytes()), "{name}");
    }
}

#[test]
fn acl_bad_ones_are_refused() {
    for (plugins, expected) in [
        (
            "- {name: acl}\n- {name: client-cert-acl, config: null}",
            &[
                "9:3: plugins[1].config: expected at least one group in 'allow' or 'deny'",
                "10:3: plugins[2].config: expected at least one rule in 'allow' or 'deny'",
            ][..],
        ),
        (
            "- {name: acl, config: {allow: [], deny: null}}",
            &["9:23: plugins[1].config: expected at least one group in 'allow' or 'deny'"],
        ),
        (
            "- {name: acl, config: {allow: [], deny: [x]}}\n\
             - {name: client-cert-acl, config: {deny: [{subject.O: x}], allow: {}}}",
            &[
                "9:31: plugins[1].config.allow: an empty list beside 'deny' would allow all, expected \
                 at least one group, or no 'allow' to mean that",
                "10:67: plugins[2].config.allow: an empty list beside 'deny' would allow all, expected \
                 at least one rule, or no 'allow' to mean that",
            ],
        ),
        (
            "- {name: acl, config: {allow: ops, whitelist: [x], deny: ['', 7]}}",
            &[
                "9:31: plugins[1].config.allow: 'ops', expected a list",
                "9:36: plugins[1].config: unknown field 'whitelist', expected one of allow, deny, \
                 hide_groups_header, include_consumer_groups, always_use_authenticated_groups",
                "9:59: plugins[1].config.deny[0]: '', expected the name of a group",
                "9:63: plugins[1].config.deny[1]: the number 7, expected text, in quotes",
            ],
        ),
        (
            "- {name: acl, config: {allow: [a], include_consumer_groups: true}}\n\
             consumer_group_consumers: [{consumer: ann, consumer_group: gold}]",
            &[
                "10:27: consumer_group_consumers: members of consumer groups are read from \
               'groups' of a consumer only, and an acl with 'include_consumer_groups' depends on \
               them",
            ],
        ),
        (
            "- {name: acl, config: {allow: [a], include_consumer_groups: true}}\n\
             consumer_groups: [{name: x}, {name: gold, consumers: [ann]}]",
            &[
                "10:54: consumer_groups: members of consumer groups are read from 'groups' of a \
               consumer only, and an acl with 'include_consumer_groups' depends on them",
            ],
        ),
    ] {
        assert_errors(&with_auth("", &format!("{plugins}\n")), expected);
    }
}

#[test]
fn acl_where_nobody_is_known_is_refused() {
    for kind in [
        "acl, config: {allow: [a]}",
        "client-cert-acl, config: {allow: [{subject.O: x}]}",
    ] {
        let name = kind.split_once(',').unwrap().0;
        let global = format!("plugins:\n- {{name: {kind}}}\n");
        assert_errors(
            &with_cas(&global),
            &[&format!(
                "6:3: plugins[0]: applies to a request without a route without mtls-auth, so \
                 nobody would be judged there; expected mtls-auth or header-cert-auth wherever {name} applies"
            )],
        );
        let service = format!(
            "services: [{{name: s, routes: [{{name: r}}, {{name: q}}]}}]\nplugins:\n\
             - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}]}}}}\n\
             - {{name: {kind}, service: s}}\n"
        );
        assert_errors(
            &with_cas(&service),
            &[&format!(
                "8:3: plugins[1]: applies to services[0].routes[1] without mtls-auth, so nobody \
                 would be judged there; expected mtls-auth or header-cert-auth wherever {name} applies"
            )],
        );
    }
}

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
fn client_cert_acl_uris_not_in_normal_form_are_warned_of() {
    let warned = |uri: &str| {
        let rules =
            format!("- {{name: client-cert-acl, config: {{deny: [{{san.uri: {uri:?}}}]}}}}\n");
        warned_of(&with_auth("", &rules), "normal form")
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
             san.uri, san.email, san.ip, sha256, spki_sha256, issuer_key_id, eku, all, any, not"
                .to_owned(),
        ),
        (
            "{any: [{name: x}]}",
            8,
            ".any[0].name",
            "unknown condition 'name', expected one of subject.*, issuer.*, san.dns, san.uri, \
             san.email, san.ip, sha256, spki_sha256, issuer_key_id, eku, all, any, not"
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
            "a mapping, expected a list".to_owned(),
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
fn digest_depends_on_every_field() {
    let cas = with_cas("consumers: []\n").replace("consumers: []\n", "");
    let with = |auth: &str, consumers: &str, plugins: &str| {
        policy(&format!(
            "{cas}consumers:\n- {{username: ann{consumers}}}\nplugins:\n\
             - {{name: mtls-auth, config: {{ca_certificates: [{ID_A}]{auth}}}}}\n{plugins}"
        ))
        .digest
    };
    let plain = with("", "", "");
    let defaults = ", consumer_by: [custom_id, username], authenticated_group_by: CN, \
                    revocation_check_mode: IGNORE_CA_ERROR, http_timeout: 30000, cert_cache_ttl: \
                    60000, cache_ttl: 7, ssl_verify: true, anonymous: null, crls: []";
    assert_eq!(plain, with(defaults, ", tags: [x]", ""));
    let acl = |config: &str| format!("- {{name: acl, config: {{{config}}}}}\n");
    let rule = |rule: &str| format!("- {{name: client-cert-acl, config: {{allow: [{rule}]}}}}\n");
    let mut digests = std::collections::HashSet::from([plain]);
    for (auth, consumers, plugins) in [
        (", consumer_by: [username]", "", String::new()),
        (", consumer_by: []", "", String::new()),
        (", anonymous: ann", "", String::new()),
        (", default_consumer: ann", "", String::new()),
        (", skip_consumer_lookup: true", "", String::new()),
        (", authenticated_group_by: DN", "", String::new()),
        (", authenticated_group_by: null", "", String::new()),
        (", revocation_check_mode: STRICT", "", String::new()),
        (", revocation_check_mode: SKIP", "", String::new()),
        (", http_timeout: 1", "", String::new()),
        (", cert_cache_ttl: 1", "", String::new()),
        (", ssl_verify: false", "", String::new()),
        (
            ", http_proxy_host: a, http_proxy_port: 1",
            "",
            String::new(),
        ),
        (
            ", https_proxy_host: a, https_proxy_port: 1",
            "",
            String::new(),
        ),
        (", san_dirname_matcher: [CN]", "", String::new()),
        ("", ", custom_id: x", String::new()),
        (
            "",
            ", id: 33333333-3333-4333-8333-333333333333",
            String::new(),
        ),
        ("", ", acls: [{group: x}]", String::new()),
        ("", ", groups: [x]", String::new()),
        (
            "",
            ", mtls_auth_credentials: [{subject_name: x}]",
            String::new(),
        ),
        ("", "", acl("allow: [x]")),
        ("", "", acl("deny: [x]")),
        ("", "", acl("deny: [x], hide_groups_header: true")),
        ("", "", acl("deny: [x], include_consumer_groups: true")),
        (
            "",
            "",
            acl("deny: [x], always_use_authenticated_groups: true"),
        ),
        ("", "", rule("{subject.O: x}")),
        ("", "", rule("{issuer.O: x}")),
        ("", "", rule("{name: y, issuer.O: x}")),
    ] {
        assert!(
            digests.insert(with(auth, consumers, &plugins)),
            "{auth} {consumers} {plugins}"
        );
    }
}

#[test]
fn crls_are_read_from_beside_the_policy_and_change_the_status_key_only() {
    let directory = std::env::temp_dir().join(format!("resty-mtls-crls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, content: &[u8]| {
        std::fs::write(directory.join(name), content).unwrap();
        directory.join(name)
    };
    write(
        "crl.pem",
        &crate::trust::test_ca::TestCa::new().crl("", &[]),
    );
    let text = |fields: &str| with_auth(fields, "");
    let fixed = text("");
    let with = |fields: &str| {
        let text = fixed.replace("\nconsumers:", &format!("{fields}\nconsumers:"));
        let path = write("policy.yaml", text.as_bytes());
        Policy::from_file(&path).unwrap_or_else(|errors| panic!("{errors:#?}"))
    };
    let none = with("");
    let one = with("    crls: [crl.pem]");
    let unused = with("    revocation_check_mode: SKIP\n    crls: [crl.pem]");
    let path = directory.join("policy.yaml");
    let label = path.display().to_string();
    std::fs::remove_dir_all(&directory).unwrap();

    assert!(!auth(&one).revocation.crls.as_ref().unwrap().is_empty());
    assert_ne!(auth(&one).revocation.key, auth(&none).revocation.key);
    assert_eq!(auth(&one).store.digest(), auth(&none).store.digest());
    assert_eq!(
        one.certificate_requests[0].session_id_context(),
        none.certificate_requests[0].session_id_context()
    );
    assert_ne!(one.digest, none.digest);
    assert_eq!(warnings(&one), [""; 0]);
    assert_eq!(
        warnings(&unused),
        [format!(
            "{label}:6:3: warning: plugins[0].config.crls: have no effect with the \
             revocation_check_mode 'SKIP'"
        )]
    );
}

#[test]
fn consumers_a_hundred_thousand_compile_in_time() {
    const CONSUMERS: usize = 100_000;
    let mut text = with_auth("", "consumers: []\n").replace("consumers: []\n", "consumers:\n");
    for i in 0..CONSUMERS {
        text += &format!(
            "- {{username: u{i}, custom_id: c{i}, acls: [{{group: g{}}}], mtls_auth_credentials: \
             [{{subject_name: s{i}, ca_certificate: {ID_B}}}]}}\n",
            i % 100
        );
    }
    let start = Instant::now();
    let policy = policy(&text);
    let took = start.elapsed();
    // A release build takes one second, a debug build fifteen times that, and a busy machine a few
    // times that; what is quadratic takes hours.
    assert!(took < Duration::from_secs(240), "{took:?}");
    assert_eq!(policy.consumers.len(), CONSUMERS);
    assert_eq!(&*consumer(&policy, "u99999").groups[0], "g99");
}

#[test]
fn routes_share_a_plan_if_their_plugins_say_the_same() {
    let ca = |id: &str| format!("{{ca_certificates: [{id}]}}");
    let with = |id: &str, field: &str| format!("{{ca_certificates: [{id}], {field}}}");
    let configs = [
        ca(ID_A),
        ca(ID_B),
        format!("{{ca_certificates: [{ID_A}, {ID_B}]}}"),
        with(ID_A, "allow_partial_chain: true"),
        with(ID_A, "verify_depth: 3"),
        with(ID_A, "auth_level: 3"),
        with(ID_A, "resumption: false"),
        with(ID_A, "skip_consumer_lookup: true"),
        with(ID_A, "consumer_by: [username]"),
        with(ID_A, "anonymous: ann"),
        with(ID_A, "anonymous: bob"),
        with(ID_A, "default_consumer: ann"),
        with(ID_A, "authenticated_group_by: DN"),
        with(ID_A, "san_dirname_matcher: [CN]"),
        with(ID_A, "revocation_check_mode: STRICT"),
        with(ID_A, "http_timeout: 1"),
        with(ID_A, "cert_cache_ttl: 1"),
        with(ID_A, "ssl_verify: false"),
        with(ID_A, "http_proxy_host: a, http_proxy_port: 1"),
        with(ID_A, "http_proxy_host: a, http_proxy_port: 2"),
        with(ID_A, "https_proxy_host: a, https_proxy_port: 1"),
    ];
    let others = [
        ("acl", ["{allow: [x]}", "{deny: [x]}"]),
        (
            "client-cert-acl",
            ["{allow: [{subject.O: x}]}", "{allow: [{issuer.O: x}]}"],
        ),
        (
            "tls-metadata-headers",
            [
                "{inject_client_cert_details: true}",
                "{inject_client_cert_details: true, client_cert_header_name: X-Other}",
            ],
        ),
        (
            "client-cert-headers",
            [
                "{dialects: [rfc9440]}",
                "{dialects: [{name: rfc9440, when: presented}]}",
            ],
        ),
        (
            "openid-connect",
            [
                "{issuer: 'https://a.test', auth_methods: [bearer], audience_required: [x]}",
                "{issuer: 'https://a.test', auth_methods: [bearer], audience_required: [y]}",
            ],
        ),
    ];
    let mut text = with_cas("consumers: [{username: ann}, {username: bob}]\nroutes:\n");
    // Every configuration twice, far from each other, and each acl and rule next to its like.
    for turn in 0..2 {
        for (i, config) in configs.iter().enumerate() {
            text += &format!(
                "- {{name: r{turn}-{i}, plugins: [{{name: mtls-auth, config: {config}}}]}}\n"
            );
        }
    }
    for turn in 0..2 {
        for (plugin, configs) in others {
            for (i, config) in configs.iter().enumerate() {
                text += &format!(
                    "- {{name: {plugin}{turn}-{i}, plugins: [{{name: mtls-auth, config: {}}}, \
                     {{name: {plugin}, config: {config}}}]}}\n",
                    ca(ID_A)
                );
            }
        }
        let header = format!("certificate_header_name: X-{turn}, secure_source: false");
        for (i, header) in [header.replace(&format!("X-{turn}"), "X-A"), header]
            .iter()
            .enumerate()
        {
            text += &format!(
                "- {{name: header{turn}-{i}, plugins: [{{name: header-cert-auth, config: \
                 {{ca_certificates: [{ID_A}], certificate_header_format: base64_encoded, {header}}}}}]}}\n"
            );
        }
    }
    // Concerns the handshake only.
    text += &format!(
        "- {{name: same, plugins: [{{name: mtls-auth, config: {}}}]}}\n",
        with(ID_A, "send_ca_dn: true")
    );
    text += "- {name: none}\n";
    let policy = policy(&text);
    let plan = |route: String| &policy.plans[policy.plan(Some(&route)).unwrap()];
    let position = |route: String| policy.plan(Some(&route)).unwrap();
    let others = others.map(|(plugin, configs)| (plugin, configs.len()));
    let kinds = [("r", configs.len()), ("header", 1)];
    let mut distinct: Vec<&Arc<Plan>> = vec![&policy.plans[0]];
    for (kind, count) in kinds.into_iter().chain(others) {
        for i in 0..count {
            let names = [format!("{kind}0-{i}"), format!("{kind}1-{i}")];
            let [one, other] = names.clone().map(plan);
            assert!(Arc::ptr_eq(one, other), "{kind} {i}");
            assert_eq!(position(names[0].clone()), position(names[1].clone()));
            assert!(
                !distinct.iter().any(|other| Arc::ptr_eq(one, other)),
                "{kind} {i}"
            );
            distinct.push(one);
        }
    }
    assert_ne!(
        position("header0-1".to_owned()),
        position("header1-1".to_owned())
    );
    assert_eq!(position("same".to_owned()), position("r0-0".to_owned()));
    assert_eq!(position("none".to_owned()), 0);
    // Those, and two of header-cert-auth.
    assert_eq!(policy.plans.len(), distinct.len() + 2);
}

#[test]
fn equal_plugins_with_something_wrong_are_each_reported() {
    let text = with_cas(&format!(
        "consumers: [{{username: ann}}]\nroutes:\n\
         - {{name: a, plugins: [{{name: mtls-auth, config: &c {{ca_certificates: [{ID_A}], anonymous: bob}}}}]}}\n\
         - {{name: b, plugins: [{{name: mtls-auth, config: *c}}]}}\n"
    ));
    let errors = errors(&text);
    assert_eq!(errors.len(), 2, "{errors:#?}");
    for (error, route) in errors.iter().zip(0..) {
        let path = format!(" routes[{route}].plugins[0].config.anonymous: ");
        assert!(error.contains(&path), "{error}");
    }
}

#[test]
fn equal_plugins_with_something_odd_are_each_warned_of() {
    let directory = std::env::temp_dir().join(format!("resty-mtls-odd-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let crl = directory.join("crl.pem");
    std::fs::write(&crl, crate::trust::test_ca::TestCa::new().crl("", &[])).unwrap();
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: a, plugins: [{{name: mtls-auth, config: &c {{ca_certificates: [{ID_A}], \
         skip_consumer_lookup: true, revocation_check_mode: SKIP, crls: [{}]}}}}]}}\n\
         - {{name: b, plugins: [{{name: mtls-auth, config: *c}}]}}\n",
        crl.display()
    ));
    let policy = policy(&text);
    std::fs::remove_dir_all(&directory).unwrap();
    let warnings = warnings(&policy);
    for route in 0..2 {
        let path = format!(" routes[{route}].plugins[0].config.crls: have no effect");
        let told = warnings.iter().filter(|warning| warning.contains(&path));
        assert_eq!(told.count(), 1, "{warnings:#?}");
    }
}

/// Warnings that say `what`, each without what stands behind a semicolon.
fn warned_of(text: &str, what: &str) -> Vec<String> {
    let found = warnings(&policy(text)).into_iter();
    found
        .filter(|line| line.contains(what))
        .map(|line| line.split(';').next().unwrap().to_owned())
        .collect()
}

#[test]
fn rules_on_names_that_several_cas_may_issue_are_warned_of() {
    let root = testing::issue("Root", None, true, 60, &[]);
    let below = testing::issue("Below", Some(&root), true, 60, &[]);
    let beside = testing::issue("Beside", Some(&root), true, 60, &[]);
    let lowest = testing::issue("Lowest", Some(&below), true, 60, &[]);
    let other = testing::issue("Other", None, true, 60, &[]);
    // The same subject and key once more
    let again = testing::renew(&root);
    let cas = [
        &root.x509,
        &below.x509,
        &beside.x509,
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
        warned_of(&text, "may issue")
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
        (&[1, 2], Some("'CN=Below,O=Example', 'CN=Beside,O=Example'")),
        (
            &[0, 1, 2],
            Some("'CN=Root,O=Example', 'CN=Below,O=Example', 'CN=Beside,O=Example'"),
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

#[test]
fn acl_groups_that_no_consumer_is_in_are_warned_of() {
    let consumers = "consumers: [{username: ann, acls: [{group: dev}], groups: [gold]}]\n";
    for (fields, config, expected) in [
        ("", "{allow: [dev]}", &[][..]),
        (
            "",
            "{allow: [Dev], deny: [dev, none]}",
            &[
                "plugins[1].config.allow[0]: no consumer is in the group 'Dev', did you mean 'dev'?",
                "plugins[1].config.deny[1]: no consumer is in the group 'none'",
            ],
        ),
        (
            "",
            "{allow: [gold]}",
            &[
                "plugins[1].config.allow[0]: no consumer is in the group 'gold', but in the consumer \
                 group of this name, which counts with 'include_consumer_groups: true'",
            ],
        ),
        ("", "{allow: [gold], include_consumer_groups: true}", &[]),
        // The groups are names of certificates.
        ("    skip_consumer_lookup: true\n", "{allow: [none]}", &[]),
    ] {
        let text = with_auth(fields, &format!("- {{name: acl, config: {config}}}\n{consumers}"));
        let found = warned_of(&text, "no consumer is in");
        let found: Vec<&str> = found
            .iter()
            .map(|line| line.split("warning: ").last().unwrap())
            .collect();
        assert_eq!(found, expected, "{fields}{config}");
    }
}

#[test]
fn subject_names_that_look_like_a_dn_are_warned_of() {
    let text = |name: &str| {
        with_auth(
            "",
            &format!("consumers: [{{username: ann, mtls_auth_credentials: [{{subject_name: {name:?}}}]}}]\n"),
        )
    };
    for name in [
        "CN=ann,O=x",
        "cn = ann",
        "/C=CZ/CN=ann",
        "emailAddress=a@b.c",
    ] {
        let found = warned_of(&text(name), "distinguished name");
        let expected = format!(
            "p:9:53: warning: consumers[0].mtls_auth_credentials[0].subject_name: '{name}' looks like \
             a distinguished name, and is compared with single names: a subject alternative name, or \
             the CN where there is none"
        );
        assert_eq!(found, [expected]);
    }
    for name in ["ann", "urn:x:a=b", "a=b", "https://x/CN=a"] {
        assert_eq!(
            warned_of(&text(name), "distinguished name"),
            [""; 0],
            "{name}"
        );
    }
}
