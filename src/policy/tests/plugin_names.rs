//! Names of plugins, fields and entities: known, misspelt and Kong's alone.

use super::*;

#[test]
fn from_yaml_plugin_name_close_to_a_known_one_is_refused() {
    for (name, ours) in [
        ("mtls_auth", "mtls-auth"),
        ("MTLS-Auth", "mtls-auth"),
        ("mtlsauth", "mtls-auth"),
        ("mlts-auth", "mtls-auth"),
        ("tls-handshake-modifer", "tls-handshake-modifier"),
        ("tls-metadata-header", "tls-metadata-headers"),
        ("ACL", "acl"),
        ("header-cert-oauth", "header-cert-auth"),
        ("acls", "acl"),
        ("clientcert-acl", "client-cert-acl"),
        ("openid_connect", "openid-connect"),
        ("key-aut", "key-auth"),
        ("ratelimiting", "rate-limiting"),
    ] {
        assert_eq!(
            errors(&with_cas(&format!("plugins:\n- name: {name}\n"))),
            [format!(
                "p:6:9: plugins[0].name: unknown plugin '{name}', did you mean '{ours}'?"
            )]
        );
    }
}

#[test]
fn from_yaml_unknown_plugin_is_refused() {
    for name in ["my-own-thing", "x", "ai-", "'\u{e9} auth'"] {
        assert_eq!(
            errors(&with_cas(&format!("plugins:\n- name: {name}\n"))),
            [format!(
                "p:6:9: plugins[0].name: unknown plugin '{}', expected one of mtls-auth, \
                 tls-handshake-modifier, tls-metadata-headers, client-cert-headers, acl, \
                 client-cert-acl, client-cert-lists, header-cert-auth, openid-connect or another \
                 plugin of Kong's; declare your own plugins in 'custom_plugins'",
                name.trim_matches('\'')
            )]
        );
    }
    // A disabled plugin has no effect, even if its name is unknown.
    let disabled = with_cas("plugins:\n- {name: my-own-thing, enabled: false}\n");
    assert_eq!(warnings(&policy(&disabled)), Vec::<String>::new());
}

#[test]
fn from_yaml_plugin_that_the_document_declares_is_warned_about() {
    let nothing = "has no effect in resty-mtls";
    let text = "_format_version: '3.0'\n\
                custom_plugins: [{name: my-own-thing, schema: x, handler: y}]\n\
                cloned_plugins: [{name: second-limit, ref: rate-limiting, priority: 1}]\n\
                plugins: [{name: my-own-thing}, {name: second-limit}]\n";
    assert_eq!(
        warnings(&policy(text)),
        [
            format!("p:2:1: warning: custom_plugins: {nothing}"),
            format!("p:3:1: warning: cloned_plugins: {nothing}"),
            format!("p:4:18: warning: plugins[0].name: the plugin 'my-own-thing' {nothing}"),
            format!("p:4:40: warning: plugins[1].name: the plugin 'second-limit' {nothing}"),
        ]
    );
    let text = "_format_version: '3.0'\n\
                cloned_plugins: [{name: zz-9, ref: mtls-auth}, {name: no-ref-at-all}]\n\
                plugins: [{name: zz-9}, {name: no-ref-at-all}]\n";
    let errors = errors(text);
    assert_eq!(
        errors[0],
        "p:2:18: cloned_plugins[0]: a clone of 'mtls-auth' is not supported by this version"
    );
    assert!(errors[1].starts_with("p:3:32: plugins[1].name: unknown plugin 'no-ref-at-all', "));
    assert_eq!(errors.len(), 2);
}

/// The names in Kong's documentation up to 3.16, those of families and of withdrawn plugins too.
#[test]
fn from_yaml_every_plugin_of_kong_loads() {
    let names = "acme ai-azure-content-safety ai-prompt-guard ai-proxy ai-proxy-advanced ai-rag-injector \
                 app-dynamics application-registration aws-lambda azure-functions basic-auth \
                 bot-detection canary confluent confluent-consume correlation-id cors datadog \
                 datakit degraphql exit-transformer file-log forward-proxy \
                 graphql-proxy-cache-advanced graphql-rate-limiting-advanced grpc-gateway grpc-web \
                 hmac-auth http-log injection-protection ip-restriction jq json-threat-protection \
                 jwe-decrypt jwt jwt-signer kafka-consume kafka-log kafka-upstream key-auth \
                 key-auth-enc konnect-application-auth ldap-auth ldap-auth-advanced loggly mocking \
                 oas-validation oauth2 oauth2-introspection opa opentelemetry openwhisk \
                 post-function pre-function prometheus proxy-cache proxy-cache-advanced \
                 rate-limiting rate-limiting-advanced redirect request-callout \
                 request-size-limiting request-termination request-transformer \
                 request-transformer-advanced request-validator response-ratelimiting \
                 response-transformer response-transformer-advanced route-by-header \
                 route-transformer-advanced saml service-protection session solace-consume \
                 solace-log solace-upstream standard-webhooks statsd statsd-advanced syslog tcp-log \
                 udp-log upstream-oauth upstream-timeout vault-auth websocket-size-limit \
                 websocket-validator xml-threat-protection zipkin";
    for name in names.split_whitespace() {
        let text = format!("_format_version: '3.0'\nplugins:\n- name: {name}\n- name: {name}\n");
        assert_eq!(
            warnings(&policy(&text)),
            [format!(
                "p:3:9: warning: plugins[0].name: the plugin '{name}' has no effect \
                 in resty-mtls"
            )]
        );
    }
}

#[test]
fn from_yaml_fields_that_only_kong_has_are_warned_about_once() {
    let text = "_format_version: \"3.0\"\n\
                _transform: true\n\
                _comment: hello\n\
                upstreams: [{name: u}]\n\
                targets: []\n\
                services:\n\
                - {name: s, url: 'http://a', tags: [x], created_at: 1}\n\
                - {name: t, url: 'http://b', retries: null}\n\
                routes:\n\
                - {name: r, protocols: [https], paths: [/]}\n\
                plugins:\n\
                - {name: key-auth, config: {anything: [1]}}\n\
                - {name: key-auth, service: nosuch}\n\
                - {name: rate-limiting}\n\
                - {name: tls-handshake-modifier, protocols: [https], instance_name: x}\n";
    let nothing = "has no effect in resty-mtls";
    assert_eq!(
        warnings(&policy(text)),
        [
            format!("p:4:1: warning: upstreams: {nothing}"),
            format!("p:7:13: warning: services[0].url: {nothing}"),
            format!("p:10:13: warning: routes[0].protocols: {nothing}"),
            format!("p:10:33: warning: routes[0].paths: {nothing}"),
            format!("p:12:10: warning: plugins[0].name: the plugin 'key-auth' {nothing}"),
            format!("p:14:10: warning: plugins[2].name: the plugin 'rate-limiting' {nothing}"),
            format!("p:15:34: warning: plugins[3].protocols: {nothing}"),
        ]
    );
}
