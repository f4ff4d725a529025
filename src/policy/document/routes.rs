//! The list `routes`, with the plugins inside each.

use super::fields::Schema;
use super::{location, DocumentReader, EntityKey, Link, Location};
use crate::handshake::server_name::Pattern;
use crate::policy::report::{Path, Position};
use crate::policy::tree::Node;

/// An entry of `routes`.
pub(in crate::policy) struct Route<'t> {
    pub location: Location,
    pub key: EntityKey<'t>,
    pub service: Option<Link<'t>>,
    pub snis: Vec<Pattern>,
    pub hosts: Vec<(&'t str, Position)>,
}

const ROUTE: Schema = Schema {
    name: "routes",
    supported: &["id", "name", "service", "snis", "hosts", "plugins"],
    ignored: &[
        "destinations",
        "expression",
        "headers",
        "https_redirect_status_code",
        "methods",
        "path_handling",
        "paths",
        "preserve_host",
        "priority",
        "protocols",
        "regex_priority",
        "request_buffering",
        "response_buffering",
        "sources",
        "strip_path",
    ],
    unsupported: &[],
};

impl<'t> DocumentReader<'t, '_> {
    /// Reads an entry of `routes`. `parent` is the index of the service that it is inside of.
    pub(super) fn route(&mut self, node: &'t Node<'t>, path: &Path<'_>, parent: Option<usize>) {
        let Some(object) = self.object(node, path, &ROUTE) else {
            return;
        };
        let key = self.entity_key(&object, path);
        let service = self.link(&object, path, "service", parent);
        let texts = self.texts(&object, path, "snis");
        let mut snis = Vec::with_capacity(texts.len());
        for (text, position, index) in texts {
            match Pattern::parse_sni(text.as_bytes()) {
                Ok(pattern) => snis.push(pattern),
                Err(error) => {
                    let path = path.field("snis");
                    self.report
                        .error(position, &path.item(index), error.to_string());
                }
            }
        }
        let hosts = self.texts(&object, path, "hosts");
        let hosts = hosts
            .into_iter()
            .map(|(text, position, _)| (text, position))
            .collect();
        let index = self.document.routes.len();
        self.document.routes.push(Route {
            location: location(node, path),
            key,
            service,
            snis,
            hosts,
        });
        if let Some(plugins) = object.get("plugins") {
            self.each(plugins, &path.field("plugins"), |reader, node, path| {
                reader.plugin(node, path, None, Some(index));
            });
        }
    }
}
