//! Memory that a process shares with the processes forked from it: counters, and files without a name.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// 64-bit words of a file in memory (`mmap`, `MAP_SHARED`), zero at first. A process forked later sees the
/// same words, as does one that maps the same file, and they live until the last of these processes ends.
/// Never unmapped.
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
    /// Maps the first `len` words of a file, which it is made to hold.
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
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory. The file is
        // one in memory that holds all of it and that nothing here makes shorter.
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
        // SAFETY: the mapping holds `len` words, is aligned to a page, and is never unmapped. Any bits
        // are a valid AtomicU64, which may change under a shared reference.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.len) }
    }
}

/// Makes a file in memory without a name (`memfd_create`), which only this process, those forked from it
/// and those that may look into `/proc/PID/fd` of one of them can open. `name` is shown in `/proc/PID/fd`.
///
/// # Errors
/// As `memfd_create`.
pub fn unnamed_file(name: &CStr) -> io::Result<File> {
    // SAFETY: `name` ends with NUL; the descriptor that comes back belongs to nobody else.
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
    fn words_are_zero_at_first_and_hold_what_is_stored() {
        let file = unnamed_file(c"resty-mtls").unwrap();
        let shared = SharedWords::map(&file, 1000).unwrap();
        assert_eq!(shared.words().len(), 1000);
        assert!(shared
            .words()
            .iter()
            .all(|word| word.load(Ordering::Relaxed) == 0));
        shared.words()[999].store(7, Ordering::Release);
        assert_eq!(shared.words()[999].load(Ordering::Acquire), 7);
        let again = SharedWords::map(&file, 1000).unwrap();
        assert_eq!(again.words()[999].load(Ordering::Acquire), 7);
        assert!(SharedWords::map(&file, usize::MAX).is_err());
    }

    #[test]
    fn unnamed_file_holds_what_is_written() {
        let file = unnamed_file(c"resty-mtls").unwrap();
        file.write_all_at(b"policy", 3).unwrap();
        let mut bytes = [0; 6];
        file.read_exact_at(&mut bytes, 3).unwrap();
        assert_eq!(&bytes, b"policy");
    }
}
