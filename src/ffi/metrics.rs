//! `rmtls_metrics`: what the engines of this thread counted.

use super::{guard, output};
use crate::metrics;
use crate::Error;

/// Handshakes started, session resumption included.
pub const RMTLS_EVENT_CLIENT_HELLO: u32 = 0;
/// Full handshakes in which a client certificate was requested.
pub const RMTLS_EVENT_CERTIFICATE_REQUEST: u32 = 1;
/// Full handshakes in which the client sent one, even if verification failed.
pub const RMTLS_EVENT_CERTIFICATE_PRESENTED: u32 = 2;
/// Connections with a full handshake and at least one decision.
pub const RMTLS_EVENT_FULL_CONNECTION: u32 = 3;
/// Connections with a resumed session and at least one decision.
pub const RMTLS_EVENT_RESUMED_CONNECTION: u32 = 4;
/// The last decision on a connection was used again.
pub const RMTLS_EVENT_DECISION_HIT: u32 = 5;
/// No earlier decision on the connection could be used.
pub const RMTLS_EVENT_DECISION_MISS: u32 = 6;
/// A client certificate was in the client cache.
pub const RMTLS_EVENT_CLIENT_HIT: u32 = 7;
/// A client certificate was not in the client cache.
pub const RMTLS_EVENT_CLIENT_MISS: u32 = 8;
/// The verdict on a chain was not cached on the connection, but in the worker.
pub const RMTLS_EVENT_VERDICT_HIT: u32 = 9;
/// The verdict on a chain was not cached: the chain was verified.
pub const RMTLS_EVENT_VERDICT_MISS: u32 = 10;
/// A revocation status was cached.
pub const RMTLS_EVENT_STATUS_HIT: u32 = 11;
/// A revocation status was not cached.
pub const RMTLS_EVENT_STATUS_MISS: u32 = 12;
/// A certificate was denied because an operator has blocked it.
pub const RMTLS_EVENT_DENIED_BY_BLOCK: u32 = 13;
/// A certificate was denied because a deny list names it.
pub const RMTLS_EVENT_DENIED_BY_LIST: u32 = 14;
/// A certificate was denied because no allow list names it.
pub const RMTLS_EVENT_DENIED_UNLISTED: u32 = 15;
/// A chain was verified whose leaf has clientAuth in its extendedKeyUsage, and no serverAuth.
pub const RMTLS_EVENT_TRUSTED_FOR_CLIENTS: u32 = 16;
/// The same with serverAuth, and no clientAuth.
pub const RMTLS_EVENT_TRUSTED_FOR_SERVERS: u32 = 17;
/// The same with both.
pub const RMTLS_EVENT_TRUSTED_FOR_BOTH: u32 = 18;
/// The same with neither.
pub const RMTLS_EVENT_TRUSTED_FOR_OTHER: u32 = 19;
/// The same without an extendedKeyUsage.
pub const RMTLS_EVENT_TRUSTED_FOR_ANY: u32 = 20;
/// A certificate was written to the certificate spool.
pub const RMTLS_EVENT_SPOOL_WRITTEN: u32 = 21;
/// A certificate was in the certificate spool already.
pub const RMTLS_EVENT_SPOOL_PRESENT: u32 = 22;
/// A certificate was not written, because the certificate spool has reached its bounds.
pub const RMTLS_EVENT_SPOOL_FULL: u32 = 23;
/// A certificate was not written, because too many waited to be written or it is too large.
pub const RMTLS_EVENT_SPOOL_DROPPED: u32 = 24;
/// A certificate could not be written to the certificate spool.
pub const RMTLS_EVENT_SPOOL_FAILED: u32 = 25;
/// Number of events.
pub const RMTLS_EVENTS: usize = 26;

const _: () = assert!(RMTLS_EVENTS == metrics::EVENTS);

/// Writes how often each `RMTLS_EVENT_*` occurred on this thread since the last call. The constant
/// is the index in `out`.
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
