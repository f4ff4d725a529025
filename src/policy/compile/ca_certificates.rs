//! The CA certificates of a document: read, and found by id.

use std::collections::{HashMap, HashSet};
use std::path::Path as FilePath;
use std::sync::Arc;

use super::certificate_files::{self, FileCertificate};
use super::entity_id::uuid_text;
use crate::identity::Rules;
use crate::policy::document::{Ca, CaSource, Document, Uuid};
use crate::policy::pem_text;
use crate::policy::report::{Path, Position, Report};
use crate::policy::{Files, PolicyCa};
use crate::text::hex;
use crate::text::quoted;
use crate::trust::{CaCertificate, CaValidity, Intermediates};
use crate::Error;

/// The CA certificates of the document, by position of their entry and by id.
pub(super) struct CaCertificates {
    /// The certificates of each entry; none of an entry with errors.
    pub list: Vec<Vec<Arc<CaCertificate>>>,
    /// Whether the certificate of each entry is in the document.
    inline: Vec<bool>,
    pub by_id: HashMap<Uuid, usize>,
    pub by_digest: HashMap<[u8; 32], usize>,
    /// All of them, for chains from a client certificate to the anchors of a store.
    pub intermediates: Arc<Intermediates>,
    /// As text, for suggestions.
    pub ids: Vec<String>,
    /// All of them, for warnings and metrics about their end.
    pub for_policy: Vec<PolicyCa>,
    /// Seconds since the epoch.
    pub now: i64,
}

/// What the certificates of a document are read from, and the time.
pub(super) struct CaReader<'p> {
    /// Directory of the policy file.
    pub directory: Option<&'p FilePath>,
    pub files: &'p mut Files,
    /// Seconds since the epoch.
    pub now: i64,
}

impl CaCertificates {
    pub fn new(
        document: &Document<'_>,
        mut reader: CaReader<'_>,
        report: &mut Report,
    ) -> CaCertificates {
        let mut cas = CaCertificates {
            list: Vec::new(),
            inline: Vec::new(),
            by_id: HashMap::new(),
            by_digest: HashMap::new(),
            intermediates: Arc::default(),
            ids: Vec::new(),
            for_policy: Vec::new(),
            now: reader.now,
        };
        for (index, entity) in document.cas.iter().enumerate() {
            let is_inline = matches!(entity.source, Some(CaSource::Cert(..)));
            cas.inline.push(is_inline);
            cas.add_id(document, index, entity, report);
            let found = match &entity.source {
                Some(CaSource::Cert(pem, place)) => {
                    let found = cas.inline(document, index, entity, (pem, *place), &reader, report);
                    found.into_iter().collect()
                }
                Some(CaSource::File(path, place)) if !path.is_empty() => {
                    cas.add_files(index, entity, ("file", path, *place), &mut reader, report)
                }
                Some(CaSource::Directory(path, place)) if !path.is_empty() => {
                    let source = ("directory", *path, *place);
                    cas.add_files(index, entity, source, &mut reader, report)
                }
                _ => Vec::new(),
            };
            let id = entity.id.map(|id| Box::from(uuid_text(&id)));
            cas.for_policy.extend(found.iter().map(|ca| PolicyCa {
                id: id.clone(),
                ca: ca.clone(),
            }));
            cas.list.push(found);
        }
        cas.check_rules(document, report);
        let mut seen = HashSet::new();
        let all = cas.list.iter().flatten();
        let all = all.filter(|ca| seen.insert(*ca.digest())).cloned();
        cas.intermediates = Arc::new(Intermediates::new(all.collect()));
        cas
    }

    /// Reports the ids in rules that no entry has.
    fn check_rules(&self, document: &Document<'_>, report: &mut Report) {
        for (id, position, path) in &document.rule_cas {
            if !self.by_id.contains_key(id) {
                let id = uuid_text(id);
                let meant = report.did_you_mean(&id, self.ids.iter().map(String::as_str));
                let message = format!("no entry of 'ca_certificates' has the id '{id}'{meant}");
                report.error(*position, &Path::Compact(path), message);
            }
        }
    }

    /// The rules, with the CAs that they name by id.
    pub fn resolve_rules(&self, rules: &Rules) -> Rules {
        let mut rules = rules.clone();
        for rule in rules.allow.iter_mut().chain(&mut rules.deny) {
            rule.condition.each_ca(&mut |condition| {
                let position = self.by_id.get(&condition.id).copied();
                let cas = self.of(position.as_slice());
                condition.cas = cas.iter().map(|ca| *ca.id()).collect();
            });
        }
        rules
    }

    fn add_id(
        &mut self,
        document: &Document<'_>,
        index: usize,
        entity: &Ca<'_>,
        report: &mut Report,
    ) {
        let path = Path::Compact(&entity.location.path);
        let Some(id) = entity.id else {
            report.warn("CAs without id", entity.location.position, &path, || {
                "has no id, so no plugin can refer to it".to_owned()
            });
            return;
        };
        let first = *self.by_id.entry(id).or_insert(index);
        self.ids.push(uuid_text(&id));
        if first != index {
            let message = format!(
                "the id '{}' is given twice, first at {}",
                uuid_text(&id),
                place_of(document, first, report)
            );
            report.error(entity.location.position, &path.field("id"), message);
        }
    }

    /// The certificate of the field `cert`.
    fn inline(
        &mut self,
        document: &Document<'_>,
        index: usize,
        entity: &Ca<'_>,
        (pem, place): (&str, Position),
        reader: &CaReader<'_>,
        report: &mut Report,
    ) -> Option<Arc<CaCertificate>> {
        let path = Path::Compact(&entity.location.path);
        let ca = match CaCertificate::from_pem(pem.as_bytes()) {
            Ok(ca) => Arc::new(ca),
            Err(error) => {
                let message = match pem_text::is_path(pem) {
                    true => format!(
                        "'{}' is the path of a file, expected it as 'file' in place of 'cert'",
                        quoted(pem.trim().as_bytes())
                    ),
                    false => unreadable_message(pem, &error),
                };
                report.error(place, &path.field("cert"), message);
                return None;
            }
        };
        if pem_text::has_private_key(pem) {
            report.warn("private keys in 'cert'", place, &path.field("cert"), || {
                "holds a private key in addition to the certificate, which must not be in a policy"
                    .to_owned()
            });
        }
        let first = *self.by_digest.entry(*ca.digest()).or_insert(index);
        // A file may have any certificate once more.
        if first != index && self.is_inline(first) {
            let message = format!(
                "is the same certificate as {}, expected it once",
                place_of(document, first, report)
            );
            report.error(place, &path.field("cert"), message);
        }
        let digest = hex(ca.digest());
        if let Some((given, place)) = entity.digest {
            if !given.eq_ignore_ascii_case(&digest) {
                let message = format!(
                    "'{}' is not the SHA-256 digest of 'cert', expected '{digest}'",
                    quoted(given.as_bytes())
                );
                report.error(place, &path.field("cert_digest"), message);
            }
        }
        warn_about_validity(&ca, "", reader.now, place, &path.field("cert"), report);
        Some(ca)
    }

    /// The certificates of the field `file` or `directory`, each once.
    fn add_files(
        &mut self,
        index: usize,
        entity: &Ca<'_>,
        (field, text, place): (&str, &str, Position),
        reader: &mut CaReader<'_>,
        report: &mut Report,
    ) -> Vec<Arc<CaCertificate>> {
        let path = Path::Compact(&entity.location.path);
        let path = path.field(field);
        let mut cas: Vec<Arc<CaCertificate>> = Vec::new();
        let mut seen = HashSet::new();
        let mut each = |found: FileCertificate<'_>, report: &mut Report| {
            let ca = CaCertificate::from_x509(found.x509).map_err(|error| error.to_string())?;
            if seen.insert(*ca.digest()) {
                let at = format!("{}: ", found.position);
                warn_about_validity(&ca, &at, reader.now, place, &path, report);
                cas.push(Arc::new(ca));
            }
            Ok(())
        };
        let (directory, files) = (reader.directory, &mut *reader.files);
        let read = match field {
            "file" => certificate_files::read_file(directory, text, files, report, &mut each),
            _ => certificate_files::read_directory(directory, text, files, report, &mut each),
        };
        match read {
            Ok(ignored) => {
                for file in ignored {
                    report.warn("files that are not read", place, &path, || {
                        format!(
                            "'{}' is not read, expected a name that ends with one of {}",
                            quoted_path(&file),
                            certificate_files::EXTENSIONS.join(", ")
                        )
                    });
                }
            }
            Err(message) => {
                report.error(place, &path, message);
                return Vec::new();
            }
        }
        for ca in &cas {
            self.by_digest.entry(*ca.digest()).or_insert(index);
        }
        cas
    }

    /// Whether the certificate of the entry is in the document.
    pub fn is_inline(&self, index: usize) -> bool {
        self.inline.get(index).copied().unwrap_or(false)
    }

    /// The certificates of these entries, each once.
    pub fn of(&self, positions: &[usize]) -> Vec<Arc<CaCertificate>> {
        let mut seen = HashSet::new();
        let entries = positions.iter().filter_map(|&index| self.list.get(index));
        let cas = entries.flatten();
        cas.filter(|ca| seen.insert(*ca.digest()))
            .cloned()
            .collect()
    }
}

fn quoted_path(path: &FilePath) -> String {
    quoted(path.to_string_lossy().as_bytes())
}

fn place_of(document: &Document<'_>, index: usize, report: &Report) -> String {
    let location = document.cas.get(index).map(|entity| &entity.location);
    location.map_or_else(String::new, |first| {
        report.place(first.position, &first.path)
    })
}

/// Warns about a certificate that is not valid now, or not much longer. `at` is where it is in the
/// files.
fn warn_about_validity(
    ca: &CaCertificate,
    at: &str,
    now: i64,
    place: Position,
    path: &Path<'_>,
    report: &mut Report,
) {
    let kind = match ca.validity(now) {
        CaValidity::Valid => return,
        CaValidity::NotYet => "CAs not valid yet",
        CaValidity::EndsSoon => "CAs that end soon",
        CaValidity::Expired => "expired CAs",
    };
    let message = || format!("{at}{}", ca.validity_message(now).unwrap_or_default());
    report.warn(kind, place, path, message);
}

/// The error for a text that is not a CA certificate. It has what the text is instead, if that is
/// recognised.
pub(super) fn unreadable_message(pem: &str, error: &Error) -> String {
    let is_text = matches!(error, Error::NoCertificate | Error::BadCertificate(_));
    let message = is_text.then(|| pem_text::diagnose(pem)).flatten();
    message.unwrap_or_else(|| error.to_string())
}
