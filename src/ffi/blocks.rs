//! Certificates that an operator has blocked.

use super::engine::rmtls_engine;
use super::{guard, guard_with, handle, output, put, rmtls_buf, text};
use crate::engine::NO_END;
use crate::Error;

/// When a block is in force.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct rmtls_block_times {
    /// When it was made, in seconds since 1970.
    pub added: i64,
    /// First second at which it has no effect; 0 without an end.
    pub until: i64,
}

/// Blocks the certificates of a selector (`sha256 HEX`, `spki_sha256 HEX` or `serial HEX ISSUER`)
/// on all workers of this nginx, from the next request on. `added`, `until` and `now` are in seconds since
/// 1970; an `until` of 0 is no end.
///
/// # Safety
/// `engine` is NULL or live; `selector` and `reason` are readable for their lengths; `err` is NULL
/// or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_block(
    engine: *const rmtls_engine,
    selector: *const u8,
    selector_len: usize,
    reason: *const u8,
    reason_len: usize,
    added: i64,
    until: i64,
    now: i64,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?.engine();
            let selector = text(selector, selector_len)?;
            let until = if until == 0 { NO_END } else { until };
            engine.block(selector, text(reason, reason_len)?, added, until, now)
        })
    }
}

/// Removes a block; `RMTLS_NOT_FOUND` when there is none of this selector.
///
/// # Safety
/// `engine` is NULL or live; `selector` is readable for its length; `err` is NULL or valid, with
/// its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_unblock(
    engine: *const rmtls_engine,
    selector: *const u8,
    selector_len: usize,
    now: i64,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = handle(engine)?.engine();
            engine.unblock(text(selector, selector_len)?, now)
        })
    }
}

/// Reads the first block in force in slot `*slot` or behind it, and sets `*slot` to the one behind
/// that block. `RMTLS_NOT_FOUND` when there is none.
///
/// # Safety
/// `engine` is NULL or live; the others are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_next_block(
    engine: *const rmtls_engine,
    now: i64,
    slot: *mut u32,
    times: *mut rmtls_block_times,
    selector: *mut rmtls_buf,
    reason: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = handle(engine)?.engine();
            let (slot, times) = (output(slot)?, output(times)?);
            let (found, block) = engine.next_block(*slot as usize, now)?;
            put(selector, block.text.as_bytes())?;
            put(reason, block.reason.as_bytes())?;
            *times = rmtls_block_times {
                added: block.added,
                until: if block.until == NO_END {
                    0
                } else {
                    block.until
                },
            };
            *slot = u32::try_from(found + 1).map_err(|_| Error::NotFound)?;
            Ok(())
        }
    })
}

/// Writes the blocks to the state directory, if there is one.
///
/// # Safety
/// `engine` is NULL or live; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_save_blocks(
    engine: *const rmtls_engine,
    now: i64,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe { guard_with(err, || handle(engine)?.engine().save_blocks(now)) }
}
