//! What a thread inside an nginx worker must see to.

use std::io;
use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// As much as the main thread of a process usually has.
const STACK: usize = 8 << 20;

/// Starts a thread that takes none of the process's signals: nginx's handlers expect the event
/// loop around them. Faults of the thread itself stay as loud as ever. It is as important as the
/// event loop, which waits longest for a thread that has a lock of malloc and no core.
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
    // A thread starts with the mask of the one that starts it.
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

/// Gives free memory of all heaps back to the system. Each is locked meanwhile: first and shortly
/// that of the event loop, then that of this thread, which may take long.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes and leaves malloc's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The same beside an event loop. A thread that has slept gets a whole time slice: within it,
/// nobody takes the core away while the event loop waits for the first lock.
pub fn release_memory_after_a_pause() {
    std::thread::sleep(Duration::from_millis(20));
    release_memory();
}
