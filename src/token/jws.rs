//! JWTs in JWS compact serialisation (RFC 7515, RFC 7519).

use serde_json::{Map, Value};

use super::{base64url, json, Algorithm, Claims, Jwks, TokenError, MAX_TOKEN};
use crate::text::quoted;

/// Longest decoded header, in bytes.
const MAX_HEADER: usize = 16 * 1024;

/// Most keys that are tried for one signature; each attempt takes up to half a millisecond.
const MAX_TRIES: usize = 4;

/// Whether a token is a JWT rather than an opaque token: one whose first part is the base64url of an
/// object, which may begin with white space.
pub fn is_jwt(token: &str) -> bool {
    let dots = token.bytes().filter(|byte| *byte == b'.').count();
    if token.len() > MAX_TOKEN || (dots != 2 && dots != 4) {
        return false;
    }
    let header = token.split('.').next().and_then(base64url);
    header.is_some_and(|header| header.trim_ascii_start().first() == Some(&b'{'))
}

/// A signed token whose signature is not verified yet.
pub struct Jws<'t> {
    kid: Option<String>,
    algorithm: Algorithm,
    signed: &'t str,
    payload: &'t str,
    signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Reads a token.
    ///
    /// # Errors
    /// When it is not a JWT, or its header has something that is never accepted.
    pub fn parse(token: &'t str) -> Result<Jws<'t>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(malformed(format!(
                "{} bytes are over the limit of {MAX_TOKEN}",
                token.len()
            )));
        }
        if token.bytes().filter(|byte| *byte == b'.').count() == 4 {
            return Err(unacceptable("encrypted (JWE)"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or_else(not_a_jwt)?;
        let (header, payload) = signed.split_once('.').ok_or_else(not_a_jwt)?;
        if payload.contains('.') {
            return Err(not_a_jwt());
        }
        let part = |text: &str, name: &str| {
            base64url(text).ok_or_else(|| malformed(format!("the {name} is not base64url")))
        };
        let header = json::object(&part(header, "header")?, MAX_HEADER)
            .map_err(|why| malformed(format!("header: {why}")))?;
        let (algorithm, kid) = read_header(&header)?;
        Ok(Jws {
            kid,
            algorithm,
            signed,
            payload,
            signature: part(signature, "signature")?,
        })
    }

    /// The algorithm of its signature.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Verifies the signature with a key of the set, and returns the claims.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`] when there is no such key; a newer JWK Set may have it.
    pub fn verify(&self, keys: &Jwks, accepted: &[Algorithm]) -> Result<Claims, TokenError> {
        if !accepted
            .iter()
            .any(|algorithm| algorithm.includes(self.algorithm))
        {
            return Err(unacceptable(&format!(
                "algorithm {} is not among those of the policy",
                self.algorithm.name()
            )));
        }
        let mut tried = 0;
        for key in keys.candidates(self.kid.as_deref(), self.algorithm) {
            if tried == MAX_TRIES {
                return Err(unacceptable(&format!(
                    "over {MAX_TRIES} keys of the issuer fit, expected a 'kid' that identifies one"
                )));
            }
            tried += 1;
            let signed = self.signed.as_bytes();
            if self.algorithm.verify(&key.public, signed, &self.signature) {
                return self.claims();
            }
        }
        if tried > 0 {
            return Err(TokenError::WrongSignature);
        }
        Err(TokenError::UnknownKey(match &self.kid {
            Some(kid) => format!(
                "kid '{}', algorithm {}",
                quoted(kid.as_bytes()),
                self.algorithm.name()
            ),
            None => format!("no kid, algorithm {}", self.algorithm.name()),
        }))
    }

    /// The claims, not verified. See [`Jws::verify`].
    pub fn claims(&self) -> Result<Claims, TokenError> {
        let payload = base64url(self.payload)
            .ok_or_else(|| malformed("the payload is not base64url".to_owned()))?;
        Claims::parse(&payload).map_err(|why| malformed(format!("payload: {why}")))
    }
}

/// A media type without its optional prefix (RFC 7515 section 4.1.9), in lower case.
pub(super) fn media_type(value: &str) -> String {
    let value = value.to_ascii_lowercase();
    value
        .strip_prefix("application/")
        .map(str::to_owned)
        .unwrap_or(value)
}

fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<String>), TokenError> {
    let text = |name: &str| match header.get(name) {
        // Some issuers write null for every parameter that a token lacks.
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(malformed(format!("header: '{name}' is not a string"))),
    };
    let has = |name: &str| header.get(name).is_some_and(|value| !value.is_null());
    if has("crit") {
        // No critical parameter is supported, and an empty or malformed list is an error too.
        return Err(unacceptable("critical header parameters ('crit')"));
    }
    // ForgeRock and Ping AM write `"zip":"NONE"`. The payload of `"b64":true` is base64url as without
    // it (RFC 7797 section 3).
    if has("enc")
        || header
            .get("b64")
            .is_some_and(|b64| !b64.is_null() && b64 != true)
        || text("zip")?.is_some_and(|zip| !zip.eq_ignore_ascii_case("none"))
    {
        return Err(unacceptable(
            "a header with 'enc', 'zip' other than NONE, or 'b64' other than true",
        ));
    }
    if text("cty")?.is_some_and(|cty| media_type(cty) == "jwt") {
        return Err(unacceptable("nested (cty JWT)"));
    }
    // A token with another type is not an access token (RFC 8725 section 3.11).
    if let Some(typ) = text("typ")? {
        if !matches!(&*media_type(typ), "jwt" | "at+jwt" | "jose") {
            return Err(unacceptable(&format!(
                "of type '{}', expected at+jwt or JWT",
                quoted(typ.as_bytes())
            )));
        }
    }
    let name = text("alg")?.ok_or_else(|| malformed("header: no 'alg'".to_owned()))?;
    let algorithm = Algorithm::from_name(name).ok_or_else(|| {
        let name = quoted(name.as_bytes());
        unacceptable(&format!("algorithm '{name}' is never accepted"))
    })?;
    Ok((algorithm, text("kid")?.map(str::to_owned)))
}

fn malformed(why: String) -> TokenError {
    TokenError::Malformed(why)
}

fn not_a_jwt() -> TokenError {
    malformed("not a JWT, expected three parts of base64url".to_owned())
}

fn unacceptable(why: &str) -> TokenError {
    TokenError::Unacceptable(why.to_owned())
}
