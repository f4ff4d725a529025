//! `enforce` of the plugins that can refuse.

use super::*;

/// The plugins of a route, the last of which has these further fields.
fn plugins(kind: &str, more: &str) -> String {
    let certificate = format!(
        "name: mtls-auth, config: {{ca_certificates: [{ID_A}], skip_consumer_lookup: true{}}}",
        if kind == "mtls-auth" { more } else { "" }
    );
    let other = match kind {
        "mtls-auth" => return format!("[{{{certificate}}}]"),
        "header-cert-auth" => {
            return format!(
                "[{{name: header-cert-auth, config: {{ca_certificates: [{ID_A}], \
                 certificate_header_name: X-C, certificate_header_format: auto, \
                 skip_consumer_lookup: true{more}}}}}]"
            )
        }
        "openid-connect" => {
            "issuer: 'https://a.test', auth_methods: [bearer], audience_required: [x], \
             hide_credentials: true"
        }
        "client-cert-acl" => "deny: [{subject.O: x}]",
        "client-cert-lists" => "deny: [/nonexistent.list]",
        _ => "allow: [x]",
    };
    format!("[{{{certificate}}}, {{name: {kind}, config: {{{other}{more}}}}}]")
}

#[test]
fn report_of_a_plugin_is_that_of_its_routes_alone_and_is_warned_about() {
    let none = ReportOnly::default();
    for (kind, expected) in [
        (
            "mtls-auth",
            ReportOnly {
                authentication: true,
                ..none
            },
        ),
        (
            "header-cert-auth",
            ReportOnly {
                authentication: true,
                ..none
            },
        ),
        (
            "openid-connect",
            ReportOnly {
                token: true,
                ..none
            },
        ),
        ("acl", ReportOnly { acl: true, ..none }),
        (
            "client-cert-acl",
            ReportOnly {
                rules: true,
                ..none
            },
        ),
    ] {
        let mut text = "routes:\n".to_owned();
        for (route, more) in [
            ("r0", ""),
            ("r1", ", enforce: report"),
            ("r2", ", enforce: enforce"),
            ("r3", ", enforce: report"),
            ("r4", ", enforce: null"),
        ] {
            let plugins = plugins(kind, more);
            text += &format!("- {{name: {route}, snis: [a.test], plugins: {plugins}}}\n");
        }
        let policy = policy(&with_cas(&text));
        for route in ["r0", "r2", "r4"] {
            assert_eq!(plan(&policy, route).report_only, none, "{kind} {route}");
            assert!(std::ptr::eq(plan(&policy, route), plan(&policy, "r0")));
        }
        for route in ["r1", "r3"] {
            assert_eq!(plan(&policy, route).report_only, expected, "{kind} {route}");
            assert!(std::ptr::eq(plan(&policy, route), plan(&policy, "r1")));
        }
        let found = warnings(&policy).into_iter();
        let found: Vec<_> = found.filter(|line| line.contains("enforce")).collect();
        let position = match kind {
            "mtls-auth" | "header-cert-auth" => 0,
            _ => 1,
        };
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains(&format!(
                "routes[1].plugins[{position}].config.enforce: is report: requests that {kind} \
                 would refuse pass; expected enforce, once no client of yours would be refused"
            )),
            "{found:?}"
        );
    }
}

#[test]
fn report_beside_a_plugin_that_enforces_is_warned_about() {
    let auth = format!(
        "{{name: mtls-auth, config: {{ca_certificates: [{ID_A}], skip_consumer_lookup: true, \
         enforce: report}}}}"
    );
    let found = |rest: &str| {
        let found = warnings(&policy(&with_cas(rest))).into_iter();
        let found = found.filter(|line| line.contains("enforce: is report"));
        let message = |line: String| line.split_once("config.enforce: ").unwrap().1.to_owned();
        found.map(message).collect::<Vec<_>>()
    };
    let of_auth = |plugins: &str| {
        let text = format!("routes: [{{name: r, snis: [a.test], plugins: [{auth}{plugins}]}}]\n");
        found(&text).remove(0)
    };
    let passes = "is report: requests that mtls-auth would refuse pass; expected enforce, once no \
                  client of yours would be refused";
    let refused = |by: &str| {
        format!(
            "is report, but requests that mtls-auth would refuse are still refused, since a \
             plugin beside it enforces and needs an authenticated client: {by}; expected report \
             there too, or enforce here"
        )
    };
    let acl = ", {name: acl, config: {deny: [x]}}";
    let rules = ", {name: client-cert-acl, config: {deny: [{subject.O: x}]}}";
    let token = ", {name: openid-connect, config: {issuer: 'https://a.test', auth_methods: \
                 [bearer], audience_required: [x], consumer_claims: [[sub]]}}";
    for (plugins, expected) in [
        (String::new(), passes.to_owned()),
        (
            acl.replace("[x]", "[x], enforce: report"),
            passes.to_owned(),
        ),
        (acl.to_owned(), refused("acl")),
        (rules.to_owned(), refused("client-cert-acl")),
        (format!("{acl}{rules}"), refused("acl, client-cert-acl")),
        // The token decides about the consumer, for which acl is checked.
        (format!("{acl}{token}"), passes.to_owned()),
    ] {
        assert_eq!(of_auth(&plugins), expected, "{plugins}");
    }
    let global = format!(
        "routes:\n- {{name: r, snis: [a.test]}}\n- {{name: s, snis: [b.test], plugins: [{}]}}\n\
         plugins: [{auth}]\n",
        &acl[2..]
    );
    assert_eq!(
        found(&global),
        ["is report: requests that mtls-auth would refuse pass, except where a plugin beside it \
          enforces and needs an authenticated client: acl; expected enforce, once no client of \
          yours would be refused"]
    );
}

#[test]
fn report_lets_nothing_pass_that_another_plugin_needs_authenticated() {
    let of = |plugins: &str| {
        let text = format!("routes: [{{name: r, snis: [a.test], plugins: [{plugins}]}}]\n");
        let policy = policy(&with_cas(&text));
        let plan = plan(&policy, "r");
        (plan.passes_unauthenticated(), plan.passes_misdirected())
    };
    let auth = |more: &str| {
        format!(
            "{{name: mtls-auth, config: {{ca_certificates: [{ID_A}], skip_consumer_lookup: \
             true{more}}}}}"
        )
    };
    let token = |more: &str| {
        format!(
            "{{name: openid-connect, config: {{issuer: 'https://a.test', auth_methods: \
             [bearer]{more}}}}}"
        )
    };
    let report = ", enforce: report";
    let (enforced, reported) = (auth(""), auth(report));
    let acl = "{name: acl, config: {deny: [x]}}";
    let reported_acl = "{name: acl, config: {deny: [x], enforce: report}}";
    let rules = "{name: client-cert-acl, config: {deny: [{subject.O: x}]}}";
    let consumers = ", consumer_claims: [[sub]]";
    for (plugins, expected) in [
        (enforced.clone(), (false, false)),
        (reported.clone(), (true, true)),
        (format!("{enforced}, {reported_acl}"), (false, false)),
        (format!("{reported}, {reported_acl}"), (true, true)),
        (format!("{reported}, {acl}"), (false, false)),
        (format!("{reported}, {rules}"), (false, false)),
        (format!("{reported}, {}", token("")), (true, false)),
        (format!("{reported}, {}", token(report)), (true, true)),
        (format!("{enforced}, {}", token(report)), (false, false)),
        // The token may give the consumer, for which acl is checked then.
        (
            format!("{reported}, {}, {acl}", token(consumers)),
            (true, false),
        ),
        (
            format!(
                "{reported}, {}, {acl}",
                token(&format!("{consumers}{report}"))
            ),
            (true, false),
        ),
        (token(report), (false, true)),
        (token(""), (false, false)),
        ("{name: tls-handshake-modifier}".to_owned(), (false, false)),
    ] {
        assert_eq!(of(&plugins), expected, "{plugins}");
    }
}

#[test]
fn enforce_of_another_value_or_plugin_is_refused() {
    let acl = |value: &str| format!("plugins: [{{name: acl, config: {{allow: [a], {value}}}}}]\n");
    let found = errors_without_name(&with_cas(&acl("enforce: warn")));
    assert!(
        found.contains(
            &"5:53: plugins[0].config.enforce: 'warn', expected 'enforce' or 'report'".to_owned()
        ),
        "{found:?}"
    );
    let found = errors_without_name(&with_cas(&acl("enforce: true")));
    assert!(found[0].contains("enforce: "), "{found:?}");
    let modifier = "plugins: [{name: tls-handshake-modifier, config: {enforce: report}}]\n";
    let found = errors_without_name(&with_cas(modifier));
    assert!(
        found[0].contains("unknown field 'enforce', expected"),
        "{found:?}"
    );
}

#[test]
fn refusal_of_a_route_that_falls_back_to_a_global_report() {
    let plugin = |scope: &str, more: &str| {
        format!(
            "- {{name: mtls-auth, {scope}config: {{ca_certificates: [{ID_A}], \
             skip_consumer_lookup: true{more}}}}}\n"
        )
    };
    let policy = |plugins: &[String]| {
        let plugins = plugins.concat();
        policy(&with_cas(&format!(
            "plugins:\n{plugins}routes:\n- {{name: a, snis: [a.test]}}\n"
        )))
    };
    let report = ", enforce: report";
    let before = policy(&[plugin("", report), plugin("route: a, ", "")]);
    let fallen = policy(&[plugin("", report)]);
    let why = before.protection.refusal(&fallen, false).unwrap();
    assert!(
        why.starts_with("refused, since route 'a' would lose mtls-auth or header-cert-auth"),
        "{why}"
    );
    // The plugin itself may report, also a global one that enforced.
    let meant = policy(&[plugin("", report), plugin("route: a, ", report)]);
    assert_eq!(before.protection.refusal(&meant, false), None);
    let global = policy(&[plugin("", "")]);
    assert_eq!(global.protection.refusal(&fallen, false), None);
    assert_eq!(fallen.protection.refusal(&before, false), None);
}
