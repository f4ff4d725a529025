//! Plugins ready for use, shared where their content is equal.

use std::rc::Rc;
use std::sync::Arc;

use openssl::sha::{sha256, Sha256};

use super::certificate_auth::AuthBuilder;
use super::insecure_settings::{warn_about_source, warn_about_tokens};
use super::scopes::Slots;
use crate::identity::{Acl, Rules};
use crate::policy::certificate_header::CertificateHeader;
use crate::policy::document::{self, Document, IgnoringPositions, PluginConfig, PluginKind};
use crate::policy::report::{Path, Report};
use crate::policy::token_auth::{ProofOfPossession, TokenAuth};
use crate::policy::{Auth, Map};
use crate::trust::{TrustStore, VerifyOptions};

/// A plugin ready for use.
pub(super) enum CompiledPlugin<'t> {
    Auth {
        auth: Auth,
        contribution: u32,
    },
    Ask {
        contribution: u32,
    },
    Headers(&'t document::TlsMetadataHeaders),
    ClientCertHeaders(&'t document::ClientCertHeaders),
    Acl(Arc<Acl>),
    Rules(Arc<Rules>),
    HeaderAuth {
        auth: Auth,
        header: CertificateHeader,
    },
    TokenAuth {
        settings: Arc<TokenAuth>,
        /// What the certificate from its header is verified against.
        certificate: Option<(Auth, CertificateHeader)>,
    },
    /// Its errors were reported.
    Broken,
}

/// The contribution of an `mtls-auth`: CAs, options, `send_ca_dn`, `resumption`.
type AuthContent = (Vec<usize>, VerifyOptions, bool, bool);

/// What an asking plugin brings to a server name. Plugins with equal content share one.
pub(super) struct Contribution {
    pub store: Option<Arc<TrustStore>>,
    /// Positions of the CAs whose names it wants sent; `None` when it does not want any.
    pub sent: Option<Vec<usize>>,
    /// Whether it lets sessions be resumed.
    pub resumption: bool,
    /// Position of the first plugin with this content.
    pub plugin: usize,
}

pub(super) struct Plugins<'t> {
    ready: Vec<Rc<CompiledPlugin<'t>>>,
    pub contributions: Vec<Contribution>,
    /// For each the first one that is ready in the same way; itself if there is none.
    first: Vec<usize>,
}

impl<'t> Plugins<'t> {
    pub fn new(
        document: &'t Document<'t>,
        auths: &mut AuthBuilder<'_, 't, '_>,
        report: &mut Report,
    ) -> Plugins<'t> {
        let mut plugins = Plugins {
            ready: Vec::new(),
            contributions: Vec::new(),
            first: Vec::new(),
        };
        let mut alike: Map<IgnoringPositions<'_, 't>, usize> = Map::default();
        let mut last = Slots::default();
        let mut known: Map<Option<AuthContent>, u32> = Map::default();
        for (position, plugin) in document.plugins.iter().enumerate() {
            if let Some(first) = plugins.alike(&plugin.config, &alike, &last) {
                if let Some(ready) = plugins.ready.get(first).cloned() {
                    plugins.ready.push(ready);
                    plugins.first.push(first);
                    continue;
                }
            }
            let said = report.diagnostic_count();
            let mut contribute = |key, store, sent, resumption| {
                *known.entry(key).or_insert_with(|| {
                    plugins.contributions.push(Contribution {
                        store,
                        sent,
                        resumption,
                        plugin: position,
                    });
                    plugins.contributions.len() as u32 - 1
                })
            };
            let ready = match &plugin.config {
                PluginConfig::TlsMetadataHeaders(headers) => CompiledPlugin::Headers(headers),
                PluginConfig::ClientCertHeaders(headers) => {
                    CompiledPlugin::ClientCertHeaders(headers)
                }
                PluginConfig::Acl(acl) => CompiledPlugin::Acl(Arc::new(acl.clone())),
                PluginConfig::ClientCertAcl(rules) => {
                    CompiledPlugin::Rules(Arc::new(rules.clone()))
                }
                PluginConfig::TlsHandshakeModifier => CompiledPlugin::Ask {
                    contribution: contribute(None, None, None, true),
                },
                PluginConfig::MtlsAuth(config) => {
                    let location = &plugin.location;
                    let path = Path::Compact(&location.path);
                    let path = path.field("config");
                    match auths.mtls_auth(config, location, &path, report) {
                        Some((positions, auth)) => {
                            let sent = config.send_ca_dn.then(|| positions.clone());
                            let resumption = config.resumption;
                            let key = (positions, config.options, config.send_ca_dn, resumption);
                            let used = Some(auth.store.clone());
                            let contribution = contribute(Some(key), used, sent, resumption);
                            CompiledPlugin::Auth { auth, contribution }
                        }
                        None => CompiledPlugin::Broken,
                    }
                }
                PluginConfig::HeaderCertAuth(config) => {
                    let path = Path::Compact(&plugin.location.path);
                    let path = path.field("config");
                    warn_about_source(config, &plugin.location, &path, report);
                    match auths.header_cert_auth(config, &plugin.location, &path, report) {
                        Some((auth, header)) => CompiledPlugin::HeaderAuth { auth, header },
                        None => CompiledPlugin::Broken,
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
                    CompiledPlugin::TokenAuth {
                        settings: Arc::new(token_auth(config)),
                        certificate,
                    }
                }
            };
            plugins.ready.push(Rc::new(ready));
            plugins.first.push(position);
            // What is said of one has to be said of the next one like it.
            if report.diagnostic_count() == said {
                if let PluginConfig::MtlsAuth(config) = &plugin.config {
                    alike.insert(IgnoringPositions(config), position);
                }
                last[plugin.config.kind() as usize] = Some(position);
            }
        }
        plugins
    }

    pub fn ready(&self, plugin: usize) -> Option<&CompiledPlugin<'t>> {
        self.ready.get(plugin).map(Rc::as_ref)
    }

    /// Position of an earlier plugin with the same content. For a kind that is not told apart by
    /// a hash only the last one is compared: one plugin that was written for every route.
    fn alike(
        &self,
        config: &PluginConfig<'t>,
        alike: &Map<IgnoringPositions<'_, 't>, usize>,
        last: &Slots,
    ) -> Option<usize> {
        let position = last[config.kind() as usize]?;
        let same = match (config, self.ready(position)?) {
            (PluginConfig::MtlsAuth(config), _) => {
                return alike.get(&IgnoringPositions(config)).copied()
            }
            (PluginConfig::TlsHandshakeModifier, _) => true,
            (PluginConfig::Acl(acl), CompiledPlugin::Acl(last)) => *acl == **last,
            (PluginConfig::ClientCertAcl(rules), CompiledPlugin::Rules(last)) => *rules == **last,
            _ => false,
        };
        same.then(|| self.first.get(position).copied()).flatten()
    }

    /// The same plugins, each by the first one like it: equal for routes that are treated alike.
    pub fn firsts(&self, slots: &Slots) -> Slots {
        slots.map(|slot| slot.map(|plugin| self.first.get(plugin).copied().unwrap_or(plugin)))
    }

    /// By certificates of the connection, else by those of a header.
    pub fn auth(&self, slots: &Slots) -> Option<&Auth> {
        let slot =
            slots[PluginKind::MtlsAuth as usize].or(slots[PluginKind::HeaderCertAuth as usize]);
        match self.ready(slot?)? {
            CompiledPlugin::Auth { auth, .. } | CompiledPlugin::HeaderAuth { auth, .. } => {
                Some(auth)
            }
            _ => None,
        }
    }

    fn header_cert_auth_header(&self, slots: &Slots) -> Option<&CertificateHeader> {
        if slots[PluginKind::MtlsAuth as usize].is_some() {
            return None;
        }
        match self.ready(slots[PluginKind::HeaderCertAuth as usize]?)? {
            CompiledPlugin::HeaderAuth { header, .. } => Some(header),
            _ => None,
        }
    }

    /// The header that brings the certificate of a request. Where nobody judges certificates that is
    /// the one of its token; beside `mtls-auth` it must not take the place of what that judges.
    pub fn certificate_header(&self, slots: &Slots) -> Option<&CertificateHeader> {
        if self.auth(slots).is_some() {
            return self.header_cert_auth_header(slots);
        }
        let token_auth = self.token_auth(slots)?;
        let read = token_auth.proof_of_possession != ProofOfPossession::Off;
        token_auth.certificate_header.as_ref().filter(|_| read)
    }

    pub fn token_auth(&self, slots: &Slots) -> Option<&Arc<TokenAuth>> {
        match self.ready(slots[PluginKind::OpenidConnect as usize]?)? {
            CompiledPlugin::TokenAuth { settings, .. } => Some(settings),
            _ => None,
        }
    }

    pub fn contribution(&self, plugin: usize) -> Option<u32> {
        match self.ready(plugin)? {
            CompiledPlugin::Auth { contribution, .. } | CompiledPlugin::Ask { contribution } => {
                Some(*contribution)
            }
            CompiledPlugin::Headers(_)
            | CompiledPlugin::ClientCertHeaders(_)
            | CompiledPlugin::Acl(_)
            | CompiledPlugin::Rules(_)
            | CompiledPlugin::HeaderAuth { .. }
            | CompiledPlugin::TokenAuth { .. }
            | CompiledPlugin::Broken => None,
        }
    }

    pub fn acl(&self, slots: &Slots) -> Option<&Arc<Acl>> {
        match self.ready(slots[PluginKind::Acl as usize]?)? {
            CompiledPlugin::Acl(acl) => Some(acl),
            _ => None,
        }
    }

    pub fn rules(&self, slots: &Slots) -> Option<&Arc<Rules>> {
        match self.ready(slots[PluginKind::ClientCertAcl as usize]?)? {
            CompiledPlugin::Rules(rules) => Some(rules),
            _ => None,
        }
    }

    /// What the plugins in `slots` bring together.
    pub fn contributed<'a>(&'a self, slots: &'a Slots) -> impl Iterator<Item = u32> + 'a {
        slots
            .iter()
            .flatten()
            .filter_map(|&plugin| self.contribution(plugin))
    }
}

fn token_auth(config: &document::OpenidConnect<'_>) -> TokenAuth {
    // What was fetched without a look at the server's certificate is not for others.
    let issuer_key =
        sha256(format!("{} {}", u8::from(config.ssl_verify), config.issuer).as_bytes());
    TokenAuth {
        introspection_key: introspection_key(config, &issuer_key),
        issuer_key,
        issuer: config.issuer.clone(),
        methods: config.methods,
        algorithms: config.algorithms.clone(),
        issuers: config.issuers.clone(),
        expected_claims: config.expected.clone(),
        proof_of_possession: config.proof_of_possession,
        certificate_header: config
            .from_header
            .as_ref()
            .and_then(|config| config.certificate_header.clone()),
        introspection_endpoint: config.introspection_endpoint.clone(),
        client: config.client.clone(),
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

/// [`TokenAuth::introspection_key`].
fn introspection_key(config: &document::OpenidConnect<'_>, issuer_key: &[u8; 32]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(issuer_key);
    let endpoint = config.introspection_endpoint.as_deref().unwrap_or_default();
    // With a digest of what it shows for itself: who has lost the secret is told nothing.
    let client = format!("{:?}", config.client);
    for text in [endpoint, &*client] {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.update(&u64::from(config.cache_ttl).to_be_bytes());
    hasher.finish()
}
