//! A policy at work in one worker: the three phases, and what is remembered beyond a connection.

mod bearer;
pub mod bounds;
mod clients;
mod identity;
mod inbound;
mod lines;
pub(crate) mod node;
pub(crate) mod reload;
mod revocation;
mod revoked;
#[cfg(test)]
mod status_tests;

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::process;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use openssl::ssl::{NameType, SslRef};
use openssl::stack::Stack;

use crate::cache::{Cache, Place};
use crate::certificate::{Certificate, CertificateDigests};
use crate::connection::{Connection, Memo};
use crate::engine::bearer::{Provider, Vouched};
use crate::engine::clients::{Clients, Via};
use crate::engine::inbound::Sent;
use crate::engine::revoked::Revoked;
use crate::metrics::{self, Event};
use crate::openssl_ext::ssl as ext;
use crate::openssl_ext::x509::UNSPECIFIED;
use crate::policy::{Auth, Inbound, Plan, Policy, SuggestionBudget};
use crate::text::quoted;
use crate::trust::crl::Crl;
use crate::trust::{sent_certificates_in, TrustStore, Verdict};
use crate::Error;

pub use bearer::{BearerAnswer, BearerDecision, Claimed};
pub use identity::Identity;
pub use inbound::Came;
pub use lines::{HeaderLine, HeaderLines, LineKind, NO_CONSUMER};
pub use node::Node;
pub use reload::{Origin, Progress, Reload};
use revocation::CrlWatch;
pub use revocation::{At, Source, State, Status};

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

/// What access decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Decision {
    /// The request may go on.
    Pass = 0,
    /// 401: the route wants a certificate and none came.
    NoCertificate = 1,
    /// 401: the certificate is not trusted.
    Refused = 2,
    /// 421: the connection was made under another policy than this Host's.
    Misdirected = 3,
    /// 403: the client is known, and may not use this route.
    Forbidden = 4,
    /// Not decided yet: ask the sources of [`Engine::source`] whether the certificate is revoked,
    /// then decide again.
    Pending = 5,
    /// 425: the request came as early data, which whoever recorded it can send once more.
    TooEarly = 6,
    /// 503: this worker does not have what a decision needs.
    Unavailable = 7,
}

/// Whether a request carries what is told on some requests only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Forwards {
    /// It does not.
    No = 0,
    /// It does.
    Yes = 1,
    /// It does if [`Connection::is_first`].
    First = 2,
}

/// A decision with what led to it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The decision.
    pub decision: Decision,
    /// The client, when it presented a certificate and the route has a use for it.
    pub client: Option<Place>,
    /// `X509_V_*` number of the verdict, when the route asked for one.
    pub verdict: Option<i32>,
    /// Who the client is taken for.
    pub identity: Identity,
    /// Whether this very request carries the lines of [`LineKind::Forwarding`].
    pub forwards: Forwards,
    /// Number of the connection, never used twice, when the client's certificate is not trusted:
    /// what depends on it can be kept by that. Else 0.
    pub connection: u32,
    /// Tells apart lines that differ by this server's own certificate.
    pub own: u32,
    /// Whether a header brought the certificate: then the connection says nothing of the client.
    pub from_header: bool,
    /// Why not, for the error log only.
    pub reason: Option<String>,
}

impl Answer {
    fn pass(client: Option<Place>, verdict: Option<i32>, identity: Identity) -> Answer {
        Answer {
            decision: Decision::Pass,
            client,
            verdict,
            identity,
            forwards: Forwards::No,
            connection: 0,
            own: 0,
            from_header: false,
            reason: None,
        }
    }

    fn refuse(decision: Decision, reason: String) -> Answer {
        Answer {
            decision,
            client: None,
            verdict: None,
            identity: Identity::None,
            forwards: Forwards::No,
            connection: 0,
            own: 0,
            from_header: false,
            reason: Some(reason),
        }
    }
}

/// A certificate as presented, with its place if it is remembered already.
type Presented = (Option<Place>, Rc<Certificate>);

/// The state of one worker.
pub struct Engine {
    policy: RefCell<Option<Rc<Policy>>>,
    epoch: Cell<u64>,
    clients: RefCell<Clients>,
    verdicts: RefCell<Cache<(CertificateDigests, [u8; 32]), Verdict>>,
    statuses: RefCell<Cache<[u8; 32], Status>>,
    revoked: RefCell<Revoked>,
    crl_watch: RefCell<CrlWatch>,
    crls: RefCell<Cache<[u8; 32], Rc<Crl>>>,
    watching: RefCell<reload::Watching>,
    /// That the policy was compiled in.
    process: Cell<u32>,
    /// What it shares with the other workers, if there are any.
    node: RefCell<Option<Arc<node::Node>>>,
    state_file: RefCell<Option<Arc<node::StateFile>>>,
    standing: Cell<reload::Standing>,
    /// Since when another policy is in force on the node; `Some(None)` where this one must not be served.
    behind_since: Cell<Option<Option<Instant>>>,
    inbound: RefCell<Cache<[u8; 32], CertificateDigests>>,
    tokens: RefCell<Cache<[u8; 32], Rc<Vouched>>>,
    /// When the issuer was asked, and the first second at which it may be asked again.
    inactive: RefCell<Cache<[u8; 32], (i64, i64)>>,
    providers: RefCell<Cache<[u8; 32], Rc<Provider>>>,
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
            watching: RefCell::default(),
            process: Cell::default(),
            node: RefCell::default(),
            state_file: RefCell::default(),
            standing: Cell::default(),
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
        // What a token may do is checked on every request; that somebody vouched for it is not.
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
        let ask = self.policy()?.ask(server_name).cloned();
        Connection::greet(ssl, ask)
    }

    /// Certificate phase: asks for a certificate if the ClientHello phase decided so. Tells
    /// whether it did.
    ///
    /// # Errors
    /// When the ClientHello phase did not run: then the session could be carried to another name.
    pub fn certificate(&self, ssl: &SslRef) -> Result<bool, Error> {
        match Connection::of(ssl) {
            Some(connection) => connection.ask(ssl),
            None => Err(Error::Misuse(NOT_GREETED.to_owned())),
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
    ) -> Result<Answer, Error> {
        self.access_with(ssl, plan_id, host, &Came::default(), now)
    }

    /// [`Engine::access`] of a request with headers that its route may read.
    pub fn access_with(
        &self,
        ssl: Option<&SslRef>,
        plan_id: usize,
        host: &[u8],
        came: &Came<'_>,
        now: i64,
    ) -> Result<Answer, Error> {
        let policy = self.policy()?;
        let plan = policy
            .plans
            .get(plan_id)
            .ok_or_else(|| Error::Misuse(format!("no plan {plan_id} in this policy")))?;
        if self.is_left_behind() {
            let reason = "a newer policy than that of this worker is in force".to_owned();
            return Ok(Answer::refuse(Decision::Unavailable, reason));
        }
        if !plan.applies {
            return Ok(Answer::pass(None, None, Identity::None));
        }
        let mut answer = match (&plan.auth, &plan.inbound) {
            (Some(auth), Some(inbound)) => {
                let answer =
                    self.decide_header(&policy, plan, (auth, inbound), ssl, host, came, now)?;
                Answer {
                    from_header: true,
                    ..answer
                }
            }
            (None, Some(inbound)) => {
                self.take_header(&policy, (plan_id, plan), inbound, ssl, host, came, now)?
            }
            _ => {
                let mut answer = self.decide(&policy, plan, plan_id, ssl, host, now)?;
                if let (None, Some(_), Some(ssl)) = (answer.client, answer.verdict, ssl) {
                    answer.connection = Connection::of_or_new(ssl)?.number();
                }
                answer
            }
        };
        if answer.decision == Decision::Pass && !plan.told.dialects.is_empty() {
            self.of_this_request(plan, ssl, host, &mut answer)?;
        }
        Ok(answer)
    }

    /// The decision about a certificate from a header. It is never remembered on the connection,
    /// which carries requests of many clients.
    #[allow(clippy::too_many_arguments)]
    fn decide_header(
        &self,
        policy: &Policy,
        plan: &Plan,
        (auth, inbound): (&Auth, &Inbound),
        ssl: Option<&SslRef>,
        host: &[u8],
        came: &Came<'_>,
        now: i64,
    ) -> Result<Answer, Error> {
        if let Some(ssl) = ssl {
            let connection = Connection::of_or_new(ssl)?;
            if let Some(answer) = misdirected(policy, connection, ssl, host) {
                return Ok(answer);
            }
        }
        let (place, certificate) = match self.sent(inbound, came)? {
            Sent::Certificate(place, certificate) => (place, certificate),
            Sent::Nothing(why) => {
                let untrusted = Untrusted::no_certificate(why);
                return Ok(self.untrusted(policy, plan, auth, untrusted));
            }
            Sent::Refused(reason) => {
                let untrusted = Untrusted {
                    verdict: Some(UNSPECIFIED),
                    reason,
                };
                return Ok(self.untrusted(policy, plan, auth, untrusted));
            }
        };
        let (answer, _) = self.judge_client(policy, plan, auth, None, place, &certificate, now)?;
        Ok(answer)
    }

    /// The certificate of a request whose route judges nobody, but reads a header for its token: the
    /// same one as [`Engine::bearer`] compares the token with. It counts as not verified, since
    /// that depends on the token.
    #[allow(clippy::too_many_arguments)]
    fn take_header(
        &self,
        policy: &Policy,
        (plan_id, plan): (usize, &Plan),
        inbound: &Inbound,
        ssl: Option<&SslRef>,
        host: &[u8],
        came: &Came<'_>,
        now: i64,
    ) -> Result<Answer, Error> {
        let sent = self.sent(inbound, came)?;
        if matches!(&sent, Sent::Nothing(_)) && !Engine::denies(&sent) {
            return self.decide(policy, plan, plan_id, ssl, host, now);
        }
        if let Some(ssl) = ssl {
            let connection = Connection::of_or_new(ssl)?;
            connection.count(ssl);
            if let Some(answer) = misdirected(policy, connection, ssl, host) {
                return Ok(answer);
            }
        }
        let (client, verdict) = match sent {
            Sent::Certificate(place, certificate) => {
                let place = self.remember(place, &certificate, Via::Unjudged)?;
                (Some(place), None)
            }
            Sent::Nothing(_) => (None, None),
            // Not "no certificate": something was sent.
            Sent::Refused(_) => (None, Some(UNSPECIFIED)),
        };
        Ok(Answer {
            from_header: true,
            ..Answer::pass(client, verdict, Identity::None)
        })
    }

    /// The decision about a certificate, and until when it holds.
    #[allow(clippy::too_many_arguments)]
    fn judge_client(
        &self,
        policy: &Policy,
        plan: &Plan,
        auth: &Auth,
        connection: Option<&Connection>,
        place: Option<Place>,
        certificate: &Rc<Certificate>,
        now: i64,
    ) -> Result<(Answer, i64), Error> {
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
                let answer = Answer {
                    decision: Decision::Pending,
                    ..Answer::pass(None, None, Identity::None)
                };
                return Ok((answer, now));
            }
        };
        let Some(identity) = policy.identify(auth, certificate, verdict.cas()) else {
            return untrusted(0, "no consumer");
        };
        if let Some(twin) = verdict.alternate_sha256() {
            certificate.set_alternate_sha256(twin);
        }
        let via = connection.map_or(Via::Header, |_| Via::Tls);
        let place = self.remember_trusted(place, certificate, via, &verdict, auth, now)?;
        let mut answer = Answer::pass(Some(place), Some(0), identity);
        if let Err(reason) = policy.permit(plan, Some(certificate), identity) {
            answer.decision = Decision::Forbidden;
            answer.reason = Some(about(&reason, certificate));
        }
        Ok((answer, until))
    }

    fn decide(
        &self,
        policy: &Policy,
        plan: &Plan,
        plan_id: usize,
        ssl: Option<&SslRef>,
        host: &[u8],
        now: i64,
    ) -> Result<Answer, Error> {
        let Some(ssl) = ssl else {
            let untrusted = Untrusted::no_certificate("the connection is not TLS");
            return Ok(match &plan.auth {
                Some(auth) => self.untrusted(policy, plan, auth, untrusted),
                None => Answer::pass(None, None, Identity::None),
            });
        };
        let connection = Connection::of_or_new(ssl)?;
        connection.count(ssl);
        let again = self.again(connection, plan_id, host, now);
        metrics::count_look_up(again.is_some(), Event::DecisionHit, Event::DecisionMiss);
        if let Some(answer) = again {
            return Ok(answer);
        }

        if let Some(answer) = misdirected(policy, connection, ssl, host) {
            return Ok(answer);
        }
        let resumption = plan.auth.as_ref().is_none_or(|auth| auth.resumption);
        if !resumption && ext::is_resumed(ssl) {
            return Ok(Answer::refuse(
                Decision::Misdirected,
                "misdirected request: the route takes no resumed TLS session, and this Host is \
                 none of its snis"
                    .to_owned(),
            ));
        }
        let client = self.client_of(connection, ssl)?;
        if let Some((place, _)) = &client {
            metrics::count_look_up(place.is_some(), Event::ClientHit, Event::ClientMiss);
        }
        let (answer, until) = match (&plan.auth, client) {
            (None, client) => {
                let remember = |(place, certificate)| self.remember(place, &certificate, Via::Tls);
                let place = client.map(remember).transpose()?;
                (Answer::pass(place, None, Identity::None), i64::MAX)
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
            (Some(auth), Some((place, certificate))) => self.judge_client(
                policy,
                plan,
                auth,
                Some(connection),
                place,
                &certificate,
                now,
            )?,
        };
        if answer.decision == Decision::Pass && now < until && host.len() <= MAX_HOST {
            connection.remember(Memo {
                epoch: self.epoch(),
                revocations: self.revoked.borrow().count(),
                plan: plan_id,
                host: host.into(),
                answer: answer.clone(),
                from: now,
                until,
            });
        }
        Ok(answer)
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
        let why = if !connection.greeted() {
            NOT_GREETED.to_owned()
        } else if !connection.asks() {
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
        if policy.ask(Some(name)).is_some() {
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
    fn untrusted(&self, policy: &Policy, plan: &Plan, auth: &Auth, why: Untrusted) -> Answer {
        let decision = match why.verdict {
            Some(_) => Decision::Refused,
            None => Decision::NoCertificate,
        };
        let Some(anonymous) = auth.anonymous else {
            return Answer {
                verdict: why.verdict,
                ..Answer::refuse(decision, why.reason)
            };
        };
        let identity = Identity::Anonymous(anonymous);
        match policy.permit(plan, None, identity) {
            Ok(()) => Answer {
                verdict: why.verdict,
                ..Answer::pass(None, None, identity)
            },
            Err(reason) => Answer {
                verdict: why.verdict,
                ..Answer::refuse(Decision::Forbidden, format!("{reason} (anonymous)"))
            },
        }
    }

    /// The last answer on this connection, if everything it depended on still holds.
    fn again(&self, connection: &Connection, plan: usize, host: &[u8], now: i64) -> Option<Answer> {
        let memo = connection.memo();
        let memo = memo.as_ref()?;
        if memo.epoch != self.epoch() || memo.plan != plan || *memo.host != *host {
            return None;
        }
        if now < memo.from || memo.until <= now {
            return None;
        }
        if memo.revocations != self.revoked.borrow().count() {
            return None;
        }
        if let Some(place) = memo.answer.client {
            if !self.clients.borrow_mut().holds(place) {
                return None;
            }
        }
        Some(memo.answer.clone())
    }

    /// The certificate presented on a connection, whatever it is worth.
    pub fn client(&self, ssl: &SslRef) -> Result<Option<Rc<Certificate>>, Error> {
        let client = self.client_of(Connection::of_or_new(ssl)?, ssl)?;
        Ok(client.map(|(_, certificate)| certificate))
    }

    /// The same, with its place if it is remembered already.
    fn client_of(&self, connection: &Connection, ssl: &SslRef) -> Result<Option<Presented>, Error> {
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
                clients.recall(found.place, &certificate);
                certificate
            }
        };
        Ok(Some((Some(found.place), certificate)))
    }

    /// Remembers a client. Not among those that are trusted before its chain is verified, where the
    /// route verifies it: anybody can make certificates that nobody trusts.
    fn remember(
        &self,
        place: Option<Place>,
        certificate: &Rc<Certificate>,
        via: Via,
    ) -> Result<Place, Error> {
        match place {
            Some(place) if via == Via::Unjudged || !Clients::is_unjudged(place) => Ok(place),
            _ => self.clients.borrow_mut().put(certificate, via),
        }
    }

    /// Remembers a client whose chain is verified, with what of the certificates it sent stands in
    /// that chain: what else it sends beside its own must not make another client of it.
    fn remember_trusted(
        &self,
        place: Option<Place>,
        certificate: &Rc<Certificate>,
        via: Via,
        verdict: &Verdict,
        auth: &Auth,
        now: i64,
    ) -> Result<Place, Error> {
        let Some(chain) = verdict.used_intermediates() else {
            return self.remember(place, certificate, via);
        };
        let mut clients = self.clients.borrow_mut();
        if via == Via::Header && place.is_none() {
            // Or the header would be parsed again for the next request.
            clients.put(certificate, Via::Unjudged)?;
        }
        let key = CertificateDigests {
            chain,
            ..*certificate.digests()
        };
        match clients.find(&key) {
            Some(found) if !Clients::is_unjudged(found.place) => Ok(found.place),
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

    /// The certificate at a place that [`Engine::access`] gave.
    pub fn certificate_at(&self, place: Place) -> Option<Rc<Certificate>> {
        self.clients.borrow_mut().at(place)
    }

    /// The certificate of the client at a place, by the numbers of an answer.
    pub fn client_at(&self, index: u32, generation: u32) -> Option<Rc<Certificate>> {
        self.certificate_at(Place { index, generation })
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
            connection.remember_verdict(*store.verdict_key(), verdict.clone());
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
) -> Option<Answer> {
    if !ext::is_handshake_over(ssl) {
        return Some(Answer::refuse(
            Decision::TooEarly,
            "too early: the request came as early data".to_owned(),
        ));
    }
    if connection.is_bound(ssl, policy.ask(Some(host)).map(|ask| &**ask)) {
        return None;
    }
    let why = if connection.greeted() {
        "the connection was made under another policy than this Host's"
    } else {
        NOT_GREETED
    };
    Some(Answer::refuse(
        Decision::Misdirected,
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

const NOT_GREETED: &str =
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
