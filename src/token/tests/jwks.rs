//! JWK Sets.

use serde_json::{json, Value};

use super::*;

#[test]
fn parse_leaves_out_unusable_keys() {
    let pair = rsa(2048, "rsa");
    let with = |extra: Value| {
        let mut jwk = pair.jwk.clone();
        let extra = extra.as_object().unwrap().clone();
        jwk.as_object_mut().unwrap().extend(extra);
        jwk
    };
    let weak = rsa(1024, "weak");
    for (jwk, why) in [
        (with(json!({"use": "enc"})), "for 'enc', not for signatures"),
        (with(json!({"use": 1})), "'use' is not a string"),
        (
            with(json!({"key_ops": ["sign"]})),
            "'key_ops' without 'verify'",
        ),
        (
            with(json!({"key_ops": "verify"})),
            "'key_ops' without 'verify'",
        ),
        (
            with(json!({"alg": "ES256"})),
            "algorithm 'ES256' does not fit the key type",
        ),
        (
            with(json!({"alg": "HS256"})),
            "algorithm 'HS256' does not fit the key type",
        ),
        (
            with(json!({"alg": "RSA-OAEP"})),
            "algorithm 'RSA-OAEP' does not fit the key type",
        ),
        (
            with(json!({"e": "AQ"})),
            "an RSA key with an impossible modulus or exponent",
        ),
        (
            with(json!({"e": "AA"})),
            "an RSA key with an impossible modulus or exponent",
        ),
        (
            with(json!({"e": "Ag"})),
            "an RSA key with an impossible modulus or exponent",
        ),
        (
            with(json!({"e": encode_base64url(&[255; 9])})),
            "an RSA key that is too long",
        ),
        (
            with(json!({"n": encode_base64url(&[255; 2049])})),
            "an RSA key that is too long",
        ),
        (
            with(json!({"n": encode_base64url(&[255; 2000])})),
            "an RSA key of 16000 bits, expected 2048 to 8192",
        ),
        (with(json!({"n": "="})), "'n' is missing or not base64url"),
        (weak.jwk, "an RSA key of 1024 bits, expected 2048 to 8192"),
        (json!({"kty": "oct", "k": "AAAA"}), "symmetric"),
        (json!({"kty": "DSA"}), "type 'DSA' is not supported"),
        (json!({}), "type '' is not supported"),
        (json!([]), "not an object"),
        (json!({"kty": "EC"}), "type 'EC' is not supported"),
        (
            json!({"kty": "EC", "crv": "secp256k1"}),
            "curve 'secp256k1' is not supported",
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}),
            "'x' and 'y' must have 32 bytes each",
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": encode_base64url(&[1; 32]), "y": encode_base64url(&[1; 32])}),
            "not a point of its curve",
        ),
        (
            json!({"kty": "OKP", "crv": "X25519", "x": encode_base64url(&[1; 32])}),
            "curve 'X25519' is not supported",
        ),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(&[1; 31])}),
            "'x' is not a key of its curve",
        ),
    ] {
        let document = json!({"keys": [jwk]}).to_string();
        assert_eq!(
            Jwks::parse(document.as_bytes()).err().unwrap(),
            format!("no usable key (keys[0]: {why})"),
            "{document:.200}"
        );
        let keys = jwks(&[&jwk, &pair.jwk]);
        assert_eq!(keys.left_out(), [format!("keys[0]: {why}")]);
        assert_eq!(keys.len(), 1);
    }
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
    for (document, why) in [
        ("{}".to_owned(), "no list 'keys' in it"),
        (r#"{"keys":[]}"#.to_owned(), "no usable key"),
        (
            json!({"keys": vec![&pair.jwk; 1001]}).to_string(),
            "1001 keys are over the limit of 1000",
        ),
        (
            format!("{{\"keys\":[{}", "{},".repeat(400_000)),
            "1200009 bytes are over the limit of 1048576",
        ),
    ] {
        assert_eq!(Jwks::parse(document.as_bytes()).err().unwrap(), why);
    }
}
