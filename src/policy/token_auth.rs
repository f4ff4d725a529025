//! The settings of `openid-connect` as they apply to a route: access tokens and their binding to a
//! certificate (RFC 8705).

use std::fmt;

use openssl::sha::sha256;

use super::certificate_header::CertificateHeader;
use crate::identity::ConsumerField;
use crate::text::hex;
use crate::token::{Algorithm, ClaimRequirements, SigningKey};

/// Kong's `auth_methods`: how tokens are validated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthMethods {
    /// By the signature of a JWT.
    pub bearer: bool,
    /// By introspection at the issuer (RFC 7662).
    pub introspection: bool,
}

/// Kong's `proof_of_possession_mtls` and `proof_of_possession_dpop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofOfPossession {
    /// Bindings of tokens are not checked.
    Off,
    /// A token that is bound is accepted with proof of possession only.
    Optional,
    /// Every token must be bound, and the client prove its possession.
    Strict,
}

/// Kong's settings of DPoP (RFC 9449).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DpopSettings {
    /// `proof_of_possession_dpop`.
    pub mode: ProofOfPossession,
    /// Whether a proof must have a nonce of this gateway (`dpop_use_nonce`).
    pub use_nonce: bool,
    /// Seconds for which a proof is accepted (`dpop_proof_lifetime`).
    pub proof_lifetime: u32,
}

impl Default for DpopSettings {
    fn default() -> DpopSettings {
        DpopSettings {
            mode: ProofOfPossession::Off,
            use_nonce: false,
            proof_lifetime: 300,
        }
    }
}

/// How this gateway authenticates to the issuer (`client_auth`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ClientAuthMethod {
    /// It sends the `client_id` alone.
    None = 0,
    /// `client_secret_basic`.
    Basic = 1,
    /// `client_secret_post`.
    Post = 2,
    /// `private_key_jwt`.
    PrivateKey = 3,
    /// `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 section 2): it sends the
    /// `client_id`, over a TLS connection with its certificate.
    Tls = 4,
}

/// A text that is kept out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Box<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digests of policies are made from the debug text: different secrets need different texts.
        let digest = sha256(self.0.as_bytes());
        write!(f, "Secret({})", hex(&digest))
    }
}

/// This gateway as an OAuth client of the issuer.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    /// `client_id`.
    pub id: Box<str>,
    /// `client_secret`; may be empty.
    pub secret: Secret,
    /// How the client authenticates.
    pub auth: ClientAuthMethod,
    /// `client_jwk`, for `private_key_jwt`.
    pub key: Option<SigningKey>,
    /// The certificate of `tls_client_auth_cert_id`, for `tls_client_auth`.
    pub certificate: Option<ClientCertificate>,
}

/// The certificate with which this gateway authenticates on a TLS connection to the issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and its intermediates, in PEM.
    pub chain: Box<str>,
    /// The private key, in PEM.
    pub key: Secret,
    /// Whether the certificate of the issuer's server is verified on these connections
    /// (`tls_client_auth_ssl_verify`).
    pub ssl_verify: bool,
}

/// The mapping of a token to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenConsumer {
    /// Paths of claims, from the outermost object inwards. The first one whose value maps to a
    /// consumer counts.
    pub claims: Vec<Vec<Box<str>>>,
    /// The fields of consumers that values are compared with, in this order.
    pub by: Vec<ConsumerField>,
    /// Whether the case of a username is ignored.
    pub ignore_case: bool,
    /// Whether a token without a consumer is accepted.
    pub optional: bool,
}

/// `openid-connect` as it applies to a route.
#[derive(Debug)]
pub struct TokenAuth {
    /// The issuer, without the well-known part.
    pub issuer: Box<str>,
    /// The URL of its discovery document.
    pub discovery_url: Box<str>,
    /// Cache key of the issuer's documents: SHA-256 over everything that decides where they are
    /// fetched and whether they are accepted.
    pub issuer_key: [u8; 32],
    /// How tokens are validated.
    pub methods: AuthMethods,
    /// The signature algorithms that are accepted.
    pub algorithms: Vec<Algorithm>,
    /// The URL of the keys. With it the discovery document is not needed for keys, see
    /// [`TokenAuth::needs_discovery`].
    pub jwks_endpoint: Option<Box<str>>,
    /// URLs of further keys.
    pub extra_jwks_uris: Vec<Box<str>>,
    /// The header with the token, instead of `Authorization`.
    pub token_header: Option<Box<str>>,
    /// Values of `iss` that are accepted instead of the issuer's own.
    pub issuers: Vec<Box<str>>,
    /// What the claims are compared with.
    pub expected_claims: ClaimRequirements,
    /// Whether tokens must be bound to the client certificate.
    pub proof_of_possession: ProofOfPossession,
    /// Whether tokens must be bound to a key by DPoP (RFC 9449).
    pub dpop: DpopSettings,
    /// The header whose certificate takes precedence over that of the TLS connection.
    pub certificate_header: Option<CertificateHeader>,
    /// The URL for introspection, instead of the one in the issuer's discovery document.
    pub introspection_endpoint: Option<Box<str>>,
    /// The URL for introspection with `tls_client_auth` (RFC 8705 section 5).
    pub mtls_introspection_endpoint: Option<Box<str>>,
    /// The client that calls the introspection endpoint.
    pub client: Option<OAuthClient>,
    /// Cache key of introspection responses: SHA-256 over issuer, endpoint, client and `cache_ttl`.
    /// Routes that differ in one of them share no response.
    pub introspection_key: [u8; 32],
    /// The mapping to a consumer, if there is one.
    pub consumer: Option<TokenConsumer>,
    /// Id of the consumer of requests without a valid token, which are refused without it.
    pub anonymous: Option<Box<str>>,
    /// Paths of claims that are sent to the upstream, each with the name of its header.
    pub claim_headers: Vec<(Vec<Box<str>>, Box<str>)>,
    /// Whether the token is removed from the request to the upstream.
    pub hide_credentials: bool,
    /// Whether `WWW-Authenticate` of a refusal has an error code.
    pub expose_error_code: bool,
    /// Message of a 401.
    pub unauthorized: Box<str>,
    /// Message of a 403.
    pub forbidden: Box<str>,
    /// Time limit of a fetch, in milliseconds.
    pub timeout: u32,
    /// Seconds after which the issuer's documents may be fetched again for an unknown key.
    pub rediscovery_lifetime: u32,
    /// Longest time for which the validation of a token is cached, in seconds.
    pub cache_ttl: u32,
    /// Whether the certificate of the issuer's server is verified.
    pub ssl_verify: bool,
}

impl TokenAuth {
    /// Whether the token has a part in the identity of the client. Then `acl` is checked after it.
    pub fn decides_identity(&self) -> bool {
        self.consumer.is_some() || self.anonymous.is_some()
    }

    /// The certificate with which this gateway authenticates to the introspection endpoint.
    pub fn client_certificate(&self) -> Option<&ClientCertificate> {
        let client = self.client.as_ref().filter(|_| self.methods.introspection);
        client
            .filter(|client| client.auth == ClientAuthMethod::Tls)
            .and_then(|client| client.certificate.as_ref())
    }

    /// The introspection endpoint that the policy configures. With a client certificate
    /// `mtls_introspection_endpoint` has precedence.
    pub fn configured_introspection_endpoint(&self) -> Option<&str> {
        let alias = self.mtls_introspection_endpoint.as_deref();
        let alias = alias.filter(|_| self.client_certificate().is_some());
        alias.or(self.introspection_endpoint.as_deref())
    }

    /// Whether the discovery document is needed: for the URL of the keys, or for that of the
    /// introspection endpoint.
    pub fn needs_discovery(&self) -> bool {
        let keys = self.methods.bearer && self.jwks_endpoint.is_none();
        keys || (self.methods.introspection && self.configured_introspection_endpoint().is_none())
    }
}
