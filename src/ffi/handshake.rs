//! The phases of a TLS handshake.

use std::ffi::c_void;

use super::engine::rmtls_engine;
use super::{bytes, connection, guard_with, handle, rmtls_buf};
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
