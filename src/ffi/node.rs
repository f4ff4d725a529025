//! What the workers of one nginx share: which policy is in force.

use std::sync::Arc;

use parking_lot::Mutex;

use super::engine::rmtls_engine;
use super::{file_name, guard, guard_with, handle, output, rmtls_buf};
use crate::engine::Node;
use crate::Error;

/// The node of this process and of all processes forked from it. The master makes it once.
static NODE: Mutex<Option<Arc<Node>>> = Mutex::new(None);

/// Which policy a worker serves.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct rmtls_worker_state {
    /// Epoch of the policy that it serves.
    pub epoch: u64,
    /// Time since which it has served it, in seconds since 1970.
    pub since: u64,
    /// Process id.
    pub process: u32,
    /// 1 when its last reload failed, else 0.
    pub failed: i32,
}

/// Which policy is in force on a node.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct rmtls_node_state {
    /// Its number among all policies that have been in force; 0 before the first.
    pub epoch: u64,
    /// Time since which it has been in force, in seconds since 1970.
    pub since: u64,
}

/// Makes the engine share the node state of this process. Call it before the policy is loaded and
/// before workers are forked. An nginx that was started for an upgrade (USR2) shares the node
/// state of the old one. Without shared memory it fails, and each worker is on its own.
///
/// # Safety
/// `engine` is NULL or live; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_join_node(
    engine: *const rmtls_engine,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?.engine();
            let mut node = NODE.lock();
            let node = match &*node {
                Some(node) => node.clone(),
                None => {
                    let new = match Node::of_parent() {
                        Some(of_parent) => of_parent,
                        None => Node::new().map_err(|error| {
                            Error::Misuse(format!("no memory that workers share: {error}"))
                        })?,
                    };
                    node.insert(Arc::new(new)).clone()
                }
            };
            engine.join(node);
            Ok(())
        })
    }
}

/// Saves the documents in force in the directory at `path`, for the next start. `source`
/// identifies the policy there. It fails when the directory does not exist or other users may read
/// it.
///
/// # Safety
/// `engine` is NULL or live; `path` and `source` are readable for their lengths; `err` is NULL or
/// valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_set_state_directory(
    engine: *const rmtls_engine,
    path: *const u8,
    path_len: usize,
    source: *const u8,
    source_len: usize,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?.engine();
            let path = file_name(path, path_len)?;
            engine.set_state_directory(&path, super::bytes(source, source_len)?)
        })
    }
}

/// Loads the documents that were last in force from the state directory. `RMTLS_NOT_FOUND` when
/// there are none.
///
/// # Safety
/// `engine` is NULL or live; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_load_last_good(
    engine: *const rmtls_engine,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe { guard_with(err, || handle(engine)?.engine().load_last_good()) }
}

/// Returns `RMTLS_OK` when the node has another policy in force than this worker, else
/// `RMTLS_NOT_FOUND`.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_is_behind(engine: *const rmtls_engine) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        match unsafe { handle(engine) }?.engine().is_behind() {
            true => Ok(()),
            false => Err(Error::NotFound),
        }
    })
}

/// Marks this worker as unable to get the policy in force. Until it has it, `rmtls_engine_access`
/// decides `RMTLS_DECISION_UNAVAILABLE`.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_set_unavailable(engine: *const rmtls_engine) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { handle(engine) }?.engine().set_unavailable();
        Ok(())
    })
}

/// Records in the node state which policy worker number `worker` serves.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_report_worker(
    engine: *const rmtls_engine,
    worker: u32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe { handle(engine) }?.engine().report(worker as usize);
        Ok(())
    })
}

/// Writes the recorded state of a worker; `RMTLS_NOT_FOUND` when it recorded none or has ended.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_worker_state(
    engine: *const rmtls_engine,
    worker: u32,
    out: *mut rmtls_worker_state,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, out) = unsafe { (handle(engine)?.engine(), output(out)?) };
        let state = engine
            .worker_state(worker as usize)
            .ok_or(Error::NotFound)?;
        *out = rmtls_worker_state {
            epoch: state.epoch,
            since: state.since,
            process: state.process,
            failed: state.failed.into(),
        };
        Ok(())
    })
}

/// Writes the state of the node; `RMTLS_NOT_FOUND` for an engine without a node.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_node_state(
    engine: *const rmtls_engine,
    out: *mut rmtls_node_state,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, out) = unsafe { (handle(engine)?.engine(), output(out)?) };
        let (epoch, since) = engine.node_state().ok_or(Error::NotFound)?;
        *out = rmtls_node_state { epoch, since };
        Ok(())
    })
}
