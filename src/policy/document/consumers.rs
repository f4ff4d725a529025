//! Consumers, their credentials and their ACL groups. Credentials and groups are nested in a
//! consumer, or in lists of their own.

use super::fields::{uuid, Object, Schema};
use super::{location, DocumentReader, EntityKey, Link, Location, PluginKind, Uuid};
use crate::headers::kong;
use crate::policy::report::{Path, Position};
use crate::policy::tree::{Node, Value};
use crate::text::quoted;

/// An entry of `consumers`.
pub(in crate::policy) struct Consumer<'t> {
    pub location: Location,
    /// The name is the `username`.
    pub key: EntityKey<'t>,
    pub custom_id: Option<&'t str>,
    /// The names in `groups`, the consumer groups.
    pub consumer_groups: Vec<&'t str>,
}

/// An entry of `mtls_auth_credentials` or `header_cert_auth_credentials`.
pub(in crate::policy) struct Credential<'t> {
    /// Whether it is for certificates from a header only.
    pub header: bool,
    pub location: Location,
    pub consumer: Link<'t>,
    pub id: Option<Uuid>,
    pub subject_name: &'t str,
    pub ca: Vec<(CaReference<'t>, Position)>,
}

/// The reference of a credential to a CA.
#[derive(Clone, Copy)]
pub(in crate::policy) enum CaReference<'t> {
    Id(Uuid),
    Pem(&'t str),
}

/// An entry of `acls`.
pub(in crate::policy) struct AclGroup<'t> {
    pub location: Location,
    pub consumer: Link<'t>,
    pub name: &'t str,
}

const CONSUMER: Schema = Schema {
    name: "consumers",
    supported: &[
        "id",
        "username",
        "custom_id",
        "mtls_auth_credentials",
        "header_cert_auth_credentials",
        "acls",
        "groups",
    ],
    ignored: &[
        "basicauth_credentials",
        "hmacauth_credentials",
        "jwt_secrets",
        "keyauth_credentials",
        "oauth2_credentials",
        "plugins",
    ],
    unsupported: &[],
};

const CREDENTIAL: Schema = Schema {
    name: "mtls_auth_credentials",
    supported: &["id", "consumer", "subject_name", "ca_certificate"],
    ignored: &[],
    unsupported: &[],
};

const HEADER_CREDENTIAL: Schema = Schema {
    name: "header_cert_auth_credentials",
    ..CREDENTIAL
};

const CA_REFERENCE: Schema = Schema {
    name: "ca_certificate",
    supported: &["id", "cert", "cert_digest"],
    ignored: &[],
    unsupported: &[],
};

const GROUP: Schema = Schema {
    name: "acls",
    supported: &["id", "consumer", "group"],
    ignored: &[],
    unsupported: &[],
};

const CONSUMER_GROUP: Schema = Schema {
    name: "groups",
    supported: &["id", "name"],
    ignored: &[],
    unsupported: &[],
};

impl<'t> DocumentReader<'t, '_> {
    /// Reads an entry of `consumers`.
    pub(super) fn consumer(&mut self, node: &'t Node<'t>, path: &Path<'_>) {
        let Some(object) = self.object(node, path, &CONSUMER) else {
            return;
        };
        let id = self.id(&object, path);
        let username = self.header_text(&object, path, "username");
        let custom_id = self.header_text(&object, path, "custom_id");
        if object.get("username").is_none() && object.get("custom_id").is_none() {
            let message = "neither 'username' nor 'custom_id' is given, expected at least one";
            self.report.error(node.position, path, message);
        }
        let mut consumer_groups = Vec::new();
        if let Some(node) = object.get("groups") {
            self.each(node, &path.field("groups"), |reader, node, path| {
                consumer_groups.extend(reader.consumer_group(node, path));
            });
        }
        let index = self.document.consumers.len();
        self.document.consumers.push(Consumer {
            location: location(node, path),
            key: EntityKey { id, name: username },
            custom_id,
            consumer_groups,
        });
        for (field, plugin) in [
            ("mtls_auth_credentials", PluginKind::MtlsAuth),
            ("header_cert_auth_credentials", PluginKind::HeaderCertAuth),
        ] {
            if let Some(node) = object.get(field) {
                self.each(node, &path.field(field), |reader, node, path| {
                    reader.credential(node, path, Some(index), plugin);
                });
            }
        }
        if let Some(node) = object.get("acls") {
            if let Some(group) = node.as_text() {
                let group = quoted(group.as_bytes());
                self.expected(node, &path.field("acls"), &format!("[{{group: {group}}}]"));
                return;
            }
            self.each(node, &path.field("acls"), |reader, node, path| {
                reader.acl_group(node, path, Some(index));
            });
        }
    }

    /// Reads a credential for the certificates of `plugin`. `consumer` is the index of the consumer
    /// that it is inside of.
    pub(super) fn credential(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
        consumer: Option<usize>,
        plugin: PluginKind,
    ) {
        let header = plugin == PluginKind::HeaderCertAuth;
        let schema = match header {
            true => &HEADER_CREDENTIAL,
            false => &CREDENTIAL,
        };
        let Some(object) = self.object(node, path, schema) else {
            return;
        };
        let id = self.id(&object, path);
        let consumer = self.owning_consumer(&object, path, consumer);
        let subject_name = match object.get("subject_name") {
            Some(name) => {
                let path = path.field("subject_name");
                let text = self.text(name, &path);
                if text == Some("") {
                    self.expected(name, &path, "a name");
                }
                text
            }
            None => {
                self.missing(node, path, "subject_name");
                None
            }
        };
        let ca = match object.get("ca_certificate") {
            Some(node) => self.ca_reference(node, &path.field("ca_certificate")),
            None => Vec::new(),
        };
        if let (Some(consumer), Some(subject_name)) = (consumer, subject_name) {
            self.document.credentials.push(Credential {
                header,
                location: location(node, path),
                consumer,
                id,
                subject_name,
                ca,
            });
        }
    }

    /// Reads the reference to a CA. Kong, decK and their tools write an id, a PEM text, `{id}` or
    /// `{cert}`.
    fn ca_reference(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
    ) -> Vec<(CaReference<'t>, Position)> {
        let mut found = Vec::new();
        if let Value::Map(_) = &node.value {
            let Some(object) = self.object(node, path, &CA_REFERENCE) else {
                return found;
            };
            if let (Some(id), Some(node)) = (self.id(&object, path), object.get("id")) {
                found.push((CaReference::Id(id), node.position));
            }
            if let Some(node) = object.get("cert") {
                let text = self.text(node, &path.field("cert"));
                found.extend(text.map(|text| (CaReference::Pem(text), node.position)));
            }
            if object.get("id").is_none() && object.get("cert").is_none() {
                self.expected(node, path, "'id' or 'cert'");
            }
            return found;
        }
        let Some(text) = self.text(node, path) else {
            return found;
        };
        if let Some(id) = uuid(text) {
            found.push((CaReference::Id(id), node.position));
        } else if text.contains("-----BEGIN ") {
            found.push((CaReference::Pem(text), node.position));
        } else {
            let message = format!(
                "'{}' is neither a UUID nor a PEM certificate, expected the id or the text of an \
                 entry of 'ca_certificates'",
                quoted(text.as_bytes())
            );
            self.report.error(node.position, path, message);
        }
        found
    }

    /// Reads an entry of `acls`. `consumer` is the index of the consumer that it is inside of.
    pub(super) fn acl_group(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
        consumer: Option<usize>,
    ) {
        // A group as in the lists of the plugin 'acl'. The error shows how it is written here.
        if let (Value::Scalar { .. }, Some(group)) = (&node.value, node.as_text()) {
            if !node.is_null() && !group.is_empty() {
                let group = quoted(group.as_bytes());
                let expected = match consumer {
                    Some(_) => format!("{{group: {group}}}"),
                    None => format!("{{consumer: USERNAME, group: {group}}}"),
                };
                return self.expected(node, path, &expected);
            }
        }
        let Some(object) = self.object(node, path, &GROUP) else {
            return;
        };
        self.id(&object, path);
        let consumer = self.owning_consumer(&object, path, consumer);
        let name = self.header_text(&object, path, "group");
        if object.get("group").is_none() {
            self.missing(node, path, "group");
        }
        if let (Some(consumer), Some(name)) = (consumer, name) {
            self.document.groups.push(AclGroup {
                location: location(node, path),
                consumer,
                name,
            });
        }
    }

    /// Reads an entry of `groups`: a name, or `{name}`.
    fn consumer_group(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> Option<&'t str> {
        let Value::Map(_) = &node.value else {
            return self.header_value(node, path);
        };
        let object = self.object(node, path, &CONSUMER_GROUP)?;
        self.id(&object, path);
        if object.get("name").is_none() {
            self.missing(node, path, "name");
        }
        self.header_text(&object, path, "name")
    }

    /// Reads the consumer that a credential or group belongs to.
    fn owning_consumer(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        parent: Option<usize>,
    ) -> Option<Link<'t>> {
        if parent.is_none() && object.get("consumer").is_none() {
            self.missing(object.node, path, "consumer");
        }
        self.link(object, path, "consumer", parent)
    }

    fn header_text(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        field: &str,
    ) -> Option<&'t str> {
        self.header_value(object.get(field)?, &path.field(field))
    }

    /// Reads a text that is forwarded to the upstream in a header.
    fn header_value(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> Option<&'t str> {
        let text = self.text(node, path)?;
        if !kong::is_header_value(text) {
            let message = format!(
                "'{}' cannot be the value of a header, expected visible text without spaces \
                 around it",
                quoted(text.as_bytes())
            );
            self.report.error(node.position, path, message);
            return None;
        }
        Some(text)
    }

    /// Records a list of members of consumer groups, in the parts of the document that are not
    /// read.
    pub(super) fn unread_members(&mut self, policy: &Object<'t>) {
        let listed = policy.get("consumer_group_consumers");
        if let Some(node) = listed.filter(|node| !node.is_empty()) {
            self.document.unread_members = Some((node.position, "consumer_group_consumers"));
        }
        let Some(Value::List(groups)) = policy.get("consumer_groups").map(|node| &node.value)
        else {
            return;
        };
        let members = groups
            .iter()
            .find_map(|node| Object { node }.get("consumers"));
        if let Some(node) = members.filter(|node| !node.is_empty()) {
            self.document.unread_members = Some((node.position, "consumer_groups"));
        }
    }
}
