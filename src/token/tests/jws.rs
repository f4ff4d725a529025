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
    assert_eq!(verified, 13);
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
    let encoded = "a header with 'enc', 'zip' other than NONE, or 'b64' other than true";
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
        (json!({"b64": false}), encoded),
        (json!({"b64": 1}), encoded),
        (json!({"enc": "A128GCM"}), encoded),
        (json!({"zip": "DEF"}), encoded),
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
fn null_and_values_without_effect_are_as_if_absent() {
    let mut pair = p256("k");
    let nulls = json!({"use": null, "alg": null, "key_ops": null, "x5c": null});
    let jwk = pair.jwk.as_object_mut().unwrap();
    jwk.extend(nulls.as_object().unwrap().clone());
    let mut nameless = pair.jwk.clone();
    nameless["kid"] = json!(null);
    let claims =
        json!({"exp": NOW + 60, "nbf": null, "iat": null, "cnf": null, "token_type": null});
    for header in [
        json!({"typ": "JWT", "zip": "NONE", "alg": "ES256", "kid": "k"}),
        json!({"zip": null, "enc": null, "b64": true, "alg": "ES256", "kid": "k"}),
        json!({"b64": null, "crit": null, "cty": null, "typ": null, "kid": null, "alg": "ES256"}),
        json!({"alg": "ES256", "x5c": ["A".repeat(2000), "A".repeat(2000), "A".repeat(8000)]}),
    ] {
        let token = token_with(header.clone(), &claims, &pair, Algorithm::ES256);
        for keys in [jwks(&[&pair.jwk]), jwks(&[&nameless])] {
            if header["kid"].is_string()
                && keys.candidates(Some("k"), Algorithm::ES256).count() == 0
            {
                continue;
            }
            let found = verify(&token, &keys).unwrap();
            found.check_times(0, NOW).unwrap();
            found.check_token_type(false).unwrap();
            assert_eq!(found.certificate_thumbprint(), Ok(None), "{header}");
        }
    }
    let keys = jwks(&[&pair.jwk]);
    for (name, why) in [
        ("alg", "token malformed: header: no 'alg'"),
        ("enc", "token acceptable"),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "k"});
        header[name] = json!(null);
        let token = token_with(header, &claims, &pair, Algorithm::ES256);
        let found = verify(&token, &keys).map(|_| "token acceptable".to_owned());
        assert_eq!(found.unwrap_or_else(|error| error.to_string()), why);
    }
    let forever = token_with(
        json!({"alg": "ES256", "kid": "k"}),
        &json!({"exp": null}),
        &pair,
        Algorithm::ES256,
    );
    let found = verify(&forever, &keys).unwrap().check_times(0, NOW);
    assert_eq!(found, Err(TokenError::InvalidClaim("exp")));
}

#[test]
fn eddsa_and_the_names_of_rfc9864_are_one_algorithm_for_a_key() {
    let pair = |alg: Value| {
        let mut pair = okp(PKey::generate_ed25519().unwrap(), "Ed25519", "k");
        pair.jwk["alg"] = alg;
        pair
    };
    for key in [json!(null), json!("EdDSA"), json!("Ed25519")] {
        let pair = pair(key);
        let keys = jwks(&[&pair.jwk]);
        for (algorithm, accepted) in [
            (Algorithm::EdDSA, &[Algorithm::EdDSA][..]),
            (Algorithm::Ed25519, &[Algorithm::EdDSA]),
            (Algorithm::Ed25519, &[Algorithm::Ed25519]),
        ] {
            let token = token(algorithm, &pair, &json!({}));
            assert!(Jws::parse(&token).unwrap().verify(&keys, accepted).is_ok());
        }
        let token = token(Algorithm::EdDSA, &pair, &json!({}));
        let refused = Jws::parse(&token)
            .unwrap()
            .verify(&keys, &[Algorithm::Ed25519]);
        assert!(matches!(refused, Err(TokenError::Unacceptable(_))));
    }
    let pair = pair(json!("Ed448"));
    let document = json!({"keys": [pair.jwk]}).to_string();
    assert!(Jwks::parse(document.as_bytes()).is_err());
}

#[test]
fn is_jwt_is_what_decodes_as_one() {
    let part = |text: &str| encode_base64url(text.as_bytes());
    for (first, yes) in [
        (part("{\"alg\":\"none\"}"), true),
        (part(" \r\n\t{\"alg\":\"none\"}"), true),
        ("eyJ~".to_owned(), false),
        (part("[]"), false),
        (part("eyJ"), false),
        (String::new(), false),
    ] {
        assert_eq!(is_jwt(&format!("{first}.e30.AA")), yes, "{first}");
        assert_eq!(is_jwt(&format!("{first}.a.b.c.d")), yes, "{first}");
        assert!(!is_jwt(&first) && !is_jwt(&format!("{first}.a.b.c")));
    }
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
