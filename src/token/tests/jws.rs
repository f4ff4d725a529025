//! Signed tokens: what is parsed, and which key and algorithm verify them.

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::{json, Value};

use super::*;

#[test]
fn verify_signature_of_another_length_is_refused() {
    let pairs = [
        (rsa(2048, "rsa"), Algorithm::PS256),
        (rsa(2048, "rsa"), Algorithm::PS384),
        (rsa(2048, "rsa"), Algorithm::PS512),
        (rsa(2048, "rsa"), Algorithm::RS256),
        (p256("p256"), Algorithm::ES256),
    ];
    for (pair, algorithm) in &pairs {
        let keys = jwks(&[&pair.jwk]);
        // About one in 200 signatures begins with a zero byte. Without it the number is the same.
        let (signed, signature) = (0..)
            .find_map(|number| {
                let token = token(*algorithm, pair, &json!({"sub": number.to_string()}));
                let (signed, signature) = token.rsplit_once('.').unwrap();
                let signature = base64url(signature).unwrap();
                (signature[0] == 0).then(|| (signed.to_owned(), signature))
            })
            .unwrap();
        let verify = |bytes: &[u8]| verify(&format!("{signed}.{}", encode_base64url(bytes)), &keys);
        assert!(verify(&signature).is_ok());
        let longer = [&[0], &signature[..]].concat();
        for bytes in [&signature[1..], &longer, &[&signature[..], &[0]].concat()] {
            assert_eq!(verify(bytes).unwrap_err(), TokenError::WrongSignature);
        }
    }
}

#[test]
fn verify_every_algorithm_with_its_own_keys_only() {
    let pairs = [
        (rsa(2048, "rsa"), KeyType::Rsa),
        (p256("p256"), KeyType::P256),
        (ec(Nid::SECP384R1, "P-384", 48, "p384"), KeyType::P384),
        (ec(Nid::SECP521R1, "P-521", 66, "p521"), KeyType::P521),
        (
            okp(PKey::generate_ed25519().unwrap(), "Ed25519", "ed25519"),
            KeyType::Ed25519,
        ),
        (
            okp(PKey::generate_ed448().unwrap(), "Ed448", "ed448"),
            KeyType::Ed448,
        ),
    ];
    let all: Vec<&Value> = pairs.iter().map(|(pair, _)| &pair.jwk).collect();
    let keys = jwks(&all);
    assert_eq!(keys.len(), 6);
    let claims = json!({"sub": "a"});
    let mut verified = 0;
    for algorithm in Algorithm::ALL {
        for (pair, key_type) in &pairs {
            if !algorithm.accepts(*key_type) {
                // A valid signature of this key, with the name of an algorithm that it does not
                // have.
                let header = json!({"alg": algorithm.name(), "kid": pair.jwk["kid"]});
                let signer = Algorithm::ALL
                    .into_iter()
                    .find(|other| other.accepts(*key_type));
                let forged = token_with(header, &claims, pair, signer.unwrap());
                assert!(matches!(
                    verify(&forged, &keys),
                    Err(TokenError::UnknownKey(_))
                ));
                continue;
            }
            let token = token(algorithm, pair, &claims);
            let found = verify(&token, &keys).unwrap();
            assert_eq!(found.get("sub"), Some(&json!("a")));
            verified += 1;

            let (signed, signature) = token.rsplit_once('.').unwrap();
            let mut bytes = base64url(signature).unwrap();
            bytes[0] ^= 1;
            let tampered = format!("{signed}.{}", encode_base64url(&bytes));
            assert_eq!(
                verify(&tampered, &keys).unwrap_err(),
                TokenError::WrongSignature
            );
            for bytes in [&bytes[1..], &[], &vec![0; bytes.len()]] {
                let cut = format!("{signed}.{}", encode_base64url(bytes));
                assert_eq!(verify(&cut, &keys).unwrap_err(), TokenError::WrongSignature);
            }
            let other = encode_base64url(br#"{"sub":"b"}"#);
            let header = signed.split('.').next().unwrap();
            let swapped = format!("{header}.{other}.{signature}");
            assert_eq!(
                verify(&swapped, &keys).unwrap_err(),
                TokenError::WrongSignature
            );
            let only = Jws::parse(&token).unwrap().verify(&keys, &[]);
            assert!(matches!(only, Err(TokenError::Unacceptable(_))));
        }
    }
    assert_eq!(verified, 11);
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
}

#[test]
fn verify_rfc_examples() {
    // RFC 7515 appendix A.3, RFC 8037 appendix A.4 (whose payload is no JSON).
    let keys = jwks(&[
        &json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
        }),
        &json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }),
    ]);
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9l\
                 eGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfT\
                 jDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let claims = verify(token, &keys).unwrap();
    claims.check_issuer("joe").unwrap();
    claims.check_times(0, 1_300_819_379).unwrap();
    assert_eq!(
        claims.check_times(0, 1_300_819_380),
        Err(TokenError::Expired(1_300_819_380))
    );
    let token =
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPO\
                 t7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(
        refusal(token, &keys),
        "token malformed: payload: expected value at line 1 column 1"
    );
}

#[test]
fn parse_refuses_unsupported_algorithms_headers_and_types() {
    let pair = rsa(2048, "k");
    let keys = jwks(&[&pair.jwk]);
    let claims = json!({"sub": "a"});
    let unsigned = |header: Value| {
        let part = |value: &Value| encode_base64url(value.to_string().as_bytes());
        format!("{}.{}.", part(&header), part(&claims))
    };
    for alg in [
        "none", "None", "NONE", "HS256", "HS384", "HS512", "RSA1_5", "rs256", "",
    ] {
        assert_eq!(
            refusal(&unsigned(json!({"alg": alg, "kid": "k"})), &keys),
            format!("token not acceptable: algorithm '{alg}' is never accepted")
        );
    }
    // HMAC whose secret is the public key, in three encodings.
    let public = pair.key.public_key_to_pem().unwrap();
    let der = pair.key.public_key_to_der().unwrap();
    for secret in [
        public,
        der,
        base64url(pair.jwk["n"].as_str().unwrap()).unwrap(),
    ] {
        let hmac = PKey::hmac(&secret).unwrap();
        let unsigned = unsigned(json!({"alg": "HS256", "kid": "k"}));
        let signed = unsigned.trim_end_matches('.');
        let mut signer = Signer::new(MessageDigest::sha256(), &hmac).unwrap();
        let signature = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
        assert_eq!(
            refusal(&format!("{signed}.{}", encode_base64url(&signature)), &keys),
            "token not acceptable: algorithm 'HS256' is never accepted"
        );
    }
    for (extra, why) in [
        (
            json!({"crit": ["exp"], "exp": 1}),
            "critical header parameters ('crit')",
        ),
        (json!({"crit": []}), "critical header parameters ('crit')"),
        (
            json!({"crit": ["b64"], "b64": false}),
            "critical header parameters ('crit')",
        ),
        (json!({"b64": false}), "a header with 'b64', 'zip' or 'enc'"),
        (json!({"zip": "DEF"}), "a header with 'b64', 'zip' or 'enc'"),
        (json!({"cty": "JWT"}), "nested (cty JWT)"),
        (json!({"cty": "application/jwt"}), "nested (cty JWT)"),
        (
            json!({"typ": "dpop+jwt"}),
            "of type 'dpop+jwt', expected at+jwt or JWT",
        ),
        (
            json!({"typ": "logout+jwt"}),
            "of type 'logout+jwt', expected at+jwt or JWT",
        ),
    ] {
        let mut header = json!({"alg": "RS256", "kid": "k"});
        header
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        let token = token_with(header, &claims, &pair, Algorithm::RS256);
        assert_eq!(
            refusal(&token, &keys),
            format!("token not acceptable: {why}")
        );
    }
    assert_eq!(
        refusal("eyJh.a.b.c.d", &keys),
        "token not acceptable: encrypted (JWE)"
    );
}

#[test]
fn parse_malformed_tokens() {
    let pair = p256("k");
    let keys = jwks(&[&pair.jwk]);
    let good = token(Algorithm::ES256, &pair, &json!({}));
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("{good}");
    };
    let no_jwt = "not a JWT, expected three parts of base64url";
    for (token, why) in [
        (String::new(), no_jwt),
        ("opaque".to_owned(), no_jwt),
        ("a.b".to_owned(), no_jwt),
        ("a.b.c.d".to_owned(), no_jwt),
        (
            format!("{header}=.{payload}.{signature}"),
            "the header is not base64url",
        ),
        (
            format!("{header}.{payload}.{signature}="),
            "the signature is not base64url",
        ),
        (
            format!("{header}.{payload}. {signature}"),
            "the signature is not base64url",
        ),
        (
            format!("{}.{payload}.{signature}", encode_base64url(b"[]")),
            "header: not a JSON object",
        ),
        (
            format!(
                "{}.{payload}.{signature}",
                encode_base64url(br#"{"alg":"none","alg":"ES256"}"#)
            ),
            "header: a repeated name in an object at line 1 column 28",
        ),
        (
            format!("{}.{payload}.{signature}", encode_base64url(b"{}")),
            "header: no 'alg'",
        ),
        (
            format!(
                "{}.{payload}.{signature}",
                encode_base64url(br#"{"alg":["ES256"]}"#)
            ),
            "header: 'alg' is not a string",
        ),
        (
            format!(
                "{}.{payload}.{signature}",
                encode_base64url(br#"{"alg":"ES256","kid":1}"#)
            ),
            "header: 'kid' is not a string",
        ),
        (
            "a".repeat(1 << 20),
            "1048576 bytes are over the limit of 32768",
        ),
    ] {
        let expected = format!("token malformed: {why}");
        assert_eq!(refusal(&token, &keys), expected, "{token:.60}");
    }
}

#[test]
fn verify_ignores_keys_in_the_token() {
    let (ours, theirs) = (p256("k"), p256("k"));
    let keys = jwks(&[&ours.jwk]);
    let header = json!({
        "alg": "ES256", "kid": "k", "jwk": theirs.jwk, "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/x5u", "x5c": ["AAAA"],
    });
    let token = token_with(header, &json!({}), &theirs, Algorithm::ES256);
    assert_eq!(
        verify(&token, &keys).unwrap_err(),
        TokenError::WrongSignature
    );
}

#[test]
fn verify_picks_the_key_by_kid() {
    let (a, b) = (p256("a"), p256("b"));
    let keys = jwks(&[&a.jwk, &b.jwk]);
    let claims = json!({});
    let with = |header: Value, pair| token_with(header, &claims, pair, Algorithm::ES256);
    assert!(verify(&token(Algorithm::ES256, &b, &claims), &keys).is_ok());
    // Without a kid every key of the algorithm is tried.
    assert!(verify(&with(json!({"alg": "ES256"}), &b), &keys).is_ok());
    assert_eq!(
        verify(&with(json!({"alg": "ES256", "kid": "a"}), &b), &keys).unwrap_err(),
        TokenError::WrongSignature
    );
    for kid in ["c", "A", "", "../a", "a' OR 1=1"] {
        let token = with(json!({"alg": "ES256", "kid": kid}), &b);
        assert!(matches!(
            verify(&token, &keys),
            Err(TokenError::UnknownKey(_))
        ));
    }
    let many: Vec<SigningKeyPair> = (0..6).map(|_| p256("same")).collect();
    let all: Vec<&Value> = many.iter().map(|pair| &pair.jwk).collect();
    let keys = jwks(&all);
    for header in [
        json!({"alg": "ES256"}),
        json!({"alg": "ES256", "kid": "same"}),
    ] {
        assert_eq!(
            refusal(&with(header, &many[5]), &keys),
            "token not acceptable: over 4 keys of the issuer fit, expected a 'kid' that \
             identifies one"
        );
    }
}

#[test]
fn verify_refuses_a_key_with_another_alg() {
    let mut pair = rsa(2048, "k");
    pair.jwk["alg"] = json!("PS256");
    let keys = jwks(&[&pair.jwk]);
    assert!(verify(&token(Algorithm::PS256, &pair, &json!({})), &keys).is_ok());
    assert!(matches!(
        verify(&token(Algorithm::RS256, &pair, &json!({})), &keys),
        Err(TokenError::UnknownKey(_))
    ));
}
