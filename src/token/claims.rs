//! Claims of a token (RFC 7519 section 4, RFC 9068), and what a route requires of them.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::confirmation::{self, CertificateThumbprint, Confirmation};
use super::{json, TokenError, MAX_TOKEN};
use crate::text::quoted;

/// Alternatives of required values; of one alternative all values must be present (Kong's
/// `scopes_required`: `["a b", "c"]` means a and b, or c).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredValues(Vec<Vec<Box<str>>>);

impl RequiredValues {
    /// Reads one alternative from each text; white space separates its values.
    pub fn new<'t>(alternatives: impl Iterator<Item = &'t str>) -> RequiredValues {
        RequiredValues(
            alternatives
                .map(|words| words.split_whitespace().map(Into::into).collect())
                .collect(),
        )
    }

    /// Whether no value is required.
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

/// What a route requires of the claims.
#[derive(Clone, Debug)]
pub struct ClaimRequirements {
    /// Path of the audience claim: names from the outermost object inwards.
    pub audience_claim: Vec<Box<str>>,
    /// Required audiences.
    pub audience: RequiredValues,
    /// Path of the scopes claim.
    pub scopes_claim: Vec<Box<str>>,
    /// Required scopes.
    pub scopes: RequiredValues,
    /// Path of the groups claim.
    pub groups_claim: Vec<Box<str>>,
    /// Required groups.
    pub groups: RequiredValues,
    /// Path of the roles claim.
    pub roles_claim: Vec<Box<str>>,
    /// Required roles.
    pub roles: RequiredValues,
    /// Top-level claims that must be absent.
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

/// Values of `token_type` (RFC 7662 section 2.2, RFC 6749 section 7.1) and `token_use` for a bearer
/// access token.
const ACCESS_TOKEN_TYPES: &[&str] = &[
    "bearer",
    "access",
    "access_token",
    "at+jwt",
    "jwt",
    "urn:ietf:params:oauth:token-type:access_token",
    "urn:ietf:params:oauth:token-type:jwt",
];

/// Values of the claim `typ`, which no standard defines, for other tokens of the same issuer.
const OTHER_TOKEN_TYPES: &[&str] = &[
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

/// The value of `token_type` (RFC 9449 section 5) and of Keycloak's claim `typ` for an access token
/// that is bound to a key.
const DPOP: &str = "dpop";

/// The member of `events` of a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.4).
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Seconds by which `iat` may be in the future, in addition to the leeway: the clock of an issuer
/// is rarely exact, and a token is used right after it was issued.
const IAT_SKEW: f64 = 60.0;

/// The claims of a token.
#[derive(Clone, Debug)]
pub struct Claims {
    values: Map<String, Value>,
    confirmation: Result<Confirmation, TokenError>,
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
            confirmation: confirmation::from_claims(&values),
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

    /// Whether a top-level claim is present and not null.
    pub fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| !value.is_null())
    }

    /// Whether there is no claim.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What the token is bound to.
    ///
    /// # Errors
    /// When `cnf` cannot be read, or binds the token to something else. Such a token does not count
    /// as unbound.
    pub fn confirmation(&self) -> Result<&Confirmation, TokenError> {
        self.confirmation.as_ref().map_err(Clone::clone)
    }

    /// The certificate that the token is bound to, where DPoP proofs are not checked.
    ///
    /// # Errors
    /// As [`Claims::confirmation`], and when the token is bound to a key.
    pub fn certificate_thumbprint(&self) -> Result<Option<&CertificateThumbprint>, TokenError> {
        match self.confirmation()? {
            Confirmation { key: Some(_), .. } => {
                Err(TokenError::UnsupportedConfirmation("jkt".to_owned()))
            }
            confirmation => Ok(confirmation.certificate.as_ref()),
        }
    }

    /// `exp` in seconds since the epoch, rounded down; `None` without one.
    pub fn expires_at(&self) -> Option<i64> {
        self.exp.map(|exp| exp.floor() as i64)
    }

    /// Checks `iss`, which must be present.
    pub fn check_issuer(&self, issuer: &str) -> Result<(), TokenError> {
        match self.values.get("iss") {
            Some(Value::String(found)) if found == issuer => Ok(()),
            Some(Value::String(_)) => Err(TokenError::WrongIssuer),
            _ => Err(TokenError::InvalidClaim("iss")),
        }
    }

    /// Checks that no claim marks it as another token than an access token. Issuers sign all tokens
    /// with the same keys, and accept them at the same introspection endpoint. With `dpop` an
    /// access token may be marked as bound to a key, which the caller checks.
    pub fn check_token_type(&self, dpop: bool) -> Result<(), TokenError> {
        let is_dpop = |text: &str| dpop && text.eq_ignore_ascii_case(DPOP);
        let is_in = |names: &[&str], value: &str| {
            let mut names = names.iter();
            names.any(|name| name.eq_ignore_ascii_case(value))
        };
        for name in ["token_type", "token_use"] {
            match self.values.get(name) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if is_in(ACCESS_TOKEN_TYPES, text) || is_dpop(text) => {}
                Some(value) => return Err(TokenError::NotAccessToken(name, for_log(value))),
            }
        }
        let events = self.values.get("events");
        if events.is_some_and(|events| events.get(LOGOUT_EVENT).is_some()) {
            return Err(TokenError::NotAccessToken("events", "a logout".to_owned()));
        }
        match self.values.get("typ") {
            Some(value @ Value::String(text))
                if is_in(OTHER_TOKEN_TYPES, text) && !is_dpop(text) =>
            {
                Err(TokenError::NotAccessToken("typ", for_log(value)))
            }
            _ => Ok(()),
        }
    }

    /// Checks `exp`, which must be present, `nbf` and `iat` at `now`.
    pub fn check_times(&self, leeway: i64, now: i64) -> Result<(), TokenError> {
        self.time("exp")?.ok_or(TokenError::InvalidClaim("exp"))?;
        self.check_present_times(leeway, now)
    }

    /// Checks those of `exp`, `nbf` and `iat` that are present.
    pub fn check_present_times(&self, leeway: i64, now: i64) -> Result<(), TokenError> {
        let (now, leeway) = (now as f64, leeway as f64);
        if let Some(exp) = self.time("exp")?.filter(|exp| now >= exp + leeway) {
            return Err(TokenError::Expired(exp as i64));
        }
        if let Some(nbf) = self.time("nbf")?.filter(|nbf| now < nbf - leeway) {
            return Err(TokenError::NotYetValid(nbf as i64));
        }
        match self
            .time("iat")?
            .filter(|iat| now < iat - leeway - IAT_SKEW)
        {
            Some(iat) => Err(TokenError::IssuedInFuture(iat as i64)),
            None => Ok(()),
        }
    }

    fn time(&self, name: &'static str) -> Result<Option<f64>, TokenError> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_f64()
                .map(Some)
                .ok_or(TokenError::InvalidClaim(name)),
        }
    }

    /// Checks audience, scopes, groups, roles, and that no forbidden claim is present.
    pub fn check_requirements(&self, required: &ClaimRequirements) -> Result<(), TokenError> {
        let forbidden = required.forbidden.iter();
        if let Some(name) = forbidden.into_iter().find(|name| self.get(name).is_some()) {
            return Err(TokenError::Unacceptable(format!(
                "it has the forbidden claim '{name}'"
            )));
        }
        if !required.audience.is_empty() {
            // A text is one audience, even with spaces in it.
            let found: Vec<&str> = match self.value_at(&required.audience_claim) {
                Some(Value::String(name)) => vec![name],
                Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
                _ => return Err(TokenError::WrongAudience),
            };
            if !required.audience.is_met_by(&found) {
                return Err(TokenError::WrongAudience);
            }
        }
        for (claim, values, name) in [
            (&required.scopes_claim, &required.scopes, "scope"),
            (&required.groups_claim, &required.groups, "group"),
            (&required.roles_claim, &required.roles, "role"),
        ] {
            if values.is_empty() {
                continue;
            }
            let found: Vec<&str> = match self.value_at(claim) {
                Some(Value::String(names)) => names.split_whitespace().collect(),
                Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
                _ => return Err(TokenError::Insufficient(name)),
            };
            if !values.is_met_by(&found) {
                return Err(TokenError::Insufficient(name));
            }
        }
        Ok(())
    }

    fn value_at(&self, path: &[Box<str>]) -> Option<&Value> {
        let (first, inner) = path.split_first()?;
        let mut value = self.values.get(&**first)?;
        for name in inner {
            value = value.get(&**name)?;
        }
        Some(value)
    }

    /// The claim at a path as a name: a text that is not empty, or an integer. `None` for anything
    /// else.
    pub fn name_at(&self, path: &[Box<str>]) -> Option<Cow<'_, str>> {
        match self.value_at(path)? {
            Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
            Value::Number(number) if number.is_i64() || number.is_u64() => {
                Some(number.to_string().into())
            }
            _ => None,
        }
    }

    /// The claim at a path as a header value: text unchanged, every other type as JSON. `None` when
    /// the claim is absent.
    ///
    /// # Errors
    /// When it cannot be a header value: not printable ASCII, or over `max` bytes.
    pub fn header_value(
        &self,
        path: &[Box<str>],
        max: usize,
    ) -> Result<Option<String>, &'static str> {
        let text = match self.value_at(path) {
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
fn for_log(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", quoted(text.as_bytes())),
        _ => "no text".to_owned(),
    }
}
