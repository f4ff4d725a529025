//! A policy at work in one worker: the three phases, and what is remembered beyond a connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use openssl::ssl::SslRef;

use crate::cache::{Cache, Place};
use crate::certificate::{Certificate, Key};
use crate::connection::{Connection, Memo};
use crate::policy::{Plan, Policy};
use crate::trust::{TrustStore, Verdict};
use crate::Error;

/// Clients whose parsed certificate is kept.
const MAX_CLIENTS: usize = 512;
/// Bytes that these take together at most, by estimate.
const MAX_CLIENTS_WEIGHT: usize = 32 << 20;
/// Bytes that OpenSSL takes for a byte of DER at worst: short names become structures of their own.
const DECODED: usize = 40;
/// Verdicts kept, 150 bytes each.
const MAX_VERDICTS: usize = 8192;

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
}

/// A decision with what led to it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The decision.
    pub decision: Decision,
    /// The client, when it presented a certificate and the route has a use for it.
    pub client: Option<Place>,
    /// The verdict, when the route asked for one.
    pub verdict: Option<Verdict>,
    /// Why not, for the error log only.
    pub reason: Option<String>,
}

impl Answer {
    fn pass(client: Option<Place>, verdict: Option<Verdict>) -> Answer {
        Answer {
            decision: Decision::Pass,
            client,
            verdict,
            reason: None,
        }
    }

    fn refuse(decision: Decision, reason: String) -> Answer {
        Answer {
            decision,
            client: None,
            verdict: None,
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
    clients: RefCell<Cache<Key, Rc<Certificate>>>,
    verdicts: RefCell<Cache<(Key, [u8; 32]), Verdict>>,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine {
            policy: RefCell::default(),
            epoch: Cell::default(),
            clients: RefCell::new(Cache::with_weight(MAX_CLIENTS, MAX_CLIENTS_WEIGHT)),
            verdicts: RefCell::new(Cache::new(MAX_VERDICTS)),
        }
    }
}

impl Engine {
    /// Puts a policy in force. What was remembered under the old one is forgotten where it could
    /// differ: verdicts are keyed by the content of their store and stay.
    pub fn install(&self, policy: Policy) {
        *self.policy.borrow_mut() = Some(Rc::new(policy));
        // Of all engines of the thread: what a connection remembers of another one is void.
        self.epoch.set(EPOCH.get() + 1);
        EPOCH.set(self.epoch.get());
        self.clients.borrow_mut().clear();
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
        let policy = self.policy()?;
        let plan = policy
            .plans
            .get(plan_id)
            .ok_or_else(|| Error::Misuse(format!("no plan {plan_id} in this policy")))?;
        if !plan.applies {
            return Ok(Answer::pass(None, None));
        }
        let Some(ssl) = ssl else {
            return Ok(match plan.auth {
                Some(_) => Answer::refuse(
                    Decision::NoCertificate,
                    "no certificate: the connection is not TLS".to_owned(),
                ),
                None => Answer::pass(None, None),
            });
        };
        let connection = Connection::of_or_new(ssl)?;
        if let Some(answer) = self.again(connection, plan_id, host, now) {
            return Ok(answer);
        }

        if !connection.is_bound(ssl, policy.ask(Some(host)).map(|ask| &**ask)) {
            let why = if connection.greeted() {
                "the connection was made under another policy than this Host's"
            } else {
                NOT_GREETED
            };
            return Ok(Answer::refuse(
                Decision::Misdirected,
                format!("misdirected request: {why}"),
            ));
        }
        let client = self.client_of(connection, ssl)?;
        let verdict = match (&plan.auth, &client) {
            (None, _) => None,
            (Some(_), None) => {
                return Ok(Answer::refuse(
                    Decision::NoCertificate,
                    "no certificate: the client presented none".to_owned(),
                ));
            }
            (Some(auth), Some((_, certificate))) => {
                let verdict = self.verdict(connection, &auth.store, certificate, now)?;
                if !verdict.is_success() {
                    return Ok(Answer {
                        decision: Decision::Refused,
                        client: None,
                        verdict: Some(verdict),
                        reason: Some(refusal(&verdict, certificate)),
                    });
                }
                Some(verdict)
            }
        };
        let place = client.map(|(place, certificate)| self.remember(place, &certificate));
        connection.remember(Memo {
            epoch: self.epoch(),
            plan: plan_id,
            host: host.into(),
            place,
            verdict,
        });
        Ok(Answer::pass(place, verdict))
    }

    /// The last answer on this connection, if everything it depended on still holds.
    fn again(&self, connection: &Connection, plan: usize, host: &[u8], now: i64) -> Option<Answer> {
        let memo = connection.memo();
        let memo = memo.as_ref()?;
        if memo.epoch != self.epoch() || memo.plan != plan || *memo.host != *host {
            return None;
        }
        if memo.verdict.is_some_and(|verdict| !verdict.holds_at(now)) {
            return None;
        }
        if let Some(place) = memo.place {
            self.clients.borrow_mut().at(place)?;
        }
        Some(Answer::pass(memo.place, memo.verdict))
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
        if let Some((place, certificate)) = self.clients.borrow_mut().find(&key) {
            return Ok(Some((Some(place), certificate.clone())));
        }
        let certificate = Rc::new(connection.certificate(ssl, key)?);
        Ok(Some((None, certificate)))
    }

    /// Remembers a client. Not before its chain is verified, where the route verifies it: anybody
    /// can make certificates that nobody trusts.
    fn remember(&self, place: Option<Place>, certificate: &Rc<Certificate>) -> Place {
        place.unwrap_or_else(|| {
            self.clients.borrow_mut().put_weighing(
                *certificate.key(),
                certificate.clone(),
                certificate.der_len().saturating_mul(DECODED),
            )
        })
    }

    /// The certificate at a place that [`Engine::access`] gave.
    pub fn certificate_at(&self, place: Place) -> Option<Rc<Certificate>> {
        self.clients.borrow_mut().at(place).cloned()
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

    fn verdict(
        &self,
        connection: &Connection,
        store: &TrustStore,
        certificate: &Certificate,
        now: i64,
    ) -> Result<Verdict, Error> {
        if let Some(verdict) = connection.verdict(store.digest(), now) {
            return Ok(verdict);
        }
        let key = (*certificate.key(), *store.digest());
        let known = self
            .verdicts
            .borrow_mut()
            .find(&key)
            .map(|(_, verdict)| *verdict);
        let verdict = match known {
            Some(verdict) if verdict.holds_at(now) => verdict,
            _ => {
                let verdict = store.verify(certificate.leaf(), certificate.intermediates(), now)?;
                self.verdicts.borrow_mut().put(key, verdict);
                verdict
            }
        };
        connection.remember_verdict(*store.digest(), verdict);
        Ok(verdict)
    }
}

const NOT_GREETED: &str =
    "ssl_client_hello_by_lua* did not run for this connection; put it at http{} level and call \
     mtls.client_hello() in it";

fn refusal(verdict: &Verdict, certificate: &Certificate) -> String {
    let name = |dn: Result<String, Error>| dn.unwrap_or_else(|_| "(unprintable)".to_owned());
    format!(
        "{} at depth {}, subject: \"{}\", issuer: \"{}\", serial: {}",
        verdict.text(),
        verdict.depth(),
        name(certificate.subject_dn()),
        name(certificate.issuer_dn()),
        certificate.serial(),
    )
}
