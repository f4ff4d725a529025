//! What was decided about a presented chain, and until when that holds.

use std::rc::Rc;

use openssl::stack::StackRef;
use openssl::x509::{X509VerifyResult, X509};

use crate::certificate;
use crate::openssl_ext::x509::verify_error_string;

/// Seconds for which a refusal is remembered: long enough to blunt a flood of bad handshakes,
/// short enough that a repaired clock or CA is noticed.
const REFUSAL_TTL: i64 = 5;

/// `X509_V_ERR_UNSPECIFIED`: stands in where OpenSSL refused without saying why.
const UNSPECIFIED: i32 = 1;

/// Verdict of one trust store on one chain. Holds for `from <= now < until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `X509_V_OK` (0) or an `X509_V_ERR_*` number.
    code: i32,
    depth: u32,
    from: i64,
    until: i64,
    /// SHA-256 of each certificate of the verified chain above the leaf, up to the anchor.
    cas: Rc<[[u8; 32]]>,
}

impl Verdict {
    pub(super) fn success(chain: &StackRef<X509>, now: i64) -> Verdict {
        let (mut from, mut until) = (i64::MIN, i64::MAX);
        let cas = chain
            .iter()
            .skip(1)
            .filter_map(|ca| certificate::sha256(ca).ok())
            .collect();
        for certificate in chain {
            match (
                certificate::epoch(certificate.not_before()),
                certificate::epoch(certificate.not_after()),
            ) {
                (Ok(not_before), Ok(not_after)) => {
                    from = from.max(not_before);
                    // OpenSSL takes a certificate for expired at notAfter itself.
                    until = until.min(not_after);
                }
                // OpenSSL read these times a moment ago; if we cannot, remember nothing.
                _ => until = now,
            }
        }
        Verdict {
            code: 0,
            depth: 0,
            from,
            until,
            cas,
        }
    }

    pub(super) fn failed(result: X509VerifyResult, depth: u32, now: i64) -> Verdict {
        Verdict::refused(result.as_raw(), depth, now)
    }

    /// A refusal for the reason of an `X509_V_ERR_*` number.
    pub(crate) fn refused(code: i32, depth: u32, now: i64) -> Verdict {
        Verdict {
            // A chain that is refused must never read as X509_V_OK.
            code: if code == 0 { UNSPECIFIED } else { code },
            depth,
            from: now,
            until: now.saturating_add(REFUSAL_TTL),
            cas: Rc::default(),
        }
    }

    /// SHA-256 of each certificate of the verified chain above the leaf, up to the anchor; empty
    /// for a refusal.
    pub fn cas(&self) -> &[[u8; 32]] {
        &self.cas
    }

    /// Whether the chain is trusted.
    pub fn is_success(&self) -> bool {
        self.code == 0
    }

    /// `X509_V_OK` (0) or the `X509_V_ERR_*` number.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// Depth of the certificate the refusal is about; 0 is the leaf.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether the verdict may still be used at `now`.
    pub fn holds_at(&self, now: i64) -> bool {
        self.from <= now && now < self.until
    }

    /// First second at which the verdict must not be used any more.
    pub fn until(&self) -> i64 {
        self.until
    }

    /// First second at which the verdict may be used.
    pub fn from(&self) -> i64 {
        self.from
    }

    /// `SUCCESS` or `FAILED:<reason>`, as nginx's `$ssl_client_verify`.
    pub fn text(&self) -> String {
        text(self.code).concat()
    }
}

/// [`Verdict::text`] for an `X509_V_*` number, in two parts that follow each other.
pub fn text(code: i32) -> [&'static str; 2] {
    match code {
        0 => ["SUCCESS", ""],
        code => ["FAILED:", verify_error_string(code)],
    }
}
