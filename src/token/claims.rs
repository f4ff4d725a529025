//! Claims of a token (RFC 7519 section 4, RFC 9068), and what a route wants of them.

use serde_json::{Map, Value};

use super::confirmation::{self, CertificateThumbprint};
use super::{json, TokenError, MAX_TOKEN};
use crate::text::quoted;

/// Alternatives, each of one or more words that must all be there (Kong's `scopes_required`:
/// `["a b", "c"]` is a and b, or c).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredValues(Vec<Vec<Box<str>>>);

impl RequiredValues {
    /// Reads one alternative from each text, its words parted by white space.
    pub fn new<'t>(alternatives: impl Iterator<Item = &'t str>) -> RequiredValues {
        RequiredValues(
            alternatives
                .map(|words| words.split_whitespace().map(Into::into).collect())
                .collect(),
        )
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The alternatives.
    pub fn alternatives(&self) -> &[Vec<Box<str>>] {
        &self.0
    }

    fn is_met_by(&self, found: &[&str]) -> bool {
        self.is_empty()
            || self
                .0
                .iter()
                .any(|words| words.iter().all(|word| found.contains(&&**word)))
    }
}

/// What a route wants of the claims.
#[derive(Clone, Debug)]
pub struct ClaimRequirements {
    /// Where the audience stands: names from the outermost object inwards.
    pub audience_claim: Vec<Box<str>>,
    /// The audiences.
    pub audience: RequiredValues,
    /// Where the scopes stand.
    pub scopes_claim: Vec<Box<str>>,
    /// The scopes.
    pub scopes: RequiredValues,
    /// Where the groups stand.
    pub groups_claim: Vec<Box<str>>,
    /// The groups.
    pub groups: RequiredValues,
    /// Where the roles stand.
    pub roles_claim: Vec<Box<str>>,
    /// The roles.
    pub roles: RequiredValues,
    /// Top-level claims that must not be there.
    pub forbidden: Vec<Box<str>>,
    /// Seconds by which the clocks may differ.
    pub leeway: i64,
}

impl Default for ClaimRequirements {
    fn default() -> ClaimRequirements {
        ClaimRequirements {
            audience_claim: vec!["aud".into()],
            audience: RequiredValues::default(),
            scopes_claim: vec!["scope".into()],
            scopes: RequiredValues::default(),
            groups_claim: vec!["groups".into()],
            groups: RequiredValues::default(),
            roles_claim: vec!["roles".into()],
            roles: RequiredValues::default(),
            forbidden: Vec::new(),
            leeway: 0,
        }
    }
}

/// What `token_type` (RFC 7662 section 2.2, RFC 6749 section 7.1) and `token_use` say of an access
/// token that whoever bears it may use: not DPoP, whose key nobody asks for here.
const ACCESS: &[&str] = &[
    "bearer",
    "access",
    "access_token",
    "at+jwt",
    "jwt",
    "urn:ietf:params:oauth:token-type:access_token",
    "urn:ietf:params:oauth:token-type:jwt",
];

/// What the claim `typ`, which no standard has, says of other tokens of the same issuer.
const NO_ACCESS: &[&str] = &[
    "refresh",
    "refresh_token",
    "offline",
    "id",
    "id_token",
    "serialized-id",
    "logout",
    "logout_token",
    "logout+jwt",
    "dpop",
];

/// The member of `events` of a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.4).
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Seconds by which `iat` may lie in the future with any leeway: the clock of an issuer is rarely
/// exact, and a token is used right after it was issued.
const SKEW: f64 = 60.0;

/// The claims of a token that somebody vouches for.
#[derive(Clone, Debug)]
pub struct Claims {
    values: Map<String, Value>,
    thumbprint: Result<Option<CertificateThumbprint>, TokenError>,
    exp: Option<f64>,
    bytes: usize,
}

impl Claims {
    /// Reads a JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Claims, String> {
        Ok(Claims::new(json::object(bytes, MAX_TOKEN)?, bytes.len()))
    }

    pub(super) fn new(values: Map<String, Value>, bytes: usize) -> Claims {
        Claims {
            thumbprint: confirmation::from_claims(&values),
            exp: values.get("exp").and_then(Value::as_f64),
            values,
            bytes,
        }
    }

    /// A top-level claim.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Bytes of the JSON text.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is no claim.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The certificate that the token is bound to (RFC 8705 section 3.1).
    ///
    /// # Errors
    /// When it says so in a way that cannot be read, or is bound to something else: it must not
    /// count as unbound.
    pub fn certificate_thumbprint(&self) -> Result<Option<&CertificateThumbprint>, TokenError> {
        match &self.thumbprint {
            Ok(thumbprint) => Ok(thumbprint.as_ref()),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    /// `exp` in seconds since the epoch, rounded down; `None` without one.
    pub fn expires_at(&self) -> Option<i64> {
        self.exp.map(|exp| exp.floor() as i64)
    }

    /// Checks `iss`: it must be there.
    pub fn check_issuer(&self, issuer: &str) -> Result<(), TokenError> {
        match self.values.get("iss") {
            Some(Value::String(found)) if found == issuer => Ok(()),
            Some(Value::String(_)) => Err(TokenError::WrongIssuer),
            _ => Err(TokenError::InvalidClaim("iss")),
        }
    }

    /// Checks that nothing in it says it is another token than an access token. Issuers sign them
    /// with the same keys, and know them at the same introspection endpoint.
    pub fn check_token_type(&self) -> Result<(), TokenError> {
        let is_in = |names: &[&str], value: &str| {
            let mut names = names.iter();
            names.any(|name| name.eq_ignore_ascii_case(value))
        };
        for name in ["token_type", "token_use"] {
            match self.values.get(name) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if is_in(ACCESS, text) => {}
                Some(value) => return Err(TokenError::NotAccessToken(name, shown(value))),
            }
        }
        let events = self.values.get("events");
        if events.is_some_and(|events| events.get(LOGOUT).is_some()) {
            return Err(TokenError::NotAccessToken("events", "a logout".to_owned()));
        }
        match self.values.get("typ") {
            Some(value @ Value::String(text)) if is_in(NO_ACCESS, text) => {
                Err(TokenError::NotAccessToken("typ", shown(value)))
            }
            _ => Ok(()),
        }
    }

    /// Checks `exp` (which must be there), `nbf` and `iat` at `now`.
    pub fn check_times(&self, leeway: i64, now: i64) -> Result<(), TokenError> {
        self.time("exp")?.ok_or(TokenError::InvalidClaim("exp"))?;
        self.check_present_times(leeway, now)
    }

    /// Checks `exp`, `nbf` and `iat` as far as they are there.
    pub fn check_present_times(&self, leeway: i64, now: i64) -> Result<(), TokenError> {
        let (now, leeway) = (now as f64, leeway as f64);
        if let Some(exp) = self.time("exp")?.filter(|exp| now >= exp + leeway) {
            return Err(TokenError::Expired(exp as i64));
        }
        if let Some(nbf) = self.time("nbf")?.filter(|nbf| now < nbf - leeway) {
            return Err(TokenError::NotYetValid(nbf as i64));
        }
        match self.time("iat")?.filter(|iat| now < iat - leeway - SKEW) {
            Some(iat) => Err(TokenError::IssuedInFuture(iat as i64)),
            None => Ok(()),
        }
    }

    fn time(&self, name: &'static str) -> Result<Option<f64>, TokenError> {
        match self.values.get(name) {
            None => Ok(None),
            Some(value) => value
                .as_f64()
                .map(Some)
                .ok_or(TokenError::InvalidClaim(name)),
        }
    }

    /// Checks audience, scopes, groups, roles, and that nothing forbidden is there.
    pub fn check_requirements(&self, expected: &ClaimRequirements) -> Result<(), TokenError> {
        let forbidden = expected.forbidden.iter();
        if let Some(name) = forbidden.into_iter().find(|name| self.get(name).is_some()) {
            return Err(TokenError::Unacceptable(format!(
                "it has the forbidden claim '{name}'"
            )));
        }
        if !expected.audience.is_empty() {
            // An audience is one name, whatever is in it.
            let found: Vec<&str> = match self.at(&expected.audience_claim) {
                Some(Value::String(name)) => vec![name],
                Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
                _ => return Err(TokenError::WrongAudience),
            };
            if !expected.audience.is_met_by(&found) {
                return Err(TokenError::WrongAudience);
            }
        }
        for (claim, wanted, what) in [
            (&expected.scopes_claim, &expected.scopes, "scope"),
            (&expected.groups_claim, &expected.groups, "group"),
            (&expected.roles_claim, &expected.roles, "role"),
        ] {
            if wanted.is_empty() {
                continue;
            }
            let found: Vec<&str> = match self.at(claim) {
                Some(Value::String(names)) => names.split_whitespace().collect(),
                Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
                _ => return Err(TokenError::Insufficient(what)),
            };
            if !wanted.is_met_by(&found) {
                return Err(TokenError::Insufficient(what));
            }
        }
        Ok(())
    }

    fn at(&self, path: &[Box<str>]) -> Option<&Value> {
        let (first, inner) = path.split_first()?;
        let mut value = self.values.get(&**first)?;
        for name in inner {
            value = value.get(&**name)?;
        }
        Some(value)
    }

    /// A top-level claim as the value of a header: text as it is, anything else as JSON. `None` when
    /// there is no such claim.
    ///
    /// # Errors
    /// When it cannot be a header: not printable ASCII, or over `max` bytes.
    pub fn header_value(&self, name: &str, max: usize) -> Result<Option<String>, &'static str> {
        let text = match self.values.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        if text.len() > max {
            return Err("too long");
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err("not printable ASCII");
        }
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

/// A value for the log.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", quoted(text.as_bytes())),
        _ => "no text".to_owned(),
    }
}
