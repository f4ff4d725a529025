//! The list `ca_certificates`.

use super::fields::Schema;
use super::{location, DocumentReader, Location, Uuid};
use crate::policy::report::{Path, Position};
use crate::policy::tree::Node;

/// An entry of `ca_certificates`.
pub(in crate::policy) struct Ca<'t> {
    pub location: Location,
    pub id: Option<Uuid>,
    pub cert: Option<(&'t str, Position)>,
    pub digest: Option<(&'t str, Position)>,
}

const CA: Schema = Schema {
    name: "ca_certificates",
    supported: &["id", "cert", "cert_digest"],
    ignored: &[],
    unsupported: &[],
};

impl<'t> DocumentReader<'t, '_> {
    /// Reads an entry of `ca_certificates`.
    pub(super) fn ca(&mut self, node: &'t Node<'t>, path: &Path<'_>) {
        let Some(object) = self.object(node, path, &CA) else {
            return;
        };
        let id = self.id(&object, path);
        let mut text = |field| {
            let node = object.get(field)?;
            Some((self.text(node, &path.field(field))?, node.position))
        };
        let (cert, digest) = (text("cert"), text("cert_digest"));
        if object.get("cert").is_none() {
            self.missing(node, path, "cert");
        }
        self.document.cas.push(Ca {
            location: location(node, path),
            id,
            cert,
            digest,
        });
    }
}
