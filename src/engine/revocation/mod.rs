//! Whether a trusted certificate still counts. What the network says comes in as bytes: the engine
//! names the sources, the caller fetches, the engine judges.

use std::rc::Rc;

use openssl::sha::{sha256, Sha256};
use openssl::x509::X509;

use super::verdict::TrustResult;
use super::Engine;
use crate::certificate::{self, signed_content, Certificate};
use crate::metrics::{self, Event};
use crate::policy::{Auth, RevocationMode, RevocationSettings};
use crate::text::hex;
use crate::trust::crl::{Crl, CrlExpiry, MAX_FETCHED};
use crate::trust::{chain_ids, ocsp, revocation_urls, ChainIds, RevocationStatus, Verdict};
use crate::Error;

/// `X509_V_ERR_CERT_REVOKED`.
const REVOKED: i32 = 23;
/// `X509_V_ERR_UNABLE_TO_GET_CRL`: no status could be had.
const NO_STATUS: i32 = 3;
/// Seconds after which the policy's own CRLs are looked at again when they gave no answer.
const LOCAL_RETRY: i64 = 60;

/// What is known of the status of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum RevocationState {
    /// Its sources gave no answer.
    Unknown = 0,
    /// Not revoked.
    Good = 1,
    /// Revoked.
    Revoked = 2,
}

impl RevocationState {
    /// The state with this number.
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

/// A state that holds before `until`, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedStatus {
    /// The state.
    pub state: RevocationState,
    /// `X509_V_*` number of a refusal for it.
    pub code: i32,
    /// Depth of the certificate that a refusal is about; 0 is the leaf.
    pub depth: u32,
    /// When it was found out: a clock that is set back before that makes it void.
    from: i64,
    /// First second at which it must be asked for again.
    pub until: i64,
    /// Whether only a newer answer ends it, not the lack of one: a signed revocation without
    /// `certificateHold`.
    lasting: bool,
}

/// A plan of the policy that was in force at an epoch. Fetching takes time, and a plan number means
/// something else after a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanRef {
    /// Number of the plan.
    pub plan: usize,
    /// [`Engine::epoch`] when the number was looked up.
    pub epoch: u64,
}

/// Where a status may be had.
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

/// Which expired CRLs were reported.
#[derive(Default)]
pub(super) struct CrlExpiryWatch {
    epoch: u64,
    /// Those that expired by then were.
    seen: i64,
    /// Not reported yet.
    texts: Vec<String>,
}

impl CachedStatus {
    /// A state that is found out at `now`.
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

/// What a status is remembered under. The verified chain, not what the client sent: a client must
/// not get rid of an answer by sending one more certificate, or its own in another encoding.
fn status_id(chain: &ChainIds, revocation: &RevocationSettings) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(chain.status_key(revocation.crls.is_some()));
    hasher.update(&revocation.key);
    hasher.update(&revocation.ttl.to_be_bytes());
    hasher.finish()
}

/// The same for a verified chain, leaf first.
fn chain_id(chain: &[X509], revocation: &RevocationSettings) -> Result<[u8; 32], Error> {
    match chain {
        [] => Err(Error::NotFound),
        chain => Ok(status_id(&chain_ids(chain)?, revocation)),
    }
}

/// The status by the policy's own CRLs alone; `None` when they leave it open and the certificate
/// names sources.
fn status_from_local_crls(
    auth: &Auth,
    certificate: &Certificate,
    now: i64,
) -> Result<Option<CachedStatus>, Error> {
    let (leaf, intermediates) = (certificate.leaf(), certificate.intermediates());
    let limit = now.saturating_add(auth.revocation.ttl);
    let path = auth.store.path(leaf, intermediates, now)?;
    let mut unknown = CachedStatus::new(RevocationState::Unknown, now, limit);
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
            // A CA that is revoked must not answer for its clients, though a CRL may lack for these.
            REVOKED => return Ok(Some(status(RevocationState::Revoked))),
            // Its sources may have an answer before a CRL comes into force.
            _ => unknown = status(RevocationState::Unknown),
        }
        unknown.until = until.min(now.saturating_add(LOCAL_RETRY));
    }
    let sourceless =
        revocation_urls::ocsp(leaf).is_empty() && revocation_urls::crl(leaf).is_empty();
    let settled = sourceless || path.chain().len() < 2;
    Ok(settled.then_some(unknown))
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
        let key = status_id(ids, revocation);
        let known = self
            .statuses
            .borrow_mut()
            .find(&key)
            .map(|(_, status)| *status);
        let known = known.filter(|status| status.holds_at(now));
        metrics::count_look_up(known.is_some(), Event::StatusHit, Event::StatusMiss);
        let status = match known {
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
            RevocationState::Unknown if strict => {
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

    /// Judges what a source answered. `Ok` is a definite status, which is remembered.
    ///
    /// # Errors
    /// Why the bytes are no answer, for the log.
    pub fn check_revocation_response(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        source: &RevocationSource,
        bytes: &[u8],
        now: i64,
    ) -> Result<CachedStatus, Error> {
        let answer = self.with_chain(certificate, at, now, |auth, chain| {
            let (Some(leaf), Some(issuer)) = (chain.first(), chain.get(1)) else {
                return Ok(RevocationStatus::Unknown(
                    "the chain has no issuer".to_owned(),
                ));
            };
            Ok(match source {
                RevocationSource::Ocsp { request, .. } => {
                    ocsp::evaluate(bytes, request, leaf, issuer, auth.store.auth_level(), now)
                }
                RevocationSource::Crl { .. } => match self.crl(bytes, issuer) {
                    Ok(crl) => crl.status(leaf, issuer, now),
                    Err(why) => RevocationStatus::Unknown(why),
                },
            })
        })?;
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
    }

    /// Remembers a status that is known from elsewhere, for at most the time the plan allows. A
    /// certificate that is known as revoked stays so to the end of that time, whatever `state` is:
    /// an answer that arrives late may be older. Gives what is remembered.
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
            let key = chain_id(chain, &auth.revocation)?;
            let limit = now.saturating_add(auth.revocation.ttl);
            // A local CRL that comes into or goes out of force may revoke what a source calls good.
            let crls = auth.revocation.crls.as_ref();
            let limit = limit.min(crls.map_or(i64::MAX, |crls| crls.next_change(now)));
            // An answer within the clock skew after nextUpdate holds for this once.
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
            let known = statuses.find(&key).map(|(_, status)| *status);
            match (known, status.state) {
                // Another request got an answer meanwhile.
                (Some(known), RevocationState::Unknown)
                    if known.state != RevocationState::Unknown && known.holds_at(now) =>
                {
                    return Ok(known);
                }
                (Some(known), RevocationState::Unknown) if known.lasting => {
                    status = CachedStatus {
                        from: status.from,
                        until: status.until,
                        ..known
                    };
                }
                (Some(known), RevocationState::Revoked) => status.lasting |= known.lasting,
                _ => {}
            }
            statuses.insert(key, status);
            Ok(status)
        })
    }

    /// Name under which all workers share the status of this client on this plan.
    pub fn revocation_status_key(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        now: i64,
    ) -> Result<String, Error> {
        self.with_chain(certificate, at, now, |auth, chain| {
            Ok(hex(&chain_id(chain, &auth.revocation)?))
        })
    }

    /// Local CRL number `index` of the policy in force; `None` after the last.
    pub fn with_local_crl<T>(
        &self,
        index: usize,
        read: impl FnOnce(CrlExpiry<'_>) -> T,
    ) -> Result<Option<T>, Error> {
        let policy = self.policy()?;
        let mut lists = policy.crls.iter().flat_map(|set| set.expiries());
        Ok(lists.nth(index).map(read))
    }

    /// Passes on a warning of a local CRL that expired since the policy was compiled, of each once.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no other; those of `write`, after which the warning is
    /// passed on again.
    pub fn expired_crl(
        &self,
        now: i64,
        write: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (policy, epoch) = (self.policy()?, self.epoch());
        let mut watch = self.crl_expiry.borrow_mut();
        // A clock that was ahead must not hide what expires from now on.
        if watch.epoch != epoch || now < watch.seen {
            *watch = CrlExpiryWatch {
                epoch,
                // What had expired by then is a warning of the policy.
                seen: policy.compiled_at.min(now),
                texts: Vec::new(),
            };
        }
        let seen = watch.seen;
        if now > seen {
            let sets = policy.crls.iter();
            watch
                .texts
                .extend(sets.flat_map(|set| set.expired_since(seen, now)));
            watch.texts.sort();
            watch.texts.dedup();
            watch.seen = now;
        }
        write(watch.texts.last().ok_or(Error::NotFound)?)?;
        watch.texts.pop();
        Ok(())
    }

    /// A CRL, parsed and verified once per worker for the same bytes and issuer.
    fn crl(&self, bytes: &[u8], issuer: &X509) -> Result<Rc<Crl>, String> {
        let issuer_digest = certificate::sha256(issuer).map_err(|error| error.to_string())?;
        let key = sha256(&[sha256(bytes), issuer_digest].concat());
        if let Some((_, crl)) = self.crls.borrow_mut().find(&key) {
            return Ok(crl.clone());
        }
        let crl = Rc::new(Crl::load(bytes, issuer, MAX_FETCHED)?);
        self.crls.borrow_mut().insert(key, crl.clone());
        Ok(crl)
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
        let chain = auth
            .store
            .chain(certificate.leaf(), certificate.intermediates(), now)?;
        read(auth, &chain)
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
