//! The directory to which certificates of clients are written.

use super::engine::rmtls_engine;
use super::{file_name, guard, guard_with, handle, output, put, rmtls_buf};
use crate::Error;

/// Writes certificates whose chain a worker has verified for the first time, with at most 16 KB of what
/// the client sent with them, to the directory at `path` as `SHA256.pem`: at most `max_certificates`
/// files that have at most `max_bytes` bytes together. Call it before workers are forked. It fails when
/// the directory does not exist or other users may use it.
///
/// # Safety
/// `engine` is NULL or live; `path` is readable for `path_len` bytes; `err` is NULL or valid, with its
/// data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_set_certificate_spool(
    engine: *const rmtls_engine,
    path: *const u8,
    path_len: usize,
    max_certificates: u64,
    max_bytes: u64,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?.engine();
            engine.set_certificate_spool(&file_name(path, path_len)?, max_certificates, max_bytes)
        })
    }
}

/// Writes the number of certificates in that directory, and their bytes together, as this worker found
/// them when it last wrote one; `RMTLS_NOT_FOUND` without a directory.
///
/// # Safety
/// `engine` is NULL or live; `certificates` and `bytes` are NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_certificate_spool_usage(
    engine: *const rmtls_engine,
    certificates: *mut u64,
    bytes: *mut u64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (certificates, bytes) = (output(certificates)?, output(bytes)?);
            let usage = handle(engine)?.engine().certificate_spool_usage();
            let usage = usage.ok_or(Error::NotFound)?;
            (*certificates, *bytes) = (usage.certificates, usage.bytes);
            Ok(())
        }
    })
}

/// Counts what has happened to certificates as `RMTLS_EVENT_SPOOL_*`, and writes a warning about that
/// directory, once for each reason; `RMTLS_NOT_FOUND` when there is no other.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_certificate_spool_warning(
    engine: *const rmtls_engine,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = handle(engine)?.engine();
            engine.certificate_spool_warning(|text| put(out, text.as_bytes()))
        }
    })
}
