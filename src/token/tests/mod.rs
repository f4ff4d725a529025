//! Tokens of every algorithm, valid and altered, with keys that the tests make.

mod claims;
mod client_assertion;
mod confirmation;
mod discovery;
mod dpop;
mod introspection;
mod jwks;
mod jws;

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

/// A key pair with the JWK of its public key.
struct SigningKeyPair {
    key: PKey<Private>,
    jwk: Value,
}

fn rsa(bits: u32, kid: &str) -> SigningKeyPair {
    let rsa = Rsa::generate(bits).unwrap();
    let jwk = json!({
        "kty": "RSA", "kid": kid, "n": encode_base64url(&rsa.n().to_vec()), "e": encode_base64url(&rsa.e().to_vec()),
    });
    SigningKeyPair {
        key: PKey::from_rsa(rsa).unwrap(),
        jwk,
    }
}

fn ec(curve: Nid, name: &str, size: i32, kid: &str) -> SigningKeyPair {
    let group = EcGroup::from_curve_name(curve).unwrap();
    let key = EcKey::generate(&group).unwrap();
    let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
    let mut context = BigNumContext::new().unwrap();
    key.public_key()
        .affine_coordinates(&group, &mut x, &mut y, &mut context)
        .unwrap();
    let jwk = json!({
        "kty": "EC", "crv": name, "kid": kid,
        "x": encode_base64url(&x.to_vec_padded(size).unwrap()), "y": encode_base64url(&y.to_vec_padded(size).unwrap()),
    });
    SigningKeyPair {
        key: PKey::from_ec_key(key).unwrap(),
        jwk,
    }
}

fn p256(kid: &str) -> SigningKeyPair {
    ec(Nid::X9_62_PRIME256V1, "P-256", 32, kid)
}

fn okp(key: PKey<Private>, name: &str, kid: &str) -> SigningKeyPair {
    let x = encode_base64url(&key.raw_public_key().unwrap());
    SigningKeyPair {
        jwk: json!({"kty": "OKP", "crv": name, "kid": kid, "x": x}),
        key,
    }
}

fn sign(algorithm: Algorithm, key: &PKey<Private>, signed: &[u8]) -> Vec<u8> {
    let (digest, half) = match algorithm {
        Algorithm::EdDSA | Algorithm::Ed25519 | Algorithm::Ed448 => {
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

fn token_with(
    header: Value,
    claims: &Value,
    pair: &SigningKeyPair,
    algorithm: Algorithm,
) -> String {
    let part = |value: &Value| encode_base64url(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&header), part(claims));
    let signature = sign(algorithm, &pair.key, signed.as_bytes());
    format!("{signed}.{}", encode_base64url(&signature))
}

fn token(algorithm: Algorithm, pair: &SigningKeyPair, claims: &Value) -> String {
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

fn claims(value: Value) -> Claims {
    Claims::parse(value.to_string().as_bytes()).unwrap()
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
