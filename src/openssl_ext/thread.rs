//! Threads inside an nginx worker, and its memory.

use std::io;
use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Stack size in bytes, that of the main thread of most processes.
const STACK: usize = 8 << 20;

/// Starts a thread that blocks all signals, because nginx's handlers must run in the event loop.
/// The signals of faults, such as SIGSEGV, stay unblocked.
///
/// The thread keeps the scheduling priority of the event loop: with a lower one it could lose its
/// core while it holds a lock of malloc, and the event loop would wait for it.
///
/// # Errors
/// As [`Builder::spawn`].
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let mut blocked = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: the calls fill the sets they are given, and only sets that are filled are read. The
    // mask is this thread's own.
    unsafe {
        libc::sigfillset(blocked.as_mut_ptr());
        for fault in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGABRT,
        ] {
            libc::sigdelset(blocked.as_mut_ptr(), fault);
        }
        let error = libc::pthread_sigmask(libc::SIG_SETMASK, blocked.as_ptr(), before.as_mut_ptr());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
    }
    // A new thread inherits the mask of its creator.
    let thread = Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(body);
    // SAFETY: `before` was filled above.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
    }
    thread
}

/// Returns free memory of all malloc arenas to the system (`malloc_trim`). Each arena is locked
/// meanwhile: first and briefly that of the event loop, then that of this thread, which may take
/// long.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes and releases malloc's own locks only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// [`release_memory`] after a short sleep. A thread that has slept gets a whole time slice, so it
/// keeps its core while the event loop waits for the lock of the first arena.
pub fn release_memory_after_a_pause() {
    std::thread::sleep(Duration::from_millis(20));
    release_memory();
}
