//! The paths of files in a policy of several files: each is relative to the directory of its file.

use std::cell::{Cell, OnceCell};
use std::path::{Path as FilePath, PathBuf};

use super::DocumentReader;
use crate::policy::report::{Path, Position};

/// Most relative paths in files of several directories.
const MAX_PATHS: usize = 10_000;

/// The directories of the files, and the paths that were joined with them.
#[derive(Default)]
pub(in crate::policy) struct FilePaths {
    /// One for each file; none if all files are in one directory, or there is no file.
    directories: Vec<PathBuf>,
    joined: Box<[OnceCell<Box<str>>]>,
    used: Cell<usize>,
}

impl FilePaths {
    /// For files of several directories, one for each file.
    pub fn of_several(directories: Vec<PathBuf>) -> FilePaths {
        FilePaths {
            directories,
            joined: (0..MAX_PATHS).map(|_| OnceCell::new()).collect(),
            used: Cell::new(0),
        }
    }

    fn join(&self, file: usize, path: &str) -> Result<Option<&str>, String> {
        let Some(directory) = self.directories.get(file) else {
            return Ok(None);
        };
        if path.is_empty() || FilePath::new(path).is_absolute() {
            return Ok(None);
        }
        let joined = directory.join(path).into_os_string().into_string();
        let joined = joined.map_err(|_| {
            "a relative path, and the directory of the file is not UTF-8; expected an absolute path"
                .to_owned()
        })?;
        let slot = self.joined.get(self.used.get()).ok_or_else(|| {
            format!(
                "over {MAX_PATHS} relative paths in files of several directories, expected absolute ones"
            )
        })?;
        self.used.set(self.used.get() + 1);
        Ok(Some(slot.get_or_init(|| joined.into())))
    }
}

impl<'t> DocumentReader<'t, '_> {
    /// The path of a file that the present file of the policy names.
    pub(super) fn file_path(&mut self, text: &'t str, place: Position, path: &Path<'_>) -> &'t str {
        match self.file_paths.join(self.present_file, text) {
            Ok(joined) => joined.unwrap_or(text),
            Err(message) => {
                self.report.error(place, path, message);
                text
            }
        }
    }
}
