//! The lists of certificates that a policy names.

use super::engine::rmtls_engine;
use super::{guard, guard_with, handle, output, put, rmtls_buf};
use crate::policy::ListEvent;
use crate::Error;

/// A list was replaced by the content of its file.
pub const RMTLS_LIST_IN_FORCE: i32 = 0;
/// The file of a list cannot be read, and the list stays in force.
pub const RMTLS_LIST_FAILED: i32 = 1;

/// Starts to read the lists whose files have changed, on a thread beside the worker. Call it from
/// time to time, and `rmtls_engine_list_event` afterwards.
///
/// # Safety
/// `engine` is NULL or live; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_watch_lists(
    engine: *const rmtls_engine,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe { guard_with(err, || handle(engine)?.engine().watch_lists()) }
}

/// Returns `RMTLS_OK` while a list is being read without which this worker refuses requests, else
/// `RMTLS_NOT_FOUND`.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_is_awaiting_lists(engine: *const rmtls_engine) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        match unsafe { handle(engine) }?.engine().is_awaiting_lists() {
            true => Ok(()),
            false => Err(Error::NotFound),
        }
    })
}

/// Writes what happened to a list (`RMTLS_LIST_*`) and its text for the log. `RMTLS_NOT_FOUND` when
/// nothing has happened since.
///
/// # Safety
/// `engine` is NULL or live; `kind` is NULL or valid for writing; `text` is NULL or valid, with its
/// data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_list_event(
    engine: *const rmtls_engine,
    kind: *mut i32,
    text: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let (engine, kind) = (handle(engine)?.engine(), output(kind)?);
            let (found, message) = match engine.next_list_event()? {
                ListEvent::InForce(message) => (RMTLS_LIST_IN_FORCE, message),
                ListEvent::Failed(message) => (RMTLS_LIST_FAILED, message),
            };
            *kind = found;
            put(text, message.as_bytes())
        }
    })
}

/// Writes a warning about entries of lists that have ended, or will within a day, since the policy in
/// force was compiled or the list was read, once for each change; `RMTLS_NOT_FOUND` when there is no
/// other. `now` is in seconds since 1970.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_ending_list(
    engine: *const rmtls_engine,
    now: i64,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = handle(engine)?.engine();
            engine.ending_list(now, |text| put(out, text.as_bytes()))
        }
    })
}

/// Writes the name of list number `index`, why its file cannot be read as it is now, or no text if it
/// can, its number of entries, and when the file was modified that it was read from, in seconds since
/// 1970, or 0 if that is not known. `RMTLS_NOT_FOUND` behind the last list.
///
/// # Safety
/// `engine` is NULL or live; the others are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_list_state(
    engine: *const rmtls_engine,
    index: u32,
    name: *mut rmtls_buf,
    error: *mut rmtls_buf,
    entries: *mut u64,
    modified: *mut i64,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = handle(engine)?.engine();
            let (entries, modified) = (output(entries)?, output(modified)?);
            let list = engine.list_state(index as usize)?;
            *entries = list.entries as u64;
            *modified = list.modified.unwrap_or(0);
            put(error, list.error.unwrap_or_default().as_bytes())?;
            put(name, list.name.as_bytes())
        }
    })
}
