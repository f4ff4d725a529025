//! The fields of `openid-connect` about the consumer of a token.

use super::OpenidConnect;
use crate::identity::ConsumerField;
use crate::policy::document::fields::Object;
use crate::policy::document::DocumentReader;
use crate::policy::report::Path;
use crate::policy::token_auth::TokenConsumer;
use crate::policy::tree::Node;

const FIELDS: [(&str, ConsumerField); 3] = [
    ("id", ConsumerField::Id),
    ("username", ConsumerField::Username),
    ("custom_id", ConsumerField::CustomId),
];

impl<'t> DocumentReader<'t, '_> {
    /// Reads the fields about the consumer of a token. `consumer_claim` of Kong before 3.14 is one
    /// path; `consumer_claims` is a list of names or paths, and the first one that maps to a
    /// consumer counts.
    pub(super) fn token_consumer(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        read: &mut OpenidConnect<'t>,
    ) {
        let mut claims: Vec<Vec<Box<str>>> = Vec::new();
        let is_given = |node: &&Node<'_>| !node.is_empty();
        let field = "consumer_claims";
        if let Some(node) = object.get(field) {
            self.each(node, &path.field(field), |reader, node, path| {
                claims.extend(reader.claim_path(node, path));
            });
        }
        let field = "consumer_claim";
        if let Some(node) = object.get(field).filter(is_given) {
            if claims.is_empty() {
                claims.extend(self.claim_path(node, &path.field(field)));
            } else {
                let message = "beside 'consumer_claims', expected one of them";
                self.report
                    .error(node.position, &path.field(field), message);
            }
        }
        let by = self.consumer_fields(object, path, !claims.is_empty());
        let mut flag = |field| self.boolean(object, path, field).unwrap_or(false);
        let (ignore_case, optional) = (flag("by_username_ignore_case"), flag("consumer_optional"));
        if !claims.is_empty() {
            read.consumer = Some(TokenConsumer {
                claims,
                by,
                ignore_case,
                optional,
            });
        }
        let field = "anonymous";
        if let Some(node) = object.get(field).filter(is_given) {
            let name = self.text(node, &path.field(field));
            read.anonymous = name.map(|name| (name, node.position));
        }
        let groups = object.get("authenticated_groups_claim").filter(is_given);
        read.authenticated_groups = groups.map(|node| node.position);
    }

    /// Reads `consumer_by`, in order.
    fn consumer_fields(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        needed: bool,
    ) -> Vec<ConsumerField> {
        let path = path.field("consumer_by");
        let Some(node) = object.get("consumer_by") else {
            return vec![ConsumerField::Username, ConsumerField::CustomId];
        };
        let expected = "'id', 'username' or 'custom_id'";
        let mut by = Vec::new();
        self.each(node, &path, |reader, node, path| {
            let text = node.as_text().unwrap_or_default();
            match FIELDS.iter().find(|(name, _)| *name == text) {
                Some((_, field)) => by.push(*field),
                None => reader.expected(node, path, expected),
            }
        });
        if needed && node.is_empty() {
            self.expected(node, &path, expected);
        }
        by
    }
}
