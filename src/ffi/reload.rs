//! `rmtls_reload`: a policy that is compiled in a thread of the worker, and the watch on policy files.

use std::rc::Rc;
use std::time::Duration;

use super::engine::{current, rmtls_engine};
use super::{
    bytes, file_name, free_handle, guard, guard_with, handle, new_handle, output, put_truncated,
    rmtls_buf, text,
};
use crate::engine::{Engine, PolicySource, Reload, ReloadProgress};
use crate::Error;

/// A policy that is being compiled in a thread of the worker.
pub struct rmtls_reload {
    engine: Rc<Engine>,
    reload: Reload,
}

/// The policy is still being compiled.
pub const RMTLS_RELOAD_BUILDING: i32 = 0;
/// The policy is in force now.
pub const RMTLS_RELOAD_IN_FORCE: i32 = 1;
/// The files have the same content as the policy in force.
pub const RMTLS_RELOAD_SAME: i32 = 2;
/// A reload that was started later is already in force.
pub const RMTLS_RELOAD_SUPERSEDED: i32 = 3;
/// The files changed while they were read: check again.
pub const RMTLS_RELOAD_UNSETTLED: i32 = 4;

/// The files have not changed.
pub const RMTLS_WATCH_SAME: i32 = 0;
/// The files have just changed and may still be changing: check again.
pub const RMTLS_WATCH_UNSETTLED: i32 = 1;
/// The files have changed.
pub const RMTLS_WATCH_CHANGED: i32 = 2;

/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing; `err` is NULL or valid, with its
/// data.
unsafe fn start(
    engine: *const rmtls_engine,
    out: *mut *mut rmtls_reload,
    err: *mut rmtls_buf,
    order: impl FnOnce(&Engine) -> Result<Reload, Error>,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?.engine().clone();
            new_handle(out, || {
                let reload = order(&engine)?;
                Ok(rmtls_reload { engine, reload })
            })
        })
    }
}

/// Starts to compile a policy document (YAML or JSON text) in a thread of this process, which
/// blocks all signals. `label` is used in the errors in place of a file name. Call it after the
/// last `fork`.
///
/// # Safety
/// `engine` is NULL or live; `document` and `label` are readable for their lengths; `out` is NULL
/// or valid for writing; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_reload_new(
    engine: *const rmtls_engine,
    document: *const u8,
    document_len: usize,
    label: *const u8,
    label_len: usize,
    out: *mut *mut rmtls_reload,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        start(engine, out, err, |engine| {
            engine.reload(PolicySource::Text {
                text: bytes(document, document_len)?.into(),
                label: text(label, label_len)?.to_owned(),
            })
        })
    }
}

/// As `rmtls_reload_new`, from the file at `path`.
///
/// # Safety
/// As `rmtls_reload_new`, with `path` readable for `path_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn rmtls_reload_new_file(
    engine: *const rmtls_engine,
    path: *const u8,
    path_len: usize,
    out: *mut *mut rmtls_reload,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        start(engine, out, err, |engine| {
            engine.reload(PolicySource::File(file_name(path, path_len)?))
        })
    }
}

/// As `rmtls_reload_new`, from the source of the policy in force, and only if its files have
/// changed. `RMTLS_NOT_FOUND` when the source is not a file.
///
/// # Safety
/// As `rmtls_reload_new`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_reload_new_changed(
    engine: *const rmtls_engine,
    out: *mut *mut rmtls_reload,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe { start(engine, out, err, Engine::reload_changed) }
}

/// As `rmtls_reload_new`, from the documents that are in force on the node, whatever the content
/// of the files.
///
/// # Safety
/// As `rmtls_reload_new`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_reload_new_from_node(
    engine: *const rmtls_engine,
    out: *mut *mut rmtls_reload,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe { start(engine, out, err, Engine::reload_from_node) }
}

/// Puts the policy in force once it is compiled. Waits for it up to `wait_ms` milliseconds; 0 does
/// not wait. `state` becomes one of `RMTLS_RELOAD_*`; with `RMTLS_RELOAD_IN_FORCE`, `message`
/// describes the changes for the log. On failure `message` has one line for each error, truncated
/// to fit, and the previous policy stays in force. Each outcome is returned once.
///
/// # Safety
/// `reload` is NULL or live; `state` is NULL or valid for writing; `message` is NULL or valid, with
/// its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_reload_poll(
    reload: *const rmtls_reload,
    wait_ms: u32,
    state: *mut i32,
    message: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(message, || {
            let (reload, state) = (handle(reload)?, output(state)?);
            let wait = Duration::from_millis(wait_ms.into());
            *state = match reload.engine.poll(&reload.reload, wait)? {
                ReloadProgress::Building => RMTLS_RELOAD_BUILDING,
                ReloadProgress::InForce(what) => {
                    put_truncated(message, &what);
                    RMTLS_RELOAD_IN_FORCE
                }
                ReloadProgress::Same => RMTLS_RELOAD_SAME,
                ReloadProgress::Superseded => RMTLS_RELOAD_SUPERSEDED,
                ReloadProgress::Unsettled => RMTLS_RELOAD_UNSETTLED,
            };
            Ok(())
        })
    }
}

/// Frees a reload, and cancels one that is in progress.
///
/// # Safety
/// `reload` is NULL or came from `rmtls_reload_new` or a sibling and is not used again.
#[no_mangle]
pub unsafe extern "C" fn rmtls_reload_free(reload: *mut rmtls_reload) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { free_handle(reload) }
}

/// Writes the errors of the last load or reload, one line for each, truncated to fit;
/// `RMTLS_NOT_FOUND` when it succeeded.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_last_error(
    engine: *const rmtls_engine,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let error = handle(engine)?.engine().last_error();
            put_truncated(out, &error.ok_or(Error::NotFound)?);
            Ok(())
        }
    })
}

/// Sets the interval at which the files of the policy are checked for changes; 0 milliseconds
/// disables it.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_watch(engine: *const rmtls_engine, every_ms: u32) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        let engine = unsafe { handle(engine) }?.engine();
        engine.set_watch(Duration::from_millis(every_ms.into()));
        Ok(())
    })
}

/// Makes the caller the only watcher in this process. It checks every `every_ms` milliseconds,
/// with `token`; with 0 it checks only the node. `RMTLS_NOT_FOUND` when there is a watcher
/// already.
///
/// # Safety
/// `engine` is NULL or live; `every_ms` and `token` are NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_watch_start(
    engine: *const rmtls_engine,
    every_ms: *mut u32,
    token: *mut u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, every_ms, token) =
            unsafe { (handle(engine)?.engine(), output(every_ms)?, output(token)?) };
        *every_ms = u32::try_from(engine.watch_interval().as_millis()).unwrap_or(u32::MAX);
        *token = engine.start_watch().ok_or(Error::NotFound)?;
        Ok(())
    })
}

/// Checks the files of the policy for changes: `change` becomes one of `RMTLS_WATCH_*`.
/// `RMTLS_NOT_FOUND` when the caller may stop, because there is another watcher or another current
/// engine.
///
/// # Safety
/// `engine` is NULL or live; `change` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_watch_check(
    engine: *const rmtls_engine,
    token: u32,
    change: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, change) = unsafe { (handle(engine)?.engine(), output(change)?) };
        if !current().is_some_and(|current| Rc::ptr_eq(&current, engine)) {
            return Err(Error::NotFound);
        }
        *change = engine.check_watch(token)? as i32;
        Ok(())
    })
}
