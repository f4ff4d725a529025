//! Why a header is left out although the certificate has a value for it.

use crate::certificate::name::Unprintable;
use crate::Error;

/// The reason why a header is left out. Its value is never shortened or repaired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOutReason {
    /// Longer than the limit.
    #[error("{bytes} bytes are over the limit of {limit}")]
    TooLarge {
        /// Length of the value.
        bytes: usize,
        /// Longest permitted value.
        limit: usize,
    },
    /// More values than a numbered header has names.
    #[error("{count} values are over the limit of {limit}")]
    TooMany {
        /// Number of values.
        count: usize,
        /// Most values.
        limit: usize,
    },
    /// Readers of the dialect would parse it as something else.
    #[error("{0}")]
    Ambiguous(String),
    /// Bytes that do not reach readers of the dialect unchanged: control characters, spaces at the
    /// ends, 8-bit characters where the dialect is ASCII.
    #[error("{0}")]
    NotText(&'static str),
    /// This part of the certificate cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl LeftOutReason {
    /// The label `reason` of the metric `headers_left_out_total`.
    pub fn kind(&self) -> &'static str {
        match self {
            LeftOutReason::TooLarge { .. } | LeftOutReason::TooMany { .. } => "too_large",
            LeftOutReason::Ambiguous(_) => "ambiguous",
            LeftOutReason::NotText(_) => "not_text",
            LeftOutReason::Unreadable(_) => "unreadable",
        }
    }

    /// Whether the value is left out only because of its size.
    pub fn is_too_large(&self) -> bool {
        matches!(
            self,
            LeftOutReason::TooLarge { .. } | LeftOutReason::TooMany { .. }
        )
    }
}

impl From<Error> for LeftOutReason {
    fn from(error: Error) -> LeftOutReason {
        LeftOutReason::Unreadable(error.to_string())
    }
}

impl From<openssl::error::ErrorStack> for LeftOutReason {
    fn from(error: openssl::error::ErrorStack) -> LeftOutReason {
        Error::from(error).into()
    }
}

impl From<Unprintable> for LeftOutReason {
    fn from(error: Unprintable) -> LeftOutReason {
        match error {
            Unprintable::NotText => LeftOutReason::Unreadable(error.to_string()),
            Unprintable::Ambiguous(_) | Unprintable::Repeated(_) | Unprintable::MultiValued(_) => {
                LeftOutReason::Ambiguous(error.to_string())
            }
        }
    }
}
