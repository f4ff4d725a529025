//! Reads the fields of any mapping: checks their names, and the types of their values.

use super::kong_fields::is_off;
use super::{DocumentReader, EntityKey, Link, LinkBy, Uuid};
use crate::policy::report::{Path, Position};
use crate::policy::tree::{Node, Value};
use crate::policy::vault::Vaults;
use crate::text::quoted;

/// The fields that a mapping of one kind may have.
pub(super) struct Schema {
    /// The name of the kind.
    pub(super) name: &'static str,
    /// Fields that are read here.
    pub(super) supported: &'static [&'static str],
    /// Fields of Kong's that have no effect here: a warning, once for each name.
    pub(super) ignored: &'static [&'static str],
    /// Fields of Kong's that this version does not support: an error unless null, empty, or off.
    pub(super) unsupported: &'static [&'static str],
}

impl Schema {
    /// Whether it is that of an entity, in which Kong or decK may nest other entities.
    fn may_contain_entities(&self) -> bool {
        matches!(
            self.name,
            "policy"
                | "ca_certificates"
                | "services"
                | "routes"
                | "consumers"
                | "plugins"
                | "mtls_auth_credentials"
                | "header_cert_auth_credentials"
                | "acls"
                | "groups"
        )
    }
}

/// Metadata of Kong and decK that any entity may have and that has no effect.
const METADATA: &[&str] = &[
    "tags",
    "created_at",
    "updated_at",
    "ws_id",
    "_comment",
    "_ignore",
    "_info",
];

/// The entities to which `tls_client_auth_cert_id` refers.
pub(super) const CERTIFICATES: &str = "certificates";

/// The entities of Kong's and decK's files that have no effect here, wherever they are.
pub(super) const KONG_ENTITIES: &[&str] = &[
    "_plugin_configs",
    "admins",
    "application_instances",
    "applications",
    "asymmetric_keys",
    "basicauth_credentials",
    "certificates",
    "cloned_plugins",
    "consumer_group_consumers",
    "consumer_group_plugins",
    "consumer_groups",
    "custom_entities",
    "custom_plugins",
    "degraphql_routes",
    "developers",
    "event_hooks",
    "files",
    "filter_chains",
    "graphql_ratelimiting_advanced_cost_decoration",
    "graphql_ratelimiting_cost_decorations",
    "hmacauth_credentials",
    "jwt_secrets",
    "jwt_signer_jwks",
    "key_sets",
    "keyauth_credentials",
    "keyauth_enc_credentials",
    "keyring_keys",
    "keyring_meta",
    "keys",
    "licenses",
    "oauth2_authorization_codes",
    "oauth2_credentials",
    "oauth2_tokens",
    "parameters",
    "partials",
    "plugin_schemas",
    "plugins_partials",
    "ratelimiting_metrics",
    "rbac_role_endpoints",
    "rbac_role_entities",
    "rbac_roles",
    "rbac_user_groups",
    "rbac_user_roles",
    "rbac_users",
    "service_packages",
    "session_metadatas",
    "snis",
    "targets",
    "upstreams",
    "vaults",
    "vault_auth_vaults",
    "workspace_entities",
    "workspace_entity_counters",
    "workspaces",
];

const REFERENCE: Schema = Schema {
    name: "reference",
    supported: &["id", "name"],
    ignored: &[],
    unsupported: &[],
};

const CONSUMER_REFERENCE: Schema = Schema {
    name: "reference",
    supported: &["id", "username"],
    ignored: &[],
    unsupported: &[],
};

/// The longest time, in seconds or milliseconds.
pub(super) const MAX_TIME: u32 = i32::MAX as u32;

/// A mapping. [`DocumentReader::object`] makes one after checking its keys.
pub(super) struct Object<'t> {
    pub(super) node: &'t Node<'t>,
}

impl<'t> Object<'t> {
    /// Returns a field, also when it is null.
    pub(super) fn field(&self, name: &str) -> Option<&'t Node<'t>> {
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        entries
            .iter()
            .find(|(key, _)| &*key.text == name)
            .map(|(_, value)| value)
    }

    /// Returns a field that is present and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'t Node<'t>> {
        self.field(name).filter(|value| !value.is_null())
    }
}

impl<'t> DocumentReader<'t, '_> {
    /// Checks the keys of a mapping against a schema. `None` if it is not a mapping, which is
    /// reported.
    pub(super) fn object<'c>(
        &mut self,
        node: &'c Node<'c>,
        path: &Path<'_>,
        schema: &Schema,
    ) -> Option<Object<'c>> {
        self.object_with_config(node, path, schema, None)
    }

    /// [`DocumentReader::object`] of a mapping with a field `config` of another schema. An error
    /// says where a key belongs that is beside `config` in place of below it.
    pub(super) fn object_with_config<'c>(
        &mut self,
        node: &'c Node<'c>,
        path: &Path<'_>,
        schema: &Schema,
        config: Option<&Schema>,
    ) -> Option<Object<'c>> {
        let Value::Map(entries) = &node.value else {
            self.expected(node, path, "a mapping");
            return None;
        };
        for (key, value) in entries.iter() {
            let name = &*key.text;
            if schema.supported.contains(&name) || METADATA.contains(&name) {
                continue;
            }
            if name == CERTIFICATES && schema.name == "policy" && !is_off(schema.name, name, value)
            {
                // Plugins may refer to its entries.
                self.certificates_key.get_or_insert(key.position);
            } else if schema.ignored.contains(&name) {
                if !is_off(schema.name, name, value) {
                    let subject = format!("{} {name}", schema.name);
                    let message = "has no effect in resty-mtls";
                    self.report
                        .warn_once(&subject, key.position, &path.field(name), message);
                }
            } else if schema.unsupported.contains(&name) {
                if !is_off(schema.name, name, value) {
                    self.unsupported(name, key.position, value, path);
                }
            } else if schema.may_contain_entities() && KONG_ENTITIES.contains(&name) {
                if !value.is_null() && !value.is_empty() {
                    let subject = format!("entity {name}");
                    let message = "has no effect in resty-mtls";
                    self.report
                        .warn_once(&subject, key.position, &path.field(name), message);
                }
            } else {
                let known = [
                    schema.supported,
                    schema.ignored,
                    schema.unsupported,
                    METADATA,
                ]
                .concat();
                let is_of_config = config.is_some_and(|config| config.supported.contains(&name));
                let hint = match self.report.did_you_mean(name, known) {
                    hint if is_of_config || hint.is_empty() => {
                        let expected = schema.supported.join(", ");
                        let below = match is_of_config {
                            true => "; it belongs below 'config'",
                            false if name == "config" && schema.supported.contains(&"plugins") => {
                                "; it belongs to a plugin, indented as the plugin's 'name'"
                            }
                            false => "",
                        };
                        format!(", expected one of {expected}{below}")
                    }
                    hint => hint,
                };
                let message = format!("unknown field '{}'{hint}", quoted(name.as_bytes()));
                self.report.error(key.position, path, message);
            }
        }
        Some(Object { node })
    }

    /// Reports a field that is not supported, unless it is null or empty.
    pub(super) fn unsupported(
        &mut self,
        name: &str,
        position: Position,
        value: &Node<'_>,
        path: &Path<'_>,
    ) {
        if !value.is_null() && !value.is_empty() {
            let message = "is not supported by this version, expected null or nothing";
            self.report.error(position, &path.field(name), message);
        }
    }

    /// Returns the items of a list. `None` if it is not one, which is reported.
    pub(super) fn list<'c>(
        &mut self,
        node: &'c Node<'c>,
        path: &Path<'_>,
    ) -> Option<&'c [Node<'c>]> {
        match &node.value {
            Value::List(items) => Some(items),
            // Lua writes an empty list as `{}` in JSON, since it has one type for both.
            Value::Map(entries) if entries.is_empty() => Some(&[]),
            Value::Map(_) => {
                self.expected(node, path, "a list, whose items begin with '- '");
                None
            }
            Value::Scalar { .. } => {
                self.expected(node, path, "a list");
                None
            }
        }
    }

    /// Calls `read` for each item of a list.
    pub(super) fn each(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
        mut read: impl FnMut(&mut Self, &'t Node<'t>, &Path<'_>),
    ) {
        let Some(items) = self.list(node, path) else {
            return;
        };
        for (index, item) in items.iter().enumerate() {
            read(self, item, &path.item(index));
        }
    }

    /// Reads the fields `id` and `name`.
    pub(super) fn entity_key(&mut self, object: &Object<'t>, path: &Path<'_>) -> EntityKey<'t> {
        let id = self.id(object, path);
        let name = object.get("name").and_then(|node| {
            let path = path.field("name");
            let name = self.text(node, &path)?;
            if name.is_empty() {
                self.expected(node, &path, "a name");
            }
            Some(name)
        });
        EntityKey { id, name }
    }

    /// Reads the field `id`.
    pub(super) fn id<'c>(&mut self, object: &Object<'c>, path: &Path<'_>) -> Option<Uuid> {
        let node = object.get("id")?;
        let path = path.field("id");
        let text = self.text(node, &path)?;
        let id = uuid(text);
        if id.is_none() {
            let text = quoted(text.as_bytes());
            let message = format!(
                "'{text}' is not a UUID, expected for example \
                 '11111111-1111-4111-8111-111111111111'"
            );
            self.report.error(node.position, &path, message);
        }
        id
    }

    /// Reads the reference of an entity to a service, route or consumer. It is a text, or `{id}`,
    /// or `{name}` (`{username}` for a consumer). An entity that is inside another one, at index
    /// `parent`, refers to that.
    pub(super) fn link(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        field: &'static str,
        parent: Option<usize>,
    ) -> Option<Link<'t>> {
        let path = path.field(field);
        let node = object.get(field);
        if let Some(parent) = parent {
            if let Some(node) = node {
                let message = format!(
                    "{} inside the {field} it belongs to, expected null or nothing",
                    node.describe()
                );
                self.report.error(node.position, &path, message);
            }
            return Some(Link::Parent(parent));
        }
        let node = node?;
        let Value::Map(_) = &node.value else {
            let text = self.text(node, &path)?;
            return Some(Link::Reference {
                text,
                by: LinkBy::Either,
                position: node.position,
            });
        };
        let (schema, key) = match field {
            "consumer" => (&CONSUMER_REFERENCE, "username"),
            _ => (&REFERENCE, "name"),
        };
        let object = self.object(node, &path, schema)?;
        let (field, by, node) = match (object.get("id"), object.get(key)) {
            (Some(id), None) => ("id", LinkBy::Id, id),
            (None, Some(name)) => (key, LinkBy::Name, name),
            _ => {
                self.expected(node, &path, &format!("either 'id' or '{key}'"));
                return None;
            }
        };
        let text = self.text(node, &path.field(field))?;
        Some(Link::Reference {
            text,
            by,
            position: node.position,
        })
    }

    /// Reads a text. A plain number or boolean is an error. A reference to a vault is replaced by
    /// its value.
    pub(super) fn text<'c>(&mut self, node: &'c Node<'c>, path: &Path<'_>) -> Option<&'c str>
    where
        't: 'c,
    {
        let Value::Scalar { text, .. } = &node.value else {
            self.expected(node, path, "text");
            return None;
        };
        if node.is_null() {
            self.expected(node, path, "text");
            return None;
        }
        if node.as_bool().is_some() || node.as_number().is_some() {
            self.expected(node, path, "text, in quotes");
            return None;
        }
        self.vault_value(text, node.position, path)
    }

    /// Returns the value of a text that is a reference to a vault, and any other text as it is.
    /// `None` for a reference without a value, which is reported.
    pub(super) fn vault_value<'c>(
        &mut self,
        text: &'c str,
        position: Position,
        path: &Path<'_>,
    ) -> Option<&'c str>
    where
        't: 'c,
    {
        if !Vaults::is_reference(text) {
            return Some(text);
        }
        match self.vaults.resolve(text) {
            Ok(found) => {
                self.report.conceal(&found.variable, found.value);
                Some(found.value)
            }
            Err(why) => {
                self.report.error(position, path, why);
                None
            }
        }
    }

    /// Reads a list of texts, each with its position and its index in the list. An absent field is
    /// an empty list.
    pub(super) fn texts<'c>(
        &mut self,
        object: &Object<'c>,
        path: &Path<'_>,
        field: &str,
    ) -> Vec<(&'c str, Position, usize)>
    where
        't: 'c,
    {
        let Some(node) = object.get(field) else {
            return Vec::new();
        };
        let path = path.field(field);
        let items = self.list(node, &path).unwrap_or_default();
        items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| Some((self.text(item, &path.item(i))?, item.position, i)))
            .collect()
    }

    /// Reads a boolean.
    pub(super) fn boolean<'c>(
        &mut self,
        object: &Object<'c>,
        path: &Path<'_>,
        field: &str,
    ) -> Option<bool> {
        let node = object.get(field)?;
        let found = node.as_bool();
        if found.is_none() {
            self.expected(node, &path.field(field), "true or false");
        }
        found
    }

    /// Reads a text that must be one of `words`, and returns the value of the word.
    pub(super) fn one_of<'c, T: Copy>(
        &mut self,
        object: &Object<'c>,
        path: &Path<'_>,
        field: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let node = object.get(field)?;
        let path = path.field(field);
        let is_word = |text: &str| words.iter().any(|(word, _)| *word == text);
        let text = match &node.value {
            // A word that is a boolean in YAML, such as off, needs quotes; any other value a word.
            Value::Scalar { text, .. }
                if (node.as_bool().is_some() || node.as_number().is_some()) && !is_word(text) =>
            {
                text
            }
            _ => self.text(node, &path)?,
        };
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
            let (last, others) = words.split_last()?;
            let expected = match others {
                [] => last.clone(),
                _ => format!("{} or {last}", others.join(", ")),
            };
            self.expected(node, &path, &expected);
        }
        found.map(|(_, value)| *value)
    }

    /// Reads an integer from `min` to `max`.
    pub(super) fn integer<'c>(
        &mut self,
        object: &Object<'c>,
        path: &Path<'_>,
        field: &str,
        min: u32,
        max: u32,
    ) -> Option<u32> {
        let node = object.get(field)?;
        let number = node.as_number().filter(|number| number.fract() == 0.0);
        let found = number.filter(|number| (f64::from(min)..=f64::from(max)).contains(number));
        if found.is_none() {
            self.expected(
                node,
                &path.field(field),
                &format!("an integer from {min} to {max}"),
            );
        }
        found.map(|number| number as u32)
    }

    /// Reports that the node is not what was expected.
    pub(super) fn expected(&mut self, node: &Node<'_>, path: &Path<'_>, expected: &str) {
        let message = format!("{}, expected {expected}", node.describe());
        self.report.error(node.position, path, message);
    }

    /// Reports that a required field is missing.
    pub(super) fn missing(&mut self, node: &Node<'_>, path: &Path<'_>, field: &str) {
        let message = format!("the required field '{field}' is missing");
        self.report.error(node.position, path, message);
    }
}

/// Parses `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
pub(in crate::policy) fn uuid(text: &str) -> Option<Uuid> {
    let mut id = [0; 16];
    let mut digits = 0;
    for (i, c) in text.chars().enumerate() {
        if matches!(i, 8 | 13 | 18 | 23) {
            if c != '-' {
                return None;
            }
            continue;
        }
        let digit = c.to_digit(16)? as u8;
        let byte = id.get_mut(digits / 2)?;
        *byte = *byte << 4 | digit;
        digits += 1;
    }
    (digits == 32 && text.len() == 36).then_some(id)
}
