//! What a thread inside an nginx worker must see to.

use std::io;
use std::mem::MaybeUninit;
use std::thread::{Builder, JoinHandle};

/// As much as the main thread of a process usually has.
const STACK: usize = 8 << 20;

/// How far the thread steps back behind nginx's own, which answers requests (`nice`).
const NICE: libc::c_int = 5;

/// Starts a thread that takes none of the process's signals: nginx's handlers expect the event
/// loop around them. Faults of the thread itself stay as loud as ever.
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
        .spawn(move || {
            step_back();
            body();
        });
    // SAFETY: `before` was filled above.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
    }
    thread
}

/// On Linux a thread has a nice value of its own.
fn step_back() {
    #[cfg(target_os = "linux")]
    // SAFETY: concerns the calling thread only. A failure costs nothing but the courtesy.
    unsafe {
        let this = libc::syscall(libc::SYS_gettid) as libc::id_t;
        libc::setpriority(
            libc::PRIO_PROCESS,
            this,
            libc::getpriority(libc::PRIO_PROCESS, this) + NICE,
        );
    }
}

/// Gives free memory of the heap back to the system.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes and leaves malloc's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
