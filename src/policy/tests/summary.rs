//! The summary of a policy.

use super::*;

#[test]
fn summary_lists_certificate_requests_and_protected_routes() {
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: r, snis: [b.test, a.test]}}\n\
         - {{name: q, snis: [c.test]}}\n\
         - {{name: open}}\n\
         plugins:\n\
         - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}], send_ca_dn: true}}}}\n\
         - {{name: mtls-auth, route: q, config: {{ca_certificates: [{ID_B}]}}}}\n"
    ));
    let policy = policy(&text);
    assert_eq!(
        policy.summary().to_string(),
        format!(
            "digest: {}\n\
             server names under which a client certificate is requested: 3\n\
             \x20 a.test, b.test: 1 CA name sent, 19 bytes\n\
             \x20 c.test: no CA names sent\n\
             routes: 3\n\
             routes that require a client certificate: r, q\n\
             routes without a plugin, open to every client: open\n",
            crate::text::hex(&policy.digest)
        )
    );
}

#[test]
fn summary_lists_routes_that_require_nothing_apart() {
    let of = |rest: &str| {
        let summary = policy(&with_cas(rest)).summary().to_string();
        let at = summary.find("routes: ").unwrap();
        let (_, lists) = summary[at..].split_once('\n').unwrap();
        lists.to_owned()
    };
    let auth =
        |more: &str| format!("{{name: mtls-auth, config: {{ca_certificates: [{ID_A}]{more}}}}}");
    let token = |more: &str| {
        format!("{{name: openid-connect, config: {{issuer: 'https://a.test', auth_methods: [bearer]{more}}}}}")
    };
    let consumers = "consumers: [{username: nobody, acls: [{group: guests}]}]\n";
    let claims = ", anonymous: nobody, consumer_claims: [[sub]]";
    let (anonymous, report) = (", anonymous: nobody", ", enforce: report");
    let acl = |config: &str| format!("{{name: acl, config: {{{config}}}}}");
    let rules = "{name: client-cert-acl, config: {allow: [{name: a, subject.O: x}]}}";
    let (needs, lets_in) = (
        "routes that require a client certificate: r\n",
        "routes that let in clients without a client certificate: r\n",
    );
    for (plugins, expected) in [
        (auth(""), needs),
        (auth(anonymous), lets_in),
        (auth(report), lets_in),
        (
            format!("{}, {}", auth(anonymous), acl("allow: [staff]")),
            needs,
        ),
        (
            format!("{}, {}", auth(anonymous), acl("allow: [guests]")),
            lets_in,
        ),
        (
            format!(
                "{}, {}",
                auth(anonymous),
                acl("allow: [staff], enforce: report")
            ),
            lets_in,
        ),
        (format!("{}, {rules}", auth(anonymous)), needs),
        (format!("{}, {rules}", auth(report)), needs),
        (format!("{}, {}", auth(report), acl("deny: [x]")), needs),
        (token(""), "routes that require an access token: r\n"),
        (
            token(report),
            "routes that let in clients without an access token: r\n",
        ),
        (
            token(anonymous),
            "routes that let in clients without an access token: r\n",
        ),
        (
            format!("{}, {}", token(claims), acl("allow: [staff]")),
            "routes that require an access token: r\n",
        ),
    ] {
        let text =
            format!("routes: [{{name: r, snis: [a.test], plugins: [{plugins}]}}]\n{consumers}");
        assert_eq!(of(&text), expected, "{plugins}");
    }
    let global = |config: &str| of(&format!("plugins: [{}]\n{consumers}", auth(config)));
    assert_eq!(
        global(""),
        "requests without a route require a client certificate\n"
    );
    assert_eq!(
        global(anonymous),
        "requests without a route are let in without a client certificate\n"
    );
}

#[test]
fn summary_long_lists_are_cut() {
    let names: Vec<_> = (10..35).map(|i| format!("h{i}.test")).collect();
    let text = format!(
        "_format_version: \"3.0\"\nroutes: [{{name: r, snis: [{}]}}]\n\
         plugins: [{{name: tls-handshake-modifier, route: r}}]\n",
        names.join(", ")
    );
    let summary = policy(&text).summary().to_string();
    let line = summary.lines().nth(2).unwrap();
    assert_eq!(
        line,
        format!("  {} and 5 more: no CA names sent", names[..20].join(", "))
    );
}

#[test]
fn summary_lists_routes_without_a_plugin_in_effect() {
    let auth =
        |more: &str| format!("{{name: mtls-auth{more}, config: {{ca_certificates: [{ID_A}]}}}}");
    let routes = format!(
        "routes:\n\
         - {{name: payments, snis: [a.test], plugins: [{}]}}\n\
         - {{name: website}}\n\
         - {{name: reports, plugins: [{}, {{name: rate-limiting}}]}}\n\
         - {{name: names, plugins: [{{name: tls-metadata-headers}}]}}\n",
        auth(""),
        auth(", enabled: false")
    );
    let open = policy(&with_cas(&routes));
    let listed: Vec<_> = open.routes_without_plugin().collect();
    assert_eq!(listed, ["website", "reports"]);
    assert!(open
        .summary()
        .to_string()
        .ends_with("\nroutes without a plugin, open to every client: website, reports\n"));
    let global = policy(&with_cas(&format!("{routes}plugins: [{}]\n", auth(""))));
    assert_eq!(global.routes_without_plugin().count(), 0);
    let summary = global.summary().to_string();
    assert!(!summary.contains("without a plugin"));
    assert!(
        summary.contains("\n  a.test, * (every name): no CA names sent\n"),
        "{summary}"
    );
}
