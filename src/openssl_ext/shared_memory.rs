//! Memory that a process shares with the processes that it forks: counters, and unnamed files.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// 64-bit words of a file in memory (`mmap`, `MAP_SHARED`), initially zero.
///
/// A process that is forked later shares the words, as does a process that maps the same file. They
/// exist until the last of these processes ends, and are never unmapped.
#[derive(Debug)]
pub struct SharedWords {
    words: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the words are atomic, and the mapping is never moved or unmapped.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Maps the first `len` words of a file, which is made longer if it is shorter.
    ///
    /// # Errors
    /// As `ftruncate` and `mmap`.
    pub fn map(file: &File, len: usize) -> io::Result<SharedWords> {
        let bytes = len
            .checked_mul(size_of::<AtomicU64>())
            .ok_or(io::ErrorKind::InvalidInput)?;
        if file.metadata()?.len() < bytes as u64 {
            file.set_len(bytes as u64)?;
        }
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory. The
        // file holds the whole mapping, and no code here makes it shorter.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let words = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(SharedWords { words, len })
    }

    /// The words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping holds `len` words, is aligned to a page, and is never unmapped. Any
        // bits are a valid AtomicU64, which may change under a shared reference.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.len) }
    }
}

/// Creates an unnamed file in memory (`memfd_create`). Only this process, the processes that it
/// forks, and processes that may read their `/proc/PID/fd` can open it. `name` is shown in
/// `/proc/PID/fd`.
///
/// # Errors
/// As `memfd_create`.
pub fn unnamed_file(name: &CStr) -> io::Result<File> {
    // SAFETY: `name` ends with NUL; the returned descriptor has no other owner.
    unsafe {
        let descriptor = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::from_raw_fd(descriptor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::Ordering;

    #[test]
    fn words_are_zero_initially_and_shared_by_mappings_of_one_file() {
        let file = unnamed_file(c"resty-mtls").unwrap();
        let shared = SharedWords::map(&file, 1000).unwrap();
        assert_eq!(shared.words().len(), 1000);
        assert!(shared
            .words()
            .iter()
            .all(|word| word.load(Ordering::Relaxed) == 0));
        shared.words()[999].store(7, Ordering::Release);
        assert_eq!(shared.words()[999].load(Ordering::Acquire), 7);
        let second = SharedWords::map(&file, 1000).unwrap();
        assert_eq!(second.words()[999].load(Ordering::Acquire), 7);
        assert!(SharedWords::map(&file, usize::MAX).is_err());
    }

    #[test]
    fn unnamed_file_returns_written_bytes() {
        let file = unnamed_file(c"resty-mtls").unwrap();
        file.write_all_at(b"policy", 3).unwrap();
        let mut bytes = [0; 6];
        file.read_exact_at(&mut bytes, 3).unwrap();
        assert_eq!(&bytes, b"policy");
    }
}
