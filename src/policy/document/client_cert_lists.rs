//! The plugin `client-cert-lists`.

use super::fields::Schema;
use super::DocumentReader;
use crate::policy::report::{Path, Position};
use crate::policy::tree::Node;

/// Most files in `deny` or `allow`.
const MAX_FILES: usize = 64;

pub(super) const CLIENT_CERT_LISTS: Schema = Schema {
    name: "client-cert-lists",
    supported: &["allow", "deny", "enforce"],
    ignored: &[],
    unsupported: &[],
};

/// The configuration of `client-cert-lists`: names of files with their positions.
#[derive(Debug, Default)]
pub(in crate::policy) struct ClientCertLists<'t> {
    pub allow: Vec<(&'t str, Position)>,
    pub deny: Vec<(&'t str, Position)>,
}

impl<'t> DocumentReader<'t, '_> {
    pub(super) fn client_cert_lists(
        &mut self,
        plugin: &Node<'_>,
        config: Option<&'t Node<'t>>,
        path: &Path<'_>,
    ) -> ClientCertLists<'t> {
        let mut lists = ClientCertLists::default();
        let Some(object) = self.allow_and_deny(plugin, config, path, &CLIENT_CERT_LISTS, "file")
        else {
            return lists;
        };
        for (field, files) in [("allow", &mut lists.allow), ("deny", &mut lists.deny)] {
            for (text, position, index) in self.texts(&object, path, field) {
                let path = path.field(field);
                if text.is_empty() {
                    let message = "'', expected the name of a file";
                    self.report.error(position, &path.item(index), message);
                }
                if index == MAX_FILES {
                    let message = format!("over {MAX_FILES} files");
                    self.report.error(position, &path.item(index), message);
                }
                let text = self.file_path(text, position, &path.item(index));
                files.push((text, position));
            }
        }
        lists
    }
}
