//! Why a token is refused: in detail for the log, in one sentence for the client.

/// Why a token is refused. `Display` is for the log only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
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
    OtherKind(&'static str, String),
    /// The signature does not fit.
    #[error("token signature is wrong")]
    Signature,
    /// The introspection endpoint does not vouch for it.
    #[error("token is not active")]
    Inactive,
    /// A claim that must be there is not, or not of its type.
    #[error("token without a usable claim '{0}'")]
    Claim(&'static str),
    /// From somebody else.
    #[error("token of another issuer")]
    Issuer,
    /// For somebody else.
    #[error("token for another audience")]
    Audience,
    /// `exp` has passed.
    #[error("token expired at {0}")]
    Expired(i64),
    /// `nbf` is to come.
    #[error("token not valid before {0}")]
    NotYet(i64),
    /// `iat` is to come.
    #[error("token issued in the future, at {0}")]
    IssuedLater(i64),
    /// Does not allow enough.
    #[error("token lacks a required {0}")]
    TooLittle(&'static str),
    /// Not bound to a certificate, and must be.
    #[error("token without cnf.x5t#S256")]
    Unbound,
    /// `cnf` or its `x5t#S256` is not what RFC 8705 says.
    #[error("token with a malformed cnf.x5t#S256")]
    BadBinding,
    /// Bound in a way that is not checked here: the member of `cnf`.
    #[error("token bound by cnf.{0}, which is not checked here")]
    OtherBinding(String),
    /// Bound to a certificate, but none came.
    #[error("token is bound to a certificate, and none was presented: {0}")]
    NoCertificate(String),
    /// Bound to another certificate.
    #[error("token is bound to another certificate")]
    OtherCertificate,
    /// The certificate that came is not trusted.
    #[error("certificate not trusted: {0}")]
    Untrusted(String),
}

impl Refusal {
    /// Whether the token itself is good, but allows too little (RFC 6750 section 3.1: 403).
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Refusal::TooLittle(_))
    }

    /// `error_description` for the client: a fixed text that tells nothing of the certificate.
    pub fn description(&self) -> &'static str {
        match self {
            Refusal::Malformed(_) => "The access token is malformed",
            Refusal::Unacceptable(_) | Refusal::UnknownKey(_) | Refusal::Signature => {
                "The access token is not signed as it must be"
            }
            Refusal::OtherKind(..) => "The token is no access token",
            Refusal::Inactive => "The access token is not active",
            Refusal::Claim(_) | Refusal::Issuer => {
                "The access token is not of the right issuer or lacks a claim"
            }
            Refusal::Audience => "The access token is for another audience",
            Refusal::Expired(_) => "The access token expired",
            Refusal::NotYet(_) | Refusal::IssuedLater(_) => "The access token is not valid yet",
            Refusal::TooLittle(_) => "The access token lacks a required scope, group or role",
            Refusal::Unbound
            | Refusal::BadBinding
            | Refusal::OtherBinding(_)
            | Refusal::NoCertificate(_)
            | Refusal::OtherCertificate
            | Refusal::Untrusted(_) => {
                "The access token must be bound to the client certificate of the request"
            }
        }
    }
}
