//! `trust_domains`: SPIFFE trust domains, and rules on SPIFFE IDs.

use super::*;

/// A policy with two trust domains, of the CAs with `ID_A` and `ID_B`.
fn with_domains(fields: &str, rest: &str) -> String {
    let domains = format!(
        "trust_domains: [{{name: a.example, ca_certificates: [{ID_A}]}}, \
         {{name: b.example, ca_certificates: [{ID_B}]}}]\n"
    );
    with_cas(&format!(
        "{domains}plugins:\n- {{name: mtls-auth, config: {{skip_consumer_lookup: true{fields}}}}}\n{rest}"
    ))
}

#[test]
fn trust_domains_of_a_plugin_have_their_own_stores() {
    let text = with_domains(", trust_domains: [b.example, a.example, a.example]", "");
    let policy = policy(&text);
    let auth = auth(&policy);
    let domains: Vec<_> = auth.trust_domains.iter().collect();
    let names: Vec<&str> = domains.iter().map(|domain| &*domain.name).collect();
    assert_eq!(names, ["a.example", "b.example"]);
    assert!(auth.store.cas().is_empty() && !auth.has_cas);
    assert_eq!(auth.stores().count(), 3);
    for domain in domains {
        assert_eq!(domain.store.cas().len(), 1);
    }
}

#[test]
fn trust_domains_are_part_of_plan_and_session_binding() {
    let text = with_domains("FIELDS", "");
    let binding = |fields: &str| {
        let policy = policy(&text.replace("FIELDS", fields));
        let request = policy.certificate_request(None).unwrap();
        (*request.session_id_context(), policy.digest)
    };
    let all = [
        ", trust_domains: [a.example]",
        ", trust_domains: [b.example]",
        ", trust_domains: [a.example, b.example]",
        &format!(", ca_certificates: [{ID_A}]"),
        &format!(", ca_certificates: [{ID_A}], trust_domains: [a.example]"),
    ]
    .map(binding);
    for (index, one) in all.iter().enumerate() {
        for other in &all[..index] {
            assert!(one.0 != other.0 && one.1 != other.1, "{index}");
        }
    }
    assert_eq!(binding(", trust_domains: [a.example]"), all[0]);
}

#[test]
fn trust_domains_ca_names_are_sent() {
    let text = with_domains(
        ", send_ca_dn: true, trust_domains: [a.example, b.example]",
        "",
    );
    assert_eq!(ca_names_len(&policy(&text), "any.test"), Some(2));
}

#[test]
fn trust_domains_bad_entries_are_refused() {
    let long = "a".repeat(256);
    for (entry, expected) in [
        (
            "{ca_certificates: []}".to_owned(),
            &[
                "trust_domains[0].ca_certificates: an empty list, expected the id of at least one \
                 entry of 'ca_certificates'",
                "trust_domains[0]: the required field 'name' is missing",
            ][..],
        ),
        (
            "{name: a}".to_owned(),
            &["trust_domains[0]: expected one of 'ca_certificates', 'bundle' and 'bundle_url'"],
        ),
        (
            format!("{{name: a, ca_certificates: [{ID_A}], bundle: /nowhere}}"),
            &[
                "trust_domains[0]: has several of 'ca_certificates', 'bundle' and 'bundle_url', \
                 expected one",
                "trust_domains[0].bundle: '/nowhere': cannot be read",
            ],
        ),
        (
            format!("{{name: A.example, ca_certificates: [{ID_A}]}}"),
            &[
                "trust_domains[0].name: 'A.example' is not the name of a trust domain: it has a \
                 character other than a-z, 0-9, '-', '.' and '_'",
            ],
        ),
        (
            format!("{{name: {long}, ca_certificates: [{ID_A}]}}"),
            &["is longer than 255 bytes"],
        ),
        (
            format!("{{name: '', ca_certificates: [{ID_A}]}}"),
            &["trust_domains[0].name: '' is not the name of a trust domain: it is empty"],
        ),
        (
            format!("{{name: a, ca_certificates: [{ID_C}]}}"),
            &["trust_domains[0].ca_certificates[0]: no entry of 'ca_certificates' has the id"],
        ),
        (
            format!(
                "{{name: a, ca_certificates: [{ID_A}]}}, {{name: a, ca_certificates: [{ID_A}]}}"
            ),
            &["trust_domains[1].name: 'a' is given twice, first at trust_domains[0]"],
        ),
        (
            "{name: a, bundle_url: 'http://a.example/bundle'}".to_owned(),
            &[
                "trust_domains[0].bundle_url: 'http://a.example/bundle', expected an https URL \
                 without user information and fragment",
            ],
        ),
        (
            "{name: a, bundle: ''}".to_owned(),
            &["trust_domains[0].bundle: '', expected the path of a file"],
        ),
        (
            "{name: a, bundle: x/b.json}".to_owned(),
            &[
                "trust_domains[0].bundle: 'x/b.json': a relative path in a policy that is not a \
                 file, expected an absolute path",
            ],
        ),
    ] {
        let errors = errors_without_name(&with_cas(&format!("trust_domains: [{entry}]\n")));
        for expected in expected {
            let found = errors.iter().any(|error| error.contains(expected));
            assert!(found, "{entry}: {expected}: {errors:?}");
        }
        assert_eq!(errors.len(), expected.len(), "{entry}: {errors:?}");
    }
}

#[test]
fn trust_domains_of_plugins_and_rules_must_exist() {
    let rules =
        |rule: &str| format!("- {{name: client-cert-acl, config: {{deny: [{{{rule}}}]}}}}\n");
    let known = ", trust_domains: [a.example, b.example]";
    policy(&with_domains(known, &rules("trust_domain: a.example")));
    policy(&with_domains(
        known,
        &rules("spiffe_id: 'spiffe://b.example/ns/*'"),
    ));
    let never =
        "plugins[1].config.deny[0]: 'trust_domain' and 'spiffe_id' never hold on a route of \
                 the plugin, expected 'trust_domains' in the 'mtls-auth' or 'header-cert-auth' of \
                 each of its routes";
    let cas = format!(", ca_certificates: [{ID_A}]");
    for (fields, rule, expected) in [
        (
            ", trust_domains: [a.exampel]",
            "eku: clientAuth",
            "no entry of 'trust_domains' has the name 'a.exampel', did you mean 'a.example'?",
        ),
        (
            ", trust_domains: ['']",
            "eku: clientAuth",
            "'', expected the name of an entry of 'trust_domains'",
        ),
        (
            known,
            "trust_domain: c.example",
            "no entry of 'trust_domains' has the name 'c.example'",
        ),
        (
            known,
            "spiffe_id: 'spiffe://c.example/x'",
            "no entry of 'trust_domains' has the name 'c.example'",
        ),
        (
            known,
            "spiffe_id: 'spiffe://a.example/x*'",
            "'spiffe://a.example/x*' would also match longer names, expected '/' before the '*', \
             for example 'spiffe://example.org/ns/*'",
        ),
        (&cas, "not: {trust_domain: a.example}", never),
        (&cas, "any: [{spiffe_id: 'spiffe://a.example/x'}]", never),
    ] {
        let errors = errors_without_name(&with_domains(fields, &rules(rule)));
        let found = errors.iter().any(|error| error.contains(expected));
        assert!(found, "{fields} {rule}: {errors:?}");
    }
}

#[test]
fn client_auth_eku_without_a_limit_of_clients_is_refused_for_trust_domains_too() {
    let fields = ", trust_domains: [a.example], client_auth_eku: any";
    let found = errors(&with_domains(fields, ""));
    assert!(
        found.len() == 1 && found[0].contains("'any' lets in every holder of a certificate"),
        "{found:?}"
    );
    for (rule, limited) in [
        ("subject.CN: ann", true),
        ("spiffe_id: 'spiffe://a.example/ns/*'", true),
        ("spiffe_id: 'spiffe://a.example/x'", true),
        ("spiffe_id: 'spiffe://a.example/*'", false),
        ("san.uri: 'spiffe://a.example/x'", true),
        ("san.uri: 'spiffe://a.example/ns/*'", true),
        ("san.uri: 'SPIFFE://A.example/*'", false),
        ("san.uri: 'spiffe:*'", false),
        ("san.uri: 'https://a.example/*'", true),
        ("trust_domain: a.example", false),
        ("not: {not: {trust_domain: a.example}}", false),
        ("not: {spiffe_id: 'spiffe://a.example/x'}", false),
    ] {
        let rules = format!("- {{name: client-cert-acl, config: {{allow: [{{{rule}}}]}}}}\n");
        let text = with_domains(fields, &rules);
        let found = Policy::from_yaml(text.as_bytes(), "p").err();
        assert_eq!(found.is_none(), limited, "{rule}: {found:?}");
    }
}

#[test]
fn trust_domains_bundle_url_is_not_read_where_the_policy_is_only_checked() {
    let url = "https://a.example:8443/bundle?x=1";
    let text = format!("trust_domains: [{{name: a, bundle_url: '{url}'}}]\n");
    assert_eq!(warnings(&policy(&with_cas(&text))), [""; 0]);
    for url in [
        "https://",
        "https://u@a/",
        "https://a/#b",
        "https://a/ b",
        "HTTPS://a/",
    ] {
        let text = format!("trust_domains: [{{name: a, bundle_url: '{url}'}}]\n");
        assert_eq!(errors(&with_cas(&text)).len(), 1, "{url}");
    }
}

#[test]
fn trust_domains_bundle_url_needs_a_state_directory() {
    let text = with_cas("trust_domains: [{name: a, bundle_url: 'https://a.example/'}]\n");
    let mut files = Files::default().with_state_directory(None);
    let errors = Policy::from_yaml_with(text.as_bytes(), "p", &mut files)
        .err()
        .unwrap();
    let found = errors.iter().any(|error| {
        error.to_string().ends_with(
            "trust_domains[0].bundle_url: needs a directory for what is fetched, expected the \
             option 'state_dir' of mtls.init",
        )
    });
    assert!(found, "{errors:?}");
}
