//! A lock in shared memory.

use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for another process that writes.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Excludes other writers of what the lock belongs to, until it is dropped. The word has the id of
/// the process that holds the lock.
pub(super) struct Lock<'w> {
    word: &'w AtomicU64,
}

impl Lock<'_> {
    /// Waits for the lock. It is taken from a process that died with it, and from one that has held
    /// it for seconds, whose version then does not match its digest.
    pub(super) fn take(word: &AtomicU64) -> Lock<'_> {
        let this = u64::from(process::id());
        let since = Instant::now();
        loop {
            let Err(holder) = word.compare_exchange(0, this, Ordering::AcqRel, Ordering::Acquire)
            else {
                return Lock { word };
            };
            // Two threads of one process, as in tests, exclude each other by the wait alone.
            let lost = holder != this && !is_alive(holder) || since.elapsed() > LOCK_WAIT;
            if lost
                && word
                    .compare_exchange(holder, this, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
            {
                return Lock { word };
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let this = u64::from(process::id());
        let _ = self
            .word
            .compare_exchange(this, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

pub(super) fn is_alive(process: u64) -> bool {
    Path::new(&format!("/proc/{process}")).exists() || !Path::new("/proc/self").exists()
}
