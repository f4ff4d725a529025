//! The files that a policy names: CRLs and certificates.

use std::path::{Path as FilePath, PathBuf};

use crate::policy::{memory_limit, Files};

/// The path of a file that the policy names. `directory` is that of the policy file.
pub(super) fn resolve(directory: Option<&FilePath>, file: &str) -> Result<PathBuf, String> {
    let file = FilePath::new(file);
    match directory {
        Some(directory) => Ok(directory.join(file)),
        None if file.is_absolute() => Ok(file.to_owned()),
        None => Err(
            "a relative path in a policy that is not a file, expected an absolute path".to_owned(),
        ),
    }
}

/// Reads a file of at most `max` bytes, or one byte more of a longer one. `weight` is how many bytes
/// of memory its content takes at most for each of its own.
pub(super) fn read(
    files: &mut Files,
    path: &FilePath,
    max: usize,
    weight: u64,
) -> Result<Vec<u8>, String> {
    let bytes = files
        .read(path, max)
        .map_err(|error| format!("cannot be read: {error}"))?;
    files
        .check_memory(memory_limit::estimate_for_file(bytes.len() as u64, weight))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}
