//! The list `plugins`.

use super::fields::{Object, Schema};
use super::{
    acl, client_cert_acl, client_cert_headers, client_cert_lists, header_cert_auth, mtls_auth,
    openid_connect, tls_handshake_modifier, tls_metadata_headers,
};
use super::{location, DocumentReader, Link, Location};
use super::{
    ClientCertHeaders, ClientCertLists, HeaderCertAuth, MtlsAuth, OpenidConnect, TlsMetadataHeaders,
};
use crate::identity::{Acl, Rules};
use crate::policy::report::{Path, Position, Report};
use crate::policy::tree::{Node, Value};

/// An entry of `plugins`, for a plugin that is supported.
pub(in crate::policy) struct Plugin<'t> {
    pub location: Location,
    pub service: Option<Link<'t>>,
    pub route: Option<Link<'t>>,
    pub config: PluginConfig<'t>,
    pub enforcement: Enforcement,
    /// The positions of the rules of `client-cert-acl`: those of `allow`, then those of `deny`.
    pub rules: [Vec<Position>; 2],
}

/// Whether the refusals of a plugin apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::policy) enum Enforcement {
    #[default]
    Enforce,
    /// The request passes, and the refusal is logged and counted.
    Report,
}

/// The configuration of a plugin.
pub(in crate::policy) enum PluginConfig<'t> {
    MtlsAuth(Box<MtlsAuth<'t>>),
    TlsHandshakeModifier,
    TlsMetadataHeaders(TlsMetadataHeaders),
    ClientCertHeaders(ClientCertHeaders),
    Acl(Acl),
    ClientCertAcl(Rules),
    ClientCertLists(ClientCertLists<'t>),
    HeaderCertAuth(Box<HeaderCertAuth<'t>>),
    OpenidConnect(Box<OpenidConnect<'t>>),
}

/// The plugins that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::policy) enum PluginKind {
    MtlsAuth,
    TlsHandshakeModifier,
    TlsMetadataHeaders,
    ClientCertHeaders,
    Acl,
    ClientCertAcl,
    ClientCertLists,
    HeaderCertAuth,
    OpenidConnect,
}

impl PluginKind {
    pub const ALL: [PluginKind; 9] = [
        PluginKind::MtlsAuth,
        PluginKind::TlsHandshakeModifier,
        PluginKind::TlsMetadataHeaders,
        PluginKind::ClientCertHeaders,
        PluginKind::Acl,
        PluginKind::ClientCertAcl,
        PluginKind::ClientCertLists,
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
            PluginKind::ClientCertLists => "client-cert-lists",
            PluginKind::HeaderCertAuth => "header-cert-auth",
            PluginKind::OpenidConnect => "openid-connect",
        }
    }
}

/// A set of plugins, as [`PluginKind::ALL`] numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginKinds(u16);

const _: () = assert!(PluginKind::ALL.len() <= u16::BITS as usize);

impl PluginKinds {
    /// The set of those for which `applies` is true.
    pub(in crate::policy) fn of(applies: impl Fn(PluginKind) -> bool) -> PluginKinds {
        let kinds = PluginKind::ALL.into_iter().filter(|kind| applies(*kind));
        PluginKinds(kinds.fold(0, |set, kind| set | 1 << kind as u16))
    }

    /// The names of the plugins.
    pub(in crate::policy) fn names(self) -> impl Iterator<Item = &'static str> {
        self.kinds().map(PluginKind::name)
    }

    pub(in crate::policy) fn kinds(self) -> impl Iterator<Item = PluginKind> {
        let kinds = PluginKind::ALL.into_iter();
        kinds.filter(move |kind| self.0 & 1 << *kind as u16 != 0)
    }

    /// The set as a number.
    pub(in crate::policy) fn bits(self) -> u16 {
        self.0
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
            PluginConfig::ClientCertLists(_) => PluginKind::ClientCertLists,
            PluginConfig::HeaderCertAuth(_) => PluginKind::HeaderCertAuth,
            PluginConfig::OpenidConnect(_) => PluginKind::OpenidConnect,
        }
    }
}

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
        "expressions",
        "partials",
    ],
};

/// The fields below `config`.
fn config_schema(kind: PluginKind) -> &'static Schema {
    match kind {
        PluginKind::MtlsAuth => &mtls_auth::MTLS_AUTH,
        PluginKind::TlsHandshakeModifier => &tls_handshake_modifier::TLS_HANDSHAKE_MODIFIER,
        PluginKind::TlsMetadataHeaders => &tls_metadata_headers::TLS_METADATA_HEADERS,
        PluginKind::ClientCertHeaders => &client_cert_headers::CLIENT_CERT_HEADERS,
        PluginKind::Acl => &acl::ACL,
        PluginKind::ClientCertAcl => &client_cert_acl::CLIENT_CERT_ACL,
        PluginKind::ClientCertLists => &client_cert_lists::CLIENT_CERT_LISTS,
        PluginKind::HeaderCertAuth => &header_cert_auth::HEADER_CERT_AUTH,
        PluginKind::OpenidConnect => &openid_connect::OPENID_CONNECT,
    }
}

impl<'t> DocumentReader<'t, '_> {
    /// Reads an entry of `plugins`. `service` or `route` is the index of the entity that it is
    /// inside of.
    pub(super) fn plugin(
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
        if self.boolean(&object, path, "enabled") != Some(false) {
            let read = self.plugin_of(name_text, &object, path, service, route);
            self.document.plugins.extend(read);
            return;
        }
        // What is wrong with it has no effect, so nothing is reported. It is read for the names of
        // its headers only.
        let report = std::mem::replace(self.report, Report::new(""));
        let read = self.plugin_of(name_text, &object, path, service, route);
        *self.report = report;
        self.document.disabled.extend(read);
    }

    /// Reads `enforce` of a plugin that can refuse.
    fn enforcement(
        &mut self,
        kind: PluginKind,
        config: &Node<'_>,
        path: &Path<'_>,
    ) -> Option<Enforcement> {
        let Value::Map(_) = &config.value else {
            return None;
        };
        let words = [
            ("enforce", Enforcement::Enforce),
            ("report", Enforcement::Report),
        ];
        match kind {
            PluginKind::TlsHandshakeModifier
            | PluginKind::TlsMetadataHeaders
            | PluginKind::ClientCertHeaders => None,
            PluginKind::MtlsAuth
            | PluginKind::Acl
            | PluginKind::ClientCertAcl
            | PluginKind::ClientCertLists
            | PluginKind::HeaderCertAuth
            | PluginKind::OpenidConnect => {
                self.one_of(&Object { node: config }, path, "enforce", &words)
            }
        }
    }

    /// Reads a plugin. `None` if it is none that is supported, which is reported.
    fn plugin_of(
        &mut self,
        name_text: &str,
        object: &Object<'t>,
        path: &Path<'_>,
        service: Option<usize>,
        route: Option<usize>,
    ) -> Option<Plugin<'t>> {
        let node = object.node;
        let name = object.get("name")?;
        let kind = self.plugin_kind(name_text, name.position, &path.field("name"))?;
        self.object_with_config(node, path, &PLUGIN, Some(config_schema(kind)));
        self.id(object, path);
        let service = self.link(object, path, "service", service);
        let route = self.link(object, path, "route", route);
        let config_path = path.field("config");
        let config = object.get("config");
        let enforcement = config.and_then(|config| self.enforcement(kind, config, &config_path));
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
                    self.tls_handshake_modifier(config, &config_path);
                }
                PluginConfig::TlsHandshakeModifier
            }
            PluginKind::TlsMetadataHeaders => {
                let empty = Node {
                    position: node.position,
                    value: Value::Map([].into()),
                };
                let config = config.unwrap_or(&empty);
                PluginConfig::TlsMetadataHeaders(self.tls_metadata_headers(config, &config_path))
            }
            PluginKind::ClientCertHeaders => PluginConfig::ClientCertHeaders(
                self.client_cert_headers(node, config, &config_path),
            ),
            PluginKind::Acl => PluginConfig::Acl(self.acl(node, config, &config_path)),
            PluginKind::ClientCertAcl => {
                PluginConfig::ClientCertAcl(self.client_cert_acl(node, config, &config_path))
            }
            PluginKind::ClientCertLists => {
                PluginConfig::ClientCertLists(self.client_cert_lists(node, config, &config_path))
            }
            PluginKind::HeaderCertAuth => PluginConfig::HeaderCertAuth(Box::new(
                self.header_cert_auth(node, config, &config_path),
            )),
            PluginKind::OpenidConnect => PluginConfig::OpenidConnect(Box::new(
                self.openid_connect(node, config, &config_path),
            )),
        };
        Some(Plugin {
            location: location(node, path),
            service,
            route,
            config,
            enforcement: enforcement.unwrap_or_default(),
            rules: std::mem::take(&mut self.rule_positions),
        })
    }
}
