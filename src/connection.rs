//! What is remembered on one TLS connection, from its ClientHello to its end.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use openssl::ssl::SslRef;
use openssl::stack::{Stack, StackRef};
use openssl::x509::X509;

use crate::background;
use crate::certificate::{encoded_chain, sha256, Certificate, CertificateDigests};
use crate::decision::Decision;
use crate::handshake::CertificateRequest;
use crate::metrics::{self, Event};
use crate::openssl_ext::ssl::{self as ext, AttachedCaNames, ExData, HandshakeCallbacks};
use crate::trust::Verdict;
use crate::Error;

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

/// Most trust stores whose verdict one connection remembers.
const MAX_VERDICTS: usize = 8;

/// The last access decision that let a request pass, to be given again while nothing has changed.
pub struct CachedDecision {
    /// Policy the decision was made under.
    pub epoch: u64,
    /// How many certificates were found revoked before it.
    pub revocations: u64,
    /// Plan it was made for.
    pub plan: usize,
    /// Host it was made for.
    pub host: Box<[u8]>,
    /// The decision.
    pub decision: Decision,
    /// When it was made, in seconds since the epoch: a clock set back makes it void.
    pub from: i64,
    /// First second at which it does not hold any more.
    pub until: i64,
}

/// What the ClientHello phase decided; `None` for a name that asks for nothing. A connection may be
/// the last to know a policy that is in force no more.
#[derive(Default)]
struct Asked(Option<Arc<CertificateRequest>>);

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(ask) = self.0.take().filter(|ask| Arc::strong_count(ask) == 1) {
            background::free(ask);
        }
    }
}

/// One TLS connection.
#[derive(Default)]
pub struct Connection {
    asked: Asked,
    /// Whether the ClientHello phase ran at all.
    saw_client_hello: bool,
    /// Whether the certificate phase asked for a certificate, in this very handshake.
    requested: Cell<bool>,
    lent: Cell<Option<AttachedCaNames>>,
    chain_stored: Cell<bool>,
    counted: Cell<bool>,
    key: OnceCell<Option<CertificateDigests>>,
    verdicts: RefCell<Vec<([u8; 32], Verdict)>>,
    cached_decision: RefCell<Option<CachedDecision>>,
    forwarded: Cell<u64>,
    number: Cell<u32>,
    server_certificate_id: OnceCell<u32>,
}

impl Connection {
    /// Notes what the ClientHello asks for, and binds the session accordingly.
    pub fn on_client_hello(
        ssl: &SslRef,
        ask: Option<Arc<CertificateRequest>>,
    ) -> Result<(), Error> {
        if let Some(ask) = &ask {
            ext::set_session_id_context(ssl, ask.session_id_context())?;
        }
        metrics::count(Event::ClientHello);
        ex_data()?.set(
            ssl,
            Connection {
                asked: Asked(ask),
                saw_client_hello: true,
                ..Connection::default()
            },
        )
    }

    /// What is remembered on `ssl`.
    pub fn of(ssl: &SslRef) -> Option<&Connection> {
        ex_data().ok()?.get(ssl)
    }

    /// What is remembered on `ssl`, from now on at the latest.
    pub fn of_or_new(ssl: &SslRef) -> Result<&Connection, Error> {
        if let Some(connection) = Connection::of(ssl) {
            return Ok(connection);
        }
        ex_data()?.set(ssl, Connection::default())?;
        Connection::of(ssl).ok_or(Error::Panic)
    }

    /// Asks for a client certificate if the ClientHello phase decided so; tells whether it did.
    pub fn request_certificate(&self, ssl: &SslRef) -> Result<bool, Error> {
        let Some(ask) = &self.asked.0 else {
            return Ok(false);
        };
        ext::request_certificate::<Connection>(ssl);
        self.requested.set(true);
        self.lent.set(Some(ask.ca_names().attach(ssl)?));
        metrics::count(Event::CertificateRequest);
        Ok(true)
    }

    /// Counts the connection, the first time.
    pub fn count(&self, ssl: &SslRef) {
        if !self.counted.replace(true) {
            metrics::count_look_up(
                ssl.session_reused(),
                Event::ResumedConnection,
                Event::FullConnection,
            );
        }
    }

    /// Whether the ClientHello phase ran for this connection.
    pub fn saw_client_hello(&self) -> bool {
        self.saw_client_hello
    }

    /// Whether the server name of the ClientHello asks for a certificate.
    pub fn requests_certificate(&self) -> bool {
        self.asked.0.is_some()
    }

    /// Whether a certificate was asked for in this very handshake. Where a session is resumed, none
    /// ever is.
    pub fn requested(&self) -> bool {
        self.requested.get()
    }

    /// Whether the session was made under `expected`, the ask of the name that a request wants.
    pub fn is_bound(&self, ssl: &SslRef, expected: Option<&CertificateRequest>) -> bool {
        match expected {
            Some(ask) => ask.matches_session(ext::session_id_context(ssl)),
            None => self.asked.0.is_none(),
        }
    }

    /// Digests of leaf and chain; `None` when the client presented no certificate.
    pub fn key(&self, ssl: &SslRef) -> Result<Option<CertificateDigests>, Error> {
        if let Some(key) = self.key.get() {
            return Ok(*key);
        }
        let over = ext::is_handshake_over(ssl);
        if over {
            self.detach_ca_names(ssl);
        }
        let key = match ssl.peer_certificate() {
            None => None,
            Some(leaf) => {
                let carried = ext::session_data(ssl);
                let chain = if encoded_chain::is_encoded_chain(carried) {
                    encoded_chain::digest(carried)
                } else {
                    encoded_chain::digest(&encoded_chain::encode(sent(ssl))?)
                };
                Some(CertificateDigests {
                    leaf: sha256(&leaf)?,
                    chain,
                })
            }
        };
        if !over {
            // The certificate may still be to come.
            return Ok(key);
        }
        Ok(*self.key.get_or_init(|| key))
    }

    /// The certificate behind [`Connection::key`], read from the connection or its session. `known`
    /// is the chain that the key speaks of, if that is at hand.
    pub fn certificate(
        &self,
        ssl: &SslRef,
        key: CertificateDigests,
        known: Option<Rc<Stack<X509>>>,
    ) -> Result<Certificate, Error> {
        let leaf = ssl.peer_certificate().ok_or(Error::NotFound)?;
        let intermediates = match known {
            Some(known) => known,
            None => Rc::new(intermediates(ssl)?),
        };
        Ok(Certificate::with_digests(leaf, intermediates, key))
    }

    /// Verdict of the store with this digest, while it holds.
    pub fn verdict(&self, store: &[u8; 32], now: i64) -> Option<Verdict> {
        let verdicts = self.verdicts.borrow();
        let (_, verdict) = verdicts.iter().find(|(digest, _)| digest == store)?;
        verdict.holds_at(now).then(|| verdict.clone())
    }

    /// Remembers a verdict.
    pub fn cache_verdict(&self, store: [u8; 32], verdict: Verdict) {
        let mut verdicts = self.verdicts.borrow_mut();
        verdicts.retain(|(digest, _)| *digest != store);
        if verdicts.len() >= MAX_VERDICTS {
            verdicts.remove(0);
        }
        verdicts.push((store, verdict));
    }

    /// The last decision.
    pub fn cached_decision(&self) -> std::cell::Ref<'_, Option<CachedDecision>> {
        self.cached_decision.borrow()
    }

    /// Remembers a decision.
    pub fn cache_decision(&self, cached: CachedDecision) {
        *self.cached_decision.borrow_mut() = Some(cached);
    }

    /// Whether the request with this number, from 1 on the connection, is the first of those for
    /// which this was asked. The same request may ask again.
    pub fn is_first(&self, request: u64) -> bool {
        if self.forwarded.get() == 0 {
            self.forwarded.set(request);
        }
        self.forwarded.get() == request
    }

    /// A number that no other connection of the thread has; never 0.
    pub fn number(&self) -> u32 {
        if self.number.get() == 0 {
            let number = NUMBER.get().checked_add(1).unwrap_or(1);
            NUMBER.set(number);
            self.number.set(number);
        }
        self.number.get()
    }

    /// What tells apart the names in this server's own certificate, worked out once.
    pub fn server_certificate_id(&self, of: impl FnOnce() -> u32) -> u32 {
        *self.server_certificate_id.get_or_init(of)
    }

    fn detach_ca_names(&self, ssl: &SslRef) {
        if let (Some(ask), Some(lent)) = (&self.asked.0, self.lent.take()) {
            ask.ca_names().detach(ssl, lent);
        }
    }

    /// Puts the chain into the session, or makes the session one that is never resumed: a client
    /// must not be accepted on the first connection and refused on the second because its chain
    /// is gone.
    fn store_chain_in_session(&self, ssl: &SslRef, chain: &StackRef<X509>) {
        let Some(ask) = &self.asked.0 else { return };
        let stored = encoded_chain::encode(chain.iter().skip(1)).and_then(|bytes| {
            if bytes.len() > encoded_chain::MAX_ENCODED_LEN {
                return Err(Error::CertificateTooLarge(
                    bytes.len(),
                    encoded_chain::MAX_ENCODED_LEN,
                ));
            }
            ext::set_session_data(ssl, &bytes)
        });
        if stored.is_err() {
            // Should this fail as well, a resumed session verifies with what the store has.
            let _ = ext::rebind_session(ssl, ask.unresumable_context());
        }
    }
}

impl HandshakeCallbacks for Connection {
    /// The result of that attempt is ignored, so none of its work is wanted.
    const VERIFY_DEPTH: u32 = 0;

    fn on_client_chain(ssl: &SslRef, chain: &StackRef<X509>) {
        if let Some(connection) = Connection::of(ssl) {
            if !connection.chain_stored.replace(true) {
                metrics::count(Event::CertificatePresented);
                connection.detach_ca_names(ssl);
                connection.store_chain_in_session(ssl, chain);
                // OpenSSL makes two, and parses the client certificate anew for each, which costs
                // more than verifying its chain. One lasts to the next connection.
                ext::limit_tickets(ssl);
            }
        }
    }

    fn may_resume(ssl: &SslRef) -> bool {
        Connection::of(ssl)
            .and_then(|connection| connection.asked.0.as_ref())
            .is_some_and(|ask| ask.resumption())
    }
}

/// What the client sent beside its leaf, in this handshake or in that of the session.
fn intermediates(ssl: &SslRef) -> Result<Stack<X509>, Error> {
    let carried = ext::session_data(ssl);
    if ssl.peer_cert_chain().is_none() && encoded_chain::is_encoded_chain(carried) {
        return encoded_chain::decode(carried);
    }
    let mut stack = Stack::new()?;
    for certificate in sent(ssl) {
        stack.push(certificate.to_owned())?;
    }
    Ok(stack)
}

/// What the client sent beside its leaf in this very handshake.
fn sent(ssl: &SslRef) -> impl Iterator<Item = &openssl::x509::X509Ref> {
    ssl.peer_cert_chain().into_iter().flatten()
}

/// The index is reserved once a process: nginx keeps this library mapped across reloads.
fn ex_data() -> Result<&'static ExData<Connection>, Error> {
    static EX_DATA: OnceLock<Result<ExData<Connection>, Error>> = OnceLock::new();
    EX_DATA
        .get_or_init(ExData::new)
        .as_ref()
        .map_err(Error::clone)
}
