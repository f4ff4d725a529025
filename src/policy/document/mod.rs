//! Reads the tree of a policy into typed entities. The format is Kong's declarative configuration,
//! as far as it concerns client certificates. After an error the rest is still read, so that one
//! pass finds all errors.
//!
//! A field or plugin of Kong's that has no effect here is warned about once. An unknown field or
//! plugin is an error, and so is a setting that this version does not support.

mod acl;
mod ca_certificates;
mod client_cert_acl;
mod client_cert_headers;
mod client_cert_lists;
mod consumers;
mod fields;
mod file_paths;
mod header_cert_auth;
mod header_names;
mod kong_fields;
mod mtls_auth;
mod openid_connect;
mod plugin_names;
mod plugins;
mod routes;
mod services;
mod tls_handshake_modifier;
mod tls_metadata_headers;
mod trust_domains;

use self::fields::{Object, Schema, CERTIFICATES, KONG_ENTITIES};
use super::report::{CompactPath, Path, Position, Report};
use super::tree::{Node, Value};
use super::vault::{VaultValues, Vaults};
use crate::text::quoted;

pub(super) use ca_certificates::{Ca, CaSource};
pub(super) use client_cert_headers::ClientCertHeaders;
pub(super) use client_cert_lists::ClientCertLists;
pub(super) use consumers::{AclGroup, CaReference, Consumer, Credential};
pub(super) use fields::uuid;
pub(super) use file_paths::FilePaths;
pub(super) use header_cert_auth::HeaderCertAuth;
pub(super) use header_names::fold_header_name;
pub(super) use mtls_auth::{ConsumerName, CrlSource, IgnoringPositions, MtlsAuth};
pub(super) use openid_connect::OpenidConnect;
pub use plugins::PluginKinds;
pub(super) use plugins::{Enforcement, Plugin, PluginConfig, PluginKind};
pub(super) use routes::Route;
pub(super) use services::Service;
pub(super) use tls_metadata_headers::TlsMetadataHeaders;
pub(super) use trust_domains::TrustDomain;

/// A UUID as bytes, since the case of its text does not matter.
pub(super) type Uuid = [u8; 16];

/// The location of an entity in the document.
#[derive(Clone, Debug, Default)]
pub(super) struct Location {
    pub position: Position,
    pub path: CompactPath,
}

/// The id and name by which other entities refer to a service, route or consumer.
#[derive(Clone, Debug, Default)]
pub(super) struct EntityKey<'t> {
    pub id: Option<Uuid>,
    pub name: Option<&'t str>,
}

/// The reference of an entity to another one.
#[derive(Clone, Debug)]
pub(super) enum Link<'t> {
    /// The entity is written inside the other one, which has this index in the list of
    /// [`Document`].
    Parent(usize),
    /// By id or name.
    Reference {
        text: &'t str,
        by: LinkBy,
        position: Position,
    },
}

/// What the text of a [`Link::Reference`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkBy {
    Id,
    Name,
    Either,
}

/// A whole policy. References between entities are not resolved yet.
#[derive(Default)]
pub(super) struct Document<'t> {
    pub cas: Vec<Ca<'t>>,
    pub trust_domains: Vec<TrustDomain<'t>>,
    pub services: Vec<Service<'t>>,
    pub routes: Vec<Route<'t>>,
    pub plugins: Vec<Plugin<'t>>,
    /// Plugins with `enabled: false`. They have no effect, except that their headers remain
    /// reserved, because an upstream may still trust them.
    pub disabled: Vec<Plugin<'t>>,
    pub consumers: Vec<Consumer<'t>>,
    pub credentials: Vec<Credential<'t>>,
    pub groups: Vec<AclGroup<'t>>,
    /// The ids of CAs in the rules of `client-cert-acl`, with their positions.
    pub rule_cas: Vec<(Uuid, Position, CompactPath)>,
    /// The names of trust domains in these rules.
    pub rule_trust_domains: Vec<(Box<str>, Position, CompactPath)>,
    /// The position and name of a list of members of consumer groups that is not read.
    pub unread_members: Option<(Position, &'static str)>,
}

const POLICY: Schema = Schema {
    name: "policy",
    supported: &[
        "_format_version",
        "_transform",
        "_workspace",
        "_konnect",
        "ca_certificates",
        "trust_domains",
        "services",
        "routes",
        "plugins",
        "consumers",
        "mtls_auth_credentials",
        "header_cert_auth_credentials",
        "acls",
        "vaults",
    ],
    ignored: KONG_ENTITIES,
    unsupported: &[],
};

const FORMAT_VERSIONS: &[&str] = &["1.1", "2.1", "3.0"];

/// Reads a whole policy. Errors are added to `report`.
pub(super) fn read<'t>(
    roots: &'t [Node<'t>],
    vault_values: &'t VaultValues,
    file_paths: &'t FilePaths,
    report: &mut Report,
) -> Document<'t> {
    let mut reader = DocumentReader {
        report,
        document: Document::default(),
        declared_plugins: Vec::new(),
        certificates: Vec::new(),
        certificates_key: None,
        uses_certificates: false,
        file_paths,
        present_file: 0,
        format_version: None,
        vaults: Vaults::new(vault_values),
        rule_positions: Default::default(),
    };
    for root in roots {
        reader.declare(root);
    }
    for (file, root) in roots.iter().enumerate() {
        reader.present_file = file;
        reader.policy(root);
    }
    reader.warn_about_certificates();
    reader.document
}

struct DocumentReader<'t, 'r> {
    report: &'r mut Report,
    document: Document<'t>,
    /// The names of custom plugins that the document declares.
    declared_plugins: Vec<&'t str>,
    /// The entries of `certificates`, to which plugins refer by id.
    certificates: Vec<(Uuid, &'t Node<'t>)>,
    /// The position of the first `certificates`.
    certificates_key: Option<Position>,
    /// Whether a plugin refers to an entry of `certificates`.
    uses_certificates: bool,
    file_paths: &'t FilePaths,
    /// The number of the file that is read.
    present_file: usize,
    /// `_format_version`. Defaults depend on it.
    format_version: Option<&'t str>,
    vaults: Vaults<'t>,
    /// See [`Plugin::rules`]; those of the plugin that is being read.
    rule_positions: [Vec<Position>; 2],
}

impl<'t> DocumentReader<'t, '_> {
    fn policy(&mut self, root: &'t Node<'t>) {
        let path = Path::ROOT;
        let Some(object) = self.object(root, &path, &POLICY) else {
            return;
        };
        match object.get("_format_version") {
            None => self.missing(root, &path, "_format_version"),
            Some(node) => {
                let path = path.field("_format_version");
                let version = self.text(node, &path);
                let first = *self
                    .format_version
                    .get_or_insert(version.unwrap_or_default());
                if version.is_some_and(|version| version != first) {
                    let message = format!(
                        "{} in one file and '{}' in another, expected one version",
                        node.describe(),
                        quoted(first.as_bytes())
                    );
                    self.report.error(node.position, &path, message);
                }
                if version.is_some_and(|version| !FORMAT_VERSIONS.contains(&version)) {
                    let message = format!(
                        "{} is not a known version, expected \"1.1\", \"2.1\" or \"3.0\"",
                        node.describe()
                    );
                    self.report.error(node.position, &path, message);
                }
            }
        }
        self.unread_members(&object);
        self.entities(&object);
    }

    /// Reads what other entities refer to, in whatever file it is.
    fn declare(&mut self, node: &'t Node<'t>) {
        let object = Object { node };
        self.declared_plugins(&object);
        if let Some(vaults) = object.get("vaults") {
            self.vaults.add(vaults);
        }
        if let Some(Value::List(items)) = object.get("certificates").map(|node| &node.value) {
            for node in items.iter() {
                let id = Object { node }.get("id").and_then(Node::as_text);
                self.certificates
                    .extend(id.and_then(uuid).map(|id| (id, node)));
            }
        }
    }

    /// Warns about `certificates` that no plugin uses, as about any other entity without effect.
    fn warn_about_certificates(&mut self) {
        if let (Some(position), false) = (self.certificates_key, self.uses_certificates) {
            let path = Path::ROOT;
            self.report.warn_once(
                "policy certificates",
                position,
                &path.field(CERTIFICATES),
                "has no effect in resty-mtls",
            );
        }
    }

    fn entities(&mut self, object: &Object<'t>) {
        let path = Path::ROOT;
        for (section, entity) in [
            (
                "ca_certificates",
                DocumentReader::ca as fn(&mut Self, &'t Node<'t>, &Path<'_>),
            ),
            ("trust_domains", DocumentReader::trust_domain),
            ("services", DocumentReader::service),
            ("routes", |reader, node, path| {
                reader.route(node, path, None)
            }),
            ("plugins", |reader, node, path| {
                reader.plugin(node, path, None, None)
            }),
            ("consumers", DocumentReader::consumer),
            ("mtls_auth_credentials", |reader, node, path| {
                reader.credential(node, path, None, PluginKind::MtlsAuth)
            }),
            ("header_cert_auth_credentials", |reader, node, path| {
                reader.credential(node, path, None, PluginKind::HeaderCertAuth)
            }),
            ("acls", |reader, node, path| {
                reader.acl_group(node, path, None)
            }),
        ] {
            if let Some(node) = object.get(section) {
                self.each(node, &path.field(section), entity);
            }
        }
    }
}

/// Returns the location of an entity.
pub(super) fn location(node: &Node<'_>, path: &Path<'_>) -> Location {
    Location {
        position: node.position,
        path: CompactPath::of(path),
    }
}
