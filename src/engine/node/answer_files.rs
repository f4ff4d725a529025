//! Signed answers about revocation in the state directory: they outlive a restart, and large ones
//! have no room in a shared dictionary.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use openssl::sha::sha256;

use super::state_file::{read_file, replace_file};

/// A file is this, the SHA-256 of the answer, and the answer.
const MAGIC: &[u8; 16] = b"resty-mtls ans 1";
/// Largest answer, in bytes.
const MAX_ANSWER: usize = 256 << 20;
/// Most bytes of all answers together.
const MAX_BYTES: u64 = 1 << 30;
/// Most files.
const MAX_FILES: usize = 4096;
/// Longest key.
const MAX_KEY: usize = 64;

/// The files of answers in a directory.
pub struct AnswerFiles<'d> {
    directory: &'d Path,
}

/// One file, in the order in which files are removed: good answers before evidence of revocations,
/// and the oldest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    is_evidence: bool,
    modified: SystemTime,
    path: PathBuf,
    size: u64,
}

impl<'d> AnswerFiles<'d> {
    /// The files in the state directory.
    pub fn new(directory: &'d Path) -> AnswerFiles<'d> {
        AnswerFiles { directory }
    }

    fn path(&self, key: &str, is_evidence: bool) -> io::Result<PathBuf> {
        let is_name = key.bytes().all(|b| b.is_ascii_hexdigit());
        if key.is_empty() || key.len() > MAX_KEY || !is_name {
            let why = "the key of an answer must be hexadecimal digits";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let kind = if is_evidence { "evidence" } else { "answer" };
        Ok(self.directory.join(format!("{kind}-{key}.state")))
    }

    /// Writes an answer in place of an earlier one, and removes other files for it over the bounds.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn write(&self, key: &str, answer: &[u8], is_evidence: bool) -> io::Result<()> {
        let file = self.path(key, is_evidence)?;
        if answer.len() > MAX_ANSWER {
            return Err(io::Error::other("the answer is too large"));
        }
        self.make_room(answer.len() as u64, &file)?;
        let parts: [&[u8]; 3] = [MAGIC, &sha256(answer), answer];
        replace_file(self.directory, &file, &parts, false)?;
        match fs::remove_file(self.path(key, !is_evidence)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn read(&self, key: &str) -> io::Result<Vec<u8>> {
        let read = |is_evidence| read_file(&self.path(key, is_evidence)?, MAGIC, MAX_ANSWER);
        read(true).or_else(|_| read(false))
    }

    fn make_room(&self, size: u64, replaced: &Path) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_evidence = name.starts_with("evidence-");
            let is_answer = is_evidence || name.starts_with("answer-");
            if !is_answer || !name.ends_with(".state") || entry.path() == replaced {
                continue;
            }
            // Another worker may have removed it.
            let Ok(found) = entry.metadata() else {
                continue;
            };
            entries.push(Entry {
                is_evidence,
                modified: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                path: entry.path(),
                size: found.len(),
            });
        }
        let mut bytes: u64 = entries.iter().map(|entry| entry.size).sum();
        let mut files = entries.len();
        entries.sort();
        for entry in entries {
            if files < MAX_FILES && bytes.saturating_add(size) <= MAX_BYTES {
                break;
            }
            let _ = fs::remove_file(&entry.path);
            bytes = bytes.saturating_sub(entry.size);
            files -= 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        directory
    }

    #[test]
    fn read_returns_what_was_written_last_and_nothing_that_is_damaged() {
        let directory = directory("answers");
        let files = AnswerFiles::new(&directory);
        assert!(files.read("ab12").is_err());
        files.write("ab12", b"good", false).unwrap();
        files.write("ab12", b"revoked", true).unwrap();
        assert_eq!(files.read("ab12").unwrap(), b"revoked");
        files.write("ab12", b"good again", false).unwrap();
        assert_eq!(files.read("ab12").unwrap(), b"good again");
        let file = directory.join("answer-ab12.state");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(files.read("ab12").is_err());
        for key in ["", "../ab", "ab.12", &"a".repeat(65)] {
            assert!(files.write(key, b"x", false).is_err(), "{key}");
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn write_over_the_bound_removes_good_answers_first_and_the_oldest_of_them() {
        let directory = directory("answers-bound");
        let files = AnswerFiles::new(&directory);
        files.write("e0", b"evidence", true).unwrap();
        for number in 0..MAX_FILES {
            files
                .write(&format!("{number:08x}"), b"good", false)
                .unwrap();
        }
        let count = fs::read_dir(&directory).unwrap().count();
        assert_eq!(count, MAX_FILES);
        assert!(files.read("e0").is_ok());
        assert!(files.read("00000000").is_err());
        let newest = format!("{:08x}", MAX_FILES - 1);
        assert!(files.read(&newest).is_ok());
        fs::remove_dir_all(directory).unwrap();
    }
}
