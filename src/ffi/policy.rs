//! The policy of an engine: loading it, its warnings, status, routes and plans.

use super::account::account;
use super::engine::rmtls_engine;
use super::{bytes, file_name, guard, guard_with, handle, output, put, rmtls_buf, text};
use crate::engine::PolicySource;
use crate::text::quoted;
use crate::Error;

/// Status of the policy in force.
#[repr(C)]
#[derive(Default)]
pub struct rmtls_policy_status {
    /// Number of this policy among all that have been in force on the node.
    pub epoch: u64,
    /// Time since which this worker has served it, in seconds since 1970.
    pub since: u64,
    /// Routes of the policy.
    pub routes: u64,
    /// Server names with a certificate request, wildcards and `*` included.
    pub server_names: u64,
    /// Different certificate requests among them.
    pub certificate_requests: u64,
    /// Warnings of the policy.
    pub warnings: u64,
    /// SHA-256 of the compiled policy.
    pub digest: [u8; 32],
}

/// Responses of the route carry `Vary: Client-Cert`.
pub const RMTLS_PLAN_VARY: u32 = 1;

/// Responses of the route carry `Cache-Control: private`.
pub const RMTLS_PLAN_PRIVATE: u32 = 2;

/// The route forwards an inbound XFCC header: call `rmtls_engine_xfcc` for every request.
pub const RMTLS_PLAN_XFCC: u32 = 4;

/// The route reads the client certificate from a header: call `rmtls_engine_access_with_headers`.
pub const RMTLS_PLAN_HEADER_CERTIFICATE: u32 = 8;

/// The route requires an access token: call `rmtls_engine_check_token`.
pub const RMTLS_PLAN_TOKEN: u32 = 16;

/// With `RMTLS_PLAN_HEADER_CERTIFICATE`: without a certificate in the header, the one of the TLS
/// connection is used.
pub const RMTLS_PLAN_OR_TLS: u32 = 32;

/// CORS preflights of the route are not authenticated.
pub const RMTLS_PLAN_PASSES_PREFLIGHT: u32 = 64;

/// Compiles a policy document (YAML or JSON text) and puts it in force. On failure the previous
/// policy stays in force, and `err` has one line for each error. `label` is used in the errors in
/// place of a file name.
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

/// Writes the warning for a caller that trusts no peer to send certificates in headers, while the
/// policy in force reads such headers; `RMTLS_NOT_FOUND` if it reads none.
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

/// Writes the status of the policy in force.
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

/// Finds the plan of a route. `name` NULL stands for requests without a route of their own, to
/// which only global plugins apply. Plan numbers are valid until the next load.
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

/// Writes the sum of the `RMTLS_PLAN_*` of a plan.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_plan_flags(
    engine: *const rmtls_engine,
    plan: u32,
    out: *mut u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, out) = unsafe { (&handle(engine)?.0, output(out)?) };
        *out = engine.with_plan(plan as usize, |plan| {
            let headers = &plan.upstream_headers;
            Ok([
                (headers.vary, RMTLS_PLAN_VARY),
                (headers.private, RMTLS_PLAN_PRIVATE),
                (headers.xfcc_forwarded().is_some(), RMTLS_PLAN_XFCC),
                (
                    plan.certificate_header.is_some(),
                    RMTLS_PLAN_HEADER_CERTIFICATE,
                ),
                (plan.token_auth.is_some(), RMTLS_PLAN_TOKEN),
                (plan.passes_preflight, RMTLS_PLAN_PASSES_PREFLIGHT),
                (
                    plan.certificate_header.is_some() && plan.auth.is_none(),
                    RMTLS_PLAN_OR_TLS,
                ),
            ]
            .into_iter()
            .filter_map(|(set, bit)| set.then_some(bit))
            .sum())
        })?;
        Ok(())
    })
}

/// Writes the error text for a route name that `rmtls_engine_plan` did not find, with a similar
/// name if there is one. `now` is in seconds since 1970; it limits how many names are compared in
/// a second.
///
/// # Safety
/// `engine` is NULL or live; `name` is readable for `name_len` bytes; `out` is NULL or valid, with
/// its data.
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

/// Writes the name of route number `index`, or its id if it has no name. The text is empty for a
/// route with the same plan as requests without a route. `RMTLS_NOT_FOUND` after the last.
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

/// Checks which files of the policy the workers of a user cannot read, and whether they cannot
/// write to the state directory. Writes line number `index` about these; `RMTLS_NOT_FOUND` after
/// the last, and when there is no such user or group. `group` NULL stands for the group with the
/// name of the user. Call it before threads are started.
///
/// # Safety
/// `engine` is NULL or live; `user` is readable for `user_len` bytes; `group` is NULL or readable
/// for `group_len` bytes; `out` is NULL or valid, with its data. No other thread looks up users or
/// groups.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_missing_permission(
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
            let lines = engine.missing_permissions(user, &account);
            put(out, lines.get(index).ok_or(Error::NotFound)?.as_bytes())
        }
    })
}
