use std::fs;
use std::io::Write as _;
use std::path::Path;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine as _;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Signer};
use serde_json::{json, Value};

use super::*;

const NOW: i64 = 1_800_000_000;

/// A key pair with its JWK.
struct Pair {
    key: PKey<Private>,
    jwk: Value,
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa(bits: u32, kid: &str) -> Pair {
    let rsa = Rsa::generate(bits).unwrap();
    let jwk = json!({
        "kty": "RSA", "kid": kid, "n": text(&rsa.n().to_vec()), "e": text(&rsa.e().to_vec()),
    });
    Pair {
        key: PKey::from_rsa(rsa).unwrap(),
        jwk,
    }
}

fn ec(curve: Nid, name: &str, size: i32, kid: &str) -> Pair {
    let group = EcGroup::from_curve_name(curve).unwrap();
    let key = EcKey::generate(&group).unwrap();
    let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
    let mut context = BigNumContext::new().unwrap();
    key.public_key()
        .affine_coordinates(&group, &mut x, &mut y, &mut context)
        .unwrap();
    let jwk = json!({
        "kty": "EC", "crv": name, "kid": kid,
        "x": text(&x.to_vec_padded(size).unwrap()), "y": text(&y.to_vec_padded(size).unwrap()),
    });
    Pair {
        key: PKey::from_ec_key(key).unwrap(),
        jwk,
    }
}

fn p256(kid: &str) -> Pair {
    ec(Nid::X9_62_PRIME256V1, "P-256", 32, kid)
}

fn okp(key: PKey<Private>, name: &str, kid: &str) -> Pair {
    let x = text(&key.raw_public_key().unwrap());
    Pair {
        jwk: json!({"kty": "OKP", "crv": name, "kid": kid, "x": x}),
        key,
    }
}

fn sign(algorithm: Algorithm, key: &PKey<Private>, signed: &[u8]) -> Vec<u8> {
    let (digest, half) = match algorithm {
        Algorithm::EdDSA => {
            let mut signer = Signer::new_without_digest(key).unwrap();
            return signer.sign_oneshot_to_vec(signed).unwrap();
        }
        Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => (MessageDigest::sha256(), 32),
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => (MessageDigest::sha384(), 48),
        Algorithm::RS512 | Algorithm::PS512 | Algorithm::ES512 => (MessageDigest::sha512(), 66),
    };
    let mut signer = Signer::new(digest, key).unwrap();
    if algorithm.name().starts_with("PS") {
        signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
        signer.set_rsa_mgf1_md(digest).unwrap();
        signer
            .set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)
            .unwrap();
    }
    let signature = signer.sign_oneshot_to_vec(signed).unwrap();
    if !algorithm.name().starts_with("ES") {
        return signature;
    }
    let signature = EcdsaSig::from_der(&signature).unwrap();
    let half = |number: &openssl::bn::BigNumRef| number.to_vec_padded(half).unwrap();
    [half(signature.r()), half(signature.s())].concat()
}

fn token_with(header: Value, claims: &Value, pair: &Pair, algorithm: Algorithm) -> String {
    let part = |value: &Value| text(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(claims));
    let signature = sign(algorithm, &pair.key, signed.as_bytes());
    format!("{signed}.{}", text(&signature))
}

fn token(algorithm: Algorithm, pair: &Pair, claims: &Value) -> String {
    let header = json!({"alg": algorithm.name(), "kid": pair.jwk["kid"], "typ": "at+jwt"});
    token_with(header, claims, pair, algorithm)
}

fn jwks(jwks: &[&Value]) -> Jwks {
    Jwks::parse(json!({ "keys": jwks }).to_string().as_bytes()).unwrap()
}

fn verify(token: &str, keys: &Jwks) -> Result<Claims, TokenError> {
    Jws::parse(token)?.verify(keys, &Algorithm::ALL)
}

fn refusal(token: &str, keys: &Jwks) -> String {
    verify(token, keys).unwrap_err().to_string()
}

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
        // One in about 200 signatures begins with a zero; without it, it is the same number.
        let (signed, signature) = (0..)
            .find_map(|number| {
                let token = token(*algorithm, pair, &json!({"sub": number.to_string()}));
                let (signed, signature) = token.rsplit_once('.').unwrap();
                let signature = base64url(signature).unwrap();
                (signature[0] == 0).then(|| (signed.to_owned(), signature))
            })
            .unwrap();
        let verify = |bytes: &[u8]| verify(&format!("{signed}.{}", text(bytes)), &keys);
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
                // The same key under another algorithm's name.
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
            let tampered = format!("{signed}.{}", text(&bytes));
            assert_eq!(
                verify(&tampered, &keys).unwrap_err(),
                TokenError::WrongSignature
            );
            for bytes in [&bytes[1..], &[], &vec![0; bytes.len()]] {
                let cut = format!("{signed}.{}", text(bytes));
                assert_eq!(verify(&cut, &keys).unwrap_err(), TokenError::WrongSignature);
            }
            let other = text(br#"{"sub":"b"}"#);
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
fn parse_refuses_what_is_never_accepted() {
    let pair = rsa(2048, "k");
    let keys = jwks(&[&pair.jwk]);
    let claims = json!({"sub": "a"});
    let unsigned = |header: Value| {
        let part = |value: &Value| text(value.to_string().as_bytes());
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
    // HMAC with the public key, in the spellings it comes in.
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
            refusal(&format!("{signed}.{}", text(&signature)), &keys),
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
            "the header is no base64url",
        ),
        (
            format!("{header}.{payload}.{signature}="),
            "the signature is no base64url",
        ),
        (
            format!("{header}.{payload}. {signature}"),
            "the signature is no base64url",
        ),
        (
            format!("{}.{payload}.{signature}", text(b"[]")),
            "header: not a JSON object",
        ),
        (
            format!(
                "{}.{payload}.{signature}",
                text(br#"{"alg":"none","alg":"ES256"}"#)
            ),
            "header: a repeated name in an object at line 1 column 28",
        ),
        (
            format!("{}.{payload}.{signature}", text(b"{}")),
            "header: no 'alg'",
        ),
        (
            format!("{}.{payload}.{signature}", text(br#"{"alg":["ES256"]}"#)),
            "header: 'alg' is no string",
        ),
        (
            format!(
                "{}.{payload}.{signature}",
                text(br#"{"alg":"ES256","kid":1}"#)
            ),
            "header: 'kid' is no string",
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
    // No kid: any of them.
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
    let many: Vec<Pair> = (0..6).map(|_| p256("same")).collect();
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
fn parse_jwks_keys_of_no_use_are_left_out() {
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
        (with(json!({"use": 1})), "'use' is no string"),
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
            "algorithm 'ES256' does not go with it",
        ),
        (
            with(json!({"alg": "HS256"})),
            "algorithm 'HS256' does not go with it",
        ),
        (
            with(json!({"alg": "RSA-OAEP"})),
            "algorithm 'RSA-OAEP' does not go with it",
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
            with(json!({"e": text(&[255; 9])})),
            "an RSA key that is too long",
        ),
        (
            with(json!({"n": text(&[255; 2049])})),
            "an RSA key that is too long",
        ),
        (
            with(json!({"n": text(&[255; 2000])})),
            "an RSA key of 16000 bits, expected 2048 to 8192",
        ),
        (with(json!({"n": "="})), "'n' is missing or no base64url"),
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
            json!({"kty": "EC", "crv": "P-256", "x": text(&[1; 32]), "y": text(&[1; 32])}),
            "not a point of its curve",
        ),
        (
            json!({"kty": "OKP", "crv": "X25519", "x": text(&[1; 32])}),
            "curve 'X25519' is not supported",
        ),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": text(&[1; 31])}),
            "'x' is not a key of its curve",
        ),
    ] {
        let document = json!({"keys": [jwk]}).to_string();
        assert_eq!(
            Jwks::parse(document.as_bytes()).err().unwrap(),
            format!("no key of use (keys[0]: {why})"),
            "{document:.200}"
        );
        let keys = jwks(&[&jwk, &pair.jwk]);
        assert_eq!(keys.left_out(), [format!("keys[0]: {why}")]);
        assert_eq!(keys.len(), 1);
    }
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
    for (document, why) in [
        ("{}".to_owned(), "no list 'keys' in it"),
        (r#"{"keys":[]}"#.to_owned(), "no key of use"),
        (
            json!({"keys": vec![&pair.jwk; 101]}).to_string(),
            "101 keys are over the limit of 100",
        ),
        (
            format!("{{\"keys\":[{}", "{},".repeat(100_000)),
            "300009 bytes are over the limit of 262144",
        ),
    ] {
        assert_eq!(Jwks::parse(document.as_bytes()).err().unwrap(), why);
    }
}

#[test]
fn verify_keys_meant_for_another_algorithm_do_not_fit() {
    let mut pair = rsa(2048, "k");
    pair.jwk["alg"] = json!("PS256");
    let keys = jwks(&[&pair.jwk]);
    assert!(verify(&token(Algorithm::PS256, &pair, &json!({})), &keys).is_ok());
    assert!(matches!(
        verify(&token(Algorithm::RS256, &pair, &json!({})), &keys),
        Err(TokenError::UnknownKey(_))
    ));
}

fn claims(value: Value) -> Claims {
    Claims::parse(value.to_string().as_bytes()).unwrap()
}

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
fn certificate_thumbprint_is_32_bytes_of_base64url() {
    let digest = [7; 32];
    let bound = |cnf: Value| claims(json!({ "cnf": cnf }));
    let matches = |cnf: Value| {
        bound(cnf)
            .certificate_thumbprint()
            .unwrap()
            .unwrap()
            .matches(&digest)
    };
    let good = thumbprint(&digest);
    assert!(matches(json!({ "x5t#S256": good })));
    assert!(!matches(json!({ "x5t#S256": thumbprint(&[8; 32]) })));
    for text in [
        String::new(),
        format!("{good}="),
        format!(" {good}"),
        good[1..].to_owned(),
        thumbprint(&digest)[..42].to_owned(),
        good.clone() + "AAAA",
        "+".repeat(43),
        crate::text::hex(&digest),
    ] {
        let claims = bound(json!({ "x5t#S256": text }));
        assert_eq!(
            claims.certificate_thumbprint(),
            Err(TokenError::MalformedConfirmation),
            "{text}"
        );
    }
    for cnf in [
        json!({"x5t#S256": null}),
        json!({"x5t#S256": [good]}),
        json!(good),
        json!([]),
        json!({}),
        json!(""),
        json!(false),
    ] {
        assert_eq!(
            bound(cnf).certificate_thumbprint(),
            Err(TokenError::MalformedConfirmation)
        );
    }
    assert_eq!(bound(json!(null)).certificate_thumbprint(), Ok(None));
    assert_eq!(claims(json!({})).certificate_thumbprint(), Ok(None));
    assert!(matches(json!({"kid": "1", "x5t#S256": good})));
    for (cnf, member) in [
        (json!({"jkt": good}), "jkt"),
        (json!({"jkt": null, "x5t#S256": good}), "jkt"),
        (json!({"jwk": {"kty": "EC"}}), "jwk"),
        (json!({"x5t#s256": good}), "x5t#s256"),
        (json!({"a\nb": null}), "a\\nb"),
    ] {
        let refusal = TokenError::UnsupportedConfirmation(member.to_owned());
        assert_eq!(bound(cnf).certificate_thumbprint(), Err(refusal.clone()));
        let text = format!("token bound by cnf.{member}, which is not checked here");
        assert_eq!(refusal.to_string(), text);
    }
    // Only the nested claim counts.
    let flat = claims(json!({"x5t#S256": good, "cnf.x5t#S256": good}));
    assert_eq!(flat.certificate_thumbprint(), Ok(None));
}

#[test]
fn thumbprint_of_rfc8705_appendix_a() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/rfc8705-appendix-a.json");
    let example: Value = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
        Err(error) => {
            // Not eprintln!, which the test harness swallows.
            writeln!(
                std::io::stderr(),
                "SKIPPED: rfc8705-appendix-a.json: {error}"
            )
            .unwrap();
            return;
        }
    };
    let pem = example["pem"].as_str().unwrap();
    let certificate = crate::certificate::Certificate::from_pem(pem.as_bytes()).unwrap();
    let expected = example["x5t#S256"].as_str().unwrap();
    assert_eq!(thumbprint(&certificate.digests().leaf), expected);
    let claims = claims(json!({"cnf": {"x5t#S256": expected}}));
    assert!(claims
        .certificate_thumbprint()
        .unwrap()
        .unwrap()
        .matches(&certificate.digests().leaf));
}

#[test]
fn parse_introspection_response_accepts_active_tokens_only() {
    let read = |text: &str| parse_introspection_response(text.as_bytes());
    let good = thumbprint(&[7; 32]);
    let answer = json!({"active": true, "scope": "a", "cnf": {"x5t#S256": good}}).to_string();
    let claims = read(&answer).unwrap();
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
            format!("token malformed: introspection answer: {why}")
        );
    }
}

#[test]
fn check_token_type_accepts_access_tokens_only() {
    let check = |claims: Value| {
        let claims = Claims::parse(claims.to_string().as_bytes()).unwrap();
        claims
            .check_token_type()
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
        let why = format!("token is no access token: its {why}");
        assert_eq!(check(bad.clone()), Err(why), "{bad}");
    }
}

#[test]
fn discovery_accepts_the_right_issuer_only() {
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
        "'jwks_uri' is no string"
    );
    // An issuer that the operator wrote with http may stay there.
    let plain = "http://idp.test/realms/a";
    let changes = json!({"issuer": plain, "jwks_uri": "http://idp.test/jwks"});
    assert!(read(changes, plain).is_ok());
}

#[test]
fn claims_as_headers() {
    let claims = claims(json!({
        "sub": "ann", "n": 7, "roles": ["a", "b"], "odd": "a\r\nb", "utf8": "é", "empty": "",
        "long": "x".repeat(100), "null": null,
    }));
    let header = |name: &str| claims.header_value(name, 50);
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

#[test]
fn description_reveals_nothing_about_the_certificate() {
    let one = TokenError::NotBound.description();
    for refusal in [
        TokenError::MalformedConfirmation,
        TokenError::UnsupportedConfirmation("jkt".to_owned()),
        TokenError::NoCertificate("x".to_owned()),
        TokenError::CertificateMismatch,
        TokenError::UntrustedCertificate("certificate has expired, subject: ann".to_owned()),
    ] {
        assert_eq!(refusal.description(), one);
    }
    assert!(
        TokenError::Insufficient("scope").is_forbidden()
            && !TokenError::WrongAudience.is_forbidden()
    );
}

#[test]
fn assertion_of_private_jwk_verifies() {
    let rsa = Rsa::generate(2048).unwrap();
    let number = |number: &openssl::bn::BigNumRef| text(&number.to_vec());
    let rsa_jwk = json!({
        "kty": "RSA", "kid": "r", "n": number(rsa.n()), "e": number(rsa.e()), "d": number(rsa.d()),
        "p": number(rsa.p().unwrap()), "q": number(rsa.q().unwrap()),
        "dp": number(rsa.dmp1().unwrap()), "dq": number(rsa.dmq1().unwrap()),
        "qi": number(rsa.iqmp().unwrap()),
    });
    let pair = p256("e");
    let mut ec_jwk = pair.jwk.clone();
    let d = pair.key.ec_key().unwrap().private_key().to_vec();
    ec_jwk["d"] = json!(text(&d));
    let pair = okp(PKey::generate_ed25519().unwrap(), "Ed25519", "o");
    let mut okp_jwk = pair.jwk.clone();
    okp_jwk["d"] = json!(text(&pair.key.raw_private_key().unwrap()));
    for (jwk, alg) in [
        (&rsa_jwk, None),
        (&rsa_jwk, Some("PS384")),
        (&ec_jwk, None),
        (&okp_jwk, Some("EdDSA")),
    ] {
        let member = |name: &str| match name {
            "alg" => alg,
            name => jwk[name].as_str(),
        };
        let key = SigningKey::from_jwk(member).unwrap();
        let token = key.assertion("gateway", "https://idp.test", NOW).unwrap();
        let claims = verify(&token, &jwks(&[jwk])).unwrap();
        claims.check_issuer("gateway").unwrap();
        claims.check_times(0, NOW + 59).unwrap();
        assert_eq!(claims.get("aud"), Some(&json!("https://idp.test")));
        assert_ne!(
            token,
            key.assertion("gateway", "https://idp.test", NOW).unwrap()
        );
        assert!(!format!("{key:?}").contains(jwk["d"].as_str().unwrap()));
    }
    let wrong = |jwk: &Value, change: (&str, &str)| {
        let mut jwk = jwk.clone();
        jwk[change.0] = json!(change.1);
        SigningKey::from_jwk(|name| jwk[name].as_str()).unwrap_err()
    };
    assert_eq!(wrong(&ec_jwk, ("d", "AQ")), "not a key of its curve");
    assert_eq!(wrong(&rsa_jwk, ("q", "AQ")), "not an RSA key");
    assert_eq!(
        wrong(&ec_jwk, ("alg", "HS256")),
        "an algorithm that does not go with it"
    );
    assert_eq!(
        wrong(&ec_jwk, ("kty", "oct")),
        "expected a private key of type RSA, EC or OKP (Ed25519)"
    );
}
