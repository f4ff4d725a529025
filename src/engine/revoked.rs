//! Certificates that their CA answered for as revoked.
//!
//! A status is remembered by everything that the answer depends on, options of the policy included.
//! That a CA revoked a certificate depends on none of them, so it is remembered apart: it holds on
//! every route and over a reload, and no older or unauthenticated answer replaces it before its end.

use crate::cache::Cache;

/// SHA-256 of a TBSCertificate, and the identity of its CA.
type Pair = ([u8; 32], [u8; 32]);

/// What is known of revoked certificates, bounded in number.
pub(super) struct RevokedCertificates {
    /// When it was found out, which a clock set back makes void, and the first second at which the
    /// sources must be asked again.
    known: Cache<Pair, (i64, i64)>,
    count: u64,
}

impl RevokedCertificates {
    /// An empty one of at most `capacity` certificates.
    pub(super) fn new(capacity: usize) -> RevokedCertificates {
        RevokedCertificates {
            known: Cache::new(capacity),
            count: 0,
        }
    }

    /// Counts the certificates found revoked: a decision that was made at another count is void.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Remembers that a certificate is revoked. An end that is known already is not brought forward.
    pub(super) fn add(&mut self, certificate: [u8; 32], issuer: [u8; 32], until: i64, now: i64) {
        let pair = (certificate, issuer);
        let known = self.until(certificate, Some(&issuer), now);
        if known.is_none() {
            self.count += 1;
        }
        let until = known.map_or(until, |known| known.max(until));
        self.known.insert(pair, (now, until));
    }

    /// The end of what is known of a certificate that is revoked at `now`.
    pub(super) fn until(
        &mut self,
        certificate: [u8; 32],
        issuer: Option<&[u8; 32]>,
        now: i64,
    ) -> Option<i64> {
        // Most workers never see one.
        if self.count == 0 {
            return None;
        }
        let (_, (from, until)) = self.known.find(&(certificate, *issuer?))?;
        (*from <= now && now < *until).then_some(*until)
    }
}
