//! The access phase: decisions, and the clients they are about.

use std::ffi::c_void;

use super::certificate::rmtls_certificate;
use super::engine::rmtls_engine;
use super::header_lines::RMTLS_VERDICT_NOT_VERIFIED;
use super::{
    bytes, connection, guard, guard_with, handle, new_handle, output, put, put_truncated, rmtls_buf,
};
use crate::cache::SlotId;
use crate::decision::{CertificateForwarding, Decision, Identity, Outcome};
use crate::Error;

/// The request is allowed.
pub const RMTLS_DECISION_PASS: i32 = 0;

/// 401: the route requires a certificate, and the client sent none.
pub const RMTLS_DECISION_NO_CERTIFICATE: i32 = 1;

/// 401: the certificate is not trusted.
pub const RMTLS_DECISION_REFUSED: i32 = 2;

/// 421: the TLS session was made with another certificate request than the one of this Host.
pub const RMTLS_DECISION_MISDIRECTED: i32 = 3;

/// 403: the client is authenticated, but not authorized for the route.
pub const RMTLS_DECISION_FORBIDDEN: i32 = 4;

/// Not decided yet: the revocation status is needed. Query the sources of
/// `rmtls_engine_revocation_source`, pass their responses to `rmtls_engine_revocation_response`,
/// then call `rmtls_engine_access` again.
pub const RMTLS_DECISION_PENDING: i32 = 5;

/// 425: the request was sent as TLS early data, which can be replayed.
pub const RMTLS_DECISION_TOO_EARLY: i32 = 6;

/// 503: this worker does not have the policy in force.
pub const RMTLS_DECISION_UNAVAILABLE: i32 = 7;

/// No identity.
pub const RMTLS_IDENTITY_NONE: i32 = 0;

/// The holder of a trusted certificate.
pub const RMTLS_IDENTITY_HOLDER: i32 = 1;

/// A consumer.
pub const RMTLS_IDENTITY_CONSUMER: i32 = 2;

/// The anonymous consumer, for clients that are not authenticated.
pub const RMTLS_IDENTITY_ANONYMOUS: i32 = 3;

/// The certificate is not forwarded with this request.
pub const RMTLS_FORWARDS_NO: i32 = 0;

/// The certificate is forwarded with this request.
pub const RMTLS_FORWARDS_YES: i32 = 1;

/// The certificate is forwarded if `rmtls_connection_is_first` returns `RMTLS_OK`.
pub const RMTLS_FORWARDS_FIRST: i32 = 2;

/// Id of a consumer.
pub const RMTLS_CONSUMER_ID: u32 = 1;

/// Username of a consumer.
pub const RMTLS_CONSUMER_USERNAME: u32 = 2;

/// `custom_id` of a consumer.
pub const RMTLS_CONSUMER_CUSTOM_ID: u32 = 3;

/// Decision of `rmtls_engine_access` about a request.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct rmtls_decision {
    /// `RMTLS_DECISION_*`.
    pub decision: i32,
    /// Slot of an allowed client in the client cache; below a small bound, so that it can index a
    /// table.
    pub client: u32,
    /// Generation of the slot: it changes when the slot is reused. 0 when there is no client.
    pub generation: u32,
    /// `X509_V_OK` (0), an `X509_V_ERR_*` number, or `RMTLS_VERDICT_NOT_VERIFIED`.
    pub verdict: i32,
    /// `RMTLS_IDENTITY_*`.
    pub identity: i32,
    /// Index of the consumer, for `RMTLS_IDENTITY_CONSUMER` and `RMTLS_IDENTITY_ANONYMOUS`.
    pub consumer: u32,
    /// Index of the credential that matched the consumer, or `UINT32_MAX`.
    pub credential: u32,
    /// Whether this request gets the `RMTLS_HEADER_LINE_FORWARDING` lines: `RMTLS_FORWARDS_*`.
    pub forwards: i32,
    /// Number of the connection when the client certificate is not trusted, else 0.
    pub connection: u32,
    /// Id of the server certificate. Header lines are valid for one id only.
    pub server_certificate: u32,
    /// 1 when the certificate, or its absence, was read from a header, else 0.
    pub from_header: i32,
}

impl rmtls_decision {
    pub(super) fn new(decision: &Decision) -> rmtls_decision {
        rmtls_decision {
            decision: decision.outcome as i32,
            client: decision.client.map_or(0, |place| place.index),
            generation: decision.client.map_or(0, |place| place.generation),
            verdict: decision.verdict.unwrap_or(RMTLS_VERDICT_NOT_VERIFIED),
            identity: identity_kind(decision.identity),
            consumer: decision.identity.consumer().unwrap_or(0),
            credential: decision.identity.credential().unwrap_or(u32::MAX),
            forwards: decision.forwarding as i32,
            connection: decision.connection,
            server_certificate: decision.server_certificate,
            from_header: decision.from_header.into(),
        }
    }

    /// The part of the decision on which the header lines depend.
    pub(super) fn to_decision(self) -> Decision {
        Decision {
            outcome: Outcome::Pass,
            client: self.client_slot(),
            verdict: (self.verdict >= 0).then_some(self.verdict),
            identity: self.identity(),
            // The lines do not depend on these.
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
        identity(self.identity, self.consumer, self.credential)
    }
}

/// The identity that these numbers stand for.
pub(super) fn identity(kind: i32, consumer: u32, credential: u32) -> Identity {
    let credential = (credential != u32::MAX).then_some(credential);
    match kind {
        RMTLS_IDENTITY_HOLDER => Identity::Holder,
        RMTLS_IDENTITY_CONSUMER => Identity::Consumer(consumer, credential),
        RMTLS_IDENTITY_ANONYMOUS => Identity::Anonymous(consumer),
        _ => Identity::None,
    }
}

/// The `RMTLS_IDENTITY_*` of an identity.
pub(super) fn identity_kind(identity: Identity) -> i32 {
    match identity {
        Identity::None => RMTLS_IDENTITY_NONE,
        Identity::Holder => RMTLS_IDENTITY_HOLDER,
        Identity::Consumer(..) => RMTLS_IDENTITY_CONSUMER,
        Identity::Anonymous(_) => RMTLS_IDENTITY_ANONYMOUS,
    }
}

/// Access phase: decides about a request. `ssl` is NULL for plain HTTP; `host` is the Host of the
/// request without port; `now` is in seconds since 1970. On a refusal `reason` has the reason for
/// the error log, truncated to fit. Do not send it to the client.
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
            let decision = engine.0.access(connection(ssl), plan as usize, host, now)?;
            *out = rmtls_decision::new(&decision);
            if let Some(text) = decision.reason {
                put_truncated(reason, &text);
            }
            Ok(())
        })
    }
}

/// Writes group number `index` of the client of this decision; `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `engine` is NULL or live; `decision` is NULL or valid; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_group(
    engine: *const rmtls_engine,
    plan: u32,
    decision: *const rmtls_decision,
    index: usize,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            let decision = handle(decision)?;
            let certificate = decision
                .client_slot()
                .and_then(|place| engine.certificate_at(place));
            let policy = engine.policy()?;
            let plan = policy.plans.get(plan as usize).ok_or(Error::NotFound)?;
            let groups = policy.groups(plan, certificate.as_deref(), decision.identity());
            put(out, groups.get(index).ok_or(Error::NotFound)?.as_bytes())
        }
    })
}

/// Writes the notAfter of the client certificate of this decision, in seconds since 1970;
/// `RMTLS_NOT_FOUND` for a client that is not cached.
///
/// # Safety
/// `engine` is NULL or live; `decision` is NULL or valid; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_not_after(
    engine: *const rmtls_engine,
    decision: *const rmtls_decision,
    out: *mut i64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, decision, out) = unsafe { (handle(engine)?, handle(decision)?, output(out)?) };
        let place = decision.client_slot().ok_or(Error::NotFound)?;
        let certificate = engine.0.certificate_at(place).ok_or(Error::NotFound)?;
        *out = certificate.not_after()?;
        Ok(())
    })
}

/// Writes one of the `RMTLS_CONSUMER_*` fields of consumer number `consumer`; `RMTLS_NOT_FOUND` if
/// the field is not set.
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

/// Returns the certificate that the client presented on `ssl`, even if verification failed;
/// `RMTLS_NOT_FOUND` if it presented none.
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
            new_handle(out, || {
                let certificate = engine.0.tls_client(ssl)?.ok_or(Error::NotFound)?;
                Ok(rmtls_certificate(certificate))
            })
        }
    })
}

/// Returns the certificate of an allowed client, with the part of its verified chain that the
/// client sent. `client` and `generation` are those of the decision. `RMTLS_NOT_FOUND` if the
/// client is no longer cached.
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
            new_handle(out, || {
                let certificate = engine.0.cached_client(client, generation);
                Ok(rmtls_certificate(certificate.ok_or(Error::NotFound)?))
            })
        }
    })
}

/// Writes the subject of the trust anchor of a certificate that a plan trusts, as RFC 2253 text, and
/// the id of its entry of `ca_certificates`, empty for a CA of a bundle. `RMTLS_NOT_FOUND` if the
/// plan does not trust it. `now` is in seconds since 1970.
///
/// # Safety
/// `engine` is NULL or live; `certificate` is NULL or live; `subject` and `id` are NULL or valid,
/// with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_anchor(
    engine: *const rmtls_engine,
    certificate: *const rmtls_certificate,
    plan: u32,
    now: i64,
    subject: *mut rmtls_buf,
    id: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (engine, certificate) = (&handle(engine)?.0, &handle(certificate)?.0);
            let anchor = engine.anchor(certificate, plan as usize, now)?;
            let anchor = anchor.ok_or(Error::NotFound)?;
            put(subject, anchor.subject.as_bytes())?;
            put(id, anchor.id.unwrap_or_default().as_bytes())
        }
    })
}

/// Writes the SPIFFE ID of a certificate that a plan trusts, and the name of the trust domain that
/// verified it. `RMTLS_NOT_FOUND` if none did.
///
/// # Safety
/// `engine` is NULL or live; `certificate` is NULL or live; `id` and `trust_domain` are NULL or
/// valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_spiffe_id(
    engine: *const rmtls_engine,
    certificate: *const rmtls_certificate,
    plan: u32,
    id: *mut rmtls_buf,
    trust_domain: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (engine, certificate) = (&handle(engine)?.0, &handle(certificate)?.0);
            let found = engine.spiffe_id(certificate, plan as usize)?;
            let found = found.ok_or(Error::NotFound)?;
            put(id, found.id.as_bytes())?;
            put(trust_domain, found.trust_domain.as_bytes())
        }
    })
}
