//! The local CRLs that plugins name.

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;

use super::policy_files;
use crate::policy::report::{Path, Position, Report};
use crate::policy::{memory_limit, Files, Map};
use crate::text::quoted;
use crate::trust::crl::{self, CrlSet};
use crate::trust::TrustStore;

/// Local CRLs, which are read once for each list of files.
pub(super) struct CrlSets<'p> {
    /// Directory of the policy file.
    pub directory: Option<&'p FilePath>,
    pub files: &'p mut Files,
    pub by_files: Map<Vec<String>, Option<Arc<CrlSet>>>,
    /// The sets that a plugin checks.
    pub used: Vec<Arc<CrlSet>>,
    /// CRL sets and the trust stores that each was compared with.
    pub compared: HashSet<(*const CrlSet, Vec<*const TrustStore>)>,
    /// Seconds since the epoch.
    pub now: i64,
}

impl CrlSets<'_> {
    /// The CRLs of these files. `None` for no files, and if the report has an error about them.
    pub fn get(
        &mut self,
        files: &[(&str, Position)],
        config: &Path<'_>,
        report: &mut Report,
    ) -> Option<Arc<CrlSet>> {
        if files.is_empty() {
            return None;
        }
        let key: Vec<_> = files.iter().map(|(file, _)| (*file).to_owned()).collect();
        if let Some(set) = self.by_files.get(&key) {
            return set.clone();
        }
        let path = config.field("crls");
        let mut set = CrlSet::default();
        let mut complete = true;
        for (index, (file, place)) in files.iter().enumerate() {
            let added = self.read(file).and_then(|bytes| set.add(file, &bytes));
            if let Err(why) = added {
                let message = format!("'{}': {why}", quoted(file.as_bytes()));
                report.error(*place, &path.item(index), message);
                complete = false;
            }
        }
        let (_, place) = files.first()?;
        for limitation in set.limitations() {
            report.warn("unusual CRLs", *place, &path, || limitation);
        }
        for warning in set.out_of_force(self.now) {
            report.warn("CRLs that are not in force", *place, &path, || warning);
        }
        let set = complete.then(|| Arc::new(set));
        self.by_files.insert(key, set.clone());
        set
    }

    /// Warns about CRLs that no CA of the plugin signed, and adds the set to `used`.
    pub fn check(
        &mut self,
        set: &Arc<CrlSet>,
        stores: &[&Arc<TrustStore>],
        place: Position,
        path: &Path<'_>,
        report: &mut Report,
    ) {
        let pointers: Vec<_> = stores.iter().map(|store| Arc::as_ptr(store)).collect();
        if !self.compared.insert((Arc::as_ptr(set), pointers)) {
            return;
        }
        if !self.used.iter().any(|used| Arc::ptr_eq(used, set)) {
            self.used.push(set.clone());
        }
        let cas: Vec<_> = stores
            .iter()
            .flat_map(|store| store.cas())
            .cloned()
            .collect();
        for warning in set.not_signed_by(&cas) {
            report.warn("CRLs that no CA signed", place, path, || warning);
        }
    }

    fn read(&mut self, file: &str) -> Result<Vec<u8>, String> {
        let path = policy_files::resolve(self.directory, file)?;
        let bytes = policy_files::read(self.files, &path, crl::MAX_FILE, memory_limit::CRL_WEIGHT)?;
        if self.files.is_reload() && is_unfinished(&bytes) {
            return Err(
                "is still being written: its last PEM block is not closed, or its last line is not \
                 ended"
                    .to_owned(),
            );
        }
        Ok(bytes)
    }
}

/// Whether a PEM file ends within its last block or line. A short DER file fails to parse.
fn is_unfinished(bytes: &[u8]) -> bool {
    let count = |mark: &[u8]| {
        bytes
            .windows(mark.len())
            .filter(|part| *part == mark)
            .count()
    };
    let begins = count(b"-----BEGIN ");
    begins > 0 && (count(b"-----END ") < begins || !bytes.ends_with(b"\n"))
}
