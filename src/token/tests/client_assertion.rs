//! Assertions with which the gateway authenticates to the issuer (RFC 7523).

use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use serde_json::{json, Value};

use super::*;

#[test]
fn assertion_verifies_with_the_public_key_of_its_jwk() {
    let rsa = Rsa::generate(2048).unwrap();
    let number = |number: &openssl::bn::BigNumRef| encode_base64url(&number.to_vec());
    let rsa_jwk = json!({
        "kty": "RSA", "kid": "r", "n": number(rsa.n()), "e": number(rsa.e()), "d": number(rsa.d()),
        "p": number(rsa.p().unwrap()), "q": number(rsa.q().unwrap()),
        "dp": number(rsa.dmp1().unwrap()), "dq": number(rsa.dmq1().unwrap()),
        "qi": number(rsa.iqmp().unwrap()),
    });
    let pair = p256("e");
    let mut ec_jwk = pair.jwk.clone();
    let d = pair.key.ec_key().unwrap().private_key().to_vec();
    ec_jwk["d"] = json!(encode_base64url(&d));
    let pair = okp(PKey::generate_ed25519().unwrap(), "Ed25519", "o");
    let mut okp_jwk = pair.jwk.clone();
    okp_jwk["d"] = json!(encode_base64url(&pair.key.raw_private_key().unwrap()));
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
        "an algorithm that does not fit the key type"
    );
    assert_eq!(
        wrong(&ec_jwk, ("kty", "oct")),
        "expected a private key of type RSA, EC or OKP (Ed25519)"
    );
}
