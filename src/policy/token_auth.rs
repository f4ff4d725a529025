//! The settings of `openid-connect` as they apply to a route: access tokens and their binding to a
//! certificate (RFC 8705).

use std::fmt;

use openssl::sha::sha256;

use super::certificate_header::CertificateHeader;
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

/// Kong's `proof_of_possession_mtls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofOfPossession {
    /// Bindings of tokens to certificates are not checked.
    Off,
    /// A token that is bound to a certificate is accepted with that certificate only.
    Optional,
    /// Every token must be bound to the certificate of the request.
    Strict,
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
    /// Values of `iss` that are accepted instead of the issuer's own.
    pub issuers: Vec<Box<str>>,
    /// What the claims are compared with.
    pub expected_claims: ClaimRequirements,
    /// Whether tokens must be bound to the client certificate.
    pub proof_of_possession: ProofOfPossession,
    /// The header whose certificate takes precedence over that of the TLS connection.
    pub certificate_header: Option<CertificateHeader>,
    /// The URL for introspection, instead of the one in the issuer's discovery document.
    pub introspection_endpoint: Option<Box<str>>,
    /// The client that calls the introspection endpoint.
    pub client: Option<OAuthClient>,
    /// Cache key of introspection responses: SHA-256 over issuer, endpoint, client and `cache_ttl`.
    /// Routes that differ in one of them share no response.
    pub introspection_key: [u8; 32],
    /// Claims that are sent to the upstream, each with the name of its header.
    pub claim_headers: Vec<(Box<str>, Box<str>)>,
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
