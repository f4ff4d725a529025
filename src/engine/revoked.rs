//! The certificates that their CA revoked.
//!
//! A cached status depends on the settings of the policy, but a revocation by the CA does not. So
//! revoked certificates have a separate cache: an entry applies to every route and survives
//! a reload, and no older or unauthenticated answer replaces it before it ends.

use crate::cache::Cache;

/// SHA-256 of a TBSCertificate, and the identity of its CA.
type Pair = ([u8; 32], [u8; 32]);

/// A bounded cache of revoked certificates.
pub(super) struct RevokedCertificates {
    /// When the revocation was seen, which makes the entry invalid if the clock is set back
    /// before that, and the first second at which the status must be fetched again.
    entries: Cache<Pair, (i64, i64)>,
    count: u64,
}

impl RevokedCertificates {
    /// An empty cache of at most `capacity` certificates.
    pub(super) fn new(capacity: usize) -> RevokedCertificates {
        RevokedCertificates {
            entries: Cache::new(capacity),
            count: 0,
        }
    }

    /// Number of revoked certificates seen so far: a decision that was made at another count is
    /// not used.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Stores that a certificate is revoked. An entry never ends earlier than before.
    pub(super) fn add(&mut self, certificate: [u8; 32], issuer: [u8; 32], until: i64, now: i64) {
        let pair = (certificate, issuer);
        let earlier = self.until(certificate, Some(&issuer), now);
        if earlier.is_none() {
            self.count += 1;
        }
        let until = earlier.map_or(until, |earlier| earlier.max(until));
        self.entries.insert(pair, (now, until));
    }

    /// The end of the entry of a certificate that is revoked at `now`.
    pub(super) fn until(
        &mut self,
        certificate: [u8; 32],
        issuer: Option<&[u8; 32]>,
        now: i64,
    ) -> Option<i64> {
        // Most workers never see a revoked certificate.
        if self.count == 0 {
            return None;
        }
        let (_, (from, until)) = self.entries.find(&(certificate, *issuer?))?;
        (*from <= now && now < *until).then_some(*until)
    }
}
