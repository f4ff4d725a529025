//! Typed entities -> [`Policy`]: follows references, finds the plugin that applies to each route,
//! and works out what the handshake asks for under each server name.

mod consumers;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::sha::{sha256, Sha256};

use self::consumers::People;
use super::bearer::{Bearer, Inbound, Possession};
use super::document::{
    fold, By, Config, ConsumerName, Document, Identity, Kind, Link, MtlsAuth, Plugin, Route, Spot,
    Uuid,
};
use super::report::{Path, Place, Report};
use super::{document, Auth, Files, Lookup, Plan, Policy, Revocation, RevocationMode, Told};
use crate::certificate::hex;
use crate::handshake::server_name::{parent, quoted, Pattern};
use crate::handshake::{Ask, SniMapBuilder, CA_NAMES_BUDGET};
use crate::headers::{kong, Dialect, Options, OwnedNames, Selection, Verified, When};
use crate::identity::{Acl, Rules};
use crate::trust::crl::{self, CrlSet};
use crate::trust::{CaCertificate, TrustStore, VerifyOptions};
use crate::Error;

/// Compiles a document from a file in `directory`, if it is from a file. `None` when the report
/// holds errors, now or from before.
pub(super) fn compile(
    document: &Document<'_>,
    directory: Option<&FilePath>,
    files: &mut Files,
    report: &mut Report,
) -> Option<Policy> {
    let cas = Cas::new(document, report);
    let services = Index::new(
        "service",
        document
            .services
            .iter()
            .map(|service| (&service.identity, &service.spot)),
        report,
    );
    let routes = Index::new(
        "route",
        document
            .routes
            .iter()
            .map(|route| (&route.identity, &route.spot)),
        report,
    );
    let scopes = Scopes::new(document, &services, &routes, report);
    let people = People::new(document, &cas, report);
    let mut crls = Crls {
        directory,
        files,
        known: HashMap::new(),
    };
    let plugins = Plugins::new(document, &cas, &people, &mut crls, report);
    judged(document, &scopes, report);
    let mut told = ToldOf {
        document,
        plugins: &plugins,
        known: HashMap::new(),
    };
    let plans = plans(document, &scopes, &mut told, report);
    if report.has_errors() {
        return None;
    }
    match assemble(document, &cas, &scopes, &plugins, people, plans, report) {
        Ok(policy) => Some(policy),
        Err(error) => {
            report.error(Place::default(), &Path::ROOT, error.to_string());
            None
        }
    }
}

/// The CA certificates of the document, by position and by id.
struct Cas {
    list: Vec<Option<Arc<CaCertificate>>>,
    by_id: HashMap<Uuid, usize>,
    by_digest: HashMap<[u8; 32], usize>,
    /// As text, for suggestions.
    ids: Vec<String>,
}

impl Cas {
    fn new(document: &Document<'_>, report: &mut Report) -> Cas {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs() as i64);
        let mut cas = Cas {
            list: Vec::new(),
            by_id: HashMap::new(),
            by_digest: HashMap::new(),
            ids: Vec::new(),
        };
        for (index, entity) in document.cas.iter().enumerate() {
            let path = Path::Text(&entity.spot.path);
            match entity.id {
                Some(id) => {
                    let first = *cas.by_id.entry(id).or_insert(index);
                    cas.ids.push(uuid_text(&id));
                    if first != index {
                        let first = document.cas.get(first).map_or("", |ca| &ca.spot.path);
                        let message = format!(
                            "the id '{}' is given twice, first at {first}",
                            uuid_text(&id)
                        );
                        report.error(entity.spot.place, &path.field("id"), message);
                    }
                }
                None => report.warn("CAs without id", entity.spot.place, &path, || {
                    "has no id, so no plugin can refer to it".to_owned()
                }),
            }
            cas.list.push(None);
            let Some((pem, place)) = entity.cert else {
                continue;
            };
            let ca = match CaCertificate::from_pem(pem.as_bytes()) {
                Ok(ca) => Arc::new(ca),
                Err(error) => {
                    report.error(place, &path.field("cert"), error.to_string());
                    continue;
                }
            };
            let first = *cas.by_digest.entry(*ca.digest()).or_insert(index);
            if first != index {
                let first = document.cas.get(first).map_or("", |ca| &ca.spot.path);
                let message = format!("is the same certificate as {first}, expected it once");
                report.error(place, &path.field("cert"), message);
            }
            let digest = hex(ca.digest());
            if let Some((given, place)) = entity.digest {
                if !given.eq_ignore_ascii_case(&digest) {
                    let message = format!(
                        "'{}' is not the SHA-256 digest of 'cert', expected '{digest}'",
                        quoted(given.as_bytes())
                    );
                    report.error(place, &path.field("cert_digest"), message);
                }
            }
            let subject = quoted(ca.subject().as_bytes());
            if ca.not_after() < now {
                report.warn("expired CAs", place, &path.field("cert"), || {
                    let when = date(ca.not_after());
                    format!("the CA '{subject}' expired on {when}: it verifies no client")
                });
            } else if now < ca.not_before() {
                report.warn("CAs not valid yet", place, &path.field("cert"), || {
                    let when = date(ca.not_before());
                    format!("the CA '{subject}' is not valid before {when}: it verifies no client")
                });
            }
            if let Some(entry) = cas.list.last_mut() {
                *entry = Some(ca);
            }
        }
        cas
    }

    fn of(&self, positions: &[usize]) -> Vec<Arc<CaCertificate>> {
        positions
            .iter()
            .filter_map(|&index| self.list.get(index)?.clone())
            .collect()
    }
}

/// Services, routes or consumers by what other entities may call them.
struct Index<'t> {
    noun: &'static str,
    /// What they call a name.
    name: &'static str,
    by_id: HashMap<Uuid, usize>,
    by_name: HashMap<&'t str, usize>,
}

impl<'t> Index<'t> {
    fn new(
        noun: &'static str,
        entities: impl Iterator<Item = (&'t Identity<'t>, &'t Spot)>,
        report: &mut Report,
    ) -> Index<'t> {
        let mut index = Index {
            noun,
            name: "name",
            by_id: HashMap::new(),
            by_name: HashMap::new(),
        };
        let mut spots: Vec<&Spot> = Vec::new();
        for (position, (identity, spot)) in entities.enumerate() {
            spots.push(spot);
            let id = identity.id.map(|id| {
                (
                    "id",
                    uuid_text(&id),
                    *index.by_id.entry(id).or_insert(position),
                )
            });
            let name = identity.name.map(|name| {
                (
                    "name",
                    name.to_owned(),
                    *index.by_name.entry(name).or_insert(position),
                )
            });
            for (field, value, first) in id.into_iter().chain(name) {
                if first != position {
                    let value = quoted(value.as_bytes());
                    let first = spots.get(first).map_or("", |first| &first.path);
                    let message = format!(
                        "the {field} '{value}' of a {noun} is given twice, first at {first}"
                    );
                    report.error(spot.place, &Path::Text(&spot.path).field(field), message);
                }
            }
        }
        index
    }

    /// Position of what a link names.
    fn follow(&self, link: &Link<'t>, spot: &Spot, report: &mut Report) -> Option<usize> {
        let (text, by, place) = match *link {
            Link::Parent(position) => return Some(position),
            Link::Reference { text, by, place } => (text, by, place),
        };
        let id = document::uuid(text).filter(|_| by != By::Name);
        let name = Some(text).filter(|_| by != By::Id);
        let found = id
            .and_then(|id| self.by_id.get(&id))
            .or_else(|| self.by_name.get(name?));
        if found.is_none() {
            let what = match by {
                By::Id => "id",
                By::Name => self.name,
                By::Either => &format!("id or {}", self.name),
            };
            let meant = report.did_you_mean(text, self.by_name.keys().copied());
            let text = quoted(text.as_bytes());
            let message = format!("no {} has the {what} '{text}'{meant}", self.noun);
            report.error(place, &Path::Text(&spot.path).field(self.noun), message);
        }
        found.copied()
    }
}

/// For each [`Kind`] the position of the plugin.
type Slots = [Option<usize>; Kind::ALL.len()];

/// Which plugin stands at which scope.
struct Scopes {
    global: Slots,
    services: Vec<Slots>,
    routes: Vec<Slots>,
    /// By route; such a plugin names the route's own service too.
    routes_with_service: HashMap<usize, Slots>,
    /// For each route its service.
    service_of: Vec<Option<usize>>,
    /// For each service whether it has a route.
    has_routes: Vec<bool>,
}

impl Scopes {
    fn new<'t>(
        document: &'t Document<'t>,
        services: &Index<'t>,
        routes: &Index<'t>,
        report: &mut Report,
    ) -> Scopes {
        let follow = |link: &Option<Link<'t>>, index: &Index<'t>, spot, report: &mut Report| {
            link.as_ref().map(|link| index.follow(link, spot, report))
        };
        let mut scopes = Scopes {
            global: Slots::default(),
            services: vec![Slots::default(); document.services.len()],
            routes: vec![Slots::default(); document.routes.len()],
            routes_with_service: HashMap::new(),
            service_of: document
                .routes
                .iter()
                .map(|route| follow(&route.service, services, &route.spot, report).flatten())
                .collect(),
            has_routes: vec![false; document.services.len()],
        };
        for service in scopes.service_of.iter().flatten() {
            if let Some(has_routes) = scopes.has_routes.get_mut(*service) {
                *has_routes = true;
            }
        }
        for (position, plugin) in document.plugins.iter().enumerate() {
            let service = follow(&plugin.service, services, &plugin.spot, report);
            let route = follow(&plugin.route, routes, &plugin.spot, report);
            let slots = match (route, service) {
                (None, None) => Some(&mut scopes.global),
                (None, Some(Some(service))) => scopes.services.get_mut(service),
                (Some(Some(route)), None) => scopes.routes.get_mut(route),
                (Some(Some(route)), Some(Some(service))) => {
                    if scopes.service_of.get(route) != Some(&Some(service)) {
                        let message = "never applies: the route does not belong to the service, \
                                       expected one of its routes or no service";
                        let path = Path::Text(&plugin.spot.path);
                        report.error(plugin.spot.place, &path.field("service"), message);
                    }
                    Some(scopes.routes_with_service.entry(route).or_default())
                }
                // The reference was reported.
                (Some(None), _) | (_, Some(None)) => continue,
            };
            let kind = plugin.config.kind();
            let slot = slots.and_then(|slots| slots.get_mut(kind as usize));
            if let Some(first) = slot.and_then(|slot| slot.replace(position)) {
                let first = document
                    .plugins
                    .get(first)
                    .map_or("", |plugin| &plugin.spot.path);
                let message = format!(
                    "a second plugin '{}' at the same scope, first at {first}",
                    kind.name()
                );
                report.error(plugin.spot.place, &Path::Text(&plugin.spot.path), message);
            }
        }
        scopes
    }

    /// The services without a route, with their plugins: nginx may route to them all the same.
    fn routeless(&self) -> impl Iterator<Item = (usize, &Slots)> {
        let services = self.services.iter().enumerate();
        services
            .zip(&self.has_routes)
            .filter(|(_, has)| !**has)
            .map(|(service, _)| service)
    }

    /// The plugins that apply to a route: of each kind the one at the most specific scope.
    fn effective(&self, route: usize) -> Slots {
        let service = self.service_of.get(route).copied().flatten();
        let scopes = [
            self.routes_with_service.get(&route),
            self.routes.get(route),
            service.and_then(|service| self.services.get(service)),
            Some(&self.global),
        ];
        let mut slots = Slots::default();
        for (kind, slot) in slots.iter_mut().enumerate() {
            *slot = scopes.iter().flatten().find_map(|slots| *slots.get(kind)?);
        }
        slots
    }
}

/// A plugin ready for use.
enum Ready<'t> {
    Auth {
        auth: Auth,
        contribution: u32,
    },
    Ask {
        contribution: u32,
    },
    Headers(&'t document::MetadataHeaders),
    CertHeaders(&'t document::CertHeaders),
    Acl(Arc<Acl>),
    Rules(Arc<Rules>),
    HeaderAuth {
        auth: Auth,
        inbound: Inbound,
    },
    Bearer {
        bearer: Arc<Bearer>,
        /// What the certificate from its header is verified against.
        certificate: Option<(Auth, Inbound)>,
    },
    /// Its errors were reported.
    Broken,
}

/// The contribution of an `mtls-auth`: CAs, options, `send_ca_dn`, `resumption`.
type AuthContent = (Vec<usize>, VerifyOptions, bool, bool);

/// What an asking plugin brings to a server name. Plugins with equal content share one.
struct Contribution {
    store: Option<Arc<TrustStore>>,
    /// Positions of the CAs whose names it wants sent; `None` when it does not want any.
    sent: Option<Vec<usize>>,
    /// Whether it lets sessions be resumed.
    resumption: bool,
    /// Position of the first plugin with this content.
    plugin: usize,
}

struct Plugins<'t> {
    ready: Vec<Ready<'t>>,
    contributions: Vec<Contribution>,
}

impl<'t> Plugins<'t> {
    fn new(
        document: &'t Document<'t>,
        cas: &Cas,
        people: &People<'t>,
        crls: &mut Crls<'_>,
        report: &mut Report,
    ) -> Plugins<'t> {
        let mut plugins = Plugins {
            ready: Vec::new(),
            contributions: Vec::new(),
        };
        let mut stores = Stores::default();
        let mut known: HashMap<Option<AuthContent>, u32> = HashMap::new();
        for (position, plugin) in document.plugins.iter().enumerate() {
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
                Config::TlsMetadataHeaders(headers) => Ready::Headers(headers),
                Config::ClientCertHeaders(headers) => Ready::CertHeaders(headers),
                Config::Acl(acl) => Ready::Acl(Arc::new(acl.clone())),
                Config::ClientCertAcl(rules) => Ready::Rules(Arc::new(rules.clone())),
                Config::TlsHandshakeModifier => Ready::Ask {
                    contribution: contribute(None, None, None, true),
                },
                Config::MtlsAuth(config) => {
                    let spot = &plugin.spot;
                    let path = Path::Text(&spot.path);
                    let path = path.field("config");
                    match stores.get(config, spot, &path, cas, report) {
                        Some((positions, store)) => {
                            let sent = config.send_ca_dn.then(|| positions.clone());
                            let resumption = config.resumption;
                            let key = (positions, config.options, config.send_ca_dn, resumption);
                            let used = Some(store.clone());
                            let contribution = contribute(Some(key), used, sent, resumption);
                            let auth = auth(config, spot, &path, store, people, crls, report);
                            Ready::Auth { auth, contribution }
                        }
                        None => Ready::Broken,
                    }
                }
                Config::HeaderCertAuth(config) => {
                    let path = Path::Text(&plugin.spot.path);
                    let path = path.field("config");
                    let made =
                        stores.header(config, &plugin.spot, &path, cas, people, crls, report);
                    match made {
                        Some((auth, inbound)) => Ready::HeaderAuth { auth, inbound },
                        None => Ready::Broken,
                    }
                }
                Config::OpenidConnect(config) => {
                    let path = Path::Text(&plugin.spot.path);
                    let path = path.field("config");
                    let path = path.field("proof_of_possession_mtls_from_header");
                    let certificate = config.from_header.as_ref().and_then(|config| {
                        stores.header(config, &plugin.spot, &path, cas, people, crls, report)
                    });
                    Ready::Bearer {
                        bearer: Arc::new(bearer(config)),
                        certificate,
                    }
                }
            };
            plugins.ready.push(ready);
        }
        plugins
    }

    /// By certificates of the connection, else by those of a header.
    fn auth(&self, slots: &Slots) -> Option<&Auth> {
        let slot = slots[Kind::MtlsAuth as usize].or(slots[Kind::HeaderCertAuth as usize]);
        match self.ready.get(slot?)? {
            Ready::Auth { auth, .. } | Ready::HeaderAuth { auth, .. } => Some(auth),
            _ => None,
        }
    }

    fn inbound(&self, slots: &Slots) -> Option<&Inbound> {
        if slots[Kind::MtlsAuth as usize].is_some() {
            return None;
        }
        match self.ready.get(slots[Kind::HeaderCertAuth as usize]?)? {
            Ready::HeaderAuth { inbound, .. } => Some(inbound),
            _ => None,
        }
    }

    fn bearer(&self, slots: &Slots) -> Option<&Arc<Bearer>> {
        match self.ready.get(slots[Kind::OpenidConnect as usize]?)? {
            Ready::Bearer { bearer, .. } => Some(bearer),
            _ => None,
        }
    }

    fn contribution(&self, plugin: usize) -> Option<u32> {
        match self.ready.get(plugin)? {
            Ready::Auth { contribution, .. } | Ready::Ask { contribution } => Some(*contribution),
            Ready::Headers(_)
            | Ready::CertHeaders(_)
            | Ready::Acl(_)
            | Ready::Rules(_)
            | Ready::HeaderAuth { .. }
            | Ready::Bearer { .. }
            | Ready::Broken => None,
        }
    }

    fn acl(&self, slots: &Slots) -> Option<&Arc<Acl>> {
        match self.ready.get(slots[Kind::Acl as usize]?)? {
            Ready::Acl(acl) => Some(acl),
            _ => None,
        }
    }

    fn rules(&self, slots: &Slots) -> Option<&Arc<Rules>> {
        match self.ready.get(slots[Kind::ClientCertAcl as usize]?)? {
            Ready::Rules(rules) => Some(rules),
            _ => None,
        }
    }

    /// What the plugins in `slots` bring together.
    fn contributed<'a>(&'a self, slots: &'a Slots) -> impl Iterator<Item = u32> + 'a {
        slots
            .iter()
            .flatten()
            .filter_map(|&plugin| self.contribution(plugin))
    }
}

/// Trust stores, one for each content.
#[derive(Default)]
struct Stores(HashMap<(Vec<usize>, VerifyOptions), Arc<TrustStore>>);

impl Stores {
    /// With the positions of its CAs; `None` when it was reported why not.
    fn get(
        &mut self,
        config: &MtlsAuth<'_>,
        spot: &Spot,
        path: &Path<'_>,
        cas: &Cas,
        report: &mut Report,
    ) -> Option<(Vec<usize>, Arc<TrustStore>)> {
        let key = (positions(config, path, cas, report), config.options);
        let store = match self.0.get(&key) {
            Some(store) => Ok(store.clone()),
            None => TrustStore::new(&cas.of(&key.0), key.1).map(Arc::new),
        };
        match store {
            Ok(store) => {
                self.0.insert(key.clone(), store.clone());
                Some((key.0, store))
            }
            Err(error) => {
                report.error(spot.place, &Path::Text(&spot.path), error.to_string());
                None
            }
        }
    }

    /// For certificates from a header.
    #[allow(clippy::too_many_arguments)]
    fn header<'t>(
        &mut self,
        config: &document::HeaderCertAuth<'t>,
        spot: &Spot,
        path: &Path<'_>,
        cas: &Cas,
        people: &People<'t>,
        crls: &mut Crls<'_>,
        report: &mut Report,
    ) -> Option<(Auth, Inbound)> {
        let (_, store) = self.get(&config.auth, spot, path, cas, report)?;
        let mut auth = auth(&config.auth, spot, path, store, people, crls, report);
        if let Some(lookup) = &mut auth.lookup {
            lookup.header = true;
        }
        Some((auth, config.inbound.clone()?))
    }
}

fn bearer(config: &document::OpenidConnect<'_>) -> Bearer {
    Bearer {
        // What was fetched without a look at the server's certificate is not for others.
        provider: sha256(format!("{} {}", u8::from(config.ssl_verify), config.issuer).as_bytes()),
        issuer: config.issuer.clone(),
        methods: config.methods,
        algorithms: config.algorithms.clone(),
        issuers: config.issuers.clone(),
        expected: config.expected.clone(),
        possession: config.possession,
        inbound: config
            .from_header
            .as_ref()
            .and_then(|config| config.inbound.clone()),
        introspection_endpoint: config.introspection_endpoint.clone(),
        client: config.client.clone(),
        headers: config.headers.clone(),
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

fn auth<'t>(
    config: &MtlsAuth<'t>,
    spot: &Spot,
    path: &Path<'_>,
    store: Arc<TrustStore>,
    people: &People<'t>,
    crls: &mut Crls<'_>,
    report: &mut Report,
) -> Auth {
    let mut consumer = |field, name: Option<ConsumerName<'t>>| {
        let (name, place) = name?;
        people.find(name, place, &path.field(field), report)
    };
    let anonymous = consumer("anonymous", config.anonymous);
    let default = consumer("default_consumer", config.default_consumer);
    if !config.skip_consumer_lookup && people.is_empty() {
        report.warn_once(
            "mtls-auth without consumers",
            spot.place,
            path,
            "no consumer: every client is refused; expected an entry of 'consumers', or \
             'skip_consumer_lookup: true' to let every client of the CAs pass",
        );
    }
    let lookup = Lookup {
        by: config.consumer_by,
        default,
        header: false,
        dirname: config.dirname.clone().into(),
    };
    let crls = crls.get(&config.crls, path, report);
    if config.revocation == RevocationMode::Skip && !config.crls.is_empty() {
        report.warn(
            "lists of CRLs that are not used",
            spot.place,
            &path.field("crls"),
            || "have no effect with the revocation_check_mode 'SKIP'".to_owned(),
        );
    }
    let crls_digest = crls.as_ref().map_or([0; 32], |crls| crls.digest());
    let key = sha256(&[*store.digest(), crls_digest].concat());
    Auth {
        store,
        lookup: Some(lookup).filter(|_| !config.skip_consumer_lookup),
        anonymous,
        group_by: config.group_by,
        revocation: Arc::new(Revocation {
            mode: config.revocation,
            ttl: config.cert_cache_ttl.into(),
            http_timeout: config.http_timeout,
            ssl_verify: config.ssl_verify,
            http_proxy: config.http_proxy.clone(),
            https_proxy: config.https_proxy.clone(),
            crls,
            key,
        }),
        resumption: config.resumption,
    }
}

/// Local CRLs, read once for each list of files.
struct Crls<'p> {
    /// Directory of the policy file.
    directory: Option<&'p FilePath>,
    files: &'p mut Files,
    known: HashMap<Vec<String>, Option<Arc<CrlSet>>>,
}

impl Crls<'_> {
    /// `None` for no files, and when they were reported.
    fn get(
        &mut self,
        files: &[(&str, Place)],
        config: &Path<'_>,
        report: &mut Report,
    ) -> Option<Arc<CrlSet>> {
        if files.is_empty() {
            return None;
        }
        let key: Vec<_> = files.iter().map(|(file, _)| (*file).to_owned()).collect();
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let path = config.field("crls");
        let mut set = CrlSet::default();
        let mut complete = true;
        for (index, (file, place)) in files.iter().enumerate() {
            let added = self.read(file).and_then(|bytes| set.add(&bytes));
            if let Err(why) = added {
                let message = format!("'{}': {why}", quoted(file.as_bytes()));
                report.error(*place, &path.item(index), message);
                complete = false;
            }
        }
        let (_, place) = files.first()?;
        for oddity in set.oddities() {
            report.warn("unusual CRLs", *place, &path, || oddity);
        }
        let set = complete.then(|| Arc::new(set));
        self.known.insert(key, set.clone());
        set
    }

    fn read(&mut self, file: &str) -> Result<Vec<u8>, String> {
        let file = FilePath::new(file);
        let file = match self.directory {
            Some(directory) => directory.join(file),
            None if file.is_absolute() => file.to_owned(),
            None => {
                return Err(
                    "a relative path in a policy that is not a file, expected an absolute \
                            path"
                        .to_owned(),
                )
            }
        };
        self.files
            .read(&file, crl::MAX_FILE)
            .map_err(|error| format!("cannot be read: {error}"))
    }
}

/// Refuses plugins that judge clients where nothing says who they are.
fn judged(document: &Document<'_>, scopes: &Scopes, report: &mut Report) {
    let mut told = vec![false; document.plugins.len()];
    let routes = document
        .routes
        .iter()
        .enumerate()
        .map(|(position, route)| (scopes.effective(position), route.spot.path.as_ref()));
    for (slots, place) in
        std::iter::once((scopes.global, "a request without a route")).chain(routes)
    {
        if let (Some(_), Some(position)) = (
            slots[Kind::MtlsAuth as usize],
            slots[Kind::HeaderCertAuth as usize],
        ) {
            let told = told
                .get_mut(position)
                .map(|told| std::mem::replace(told, true));
            if let (Some(plugin), Some(false)) = (document.plugins.get(position), told) {
                let message = format!(
                    "applies to {place} together with mtls-auth, expected one source of the \
                     certificate on a route"
                );
                report.error(plugin.spot.place, &Path::Text(&plugin.spot.path), message);
            }
        }
        if slots[Kind::MtlsAuth as usize].is_some()
            || slots[Kind::HeaderCertAuth as usize].is_some()
        {
            continue;
        }
        for kind in [Kind::Acl, Kind::ClientCertAcl] {
            let Some(position) = slots[kind as usize] else {
                continue;
            };
            let (Some(plugin), Some(told)) =
                (document.plugins.get(position), told.get_mut(position))
            else {
                continue;
            };
            if !std::mem::replace(told, true) {
                let message = format!(
                    "applies to {place} without mtls-auth, so nobody would be judged there; \
                     expected mtls-auth or header-cert-auth wherever {} applies",
                    kind.name()
                );
                report.error(plugin.spot.place, &Path::Text(&plugin.spot.path), message);
            }
        }
    }
}

/// Positions of the CAs that a plugin names, each once, in order.
fn positions(config: &MtlsAuth, path: &Path<'_>, cas: &Cas, report: &mut Report) -> Vec<usize> {
    let mut positions = Vec::with_capacity(config.cas.len());
    for (index, (id, place)) in config.cas.iter().enumerate() {
        match cas.by_id.get(id) {
            Some(&position) => positions.push(position),
            None => {
                let id = uuid_text(id);
                let meant = report.did_you_mean(&id, cas.ids.iter().map(String::as_str));
                let path = path.field("ca_certificates");
                let message = format!("no entry of 'ca_certificates' has the id '{id}'{meant}");
                report.error(*place, &path.item(index), message);
            }
        }
    }
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// The plugins that tell something, by position, and whether `mtls-auth` or its like does.
type ToldBy = ([Option<usize>; 3], bool);

/// What the routes tell, shared between routes with the same plugins.
struct ToldOf<'a> {
    document: &'a Document<'a>,
    plugins: &'a Plugins<'a>,
    known: HashMap<ToldBy, Arc<Told>>,
}

impl ToldOf<'_> {
    fn get(&mut self, slots: &Slots, report: &mut Report) -> Arc<Told> {
        let headers = slots[Kind::TlsMetadataHeaders as usize];
        let cert_headers = slots[Kind::ClientCertHeaders as usize];
        let skip = self
            .plugins
            .auth(slots)
            .is_some_and(|auth| auth.lookup.is_none());
        let token = slots[Kind::OpenidConnect as usize];
        let key = ([headers, cert_headers, token], skip);
        if let Some(told) = self.known.get(&key) {
            return told.clone();
        }
        let mut told = Told::default();
        let mut names = Vec::new();
        if skip {
            let selection = holder();
            self.take(
                "mtls-auth with 'skip_consumer_lookup'",
                &selection,
                None,
                &mut names,
                report,
            );
            told.kong.push(selection);
        }
        let ready = |plugin: Option<usize>| self.plugins.ready.get(plugin?);
        if let Some(Ready::Headers(config)) = ready(headers) {
            if config.inject {
                let selection = &config.selection;
                self.take(
                    "tls-metadata-headers",
                    selection,
                    headers,
                    &mut names,
                    report,
                );
                told.kong.push(config.selection.clone());
            }
        }
        if let Some(Ready::CertHeaders(config)) = ready(cert_headers) {
            for selection in &config.selections {
                self.take("", selection, cert_headers, &mut names, report);
            }
            told.dialects.clone_from(&config.selections);
            told.vary = config.vary;
            told.private = config.private;
        }
        let spot = token.and_then(|token| self.document.plugins.get(token));
        if let (Some(bearer), Some(Plugin { spot, .. })) = (self.plugins.bearer(slots), spot) {
            for (_, header) in &bearer.headers {
                if let Some((_, other)) = names.iter().find(|(other, _)| *other == fold(header)) {
                    let other = match *other {
                        "" => "client-cert-headers",
                        other => other,
                    };
                    let message = format!(
                        "the header '{header}' is set by {other} on the same route, expected \
                         another name"
                    );
                    let path = Path::Text(&spot.path);
                    let path = path.field("config");
                    let path = path.field("upstream_headers_names");
                    report.error(spot.place, &path, message);
                }
            }
        }
        let told = Arc::new(told);
        self.known.insert(key, told.clone());
        told
    }

    /// Reports when `plugin` sets a header that another plugin on the same route sets. Those of
    /// one plugin were compared before.
    fn take(
        &self,
        name: &'static str,
        selection: &Selection,
        plugin: Option<usize>,
        names: &mut Vec<(String, &'static str)>,
        report: &mut Report,
    ) {
        let taken = selection.names();
        let clash = taken.iter().find_map(|taken| {
            let folded = fold(taken);
            let (_, other) = names
                .iter()
                .find(|(other, by)| *other == folded && *by != name)?;
            Some((taken, *other))
        });
        let spot = plugin.and_then(|plugin| self.document.plugins.get(plugin));
        if let (Some((header, other)), Some(Plugin { spot, .. })) = (clash, spot) {
            let message = format!(
                "the header '{header}' is set by {other} on the same route, expected another name"
            );
            let path = Path::Text(&spot.path);
            report.error(spot.place, &path.field("config"), message);
        }
        names.extend(taken.iter().map(|taken| (fold(taken), name)));
    }
}

/// What `mtls-auth` tells with `skip_consumer_lookup`.
fn holder() -> Selection {
    let options = Options {
        when: Some(When::Presented),
        ..Options::default()
    };
    let mut selection = Selection::none(Dialect::Kong, options);
    for (key, name) in [("client_cert_dn", kong::DN), ("client_cert_san", kong::SAN)] {
        // Both are keys of the dialect.
        let _ = selection.rename(key, Some(name));
    }
    selection
}

/// The global plan, then one for each route that can be named.
fn plans(
    document: &Document<'_>,
    scopes: &Scopes,
    told: &mut ToldOf<'_>,
    report: &mut Report,
) -> Vec<Plan> {
    // The plans of openid-connect's own certificates stand behind all others.
    let mut hidden: Vec<usize> = Vec::new();
    let mut plan = |route: Option<Box<str>>, slots: &Slots, report: &mut Report| {
        let token = slots[Kind::OpenidConnect as usize];
        let own = token.filter(|token| {
            let ready = told.plugins.ready.get(*token);
            matches!(
                ready,
                Some(Ready::Bearer {
                    certificate: Some(_),
                    ..
                })
            )
        });
        let certificate_plan = own.map(|token| {
            let known = hidden.iter().position(|hidden| *hidden == token);
            known.unwrap_or_else(|| {
                hidden.push(token);
                hidden.len() - 1
            })
        });
        Plan {
            route,
            auth: told.plugins.auth(slots).cloned(),
            inbound: told.plugins.inbound(slots).cloned(),
            bearer: told.plugins.bearer(slots).cloned(),
            certificate_plan,
            acl: told.plugins.acl(slots).cloned(),
            rules: told.plugins.rules(slots).cloned(),
            told: told.get(slots, report),
            applies: slots.iter().any(Option::is_some),
        }
    };
    let mut plans = vec![plan(None, &scopes.global, report)];
    for (position, route) in document.routes.iter().enumerate() {
        let slots = scopes.effective(position);
        let id = route.identity.id.map(|id| uuid_text(&id));
        match route.identity.name.map(str::to_owned).or(id) {
            Some(name) => plans.push(plan(Some(name.into()), &slots, report)),
            None => {
                if slots != scopes.global {
                    let path = Path::Text(&route.spot.path);
                    report.warn(
                        "routes without name and id",
                        route.spot.place,
                        &path,
                        || {
                            "has neither name nor id, so no location can apply its plugins"
                                .to_owned()
                        },
                    );
                }
            }
        }
    }
    let behind = plans.len();
    for plan in &mut plans {
        plan.certificate_plan = plan.certificate_plan.map(|number| behind + number);
    }
    for token in hidden {
        let Some(Ready::Bearer {
            certificate: Some((auth, inbound)),
            ..
        }) = told.plugins.ready.get(token)
        else {
            continue;
        };
        plans.push(Plan {
            route: None,
            auth: Some(auth.clone()),
            inbound: Some(inbound.clone()),
            bearer: None,
            certificate_plan: None,
            acl: None,
            rules: None,
            told: Arc::default(),
            applies: true,
        });
    }
    plans
}

/// Sets of contributions, each known by a number; 0 is the empty set.
struct Sets {
    members: Vec<Arc<[u32]>>,
    numbers: HashMap<Arc<[u32]>, usize>,
    unions: HashMap<(usize, usize), usize>,
}

impl Sets {
    fn new() -> Sets {
        let empty: Arc<[u32]> = [].into();
        Sets {
            members: vec![empty.clone()],
            numbers: HashMap::from([(empty, 0)]),
            unions: HashMap::new(),
        }
    }

    fn members(&self, set: usize) -> &[u32] {
        self.members.get(set).map_or(&[], |members| members)
    }

    fn of(&mut self, members: impl Iterator<Item = u32>) -> usize {
        let mut members: Vec<u32> = members.collect();
        members.sort_unstable();
        members.dedup();
        if let Some(&set) = self.numbers.get(&*members) {
            return set;
        }
        let members: Arc<[u32]> = members.into();
        self.members.push(members.clone());
        self.numbers.insert(members, self.members.len() - 1);
        self.members.len() - 1
    }

    fn union(&mut self, a: usize, b: usize) -> usize {
        if a == b || b == 0 {
            return a;
        }
        if a == 0 {
            return b;
        }
        if let Some(&set) = self.unions.get(&(a, b)) {
            return set;
        }
        let members = [self.members(a), self.members(b)].concat();
        let set = self.of(members.into_iter());
        self.unions.insert((a, b), set);
        set
    }
}

/// Which contributions each pattern brings on its own.
struct Names<'t> {
    own: BTreeMap<Cow<'t, Pattern>, usize>,
    sets: Sets,
}

impl<'t> Names<'t> {
    fn new(document: &'t Document<'t>, scopes: &Scopes, plugins: &Plugins<'_>) -> Names<'t> {
        let mut names = Names {
            own: BTreeMap::new(),
            sets: Sets::new(),
        };
        names.add(
            Cow::Owned(Pattern::Any),
            plugins.contributed(&scopes.global),
        );
        for (position, route) in document.routes.iter().enumerate() {
            let slots = scopes.effective(position);
            if route.snis.is_empty() {
                names.add(Cow::Owned(Pattern::Any), plugins.contributed(&slots));
            }
            for pattern in &route.snis {
                names.add(Cow::Borrowed(pattern), plugins.contributed(&slots));
            }
        }
        for (_, slots) in scopes.routeless() {
            names.add(Cow::Owned(Pattern::Any), plugins.contributed(slots));
        }
        names
    }

    fn add(&mut self, pattern: Cow<'t, Pattern>, contributions: impl Iterator<Item = u32>) {
        let set = self.sets.of(contributions);
        if set != 0 {
            let own = self.own.entry(pattern).or_insert(0);
            *own = self.sets.union(*own, set);
        }
    }

    /// Everything that can be reached under a name: its own, its wildcard's and that of `*`.
    fn reached(&mut self, pattern: &Pattern) -> usize {
        let own = |pattern: &Pattern| self.own.get(pattern).copied().unwrap_or(0);
        let wildcard = match pattern {
            Pattern::Exact(name) => parent(name.as_bytes())
                .and_then(|parent| name.get(name.len() - parent.len()..))
                .map_or(0, |parent| own(&Pattern::Wildcard(parent.to_owned()))),
            Pattern::Wildcard(_) | Pattern::Any => 0,
        };
        let (exact, any) = (own(pattern), own(&Pattern::Any));
        let set = self.sets.union(exact, wildcard);
        self.sets.union(set, any)
    }
}

fn assemble(
    document: &Document<'_>,
    cas: &Cas,
    scopes: &Scopes,
    plugins: &Plugins<'_>,
    people: People<'_>,
    plans: Vec<Plan>,
    report: &mut Report,
) -> Result<Policy, Error> {
    let mut names = Names::new(document, scopes, plugins);
    let mut asks: Vec<Arc<Ask>> = Vec::new();
    let mut ask_of: HashMap<usize, u32> = HashMap::new();
    let mut builder = SniMapBuilder::new();
    let mut digest = Sha256::new();
    digest.update(b"resty-mtls policy 2");

    let patterns: Vec<_> = names.own.keys().cloned().collect();
    number(&mut digest, patterns.len());
    for pattern in patterns {
        let set = names.reached(&pattern);
        let ask = match ask_of.get(&set) {
            Some(&ask) => ask,
            None => {
                let members = names.sets.members(set);
                let made = ask(document, cas, plugins, members, &pattern, report)?;
                asks.push(Arc::new(made));
                let ask = asks.len() as u32 - 1;
                ask_of.insert(set, ask);
                ask
            }
        };
        builder.add_pattern(&pattern, ask)?;
        text(&mut digest, &pattern.to_string());
        if let Some(ask) = asks.get(ask as usize) {
            digest.update(ask.binding());
            number(&mut digest, ask.ca_names_len());
            number(&mut digest, ask.ca_names_bytes());
        }
    }
    look_over(document, scopes, plugins, &mut names, report);

    let mut by_name: HashMap<Box<str>, usize> = HashMap::with_capacity(plans.len());
    for (position, plan) in plans.iter().enumerate() {
        if let Some(route) = &plan.route {
            by_name.insert(route.clone(), position);
        }
    }
    // A route with a name may be called by its id too.
    for route in &document.routes {
        if let (Some(name), Some(id)) = (route.identity.name, route.identity.id) {
            if let Some(&position) = by_name.get(name) {
                by_name.entry(uuid_text(&id).into()).or_insert(position);
            }
        }
    }
    let mut called: Vec<(&str, usize)> = by_name.iter().map(|(name, &at)| (&**name, at)).collect();
    // No route has an empty name: that is the global plan.
    called.push(("", 0));
    called.sort_unstable();
    number(&mut digest, called.len());
    for (name, position) in called {
        text(&mut digest, name);
        if let Some(plan) = plans.get(position) {
            digest_plan(&mut digest, plan, &people);
            let certificate = plan.certificate_plan.and_then(|plan| plans.get(plan));
            if let Some(plan) = certificate {
                digest_plan(&mut digest, plan, &people);
            }
        }
    }
    people.digest(&mut digest);
    let (owned, prefixes) = owned(document);
    for name in owned
        .iter()
        .map(String::as_str)
        .chain(prefixes.iter().copied())
    {
        text(&mut digest, name);
    }
    Ok(Policy {
        asks,
        names: builder.build(),
        consumers: people.consumers,
        owned_names: OwnedNames::new(owned.iter().map(String::as_str), prefixes.iter().copied()),
        read_names: read_names(&plans),
        plans,
        digest: digest.finish(),
        warnings: Vec::new(),
        by_name,
    })
}

/// The header names that only the gateway may set, whether it does so on a given route or not, and
/// what further ones begin with.
fn owned<'a>(document: &'a Document<'_>) -> (Vec<String>, Vec<&'a str>) {
    let mut owned: Vec<String> = Vec::new();
    let mut prefixes: Vec<&str> = Vec::new();
    let configs = document.plugins.iter().map(|plugin| &plugin.config);
    for config in configs.chain(&document.disabled) {
        match config {
            Config::MtlsAuth(_)
            | Config::HeaderCertAuth(_)
            | Config::Acl(_)
            | Config::ClientCertAcl(_) => {
                owned.extend([kong::DN, kong::SAN].map(str::to_owned));
                owned.extend(kong::IDENTITY.map(str::to_owned));
                if let Config::HeaderCertAuth(config) = config {
                    owned.extend(taken(config.inbound.as_ref()));
                }
            }
            Config::OpenidConnect(config) => {
                let from_header = config.from_header.as_ref();
                owned.extend(taken(
                    from_header.and_then(|config| config.inbound.as_ref()),
                ));
                owned.extend(config.headers.iter().map(|(_, header)| header.to_string()));
            }
            Config::TlsMetadataHeaders(headers) => owned.extend(headers.selection.names()),
            Config::ClientCertHeaders(headers) => {
                for selection in &headers.selections {
                    owned.extend(selection.owned_names());
                    prefixes.extend(selection.dialect.prefix());
                    prefixes.extend(selection.owned_prefixes());
                }
            }
            Config::TlsHandshakeModifier => {}
        }
    }
    owned.sort_unstable();
    owned.dedup();
    prefixes.sort_unstable();
    prefixes.dedup();
    (owned, prefixes)
}

/// The headers that a proxy puts a certificate into.
fn taken(inbound: Option<&Inbound>) -> impl Iterator<Item = String> + '_ {
    inbound
        .into_iter()
        .flat_map(|inbound| inbound.names().map(str::to_owned))
}

/// The inbound headers that some route reads.
fn read_names(plans: &[Plan]) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for plan in plans {
        if let Some(selection) = plan.told.xfcc_forwarded() {
            names.extend(selection.own_names().map(Box::from));
        }
        let inbound = plan.inbound.iter();
        names.extend(inbound.flat_map(Inbound::names).map(Box::from));
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// What the handshake does for a set of contributions.
///
/// CA names are sent only if every plugin that can be reached under the name wants its own sent:
/// a list without the CAs of one plugin would keep the clients of that plugin from presenting a
/// certificate.
fn ask(
    document: &Document<'_>,
    cas: &Cas,
    plugins: &Plugins<'_>,
    members: &[u32],
    pattern: &Pattern,
    report: &mut Report,
) -> Result<Ask, Error> {
    let members: Vec<&Contribution> = members
        .iter()
        .filter_map(|&member| plugins.contributions.get(member as usize))
        .collect();
    let stores: Vec<Arc<TrustStore>> = members
        .iter()
        .filter_map(|member| member.store.clone())
        .collect();
    let silent = members.iter().find(|member| member.sent.is_none());
    let sender = members.iter().find(|member| member.sent.is_some());
    let sent = match silent {
        Some(_) => None,
        None => {
            let mut sent: Vec<usize> = members
                .iter()
                .filter_map(|member| member.sent.as_ref())
                .flatten()
                .copied()
                .collect();
            sent.sort_unstable();
            sent.dedup();
            Some(cas.of(&sent))
        }
    };
    let mut ask = Ask::new(&stores, sent.as_deref(), CA_NAMES_BUDGET)?;
    if !members.iter().all(|member| member.resumption) {
        ask = ask.without_resumption();
    }

    let spot = |member: &Contribution| document.plugins.get(member.plugin).map(|p| &p.spot);
    if let Some(sender) = sender.and_then(|sender| spot(sender)) {
        let path = Path::Text(&sender.path);
        let path = path.field("config");
        let path = path.field("send_ca_dn");
        if let Some(silent) = silent.and_then(|silent| spot(silent)) {
            report.warn("server names without CA names", sender.place, &path, || {
                format!(
                    "no CA names are sent for the server name '{pattern}': {} asks under the same \
                     name and sends none",
                    silent.path
                )
            });
        } else if ask.over_budget() {
            report.warn("CA-name lists over the limit", sender.place, &path, || {
                format!(
                    "no CA names are sent for the server name '{pattern}': {} bytes of names are \
                     over the limit of {CA_NAMES_BUDGET}",
                    ask.ca_names_bytes()
                )
            });
        }
    }
    Ok(ask)
}

/// Warns of what works, but hardly as meant.
fn look_over(
    document: &Document<'_>,
    scopes: &Scopes,
    plugins: &Plugins<'_>,
    names: &mut Names<'_>,
    report: &mut Report,
) {
    for (position, route) in document.routes.iter().enumerate() {
        let slots = scopes.effective(position);
        let path = Path::Text(&route.spot.path);
        let inbound = plugins.inbound(&slots).is_some();
        let asks = inbound || plugins.contributed(&slots).next().is_some();
        let mut beyond_global = slots;
        for (slot, global) in beyond_global.iter_mut().zip(scopes.global) {
            *slot = slot.filter(|_| *slot != global);
        }
        let adds = plugins.contributed(&beyond_global).next().is_some();
        if adds && route.snis.is_empty() {
            report.warn(
                "routes that ask without snis",
                route.spot.place,
                &path,
                || "has no snis, so every TLS handshake asks for a client certificate".to_owned(),
            );
        }
        let forwards = slots[Kind::TlsMetadataHeaders as usize].is_some()
            || slots[Kind::ClientCertHeaders as usize].is_some();
        let from_header = plugins
            .bearer(&slots)
            .is_some_and(|bearer| bearer.inbound.is_some());
        if forwards && from_header && slots[Kind::HeaderCertAuth as usize].is_none() {
            report.warn("certificates that are the proxy's", route.spot.place, &path, || {
                "has openid-connect with a certificate from a header, and a plugin that forwards \
                 the certificate of the TLS connection, which is the proxy's; expected \
                 header-cert-auth beside them, to forward that of the header"
                    .to_owned()
            });
        }
        if let (false, Some(bearer)) = (asks, plugins.bearer(&slots)) {
            if bearer.possession != Possession::Off && bearer.inbound.is_none() {
                report.warn(
                    "routes without a plugin that asks",
                    route.spot.place,
                    &path,
                    || {
                        "has openid-connect with proof_of_possession_mtls but neither mtls-auth \
                         nor tls-handshake-modifier nor a certificate from a header, so no client \
                         is asked for the certificate of its token"
                            .to_owned()
                    },
                );
            }
        }
        uncovered_hosts(route, &slots, plugins, names, report);
        let ready = |kind: Kind| plugins.ready.get(beyond_global[kind as usize]?);
        let tells = match (
            ready(Kind::TlsMetadataHeaders),
            ready(Kind::ClientCertHeaders),
        ) {
            (Some(Ready::Headers(config)), _) if config.inject => Some(Kind::TlsMetadataHeaders),
            (_, Some(Ready::CertHeaders(_))) => Some(Kind::ClientCertHeaders),
            _ => None,
        };
        if let (false, Some(kind)) = (asks, tells) {
            report.warn(
                "routes without a plugin that asks",
                route.spot.place,
                &path,
                || {
                    format!(
                        "has {} but neither mtls-auth nor tls-handshake-modifier, so no client is \
                     asked for the certificate it forwards",
                        kind.name()
                    )
                },
            );
        }
        let unverified = |selection: &&Selection| !selection.options.admits(Verified::NotVerified);
        if let (None, true, Some(Ready::CertHeaders(config))) =
            (plugins.auth(&slots), asks, ready(Kind::ClientCertHeaders))
        {
            if let Some(selection) = config.selections.iter().find(unverified) {
                report.warn(
                    "routes that verify nothing",
                    route.spot.place,
                    &path,
                    || {
                        format!(
                        "has no mtls-auth, so the dialect '{}' never forwards a certificate there; \
                         expected mtls-auth, or 'when: presented' for upstreams that verify it \
                         themselves",
                        selection.dialect.name()
                    )
                    },
                );
            }
        }
    }
    for (service, slots) in scopes.routeless() {
        let spot = document.services.get(service).map(|service| &service.spot);
        if let (Some(spot), Some(_)) = (spot, plugins.contributed(slots).next()) {
            report.warn(
                "services that ask without routes",
                spot.place,
                &Path::Text(&spot.path),
                || "has no routes, so every TLS handshake asks for a client certificate".to_owned(),
            );
        }
    }
    let counts = |plugin: &Plugin<'_>| matches!(&plugin.config, Config::Acl(acl) if acl.include_consumer_groups);
    if let Some((place, section)) = document.unread_members {
        if document.plugins.iter().any(counts) {
            report.error(
                place,
                &Path::ROOT.field(section),
                "members of consumer groups are read from 'groups' of a consumer only, and an acl \
                 with 'include_consumer_groups' depends on them",
            );
        }
    }
}

/// Warns of hosts of a protected route under which its clients are not asked.
fn uncovered_hosts(
    route: &Route<'_>,
    slots: &Slots,
    plugins: &Plugins<'_>,
    names: &mut Names<'_>,
    report: &mut Report,
) {
    let auth = slots[Kind::MtlsAuth as usize].and_then(|auth| plugins.contribution(auth));
    let Some(auth) = auth else {
        return;
    };
    for (index, (host, place)) in route.hosts.iter().enumerate() {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        // Kong's `example.*` is no pattern of ours: only `*` covers it.
        let pattern = Pattern::parse(name.as_bytes()).unwrap_or(Pattern::Any);
        let set = names.reached(&pattern);
        if names.sets.members(set).binary_search(&auth).is_err() {
            let path = Path::Text(&route.spot.path);
            let path = path.field("hosts");
            report.warn(
                "hosts without a server name that asks",
                *place,
                &path.item(index),
                || {
                    format!(
                        "no sni of the route covers the host '{}': its clients are not asked for \
                     their certificate there, and get 421 or 401",
                        quoted(host.as_bytes())
                    )
                },
            );
        }
    }
}

fn digest_plan(digest: &mut Sha256, plan: &Plan, people: &People<'_>) {
    digest.update(&[plan.applies.into(), plan.auth.is_some().into()]);
    if let Some(auth) = &plan.auth {
        digest.update(auth.store.digest());
        let id = |consumer: Option<u32>| {
            let consumer = people.consumers.get(consumer?)?;
            Some(consumer.id.clone())
        };
        let lookup = auth.lookup.as_ref();
        let lookup = lookup.map(|lookup| {
            (
                lookup.by,
                id(lookup.default),
                lookup.header,
                &lookup.dirname,
            )
        });
        let revocation = &auth.revocation;
        digest.update(&revocation.key);
        let rest = (
            lookup,
            id(auth.anonymous),
            auth.group_by,
            revocation.mode,
            revocation.ttl,
            revocation.http_timeout,
            revocation.ssl_verify,
            &revocation.http_proxy,
            &revocation.https_proxy,
            auth.resumption,
        );
        text(digest, &format!("{rest:?}"));
    }
    text(digest, &format!("{:?} {:?}", plan.acl, plan.rules));
    text(digest, &format!("{:?}", plan.told));
    text(digest, &format!("{:?} {:?}", plan.inbound, plan.bearer));
}

fn text(digest: &mut Sha256, text: &str) {
    number(digest, text.len());
    digest.update(text.as_bytes());
}

fn number(digest: &mut Sha256, number: usize) {
    digest.update(&(number as u64).to_be_bytes());
}

fn uuid_text(id: &Uuid) -> String {
    let mut text = hex(id);
    for dash in [20, 16, 12, 8] {
        text.insert(dash, '-');
    }
    text
}

fn date(epoch: i64) -> String {
    Asn1Time::from_unix(epoch).map_or_else(|_| epoch.to_string(), |time| time.to_string())
}
