//! `rmtls_metrics`: what the engines of this thread counted.

use super::{guard, output};
use crate::metrics;
use crate::Error;

/// Starts of handshakes, also of those that resume a session.
pub const RMTLS_EVENT_CLIENT_HELLO: u32 = 0;
/// Full handshakes in which a client certificate was asked for.
pub const RMTLS_EVENT_CERTIFICATE_REQUEST: u32 = 1;
/// Full handshakes in which the client sent one, whatever it is worth.
pub const RMTLS_EVENT_CERTIFICATE_PRESENTED: u32 = 2;
/// Connections of full handshakes on which a request was decided about.
pub const RMTLS_EVENT_FULL_CONNECTION: u32 = 3;
/// The same, of handshakes that resumed a session.
pub const RMTLS_EVENT_RESUMED_CONNECTION: u32 = 4;
/// The last decision on a connection still held.
pub const RMTLS_EVENT_DECISION_HIT: u32 = 5;
/// It did not, or there was none.
pub const RMTLS_EVENT_DECISION_MISS: u32 = 6;
/// The worker had read a client certificate before.
pub const RMTLS_EVENT_CLIENT_HIT: u32 = 7;
/// It had not.
pub const RMTLS_EVENT_CLIENT_MISS: u32 = 8;
/// A connection did not know the verdict on its chain, the worker did.
pub const RMTLS_EVENT_VERDICT_HIT: u32 = 9;
/// Nor did the worker: the chain was verified.
pub const RMTLS_EVENT_VERDICT_MISS: u32 = 10;
/// A revocation status was known.
pub const RMTLS_EVENT_STATUS_HIT: u32 = 11;
/// It was not.
pub const RMTLS_EVENT_STATUS_MISS: u32 = 12;
/// Number of events.
pub const RMTLS_EVENTS: usize = 13;

const _: () = assert!(RMTLS_EVENTS == metrics::EVENTS);

/// Writes how often each `RMTLS_EVENT_*` happened on this thread since the last call, at its number
/// in `out`.
///
/// # Safety
/// `out` is NULL or writable for `RMTLS_EVENTS` elements.
#[no_mangle]
pub unsafe extern "C" fn rmtls_metrics_read_and_reset(out: *mut u64) -> i32 {
    guard(|| {
        if out.is_null() {
            return Err(Error::NullArgument);
        }
        // SAFETY: the caller's promise.
        *unsafe { output(out.cast::<[u64; RMTLS_EVENTS]>()) }? = metrics::take();
        Ok(())
    })
}
