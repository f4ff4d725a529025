//! Revocation status of client certificates: OCSP, fetched CRLs and local CRLs.

use super::certificate::rmtls_certificate;
use super::engine::rmtls_engine;
use super::{
    bytes, free_handle, guard, guard_with, handle, new_handle, output, put, rmtls_buf, text,
};
use crate::engine::{AnswerRead, PlanRef, RevocationSource, RevocationState, SourceResult};
use crate::policy::RevocationMode;
use crate::trust::ocsp;
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

/// The sources have not responded yet, and requests that an unknown status lets in do not wait
/// any longer; the others do.
pub const RMTLS_REVOCATION_STATUS_PENDING: i32 = 4;

/// How to fetch from the revocation sources of a plan.
#[repr(C)]
#[derive(Default)]
pub struct rmtls_fetch_options {
    /// Milliseconds for the fetches from all sources together.
    pub http_timeout: u32,
    /// Milliseconds for which a request waits for a first status where an unknown one lets it in.
    pub status_wait: u32,
    /// Whether an unknown status refuses the request: 0 or 1.
    pub strict: i32,
    /// Most seconds for which a response may be cached.
    pub ttl: i64,
    /// Whether the certificates of https servers are verified: 0 or 1.
    pub ssl_verify: i32,
    /// Port of the proxy for http URLs, or 0.
    pub http_proxy_port: u32,
    /// Port of the proxy for https URLs, or 0.
    pub https_proxy_port: u32,
    /// Most bytes of a CRL.
    pub max_crl_bytes: u32,
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
                    status_wait: revocation.status_wait,
                    strict: (revocation.mode == RevocationMode::Strict).into(),
                    ttl: revocation.ttl,
                    ssl_verify: revocation.ssl_verify.into(),
                    http_proxy_port: port(&revocation.http_proxy),
                    https_proxy_port: port(&revocation.https_proxy),
                    max_crl_bytes: revocation.max_crl_bytes as u32,
                };
                put(http_proxy, host(&revocation.http_proxy).as_bytes())?;
                put(https_proxy, host(&revocation.https_proxy).as_bytes())
            })
        }
    })
}

/// A revocation status, and the answer of a source that it is from.
#[repr(C)]
#[derive(Default)]
pub struct rmtls_revocation_answer {
    /// `RMTLS_REVOCATION_STATUS_GOOD`, `RMTLS_REVOCATION_STATUS_REVOKED` or
    /// `RMTLS_REVOCATION_STATUS_PARSING`.
    pub state: i32,
    /// Whether the reason of a revocation is certificateHold: 0 or 1.
    pub hold: i32,
    /// The first second at which the source must be asked again.
    pub until: i64,
    /// thisUpdate of the answer, in seconds since 1970; negative if the status is not that of this
    /// answer, because a newer one revokes the certificate.
    pub this_update: i64,
    /// nextUpdate of the answer, or INT64_MAX.
    pub next_update: i64,
    /// Number of entries of the CRL.
    pub crl_entries: u64,
    /// nextUpdate of the CRL, in seconds since 1970, or `INT64_MAX`.
    pub crl_next_update: i64,
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

/// Checks the response of revocation source number `index`, which was fetched at `fetched`. With
/// `RMTLS_OK` the status is cached and written to `answer`; or `answer->state` becomes
/// `RMTLS_REVOCATION_STATUS_PARSING`, and nothing is cached yet. Otherwise the response is not
/// valid, and `err` has the reason. `epoch` as for `rmtls_engine_revocation_source`.
///
/// # Safety
/// `engine` is NULL or live; `client` is NULL or live; `data` is readable for `data_len` bytes;
/// `answer` is NULL or valid for writing; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_revocation_response(
    engine: *const rmtls_engine,
    client: *const rmtls_certificate,
    plan: u32,
    epoch: u32,
    index: usize,
    data: *const u8,
    data_len: usize,
    fetched: i64,
    now: i64,
    answer: *mut rmtls_revocation_answer,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let (engine, answer) = (&handle(engine)?.0, output(answer)?);
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
                fetched,
                now,
            )?;
            *answer = match result {
                SourceResult::Status(status, crl) => rmtls_revocation_answer {
                    state: status.state as i32,
                    hold: status.hold.into(),
                    until: status.until,
                    this_update: status.this_update,
                    next_update: status.next_update,
                    crl_entries: crl.map_or(0, |crl| crl.entries as u64),
                    crl_next_update: crl.and_then(|crl| crl.next_update).unwrap_or(i64::MAX),
                },
                SourceResult::Parsing => rmtls_revocation_answer {
                    state: RMTLS_REVOCATION_STATUS_PARSING,
                    ..rmtls_revocation_answer::default()
                },
            };
            Ok(())
        })
    }
}

/// Writes the OCSP request `request` with a nonce, for a responder that answers no other.
///
/// # Safety
/// `request` is readable for `request_len` bytes; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_ocsp_with_nonce(
    request: *const u8,
    request_len: usize,
    out: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    guard(|| unsafe { put(out, &ocsp::with_nonce(bytes(request, request_len)?)?) })
}

/// Writes a new handle of a certificate whose status should be fetched again while the one that is
/// known serves, its plan and the epoch; `RMTLS_NOT_FOUND` when there is no other.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing, and `*out` is then freed with
/// `rmtls_certificate_free`; `plan` and `epoch` are NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_take_refresh(
    engine: *const rmtls_engine,
    out: *mut *mut rmtls_certificate,
    plan: *mut u32,
    epoch: *mut u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            let (plan, epoch) = (output(plan)?, output(epoch)?);
            new_handle(out, || {
                let (certificate, at) = engine.take_refresh().ok_or(Error::NotFound)?;
                *plan = u32::try_from(at.plan).unwrap_or(u32::MAX);
                *epoch = u32::try_from(at.epoch).unwrap_or(u32::MAX);
                Ok(rmtls_certificate(certificate))
            })
        }
    })
}

/// Keeps a signed answer, which begins with `head`, in the state directory under a key of hexadecimal
/// digits, of which the first 16 identify its CA. `evidence` is 1 if it may prove a revocation: then
/// it is removed after all others. A large answer is written later, on a thread beside the event loop;
/// `rmtls_engine_answer_write_error` has an error about that. `RMTLS_NOT_FOUND` without a state
/// directory.
///
/// # Safety
/// `engine` is NULL or live; `key`, `head` and `data` are readable for their lengths; `err` is NULL or
/// valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_write_answer(
    engine: *const rmtls_engine,
    key: *const u8,
    key_len: usize,
    head: *const u8,
    head_len: usize,
    data: *const u8,
    data_len: usize,
    evidence: i32,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = &handle(engine)?.0;
            let (head, data) = (bytes(head, head_len)?, bytes(data, data_len)?);
            engine.write_answer(text(key, key_len)?, head, data, evidence == 1)
        })
    }
}

/// Writes why a large answer could not be written to the state directory, once for each time;
/// `RMTLS_NOT_FOUND` when there is no error.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_answer_write_error(
    engine: *const rmtls_engine,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let error = handle(engine)?.0.answer_write_error();
            put(out, error.ok_or(Error::NotFound)?.as_bytes())
        }
    })
}

/// An answer that was read from the state directory.
pub struct rmtls_answer(Vec<u8>);

/// Reads an answer that `rmtls_engine_write_answer` has kept; `RMTLS_NOT_FOUND` if there is none. With
/// `RMTLS_OK`, `*out` is the answer, or NULL while a large one is being read on a thread beside the
/// event loop: then call it again some milliseconds later.
///
/// # Safety
/// `engine` is NULL or live; `key` is readable for `key_len` bytes; `out` is NULL or valid for writing,
/// and `*out` is then freed with `rmtls_answer_free`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_read_answer(
    engine: *const rmtls_engine,
    key: *const u8,
    key_len: usize,
    out: *mut *mut rmtls_answer,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (engine, out) = (&handle(engine)?.0, output(out)?);
            *out = std::ptr::null_mut();
            match engine
                .read_answer(text(key, key_len)?)
                .ok_or(Error::NotFound)?
            {
                AnswerRead::Ready(answer) => new_handle(out, || Ok(rmtls_answer(answer))),
                AnswerRead::Reading => Ok(()),
            }
        }
    })
}

/// Sets `data` to the bytes of an answer, which are valid until it is freed, and `data_len` to their
/// number.
///
/// # Safety
/// `answer` is NULL or live; `data` and `data_len` are NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_answer_bytes(
    answer: *const rmtls_answer,
    data: *mut *const u8,
    data_len: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let answer = &handle(answer)?.0;
            (*output(data)?, *output(data_len)?) = (answer.as_ptr(), answer.len());
            Ok(())
        }
    })
}

/// Frees an answer.
///
/// # Safety
/// `answer` is NULL or from this library, and is not used again.
#[no_mangle]
pub unsafe extern "C" fn rmtls_answer_free(answer: *mut rmtls_answer) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { free_handle(answer) }
}

/// Forgets the revocation statuses of this worker, except that certificates are revoked.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_forget_statuses(engine: *const rmtls_engine) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { handle(engine) }?.0.forget_statuses();
        Ok(())
    })
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

/// Writes 64 hexadecimal digits that identify the CA of a client certificate. `epoch` as for
/// `rmtls_engine_revocation_source`.
///
/// # Safety
/// `engine` is NULL or live; `client` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_revocation_issuer(
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
            let (engine, client) = (&handle(engine)?.0, &handle(client)?.0);
            let issuer = engine.revocation_issuer(client, plan_ref(plan, epoch), now)?;
            put(out, issuer.as_bytes())
        }
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

/// The age and size of a CRL.
#[repr(C)]
#[derive(Default)]
pub struct rmtls_crl_summary {
    /// thisUpdate, in seconds since 1970.
    pub this_update: i64,
    /// nextUpdate, in seconds since 1970, or `INT64_MAX`.
    pub next_update: i64,
    /// Number of entries.
    pub entries: u64,
    /// Length in bytes.
    pub bytes: u64,
}

/// Writes the file or URL and the issuer of CRL number `index` of those of the policy in force that
/// are in use, and its age and size. `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `engine` is NULL or live; `file`, `issuer` and `out` are NULL or valid, the former with their
/// data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_crl_in_use(
    engine: *const rmtls_engine,
    index: usize,
    file: *mut rmtls_buf,
    issuer: *mut rmtls_buf,
    out: *mut rmtls_crl_summary,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (engine, out) = (&handle(engine)?.0, output(out)?);
            let crl = engine.crl_in_use(index)?.ok_or(Error::NotFound)?;
            *out = rmtls_crl_summary {
                this_update: crl.this_update,
                next_update: crl.next_update.unwrap_or(i64::MAX),
                entries: crl.entries as u64,
                bytes: crl.bytes as u64,
            };
            put(file, crl.file.as_bytes())?;
            put(issuer, crl.issuer.as_bytes())
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
