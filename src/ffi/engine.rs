//! `rmtls_engine`: a policy at work in one worker.

use std::cell::RefCell;
use std::ffi::c_void;
use std::rc::Rc;

use super::certificate::rmtls_certificate;
use super::user::account;
use super::{
    bytes, connection, file_name, give, guard, guard_with, handle, output, put, put_truncated,
    rmtls_buf, take, text,
};
use crate::cache::SlotId;
use crate::decision::{CertificateForwarding, Decision, Identity, Outcome};
use crate::engine::{bounds, Engine, PlanRef, PolicySource, RevocationSource, RevocationState};
use crate::text::quoted;
use crate::Error;

thread_local! {
    /// The engine in force on this thread, for Lua VMs that did not make it (lua_code_cache off).
    static CURRENT: RefCell<Option<Rc<Engine>>> = const { RefCell::new(None) };
}

/// A policy at work.
pub struct rmtls_engine(pub(super) Rc<Engine>);

impl rmtls_engine {
    pub(super) fn engine(&self) -> &Rc<Engine> {
        &self.0
    }
}

pub(super) fn current() -> Option<Rc<Engine>> {
    CURRENT.with(|current| current.borrow().clone())
}

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

/// An OCSP responder: POST the request to the URL.
pub const RMTLS_REVOCATION_SOURCE_OCSP: i32 = 1;
/// A CRL distribution point: GET the URL.
pub const RMTLS_REVOCATION_SOURCE_CRL: i32 = 2;

/// No source gave an answer.
pub const RMTLS_REVOCATION_STATUS_UNKNOWN: i32 = 0;
/// Not revoked.
pub const RMTLS_REVOCATION_STATUS_GOOD: i32 = 1;
/// Revoked.
pub const RMTLS_REVOCATION_STATUS_REVOKED: i32 = 2;

/// Bytes that Lua may keep for clients, connections and tokens by plan, in each VM.
pub const RMTLS_MAX_LUA_BYTES: i32 = 25165824;
const _: () = assert!(RMTLS_MAX_LUA_BYTES as usize == bounds::LUA);

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
    pub(super) fn read(&self) -> Decision {
        Decision {
            outcome: Outcome::Pass,
            client: self.place(),
            verdict: (self.verdict >= 0).then_some(self.verdict),
            identity: self.who(),
            // What the lines do not depend on.
            forwarding: CertificateForwarding::No,
            connection: self.connection,
            server_certificate: self.server_certificate,
            from_header: self.from_header == 1,
            reason: None,
        }
    }

    fn place(&self) -> Option<SlotId> {
        let place = SlotId {
            index: self.client,
            generation: self.generation,
        };
        (self.generation != 0).then_some(place)
    }

    fn who(&self) -> Identity {
        let credential = (self.credential != u32::MAX).then_some(self.credential);
        match self.identity {
            RMTLS_IDENTITY_HOLDER => Identity::Holder,
            RMTLS_IDENTITY_CONSUMER => Identity::Consumer(self.consumer, credential),
            RMTLS_IDENTITY_ANONYMOUS => Identity::Anonymous(self.consumer),
            _ => Identity::None,
        }
    }
}

/// How the sources of a plan are to be fetched.
#[repr(C)]
#[derive(Default)]
pub struct rmtls_fetch_options {
    /// Milliseconds for one fetch.
    pub http_timeout: u32,
    /// Seconds for which an answer is kept at most.
    pub ttl: i64,
    /// Whether https servers must show a trusted certificate: 0 or 1.
    pub ssl_verify: i32,
    /// Port of the proxy for http URLs, or 0.
    pub http_proxy_port: u32,
    /// Port of the proxy for https URLs, or 0.
    pub https_proxy_port: u32,
}

/// State of an engine.
#[repr(C)]
#[derive(Default)]
pub struct rmtls_policy_status {
    /// The epoch of the policy that this worker serves: the number of it among all that have been in force
    /// on this node.
    pub epoch: u64,
    /// Since when this worker has served it, in seconds since 1970.
    pub since: u64,
    /// Routes of the policy.
    pub routes: u64,
    /// Server names that ask for a certificate, wildcards and `*` included.
    pub server_names: u64,
    /// Different asks among them.
    pub certificate_requests: u64,
    /// Warnings of the policy.
    pub warnings: u64,
    /// SHA-256 of the compiled policy.
    pub digest: [u8; 32],
}

/// One inbound header, laid out as `ngx_http_lua_ffi_table_elt_t`.
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

/// Makes an engine without a policy.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_new(out: *mut *mut rmtls_engine) -> i32 {
    // SAFETY: the caller's promise, passed on unchanged.
    guard(|| unsafe { give(out, || Ok(rmtls_engine(Rc::default()))) })
}

/// Frees a handle; the engine lives on while it is the current one.
///
/// # Safety
/// `engine` is NULL or came from `rmtls_engine_new` or `rmtls_engine_current` and is not used
/// again.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_free(engine: *mut rmtls_engine) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { take(engine) }
}

/// Makes this engine the current one of the thread.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_install(engine: *const rmtls_engine) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let engine = unsafe { handle(engine) }?;
        CURRENT.with(|current| *current.borrow_mut() = Some(engine.0.clone()));
        Ok(())
    })
}

/// Gives a new handle of the current engine; `RMTLS_NOT_FOUND` if there is none.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_current(out: *mut *mut rmtls_engine) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { give(out, || current().map(rmtls_engine).ok_or(Error::NotFound)) }
    })
}

/// `RMTLS_OK` if this engine is the current one, else `RMTLS_NOT_FOUND`.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_is_current(engine: *const rmtls_engine) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let engine = unsafe { handle(engine) }?.engine();
        let is = |current: &Rc<Engine>| Rc::ptr_eq(current, engine);
        match CURRENT.with(|current| current.borrow().as_ref().is_some_and(is)) {
            true => Ok(()),
            false => Err(Error::NotFound),
        }
    })
}

/// Compiles a policy document (YAML or JSON text) and puts it in force. On failure the policy
/// before it stays in force and `err` has one line an error.
///
/// `label` stands where a file name would in the errors.
///
/// # Safety
/// `engine` is NULL or live; `document` and `label` are readable for their lengths; `err` is NULL
/// or valid, with `err->data` writable for `err->cap` bytes.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_load(
    engine: *const rmtls_engine,
    document: *const u8,
    document_len: usize,
    label: *const u8,
    label_len: usize,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?;
            let document = bytes(document, document_len)?;
            let label = text(label, label_len)?;
            engine.0.load(PolicySource::Text {
                text: document.into(),
                label: label.to_owned(),
            })
        })
    }
}

/// As `rmtls_engine_load`, from the file at `path`.
///
/// # Safety
/// As `rmtls_engine_load`, with `path` readable for `path_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_load_file(
    engine: *const rmtls_engine,
    path: *const u8,
    path_len: usize,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?;
            engine
                .0
                .load(PolicySource::File(file_name(path, path_len)?))
        })
    }
}

/// Writes warning number `index` of the policy in force; `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with `out->data` writable for `out->cap`
/// bytes.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_warning(
    engine: *const rmtls_engine,
    index: usize,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let policy = handle(engine)?.0.policy()?;
            let warning = policy.warnings.get(index).ok_or(Error::NotFound)?;
            put(out, warning.to_string().as_bytes())
        }
    })
}

/// Writes what there is to warn of about the policy in force if the caller trusts no peer to send
/// certificates in headers; `RMTLS_NOT_FOUND` if it reads none that only a trusted peer may send.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with `out->data` writable for `out->cap`
/// bytes.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_untrusted_source_warning(
    engine: *const rmtls_engine,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let policy = handle(engine)?.0.policy()?;
            let warning = policy
                .untrusted_source_warning
                .as_ref()
                .ok_or(Error::NotFound)?;
            put(out, warning.to_string().as_bytes())
        }
    })
}

/// Tells the state of the engine.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_policy_status(
    engine: *const rmtls_engine,
    out: *mut rmtls_policy_status,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, out) = unsafe { (handle(engine)?, output(out)?) };
        let policy = engine.0.policy()?;
        *out = rmtls_policy_status {
            epoch: engine.0.node_epoch(),
            since: engine.0.in_force_since(),
            routes: policy.routes.len() as u64,
            server_names: policy.sni_map.len() as u64,
            certificate_requests: policy.certificate_requests.len() as u64,
            warnings: policy.warnings.len() as u64,
            digest: policy.digest,
        };
        Ok(())
    })
}

/// Finds the plan of a route; `name` NULL is the plan of requests without a route of their own
/// (global plugins only). Plan numbers hold until the next load.
///
/// # Safety
/// `engine` is NULL or live; `name` is NULL or readable for `name_len` bytes; `out` is NULL or
/// valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_plan(
    engine: *const rmtls_engine,
    name: *const u8,
    name_len: usize,
    out: *mut u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, out) = unsafe { (handle(engine)?, output(out)?) };
        let name = match name.is_null() {
            true => None,
            // SAFETY: as above.
            false => Some(unsafe { text(name, name_len) }?),
        };
        *out = engine.0.policy()?.plan(name).ok_or(Error::NotFound)? as u32;
        Ok(())
    })
}

/// Writes why a request of the route `name` fails when `rmtls_engine_plan` finds no such route, with
/// the name that may have been meant. `now` in seconds since the epoch: few names are compared within
/// a second.
///
/// # Safety
/// `engine` is NULL or live; `name` is readable for `name_len` bytes; `out` is NULL or valid, with its
/// data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_unknown_route(
    engine: *const rmtls_engine,
    name: *const u8,
    name_len: usize,
    now: i64,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            let name = String::from_utf8_lossy(bytes(name, name_len)?);
            let meant = engine.suggest_route(&name, now)?;
            let name = quoted(name.as_bytes());
            put(
                out,
                format!("no route '{name}' in the policy{meant}").as_bytes(),
            )
        }
    })
}

/// Writes the name of the route number `index`, or its id, and nothing for a route to whose requests
/// no more applies than to those without a route; `RMTLS_NOT_FOUND` after the last.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_route(
    engine: *const rmtls_engine,
    index: usize,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let policy = handle(engine)?.0.policy()?;
            put(
                out,
                policy
                    .route_with_own_plan(index)
                    .ok_or(Error::NotFound)?
                    .as_bytes(),
            )
        }
    })
}

/// Writes, about file number `index` of those that the policy was read from and that workers of this
/// user cannot read, what is in the way; `RMTLS_NOT_FOUND` after the last, and when there is no such
/// user or group. `group` NULL is the one that is called as the user. Call it before there are threads.
///
/// # Safety
/// `engine` is NULL or live; `user` is readable for `user_len` bytes; `group` is NULL or readable for
/// `group_len` bytes; `out` is NULL or valid, with its data. No other thread looks up users or groups.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_unreadable_file(
    engine: *const rmtls_engine,
    user: *const u8,
    user_len: usize,
    group: *const u8,
    group_len: usize,
    index: usize,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = &handle(engine)?.0;
            let user = text(user, user_len)?;
            let group = match group.is_null() {
                true => None,
                false => Some(text(group, group_len)?),
            };
            let account = account(user, group).ok_or(Error::NotFound)?;
            let lines = engine.unreadable_by(user, &account);
            put(out, lines.get(index).ok_or(Error::NotFound)?.as_bytes())
        }
    })
}

/// ClientHello phase: binds the session of `ssl` to what the raw server name asks for. `name`
/// NULL: the client sent none.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` inside its ClientHello callback; `name`
/// is NULL or readable for `name_len` bytes; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_client_hello(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    name: *const u8,
    name_len: usize,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?;
            let ssl = connection(ssl).ok_or(Error::NullArgument)?;
            let name = match name.is_null() {
                true => None,
                false => Some(bytes(name, name_len)?),
            };
            engine.0.client_hello(ssl, name)
        })
    }
}

/// Certificate phase: asks for a client certificate if the ClientHello phase decided so;
/// `RMTLS_NOT_FOUND` if it did not.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` inside its certificate callback; `err`
/// is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_request_certificate(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?;
            let ssl = connection(ssl).ok_or(Error::NullArgument)?;
            match engine.0.certificate(ssl)? {
                true => Ok(()),
                false => Err(Error::NotFound),
            }
        })
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

/// Finds the inbound headers that only the gateway may set, and a `Connection` that would make an
/// upstream drop one of them: writes their indexes to `found`, at
/// most `found_cap`, and their number to `found_len`.
///
/// # Safety
/// `engine` is NULL or live; `headers` is readable for `headers_len` elements whose names and
/// values are readable; `found` is writable for `found_cap` elements; `found_len` is NULL or valid for
/// writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_reserved_headers(
    engine: *const rmtls_engine,
    headers: *const rmtls_request_header,
    headers_len: usize,
    found: *mut u32,
    found_cap: usize,
    found_len: *mut usize,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (engine, found_len) = (handle(engine)?, output(found_len)?);
            *found_len = 0;
            if headers_len == 0 {
                return Ok(());
            }
            if headers.is_null() || found.is_null() {
                return Err(Error::NullArgument);
            }
            let policy = engine.0.policy()?;
            for (index, header) in std::slice::from_raw_parts(headers, headers_len)
                .iter()
                .enumerate()
            {
                let name = bytes(header.name, usize::try_from(header.name_len).unwrap_or(0))?;
                let value = bytes(header.value, usize::try_from(header.value_len).unwrap_or(0))?;
                if policy.reserved_headers.must_remove(name, value) {
                    if *found_len < found_cap {
                        *found.add(*found_len) = index as u32;
                    }
                    *found_len += 1;
                }
            }
            Ok(())
        }
    })
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
                .place()
                .and_then(|place| engine.certificate_at(place));
            let policy = engine.policy()?;
            let plan = policy.plans.get(plan as usize).ok_or(Error::NotFound)?;
            let groups = policy.groups(plan, certificate.as_deref(), answer.who());
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
        let place = answer.place().ok_or(Error::NotFound)?;
        let certificate = engine.0.certificate_at(place).ok_or(Error::NotFound)?;
        *out = certificate.not_after()?;
        Ok(())
    })
}

/// Id of a consumer.
pub const RMTLS_CONSUMER_ID: u32 = 1;
/// Its username.
pub const RMTLS_CONSUMER_USERNAME: u32 = 2;
/// Its custom_id.
pub const RMTLS_CONSUMER_CUSTOM_ID: u32 = 3;

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

/// Tells how the sources of a plan are to be fetched; the proxies' hosts are empty when there is
/// none.
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

/// Number of the policies this thread has had in force: plan numbers hold as long as it stays. 0 for
/// NULL.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_epoch(engine: *const rmtls_engine) -> u32 {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { handle(engine) }.map_or(0, |engine| engine.0.epoch() as u32)
}

fn at(plan: u32, epoch: u32) -> PlanRef {
    PlanRef {
        plan: plan as usize,
        epoch: epoch.into(),
    }
}

/// Writes source number `index` for the status of the client with this certificate: its kind
/// (`RMTLS_REVOCATION_SOURCE_*`), its URL and, for OCSP, the DER of the request. `RMTLS_NOT_FOUND` after the
/// last.
///
/// `plan` was looked up at `epoch` (`rmtls_engine_epoch`); `RMTLS_NOT_FOUND` when another policy
/// is in force by now.
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
                .revocation_source(client, at(plan, epoch), index, now)?
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

/// Judges what source number `index` answered. With `RMTLS_OK` the status is definite and
/// remembered: `state` becomes `RMTLS_REVOCATION_STATUS_GOOD` or `RMTLS_REVOCATION_STATUS_REVOKED`, `until` the first
/// second at which it must be asked for again. Otherwise `err` says why it is no answer.
///
/// `plan` was looked up at `epoch` (`rmtls_engine_epoch`); `RMTLS_NOT_FOUND` when another policy
/// is in force by now.
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
                .revocation_source(client, at(plan, epoch), index, now)?
                .ok_or(Error::NotFound)?;
            let status =
                engine.check_revocation_response(client, at(plan, epoch), &source, data, now)?;
            *state = status.state as i32;
            *until = status.until;
            Ok(())
        })
    }
}

/// Remembers a status for the client with this certificate that another worker learnt, or that no source gave an
/// answer. `state` is one of `RMTLS_REVOCATION_STATUS_*`, `until` the first second at which it must be asked
/// for again.
///
/// `plan` was looked up at `epoch` (`rmtls_engine_epoch`); `RMTLS_NOT_FOUND` when another policy
/// is in force by now.
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
        engine.set_revocation_status(client, at(plan, epoch), state, until, now)?;
        Ok(())
    })
}

/// Writes file and issuer of local CRL number `index` of the policy in force, and its nextUpdate in
/// seconds since the epoch, `INT64_MAX` without one; `RMTLS_NOT_FOUND` after the last.
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

/// Writes a warning of a local CRL that has expired since the policy in force was compiled, of each
/// once; `RMTLS_NOT_FOUND` when there is no other. `now`: seconds since the epoch.
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

/// Writes the name under which workers share the status of the client with this certificate.
///
/// `plan` was looked up at `epoch` (`rmtls_engine_epoch`); `RMTLS_NOT_FOUND` when another policy
/// is in force by now.
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
                    .revocation_status_key(client, at(plan, epoch), now)?
                    .as_bytes(),
            )
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
