//! Files of the state directory, which outlive a restart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use openssl::sha::sha256;

use super::answer_files::AnswerFiles;
use super::blocks::BlocksFile;
use super::{Documents, Node, MAX_KEPT};
use crate::text::hex;

/// A file with documents is this, the SHA-256 of the documents, and the documents.
const MAGIC: &[u8; 16] = b"resty-mtls doc 1";

/// Number of files that this process has replaced.
static REPLACEMENTS: AtomicU64 = AtomicU64::new(0);

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Replaces a file by one with these parts, mode 0600, by renaming a complete file. With `sync` it is
/// flushed to the disk first.
pub(in crate::engine) fn replace_file(
    directory: &Path,
    file: &Path,
    parts: &[&[u8]],
    sync: bool,
) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let kind = name.split('-').next().unwrap_or_default();
    // Threads of one process may write at the same time.
    let number = REPLACEMENTS.fetch_add(1, Ordering::Relaxed);
    let new = directory.join(format!(".{kind}-{}-{number}.new", process::id()));
    let written = (|| {
        let _ = fs::remove_file(&new);
        let mut opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        for part in parts {
            opened.write_all(part)?;
        }
        if sync {
            opened.sync_all()?;
        }
        fs::rename(&new, file)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Reads what follows `magic` and a SHA-256 of it, at most `max` bytes.
pub(super) fn read_file(file: &Path, magic: &[u8; 16], max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?
        .take((max + 48) as u64 + 1)
        .read_to_end(&mut bytes)?;
    let (digest, content) = bytes
        .strip_prefix(magic)
        .and_then(|rest| rest.split_first_chunk::<32>())
        .ok_or_else(|| invalid("is not a state file"))?;
    if sha256(content) != *digest {
        return Err(invalid(
            "does not have the digest that it had when it was written",
        ));
    }
    Ok(content.to_vec())
}

/// Checks that a directory exists and that no other user may use it. `why_private` says in an error
/// what another user could do.
pub(in crate::engine) fn check_directory(
    directory: &Path,
    why_private: &str,
) -> Result<(), String> {
    let shown = directory.display();
    let found = fs::metadata(directory).map_err(|error| format!("'{shown}': {error}"))?;
    if !found.is_dir() {
        return Err(format!("'{shown}' is not a directory"));
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "'{shown}' has mode {mode:04o}, expected 0700: {why_private}"
        ));
    }
    Ok(())
}

/// The file in the state directory that keeps the documents of a policy over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile {
    directory: PathBuf,
    file: PathBuf,
}

impl StateFile {
    /// The file for the policy that is read from `source`, a path or a label.
    ///
    /// # Errors
    /// When the directory cannot be used: it must exist, and no other user may write to it.
    pub fn new(directory: &Path, source: &[u8]) -> Result<StateFile, String> {
        check_directory(
            directory,
            "a user who can write there can replace the policy",
        )?;
        let name = hex(&sha256(source)[..8]);
        Ok(StateFile {
            directory: directory.to_owned(),
            file: directory.join(format!("policy-{name}.state")),
        })
    }

    /// Writes the documents, mode 0600, by renaming a complete file. If that fails, the previous
    /// documents are removed: they are older than those in force, and no start may go back to them.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn write(&self, documents: &Documents) -> io::Result<()> {
        let bytes = documents.encode();
        let Err(error) = self.write_new(&bytes) else {
            return Ok(());
        };
        match fs::remove_file(&self.file) {
            // The removal may have made the space that was missing.
            Ok(()) => self.write_new(&bytes),
            Err(removal) if removal.kind() == io::ErrorKind::NotFound => Err(error),
            Err(removal) => Err(io::Error::new(
                error.kind(),
                format!("{error}; it holds an older policy, which cannot be removed: {removal}"),
            )),
        }
    }

    /// Writes the documents in force on `node`, again if another worker puts newer ones in force
    /// meanwhile: it may have written those before this one wrote older ones.
    ///
    /// # Errors
    /// As [`StateFile::write`].
    pub fn write_in_force(&self, node: &Node) -> io::Result<()> {
        loop {
            let Some((documents, epoch, _)) = node.documents() else {
                return Err(io::Error::other("the documents in force are not kept"));
            };
            let written = self.write(&documents);
            if written.is_err() || node.epoch() == epoch {
                return written;
            }
        }
    }

    fn write_new(&self, bytes: &[u8]) -> io::Result<()> {
        replace_file(
            &self.directory,
            &self.file,
            &[MAGIC, &sha256(bytes), bytes],
            true,
        )
    }

    /// Reads the documents.
    ///
    /// # Errors
    /// When there are none, or they are damaged.
    pub fn read(&self) -> io::Result<Documents> {
        let content = read_file(&self.file, MAGIC, MAX_KEPT)?;
        Documents::decode(&content).ok_or_else(|| invalid("is not a state file"))
    }

    /// The file beside it that keeps the blocks.
    pub fn blocks(&self) -> BlocksFile {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let name = name.replacen("policy-", "blocks-", 1);
        BlocksFile {
            file: self.directory.join(name),
            directory: self.directory.clone(),
        }
    }

    /// The files beside it that keep signed answers.
    pub fn answers(&self) -> AnswerFiles<'_> {
        AnswerFiles::new(&self.directory)
    }

    /// The state directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Replaces another file of the state directory, mode 0600, by renaming a complete one.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn replace(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        replace_file(&self.directory, file, &[bytes], false)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.file
    }
}
