//! Upstream headers and reserved headers.

use super::*;

#[test]
fn upstream_headers_follow_mtls_auth_and_tls_metadata_headers() {
    let text = |meta: &str, skip: bool| {
        with_cas(&format!(
            "routes: [{{name: r, snis: [a.test]}}]\n\
             plugins:\n\
             - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}], \
             skip_consumer_lookup: {skip}}}}}\n\
             - {{name: tls-metadata-headers, config: {{{meta}}}}}\n"
        ))
    };
    let off = policy(&text("", false));
    assert_eq!(header_names(plan(&off, "r")), [""; 0]);
    assert!(off.plans[0].has_plugins);
    for name in [
        "X-Client-Cert-Chain",
        "x_client_cert",
        "X-Client-Cert-Dn",
        "X-CLIENT-CERT-SAN",
    ] {
        assert!(off.reserved_headers.contains(name.as_bytes()), "{name}");
    }
    assert!(!off.reserved_headers.contains(b"X-Other"));

    let skip = policy(&text("", true));
    assert_eq!(
        header_names(plan(&skip, "r")),
        ["X-Client-Cert-Dn", "X-Client-Cert-San"]
    );
    assert_eq!(header_names(&skip.plans[0]), [""; 0]);

    let renamed = policy(&text(
        "inject_client_cert_details: true, client_cert_header_name: X-Cert, \
         client_serial_header_name: null, client_cert_chain_header_name: null",
        true,
    ));
    assert_eq!(
        header_names(plan(&renamed, "r")),
        [
            "X-Client-Cert-Dn",
            "X-Client-Cert-San",
            "X-Cert",
            "X-Client-Cert-Serial",
            "X-Client-Cert-Issuer-DN",
            "X-Client-Cert-Subject-DN",
            "X-Client-Cert-Fingerprint"
        ]
    );
    assert!(renamed.reserved_headers.contains(b"x-cert"));
    // What reads the other names of the plugin falls back to those that are switched off.
    assert!(renamed.reserved_headers.contains(b"x-client-cert-chain"));
}

#[test]
fn reserved_headers_without_mtls_auth_are_those_of_the_header_plugins() {
    let text = "_format_version: \"3.0\"\nplugins: [{name: tls-handshake-modifier}]\n";
    assert!(policy(text).reserved_headers.is_empty());
}

#[test]
fn reserved_headers_of_a_disabled_plugin_stay_reserved() {
    let policy = policy(&with_cas(&format!(
        "plugins:\n\
         - {{name: mtls-auth, enabled: false, config: {{ca_certificates: [{ID_A}]}}}}\n\
         - {{name: tls-metadata-headers, enabled: false, config: {{client_cert_header_name: X-Mine}}}}\n"
    )));
    for name in ["X_Mine", "x-client-cert-subject-dn", "X-Client-Cert-Dn"] {
        assert!(policy.reserved_headers.contains(name.as_bytes()), "{name}");
    }
    assert!(policy.certificate_requests.is_empty());
    assert!(!policy.plans[0].has_plugins);
}

#[test]
fn from_yaml_bad_header_names_are_refused() {
    for (name, why) in [
        ("''", "'' is not a header name, expected a token such as 'X-Client-Cert'"),
        ("'X Cert'", "'X Cert' is not a header name, expected a token such as 'X-Client-Cert'"),
        (
            "\"X\\r\\nY: z\"",
            "'X\\r\\nY: z' is not a header name, expected a token such as 'X-Client-Cert'",
        ),
        ("Ü", "'Ü' is not a header name, expected a token such as 'X-Client-Cert'"),
        (
            "x_consumer_id",
            "the header 'x_consumer_id' identifies the consumer, expected another name",
        ),
        (
            "host",
            "the header 'host' frames the message or belongs to one connection, expected another \
             name",
        ),
        (
            "Content_Length",
            "the header 'Content_Length' frames the message or belongs to one connection, expected \
             another name",
        ),
    ] {
        assert_eq!(
            errors(&with_cas(&format!(
                "plugins:\n- name: tls-metadata-headers\n  config:\n    \
                 client_cert_header_name: {name}\n"
            ))),
            [format!("p:8:30: plugins[0].config.client_cert_header_name: {why}")]
        );
    }
    let long = "X".repeat(128);
    assert_eq!(
        errors(&with_cas(&format!(
            "plugins:\n- name: tls-metadata-headers\n  config: {{client_cert_header_name: {long}}}\n"
        ))),
        [format!(
            "p:7:37: plugins[0].config.client_cert_header_name: the header name '{}...' is over \
             110 bytes",
            &long[..64]
        )]
    );
    assert_eq!(
        errors(&with_cas(
            "plugins:\n- name: tls-metadata-headers\n  config:\n    \
             client_serial_header_name: x_client-CERT\n    client_cert_chain_header_name: \
             X_Client.Cert_Issuer_DN\n"
        )),
        [
            "p:8:32: plugins[0].config.client_serial_header_name: the header 'x_client-CERT' is \
             the same as that of 'client_cert_header_name' (case is ignored, and '-' and '_' are \
             equal), expected another name",
            "p:9:36: plugins[0].config.client_cert_chain_header_name: the header \
             'X_Client.Cert_Issuer_DN' is the same as that of 'client_cert_issuer_dn_header_name' \
             (case is ignored, and '-' and '_' are equal), expected another name",
        ]
    );
}

#[test]
fn from_yaml_header_of_both_plugins_on_one_route_is_refused() {
    let text = |skip: bool| {
        with_cas(&format!(
            "routes: [{{name: r, snis: [a.test]}}]\nplugins:\n\
             - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}], \
             skip_consumer_lookup: {skip}}}}}\n\
             - {{name: tls-metadata-headers, config: {{inject_client_cert_details: true, \
             client_cert_subject_dn_header_name: x-client-cert-dn}}}}\n"
        ))
    };
    assert_eq!(
        errors(&text(true)),
        [
            "p:8:3: plugins[1].config: the header 'x-client-cert-dn' is set by mtls-auth with \
          'skip_consumer_lookup' on the same route, expected another name"
        ]
    );
    assert_eq!(warnings(&policy(&text(false))), [""; 0]);
}

/// The errors of one `client-cert-headers` with this config, without their common start.
fn cert_headers_errors(config: &str) -> Vec<String> {
    let text = format!("plugins:\n- name: client-cert-headers\n  config: {config}\n");
    errors(&with_cas(&text))
        .into_iter()
        .map(|error| error.split_once("].").unwrap().1.to_owned())
        .collect()
}

#[test]
fn client_cert_headers_bad_ones_are_refused() {
    for (config, error) in [
        ("{}", "config: the required field 'dialects' is missing"),
        (
            "{dialects: []}",
            "config.dialects: a list, expected at least one dialect",
        ),
        (
            "{dialects: [cloudflair]}",
            "config.dialects[0]: unknown dialect 'cloudflair', did you mean 'cloudflare'?",
        ),
        (
            "{dialects: [{when: presented}]}",
            "config.dialects[0]: the required field 'name' is missing",
        ),
        (
            "{dialects: [{name: nginx, when: always}]}",
            "config.dialects[0].when: 'always', expected 'verified' or 'presented'",
        ),
        (
            "{dialects: [{name: nginx, max_bytes: 511}]}",
            "config.dialects[0].max_bytes: the number 511, expected an integer from 512 to 65536",
        ),
        (
            "{dialects: [{name: nginx, mode: verify}]}",
            "config.dialects[0]: unknown field 'mode', expected one of name, headers, when, chain, max_bytes",
        ),
        (
            "{dialects: [nginx, nginx]}",
            "config.dialects[1]: the dialect 'nginx' is given twice",
        ),
        (
            "{dialects: [{name: nginx, headers: {ssl_client_dn: X-Dn}}]}",
            "config.dialects[0].headers: 'ssl_client_dn' is not a header of the dialect 'nginx', \
             did you mean 'ssl_client_s_dn'?",
        ),
        (
            "{dialects: [{name: azure, headers: {certificate: null}}]}",
            "config.dialects[0].headers: disables every header, expected at least one",
        ),
        (
            "{dialects: [{name: azure, headers: {certificate: Host}}]}",
            "config.dialects[0].headers.certificate: the header 'Host' frames the message or \
             belongs to one connection, expected another name",
        ),
        (
            "{dialects: [{name: azure, headers: {certificate: cookie}}]}",
            "config.dialects[0].headers.certificate: the header 'cookie' is sent by clients, \
             expected another name",
        ),
        (
            "{dialects: nginx}",
            "config.dialects: 'nginx', expected a list",
        ),
        (
            "{dialects: [{name: nginx, headers: {ssl_client_serial: ssl_client_verify}}]}",
            "config.dialects[0]: the header 'ssl_client_verify' is also one of 'nginx' \
             (case is ignored, and '-' and '_' are equal), expected another name for one of them \
             in 'headers'",
        ),
        (
            "{dialects: [gcp, kong]}",
            "config.dialects[1]: the header 'X-Client-Cert-Issuer-DN' is also one of 'gcp' (case \
             is ignored, and '-' and '_' are equal), expected another name for one of them in \
             'headers'",
        ),
        (
            "{dialects: [{name: xfcc, mode: SANITISE}]}",
            "config.dialects[0].mode: 'SANITISE', expected 'SANITIZE', 'FORWARD_ONLY', \
             'APPEND_FORWARD', 'SANITIZE_SET' or 'ALWAYS_FORWARD_ONLY'",
        ),
        (
            "{dialects: [{name: xfcc, detail: [subject, url]}]}",
            "config.dialects[0].detail[1]: 'url', expected one of cert, chain, subject, uri, dns",
        ),
        (
            "{dialects: [{name: cloudflare-forwarding, settings: [{hostname: '*.a.test'}]}]}",
            "config.dialects[0].settings[0].hostname: hostname '*.a.test' is a wildcard, expected \
             one host name",
        ),
        (
            "{dialects: [{name: cloudflare-forwarding, settings: [{china_network: false}]}]}",
            "config.dialects[0].settings[0]: the required field 'hostname' is missing",
        ),
        (
            "{dialects: [azure], cache_control: no-store}",
            "config.cache_control: 'no-store', expected 'private'",
        ),
    ] {
        assert_eq!(cert_headers_errors(config), [error], "{config}");
    }
}

#[test]
fn client_cert_headers_and_tls_metadata_headers_on_one_route_share_no_name() {
    let text = "plugins:\n\
        - {name: tls-handshake-modifier}\n\
        - {name: tls-metadata-headers, config: {inject_client_cert_details: true}}\n\
        - {name: client-cert-headers, config: {dialects: [gcp]}}\n";
    assert_eq!(
        errors(&with_cas(text)),
        [
            "p:8:3: plugins[2].config: the header 'X-Client-Cert-Issuer-DN' is set by \
             tls-metadata-headers on the same route, expected another name"
        ]
    );
}

#[test]
fn client_cert_headers_without_certificate_request_or_verification_are_warned_about() {
    let text = |plugin: &str| {
        with_cas(&format!(
            "routes:\n- name: r\n  snis: [a.test]\n  plugins:\n{plugin}  \
             - {{name: client-cert-headers, config: {{dialects: [rfc9440, {{name: azure, when: presented}}]}}}}\n"
        ))
    };
    assert_eq!(
        warnings(&policy(&text(""))),
        [
            "p:6:3: warning: routes[0]: has client-cert-headers but neither mtls-auth nor \
             tls-handshake-modifier, so the certificate that it forwards is not requested"
        ]
    );
    assert_eq!(
        warnings(&policy(&text("  - {name: tls-handshake-modifier}\n"))),
        [
            "p:6:3: warning: routes[0]: has no mtls-auth, so the dialect 'rfc9440' never forwards \
             a certificate there; expected mtls-auth, or 'when: presented' for upstreams that \
             verify it themselves"
        ]
    );
}

#[test]
fn client_cert_headers_reserve_default_names_new_names_and_prefixes() {
    let policy = policy(&with_cas(
        "plugins:\n- name: client-cert-headers\n  enabled: false\n  config:\n    dialects:\n    \
         - {name: nginx, headers: {ssl-client-cert: X-Pem, ssl-client-verify: null}}\n    \
         - {name: xfcc, mode: FORWARD_ONLY}\n",
    ));
    for name in [
        "X-Pem",
        "x_pem-too-large",
        "ssl-client-cert",
        "SSL_CLIENT_VERIFY",
        "ssl-client-new",
        "X-Forwarded-Client-Cert",
    ] {
        assert!(policy.reserved_headers.contains(name.as_bytes()), "{name}");
    }
    assert!(!policy.reserved_headers.contains(b"ssl-client"));
    // Nothing reads it while the plugin is off.
    assert!(policy.inbound_headers.is_empty());
}

#[test]
fn client_cert_headers_change_the_digest() {
    let digest = |config: &str| {
        policy(&with_cas(&format!(
            "plugins:\n- {{name: client-cert-headers, config: {{dialects: [{config}]}}}}\n"
        )))
        .digest
    };
    let plain = digest("nginx");
    for other in [
        "caddy",
        "{name: nginx, when: presented}",
        "{name: nginx, max_bytes: 512}",
        "{name: nginx, headers: {ssl-client-cert: X-Pem}}",
    ] {
        assert_ne!(digest(other), plain, "{other}");
    }
    assert_eq!(digest("{name: nginx, when: null}"), plain);
}

#[test]
fn client_cert_headers_reserve_every_number_of_a_numbered_header() {
    let policy = policy(&with_cas(
        "plugins:\n- name: client-cert-headers\n  config: {dialects: [{name: apache, headers: \
         {SSL_CLIENT_SAN_DNS_: 9-San-}}]}\n",
    ));
    for name in ["9-San-0", "9_san_16", "9-San-00", "9-san-x"] {
        assert!(policy.reserved_headers.contains(name.as_bytes()), "{name}");
    }
    assert!(!policy.reserved_headers.contains(b"9-Sa"));
}
