//! Reads the tree of a policy into typed entities. The format is Kong's declarative configuration,
//! as far as it concerns client certificates. After an error the rest is still read, so that one
//! pass finds all errors.
//!
//! A field or plugin of Kong's that has no effect here is warned about once. An unknown field or
//! plugin is an error, and so is a setting that this version does not support.

mod acl;
mod client_cert_acl;
mod client_cert_headers;
mod consumers;
mod fields;
mod header_cert_auth;
mod header_names;
mod mtls_auth;
mod openid_connect;
mod plugin_names;
mod tls_metadata_headers;

use self::fields::{Object, Schema};
use super::report::{CompactPath, Path, Position, Report};
use super::tree::{Node, Value};
use crate::handshake::server_name::Pattern;
use crate::identity::{Acl, Rules};

pub(super) use client_cert_headers::ClientCertHeaders;
pub(super) use consumers::{CaReference, Consumer, Credential, Group};
pub(super) use fields::uuid;
pub(super) use header_cert_auth::HeaderCertAuth;
pub(super) use header_names::fold_header_name;
pub(super) use mtls_auth::{ConsumerName, IgnoringPositions, MtlsAuth};
pub(super) use openid_connect::OpenidConnect;
pub(super) use tls_metadata_headers::TlsMetadataHeaders;

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

/// An entry of `ca_certificates`.
pub(super) struct Ca<'t> {
    pub location: Location,
    pub id: Option<Uuid>,
    pub cert: Option<(&'t str, Position)>,
    pub digest: Option<(&'t str, Position)>,
}

/// An entry of `services`.
pub(super) struct Service<'t> {
    pub location: Location,
    pub key: EntityKey<'t>,
}

/// An entry of `routes`.
pub(super) struct Route<'t> {
    pub location: Location,
    pub key: EntityKey<'t>,
    pub service: Option<Link<'t>>,
    pub snis: Vec<Pattern>,
    pub hosts: Vec<(&'t str, Position)>,
}

/// An entry of `plugins`, for a plugin that is supported.
pub(super) struct Plugin<'t> {
    pub location: Location,
    pub service: Option<Link<'t>>,
    pub route: Option<Link<'t>>,
    pub config: PluginConfig<'t>,
}

/// The configuration of a plugin.
pub(super) enum PluginConfig<'t> {
    MtlsAuth(Box<MtlsAuth<'t>>),
    TlsHandshakeModifier,
    TlsMetadataHeaders(TlsMetadataHeaders),
    ClientCertHeaders(ClientCertHeaders),
    Acl(Acl),
    ClientCertAcl(Rules),
    HeaderCertAuth(Box<HeaderCertAuth<'t>>),
    OpenidConnect(Box<OpenidConnect<'t>>),
}

/// The plugins that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum PluginKind {
    MtlsAuth,
    TlsHandshakeModifier,
    TlsMetadataHeaders,
    ClientCertHeaders,
    Acl,
    ClientCertAcl,
    HeaderCertAuth,
    OpenidConnect,
}

impl PluginKind {
    pub const ALL: [PluginKind; 8] = [
        PluginKind::MtlsAuth,
        PluginKind::TlsHandshakeModifier,
        PluginKind::TlsMetadataHeaders,
        PluginKind::ClientCertHeaders,
        PluginKind::Acl,
        PluginKind::ClientCertAcl,
        PluginKind::HeaderCertAuth,
        PluginKind::OpenidConnect,
    ];

    pub fn name(self) -> &'static str {
        match self {
            PluginKind::MtlsAuth => "mtls-auth",
            PluginKind::TlsHandshakeModifier => "tls-handshake-modifier",
            PluginKind::TlsMetadataHeaders => "tls-metadata-headers",
            PluginKind::ClientCertHeaders => "client-cert-headers",
            PluginKind::Acl => "acl",
            PluginKind::ClientCertAcl => "client-cert-acl",
            PluginKind::HeaderCertAuth => "header-cert-auth",
            PluginKind::OpenidConnect => "openid-connect",
        }
    }
}

impl PluginConfig<'_> {
    pub fn kind(&self) -> PluginKind {
        match self {
            PluginConfig::MtlsAuth(_) => PluginKind::MtlsAuth,
            PluginConfig::TlsHandshakeModifier => PluginKind::TlsHandshakeModifier,
            PluginConfig::TlsMetadataHeaders(_) => PluginKind::TlsMetadataHeaders,
            PluginConfig::ClientCertHeaders(_) => PluginKind::ClientCertHeaders,
            PluginConfig::Acl(_) => PluginKind::Acl,
            PluginConfig::ClientCertAcl(_) => PluginKind::ClientCertAcl,
            PluginConfig::HeaderCertAuth(_) => PluginKind::HeaderCertAuth,
            PluginConfig::OpenidConnect(_) => PluginKind::OpenidConnect,
        }
    }
}

/// A whole policy. References between entities are not resolved yet.
#[derive(Default)]
pub(super) struct Document<'t> {
    pub cas: Vec<Ca<'t>>,
    pub services: Vec<Service<'t>>,
    pub routes: Vec<Route<'t>>,
    pub plugins: Vec<Plugin<'t>>,
    /// Plugins with `enabled: false`. They have no effect, except that their headers remain
    /// reserved, because an upstream may still trust them.
    pub disabled: Vec<Plugin<'t>>,
    pub consumers: Vec<Consumer<'t>>,
    pub credentials: Vec<Credential<'t>>,
    pub groups: Vec<Group<'t>>,
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
        "services",
        "routes",
        "plugins",
        "consumers",
        "mtls_auth_credentials",
        "header_cert_auth_credentials",
        "acls",
    ],
    ignored: &[
        "_plugin_configs",
        "basicauth_credentials",
        "certificates",
        "cloned_plugins",
        "consumer_group_consumers",
        "consumer_group_plugins",
        "consumer_groups",
        "custom_entities",
        "custom_plugins",
        "degraphql_routes",
        "files",
        "filter_chains",
        "graphql_ratelimiting_advanced_cost_decoration",
        "hmacauth_credentials",
        "jwt_secrets",
        "key_sets",
        "keyauth_credentials",
        "keys",
        "licenses",
        "oauth2_authorization_codes",
        "oauth2_credentials",
        "oauth2_tokens",
        "parameters",
        "partials",
        "rbac_role_endpoints",
        "rbac_role_entities",
        "rbac_roles",
        "rbac_users",
        "service_packages",
        "snis",
        "targets",
        "upstreams",
        "vaults",
        "workspaces",
    ],
    unsupported: &[],
};

const CA: Schema = Schema {
    name: "ca_certificates",
    supported: &["id", "cert", "cert_digest"],
    ignored: &[],
    unsupported: &[],
};

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

const ROUTE: Schema = Schema {
    name: "routes",
    supported: &["id", "name", "service", "snis", "hosts", "plugins"],
    ignored: &[
        "destinations",
        "expression",
        "headers",
        "https_redirect_status_code",
        "methods",
        "path_handling",
        "paths",
        "preserve_host",
        "priority",
        "protocols",
        "regex_priority",
        "request_buffering",
        "response_buffering",
        "sources",
        "strip_path",
    ],
    unsupported: &[],
};

const PLUGIN: Schema = Schema {
    name: "plugins",
    supported: &[
        "id",
        "name",
        "instance_name",
        "enabled",
        "service",
        "route",
        "config",
    ],
    ignored: &["ordering", "protocols", "run_on"],
    unsupported: &[
        "_config",
        "condition",
        "consumer",
        "consumer_group",
        "partials",
    ],
};

const TLS_HANDSHAKE_MODIFIER: Schema = Schema {
    name: "tls-handshake-modifier",
    supported: &["tls_client_certificate"],
    ignored: &[],
    unsupported: &[],
};

const FORMAT_VERSIONS: &[&str] = &["1.1", "2.1", "3.0"];

/// Reads a whole policy. Errors are added to `report`.
pub(super) fn read<'t>(root: &'t Node<'t>, report: &mut Report) -> Document<'t> {
    let mut reader = DocumentReader {
        report,
        document: Document::default(),
        declared_plugins: Vec::new(),
    };
    reader.policy(root);
    reader.document
}

struct DocumentReader<'t, 'r> {
    report: &'r mut Report,
    document: Document<'t>,
    /// The names of custom plugins that the document declares.
    declared_plugins: Vec<&'t str>,
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
        self.declared_plugins(&object);
        for (section, entity) in [
            (
                "ca_certificates",
                DocumentReader::ca as fn(&mut Self, &'t Node<'t>, &Path<'_>),
            ),
            ("services", DocumentReader::service),
            ("routes", |reader, node, path| {
                reader.route(node, path, None)
            }),
            ("plugins", |reader, node, path| {
                reader.plugin(node, path, None, None)
            }),
            ("consumers", DocumentReader::consumer),
            ("mtls_auth_credentials", |reader, node, path| {
                reader.credential(node, path, None, false)
            }),
            ("header_cert_auth_credentials", |reader, node, path| {
                reader.credential(node, path, None, true)
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

    fn ca(&mut self, node: &'t Node<'t>, path: &Path<'_>) {
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

    fn service(&mut self, node: &'t Node<'t>, path: &Path<'_>) {
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

    fn route(&mut self, node: &'t Node<'t>, path: &Path<'_>, parent: Option<usize>) {
        let Some(object) = self.object(node, path, &ROUTE) else {
            return;
        };
        let key = self.entity_key(&object, path);
        let service = self.link(&object, path, "service", parent);
        let texts = self.texts(&object, path, "snis");
        let mut snis = Vec::with_capacity(texts.len());
        for (text, position, index) in texts {
            match Pattern::parse(text.as_bytes()) {
                Ok(pattern) => snis.push(pattern),
                Err(error) => {
                    let path = path.field("snis");
                    self.report
                        .error(position, &path.item(index), error.to_string());
                }
            }
        }
        let hosts = self.texts(&object, path, "hosts");
        let hosts = hosts
            .into_iter()
            .map(|(text, position, _)| (text, position))
            .collect();
        let index = self.document.routes.len();
        self.document.routes.push(Route {
            location: location(node, path),
            key,
            service,
            snis,
            hosts,
        });
        if let Some(plugins) = object.get("plugins") {
            self.each(plugins, &path.field("plugins"), |reader, node, path| {
                reader.plugin(node, path, None, Some(index));
            });
        }
    }

    fn plugin(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
        service: Option<usize>,
        route: Option<usize>,
    ) {
        let Value::Map(_) = &node.value else {
            self.expected(node, path, "a mapping");
            return;
        };
        let object = Object { node };
        let Some(name) = object.get("name") else {
            self.object(node, path, &PLUGIN);
            self.missing(node, path, "name");
            return;
        };
        let Some(name_text) = self.text(name, &path.field("name")) else {
            return;
        };
        let enabled = self.boolean(&object, path, "enabled") != Some(false);
        if !enabled
            && PluginKind::ALL
                .into_iter()
                .all(|kind| kind.name() != name_text)
        {
            return;
        }
        let Some(kind) = self.plugin_kind(name_text, name.position, &path.field("name")) else {
            return;
        };
        self.object(node, path, &PLUGIN);
        self.id(&object, path);
        let service = self.link(&object, path, "service", service);
        let route = self.link(&object, path, "route", route);
        let config_path = path.field("config");
        let config = object.get("config");
        let config = match kind {
            PluginKind::MtlsAuth => PluginConfig::MtlsAuth(Box::new(match config {
                Some(config) => self.mtls_auth(config, &config_path),
                None => {
                    self.missing(node, &config_path, "ca_certificates");
                    MtlsAuth::default()
                }
            })),
            PluginKind::TlsHandshakeModifier => {
                if let Some(config) = config {
                    self.handshake_modifier(config, &config_path);
                }
                PluginConfig::TlsHandshakeModifier
            }
            PluginKind::TlsMetadataHeaders => {
                let empty = Node {
                    position: node.position,
                    value: Value::Map([].into()),
                };
                let config = config.unwrap_or(&empty);
                PluginConfig::TlsMetadataHeaders(self.metadata_headers(config, &config_path))
            }
            PluginKind::ClientCertHeaders => {
                PluginConfig::ClientCertHeaders(self.cert_headers(node, config, &config_path))
            }
            PluginKind::Acl => PluginConfig::Acl(self.acl(node, config, &config_path)),
            PluginKind::ClientCertAcl => {
                PluginConfig::ClientCertAcl(self.client_cert_acl(node, config, &config_path))
            }
            PluginKind::HeaderCertAuth => PluginConfig::HeaderCertAuth(Box::new(
                self.header_cert_auth(node, config, &config_path),
            )),
            PluginKind::OpenidConnect => PluginConfig::OpenidConnect(Box::new(
                self.openid_connect(node, config, &config_path),
            )),
        };
        let plugin = Plugin {
            location: location(node, path),
            service,
            route,
            config,
        };
        match enabled {
            true => self.document.plugins.push(plugin),
            false => self.document.disabled.push(plugin),
        }
    }

    fn handshake_modifier<'c>(&mut self, node: &'c Node<'c>, path: &Path<'_>) {
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

/// Returns the location of an entity.
pub(super) fn location(node: &Node<'_>, path: &Path<'_>) -> Location {
    Location {
        position: node.position,
        path: CompactPath::of(path),
    }
}
