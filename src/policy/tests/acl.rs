//! `acl`: groups of consumers and of certificates.

use super::*;

#[test]
fn acl_is_read_and_applies_with_mtls_auth() {
    let text = with_cas(&format!(
        "services: [{{name: s, routes: [{{name: r, snis: [r.test]}}, {{name: q, snis: \
         [q.test]}}]}}]\n\
         plugins:\n\
         - {{name: mtls-auth, service: s, config: {{ca_certificates: [{ID_A}]}}}}\n\
         - {{name: acl, service: s, config: {{allow: [ops, dev], hide_groups_header: true}}}}\n\
         - {{name: acl, route: q, config: {{deny: [bad], allow: null, include_consumer_groups: \
         true, \
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
                "9:31: plugins[1].config.allow: an empty list together with 'deny' would allow all, \
                 expected at least one group, or no 'allow' to mean that",
                "10:67: plugins[2].config.allow: an empty list together with 'deny' would allow all, \
                 expected at least one rule, or no 'allow' to mean that",
            ],
        ),
        (
            "- {name: acl, config: {allow: ops, whitelist: [x], deny: ['', 7]}}",
            &[
                "9:31: plugins[1].config.allow: 'ops', expected a list",
                "9:36: plugins[1].config: unknown field 'whitelist', expected one of allow, deny, \
                 hide_groups_header, include_consumer_groups, always_use_authenticated_groups, \
                 enforce",
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
fn acl_without_authentication_is_refused() {
    let kind = "client-cert-acl, config: {allow: [{subject.O: x}]}";
    let name = kind.split_once(',').unwrap().0;
    let global = format!("plugins:\n- {{name: {kind}}}\n");
    assert_errors(
        &with_cas(&global),
        &[&format!(
            "6:3: plugins[0]: applies to a request without a route without mtls-auth, so no \
             client would be authenticated there; expected mtls-auth or header-cert-auth \
             wherever {name} applies"
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
            "8:3: plugins[1]: applies to services[0].routes[1] without mtls-auth, so no \
             client would be authenticated there; expected mtls-auth or header-cert-auth \
             wherever {name} applies"
        )],
    );
}

#[test]
fn acl_of_another_authentication_is_warned_about() {
    let text = with_cas(&format!(
        "services: [{{name: s, routes: [{{name: r}}, {{name: q}}]}}]\nplugins:\n\
         - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}], \
         skip_consumer_lookup: true}}}}\n\
         - {{name: key-auth, route: q}}\n- {{name: acl, route: q, config: {{allow: [a]}}}}\n"
    ));
    let found = warnings(&policy(&text));
    let expected = "p:9:3: warning: plugins[2]: applies to services[0].routes[1], where no plugin \
                    of resty-mtls authenticates clients: the authentication of other plugins of \
                    Kong's has no effect here, so every request there is refused with 401";
    assert!(found.iter().any(|line| line == expected), "{found:#?}");
}

#[test]
fn acl_groups_without_consumers_are_warned_about() {
    let consumers = "consumers: [{username: ann, acls: [{group: dev}], groups: [gold]}]\n";
    for (fields, config, expected) in [
        ("", "{allow: [dev]}", &[][..]),
        (
            "",
            "{allow: [Dev], deny: [dev, none]}",
            &[
                "plugins[1].config.allow[0]: no consumer is in the group 'Dev', did you mean \
                 'dev'?",
                "plugins[1].config.deny[1]: no consumer is in the group 'none'",
            ],
        ),
        (
            "",
            "{allow: [gold]}",
            &[
                "plugins[1].config.allow[0]: no consumer is in the group 'gold', but in the \
                 consumer \
                 group of this name, which counts with 'include_consumer_groups: true'",
            ],
        ),
        ("", "{allow: [gold], include_consumer_groups: true}", &[]),
        // The groups are names of certificates.
        ("    skip_consumer_lookup: true\n", "{allow: [none]}", &[]),
    ] {
        let text = with_auth(
            fields,
            &format!("- {{name: acl, config: {config}}}\n{consumers}"),
        );
        let found = warnings_that_contain(&text, "no consumer is in");
        let found: Vec<&str> = found
            .iter()
            .map(|line| line.split("warning: ").last().unwrap())
            .collect();
        assert_eq!(found, expected, "{fields}{config}");
    }
}
