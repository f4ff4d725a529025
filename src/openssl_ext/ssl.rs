//! TLS calls beyond the openssl crate: what the handshake of one connection asks for, the context
//! its session is bound to, and what is remembered on it.

use std::any::type_name;
use std::ffi::{c_int, c_long, c_uchar, c_uint, c_void};
use std::marker::PhantomData;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::{X509Name, X509};
use openssl_sys as sys;

use crate::Error;

extern "C" {
    fn SSL_set_session_id_context(
        ssl: *mut sys::SSL,
        context: *const c_uchar,
        len: c_uint,
    ) -> c_int;
    fn SSL_SESSION_get0_id_context(
        session: *const sys::SSL_SESSION,
        len: *mut c_uint,
    ) -> *const c_uchar;
    fn SSL_SESSION_set1_id_context(
        session: *mut sys::SSL_SESSION,
        context: *const c_uchar,
        len: c_uint,
    ) -> c_int;
    fn SSL_SESSION_set1_ticket_appdata(
        session: *mut sys::SSL_SESSION,
        data: *const c_void,
        len: usize,
    ) -> c_int;
    fn SSL_SESSION_get0_ticket_appdata(
        session: *mut sys::SSL_SESSION,
        data: *mut *mut c_void,
        len: *mut usize,
    ) -> c_int;
    fn SSL_set_not_resumable_session_callback(
        ssl: *mut sys::SSL,
        callback: Option<extern "C" fn(*mut sys::SSL, c_int) -> c_int>,
    );
    fn SSL_set_verify_depth(ssl: *mut sys::SSL, depth: c_int);
    fn SSL_is_init_finished(ssl: *const sys::SSL) -> c_int;
    fn SSL_get_num_tickets(ssl: *const sys::SSL) -> usize;
    fn SSL_set_num_tickets(ssl: *mut sys::SSL, num_tickets: usize) -> c_int;
    fn SSL_get_client_CA_list(ssl: *const sys::SSL) -> *mut sys::stack_st_X509_NAME;
    fn X509_STORE_set_verify(
        store: *mut sys::X509_STORE,
        verify: Option<extern "C" fn(*mut sys::X509_STORE_CTX) -> c_int>,
    );
    fn X509_STORE_CTX_get0_untrusted(ctx: *const sys::X509_STORE_CTX) -> *mut sys::stack_st_X509;
    fn OPENSSL_sk_dup(stack: *const sys::OPENSSL_STACK) -> *mut sys::OPENSSL_STACK;
    fn OPENSSL_sk_zero(stack: *mut sys::OPENSSL_STACK);
}

/// Runs the body of a callback of OpenSSL's and leaves the thread's error queue as it was: what is
/// in it may be the error that OpenSSL is about to return to nginx. No mark would do: whoever
/// reads an error of the body's own reads all of them. A panic must not cross into OpenSSL either;
/// it gives `None`.
fn preserving_error_queue<T>(body: impl FnOnce() -> T) -> Option<T> {
    let before = ErrorStack::get();
    let result = catch_unwind(AssertUnwindSafe(body)).ok();
    // SAFETY: it concerns the queue of this thread only.
    unsafe { sys::ERR_clear_error() };
    before.errors().iter().for_each(openssl::error::Error::put);
    result
}

/// Whether the handshake is over.
pub fn is_handshake_over(ssl: &SslRef) -> bool {
    // SAFETY: a live connection.
    unsafe { SSL_is_init_finished(ssl.as_ptr()) == 1 }
}

/// Whether the handshake resumed a session.
pub fn is_resumed(ssl: &SslRef) -> bool {
    // SAFETY: a live connection.
    unsafe { sys::SSL_session_reused(ssl.as_ptr()) == 1 }
}

/// Binds the session this handshake makes, and the sessions it may resume, to `context`, at most
/// 32 bytes (`SSL_set_session_id_context`). Only effective before the session look-up, that is in
/// the ClientHello callback.
pub fn set_session_id_context(ssl: &SslRef, context: &[u8]) -> Result<(), Error> {
    // SAFETY: OpenSSL copies the bytes.
    let done = unsafe {
        SSL_set_session_id_context(ssl.as_ptr(), context.as_ptr(), context.len() as c_uint)
    };
    checked(done)
}

/// The context the connection's session is bound to; empty when there is no session.
pub fn session_id_context(ssl: &SslRef) -> &[u8] {
    // SAFETY: the session belongs to the connection, and the bytes to the session.
    unsafe {
        let session = sys::SSL_get_session(ssl.as_ptr());
        if session.is_null() {
            return &[];
        }
        let mut len: c_uint = 0;
        let data = SSL_SESSION_get0_id_context(session, &mut len);
        if data.is_null() || len == 0 {
            return &[];
        }
        slice::from_raw_parts(data, len as usize)
    }
}

/// Rebinds the session that the handshake in progress is making.
pub fn rebind_session(ssl: &SslRef, context: &[u8]) -> Result<(), Error> {
    // SAFETY: OpenSSL copies the bytes; a NULL session is not passed on.
    unsafe {
        let session = sys::SSL_get_session(ssl.as_ptr());
        if session.is_null() {
            return Err(Error::Misuse(
                "the connection has no TLS session".to_owned(),
            ));
        }
        checked(SSL_SESSION_set1_id_context(
            session,
            context.as_ptr(),
            context.len() as c_uint,
        ))
    }
}

/// Puts `data` into the session, whence it comes back on resumption, through a ticket as well as
/// through a cache (`SSL_SESSION_set1_ticket_appdata`).
pub fn set_session_data(ssl: &SslRef, data: &[u8]) -> Result<(), Error> {
    // SAFETY: OpenSSL copies the bytes; a NULL session is not passed on.
    unsafe {
        let session = sys::SSL_get_session(ssl.as_ptr());
        if session.is_null() {
            return Err(Error::Misuse(
                "the connection has no TLS session".to_owned(),
            ));
        }
        checked(SSL_SESSION_set1_ticket_appdata(
            session,
            data.as_ptr().cast(),
            data.len(),
        ))
    }
}

/// What [`set_session_data`] stored in the session; empty when nothing did.
pub fn session_data(ssl: &SslRef) -> &[u8] {
    // SAFETY: the session belongs to the connection, and the bytes to the session.
    unsafe {
        let session = sys::SSL_get_session(ssl.as_ptr());
        if session.is_null() {
            return &[];
        }
        let mut data: *mut c_void = ptr::null_mut();
        let mut len = 0usize;
        if SSL_SESSION_get0_ticket_appdata(session, &mut data, &mut len) != 1
            || data.is_null()
            || len == 0
        {
            return &[];
        }
        slice::from_raw_parts(data as *const u8, len)
    }
}

/// Lets a full TLS 1.3 handshake end with at most one session ticket (`SSL_set_num_tickets`).
pub fn limit_tickets(ssl: &SslRef) {
    // SAFETY: a live connection.
    unsafe {
        if SSL_get_num_tickets(ssl.as_ptr()) > 1 {
            SSL_set_num_tickets(ssl.as_ptr(), 1);
        }
    }
}

/// What wants to see the chain while the handshake is still in progress.
pub trait HandshakeCallbacks {
    /// Bounds the chain that OpenSSL tries to build meanwhile (`SSL_set_verify_depth`).
    const VERIFY_DEPTH: u32;

    /// `chain` is what the client sent, leaf first. Called at least once a handshake in which a
    /// certificate came, possibly several times.
    fn on_client_chain(ssl: &SslRef, chain: &StackRef<X509>);

    /// Whether the session that this handshake makes may be resumed.
    fn may_resume(ssl: &SslRef) -> bool;
}

/// Asks for a client certificate in this handshake, and accepts whatever comes: nothing is trusted
/// before the access phase. Only effective in the certificate phase or earlier, on a full
/// handshake.
pub fn request_certificate<P: HandshakeCallbacks>(ssl: &SslRef) {
    set_verify::<P>(ssl);
    // Besides what its name says: after a HelloRetryRequest nginx before 1.29.2 selects the vhost once more and with it the
    // vhost's own verify mode, while the certificate phase does not run again. This callback does,
    // last before the CertificateRequest.
    // SAFETY: a live connection; the callback is code of this library, which is never unloaded.
    unsafe {
        SSL_set_not_resumable_session_callback(ssl.as_ptr(), Some(not_resumable_callback::<P>))
    }
}

fn set_verify<P: HandshakeCallbacks>(ssl: &SslRef) {
    // SAFETY: a live connection; the callback is code of this library, which is never unloaded
    // (linked with -z nodelete). The connection takes a reference of its own to the store.
    unsafe {
        sys::SSL_set_verify(
            ssl.as_ptr(),
            sys::SSL_VERIFY_PEER,
            Some(verify_callback::<P>),
        );
        SSL_set_verify_depth(ssl.as_ptr(), P::VERIFY_DEPTH as c_int);
        if let Some(store) = empty_store() {
            const SHARED: c_long = 1;
            sys::SSL_ctrl(
                ssl.as_ptr(),
                sys::SSL_CTRL_SET_VERIFY_CERT_STORE,
                SHARED,
                store.as_ptr().cast(),
            );
        }
    }
}

/// A store that trusts nobody and checks no signature: what the handshake makes of a chain is
/// thrown away, so that work is not done twice.
fn empty_store() -> Option<&'static X509Store> {
    static STORE: OnceLock<Option<X509Store>> = OnceLock::new();
    STORE
        .get_or_init(|| {
            let store = X509StoreBuilder::new().ok()?.build();
            // SAFETY: nobody else has the store yet; the callback is never unloaded.
            unsafe { X509_STORE_set_verify(store.as_ptr(), Some(skip_verification)) };
            Some(store)
        })
        .as_ref()
}

extern "C" fn skip_verification(_context: *mut sys::X509_STORE_CTX) -> c_int {
    1
}

/// Answers 0 when the session may be resumed.
extern "C" fn not_resumable_callback<P: HandshakeCallbacks>(
    ssl: *mut sys::SSL,
    _forward_secure: c_int,
) -> c_int {
    let may_resume = preserving_error_queue(|| {
        // SAFETY: OpenSSL calls this with the live connection that the callback was set on.
        let ssl = unsafe { SslRef::from_ptr(ssl) };
        set_verify::<P>(ssl);
        P::may_resume(ssl)
    });
    c_int::from(!may_resume.unwrap_or(false))
}

extern "C" fn verify_callback<P: HandshakeCallbacks>(
    _ok: c_int,
    context: *mut sys::X509_STORE_CTX,
) -> c_int {
    // A panic must not cross into OpenSSL.
    let _ = catch_unwind(|| {
        // SAFETY: OpenSSL calls this with a live context whose ex_data holds the connection; both
        // outlive the call.
        unsafe {
            let index = sys::SSL_get_ex_data_X509_STORE_CTX_idx();
            let ssl = sys::X509_STORE_CTX_get_ex_data(context, index) as *mut sys::SSL;
            let chain = X509_STORE_CTX_get0_untrusted(context);
            if !ssl.is_null() && !chain.is_null() {
                P::on_client_chain(SslRef::from_ptr(ssl), StackRef::from_ptr(chain));
            }
            // What OpenSSL could not verify is no error here, and nginx would report it as the
            // error of the next read. Nothing else can be in the queue that anybody waits for: an
            // error that matters ends the handshake at once.
            sys::ERR_clear_error();
        }
    });
    1
}

/// A list of CA names handed to a connection; tells whether it is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedCaNames {
    list: usize,
    first: usize,
    len: usize,
}

/// Hands `names` to the connection, which sends them in its CertificateRequest
/// (`SSL_set_client_CA_list`). An empty list overrides one of the vhost.
pub fn attach_ca_names(ssl: &SslRef, names: Stack<X509Name>) -> AttachedCaNames {
    let lent = AttachedCaNames {
        list: names.as_ptr() as usize,
        first: names.iter().next().map_or(0, |name| name.as_ptr() as usize),
        len: names.len(),
    };
    // SAFETY: the connection takes the stack and the names over; nothing else frees them.
    unsafe {
        let list = names.as_ptr();
        std::mem::forget(names);
        sys::SSL_set_client_CA_list(ssl.as_ptr(), list);
    }
    lent
}

/// Takes the names back once the CertificateRequest is on the wire; the connection keeps an empty
/// list. `None` if somebody else has replaced the list.
pub fn detach_ca_names(ssl: &SslRef, lent: AttachedCaNames) -> Option<Stack<X509Name>> {
    if lent.len == 0 {
        return None;
    }
    // SAFETY: the list is compared with the one that was lent, so it is the connection's own and
    // not its SSL_CTX's. The copy is shallow: after sk_zero it alone owns the names.
    unsafe {
        let list = SSL_get_client_CA_list(ssl.as_ptr());
        if list as usize != lent.list
            || sys::OPENSSL_sk_num(list.cast()) as usize != lent.len
            || sys::OPENSSL_sk_value(list.cast(), 0) as usize != lent.first
        {
            return None;
        }
        let copy = OPENSSL_sk_dup(list as *const sys::OPENSSL_STACK);
        if copy.is_null() {
            return None;
        }
        OPENSSL_sk_zero(list.cast());
        Some(Stack::from_ptr(copy.cast()))
    }
}

/// A place on every connection for one `T`, freed with the connection (`SSL_get_ex_new_index`).
pub struct ExData<T> {
    index: c_int,
    content: PhantomData<fn() -> T>,
}

impl<T: 'static> ExData<T> {
    /// Reserves the place. Once a process: OpenSSL never gives an index back.
    pub fn new() -> Result<ExData<T>, Error> {
        // SAFETY: the free function is code of this library, which is never unloaded.
        let index = unsafe {
            sys::CRYPTO_get_ex_new_index(
                sys::CRYPTO_EX_INDEX_SSL,
                0,
                ptr::null_mut(),
                None,
                None,
                Some(free_content::<T>),
            )
        };
        if index < 0 {
            return Err(Error::OpenSsl(format!(
                "no ex_data index for {}",
                type_name::<T>()
            )));
        }
        Ok(ExData {
            index,
            content: PhantomData,
        })
    }

    /// Puts `content` on the connection, in place of what was there.
    pub fn set(&self, ssl: &SslRef, content: T) -> Result<(), Error> {
        let content = Box::into_raw(Box::new(content));
        // SAFETY: the slot holds NULL or a box that `set` made; each is freed exactly once.
        unsafe {
            let old = sys::SSL_get_ex_data(ssl.as_ptr(), self.index) as *mut T;
            if sys::SSL_set_ex_data(ssl.as_ptr(), self.index, content.cast()) != 1 {
                drop(Box::from_raw(content));
                return checked(0);
            }
            if !old.is_null() {
                drop(Box::from_raw(old));
            }
        }
        Ok(())
    }

    /// What is on the connection.
    pub fn get<'a>(&self, ssl: &'a SslRef) -> Option<&'a T> {
        // SAFETY: the slot holds NULL or a live box of `T`, which only `set` and the end of the
        // connection free; callers hold no reference across either.
        unsafe { (sys::SSL_get_ex_data(ssl.as_ptr(), self.index) as *const T).as_ref() }
    }
}

unsafe extern "C" fn free_content<T>(
    _parent: *mut c_void,
    content: *mut c_void,
    _data: *mut sys::CRYPTO_EX_DATA,
    _index: c_int,
    _argl: std::ffi::c_long,
    _argp: *mut c_void,
) {
    if !content.is_null() {
        preserving_error_queue(|| {
            // SAFETY: the box that `set` made, freed here for the one and only time.
            drop(unsafe { Box::from_raw(content as *mut T) })
        });
    }
}

fn checked(done: c_int) -> Result<(), Error> {
    if done == 1 {
        Ok(())
    } else {
        Err(ErrorStack::get().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::net::UnixStream;
    use std::thread;

    use openssl::asn1::{Asn1Object, Asn1OctetString};
    use openssl::hash::MessageDigest;
    use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVerifyMode, SslVersion};
    use openssl::x509::{X509Builder, X509Extension};

    use crate::testing::{issue, Issued, NOW};

    struct Anything;

    impl HandshakeCallbacks for Anything {
        const VERIFY_DEPTH: u32 = 0;

        fn on_client_chain(_ssl: &SslRef, chain: &StackRef<X509>) {
            assert!(!chain.is_empty());
        }

        fn may_resume(_ssl: &SslRef) -> bool {
            fail();
            true
        }
    }

    /// Leaves an error in the queue.
    fn fail() {
        let error = X509::from_der(b"no certificate").unwrap_err();
        assert!(!error.errors().is_empty());
        error.errors().iter().for_each(openssl::error::Error::put);
    }

    /// Fails when it is freed.
    struct Failing;

    impl Drop for Failing {
        fn drop(&mut self) {
            fail();
        }
    }

    fn context(version: SslVersion) -> SslContextBuilder {
        let mut context = SslContext::builder(SslMethod::tls()).unwrap();
        context.set_min_proto_version(Some(version)).unwrap();
        context.set_max_proto_version(Some(version)).unwrap();
        context
    }

    /// The errors that a handshake leaves on the server's side, in which the client presents `leaf`
    /// with `between`, or nothing.
    fn left_by(
        version: SslVersion,
        server: &Issued,
        leaf: Option<&Issued>,
        between: &[X509],
    ) -> ErrorStack {
        let (near, far) = UnixStream::pair().unwrap();
        let mut client = context(version);
        client.set_verify(SslVerifyMode::NONE);
        // An odd certificate must reach the server.
        client.set_security_level(0);
        if let Some(leaf) = leaf {
            client.set_certificate(&leaf.x509).unwrap();
            client.set_private_key(&leaf.key).unwrap();
        }
        for certificate in between {
            client.add_extra_chain_cert(certificate.clone()).unwrap();
        }
        let client = Ssl::new(&client.build()).unwrap();
        let client = thread::spawn(move || {
            // nginx reads, too, only after the client's Finished.
            let stream = client.connect(far);
            drop(ErrorStack::get());
            stream.map(drop).is_ok()
        });
        let mut context = context(version);
        context.set_certificate(&server.x509).unwrap();
        context.set_private_key(&server.key).unwrap();
        context.set_session_id_context(b"test").unwrap();
        let ssl = Ssl::new(&context.build()).unwrap();
        request_certificate::<Anything>(&ssl);
        drop(ErrorStack::get());
        let stream = ssl.accept(near).map_err(|error| error.to_string());
        let left = ErrorStack::get();
        let presented = stream.unwrap().ssl().peer_certificate();
        assert_eq!(presented.is_some(), leaf.is_some());
        assert!(client.join().unwrap());
        left
    }

    /// `of` once more, with an extension that holds `content`.
    fn with_extension(of: &Issued, issuer: &Issued, oid: &str, content: &[u8]) -> Issued {
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(of.x509.serial_number()).unwrap();
        builder.set_subject_name(of.x509.subject_name()).unwrap();
        builder.set_issuer_name(issuer.x509.subject_name()).unwrap();
        builder.set_not_before(of.x509.not_before()).unwrap();
        builder.set_not_after(of.x509.not_after()).unwrap();
        builder.set_pubkey(&of.key).unwrap();
        let oid = Asn1Object::from_str(oid).unwrap();
        let content = Asn1OctetString::new_from_bytes(content).unwrap();
        let extension = X509Extension::new_from_der(&oid, true, &content).unwrap();
        builder.append_extension(extension).unwrap();
        builder.sign(&issuer.key, MessageDigest::sha256()).unwrap();
        Issued {
            x509: builder.build(),
            key: of.key.clone(),
        }
    }

    #[test]
    fn request_certificate_leaves_no_error_whatever_the_client_presents() {
        let ca = issue("Test CA", None, true, NOW, &[]);
        let other = issue("Test CA", None, true, NOW, &[]);
        let between = issue("Test Intermediate", Some(&ca), true, NOW, &[]);
        let leaf = issue("leaf", Some(&between), false, NOW, &[]);
        let mut presented: Vec<(String, Issued, Vec<X509>)> = Vec::new();
        let mut present = |what: &str, leaf: &Issued, chain: &[&X509]| {
            let chain = chain.iter().map(|each| (*each).clone()).collect();
            let leaf = Issued {
                x509: leaf.x509.clone(),
                key: leaf.key.clone(),
            };
            presented.push((what.to_owned(), leaf, chain));
        };
        present("a good one", &leaf, &[&between.x509]);
        present("with its root", &leaf, &[&between.x509, &ca.x509]);
        present("with another root", &leaf, &[&between.x509, &other.x509]);
        present("self-signed", &ca, &[]);
        // basicConstraints, keyUsage, subjectAltName, nameConstraints, certificatePolicies,
        // authorityKeyIdentifier, policyConstraints, extKeyUsage, crlDistributionPoints,
        // ipAddrBlocks, autonomousSysIds
        let names = [
            "2.5.29.19",
            "2.5.29.15",
            "2.5.29.17",
            "2.5.29.30",
            "2.5.29.32",
            "2.5.29.35",
            "2.5.29.36",
            "2.5.29.37",
            "2.5.29.31",
            "1.3.6.1.5.5.7.1.7",
            "1.3.6.1.5.5.7.1.8",
        ];
        for name in names {
            for content in [&b"garbage"[..], &[0x30, 0x80], &[]] {
                let odd = with_extension(&leaf, &ca, name, content);
                present(
                    &format!("a leaf with {name} {content:?}"),
                    &odd,
                    &[&ca.x509],
                );
                let odd = with_extension(&between, &ca, name, content);
                present(
                    &format!("a CA with {name} {content:?}"),
                    &leaf,
                    &[&odd.x509],
                );
                let odd = with_extension(&ca, &ca, name, content);
                let chain = [&between.x509, &odd.x509];
                present(&format!("a root with {name} {content:?}"), &leaf, &chain);
            }
        }
        // id-ecPublicKey becomes an algorithm that nobody knows.
        let der = between.x509.to_der().unwrap();
        let algorithm = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        let at = der.windows(7).position(|window| window == algorithm);
        let mut odd = der.clone();
        odd[at.unwrap() + 6] = 0x7f;
        let odd = X509::from_der(&odd).unwrap();
        present("a CA with an unknown key", &leaf, &[&odd]);

        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let left = left_by(version, &ca, None, &[]);
            assert!(left.errors().is_empty(), "nothing, {version:?}: {left}");
            for (what, leaf, chain) in &presented {
                let left = left_by(version, &ca, Some(leaf), chain);
                assert!(left.errors().is_empty(), "{what}, {version:?}: {left}");
            }
        }
    }

    /// Calls `callback` while an error of somebody else's stands in the queue, which must be all
    /// that stands there then.
    fn leaves_the_queue_alone(callback: impl FnOnce()) {
        drop(ErrorStack::get());
        let before = X509::from_pem(b"no certificate").unwrap_err();
        assert!(!before.errors().is_empty());
        before.errors().iter().for_each(openssl::error::Error::put);
        callback();
        assert_eq!(ErrorStack::get().to_string(), before.to_string());
    }

    #[test]
    fn keep_asking_leaves_the_error_queue_alone() {
        let connection = Ssl::new(&context(SslVersion::TLS1_3).build()).unwrap();
        leaves_the_queue_alone(|| {
            assert_eq!(
                not_resumable_callback::<Anything>(connection.as_ptr(), 0),
                0
            );
        });
    }

    #[test]
    fn slot_frees_its_content_and_leaves_the_error_queue_alone() {
        let slot = ExData::new().unwrap();
        let connection = Ssl::new(&context(SslVersion::TLS1_3).build()).unwrap();
        slot.set(&connection, Failing).unwrap();
        leaves_the_queue_alone(|| drop(connection));
    }
}
