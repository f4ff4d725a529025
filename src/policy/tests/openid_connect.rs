//! `openid-connect`: its fields and warnings.

use super::*;
use crate::identity::ConsumerField;
use crate::inbound::{AllowedPeers, Format};
use crate::testing;
use crate::token::Algorithm;

/// An example from Kong's documents, unchanged.
const EXAMPLE: &str = "plugins:
  - name: openid-connect
    config:
      issuer: ${{ env \"DECK_ISSUER\" }}
      client_id:
      - ${{ env \"DECK_CLIENT_ID\" }}
      client_secret:
      - ${{ env \"DECK_CLIENT_SECRET\" }}
      auth_methods:
      - bearer
      proof_of_possession_mtls: strict
      proof_of_possession_auth_methods_validation: true
      proof_of_possession_mtls_from_header:
        certificate_header_name: x-client-cert
        certificate_header_format: base64_encoded
        ca_certificates:
        - ${{ env \"DECK_CA_CERT_ID\" }}
        ssl_verify: true
";

#[test]
fn openid_connect_example_of_kongs_documents_loads() {
    for (name, value) in [
        (
            "DECK_ISSUER",
            "http://keycloak.test:8080/realms/master/.well-known/openid-configuration",
        ),
        ("DECK_CLIENT_ID", "kong"),
        ("DECK_CLIENT_SECRET", "s3cret-of-kong"),
        ("DECK_CA_CERT_ID", ID_A),
    ] {
        std::env::set_var(name, value);
    }
    let policy = policy(&with_cas(EXAMPLE));
    assert_eq!(
        warnings(&policy),
        [
            "p:6:5: warning: plugins[0].config: has no 'audience_required': any token of the \
             issuer is accepted, whatever its audience; expected the audience that the issuer \
             gives \
             tokens for this API",
            "p:6:5: warning: plugins[0].config.issuer: is http: an attacker on the network path \
             can forge its documents, and with them tokens; expected https",
            "p:8:7: warning: plugins[0].config.hide_credentials: is not given: the token is \
             removed from the request to the upstream, as by Kong since 3.14; expected true or \
             false",
        ]
    );
    let plan = &policy.plans[0];
    let token_auth = plan.token_auth.as_ref().unwrap();
    assert_eq!(
        &*token_auth.issuer,
        "http://keycloak.test:8080/realms/master"
    );
    assert!(token_auth.methods.bearer && !token_auth.methods.introspection);
    assert_eq!(token_auth.proof_of_possession, ProofOfPossession::Strict);
    assert_eq!(token_auth.algorithms, Algorithm::ALL);
    let client = token_auth.client.as_ref().unwrap();
    assert_eq!((&*client.id, &*client.secret.0), ("kong", "s3cret-of-kong"));
    assert!(!format!("{token_auth:?}").contains("s3cret"));
    let inbound = token_auth.certificate_header.as_ref().unwrap();
    assert_eq!(
        (&*inbound.name, inbound.format, inbound.allowed_peers),
        (
            "x-client-cert",
            Format::Base64Encoded,
            AllowedPeers::Trusted
        )
    );
    assert!(plan.auth.is_none() && plan.has_plugins);
    assert_eq!(plan.certificate_header.as_ref(), Some(inbound));
    let certificate = &policy.plans[plan.certificate_plan.unwrap()];
    assert!(certificate.auth.as_ref().unwrap().lookup.is_none());
    assert_eq!(certificate.certificate_header.as_ref(), Some(inbound));
    assert!(policy.reserved_headers.contains(b"X_Client_Cert"));
    assert_eq!(policy.inbound_headers, ["x-client-cert".into()]);
    // The handshake requests no certificate, and the plan behind is no route's.
    assert_eq!(ca_names_len(&policy, "-"), None);
    assert_eq!(policy.plan(Some("")), None);
    assert!(policy
        .summary()
        .to_string()
        .ends_with("routes: 0\nrequests without a route require an access token\n"));

    std::env::set_var("DECK_CLIENT_SECRET", "another-secret");
    assert_ne!(self::policy(&with_cas(EXAMPLE)).digest, policy.digest);
}

fn token_auth(extra: &str) -> Arc<TokenAuth> {
    policy(&openid_connect(extra)).plans[0]
        .token_auth
        .clone()
        .unwrap()
}

#[test]
fn openid_connect_fields() {
    let read = token_auth(
        ", audience_required: ['https://api'], scopes_required: [a b, c], leeway: 5, \
         upstream_headers_claims: [sub, email], upstream_headers_names: [X-Sub, X-Mail], \
         hide_credentials: true, proof_of_possession_mtls: optional, algorithms: [ES256], \
         unauthorized_error_message: Go away, timeout: 500, cache_introspection: false",
    );
    assert_eq!(
        read.expected_claims.audience.alternatives(),
        [["https://api".into()]]
    );
    assert_eq!(read.expected_claims.scopes.alternatives().len(), 2);
    assert_eq!(read.expected_claims.leeway, 5);
    assert_eq!(
        read.claim_headers,
        [
            (vec!["sub".into()], "X-Sub".into()),
            (vec!["email".into()], "X-Mail".into())
        ]
    );
    assert_eq!(read.proof_of_possession, ProofOfPossession::Optional);
    assert_eq!(read.algorithms, [Algorithm::ES256]);
    assert_eq!((read.cache_ttl, read.timeout), (0, 500));
    assert!(read.hide_credentials);
    let policy = policy(&openid_connect(
        ", upstream_headers_claims: [sub], upstream_headers_names: [X-Sub]",
    ));
    assert!(policy.reserved_headers.contains(b"x_sub"));
    // Kong's own defaults, as a dump has them.
    let read = token_auth(
        ", proof_of_possession_mtls: off, proof_of_possession_dpop: off, verify_claims: true, \
         ignore_signature: [], anonymous: null, enable_hs_signatures: false, \
         upstream_access_token_header: 'authorization:bearer', client_id: [12345]",
    );
    assert_eq!(read.proof_of_possession, ProofOfPossession::Off);
    assert_eq!(&*read.client.as_ref().unwrap().id, "12345");
    let read = token_auth(", client_auth: [client_secret_post], client_id: a, client_secret: b");
    assert_eq!(read.client.as_ref().unwrap().auth, ClientAuthMethod::Post);
}

#[test]
fn openid_connect_without_auth_methods_or_hide_credentials_has_kongs_defaults() {
    let read = |version: &str, fields: &str| {
        let text = format!(
            "{{_format_version: '{version}', plugins: [{{name: openid-connect, config: {{issuer: \
             'https://idp.test', audience_required: [a]{fields}}}}}]}}"
        );
        let policy = policy(&text);
        let token_auth = policy.plans[0].token_auth.clone().unwrap();
        (
            token_auth.methods,
            token_auth.hide_credentials,
            warnings(&policy),
        )
    };
    let (methods, hidden, warned) = read("3.0", "");
    assert!(methods.bearer && !methods.introspection && hidden);
    assert_eq!(
        warned,
        [
            "p:1:67: warning: plugins[0].config.auth_methods: clients that authenticate with \
             authorization_code, client_credentials, kong_oauth2, password, refresh_token, \
             session, userinfo, introspection, without 'client_id', are refused with 401: only \
             'bearer' and 'introspection' have an effect in resty-mtls",
            "p:1:67: warning: plugins[0].config.hide_credentials: is not given: the token is \
             removed from the request to the upstream, as by Kong since 3.14; expected true or \
             false",
        ]
    );
    let (methods, hidden, warned) = read("2.1", ", client_id: [a], client_secret: [b]");
    assert!(methods.bearer && methods.introspection && !hidden);
    assert_eq!(warned.len(), 1, "{warned:?}");
}

#[test]
fn openid_connect_upstream_headers_are_pairs_of_claim_and_header() {
    let read = token_auth(
        ", upstream_headers: [{claim: sub, header: X-Sub}, \
         {claim: [realm_access, roles], header: X-Roles}], \
         upstream_headers_claims: [email], upstream_headers_names: [X-Mail]",
    );
    assert_eq!(
        read.claim_headers,
        [
            (vec!["email".into()], "X-Mail".into()),
            (vec!["sub".into()], "X-Sub".into()),
            (
                vec!["realm_access".into(), "roles".into()],
                "X-Roles".into()
            ),
        ]
    );
    let path = "plugins[0].config.upstream_headers";
    for (extra, error) in [
        (
            "[{claim: sub}]",
            "[0]: the required field 'header' is missing",
        ),
        (
            "[{claim: [], header: X-A}]",
            "[0].claim: a list, expected the name of a claim, or a list of names",
        ),
        (
            "[{claim: a, header: X-A}, {claim: b, header: x_a}]",
            "[1].header: the header 'x_a' is given twice (case is ignored, and '-' and '_' are \
             equal), expected another name",
        ),
    ] {
        let errors = errors(&openid_connect(&format!(", upstream_headers: {extra}")));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with(&format!("{path}{error}")), "{errors:?}");
    }
}

#[test]
fn openid_connect_urls_of_keys() {
    let base = token_auth("");
    let read = token_auth(
        ", jwks_endpoint: 'https://k.example/a', extra_jwks_uris: ['https://k.example/b', \
         'https://k.example/c']",
    );
    assert_eq!(read.jwks_endpoint.as_deref(), Some("https://k.example/a"));
    let extra = ["https://k.example/b", "https://k.example/c"];
    assert_eq!(read.extra_jwks_uris, extra.map(Box::from));
    assert!(base.needs_discovery() && !read.needs_discovery());
    assert_ne!(read.issuer_key, base.issuer_key);
    for extra in [
        ", jwks_endpoint: null",
        ", extra_jwks_uris: []",
        ", extra_jwks_uris: null",
    ] {
        assert_eq!(token_auth(extra).issuer_key, base.issuer_key, "{extra}");
    }
    let many = ["'https://k.example'"; 11].join(", ");
    for (extra, why) in [
        (
            ", jwks_endpoint: keys".to_owned(),
            "jwks_endpoint: 'keys' is not a URL, expected for example \
             'https://idp.example.com/realms/a'",
        ),
        (
            ", extra_jwks_uris: [keys]".to_owned(),
            "extra_jwks_uris[0]: 'keys' is not a URL, expected for example \
             'https://idp.example.com/realms/a'",
        ),
        (
            format!(", extra_jwks_uris: [{many}]"),
            "extra_jwks_uris: 11 URLs, expected at most 10",
        ),
    ] {
        let errors = errors(&openid_connect(&extra));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with(why), "{errors:?}");
    }
}

#[test]
fn openid_connect_token_header() {
    let header = |name| {
        token_auth(&format!(", bearer_token_header_name: {name}"))
            .token_header
            .clone()
    };
    assert_eq!(header("X-Token").as_deref(), Some("X-Token"));
    for default in ["null", "AUTHORIZATION"] {
        assert_eq!(header(default), None);
    }
    let used = "has another use on this route, expected one for the token alone";
    for (extra, why) in [
        ("dpop", format!("'dpop' {used}")),
        (
            "x_sub, upstream_headers: [{claim: sub, header: X-Sub}]",
            format!("'x_sub' {used}"),
        ),
        (
            "X-Cert, proof_of_possession_mtls: strict, proof_of_possession_mtls_from_header: \
             {certificate_header_name: x-cert, ca_certificates: [CA]}",
            format!("'X-Cert' {used}"),
        ),
    ] {
        let extra = extra.replace("CA", ID_A);
        let text = openid_connect(&format!(", bearer_token_header_name: {extra}"));
        let errors = errors(&text);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with(&why), "{errors:?}");
    }
}

#[test]
fn openid_connect_token_headers_that_another_plugin_reserves_are_refused() {
    let with = |header: &str, other: &str| {
        with_cas(&format!(
            "routes:\n- name: a\n  plugins:\n  - name: openid-connect\n    config: {{issuer: \
             'https://idp.test', auth_methods: [bearer], hide_credentials: false, \
             bearer_token_header_name: {header}}}\n- name: b\n  plugins:\n{other}"
        ))
    };
    let xfcc = "  - {name: client-cert-headers, config: {dialects: [xfcc]}}\n";
    let auth = "  - {name: mtls-auth, config: {ca_certificates: [CA]}}\n".replace("CA", ID_A);
    let claims = "  - {name: openid-connect, config: {issuer: 'https://idp.test', auth_methods: \
                  [bearer], hide_credentials: false, upstream_headers_claims: [sub], \
                  upstream_headers_names: [X-Sub]}}\n";
    for (header, other, by) in [
        ("x_forwarded_client_cert", xfcc, "client-cert-headers"),
        ("X-Client-Cert-Dn", &auth, "mtls-auth"),
        ("X-Sub", claims, "openid-connect"),
    ] {
        let errors = errors(&with(header, other));
        let expected = format!(
            "routes[0].plugins[0].config.bearer_token_header_name: the header '{header}' is \
             reserved by {by} at routes[1].plugins[0]: it is removed from every request, and the \
             token with it; expected a header for the token alone"
        );
        assert!(
            errors.len() == 1 && errors[0].ends_with(&expected),
            "{errors:?}"
        );
        policy(&with("X-Token", other));
    }
}

#[test]
fn openid_connect_consumer_fields_are_read_as_kong_has_them() {
    let consumer = |extra: &str| token_auth(extra).consumer.clone();
    for extra in [
        "",
        ", consumer_claim: null, consumer_claims: [], consumer_by: [id]",
        ", consumer_optional: true, by_username_ignore_case: true",
    ] {
        assert_eq!(consumer(extra), None, "{extra}");
    }
    let default = TokenConsumer {
        claims: vec![vec!["sub".into()]],
        by: vec![ConsumerField::Username, ConsumerField::CustomId],
        ignore_case: false,
        optional: false,
    };
    assert_eq!(consumer(", consumer_claim: [sub]").as_ref(), Some(&default));
    let nested = consumer(", consumer_claim: [a, b], consumer_by: [custom_id, id]").unwrap();
    assert_eq!(nested.claims, [["a".into(), "b".into()]]);
    assert_eq!(nested.by, [ConsumerField::CustomId, ConsumerField::Id]);
    let several = consumer(", consumer_claims: [a, [b, c]], consumer_optional: true").unwrap();
    assert_eq!(
        several.claims,
        [vec!["a".into()], vec!["b".into(), "c".into()]]
    );
    assert!(several.optional);
    let anonymous = |name: &str| {
        let text = openid_connect(&format!(", anonymous: {name}"));
        let text = text.replace(
            "{username: ann",
            "{username: ann, id: 10000000-0000-4000-8000-000000000001",
        );
        policy(&text).plans[0]
            .token_auth
            .as_ref()
            .unwrap()
            .anonymous
            .clone()
    };
    let id = "10000000-0000-4000-8000-000000000001";
    for name in ["ann", id] {
        assert_eq!(anonymous(name).as_deref(), Some(id));
    }
    let kong = "consumer_claims: [sub], anonymous: ann";
    let both = with_cas(&format!(
        "consumers: [{{username: ann}}]\nplugins:\n- name: acl\n  config: {{allow: [a]}}\n\
         - name: openid-connect\n  config: {{issuer: 'https://idp.test', auth_methods: [bearer], \
         {kong}}}\n"
    ));
    assert!(policy(&both).plans[0].checks_acl_with_token());
    for text in [
        &both,
        &both.replace("- name: acl\n  config: {allow: [a]}\n", ""),
    ] {
        let reserved = &policy(text).reserved_headers;
        assert!(
            reserved.contains(b"x-consumer-username") && reserved.contains(b"X-Consumer-Groups")
        );
    }
    for (from, to, error) in [
        (
            "consumer_claims: [sub]",
            "authenticated_groups_claim: [groups], consumer_claims: [sub]",
            "plugins[1].config.authenticated_groups_claim: is not supported beside 'acl', expected \
             groups of consumers and 'consumer_claims', or 'groups_required'",
        ),
        (
            "consumer_claims: [sub], ",
            "",
            "plugins[0]: applies to a request without a route without mtls-auth, so no client would \
             be authenticated there; expected mtls-auth or header-cert-auth wherever acl applies",
        ),
    ] {
        let errors = errors(&both.replace(from, to));
        assert!(errors.len() == 1 && errors[0].ends_with(error), "{errors:?}");
    }
}

#[test]
fn openid_connect_warns_about_tokens_outside_of_headers() {
    let text = openid_connect(", audience_required: [a], bearer_token_param_type: [header, query]");
    let policy = policy(&text);
    let warnings: Vec<_> = policy
        .warnings
        .iter()
        .map(|warning| &*warning.message)
        .collect();
    assert_eq!(
        warnings,
        ["tokens are read from the header only, not from 'query'"]
    );
    token_auth(", bearer_token_param_type: [header]");
}

#[test]
fn openid_connect_with_consumers_by_claim_warns_without_consumers() {
    let warnings = |extra: &str| -> Vec<String> {
        let text = openid_connect(&format!(", audience_required: [a]{extra}"));
        let policy = policy(&text.replace("consumers: [{username: ann}]", ""));
        policy
            .warnings
            .iter()
            .map(|warning| warning.message.clone())
            .collect()
    };
    assert_eq!(
        warnings(", consumer_claims: [sub]"),
        [
            "no consumer: every token is refused; expected an entry of 'consumers', or \
          'consumer_optional: true' to let tokens without consumer pass"
        ]
    );
    assert_eq!(
        warnings(", consumer_claims: [sub], consumer_optional: true"),
        [""; 0]
    );
}

#[test]
fn openid_connect_bad_values_are_refused() {
    let path = "plugins[0].config";
    for (extra, error) in [
        (
            ", issuers_allowd: [x]",
            "unknown field 'issuers_allowd', did you mean 'issuers_allowed'?".to_owned(),
        ),
        (
            ", verify_signature: false",
            "verify_signature: the boolean false is not supported, expected true".to_owned(),
        ),
        (
            ", verify_claims: no",
            "verify_claims: the boolean no is not supported, expected true".to_owned(),
        ),
        (
            ", enable_hs_signatures: true",
            "enable_hs_signatures: the boolean true is not supported, expected false".to_owned(),
        ),
        (
            ", anonymous: bob",
            "anonymous: no consumer has the id or username 'bob'".to_owned(),
        ),
        (
            ", consumer_claim: [sub], consumer_by: [email]",
            "consumer_by[0]: 'email', expected 'id', 'username' or 'custom_id'".to_owned(),
        ),
        (
            ", consumer_claims: [sub], consumer_by: []",
            "consumer_by: a list, expected 'id', 'username' or 'custom_id'".to_owned(),
        ),
        (
            ", consumer_claim: [sub], consumer_claims: [sub]",
            "consumer_claim: beside 'consumer_claims', expected one of them".to_owned(),
        ),
        (
            ", ignore_signature: [introspection]",
            "ignore_signature: is not supported by this version, expected null or nothing"
                .to_owned(),
        ),
        (
            ", algorithms: [HS256]",
            "algorithms[0]: 'HS256', expected one of RS256, RS384, RS512, PS256, PS384, PS512, \
             ES256, ES384, ES512, EdDSA, Ed25519, Ed448"
                .to_owned(),
        ),
        (
            ", proof_of_possession_dpop: always",
            "proof_of_possession_dpop: 'always', expected 'off', 'strict' or 'optional'".to_owned(),
        ),
        (
            ", scopes_required: ['']",
            "scopes_required[0]: '', expected one word or more".to_owned(),
        ),
        (
            ", upstream_headers_claims: [sub]",
            "upstream_headers_claims: without 'upstream_headers_names', expected a name for each"
                .to_owned(),
        ),
        (
            ", upstream_headers_claims: [sub], upstream_headers_names: [a, b]",
            "upstream_headers_names: 2 names for 1 entries of 'upstream_headers_claims', \
             expected one for each"
                .to_owned(),
        ),
        (
            ", upstream_headers_claims: [sub], upstream_headers_names: [Authorization]",
            "upstream_headers_names[0]: the header 'Authorization' carries credentials, expected \
             another name"
                .to_owned(),
        ),
        (
            ", proof_of_possession_mtls_from_header: {ca_certificates: []}",
            "proof_of_possession_mtls_from_header: the required field 'certificate_header_name' \
             is missing"
                .to_owned(),
        ),
        (
            ", client_secret: {a: b}",
            "client_secret: expected a list of one text".to_owned(),
        ),
    ] {
        let errors = errors_without_name(&openid_connect(extra));
        let message = errors[0].split_once(' ').unwrap().1;
        let message = message.strip_prefix(path).unwrap();
        let message = message.trim_start_matches([':', '.', ' ']);
        assert_eq!(message, error, "{errors:?}");
    }
    for (config, error) in [
        (
            "{}".to_owned(),
            "6:34: plugins[0].config: the required field 'issuer' is missing",
        ),
        (
            "{issuer: idp.test, auth_methods: [bearer]}".to_owned(),
            "6:43: plugins[0].config.issuer: 'idp.test' is not a URL, expected for example \
             'https://idp.example.com/realms/a'",
        ),
        (
            "{issuer: 'https://a.test', auth_methods: [password, session]}".to_owned(),
            "6:75: plugins[0].config.auth_methods: the method 'password', 'session' is not \
             supported, expected 'bearer', 'introspection' or both",
        ),
        (
            "{issuer: 'https://a.test', auth_methods: []}".to_owned(),
            "6:75: plugins[0].config.auth_methods: a list, expected 'bearer', 'introspection' or \
             both",
        ),
        (
            "{issuer: 'https://a.test', auth_methods: [introspection], client_id: [a]}".to_owned(),
            "6:34: plugins[0].config: the required field 'client_secret' is missing",
        ),
        (
            "{issuer: 'https://a.test', auth_methods: [introspection], client_id: [a], \
             client_auth: [private_key_jwt], client_secret: [b]}"
                .to_owned(),
            "6:34: plugins[0].config: the required field 'client_jwk' is missing",
        ),
        (
            "{issuer: 'https://a.test', auth_methods: [introspection], client_id: [a], \
             client_auth: [client_secret_jwt], client_secret: [b]}"
                .to_owned(),
            "6:122: plugins[0].config.client_auth[0]: 'client_secret_jwt' is not supported, \
             expected 'client_secret_basic', 'client_secret_post', 'private_key_jwt', \
             'tls_client_auth', 'self_signed_tls_client_auth' or 'none'",
        ),
        (
            "{issuer: 'https://a.test', auth_methods: [introspection], client_id: [a], \
             client_auth: [tls_client_auth]}"
                .to_owned(),
            "6:34: plugins[0].config: the required field 'tls_client_auth_cert_id' is missing",
        ),
        (
            "{issuer: 'https://a.test', auth_methods: [introspection], client_id: [a], \
             client_auth: [private_key_jwt], client_jwk: [{kty: EC, crv: P-256, d: AAAA}]}"
                .to_owned(),
            "6:153: plugins[0].config.client_jwk: 'x' is missing or not base64url",
        ),
    ] {
        let text = with_cas(&format!(
            "plugins:\n- {{name: openid-connect, config: {config}}}"
        ));
        assert_eq!(errors_without_name(&text)[0], error);
    }
}

#[test]
fn openid_connect_header_that_another_plugin_sets_is_refused() {
    let text = with_cas(
        "plugins:\n- {name: openid-connect, config: {issuer: 'https://a.test', auth_methods: \
         [bearer], upstream_headers_claims: [a], upstream_headers_names: [X_Client_Cert]}}\n\
         - {name: tls-metadata-headers, config: {inject_client_cert_details: true}}\n\
         - {name: tls-handshake-modifier}\n",
    );
    assert_eq!(
        errors_without_name(&text),
        [
            "6:3: plugins[0].config.upstream_headers_names: the header 'X_Client_Cert' is set by \
          tls-metadata-headers on the same route, expected another name"
        ]
    );
}

#[test]
fn openid_connect_without_a_certificate_request_is_warned_about() {
    let text = |more: &str| {
        with_cas(&format!(
            "routes: [{{name: r, snis: [a.test], plugins: [{{name: openid-connect, config: \
             {{issuer: 'https://a.test', auth_methods: [bearer], audience_required: [a], \
             hide_credentials: false, \
             proof_of_possession_mtls: strict}}}}{more}]}}]"
        ))
    };
    let found = warnings(&policy(&text("")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("so no client certificate is requested to compare with the token"));
    assert!(warnings(&policy(&text(", {name: tls-handshake-modifier}"))).is_empty());
}

/// Paths of the warnings about a policy, each with the beginning of its message.
fn warned_fields(policy: &Policy) -> Vec<String> {
    let short = |line: String| {
        let text = line
            .split_once("plugins[0].config")
            .map_or("", |(_, text)| text);
        text.split_once([',', ' '])
            .map_or("", |(path, _)| path)
            .to_owned()
    };
    warnings(policy).into_iter().map(short).collect()
}

#[test]
fn openid_connect_insecure_settings_are_warned_about() {
    let good = ", audience_required: [a]";
    assert_eq!(warned_fields(&policy(&openid_connect(good))), [""; 0]);
    assert_eq!(warned_fields(&policy(&openid_connect(""))), [":"]);
    assert_eq!(
        warnings(&policy(&openid_connect(
            ", audience_required: [a], ssl_verify: false"
        ))),
        [
            "p:5:11: warning: plugins[0].config.ssl_verify: is false: an attacker on the network \
             path can forge documents of the issuer, and with them tokens; expected true, and \
             its CA in \
             lua_ssl_trusted_certificate"
        ]
    );
    for (host, warns) in [
        ("idp.test", true),
        ("10.0.0.1:8080", true),
        ("[2001:db8::1]:80", true),
        ("127.0.0.1.test", true),
        ("localhost.test", true),
        ("notlocalhost", true),
        ("idp.test?localhost", true),
        ("127.0.0.1:8080/realms/a", false),
        ("127.1.2.3", false),
        ("[::1]:8080/a", false),
        ("[::ffff:127.0.0.1]", false),
        ("LocalHost:80", false),
        ("idp.localhost", false),
    ] {
        let text = openid_connect(good).replace("https://idp.test", &format!("http://{host}"));
        let expected = &[".issuer:"][..usize::from(warns)];
        assert_eq!(warned_fields(&policy(&text)), expected, "{host}");
        let endpoint = format!(
            "{good}, auth_methods: [introspection], client_id: a, client_secret: b, \
             introspection_endpoint: 'http://{host}'"
        );
        let text = openid_connect(&endpoint).replace("auth_methods: [bearer], ", "");
        let expected = &[".introspection_endpoint:"][..usize::from(warns)];
        assert_eq!(warned_fields(&policy(&text)), expected, "{host}");
    }
}

#[test]
fn certificate_header_of_openid_connect_applies_unless_certificates_are_verified() {
    let inbound = |policy: &Policy| {
        let plan = &policy.plans[policy.plan(Some("r")).unwrap()];
        plan.certificate_header
            .as_ref()
            .map(|inbound| inbound.name.clone())
    };
    let text = |mode: &str, more: &str| {
        with_cas(&format!(
            "routes: [{{name: r, snis: [a.test], plugins: [{{name: openid-connect, config: \
             {{issuer: 'https://a.test', auth_methods: [bearer], audience_required: [a], \
             hide_credentials: false, \
             proof_of_possession_mtls: {mode}, proof_of_possession_mtls_from_header: \
             {{certificate_header_name: X-Proxied, ca_certificates: [{ID_A}]}}}}}}, \
             {{name: tls-metadata-headers, config: {{inject_client_cert_details: true}}}}{more}]}}]"
        ))
    };
    for mode in ["strict", "optional"] {
        let policy = policy(&text(mode, ""));
        assert_eq!(inbound(&policy).as_deref(), Some("X-Proxied"));
        assert_eq!(warnings(&policy), [""; 0]);
        let summary = policy.summary().to_string();
        assert!(!summary.contains("in a header"), "{summary}");
    }
    let off = policy(&text("off", ", {name: tls-handshake-modifier}"));
    assert_eq!(inbound(&off), None);
    let header = format!(
        ", {{name: header-cert-auth, config: {{certificate_header_name: X-Other, \
         certificate_header_format: url_encoded, ca_certificates: [{ID_A}]}}}}"
    );
    let with_auth = policy(&text("strict", &header));
    assert_eq!(inbound(&with_auth).as_deref(), Some("X-Other"));
    let with_auth = policy(&text(
        "strict",
        &format!(", {{name: mtls-auth, config: {{ca_certificates: [{ID_A}]}}}}"),
    ));
    assert_eq!(inbound(&with_auth), None);
    assert_eq!(
        warnings(&with_auth),
        [
            "p:5:10: warning: routes[0]: has mtls-auth, openid-connect with a certificate from a \
             header, and a plugin that forwards the certificate that mtls-auth verifies, which is \
             the proxy's; expected header-cert-auth in place of mtls-auth, to forward that of the \
             header"
        ]
    );
}

#[test]
fn introspection_key_is_equal_only_for_equal_issuer_endpoint_client_and_ttl() {
    let digest = |more: &str| {
        let config = format!("issuer: 'https://idp.test', auth_methods: [introspection]{more}");
        let plugin = format!("{{name: openid-connect, config: {{{config}}}}}");
        let policy = policy(&format!("_format_version: '3.0'\nplugins: [{plugin}]\n"));
        policy.plans[0]
            .token_auth
            .as_ref()
            .unwrap()
            .introspection_key
    };
    let client = ", client_id: [gw], client_secret: [one]";
    assert_eq!(
        digest(client),
        digest(&format!("{client}, audience_required: [x]"))
    );
    let different = [
        client,
        ", client_id: [gw], client_secret: [two]",
        ", client_id: [other], client_secret: [one]",
        ", client_id: [gw], client_secret: [one], client_auth: [client_secret_post]",
        ", client_id: [gw], client_secret: [one], cache_ttl: 61",
        ", client_id: [gw], client_secret: [one], ssl_verify: false",
        ", client_id: [gw], client_secret: [one], introspection_endpoint: 'https://idp.test/i'",
    ]
    .map(digest);
    for (place, one) in different.iter().enumerate() {
        assert!(!different[..place].contains(one), "{place}");
    }
}

/// A policy with a certificate, and `openid-connect` with introspection and further fields.
fn with_certificate(extra: &str) -> String {
    let ca = testing::issue("CA", None, true, 60, &[]);
    let cert = String::from_utf8(ca.x509.to_pem().unwrap()).unwrap();
    let key = String::from_utf8(ca.key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    format!(
        "_format_version: \"3.0\"\ncertificates:\n- {{id: {ID_C}, cert: {cert:?}, key: {key:?}}}\n\
         plugins: [{{name: openid-connect, config: {{issuer: 'https://idp.test', auth_methods: \
         [introspection], audience_required: [a], hide_credentials: true, client_id: [gw], \
         client_secret: [s]{extra}}}}}]\n"
    )
}

#[test]
fn openid_connect_sends_a_certificate_to_the_endpoint_for_it() {
    let tls = format!(", client_auth: [tls_client_auth], tls_client_auth_cert_id: {ID_C}");
    let endpoint = ", introspection_endpoint: 'https://idp.test/i'";
    let alias = ", mtls_introspection_endpoint: 'https://mtls.idp.test/i'";
    for (extra, configured, certificate) in [
        (tls.clone(), None, true),
        (format!("{tls}{endpoint}"), Some("https://idp.test/i"), true),
        (
            format!("{tls}{endpoint}{alias}"),
            Some("https://mtls.idp.test/i"),
            true,
        ),
        (
            format!("{endpoint}{alias}"),
            Some("https://idp.test/i"),
            false,
        ),
        (alias.to_owned(), None, false),
    ] {
        let policy = policy(&with_certificate(&extra));
        let token_auth = policy.plans[0].token_auth.as_ref().unwrap();
        assert_eq!(
            token_auth.configured_introspection_endpoint(),
            configured,
            "{extra}"
        );
        assert_eq!(token_auth.needs_discovery(), configured.is_none());
        assert_eq!(token_auth.client_certificate().is_some(), certificate);
        // The entry is warned about where no plugin uses it.
        let warnings: Vec<String> = policy.warnings.iter().map(ToString::to_string).collect();
        match certificate {
            true => assert_eq!(warnings, [""; 0]),
            false => assert_eq!(
                warnings,
                ["p:2:1: warning: certificates: has no effect in resty-mtls"]
            ),
        }
    }
    let introspection_key = |extra: &str| {
        let policy = policy(&with_certificate(extra));
        policy.plans[0]
            .token_auth
            .as_ref()
            .unwrap()
            .introspection_key
    };
    // Another certificate is another client.
    assert_ne!(introspection_key(&tls), introspection_key(&tls));
    let unverified = policy(&with_certificate(&format!(
        "{tls}, tls_client_auth_ssl_verify: false"
    )));
    assert!(unverified.warnings[0]
        .path
        .ends_with(".tls_client_auth_ssl_verify"));
    for field in ["introspection_endpoint", "mtls_introspection_endpoint"] {
        let errors = errors(&with_certificate(&format!(
            "{tls}, {field}: 'http://idp.test/i'"
        )));
        let expected = format!(
            "plugins[0].config.{field}: is http, expected https: the client authenticates with its \
             certificate on a TLS connection"
        );
        assert!(
            errors.len() == 1 && errors[0].ends_with(&expected),
            "{errors:?}"
        );
    }
}
