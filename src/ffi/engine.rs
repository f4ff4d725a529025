//! `rmtls_engine`: a policy engine of one worker, and which engine the thread uses.

use std::cell::RefCell;
use std::rc::Rc;

use super::{free_handle, guard, handle, new_handle};
use crate::engine::Engine;
use crate::Error;

thread_local! {
    /// The engine in force on this thread, for Lua VMs that did not make it (lua_code_cache off).
    static CURRENT: RefCell<Option<Rc<Engine>>> = const { RefCell::new(None) };
}

/// A policy engine: the policy in force in this worker, and its caches.
pub struct rmtls_engine(pub(super) Rc<Engine>);

impl rmtls_engine {
    pub(super) fn engine(&self) -> &Rc<Engine> {
        &self.0
    }
}

pub(super) fn current() -> Option<Rc<Engine>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// Makes an engine without a policy.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_new(out: *mut *mut rmtls_engine) -> i32 {
    // SAFETY: the caller's promise, passed on unchanged.
    guard(|| unsafe { new_handle(out, || Ok(rmtls_engine(Rc::default()))) })
}

/// Frees a handle. The engine itself stays alive while it is the current one of the thread.
///
/// # Safety
/// `engine` is NULL or from `rmtls_engine_new` or `rmtls_engine_current` and is not used
/// again.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_free(engine: *mut rmtls_engine) {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { free_handle(engine) }
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

/// Returns a new handle of the current engine of the thread; `RMTLS_NOT_FOUND` if there is none.
///
/// # Safety
/// `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_current(out: *mut *mut rmtls_engine) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { new_handle(out, || current().map(rmtls_engine).ok_or(Error::NotFound)) }
    })
}

/// Returns `RMTLS_OK` if this engine is the current one of the thread, else `RMTLS_NOT_FOUND`.
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

/// Returns the number of policies that have been in force on this thread, or 0 for NULL. Plan
/// numbers are valid until it changes.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_epoch(engine: *const rmtls_engine) -> u32 {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { handle(engine) }.map_or(0, |engine| engine.0.epoch() as u32)
}
