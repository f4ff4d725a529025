//! The lists that plugins name.

use std::path::Path as FilePath;
use std::sync::Arc;

use super::policy_files;
use crate::policy::document::{ClientCertLists, Location};
use crate::policy::list_files::{ListFile, Lists};
use crate::policy::report::{Path, Position, Report};
use crate::text::quoted;

/// Reads lists, and shares them between plugins.
pub(super) struct ListReader<'p> {
    /// Directory of the policy file.
    pub directory: Option<&'p FilePath>,
    /// Whether a list in memory stays in force if its file cannot be read now.
    pub keep: bool,
    /// The lists that a plugin checks.
    pub used: Vec<Arc<ListFile>>,
    /// Seconds since the epoch.
    pub now: i64,
}

impl ListReader<'_> {
    /// The lists of a plugin; `None` if the report has an error about them.
    pub fn lists(
        &mut self,
        config: &ClientCertLists<'_>,
        location: &Location,
        report: &mut Report,
    ) -> Option<Arc<Lists>> {
        let path = Path::Compact(&location.path);
        let path = path.field("config");
        let deny = self.files(&config.deny, &path.field("deny"), report);
        let allow = self.files(&config.allow, &path.field("allow"), report);
        let (deny, allow) = (deny?, allow?);
        let nobody = |file: &Arc<ListFile>| file.last_list().is_empty();
        if let (true, Some((_, position))) = (allow.iter().all(nobody), config.allow.first()) {
            report.warn(
                "allow lists without entries",
                *position,
                &path.field("allow"),
                || "has no entries, so every certificate is refused".to_owned(),
            );
        }
        Some(Arc::new(Lists { deny, allow }))
    }

    fn files(
        &mut self,
        files: &[(&str, Position)],
        path: &Path<'_>,
        report: &mut Report,
    ) -> Option<Vec<Arc<ListFile>>> {
        let mut opened = Vec::new();
        for (index, (name, position)) in files.iter().enumerate() {
            let path = path.item(index);
            let file = policy_files::resolve(self.directory, name).and_then(|file| {
                ListFile::open(&file, name, self.keep).map_err(|error| error.to_string())
            });
            match file {
                Ok(file) => {
                    self.use_file(&file, *position, &path, report);
                    opened.push(file);
                }
                Err(why) => {
                    let message = format!("'{}': {why}", quoted(name.as_bytes()));
                    report.error(*position, &path, message);
                }
            }
        }
        (opened.len() == files.len()).then_some(opened)
    }

    fn use_file(
        &mut self,
        file: &Arc<ListFile>,
        position: Position,
        path: &Path<'_>,
        report: &mut Report,
    ) {
        if self.used.iter().any(|used| Arc::ptr_eq(used, file)) {
            return;
        }
        self.used.push(file.clone());
        for warning in file.last_list().warnings(self.now) {
            report.warn("entries of lists that end", position, path, || {
                format!("'{}': {warning}", quoted(file.name().as_bytes()))
            });
        }
    }
}
