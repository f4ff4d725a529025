//! The revocation status of a trusted certificate. The engine names the sources, the caller fetches
//! them, and the engine evaluates the bytes.

mod answer_jobs;
mod evidence;
mod fetched_crls;
mod url_crls;

use std::rc::Rc;

use openssl::sha::Sha256;
use openssl::x509::{X509Ref, X509};

use super::verdict::TrustResult;
use super::Engine;
use crate::certificate::{name, signed_content, Certificate};
use crate::metrics::{self, Event};
use crate::policy::{Auth, RevocationMode, RevocationSettings};
use crate::text::hex;
use crate::trust::crl::CrlSummary;
use crate::trust::{chain_ids, ocsp, revocation_urls, ChainIds, RevocationStatus, Verdict};
use crate::Error;

pub(super) use answer_jobs::AnswerJobs;
pub use answer_jobs::AnswerRead;
pub(super) use evidence::Evidence;
use evidence::RevokingAnswer;
use fetched_crls::Fetched;
pub(super) use fetched_crls::FetchedCrls;
pub(super) use url_crls::{adopt_url_crls, UrlCrlJobs};
pub use url_crls::{CrlBody, CrlBytes, UrlCrlState};

/// `X509_V_ERR_CERT_REVOKED`.
const REVOKED: i32 = 23;
/// `X509_V_ERR_UNABLE_TO_GET_CRL`: there is no status from any source.
const NO_STATUS: i32 = 3;
/// Seconds after which the local CRLs are evaluated again when they gave no status.
const LOCAL_RETRY: i64 = 60;
/// Most seconds before the end of a status at which it is fetched again.
const MAX_REFRESH_AHEAD: i64 = 3600;
/// Seconds after which a status that was not fetched again is requested once more.
const REFRESH_RETRY: i64 = 5;
/// Most statuses that wait for being fetched again.
const MAX_REFRESHES: usize = 256;

/// The revocation status of a certificate without its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum RevocationState {
    /// No source returned a valid response.
    Unknown = 0,
    /// Not revoked.
    Good = 1,
    /// Revoked.
    Revoked = 2,
    /// The sources have not responded yet. A request waits no longer where an unknown status lets
    /// it in.
    Pending = 4,
}

impl RevocationState {
    /// The status with this number.
    pub fn from_number(number: i32) -> Option<RevocationState> {
        [
            RevocationState::Unknown,
            RevocationState::Good,
            RevocationState::Revoked,
            RevocationState::Pending,
        ]
        .into_iter()
        .find(|state| *state as i32 == number)
    }
}

/// A status that holds before `until`, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedStatus {
    /// The status.
    pub state: RevocationState,
    /// `X509_V_*` number with which it refuses.
    pub code: i32,
    /// Depth of the certificate that is revoked or has no status; 0 is the leaf.
    pub depth: u32,
    /// When it was evaluated, or the answer fetched: it is not used if the clock is set back before
    /// that.
    from: i64,
    /// First second at which it must be fetched again.
    pub until: i64,
    /// First second at which it should be fetched again, while it still holds.
    refresh_at: i64,
    /// nextUpdate of the answer, `i64::MAX` without one.
    pub next_update: i64,
    /// thisUpdate of the answer.
    pub this_update: i64,
    /// Whether it is a revocation for the reason certificateHold.
    pub hold: bool,
}

/// The age and size of a CRL that was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnsweringCrl {
    /// nextUpdate, in seconds since the epoch.
    pub next_update: Option<i64>,
    /// Number of entries.
    pub entries: usize,
}

/// The result of evaluating the bytes of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceResult {
    /// A definite status, which is cached, and the CRL that it is from.
    Status(CachedStatus, Option<AnsweringCrl>),
    /// A large CRL is being parsed. The caller must call again with the same bytes.
    Parsing,
}

/// A plan of the policy that was in force at an epoch. A reload during a fetch gives plan numbers
/// another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanRef {
    /// Number of the plan.
    pub plan: usize,
    /// [`Engine::epoch`] when the number was looked up.
    pub epoch: u64,
}

/// A source of revocation statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationSource {
    /// An OCSP responder, with the request as DER.
    Ocsp {
        /// http or https URL from the certificate.
        url: String,
        /// DER of the OCSPRequest, for POST.
        request: Vec<u8>,
    },
    /// A CRL distribution point.
    Crl {
        /// http or https URL from the certificate.
        url: String,
    },
}

/// Most issuers that are remembered as reported for their URLs.
const MAX_REPORTED: usize = 256;

/// Which local CRLs have expired since they were reported last, and the issuers whose certificates
/// name only URLs that cannot be used.
#[derive(Default)]
pub(super) struct CrlExpiryWatch {
    epoch: u64,
    reported_issuers: Vec<[u8; 32]>,
    /// The CRLs that expired by this second are reported.
    reported_until: i64,
    /// Warnings that are not reported yet.
    texts: Vec<String>,
}

impl CachedStatus {
    /// A status that is evaluated at `now`.
    fn new(state: RevocationState, now: i64, until: i64) -> CachedStatus {
        let code = match state {
            RevocationState::Unknown | RevocationState::Pending => NO_STATUS,
            RevocationState::Good => 0,
            RevocationState::Revoked => REVOKED,
        };
        CachedStatus {
            state,
            code,
            depth: 0,
            from: now,
            until,
            refresh_at: i64::MAX,
            next_update: until,
            this_update: now,
            hold: false,
        }
    }

    /// Makes it end at `until`, and be fetched again some time before.
    fn end_at(&mut self, until: i64) {
        self.until = until;
        let ahead = (until.saturating_sub(self.from) / 5).min(MAX_REFRESH_AHEAD);
        self.refresh_at = until.saturating_sub(ahead);
    }

    fn holds_at(&self, now: i64) -> bool {
        self.from <= now && now < self.until
    }
}

/// The key of a cached status. It depends on the verified chain, not on the certificates that the
/// client sent: a client must not evade a status by sending one more certificate, or its own in
/// another encoding.
fn status_key(chain: &ChainIds, revocation: &RevocationSettings) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(chain.status_key(revocation.crls.is_some()));
    hasher.update(&revocation.key);
    hasher.update(&revocation.ttl.to_be_bytes());
    hasher.finish()
}

/// [`status_key`] of a verified chain, leaf first.
fn chain_status_key(chain: &[X509], revocation: &RevocationSettings) -> Result<[u8; 32], Error> {
    match chain {
        [] => Err(Error::NotFound),
        chain => Ok(status_key(&chain_ids(chain)?, revocation)),
    }
}

/// The status by the local CRLs of the policy; `None` when they give none and the certificate names
/// sources.
pub(super) fn status_from_local_crls(
    auth: &Auth,
    certificate: &Certificate,
    now: i64,
) -> Result<Option<CachedStatus>, Error> {
    let (leaf, intermediates) = (certificate.leaf(), certificate.intermediates());
    let limit = now.saturating_add(auth.revocation.ttl);
    let mut unknown = CachedStatus::new(RevocationState::Unknown, now, limit);
    if auth.revocation.crls.is_none() && !has_source(leaf) {
        // The path, which costs as much as the verification, would decide nothing.
        return Ok(Some(unknown));
    }
    let store = auth.store_of(certificate).map_err(|_| Error::NotFound)?;
    let path = store.path(leaf, intermediates, now)?;
    if let Some(crls) = &auth.revocation.crls {
        let outcome = crls.check(&path, now);
        let until = outcome.until.clamp(now.saturating_add(1), limit);
        let status = |state| CachedStatus {
            code: outcome.code,
            depth: outcome.depth,
            ..CachedStatus::new(state, now, until)
        };
        match outcome.code {
            0 if !path.chain().is_empty() => return Ok(Some(status(RevocationState::Good))),
            // A revoked CA must not answer for its certificates, even if their CRL is missing.
            REVOKED => return Ok(Some(status(RevocationState::Revoked))),
            // Its sources may have a response before a local CRL comes into force.
            _ => unknown = status(RevocationState::Unknown),
        }
        unknown.until = until.min(now.saturating_add(LOCAL_RETRY));
    }
    let is_final = !has_source(leaf) || path.chain().len() < 2;
    Ok(is_final.then_some(unknown))
}

/// Whether a certificate names an OCSP responder or a CRL.
fn has_source(leaf: &X509Ref) -> bool {
    !revocation_urls::ocsp(leaf).is_empty() || !revocation_urls::crl(leaf).is_empty()
}

impl Engine {
    /// The revocation status of a certificate whose chain is verified. `plan_id` is the plan that
    /// `auth` is of, for a status that should be fetched again.
    pub(super) fn check_revocation_status(
        &self,
        auth: &Auth,
        plan_id: usize,
        certificate: &Rc<Certificate>,
        verdict: Verdict,
        now: i64,
    ) -> Result<TrustResult, Error> {
        let revocation = &auth.revocation;
        let strict = match revocation.mode {
            RevocationMode::Skip => {
                return Ok(TrustResult::Trusted {
                    until: verdict.until(),
                    verdict,
                });
            }
            RevocationMode::IgnoreCaError => false,
            RevocationMode::Strict => true,
        };
        let ids = verdict.ids().ok_or(Error::NotFound)?;
        let issuer = verdict.cas().first();
        let known = self.evidence.borrow_mut().find(*ids.leaf(), issuer, now);
        if let (Some(known), Some(issuer)) = (known, issuer) {
            metrics::count(Event::StatusHit);
            if known.is_refresh_due
                && self
                    .evidence
                    .borrow_mut()
                    .take_request(*ids.leaf(), issuer, now)
            {
                self.request_refresh(certificate, plan_id);
            }
            return Ok(TrustResult::Untrusted(Verdict::refused(REVOKED, 0, now)));
        }
        let key = status_key(ids, revocation);
        let cached = self
            .statuses
            .borrow_mut()
            .find(&key)
            .map(|(slot, status)| (slot, *status));
        let cached = cached.filter(|(_, status)| status.holds_at(now));
        metrics::count_look_up(cached.is_some(), Event::StatusHit, Event::StatusMiss);
        let mut end = i64::MAX;
        let status = match cached {
            Some((slot, status)) => {
                if status.refresh_at <= now {
                    // It is requested again when it is read again.
                    end = now.saturating_add(REFRESH_RETRY);
                    if let Some(kept) = self.statuses.borrow_mut().get_mut(slot) {
                        kept.refresh_at = end;
                    }
                    self.request_refresh(certificate, plan_id);
                } else {
                    end = status.refresh_at;
                }
                status
            }
            None => match status_from_local_crls(auth, certificate, now)? {
                Some(status) => {
                    if status.state == RevocationState::Unknown {
                        self.report_unusable_urls(certificate, issuer);
                    }
                    self.statuses.borrow_mut().insert(key, status);
                    status
                }
                None => return Ok(TrustResult::Pending),
            },
        };
        Ok(match status.state {
            RevocationState::Revoked => {
                TrustResult::Untrusted(Verdict::refused(status.code, status.depth, now))
            }
            // The status of a pinned certificate that names no source cannot be asked.
            RevocationState::Unknown
                if strict && (!verdict.is_pinned() || has_source(certificate.leaf())) =>
            {
                TrustResult::Untrusted(Verdict::refused(status.code, status.depth, now))
            }
            RevocationState::Pending if strict => TrustResult::Pending,
            RevocationState::Unknown | RevocationState::Pending | RevocationState::Good => {
                TrustResult::Trusted {
                    until: verdict.until().min(status.until).min(end),
                    verdict,
                }
            }
        })
    }

    fn request_refresh(&self, certificate: &Rc<Certificate>, plan: usize) {
        let mut refreshes = self.refreshes.borrow_mut();
        // A status that finds no room is requested again some seconds later.
        if refreshes.len() < MAX_REFRESHES {
            let at = PlanRef {
                plan,
                epoch: self.epoch(),
            };
            refreshes.push_back((certificate.clone(), at));
        }
    }

    /// A certificate whose status should be fetched again, while the one that is known serves.
    pub fn take_refresh(&self) -> Option<(Rc<Certificate>, PlanRef)> {
        let mut refreshes = self.refreshes.borrow_mut();
        loop {
            let (certificate, at) = refreshes.pop_front()?;
            if at.epoch == self.epoch() {
                return Some((certificate, at));
            }
        }
    }

    /// Forgets all statuses but the evidence of revocations.
    pub fn forget_statuses(&self) {
        self.statuses.borrow_mut().clear();
        self.refreshes.borrow_mut().clear();
        self.evidence.borrow_mut().invalidate_decisions();
    }

    /// RevocationSource number `index` for the status of a client on a plan, OCSP before
    /// CRL. `None` after the last.
    pub fn revocation_source(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        index: usize,
        now: i64,
    ) -> Result<Option<RevocationSource>, Error> {
        self.with_chain(certificate, at, now, |_, chain| {
            let (Some(leaf), Some(issuer)) = (chain.first(), chain.get(1)) else {
                return Ok(None);
            };
            let responders = revocation_urls::ocsp(leaf);
            if let Some(url) = responders.get(index) {
                let request = ocsp::request(leaf, issuer, false)?;
                return Ok(Some(RevocationSource::Ocsp {
                    url: url.clone(),
                    request,
                }));
            }
            let lists = revocation_urls::crl(leaf);
            Ok(lists
                .get(index - responders.len())
                .map(|url| RevocationSource::Crl { url: url.clone() }))
        })
    }

    /// Evaluates the response of a source, which was fetched at `fetched`. A definite status is
    /// cached and returned. A large CRL is parsed on another thread first.
    ///
    /// # Errors
    /// Why the bytes give no status, for the log.
    pub fn check_revocation_response(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        source: &RevocationSource,
        bytes: &[u8],
        fetched: i64,
        now: i64,
    ) -> Result<SourceResult, Error> {
        let answer = self.with_chain(certificate, at, now, |auth, chain| {
            let (Some(leaf), Some(issuer)) = (chain.first(), chain.get(1)) else {
                let why = "the chain has no issuer".to_owned();
                return Ok(Some((RevocationStatus::Unknown(why), i64::MIN, None)));
            };
            Ok(match source {
                RevocationSource::Ocsp { request, .. } => {
                    let (level, max_age) = (auth.store.auth_level(), auth.revocation.ocsp_max_age);
                    let dated =
                        ocsp::evaluate_dated(bytes, request, leaf, issuer, level, max_age, now);
                    Some((dated.status, dated.this_update, None))
                }
                RevocationSource::Crl { url } => {
                    let mut crls = self.fetched_crls.borrow_mut();
                    match crls.get(bytes, issuer, auth.revocation.max_crl_bytes) {
                        Ok(Fetched::Ready(crl)) => {
                            let status = crl.status_from(leaf, issuer, url, now);
                            let answering = AnsweringCrl {
                                next_update: crl.next_update(),
                                entries: crl.entry_count(),
                            };
                            Some((status, crl.this_update(), Some(answering)))
                        }
                        Ok(Fetched::Parsing) => None,
                        Err(why) => Some((RevocationStatus::Unknown(why), i64::MIN, None)),
                    }
                }
            })
        })?;
        let Some((answer, this_update, crl)) = answer else {
            return Ok(SourceResult::Parsing);
        };
        let status = match answer {
            RevocationStatus::Good { until } => {
                CachedStatus::new(RevocationState::Good, fetched.min(now), until)
            }
            RevocationStatus::Revoked { until, reason, .. } => CachedStatus {
                hold: reason == "certificateHold",
                ..CachedStatus::new(RevocationState::Revoked, fetched.min(now), until)
            },
            RevocationStatus::Unknown(why) => return Err(Error::Misuse(why)),
        };
        let status = CachedStatus {
            this_update,
            ..status
        };
        self.cache_status(certificate, at, status, now)
            .map(|status| SourceResult::Status(status, crl))
    }

    /// Caches a status for at most the time that the plan allows: that no source answered. Neither
    /// the evidence of a revocation nor a status that still holds is replaced by "unknown".
    /// Returns the status that counts.
    pub fn set_revocation_status(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        state: RevocationState,
        until: i64,
        now: i64,
    ) -> Result<CachedStatus, Error> {
        self.cache_status(certificate, at, CachedStatus::new(state, now, until), now)
    }

    fn cache_status(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        mut status: CachedStatus,
        now: i64,
    ) -> Result<CachedStatus, Error> {
        self.with_chain(certificate, at, now, |auth, chain| {
            let key = chain_status_key(chain, &auth.revocation)?;
            let ttl = auth.revocation.ttl;
            // A local CRL that takes effect or expires may change the status.
            let crls = auth.revocation.crls.as_ref();
            let change = crls.map_or(i64::MAX, |crls| crls.next_change(now));
            let limit = status.from.saturating_add(ttl).min(change);
            // An answer within the tolerated clock skew after nextUpdate holds for one second.
            status.end_at(status.until.min(limit).max(now.saturating_add(1)));
            if let [leaf, issuer, ..] = chain {
                let (leaf, issuer) = (
                    signed_content::tbs_sha256(leaf)?,
                    signed_content::ca_id(issuer)?,
                );
                let mut evidence = self.evidence.borrow_mut();
                match status.state {
                    RevocationState::Revoked => {
                        let answer = RevokingAnswer {
                            this_update: status.this_update,
                            until: status.until,
                            end: if status.hold {
                                status.next_update
                            } else {
                                i64::MAX
                            },
                        };
                        if evidence.add_revoked(leaf, issuer, answer, now) {
                            // It is not among the statuses, as it is the same under every policy.
                            return Ok(status);
                        }
                        return Err(Error::Misuse(
                            "revokes the certificate, and is older than another answer, by which \
                             it is good"
                                .to_owned(),
                        ));
                    }
                    RevocationState::Good => {
                        evidence.add_good(leaf, issuer, status.this_update, now);
                    }
                    RevocationState::Unknown | RevocationState::Pending => {}
                }
                if let Some(known) = evidence.find(leaf, Some(&issuer), now) {
                    // Not the status of this answer: it must not replace the one that revokes.
                    return Ok(CachedStatus {
                        this_update: i64::MIN,
                        ..CachedStatus::new(RevocationState::Revoked, now, known.until)
                    });
                }
            }
            if auth.revocation.crls.is_some() && status.state != RevocationState::Revoked {
                // A CRL of the policy that revokes may have come into use while the sources were
                // asked.
                let local = status_from_local_crls(auth, certificate, now)?;
                let is_revoked = |local: &CachedStatus| local.state == RevocationState::Revoked;
                if let Some(local) = local.filter(is_revoked) {
                    self.statuses.borrow_mut().insert(key, local);
                    return Ok(CachedStatus {
                        this_update: i64::MIN,
                        ..local
                    });
                }
            }
            if status.state == RevocationState::Good && limit <= now && status.from < now {
                // Fetched too long ago: the caller decides whether to use it nevertheless.
                status.until = limit;
                return Ok(status);
            }
            let mut statuses = self.statuses.borrow_mut();
            if status.state != RevocationState::Good {
                // Another request may have received a response in the meantime.
                let cached = statuses.find(&key).map(|(_, status)| *status);
                if let Some(cached) = cached.filter(|cached| cached.holds_at(now)) {
                    if cached.state == RevocationState::Good {
                        return Ok(cached);
                    }
                }
                // The sources are asked again by the caller, not ahead.
                status.refresh_at = i64::MAX;
            }
            statuses.insert(key, status);
            Ok(status)
        })
    }

    /// Identifies the CA that a certificate with a verified chain is of: 64 hexadecimal digits.
    pub fn revocation_issuer(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        now: i64,
    ) -> Result<String, Error> {
        self.with_chain(certificate, at, now, |_, chain| {
            let issuer = chain.get(1).or(chain.first()).ok_or(Error::NotFound)?;
            Ok(hex(&signed_content::ca_id(issuer)?))
        })
    }

    /// The key under which all workers share the status of this certificate on this plan.
    pub fn revocation_status_key(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        now: i64,
    ) -> Result<String, Error> {
        self.with_chain(certificate, at, now, |auth, chain| {
            Ok(hex(&chain_status_key(chain, &auth.revocation)?))
        })
    }

    /// CRL number `index` of those of the policy in force that are in use; `None` after the last.
    pub fn crl_in_use(&self, mut index: usize) -> Result<Option<CrlSummary>, Error> {
        for set in &self.policy()?.crls {
            if let Some(crl) = set.summary(index) {
                return Ok(Some(crl));
            }
            index = index.saturating_sub(set.count_in_use());
        }
        Ok(None)
    }

    /// Writes a warning about a local CRL that expired since the policy was compiled, or about an
    /// issuer whose certificates name no URL that can be used; one warning per call, and once each.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no other; an error of `write`, after which the next call
    /// writes the same warning.
    pub fn expired_crl(
        &self,
        now: i64,
        write: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (policy, epoch) = (self.policy()?, self.epoch());
        let mut watch = self.crl_expiry.borrow_mut();
        // After a clock that was ahead, CRLs that expire from now on must be reported.
        if watch.epoch != epoch || now < watch.reported_until {
            // The warnings of the policy have the CRLs that had expired by then.
            watch.epoch = epoch;
            watch.reported_until = policy.compiled_at.min(now);
        }
        let since = watch.reported_until;
        if now > since {
            let sets = policy.crls.iter();
            watch
                .texts
                .extend(sets.flat_map(|set| set.expired_since(since, now)));
            watch.texts.sort();
            watch.texts.dedup();
            watch.reported_until = now;
        }
        write(watch.texts.last().ok_or(Error::NotFound)?)?;
        watch.texts.pop();
        Ok(())
    }

    /// Adds a warning, once for each issuer, if the certificate names no source that can be used.
    fn report_unusable_urls(&self, certificate: &Certificate, issuer: Option<&[u8; 32]>) {
        let mut watch = self.crl_expiry.borrow_mut();
        let Some(issuer) = issuer.filter(|issuer| !watch.reported_issuers.contains(issuer)) else {
            return;
        };
        let leaf = certificate.leaf();
        let Some(url) = revocation_urls::unusable(leaf) else {
            return;
        };
        if watch.reported_issuers.len() >= MAX_REPORTED {
            watch.reported_issuers.clear();
        }
        watch.reported_issuers.push(*issuer);
        let name = name::rfc2253(leaf.issuer_name()).unwrap_or_default();
        watch.texts.push(format!(
            "certificates of '{name}' name no source of revocation statuses that can be used, \
             expected an http or https URL: '{url}'"
        ));
    }

    fn with_chain<T>(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        now: i64,
        read: impl FnOnce(&Auth, &[X509]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if at.epoch != self.epoch() {
            return Err(Error::NotFound);
        }
        let policy = self.policy()?;
        let plan = policy.plans.get(at.plan).ok_or(Error::NotFound)?;
        let auth = plan.auth.as_ref().ok_or(Error::NotFound)?;
        let store = auth.store_of(certificate).map_err(|_| Error::NotFound)?;
        let chain = store.chain(certificate.leaf(), certificate.intermediates(), now)?;
        read(auth, &chain)
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
