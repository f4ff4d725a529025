//! DPoP proofs (RFC 9449): the client signs each request with the key to which its token is bound.
//!
//! A proof counts once: the caller must remember [`Proof::id`] until [`Proof::expires`].

use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::sha::sha256;
use openssl::sign::Signer;
use serde_json::{Map, Value};

use super::{base64url, encode_base64url, json, jwks, jws, Algorithm, TokenError};
use crate::text::quoted;
use crate::Error;

/// Longest proof, in bytes. With an RSA key of 8192 bits it has some 5 KB.
const MAX_PROOF: usize = 8 * 1024;

/// Longest URI, in bytes.
const MAX_URI: usize = 8 * 1024;

/// Seconds by which `iat` may be in the future, in addition to the leeway: as for tokens, the clock
/// of a client is rarely exact.
const IAT_SKEW: i64 = 60;

/// Bytes of the authentication code of a nonce.
const NONCE_MAC: usize = 16;

/// Members of a JWK that a public key does not have (RFC 7518 section 6).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// SHA-256 thumbprint (RFC 7638) of the key that may use a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyThumbprint([u8; 32]);

impl KeyThumbprint {
    /// Reads 32 bytes of base64url without padding.
    pub fn from_base64url(text: &str) -> Option<KeyThumbprint> {
        Some(KeyThumbprint(base64url(text)?.try_into().ok()?))
    }
}

/// What a proof is compared with.
#[derive(Clone, Copy, Debug)]
pub struct ProofRequest<'r> {
    /// The method of the request.
    pub method: &'r str,
    /// The URI of the request as the client knows it; its query does not matter.
    pub uri: &'r str,
    /// The access token.
    pub token: &'r str,
    /// The key to which the token is bound.
    pub key: &'r KeyThumbprint,
    /// Seconds for which a proof can be used after its creation.
    pub lifetime: i64,
    /// Seconds by which the clocks may differ.
    pub leeway: i64,
    /// The key of the nonces, if proofs need one.
    pub nonce_key: Option<&'r [u8; 32]>,
}

/// A proof that fits its request, if it has not been used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Digest of its key and its `jti`.
    pub id: [u8; 32],
    /// First second at which a proof with this `id` is refused anyway.
    pub expires: i64,
}

/// Checks a proof (RFC 9449 section 4.3), except that it was not used before.
///
/// # Errors
/// [`TokenError::DpopNonce`] when it needs a new nonce, else [`TokenError::DpopProof`].
pub fn check_proof(text: &str, request: &ProofRequest<'_>, now: i64) -> Result<Proof, TokenError> {
    let parsed = parse(text)?;
    // The comparison is first, because it is cheap: a client without the key must not cause the
    // verification of a signature.
    if !memcmp::eq(&parsed.thumbprint.0, &request.key.0) {
        return Err(refused(
            "its key is not the one that the token is bound to".to_owned(),
        ));
    }
    let claims = parsed.verified_claims()?;
    let text_of = |name: &str| match claims.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
        _ => Err(refused(format!("no text '{name}' in it"))),
    };
    if text_of("htm")? != request.method {
        return Err(refused(format!(
            "'htm' is '{}', expected '{}'",
            quoted(text_of("htm")?.as_bytes()),
            quoted(request.method.as_bytes())
        )));
    }
    let uri = normal_uri(text_of("htu")?);
    if uri.is_none() || uri != normal_uri(request.uri) {
        return Err(refused(format!(
            "'htu' is '{}', expected '{}'",
            quoted(text_of("htu")?.as_bytes()),
            quoted(request.uri.as_bytes())
        )));
    }
    let ath = encode_base64url(&sha256(request.token.as_bytes()));
    if text_of("ath")? != ath {
        return Err(refused("'ath' is that of another token".to_owned()));
    }
    let iat = claims
        .get("iat")
        .and_then(Value::as_f64)
        .ok_or_else(|| refused("no number 'iat' in it".to_owned()))?;
    // Rounded down, a proof is never older than it says.
    let iat = iat.floor() as i64;
    let created = match request.nonce_key {
        None => iat,
        Some(key) => match claims.get("nonce") {
            Some(Value::String(nonce)) => nonce_time(nonce, key)
                .ok_or_else(|| TokenError::DpopNonce("its nonce is not from here".to_owned()))?,
            _ => return Err(TokenError::DpopNonce("it has no nonce".to_owned())),
        },
    };
    let expires = created
        .saturating_add(request.lifetime)
        .saturating_add(request.leeway);
    if now >= expires {
        return Err(match request.nonce_key {
            None => refused(format!("its 'iat' is {created}, which is too long ago")),
            Some(_) => TokenError::DpopNonce("its nonce is too old".to_owned()),
        });
    }
    let latest = now.saturating_add(request.leeway).saturating_add(IAT_SKEW);
    if created > latest {
        return Err(match request.nonce_key {
            None => refused(format!("its 'iat' is {created}, which is in the future")),
            // The clock was set back.
            Some(_) => TokenError::DpopNonce("its nonce is from the future".to_owned()),
        });
    }
    let jti = text_of("jti")?;
    let id = sha256(&[&parsed.thumbprint.0, jti.as_bytes()].concat());
    Ok(Proof { id, expires })
}

/// A nonce that [`check_proof`] accepts for the lifetime of a proof from `now` on.
pub fn nonce(key: &[u8; 32], now: i64) -> Result<String, Error> {
    let time = now.to_be_bytes();
    let mac = nonce_mac(key, &time)?;
    Ok(encode_base64url(&[&time[..], &mac].concat()))
}

/// When a nonce of this key was made.
fn nonce_time(nonce: &str, key: &[u8; 32]) -> Option<i64> {
    let bytes = base64url(nonce)?;
    let (time, mac) = bytes.split_first_chunk::<8>()?;
    let expected = nonce_mac(key, time).ok()?;
    (mac.len() == expected.len() && memcmp::eq(mac, &expected)).then(|| i64::from_be_bytes(*time))
}

fn nonce_mac(key: &[u8; 32], time: &[u8; 8]) -> Result<Vec<u8>, Error> {
    let key = PKey::hmac(key)?;
    let mut mac = Signer::new(MessageDigest::sha256(), &key)?;
    let mut mac = mac.sign_oneshot_to_vec(time)?;
    mac.truncate(NONCE_MAC);
    Ok(mac)
}

struct ParsedProof<'t> {
    algorithm: Algorithm,
    key: jwks::Key,
    thumbprint: KeyThumbprint,
    signed: &'t str,
    payload: &'t str,
    signature: Vec<u8>,
}

fn parse(text: &str) -> Result<ParsedProof<'_>, TokenError> {
    if text.len() > MAX_PROOF {
        let len = text.len();
        return Err(refused(format!(
            "{len} bytes are over the limit of {MAX_PROOF}"
        )));
    }
    let parts = text
        .rsplit_once('.')
        .and_then(|(signed, signature)| Some((signed, signed.split_once('.')?, signature)))
        .filter(|(_, (_, payload), _)| !payload.contains('.'));
    let Some((signed, (header, payload), signature)) = parts else {
        return Err(refused("not a JWT".to_owned()));
    };
    let part = |text: &str, name: &str| {
        base64url(text).ok_or_else(|| refused(format!("the {name} is not base64url")))
    };
    let header = json::object(&part(header, "header")?, MAX_PROOF)
        .map_err(|why| refused(format!("header: {why}")))?;
    let has = |name: &str| header.get(name).is_some_and(|value| !value.is_null());
    if ["crit", "enc", "zip", "b64"].into_iter().any(has) {
        let why = "a header with 'crit', 'enc', 'zip' or 'b64'";
        return Err(refused(why.to_owned()));
    }
    let typ = header
        .get("typ")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if jws::media_type(typ) != "dpop+jwt" {
        let typ = quoted(typ.as_bytes());
        return Err(refused(format!("of type '{typ}', expected dpop+jwt")));
    }
    let name = header
        .get("alg")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let algorithm = Algorithm::from_name(name).ok_or_else(|| {
        let name = quoted(name.as_bytes());
        refused(format!("algorithm '{name}' is never accepted"))
    })?;
    let Some(Value::Object(jwk)) = header.get("jwk") else {
        return Err(refused("no 'jwk' in its header".to_owned()));
    };
    if let Some(name) = PRIVATE_MEMBERS
        .into_iter()
        .find(|name| jwk.contains_key(*name))
    {
        return Err(refused(format!("'jwk' has the private member '{name}'")));
    }
    let key = jwks::read(jwk).map_err(|why| refused(format!("'jwk': {why}")))?;
    if !key.fits(algorithm) {
        return Err(refused(format!(
            "'jwk' is no key for the algorithm {}",
            algorithm.name()
        )));
    }
    Ok(ParsedProof {
        algorithm,
        thumbprint: thumbprint(jwk).ok_or_else(|| refused("'jwk' is incomplete".to_owned()))?,
        key,
        signed,
        payload,
        signature: part(signature, "signature")?,
    })
}

impl ParsedProof<'_> {
    fn verified_claims(&self) -> Result<Map<String, Value>, TokenError> {
        let signed = self.signed.as_bytes();
        if !self
            .algorithm
            .verify(&self.key.public, signed, &self.signature)
        {
            return Err(refused("its signature is wrong".to_owned()));
        }
        let payload = base64url(self.payload)
            .ok_or_else(|| refused("the payload is not base64url".to_owned()))?;
        json::object(&payload, MAX_PROOF).map_err(|why| refused(format!("payload: {why}")))
    }
}

/// The thumbprint of a public key whose members were read.
fn thumbprint(jwk: &Map<String, Value>) -> Option<KeyThumbprint> {
    let member = |name: &str| jwk.get(name)?.as_str();
    let names: &[&str] = match member("kty")? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    // base64url and the names of curves need no escapes.
    let members: Option<Vec<String>> = names
        .iter()
        .map(|name| Some(format!("\"{name}\":\"{}\"", member(name)?)))
        .collect();
    let text = format!("{{{}}}", members?.join(","));
    Some(KeyThumbprint(sha256(text.as_bytes())))
}

/// An http or https URI without query and fragment, in normal form (RFC 3986 sections 6.2.2 and
/// 6.2.3); `None` for anything else.
fn normal_uri(uri: &str) -> Option<String> {
    if uri.len() > MAX_URI || !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let (scheme, rest) = uri.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match &*scheme {
        "http" => "80",
        "https" => "443",
        _ => return None,
    };
    let rest = rest.split(['?', '#']).next()?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.to_ascii_lowercase();
    // The port follows the last colon, unless that is within an IPv6 address.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (&*authority, ""),
    };
    if host.is_empty() || host.contains('@') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut normal = format!("{scheme}://{host}");
    if !port.is_empty() && port != default_port {
        normal.push(':');
        normal.push_str(port);
    }
    normal.push_str(&without_dot_segments(&with_normal_escapes(path)?));
    Some(normal)
}

/// Decodes escaped unreserved characters; other escapes get upper-case digits.
fn with_normal_escapes(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (digits, after) = after.split_at_checked(2)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok()?;
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => out.push(char::from(byte)),
            false => {
                out.push('%');
                out.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// RFC 3986 section 5.2.4, for a path that is empty or begins with a slash.
fn without_dot_segments(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    segments.pop();
                }
                if is_last {
                    segments.push("");
                }
            }
            part => segments.push(part),
        }
    }
    format!("/{}", segments.join("/"))
}

fn refused(why: String) -> TokenError {
    TokenError::DpopProof(why)
}
