//! A policy at work in one worker: its state here, and one file for each phase and each kind of
//! evidence about a client.

mod access;
mod anchor;
mod blocks;
pub mod bounds;
mod bundles;
mod ca_expiry;
mod certificate_spool;
mod clients;
mod explain;
mod handshake;
mod header_certificate;
mod header_lines;
mod identity;
mod lists;
pub(crate) mod node;
mod records;
pub(crate) mod reload;
mod revocation;
mod token;
mod token_credentials;
mod token_identity;
mod verdict;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::cache::Cache;
use crate::certificate::{Certificate, CertificateDigests};
use crate::policy::{Plan, Policy, SuggestionBudget};
use crate::trust::Verdict;
use crate::Error;

use ca_expiry::CaExpiryWatch;
use certificate_spool::CertificateSpool;
use clients::Clients;
use lists::ListExpiryWatch;
use records::Records;
use revocation::{adopt_url_crls, AnswerJobs, CrlExpiryWatch, Evidence, FetchedCrls, UrlCrlJobs};
use token::{CachedToken, InactiveToken, IssuerDocuments};

pub use anchor::{Anchor, VerifiedSpiffeId};
pub use certificate_spool::SpoolUsage;
pub use explain::{
    DecidedBy, Explanation, FetchSettings, FetchSource, Probe, PublishedDocuments, Step,
};
pub use header_certificate::RequestHeaders;
pub use header_lines::{ClientCertificate, HeaderLine, HeaderLines, LineKind, NO_CONSUMER};
pub use node::blocks::{Block, NO_END};
pub use node::Node;
pub use records::{FoundRecord, PackedLines};
pub use reload::{PolicySource, Reload, ReloadProgress};
pub use revocation::{
    AnswerRead, CachedStatus, CrlBody, CrlBytes, PlanRef, RevocationSource, RevocationState,
    SourceResult, UrlCrlState,
};
pub use token::{TokenDecision, TokenOutcome, TokenRequest};
pub use token_credentials::{Challenge, DpopRequest};

/// Most entries of the verdict cache, the status cache and the evidence of revocations: 640, 144
/// and 160 bytes each.
const MAX_VERDICTS: usize = 8192;
/// Most header values in the cache of decoded header certificates, 192 bytes each.
const MAX_HEADER_VALUES: usize = 2048;
/// Most valid tokens in the cache.
const MAX_TOKENS: usize = 8192;
/// Most inactive tokens in the cache, 128 bytes each. Anybody can send invented tokens, so these
/// do not share a cache with the valid ones.
const MAX_INACTIVE: usize = 8192;
/// Most issuers whose documents are kept.
const MAX_ISSUERS: usize = 4096;

thread_local! {
    /// The last epoch given to an engine of this thread.
    static EPOCH: Cell<u64> = const { Cell::new(0) };
}

/// The state of one worker.
pub struct Engine {
    policy: RefCell<Option<Rc<Policy>>>,
    epoch: Cell<u64>,
    clients: RefCell<Clients>,
    /// Verdicts by certificate and trust store.
    verdicts: RefCell<Cache<(CertificateDigests, [u8; 32]), Verdict>>,
    statuses: RefCell<Cache<[u8; 32], CachedStatus>>,
    evidence: RefCell<Evidence>,
    /// Certificates whose status should be fetched again.
    refreshes: RefCell<VecDeque<(Rc<Certificate>, PlanRef)>>,
    blocks: RefCell<blocks::BlockIndex>,
    ca_expiry: RefCell<CaExpiryWatch>,
    /// Where first-seen certificates are written; `None` without that option.
    certificate_spool: RefCell<Option<Arc<CertificateSpool>>>,
    list_expiry: RefCell<ListExpiryWatch>,
    crl_expiry: RefCell<CrlExpiryWatch>,
    fetched_crls: RefCell<FetchedCrls>,
    url_crl_jobs: RefCell<UrlCrlJobs>,
    answer_jobs: RefCell<AnswerJobs>,
    reload_state: RefCell<reload::ReloadState>,
    /// The process in which the policy was compiled.
    process: Cell<u32>,
    /// What the workers of this nginx share; `None` without shared memory.
    node: RefCell<Option<Arc<node::Node>>>,
    state_file: RefCell<Option<Arc<node::StateFile>>>,
    version: Cell<reload::PolicyVersion>,
    /// When this worker first found that another policy is in force on the node; `Some(None)` when
    /// it must not serve its own any more.
    behind_since: Cell<Option<Option<Instant>>>,
    /// The certificates in header values, by a digest of the values.
    header_certificates: RefCell<Cache<[u8; 32], CertificateDigests>>,
    tokens: RefCell<Cache<[u8; 32], Rc<CachedToken>>>,
    inactive_tokens: RefCell<Cache<[u8; 32], InactiveToken>>,
    issuers: RefCell<Cache<[u8; 32], Rc<IssuerDocuments>>>,
    records: RefCell<Records>,
    suggestions: Cell<SuggestionBudget>,
    session_cache: Cell<bool>,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine {
            policy: RefCell::default(),
            epoch: Cell::default(),
            clients: RefCell::default(),
            verdicts: RefCell::new(Cache::new(MAX_VERDICTS)),
            statuses: RefCell::new(Cache::new(MAX_VERDICTS)),
            evidence: RefCell::new(Evidence::new(MAX_VERDICTS)),
            refreshes: RefCell::default(),
            blocks: RefCell::default(),
            ca_expiry: RefCell::default(),
            certificate_spool: RefCell::default(),
            list_expiry: RefCell::default(),
            crl_expiry: RefCell::default(),
            fetched_crls: RefCell::default(),
            url_crl_jobs: RefCell::default(),
            answer_jobs: RefCell::default(),
            reload_state: RefCell::default(),
            process: Cell::default(),
            node: RefCell::default(),
            state_file: RefCell::default(),
            version: Cell::default(),
            behind_since: Cell::default(),
            header_certificates: RefCell::new(Cache::new(MAX_HEADER_VALUES)),
            tokens: RefCell::new(Cache::with_weight(MAX_TOKENS, bounds::TOKENS)),
            inactive_tokens: RefCell::new(Cache::new(MAX_INACTIVE)),
            issuers: RefCell::new(Cache::new(MAX_ISSUERS)),
            records: RefCell::default(),
            suggestions: Cell::default(),
            session_cache: Cell::default(),
        }
    }
}

impl Engine {
    /// Puts a policy in force. Tokens and the slots of clients do not outlive the old one;
    /// certificates do not depend on a policy, and verdicts are cached by the content of their
    /// store.
    ///
    /// Returns the old policy, which the caller frees where it does not delay requests.
    fn install(&self, policy: Policy) -> Option<Policy> {
        if let Some(old) = &*self.policy.borrow() {
            adopt_url_crls(&policy, old);
        }
        let old = self.policy.replace(Some(Rc::new(policy)));
        // An epoch is never used by two engines of a thread: a decision that a connection cached
        // under another engine does not hold for this one.
        self.epoch.set(EPOCH.get() + 1);
        EPOCH.set(self.epoch.get());
        // The cache holds results of signature checks and introspection, which depend on the
        // policy.
        *self.tokens.borrow_mut() = Cache::with_weight(MAX_TOKENS, bounds::TOKENS);
        self.clients.borrow_mut().invalidate_slots();
        // Plan numbers have other meanings in another policy.
        self.records.borrow_mut().clear();
        let inherited = self.process.replace(process::id()) != process::id();
        let old = Rc::into_inner(old?)?;
        if inherited {
            leave_to_parent(old);
            return None;
        }
        Some(old)
    }

    /// The policy in force.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn policy(&self) -> Result<Rc<Policy>, Error> {
        self.policy
            .borrow()
            .clone()
            .ok_or_else(|| Error::Misuse("no policy: call mtls.init in init_by_lua*".to_owned()))
    }

    /// Number of the policy in force among all that engines of this thread have had in force.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// `, did you mean 'name'?` when a route has a similar name, else nothing.
    ///
    /// # Errors
    /// When there is no policy yet.
    pub fn suggest_route(&self, name: &str, now: i64) -> Result<String, Error> {
        let policy = self.policy()?;
        let mut budget = self.suggestions.get();
        let suggestion = policy.suggest_route(name, now, &mut budget);
        self.suggestions.set(budget);
        Ok(suggestion)
    }

    /// Reads the plan with this number.
    pub fn with_plan<T>(
        &self,
        plan_id: usize,
        read: impl FnOnce(&Plan) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let policy = self.policy()?;
        match policy.plans.get(plan_id) {
            Some(plan) => read(plan),
            None => Err(Error::NotFound),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.process.get() != process::id() {
            if let Some(policy) = self.policy.take().and_then(Rc::into_inner) {
                leave_to_parent(policy);
            }
        }
    }
}

/// Keeps a policy that was compiled before a fork allocated. Its memory is shared with the parent
/// process and all other children: freeing it would copy the pages first.
fn leave_to_parent(policy: Policy) {
    static LEFT: Mutex<Vec<ManuallyDrop<Policy>>> = Mutex::new(Vec::new());
    // A static, or LeakSanitizer would report a leak. This happens once in the life of an engine.
    LEFT.lock().push(ManuallyDrop::new(policy));
}
