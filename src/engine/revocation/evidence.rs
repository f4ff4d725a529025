//! Evidence of revocation: the signed answers by which CAs revoked certificates.
//!
//! A cached status depends on the settings of the policy, but a revocation by the CA does not. So
//! the evidence is separate: an entry applies to every route, survives a reload, and stays until
//! the CA signs a newer answer, also after its nextUpdate. Only a certificate that is on hold is
//! revoked no longer than its answer is in force.

use crate::cache::Cache;

/// SHA-256 of a TBSCertificate, and the identity of its CA.
type Pair = ([u8; 32], [u8; 32]);

/// Seconds after which another request for a newer answer is made.
const RETRY: i64 = 5;

struct Entry {
    /// thisUpdate of the newest answer.
    this_update: i64,
    /// The first second at which the sources should be asked again.
    until: i64,
    /// The first second at which it does not count any more; `i64::MAX` but for a certificate on
    /// hold.
    end: i64,
    /// Whether the newest answer is "good". The entry stays, so that the older answer, which a
    /// source may still give, does not count again.
    withdrawn: bool,
    /// When a newer answer was requested last.
    requested: i64,
}

/// A revocation that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Revocation {
    /// Whether the sources should be asked for a newer answer.
    pub is_refresh_due: bool,
    /// The first second at which they should be asked.
    pub until: i64,
}

/// A signed answer that revokes.
#[derive(Clone, Copy, Debug)]
pub(super) struct RevokingAnswer {
    /// thisUpdate.
    pub this_update: i64,
    /// The first second at which the sources should be asked again.
    pub until: i64,
    /// The first second at which it does not count any more: its nextUpdate where the reason is
    /// certificateHold, else `i64::MAX`.
    pub end: i64,
}

/// A bounded cache of the evidence about certificates.
pub(in crate::engine) struct Evidence {
    entries: Cache<Pair, Entry>,
    changes: u64,
    any: bool,
}

impl Evidence {
    /// An empty cache for at most `capacity` certificates.
    pub(in crate::engine) fn new(capacity: usize) -> Evidence {
        Evidence {
            entries: Cache::new(capacity),
            changes: 0,
            any: false,
        }
    }

    /// Number of changes so far: a decision that was made at another number is not used.
    pub(in crate::engine) fn changes(&self) -> u64 {
        self.changes
    }

    /// Makes all decisions invalid that were made before.
    pub(in crate::engine) fn invalidate_decisions(&mut self) {
        self.changes += 1;
    }

    /// Stores that the CA has revoked a certificate. Returns whether that counts: not if a newer
    /// answer is "good".
    pub(super) fn add_revoked(
        &mut self,
        certificate: [u8; 32],
        issuer: [u8; 32],
        answer: RevokingAnswer,
        now: i64,
    ) -> bool {
        // An answer that is dated in the future must not outrank one that the CA signs until then.
        let this_update = answer.this_update.min(now);
        let pair = (certificate, issuer);
        let mut entry = Entry {
            this_update,
            until: answer.until,
            end: answer.end,
            withdrawn: false,
            requested: i64::MIN,
        };
        if let Some((_, known)) = self.entries.find(&pair) {
            if known.withdrawn && this_update < known.this_update {
                return false;
            }
            if !known.withdrawn {
                entry.end = entry.end.max(known.end);
                entry.this_update = entry.this_update.max(known.this_update);
                entry.until = entry.until.max(known.until);
                entry.requested = known.requested;
            }
        }
        let counted = self.find(certificate, Some(&issuer), now).is_some();
        self.entries.insert(pair, entry);
        self.any = true;
        if !counted {
            self.changes += 1;
        }
        true
    }

    /// Takes note of an answer "good". Returns whether it counts: not if the evidence of a
    /// revocation is as new.
    pub(super) fn add_good(
        &mut self,
        certificate: [u8; 32],
        issuer: [u8; 32],
        this_update: i64,
        now: i64,
    ) -> bool {
        let this_update = this_update.min(now);
        if self.find(certificate, Some(&issuer), now).is_none() {
            // There is nothing, a hold that has ended, or a revocation that is withdrawn.
            return true;
        }
        let Some((slot, _)) = self.entries.find(&(certificate, issuer)) else {
            return true;
        };
        let Some(entry) = self.entries.get_mut(slot) else {
            return true;
        };
        if this_update <= entry.this_update {
            return false;
        }
        entry.this_update = this_update;
        entry.withdrawn = true;
        self.changes += 1;
        true
    }

    /// The revocation of a certificate, if it counts at `now`.
    pub(super) fn find(
        &mut self,
        certificate: [u8; 32],
        issuer: Option<&[u8; 32]>,
        now: i64,
    ) -> Option<Revocation> {
        // Most workers never see a revoked certificate.
        if !self.any {
            return None;
        }
        let (_, entry) = self.entries.find(&(certificate, *issuer?))?;
        let counts = !entry.withdrawn && now < entry.end;
        counts.then_some(Revocation {
            is_refresh_due: entry.until <= now,
            until: entry.until,
        })
    }

    /// Whether a newer answer should be requested now; then it is not for some seconds.
    pub(super) fn take_request(
        &mut self,
        certificate: [u8; 32],
        issuer: &[u8; 32],
        now: i64,
    ) -> bool {
        let Some((slot, _)) = self.entries.find(&(certificate, *issuer)) else {
            return false;
        };
        let Some(entry) = self.entries.get_mut(slot) else {
            return false;
        };
        let is_due = entry.requested > now || entry.requested <= now.saturating_sub(RETRY);
        if is_due {
            entry.requested = now;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: [u8; 32] = [1; 32];
    const CA: [u8; 32] = [2; 32];

    fn answer(this_update: i64, until: i64, hold: bool) -> RevokingAnswer {
        RevokingAnswer {
            this_update,
            until,
            end: if hold { until } else { i64::MAX },
        }
    }

    fn counts(evidence: &mut Evidence, now: i64) -> bool {
        evidence.find(CERTIFICATE, Some(&CA), now).is_some()
    }

    #[test]
    fn a_revocation_counts_until_a_newer_answer_is_good() {
        let mut evidence = Evidence::new(4);
        assert!(!counts(&mut evidence, 100));
        assert!(evidence.add_good(CERTIFICATE, CA, 90, 100));
        assert!(evidence.add_revoked(CERTIFICATE, CA, answer(95, 200, false), 100));
        assert_eq!(evidence.changes(), 1);
        for now in [0, 100, 200, i64::MAX - 1] {
            assert!(counts(&mut evidence, now), "{now}");
        }
        let other = evidence.find(CERTIFICATE, Some(&[3; 32]), 100);
        assert_eq!(other, None);
        // An older answer, and one that is as new.
        for this_update in [94, 95] {
            assert!(!evidence.add_good(CERTIFICATE, CA, this_update, 300));
            assert!(counts(&mut evidence, 300));
        }
        assert!(evidence.add_good(CERTIFICATE, CA, 96, 300));
        assert!(!counts(&mut evidence, 300));
        assert_eq!(evidence.changes(), 2);
        // The same revocation again, which is older than "good".
        assert!(!evidence.add_revoked(CERTIFICATE, CA, answer(95, 200, false), 300));
        assert!(!counts(&mut evidence, 300));
        assert!(evidence.add_revoked(CERTIFICATE, CA, answer(97, 400, false), 300));
        assert!(counts(&mut evidence, 300));
    }

    #[test]
    fn a_hold_counts_while_its_answer_is_in_force() {
        let mut evidence = Evidence::new(4);
        evidence.add_revoked(CERTIFICATE, CA, answer(95, 200, true), 100);
        assert!(counts(&mut evidence, 199));
        assert!(!counts(&mut evidence, 200));
        assert!(evidence.add_good(CERTIFICATE, CA, 90, 200));
        // It becomes a revocation for good, and an older hold does not change that.
        evidence.add_revoked(CERTIFICATE, CA, answer(96, 150, false), 100);
        evidence.add_revoked(CERTIFICATE, CA, answer(95, 200, true), 100);
        assert!(counts(&mut evidence, 300));
    }

    #[test]
    fn an_answer_that_is_dated_in_the_future_does_not_outrank_later_ones() {
        let mut evidence = Evidence::new(4);
        evidence.add_revoked(CERTIFICATE, CA, answer(10_000, 20_000, false), 100);
        assert!(!evidence.add_good(CERTIFICATE, CA, 10_000, 100));
        assert!(evidence.add_good(CERTIFICATE, CA, 101, 101));
        assert!(!counts(&mut evidence, 101));
    }

    #[test]
    fn a_newer_answer_is_requested_at_most_every_five_seconds() {
        let mut evidence = Evidence::new(4);
        evidence.add_revoked(CERTIFICATE, CA, answer(95, 200, false), 100);
        let due = |evidence: &mut Evidence, now| {
            let found = evidence.find(CERTIFICATE, Some(&CA), now);
            found.unwrap().is_refresh_due
        };
        assert!(!due(&mut evidence, 199));
        assert!(due(&mut evidence, 200));
        let mut take = |now| evidence.take_request(CERTIFICATE, &CA, now);
        assert_eq!(
            [take(200), take(204), take(205), take(199)],
            [true, false, true, true]
        );
    }
}
