//! The CRLs of a policy that are fetched from a URL.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::engine::rmtls_engine;
use super::{bytes, free_handle, guard, guard_with, handle, output, put, rmtls_buf};
use crate::engine::{CrlBody, CrlBytes, UrlCrlState};
use crate::text::hex;
use crate::Error;

/// How to fetch a CRL of the policy, and what is in use of it.
#[repr(C)]
#[derive(Default)]
pub struct rmtls_crl_url {
    /// thisUpdate of the CRL in use, in seconds since 1970, or 0 without one.
    pub this_update: i64,
    /// nextUpdate of the CRL in use, or `INT64_MAX`.
    pub next_update: i64,
    /// Number of entries of the CRL in use.
    pub entries: u64,
    /// Length of the CRL in use, in bytes.
    pub bytes: u64,
    /// Seconds between two fetches, or 0: by the nextUpdate.
    pub refresh: u32,
    /// Most bytes of the CRL.
    pub max_bytes: u32,
    /// Timeout of one fetch in milliseconds.
    pub http_timeout: u32,
    /// Whether the certificates of https servers are verified: 0 or 1.
    pub ssl_verify: i32,
    /// Port of the proxy for http URLs, or 0.
    pub http_proxy_port: u32,
    /// Port of the proxy for https URLs, or 0.
    pub https_proxy_port: u32,
}

/// The bytes of a CRL that is being fetched.
pub struct rmtls_crl_body(RefCell<Option<CrlBody>>);

/// Writes URL and key of CRL number `index` of those that the policy in force fetches, and how.
/// The key is 64 hexadecimal digits of a digest of everything that it depends on. `RMTLS_NOT_FOUND`
/// after the last.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing; `url` and `key` are NULL or valid,
/// with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_crl_url(
    engine: *const rmtls_engine,
    index: usize,
    out: *mut rmtls_crl_url,
    url: *mut rmtls_buf,
    key: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (engine, out) = (&handle(engine)?.0, output(out)?);
            let written = engine.with_crl_url(index, |crl| {
                let port = |proxy: &Option<(Box<str>, u16)>| {
                    proxy.as_ref().map_or(0, |(_, port)| u32::from(*port))
                };
                let times = crl.crl.times();
                let (entries, bytes) = crl.crl.size().unwrap_or_default();
                *out = rmtls_crl_url {
                    this_update: times.map_or(0, |(this_update, _)| this_update),
                    next_update: times.and_then(|(_, next)| next).unwrap_or(i64::MAX),
                    entries: entries as u64,
                    bytes: bytes as u64,
                    refresh: crl.refresh.unwrap_or(0),
                    max_bytes: crl.crl.max_bytes() as u32,
                    http_timeout: crl.http_timeout,
                    ssl_verify: crl.ssl_verify.into(),
                    http_proxy_port: port(&crl.http_proxy),
                    https_proxy_port: port(&crl.https_proxy),
                };
                put(url, crl.crl.url().as_bytes())?;
                put(
                    key,
                    hex(&openssl::sha::sha256(crl.key.as_bytes())).as_bytes(),
                )
            })?;
            written.unwrap_or(Err(Error::NotFound))
        }
    })
}

/// Writes the hosts of the proxies for CRL number `index`, empty when none is configured.
///
/// # Safety
/// `engine` is NULL or live; `http_proxy` and `https_proxy` are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_crl_url_proxies(
    engine: *const rmtls_engine,
    index: usize,
    http_proxy: *mut rmtls_buf,
    https_proxy: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            let written = engine.with_crl_url(index, |crl| {
                let host = |proxy: &Option<(Box<str>, u16)>| {
                    let host = proxy.as_ref().map(|(host, _)| host.to_string());
                    host.unwrap_or_default()
                };
                put(http_proxy, host(&crl.http_proxy).as_bytes())?;
                put(https_proxy, host(&crl.https_proxy).as_bytes())
            })?;
            written.unwrap_or(Err(Error::NotFound))
        }
    })
}

/// Makes an empty body of at most `max` bytes.
///
/// # Safety
/// `out` is NULL or valid for writing. Free it with `rmtls_crl_body_free`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_crl_body_new(max: usize, out: *mut *mut rmtls_crl_body) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let out = unsafe { output(out)? };
        let body = rmtls_crl_body(RefCell::new(Some(CrlBody::new(max))));
        *out = Box::into_raw(Box::new(body));
        Ok(())
    })
}

/// Appends bytes. `RMTLS_INVALID` when the body would be over its limit.
///
/// # Safety
/// `body` is NULL or live; `data` is readable for `data_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn rmtls_crl_body_append(
    body: *const rmtls_crl_body,
    data: *const u8,
    data_len: usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (body, data) = unsafe { (&handle(body)?.0, bytes(data, data_len)?) };
        let mut body = body.borrow_mut();
        body.as_mut().ok_or(Error::NotFound)?.append(data)
    })
}

/// Frees a body.
///
/// # Safety
/// `body` is NULL or from this library, and is not used again.
#[no_mangle]
pub unsafe extern "C" fn rmtls_crl_body_free(body: *mut rmtls_crl_body) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { free_handle(body) }
}

/// Loads CRL number `index` of the policy with this `rmtls_engine_epoch` and puts it in use on this
/// worker: from `body`, which is empty afterwards and is written to the file `path` if the CRL is
/// good and the path is not empty; without a body from the file. With neither, it asks how far the
/// load is that began before. `is_loaded` becomes 0 while it goes on, on a thread beside the event
/// loop; with `wait` it ends before the function returns. `RMTLS_OK` with a text in `err`: the CRL
/// is in use and was not written to the file. `RMTLS_NOT_FOUND`: another policy is in force, or no
/// load has begun.
///
/// # Safety
/// `engine` is NULL or live; `body` is NULL or live; `path` is readable for `path_len` bytes;
/// `is_loaded` is NULL or valid for writing; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_load_crl_url(
    engine: *const rmtls_engine,
    epoch: u32,
    index: usize,
    body: *const rmtls_crl_body,
    path: *const u8,
    path_len: usize,
    wait: i32,
    is_loaded: *mut i32,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let (engine, is_loaded) = (&handle(engine)?.0, output(is_loaded)?);
            let path = match path_len {
                0 => None,
                _ => Some(PathBuf::from(OsStr::from_bytes(bytes(path, path_len)?))),
            };
            let source = if body.is_null() {
                path.map(CrlBytes::File)
            } else {
                let body = handle(body)?.0.borrow_mut().take();
                Some(CrlBytes::Fetched(body.ok_or(Error::NotFound)?, path))
            };
            let state = engine.load_url_crl(index, epoch.into(), source, wait != 0)?;
            *is_loaded = i32::from(state != UrlCrlState::Loading);
            match state {
                UrlCrlState::Loaded(Some(text)) => put(err, text.as_bytes()),
                _ => Ok(()),
            }
        })
    }
}
