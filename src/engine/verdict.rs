//! The verdict on a certificate: its chain, then its revocation status.

use std::rc::Rc;

use super::lists::{check_lists, ListResult};
use super::Engine;
use crate::certificate::Certificate;
use crate::connection::Connection;
use crate::metrics::{self, Event};
use crate::policy::{Auth, Lists};
use crate::trust::selector::CertificateSelectors;
use crate::trust::{ExtendedKeyUsage, TrustStore, Verdict};
use crate::Error;

/// The verdict on a denied certificate: `X509_V_ERR_CERT_REVOKED`.
pub(super) const DENIED: i32 = openssl_sys::X509_V_ERR_CERT_REVOKED;

/// Whether a route trusts a certificate.
pub(super) enum TrustResult {
    /// The route trusts it before `until`.
    Trusted { verdict: Verdict, until: i64 },
    /// The route does not trust it.
    Untrusted(Verdict),
    /// Its chain is valid, but the operator has denied it; the reason for the log. It counts as
    /// revoked, see [`DENIED`].
    Denied(String),
    /// This worker cannot decide; the reason for the log.
    Unavailable(String),
    /// The revocation status must be fetched first.
    Pending,
}

impl Engine {
    /// Verifies the chain of a certificate with [`Auth::store_of`] it, then the blocks and `lists`,
    /// then its revocation status. The plan that `auth` is of has a number.
    pub(super) fn check_trust(
        &self,
        connection: Option<&Connection>,
        (auth, plan_id): (&Auth, usize),
        store: &TrustStore,
        lists: Option<&Lists>,
        certificate: &Rc<Certificate>,
        now: i64,
    ) -> Result<TrustResult, Error> {
        let verdict = self.verdict(connection, store, certificate, now)?;
        if !verdict.is_success() {
            return Ok(TrustResult::Untrusted(verdict));
        }
        let selectors = CertificateSelectors::verified(certificate, verdict.alternate_sha256());
        if let Some(why) = self.find_block(&selectors, now)? {
            return Ok(TrustResult::Denied(why));
        }
        let mut listed_until = i64::MAX;
        if let Some(lists) = lists {
            match check_lists(lists, certificate, &selectors, now)? {
                ListResult::Passed { until } => listed_until = until,
                ListResult::Denied(why) => return Ok(TrustResult::Denied(why)),
                ListResult::Unavailable(why) => return Ok(TrustResult::Unavailable(why)),
            }
        }
        Ok(
            match self.check_revocation_status(auth, plan_id, certificate, verdict, now)? {
                TrustResult::Trusted { verdict, until } => TrustResult::Trusted {
                    verdict,
                    until: until.min(listed_until),
                },
                other => other,
            },
        )
    }

    /// Verifies the chain of a certificate, or takes the verdict from a cache. `connection` is the
    /// one on which the certificate was presented; `None` for a certificate from a header.
    pub(super) fn verdict(
        &self,
        connection: Option<&Connection>,
        store: &TrustStore,
        certificate: &Certificate,
        now: i64,
    ) -> Result<Verdict, Error> {
        let cached = connection.and_then(|connection| connection.verdict(store.verdict_key(), now));
        if let Some(verdict) = cached {
            return Ok(verdict);
        }
        let key = (*certificate.digests(), *store.verdict_key());
        let cached = self
            .verdicts
            .borrow_mut()
            .find(&key)
            .map(|(_, verdict)| verdict.clone());
        let verdict = match cached {
            Some(verdict) if verdict.holds_at(now) => {
                metrics::count(Event::VerdictHit);
                verdict
            }
            _ => {
                metrics::count(Event::VerdictMiss);
                let verdict = store.verify(certificate.leaf(), certificate.intermediates(), now)?;
                if verdict.is_success() {
                    metrics::count(ExtendedKeyUsage::of(certificate.leaf()).event());
                    self.spool_certificate(certificate, verdict.cas());
                }
                self.verdicts.borrow_mut().insert(key, verdict.clone());
                verdict
            }
        };
        if let Some(connection) = connection {
            connection.cache_verdict(*store.verdict_key(), verdict.clone());
        }
        Ok(verdict)
    }
}
