//! Consumers and their credentials.

use std::time::{Duration, Instant};

use super::*;

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
    let expected =
        "p:8:3: warning: mtls_auth_credentials[1].subject_name: 'x' has a credential for this CA \
                already at mtls_auth_credentials[0], whose certificate has the same subject and \
                key: that one applies to both";
    assert!(
        warnings(&policy).iter().any(|warning| warning == expected),
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
fn subject_names_that_look_like_a_dn_are_warned_about() {
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
        let found = warnings_that_contain(&text(name), "distinguished name");
        let expected = format!(
            "p:9:53: warning: consumers[0].mtls_auth_credentials[0].subject_name: '{name}' looks like \
             a distinguished name, and is compared with single names: a subject alternative name, or \
             the CN where there is none"
        );
        assert_eq!(found, [expected]);
    }
    for name in ["ann", "urn:x:a=b", "a=b", "https://x/CN=a"] {
        assert_eq!(
            warnings_that_contain(&text(name), "distinguished name"),
            [""; 0],
            "{name}"
        );
    }
}
