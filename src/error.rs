//! The error type of the library, and the status of the C ABI for each error.

use openssl::error::ErrorStack;

/// Status of the C ABI other than `0` for success. A positive one is a result that callers must
/// handle, a negative one a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// The object does not exist.
    NotFound = 1,
    /// The caller's buffer is smaller than the result.
    TooSmall = 2,
    /// A value exists but must not be written into a header.
    LeftOut = 3,
    /// A required pointer was NULL.
    NullArgument = -1,
    /// The function does not accept the input.
    Invalid = -2,
    /// The library panicked. The panic was caught at the C ABI.
    Panic = -3,
    /// OpenSSL reported an error.
    OpenSsl = -4,
    /// The process uses another OpenSSL than the one that this library is linked to.
    Host = -5,
    /// A name in the arguments is none of those that exist.
    UnknownName = -6,
}

/// Everything that can go wrong in the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The object does not exist.
    #[error("not found")]
    NotFound,
    /// The caller's buffer is too small. Its `len` was set to the length of the result.
    #[error("buffer too small")]
    TooSmall,
    /// A required pointer is NULL.
    #[error("NULL argument")]
    NullArgument,
    /// The text holds no `-----BEGIN CERTIFICATE-----` block.
    #[error("no certificate found, expected one PEM block '-----BEGIN CERTIFICATE-----'")]
    NoCertificate,
    /// An entity of `ca_certificates` holds several certificates.
    #[error("{0} certificates found, expected exactly one; give each CA an entry of its own")]
    SeveralCertificates(usize),
    /// The bytes are not an X.509 certificate. Holds the reason.
    #[error("not a readable X.509 certificate: {0}")]
    BadCertificate(String),
    /// The certificate lacks `CA:TRUE`. Holds its subject.
    #[error(
        "certificate '{0}' is not a CA: expected the basic constraint CA:TRUE, and keyCertSign if it has \
         a key usage"
    )]
    NotCa(String),
    /// The certificate input is longer than the limit. Holds its length and the limit.
    #[error("certificate input of {0} bytes is over the limit of {1}")]
    CertificateTooLarge(usize, usize),
    /// A certificate header does not hold exactly one certificate. Holds the reason.
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
    /// Text is not a server name or a pattern of server names. Holds the message.
    #[error("{0}")]
    ServerName(String),
    /// A policy has errors. Holds one diagnostic a line.
    #[error("{0}")]
    Policy(String),
    /// The caller broke a rule of the API. Holds the message.
    #[error("{0}")]
    Misuse(String),
    /// A name in the arguments, such as that of a format, is none of those that exist. Holds the
    /// message.
    #[error("{0}")]
    UnknownName(String),
    /// OpenSSL reported an error. Holds its reason.
    #[error("OpenSSL: {0}")]
    OpenSsl(String),
    /// The process uses another OpenSSL. Holds the message.
    #[error("{0}")]
    Host(String),
    /// The library panicked.
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
            Error::UnknownName(_) => Code::UnknownName,
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
