//! `rmtls_request_header`: the headers of a request as nginx passes them.

use super::bytes;
use crate::Error;

/// A request header, laid out as `ngx_http_lua_ffi_table_elt_t`.
#[repr(C)]
pub struct rmtls_request_header {
    /// Bytes of the name.
    pub name_len: i32,
    /// The name.
    pub name: *const u8,
    /// Bytes of the value.
    pub value_len: i32,
    /// The value.
    pub value: *const u8,
}

/// Name and value.
pub(super) type Header<'a> = (&'a [u8], &'a [u8]);

/// Names and values of request headers.
///
/// # Safety
/// `headers` is readable for `len` elements whose names and values are readable.
pub(super) unsafe fn request_headers<'a>(
    headers: *const rmtls_request_header,
    len: usize,
) -> Result<Vec<Header<'a>>, Error> {
    if len == 0 {
        return Ok(Vec::new());
    }
    if headers.is_null() {
        return Err(Error::NullArgument);
    }
    let size = |len: i32| usize::try_from(len).unwrap_or(0);
    // SAFETY: the caller's promises.
    unsafe {
        std::slice::from_raw_parts(headers, len)
            .iter()
            .map(|header| {
                Ok((
                    bytes(header.name, size(header.name_len))?,
                    bytes(header.value, size(header.value_len))?,
                ))
            })
            .collect()
    }
}
