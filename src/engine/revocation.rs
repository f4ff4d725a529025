//! Whether a trusted certificate still counts. What the network says comes in as bytes: the engine
//! names the sources, the caller fetches, the engine judges.

use std::rc::Rc;

use openssl::sha::{sha256, Sha256};
use openssl::x509::X509;

use super::{Engine, Trust};
use crate::certificate::{self, Certificate};
use crate::metrics::{self, Event};
use crate::policy::{Auth, Revocation, RevocationMode};
use crate::trust::crl::{Crl, MAX_FETCHED};
use crate::trust::{ocsp, sources, Answer, Verdict};
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
pub enum State {
    /// Its sources gave no answer.
    Unknown = 0,
    /// Not revoked.
    Good = 1,
    /// Revoked.
    Revoked = 2,
}

impl State {
    /// The state with this number.
    pub fn from_number(number: i32) -> Option<State> {
        [State::Unknown, State::Good, State::Revoked]
            .into_iter()
            .find(|state| *state as i32 == number)
    }
}

/// A state that holds before `until`, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// `X509_V_*` number of a refusal for it.
    pub code: i32,
    /// First second at which it must be asked for again.
    pub until: i64,
}

/// A plan of the policy that was in force at an epoch. Fetching takes time, and a plan number means
/// something else after a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Number of the plan.
    pub plan: usize,
    /// [`Engine::epoch`] when the number was looked up.
    pub epoch: u64,
}

/// Where a status may be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
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

impl Status {
    fn new(state: State, until: i64) -> Status {
        let code = match state {
            State::Unknown => NO_STATUS,
            State::Good => 0,
            State::Revoked => REVOKED,
        };
        Status { state, code, until }
    }
}

/// What a status is remembered under. The verified chain, not what the client sent: a client must
/// not get rid of an answer by sending one more certificate.
fn status_id(leaf: &[u8; 32], cas: &[[u8; 32]], revocation: &Revocation) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(leaf);
    hasher.update(&revocation.key);
    hasher.update(&revocation.ttl.to_be_bytes());
    for ca in cas {
        hasher.update(ca);
    }
    hasher.finish()
}

/// The same for a verified chain, leaf first.
fn chain_id(chain: &[X509], revocation: &Revocation) -> Result<[u8; 32], Error> {
    let digests: Vec<[u8; 32]> = chain
        .iter()
        .map(|certificate| certificate::sha256(certificate))
        .collect::<Result<_, _>>()?;
    match digests.split_first() {
        Some((leaf, cas)) => Ok(status_id(leaf, cas, revocation)),
        None => Err(Error::NotFound),
    }
}

/// The status as far as the policy's own CRLs tell it, and whether the certificate names anybody
/// to ask; `None` when somebody must be asked.
fn local(auth: &Auth, certificate: &Certificate, now: i64) -> Result<Option<Status>, Error> {
    let (leaf, intermediates) = (certificate.leaf(), certificate.intermediates());
    let limit = now.saturating_add(auth.revocation.ttl);
    let mut unknown = Status::new(State::Unknown, limit);
    if let Some(crls) = &auth.revocation.crls {
        // A CA that is revoked must not answer for its clients, though a CRL may lack for these.
        if crls.revokes(&auth.store.chain(leaf, intermediates, now)?, now) {
            return Ok(Some(Status::new(State::Revoked, limit)));
        }
        let outcome = auth.store.check_crls(leaf, intermediates, crls, now)?;
        match outcome.code {
            0 => {
                let until = outcome.until.clamp(now.saturating_add(1), limit);
                return Ok(Some(Status::new(State::Good, until)));
            }
            REVOKED => return Ok(Some(Status::new(State::Revoked, limit))),
            code => {
                // A CRL may come into force any time.
                unknown.code = code;
                unknown.until = limit.min(now.saturating_add(LOCAL_RETRY));
            }
        }
    }
    let nobody = sources::ocsp(leaf).is_empty() && sources::crl(leaf).is_empty();
    // Building the chain once more costs as much as verifying it: only where it decides.
    let settled = nobody || auth.store.chain(leaf, intermediates, now)?.len() < 2;
    Ok(settled.then_some(unknown))
}

impl Engine {
    pub(super) fn unrevoked(
        &self,
        auth: &Auth,
        certificate: &Certificate,
        verdict: Verdict,
        now: i64,
    ) -> Result<Trust, Error> {
        let revocation = &auth.revocation;
        let strict = match revocation.mode {
            RevocationMode::Skip => {
                return Ok(Trust::Yes {
                    until: verdict.until(),
                    verdict,
                });
            }
            RevocationMode::IgnoreCaError => false,
            RevocationMode::Strict => true,
        };
        let leaf = certificate.key().leaf;
        let issuer = verdict.cas().first();
        if self.revoked.borrow_mut().until(leaf, issuer, now).is_some() {
            metrics::count(Event::StatusHit);
            return Ok(Trust::No(Verdict::refused(REVOKED, 0, now)));
        }
        let key = status_id(&leaf, verdict.cas(), revocation);
        let known = self
            .statuses
            .borrow_mut()
            .find(&key)
            .map(|(_, status)| *status);
        let known = known.filter(|status| now < status.until);
        metrics::count_look_up(known.is_some(), Event::StatusHit, Event::StatusMiss);
        let status = match known {
            Some(status) => status,
            None => match local(auth, certificate, now)? {
                Some(status) => {
                    self.statuses.borrow_mut().put(key, status);
                    status
                }
                None => return Ok(Trust::Pending),
            },
        };
        Ok(match status.state {
            State::Revoked => Trust::No(Verdict::refused(status.code, 0, now)),
            State::Unknown if strict => Trust::No(Verdict::refused(status.code, 0, now)),
            State::Unknown | State::Good => Trust::Yes {
                until: verdict.until().min(status.until),
                verdict,
            },
        })
    }

    /// Source number `index` for the status of a client on a plan, OCSP before
    /// CRL. `None` after the last.
    pub fn source(
        &self,
        certificate: &Certificate,
        at: At,
        index: usize,
        now: i64,
    ) -> Result<Option<Source>, Error> {
        self.with_chain(certificate, at, now, |_, chain| {
            let (Some(leaf), Some(issuer)) = (chain.first(), chain.get(1)) else {
                return Ok(None);
            };
            let responders = sources::ocsp(leaf);
            if let Some(url) = responders.get(index) {
                let request = ocsp::request(leaf, issuer, false)?;
                return Ok(Some(Source::Ocsp {
                    url: url.clone(),
                    request,
                }));
            }
            let lists = sources::crl(leaf);
            Ok(lists
                .get(index - responders.len())
                .map(|url| Source::Crl { url: url.clone() }))
        })
    }

    /// Judges what a source answered. `Ok` is a definite status, which is remembered.
    ///
    /// # Errors
    /// Why the bytes are no answer, for the log.
    pub fn judge(
        &self,
        certificate: &Certificate,
        at: At,
        source: &Source,
        bytes: &[u8],
        now: i64,
    ) -> Result<Status, Error> {
        let answer = self.with_chain(certificate, at, now, |auth, chain| {
            let (Some(leaf), Some(issuer)) = (chain.first(), chain.get(1)) else {
                return Ok(Answer::NoAnswer("the chain has no issuer".to_owned()));
            };
            Ok(match source {
                Source::Ocsp { request, .. } => {
                    ocsp::evaluate(bytes, request, leaf, issuer, auth.store.auth_level(), now)
                }
                Source::Crl { .. } => match self.crl(bytes, issuer) {
                    Ok(crl) => crl.answer(leaf, issuer, now),
                    Err(why) => Answer::NoAnswer(why),
                },
            })
        })?;
        let (state, until) = match answer {
            Answer::Good { until } => (State::Good, until),
            Answer::Revoked { until, .. } => (State::Revoked, until),
            Answer::NoAnswer(why) => return Err(Error::Misuse(why)),
        };
        self.settle(certificate, at, state, until, now)
    }

    /// Remembers a status that is known from elsewhere, for at most the time the plan allows. A
    /// certificate that is known as revoked stays so to the end of that time, whatever `state` is:
    /// an answer that arrives late may be older. Gives what is remembered.
    pub fn settle(
        &self,
        certificate: &Certificate,
        at: At,
        state: State,
        until: i64,
        now: i64,
    ) -> Result<Status, Error> {
        self.with_chain(certificate, at, now, |auth, chain| {
            let key = chain_id(chain, &auth.revocation)?;
            let limit = now.saturating_add(auth.revocation.ttl);
            // An answer within the clock skew after nextUpdate holds for this once.
            let until = until.min(limit).max(now.saturating_add(1));
            if let [leaf, issuer, ..] = chain {
                let (leaf, issuer) = (certificate::sha256(leaf)?, certificate::sha256(issuer)?);
                let mut revoked = self.revoked.borrow_mut();
                if state == State::Revoked {
                    revoked.add(leaf, issuer, until, now);
                } else if let Some(until) = revoked.until(leaf, Some(&issuer), now) {
                    return Ok(Status::new(State::Revoked, until));
                }
            }
            let mut statuses = self.statuses.borrow_mut();
            let known = statuses.find(&key).map(|(_, status)| *status);
            if let (State::Unknown, Some(known)) = (state, known) {
                // Somebody else got an answer meanwhile.
                if known.state != State::Unknown && now < known.until {
                    return Ok(known);
                }
            }
            let status = Status::new(state, until);
            statuses.put(key, status);
            Ok(status)
        })
    }

    /// Name under which all workers share the status of this client on this plan.
    pub fn status_key(&self, certificate: &Certificate, at: At, now: i64) -> Result<String, Error> {
        self.with_chain(certificate, at, now, |auth, chain| {
            Ok(certificate::hex(&chain_id(chain, &auth.revocation)?))
        })
    }

    /// A CRL, parsed and verified once per worker for the same bytes and issuer.
    fn crl(&self, bytes: &[u8], issuer: &X509) -> Result<Rc<Crl>, String> {
        let issuer_digest = certificate::sha256(issuer).map_err(|error| error.to_string())?;
        let key = sha256(&[sha256(bytes), issuer_digest].concat());
        if let Some((_, crl)) = self.crls.borrow_mut().find(&key) {
            return Ok(crl.clone());
        }
        let crl = Rc::new(Crl::load(bytes, issuer, MAX_FETCHED)?);
        self.crls.borrow_mut().put(key, crl.clone());
        Ok(crl)
    }

    fn with_chain<T>(
        &self,
        certificate: &Certificate,
        at: At,
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
