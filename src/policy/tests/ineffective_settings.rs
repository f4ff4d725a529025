//! Warnings about settings that have no effect.

use super::*;

#[test]
fn from_yaml_ineffective_settings_are_warned_about() {
    let auth = format!("{{name: mtls-auth, config: {{ca_certificates: [{ID_A}]}}}}");
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: everywhere, plugins: [{auth}]}}\n\
         services:\n\
         - {{name: empty, plugins: [{{name: tls-handshake-modifier}}]}}\n\
         - name: s\n  routes:\n  - snis: [x.test]\n    plugins: [{{name: tls-metadata-headers, \
         config: {{inject_client_cert_details: true}}}}]\n"
    ));
    let found = warnings(&policy(&text));
    assert_eq!(
        found,
        [
            "p:6:3: warning: routes[0]: has no snis, so every TLS handshake requests a client \
             certificate",
            "p:8:3: warning: services[0]: has no routes, so every TLS handshake requests a client \
             certificate",
            "p:11:5: warning: services[1].routes[0]: has neither name nor id, so no location can \
             apply its plugins",
            "p:11:5: warning: services[1].routes[0]: has tls-metadata-headers but neither \
             mtls-auth nor tls-handshake-modifier, so the certificate that it \
             forwards is not requested",
        ]
    );
}

#[test]
fn from_yaml_hosts_no_sni_covers_are_warned_about() {
    let auth = |ca: &str| format!("{{name: mtls-auth, config: {{ca_certificates: [{ca}]}}}}");
    let text = with_cas(&format!(
        "routes:\n\
         - name: r\n  snis: [a.test, '*.b.test']\n  \
         hosts: [A.test, a.test:8443, x.b.test, '*.b.test', c.test, d.test, 'a.*', y.x.b.test]\n  \
         plugins: [{}]\n\
         - name: q\n  snis: [d.test]\n  hosts: [d.test]\n  plugins: [{}]\n\
         - name: open\n  hosts: [open.test]\n",
        auth(ID_A),
        auth(ID_B),
    ));
    let line = |column: u32, index: u32, host: &str| {
        format!(
            "p:8:{column}: warning: routes[0].hosts[{index}]: no sni of the route covers the host \
             '{host}': no certificate for this route is requested under that name, and its \
             clients get 421 or 401"
        )
    };
    assert_eq!(
        warnings(&policy(&text)),
        [
            line(54, 4, "c.test"),
            line(62, 5, "d.test"),
            line(70, 6, "a.*"),
            line(77, 7, "y.x.b.test")
        ]
    );
}

#[test]
fn routes_with_snis_and_without_plugins_are_warned_about() {
    let warned = |text: &str| {
        let policy = Policy::from_yaml(text.as_bytes(), "p").unwrap();
        let warnings: Vec<_> = policy.warnings.iter().map(ToString::to_string).collect();
        warnings.join("\n")
    };
    assert_eq!(
        warned("_format_version: '3.0'\nroutes:\n- name: a\n  snis: [a.test]\n- name: b\n"),
        "p:3:3: warning: routes[0]: has snis but no plugin of resty-mtls applies to it, so it is open to \
         every client"
    );
    assert_eq!(
        warned(
            "_format_version: '3.0'\nroutes:\n- name: a\n  snis: [a.test]\n  plugins: [{name: \
             tls-handshake-modifier, enabled: false}]\n"
        ),
        ""
    );
}

#[test]
fn header_with_an_underscore_is_warned_about() {
    let text = with_cas(&format!(
        "plugins:\n- name: header-cert-auth\n  config: {{certificate_header_name: x_cert, \
         skip_consumer_lookup: true, certificate_header_format: rfc9440, \
         ca_certificates: [{ID_A}]}}\n"
    ));
    assert_eq!(
        warnings(&policy(&text)),
        [
            "p:7:37: warning: plugins[0].config.certificate_header_name: contains '_': without \
             'underscores_in_headers on' nginx drops such a header, and no certificate arrives; \
             expected '-'",
        ]
    );
}
