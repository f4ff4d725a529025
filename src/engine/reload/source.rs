//! Where a policy is from: a file or a text, and its documents.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::node::{short_digest, Documents};
use crate::policy::{split_list, Diagnostic, FileName, Files, Policy};
use crate::text::quoted;
use crate::Error;

/// Free memory is returned to the system after a policy of more bytes than this.
const LARGE_POLICY: usize = 1 << 20;

/// The source of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicySource {
    /// A file.
    File(PathBuf),
    /// A document that the caller passes as text.
    Text {
        /// YAML or JSON.
        text: Arc<[u8]>,
        /// Used in place of a file name in messages.
        label: String,
    },
}

impl PolicySource {
    pub(super) fn compile(&self, files: &mut Files) -> Result<Policy, Error> {
        let policy = match self {
            PolicySource::File(path) => Policy::from_file_with(path, files),
            PolicySource::Text { text, label } => Policy::from_yaml_with(text, label, files),
        };
        policy.map_err(policy_error)
    }

    /// A key for the present content of a document that is large enough for its compilation to end
    /// a worker; `None` for a small one.
    pub(super) fn attempt_key(&self) -> Option<u64> {
        match self {
            PolicySource::File(path) => {
                use std::os::unix::fs::MetadataExt;
                let found = std::fs::metadata(path).ok()?;
                let state = (found.len(), found.ino(), found.mtime(), found.mtime_nsec());
                (found.len() > LARGE_POLICY as u64)
                    .then(|| short_digest(format!("{} {state:?}", path.display()).as_bytes()))
            }
            PolicySource::Text { text, .. } => {
                (text.len() > LARGE_POLICY).then(|| short_digest(text))
            }
        }
    }

    /// The documents that the policy was compiled from.
    pub(super) fn documents(&self, files: &mut Files) -> Documents {
        let mut contents = files.take_contents();
        let label = match self {
            PolicySource::File(_) => None,
            PolicySource::Text { text, label } => {
                contents.insert(0, (PathBuf::from(label), text.to_vec()));
                Some(label.clone())
            }
        };
        Documents {
            label,
            files: contents,
        }
    }

    pub(super) fn is_large(&self, files: &Files) -> bool {
        let text = match self {
            PolicySource::File(_) => 0,
            PolicySource::Text { text, .. } => text.len(),
        };
        text.saturating_add(files.bytes_read()) > LARGE_POLICY
    }

    pub(super) fn label(&self) -> String {
        match self {
            PolicySource::File(path) => {
                let paths = split_list(path).unwrap_or_else(|| vec![path.clone()]);
                let names = paths
                    .iter()
                    .map(|path| FileName(&path.to_string_lossy()).to_string());
                names.collect::<Vec<_>>().join(", ")
            }
            PolicySource::Text { label, .. } => quoted(label.as_bytes()),
        }
    }
}

/// One line per error.
fn policy_error(diagnostics: Vec<Diagnostic>) -> Error {
    let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    Error::Policy(lines.join("\n"))
}

/// The source of documents, and their files with the content they had.
pub(super) fn from_documents(documents: Documents) -> (PolicySource, Files) {
    let Documents { label, mut files } = documents;
    let source = match label {
        Some(label) => {
            let text = match files.is_empty() {
                true => Vec::new(),
                false => files.remove(0).1,
            };
            PolicySource::Text {
                text: text.into(),
                label,
            }
        }
        None => PolicySource::File(
            files
                .first()
                .map(|(path, _)| path.clone())
                .unwrap_or_default(),
        ),
    };
    (source, Files::from_contents(files))
}
