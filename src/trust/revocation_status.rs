//! What OCSP or a CRL says about one certificate.

use openssl::error::{Error, ErrorStack};

/// Seconds by which the clocks of a CA and of this host may differ.
pub(super) const CLOCK_SKEW: i64 = 300;

/// Seconds after which a source is asked again when what it said had ended.
const STALE_RECHECK: i64 = 3600;

/// The status of one certificate. Only the first two are definite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationStatus {
    /// The issuer answers for the certificate and has not revoked it.
    Good {
        /// nextUpdate, in seconds since the epoch: the answer must not be kept any longer. It may
        /// lie a few minutes back, because the clocks may differ.
        until: i64,
    },
    /// The issuer has revoked the certificate.
    Revoked {
        /// When to ask again, in seconds since the epoch. The revocation does not end then.
        until: i64,
        /// When it was revoked, in seconds since the epoch.
        since: Option<i64>,
        /// Name of the CRLReason (RFC 5280 section 5.3.1).
        reason: &'static str,
    },
    /// Nothing that could be relied on; the text says why.
    Unknown(String),
}

/// Whether data of this period is in force at `now`.
pub(super) fn in_force(this: i64, next: i64, now: i64, skew: i64) -> Result<(), String> {
    if this > now.saturating_add(skew) {
        return Err(format!(
            "thisUpdate is {} s in the future",
            this.saturating_sub(now)
        ));
    }
    if next < this {
        return Err("nextUpdate is before thisUpdate".to_owned());
    }
    // nextUpdate itself is too late, as in X509_verify_cert.
    if next <= now.saturating_sub(skew) {
        return Err(format!("nextUpdate was {} s ago", now.saturating_sub(next)));
    }
    Ok(())
}

/// Until when a revocation by data that ends at `next` is kept. It counts afterwards too, but a
/// newer answer may take it back.
pub(super) fn revoked_until(next: i64, now: i64) -> i64 {
    if next > now {
        next
    } else {
        now.saturating_add(STALE_RECHECK)
    }
}

/// Name of a CRLReason.
pub(super) fn reason(code: i64) -> &'static str {
    match code {
        1 => "keyCompromise",
        2 => "cACompromise",
        3 => "affiliationChanged",
        4 => "superseded",
        5 => "cessationOfOperation",
        6 => "certificateHold",
        8 => "removeFromCRL",
        9 => "privilegeWithdrawn",
        10 => "aACompromise",
        _ => "unspecified",
    }
}

/// OpenSSL's reason for not reading something: the innermost one names the cause.
pub(super) fn unreadable(stack: &ErrorStack) -> String {
    openssl_reason(stack.errors().first())
}

/// OpenSSL's reason for not accepting something: the outermost one names the step.
pub(super) fn refusal(stack: &ErrorStack) -> String {
    openssl_reason(stack.errors().last())
}

fn openssl_reason(error: Option<&Error>) -> String {
    let reason = error.and_then(Error::reason).unwrap_or("unknown error");
    match error.and_then(Error::data) {
        Some(data) => format!("{reason}: {data}"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_force_ends_at_next_update_and_bears_the_skew() {
        let at = |now| in_force(1000, 2000, now, 300);
        assert_eq!(at(699), Err("thisUpdate is 301 s in the future".to_owned()));
        assert_eq!(at(700), Ok(()));
        assert_eq!(at(2299), Ok(()));
        assert_eq!(at(2300), Err("nextUpdate was 300 s ago".to_owned()));
        assert_eq!(
            in_force(2000, 1999, 2000, 300),
            Err("nextUpdate is before thisUpdate".to_owned())
        );
    }

    #[test]
    fn in_force_extreme_times_do_not_overflow() {
        assert_eq!(
            in_force(i64::MIN, i64::MIN, i64::MAX, 300),
            Err(format!("nextUpdate was {} s ago", i64::MAX))
        );
        assert_eq!(
            in_force(i64::MAX, i64::MAX, i64::MIN, 300),
            Err(format!("thisUpdate is {} s in the future", i64::MAX))
        );
    }

    #[test]
    fn reason_names_every_code() {
        let names: Vec<_> = (0..12).map(reason).collect();
        assert_eq!(
            names,
            [
                "unspecified",
                "keyCompromise",
                "cACompromise",
                "affiliationChanged",
                "superseded",
                "cessationOfOperation",
                "certificateHold",
                "unspecified",
                "removeFromCRL",
                "privilegeWithdrawn",
                "aACompromise",
                "unspecified"
            ]
        );
    }
}
