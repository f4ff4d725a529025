//! The plugin `openid-connect`.

use super::fields::{Object, Schema, MAX_TIME};
use super::{fold_header_name, DocumentReader, HeaderCertAuth};
use crate::policy::report::Path;
use crate::policy::token_auth::{
    AuthMethods, ClientAuthMethod, OAuthClient, ProofOfPossession, Secret,
};
use crate::policy::tree::{Node, Value};
use crate::text::quoted;
use crate::token::{
    discovery_url, issuer_url, Algorithm, ClaimRequirements, RequiredValues, SigningKey,
};

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
    pub introspection_endpoint: Option<Box<str>>,
    pub client: Option<OAuthClient>,
    /// Claims for the upstream, each with the name of its header.
    pub headers: Vec<(Box<str>, Box<str>)>,
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
            introspection_endpoint: None,
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
        }
    }
}

/// Fields of Kong's that would change which tokens are accepted are errors, unless their value is
/// the behaviour here. Fields about logins, sessions and other flows are ignored.
const OPENID_CONNECT: Schema = Schema {
    name: "openid-connect",
    supported: &[
        "issuer",
        "client_id",
        "client_secret",
        "client_auth",
        "client_jwk",
        "auth_methods",
        "algorithms",
        "issuers_allowed",
        "audience_required",
        "audience_claim",
        "scopes_required",
        "scopes_claim",
        "groups_required",
        "groups_claim",
        "roles_required",
        "roles_claim",
        "claims_forbidden",
        "leeway",
        "proof_of_possession_mtls",
        "proof_of_possession_auth_methods_validation",
        "proof_of_possession_mtls_from_header",
        "introspection_endpoint",
        "introspection_endpoint_auth_method",
        "cache_introspection",
        "cache_ttl",
        "rediscovery_lifetime",
        "timeout",
        "ssl_verify",
        "hide_credentials",
        "upstream_headers_claims",
        "upstream_headers_names",
        "unauthorized_error_message",
        "forbidden_error_message",
        "expose_error_code",
        "verify_claims",
        "verify_signature",
        "enable_hs_signatures",
        "introspection_check_active",
        "introspect_jwt_tokens",
        "bearer_token_param_type",
        "using_pseudo_issuer",
        "proof_of_possession_dpop",
        "upstream_access_token_header",
    ],
    ignored: &[
        "audience",
        "authenticated_groups_claim",
        "authorization_cookie_domain",
        "authorization_cookie_http_only",
        "authorization_cookie_name",
        "authorization_cookie_path",
        "authorization_cookie_same_site",
        "authorization_cookie_secure",
        "authorization_endpoint",
        "authorization_query_args_client",
        "authorization_query_args_names",
        "authorization_query_args_values",
        "authorization_rolling_timeout",
        "bearer_token_cookie_name",
        "by_username_ignore_case",
        "cache_token_exchange",
        "cache_tokens",
        "cache_tokens_salt",
        "cache_ttl_max",
        "cache_ttl_min",
        "cache_ttl_neg",
        "cache_ttl_resurrect",
        "cache_user_info",
        "client_alg",
        "client_arg",
        "client_credentials_param_type",
        "cluster_cache_redis",
        "cluster_cache_strategy",
        "consumer_by",
        "consumer_optional",
        "credential_claim",
        "disable_session",
        "discovery_headers_names",
        "discovery_headers_values",
        "display_errors",
        "domains",
        "downstream_access_token_header",
        "downstream_access_token_jwk_header",
        "downstream_headers_claims",
        "downstream_headers_names",
        "downstream_id_token_header",
        "downstream_id_token_jwk_header",
        "downstream_introspection_header",
        "downstream_introspection_jwt_header",
        "downstream_refresh_token_header",
        "downstream_session_id_header",
        "downstream_user_info_header",
        "downstream_user_info_jwt_header",
        "dpop_proof_lifetime",
        "dpop_use_nonce",
        "end_session_endpoint",
        "forbidden_destroy_session",
        "http_version",
        "id_token_param_name",
        "id_token_param_type",
        "introspection_accept",
        "introspection_hint",
        "introspection_token_param_name",
        "jwt_session_claim",
        "jwt_session_cookie",
        "keepalive",
        "login_action",
        "login_methods",
        "login_redirect_mode",
        "login_redirect_uri",
        "login_tokens",
        "logout_methods",
        "logout_post_arg",
        "logout_query_arg",
        "logout_redirect_uri",
        "logout_revoke",
        "logout_revoke_access_token",
        "logout_revoke_refresh_token",
        "logout_uri_suffix",
        "max_age",
        "mtls_revocation_endpoint",
        "mtls_token_endpoint",
        "no_proxy",
        "password_param_type",
        "preserve_query_args",
        "pushed_authorization_request_endpoint",
        "pushed_authorization_request_endpoint_auth_method",
        "redirect_uri",
        "redis",
        "refresh_token_param_name",
        "refresh_token_param_type",
        "refresh_tokens",
        "require_proof_key_for_code_exchange",
        "require_pushed_authorization_requests",
        "require_signed_request_object",
        "response_mode",
        "response_type",
        "reverify",
        "revocation_endpoint",
        "revocation_endpoint_auth_method",
        "revocation_token_param_name",
        "run_on_preflight",
        "scopes",
        "session_absolute_timeout",
        "session_audience",
        "session_bind",
        "session_cookie_domain",
        "session_cookie_http_only",
        "session_cookie_name",
        "session_cookie_path",
        "session_cookie_same_site",
        "session_cookie_secure",
        "session_enforce_same_subject",
        "session_hash_storage_key",
        "session_hash_subject",
        "session_idling_timeout",
        "session_memcached_host",
        "session_memcached_port",
        "session_memcached_prefix",
        "session_memcached_socket",
        "session_memcached_ssl",
        "session_memcached_ssl_verify",
        "session_redis_cluster_max_redirections",
        "session_redis_cluster_nodes",
        "session_redis_connect_timeout",
        "session_redis_host",
        "session_redis_password",
        "session_redis_port",
        "session_redis_prefix",
        "session_redis_read_timeout",
        "session_redis_send_timeout",
        "session_redis_server_name",
        "session_redis_socket",
        "session_redis_ssl",
        "session_redis_ssl_verify",
        "session_redis_username",
        "session_remember",
        "session_remember_absolute_timeout",
        "session_remember_cookie_name",
        "session_remember_rolling_timeout",
        "session_request_headers",
        "session_response_headers",
        "session_rolling_timeout",
        "session_secret",
        "session_storage",
        "session_store_metadata",
        "tls_client_auth_cert_id",
        "tls_client_auth_ssl_verify",
        "token_cache_key_include_scope",
        "token_endpoint",
        "token_endpoint_auth_method",
        "token_exchange_endpoint",
        "token_headers_client",
        "token_headers_grants",
        "token_headers_names",
        "token_headers_prefix",
        "token_headers_replay",
        "token_headers_values",
        "token_post_args_client",
        "token_post_args_names",
        "token_post_args_values",
        "unauthorized_destroy_session",
        "userinfo_accept",
        "userinfo_endpoint",
        "userinfo_headers_client",
        "userinfo_headers_names",
        "userinfo_headers_values",
        "userinfo_query_args_client",
        "userinfo_query_args_names",
        "userinfo_query_args_values",
        "verify_nonce",
        "verify_parameters",
    ],
    unsupported: &[
        "anonymous",
        "consumer_claim",
        "consumer_groups_claim",
        "consumer_groups_optional",
        "extra_jwks_uris",
        "forbidden_redirect_uri",
        "http_proxy",
        "http_proxy_authorization",
        "https_proxy",
        "https_proxy_authorization",
        "ignore_signature",
        "introspection_headers_client",
        "introspection_headers_names",
        "introspection_headers_values",
        "introspection_post_args_client",
        "introspection_post_args_client_headers",
        "introspection_post_args_names",
        "introspection_post_args_values",
        "mtls_introspection_endpoint",
        "resolve_distributed_claims",
        "search_user_info",
        "unauthorized_redirect_uri",
        "unexpected_redirect_uri",
        "upstream_access_token_jwk_header",
        "upstream_id_token_header",
        "upstream_id_token_jwk_header",
        "upstream_introspection_header",
        "upstream_introspection_jwt_header",
        "upstream_refresh_token_header",
        "upstream_session_id_header",
        "upstream_user_info_header",
        "upstream_user_info_jwt_header",
    ],
};

const CLIENT_JWK: Schema = Schema {
    name: "client_jwk",
    supported: &[
        "kty", "kid", "alg", "crv", "x", "y", "d", "n", "e", "p", "q", "dp", "dq", "qi",
    ],
    ignored: &["issuer", "key_ops", "use", "x5c", "x5t", "x5t#S256", "x5u"],
    unsupported: &["k", "oth", "r", "t"],
};

/// The supported values of `auth_methods`.
const AUTH_METHODS: &[&str] = &["bearer", "introspection"];

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
        // In YAML 1.1 a plain `off` is a boolean.
        let dpop = object.get("proof_of_possession_dpop");
        if dpop.and_then(Node::as_bool) != Some(false) {
            self.one_of(object, path, "proof_of_possession_dpop", &[("off", ())]);
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
        if listed.is_none_or(Node::is_empty) {
            let position = listed.map_or(config.position, |node| node.position);
            let message = "missing or empty, expected a list of 'bearer', 'introspection' or both \
                           (Kong's default has methods that are not supported)";
            self.report.error(position, &field, message);
        }
        for (text, position, index) in self.texts(object, path, "auth_methods") {
            match text {
                "bearer" => read.methods.bearer = true,
                "introspection" => read.methods.introspection = true,
                _ => {
                    let text = quoted(text.as_bytes());
                    let message = format!(
                        "the method '{text}' is not supported, expected {}",
                        AUTH_METHODS
                            .iter()
                            .map(|name| format!("'{name}'"))
                            .collect::<Vec<_>>()
                            .join(" or ")
                    );
                    self.report.error(position, &field.item(index), message);
                }
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

    /// Reads the fields about the introspection endpoint and the client credentials for it.
    fn introspection(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        read: &mut OpenidConnect<'t>,
    ) {
        if let Some(node) = object.get("introspection_endpoint") {
            let url = self.url(node, &path.field("introspection_endpoint"));
            read.introspection_endpoint = url.map(Into::into);
        }
        let id = self.first_secret(object, path, "client_id");
        let secret = self.first_secret(object, path, "client_secret");
        let client_auths = [
            ("client_secret_basic", Some(ClientAuthMethod::Basic)),
            ("client_secret_post", Some(ClientAuthMethod::Post)),
            ("private_key_jwt", Some(ClientAuthMethod::PrivateKey)),
            ("none", Some(ClientAuthMethod::None)),
        ];
        let explicit = self.one_of(
            object,
            path,
            "introspection_endpoint_auth_method",
            &client_auths,
        );
        let mut client_auth = explicit.flatten();
        for (text, position, _) in self.texts(object, path, "client_auth").into_iter().take(1) {
            let found = client_auths.iter().find(|(name, _)| *name == text);
            match found {
                Some((_, found)) => client_auth = client_auth.or(*found),
                None if client_auth.is_none() && read.methods.introspection => {
                    let message = format!(
                        "'{}' is not supported, expected 'client_secret_basic', \
                         'client_secret_post', 'private_key_jwt' or 'none'",
                        quoted(text.as_bytes())
                    );
                    self.report
                        .error(position, &path.field("client_auth").item(0), message);
                }
                None => {}
            }
        }
        let client_auth = client_auth.unwrap_or(ClientAuthMethod::Basic);
        let key = self.client_key(object, path);
        if read.methods.introspection {
            let needs_secret = matches!(
                client_auth,
                ClientAuthMethod::Basic | ClientAuthMethod::Post
            );
            let needs_key = client_auth == ClientAuthMethod::PrivateKey;
            for (field, given, needed) in [
                ("client_jwk", key.is_some(), needs_key),
                ("client_id", id.is_some(), true),
                ("client_secret", secret.is_some(), needs_secret),
            ] {
                if !given && needed && object.get(field).is_none() {
                    self.missing(object.node, path, field);
                }
            }
        }
        read.client = id.map(|id| OAuthClient {
            id: id.into(),
            secret: Secret(secret.unwrap_or_default().into()),
            auth: client_auth,
            key,
        });
    }

    /// Reads `client_jwk`: a key, or the first one of a list. Errors do not show its members.
    fn client_key(&mut self, object: &Object<'t>, path: &Path<'_>) -> Option<SigningKey> {
        let node = object.get("client_jwk")?;
        let first = match &node.value {
            Value::List(items) => items.first()?,
            _ => node,
        };
        let path = path.field("client_jwk");
        let jwk = self.object(first, &path, &CLIENT_JWK)?;
        let member = |name: &str| match &jwk.get(name)?.value {
            Value::Scalar { text, .. } => Some(&**text),
            _ => None,
        };
        match SigningKey::from_jwk(member) {
            Ok(key) => Some(key),
            Err(why) => {
                self.report.error(first.position, &path, why);
                None
            }
        }
    }

    /// Reads a text, or the first one of a list. Errors do not show it.
    fn first_secret(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        field: &str,
    ) -> Option<&'t str> {
        let node = object.get(field)?;
        let path = path.field(field);
        let first = match &node.value {
            Value::List(items) => items.first(),
            _ => Some(node),
        };
        match first.map(|node| &node.value) {
            // An id or secret may look like a number.
            Some(Value::Scalar { text, .. }) if !text.is_empty() => Some(text),
            _ => {
                let message = "expected a list of one text";
                self.report.error(node.position, &path, message);
                None
            }
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
        // In YAML 1.1 a plain `off` is a boolean.
        let field = "proof_of_possession_mtls";
        read.proof_of_possession = match object.get(field) {
            Some(node) if node.as_bool() == Some(false) => ProofOfPossession::Off,
            _ => self
                .one_of(object, path, field, &modes)
                .unwrap_or(ProofOfPossession::Off),
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

    /// Reads the fields about the request to the upstream and about refusals.
    fn upstream_headers(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        read: &mut OpenidConnect<'t>,
    ) {
        let claims = self.texts(object, path, "upstream_headers_claims");
        let field = path.field("upstream_headers_names");
        let mut names: Vec<&'t str> = Vec::new();
        if let Some(node) = object.get("upstream_headers_names") {
            let items = self.list(node, &field).unwrap_or_default();
            for (index, item) in items.iter().enumerate() {
                let path = field.item(index);
                let Some(name) = self.reserved_header_name(item, &path) else {
                    continue;
                };
                if names
                    .iter()
                    .any(|other| fold_header_name(other) == fold_header_name(name))
                {
                    let name = quoted(name.as_bytes());
                    let message = format!(
                        "the header '{name}' is given twice (case is ignored, and '-' and '_' \
                         are equal), expected another name"
                    );
                    self.report.error(item.position, &path, message);
                }
                names.push(name);
            }
            if items.len() != claims.len() {
                let message = format!(
                    "{} names for {} entries of 'upstream_headers_claims', expected one for each",
                    items.len(),
                    claims.len()
                );
                self.report.error(node.position, &field, message);
            }
        } else if let Some((_, position, _)) = claims.first() {
            let message = "without 'upstream_headers_names', expected a name for each";
            let path = path.field("upstream_headers_claims");
            self.report.error(*position, &path, message);
        }
        read.headers = claims
            .iter()
            .zip(names)
            .map(|((claim, ..), name)| ((*claim).into(), name.into()))
            .collect();
        read.hide_credentials = self
            .boolean(object, path, "hide_credentials")
            .unwrap_or(read.hide_credentials);
        read.expose_error_code = self
            .boolean(object, path, "expose_error_code")
            .unwrap_or(read.expose_error_code);
        for (field, to) in [
            ("unauthorized_error_message", &mut read.unauthorized),
            ("forbidden_error_message", &mut read.forbidden),
        ] {
            if let Some(node) = object.get(field) {
                if let Some(text) = self.text(node, &path.field(field)) {
                    *to = text.into();
                }
            }
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
