//! The plugin `tls-handshake-modifier`.

use super::fields::Schema;
use super::DocumentReader;
use crate::policy::report::Path;
use crate::policy::tree::Node;

pub(super) const TLS_HANDSHAKE_MODIFIER: Schema = Schema {
    name: "tls-handshake-modifier",
    supported: &["tls_client_certificate"],
    ignored: &[],
    unsupported: &[],
};

impl<'t> DocumentReader<'t, '_> {
    pub(super) fn tls_handshake_modifier<'c>(&mut self, node: &'c Node<'c>, path: &Path<'_>) {
        const NAME: &str = "tls_client_certificate";
        let Some(object) = self.object(node, path, &TLS_HANDSHAKE_MODIFIER) else {
            return;
        };
        if let Some(node) = object.get(NAME) {
            let path = path.field(NAME);
            if self.text(node, &path).is_some_and(|mode| mode != "REQUEST") {
                let message = format!("{}, expected 'REQUEST'", node.describe());
                self.report.error(node.position, &path, message);
            }
        }
    }
}
