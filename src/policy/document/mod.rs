//! The tree of a policy -> typed entities: Kong's declarative format, as far as it concerns
//! client certificates. Every error is reported; what is readable is read all the same, so that
//! one pass finds them all.
//!
//! A field or plugin of Kong that is none of ours is warned about once. An unknown field or plugin
//! is an error. What this version cannot do is an error too, never silently left out.

mod acl;
mod cert_headers;
mod consumers;
mod fields;
mod header_names;
mod metadata_headers;
mod mtls_auth;
mod plugin_names;
mod rules;
mod tokens;

use self::fields::{Object, Shape};
use super::report::{Path, Place, Report, Trail};
use super::tree::{Node, Value};
use crate::handshake::server_name::Pattern;
use crate::identity::{Acl, Rules};

pub(super) use cert_headers::CertHeaders;
pub(super) use consumers::{CaReference, Consumer, Credential, Group};
pub(super) use fields::uuid;
pub(super) use header_names::fold;
pub(super) use metadata_headers::MetadataHeaders;
pub(super) use mtls_auth::{ConsumerName, Content, MtlsAuth};
pub(super) use tokens::{HeaderCertAuth, OpenidConnect};

/// A UUID as bytes: its case does not matter.
pub(super) type Uuid = [u8; 16];

/// Where an entity stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Spot {
    pub place: Place,
    pub path: Trail,
}

/// What other entities may call a service or route by.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity<'t> {
    pub id: Option<Uuid>,
    pub name: Option<&'t str>,
}

/// How an entity names another one.
#[derive(Clone, Debug)]
pub(super) enum Link<'t> {
    /// It lies inside it: position in the document's list.
    Parent(usize),
    /// By text, at a place.
    Reference { text: &'t str, by: By, place: Place },
}

/// What the text of a reference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Id,
    Name,
    Either,
}

pub(super) struct Ca<'t> {
    pub spot: Spot,
    pub id: Option<Uuid>,
    pub cert: Option<(&'t str, Place)>,
    pub digest: Option<(&'t str, Place)>,
}

pub(super) struct Service<'t> {
    pub spot: Spot,
    pub identity: Identity<'t>,
}

pub(super) struct Route<'t> {
    pub spot: Spot,
    pub identity: Identity<'t>,
    pub service: Option<Link<'t>>,
    pub snis: Vec<Pattern>,
    pub hosts: Vec<(&'t str, Place)>,
}

pub(super) struct Plugin<'t> {
    pub spot: Spot,
    pub service: Option<Link<'t>>,
    pub route: Option<Link<'t>>,
    pub config: Config<'t>,
}

/// The plugins of this version.
pub(super) enum Config<'t> {
    MtlsAuth(Box<MtlsAuth<'t>>),
    TlsHandshakeModifier,
    TlsMetadataHeaders(MetadataHeaders),
    ClientCertHeaders(CertHeaders),
    Acl(Acl),
    ClientCertAcl(Rules),
    HeaderCertAuth(Box<HeaderCertAuth<'t>>),
    OpenidConnect(Box<OpenidConnect<'t>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    MtlsAuth,
    TlsHandshakeModifier,
    TlsMetadataHeaders,
    ClientCertHeaders,
    Acl,
    ClientCertAcl,
    HeaderCertAuth,
    OpenidConnect,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::MtlsAuth,
        Kind::TlsHandshakeModifier,
        Kind::TlsMetadataHeaders,
        Kind::ClientCertHeaders,
        Kind::Acl,
        Kind::ClientCertAcl,
        Kind::HeaderCertAuth,
        Kind::OpenidConnect,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::MtlsAuth => "mtls-auth",
            Kind::TlsHandshakeModifier => "tls-handshake-modifier",
            Kind::TlsMetadataHeaders => "tls-metadata-headers",
            Kind::ClientCertHeaders => "client-cert-headers",
            Kind::Acl => "acl",
            Kind::ClientCertAcl => "client-cert-acl",
            Kind::HeaderCertAuth => "header-cert-auth",
            Kind::OpenidConnect => "openid-connect",
        }
    }
}

impl Config<'_> {
    pub fn kind(&self) -> Kind {
        match self {
            Config::MtlsAuth(_) => Kind::MtlsAuth,
            Config::TlsHandshakeModifier => Kind::TlsHandshakeModifier,
            Config::TlsMetadataHeaders(_) => Kind::TlsMetadataHeaders,
            Config::ClientCertHeaders(_) => Kind::ClientCertHeaders,
            Config::Acl(_) => Kind::Acl,
            Config::ClientCertAcl(_) => Kind::ClientCertAcl,
            Config::HeaderCertAuth(_) => Kind::HeaderCertAuth,
            Config::OpenidConnect(_) => Kind::OpenidConnect,
        }
    }
}

/// A whole policy, references not yet followed.
#[derive(Default)]
pub(super) struct Document<'t> {
    pub cas: Vec<Ca<'t>>,
    pub services: Vec<Service<'t>>,
    pub routes: Vec<Route<'t>>,
    pub plugins: Vec<Plugin<'t>>,
    /// Plugins with `enabled: false`. They do nothing, but their headers stay what only the gateway
    /// may set: an upstream that believes them goes on doing so.
    pub disabled: Vec<Plugin<'t>>,
    pub consumers: Vec<Consumer<'t>>,
    pub credentials: Vec<Credential<'t>>,
    pub groups: Vec<Group<'t>>,
    /// A list of the members of consumer groups that is not read.
    pub unread_members: Option<(Place, &'static str)>,
}

const POLICY: Shape = Shape {
    what: "policy",
    ours: &[
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
    kongs: &[
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
    refused: &[],
};

const CA: Shape = Shape {
    what: "ca_certificates",
    ours: &["id", "cert", "cert_digest"],
    kongs: &[],
    refused: &[],
};

const SERVICE: Shape = Shape {
    what: "services",
    ours: &["id", "name", "routes", "plugins"],
    kongs: &[
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
    refused: &[],
};

const ROUTE: Shape = Shape {
    what: "routes",
    ours: &["id", "name", "service", "snis", "hosts", "plugins"],
    kongs: &[
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
    refused: &[],
};

const PLUGIN: Shape = Shape {
    what: "plugins",
    ours: &[
        "id",
        "name",
        "instance_name",
        "enabled",
        "service",
        "route",
        "config",
    ],
    kongs: &["ordering", "protocols", "run_on"],
    refused: &[
        "_config",
        "condition",
        "consumer",
        "consumer_group",
        "partials",
    ],
};

const TLS_HANDSHAKE_MODIFIER: Shape = Shape {
    what: "tls-handshake-modifier",
    ours: &["tls_client_certificate"],
    kongs: &[],
    refused: &[],
};

const FORMAT_VERSIONS: &[&str] = &["1.1", "2.1", "3.0"];

/// Reads a whole policy.
pub(super) fn read<'t>(root: &'t Node<'t>, report: &mut Report) -> Document<'t> {
    let mut reader = Reader {
        report,
        document: Document::default(),
        declared_plugins: Vec::new(),
    };
    reader.policy(root);
    reader.document
}

struct Reader<'t, 'r> {
    report: &'r mut Report,
    document: Document<'t>,
    /// Names of plugins that are neither ours nor Kong's.
    declared_plugins: Vec<&'t str>,
}

impl<'t> Reader<'t, '_> {
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
                    self.report.error(node.place, &path, message);
                }
            }
        }
        self.unread_members(&object);
        self.declared_plugins(&object);
        for (section, entity) in [
            (
                "ca_certificates",
                Reader::ca as fn(&mut Self, &'t Node<'t>, &Path<'_>),
            ),
            ("services", Reader::service),
            ("routes", |reader, node, path| {
                reader.route(node, path, None)
            }),
            ("plugins", |reader, node, path| {
                reader.plugin(node, path, None, None)
            }),
            ("consumers", Reader::consumer),
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
            Some((self.text(node, &path.field(field))?, node.place))
        };
        let (cert, digest) = (text("cert"), text("cert_digest"));
        if object.get("cert").is_none() {
            self.missing(node, path, "cert");
        }
        self.document.cas.push(Ca {
            spot: spot(node, path),
            id,
            cert,
            digest,
        });
    }

    fn service(&mut self, node: &'t Node<'t>, path: &Path<'_>) {
        let Some(object) = self.object(node, path, &SERVICE) else {
            return;
        };
        let identity = self.identity(&object, path);
        let index = self.document.services.len();
        self.document.services.push(Service {
            spot: spot(node, path),
            identity,
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
        let identity = self.identity(&object, path);
        let service = self.link(&object, path, "service", parent);
        let texts = self.texts(&object, path, "snis");
        let mut snis = Vec::with_capacity(texts.len());
        for (text, place, index) in texts {
            match Pattern::parse(text.as_bytes()) {
                Ok(pattern) => snis.push(pattern),
                Err(error) => {
                    let path = path.field("snis");
                    self.report
                        .error(place, &path.item(index), error.to_string());
                }
            }
        }
        let hosts = self.texts(&object, path, "hosts");
        let hosts = hosts
            .into_iter()
            .map(|(text, place, _)| (text, place))
            .collect();
        let index = self.document.routes.len();
        self.document.routes.push(Route {
            spot: spot(node, path),
            identity,
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
        if !enabled && Kind::ALL.into_iter().all(|kind| kind.name() != name_text) {
            return;
        }
        let Some(kind) = self.kind(name_text, name.place, &path.field("name")) else {
            return;
        };
        self.object(node, path, &PLUGIN);
        self.id(&object, path);
        let service = self.link(&object, path, "service", service);
        let route = self.link(&object, path, "route", route);
        let config_path = path.field("config");
        let config = object.get("config");
        let config = match kind {
            Kind::MtlsAuth => Config::MtlsAuth(Box::new(match config {
                Some(config) => self.mtls_auth(config, &config_path),
                None => {
                    self.missing(node, &config_path, "ca_certificates");
                    MtlsAuth::default()
                }
            })),
            Kind::TlsHandshakeModifier => {
                if let Some(config) = config {
                    self.handshake_modifier(config, &config_path);
                }
                Config::TlsHandshakeModifier
            }
            Kind::TlsMetadataHeaders => {
                let empty = Node {
                    place: node.place,
                    value: Value::Map([].into()),
                };
                let config = config.unwrap_or(&empty);
                Config::TlsMetadataHeaders(self.metadata_headers(config, &config_path))
            }
            Kind::ClientCertHeaders => {
                Config::ClientCertHeaders(self.cert_headers(node, config, &config_path))
            }
            Kind::Acl => Config::Acl(self.acl(node, config, &config_path)),
            Kind::ClientCertAcl => {
                Config::ClientCertAcl(self.client_cert_acl(node, config, &config_path))
            }
            Kind::HeaderCertAuth => {
                Config::HeaderCertAuth(Box::new(self.header_cert_auth(node, config, &config_path)))
            }
            Kind::OpenidConnect => {
                Config::OpenidConnect(Box::new(self.openid_connect(node, config, &config_path)))
            }
        };
        let plugin = Plugin {
            spot: spot(node, path),
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
                self.report.error(node.place, &path, message);
            }
        }
    }
}

pub(super) fn spot(node: &Node<'_>, path: &Path<'_>) -> Spot {
    Spot {
        place: node.place,
        path: Trail::of(path),
    }
}
