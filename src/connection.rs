//! The state of one TLS connection from its ClientHello to its end, kept in `SSL` ex_data.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use openssl::ssl::SslRef;
use openssl::stack::{Stack, StackRef};
use openssl::x509::X509;

use crate::background;
use crate::certificate::{encoded_chain, sha256, Certificate, CertificateDigests};
use crate::decision::Decision;
use crate::handshake::{server_name, CertificateRequest};
use crate::metrics::{self, Event};
use crate::openssl_ext::session_cache;
use crate::openssl_ext::ssl::{self as ext, AttachedCaNames, ExData, HandshakeCallbacks};
use crate::trust::Verdict;
use crate::Error;

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
    static WATCHED: RefCell<HashSet<u32>> = RefCell::default();
}

/// Most trust stores whose verdicts one connection caches.
const MAX_VERDICTS: usize = 8;

/// The last decision that allowed a request, which holds for the next one while nothing it depended
/// on has changed.
pub struct CachedDecision {
    /// Epoch of the policy that the decision was made under.
    pub epoch: u64,
    /// How many revoked certificates had been found before it.
    pub revocations: u64,
    /// The generations of the blocks and of the lists before it.
    pub denials: (u64, u64),
    /// The plan it was made for.
    pub plan: usize,
    /// The Host it was made for.
    pub host: Box<[u8]>,
    /// The decision.
    pub decision: Decision,
    /// When it was made, in seconds since the epoch: it is not used if the clock is set back
    /// before that.
    pub from: i64,
    /// First second at which it does not hold.
    pub until: i64,
}

/// The certificate request of the server name; `None` if the name has none. A connection may hold
/// the last reference to a request of an old policy, which is then freed on the background thread.
#[derive(Default)]
struct CurrentRequest(Option<Arc<CertificateRequest>>);

impl Drop for CurrentRequest {
    fn drop(&mut self) {
        let last = |request: &Arc<CertificateRequest>| Arc::strong_count(request) == 1;
        if let Some(request) = self.0.take().filter(last) {
            background::free(request);
        }
    }
}

/// The number of a connection that is in [`WATCHED`] until it is freed; 0 if it is not.
#[derive(Default)]
struct Watch(Cell<u32>);

impl Drop for Watch {
    fn drop(&mut self) {
        if self.0.get() != 0 {
            // Without the set, the thread is ending.
            let _ = WATCHED.try_with(|watched| watched.borrow_mut().remove(&self.0.get()));
        }
    }
}

/// One TLS connection.
#[derive(Default)]
pub struct Connection {
    request: CurrentRequest,
    /// The server name of the ClientHello, in normal form.
    server_name: Option<Box<[u8]>>,
    /// Whether the ClientHello phase ran.
    saw_client_hello: bool,
    /// Whether the session of this handshake is to be kept in the server's session cache.
    cache_session: bool,
    /// Whether the certificate phase requested a certificate in this handshake.
    requested: Cell<bool>,
    attached_ca_names: Cell<Option<AttachedCaNames>>,
    chain_stored: Cell<bool>,
    counted: Cell<bool>,
    digests: OnceCell<Option<CertificateDigests>>,
    verdicts: RefCell<Vec<([u8; 32], Verdict)>>,
    cached_decision: RefCell<Option<CachedDecision>>,
    first_forwarded: Cell<u64>,
    number: Cell<u32>,
    watch: Watch,
    server_certificate_id: OnceCell<u32>,
}

impl Connection {
    /// Stores the server name and its certificate request, and binds the session to the request.
    /// `use_session_cache`: where the server has a session cache, the session is kept there.
    pub fn on_client_hello(
        ssl: &SslRef,
        server_name: Option<&[u8]>,
        request: Option<Arc<CertificateRequest>>,
        use_session_cache: bool,
    ) -> Result<(), Error> {
        let mut cache_session = false;
        if let Some(request) = &request {
            ext::set_session_id_context(ssl, request.session_id_context())?;
            cache_session = use_session_cache && session_cache::has_session_cache(ssl);
            if cache_session && session_cache::offers_session_id(ssl) {
                session_cache::keep_session_cache(ssl);
            }
        }
        metrics::count(Event::ClientHello);
        ex_data()?.set(
            ssl,
            Connection {
                request: CurrentRequest(request),
                server_name: server_name
                    .and_then(|name| server_name::normalise(name, &mut [0; 256]).map(Box::from)),
                saw_client_hello: true,
                cache_session,
                ..Connection::default()
            },
        )
    }

    /// The state of `ssl`, if it has any.
    pub fn of(ssl: &SslRef) -> Option<&Connection> {
        ex_data().ok()?.get(ssl)
    }

    /// The state of `ssl`, created if it has none.
    pub fn of_or_new(ssl: &SslRef) -> Result<&Connection, Error> {
        if let Some(connection) = Connection::of(ssl) {
            return Ok(connection);
        }
        ex_data()?.set(ssl, Connection::default())?;
        Connection::of(ssl).ok_or(Error::Panic)
    }

    /// Requests a client certificate if the server name has a certificate request. Returns whether
    /// it did.
    pub fn request_certificate(&self, ssl: &SslRef) -> Result<bool, Error> {
        let Some(request) = &self.request.0 else {
            return Ok(false);
        };
        ext::request_certificate::<Connection>(ssl);
        self.requested.set(true);
        self.attached_ca_names
            .set(Some(request.ca_names().attach(ssl)?));
        metrics::count(Event::CertificateRequest);
        Ok(true)
    }

    /// Counts the connection when called for the first time.
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

    /// Whether the server name of the ClientHello has a certificate request.
    pub fn requests_certificate(&self) -> bool {
        self.request.0.is_some()
    }

    /// Whether this handshake requested a certificate. One that resumes a session never does.
    pub fn requested(&self) -> bool {
        self.requested.get()
    }

    /// Whether the session was made under `expected`, the certificate request of the Host of a
    /// request.
    pub fn is_bound(&self, ssl: &SslRef, expected: Option<&CertificateRequest>) -> bool {
        match expected {
            Some(request) => request.matches_session(ext::session_id_context(ssl)),
            None => self.request.0.is_none(),
        }
    }

    /// Whether the session was made under the certificate request that the server name had at the
    /// ClientHello. OpenSSL resumes no other session.
    pub fn is_bound_to_own_request(&self, ssl: &SslRef) -> bool {
        let request = self.request.0.as_deref();
        request.is_some_and(|own| own.matches_session(ext::session_id_context(ssl)))
    }

    /// The server name of the ClientHello, in normal form. After a HelloRetryRequest it is that of
    /// the first ClientHello, by which the certificate request was chosen.
    pub fn server_name(&self) -> Option<&[u8]> {
        self.server_name.as_deref()
    }

    /// Whether `host` is the server name of the ClientHello.
    pub fn is_own_name(&self, host: &[u8]) -> bool {
        let host = server_name::normalise(host, &mut [0; 256]).map(Box::from);
        host.is_some() && host == self.server_name
    }

    /// Whether a new handshake under the server name of this connection would be another one:
    /// `current` is the certificate request that the name has now.
    pub fn is_outdated(&self, current: Option<&CertificateRequest>) -> bool {
        self.saw_client_hello
            && match (self.request.0.as_deref(), current) {
                (None, None) => false,
                (Some(own), Some(current)) => !own.requests_the_same(current),
                _ => true,
            }
    }

    /// Digests of leaf and chain; `None` when the client presented no certificate.
    pub fn digests(&self, ssl: &SslRef) -> Result<Option<CertificateDigests>, Error> {
        if let Some(digests) = self.digests.get() {
            return Ok(*digests);
        }
        let over = ext::is_handshake_over(ssl);
        if over {
            self.detach_ca_names(ssl);
        }
        let digests = match ssl.peer_certificate() {
            None => None,
            Some(leaf) => {
                let stored = ext::session_data(ssl);
                let chain = if encoded_chain::is_encoded_chain(stored) {
                    encoded_chain::digest(stored)
                } else {
                    encoded_chain::digest(&encoded_chain::encode(sent_intermediates(ssl))?)
                };
                Some(CertificateDigests {
                    leaf: sha256(&leaf)?,
                    chain,
                })
            }
        };
        if !over {
            // The certificate may not have arrived yet.
            return Ok(digests);
        }
        Ok(*self.digests.get_or_init(|| digests))
    }

    /// The certificate with these digests, read from the connection or its session. `chain` is its
    /// chain, if the caller has that already.
    pub fn certificate(
        &self,
        ssl: &SslRef,
        digests: CertificateDigests,
        chain: Option<Rc<Stack<X509>>>,
    ) -> Result<Certificate, Error> {
        let leaf = ssl.peer_certificate().ok_or(Error::NotFound)?;
        let intermediates = match chain {
            Some(chain) => chain,
            None => Rc::new(intermediates(ssl)?),
        };
        Ok(Certificate::with_digests(leaf, intermediates, digests))
    }

    /// The cached verdict of the trust store with this digest, while it holds.
    pub fn verdict(&self, store: &[u8; 32], now: i64) -> Option<Verdict> {
        let verdicts = self.verdicts.borrow();
        let (_, verdict) = verdicts.iter().find(|(digest, _)| digest == store)?;
        verdict.holds_at(now).then(|| verdict.clone())
    }

    /// Caches a verdict.
    pub fn cache_verdict(&self, store: [u8; 32], verdict: Verdict) {
        let mut verdicts = self.verdicts.borrow_mut();
        verdicts.retain(|(digest, _)| *digest != store);
        if verdicts.len() >= MAX_VERDICTS {
            verdicts.remove(0);
        }
        verdicts.push((store, verdict));
    }

    /// The cached decision.
    pub fn cached_decision(&self) -> std::cell::Ref<'_, Option<CachedDecision>> {
        self.cached_decision.borrow()
    }

    /// Caches a decision.
    pub fn cache_decision(&self, cached: CachedDecision) {
        *self.cached_decision.borrow_mut() = Some(cached);
    }

    /// Whether the request with this number, counted from 1 on the connection, is the first for
    /// which this function is called. Further calls for the same request return the same.
    pub fn is_first(&self, request: u64) -> bool {
        if self.first_forwarded.get() == 0 {
            self.first_forwarded.set(request);
        }
        self.first_forwarded.get() == request
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

    /// From now on [`is_open`] tells whether this connection is open. Returns its number when called
    /// for the first time.
    pub fn watch(&self) -> Option<u32> {
        if self.watch.0.get() != 0 {
            return None;
        }
        let number = self.number();
        self.watch.0.set(number);
        WATCHED.with_borrow_mut(|watched| watched.insert(number));
        Some(number)
    }

    /// Identifies the names in this server's own certificate; computed once.
    pub fn server_certificate_id(&self, compute: impl FnOnce() -> u32) -> u32 {
        *self.server_certificate_id.get_or_init(compute)
    }

    fn detach_ca_names(&self, ssl: &SslRef) {
        if let (Some(request), Some(names)) = (&self.request.0, self.attached_ca_names.take()) {
            request.ca_names().detach(ssl, names);
        }
    }

    /// Keeps the session in the server's cache if it fits, else in a ticket.
    fn choose_session_cache(&self, ssl: &SslRef, chain: &StackRef<X509>) {
        let leaf = chain.iter().next().and_then(|leaf| leaf.to_der().ok());
        if leaf.is_some_and(|leaf| session_cache::fits_session_cache(ssl, leaf.len())) {
            session_cache::use_session_cache(ssl);
        }
    }

    /// Stores the chain in the session. If that fails, the session is made one that is never
    /// resumed: a resumed session without the chain would be refused where the first connection was
    /// accepted.
    fn store_chain_in_session(&self, ssl: &SslRef, chain: &StackRef<X509>) {
        let Some(request) = &self.request.0 else {
            return;
        };
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
            // If this fails as well, a resumed session is verified with the intermediates of the
            // store.
            let _ = ext::rebind_session(ssl, request.unresumable_context());
        }
    }
}

/// Whether the connection for which [`Connection::watch`] returned this number is open, that is not
/// freed yet.
pub fn is_open(number: u32) -> bool {
    WATCHED.with_borrow(|watched| watched.contains(&number))
}

impl HandshakeCallbacks for Connection {
    /// The result of the verification in the handshake is ignored, so it does the least work.
    const VERIFY_DEPTH: u32 = 0;

    fn on_client_chain(ssl: &SslRef, chain: &StackRef<X509>) {
        if let Some(connection) = Connection::of(ssl) {
            if !connection.chain_stored.replace(true) {
                metrics::count(Event::CertificatePresented);
                connection.detach_ca_names(ssl);
                connection.store_chain_in_session(ssl, chain);
                // OpenSSL sends two tickets and parses the client certificate again for each, which
                // costs more than verifying its chain. One suffices for the next connection.
                ext::limit_tickets(ssl);
                if connection.cache_session {
                    connection.choose_session_cache(ssl, chain);
                }
            }
        }
    }

    fn may_resume(ssl: &SslRef) -> bool {
        Connection::of(ssl)
            .and_then(|connection| connection.request.0.as_ref())
            .is_some_and(|request| request.resumption())
    }
}

/// The intermediates that the client sent, in this handshake or in that of the session.
fn intermediates(ssl: &SslRef) -> Result<Stack<X509>, Error> {
    let stored = ext::session_data(ssl);
    if ssl.peer_cert_chain().is_none() && encoded_chain::is_encoded_chain(stored) {
        return encoded_chain::decode(stored);
    }
    let mut stack = Stack::new()?;
    for certificate in sent_intermediates(ssl) {
        stack.push(certificate.to_owned())?;
    }
    Ok(stack)
}

/// The intermediates that the client sent in this handshake.
fn sent_intermediates(ssl: &SslRef) -> impl Iterator<Item = &openssl::x509::X509Ref> {
    ssl.peer_cert_chain().into_iter().flatten()
}

/// The ex_data index, reserved once per process: nginx keeps this library mapped across reloads.
fn ex_data() -> Result<&'static ExData<Connection>, Error> {
    static EX_DATA: OnceLock<Result<ExData<Connection>, Error>> = OnceLock::new();
    EX_DATA
        .get_or_init(ExData::new)
        .as_ref()
        .map_err(Error::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    use openssl::ssl::{Ssl, SslContext, SslMethod};

    use crate::handshake::CA_NAMES_BUDGET;
    use crate::testing;
    use crate::trust::{CaCertificate, TrustStore, VerifyOptions};

    fn connection(name: Option<&[u8]>, request: Option<Arc<CertificateRequest>>) -> Ssl {
        let context = SslContext::builder(SslMethod::tls()).unwrap().build();
        let ssl = Ssl::new(&context).unwrap();
        Connection::on_client_hello(&ssl, name, request, false).unwrap();
        ssl
    }

    /// A request without stores, with or without a CA name.
    fn request(with_ca_name: bool) -> CertificateRequest {
        let ca: Arc<CaCertificate> = testing::pki().ca_certificate();
        let names = with_ca_name.then(|| vec![ca]);
        CertificateRequest::new(&[], names.as_deref(), CA_NAMES_BUDGET).unwrap()
    }

    #[test]
    fn is_own_name_compares_normal_forms() {
        let ssl = connection(Some(b"API.Example.com."), None);
        let connection = Connection::of(&ssl).unwrap();
        assert!(connection.is_own_name(b"api.example.com"));
        assert!(connection.is_own_name(b"Api.example.COM."));
        for other in [
            &b"example.com"[..],
            b"api.example.com..",
            b"api.example.com\0",
            b"",
        ] {
            assert!(!connection.is_own_name(other), "{other:?}");
        }
    }

    #[test]
    fn is_own_name_without_a_server_name_is_false() {
        for name in [None, Some(&b""[..]), Some(&b"a\0b"[..])] {
            let ssl = connection(name, None);
            let connection = Connection::of(&ssl).unwrap();
            for host in [&b""[..], b".", b"a\0b", b"127.0.0.1"] {
                assert!(!connection.is_own_name(host), "{name:?} {host:?}");
            }
        }
    }

    #[test]
    fn is_outdated_compares_what_is_requested_and_ca_names() {
        let ca = testing::pki().ca_certificate();
        let store = TrustStore::new(std::slice::from_ref(&ca), VerifyOptions::default()).unwrap();
        let other = CertificateRequest::new(&[Arc::new(store)], None, CA_NAMES_BUDGET).unwrap();
        let ssl = connection(Some(b"a"), Some(Arc::new(request(true))));
        let requested = Connection::of(&ssl).unwrap();
        assert!(!requested.is_outdated(Some(&request(true))));
        assert!(requested.is_outdated(Some(&request(false))), "CA names");
        assert!(requested.is_outdated(Some(&request(true).without_resumption())));
        assert!(requested.is_outdated(Some(&other)), "trust stores");
        assert!(requested.is_outdated(None));

        let ssl = connection(Some(b"a"), None);
        let not_requested = Connection::of(&ssl).unwrap();
        assert!(!not_requested.is_outdated(None));
        assert!(not_requested.is_outdated(Some(&request(true))));
        assert!(
            !Connection::default().is_outdated(Some(&request(true))),
            "without the ClientHello phase a new handshake changes nothing"
        );
    }

    #[test]
    fn is_open_until_the_connection_is_freed() {
        let ssl = connection(None, None);
        let other = connection(None, None);
        let number = Connection::of(&ssl).unwrap().watch().unwrap();
        assert_eq!(Connection::of(&ssl).unwrap().watch(), None, "once");
        assert_ne!(Connection::of(&other).unwrap().watch(), Some(number));
        assert!(is_open(number));
        drop(ssl);
        assert!(!is_open(number));
        assert!(!is_open(0));
    }
}
