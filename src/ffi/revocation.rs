//! Revocation status of client certificates: OCSP, fetched CRLs and local CRLs.

use super::certificate::rmtls_certificate;
use super::engine::rmtls_engine;
use super::{bytes, guard, guard_with, handle, output, put, rmtls_buf};
use crate::engine::{PlanRef, RevocationSource, RevocationState, SourceResult};
use crate::Error;

/// An OCSP responder: POST the request to the URL.
pub const RMTLS_REVOCATION_SOURCE_OCSP: i32 = 1;
/// A CRL distribution point: GET the URL.
pub const RMTLS_REVOCATION_SOURCE_CRL: i32 = 2;

/// No source gave a valid response.
pub const RMTLS_REVOCATION_STATUS_UNKNOWN: i32 = 0;
/// The certificate is not revoked.
pub const RMTLS_REVOCATION_STATUS_GOOD: i32 = 1;
/// The certificate is revoked.
pub const RMTLS_REVOCATION_STATUS_REVOKED: i32 = 2;
/// A large CRL is being parsed on another thread: call `rmtls_engine_revocation_response` again
/// with the same bytes some milliseconds later.
pub const RMTLS_REVOCATION_STATUS_PARSING: i32 = 3;

/// How to fetch from the revocation sources of a plan.
#[repr(C)]
#[derive(Default)]
pub struct rmtls_fetch_options {
    /// Timeout of one fetch in milliseconds.
    pub http_timeout: u32,
    /// Most seconds for which a response may be cached.
    pub ttl: i64,
    /// Whether the certificates of https servers are verified: 0 or 1.
    pub ssl_verify: i32,
    /// Port of the proxy for http URLs, or 0.
    pub http_proxy_port: u32,
    /// Port of the proxy for https URLs, or 0.
    pub https_proxy_port: u32,
}

/// Writes how to fetch from the revocation sources of a plan. The hosts of the proxies are empty
/// when none is configured.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing; `http_proxy` and `https_proxy` are
/// NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_fetch_options(
    engine: *const rmtls_engine,
    plan: u32,
    out: *mut rmtls_fetch_options,
    http_proxy: *mut rmtls_buf,
    https_proxy: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (engine, out) = (&handle(engine)?.0, output(out)?);
            engine.with_plan(plan as usize, |plan| {
                let auth = plan.auth.as_ref().ok_or(Error::NotFound)?;
                let revocation = &auth.revocation;
                let port = |proxy: &Option<(Box<str>, u16)>| {
                    proxy.as_ref().map_or(0, |(_, port)| u32::from(*port))
                };
                let host = |proxy: &Option<(Box<str>, u16)>| {
                    proxy
                        .as_ref()
                        .map_or(String::new(), |(host, _)| host.to_string())
                };
                *out = rmtls_fetch_options {
                    http_timeout: revocation.http_timeout,
                    ttl: revocation.ttl,
                    ssl_verify: revocation.ssl_verify.into(),
                    http_proxy_port: port(&revocation.http_proxy),
                    https_proxy_port: port(&revocation.https_proxy),
                };
                put(http_proxy, host(&revocation.http_proxy).as_bytes())?;
                put(https_proxy, host(&revocation.https_proxy).as_bytes())
            })
        }
    })
}

fn plan_ref(plan: u32, epoch: u32) -> PlanRef {
    PlanRef {
        plan: plan as usize,
        epoch: epoch.into(),
    }
}

/// Writes revocation source number `index` of a client certificate: its kind
/// (`RMTLS_REVOCATION_SOURCE_*`), its URL and, for OCSP, the DER of the request. `RMTLS_NOT_FOUND`
/// after the last. `epoch` is the `rmtls_engine_epoch` for which `plan` was looked up;
/// `RMTLS_NOT_FOUND` when another policy is in force now.
///
/// # Safety
/// `engine` is NULL or live; `client` is NULL or live; `kind` is NULL or
/// valid for writing; `url` and `request` are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_revocation_source(
    engine: *const rmtls_engine,
    client: *const rmtls_certificate,
    plan: u32,
    epoch: u32,
    index: usize,
    now: i64,
    kind: *mut i32,
    url: *mut rmtls_buf,
    request: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (engine, kind) = (&handle(engine)?.0, output(kind)?);
            let client = &handle(client)?.0;
            match engine
                .revocation_source(client, plan_ref(plan, epoch), index, now)?
                .ok_or(Error::NotFound)?
            {
                RevocationSource::Ocsp {
                    url: to,
                    request: body,
                } => {
                    *kind = RMTLS_REVOCATION_SOURCE_OCSP;
                    put(url, to.as_bytes())?;
                    put(request, &body)
                }
                RevocationSource::Crl { url: to } => {
                    *kind = RMTLS_REVOCATION_SOURCE_CRL;
                    put(url, to.as_bytes())?;
                    put(request, &[])
                }
            }
        }
    })
}

/// Checks the response of revocation source number `index`. With `RMTLS_OK` the status is cached:
/// `state` becomes `RMTLS_REVOCATION_STATUS_GOOD` or `RMTLS_REVOCATION_STATUS_REVOKED`, `until`
/// the first second at which it must be queried again; or `RMTLS_REVOCATION_STATUS_PARSING`, and
/// nothing is cached yet. Otherwise the response is not valid, and `err` has the reason. `epoch` as for `rmtls_engine_revocation_source`.
///
/// # Safety
/// `engine` is NULL or live; `client` is NULL or live; `bytes` is readable
/// for `bytes_len` bytes; `state` and `until` are NULL or valid for writing; `err` is NULL or
/// valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_revocation_response(
    engine: *const rmtls_engine,
    client: *const rmtls_certificate,
    plan: u32,
    epoch: u32,
    index: usize,
    data: *const u8,
    data_len: usize,
    now: i64,
    state: *mut i32,
    until: *mut i64,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let (engine, state, until) = (&handle(engine)?.0, output(state)?, output(until)?);
            let client = &handle(client)?.0;
            let data = bytes(data, data_len)?;
            let source = engine
                .revocation_source(client, plan_ref(plan, epoch), index, now)?
                .ok_or(Error::NotFound)?;
            let result = engine.check_revocation_response(
                client,
                plan_ref(plan, epoch),
                &source,
                data,
                now,
            )?;
            (*state, *until) = match result {
                SourceResult::Status(status) => (status.state as i32, status.until),
                SourceResult::Parsing => (RMTLS_REVOCATION_STATUS_PARSING, 0),
            };
            Ok(())
        })
    }
}

/// Caches a status for a client certificate that another worker received, or that no source gave a
/// valid response. `state` is one of `RMTLS_REVOCATION_STATUS_*`, `until` the first second at
/// which it must be queried again. `epoch` as for `rmtls_engine_revocation_source`.
///
/// # Safety
/// `engine` is NULL or live; `client` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_set_revocation_status(
    engine: *const rmtls_engine,
    client: *const rmtls_certificate,
    plan: u32,
    epoch: u32,
    state: i32,
    until: i64,
    now: i64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, client) = unsafe { (&handle(engine)?.0, &handle(client)?.0) };
        let state = RevocationState::from_number(state)
            .ok_or_else(|| Error::Misuse(format!("no revocation state {state}")))?;
        engine.set_revocation_status(client, plan_ref(plan, epoch), state, until, now)?;
        Ok(())
    })
}

/// Writes the key under which workers share the status of a client certificate. `epoch` as for
/// `rmtls_engine_revocation_source`.
///
/// # Safety
/// `engine` is NULL or live; `client` is NULL or live; `out` is NULL or
/// valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_revocation_status_key(
    engine: *const rmtls_engine,
    client: *const rmtls_certificate,
    plan: u32,
    epoch: u32,
    now: i64,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            let client = &handle(client)?.0;
            put(
                out,
                engine
                    .revocation_status_key(client, plan_ref(plan, epoch), now)?
                    .as_bytes(),
            )
        }
    })
}

/// Writes the file, the issuer and the nextUpdate of local CRL number `index` of the policy in
/// force. The nextUpdate is in seconds since 1970, or `INT64_MAX` without one. `RMTLS_NOT_FOUND`
/// after the last.
///
/// # Safety
/// `engine` is NULL or live; `file`, `issuer` and `next_update` are NULL or valid, the former with
/// their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_local_crl(
    engine: *const rmtls_engine,
    index: usize,
    file: *mut rmtls_buf,
    issuer: *mut rmtls_buf,
    next_update: *mut i64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let next = output(next_update)?;
            let engine = &handle(engine)?.0;
            let written = engine.with_local_crl(index, |list| {
                put(file, list.file.as_bytes())?;
                put(issuer, list.issuer.as_bytes())?;
                *next = list.next_update.unwrap_or(i64::MAX);
                Ok(())
            })?;
            written.unwrap_or(Err(Error::NotFound))
        }
    })
}

/// Writes a warning about a local CRL that has expired since the policy in force was compiled,
/// once for each CRL; `RMTLS_NOT_FOUND` when there is no other. `now` is in seconds since 1970.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_expired_crl(
    engine: *const rmtls_engine,
    now: i64,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            engine.expired_crl(now, |text| put(out, text.as_bytes()))
        }
    })
}
