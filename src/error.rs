//! The one error type of the engine. Each text is written here once.

use openssl::error::ErrorStack;

/// What the C ABI answers; `0` is success, positive an answer, negative a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// Nothing of that name.
    NotFound = 1,
    /// The caller's buffer holds fewer bytes than the answer has.
    TooSmall = 2,
    /// A value exists but must not be written into a header.
    LeftOut = 3,
    /// A required pointer was NULL.
    NullArgument = -1,
    /// The input is not what the function takes.
    Invalid = -2,
    /// A bug of this library, caught before it could reach the host.
    Panic = -3,
    /// OpenSSL refused an operation that should have worked.
    OpenSsl = -4,
    /// The host process carries another OpenSSL than the one this library is bound to.
    Host = -5,
}

/// Everything that can go wrong in the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing of that name.
    #[error("not found")]
    NotFound,
    /// The caller's buffer is too small; its `len` says what is needed.
    #[error("buffer too small")]
    TooSmall,
    /// A pointer that must not be NULL is NULL.
    #[error("NULL argument")]
    NullArgument,
    /// The text holds no `-----BEGIN CERTIFICATE-----` block.
    #[error("no certificate found, expected one PEM block '-----BEGIN CERTIFICATE-----'")]
    NoCertificate,
    /// A CA entity holds several certificates.
    #[error("{0} certificates found, expected exactly one; give each CA an entry of its own")]
    SeveralCertificates(usize),
    /// The bytes are no X.509 certificate.
    #[error("not a readable X.509 certificate: {0}")]
    BadCertificate(String),
    /// The certificate lacks `CA:TRUE`.
    #[error(
        "certificate '{0}' is not a CA: expected the basic constraint CA:TRUE, and keyCertSign if it has \
         a key usage"
    )]
    NotCa(String),
    /// The certificate input is over the limit.
    #[error("certificate input of {0} bytes is over the limit of {1}")]
    CertificateTooLarge(usize, usize),
    /// A header that is to carry a certificate does not, or not exactly one.
    #[error("certificate header refused: {0}")]
    CertificateHeader(String),
    /// A value of a certificate cannot be a header value.
    #[error("{name} left out: {why}")]
    HeaderLeftOut {
        /// Name of the header.
        name: String,
        /// The reason.
        why: String,
    },
    /// A server name or pattern that cannot be one.
    #[error("{0}")]
    ServerName(String),
    /// A policy with errors, one diagnostic a line.
    #[error("{0}")]
    Policy(String),
    /// The caller broke a rule of the API.
    #[error("{0}")]
    Misuse(String),
    /// OpenSSL's own words.
    #[error("OpenSSL: {0}")]
    OpenSsl(String),
    /// The wrong libssl.
    #[error("{0}")]
    Host(String),
    /// A bug of this library.
    #[error("internal error")]
    Panic,
}

impl Error {
    /// The status of the C ABI for this error.
    pub fn code(&self) -> Code {
        match self {
            Error::NotFound => Code::NotFound,
            Error::TooSmall => Code::TooSmall,
            Error::HeaderLeftOut { .. } => Code::LeftOut,
            Error::NullArgument => Code::NullArgument,
            Error::NoCertificate
            | Error::SeveralCertificates(_)
            | Error::BadCertificate(_)
            | Error::NotCa(_)
            | Error::CertificateTooLarge(..)
            | Error::CertificateHeader(_)
            | Error::ServerName(_)
            | Error::Policy(_)
            | Error::Misuse(_) => Code::Invalid,
            Error::OpenSsl(_) => Code::OpenSsl,
            Error::Host(_) => Code::Host,
            Error::Panic => Code::Panic,
        }
    }
}

impl From<ErrorStack> for Error {
    fn from(stack: ErrorStack) -> Self {
        match stack.errors().first() {
            Some(error) => Error::OpenSsl(error.reason().unwrap_or("unknown error").to_owned()),
            None => Error::OpenSsl("unknown error".to_owned()),
        }
    }
}
