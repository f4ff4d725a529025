//! `rmtls_header_lines`: the headers that the gateway sets on a request to the upstream.

use std::ffi::c_void;

use super::access::rmtls_decision;
use super::certificate::rmtls_certificate;
use super::engine::rmtls_engine;
use super::request_header::{request_headers, rmtls_request_header};
use super::{
    connection, free_handle, guard, guard_with, handle, new_handle, output, put, rmtls_buf, text,
};
use crate::connection::Connection;
use crate::engine::{ClientCertificate, HeaderLine, HeaderLines, LineKind, NO_CONSUMER};
use crate::headers::cloudflare::Property;
use crate::headers::{Dialect, VerifyResult};
use crate::Error;

/// Set on every request of the client.
pub const RMTLS_HEADER_LINE_ALWAYS: i32 = 0;
/// Set on requests for which `rmtls_decision.forwards` is `RMTLS_FORWARDS_YES`, or
/// `RMTLS_FORWARDS_FIRST` and first.
pub const RMTLS_HEADER_LINE_FORWARDING: i32 = 1;
/// Set to the value of `rmtls_engine_xfcc`.
pub const RMTLS_HEADER_LINE_XFCC: i32 = 2;
/// Never set, because it is longer than its limit. The value has the reason, here and below.
pub const RMTLS_HEADER_LINE_TOO_LARGE: i32 = 3;
/// Never set, because readers would parse another value.
pub const RMTLS_HEADER_LINE_AMBIGUOUS: i32 = 4;
/// Never set, because it has bytes that a header must not have.
pub const RMTLS_HEADER_LINE_NOT_TEXT: i32 = 5;
/// Never set, because the field of the certificate cannot be read.
pub const RMTLS_HEADER_LINE_UNREADABLE: i32 = 6;
/// A property of `rmtls_engine_cloudflare` that is true (`1`) or false (`0`).
pub const RMTLS_HEADER_LINE_FLAG: i32 = 7;

/// Verdict on a chain that was not verified.
pub const RMTLS_VERDICT_NOT_VERIFIED: i32 = -1;

/// Verdict on a valid chain for which the route finds no consumer.
pub const RMTLS_VERDICT_NO_CONSUMER: i32 = -2;

/// Header lines, in the order they are set.
pub struct rmtls_header_lines {
    lines: Vec<(i32, HeaderLine)>,
    until: i64,
}

/// One header line. Its bytes live as long as the `rmtls_header_lines`.
#[repr(C)]
pub struct rmtls_header_line {
    /// `RMTLS_HEADER_LINE_*`.
    pub kind: i32,
    /// The name.
    pub name: *const u8,
    /// Bytes of the name.
    pub name_len: usize,
    /// The value.
    pub value: *const u8,
    /// Bytes of the value.
    pub value_len: usize,
}

impl rmtls_header_lines {
    pub(super) fn new(lines: HeaderLines) -> rmtls_header_lines {
        rmtls_header_lines {
            lines: lines
                .lines
                .into_iter()
                .map(|line| (line.kind as i32, line))
                .collect(),
            until: lines.until,
        }
    }
}

/// Returns the header lines of a dialect for a certificate. `verdict` is `X509_V_OK` (0), an
/// `X509_V_ERR_*` number, or one of `RMTLS_VERDICT_*`; the lines describe the certificate even if
/// verification failed. `RMTLS_INVALID` for an unknown dialect; then `err` lists the known ones.
///
/// # Safety
/// `certificate` is NULL or live; `dialect` is readable for `dialect_len` bytes; `out` is NULL or
/// valid for writing; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_certificate_header_lines(
    certificate: *const rmtls_certificate,
    dialect: *const u8,
    dialect_len: usize,
    verdict: i32,
    now: i64,
    out: *mut *mut rmtls_header_lines,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let certificate = &handle(certificate)?.0;
            let dialect = parse_dialect(text(dialect, dialect_len)?)?;
            let verdict = verify_result(verdict)?;
            new_handle(out, || {
                Ok(rmtls_header_lines::new(HeaderLines::of(
                    dialect,
                    certificate,
                    verdict,
                    now,
                )))
            })
        })
    }
}

/// Returns the 21 properties of Cloudflare's `tlsClientAuth` as names and values, for `client`, or
/// with NULL for the client of `ssl`; `RMTLS_NOT_FOUND` if it presented no certificate. `verdict`
/// is that of `rmtls_decision` for this plan, or `RMTLS_VERDICT_NO_CONSUMER`.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `client` is NULL or
/// live; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_cloudflare(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    client: *const rmtls_certificate,
    plan: u32,
    verdict: i32,
    now: i64,
    out: *mut *mut rmtls_header_lines,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            let client = client.as_ref().map(|client| client.0.clone());
            let verdict = verify_result(verdict)?;
            new_handle(out, || {
                let properties = engine.cloudflare(ClientCertificate {
                    ssl: connection(ssl),
                    certificate: client,
                    plan_id: plan as usize,
                    verify_result: verdict,
                    now,
                })?;
                let line = |(name, property): (&str, Property)| {
                    let (kind, value) = match property {
                        Property::Text(text) => (RMTLS_HEADER_LINE_ALWAYS, text),
                        Property::Flag(set) => (RMTLS_HEADER_LINE_FLAG, u8::from(set).to_string()),
                    };
                    let line = HeaderLine {
                        kind: LineKind::Always,
                        name: name.into(),
                        value,
                    };
                    (kind, line)
                };
                Ok(rmtls_header_lines {
                    lines: properties.into_iter().map(line).collect(),
                    until: i64::MAX,
                })
            })
        }
    })
}

/// Writes line number `index`; `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `lines` is NULL or live; `out` is NULL or valid for writing, and what it shows is not read after
/// `lines` is freed.
#[no_mangle]
pub unsafe extern "C" fn rmtls_header_lines_get(
    lines: *const rmtls_header_lines,
    index: usize,
    out: *mut rmtls_header_line,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (lines, out) = unsafe { (handle(lines)?, output(out)?) };
        let (kind, line) = lines.lines.get(index).ok_or(Error::NotFound)?;
        *out = rmtls_header_line {
            kind: *kind,
            name: line.name.as_ptr(),
            name_len: line.name.len(),
            value: line.value.as_ptr(),
            value_len: line.value.len(),
        };
        Ok(())
    })
}

/// Writes the first second at which the lines must be made again; 0 when they are valid for one
/// request only.
///
/// # Safety
/// `lines` is NULL or live; `until` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_header_lines_until(
    lines: *const rmtls_header_lines,
    until: *mut i64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { *output(until)? = handle(lines)?.until };
        Ok(())
    })
}

/// Frees lines.
///
/// # Safety
/// `lines` is NULL or from a function above, and is not used again.
#[no_mangle]
pub unsafe extern "C" fn rmtls_header_lines_free(lines: *mut rmtls_header_lines) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { free_handle(lines) }
}

/// Writes the value that a dialect has for this key, for `client`, or with NULL for the client of
/// `ssl`, even if verification failed. The value is empty when the dialect sets none. `verdict` is
/// that of `rmtls_decision` for this plan, or `RMTLS_VERDICT_NO_CONSUMER`. `RMTLS_NOT_FOUND` for
/// an unknown key or without a certificate, `RMTLS_INVALID` for an unknown dialect,
/// `RMTLS_LEFT_OUT` for a value that must not be put into a header; then `err` has the reason.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `client` is NULL
/// or live; `dialect` and `key` are readable for their lengths; `out` and `err` are NULL or valid,
/// with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_header_value(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    client: *const rmtls_certificate,
    plan: u32,
    verdict: i32,
    dialect: *const u8,
    dialect_len: usize,
    key: *const u8,
    key_len: usize,
    now: i64,
    out: *mut rmtls_buf,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = &handle(engine)?.0;
            let dialect = parse_dialect(text(dialect, dialect_len)?)?;
            let key = text(key, key_len)?;
            let client = client.as_ref().map(|client| client.0.clone());
            let (ssl, plan) = (connection(ssl), plan as usize);
            let verdict = verify_result(verdict)?;
            let value = engine.header_value(
                ClientCertificate {
                    ssl,
                    certificate: client,
                    plan_id: plan,
                    verify_result: verdict,
                    now,
                },
                dialect,
                key,
            )?;
            put(out, value.unwrap_or_default().as_bytes())
        })
    }
}

/// Returns `RMTLS_OK` for the first request of a connection with which this function is called,
/// else `RMTLS_NOT_FOUND`. `request` is the number of the request on its connection, from 1.
///
/// # Safety
/// `ssl` is NULL or a live `SSL` after its handshake.
#[no_mangle]
pub unsafe extern "C" fn rmtls_connection_is_first(ssl: *mut c_void, request: u64) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let ssl = unsafe { connection(ssl) }.ok_or(Error::NotFound)?;
        match Connection::of_or_new(ssl)?.is_first(request) {
            true => Ok(()),
            false => Err(Error::NotFound),
        }
    })
}

/// Writes name and value of the XFCC header for a request on a route with `RMTLS_PLAN_XFCC`.
/// `headers` are request headers, of which only XFCC headers are read. Call it before the lines of
/// the decision end to live. `RMTLS_NOT_FOUND` when the header is not to be set. `kind` becomes `RMTLS_HEADER_LINE_ALWAYS`, or the kind that has the reason why
/// it must not be set.
///
/// # Safety
/// `engine` is NULL or live; `decision` is NULL or valid; `headers` is readable for `headers_len`
/// elements whose names and values are readable; `kind` is NULL or valid for writing; `name` and `value` are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_xfcc(
    engine: *const rmtls_engine,
    plan: u32,
    decision: *const rmtls_decision,
    headers: *const rmtls_request_header,
    headers_len: usize,
    kind: *mut i32,
    name: *mut rmtls_buf,
    value: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(value, || {
            let engine = &handle(engine)?.0;
            let decision = handle(decision)?;
            let headers = request_headers(headers, headers_len)?;
            let lines = decision
                .record()
                .and_then(|record| engine.record_lines(record));
            let own = lines.as_deref().and_then(|lines| lines.xfcc.as_deref());
            let line = engine
                .xfcc(plan as usize, &decision.to_decision(), &headers, own)?
                .ok_or(Error::NotFound)?;
            *output(kind)? = line.kind as i32;
            put(name, line.name.as_bytes())?;
            put(value, line.value.as_bytes())
        })
    }
}

pub(super) fn verify_result(verdict: i32) -> Result<VerifyResult, Error> {
    match verdict {
        RMTLS_VERDICT_NOT_VERIFIED => Ok(VerifyResult::NotVerified),
        RMTLS_VERDICT_NO_CONSUMER => Ok(NO_CONSUMER),
        code if code < 0 => Err(Error::Misuse(format!("no verdict {code}"))),
        code => Ok(VerifyResult::from_code(code)),
    }
}

fn parse_dialect(dialect: &str) -> Result<Dialect, Error> {
    Dialect::from_name(dialect).ok_or_else(|| {
        let names: Vec<_> = Dialect::ALL.into_iter().map(Dialect::name).collect();
        Error::Misuse(format!(
            "unknown dialect '{dialect}', expected one of {}",
            names.join(", ")
        ))
    })
}
