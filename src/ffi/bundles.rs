//! Bundles of trust domains that the workers fetch.

use super::engine::rmtls_engine;
use super::{bytes, guard, guard_with, handle, output, put, rmtls_buf};
use crate::Error;

/// Writes the URL of bundle number `index` of the policy in force. `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `engine` is NULL or live; `url` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_bundle_url(
    engine: *const rmtls_engine,
    index: usize,
    url: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let found = handle(engine)?.0.bundle_url(index)?;
            put(url, found.ok_or(Error::NotFound)?.as_bytes())
        }
    })
}

/// Checks a fetched bundle and keeps it in the state directory, where the policy reads it. With
/// `RMTLS_OK`, `refresh` becomes the seconds after which it is to be fetched again.
/// `RMTLS_NOT_FOUND` if the policy in force has no such URL. Otherwise `err` has the reason.
///
/// # Safety
/// `engine` is NULL or live; `url` and `data` are readable for `url_len` and `data_len` bytes;
/// `refresh` is NULL or valid for writing; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_store_bundle(
    engine: *const rmtls_engine,
    url: *const u8,
    url_len: usize,
    data: *const u8,
    data_len: usize,
    refresh: *mut u32,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let (engine, refresh) = (&handle(engine)?.0, output(refresh)?);
            let url = std::str::from_utf8(bytes(url, url_len)?).map_err(|_| Error::NotFound)?;
            let seconds = engine.store_bundle(url, bytes(data, data_len)?)?;
            *refresh = u32::try_from(seconds).unwrap_or(u32::MAX);
            Ok(())
        })
    }
}
