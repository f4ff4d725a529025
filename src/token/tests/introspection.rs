//! Responses of an introspection endpoint.

use serde_json::json;

use super::*;

#[test]
fn parse_introspection_response_accepts_active_tokens_only() {
    let read = |text: &str| parse_introspection_response(text.as_bytes());
    let good = thumbprint(&[7; 32]);
    let response = json!({"active": true, "scope": "a", "cnf": {"x5t#S256": good}}).to_string();
    let claims = read(&response).unwrap();
    assert!(claims
        .certificate_thumbprint()
        .unwrap()
        .unwrap()
        .matches(&[7; 32]));
    assert_eq!(
        read(r#"{"active":false}"#).unwrap_err(),
        TokenError::Inactive
    );
    for (text, why) in [
        ("{}", "no boolean 'active'"),
        (r#"{"active":"true"}"#, "no boolean 'active'"),
        (r#"{"active":1}"#, "no boolean 'active'"),
        (
            r#"{"active":false,"active":true}"#,
            "a repeated name in an object at line 1 column 30",
        ),
        ("<html>", "expected value at line 1 column 1"),
    ] {
        assert_eq!(
            read(text).unwrap_err().to_string(),
            format!("token malformed: introspection response: {why}")
        );
    }
}
