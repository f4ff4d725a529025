//! Certificates that a trusted proxy put into a request header.

use std::ffi::c_void;
use std::rc::Rc;

use super::access::rmtls_decision;
use super::certificate::rmtls_certificate;
use super::engine::rmtls_engine;
use super::request_header::{request_headers, rmtls_request_header};
use super::{bytes, connection, guard, guard_with, handle, new_handle, output, rmtls_buf, text};
use crate::engine::RequestHeaders;
use crate::inbound::{decode, Format, XfccElement};
use crate::Error;

/// There must be one element only.
pub const RMTLS_XFCC_ELEMENT_ONLY: i32 = 0;
/// The last element, from the nearest proxy.
pub const RMTLS_XFCC_ELEMENT_LAST: i32 = 1;
/// The first element, from the outermost proxy.
pub const RMTLS_XFCC_ELEMENT_FIRST: i32 = 2;

/// As `rmtls_engine_access`, for a plan with `RMTLS_PLAN_HEADER_CERTIFICATE`. `headers` are the
/// request headers that the route may read. `trusted` is 1 when the peer of the TCP connection is
/// in `trusted_ips`.
///
/// # Safety
/// As `rmtls_engine_access`; `headers` is readable for `headers_len` elements whose names and
/// values are readable.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_access_with_headers(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    plan: u32,
    host: *const u8,
    host_len: usize,
    headers: *const rmtls_request_header,
    headers_len: usize,
    trusted: i32,
    now: i64,
    out: *mut rmtls_decision,
    reason: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(reason, || {
            let (engine, out) = (&handle(engine)?.0, output(out)?);
            let host = bytes(host, host_len)?;
            let headers = request_headers(headers, headers_len)?;
            let received = RequestHeaders {
                headers: &headers,
                trusted: trusted == 1,
            };
            let ssl = connection(ssl);
            *out = rmtls_decision::decide(engine, ssl, plan, host, &received, now, reason)?;
            Ok(())
        })
    }
}

/// Returns the certificate that a request presents on a plan, even if verification failed: from
/// the header that the plan reads, else from the TLS connection. With `or_tls` 1 the connection is
/// also used when the header is missing. `RMTLS_NOT_FOUND` if there is none.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `headers` is
/// readable for `headers_len` elements whose names and values are readable; `out` is NULL or valid
/// for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_unverified_certificate(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    plan: u32,
    headers: *const rmtls_request_header,
    headers_len: usize,
    trusted: i32,
    or_tls: i32,
    out: *mut *mut rmtls_certificate,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            let headers = request_headers(headers, headers_len)?;
            let received = RequestHeaders {
                headers: &headers,
                trusted: trusted == 1,
            };
            new_handle(out, || {
                let presented = engine.unverified_certificate(
                    connection(ssl),
                    plan as usize,
                    &received,
                    or_tls == 1,
                )?;
                Ok(rmtls_certificate(presented.ok_or(Error::NotFound)?))
            })
        }
    })
}

/// Reads a certificate from the header of a proxy. `lines` are the values of the header, `chain`
/// those of its chain header if the format has one; the names are ignored. `format` is one of
/// `base64_encoded`, `url_encoded`, `rfc9440`, `xfcc`, `traefik`, `aws_alb`, `auto`, and
/// `RMTLS_UNKNOWN_NAME` is returned for any other. `xfcc_element` is one of
/// `RMTLS_XFCC_ELEMENT_*`, for the format `xfcc`. `RMTLS_NOT_FOUND` when the header states that
/// there is no certificate.
///
/// # Safety
/// `format` is readable for its length; `lines` and `chain` are readable for their lengths, with
/// names and values; `out` is NULL or valid for writing; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_certificate_from_header(
    format: *const u8,
    format_len: usize,
    xfcc_element: i32,
    lines: *const rmtls_request_header,
    lines_len: usize,
    chain: *const rmtls_request_header,
    chain_len: usize,
    out: *mut *mut rmtls_certificate,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            output(out)?;
            let name = text(format, format_len)?;
            let format = Format::from_name(name).ok_or_else(|| {
                let names: Vec<_> = Format::ALL.into_iter().map(|(name, _)| name).collect();
                Error::UnknownName(format!(
                    "unknown format '{name}', expected one of {}",
                    names.join(", ")
                ))
            })?;
            let element = match xfcc_element {
                RMTLS_XFCC_ELEMENT_ONLY => XfccElement::Only,
                RMTLS_XFCC_ELEMENT_LAST => XfccElement::Last,
                RMTLS_XFCC_ELEMENT_FIRST => XfccElement::First,
                _ => {
                    let why = "xfcc_element: expected one of RMTLS_XFCC_ELEMENT_*";
                    return Err(Error::UnknownName(why.to_owned()));
                }
            };
            let (lines, chain) = (
                request_headers(lines, lines_len)?,
                request_headers(chain, chain_len)?,
            );
            let lines: Vec<&[u8]> = lines.into_iter().map(|(_, value)| value).collect();
            let chain: Vec<&[u8]> = chain.into_iter().map(|(_, value)| value).collect();
            new_handle(out, || {
                let decoded = decode(format, element, &lines, &chain)?.ok_or(Error::NotFound)?;
                Ok(rmtls_certificate(Rc::new(decoded.certificate()?)))
            })
        })
    }
}
