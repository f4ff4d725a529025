//! The CA certificates of a document: read, and found by id.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;

use super::entity_id::uuid_text;
use crate::identity::Rules;
use crate::policy::document::{Document, Uuid};
use crate::policy::pem_text;
use crate::policy::report::{Path, Report};
use crate::text::hex;
use crate::text::quoted;
use crate::trust::{CaCertificate, Intermediates};
use crate::Error;

/// The CA certificates of the document, by position and by id.
pub(super) struct CaCertificates {
    pub list: Vec<Option<Arc<CaCertificate>>>,
    pub by_id: HashMap<Uuid, usize>,
    pub by_digest: HashMap<[u8; 32], usize>,
    /// All of them, for chains from a client certificate to the anchors of a store.
    pub intermediates: Arc<Intermediates>,
    /// As text, for suggestions.
    pub ids: Vec<String>,
}

impl CaCertificates {
    pub fn new(document: &Document<'_>, report: &mut Report) -> CaCertificates {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs() as i64);
        let mut cas = CaCertificates {
            list: Vec::new(),
            by_id: HashMap::new(),
            by_digest: HashMap::new(),
            intermediates: Arc::default(),
            ids: Vec::new(),
        };
        for (index, entity) in document.cas.iter().enumerate() {
            let path = Path::Compact(&entity.location.path);
            match entity.id {
                Some(id) => {
                    let first = *cas.by_id.entry(id).or_insert(index);
                    cas.ids.push(uuid_text(&id));
                    if first != index {
                        let first = document
                            .cas
                            .get(first)
                            .map(|ca| ca.location.path.to_string())
                            .unwrap_or_default();
                        let message = format!(
                            "the id '{}' is given twice, first at {first}",
                            uuid_text(&id)
                        );
                        report.error(entity.location.position, &path.field("id"), message);
                    }
                }
                None => report.warn("CAs without id", entity.location.position, &path, || {
                    "has no id, so no plugin can refer to it".to_owned()
                }),
            }
            cas.list.push(None);
            let Some((pem, place)) = entity.cert else {
                continue;
            };
            let ca = match CaCertificate::from_pem(pem.as_bytes()) {
                Ok(ca) => Arc::new(ca),
                Err(error) => {
                    report.error(place, &path.field("cert"), unreadable_message(pem, &error));
                    continue;
                }
            };
            if pem_text::has_private_key(pem) {
                report.warn("private keys in 'cert'", place, &path.field("cert"), || {
                    "holds a private key in addition to the certificate, which must not be in a policy"
                        .to_owned()
                });
            }
            let first = *cas.by_digest.entry(*ca.digest()).or_insert(index);
            if first != index {
                let first = document
                    .cas
                    .get(first)
                    .map(|ca| ca.location.path.to_string())
                    .unwrap_or_default();
                let message = format!("is the same certificate as {first}, expected it once");
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
            let subject = quoted(ca.subject().as_bytes());
            if ca.not_after() < now {
                report.warn("expired CAs", place, &path.field("cert"), || {
                    let when = date(ca.not_after());
                    format!("the CA '{subject}' expired on {when}: it verifies no client")
                });
            } else if now < ca.not_before() {
                report.warn("CAs not valid yet", place, &path.field("cert"), || {
                    let when = date(ca.not_before());
                    format!("the CA '{subject}' is not valid before {when}: it verifies no client")
                });
            }
            if let Some(entry) = cas.list.last_mut() {
                *entry = Some(ca);
            }
        }
        cas.check_rules(document, report);
        let all = cas.list.iter().flatten().cloned();
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

    pub fn of(&self, positions: &[usize]) -> Vec<Arc<CaCertificate>> {
        positions
            .iter()
            .filter_map(|&index| self.list.get(index)?.clone())
            .collect()
    }
}

/// The error for a text that is not a CA certificate. It has what the text is instead, if that is
/// recognised.
pub(super) fn unreadable_message(pem: &str, error: &Error) -> String {
    let is_text = matches!(error, Error::NoCertificate | Error::BadCertificate(_));
    let message = is_text.then(|| pem_text::diagnose(pem)).flatten();
    message.unwrap_or_else(|| error.to_string())
}

fn date(epoch: i64) -> String {
    Asn1Time::from_unix(epoch).map_or_else(|_| epoch.to_string(), |time| time.to_string())
}
