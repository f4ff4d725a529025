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
    let read = |changes: Value, from: &str| Discovery::parse(document(changes).as_bytes(), from);
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
    // http URLs are accepted if the configured issuer is an http URL.
    let plain = "http://idp.test/realms/a";
    let changes = json!({"issuer": plain, "jwks_uri": "http://idp.test/jwks"});
    assert!(read(changes, plain).is_ok());
}
