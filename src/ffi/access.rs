//! The access phase: decisions, and the clients they are about.

use std::ffi::c_void;
use std::rc::Rc;

use openssl::ssl::SslRef;

use super::certificate::rmtls_certificate;
use super::engine::rmtls_engine;
use super::header_lines::RMTLS_VERDICT_NOT_VERIFIED;
use super::{
    bytes, connection, guard, guard_with, guard_without_openssl, handle, new_handle, output, put,
    put_truncated, rmtls_buf,
};
use crate::cache::SlotId;
use crate::decision::{CertificateForwarding, Decision, Identity, Outcome, WouldRefuse};
use crate::engine::{Engine, FoundRecord, PackedLines, RequestHeaders};
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

/// Header lines, in the order in which they are set. Line number `i`, from 0, begins in `bytes` where
/// the one before it ends. Its name ends at `ends[3 * i]`; its value follows after a NUL byte and
/// ends at `ends[3 * i + 1]`; its name in lower case follows after a NUL byte, and after another one
/// the line ends at `ends[3 * i + 2]`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rmtls_lines {
    /// The names and values.
    pub bytes: *const u8,
    /// Where they end.
    pub ends: *const u32,
    /// nginx's hash of each name in lower case.
    pub hashes: *const usize,
    /// Lines that are set on every request of the client.
    pub always: u32,
    /// Lines after those that are set according to `rmtls_decision.forwards`.
    pub forwarding: u32,
    /// Lines after those that are never set; their values are the reasons.
    pub left_out: u32,
    /// `RMTLS_HEADER_LINE_*` of each of those.
    pub left_out_kinds: *const i32,
    /// 1 when the lines may be appended to the headers of a request in nginx's memory: nginx does
    /// not read these names itself, they are different, and no byte needs an escape. Else 0.
    pub may_append: i32,
    /// What keeps the lines, for `rmtls_header_list_append`.
    pub owner: *const c_void,
}

impl Default for rmtls_lines {
    fn default() -> rmtls_lines {
        rmtls_lines {
            bytes: std::ptr::null(),
            ends: std::ptr::null(),
            hashes: std::ptr::null(),
            always: 0,
            forwarding: 0,
            left_out: 0,
            left_out_kinds: std::ptr::null(),
            may_append: 0,
            owner: std::ptr::null(),
        }
    }
}

impl rmtls_lines {
    pub(super) fn new(lines: &Rc<PackedLines>) -> rmtls_lines {
        rmtls_lines {
            bytes: lines.bytes.as_ptr(),
            ends: lines.ends.as_ptr(),
            hashes: lines.hashes.as_ptr(),
            always: lines.always,
            forwarding: lines.forwarding,
            left_out: lines.left_out.len() as u32,
            left_out_kinds: lines.left_out.as_ptr(),
            may_append: lines.may_append.into(),
            owner: Rc::as_ptr(lines).cast(),
        }
    }

    /// A reference to the lines.
    ///
    /// # Safety
    /// These are valid lines of [`rmtls_lines::new`], which have not been freed.
    pub(super) unsafe fn kept(&self) -> Result<Rc<PackedLines>, Error> {
        let owner = self.owner.cast::<PackedLines>();
        if owner.is_null() {
            return Err(Error::NullArgument);
        }
        // SAFETY: the caller's promise: `owner` is of an Rc that is not dropped.
        unsafe {
            Rc::increment_strong_count(owner);
            Ok(Rc::from_raw(owner))
        }
    }
}

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
    /// `RMTLS_DECISION_*` of the refusal if a plugin with `enforce: report` would refuse this
    /// allowed request, else `RMTLS_DECISION_PASS`. `reason` then has its reason.
    pub would_refuse: i32,
    /// As `verdict`, of that refusal.
    pub would_refuse_verdict: i32,
    /// Number of what is kept for this client on this plan; below a small bound, so that the caller
    /// can keep something of its own in an array.
    pub record: u32,
    /// Changes when the number is used for another client, another plan or another identity, and
    /// with every policy. 0 when there is no record.
    pub record_generation: u32,
    /// 1 when the header lines were made for this request, else 0.
    pub lines_are_new: i32,
    /// 1 when `not_after` is set: once in an hour for each client and plan.
    pub reports_expiry: i32,
    /// notAfter of the client certificate, in seconds since 1970.
    pub not_after: i64,
    /// `rmtls_engine_changes` before the decision.
    pub changes: u64,
}

impl rmtls_decision {
    /// Decides about a request, and writes the reason of a refusal.
    ///
    /// # Safety
    /// `reason` is NULL or valid, with its data.
    pub(super) unsafe fn decide(
        engine: &Engine,
        ssl: Option<&SslRef>,
        plan: u32,
        host: &[u8],
        headers: &RequestHeaders<'_>,
        now: i64,
        reason: *mut rmtls_buf,
    ) -> Result<rmtls_decision, Error> {
        let (plan, changes) = (plan as usize, engine.changes());
        let decision = engine.access_with_headers(ssl, plan, host, headers, now)?;
        // The token may change the identity.
        let with_lines = engine.with_plan(plan, |plan| Ok(plan.token_auth.is_none()))?;
        let found = engine.find_record(ssl, plan, &decision, with_lines, now)?;
        if let Some(text) = &decision.reason {
            // SAFETY: the caller's promise, passed on unchanged.
            unsafe { put_truncated(reason, text) };
        }
        Ok(rmtls_decision::new(&decision, &found, changes))
    }

    pub(super) fn new(decision: &Decision, found: &FoundRecord, changes: u64) -> rmtls_decision {
        let would_refuse = decision.would_refuse;
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
            would_refuse: would_refuse.map_or(RMTLS_DECISION_PASS, |found| found.outcome as i32),
            would_refuse_verdict: would_refuse
                .and_then(|found| found.verdict)
                .unwrap_or(RMTLS_VERDICT_NOT_VERIFIED),
            record: found.record.map_or(0, |slot| slot.index),
            record_generation: found.record.map_or(0, |slot| slot.generation),
            lines_are_new: found.lines_are_new.into(),
            reports_expiry: found.report_expiry.is_some().into(),
            not_after: found.report_expiry.unwrap_or(0),
            changes,
        }
    }

    /// The part of the decision on which the header lines and the check of `acl` depend.
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
            would_refuse: self.would_refuse(),
            reason: None,
        }
    }

    fn would_refuse(&self) -> Option<WouldRefuse> {
        let outcome = match self.would_refuse {
            RMTLS_DECISION_PASS => return None,
            RMTLS_DECISION_NO_CERTIFICATE => Outcome::NoCertificate,
            RMTLS_DECISION_REFUSED => Outcome::Refused,
            RMTLS_DECISION_MISDIRECTED => Outcome::Misdirected,
            _ => Outcome::Forbidden,
        };
        let verdict = self.would_refuse_verdict;
        Some(WouldRefuse {
            outcome,
            verdict: (verdict >= 0).then_some(verdict),
        })
    }

    pub(super) fn record(&self) -> Option<SlotId> {
        let record = SlotId {
            index: self.record,
            generation: self.record_generation,
        };
        (self.record_generation != 0).then_some(record)
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
            let (ssl, headers) = (connection(ssl), RequestHeaders::default());
            *out = rmtls_decision::decide(&engine.0, ssl, plan, host, &headers, now, reason)?;
            Ok(())
        })
    }
}

/// Writes the header lines of a request that was just allowed, on a plan with `RMTLS_PLAN_TOKEN` by
/// `rmtls_engine_apply_token`; `RMTLS_NOT_FOUND` if it has none. They live until the next call of
/// `rmtls_engine_access`, `rmtls_engine_access_with_headers`, `rmtls_engine_apply_token`,
/// `rmtls_engine_claim_headers`, `rmtls_engine_keep_with_record`, or of a function that puts a
/// policy in force.
///
/// # Safety
/// `engine` is NULL or live; `decision` is NULL or valid; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_lines(
    engine: *const rmtls_engine,
    decision: *const rmtls_decision,
    out: *mut rmtls_lines,
) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, decision, out) = unsafe { (handle(engine)?, handle(decision)?, output(out)?) };
        let record = decision
            .record()
            .filter(|_| decision.decision == RMTLS_DECISION_PASS);
        match record.and_then(|record| engine.0.record_lines(record)) {
            Some(lines) => *out = rmtls_lines::new(&lines),
            None => return Err(Error::NotFound),
        }
        Ok(())
    })
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

/// Writes a number that another policy, a block, a list or a revocation changes, and that never has
/// the same value again: while it stays, a decision about a request holds.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_changes(engine: *const rmtls_engine, out: *mut u64) -> i32 {
    guard_without_openssl(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { *output(out)? = handle(engine)?.0.changes() };
        Ok(())
    })
}

/// Counts `bytes` that the caller keeps in its array under `rmtls_decision.record`. They have a
/// bound together with what is kept here, and the caller must drop them when
/// `rmtls_engine_dropped_record` returns that number.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_keep_with_record(
    engine: *const rmtls_engine,
    record: u32,
    record_generation: u32,
    bytes: usize,
) -> i32 {
    guard(|| {
        let record = SlotId {
            index: record,
            generation: record_generation,
        };
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { handle(engine)?.0.keep_with_record(record, bytes) };
        Ok(())
    })
}

/// Writes the number of a record that was dropped, each once; `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_dropped_record(
    engine: *const rmtls_engine,
    out: *mut u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, out) = unsafe { (handle(engine)?, output(out)?) };
        *out = engine.0.dropped_record().ok_or(Error::NotFound)?;
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
