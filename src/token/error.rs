//! Why a token is refused: in detail for the log, in one sentence for the client.

/// Why a token is refused. `Display` is for the log only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this kind at all.
    #[error("token malformed: {0}")]
    Malformed(String),
    /// Signed in a way that is not accepted.
    #[error("token not acceptable: {0}")]
    Unacceptable(String),
    /// Signed by a key that the issuer does not have (any more).
    #[error("token signed by an unknown key: {0}")]
    UnknownKey(String),
    /// Made for something else than access: what says so, and what that says.
    #[error("token is no access token: its '{0}' is {1}")]
    NotAccessToken(&'static str, String),
    /// The signature does not fit.
    #[error("token signature is wrong")]
    WrongSignature,
    /// The introspection endpoint does not vouch for it.
    #[error("token is not active")]
    Inactive,
    /// A claim that must be there is not, or not of its type.
    #[error("token without a usable claim '{0}'")]
    InvalidClaim(&'static str),
    /// From somebody else.
    #[error("token of another issuer")]
    WrongIssuer,
    /// For somebody else.
    #[error("token for another audience")]
    WrongAudience,
    /// `exp` has passed.
    #[error("token expired at {0}")]
    Expired(i64),
    /// `nbf` is to come.
    #[error("token not valid before {0}")]
    NotYetValid(i64),
    /// `iat` is to come.
    #[error("token issued in the future, at {0}")]
    IssuedInFuture(i64),
    /// Does not allow enough.
    #[error("token lacks a required {0}")]
    Insufficient(&'static str),
    /// Not bound to a certificate, and must be.
    #[error("token without cnf.x5t#S256")]
    NotBound,
    /// `cnf` or its `x5t#S256` is not what RFC 8705 says.
    #[error("token with a malformed cnf.x5t#S256")]
    MalformedConfirmation,
    /// Bound in a way that is not checked here: the member of `cnf`.
    #[error("token bound by cnf.{0}, which is not checked here")]
    UnsupportedConfirmation(String),
    /// Bound to a certificate, but none came.
    #[error("token is bound to a certificate, and none was presented: {0}")]
    NoCertificate(String),
    /// Bound to another certificate.
    #[error("token is bound to another certificate")]
    CertificateMismatch,
    /// The certificate that came is not trusted.
    #[error("certificate not trusted: {0}")]
    UntrustedCertificate(String),
}

impl TokenError {
    /// Whether the token itself is good, but allows too little (RFC 6750 section 3.1: 403).
    pub fn is_forbidden(&self) -> bool {
        matches!(self, TokenError::Insufficient(_))
    }

    /// `error_description` for the client: a fixed text that tells nothing of the certificate.
    pub fn description(&self) -> &'static str {
        match self {
            TokenError::Malformed(_) => "The access token is malformed",
            TokenError::Unacceptable(_)
            | TokenError::UnknownKey(_)
            | TokenError::WrongSignature => "The access token is not signed as it must be",
            TokenError::NotAccessToken(..) => "The token is no access token",
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
