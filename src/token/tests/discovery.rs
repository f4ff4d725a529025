//! Discovery documents.

use serde_json::{json, Value};

use super::*;

#[test]
fn parse_accepts_the_expected_issuer_only() {
    let issuer = "https://idp.example/realms/a";
    let document = |changes: Value| {
        let mut document = json!({
            "issuer": issuer,
            "jwks_uri": "https://idp.example/jwks",
            "introspection_endpoint": "https://idp.example/introspect",
        });
        let changes = changes.as_object().unwrap().clone();
        document.as_object_mut().unwrap().extend(changes);
        document.to_string()
    };
    let none: [&str; 0] = [];
    let read = |changes: Value, from: &str| {
        Discovery::parse(document(changes).as_bytes(), &issuer_url(from), &none)
    };
    let well_known = format!("{issuer}{WELL_KNOWN}");
    for from in [issuer, &well_known, &format!("{issuer}/")] {
        let found = read(json!({}), from).unwrap();
        assert_eq!(found.issuer, issuer);
        assert_eq!(found.jwks_uri.as_deref(), Some("https://idp.example/jwks"));
    }
    let found = read(json!({"issuer": format!("{issuer}/")}), issuer).unwrap();
    assert_eq!(found.issuer, format!("{issuer}/"));
    for other in [
        "https://idp.example/realms/b",
        "http://idp.example/realms/a",
        "",
    ] {
        assert_eq!(
            read(json!({ "issuer": other }), issuer).unwrap_err(),
            format!("is that of the issuer '{other}', expected '{issuer}'")
        );
    }
    for url in [
        "http://idp.example/jwks",
        "file:///etc/passwd",
        "https://a/\nb",
        "",
    ] {
        let error = read(json!({ "jwks_uri": url }), issuer).unwrap_err();
        assert!(error.ends_with(", expected an https URL"), "{error}");
    }
    assert_eq!(
        read(json!({"jwks_uri": 1}), issuer).unwrap_err(),
        "'jwks_uri' is not a string"
    );
    // An alias for clients with a certificate does not spoil the document for the others.
    for (aliases, expected) in [
        (
            json!({"introspection_endpoint": "https://m.example/i"}),
            Some("https://m.example/i"),
        ),
        (
            json!({"introspection_endpoint": "http://m.example/i"}),
            None,
        ),
        (json!({"introspection_endpoint": 1}), None),
        (json!({}), None),
        (json!(null), None),
        (json!([]), None),
    ] {
        let found = read(json!({ "mtls_endpoint_aliases": aliases }), issuer).unwrap();
        assert_eq!(
            found.mtls_introspection_endpoint.as_deref(),
            expected,
            "{aliases}"
        );
    }
    // http URLs are accepted if the configured issuer is an http URL.
    let plain = "http://idp.test/realms/a";
    let changes = json!({"issuer": plain, "jwks_uri": "http://idp.test/jwks"});
    assert!(read(changes, plain).is_ok());
}

#[test]
fn urls_with_a_well_known_part_are_used_as_they_are() {
    for (url, issuer, discovery) in [
        (
            "https://a.test",
            "https://a.test",
            Some("https://a.test/.well-known/openid-configuration"),
        ),
        (
            "https://a.test/r/",
            "https://a.test/r/",
            Some("https://a.test/r/.well-known/openid-configuration"),
        ),
        (
            "https://a.test/r/.well-known/openid-configuration",
            "https://a.test/r",
            None,
        ),
        (
            "https://a.test/r/.well-known/openid-configuration/",
            "https://a.test/r",
            None,
        ),
        (
            "https://a.test/r/.well-known/openid-configuration?p=B2C_1/x",
            "https://a.test/r",
            None,
        ),
        (
            "https://a.test/r/.well-known/oauth-authorization-server",
            "https://a.test/r",
            None,
        ),
        (
            "https://a.test/.well-known/oauth-authorization-server/r/s",
            "https://a.test/r/s",
            None,
        ),
    ] {
        assert_eq!(issuer_url(url), issuer);
        assert_eq!(discovery_url(url), discovery.unwrap_or(url));
    }
}

#[test]
fn another_issuer_is_accepted_where_the_policy_allows_it() {
    let read = |found: &str, allowed: &[&str]| {
        let document = json!({ "issuer": found }).to_string();
        let expected = "https://login.test/common/v2.0";
        Discovery::parse(document.as_bytes(), expected, allowed).map(|found| found.issuer)
    };
    let template = "https://login.test/{tenantid}/v2.0";
    let tenant = "https://login.test/9188040d-6c67/v2.0";
    for (found, allowed, issuer) in [
        (
            "https://login.test/common/v2.0/",
            vec![],
            Some("https://login.test/common/v2.0/"),
        ),
        (
            "https://sso.test",
            vec![tenant, "https://sso.test/"],
            Some("https://sso.test"),
        ),
        (template, vec!["https://x.test", tenant], Some(tenant)),
        (template, vec![], None),
        (template, vec!["https://login.test//v2.0"], None),
        (template, vec!["https://login.test/a/b/v2.0"], None),
        (template, vec!["https://login.test/v2.0"], None),
        (template, vec!["https://login.test/a/v2.0/"], None),
        (template, vec!["https://login.test/a@evil.test/v2.0"], None),
        // A document cannot stand for everything.
        ("{tenantid}", vec![tenant], None),
        ("https://sso.test.evil", vec!["https://sso.test"], None),
        (tenant, vec![template], None),
    ] {
        assert_eq!(
            read(found, &allowed).ok().as_deref(),
            issuer,
            "{found} {allowed:?}"
        );
    }
    assert_eq!(
        read("https://b.test", &[tenant]).unwrap_err(),
        "is that of the issuer 'https://b.test', expected 'https://login.test/common/v2.0' or one \
         of 'issuers_allowed'"
    );
}
