//! Reserved headers: request headers that only the gateway may set.

use super::engine::rmtls_engine;
use super::request_header::rmtls_request_header;
use super::{bytes, guard, guard_without_openssl, handle, output, put, rmtls_buf};
use crate::Error;

/// Finds the request headers that only the gateway may set, and `Connection` headers that would
/// make an upstream drop one of them. Writes at most `found_cap` of their indexes to `found`, and
/// their number to `found_len`.
///
/// # Safety
/// `engine` is NULL or live; `headers` is readable for `headers_len` elements whose names and
/// values are readable; `found` is writable for `found_cap` elements; `found_len` is NULL or valid
/// for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_reserved_headers(
    engine: *const rmtls_engine,
    headers: *const rmtls_request_header,
    headers_len: usize,
    found: *mut u32,
    found_cap: usize,
    found_len: *mut usize,
) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (engine, found_len) = (handle(engine)?, output(found_len)?);
            *found_len = 0;
            if headers_len == 0 {
                return Ok(());
            }
            if headers.is_null() || found.is_null() {
                return Err(Error::NullArgument);
            }
            let policy = engine.0.policy()?;
            for (index, header) in std::slice::from_raw_parts(headers, headers_len)
                .iter()
                .enumerate()
            {
                let name = bytes(header.name, usize::try_from(header.name_len).unwrap_or(0))?;
                let value = bytes(header.value, usize::try_from(header.value_len).unwrap_or(0))?;
                if policy.reserved_headers.must_remove(name, value) {
                    if *found_len < found_cap {
                        *found.add(*found_len) = index as u32;
                    }
                    *found_len += 1;
                }
            }
            Ok(())
        }
    })
}

/// Writes the name of request header number `index` that a route reads before it is removed;
/// `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_read_header_name(
    engine: *const rmtls_engine,
    index: usize,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let policy = handle(engine)?.0.policy()?;
            let name = policy.inbound_headers.get(index).ok_or(Error::NotFound)?;
            put(out, name.as_bytes())
        }
    })
}
