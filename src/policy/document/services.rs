//! The list `services`, with the routes and plugins inside each.

use super::fields::Schema;
use super::{location, DocumentReader, EntityKey, Location};
use crate::policy::report::Path;
use crate::policy::tree::Node;

/// An entry of `services`.
pub(in crate::policy) struct Service<'t> {
    pub location: Location,
    pub key: EntityKey<'t>,
}

const SERVICE: Schema = Schema {
    name: "services",
    supported: &["id", "name", "routes", "plugins"],
    ignored: &[
        "ca_certificates",
        "client_certificate",
        "connect_timeout",
        "enabled",
        "host",
        "path",
        "port",
        "protocol",
        "read_timeout",
        "retries",
        "tls_sans",
        "tls_verify",
        "tls_verify_depth",
        "url",
        "write_timeout",
    ],
    unsupported: &[],
};

impl<'t> DocumentReader<'t, '_> {
    /// Reads an entry of `services`.
    pub(super) fn service(&mut self, node: &'t Node<'t>, path: &Path<'_>) {
        let Some(object) = self.object(node, path, &SERVICE) else {
            return;
        };
        let key = self.entity_key(&object, path);
        let index = self.document.services.len();
        self.document.services.push(Service {
            location: location(node, path),
            key,
        });
        if let Some(routes) = object.get("routes") {
            self.each(routes, &path.field("routes"), |reader, node, path| {
                reader.route(node, path, Some(index));
            });
        }
        if let Some(plugins) = object.get("plugins") {
            self.each(plugins, &path.field("plugins"), |reader, node, path| {
                reader.plugin(node, path, Some(index), None);
            });
        }
    }
}
