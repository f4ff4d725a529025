//! The plugin `openid-connect`.

mod client;
mod consumer;
mod headers;
mod schema;

pub(super) use self::schema::OPENID_CONNECT;
use super::fields::{Object, MAX_TIME};
use super::{fold_header_name, ConsumerName, DocumentReader, HeaderCertAuth};
use crate::policy::report::{Path, Position};
use crate::policy::token_auth::{
    AuthMethods, DpopSettings, OAuthClient, ProofOfPossession, TokenConsumer,
};
use crate::policy::tree::Node;
use crate::text::quoted;
use crate::token::{discovery_url, issuer_url, Algorithm, ClaimRequirements, RequiredValues};

/// The configuration of `openid-connect`.
pub(in crate::policy) struct OpenidConnect<'t> {
    /// The issuer, without the well-known part.
    pub issuer: Box<str>,
    /// The URL of its discovery document.
    pub discovery_url: Box<str>,
    pub methods: AuthMethods,
    pub algorithms: Vec<Algorithm>,
    /// The values in `issuers_allowed`.
    pub issuers: Vec<Box<str>>,
    /// The claims that a token must have.
    pub expected: ClaimRequirements,
    /// The mode of `proof_of_possession_mtls`.
    pub proof_of_possession: ProofOfPossession,
    /// `proof_of_possession_mtls_from_header`.
    pub from_header: Option<HeaderCertAuth<'t>>,
    pub dpop: DpopSettings,
    pub jwks_endpoint: Option<Box<str>>,
    pub extra_jwks_uris: Vec<Box<str>>,
    /// `bearer_token_header_name`.
    pub token_header: Option<Box<str>>,
    pub consumer: Option<TokenConsumer>,
    pub anonymous: Option<ConsumerName<'t>>,
    /// The position of `authenticated_groups_claim`.
    pub authenticated_groups: Option<Position>,
    pub introspection_endpoint: Option<Box<str>>,
    pub mtls_introspection_endpoint: Option<Box<str>>,
    pub client: Option<OAuthClient>,
    /// Paths of claims for the upstream, each with the name of its header.
    pub headers: Vec<(Vec<Box<str>>, Box<str>)>,
    pub hide_credentials: bool,
    pub expose_error_code: bool,
    /// `unauthorized_error_message`.
    pub unauthorized: Box<str>,
    /// `forbidden_error_message`.
    pub forbidden: Box<str>,
    /// In milliseconds.
    pub timeout: u32,
    /// In seconds.
    pub rediscovery_lifetime: u32,
    /// In seconds. With 0, introspection responses are not cached.
    pub cache_ttl: u32,
    pub ssl_verify: bool,
    pub run_on_preflight: bool,
}

impl Default for OpenidConnect<'_> {
    fn default() -> Self {
        OpenidConnect {
            issuer: "".into(),
            discovery_url: "".into(),
            methods: AuthMethods::default(),
            algorithms: Algorithm::ALL.to_vec(),
            issuers: Vec::new(),
            expected: ClaimRequirements::default(),
            proof_of_possession: ProofOfPossession::Off,
            from_header: None,
            dpop: DpopSettings::default(),
            jwks_endpoint: None,
            extra_jwks_uris: Vec::new(),
            token_header: None,
            consumer: None,
            anonymous: None,
            authenticated_groups: None,
            introspection_endpoint: None,
            mtls_introspection_endpoint: None,
            client: None,
            headers: Vec::new(),
            hide_credentials: false,
            expose_error_code: true,
            unauthorized: "Unauthorized".into(),
            forbidden: "Forbidden".into(),
            timeout: 10_000,
            rediscovery_lifetime: 30,
            cache_ttl: 60,
            ssl_verify: true,
            run_on_preflight: true,
        }
    }
}

/// Kong's values of `auth_methods`, all of which are its default.
const KONG_AUTH_METHODS: &[&str] = &[
    "authorization_code",
    "bearer",
    "client_credentials",
    "introspection",
    "kong_oauth2",
    "password",
    "refresh_token",
    "session",
    "userinfo",
];

/// Most URLs of further keys, all of which are fetched within one `timeout`.
const MAX_EXTRA_JWKS_URIS: usize = 10;

/// The longest leeway, in seconds.
const MAX_LEEWAY: u32 = 3600;

impl<'t> DocumentReader<'t, '_> {
    pub(super) fn openid_connect(
        &mut self,
        node: &'t Node<'t>,
        config: Option<&'t Node<'t>>,
        path: &Path<'_>,
    ) -> OpenidConnect<'t> {
        let mut read = OpenidConnect::default();
        let Some(config) = config else {
            self.missing(node, path, "issuer");
            return read;
        };
        let Some(object) = self.object(config, path, &OPENID_CONNECT) else {
            return read;
        };
        match object.get("issuer") {
            None => self.missing(config, path, "issuer"),
            Some(node) => {
                if let Some(issuer) = self.url(node, &path.field("issuer")) {
                    read.issuer = issuer_url(issuer).into();
                    read.discovery_url = discovery_url(issuer).into();
                }
            }
        }
        self.fixed_fields(&object, path);
        self.auth_methods(config, &object, path, &mut read);
        self.expected_claims(&object, path, &mut read);
        self.introspection(&object, path, &mut read);
        self.proof_of_possession(&object, path, &mut read);
        self.upstream_headers(&object, path, &mut read);
        self.issuer_keys(&object, path, &mut read);
        self.token_consumer(&object, path, &mut read);

        let mut number = |field, min, to: &mut u32| {
            *to = self
                .integer(&object, path, field, min, MAX_TIME)
                .unwrap_or(*to);
        };
        number("timeout", 1, &mut read.timeout);
        number("rediscovery_lifetime", 1, &mut read.rediscovery_lifetime);
        number("cache_ttl", 0, &mut read.cache_ttl);
        if self.boolean(&object, path, "cache_introspection") == Some(false) {
            read.cache_ttl = 0;
        }
        read.run_on_preflight = self
            .boolean(&object, path, "run_on_preflight")
            .unwrap_or(true);
        read.ssl_verify = self
            .boolean(&object, path, "ssl_verify")
            .unwrap_or(read.ssl_verify);
        read
    }

    /// Reads the fields that have only one supported value.
    fn fixed_fields(&mut self, object: &Object<'t>, path: &Path<'_>) {
        for (field, supported) in [
            ("verify_claims", true),
            ("verify_signature", true),
            ("introspection_check_active", true),
            ("enable_hs_signatures", false),
            ("introspect_jwt_tokens", false),
            ("using_pseudo_issuer", false),
        ] {
            if self.boolean(object, path, field) == Some(!supported) {
                if let Some(node) = object.get(field) {
                    let message =
                        format!("{} is not supported, expected {supported}", node.describe());
                    self.report
                        .error(node.position, &path.field(field), message);
                }
            }
        }
        let upstream_header = [("authorization:bearer", ())];
        self.one_of(
            object,
            path,
            "upstream_access_token_header",
            &upstream_header,
        );
        for (text, position, index) in self.texts(object, path, "bearer_token_param_type") {
            if text != "header" {
                let path = path.field("bearer_token_param_type");
                let text = quoted(text.as_bytes());
                let message = format!("tokens are read from the header only, not from '{text}'");
                let subject = format!("openid-connect bearer_token_param_type {text}");
                self.report
                    .warn_once(&subject, position, &path.item(index), &message);
            }
        }
    }

    /// Reads the fields about the authentication methods and the signature algorithms.
    fn auth_methods(
        &mut self,
        config: &'t Node<'t>,
        object: &Object<'t>,
        path: &Path<'_>,
        read: &mut OpenidConnect<'t>,
    ) {
        let field = path.field("auth_methods");
        let listed = object.get("auth_methods");
        if let Some(node) = listed.filter(|node| node.is_empty()) {
            self.expected(node, &field, "'bearer', 'introspection' or both");
        }
        let mut others: Vec<&str> = Vec::new();
        let texts = self.texts(object, path, "auth_methods");
        for &(text, position, index) in &texts {
            match text {
                "bearer" => read.methods.bearer = true,
                "introspection" => read.methods.introspection = true,
                _ if KONG_AUTH_METHODS.contains(&text) => others.push(text),
                _ => {
                    let text = quoted(text.as_bytes());
                    let message =
                        format!("'{text}', expected one of {}", KONG_AUTH_METHODS.join(", "));
                    self.report.error(position, &field.item(index), message);
                }
            }
        }
        let is_default = listed.is_none() || others.len() + 2 == KONG_AUTH_METHODS.len();
        if listed.is_none() {
            read.methods = AuthMethods {
                bearer: true,
                introspection: true,
            };
            let ours = |name: &&&str| !matches!(**name, "bearer" | "introspection");
            others = KONG_AUTH_METHODS.iter().filter(ours).copied().collect();
        }
        // Kong's default has introspection in it also where no client is configured that could
        // call it.
        if is_default && object.get("client_id").is_none_or(Node::is_empty) {
            read.methods.introspection = false;
            others.push("introspection, without 'client_id',");
        }
        let position = listed.map_or(config.position, |node| node.position);
        if !others.is_empty() {
            let names = others.join(", ");
            if read.methods.bearer || read.methods.introspection {
                let message = format!(
                    "clients that authenticate with {names} are refused with 401: only 'bearer' \
                     and 'introspection' have an effect in resty-mtls"
                );
                let subject = format!("openid-connect auth_methods {names}");
                self.report.warn_once(&subject, position, &field, &message);
            } else {
                let message = format!(
                    "the method '{}' is not supported, expected 'bearer', 'introspection' or both",
                    others.join("', '")
                );
                self.report.error(position, &field, message);
            }
        }
        if object.get("algorithms").is_some() {
            read.algorithms.clear();
        }
        for (text, position, index) in self.texts(object, path, "algorithms") {
            match Algorithm::from_name(text) {
                Some(algorithm) => read.algorithms.push(algorithm),
                None => {
                    let names: Vec<_> = Algorithm::ALL.into_iter().map(Algorithm::name).collect();
                    let path = path.field("algorithms");
                    let message = format!(
                        "'{}', expected one of {}",
                        quoted(text.as_bytes()),
                        names.join(", ")
                    );
                    self.report.error(position, &path.item(index), message);
                }
            }
        }
        if let Some(node) = object.get("algorithms").filter(|node| node.is_empty()) {
            self.expected(node, &path.field("algorithms"), "at least one algorithm");
        }
    }

    /// Reads the fields about the claims that a token must have.
    fn expected_claims(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        read: &mut OpenidConnect<'t>,
    ) {
        let words = |reader: &mut Self, field| -> Vec<&'t str> {
            let texts = reader.texts(object, path, field);
            texts.into_iter().map(|(text, ..)| text).collect()
        };
        let claim = |reader: &mut Self, field, default: &str| -> Vec<Box<str>> {
            let found = words(reader, field);
            match found.is_empty() {
                true => vec![default.into()],
                false => found.into_iter().map(Into::into).collect(),
            }
        };
        let required = |reader: &mut Self, field| -> RequiredValues {
            for (text, position, index) in reader.texts(object, path, field) {
                if text.trim().is_empty() {
                    let message = "'', expected one word or more";
                    let path = path.field(field);
                    reader.report.error(position, &path.item(index), message);
                }
            }
            RequiredValues::new(words(reader, field).into_iter())
        };
        let expected = &mut read.expected;
        expected.audience_claim = claim(self, "audience_claim", "aud");
        expected.audience = required(self, "audience_required");
        expected.scopes_claim = claim(self, "scopes_claim", "scope");
        expected.scopes = required(self, "scopes_required");
        expected.groups_claim = claim(self, "groups_claim", "groups");
        expected.groups = required(self, "groups_required");
        expected.roles_claim = claim(self, "roles_claim", "roles");
        expected.roles = required(self, "roles_required");
        expected.forbidden = words(self, "claims_forbidden")
            .into_iter()
            .map(Into::into)
            .collect();
        expected.leeway = self
            .integer(object, path, "leeway", 0, MAX_LEEWAY)
            .unwrap_or(0)
            .into();
        for (text, position, index) in self.texts(object, path, "issuers_allowed") {
            if text.contains("{tenantid}") {
                let message = "contains '{tenantid}', which no token has: each tenant needs an \
                               entry with its id";
                let path = path.field("issuers_allowed");
                let subject = format!("openid-connect issuers_allowed {text}");
                self.report
                    .warn_once(&subject, position, &path.item(index), message);
            }
            read.issuers.push(text.into());
        }
    }

    /// Reads the fields about the issuer's keys and the header of the token.
    fn issuer_keys(&mut self, object: &Object<'t>, path: &Path<'_>, read: &mut OpenidConnect<'t>) {
        let field = "jwks_endpoint";
        if let Some(node) = object.get(field) {
            read.jwks_endpoint = self.url(node, &path.field(field)).map(Into::into);
        }
        let field = "extra_jwks_uris";
        if let Some(node) = object.get(field) {
            self.each(node, &path.field(field), |reader, node, path| {
                read.extra_jwks_uris
                    .extend(reader.url(node, path).map(Box::from));
            });
            let count = read.extra_jwks_uris.len();
            if count > MAX_EXTRA_JWKS_URIS {
                let message = format!("{count} URLs, expected at most {MAX_EXTRA_JWKS_URIS}");
                self.report
                    .error(node.position, &path.field(field), message);
            }
        }
        let field = "bearer_token_header_name";
        if let Some(node) = object.get(field) {
            let name = self.header_name(node, &path.field(field));
            let other = |name: &&str| !name.eq_ignore_ascii_case("authorization");
            let Some(name) = name.filter(other) else {
                return;
            };
            let folded = fold_header_name(name);
            // Headers of these names are removed before the token is read, or have another use.
            let certificate = read
                .from_header
                .as_ref()
                .and_then(|config| config.certificate_header.as_ref())
                .is_some_and(|header| header.names().any(|name| fold_header_name(name) == folded));
            let claim = read
                .headers
                .iter()
                .any(|(_, header)| fold_header_name(header) == folded);
            if folded == "dpop" || certificate || claim {
                let message = format!(
                    "the header '{}' has another use on this route, expected one for the token \
                     alone",
                    quoted(name.as_bytes())
                );
                self.report
                    .error(node.position, &path.field(field), message);
                return;
            }
            read.token_header = Some(name.into());
        }
    }

    /// Reads the fields about the proof of possession.
    fn proof_of_possession(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        read: &mut OpenidConnect<'t>,
    ) {
        let modes = [
            ("off", ProofOfPossession::Off),
            ("strict", ProofOfPossession::Strict),
            ("optional", ProofOfPossession::Optional),
        ];
        let mut mode = |field| match object.get(field) {
            // In YAML 1.1 a plain `off` is a boolean.
            Some(node) if node.as_bool() == Some(false) => ProofOfPossession::Off,
            _ => self
                .one_of(object, path, field, &modes)
                .unwrap_or(ProofOfPossession::Off),
        };
        read.proof_of_possession = mode("proof_of_possession_mtls");
        read.dpop = DpopSettings {
            mode: mode("proof_of_possession_dpop"),
            use_nonce: self
                .boolean(object, path, "dpop_use_nonce")
                .unwrap_or(read.dpop.use_nonce),
            proof_lifetime: self
                .integer(object, path, "dpop_proof_lifetime", 1, MAX_TIME)
                .unwrap_or(read.dpop.proof_lifetime),
        };
        // With false, Kong skips the proof for methods that cannot be validated. Both supported
        // methods can be validated, so the field has no effect.
        self.boolean(object, path, "proof_of_possession_auth_methods_validation");
        let field = "proof_of_possession_mtls_from_header";
        let Some(node) = object.get(field) else {
            return;
        };
        read.from_header = self.certificate_from_header(node, &path.field(field));
        if read.proof_of_possession == ProofOfPossession::Off {
            let path = path.field(field);
            let subject = "openid-connect from_header without proof of possession";
            let message = "has no effect with 'proof_of_possession_mtls: off'";
            self.report
                .warn_once(subject, node.position, &path, message);
        }
    }

    /// Reads an http or https URL.
    fn url(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> Option<&'t str> {
        let text = self.text(node, path)?;
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#@".contains(&byte);
        match rest {
            Some(rest) if !rest.is_empty() && rest.bytes().all(plain) && text.len() <= 2000 => {
                Some(text)
            }
            _ => {
                let message = format!(
                    "'{}' is not a URL, expected for example 'https://idp.example.com/realms/a'",
                    quoted(text.as_bytes())
                );
                self.report.error(node.position, path, message);
                None
            }
        }
    }
}
