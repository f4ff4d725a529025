//! Plans that routes with equal plugins share.

use super::*;

#[test]
fn routes_with_equal_plugins_share_a_plan() {
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
fn equal_plugins_with_errors_are_each_reported() {
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
fn equal_plugins_with_warnings_are_each_warned_about() {
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
        let warned = warnings.iter().filter(|warning| warning.contains(&path));
        assert_eq!(warned.count(), 1, "{warnings:#?}");
    }
}
