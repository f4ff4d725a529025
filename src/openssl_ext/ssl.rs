//! TLS calls that the openssl crate lacks: the certificate request of one connection, the session
//! id context of its session, and data stored with the session or on the connection.

use std::any::type_name;
use std::ffi::{c_int, c_long, c_uchar, c_uint, c_void};
use std::marker::PhantomData;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::ssl::{SslRef, SslSessionRef};
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

/// Runs the body of an OpenSSL callback and restores the thread's error queue, which may hold the
/// error that OpenSSL is about to return to nginx. `ERR_set_mark` is not enough, because code in
/// the body that reads its own error with [`ErrorStack::get`] empties the queue.
///
/// A panic must not unwind into OpenSSL; the result is `None` then.
fn preserving_error_queue<T>(body: impl FnOnce() -> T) -> Option<T> {
    let before = ErrorStack::get();
    let result = catch_unwind(AssertUnwindSafe(body)).ok();
    // SAFETY: the call only changes the queue of this thread.
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

/// Sets the session id context, of at most 32 bytes, of the session that this handshake creates.
/// Only sessions with this context are resumed (`SSL_set_session_id_context`). It has an effect
/// before the session look-up only, that is in the ClientHello callback.
pub fn set_session_id_context(ssl: &SslRef, context: &[u8]) -> Result<(), Error> {
    // SAFETY: OpenSSL copies the bytes.
    let done = unsafe {
        SSL_set_session_id_context(ssl.as_ptr(), context.as_ptr(), context.len() as c_uint)
    };
    check_success(done)
}

/// The session id context of the connection's session; empty when there is no session.
pub fn session_id_context(ssl: &SslRef) -> &[u8] {
    // SAFETY: the connection owns the session, and the session owns the bytes.
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

/// Changes the session id context of the session that the handshake in progress creates
/// (`SSL_SESSION_set1_id_context`).
pub fn rebind_session(ssl: &SslRef, context: &[u8]) -> Result<(), Error> {
    // SAFETY: OpenSSL copies the bytes; a NULL session is not passed on.
    unsafe {
        let session = sys::SSL_get_session(ssl.as_ptr());
        if session.is_null() {
            return Err(Error::Misuse(
                "the connection has no TLS session".to_owned(),
            ));
        }
        check_success(SSL_SESSION_set1_id_context(
            session,
            context.as_ptr(),
            context.len() as c_uint,
        ))
    }
}

/// Stores `data` in the session. It is available again after resumption, from a ticket as well as
/// from a session cache (`SSL_SESSION_set1_ticket_appdata`).
pub fn set_session_data(ssl: &SslRef, data: &[u8]) -> Result<(), Error> {
    // SAFETY: OpenSSL copies the bytes; a NULL session is not passed on.
    unsafe {
        let session = sys::SSL_get_session(ssl.as_ptr());
        if session.is_null() {
            return Err(Error::Misuse(
                "the connection has no TLS session".to_owned(),
            ));
        }
        check_success(SSL_SESSION_set1_ticket_appdata(
            session,
            data.as_ptr().cast(),
            data.len(),
        ))
    }
}

/// Replaces the session of a connection whose handshake is over (`SSL_set_session`).
pub fn replace_session(ssl: &SslRef, session: &SslSessionRef) -> Result<(), Error> {
    // SAFETY: a live connection, which takes a reference of its own to the live session.
    check_success(unsafe { sys::SSL_set_session(ssl.as_ptr(), session.as_ptr()) })
}

/// The data that [`set_session_data`] stored in the session; empty when there is none.
pub fn session_data(ssl: &SslRef) -> &[u8] {
    // SAFETY: the connection owns the session, and the session owns the bytes.
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

/// Limits a full TLS 1.3 handshake to one session ticket (`SSL_set_num_tickets`).
pub fn limit_tickets(ssl: &SslRef) {
    // SAFETY: a live connection.
    unsafe {
        if SSL_get_num_tickets(ssl.as_ptr()) > 1 {
            SSL_set_num_tickets(ssl.as_ptr(), 1);
        }
    }
}

/// Callbacks of a handshake that requests a client certificate.
pub trait HandshakeCallbacks {
    /// Longest chain that OpenSSL builds during the handshake (`SSL_set_verify_depth`).
    const VERIFY_DEPTH: u32;

    /// Called when the client has sent certificates: at least once a handshake, possibly several
    /// times. `chain` holds what the client sent, leaf first.
    fn on_client_chain(ssl: &SslRef, chain: &StackRef<X509>);

    /// Whether the session that this handshake creates may be resumed.
    fn may_resume(ssl: &SslRef) -> bool;
}

/// Requests a client certificate in this handshake and accepts any, because chains are verified in
/// the access phase. It has an effect in the certificate phase or earlier, on a full handshake.
pub fn request_certificate<C: HandshakeCallbacks>(ssl: &SslRef) {
    set_verify::<C>(ssl);
    // The callback also sets the verify mode again. After a HelloRetryRequest nginx before 1.29.2
    // selects the vhost once more and sets the vhost's own verify mode, but it does not run the
    // certificate phase again. This callback is the last one before the CertificateRequest.
    // SAFETY: a live connection; the callback is code of this library, which is never unloaded.
    unsafe {
        SSL_set_not_resumable_session_callback(ssl.as_ptr(), Some(not_resumable_callback::<C>))
    }
}

/// Sets the verify mode, depth and store of a handshake that requests a certificate.
fn set_verify<C: HandshakeCallbacks>(ssl: &SslRef) {
    // SAFETY: a live connection; the callback is code of this library, which is never unloaded
    // (linked with -z nodelete). The connection takes a reference of its own to the store.
    unsafe {
        sys::SSL_set_verify(
            ssl.as_ptr(),
            sys::SSL_VERIFY_PEER,
            Some(verify_callback::<C>),
        );
        SSL_set_verify_depth(ssl.as_ptr(), C::VERIFY_DEPTH as c_int);
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

/// A store without CAs and without verification. The verify result of the handshake is not used, so
/// the chain is not verified twice.
fn empty_store() -> Option<&'static X509Store> {
    static STORE: OnceLock<Option<X509Store>> = OnceLock::new();
    STORE
        .get_or_init(|| {
            let store = X509StoreBuilder::new().ok()?.build();
            // SAFETY: the store is not shared yet; the callback is never unloaded.
            unsafe { X509_STORE_set_verify(store.as_ptr(), Some(skip_verification)) };
            Some(store)
        })
        .as_ref()
}

/// `X509_STORE_set_verify`: reports success without verification.
extern "C" fn skip_verification(_context: *mut sys::X509_STORE_CTX) -> c_int {
    1
}

/// `SSL_set_not_resumable_session_callback`: sets the verify mode again, and returns 0 if the
/// session may be resumed.
extern "C" fn not_resumable_callback<C: HandshakeCallbacks>(
    ssl: *mut sys::SSL,
    _forward_secure: c_int,
) -> c_int {
    let may_resume = preserving_error_queue(|| {
        // SAFETY: OpenSSL calls this with the live connection that the callback was set on.
        let ssl = unsafe { SslRef::from_ptr(ssl) };
        set_verify::<C>(ssl);
        C::may_resume(ssl)
    });
    c_int::from(!may_resume.unwrap_or(false))
}

/// `SSL_set_verify`: passes the chain on and accepts it.
extern "C" fn verify_callback<C: HandshakeCallbacks>(
    _ok: c_int,
    context: *mut sys::X509_STORE_CTX,
) -> c_int {
    // A panic must not unwind into OpenSSL.
    let _ = catch_unwind(|| {
        // SAFETY: OpenSSL calls this with a live context whose ex_data holds the connection; both
        // outlive the call.
        unsafe {
            let index = sys::SSL_get_ex_data_X509_STORE_CTX_idx();
            let ssl = sys::X509_STORE_CTX_get_ex_data(context, index) as *mut sys::SSL;
            let chain = X509_STORE_CTX_get0_untrusted(context);
            if !ssl.is_null() && !chain.is_null() {
                C::on_client_chain(SslRef::from_ptr(ssl), StackRef::from_ptr(chain));
            }
            // A chain that OpenSSL could not verify is not an error here, and nginx would report
            // it as the error of the next read. The queue holds no other error that matters,
            // because such an error ends the handshake at once.
            sys::ERR_clear_error();
        }
    });
    1
}

/// The identity of a list of CA names that was attached to a connection, by which it is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedCaNames {
    list: usize,
    first: usize,
    len: usize,
}

/// Transfers `names` to the connection, which sends them in its CertificateRequest
/// (`SSL_set_client_CA_list`). An empty list overrides the list of the vhost.
pub fn attach_ca_names(ssl: &SslRef, names: Stack<X509Name>) -> AttachedCaNames {
    let attached = AttachedCaNames {
        list: names.as_ptr() as usize,
        first: names.iter().next().map_or(0, |name| name.as_ptr() as usize),
        len: names.len(),
    };
    // SAFETY: the connection becomes the owner of the stack and the names; nothing else frees them.
    unsafe {
        let list = names.as_ptr();
        std::mem::forget(names);
        sys::SSL_set_client_CA_list(ssl.as_ptr(), list);
    }
    attached
}

/// Removes the names from the connection after the CertificateRequest was sent; an empty list is
/// left there. `None` if the list was replaced in the meantime.
pub fn detach_ca_names(ssl: &SslRef, attached: AttachedCaNames) -> Option<Stack<X509Name>> {
    if attached.len == 0 {
        return None;
    }
    // SAFETY: the list is the one that was attached, so the connection owns it, not its SSL_CTX.
    // The copy is shallow: after sk_zero it is the only owner of the names.
    unsafe {
        let list = SSL_get_client_CA_list(ssl.as_ptr());
        if list as usize != attached.list
            || sys::OPENSSL_sk_num(list.cast()) as usize != attached.len
            || sys::OPENSSL_sk_value(list.cast(), 0) as usize != attached.first
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

/// An ex_data index for connections: each connection may hold one `T`, which is freed with it
/// (`SSL_get_ex_new_index`).
pub struct ExData<T> {
    index: c_int,
    content: PhantomData<fn() -> T>,
}

impl<T: 'static> ExData<T> {
    /// Reserves an index. Call it once a process: OpenSSL never frees an index.
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

    /// Stores `content` on the connection and frees the previous content.
    pub fn set(&self, ssl: &SslRef, content: T) -> Result<(), Error> {
        let content = Box::into_raw(Box::new(content));
        // SAFETY: the ex_data is NULL or a box that `set` made; each is freed exactly once.
        unsafe {
            let old = sys::SSL_get_ex_data(ssl.as_ptr(), self.index) as *mut T;
            if sys::SSL_set_ex_data(ssl.as_ptr(), self.index, content.cast()) != 1 {
                drop(Box::from_raw(content));
                return check_success(0);
            }
            if !old.is_null() {
                drop(Box::from_raw(old));
            }
        }
        Ok(())
    }

    /// The content that is stored on the connection.
    pub fn get<'a>(&self, ssl: &'a SslRef) -> Option<&'a T> {
        // SAFETY: the ex_data is NULL or a live box of `T`, which only `set` and the end of the
        // connection free; callers hold no reference across either.
        unsafe { (sys::SSL_get_ex_data(ssl.as_ptr(), self.index) as *const T).as_ref() }
    }
}

/// The free function of the ex_data index.
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
            // SAFETY: the box that `set` made, which is freed once.
            drop(unsafe { Box::from_raw(content as *mut T) })
        });
    }
}

/// OpenSSL's error unless the call returned 1.
fn check_success(done: c_int) -> Result<(), Error> {
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

    /// Accepts every chain and leaves an error in the queue.
    struct AcceptAll;

    impl HandshakeCallbacks for AcceptAll {
        const VERIFY_DEPTH: u32 = 0;

        fn on_client_chain(_ssl: &SslRef, chain: &StackRef<X509>) {
            assert!(!chain.is_empty());
        }

        fn may_resume(_ssl: &SslRef) -> bool {
            put_error();
            true
        }
    }

    /// Puts an error into the queue.
    fn put_error() {
        let error = X509::from_der(b"no certificate").unwrap_err();
        assert!(!error.errors().is_empty());
        error.errors().iter().for_each(openssl::error::Error::put);
    }

    /// Puts an error into the queue when it is dropped.
    struct ErrorOnDrop;

    impl Drop for ErrorOnDrop {
        fn drop(&mut self) {
            put_error();
        }
    }

    fn context(version: SslVersion) -> SslContextBuilder {
        let mut context = SslContext::builder(SslMethod::tls()).unwrap();
        context.set_min_proto_version(Some(version)).unwrap();
        context.set_max_proto_version(Some(version)).unwrap();
        context
    }

    /// The errors in the server's queue after a handshake in which the client sends `leaf` with the
    /// chain `between`, or no certificate.
    fn server_errors(
        version: SslVersion,
        server: &Issued,
        leaf: Option<&Issued>,
        between: &[X509],
    ) -> ErrorStack {
        let (near, far) = UnixStream::pair().unwrap();
        let mut client = context(version);
        client.set_verify(SslVerifyMode::NONE);
        // The client must send malformed certificates too.
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
            // Like nginx, the server reads only after the client's Finished.
            let stream = client.connect(far);
            drop(ErrorStack::get());
            stream.map(drop).is_ok()
        });
        let mut context = context(version);
        context.set_certificate(&server.x509).unwrap();
        context.set_private_key(&server.key).unwrap();
        context.set_session_id_context(b"test").unwrap();
        let ssl = Ssl::new(&context.build()).unwrap();
        request_certificate::<AcceptAll>(&ssl);
        drop(ErrorStack::get());
        let stream = ssl.accept(near).map_err(|error| error.to_string());
        let errors = ErrorStack::get();
        let presented = stream.unwrap().ssl().peer_certificate();
        assert_eq!(presented.is_some(), leaf.is_some());
        assert!(client.join().unwrap());
        errors
    }

    /// `of` issued again, with an extension that holds `content`.
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
    fn request_certificate_leaves_no_error_for_any_client_chain() {
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
                let altered = with_extension(&leaf, &ca, name, content);
                present(
                    &format!("a leaf with {name} {content:?}"),
                    &altered,
                    &[&ca.x509],
                );
                let altered = with_extension(&between, &ca, name, content);
                present(
                    &format!("a CA with {name} {content:?}"),
                    &leaf,
                    &[&altered.x509],
                );
                let altered = with_extension(&ca, &ca, name, content);
                let chain = [&between.x509, &altered.x509];
                present(&format!("a root with {name} {content:?}"), &leaf, &chain);
            }
        }
        // id-ecPublicKey becomes an unknown algorithm.
        let der = between.x509.to_der().unwrap();
        let algorithm = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        let at = der.windows(7).position(|window| window == algorithm);
        let mut altered = der.clone();
        altered[at.unwrap() + 6] = 0x7f;
        let altered = X509::from_der(&altered).unwrap();
        present("a CA with an unknown key", &leaf, &[&altered]);

        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let errors = server_errors(version, &ca, None, &[]);
            assert!(errors.errors().is_empty(), "nothing, {version:?}: {errors}");
            for (what, leaf, chain) in &presented {
                let errors = server_errors(version, &ca, Some(leaf), chain);
                assert!(errors.errors().is_empty(), "{what}, {version:?}: {errors}");
            }
        }
    }

    /// Calls `callback` while the queue holds an error, and checks that the queue is unchanged.
    fn assert_error_queue_unchanged(callback: impl FnOnce()) {
        drop(ErrorStack::get());
        let before = X509::from_pem(b"no certificate").unwrap_err();
        assert!(!before.errors().is_empty());
        before.errors().iter().for_each(openssl::error::Error::put);
        callback();
        assert_eq!(ErrorStack::get().to_string(), before.to_string());
    }

    #[test]
    fn not_resumable_callback_preserves_the_error_queue() {
        let connection = Ssl::new(&context(SslVersion::TLS1_3).build()).unwrap();
        assert_error_queue_unchanged(|| {
            assert_eq!(
                not_resumable_callback::<AcceptAll>(connection.as_ptr(), 0),
                0
            );
        });
    }

    #[test]
    fn ex_data_is_freed_and_the_error_queue_preserved() {
        let ex_data = ExData::new().unwrap();
        let connection = Ssl::new(&context(SslVersion::TLS1_3).build()).unwrap();
        ex_data.set(&connection, ErrorOnDrop).unwrap();
        assert_error_queue_unchanged(|| drop(connection));
    }
}
