//! `private_key_jwt`: client authentication of this gateway at an issuer without a shared secret
//! (RFC 7523 section 2.2, OpenID Connect Core 1.0 section 9).

use std::fmt;

use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::RsaPrivateKeyBuilder;
use openssl::sha::sha256;
use serde_json::json;

use super::{base64url, Algorithm, KeyType};
use crate::Error;

/// Seconds for which an assertion is valid.
const LIFETIME: i64 = 60;

/// A private key for client assertions, read from a JWK.
#[derive(Clone)]
pub struct SigningKey {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    key: PKey<Private>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The digest of a policy is computed from this text, so different keys must differ in it.
        let public = self.key.public_key_to_der().unwrap_or_default();
        let digest = crate::text::hex(&sha256(&public));
        write!(f, "{:?} {:?} {digest}", self.kid, self.algorithm)
    }
}

impl SigningKey {
    /// Reads a JWK; `member` returns the text of one of its members.
    ///
    /// # Errors
    /// What is wrong with it, without any part of the key.
    pub fn from_jwk<'t>(member: impl Fn(&str) -> Option<&'t str>) -> Result<SigningKey, String> {
        let bytes = |name: &str| {
            member(name)
                .and_then(base64url)
                .ok_or_else(|| format!("'{name}' is missing or not base64url"))
        };
        let curve = member("crv");
        let (key_type, fallback, key) = match (member("kty"), curve) {
            (Some("RSA"), _) => {
                let numbers: Vec<Vec<u8>> = ["n", "e", "d", "p", "q", "dp", "dq", "qi"]
                    .into_iter()
                    .map(bytes)
                    .collect::<Result<_, _>>()?;
                let key = rsa(&numbers).map_err(|_| "not an RSA key")?;
                (KeyType::Rsa, Algorithm::RS256, key)
            }
            (Some("EC"), Some(curve)) => {
                let (key_type, algorithm, nid) = match curve {
                    "P-256" => (KeyType::P256, Algorithm::ES256, Nid::X9_62_PRIME256V1),
                    "P-384" => (KeyType::P384, Algorithm::ES384, Nid::SECP384R1),
                    "P-521" => (KeyType::P521, Algorithm::ES512, Nid::SECP521R1),
                    _ => return Err("a curve that is not P-256, P-384 or P-521".to_owned()),
                };
                let key = ec(nid, &bytes("x")?, &bytes("y")?, &bytes("d")?);
                (
                    key_type,
                    algorithm,
                    key.map_err(|_| "not a key of its curve")?,
                )
            }
            (Some("OKP"), Some("Ed25519")) => {
                let key = PKey::private_key_from_raw_bytes(&bytes("d")?, Id::ED25519);
                let key = key.map_err(|_| "not an Ed25519 key")?;
                (KeyType::Ed25519, Algorithm::EdDSA, key)
            }
            _ => return Err("expected a private key of type RSA, EC or OKP (Ed25519)".to_owned()),
        };
        ErrorStack::get();
        let algorithm = match member("alg") {
            None => fallback,
            Some(name) => Algorithm::from_name(name)
                .filter(|algorithm| algorithm.accepts(key_type))
                .ok_or("an algorithm that does not fit the key type")?,
        };
        Ok(SigningKey {
            kid: member("kid").map(Into::into),
            algorithm,
            key,
        })
    }

    /// A JWT that authenticates `client` to `audience`.
    pub fn assertion(&self, client: &str, audience: &str, now: i64) -> Result<String, Error> {
        use base64::Engine as _;

        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let mut id = [0; 16];
        openssl::rand::rand_bytes(&mut id)?;
        let mut header = json!({"alg": self.algorithm.name(), "typ": "JWT"});
        if let (Some(kid), Some(header)) = (&self.kid, header.as_object_mut()) {
            header.insert("kid".to_owned(), json!(kid));
        }
        let claims = json!({
            "iss": client, "sub": client, "aud": audience, "jti": encode(&id),
            "iat": now, "exp": now.saturating_add(LIFETIME),
        });
        let signed = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let signature = self.algorithm.sign(&self.key, signed.as_bytes())?;
        Ok(format!("{signed}.{}", encode(&signature)))
    }
}

fn rsa(numbers: &[Vec<u8>]) -> Result<PKey<Private>, ErrorStack> {
    let number = |index: usize| {
        let bytes = numbers.get(index).map_or(&[][..], |bytes| bytes);
        BigNum::from_slice(bytes)
    };
    let key = RsaPrivateKeyBuilder::new(number(0)?, number(1)?, number(2)?)?
        .set_factors(number(3)?, number(4)?)?
        .set_crt_params(number(5)?, number(6)?, number(7)?)?
        .build();
    match key.check_key()? {
        true => PKey::from_rsa(key),
        false => Err(ErrorStack::get()),
    }
}

fn ec(curve: Nid, x: &[u8], y: &[u8], d: &[u8]) -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(curve)?;
    let mut context = openssl::bn::BigNumContext::new()?;
    let (x, y) = (BigNum::from_slice(x)?, BigNum::from_slice(y)?);
    let mut point = EcPoint::new(&group)?;
    point.set_affine_coordinates_gfp(&group, &x, &y, &mut context)?;
    let key = EcKey::from_private_components(&group, &*BigNum::from_slice(d)?, &point)?;
    key.check_key()?;
    PKey::from_ec_key(key)
}
