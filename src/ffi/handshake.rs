//! The phases of a TLS handshake.

use std::ffi::c_void;

use super::engine::rmtls_engine;
use super::{bytes, connection, guard, guard_with, handle, output, rmtls_buf};
use crate::connection::{self as connections, Connection};
use crate::Error;

/// ClientHello phase: binds the TLS session of `ssl` to the certificate request of this server
/// name. `name` is the raw SNI, or NULL when the client sent none.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` inside its ClientHello callback; `name`
/// is NULL or readable for `name_len` bytes; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_client_hello(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    name: *const u8,
    name_len: usize,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?;
            let ssl = connection(ssl).ok_or(Error::NullArgument)?;
            let name = match name.is_null() {
                true => None,
                false => Some(bytes(name, name_len)?),
            };
            engine.0.client_hello(ssl, name)
        })
    }
}

/// From now on, TLS 1.3 sessions with a client certificate are kept in the session cache of the
/// server instead of tickets, where it has a shared one and they fit into it; with `yes` = 0 they
/// are not.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_use_session_cache(
    engine: *const rmtls_engine,
    yes: i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { handle(engine) }?.0.use_session_cache(yes != 0);
        Ok(())
    })
}

/// Certificate phase: requests a client certificate if the ClientHello phase decided so, else
/// returns `RMTLS_NOT_FOUND`.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` inside its certificate callback; `err`
/// is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_request_certificate(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?;
            let ssl = connection(ssl).ok_or(Error::NullArgument)?;
            match engine.0.certificate(ssl)? {
                true => Ok(()),
                false => Err(Error::NotFound),
            }
        })
    }
}

/// Whether the policy in force has another certificate request for the server name of `ssl` than
/// the one under which the client connected: `outdated` becomes 1 or 0. With 1, a new handshake may
/// change a refusal, so the connection should end with it.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `outdated` is NULL
/// or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_is_outdated(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    outdated: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, outdated) = unsafe { (handle(engine)?, output(outdated)?) };
        *outdated = 0;
        // SAFETY: as above.
        let ssl = unsafe { connection(ssl) }.ok_or(Error::NullArgument)?;
        *outdated = engine.0.is_outdated(ssl)?.into();
        Ok(())
    })
}

/// From now on `rmtls_connection_is_open` tells whether the connection of `ssl` is open: `number`
/// becomes its number. `RMTLS_NOT_FOUND` when it was called for this connection before.
///
/// # Safety
/// `ssl` is NULL or a live `SSL`; `number` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_connection_watch(ssl: *mut c_void, number: *mut u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (ssl, number) = unsafe { (connection(ssl), output(number)?) };
        let watched = Connection::of_or_new(ssl.ok_or(Error::NullArgument)?)?.watch();
        *number = watched.ok_or(Error::NotFound)?;
        Ok(())
    })
}

/// `RMTLS_OK` if the connection with this number of `rmtls_connection_watch` is open, else
/// `RMTLS_NOT_FOUND`. To be called in the same thread.
#[no_mangle]
pub extern "C" fn rmtls_connection_is_open(number: u32) -> i32 {
    guard(|| match connections::is_open(number) {
        true => Ok(()),
        false => Err(Error::NotFound),
    })
}
