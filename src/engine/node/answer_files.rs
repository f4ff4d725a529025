//! Signed answers about revocation in the state directory: they outlive a restart, and large ones
//! have no room in a shared dictionary.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use openssl::sha::Sha256;

use super::state_file::{read_file, replace_file};

/// A file is this, the SHA-256 of the answer, and the answer.
const MAGIC: &[u8; 16] = b"resty-mtls ans 1";
/// Largest answer, in bytes.
const MAX_ANSWER: usize = 256 << 20;
/// Most bytes of all answers together.
const MAX_BYTES: u64 = 1 << 30;
/// Most files.
const MAX_FILES: usize = 4096;
/// The bounds are checked at one of so many writes of each process, and where an answer has so many
/// bytes: thousands of files are looked at then.
const CHECK_EVERY: u64 = 16;
const CHECKED_LEN: usize = 1 << 20;
/// Longest key.
const MAX_KEY: usize = 64;
/// Digits at the beginning of a key that identify the CA.
const CA_DIGITS: usize = 16;

/// Number of answers that this process has written.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// The files of answers in a directory.
pub struct AnswerFiles<'d> {
    directory: &'d Path,
    max_files: usize,
}

/// One file. Good answers are removed before evidence of revocations, and the oldest ones first.
struct Entry {
    /// The CA of evidence.
    ca: Option<String>,
    modified: SystemTime,
    path: PathBuf,
    size: u64,
}

/// Number and bytes of the files of a CA.
type Usage = (usize, u64);

impl<'d> AnswerFiles<'d> {
    /// The files in the state directory.
    pub fn new(directory: &'d Path) -> AnswerFiles<'d> {
        AnswerFiles {
            directory,
            max_files: MAX_FILES,
        }
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

    /// Writes the parts of an answer in place of an earlier one, and removes other files for it over
    /// the bounds. The key begins with digits of the CA: of evidence, the files of that CA are removed
    /// which has most of what is over the bound.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn write(&self, key: &str, answer: &[&[u8]], is_evidence: bool) -> io::Result<()> {
        let file = self.path(key, is_evidence)?;
        let len: usize = answer.iter().map(|part| part.len()).sum();
        if len > MAX_ANSWER {
            return Err(io::Error::other("the answer is too large"));
        }
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        if number % CHECK_EVERY == 0 || len > CHECKED_LEN {
            self.make_room(len as u64, &file)?;
        }
        let mut digest = Sha256::new();
        answer.iter().for_each(|part| digest.update(part));
        let digest = digest.finish();
        let parts = [&[MAGIC, &digest[..]], answer].concat();
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

    /// Length of the file of an answer; `None` without one.
    pub fn len(&self, key: &str) -> Option<u64> {
        let len = |is_evidence| Some(fs::metadata(self.path(key, is_evidence).ok()?).ok()?.len());
        len(true).or_else(|| len(false))
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
            let ca = name
                .strip_prefix("evidence-")
                .map(|key| key.chars().take(CA_DIGITS).collect());
            entries.push(Entry {
                ca,
                modified: found.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                path: entry.path(),
                size: found.len(),
            });
        }
        let mut bytes: u64 = entries.iter().map(|entry| entry.size).sum();
        let mut files = entries.len();
        let is_full = |files: usize, bytes: u64| {
            files >= self.max_files || bytes.saturating_add(size) > MAX_BYTES
        };
        if !is_full(files, bytes) {
            return Ok(());
        }
        // The oldest one is the last.
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.modified));
        let mut usages: HashMap<Option<String>, (Usage, Vec<Entry>)> = HashMap::new();
        for entry in entries {
            let (usage, of_ca) = usages.entry(entry.ca.clone()).or_default();
            *usage = (usage.0 + 1, usage.1.saturating_add(entry.size));
            of_ca.push(entry);
        }
        let mut good = usages.remove(&None).unwrap_or_default().1;
        while is_full(files, bytes) {
            let entry = good.pop().or_else(|| {
                let by_number = files >= self.max_files;
                let (usage, of_ca) =
                    usages
                        .values_mut()
                        .max_by_key(|(usage, _)| match by_number {
                            true => usage.0 as u64,
                            false => usage.1,
                        })?;
                let entry = of_ca.pop()?;
                *usage = (usage.0 - 1, usage.1.saturating_sub(entry.size));
                Some(entry)
            });
            let Some(entry) = entry else {
                break;
            };
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
        files.write("ab12", &[b"go", b"od"], false).unwrap();
        files.write("ab12", &[b"revoked"], true).unwrap();
        assert_eq!(files.read("ab12").unwrap(), b"revoked");
        files.write("ab12", &[b"good again"], false).unwrap();
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
            assert!(files.write(key, &[b"x"], false).is_err(), "{key}");
        }
        fs::remove_dir_all(directory).unwrap();
    }

    const BOUND: usize = 64;

    fn bounded(directory: &Path) -> AnswerFiles<'_> {
        AnswerFiles {
            directory,
            max_files: BOUND,
        }
    }

    fn is_within_bounds(directory: &Path) -> bool {
        let count = fs::read_dir(directory).unwrap().count();
        // Tests beside this one write too.
        (BOUND / 2..BOUND + 4 * CHECK_EVERY as usize).contains(&count)
    }

    #[test]
    fn write_over_the_bound_removes_good_answers_first_and_the_oldest_of_them() {
        let directory = directory("answers-bound");
        let files = bounded(&directory);
        files.write("e0", &[b"evidence"], true).unwrap();
        for number in 0..500 {
            let key = format!("{number:08x}");
            files.write(&key, &[b"good"], false).unwrap();
        }
        assert!(is_within_bounds(&directory));
        assert!(files.read("e0").is_ok());
        assert!(files.read("00000000").is_err());
        assert!(files.read(&format!("{:08x}", 499)).is_ok());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn write_over_the_bound_removes_evidence_of_the_ca_that_has_most() {
        let directory = directory("answers-of-cas");
        let files = bounded(&directory);
        let key = |ca: u64, number: usize| format!("{ca:016x}{number:08x}");
        let write = |ca, number| {
            let key = key(ca, number);
            files.write(&key, &[b"revoked"], true).unwrap();
        };
        write(1, 0);
        (0..500).for_each(|number| write(2, number));
        write(3, 0);
        assert!(is_within_bounds(&directory));
        assert!(files.read(&key(1, 0)).is_ok() && files.read(&key(3, 0)).is_ok());
        assert!(files.read(&key(2, 0)).is_err() && files.read(&key(2, 499)).is_ok());
        assert_eq!(files.len(&key(4, 0)), None);
        fs::remove_dir_all(directory).unwrap();
    }
}
