//! Why a token is refused: `Display` for the log, [`TokenError::description`] for the client.

/// Why a token is refused. `Display` is for the log only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT or an introspection response.
    #[error("token malformed: {0}")]
    Malformed(String),
    /// Signed in a way that is not accepted, or with a forbidden claim.
    #[error("token not acceptable: {0}")]
    Unacceptable(String),
    /// Signed with a key that is not in the JWK Set of the issuer.
    #[error("token signed by an unknown key: {0}")]
    UnknownKey(String),
    /// Not an access token: the claim that shows it, and its value.
    #[error("token is not an access token: its '{0}' is {1}")]
    NotAccessToken(&'static str, String),
    /// The signature does not match.
    #[error("token signature is wrong")]
    WrongSignature,
    /// The introspection response has `active: false`.
    #[error("token is not active")]
    Inactive,
    /// A required claim is missing, or a claim has the wrong type.
    #[error("token without a usable claim '{0}'")]
    InvalidClaim(&'static str),
    /// `iss` is another issuer.
    #[error("token of another issuer")]
    WrongIssuer,
    /// The audience is another one.
    #[error("token for another audience")]
    WrongAudience,
    /// `exp` has passed.
    #[error("token expired at {0}")]
    Expired(i64),
    /// `nbf` is in the future.
    #[error("token not valid before {0}")]
    NotYetValid(i64),
    /// `iat` is in the future.
    #[error("token issued in the future, at {0}")]
    IssuedInFuture(i64),
    /// Lacks a required scope, group or role.
    #[error("token lacks a required {0}")]
    Insufficient(&'static str),
    /// Maps to no consumer on a route that requires one.
    #[error("token of no consumer: {0}")]
    NoConsumer(String),
    /// Not bound to a certificate on a route that requires it.
    #[error("token without cnf.x5t#S256")]
    NotBound,
    /// `cnf` or its `x5t#S256` is not as in RFC 8705.
    #[error("token with a malformed cnf.x5t#S256")]
    MalformedConfirmation,
    /// `cnf.jkt` is not as in RFC 9449.
    #[error("token with a malformed cnf.jkt")]
    MalformedKeyConfirmation,
    /// Not bound to a key on a route that requires it, or with the scheme DPoP.
    #[error("token without cnf.jkt")]
    NotKeyBound,
    /// Bound to a key, and sent with the scheme Bearer (RFC 9449 section 7.2).
    #[error("token is bound to a key by cnf.jkt, and was sent as Bearer, expected DPoP")]
    DpopTokenAsBearer,
    /// The DPoP proof is missing or not valid.
    #[error("DPoP proof refused: {0}")]
    DpopProof(String),
    /// The DPoP proof needs a new nonce.
    #[error("DPoP proof needs a new nonce: {0}")]
    DpopNonce(String),
    /// Bound by a member of `cnf` that is not supported.
    #[error("token bound by cnf.{0}, which is not checked here")]
    UnsupportedConfirmation(String),
    /// Bound to a certificate, and the request has none.
    #[error("token is bound to a certificate, and none was presented: {0}")]
    NoCertificate(String),
    /// Bound to another certificate.
    #[error("token is bound to another certificate")]
    CertificateMismatch,
    /// The certificate of the request is not trusted.
    #[error("certificate not trusted: {0}")]
    UntrustedCertificate(String),
}

impl TokenError {
    /// Whether the token is valid but not sufficient (RFC 6750 section 3.1: `insufficient_scope`,
    /// 403).
    pub fn is_forbidden(&self) -> bool {
        matches!(
            self,
            TokenError::Insufficient(_) | TokenError::NoConsumer(_)
        )
    }

    /// `error_description` for the client: a fixed text that reveals nothing about the certificate.
    pub fn description(&self) -> &'static str {
        match self {
            TokenError::Malformed(_) => "The access token is malformed",
            TokenError::Unacceptable(_)
            | TokenError::UnknownKey(_)
            | TokenError::WrongSignature => "The access token is not signed as it must be",
            TokenError::NotAccessToken(..) => "The token is not an access token",
            TokenError::Inactive => "The access token is not active",
            TokenError::InvalidClaim(_) | TokenError::WrongIssuer => {
                "The access token is not of the right issuer or lacks a claim"
            }
            TokenError::WrongAudience => "The access token is for another audience",
            TokenError::Expired(_) => "The access token expired",
            TokenError::NotYetValid(_) | TokenError::IssuedInFuture(_) => {
                "The access token is not valid yet"
            }
            TokenError::Insufficient(_) => "The access token lacks a required scope, group or role",
            TokenError::NoConsumer(_) => "The access token is of no consumer of this service",
            TokenError::MalformedKeyConfirmation
            | TokenError::NotKeyBound
            | TokenError::DpopTokenAsBearer => {
                "The access token must be bound to a key and sent with the scheme DPoP"
            }
            TokenError::DpopProof(_) => "The DPoP proof is missing or not valid",
            TokenError::DpopNonce(_) => "The DPoP proof needs a nonce of this server",
            TokenError::NotBound
            | TokenError::MalformedConfirmation
            | TokenError::UnsupportedConfirmation(_)
            | TokenError::NoCertificate(_)
            | TokenError::CertificateMismatch
            | TokenError::UntrustedCertificate(_) => {
                "The access token must be bound to the client certificate of the request"
            }
        }
    }
}
