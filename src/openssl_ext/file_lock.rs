//! Exclusive locks of files, which processes of different nginx share.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Tries to lock an open file (`flock`), without waiting. The lock ends when the file is closed, also
/// by the end of the process.
///
/// Returns `false` when another opening of the file has the lock.
///
/// # Errors
/// As `flock`.
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: the descriptor is open as long as `file` lives, and the call touches no memory.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn try_lock_excludes_other_openings_until_the_file_is_closed() {
        let path = std::env::temp_dir().join(format!("file-lock-{}", std::process::id()));
        let first = File::create(&path).unwrap();
        let second = File::open(&path).unwrap();
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        drop(first);
        assert!(try_lock(&second).unwrap());
        std::fs::remove_file(path).unwrap();
    }
}
