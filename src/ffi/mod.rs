//! The C ABI. Every export returns an `int32_t` status, writes its outputs through pointers, never
//! unwinds, and leaves OpenSSL's error queue empty, as nginx expects it.
//!
//! Handles belong to one thread. Input bytes are borrowed for the call; output bytes go into
//! memory of the caller.
#![allow(non_camel_case_types)]

pub mod access;
mod account;
pub mod blocks;
pub mod bundles;
pub mod ca_certificates;
pub mod certificate;
pub mod certificate_spool;
pub mod crl_url;
pub mod engine;
pub mod fleet;
pub mod gzip;
pub mod handshake;
pub mod header_certificate;
pub mod header_lines;
pub mod header_list;
pub mod listing;
pub mod lists;
pub mod metrics;
pub mod node;
pub mod policy;
pub mod reload;
pub mod request_header;
pub mod request_state;
pub mod reserved_headers;
pub mod revocation;
pub mod sni_map;
pub mod token;
pub mod token_options;
pub mod trust_store;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::slice;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslRef;

use crate::error::Code;
use crate::openssl_ext::host_openssl;
use crate::Error;

/// Version of this ABI. It changes with every change of a signature or a struct.
pub const RMTLS_ABI_VERSION: i32 = 6;

/// Success.
pub const RMTLS_OK: i32 = 0;
/// There is nothing of that name, or no item with that index.
pub const RMTLS_NOT_FOUND: i32 = 1;
/// The buffer is too small. Its `len` is set to the bytes needed; nothing else was changed.
pub const RMTLS_TOO_SMALL: i32 = 2;
/// There is a value, but it must not be put into a header. The error buffer has the reason.
pub const RMTLS_LEFT_OUT: i32 = 3;
/// A pointer that must not be NULL is NULL.
pub const RMTLS_NULL_ARGUMENT: i32 = -1;
/// The input is not valid. The error buffer has the reason.
pub const RMTLS_INVALID: i32 = -2;
/// A bug in this library caused a panic, which was caught.
pub const RMTLS_PANIC: i32 = -3;
/// An OpenSSL operation failed unexpectedly.
pub const RMTLS_OPENSSL: i32 = -4;
/// The process runs on another OpenSSL than the one this library is linked to.
pub const RMTLS_HOST: i32 = -5;
/// A name in the arguments is none of those that exist. The error buffer has the names.
pub const RMTLS_UNKNOWN_NAME: i32 = -6;

/// A buffer of the caller. The caller sets `data` and `cap`; the function sets `len` to the bytes
/// written, or with `RMTLS_TOO_SMALL` to the bytes needed.
#[repr(C)]
pub struct rmtls_buf {
    /// Memory that is writable for `cap` bytes.
    pub data: *mut u8,
    /// Bytes available.
    pub cap: usize,
    /// Bytes written or needed.
    pub len: usize,
}

/// The version of this ABI; compare it with `RMTLS_ABI_VERSION` of the header in use.
#[no_mangle]
pub extern "C" fn rmtls_abi_version() -> i32 {
    RMTLS_ABI_VERSION
}

/// Checks that the process runs on the OpenSSL this library is linked to. Call it once after
/// loading, before any other function. With `RMTLS_HOST`, `err` has the reason in one line.
///
/// # Safety
/// `err` is NULL or valid, with `err->data` writable for `err->cap` bytes.
#[no_mangle]
pub unsafe extern "C" fn rmtls_host_check(err: *mut rmtls_buf) -> i32 {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { guard_with(err, host_openssl::check) }
}

fn status(code: Code) -> i32 {
    match code {
        Code::NotFound => RMTLS_NOT_FOUND,
        Code::TooSmall => RMTLS_TOO_SMALL,
        Code::LeftOut => RMTLS_LEFT_OUT,
        Code::NullArgument => RMTLS_NULL_ARGUMENT,
        Code::Invalid => RMTLS_INVALID,
        Code::Panic => RMTLS_PANIC,
        Code::OpenSsl => RMTLS_OPENSSL,
        Code::Host => RMTLS_HOST,
        Code::UnknownName => RMTLS_UNKNOWN_NAME,
    }
}

fn caught(body: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let result = unwound(body);
    // SAFETY: both concern the queue of this thread only. Left-overs would show up in nginx's log
    // as "ignoring stale global SSL error", or worse as the error of the next call.
    unsafe {
        if openssl_sys::ERR_get_error() != 0 {
            openssl_sys::ERR_clear_error();
        }
    }
    result
}

fn unwound(body: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Error::Panic))
}

/// Runs the body of an export of every request that calls no function of OpenSSL. The look at its
/// error queue costs more than such a body.
fn guard_without_openssl(body: impl FnOnce() -> Result<(), Error>) -> i32 {
    match unwound(body) {
        Ok(()) => RMTLS_OK,
        Err(error) => status(error.code()),
    }
}

/// Runs the body of an export.
fn guard(body: impl FnOnce() -> Result<(), Error>) -> i32 {
    match caught(body) {
        Ok(()) => RMTLS_OK,
        Err(error) => status(error.code()),
    }
}

/// Runs the body of an export, and writes the text of its error into `err`, truncated to fit.
///
/// # Safety
/// `err` is NULL or valid for writing, with its data.
unsafe fn guard_with(err: *mut rmtls_buf, body: impl FnOnce() -> Result<(), Error>) -> i32 {
    match caught(body) {
        Ok(()) => RMTLS_OK,
        Err(error) => {
            // SAFETY: the caller's promise.
            unsafe { put_truncated(err, &error.to_string()) };
            status(error.code())
        }
    }
}

// No `ok_or` in the exports of every request: it makes, and drops, an error also where there is none.

/// # Safety
/// `pointer` is NULL or live for `'a`.
unsafe fn handle<'a, T>(pointer: *const T) -> Result<&'a T, Error> {
    // SAFETY: the caller's promise.
    match unsafe { pointer.as_ref() } {
        Some(value) => Ok(value),
        None => Err(Error::NullArgument),
    }
}

/// # Safety
/// `pointer` is NULL or valid for reading and writing for `'a`, and nobody else uses it meanwhile.
unsafe fn output<'a, T>(pointer: *mut T) -> Result<&'a mut T, Error> {
    // SAFETY: the caller's promise.
    match unsafe { pointer.as_mut() } {
        Some(value) => Ok(value),
        None => Err(Error::NullArgument),
    }
}

/// Bytes of the caller. `data` is not read when `len` is 0.
///
/// # Safety
/// `data` is readable for `len` bytes for `'a`.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> Result<&'a [u8], Error> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(Error::NullArgument);
    }
    if len > isize::MAX as usize {
        return Err(Error::Misuse(format!("a length of {len} bytes")));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

/// # Safety
/// As [`bytes`].
unsafe fn text<'a>(data: *const u8, len: usize) -> Result<&'a str, Error> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { bytes(data, len) }?;
    std::str::from_utf8(bytes).map_err(|_| Error::Misuse("text that is not UTF-8".to_owned()))
}

/// The name of a file, which may be any bytes.
///
/// # Safety
/// As [`bytes`].
unsafe fn file_name(data: *const u8, len: usize) -> Result<PathBuf, Error> {
    // SAFETY: the caller's promise.
    let name = unsafe { bytes(data, len) }?;
    Ok(OsStr::from_bytes(name).into())
}

/// # Safety
/// `ssl` is NULL or a live `SSL` of the OpenSSL that this library is bound to.
unsafe fn connection<'a>(ssl: *mut std::ffi::c_void) -> Option<&'a SslRef> {
    if ssl.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { SslRef::from_ptr(ssl.cast()) })
}

/// Writes all of `value`, or sets `len` to the bytes needed.
///
/// # Safety
/// `out` is NULL or valid for writing, with its data.
unsafe fn put(out: *mut rmtls_buf, value: &[u8]) -> Result<(), Error> {
    // SAFETY: the caller's promise; source and target cannot overlap, the source is ours.
    unsafe {
        let out = output(out)?;
        out.len = value.len();
        if out.len > out.cap {
            return Err(Error::TooSmall);
        }
        if out.len > 0 {
            if out.data.is_null() {
                return Err(Error::NullArgument);
            }
            std::ptr::copy_nonoverlapping(value.as_ptr(), out.data, value.len());
        }
    }
    Ok(())
}

/// Writes as much of `message` as fits, truncated at a character boundary.
///
/// # Safety
/// `out` is NULL or valid for writing, with its data.
unsafe fn put_truncated(out: *mut rmtls_buf, message: &str) {
    // SAFETY: the caller's promise.
    let Some(cap) = (unsafe { out.as_ref() }).map(|out| out.cap) else {
        return;
    };
    let mut end = message.len().min(cap);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    // SAFETY: the caller's promise.
    let _ = unsafe { put(out, &message.as_bytes()[..end]) };
}

/// Allocates a handle for the caller.
///
/// # Safety
/// `out` is NULL or valid for writing.
unsafe fn new_handle<T>(
    out: *mut *mut T,
    make: impl FnOnce() -> Result<T, Error>,
) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    let out = unsafe { output(out) }?;
    *out = std::ptr::null_mut();
    *out = Box::into_raw(Box::new(make()?));
    Ok(())
}

/// Frees a handle.
///
/// # Safety
/// `handle` is NULL or from [`new_handle`], and is not used again.
unsafe fn free_handle<T>(handle: *mut T) {
    if !handle.is_null() {
        guard(|| {
            // SAFETY: the caller's promise.
            drop(unsafe { Box::from_raw(handle) });
            Ok(())
        });
    }
}
