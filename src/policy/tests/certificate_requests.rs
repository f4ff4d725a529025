//! Certificate requests of server names.

use std::time::{Duration, Instant};

use super::*;
use crate::handshake::CA_NAMES_BUDGET;

#[test]
fn certificate_request_follows_the_scope_of_the_plugin() {
    let auth = format!("name: mtls-auth, config: {{ca_certificates: [{ID_A}], send_ca_dn: true}}");
    let one =
        "routes: [{name: r, service: s, snis: [r.test]}, {name: q, service: s, snis: [q.test]}]\n";
    let lacking = "routes: [{name: r, service: s, snis: [r.test]}, {name: q, service: s}]\n";
    let services = "services: [{name: s}]\n";
    // Plugin, routes, then whether a certificate is requested under r.test, q.test, x.test and
    // without a name.
    for (scope, routes, expected) in [
        ("", one, [Some(1); 4]),
        (", service: s", one, [Some(1), Some(1), None, None]),
        (", service: s", lacking, [Some(1); 4]),
        (", service: s", "", [Some(1); 4]),
        (", route: r", one, [Some(1), None, None, None]),
        (", route: q", lacking, [Some(1); 4]),
        (
            ", route: r, service: s",
            lacking,
            [Some(1), None, None, None],
        ),
    ] {
        let text = with_cas(&format!("{services}{routes}plugins: [{{{auth}{scope}}}]\n"));
        let policy = policy(&text);
        let found = ["r.test", "q.test", "x.test", "-"].map(|name| ca_names_len(&policy, name));
        assert_eq!(found, expected, "{scope} {routes}");
    }
}

#[test]
fn certificate_request_of_a_service_whose_routes_override_the_plugin_is_none() {
    let auth = |ca: &str| format!("config: {{ca_certificates: [{ca}], send_ca_dn: true}}");
    let text = with_cas(&format!(
        "services: [{{name: s, routes: [{{name: r, snis: [r.test]}}]}}]\n\
         plugins:\n\
         - {{name: mtls-auth, service: s, {}}}\n\
         - {{name: mtls-auth, route: r, {}}}\n",
        auth(&format!("{ID_A}, {ID_B}")),
        auth(ID_B),
    ));
    assert_eq!(ca_names_len(&policy(&text), "r.test"), Some(1));
}

#[test]
fn certificate_request_of_the_empty_sni_is_for_clients_without_one() {
    let auth = |route: &str, ca: &str| {
        format!(
            "- {{name: mtls-auth, route: {route}, config: {{ca_certificates: [{ca}], \
             send_ca_dn: true}}}}\n"
        )
    };
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: devices, snis: [\"\"], hosts: [192.0.2.7]}}\n\
         - {{name: api, snis: [api.test]}}\n\
         plugins:\n{}{}",
        auth("devices", ID_A),
        auth("api", ID_B),
    ));
    let found = policy(&text);
    assert_eq!(warnings(&found), [""; 0]);
    for (name, names) in [
        ("-", Some(1)),
        ("192.0.2.7", Some(1)),
        ("[2001:db8::1]", Some(1)),
        ("api.test", Some(1)),
        ("other.test", None),
    ] {
        assert_eq!(ca_names_len(&found, name), names, "{name}");
    }
    let binding = |name: Option<&str>| {
        let request = found.certificate_request(name.map(str::as_bytes)).unwrap();
        *request.session_id_context()
    };
    assert_eq!(binding(None), binding(Some("192.0.2.7")));
    assert_ne!(binding(None), binding(Some("api.test")));
    assert_errors(
        &text.replace("snis: [api.test]", "snis: [127.0.0.1]"),
        &["7:22: routes[1].snis[0]: server name '127.0.0.1': is an IP address, under which clients \
           send no server name (RFC 6066 section 3), expected a DNS name, or \"\" for clients \
           without SNI"],
    );
}

#[test]
fn certificate_request_unites_the_plugins_that_apply_under_a_name() {
    let auth = |route: &str, ca: &str| {
        format!(
            "- {{name: mtls-auth, route: {route}, config: {{ca_certificates: [{ca}], \
             send_ca_dn: true}}}}\n"
        )
    };
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: exact, snis: [a.example.com]}}\n\
         - {{name: wildcard, snis: ['*.example.com']}}\n\
         - {{name: again, snis: [a.example.com, b.example.com, c.test]}}\n\
         plugins:\n{}{}{}",
        auth("exact", ID_A),
        auth("wildcard", ID_B),
        auth("again", ID_A),
    ));
    let policy = policy(&text);
    assert_eq!(ca_names_len(&policy, "a.example.com"), Some(2));
    assert_eq!(ca_names_len(&policy, "b.example.com"), Some(2));
    assert_eq!(ca_names_len(&policy, "x.example.com"), Some(1));
    assert_eq!(ca_names_len(&policy, "c.test"), Some(1));
    assert_eq!(ca_names_len(&policy, "x.a.example.com"), None);
    // Equal contributions share one certificate request: {A, B}, {B}, {A}.
    assert_eq!(policy.certificate_requests.len(), 3);
    let binding = |name: &str| {
        *policy
            .certificate_request(Some(name.as_bytes()))
            .unwrap()
            .session_id_context()
    };
    assert_eq!(binding("a.example.com"), binding("b.example.com"));
    assert_ne!(binding("a.example.com"), binding("c.test"));
}

#[test]
fn certificate_request_resumption_changes_the_session_id_context() {
    let auth = |route: &str, option: &str| {
        format!(
            "- {{name: mtls-auth, route: {route}, config: {{ca_certificates: [{ID_A}]{option}}}}}\n"
        )
    };
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: may, snis: [a.test, d.test]}}\n\
         - {{name: never, snis: [b.test, d.test]}}\n\
         - {{name: default, snis: [c.test]}}\n\
         plugins:\n{}{}{}",
        auth("may", ", resumption: true"),
        auth("never", ", resumption: false"),
        auth("default", ""),
    ));
    let policy = policy(&text);
    let request = |name: &str| policy.certificate_request(Some(name.as_bytes())).unwrap();
    assert!(request("a.test").resumption() && request("c.test").resumption());
    assert_eq!(
        request("a.test").session_id_context(),
        request("c.test").session_id_context()
    );
    // A name that reaches a route without resumption has none.
    for name in ["b.test", "d.test"] {
        assert!(!request(name).resumption(), "{name}");
        assert!(
            !request(name).matches_session(request("a.test").session_id_context()),
            "{name}"
        );
    }
    assert_eq!(
        policy
            .plans
            .iter()
            .map(|plan| plan.auth.as_ref().map(|auth| auth.resumption))
            .collect::<Vec<_>>(),
        [None, Some(true), Some(false)]
    );
    let other = super::Policy::from_yaml(
        text.replace("resumption: false", "resumption: true")
            .as_bytes(),
        "p",
    );
    assert_ne!(other.map(|other| other.digest).ok(), Some(policy.digest));
}

#[test]
fn certificate_request_ca_names_are_complete_or_empty() {
    let text = with_cas(&format!(
        "routes:\n\
         - name: r\n  snis: [a.test, b.test]\n  plugins:\n  - name: mtls-auth\n    \
         config: {{ca_certificates: [{ID_A}], send_ca_dn: true}}\n\
         - name: q\n  snis: [b.test]\n  plugins:\n  - name: mtls-auth\n    \
         config: {{ca_certificates: [{ID_B}]}}\n"
    ));
    let policy = policy(&text);
    assert_eq!(ca_names_len(&policy, "a.test"), Some(1));
    assert_eq!(ca_names_len(&policy, "b.test"), Some(0));
    assert_eq!(
        warnings(&policy),
        [
            "p:9:5: warning: routes[0].plugins[0].config.send_ca_dn: no CA names are sent for the \
          server name 'b.test': routes[1].plugins[0] requests a certificate under the same name \
          without 'send_ca_dn'"
        ]
    );
}

#[test]
fn certificate_request_of_tls_handshake_modifier_accepts_any_certificate() {
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: r, snis: [a.test]}}\n\
         plugins:\n\
         - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}], send_ca_dn: true}}}}\n\
         - {{name: tls-handshake-modifier}}\n"
    ));
    let policy = policy(&text);
    for name in ["a.test", "x.test", "-"] {
        assert_eq!(ca_names_len(&policy, name), Some(0), "{name}");
    }
    assert!(policy.plans[0].has_plugins && policy.plans[0].auth.is_none());
    assert_eq!(
        warnings(&policy),
        ["p:8:3: warning: plugins[0].config.send_ca_dn: no CA names are sent for the server name \
          'a.test': plugins[1] requests a certificate under the same name \
          without 'send_ca_dn'"]
    );
}

#[test]
fn certificate_request_ca_names_over_the_budget_are_not_sent() {
    let mut entries = String::new();
    let mut ids = Vec::new();
    // 300 names of 120 bytes are more than 32 KB.
    for i in 0..300 {
        let id = format!("11111111-1111-4111-8111-{i:012}");
        entries += &ca_entry(&id, &ca_pem(&format!("{}{i:04}", "x".repeat(60))));
        ids.push(id);
    }
    // A common name takes at most 64 characters: several attributes would hide the count.
    let text = format!(
        "_format_version: \"3.0\"\nca_certificates:\n{entries}plugins:\n- name: mtls-auth\n  \
         config: {{ca_certificates: [{}], send_ca_dn: true, skip_consumer_lookup: true}}\n",
        ids.join(", ")
    );
    let few = policy(&text);
    assert_eq!(
        (ca_names_len(&few, "-"), warnings(&few).len()),
        (Some(300), 0)
    );
    assert!(few.certificate_requests[0].ca_names_bytes() <= CA_NAMES_BUDGET);

    let mut more = String::new();
    for i in 300..500 {
        let id = format!("11111111-1111-4111-8111-{i:012}");
        more += &ca_entry(&id, &ca_pem(&format!("{}{i:04}", "x".repeat(60))));
        ids.push(id);
    }
    let text = format!(
        "_format_version: \"3.0\"\nca_certificates:\n{entries}{more}plugins:\n- name: mtls-auth\n  \
         config: {{ca_certificates: [{}], send_ca_dn: true, skip_consumer_lookup: true}}\n",
        ids.join(", ")
    );
    let many = policy(&text);
    assert_eq!(ca_names_len(&many, "-"), Some(0));
    let bytes = many.certificate_requests[0].ca_names_bytes();
    assert_eq!(
        warnings(&many),
        [format!(
            "p:504:3: warning: plugins[0].config.send_ca_dn: no CA names are sent for the server \
             name '*': {bytes} bytes of names are over the limit of 32768"
        )]
    );
}

#[test]
fn from_yaml_many_routes_share_few_certificate_requests() {
    const ROUTES: usize = 20_000;
    let mut text = with_cas("services: [{name: s}]\nconsumers: [{username: ann}]\nroutes:\n");
    for i in 0..ROUTES {
        let ca = if i % 2 == 0 { ID_A } else { ID_B };
        text += &format!(
            "- {{name: r{i}, service: s, snis: [h{i}.test], hosts: [h{i}.test], plugins: \
             [{{name: mtls-auth, config: {{ca_certificates: [{ca}]}}}}]}}\n"
        );
    }
    let start = Instant::now();
    let policy = policy(&text);
    // A debug build takes 2 s; what grows with the square of the routes would take minutes.
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        (policy.plans.len(), policy.certificate_requests.len()),
        (3, 2)
    );
    assert_eq!(policy.routes.len(), ROUTES);
    assert_eq!(policy.sni_map.len(), ROUTES);
    assert_eq!(warnings(&policy), [""; 0]);
    assert!(same_store(plan(&policy, "r0"), plan(&policy, "r19998")));
    assert!(!same_store(plan(&policy, "r0"), plan(&policy, "r19999")));
}
