//! Files and directories of certificates that the policy names.

use std::fmt;
use std::path::{Path as FilePath, PathBuf};

use openssl::x509::X509;

use super::policy_files;
use crate::certificate::bundle;
use crate::policy::memory_limit::CERTIFICATE_WEIGHT;
use crate::policy::report::Report;
use crate::policy::Files;
use crate::text::quoted;

/// Extensions of the files of a directory that are read.
pub(super) const EXTENSIONS: &[&str] = &[".pem", ".crt", ".cer", ".cert", ".der", ".p7b", ".p7c"];

/// A certificate of a file.
pub(super) struct FileCertificate<'f> {
    pub position: FilePosition<'f>,
    pub x509: X509,
}

/// The place of a certificate in a file, as in an error.
#[derive(Clone, Copy)]
pub(super) struct FilePosition<'f> {
    file: &'f FilePath,
    line: usize,
}

impl fmt::Display for FilePosition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", quoted(self.file.to_string_lossy().as_bytes()))?;
        match self.line {
            0 => Ok(()),
            line => write!(f, ", line {line}"),
        }
    }
}

/// What is done with each certificate; the error says why it is not taken.
pub(super) type Each<'e> =
    &'e mut dyn FnMut(FileCertificate<'_>, &mut Report) -> Result<(), String>;

/// Reads the certificates of a file. `directory` is that of the policy file.
///
/// # Errors
/// The file and the line that is wrong.
pub(super) fn read_file(
    directory: Option<&FilePath>,
    file: &str,
    files: &mut Files,
    report: &mut Report,
    each: Each<'_>,
) -> Result<Vec<PathBuf>, String> {
    let shown = FilePath::new(file);
    let path = policy_files::resolve(directory, file);
    let path = path.map_err(|error| format!("'{}': {error}", quoted(file.as_bytes())))?;
    read(shown, &path, files, report, each)?;
    Ok(Vec::new())
}

/// Reads the certificates of all files of a directory whose names have one of [`EXTENSIONS`], in
/// the order of their names. Returns the other files, without the links that OpenSSL's `rehash`
/// makes.
///
/// # Errors
/// As [`read_file`], and if the directory has no file of certificates.
pub(super) fn read_directory(
    directory: Option<&FilePath>,
    text: &str,
    files: &mut Files,
    report: &mut Report,
    each: Each<'_>,
) -> Result<Vec<PathBuf>, String> {
    let error = |error: String| format!("'{}': {error}", quoted(text.as_bytes()));
    let path = policy_files::resolve(directory, text).map_err(error)?;
    let names = files.list(&path);
    let names = names.map_err(|why| error(format!("cannot be read: {why}")))?;
    let (mut ignored, mut count) = (Vec::new(), 0);
    for name in names {
        let shown = FilePath::new(text).join(&name);
        let lower = name.to_string_lossy().to_ascii_lowercase();
        if EXTENSIONS.iter().any(|end| lower.ends_with(end)) {
            read(&shown, &path.join(&name), files, report, each)?;
            count += 1;
        } else if !is_hash_link(&lower) {
            ignored.push(shown);
        }
    }
    if count == 0 {
        let expected = EXTENSIONS.join(", ");
        return Err(error(format!(
            "has no file of certificates, expected one whose name ends with one of {expected}"
        )));
    }
    Ok(ignored)
}

/// Whether a name is that of a link to a file of a directory for OpenSSL, `HASH.0` or `HASH.r0`.
fn is_hash_link(name: &str) -> bool {
    let Some((hash, number)) = name.split_once('.') else {
        return false;
    };
    let number = number.strip_prefix('r').unwrap_or(number);
    hash.len() == 8
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn read(
    shown: &FilePath,
    path: &FilePath,
    files: &mut Files,
    report: &mut Report,
    each: Each<'_>,
) -> Result<(), String> {
    let at = |line| FilePosition { file: shown, line };
    let bytes = policy_files::read(files, path, bundle::MAX_FILE, CERTIFICATE_WEIGHT);
    let entries = bytes.and_then(|bytes| bundle::read(&bytes));
    let entries = entries.map_err(|error| match error.starts_with("line ") {
        true => format!("{}, {error}", at(0)),
        false => format!("{}: {error}", at(0)),
    })?;
    for entry in entries {
        let position = at(entry.line);
        let certificate = FileCertificate {
            position,
            x509: entry.x509,
        };
        each(certificate, report).map_err(|error| format!("{position}: {error}"))?;
    }
    Ok(())
}
