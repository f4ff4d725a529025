//! Compiled plugins, shared where their content is equal.

use std::rc::Rc;
use std::sync::Arc;

use openssl::sha::{sha256, Sha256};

use super::certificate_auth::AuthBuilder;
use super::consumers::ConsumerIndex;
use super::insecure_settings::{warn_about_source, warn_about_tokens};
use super::scopes::Slots;
use crate::identity::{Acl, Rules};
use crate::policy::certificate_header::CertificateHeader;
use crate::policy::document::{
    self, Document, Enforcement, IgnoringPositions, Location, PluginConfig, PluginKind,
};
use crate::policy::report::{Path, Report};
use crate::policy::token_auth::{ProofOfPossession, TokenAuth};
use crate::policy::{Auth, Lists, Map};
use crate::trust::{TrustStore, VerifyOptions};

/// A compiled plugin.
pub(super) enum CompiledPlugin<'t> {
    MtlsAuth {
        auth: Auth,
        contribution: u32,
    },
    TlsHandshakeModifier {
        contribution: u32,
    },
    TlsMetadataHeaders(&'t document::TlsMetadataHeaders),
    ClientCertHeaders(&'t document::ClientCertHeaders),
    Acl(Arc<Acl>),
    ClientCertAcl(Arc<Rules>),
    ClientCertLists(Arc<Lists>),
    HeaderCertAuth {
        auth: Auth,
        header: CertificateHeader,
    },
    OpenidConnect {
        settings: Arc<TokenAuth>,
        /// How the certificate from its header is verified.
        certificate: Option<(Auth, CertificateHeader)>,
    },
    /// A plugin with errors, which are in the report.
    Invalid,
}

/// What the contribution of an `mtls-auth` depends on: CAs, files of pinned certificates, trust
/// stores of the trust domains, options, `send_ca_dn`, `resumption`.
type AuthContent = (
    Vec<usize>,
    Vec<String>,
    Vec<[u8; 32]>,
    VerifyOptions,
    bool,
    bool,
);

/// What a plugin adds to the certificate requests of its server names. Plugins with equal content
/// share one.
pub(super) struct Contribution {
    pub stores: Vec<Arc<TrustStore>>,
    /// Positions of the CAs whose names are sent; `None` without `send_ca_dn`. Those of `stores`
    /// beyond the first one, which are of trust domains, are sent too.
    pub ca_names: Option<Vec<usize>>,
    /// Whether sessions may be resumed.
    pub resumption: bool,
    /// Position of the first plugin with this content.
    pub plugin: usize,
}

/// The plugins of the document, by position.
pub(super) struct Plugins<'t> {
    compiled: Vec<Rc<CompiledPlugin<'t>>>,
    pub contributions: Vec<Contribution>,
    /// For each plugin the first one with equal content, which may be itself.
    canonical: Vec<usize>,
}

impl<'t> Plugins<'t> {
    pub fn new(
        document: &'t Document<'t>,
        auths: &mut AuthBuilder<'_, 't, '_>,
        report: &mut Report,
    ) -> Plugins<'t> {
        let mut plugins = Plugins {
            compiled: Vec::new(),
            contributions: Vec::new(),
            canonical: Vec::new(),
        };
        let mut by_content: Map<IgnoringPositions<'_, 't>, usize> = Map::default();
        let mut last = Slots::default();
        let mut contribution_of: Map<Option<AuthContent>, u32> = Map::default();
        for (position, plugin) in document.plugins.iter().enumerate() {
            let enforced = plugin.enforcement == Enforcement::Enforce;
            let equal = plugins.find_equal(&plugin.config, &by_content, &last);
            // A plugin that refuses is not replaced by one that does not, nor the other way round:
            // those with `enforce: report` have a diagnostic, and are not shared.
            if let Some(first) = equal.filter(|_| enforced) {
                if let Some(compiled) = plugins.compiled.get(first).cloned() {
                    plugins.compiled.push(compiled);
                    plugins.canonical.push(first);
                    continue;
                }
            }
            let diagnostics_before = report.diagnostic_count();
            let mut contribute = |key, stores, ca_names, resumption| {
                *contribution_of.entry(key).or_insert_with(|| {
                    plugins.contributions.push(Contribution {
                        stores,
                        ca_names,
                        resumption,
                        plugin: position,
                    });
                    plugins.contributions.len() as u32 - 1
                })
            };
            let compiled = match &plugin.config {
                PluginConfig::TlsMetadataHeaders(headers) => {
                    CompiledPlugin::TlsMetadataHeaders(headers)
                }
                PluginConfig::ClientCertHeaders(headers) => {
                    CompiledPlugin::ClientCertHeaders(headers)
                }
                PluginConfig::Acl(acl) => CompiledPlugin::Acl(Arc::new(acl.clone())),
                PluginConfig::ClientCertAcl(rules) => {
                    CompiledPlugin::ClientCertAcl(Arc::new(auths.cas.resolve_rules(rules)))
                }
                PluginConfig::ClientCertLists(config) => {
                    match auths.lists.lists(config, &plugin.location, report) {
                        Some(lists) => CompiledPlugin::ClientCertLists(lists),
                        None => CompiledPlugin::Invalid,
                    }
                }
                PluginConfig::TlsHandshakeModifier => CompiledPlugin::TlsHandshakeModifier {
                    contribution: contribute(None, Vec::new(), None, true),
                },
                PluginConfig::MtlsAuth(config) => {
                    let location = &plugin.location;
                    let path = Path::Compact(&location.path);
                    let path = path.field("config");
                    match auths.mtls_auth(config, location, &path, report) {
                        Some((positions, auth)) => {
                            let ca_names = config.send_ca_dn.then(|| positions.clone());
                            let resumption = config.resumption;
                            let pinned = config.pinned.iter().map(|(file, _)| (*file).to_owned());
                            let domains = auth.trust_domains.iter();
                            let domains = domains.map(|domain| *domain.store.digest());
                            let key = (
                                positions,
                                pinned.collect(),
                                domains.collect(),
                                config.options,
                                config.send_ca_dn,
                                resumption,
                            );
                            let stores = auth.stores().cloned().collect();
                            let contribution = contribute(Some(key), stores, ca_names, resumption);
                            CompiledPlugin::MtlsAuth { auth, contribution }
                        }
                        None => CompiledPlugin::Invalid,
                    }
                }
                PluginConfig::HeaderCertAuth(config) => {
                    let path = Path::Compact(&plugin.location.path);
                    let path = path.field("config");
                    warn_about_source(config, &plugin.location, &path, report);
                    match auths.header_cert_auth(config, &plugin.location, &path, report) {
                        Some((auth, header)) => CompiledPlugin::HeaderCertAuth { auth, header },
                        None => CompiledPlugin::Invalid,
                    }
                }
                PluginConfig::OpenidConnect(config) => {
                    let path = Path::Compact(&plugin.location.path);
                    let path = path.field("config");
                    warn_about_tokens(config, &plugin.location, &path, report);
                    let path = path.field("proof_of_possession_mtls_from_header");
                    let header = config.from_header.as_ref();
                    if let Some(header) =
                        header.filter(|_| config.proof_of_possession != ProofOfPossession::Off)
                    {
                        warn_about_source(header, &plugin.location, &path, report);
                    }
                    let certificate = config.from_header.as_ref().and_then(|config| {
                        auths.header_cert_auth(config, &plugin.location, &path, report)
                    });
                    let location = &plugin.location;
                    let anonymous = anonymous_consumer(config, auths.consumers, location, report);
                    CompiledPlugin::OpenidConnect {
                        settings: Arc::new(token_auth(config, anonymous)),
                        certificate,
                    }
                }
            };
            plugins.compiled.push(Rc::new(compiled));
            plugins.canonical.push(position);
            // Only plugins without diagnostics are shared, since each plugin has its own
            // diagnostics.
            if enforced && report.diagnostic_count() == diagnostics_before {
                if let PluginConfig::MtlsAuth(config) = &plugin.config {
                    by_content.insert(IgnoringPositions(config), position);
                }
                last[plugin.config.kind() as usize] = Some(position);
            }
        }
        plugins
    }

    pub fn compiled(&self, plugin: usize) -> Option<&CompiledPlugin<'t>> {
        self.compiled.get(plugin).map(Rc::as_ref)
    }

    /// Position of an earlier plugin with the same content. `mtls-auth` is found by a hash. Other
    /// kinds are compared with the last plugin only, which suffices where every route repeats one
    /// plugin.
    fn find_equal(
        &self,
        config: &PluginConfig<'t>,
        by_content: &Map<IgnoringPositions<'_, 't>, usize>,
        last: &Slots,
    ) -> Option<usize> {
        let position = last[config.kind() as usize]?;
        let same = match (config, self.compiled(position)?) {
            (PluginConfig::MtlsAuth(config), _) => {
                return by_content.get(&IgnoringPositions(config)).copied()
            }
            (PluginConfig::TlsHandshakeModifier, _) => true,
            (PluginConfig::Acl(acl), CompiledPlugin::Acl(last)) => *acl == **last,
            (PluginConfig::ClientCertAcl(rules), CompiledPlugin::ClientCertAcl(last)) => {
                *rules == **last
            }
            _ => false,
        };
        same.then(|| self.canonical.get(position).copied())
            .flatten()
    }

    /// Replaces each plugin by the first one with equal content, so that routes with equal plugins
    /// have equal slots.
    pub fn canonical(&self, slots: &Slots) -> Slots {
        slots.map(|slot| slot.map(|plugin| self.canonical.get(plugin).copied().unwrap_or(plugin)))
    }

    /// The settings of `mtls-auth`, or else of `header-cert-auth`.
    pub fn auth(&self, slots: &Slots) -> Option<&Auth> {
        let slot =
            slots[PluginKind::MtlsAuth as usize].or(slots[PluginKind::HeaderCertAuth as usize]);
        match self.compiled(slot?)? {
            CompiledPlugin::MtlsAuth { auth, .. } | CompiledPlugin::HeaderCertAuth { auth, .. } => {
                Some(auth)
            }
            _ => None,
        }
    }

    fn header_cert_auth_header(&self, slots: &Slots) -> Option<&CertificateHeader> {
        if slots[PluginKind::MtlsAuth as usize].is_some() {
            return None;
        }
        match self.compiled(slots[PluginKind::HeaderCertAuth as usize]?)? {
            CompiledPlugin::HeaderCertAuth { header, .. } => Some(header),
            _ => None,
        }
    }

    /// The header that carries the certificate of a request: that of `header-cert-auth`, or without
    /// authentication by certificate that of `openid-connect`. With `mtls-auth` there is none,
    /// since that verifies the certificate of the TLS connection.
    pub fn certificate_header(&self, slots: &Slots) -> Option<&CertificateHeader> {
        if self.auth(slots).is_some() {
            return self.header_cert_auth_header(slots);
        }
        let token_auth = self.token_auth(slots)?;
        let is_read = token_auth.proof_of_possession != ProofOfPossession::Off;
        token_auth.certificate_header.as_ref().filter(|_| is_read)
    }

    pub fn token_auth(&self, slots: &Slots) -> Option<&Arc<TokenAuth>> {
        match self.compiled(slots[PluginKind::OpenidConnect as usize]?)? {
            CompiledPlugin::OpenidConnect { settings, .. } => Some(settings),
            _ => None,
        }
    }

    pub fn contribution(&self, plugin: usize) -> Option<u32> {
        match self.compiled(plugin)? {
            CompiledPlugin::MtlsAuth { contribution, .. }
            | CompiledPlugin::TlsHandshakeModifier { contribution } => Some(*contribution),
            CompiledPlugin::TlsMetadataHeaders(_)
            | CompiledPlugin::ClientCertHeaders(_)
            | CompiledPlugin::Acl(_)
            | CompiledPlugin::ClientCertAcl(_)
            | CompiledPlugin::ClientCertLists(_)
            | CompiledPlugin::HeaderCertAuth { .. }
            | CompiledPlugin::OpenidConnect { .. }
            | CompiledPlugin::Invalid => None,
        }
    }

    /// Whether a plugin requests a certificate in handshakes.
    pub fn requests_certificate(&self, plugin: usize) -> bool {
        self.contribution(plugin).is_some()
    }

    pub fn acl(&self, slots: &Slots) -> Option<&Arc<Acl>> {
        match self.compiled(slots[PluginKind::Acl as usize]?)? {
            CompiledPlugin::Acl(acl) => Some(acl),
            _ => None,
        }
    }

    pub fn rules(&self, slots: &Slots) -> Option<&Arc<Rules>> {
        match self.compiled(slots[PluginKind::ClientCertAcl as usize]?)? {
            CompiledPlugin::ClientCertAcl(rules) => Some(rules),
            _ => None,
        }
    }

    pub fn lists(&self, slots: &Slots) -> Option<&Arc<Lists>> {
        match self.compiled(slots[PluginKind::ClientCertLists as usize]?)? {
            CompiledPlugin::ClientCertLists(lists) => Some(lists),
            _ => None,
        }
    }

    /// The contributions of the plugins in `slots`.
    pub fn contributions_of<'a>(&'a self, slots: &'a Slots) -> impl Iterator<Item = u32> + 'a {
        slots
            .iter()
            .flatten()
            .filter_map(|&plugin| self.contribution(plugin))
    }
}

/// The id of the consumer `anonymous`.
fn anonymous_consumer(
    config: &document::OpenidConnect<'_>,
    consumers: &ConsumerIndex<'_>,
    location: &Location,
    report: &mut Report,
) -> Option<Box<str>> {
    let path = Path::Compact(&location.path);
    let path = path.field("config");
    if config
        .consumer
        .as_ref()
        .is_some_and(|found| !found.optional)
        && consumers.is_empty()
    {
        report.warn_once(
            "openid-connect without consumers",
            location.position,
            &path,
            "no consumer: every token is refused; expected an entry of 'consumers', or \
             'consumer_optional: true' to let tokens without consumer pass",
        );
    }
    let (name, place) = config.anonymous?;
    let found = consumers.find(name, place, &path.field("anonymous"), report)?;
    consumers
        .consumers
        .get(found)
        .map(|consumer| consumer.id.clone())
}

fn token_auth(config: &document::OpenidConnect<'_>, anonymous: Option<Box<str>>) -> TokenAuth {
    // Documents from an unverified server are not used by plugins that verify it.
    // Nor are those of an issuer that only other plugins allow.
    let issuer_key = sha256(
        format!(
            "{:?}",
            (
                config.ssl_verify,
                &config.discovery_url,
                &config.issuer,
                &config.issuers,
                &config.jwks_endpoint,
                &config.extra_jwks_uris
            )
        )
        .as_bytes(),
    );
    TokenAuth {
        introspection_key: introspection_key(config, &issuer_key),
        issuer_key,
        issuer: config.issuer.clone(),
        discovery_url: config.discovery_url.clone(),
        methods: config.methods,
        algorithms: config.algorithms.clone(),
        jwks_endpoint: config.jwks_endpoint.clone(),
        extra_jwks_uris: config.extra_jwks_uris.clone(),
        token_header: config.token_header.clone(),
        issuers: config.issuers.clone(),
        expected_claims: config.expected.clone(),
        proof_of_possession: config.proof_of_possession,
        dpop: config.dpop,
        certificate_header: config
            .from_header
            .as_ref()
            .and_then(|config| config.certificate_header.clone()),
        introspection_endpoint: config.introspection_endpoint.clone(),
        mtls_introspection_endpoint: config.mtls_introspection_endpoint.clone(),
        client: config.client.clone(),
        consumer: config.consumer.clone(),
        anonymous,
        claim_headers: config.headers.clone(),
        hide_credentials: config.hide_credentials,
        expose_error_code: config.expose_error_code,
        unauthorized: config.unauthorized.clone(),
        forbidden: config.forbidden.clone(),
        timeout: config.timeout,
        rediscovery_lifetime: config.rediscovery_lifetime,
        cache_ttl: config.cache_ttl,
        ssl_verify: config.ssl_verify,
    }
}

/// The value of [`TokenAuth::introspection_key`].
fn introspection_key(config: &document::OpenidConnect<'_>, issuer_key: &[u8; 32]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(issuer_key);
    let endpoint = config.introspection_endpoint.as_deref().unwrap_or_default();
    // The debug text has a digest of the client's secret, so that a client with another secret gets
    // no cached response.
    let client = format!("{:?}", config.client);
    let mtls_endpoint = config.mtls_introspection_endpoint.as_deref();
    for text in [endpoint, mtls_endpoint.unwrap_or_default(), &*client] {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.update(&u64::from(config.cache_ttl).to_be_bytes());
    hasher.finish()
}
