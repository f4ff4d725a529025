//! The list `ca_certificates`.

use super::fields::Schema;
use super::{location, DocumentReader, Location, Uuid};
use crate::policy::report::{Path, Position};
use crate::policy::tree::Node;

/// An entry of `ca_certificates`.
pub(in crate::policy) struct Ca<'t> {
    pub location: Location,
    pub id: Option<Uuid>,
    /// Where its certificates are; `None` after an error.
    pub source: Option<CaSource<'t>>,
    pub digest: Option<(&'t str, Position)>,
}

/// Where the certificates of an entry are.
pub(in crate::policy) enum CaSource<'t> {
    /// One certificate in the policy.
    Cert(&'t str, Position),
    /// A file of certificates.
    File(&'t str, Position),
    /// A directory of such files.
    Directory(&'t str, Position),
}

const CA: Schema = Schema {
    name: "ca_certificates",
    supported: &["id", "cert", "cert_digest", "file", "directory"],
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
            let path = path.field(field);
            let text = self.text(node, &path)?;
            let text = match field {
                "file" | "directory" => self.file_path(text, node.position, &path),
                _ => text,
            };
            Some((text, node.position))
        };
        let digest = text("cert_digest");
        let sources = [
            text("cert").map(|(text, place)| CaSource::Cert(text, place)),
            text("file").map(|(text, place)| CaSource::File(text, place)),
            text("directory").map(|(text, place)| CaSource::Directory(text, place)),
        ];
        let given = ["cert", "file", "directory"].map(|field| object.get(field).is_some());
        match given {
            [false, false, false] => self.missing(node, path, "cert"),
            [true, false, false] | [false, true, false] | [false, false, true] => {}
            _ => self.report.error(
                node.position,
                path,
                "has several of 'cert', 'file' and 'directory', expected one",
            ),
        }
        for (field, source) in ["cert", "file", "directory"].iter().zip(&sources) {
            if let Some(CaSource::File("", place) | CaSource::Directory("", place)) = source {
                let path = path.field(field);
                self.report.error(*place, &path, "'', expected a path");
            }
        }
        if let (Some((_, place)), [false, ..]) = (digest, given) {
            let message = "without 'cert', expected none: the files may change";
            self.report
                .error(place, &path.field("cert_digest"), message);
        }
        self.document.cas.push(Ca {
            location: location(node, path),
            id,
            source: sources.into_iter().flatten().next(),
            digest,
        });
    }
}
