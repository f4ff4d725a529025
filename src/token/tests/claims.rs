//! Checks of the claims of a token.

use serde_json::{json, Value};

use super::*;

#[test]
fn check_issuer_is_exact() {
    let check = |value: Value| claims(value).check_issuer("https://idp.example");
    assert_eq!(check(json!({"iss": "https://idp.example"})), Ok(()));
    for other in [
        "https://idp.example/",
        "https://IDP.example",
        "",
        "https://idp.example\0",
    ] {
        assert_eq!(check(json!({"iss": other})), Err(TokenError::WrongIssuer));
    }
    for value in [
        json!({}),
        json!({"iss": ["https://idp.example"]}),
        json!({"iss": null}),
    ] {
        assert_eq!(check(value), Err(TokenError::InvalidClaim("iss")));
    }
}

#[test]
fn check_times_with_leeway() {
    let check = |value: Value, leeway| claims(value).check_times(leeway, NOW);
    for (exp, leeway, expected) in [
        (json!(NOW + 1), 0, Ok(())),
        (json!(NOW), 0, Err(TokenError::Expired(NOW))),
        (json!(NOW), 1, Ok(())),
        (json!(NOW - 10), 10, Err(TokenError::Expired(NOW - 10))),
        (json!(NOW as f64 + 0.5), 0, Ok(())),
        (json!(1e300), 0, Ok(())),
        (json!(-1e300), 0, Err(TokenError::Expired(i64::MIN))),
        (json!("2000000000"), 0, Err(TokenError::InvalidClaim("exp"))),
        (json!(null), 0, Err(TokenError::InvalidClaim("exp"))),
        (json!([NOW + 1]), 0, Err(TokenError::InvalidClaim("exp"))),
    ] {
        assert_eq!(check(json!({ "exp": exp }), leeway), expected, "{exp}");
    }
    assert_eq!(check(json!({}), 0), Err(TokenError::InvalidClaim("exp")));
    let later = |nbf: Value| json!({"exp": NOW + 100, "nbf": nbf});
    assert_eq!(check(later(json!(NOW)), 0), Ok(()));
    assert_eq!(check(later(json!(NOW + 5)), 5), Ok(()));
    assert_eq!(
        check(later(json!(NOW + 5)), 4),
        Err(TokenError::NotYetValid(NOW + 5))
    );
    assert_eq!(
        check(later(json!("0")), 0),
        Err(TokenError::InvalidClaim("nbf"))
    );
    let issued = |iat: Value| json!({"exp": NOW + 9999, "iat": iat});
    for (iat, leeway, expected) in [
        (json!(NOW + 60), 0, Ok(())),
        (
            json!(NOW + 61),
            0,
            Err(TokenError::IssuedInFuture(NOW + 61)),
        ),
        (json!(NOW + 70), 10, Ok(())),
        (
            json!(NOW + 71),
            10,
            Err(TokenError::IssuedInFuture(NOW + 71)),
        ),
        (
            json!(NOW + 999),
            0,
            Err(TokenError::IssuedInFuture(NOW + 999)),
        ),
        (json!(1e300), 0, Err(TokenError::IssuedInFuture(i64::MAX))),
        (json!(-1e300), 0, Ok(())),
        (json!("0"), 0, Err(TokenError::InvalidClaim("iat"))),
    ] {
        assert_eq!(check(issued(iat.clone()), leeway), expected, "{iat}");
        let known = claims(json!({ "iat": iat })).check_present_times(leeway, NOW);
        assert_eq!(known, expected, "{iat}");
    }
    assert_eq!(claims(json!({})).check_present_times(0, NOW), Ok(()));
}

#[test]
fn check_audience_and_scopes() {
    let expected = |audience: &[&str], scopes: &[&str]| ClaimRequirements {
        audience: RequiredValues::new(audience.iter().copied()),
        scopes: RequiredValues::new(scopes.iter().copied()),
        ..ClaimRequirements::default()
    };
    let check =
        |value: Value, expected: &ClaimRequirements| claims(value).check_requirements(expected);
    let api = expected(&["https://api.example", "a b"], &[]);
    for (aud, result) in [
        (json!("https://api.example"), Ok(())),
        (json!(["x", "https://api.example"]), Ok(())),
        (json!(["b", "a"]), Ok(())),
        (json!("a b"), Err(TokenError::WrongAudience)),
        (json!(["a"]), Err(TokenError::WrongAudience)),
        (
            json!("https://api.example x"),
            Err(TokenError::WrongAudience),
        ),
        (
            json!("https://api.example/"),
            Err(TokenError::WrongAudience),
        ),
        (
            json!([["https://api.example"]]),
            Err(TokenError::WrongAudience),
        ),
        (
            json!({"https://api.example": 1}),
            Err(TokenError::WrongAudience),
        ),
        (json!(null), Err(TokenError::WrongAudience)),
    ] {
        assert_eq!(check(json!({ "aud": aud }), &api), result, "{aud}");
    }
    assert_eq!(check(json!({}), &api), Err(TokenError::WrongAudience));
    let scopes = expected(&[], &["read write", "admin"]);
    for (scope, result) in [
        (json!("read write"), Ok(())),
        (json!("x write read"), Ok(())),
        (json!("admin"), Ok(())),
        (json!(["write", "read"]), Ok(())),
        (json!("read"), Err(TokenError::Insufficient("scope"))),
        (
            json!("administrator"),
            Err(TokenError::Insufficient("scope")),
        ),
        (
            json!(["read write"]),
            Err(TokenError::Insufficient("scope")),
        ),
        (json!(1), Err(TokenError::Insufficient("scope"))),
    ] {
        assert_eq!(check(json!({ "scope": scope }), &scopes), result, "{scope}");
    }
    assert_eq!(
        check(json!({}), &scopes),
        Err(TokenError::Insufficient("scope"))
    );
    assert_eq!(check(json!({}), &ClaimRequirements::default()), Ok(()));
    let inner = ClaimRequirements {
        scopes_claim: vec!["realm_access".into(), "roles".into()],
        ..scopes
    };
    let roles = json!({"realm_access": {"roles": ["admin"]}, "scope": ""});
    assert_eq!(check(roles, &inner), Ok(()));
    assert_eq!(
        check(json!({"realm_access": ["roles"], "scope": "admin"}), &inner),
        Err(TokenError::Insufficient("scope"))
    );
}

#[test]
fn check_token_type_accepts_access_tokens_only() {
    let check = |claims: Value| {
        let claims = Claims::parse(claims.to_string().as_bytes()).unwrap();
        claims
            .check_token_type(false)
            .map_err(|refusal| refusal.to_string())
    };
    for good in [
        json!({}),
        json!({"token_type": "Bearer"}),
        json!({"token_type": "access_token", "token_use": "access"}),
        json!({"token_type": "urn:ietf:params:oauth:token-type:access_token"}),
        json!({"token_type": null, "typ": "Bearer"}),
        json!({"typ": 7}),
        json!({"typ": "something of this issuer's"}),
        json!({"events": {"https://idp.example/event/login": {}}}),
        json!({"events": "http://schemas.openid.net/event/backchannel-logout"}),
    ] {
        assert_eq!(check(good.clone()), Ok(()), "{good}");
    }
    for (bad, why) in [
        (
            json!({"token_type": "refresh_token"}),
            "'token_type' is 'refresh_token'",
        ),
        (
            json!({"token_type": "Refresh"}),
            "'token_type' is 'Refresh'",
        ),
        (json!({"token_type": "DPoP"}), "'token_type' is 'DPoP'"),
        (json!({"token_type": "N_A"}), "'token_type' is 'N_A'"),
        (json!({"token_type": ""}), "'token_type' is ''"),
        (json!({"token_type": ["Bearer"]}), "'token_type' is no text"),
        (json!({"token_type": "a\nb"}), "'token_type' is 'a\\nb'"),
        // Ory Hydra, Amazon Cognito
        (
            json!({"token_type": "Bearer", "token_use": "refresh_token"}),
            "'token_use' is 'refresh_token'",
        ),
        (json!({"token_use": "id"}), "'token_use' is 'id'"),
        // Keycloak
        (json!({"typ": "Refresh"}), "'typ' is 'Refresh'"),
        (
            json!({"typ": "Offline", "token_type": "Bearer"}),
            "'typ' is 'Offline'",
        ),
        (json!({"typ": "ID"}), "'typ' is 'ID'"),
        (
            json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
            "'events' is a logout",
        ),
    ] {
        let why = format!("token is not an access token: its {why}");
        assert_eq!(check(bad.clone()), Err(why), "{bad}");
    }
}

#[test]
fn header_value_is_printable_ascii_up_to_a_limit() {
    let claims = claims(json!({
        "sub": "ann", "n": 7, "roles": ["a", "b"], "odd": "a\r\nb", "utf8": "é", "empty": "",
        "long": "x".repeat(100), "null": null,
    }));
    let header = |name: &str| claims.header_value(&[name.into()], 50);
    assert_eq!(header("sub"), Ok(Some("ann".to_owned())));
    assert_eq!(header("n"), Ok(Some("7".to_owned())));
    assert_eq!(header("roles"), Ok(Some("[\"a\",\"b\"]".to_owned())));
    for name in ["none", "empty", "null"] {
        assert_eq!(header(name), Ok(None));
    }
    assert_eq!(header("odd"), Err("not printable ASCII"));
    assert_eq!(header("utf8"), Err("not printable ASCII"));
    assert_eq!(header("long"), Err("too long"));
}
