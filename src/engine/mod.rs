//! A policy at work in one worker: the three phases, and what is remembered beyond a connection.

pub mod bounds;
mod clients;
mod header_certificate;
mod header_lines;
mod identity;
pub(crate) mod node;
pub(crate) mod reload;
mod revocation;
mod revoked;
mod token;

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::process;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use openssl::ssl::{NameType, SslRef};
use openssl::stack::Stack;

use crate::cache::{Cache, SlotId};
use crate::certificate::{Certificate, CertificateDigests};
use crate::connection::{CachedDecision, Connection};
use crate::decision::{Decision, Identity, Outcome};
use crate::engine::clients::{CertificateOrigin, Clients};
use crate::engine::header_certificate::HeaderCertificate;
use crate::engine::revoked::Revoked;
use crate::engine::token::{CachedToken, IssuerDocuments};
use crate::metrics::{self, Event};
use crate::openssl_ext::ssl as ext;
use crate::openssl_ext::x509::UNSPECIFIED;
use crate::policy::{Auth, CertificateHeader, Plan, Policy, SuggestionBudget};
use crate::text::quoted;
use crate::trust::crl::Crl;
use crate::trust::{sent_certificates_in, TrustStore, Verdict};
use crate::Error;

pub use header_certificate::RequestHeaders;
pub use header_lines::{HeaderLine, HeaderLines, LineKind, NO_CONSUMER};
pub use node::Node;
pub use reload::{PolicySource, Reload, ReloadProgress};
use revocation::CrlWatch;
pub use revocation::{CachedStatus, PlanRef, RevocationSource, RevocationState};
pub use token::{TokenDecision, TokenOutcome, TokenRequest};

/// Verdicts kept, and statuses; 640 and 128 bytes each.
const MAX_VERDICTS: usize = 8192;
/// Fetched CRLs kept, up to 10 MB each.
const MAX_CRLS: usize = 16;
/// Header values kept whose certificate is known, 192 bytes each.
const MAX_INBOUND: usize = 2048;
/// Tokens kept that were found good.
const MAX_TOKENS: usize = 8192;
/// Tokens kept that the issuer did not vouch for, 128 bytes each. Apart from the good ones: anybody
/// can make some up.
const MAX_INACTIVE: usize = 8192;
/// Issuers whose documents are kept.
const MAX_PROVIDERS: usize = 4096;

/// Longest Host for which a connection remembers a decision: that of a DNS name (RFC 1035).
const MAX_HOST: usize = 255;

thread_local! {
    static EPOCH: Cell<u64> = const { Cell::new(0) };
}

/// A certificate as presented, with its slot if it is remembered already.
type SlotAndCertificate = (Option<SlotId>, Rc<Certificate>);

/// The state of one worker.
pub struct Engine {
    policy: RefCell<Option<Rc<Policy>>>,
    epoch: Cell<u64>,
    clients: RefCell<Clients>,
    verdicts: RefCell<Cache<(CertificateDigests, [u8; 32]), Verdict>>,
    statuses: RefCell<Cache<[u8; 32], CachedStatus>>,
    revoked: RefCell<Revoked>,
    crl_watch: RefCell<CrlWatch>,
    crls: RefCell<Cache<[u8; 32], Rc<Crl>>>,
    reload_state: RefCell<reload::ReloadState>,
    /// That the policy was compiled in.
    process: Cell<u32>,
    /// What it shares with the other workers, if there are any.
    node: RefCell<Option<Arc<node::Node>>>,
    state_file: RefCell<Option<Arc<node::StateFile>>>,
    version: Cell<reload::PolicyVersion>,
    /// Since when another policy is in force on the node; `Some(None)` where this one must not be served.
    behind_since: Cell<Option<Option<Instant>>>,
    inbound: RefCell<Cache<[u8; 32], CertificateDigests>>,
    tokens: RefCell<Cache<[u8; 32], Rc<CachedToken>>>,
    /// When the issuer was asked, and the first second at which it may be asked again.
    inactive: RefCell<Cache<[u8; 32], (i64, i64)>>,
    providers: RefCell<Cache<[u8; 32], Rc<IssuerDocuments>>>,
    compared: Cell<SuggestionBudget>,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine {
            policy: RefCell::default(),
            epoch: Cell::default(),
            clients: RefCell::default(),
            verdicts: RefCell::new(Cache::new(MAX_VERDICTS)),
            statuses: RefCell::new(Cache::new(MAX_VERDICTS)),
            revoked: RefCell::new(Revoked::new(MAX_VERDICTS)),
            crl_watch: RefCell::default(),
            crls: RefCell::new(Cache::new(MAX_CRLS)),
            reload_state: RefCell::default(),
            process: Cell::default(),
            node: RefCell::default(),
            state_file: RefCell::default(),
            version: Cell::default(),
            behind_since: Cell::default(),
            inbound: RefCell::new(Cache::new(MAX_INBOUND)),
            tokens: RefCell::new(Cache::with_weight(MAX_TOKENS, bounds::TOKENS)),
            inactive: RefCell::new(Cache::new(MAX_INACTIVE)),
            providers: RefCell::new(Cache::new(MAX_PROVIDERS)),
            compared: Cell::default(),
        }
    }
}

impl Engine {
    /// Puts a policy in force. What was remembered under the old one is forgotten where it could
    /// differ: certificates say what they say, and verdicts are keyed by the content of their store.
    ///
    /// Gives back the old policy for whoever has time to free it.
    fn install(&self, policy: Policy) -> Option<Policy> {
        let old = self.policy.replace(Some(Rc::new(policy)));
        // Of all engines of the thread: what a connection remembers of another one is void.
        self.epoch.set(EPOCH.get() + 1);
        EPOCH.set(self.epoch.get());
        // What a token may do is checked on every request; that somebody cached_token for it is not.
        *self.tokens.borrow_mut() = Cache::with_weight(MAX_TOKENS, bounds::TOKENS);
        self.clients.borrow_mut().renew();
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

    /// Counts the policies this engine has had in force.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// ClientHello phase: binds the session to what `server_name` asks for. Also runs when a
    /// session is about to be resumed, which is the point.
    pub fn client_hello(&self, ssl: &SslRef, server_name: Option<&[u8]>) -> Result<(), Error> {
        let ask = self.policy()?.certificate_request(server_name).cloned();
        Connection::on_client_hello(ssl, ask)
    }

    /// Certificate phase: asks for a certificate if the ClientHello phase decided so. Tells
    /// whether it did.
    ///
    /// # Errors
    /// When the ClientHello phase did not run: then the session could be carried to another name.
    pub fn certificate(&self, ssl: &SslRef) -> Result<bool, Error> {
        match Connection::of(ssl) {
            Some(connection) => connection.request_certificate(ssl),
            None => Err(Error::Misuse(NO_CLIENT_HELLO_PHASE.to_owned())),
        }
    }

    /// Access phase: who is the client, and may it use the route of `plan` under this Host.
    /// `ssl` is `None` on plain HTTP. `now` in seconds since the epoch.
    pub fn access(
        &self,
        ssl: Option<&SslRef>,
        plan_id: usize,
        host: &[u8],
        now: i64,
    ) -> Result<Decision, Error> {
        self.access_with_headers(ssl, plan_id, host, &RequestHeaders::default(), now)
    }

    /// [`Engine::access`] of a request with headers that its route may read.
    pub fn access_with_headers(
        &self,
        ssl: Option<&SslRef>,
        plan_id: usize,
        host: &[u8],
        came: &RequestHeaders<'_>,
        now: i64,
    ) -> Result<Decision, Error> {
        let policy = self.policy()?;
        let plan = policy
            .plans
            .get(plan_id)
            .ok_or_else(|| Error::Misuse(format!("no plan {plan_id} in this policy")))?;
        if self.is_left_behind() {
            let reason = "a newer policy than that of this worker is in force".to_owned();
            return Ok(Decision::refuse(Outcome::Unavailable, reason));
        }
        if !plan.has_plugins {
            return Ok(Decision::pass(None, None, Identity::None));
        }
        let mut decision = match (&plan.auth, &plan.certificate_header) {
            (Some(auth), Some(inbound)) => {
                let decision =
                    self.authenticate_header(&policy, plan, (auth, inbound), ssl, host, came, now)?;
                Decision {
                    from_header: true,
                    ..decision
                }
            }
            (None, Some(inbound)) => self.unverified_from_header(
                &policy,
                (plan_id, plan),
                inbound,
                ssl,
                host,
                came,
                now,
            )?,
            _ => {
                let mut decision = self.decide_tls(&policy, plan, plan_id, ssl, host, now)?;
                if let (None, Some(_), Some(ssl)) = (decision.client, decision.verdict, ssl) {
                    decision.connection = Connection::of_or_new(ssl)?.number();
                }
                decision
            }
        };
        if decision.outcome == Outcome::Pass && !plan.upstream_headers.dialects.is_empty() {
            self.set_request_fields(plan, ssl, host, &mut decision)?;
        }
        Ok(decision)
    }

    /// The decision about a certificate from a header. It is never remembered on the connection,
    /// which carries requests of many clients.
    #[allow(clippy::too_many_arguments)]
    fn authenticate_header(
        &self,
        policy: &Policy,
        plan: &Plan,
        (auth, inbound): (&Auth, &CertificateHeader),
        ssl: Option<&SslRef>,
        host: &[u8],
        came: &RequestHeaders<'_>,
        now: i64,
    ) -> Result<Decision, Error> {
        if let Some(ssl) = ssl {
            let connection = Connection::of_or_new(ssl)?;
            if let Some(decision) = misdirected(policy, connection, ssl, host) {
                return Ok(decision);
            }
        }
        let (slot, certificate) = match self.certificate_from_header(inbound, came)? {
            HeaderCertificate::Certificate(slot, certificate) => (slot, certificate),
            HeaderCertificate::Nothing(why) => {
                let untrusted = Untrusted::no_certificate(why);
                return Ok(self.untrusted(policy, plan, auth, untrusted));
            }
            HeaderCertificate::Refused(reason) => {
                let untrusted = Untrusted {
                    verdict: Some(UNSPECIFIED),
                    reason,
                };
                return Ok(self.untrusted(policy, plan, auth, untrusted));
            }
        };
        let (decision, _) = self.authenticate(policy, plan, auth, None, slot, &certificate, now)?;
        Ok(decision)
    }

    /// The certificate of a request whose route judges nobody, but reads a header for its token: the
    /// same one as [`Engine::check_token`] compares the token with. It counts as not verified, since
    /// that depends on the token.
    #[allow(clippy::too_many_arguments)]
    fn unverified_from_header(
        &self,
        policy: &Policy,
        (plan_id, plan): (usize, &Plan),
        inbound: &CertificateHeader,
        ssl: Option<&SslRef>,
        host: &[u8],
        came: &RequestHeaders<'_>,
        now: i64,
    ) -> Result<Decision, Error> {
        let sent = self.certificate_from_header(inbound, came)?;
        if matches!(&sent, HeaderCertificate::Nothing(_)) && !Engine::denies(&sent) {
            return self.decide_tls(policy, plan, plan_id, ssl, host, now);
        }
        if let Some(ssl) = ssl {
            let connection = Connection::of_or_new(ssl)?;
            connection.count(ssl);
            if let Some(decision) = misdirected(policy, connection, ssl, host) {
                return Ok(decision);
            }
        }
        let (client, verdict) = match sent {
            HeaderCertificate::Certificate(slot, certificate) => {
                let slot = self.cache_client(slot, &certificate, CertificateOrigin::Unverified)?;
                (Some(slot), None)
            }
            HeaderCertificate::Nothing(_) => (None, None),
            // Not "no certificate": something was sent.
            HeaderCertificate::Refused(_) => (None, Some(UNSPECIFIED)),
        };
        Ok(Decision {
            from_header: true,
            ..Decision::pass(client, verdict, Identity::None)
        })
    }

    /// The decision about a certificate, and until when it holds.
    #[allow(clippy::too_many_arguments)]
    fn authenticate(
        &self,
        policy: &Policy,
        plan: &Plan,
        auth: &Auth,
        connection: Option<&Connection>,
        slot: Option<SlotId>,
        certificate: &Rc<Certificate>,
        now: i64,
    ) -> Result<(Decision, i64), Error> {
        let untrusted = |code, reason: &str| {
            let untrusted = Untrusted {
                verdict: Some(code),
                reason: about(reason, certificate),
            };
            // Not remembered: it may differ the next second.
            Ok((self.untrusted(policy, plan, auth, untrusted), now))
        };
        let (verdict, until) = match self.trusted(connection, auth, certificate, now)? {
            Trust::Yes { verdict, until } => (verdict, until),
            Trust::No(verdict) => {
                let reason = format!("{} at depth {}", verdict.text(), verdict.depth());
                return untrusted(verdict.code(), &reason);
            }
            Trust::Pending => {
                let decision = Decision {
                    outcome: Outcome::Pending,
                    ..Decision::pass(None, None, Identity::None)
                };
                return Ok((decision, now));
            }
        };
        let Some(identity) = policy.identify(auth, certificate, verdict.cas()) else {
            return untrusted(0, "no consumer");
        };
        if let Some(twin) = verdict.alternate_sha256() {
            certificate.set_alternate_sha256(twin);
        }
        let via = connection.map_or(CertificateOrigin::Header, |_| CertificateOrigin::Tls);
        let slot = self.cache_trusted_client(slot, certificate, via, &verdict, auth, now)?;
        let mut decision = Decision::pass(Some(slot), Some(0), identity);
        if let Err(reason) = policy.permit(plan, Some(certificate), identity) {
            decision.outcome = Outcome::Forbidden;
            decision.reason = Some(about(&reason, certificate));
        }
        Ok((decision, until))
    }

    fn decide_tls(
        &self,
        policy: &Policy,
        plan: &Plan,
        plan_id: usize,
        ssl: Option<&SslRef>,
        host: &[u8],
        now: i64,
    ) -> Result<Decision, Error> {
        let Some(ssl) = ssl else {
            let untrusted = Untrusted::no_certificate("the connection is not TLS");
            return Ok(match &plan.auth {
                Some(auth) => self.untrusted(policy, plan, auth, untrusted),
                None => Decision::pass(None, None, Identity::None),
            });
        };
        let connection = Connection::of_or_new(ssl)?;
        connection.count(ssl);
        let again = self.cached_decision(connection, plan_id, host, now);
        metrics::count_look_up(again.is_some(), Event::DecisionHit, Event::DecisionMiss);
        if let Some(decision) = again {
            return Ok(decision);
        }

        if let Some(decision) = misdirected(policy, connection, ssl, host) {
            return Ok(decision);
        }
        let resumption = plan.auth.as_ref().is_none_or(|auth| auth.resumption);
        if !resumption && ext::is_resumed(ssl) {
            return Ok(Decision::refuse(
                Outcome::Misdirected,
                "misdirected request: the route takes no resumed TLS session, and this Host is \
                 none of its snis"
                    .to_owned(),
            ));
        }
        let client = self.certificate_of(connection, ssl)?;
        if let Some((slot, _)) = &client {
            metrics::count_look_up(slot.is_some(), Event::ClientHit, Event::ClientMiss);
        }
        let (decision, until) = match (&plan.auth, client) {
            (None, client) => {
                let remember = |(slot, certificate)| {
                    self.cache_client(slot, &certificate, CertificateOrigin::Tls)
                };
                let slot = client.map(remember).transpose()?;
                (Decision::pass(slot, None, Identity::None), i64::MAX)
            }
            (Some(auth), None) => {
                // The anonymous consumer is let in, and the reason is not logged.
                let why = match auth.anonymous {
                    Some(_) => String::new(),
                    None => self.why_without_certificate(policy, connection, ssl, now),
                };
                let untrusted = Untrusted::no_certificate(&why);
                return Ok(self.untrusted(policy, plan, auth, untrusted));
            }
            (Some(auth), Some((slot, certificate))) => self.authenticate(
                policy,
                plan,
                auth,
                Some(connection),
                slot,
                &certificate,
                now,
            )?,
        };
        if decision.outcome == Outcome::Pass && now < until && host.len() <= MAX_HOST {
            connection.cache_decision(CachedDecision {
                epoch: self.epoch(),
                revocations: self.revoked.borrow().count(),
                plan: plan_id,
                host: host.into(),
                decision: decision.clone(),
                from: now,
                until,
            });
        }
        Ok(decision)
    }

    /// Why there is no client certificate on a connection, for the error log: the client has none to
    /// present, or was not asked for one.
    fn why_without_certificate(
        &self,
        policy: &Policy,
        connection: &Connection,
        ssl: &SslRef,
        now: i64,
    ) -> String {
        if connection.requested() {
            return "the client presented none".to_owned();
        }
        let why = if !connection.saw_client_hello() {
            NO_CLIENT_HELLO_PHASE.to_owned()
        } else if !connection.requests_certificate() {
            self.why_not_asked(policy, ssl.servername_raw(NameType::HOST_NAME), now)
        } else if ext::is_resumed(ssl) {
            return "the TLS session that the client resumed has none: the client presented none \
                    when it was made, or was not asked for one"
                .to_owned();
        } else {
            NO_CERTIFICATE_PHASE.to_owned()
        };
        format!("the client was not asked for one: {why}")
    }

    /// Why the server name of a connection does not ask for a certificate.
    fn why_not_asked(&self, policy: &Policy, server_name: Option<&[u8]>, now: i64) -> String {
        let Some(name) = server_name else {
            return "it sent no server name (SNI), and no route asks without one".to_owned();
        };
        let shown = quoted(name);
        if policy.certificate_request(Some(name)).is_some() {
            return format!("no route asked under its server name '{shown}' when it connected");
        }
        let mut compared = self.compared.get();
        let meant = policy.suggest_server_name(name, now, &mut compared);
        self.compared.set(compared);
        format!("it sent the server name '{shown}', under which no route asks{meant}")
    }

    /// `, did you mean 'name'?` for the route that is called nearly so, or nothing.
    ///
    /// # Errors
    /// When there is no policy yet.
    pub fn suggest_route(&self, name: &str, now: i64) -> Result<String, Error> {
        let policy = self.policy()?;
        let mut compared = self.compared.get();
        let meant = policy.suggest_route(name, now, &mut compared);
        self.compared.set(compared);
        Ok(meant)
    }

    /// What becomes of a client that is not trusted: the anonymous consumer, or a refusal.
    fn untrusted(&self, policy: &Policy, plan: &Plan, auth: &Auth, why: Untrusted) -> Decision {
        let outcome = match why.verdict {
            Some(_) => Outcome::Refused,
            None => Outcome::NoCertificate,
        };
        let Some(anonymous) = auth.anonymous else {
            return Decision {
                verdict: why.verdict,
                ..Decision::refuse(outcome, why.reason)
            };
        };
        let identity = Identity::Anonymous(anonymous);
        match policy.permit(plan, None, identity) {
            Ok(()) => Decision {
                verdict: why.verdict,
                ..Decision::pass(None, None, identity)
            },
            Err(reason) => Decision {
                verdict: why.verdict,
                ..Decision::refuse(Outcome::Forbidden, format!("{reason} (anonymous)"))
            },
        }
    }

    /// The last answer on this connection, if everything it depended on still holds.
    fn cached_decision(
        &self,
        connection: &Connection,
        plan: usize,
        host: &[u8],
        now: i64,
    ) -> Option<Decision> {
        let cached = connection.cached_decision();
        let cached = cached.as_ref()?;
        if cached.epoch != self.epoch() || cached.plan != plan || *cached.host != *host {
            return None;
        }
        if now < cached.from || cached.until <= now {
            return None;
        }
        if cached.revocations != self.revoked.borrow().count() {
            return None;
        }
        if let Some(slot) = cached.decision.client {
            if !self.clients.borrow_mut().holds(slot) {
                return None;
            }
        }
        Some(cached.decision.clone())
    }

    /// The certificate presented on a connection, whatever it is worth.
    pub fn client(&self, ssl: &SslRef) -> Result<Option<Rc<Certificate>>, Error> {
        let client = self.certificate_of(Connection::of_or_new(ssl)?, ssl)?;
        Ok(client.map(|(_, certificate)| certificate))
    }

    /// The same, with its slot if it is remembered already.
    fn certificate_of(
        &self,
        connection: &Connection,
        ssl: &SslRef,
    ) -> Result<Option<SlotAndCertificate>, Error> {
        let Some(key) = connection.key(ssl)? else {
            return Ok(None);
        };
        let mut clients = self.clients.borrow_mut();
        let Some(found) = clients.find(&key) else {
            let chain = clients.chain(&key.chain);
            let certificate = Rc::new(connection.certificate(ssl, key, chain)?);
            return Ok(Some((None, certificate)));
        };
        let certificate = match found.parsed {
            Some(certificate) => certificate,
            None => {
                let certificate = connection.certificate(ssl, key, Some(found.chain))?;
                let certificate = Rc::new(certificate);
                clients.recall(found.slot, &certificate);
                certificate
            }
        };
        Ok(Some((Some(found.slot), certificate)))
    }

    /// Remembers a client. Not among those that are trusted before its chain is verified, where the
    /// route verifies it: anybody can make certificates that nobody trusts.
    fn cache_client(
        &self,
        slot: Option<SlotId>,
        certificate: &Rc<Certificate>,
        via: CertificateOrigin,
    ) -> Result<SlotId, Error> {
        match slot {
            Some(slot) if via == CertificateOrigin::Unverified || !Clients::is_unverified(slot) => {
                Ok(slot)
            }
            _ => self.clients.borrow_mut().put(certificate, via),
        }
    }

    /// Remembers a client whose chain is verified, with what of the certificates it sent stands in
    /// that chain: what else it sends beside its own must not make another client of it.
    fn cache_trusted_client(
        &self,
        slot: Option<SlotId>,
        certificate: &Rc<Certificate>,
        via: CertificateOrigin,
        verdict: &Verdict,
        auth: &Auth,
        now: i64,
    ) -> Result<SlotId, Error> {
        let Some(chain) = verdict.used_intermediates() else {
            return self.cache_client(slot, certificate, via);
        };
        let mut clients = self.clients.borrow_mut();
        if via == CertificateOrigin::Header && slot.is_none() {
            // Or the header would be parsed again for the next request.
            clients.put(certificate, CertificateOrigin::Unverified)?;
        }
        let key = CertificateDigests {
            chain,
            ..*certificate.digests()
        };
        match clients.find(&key) {
            Some(found) if !Clients::is_unverified(found.slot) => Ok(found.slot),
            _ => {
                let sent = certificate.intermediates();
                let chain = auth.store.chain(certificate.leaf(), sent, now)?;
                let mut used = Stack::new()?;
                for ca in sent_certificates_in(chain.iter().map(|ca| &**ca), sent)? {
                    used.push(ca.to_owned())?;
                }
                let leaf = certificate.leaf().to_owned();
                let client = Rc::new(Certificate::new(leaf, used)?);
                clients.put(&client, via)
            }
        }
    }

    /// The certificate at a slot that [`Engine::access`] gave.
    pub fn certificate_at(&self, slot: SlotId) -> Option<Rc<Certificate>> {
        self.clients.borrow_mut().at(slot)
    }

    /// The certificate of the client at a slot, by the numbers of an answer.
    pub fn cached_client(&self, index: u32, generation: u32) -> Option<Rc<Certificate>> {
        self.certificate_at(SlotId { index, generation })
    }

    /// The plan with this number.
    pub fn with_plan<T>(
        &self,
        plan_id: usize,
        read: impl FnOnce(&Plan) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let policy = self.policy()?;
        read(policy.plans.get(plan_id).ok_or(Error::NotFound)?)
    }

    /// Whether the route trusts the certificate: its chain, then its status.
    fn trusted(
        &self,
        connection: Option<&Connection>,
        auth: &Auth,
        certificate: &Certificate,
        now: i64,
    ) -> Result<Trust, Error> {
        let verdict = self.verdict(connection, &auth.store, certificate, now)?;
        if !verdict.is_success() {
            return Ok(Trust::No(verdict));
        }
        self.unrevoked(auth, certificate, verdict, now)
    }

    /// `connection` is the one that presented the certificate; `None` for one from elsewhere.
    fn verdict(
        &self,
        connection: Option<&Connection>,
        store: &TrustStore,
        certificate: &Certificate,
        now: i64,
    ) -> Result<Verdict, Error> {
        let known = connection.and_then(|connection| connection.verdict(store.verdict_key(), now));
        if let Some(verdict) = known {
            return Ok(verdict);
        }
        let key = (*certificate.digests(), *store.verdict_key());
        let known = self
            .verdicts
            .borrow_mut()
            .find(&key)
            .map(|(_, verdict)| verdict.clone());
        let verdict = match known {
            Some(verdict) if verdict.holds_at(now) => {
                metrics::count(Event::VerdictHit);
                verdict
            }
            _ => {
                metrics::count(Event::VerdictMiss);
                let verdict = store.verify(certificate.leaf(), certificate.intermediates(), now)?;
                self.verdicts.borrow_mut().put(key, verdict.clone());
                verdict
            }
        };
        if let Some(connection) = connection {
            connection.cache_verdict(*store.verdict_key(), verdict.clone());
        }
        Ok(verdict)
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

/// Lets go of a policy that was compiled before a fork. Its memory is shared with the process that
/// compiled it and with all that were forked off it: freeing it would copy it first.
fn leave_to_parent(policy: Policy) {
    static LEFT: Mutex<Vec<ManuallyDrop<Policy>>> = Mutex::new(Vec::new());
    // Within reach, or LeakSanitizer would take it for lost. Once in the life of an engine.
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    left.push(ManuallyDrop::new(policy));
}

/// The refusal of a request that came as early data, or whose Host wants another policy than its
/// connection was made under.
fn misdirected(
    policy: &Policy,
    connection: &Connection,
    ssl: &SslRef,
    host: &[u8],
) -> Option<Decision> {
    if !ext::is_handshake_over(ssl) {
        return Some(Decision::refuse(
            Outcome::TooEarly,
            "too early: the request came as early data".to_owned(),
        ));
    }
    if connection.is_bound(
        ssl,
        policy.certificate_request(Some(host)).map(|ask| &**ask),
    ) {
        return None;
    }
    let why = if connection.saw_client_hello() {
        "the connection was made under another policy than this Host's"
    } else {
        NO_CLIENT_HELLO_PHASE
    };
    Some(Decision::refuse(
        Outcome::Misdirected,
        format!("misdirected request: {why}"),
    ))
}

/// Whether a certificate is trusted.
enum Trust {
    /// It is, before `until`.
    Yes { verdict: Verdict, until: i64 },
    /// It is not.
    No(Verdict),
    /// Not known before its sources were asked.
    Pending,
}

/// Why a client is not trusted.
struct Untrusted {
    /// `X509_V_*` number of the verdict on the certificate; `None` without one.
    verdict: Option<i32>,
    reason: String,
}

impl Untrusted {
    fn no_certificate(why: &str) -> Untrusted {
        Untrusted {
            verdict: None,
            reason: format!("no certificate: {why}"),
        }
    }
}

const NO_CERTIFICATE_PHASE: &str =
    "mtls.certificate() did not run for this connection; call it in ssl_certificate_by_lua*, at \
     http{} level and in servers that have one of their own";

const NO_CLIENT_HELLO_PHASE: &str =
    "ssl_client_hello_by_lua* did not run for this connection; put it at http{} level and call \
     mtls.client_hello() in it";

fn about(reason: &str, certificate: &Certificate) -> String {
    let name = |dn: Result<String, Error>| dn.unwrap_or_else(|_| "(unprintable)".to_owned());
    format!(
        "{reason}, subject: \"{}\", issuer: \"{}\", serial: {}",
        name(certificate.subject_dn()),
        name(certificate.issuer_dn()),
        certificate.serial(),
    )
}
