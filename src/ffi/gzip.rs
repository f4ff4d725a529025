//! The content coding gzip of responses.

use super::{bytes, guard_with, output, put, rmtls_buf};
use crate::{gzip, Error};

/// Decodes `data`, which is gzip of at most `max` decoded bytes. `RMTLS_INVALID` for anything
/// else; then `err` has the reason.
///
/// # Safety
/// `data` is readable for `data_len` bytes; `out` and `err` are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_gzip_decode(
    data: *const u8,
    data_len: usize,
    max: usize,
    out: *mut rmtls_buf,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            output(out)?;
            let decoded = gzip::decode(bytes(data, data_len)?, max).map_err(Error::Misuse)?;
            put(out, &decoded)
        })
    }
}
