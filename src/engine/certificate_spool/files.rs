//! The directory of the certificate spool: `SHA256.pem` for each certificate, as `resty-mtls replay
//! --certs` reads them.
//!
//! All workers, also those of other nginx, write under one lock, so that they exceed the bounds
//! neither together. What the files add up to is kept in a file of its own, because counting
//! thousands of files for each new one would take milliseconds.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use openssl::base64::encode_block;

use crate::engine::node::{check_directory, replace_file};
use crate::openssl_ext::{file_lock, user};
use crate::text::hex;

/// The file with the lock and the usage.
const USAGE_FILE: &str = ".usage";
/// Its length: certificates, bytes, and the mtime of the directory in seconds and nanoseconds.
const USAGE_LEN: usize = 32;
/// Longest wait for a process that writes.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// Length of a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

/// What the certificates in the directory add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolUsage {
    /// Number of files.
    pub certificates: u64,
    /// Their length together.
    pub bytes: u64,
}

/// What was done with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    New,
    /// There is a file of it, which stays as it is.
    Present,
    /// It would exceed the bound of this name.
    Full(&'static str),
}

/// The files of a spool.
pub(super) struct SpoolFiles {
    directory: PathBuf,
    max_certificates: u64,
    max_bytes: u64,
    /// Whether this process has counted the files once: the usage that an earlier one left may not
    /// include a change that was made in the moment in which it was written.
    is_counted: AtomicBool,
}

/// The files of a spool, while no other process writes.
pub(super) struct LockedSpool<'s> {
    files: &'s SpoolFiles,
    usage_file: File,
    usage: SpoolUsage,
    is_changed: bool,
}

/// A kind of file in the directory.
enum Kind {
    Certificate,
    /// A file that a process which ended was writing.
    Unfinished,
    Other,
}

impl Kind {
    fn of(name: &[u8]) -> Kind {
        let is_pem = |name: &[u8]| {
            let digest = name.strip_suffix(b".pem");
            digest.is_some_and(|digest| {
                let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                digest.len() == 64 && digest.iter().all(is_digit)
            })
        };
        let unfinished = name.strip_prefix(b".").and_then(|name| {
            name.strip_suffix(b".new")?
                .split(|byte| *byte == b'-')
                .next()
        });
        match unfinished {
            _ if is_pem(name) => Kind::Certificate,
            Some(name) if is_pem(name) => Kind::Unfinished,
            _ => Kind::Other,
        }
    }
}

impl SpoolFiles {
    /// The files in a directory, and what they add up to.
    ///
    /// # Errors
    /// When the directory cannot be used: it must exist, and no other user may use it.
    pub(super) fn new(
        directory: &Path,
        max_certificates: u64,
        max_bytes: u64,
    ) -> Result<(SpoolFiles, SpoolUsage), String> {
        check_directory(
            directory,
            "other users could read who the clients are, or write certificates of their own",
        )?;
        let files = SpoolFiles {
            directory: directory.to_owned(),
            max_certificates,
            max_bytes,
            is_counted: AtomicBool::new(false),
        };
        let usage = files.count(false);
        let usage = usage.map_err(|error| format!("'{}': {error}", directory.display()))?;
        Ok((files, usage))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The bound of this name.
    pub(super) fn bound(&self, name: &str) -> u64 {
        match name {
            "max_bytes" => self.max_bytes,
            _ => self.max_certificates,
        }
    }

    /// Counts the files, and with `clean_up` removes those that are not finished.
    fn count(&self, clean_up: bool) -> io::Result<SpoolUsage> {
        use std::os::unix::ffi::OsStrExt;
        let mut usage = SpoolUsage::default();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            match Kind::of(entry.file_name().as_bytes()) {
                // One that was removed meanwhile does not count.
                Kind::Certificate => {
                    if let Ok(metadata) = entry.metadata() {
                        usage.certificates += 1;
                        usage.bytes = usage.bytes.saturating_add(metadata.len());
                    }
                }
                Kind::Unfinished if clean_up => {
                    let _ = fs::remove_file(entry.path());
                }
                _ => {}
            }
        }
        Ok(usage)
    }

    /// The time of the last change in the directory.
    fn changed_at(&self) -> io::Result<(i64, i64)> {
        let metadata = fs::metadata(&self.directory)?;
        Ok((metadata.mtime(), metadata.mtime_nsec()))
    }

    /// The error, with the owner of what this process has no permission for.
    fn with_owner(&self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return error;
        }
        let uid = user::effective_uid();
        let owner = |path: &Path| fs::metadata(path).ok().map(|found| found.uid());
        let usage_file = self.directory.join(USAGE_FILE);
        let owners = [
            ("it", owner(&self.directory)),
            (USAGE_FILE, owner(&usage_file)),
        ];
        match owners
            .into_iter()
            .find(|(_, owner)| owner.is_some_and(|owner| owner != uid))
        {
            Some((what, Some(owner))) => io::Error::other(wrong_owner(&error, what, owner, uid)),
            _ => error,
        }
    }

    /// Waits until no other process writes.
    ///
    /// # Errors
    /// Those of the system calls, and when that takes too long.
    pub(super) fn lock(&self) -> io::Result<LockedSpool<'_>> {
        let usage_file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.directory.join(USAGE_FILE))
            .map_err(|error| self.with_owner(error))?;
        let since = Instant::now();
        while !file_lock::try_lock(&usage_file)? {
            if since.elapsed() > LOCK_WAIT {
                return Err(io::Error::other("another process writes for over a second"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut kept = [0; USAGE_LEN];
        let kept = match usage_file.read_exact_at(&mut kept, 0) {
            Ok(()) => decode(&kept),
            Err(_) => None,
        };
        let usage = match kept {
            Some((usage, at))
                if at == self.changed_at()? && self.is_counted.load(Ordering::Relaxed) =>
            {
                usage
            }
            _ => self.count(true)?,
        };
        self.is_counted.store(true, Ordering::Relaxed);
        Ok(LockedSpool {
            files: self,
            usage_file,
            usage,
            is_changed: false,
        })
    }
}

impl LockedSpool<'_> {
    /// Writes a certificate with its chain, leaf first, under the SHA-256 of the leaf's DER, unless
    /// there is a file of it.
    ///
    /// # Errors
    /// Those of the system calls.
    pub(super) fn write(&mut self, sha256: &[u8; 32], ders: &[Vec<u8>]) -> io::Result<Written> {
        let path = self.files.directory.join(format!("{}.pem", hex(sha256)));
        let is_empty = match fs::symlink_metadata(&path) {
            // A crash of the machine may have left an empty file.
            Ok(metadata) if metadata.len() == 0 => true,
            Ok(_) => return Ok(Written::Present),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        let text: String = ders.iter().map(|der| pem(der)).collect();
        let usage = SpoolUsage {
            certificates: self.usage.certificates + u64::from(!is_empty),
            bytes: self.usage.bytes.saturating_add(text.len() as u64),
        };
        if usage.certificates > self.files.max_certificates {
            return Ok(Written::Full("max_certificates"));
        }
        if usage.bytes > self.files.max_bytes {
            return Ok(Written::Full("max_bytes"));
        }
        if !self.is_changed {
            // If this process ends before `finish`, the next one counts the files.
            self.usage_file.write_all_at(&[0; USAGE_LEN], 0)?;
            self.is_changed = true;
        }
        replace_file(&self.files.directory, &path, &[text.as_bytes()], false)?;
        self.usage = usage;
        Ok(Written::New)
    }

    /// Keeps the usage for the next process that writes, and returns it.
    pub(super) fn finish(self) -> SpoolUsage {
        if let (true, Ok(at)) = (self.is_changed, self.files.changed_at()) {
            // If that fails, the next one counts the files.
            let _ = self.usage_file.write_all_at(&encode(self.usage, at), 0);
        }
        self.usage
    }
}

/// The text for `what` of another owner than the user of this process.
fn wrong_owner(error: &io::Error, what: &str, owner: u32, uid: u32) -> String {
    let (owner, own) = (user::shown(owner), user::shown(uid));
    format!("{error}: {what} belongs to {owner}, expected {own}, the user of the workers")
}

fn encode(usage: SpoolUsage, (seconds, nanoseconds): (i64, i64)) -> Vec<u8> {
    [
        usage.certificates.to_be_bytes(),
        usage.bytes.to_be_bytes(),
        seconds.to_be_bytes(),
        nanoseconds.to_be_bytes(),
    ]
    .concat()
}

fn decode(bytes: &[u8; USAGE_LEN]) -> Option<(SpoolUsage, (i64, i64))> {
    let mut rest = &bytes[..];
    let mut next = || {
        let (number, behind) = rest.split_first_chunk::<8>()?;
        rest = behind;
        Some(u64::from_be_bytes(*number))
    };
    let usage = SpoolUsage {
        certificates: next()?,
        bytes: next()?,
    };
    Some((usage, (next()? as i64, next()? as i64)))
}

/// The text of a certificate (RFC 7468).
fn pem(der: &[u8]) -> String {
    let base64 = encode_block(der);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(PEM_LINE));
        text += line;
        text += "\n";
        rest = behind;
    }
    text + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

    use super::*;
    use crate::testing;

    fn directory(name: &str) -> PathBuf {
        let name = format!("spool-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&directory);
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).create(&directory).unwrap();
        directory
    }

    fn files(directory: &Path, max_certificates: u64, max_bytes: u64) -> SpoolFiles {
        let files = SpoolFiles::new(directory, max_certificates, max_bytes);
        files.unwrap_or_else(|error| panic!("{error}")).0
    }

    fn write(files: &SpoolFiles, number: u8, len: usize) -> Written {
        let mut locked = files.lock().unwrap();
        let written = locked.write(&[number; 32], &[vec![number; len]]).unwrap();
        locked.finish();
        written
    }

    fn path(directory: &Path, number: u8) -> PathBuf {
        directory.join(format!("{}.pem", hex(&[number; 32])))
    }

    #[test]
    fn write_makes_a_private_file_as_openssl_writes_it_and_leaves_one_that_exists() {
        let directory = directory("write");
        let files = files(&directory, 10, 1 << 20);
        let ca = testing::issue("CA", None, true, 60, &[]);
        let leaf = testing::issue("leaf", Some(&ca), false, 60, &[]);
        let ders = [&leaf, &ca].map(|issued| issued.x509.to_der().unwrap());
        let mut locked = files.lock().unwrap();
        assert_eq!(locked.write(&[1; 32], &ders).unwrap(), Written::New);
        let usage = locked.finish();
        let path = path(&directory, 1);
        let expected = [leaf.x509.to_pem().unwrap(), ca.x509.to_pem().unwrap()].concat();
        assert_eq!(fs::read(&path).unwrap(), expected);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!((usage.certificates, usage.bytes), (1, metadata.len()));
        assert_eq!(write(&files, 1, 5), Written::Present);
        assert_eq!(fs::read(&path).unwrap(), expected);
        // As after a crash of the machine
        fs::write(&path, b"").unwrap();
        assert_eq!(write(&files, 1, 5), Written::New);
        assert_eq!(files.lock().unwrap().usage.certificates, 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn write_over_a_bound_writes_nothing_for_all_processes_and_restarts() {
        let directory = directory("bounds");
        let first = files(&directory, 2, 1000);
        assert_eq!(write(&first, 1, 30), Written::New);
        let second = files(&directory, 2, 1000);
        assert_eq!(write(&second, 2, 2000), Written::Full("max_bytes"));
        assert_eq!(write(&second, 2, 30), Written::New);
        assert_eq!(write(&first, 3, 30), Written::Full("max_certificates"));
        let (restarted, usage) = SpoolFiles::new(&directory, 2, 1000).ok().unwrap();
        assert_eq!(usage, first.lock().unwrap().usage);
        assert_eq!(usage.certificates, 2);
        assert_eq!(write(&restarted, 3, 30), Written::Full("max_certificates"));
        assert_eq!(write(&restarted, 2, 30), Written::Present);
        assert!(!path(&directory, 3).exists());
        // What the operator removes makes room.
        std::thread::sleep(Duration::from_millis(20));
        fs::remove_file(path(&directory, 1)).unwrap();
        assert_eq!(write(&first, 3, 30), Written::New);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn lock_counts_again_what_a_process_that_died_has_written_and_removes_what_it_left() {
        let directory = directory("died");
        let files = files(&directory, 10, 1 << 20);
        assert_eq!(write(&files, 1, 30), Written::New);
        let mut died = files.lock().unwrap();
        died.write(&[2; 32], &[vec![2; 30]]).unwrap();
        drop(died);
        let unfinished = directory.join(format!(".{}.pem-77-0.new", hex(&[3; 32])));
        fs::write(&unfinished, b"x").unwrap();
        fs::write(directory.join("README.pem"), b"x").unwrap();
        let locked = files.lock().unwrap();
        assert_eq!(locked.usage.certificates, 2);
        assert!(!unfinished.exists());
        assert!(files.lock().is_err());
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(files.lock().err().unwrap().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn wrong_owner_names_both_users() {
        let error = io::Error::from_raw_os_error(libc::EACCES);
        assert_eq!(
            wrong_owner(&error, "it", u32::MAX - 7, 0),
            "Permission denied (os error 13): it belongs to uid 4294967288, expected root (uid 0), \
             the user of the workers"
        );
    }

    #[test]
    fn new_refuses_a_directory_that_others_may_use_or_that_is_none() {
        let directory = directory("mode");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o750)).unwrap();
        let shown = directory.display();
        assert_eq!(
            SpoolFiles::new(&directory, 1, 1).err().unwrap(),
            format!(
                "'{shown}' has mode 0750, expected 0700: other users could read who the clients \
                 are, or write certificates of their own"
            )
        );
        let none = directory.join("none");
        assert_eq!(
            SpoolFiles::new(&none, 1, 1).err().unwrap(),
            format!("'{shown}/none': No such file or directory (os error 2)")
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
