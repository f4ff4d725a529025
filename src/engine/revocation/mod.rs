//! The revocation status of a trusted certificate. The engine names the sources, the caller fetches
//! them, and the engine evaluates the bytes.

mod fetched_crls;

use openssl::sha::Sha256;
use openssl::x509::{X509Ref, X509};

use super::verdict::TrustResult;
use super::Engine;
use crate::certificate::{signed_content, Certificate};
use crate::metrics::{self, Event};
use crate::policy::{Auth, RevocationMode, RevocationSettings};
use crate::text::hex;
use crate::trust::crl::{CrlExpiry, MAX_FETCHED};
use crate::trust::{chain_ids, ocsp, revocation_urls, ChainIds, RevocationStatus, Verdict};
use crate::Error;

use fetched_crls::Fetched;
pub(super) use fetched_crls::FetchedCrls;

/// `X509_V_ERR_CERT_REVOKED`.
const REVOKED: i32 = 23;
/// `X509_V_ERR_UNABLE_TO_GET_CRL`: there is no status from any source.
const NO_STATUS: i32 = 3;
/// Seconds after which the local CRLs are evaluated again when they gave no status.
const LOCAL_RETRY: i64 = 60;

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
}

impl RevocationState {
    /// The status with this number.
    pub fn from_number(number: i32) -> Option<RevocationState> {
        [
            RevocationState::Unknown,
            RevocationState::Good,
            RevocationState::Revoked,
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
    /// When it was evaluated: it is not used if the clock is set back before that.
    from: i64,
    /// First second at which it must be fetched again.
    pub until: i64,
    /// Whether it stays until a newer answer, also when no source answers: a signed revocation for
    /// another reason than `certificateHold`.
    lasting: bool,
}

/// The result of evaluating the bytes of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceResult {
    /// A definite status, which is cached.
    Status(CachedStatus),
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

/// Which local CRLs have expired since they were reported last.
#[derive(Default)]
pub(super) struct CrlExpiryWatch {
    epoch: u64,
    /// The CRLs that expired by this second are reported.
    reported_until: i64,
    /// Warnings that are not reported yet.
    texts: Vec<String>,
}

impl CachedStatus {
    /// A status that is evaluated at `now`.
    fn new(state: RevocationState, now: i64, until: i64) -> CachedStatus {
        let code = match state {
            RevocationState::Unknown => NO_STATUS,
            RevocationState::Good => 0,
            RevocationState::Revoked => REVOKED,
        };
        CachedStatus {
            state,
            code,
            depth: 0,
            from: now,
            until,
            lasting: false,
        }
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
fn status_from_local_crls(
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
    pub(super) fn check_revocation_status(
        &self,
        auth: &Auth,
        certificate: &Certificate,
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
        if self
            .revoked
            .borrow_mut()
            .until(*ids.leaf(), issuer, now)
            .is_some()
        {
            metrics::count(Event::StatusHit);
            return Ok(TrustResult::Untrusted(Verdict::refused(REVOKED, 0, now)));
        }
        let key = status_key(ids, revocation);
        let cached = self
            .statuses
            .borrow_mut()
            .find(&key)
            .map(|(_, status)| *status);
        let cached = cached.filter(|status| status.holds_at(now));
        metrics::count_look_up(cached.is_some(), Event::StatusHit, Event::StatusMiss);
        let status = match cached {
            Some(status) => status,
            None => match status_from_local_crls(auth, certificate, now)? {
                Some(status) => {
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
            RevocationState::Unknown | RevocationState::Good => TrustResult::Trusted {
                until: verdict.until().min(status.until),
                verdict,
            },
        })
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

    /// Evaluates the response of a source. A definite status is cached and returned. A large CRL is
    /// parsed on another thread first.
    ///
    /// # Errors
    /// Why the bytes give no status, for the log.
    pub fn check_revocation_response(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        source: &RevocationSource,
        bytes: &[u8],
        now: i64,
    ) -> Result<SourceResult, Error> {
        let answer = self.with_chain(certificate, at, now, |auth, chain| {
            let (Some(leaf), Some(issuer)) = (chain.first(), chain.get(1)) else {
                return Ok(Some(RevocationStatus::Unknown(
                    "the chain has no issuer".to_owned(),
                )));
            };
            Ok(match source {
                RevocationSource::Ocsp { request, .. } => Some(ocsp::evaluate(
                    bytes,
                    request,
                    leaf,
                    issuer,
                    auth.store.auth_level(),
                    now,
                )),
                RevocationSource::Crl { .. } => {
                    let mut crls = self.fetched_crls.borrow_mut();
                    match crls.get(bytes, issuer, MAX_FETCHED) {
                        Ok(Fetched::Ready(crl)) => Some(crl.status(leaf, issuer, now)),
                        Ok(Fetched::Parsing) => None,
                        Err(why) => Some(RevocationStatus::Unknown(why)),
                    }
                }
            })
        })?;
        let Some(answer) = answer else {
            return Ok(SourceResult::Parsing);
        };
        let status = match answer {
            RevocationStatus::Good { until } => {
                CachedStatus::new(RevocationState::Good, now, until)
            }
            RevocationStatus::Revoked { until, reason, .. } => CachedStatus {
                lasting: reason != "certificateHold",
                ..CachedStatus::new(RevocationState::Revoked, now, until)
            },
            RevocationStatus::Unknown(why) => return Err(Error::Misuse(why)),
        };
        self.cache_status(certificate, at, status, now)
            .map(SourceResult::Status)
    }

    /// Caches a status that another worker evaluated, or that no source answered, for at most the
    /// time that the plan allows. A revoked certificate stays revoked to the end of that time,
    /// whatever `state` is: a response that arrives late may be older. Returns the status that is
    /// cached.
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
            let limit = now.saturating_add(auth.revocation.ttl);
            // A local CRL that takes effect or expires may change the status.
            let crls = auth.revocation.crls.as_ref();
            let limit = limit.min(crls.map_or(i64::MAX, |crls| crls.next_change(now)));
            // An answer within the tolerated clock skew after nextUpdate holds for one second.
            status.until = status.until.min(limit).max(now.saturating_add(1));
            if let [leaf, issuer, ..] = chain {
                let (leaf, issuer) = (
                    signed_content::tbs_sha256(leaf)?,
                    signed_content::ca_id(issuer)?,
                );
                let mut revoked = self.revoked.borrow_mut();
                if status.state == RevocationState::Revoked {
                    revoked.add(leaf, issuer, status.until, now);
                } else if let Some(until) = revoked.until(leaf, Some(&issuer), now) {
                    return Ok(CachedStatus::new(RevocationState::Revoked, now, until));
                }
            }
            let mut statuses = self.statuses.borrow_mut();
            let cached = statuses.find(&key).map(|(_, status)| *status);
            match (cached, status.state) {
                // Another request received a response in the meantime.
                (Some(cached), RevocationState::Unknown)
                    if cached.state != RevocationState::Unknown && cached.holds_at(now) =>
                {
                    return Ok(cached);
                }
                (Some(cached), RevocationState::Unknown) if cached.lasting => {
                    status = CachedStatus {
                        from: status.from,
                        until: status.until,
                        ..cached
                    };
                }
                (Some(cached), RevocationState::Revoked) => status.lasting |= cached.lasting,
                _ => {}
            }
            statuses.insert(key, status);
            Ok(status)
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

    /// Reads local CRL number `index` of the policy in force; `None` after the last.
    pub fn with_local_crl<T>(
        &self,
        index: usize,
        read: impl FnOnce(CrlExpiry<'_>) -> T,
    ) -> Result<Option<T>, Error> {
        let policy = self.policy()?;
        let mut lists = policy.crls.iter().flat_map(|set| set.expiries());
        Ok(lists.nth(index).map(read))
    }

    /// Writes a warning about a local CRL that expired since the policy was compiled, one warning
    /// per call and CRL.
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
            *watch = CrlExpiryWatch {
                epoch,
                // The warnings of the policy have the CRLs that had expired by then.
                reported_until: policy.compiled_at.min(now),
                texts: Vec::new(),
            };
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
