//! The revocation status of one certificate, from OCSP or a CRL.

use openssl::error::{Error, ErrorStack};

/// Tolerated difference in seconds between the clock of a CA and that of this host.
pub(super) const CLOCK_SKEW: i64 = 300;

/// Seconds until the next query, when the period of a revoking response or CRL is over.
const STALE_RECHECK: i64 = 3600;

/// The revocation status of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationStatus {
    /// The issuer has not revoked the certificate.
    Good {
        /// nextUpdate, in seconds since the epoch: the status must not be cached any longer. It may
        /// be a few minutes in the past, because the clocks may differ.
        until: i64,
    },
    /// The issuer has revoked the certificate.
    Revoked {
        /// When to query again, in seconds since the epoch. The revocation does not end then.
        until: i64,
        /// The revocation date, in seconds since the epoch.
        since: Option<i64>,
        /// Name of the CRLReason (RFC 5280 section 5.3.1).
        reason: &'static str,
    },
    /// There is no valid response or CRL. Holds the reason.
    Unknown(String),
}

/// Checks that `now` lies between thisUpdate and nextUpdate.
pub(super) fn in_force(
    this_update: i64,
    next_update: i64,
    now: i64,
    skew: i64,
) -> Result<(), String> {
    if this_update > now.saturating_add(skew) {
        return Err(format!(
            "thisUpdate is {} s in the future",
            this_update.saturating_sub(now)
        ));
    }
    if next_update < this_update {
        return Err("nextUpdate is before thisUpdate".to_owned());
    }
    // The second of nextUpdate is too late, as in X509_verify_cert.
    if next_update <= now.saturating_sub(skew) {
        return Err(format!(
            "nextUpdate was {} s ago",
            now.saturating_sub(next_update)
        ));
    }
    Ok(())
}

/// When to query again after a revocation by a response or CRL with this nextUpdate. The revocation
/// stays valid afterwards, but a newer response or CRL may withdraw it.
pub(super) fn revoked_until(next_update: i64, now: i64) -> i64 {
    if next_update > now {
        next_update
    } else {
        now.saturating_add(STALE_RECHECK)
    }
}

/// Name of a CRLReason.
pub(super) fn reason_name(code: i64) -> &'static str {
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

/// OpenSSL's reason for a failed decoding. The first error of the queue is the cause.
pub(super) fn decoding_error(stack: &ErrorStack) -> String {
    openssl_reason(stack.errors().first())
}

/// OpenSSL's reason for a failed verification. The last error of the queue names the failed step.
pub(super) fn verification_error(stack: &ErrorStack) -> String {
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
    fn in_force_tolerates_the_clock_skew() {
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
    fn in_force_does_not_overflow() {
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
    fn reason_name_of_every_code() {
        let names: Vec<_> = (0..12).map(reason_name).collect();
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
