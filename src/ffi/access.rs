//! The access phase: decisions, and the clients they are about.

use std::ffi::c_void;

use super::certificate::rmtls_certificate;
use super::engine::rmtls_engine;
use super::{
    bytes, connection, give, guard, guard_with, handle, output, put, put_truncated, rmtls_buf,
};
use crate::cache::SlotId;
use crate::decision::{CertificateForwarding, Decision, Identity, Outcome};
use crate::Error;

/// The request may go on.
pub const RMTLS_DECISION_PASS: i32 = 0;

/// 401: the route wants a certificate and none came.
pub const RMTLS_DECISION_NO_CERTIFICATE: i32 = 1;

/// 401: the certificate is not trusted.
pub const RMTLS_DECISION_REFUSED: i32 = 2;

/// 421: the connection was made under another policy than this Host's.
pub const RMTLS_DECISION_MISDIRECTED: i32 = 3;

/// 403: the client is known, and may not use the route.
pub const RMTLS_DECISION_FORBIDDEN: i32 = 4;

/// Not decided yet: ask the sources of `rmtls_engine_revocation_source` whether the certificate is revoked,
/// hand what they answer to `rmtls_engine_revocation_response`, then call `rmtls_engine_access` again.
pub const RMTLS_DECISION_PENDING: i32 = 5;

/// 425: the request came as TLS early data, which whoever recorded it can send once more.
pub const RMTLS_DECISION_TOO_EARLY: i32 = 6;

/// 503: this worker does not have what a decision needs.
pub const RMTLS_DECISION_UNAVAILABLE: i32 = 7;

/// Nobody in particular.
pub const RMTLS_IDENTITY_NONE: i32 = 0;

/// The holder of a trusted certificate.
pub const RMTLS_IDENTITY_HOLDER: i32 = 1;

/// A consumer.
pub const RMTLS_IDENTITY_CONSUMER: i32 = 2;

/// The consumer that stands in for clients that are not trusted.
pub const RMTLS_IDENTITY_ANONYMOUS: i32 = 3;

/// The request does not carry them.
pub const RMTLS_FORWARDS_NO: i32 = 0;

/// It does.
pub const RMTLS_FORWARDS_YES: i32 = 1;

/// It does if `rmtls_connection_is_first` says so.
pub const RMTLS_FORWARDS_FIRST: i32 = 2;

/// Id of a consumer.
pub const RMTLS_CONSUMER_ID: u32 = 1;

/// Its username.
pub const RMTLS_CONSUMER_USERNAME: u32 = 2;

/// Its custom_id.
pub const RMTLS_CONSUMER_CUSTOM_ID: u32 = 3;

/// What `rmtls_engine_access` decided.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct rmtls_decision {
    /// `RMTLS_DECISION_PASS` and its siblings.
    pub decision: i32,
    /// Place of a client that passed; below a small bound, so it can index a table.
    pub client: u32,
    /// Tells this content of the place from earlier ones; 0 when there is no client.
    pub generation: u32,
    /// `X509_V_OK` (0), an `X509_V_ERR_*` number, or -1 when nothing was verified.
    pub verdict: i32,
    /// `RMTLS_IDENTITY_*`.
    pub identity: i32,
    /// Position of the consumer, for the last two of those.
    pub consumer: u32,
    /// Position of the credential that named the consumer, or `UINT32_MAX`.
    pub credential: u32,
    /// Whether this very request carries the lines of `RMTLS_HEADER_LINE_FORWARDING`: `RMTLS_FORWARDS_*`.
    pub forwards: i32,
    /// Number of the connection when the client's certificate is not trusted, else 0.
    pub connection: u32,
    /// Lines made for another number here are not to be used again.
    pub server_certificate: u32,
    /// 1 when the certificate, or what stands in its place, is from a header, else 0.
    pub from_header: i32,
}

impl rmtls_decision {
    pub(super) fn new(decision: &Decision) -> rmtls_decision {
        rmtls_decision {
            decision: decision.outcome as i32,
            client: decision.client.map_or(0, |place| place.index),
            generation: decision.client.map_or(0, |place| place.generation),
            verdict: decision.verdict.unwrap_or(-1),
            identity: match decision.identity {
                Identity::None => RMTLS_IDENTITY_NONE,
                Identity::Holder => RMTLS_IDENTITY_HOLDER,
                Identity::Consumer(..) => RMTLS_IDENTITY_CONSUMER,
                Identity::Anonymous(_) => RMTLS_IDENTITY_ANONYMOUS,
            },
            consumer: decision.identity.consumer().unwrap_or(0),
            credential: decision.identity.credential().unwrap_or(u32::MAX),
            forwards: decision.forwarding as i32,
            connection: decision.connection,
            server_certificate: decision.server_certificate,
            from_header: decision.from_header.into(),
        }
    }

    /// What of the decision the lines depend on.
    pub(super) fn to_decision(&self) -> Decision {
        Decision {
            outcome: Outcome::Pass,
            client: self.client_slot(),
            verdict: (self.verdict >= 0).then_some(self.verdict),
            identity: self.identity(),
            // What the lines do not depend on.
            forwarding: CertificateForwarding::No,
            connection: self.connection,
            server_certificate: self.server_certificate,
            from_header: self.from_header == 1,
            reason: None,
        }
    }

    pub(super) fn client_slot(&self) -> Option<SlotId> {
        let place = SlotId {
            index: self.client,
            generation: self.generation,
        };
        (self.generation != 0).then_some(place)
    }

    pub(super) fn identity(&self) -> Identity {
        let credential = (self.credential != u32::MAX).then_some(self.credential);
        match self.identity {
            RMTLS_IDENTITY_HOLDER => Identity::Holder,
            RMTLS_IDENTITY_CONSUMER => Identity::Consumer(self.consumer, credential),
            RMTLS_IDENTITY_ANONYMOUS => Identity::Anonymous(self.consumer),
            _ => Identity::None,
        }
    }
}

/// Access phase: decides about a request. `ssl` NULL is plain HTTP; `host` is the request's Host
/// without port; `now` is in seconds since the epoch. On a refusal `reason` says why, cut to fit,
/// for the error log only.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `host` is readable
/// for `host_len` bytes; `out` is NULL or valid for writing; `reason` is NULL or valid, with its
/// data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_access(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    plan: u32,
    host: *const u8,
    host_len: usize,
    now: i64,
    out: *mut rmtls_decision,
    reason: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(reason, || {
            let (engine, out) = (handle(engine)?, output(out)?);
            let host = bytes(host, host_len)?;
            let answer = engine.0.access(connection(ssl), plan as usize, host, now)?;
            *out = rmtls_decision::new(&answer);
            if let Some(text) = answer.reason {
                put_truncated(reason, &text);
            }
            Ok(())
        })
    }
}

/// Writes group number `index` of the client after this answer; `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `engine` is NULL or live; `answer` is NULL or valid; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_group(
    engine: *const rmtls_engine,
    plan: u32,
    answer: *const rmtls_decision,
    index: usize,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            let answer = handle(answer)?;
            let certificate = answer
                .client_slot()
                .and_then(|place| engine.certificate_at(place));
            let policy = engine.policy()?;
            let plan = policy.plans.get(plan as usize).ok_or(Error::NotFound)?;
            let groups = policy.groups(plan, certificate.as_deref(), answer.identity());
            put(out, groups.get(index).ok_or(Error::NotFound)?.as_bytes())
        }
    })
}

/// Tells when the certificate of the client after this answer expires, in seconds since the epoch;
/// `RMTLS_NOT_FOUND` for a client that is not remembered.
///
/// # Safety
/// `engine` is NULL or live; `answer` is NULL or valid; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_not_after(
    engine: *const rmtls_engine,
    answer: *const rmtls_decision,
    out: *mut i64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, answer, out) = unsafe { (handle(engine)?, handle(answer)?, output(out)?) };
        let place = answer.client_slot().ok_or(Error::NotFound)?;
        let certificate = engine.0.certificate_at(place).ok_or(Error::NotFound)?;
        *out = certificate.not_after()?;
        Ok(())
    })
}

/// Writes one of the `RMTLS_CONSUMER_*` of the consumer at a position; `RMTLS_NOT_FOUND` if it has
/// none.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_consumer(
    engine: *const rmtls_engine,
    consumer: u32,
    field: u32,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let policy = handle(engine)?.0.policy()?;
            let consumer = policy.consumers.get(consumer).ok_or(Error::NotFound)?;
            let text = match field {
                RMTLS_CONSUMER_ID => Some(&*consumer.id),
                RMTLS_CONSUMER_USERNAME => consumer.username.as_deref(),
                RMTLS_CONSUMER_CUSTOM_ID => consumer.custom_id.as_deref(),
                _ => None,
            };
            put(out, text.ok_or(Error::NotFound)?.as_bytes())
        }
    })
}

/// Gives the certificate the client presented on `ssl`, whatever it is worth; `RMTLS_NOT_FOUND` if
/// it presented none.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `out` is NULL or
/// valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_tls_client(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    out: *mut *mut rmtls_certificate,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = handle(engine)?;
            let ssl = connection(ssl).ok_or(Error::NotFound)?;
            give(out, || {
                let certificate = engine.0.tls_client(ssl)?.ok_or(Error::NotFound)?;
                Ok(rmtls_certificate(certificate))
            })
        }
    })
}

/// Gives the certificate of a client that passed, with what it sent of its verified chain, by
/// `client` and `generation` of the answer; `RMTLS_NOT_FOUND` if it is not remembered any more.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_cached_client(
    engine: *const rmtls_engine,
    client: u32,
    generation: u32,
    out: *mut *mut rmtls_certificate,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = handle(engine)?;
            give(out, || {
                let certificate = engine.0.cached_client(client, generation);
                Ok(rmtls_certificate(certificate.ok_or(Error::NotFound)?))
            })
        }
    })
}
