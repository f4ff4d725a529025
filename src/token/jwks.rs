//! JSON Web Key Sets (RFC 7517): the keys of an issuer.

use openssl::bn::{BigNum, BigNumRef};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Rsa;
use openssl::sha;
use serde_json::{Map, Value};

use super::{base64url, json, Algorithm, KeyType};

/// Most keys of a set, usable or not.
pub const MAX_KEYS: usize = 1000;

/// Longest JWK Set, in bytes: issuers publish the certificates of their keys with them.
const MAX_BYTES: usize = 1024 * 1024;

/// Bits of an RSA modulus: shorter keys are weak, longer keys are slow.
const RSA_BITS: std::ops::RangeInclusive<i32> = 2048..=8192;

/// A key that verifies signatures.
pub(super) struct Key {
    kid: Option<Box<str>>,
    /// The member `alg`: the only algorithm for which it is used.
    algorithm: Option<Algorithm>,
    key_type: KeyType,
    pub(super) public: PKey<Public>,
}

/// The keys of an issuer that verify signatures.
pub struct Jwks {
    keys: Vec<Key>,
    digest: [u8; 32],
    left_out: Vec<String>,
}

impl Jwks {
    /// Reads a set. Keys that cannot verify tokens (symmetric, for encryption, of unknown types,
    /// too short) are left out.
    ///
    /// # Errors
    /// When it is not a set of at most 1,000 keys of which at least one is usable.
    pub fn parse(bytes: &[u8]) -> Result<Jwks, String> {
        let document = json::object(bytes, MAX_BYTES)?;
        let Some(Value::Array(list)) = document.get("keys") else {
            return Err("no list 'keys' in it".to_owned());
        };
        if list.len() > MAX_KEYS {
            let count = list.len();
            return Err(format!("{count} keys are over the limit of {MAX_KEYS}"));
        }
        let (mut keys, mut left_out) = (Vec::new(), Vec::new());
        for (index, key) in list.iter().enumerate() {
            let read = match key {
                Value::Object(key) => read(key),
                _ => Err("not an object".to_owned()),
            };
            match read {
                Ok(key) => keys.push(key),
                Err(why) => left_out.push(format!("keys[{index}]: {why}")),
            }
        }
        ErrorStack::get();
        if keys.is_empty() {
            let why = left_out.first().map(|why| format!(" ({why})"));
            return Err(format!("no usable key{}", why.unwrap_or_default()));
        }
        Ok(Jwks {
            keys,
            digest: sha::sha256(bytes),
            left_out,
        })
    }

    /// Reads the sets of an issuer that publishes its keys at several URLs, as one set.
    ///
    /// # Errors
    /// When one of them is not acceptable to [`Jwks::parse`], or when together they have more
    /// usable keys than a set may have.
    pub fn parse_all(sets: &[&[u8]]) -> Result<Jwks, String> {
        let mut all = Jwks {
            keys: Vec::new(),
            digest: [0; 32],
            left_out: Vec::new(),
        };
        let mut hasher = sha::Sha256::new();
        for bytes in sets {
            let set = Jwks::parse(bytes)?;
            hasher.update(&set.digest);
            all.keys.extend(set.keys);
            all.left_out.extend(set.left_out);
            if all.keys.len() > MAX_KEYS {
                return Err(format!(
                    "over {MAX_KEYS} keys in {} sets, expected fewer",
                    sets.len()
                ));
            }
        }
        if all.keys.is_empty() {
            return Err("no set of keys".to_owned());
        }
        all.digest = hasher.finish();
        Ok(all)
    }

    /// SHA-256 of the document, or of the digests of several. A cached verification is valid only with the same keys.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The keys that were left out, and the reasons.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no usable key, which [`Jwks::parse`] refuses.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that may have made a signature with this `kid` and algorithm.
    pub(super) fn candidates<'k>(
        &'k self,
        kid: Option<&'k str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'k Key> {
        self.keys
            .iter()
            .filter(move |key| (kid.is_none() || key.kid.as_deref() == kid) && key.fits(algorithm))
    }
}

impl Key {
    /// Whether it can verify signatures of this algorithm.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        algorithm.accepts(self.key_type)
            && self
                .algorithm
                .is_none_or(|only| only.includes(algorithm) || algorithm.includes(only))
    }
}

pub(super) fn read(jwk: &Map<String, Value>) -> Result<Key, String> {
    let text = |name: &str| match jwk.get(name) {
        // Some issuers write null for every member that a key lacks.
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("'{name}' is not a string")),
    };
    let bytes = |name: &str| {
        text(name)?
            .and_then(base64url)
            .ok_or_else(|| format!("'{name}' is missing or not base64url"))
    };
    if let Some(usage) = text("use")?.filter(|usage| *usage != "sig") {
        return Err(format!("for '{}', not for signatures", short(usage)));
    }
    match jwk.get("key_ops") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) if list.iter().any(|op| op == "verify") => {}
        Some(_) => return Err("'key_ops' without 'verify'".to_owned()),
    }
    let curve = text("crv")?;
    let (key_type, public) = match (text("kty")?, curve) {
        (Some("RSA"), _) => (KeyType::Rsa, rsa(&bytes("n")?, &bytes("e")?)?),
        (Some("EC"), Some(curve)) => {
            let (key_type, nid, size) = match curve {
                "P-256" => (KeyType::P256, Nid::X9_62_PRIME256V1, 32),
                "P-384" => (KeyType::P384, Nid::SECP384R1, 48),
                "P-521" => (KeyType::P521, Nid::SECP521R1, 66),
                _ => return Err(format!("curve '{}' is not supported", short(curve))),
            };
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != size || y.len() != size {
                return Err(format!("'x' and 'y' must have {size} bytes each"));
            }
            (
                key_type,
                ec(nid, &x, &y).map_err(|_| "not a point of its curve")?,
            )
        }
        (Some("OKP"), Some(curve)) => {
            let (key_type, id) = match curve {
                "Ed25519" => (KeyType::Ed25519, Id::ED25519),
                "Ed448" => (KeyType::Ed448, Id::ED448),
                _ => return Err(format!("curve '{}' is not supported", short(curve))),
            };
            let public = PKey::public_key_from_raw_bytes(&bytes("x")?, id)
                .map_err(|_| "'x' is not a key of its curve")?;
            (key_type, public)
        }
        (Some("oct"), _) => return Err("symmetric".to_owned()),
        (kty, _) => {
            return Err(format!(
                "type '{}' is not supported",
                short(kty.unwrap_or_default())
            ));
        }
    };
    let algorithm = text("alg")?
        .map(|name| {
            Algorithm::from_name(name)
                .filter(|algorithm| algorithm.accepts(key_type))
                .ok_or_else(|| format!("algorithm '{}' does not fit the key type", short(name)))
        })
        .transpose()?;
    Ok(Key {
        kid: text("kid")?.map(Into::into),
        algorithm,
        key_type,
        public,
    })
}

fn rsa(n: &[u8], e: &[u8]) -> Result<PKey<Public>, String> {
    // OpenSSL would take long on larger numbers.
    if n.len() > 2 * 1024 || e.len() > 8 {
        return Err("an RSA key that is too long".to_owned());
    }
    let key = || -> Result<(BigNum, BigNum), ErrorStack> {
        Ok((BigNum::from_slice(n)?, BigNum::from_slice(e)?))
    };
    let (n, e) = key().map_err(|_| "not an RSA key")?;
    if !RSA_BITS.contains(&n.num_bits()) {
        return Err(format!(
            "an RSA key of {} bits, expected {} to {}",
            n.num_bits(),
            RSA_BITS.start(),
            RSA_BITS.end()
        ));
    }
    let is_odd = |number: &BigNumRef| number.is_bit_set(0);
    // With the exponent 1 every padded message is its own signature.
    if !is_odd(&e) || e.num_bits() < 2 || !is_odd(&n) {
        return Err("an RSA key with an impossible modulus or exponent".to_owned());
    }
    Rsa::from_public_components(n, e)
        .and_then(PKey::from_rsa)
        .map_err(|_| "not an RSA key".to_owned())
}

fn ec(curve: Nid, x: &[u8], y: &[u8]) -> Result<PKey<Public>, ErrorStack> {
    let group = EcGroup::from_curve_name(curve)?;
    let (x, y) = (BigNum::from_slice(x)?, BigNum::from_slice(y)?);
    // This checks the key too.
    PKey::from_ec_key(EcKey::from_public_key_affine_coordinates(&group, &x, &y)?)
}

fn short(text: &str) -> String {
    crate::text::quoted(text.as_bytes())
}
