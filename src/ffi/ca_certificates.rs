//! The CA certificates of the policy in force, for metrics and the log.

use super::engine::rmtls_engine;
use super::{guard, handle, output, put, rmtls_buf};
use crate::Error;

/// Writes the id, the subject and the notAfter of CA certificate number `index` of the policy in
/// force; the id is empty for an entry without one. The notAfter is in seconds since 1970.
/// `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `engine` is NULL or live; `id`, `subject` and `not_after` are NULL or valid, the former with
/// their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_ca_certificate(
    engine: *const rmtls_engine,
    index: usize,
    id: *mut rmtls_buf,
    subject: *mut rmtls_buf,
    not_after: *mut i64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let end = output(not_after)?;
            let engine = &handle(engine)?.0;
            let written = engine.with_ca_certificate(index, |ca| {
                put(id, ca.id.as_deref().unwrap_or_default().as_bytes())?;
                put(subject, ca.ca.subject().as_bytes())?;
                *end = ca.ca.not_after();
                Ok(())
            })?;
            written.unwrap_or(Err(Error::NotFound))
        }
    })
}

/// Writes a warning about a CA certificate that has expired since the policy in force was compiled,
/// or will within 30 days, once for each change; `RMTLS_NOT_FOUND` when there is no other. `now` is
/// in seconds since 1970.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_ending_ca(
    engine: *const rmtls_engine,
    now: i64,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            engine.ending_ca(now, |text| put(out, text.as_bytes()))
        }
    })
}
