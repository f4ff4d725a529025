//! The list `trust_domains`.

use super::fields::{uuid, Schema};
use super::{location, DocumentReader, Location, Uuid};
use crate::certificate::spiffe::check_trust_domain;
use crate::policy::report::{Path, Position};
use crate::policy::tree::Node;
use crate::text::quoted;

/// An entry of `trust_domains`.
pub(in crate::policy) struct TrustDomain<'t> {
    pub location: Location,
    pub name: &'t str,
    /// The ids of its CAs.
    pub cas: Vec<(Uuid, Position)>,
    /// The path of a file with its bundle.
    pub bundle: Option<(&'t str, Position)>,
    /// The URL of its bundle.
    pub bundle_url: Option<(&'t str, Position)>,
}

const TRUST_DOMAIN: Schema = Schema {
    name: "trust_domains",
    supported: &["name", "ca_certificates", "bundle", "bundle_url"],
    ignored: &[],
    unsupported: &[],
};

impl<'t> DocumentReader<'t, '_> {
    /// Reads an entry of `trust_domains`.
    pub(super) fn trust_domain(&mut self, node: &'t Node<'t>, path: &Path<'_>) {
        let Some(object) = self.object(node, path, &TRUST_DOMAIN) else {
            return;
        };
        let cas = self.ca_ids(&object, path, false);
        let bundle = object.get("bundle").and_then(|node| {
            let path = path.field("bundle");
            let text = self.text(node, &path)?;
            if text.is_empty() {
                self.report
                    .error(node.position, &path, "'', expected the path of a file");
                return None;
            }
            Some((self.file_path(text, node.position, &path), node.position))
        });
        let bundle_url = object.get("bundle_url").and_then(|node| {
            let path = path.field("bundle_url");
            let text = self.text(node, &path)?;
            if !is_https_url(text) {
                let message = format!(
                    "'{}', expected an https URL without user information and fragment",
                    quoted(text.as_bytes())
                );
                self.report.error(node.position, &path, message);
                return None;
            }
            Some((text, node.position))
        });
        let fields = ["ca_certificates", "bundle", "bundle_url"];
        let given = fields.iter().filter(|field| object.get(field).is_some());
        let message = match given.count() {
            0 => Some("expected one of 'ca_certificates', 'bundle' and 'bundle_url'"),
            1 => None,
            _ => Some("has several of 'ca_certificates', 'bundle' and 'bundle_url', expected one"),
        };
        if let Some(message) = message {
            self.report.error(node.position, path, message);
        }
        let Some(name) = object.get("name") else {
            self.missing(node, path, "name");
            return;
        };
        let name_path = path.field("name");
        let Some(text) = self.text(name, &name_path) else {
            return;
        };
        if let Err(why) = check_trust_domain(text) {
            let message = format!(
                "'{}' is not the name of a trust domain: it {}",
                quoted(text.as_bytes()),
                why.replacen("has a trust domain with", "has", 1)
                    .replacen("has a trust domain", "is", 1)
                    .replacen("has an empty trust domain", "is empty", 1)
            );
            self.report.error(name.position, &name_path, message);
            return;
        }
        let mut others = self.document.trust_domains.iter();
        if let Some(first) = others.find(|other| other.name == text) {
            let first = &first.location;
            let first = self.report.place(first.position, &first.path);
            let message = format!("'{text}' is given twice, first at {first}");
            self.report.error(name.position, &name_path, message);
            return;
        }
        self.document.trust_domains.push(TrustDomain {
            location: location(node, path),
            name: text,
            cas,
            bundle,
            bundle_url,
        });
    }

    /// Reads a list of ids of entries of `ca_certificates`.
    pub(super) fn ca_ids(
        &mut self,
        object: &super::fields::Object<'t>,
        path: &Path<'_>,
        may_be_empty: bool,
    ) -> Vec<(Uuid, Position)> {
        let Some(list) = object.get("ca_certificates") else {
            return Vec::new();
        };
        let field = path.field("ca_certificates");
        let texts = self.texts(object, path, "ca_certificates");
        let mut ids = Vec::with_capacity(texts.len());
        for (text, position, index) in texts {
            match uuid(text) {
                Some(id) => ids.push((id, position)),
                None => {
                    let message = format!(
                        "'{}' is not a UUID, expected the id of an entry of 'ca_certificates'",
                        quoted(text.as_bytes())
                    );
                    self.report.error(position, &field.item(index), message);
                }
            }
        }
        if list.is_empty() && !may_be_empty {
            let message = "an empty list, expected the id of at least one entry of \
                           'ca_certificates'";
            self.report.error(list.position, &field, message);
        }
        ids
    }
}

/// Whether the text is an https URL with a host, at most 2048 bytes long.
fn is_https_url(text: &str) -> bool {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    let rest = text.strip_prefix("https://").unwrap_or_default();
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    text.len() <= 2048
        && visible
        && !host.is_empty()
        && !host.starts_with(':')
        && !host.contains('@')
        && !text.contains(['#', '\\', '"', '<', '>'])
}
