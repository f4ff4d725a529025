//! The fields of `openid-connect` about the request to the upstream and about refusals.

use super::OpenidConnect;
use crate::policy::document::fields::{Object, Schema};
use crate::policy::document::{fold_header_name, DocumentReader};
use crate::policy::report::Path;
use crate::policy::tree::{Node, Value};
use crate::text::quoted;

/// An entry of `upstream_headers`.
const UPSTREAM_HEADER: Schema = Schema {
    name: "upstream_headers",
    supported: &["claim", "header"],
    ignored: &[],
    unsupported: &[],
};

impl<'t> DocumentReader<'t, '_> {
    /// Reads the fields about the request to the upstream and about refusals.
    pub(super) fn upstream_headers(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        read: &mut OpenidConnect<'t>,
    ) {
        let claims = self.texts(object, path, "upstream_headers_claims");
        let field = path.field("upstream_headers_names");
        let mut names: Vec<Option<&'t str>> = Vec::new();
        if let Some(node) = object.get("upstream_headers_names") {
            let items = self.list(node, &field).unwrap_or_default();
            for (index, item) in items.iter().enumerate() {
                names.push(self.claim_header_name(item, &field.item(index), read));
                if let (Some(Some(name)), Some((claim, ..))) = (names.last(), claims.get(index)) {
                    let claim = vec![(*claim).into()];
                    read.headers.push((claim, (*name).into()));
                }
            }
            if items.len() != claims.len() {
                let message = format!(
                    "{} names for {} entries of 'upstream_headers_claims', expected one for each",
                    items.len(),
                    claims.len()
                );
                self.report.error(node.position, &field, message);
            }
        } else if let Some((_, position, _)) = claims.first() {
            let message = "without 'upstream_headers_names', expected a name for each";
            let path = path.field("upstream_headers_claims");
            self.report.error(*position, &path, message);
        }
        let field = path.field("upstream_headers");
        if let Some(node) = object.get("upstream_headers") {
            self.each(node, &field, |reader, node, path| {
                let Some(entry) = reader.object(node, path, &UPSTREAM_HEADER) else {
                    return;
                };
                let (claim, header) = (entry.get("claim"), entry.get("header"));
                for (field, found) in [("claim", claim), ("header", header)] {
                    if found.is_none() {
                        reader.missing(node, path, field);
                    }
                }
                let (Some(claim), Some(header)) = (claim, header) else {
                    return;
                };
                let claim = reader.claim_path(claim, &path.field("claim"));
                let name = reader.claim_header_name(header, &path.field("header"), read);
                if let (Some(claim), Some(name)) = (claim, name) {
                    read.headers.push((claim, name.into()));
                }
            });
        }
        let field = "hide_credentials";
        read.hide_credentials = match self.boolean(object, path, field) {
            Some(hidden) => hidden,
            // Kong 3.14 changed the default, and a document does not say which 3.x it is for. A
            // token that is sent to an upstream by mistake cannot be taken back.
            None => {
                let hidden = self.format_version == Some("3.0");
                if hidden {
                    let message = "is not given: the token is removed from the request to the \
                                   upstream, as by Kong since 3.14; expected true or false";
                    let subject = "openid-connect hide_credentials";
                    self.report.warn_once(
                        subject,
                        object.node.position,
                        &path.field(field),
                        message,
                    );
                }
                hidden
            }
        };
        read.expose_error_code = self
            .boolean(object, path, "expose_error_code")
            .unwrap_or(read.expose_error_code);
        for (field, to) in [
            ("unauthorized_error_message", &mut read.unauthorized),
            ("forbidden_error_message", &mut read.forbidden),
        ] {
            if let Some(node) = object.get(field) {
                if let Some(text) = self.text(node, &path.field(field)) {
                    *to = text.into();
                }
            }
        }
    }

    /// Reads the name of a header for a claim, which no other claim may have.
    fn claim_header_name(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
        read: &OpenidConnect<'t>,
    ) -> Option<&'t str> {
        let name = self.reserved_header_name(node, path)?;
        let folded = fold_header_name(name);
        let mut others = read.headers.iter();
        if others.any(|(_, other)| fold_header_name(other) == folded) {
            let name = quoted(name.as_bytes());
            let message = format!(
                "the header '{name}' is given twice (case is ignored, and '-' and '_' are \
                 equal), expected another name"
            );
            self.report.error(node.position, path, message);
        }
        Some(name)
    }

    /// Reads the path of a claim: its name, or the names from the outermost object inwards.
    pub(super) fn claim_path(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
    ) -> Option<Vec<Box<str>>> {
        let items = match &node.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(node),
        };
        let mut names: Vec<Box<str>> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            names.push(self.text(item, &path.item(index))?.into());
        }
        if names.is_empty() || names.iter().any(|name| name.is_empty()) {
            self.expected(node, path, "the name of a claim, or a list of names");
            return None;
        }
        Some(names)
    }
}
