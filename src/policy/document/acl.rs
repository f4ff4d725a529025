//! The plugin `acl`.

use super::fields::{Object, Schema};
use super::DocumentReader;
use crate::identity::Acl;
use crate::policy::report::Path;
use crate::policy::tree::Node;

pub(super) const ACL: Schema = Schema {
    name: "acl",
    supported: &[
        "allow",
        "deny",
        "hide_groups_header",
        "include_consumer_groups",
        "always_use_authenticated_groups",
        "enforce",
    ],
    ignored: &[],
    unsupported: &[],
};

impl<'t> DocumentReader<'t, '_> {
    pub(super) fn acl(
        &mut self,
        plugin: &Node<'_>,
        config: Option<&'t Node<'t>>,
        path: &Path<'_>,
    ) -> Acl {
        let Some(object) = self.allow_and_deny(plugin, config, path, &ACL, "group") else {
            return Acl::default();
        };
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for (field, groups) in [("allow", &mut allow), ("deny", &mut deny)] {
            for (text, position, index) in self.texts(&object, path, field) {
                if text.is_empty() {
                    let path = path.field(field);
                    let message = "'', expected the name of a group";
                    self.report.error(position, &path.item(index), message);
                }
                groups.push(text.into());
            }
        }
        let mut acl = Acl::new(allow, deny);
        let mut flag = |field| self.boolean(&object, path, field).unwrap_or(false);
        acl.hide_groups_header = flag("hide_groups_header");
        acl.include_consumer_groups = flag("include_consumer_groups");
        acl.always_use_authenticated_groups = flag("always_use_authenticated_groups");
        acl
    }

    /// Checks that a configuration has at least one entry in 'allow' or 'deny'. `what` is the noun
    /// for an entry in errors.
    pub(super) fn allow_and_deny(
        &mut self,
        plugin: &Node<'_>,
        config: Option<&'t Node<'t>>,
        path: &Path<'_>,
        schema: &Schema,
        what: &str,
    ) -> Option<Object<'t>> {
        let object = match config {
            Some(config) => Some(self.object(config, path, schema)?),
            None => None,
        };
        let list = |field| object.as_ref().and_then(|object| object.get(field));
        let empty = |field| list(field).is_none_or(Node::is_empty);
        if empty("allow") && empty("deny") {
            let position = config.map_or(plugin.position, |config| config.position);
            let message = format!("expected at least one {what} in 'allow' or 'deny'");
            self.report.error(position, path, message);
        } else if let Some(allow) = list("allow").filter(|allow| allow.is_empty()) {
            // An empty list would allow every client that 'deny' does not name.
            let message = format!(
                "an empty list together with 'deny' would allow all, expected \
                 at least one {what}, or no 'allow' to mean that"
            );
            self.report
                .error(allow.position, &path.field("allow"), message);
        }
        object
    }
}
