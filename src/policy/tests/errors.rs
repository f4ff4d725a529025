//! Errors of documents.

use super::*;

#[test]
fn from_yaml_all_errors_are_collected_in_order() {
    let text = with_cas(
        "services:\n\
         - name: api\n\
         - name: api\n\
         routes:\n\
         - name: r\n  service: apii\n  snis: [ok.test, bad..test, 'example.*']\n\
         - name: r\n  snis: a.test\n  hsots: []\n\
         plugins:\n\
         - name: mtls-auth\n  route: q\n  config:\n    \
         ca_certificates: [11111111-1111-4111-8111-111111111112, nope]\n    \
         send_ca_dnn: true\n    verify_depth: 101\n    auth_level: '2'\n\
         - nmae: mtls-auth\n\
         - 7\n\
         pluginss: []\n",
    );
    assert_eq!(
        errors(&text),
        [
            "p:7:3: services[1].name: the name 'api' of a service is given twice, first at \
             services[0]",
            "p:10:12: routes[0].service: no service has the id or name 'apii', did you mean 'api'?",
            "p:11:19: routes[0].snis[1]: server name 'bad..test': has an empty label",
            "p:11:30: routes[0].snis[2]: server name 'example.*': a wildcard at the right end is \
             not supported, expected '*' as the left-most label or a full name",
            "p:12:3: routes[1].name: the name 'r' of a route is given twice, first at routes[0]",
            "p:13:9: routes[1].snis: 'a.test', expected a list",
            "p:14:3: routes[1]: unknown field 'hsots', did you mean 'hosts'?",
            "p:17:10: plugins[0].route: no route has the id or name 'q', did you mean 'r'?",
            "p:19:23: plugins[0].config.ca_certificates[0]: no entry of 'ca_certificates' has the \
             id '11111111-1111-4111-8111-111111111112', did you mean \
             '11111111-1111-4111-8111-111111111111'?",
            "p:19:61: plugins[0].config.ca_certificates[1]: 'nope' is not a UUID, expected the id \
             of an entry of 'ca_certificates'",
            "p:20:5: plugins[0].config: unknown field 'send_ca_dnn', did you mean 'send_ca_dn'?",
            "p:21:19: plugins[0].config.verify_depth: the number 101, expected an integer from 0 \
             to 100",
            "p:22:17: plugins[0].config.auth_level: '2', expected an integer from 0 to 5",
            "p:23:3: plugins[1]: unknown field 'nmae', did you mean 'name'?",
            "p:23:3: plugins[1]: the required field 'name' is missing",
            "p:24:3: plugins[2]: the number 7, expected a mapping",
            "p:25:1: unknown field 'pluginss', did you mean 'plugins'?",
        ]
    );
}

#[test]
fn from_yaml_wrong_types_are_named() {
    for (text, error) in [
        ("[]", "p:1:1: a list, expected a mapping"),
        (
            "{}",
            "p:1:1: the required field '_format_version' is missing",
        ),
        ("text", "p:1:1: 'text', expected a mapping"),
        (
            "_format_version: 3.0",
            "p:1:18: _format_version: the number 3.0, expected text, in quotes",
        ),
        (
            "_format_version: '4.0'",
            "p:1:18: _format_version: '4.0' is not a known version, expected \"1.1\", \"2.1\" or \
             \"3.0\"",
        ),
        (
            "{_format_version: '3.0', routes: {name: r}}",
            "p:1:34: routes: a mapping, expected a list, whose items begin with '- '",
        ),
        (
            "{_format_version: '3.0', routes: [{name: no}]}",
            "p:1:42: routes[0].name: the boolean no, expected text, in quotes",
        ),
        (
            "{_format_version: '3.0', routes: [{name: ''}]}",
            "p:1:42: routes[0].name: '', expected a name",
        ),
        (
            "{_format_version: '3.0', routes: [{name: [r]}]}",
            "p:1:42: routes[0].name: a list, expected text",
        ),
        (
            "{_format_version: '3.0', routes: [{name: r, snis: [~]}]}",
            "p:1:52: routes[0].snis[0]: null, expected text",
        ),
        (
            "{_format_version: '3.0', plugins: [{name: tls-handshake-modifier, enabled: maybe}]}",
            "p:1:76: plugins[0].enabled: 'maybe', expected true or false",
        ),
        (
            "{_format_version: '3.0', plugins: [{name: tls-handshake-modifier, config: x}]}",
            "p:1:75: plugins[0].config: 'x', expected a mapping",
        ),
        (
            "{_format_version: '3.0', routes: [{name: r, service: {}}]}",
            "p:1:54: routes[0].service: a mapping, expected either 'id' or 'name'",
        ),
        (
            "{_format_version: '3.0', routes: [{name: '${{ env \"DECK_R\" }}'}]}",
            "p:1:43: environment variable 'DECK_R' present in the policy but not set",
        ),
    ] {
        let first = errors(text).remove(0);
        assert_eq!(first, error, "{text}");
    }
}

#[test]
fn from_yaml_references_that_cannot_be_followed_are_refused() {
    for (rest, error) in [
        (
            "services: [{name: s, routes: [{name: r, service: s}]}]",
            "p:5:50: services[0].routes[0].service: 's' inside the service it belongs to, expected \
             null or nothing",
        ),
        (
            "services: [{name: s, plugins: [{name: tls-handshake-modifier, service: {name: s}}]}]",
            "p:5:72: services[0].plugins[0].service: a mapping inside the service it belongs to, \
             expected null or nothing",
        ),
        (
            "routes: [{name: r, plugins: [{name: tls-handshake-modifier, route: r}]}]",
            "p:5:68: routes[0].plugins[0].route: 'r' inside the route it belongs to, expected \
             null or nothing",
        ),
        (
            "routes: [{name: r, service: {id: s}}]",
            "p:5:34: routes[0].service: no service has the id 's'",
        ),
        (
            "services: [{name: s}, {name: t}]\nroutes: [{name: r, service: s}]\nplugins:\n\
             - {name: tls-handshake-modifier, route: r, service: t}",
            "p:8:3: plugins[0].service: never applies: the route does not belong to the service, \
             expected one of its routes or no service",
        ),
        (
            "routes: [{name: r, plugins: [{name: tls-handshake-modifier}]}]\nplugins:\n\
             - {name: tls-handshake-modifier, route: r}",
            "p:7:3: plugins[0]: a second plugin 'tls-handshake-modifier' at the same scope, first \
             at routes[0].plugins[0]",
        ),
    ] {
        assert_eq!(errors(&with_cas(rest)), [error], "{rest}");
    }
}

#[test]
fn from_yaml_mtls_auth_without_cas_is_refused() {
    for (config, error) in [
        ("", "p:5:12: plugins[0].config: the required field 'ca_certificates' is missing"),
        (
            ", config: {ca_certificates: null}",
            "p:5:38: plugins[0].config: the required field 'ca_certificates' is missing",
        ),
        (
            ", config: {ca_certificates: []}",
            "p:5:56: plugins[0].config.ca_certificates: an empty list, expected the id of at least \
             one entry of 'ca_certificates'",
        ),
        (
            ", config: {ca_certificates: {}}",
            "p:5:56: plugins[0].config.ca_certificates: an empty list, expected the id of at least \
             one entry of 'ca_certificates'",
        ),
    ] {
        let text = with_cas(&format!("plugins: [ {{name: mtls-auth{config}}}]\n"));
        assert_eq!(errors(&text), [error], "{config}");
    }
}

#[test]
fn from_yaml_unsupported_values_are_refused() {
    for (plugin, error) in [
        (
            "- {name: tls-handshake-modifier, consumer: bob}".to_owned(),
            "p:6:34: plugins[0].consumer: is not supported by this version, expected null or \
             nothing"
                .to_owned(),
        ),
        (
            "- {name: tls-handshake-modifier, config: {tls_client_certificate: REQUIRE}}"
                .to_owned(),
            "p:6:67: plugins[0].config.tls_client_certificate: 'REQUIRE', expected 'REQUEST'"
                .to_owned(),
        ),
    ] {
        assert_eq!(errors(&with_cas(&format!("plugins:\n{plugin}\n"))), [error]);
    }
}

#[test]
fn from_yaml_config_beside_plugins_is_that_of_a_plugin() {
    let text = "_format_version: '3.0'\nroutes:\n- name: r\n  plugins:\n  - name: mtls-auth\n  \
                config:\n    crls: []\n";
    let expected = "p:6:3: routes[0]: unknown field 'config', expected one of id, name, service, \
                    snis, hosts, plugins; it belongs to a plugin, indented as the plugin's 'name'";
    assert!(errors(text).contains(&expected.to_owned()));
}

#[test]
fn from_yaml_fields_beside_config_are_those_below_it() {
    let expected = "expected one of id, name, instance_name, enabled, service, route, config";
    let below = format!("{expected}; it belongs below 'config'");
    let text = |plugin: &str| format!("_format_version: '3.0'\nplugins:\n- {plugin}\n");
    let found = errors(&text(&format!(
        "name: mtls-auth\n  config:\n  ca_certificates: [{ID_A}]\n  crls: []"
    )));
    assert_eq!(
        found[1..],
        [
            format!("p:5:3: plugins[0]: unknown field 'ca_certificates', {below}"),
            format!("p:6:3: plugins[0]: unknown field 'crls', {below}"),
        ]
    );
    for (name, field, expected) in [
        ("acl", "allow", &*below),
        ("client-cert-acl", "deny", &below),
        ("openid-connect", "issuer", &below),
        ("tls-handshake-modifier", "issuer", expected),
        ("acl", "config_", "did you mean 'config'?"),
    ] {
        let found = errors(&text(&format!("name: {name}\n  {field}: [a]")));
        let expected = format!("p:4:3: plugins[0]: unknown field '{field}', {expected}");
        assert!(found.contains(&expected), "{found:#?}");
    }
}
