//! The tree of a policy -> typed entities: Kong's declarative format, as far as it concerns
//! client certificates. Every error is reported; what is readable is read all the same, so that
//! one pass finds them all.
//!
//! A field or plugin of Kong that is none of ours is warned about once. A field that nobody knows
//! is an error. What this version cannot do is an error too, never silently left out.

mod cert_headers;
mod consumers;
mod rules;
mod tokens;

use openssl::asn1::Asn1Object;

use super::report::{distance, Path, Place, Report};
use super::tree::{Node, Value};
use super::{GroupBy, RevocationMode};
use crate::handshake::server_name::{quoted, Pattern};
use crate::headers::{kong, Dialect, Options, Selection, When};
use crate::identity::{Acl, ConsumerBy, Rules};
use crate::trust::VerifyOptions;

pub(super) use cert_headers::CertHeaders;
pub(super) use consumers::{CaReference, Consumer, Credential, Group};
pub(super) use tokens::{HeaderCertAuth, OpenidConnect};

/// A UUID as bytes: its case does not matter.
pub(super) type Uuid = [u8; 16];

/// Where an entity stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Spot {
    pub place: Place,
    pub path: Box<str>,
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

/// A consumer by id or username, never by custom_id.
pub(super) type ConsumerName<'t> = (&'t str, Place);

/// Host and port of a proxy.
pub(super) type Proxy = (Box<str>, u16);

pub(super) struct MtlsAuth<'t> {
    pub cas: Vec<(Uuid, Place)>,
    pub options: VerifyOptions,
    pub send_ca_dn: bool,
    /// Whether TLS sessions of its clients may be resumed.
    pub resumption: bool,
    pub skip_consumer_lookup: bool,
    pub consumer_by: ConsumerBy,
    pub anonymous: Option<ConsumerName<'t>>,
    pub default_consumer: Option<ConsumerName<'t>>,
    pub group_by: Option<GroupBy>,
    /// Attribute types as OpenSSL writes them.
    pub dirname: Vec<Box<str>>,
    pub revocation: RevocationMode,
    /// Seconds.
    pub cert_cache_ttl: u32,
    /// Milliseconds.
    pub http_timeout: u32,
    pub ssl_verify: bool,
    pub http_proxy: Option<Proxy>,
    pub https_proxy: Option<Proxy>,
    /// Paths of local CRL files.
    pub crls: Vec<(&'t str, Place)>,
}

impl Default for MtlsAuth<'_> {
    fn default() -> Self {
        MtlsAuth {
            cas: Vec::new(),
            options: VerifyOptions::default(),
            send_ca_dn: false,
            resumption: true,
            skip_consumer_lookup: false,
            consumer_by: ConsumerBy {
                username: true,
                custom_id: true,
            },
            anonymous: None,
            default_consumer: None,
            group_by: Some(GroupBy::Cn),
            dirname: Vec::new(),
            revocation: RevocationMode::IgnoreCaError,
            cert_cache_ttl: 60_000,
            http_timeout: 30_000,
            ssl_verify: true,
            http_proxy: None,
            https_proxy: None,
            crls: Vec::new(),
        }
    }
}

pub(super) struct MetadataHeaders {
    /// Whether the headers are set; the names are ours either way.
    pub inject: bool,
    pub selection: Selection,
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
    pub disabled: Vec<Config<'t>>,
    pub consumers: Vec<Consumer<'t>>,
    pub credentials: Vec<Credential<'t>>,
    pub groups: Vec<Group<'t>>,
    /// A list of the members of consumer groups that is not read.
    pub unread_members: Option<(Place, &'static str)>,
}

/// The fields of one kind of mapping.
struct Shape {
    /// What it is called in a warning.
    what: &'static str,
    ours: &'static [&'static str],
    /// Kong's: a warning, once for each name.
    kongs: &'static [&'static str],
    /// Not supported by this version: an error unless null.
    refused: &'static [&'static str],
}

/// Bookkeeping of Kong and decK that may stand in any entity and says nothing about behaviour.
const BOOKKEEPING: &[&str] = &[
    "tags",
    "created_at",
    "updated_at",
    "ws_id",
    "_comment",
    "_ignore",
    "_info",
];

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
        "consumer_group_consumers",
        "consumer_group_plugins",
        "consumer_groups",
        "custom_entities",
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

const REFERENCE: Shape = Shape {
    what: "reference",
    ours: &["id", "name"],
    kongs: &[],
    refused: &[],
};

const CONSUMER_REFERENCE: Shape = Shape {
    what: "reference",
    ours: &["id", "username"],
    kongs: &[],
    refused: &[],
};

const MTLS_AUTH: Shape = Shape {
    what: "mtls-auth",
    ours: &[
        "ca_certificates",
        "send_ca_dn",
        "allow_partial_chain",
        "skip_consumer_lookup",
        "verify_depth",
        "auth_level",
        "resumption",
        "revocation_check_mode",
        "http_timeout",
        "cert_cache_ttl",
        "cache_ttl",
        "http_proxy_host",
        "http_proxy_port",
        "https_proxy_host",
        "https_proxy_port",
        "ssl_verify",
        "consumer_by",
        "authenticated_group_by",
        "san_dirname_matcher",
        "anonymous",
        "default_consumer",
        "crls",
    ],
    kongs: &[],
    refused: &[],
};

const ACL: Shape = Shape {
    what: "acl",
    ours: &[
        "allow",
        "deny",
        "hide_groups_header",
        "include_consumer_groups",
        "always_use_authenticated_groups",
    ],
    kongs: &[],
    refused: &[],
};

const TLS_HANDSHAKE_MODIFIER: Shape = Shape {
    what: "tls-handshake-modifier",
    ours: &["tls_client_certificate"],
    kongs: &[],
    refused: &[],
};

const TLS_METADATA_HEADERS: Shape = Shape {
    what: "tls-metadata-headers",
    ours: &[
        "inject_client_cert_details",
        "client_cert_header_name",
        "client_serial_header_name",
        "client_cert_issuer_dn_header_name",
        "client_cert_subject_dn_header_name",
        "client_cert_fingerprint_header_name",
        "client_cert_chain_header_name",
    ],
    kongs: &[],
    refused: &[],
};

const FORMAT_VERSIONS: &[&str] = &["1.1", "2.1", "3.0"];

/// The header names of `tls-metadata-headers`: field, default, key of the dialect.
const METADATA: &[(&str, &str, &str)] = &[
    ("client_cert_header_name", kong::CERT, "client_cert"),
    ("client_serial_header_name", kong::SERIAL, "client_serial"),
    (
        "client_cert_issuer_dn_header_name",
        kong::ISSUER_DN,
        "client_cert_issuer_dn",
    ),
    (
        "client_cert_subject_dn_header_name",
        kong::SUBJECT_DN,
        "client_cert_subject_dn",
    ),
    (
        "client_cert_fingerprint_header_name",
        kong::FINGERPRINT,
        "client_cert_fingerprint",
    ),
    (
        "client_cert_chain_header_name",
        kong::CHAIN,
        "client_cert_chain",
    ),
];

/// The one header name that null switches off.
const OPTIONAL_HEADER: &str = "client_cert_chain_header_name";

/// Longest time in seconds or milliseconds.
const MAX_SECONDS: u32 = i32::MAX as u32;

/// Longest header name: [`crate::headers::OwnedNames`] compares no longer ones than 127 bytes, and a
/// number and `-Too-Large` may come behind.
const MAX_HEADER_NAME: usize = 110;

/// Headers that frame a message or belong to one hop (RFC 9110 section 7.6.1), folded.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that clients send and upstreams need, folded: they would be removed from every request.
const OF_THE_CLIENT: &[&str] = &[
    "accept",
    "authorization",
    "content-type",
    "cookie",
    "origin",
    "user-agent",
];

/// Reads a whole policy.
pub(super) fn read<'t>(root: &'t Node<'t>, report: &mut Report) -> Document<'t> {
    let mut reader = Reader {
        report,
        document: Document::default(),
    };
    reader.policy(root);
    reader.document
}

/// A mapping whose keys have been checked.
struct Object<'t> {
    node: &'t Node<'t>,
}

impl<'t> Object<'t> {
    /// A field, also when it is null.
    fn field(&self, name: &str) -> Option<&'t Node<'t>> {
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        entries
            .iter()
            .find(|(key, _)| &*key.text == name)
            .map(|(_, value)| value)
    }

    /// A field that is not null.
    fn get(&self, name: &str) -> Option<&'t Node<'t>> {
        self.field(name).filter(|value| !value.is_null())
    }
}

struct Reader<'t, 'r> {
    report: &'r mut Report,
    document: Document<'t>,
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
        let mut snis = Vec::new();
        for (text, place, index) in self.texts(&object, path, "snis") {
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
        if !enabled {
            self.document.disabled.push(config);
            return;
        }
        self.document.plugins.push(Plugin {
            spot: spot(node, path),
            service,
            route,
            config,
        });
    }

    /// Which plugin of ours it is, if it is one.
    fn kind(&mut self, name: &str, place: Place, path: &Path<'_>) -> Option<Kind> {
        if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) {
            return Some(kind);
        }
        let shown = quoted(name.as_bytes());
        let ours = Kind::ALL.into_iter().map(Kind::name);
        let close = ours
            .map(|ours| (distance(name, ours), ours))
            .filter(|(distance, ours)| *distance <= ours.len() / 4)
            .min();
        match close {
            Some((_, ours)) => {
                let message = format!("unknown plugin '{shown}', did you mean '{ours}'?");
                self.report.error(place, path, message);
            }
            None => {
                let message =
                    format!("the plugin '{shown}' is not for resty-mtls and does nothing here");
                self.report
                    .warn_once(&format!("plugin {name}"), place, path, &message);
            }
        }
        None
    }

    fn mtls_auth(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> MtlsAuth<'t> {
        let mut config = MtlsAuth::default();
        let Some(object) = self.object(node, path, &MTLS_AUTH) else {
            return config;
        };
        self.cas_of(&object, path, &mut config);
        config.send_ca_dn = self.boolean(&object, path, "send_ca_dn").unwrap_or(false);
        config.resumption = self.boolean(&object, path, "resumption").unwrap_or(true);
        config.skip_consumer_lookup = self
            .boolean(&object, path, "skip_consumer_lookup")
            .unwrap_or(false);
        self.verify_options(&object, path, &mut config);
        self.who(&object, path, &mut config);
        self.revocation(&object, path, &mut config);
        config
    }

    fn verify_options(&mut self, object: &Object<'t>, path: &Path<'_>, config: &mut MtlsAuth<'t>) {
        let default = VerifyOptions::default();
        config.options = VerifyOptions {
            allow_partial_chain: self
                .boolean(object, path, "allow_partial_chain")
                .unwrap_or(default.allow_partial_chain),
            depth: self
                .integer(object, path, "verify_depth", 0, 100)
                .unwrap_or(default.depth),
            auth_level: self
                .integer(object, path, "auth_level", 0, 5)
                .unwrap_or(default.auth_level),
        };
    }

    /// Whom `mtls-auth` takes a trusted client for.
    fn who(&mut self, object: &Object<'t>, path: &Path<'_>, config: &mut MtlsAuth<'t>) {
        let mut consumer = |field| {
            let node = object.get(field)?;
            Some((self.text(node, &path.field(field))?, node.place))
        };
        config.anonymous = consumer("anonymous");
        config.default_consumer = consumer("default_consumer");
        if object.field("consumer_by").is_some() {
            config.consumer_by = ConsumerBy {
                username: false,
                custom_id: false,
            };
            for (text, place, index) in self.texts(object, path, "consumer_by") {
                match text {
                    "username" => config.consumer_by.username = true,
                    "custom_id" => config.consumer_by.custom_id = true,
                    _ => {
                        let text = quoted(text.as_bytes());
                        let message = format!("'{text}', expected 'username' or 'custom_id'");
                        let path = path.field("consumer_by");
                        self.report.error(place, &path.item(index), message);
                    }
                }
            }
        }
        let group_by = [("CN", GroupBy::Cn), ("DN", GroupBy::Dn)];
        match object.field("authenticated_group_by") {
            Some(node) if node.is_null() => config.group_by = None,
            _ => {
                let found = self.one_of(object, path, "authenticated_group_by", &group_by);
                config.group_by = found.or(config.group_by);
            }
        }
        for (text, place, index) in self.texts(object, path, "san_dirname_matcher") {
            let path = path.field("san_dirname_matcher");
            config
                .dirname
                .extend(self.attribute_type(text, place, &path.item(index)));
        }
        // Kong's cache of consumers and credentials: here they are all in memory.
        self.integer(object, path, "cache_ttl", 0, MAX_SECONDS);
    }

    fn revocation(&mut self, object: &Object<'t>, path: &Path<'_>, config: &mut MtlsAuth<'t>) {
        let modes = [
            ("SKIP", RevocationMode::Skip),
            ("IGNORE_CA_ERROR", RevocationMode::IgnoreCaError),
            ("STRICT", RevocationMode::Strict),
        ];
        if let Some(mode) = self.one_of(object, path, "revocation_check_mode", &modes) {
            config.revocation = mode;
        }
        let mut number = |field, to: &mut u32| {
            *to = self
                .integer(object, path, field, 1, MAX_SECONDS)
                .unwrap_or(*to);
        };
        number("http_timeout", &mut config.http_timeout);
        number("cert_cache_ttl", &mut config.cert_cache_ttl);
        if let Some(ssl_verify) = self.boolean(object, path, "ssl_verify") {
            config.ssl_verify = ssl_verify;
        }
        config.http_proxy = self.proxy(object, path, "http_proxy_host", "http_proxy_port");
        config.https_proxy = self.proxy(object, path, "https_proxy_host", "https_proxy_port");
        for (text, place, index) in self.texts(object, path, "crls") {
            if text.is_empty() {
                let path = path.field("crls");
                let message = "'', expected the path of a file of CRLs";
                self.report.error(place, &path.item(index), message);
            } else {
                config.crls.push((text, place));
            }
        }
    }

    fn proxy(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        host: &str,
        port: &str,
    ) -> Option<Proxy> {
        let given = (object.get(host), object.get(port));
        for (node, field, other) in [(given.0, host, port), (given.1, port, host)] {
            if let (Some(node), None) = (node, object.get(other)) {
                let message = format!("without '{other}', expected both or neither");
                self.report.error(node.place, &path.field(field), message);
            }
        }
        let number = self.integer(object, path, port, 1, 65_535);
        let node = given.0?;
        let text = self.text(node, &path.field(host))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let address = text.parse::<std::net::Ipv6Addr>().is_ok();
        if text.is_empty() || !(address || text.bytes().all(plain)) {
            let text = quoted(text.as_bytes());
            let message = format!(
                "'{text}' is neither a host name nor an address, expected for example \
                 'proxy.example.com'"
            );
            self.report.error(node.place, &path.field(host), message);
            return None;
        }
        Some((text.into(), u16::try_from(number?).ok()?))
    }

    /// The type of an attribute of a name as OpenSSL writes it: its long name, else a dotted OID.
    fn attribute_type(&mut self, text: &str, place: Place, path: &Path<'_>) -> Option<Box<str>> {
        match Asn1Object::from_str(text) {
            Ok(object) if !text.contains('\0') => Some(object.to_string().into()),
            _ => {
                let message = format!(
                    "'{}' is no attribute type that OpenSSL knows, expected a short name such as \
                     'OU', a long name such as 'organizationalUnitName' or an OID such as \
                     '2.5.4.11' (case matters)",
                    quoted(text.as_bytes())
                );
                self.report.error(place, path, message);
                None
            }
        }
    }

    fn acl(&mut self, plugin: &Node<'_>, config: Option<&'t Node<'t>>, path: &Path<'_>) -> Acl {
        let mut acl = Acl::default();
        let Some(object) = self.lists(plugin, config, path, &ACL, "group") else {
            return acl;
        };
        for (field, groups) in [("allow", &mut acl.allow), ("deny", &mut acl.deny)] {
            for (text, place, index) in self.texts(&object, path, field) {
                if text.is_empty() {
                    let path = path.field(field);
                    let message = "'', expected the name of a group";
                    self.report.error(place, &path.item(index), message);
                }
                groups.push(text.into());
            }
        }
        let mut flag = |field| self.boolean(&object, path, field).unwrap_or(false);
        acl.hide_groups_header = flag("hide_groups_header");
        acl.include_consumer_groups = flag("include_consumer_groups");
        acl.always_use_authenticated_groups = flag("always_use_authenticated_groups");
        acl
    }

    /// A configuration with at least one entry of `what` in 'allow' or 'deny'.
    fn lists(
        &mut self,
        plugin: &Node<'_>,
        config: Option<&'t Node<'t>>,
        path: &Path<'_>,
        shape: &Shape,
        what: &str,
    ) -> Option<Object<'t>> {
        let object = match config {
            Some(config) => Some(self.object(config, path, shape)?),
            None => None,
        };
        let empty = |field| {
            let list = object.as_ref().and_then(|object| object.get(field));
            list.is_none_or(Node::is_empty)
        };
        if empty("allow") && empty("deny") {
            let place = config.map_or(plugin.place, |config| config.place);
            let message = format!("expected at least one {what} in 'allow' or 'deny'");
            self.report.error(place, path, message);
        }
        object
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

    fn metadata_headers<'c>(&mut self, node: &'c Node<'c>, path: &Path<'_>) -> MetadataHeaders {
        let mut config = MetadataHeaders {
            inject: false,
            // Kong tells whatever was presented.
            selection: Selection::none(
                Dialect::Kong,
                Options {
                    when: Some(When::Presented),
                    ..Options::default()
                },
            ),
        };
        let Some(object) = self.object(node, path, &TLS_METADATA_HEADERS) else {
            return config;
        };
        config.inject = self
            .boolean(&object, path, "inject_client_cert_details")
            .unwrap_or(false);
        let mut fields: Vec<(String, &str)> = Vec::new();
        for &(field, default, key) in METADATA {
            let name = match object.field(field) {
                Some(node) if node.is_null() && field == OPTIONAL_HEADER => continue,
                Some(node) if !node.is_null() => self.told_name(node, &path.field(field)),
                _ => Some(default),
            };
            let Some(name) = name else {
                continue;
            };
            let folded = fold(name);
            if let Some((_, other)) = fields.iter().find(|(other, _)| *other == folded) {
                let place = object.field(field).map_or(node.place, |node| node.place);
                let message = format!(
                    "the header '{name}' is the same as that of '{other}' (case, '-' and '_' do \
                     not tell headers apart), expected another name"
                );
                self.report.error(place, &path.field(field), message);
                continue;
            }
            fields.push((folded, field));
            // The table above names keys of the dialect only.
            let _ = config.selection.rename(key, Some(name));
        }
        config
    }

    /// The name of a header that tells of the certificate.
    fn told_name<'c>(&mut self, node: &'c Node<'c>, path: &Path<'_>) -> Option<&'c str> {
        let name = self.header_name(node, path)?;
        if !OF_THE_CLIENT.contains(&&*fold(name)) {
            return Some(name);
        }
        let message = format!("the header '{name}' is the client's own, expected another name");
        self.report.error(node.place, path, message);
        None
    }

    fn header_name<'c>(&mut self, node: &'c Node<'c>, path: &Path<'_>) -> Option<&'c str> {
        let name = self.text(node, path)?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let shown = quoted(name.as_bytes());
        let wrong = if name.is_empty() || !name.bytes().all(token) {
            format!("'{shown}' is not a header name, expected a token such as 'X-Client-Cert'")
        } else if name.len() > MAX_HEADER_NAME {
            format!("the header name '{shown}' is over {MAX_HEADER_NAME} bytes")
        } else if FRAMING.contains(&&*fold(name)) {
            format!(
                "the header '{shown}' frames the message or belongs to one connection, expected \
                 another name"
            )
        } else if kong::IDENTITY.iter().any(|ours| fold(ours) == fold(name)) {
            format!("the header '{shown}' says who the consumer is, expected another name")
        } else {
            return Some(name);
        };
        self.report.error(node.place, path, wrong);
        None
    }

    /// Checks the keys of a mapping.
    fn object<'c>(
        &mut self,
        node: &'c Node<'c>,
        path: &Path<'_>,
        shape: &Shape,
    ) -> Option<Object<'c>> {
        let Value::Map(entries) = &node.value else {
            self.expected(node, path, "a mapping");
            return None;
        };
        for (key, value) in entries.iter() {
            let name = &*key.text;
            if shape.ours.contains(&name) || BOOKKEEPING.contains(&name) {
                continue;
            }
            if shape.kongs.contains(&name) {
                if !value.is_null() {
                    let subject = format!("{} {name}", shape.what);
                    let message = "is not for resty-mtls and does nothing here";
                    self.report
                        .warn_once(&subject, key.place, &path.field(name), message);
                }
            } else if shape.refused.contains(&name) {
                self.refused(name, key.place, value, path);
            } else {
                let known = [shape.ours, shape.kongs, shape.refused, BOOKKEEPING].concat();
                let meant = match self.report.did_you_mean(name, known) {
                    meant if meant.is_empty() => {
                        format!(", expected one of {}", shape.ours.join(", "))
                    }
                    meant => meant,
                };
                let message = format!("unknown field '{}'{meant}", quoted(name.as_bytes()));
                self.report.error(key.place, path, message);
            }
        }
        Some(Object { node })
    }

    fn refused(&mut self, name: &str, place: Place, value: &Node<'_>, path: &Path<'_>) {
        if !value.is_null() && !value.is_empty() {
            let message = "is not supported by this version, expected null or nothing";
            self.report.error(place, &path.field(name), message);
        }
    }

    fn list<'c>(&mut self, node: &'c Node<'c>, path: &Path<'_>) -> Option<&'c [Node<'c>]> {
        match &node.value {
            Value::List(items) => Some(items),
            // An empty Lua table becomes `{}` in JSON whatever it was meant to be.
            Value::Map(entries) if entries.is_empty() => Some(&[]),
            _ => {
                self.expected(node, path, "a list");
                None
            }
        }
    }

    fn each(
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

    fn identity(&mut self, object: &Object<'t>, path: &Path<'_>) -> Identity<'t> {
        let id = self.id(object, path);
        let name = object.get("name").and_then(|node| {
            let path = path.field("name");
            let name = self.text(node, &path)?;
            if name.is_empty() {
                self.expected(node, &path, "a name");
            }
            Some(name)
        });
        Identity { id, name }
    }

    fn id<'c>(&mut self, object: &Object<'c>, path: &Path<'_>) -> Option<Uuid> {
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
            self.report.error(node.place, &path, message);
        }
        id
    }

    /// Reads a reference to a service, route or consumer: text, or `{id}`, or `{name}`
    /// (`{username}`).
    fn link(
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
                self.report.error(node.place, &path, message);
            }
            return Some(Link::Parent(parent));
        }
        let node = node?;
        let Value::Map(_) = &node.value else {
            let text = self.text(node, &path)?;
            return Some(Link::Reference {
                text,
                by: By::Either,
                place: node.place,
            });
        };
        let (shape, key) = match field {
            "consumer" => (&CONSUMER_REFERENCE, "username"),
            _ => (&REFERENCE, "name"),
        };
        let object = self.object(node, &path, shape)?;
        let (field, by, node) = match (object.get("id"), object.get(key)) {
            (Some(id), None) => ("id", By::Id, id),
            (None, Some(name)) => (key, By::Name, name),
            _ => {
                self.expected(node, &path, &format!("either 'id' or '{key}'"));
                return None;
            }
        };
        let text = self.text(node, &path.field(field))?;
        Some(Link::Reference {
            text,
            by,
            place: node.place,
        })
    }

    fn text<'c>(&mut self, node: &'c Node<'c>, path: &Path<'_>) -> Option<&'c str> {
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
        Some(text)
    }

    /// A list of texts with their places and positions; no list when the field is absent.
    fn texts<'c>(
        &mut self,
        object: &Object<'c>,
        path: &Path<'_>,
        field: &str,
    ) -> Vec<(&'c str, Place, usize)> {
        let Some(node) = object.get(field) else {
            return Vec::new();
        };
        let path = path.field(field);
        let items = self.list(node, &path).unwrap_or_default();
        items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| Some((self.text(item, &path.item(i))?, item.place, i)))
            .collect()
    }

    fn boolean<'c>(&mut self, object: &Object<'c>, path: &Path<'_>, field: &str) -> Option<bool> {
        let node = object.get(field)?;
        let found = node.as_bool();
        if found.is_none() {
            self.expected(node, &path.field(field), "true or false");
        }
        found
    }

    /// One of a few words.
    fn one_of<'c, T: Copy>(
        &mut self,
        object: &Object<'c>,
        path: &Path<'_>,
        field: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let node = object.get(field)?;
        let path = path.field(field);
        let text = self.text(node, &path)?;
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

    /// An integer from `min` to `max`.
    fn integer<'c>(
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

    fn expected(&mut self, node: &Node<'_>, path: &Path<'_>, expected: &str) {
        let message = format!("{}, expected {expected}", node.describe());
        self.report.error(node.place, path, message);
    }

    fn missing(&mut self, node: &Node<'_>, path: &Path<'_>, field: &str) {
        let message = format!("the required field '{field}' is missing");
        self.report.error(node.place, path, message);
    }
}

pub(super) fn spot(node: &Node<'_>, path: &Path<'_>) -> Spot {
    Spot {
        place: node.place,
        path: path.to_string().into(),
    }
}

/// Reads `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
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

/// Two header names are one if they are equal after this, as in [`crate::headers::OwnedNames`].
pub(super) fn fold(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}
