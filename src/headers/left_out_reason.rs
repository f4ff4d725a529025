//! Why a header is not there although there is something to say.

use crate::certificate::name::Unprintable;
use crate::Error;

/// A value that is left out, never shortened or mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOutReason {
    /// Longer than the limit.
    #[error("{bytes} bytes are over the limit of {limit}")]
    TooLarge {
        /// Length of the value.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
    /// More headers of one kind than there are names for.
    #[error("{count} values are over the limit of {limit}")]
    TooMany {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Readers of the dialect would read something else.
    #[error("{0}")]
    Ambiguous(String),
    /// Bytes that no reader of the dialect gets as they are: control characters, spaces at the
    /// ends, 8-bit characters where the dialect is ASCII.
    #[error("{0}")]
    NotText(&'static str),
    /// The certificate cannot be read that far.
    #[error("{0}")]
    Unreadable(String),
}

impl LeftOutReason {
    /// One word, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            LeftOutReason::TooLarge { .. } | LeftOutReason::TooMany { .. } => "too_large",
            LeftOutReason::Ambiguous(_) => "ambiguous",
            LeftOutReason::NotText(_) => "not_text",
            LeftOutReason::Unreadable(_) => "unreadable",
        }
    }

    /// Whether only its size stands against the value.
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
