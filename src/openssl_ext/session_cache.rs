//! TLS 1.3 sessions that the server keeps in its session cache, so that the client gets a session id
//! of 32 bytes instead of an encrypted ticket. A ticket contains the client certificate, which
//! OpenSSL parses once more for each ticket that it makes or reads.

use std::ffi::{c_int, c_uchar, c_uint};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslRef;
use openssl_sys as sys;

type InfoCallback = unsafe extern "C" fn(*const sys::SSL, c_int, c_int);
/// The callbacks of a cache, which are only compared with NULL.
type CacheCallback = Option<unsafe extern "C" fn()>;

extern "C" {
    fn SSL_CTX_sess_get_new_cb(ctx: *mut sys::SSL_CTX) -> CacheCallback;
    fn SSL_CTX_sess_get_get_cb(ctx: *mut sys::SSL_CTX) -> CacheCallback;
    fn SSL_CTX_get_info_callback(ctx: *mut sys::SSL_CTX) -> Option<InfoCallback>;
    fn SSL_set_info_callback(ssl: *mut sys::SSL, callback: Option<InfoCallback>);
    fn SSL_set_options(ssl: *mut sys::SSL, options: u64) -> u64;
    fn i2d_SSL_SESSION(session: *const sys::SSL_SESSION, out: *mut *mut c_uchar) -> c_int;
}

/// `SSL_OP_NO_TICKET`
const NO_TICKET: u64 = 1 << 14;
/// `TLSEXT_TYPE_psk` (RFC 8446, section 4.2.11)
const PRE_SHARED_KEY: c_uint = 41;
/// Length of a session id (`SSL_MAX_SSL_SESSION_ID_LENGTH`). Tickets are longer: their key name, IV
/// and MAC alone are.
const SESSION_ID_LEN: usize = 32;
/// Longest session in the shared cache of nginx up to 1.27.4, in bytes (`NGX_SSL_MAX_SESSION_SIZE`).
const MAX_SESSION: usize = 4096;
/// Bytes of a session that are set after the client certificate was received, with a margin.
const LATER_FIELDS: usize = 256;

/// Whether the server has a session cache that all workers share: one with callbacks, as that of
/// nginx's `ssl_session_cache shared`. To be called in the ClientHello phase, because sessions are
/// looked up in the context that the connection has then.
pub fn has_session_cache(ssl: &SslRef) -> bool {
    // SAFETY: a live connection, which has a context.
    unsafe {
        let ctx = sys::SSL_get_SSL_CTX(ssl.as_ptr());
        SSL_CTX_sess_get_new_cb(ctx).is_some() && SSL_CTX_sess_get_get_cb(ctx).is_some()
    }
}

/// Whether the ClientHello offers a session by its id in TLS 1.3. To be called in the ClientHello
/// phase.
pub fn offers_session_id(ssl: &SslRef) -> bool {
    let mut data: *const c_uchar = ptr::null();
    let mut len = 0usize;
    // SAFETY: a live connection. OpenSSL returns 0 outside the ClientHello callback; else the bytes
    // live until its end.
    let extension = unsafe {
        let found =
            sys::SSL_client_hello_get0_ext(ssl.as_ptr(), PRE_SHARED_KEY, &mut data, &mut len);
        if found != 1 || data.is_null() {
            return false;
        }
        std::slice::from_raw_parts(data, len)
    };
    first_identity_len(extension) == Some(SESSION_ID_LEN)
}

/// The length of the first identity of a `pre_shared_key` extension: the length of all identities
/// and that of the first are two octets each (RFC 8446, section 4.2.11).
pub fn first_identity_len(extension: &[u8]) -> Option<usize> {
    let len = extension.get(2..4)?.try_into().ok()?;
    Some(u16::from_be_bytes(len).into())
}

/// From now on, this connection looks sessions up in the session cache and makes no ticket.
pub fn use_session_cache(ssl: &SslRef) {
    // SAFETY: a live connection.
    unsafe { SSL_set_options(ssl.as_ptr(), NO_TICKET) };
}

/// As [`use_session_cache`], also after nginx has set the options of another virtual server, which
/// it does when the session has been looked up. Of a resumed handshake, the info callback is the
/// only one that runs later.
pub fn keep_session_cache(ssl: &SslRef) {
    use_session_cache(ssl);
    // SAFETY: a live connection; the callback is code of this library, which is never unloaded.
    unsafe { SSL_set_info_callback(ssl.as_ptr(), Some(info_callback)) };
}

/// `SSL_set_info_callback`: makes no ticket, and calls the callback of the context, which this one
/// replaces.
unsafe extern "C" fn info_callback(ssl: *const sys::SSL, at: c_int, value: c_int) {
    // SAFETY: OpenSSL calls this with a live connection, which has a context, and the callback of
    // the context expects the same arguments.
    unsafe {
        SSL_set_options(ssl.cast_mut(), NO_TICKET);
        if let Some(callback) = SSL_CTX_get_info_callback(sys::SSL_get_SSL_CTX(ssl)) {
            callback(ssl, at, value);
        }
    }
}

/// Whether this is TLS 1.3 and the session of the handshake in progress, with a client certificate
/// of `leaf` bytes, fits into the shared session cache of every nginx.
pub fn fits_session_cache(ssl: &SslRef, leaf: usize) -> bool {
    // SAFETY: a live connection; a NULL session is not passed on; with NULL, OpenSSL writes nothing.
    let session = unsafe {
        if sys::SSL_version(ssl.as_ptr()) != sys::TLS1_3_VERSION {
            return false;
        }
        let session = sys::SSL_get_session(ssl.as_ptr());
        if session.is_null() {
            return false;
        }
        i2d_SSL_SESSION(session, ptr::null_mut())
    };
    usize::try_from(session).is_ok_and(|session| session + leaf + LATER_FIELDS <= MAX_SESSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_identity_len_of_any_bytes() {
        assert_eq!(first_identity_len(&[0, 38, 0, 32, 1]), Some(32));
        assert_eq!(first_identity_len(&[0, 206, 0, 200]), Some(200));
        for short in [&[][..], &[0], &[0, 38], &[0, 38, 0]] {
            assert_eq!(first_identity_len(short), None);
        }
    }
}
