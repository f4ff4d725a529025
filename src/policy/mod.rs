//! A policy: the certificate requests of server names and the plans of routes. It is read from
//! Kong's declarative format and does not change once it is compiled.

pub mod cases;
mod certificate_header;
mod compile;
mod document;
mod env;
mod files;
mod list_files;
mod listing;
mod memory_limit;
mod outline;
mod pem_text;
pub(crate) mod plain_yaml;
mod protection;
mod report;
mod report_only;
mod route_names;
mod suggest;
mod summary;
#[cfg(test)]
mod tests;
mod token_auth;
mod tree;
mod vault;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use self::report::{Path, Position, Report};
use crate::certificate::spiffe::{SpiffeId, Svid};
use crate::certificate::Certificate;
use crate::handshake::{CertificateRequest, SniMap};
use crate::headers::{Dialect, DialectConfig, ReservedHeaders};
use crate::identity::{Acl, ConsumerBy, Consumers, Rules};
use crate::trust::crl::{CrlSet, UrlCrl};
use crate::trust::{CaCertificate, TrustStore};

pub use self::certificate_header::CertificateHeader;
pub use self::document::PluginKinds;
pub use self::files::{bundle_file, join_list, split_list, Account, FileChange, FileWatch, Files};
pub use self::list_files::{generation as lists_generation, ListEvent, ListFile, Lists};
pub use self::listing::{Page, MAX_LISTED};
pub use self::outline::{Outline, PluginOutline, RouteOutline, SourceLine};
pub use self::protection::{
    has_end_marker, is_file_truncation, is_truncation, DisabledPlugins, Protection,
};
pub(crate) use self::report::FileName;
pub use self::report::{closest_name, Diagnostic, Severity};
pub use self::report_only::ReportOnly;
pub use self::route_names::RouteNames;
pub use self::suggest::SuggestionBudget;
pub use self::summary::Summary;
pub use self::token_auth::{
    AuthMethods, ClientAuthMethod, ClientCertificate, DpopSettings, OAuthClient, ProofOfPossession,
    Secret, TokenAuth, TokenConsumer,
};

/// The standard map, with a hash that takes a third of the time for short texts. It is keyed as
/// well.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Longest policy document, in bytes: room for 100,000 routes with a plugin each.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Extensions of the files of a directory that are read.
const EXTENSIONS: &[&str] = &["yaml", "yml", "json"];

/// A compiled policy.
pub struct Policy {
    /// Route plans; the global one is the first. Routes with equal settings share a plan. Plans
    /// that only a [`Plan::certificate_plan`] refers to follow the plan that does.
    pub plans: Vec<Arc<Plan>>,
    /// Names and ids of routes, with the positions of their plans.
    pub routes: RouteNames,
    /// Certificate requests; far fewer than server names.
    pub certificate_requests: Vec<Arc<CertificateRequest>>,
    /// Server name -> position in `certificate_requests`. Under any other name, no certificate is
    /// requested.
    pub sni_map: SniMap,
    /// Request headers that only the gateway may set, on every route.
    pub reserved_headers: ReservedHeaders,
    /// Names of reserved headers that some route reads before they are removed.
    pub inbound_headers: Vec<Box<str>>,
    /// The consumers that certificates are mapped to.
    pub consumers: Consumers,
    /// SHA-256 of the compiled content: equal policies have equal digests, however written.
    pub digest: [u8; 32],
    /// Warnings about insecure and ineffective settings.
    pub warnings: Vec<Diagnostic>,
    /// The plugins that protect each route, for the comparison with the next policy.
    pub protection: Arc<Protection>,
    /// The plugins that the document disables.
    pub disabled: DisabledPlugins,
    /// The warning that is due if no peer is trusted to send certificates in headers.
    pub untrusted_source_warning: Option<Diagnostic>,
    /// The local CRLs that a plugin checks.
    pub crls: Vec<Arc<CrlSet>>,
    /// The CRLs that the gateway fetches for them.
    pub crl_urls: Vec<CrlUrl>,
    /// The certificates of `ca_certificates`, in order.
    pub cas: Vec<PolicyCa>,
    /// The lists that a plugin checks.
    pub lists: Vec<Arc<ListFile>>,
    /// URLs of bundles of trust domains, each once.
    pub bundle_urls: Vec<Box<str>>,
    /// When it was compiled, in seconds since the epoch.
    pub compiled_at: i64,
    /// What is where in the document, if that was asked for.
    pub outline: Option<Outline>,
}

/// A CRL that the gateway fetches, and how.
pub struct CrlUrl {
    /// The CRL that was fetched last.
    pub crl: Arc<UrlCrl>,
    /// Everything that it depends on.
    pub key: String,
    /// Seconds between two fetches; by the nextUpdate of the CRL without it.
    pub refresh: Option<u32>,
    /// Time limit of one fetch, in milliseconds.
    pub http_timeout: u32,
    /// Whether the server certificate of an https source is verified.
    pub ssl_verify: bool,
    /// Host and port of the proxy for http URLs.
    pub http_proxy: Option<(Box<str>, u16)>,
    /// Host and port of the proxy for https URLs.
    pub https_proxy: Option<(Box<str>, u16)>,
}

/// A certificate of `ca_certificates`.
#[derive(Clone)]
pub struct PolicyCa {
    /// The id of its entry.
    pub id: Option<Box<str>>,
    /// The certificate.
    pub ca: Arc<CaCertificate>,
}

/// What applies to the requests of a route.
pub struct Plan {
    /// `mtls-auth` or `header-cert-auth`, if one applies.
    pub auth: Option<Auth>,
    /// The header that carries the certificate of a request. With `header-cert-auth` it replaces
    /// the TLS connection; without `auth` it is that of `token_auth` and precedes the TLS
    /// connection.
    pub certificate_header: Option<CertificateHeader>,
    /// `openid-connect`, if it applies.
    pub token_auth: Option<Arc<TokenAuth>>,
    /// Position of the plan whose `auth` verifies the certificate that a token is bound to.
    pub certificate_plan: Option<usize>,
    /// `acl`, if it applies.
    pub acl: Option<Arc<Acl>>,
    /// `client-cert-acl`, if it applies.
    pub rules: Option<Arc<Rules>>,
    /// `client-cert-lists`, if it applies.
    pub lists: Option<Arc<Lists>>,
    /// The headers that describe the certificate to the upstream.
    pub upstream_headers: Arc<UpstreamHeaders>,
    /// Whether any plugin applies.
    pub has_plugins: bool,
    /// Which plugins apply, for the operator. Nothing is decided by it.
    pub plugins: PluginKinds,
    /// Which plugins do not refuse.
    pub report_only: ReportOnly,
    /// Whether CORS preflights are not authenticated (`run_on_preflight: false`).
    pub passes_preflight: bool,
    /// Whether `tls-handshake-modifier` applies.
    pub modifies_handshake: bool,
}

/// The headers that describe the client certificate to the upstream.
#[derive(Debug, Default)]
pub struct UpstreamHeaders {
    /// Headers of `mtls-auth` with `skip_consumer_lookup` and of `tls-metadata-headers`: set if the
    /// certificate was accepted.
    pub kong: Vec<DialectConfig>,
    /// Headers of `client-cert-headers`: set on every request.
    pub dialects: Vec<DialectConfig>,
    /// Whether responses carry `Vary: Client-Cert`.
    pub vary: bool,
    /// Whether responses carry `Cache-Control: private`.
    pub private: bool,
}

impl Plan {
    /// Whether `acl` is checked with the token, because the token decides about the consumer.
    pub fn checks_acl_with_token(&self) -> bool {
        let token_auth = self.token_auth.as_ref();
        token_auth.is_some_and(|token_auth| token_auth.decides_identity())
    }
}

impl UpstreamHeaders {
    /// The selection of `cloudflare-forwarding`. Its values depend on the host, and on whether the
    /// request is the first one of its connection.
    pub fn forwarding(&self) -> Option<&DialectConfig> {
        self.of(Dialect::CloudflareForwarding)
    }

    /// The selection of `xfcc`.
    pub fn xfcc(&self) -> Option<&DialectConfig> {
        self.of(Dialect::Xfcc)
    }

    /// The selection of `xfcc` in a mode that depends on the inbound header.
    pub fn xfcc_forwarded(&self) -> Option<&DialectConfig> {
        self.xfcc()
            .filter(|selection| selection.options.xfcc.mode.forwards())
    }

    /// The selection of a dialect of `client-cert-headers`.
    pub fn of(&self, dialect: Dialect) -> Option<&DialectConfig> {
        self.dialects
            .iter()
            .find(|selection| selection.dialect == dialect)
    }
}

/// `mtls-auth` or `header-cert-auth` as it applies to a route.
#[derive(Clone)]
pub struct Auth {
    /// The trust store that verifies the chains of clients that are no SPIFFE workloads.
    pub store: Arc<TrustStore>,
    /// The trust domains whose SVIDs are accepted. With any of them, a certificate with a SPIFFE ID
    /// is verified by the CAs of its own trust domain only, unless it is pinned.
    pub trust_domains: Arc<[TrustDomain]>,
    /// Whether certificates without SPIFFE ID are accepted.
    pub has_cas: bool,
    /// How a certificate is mapped to a consumer; `None` with `skip_consumer_lookup`.
    pub lookup: Option<ConsumerLookup>,
    /// Index of the consumer of clients that are not trusted.
    pub anonymous: Option<u32>,
    /// Which name of a trusted certificate is its group.
    pub group_by: Option<GroupBy>,
    /// Whether and how revocation is checked.
    pub revocation: Arc<RevocationSettings>,
    /// Whether clients may resume TLS sessions.
    pub resumption: bool,
}

/// A SPIFFE trust domain.
pub struct TrustDomain {
    /// Its name.
    pub name: Box<str>,
    /// The trust store of its CAs.
    pub store: Arc<TrustStore>,
}

impl Auth {
    /// The trust store that verifies a certificate.
    ///
    /// # Errors
    /// Why there is none, for the log.
    pub fn store_of(&self, certificate: &Certificate) -> Result<&Arc<TrustStore>, String> {
        if self.trust_domains.is_empty() {
            return Ok(&self.store);
        }
        if self.store.pins(&certificate.digests().leaf) {
            return Ok(&self.store);
        }
        match certificate.svid() {
            Svid::None if self.has_cas => Ok(&self.store),
            Svid::None => Err("not an X.509-SVID: it has no SPIFFE ID".to_owned()),
            Svid::Invalid(why) => Err(format!("not an X.509-SVID: {why}")),
            Svid::Workload(id) => {
                let domain = self.domain(id.trust_domain());
                domain.map(|domain| &domain.store).ok_or_else(|| {
                    format!(
                        "the trust domain '{}' is none of the route's",
                        id.trust_domain()
                    )
                })
            }
        }
    }

    /// The SPIFFE ID of a certificate that [`Auth::store_of`] has verified, if it is an SVID of a
    /// trust domain of the route.
    pub fn spiffe_id<'c>(&self, certificate: &'c Certificate) -> Option<&'c SpiffeId> {
        match certificate.svid() {
            Svid::Workload(id)
                if self.domain(id.trust_domain()).is_some()
                    && !self.store.pins(&certificate.digests().leaf) =>
            {
                Some(id)
            }
            _ => None,
        }
    }

    fn domain(&self, name: &str) -> Option<&TrustDomain> {
        self.trust_domains
            .iter()
            .find(|domain| *domain.name == *name)
    }

    /// All trust stores.
    pub fn stores(&self) -> impl Iterator<Item = &Arc<TrustStore>> {
        let domains = self.trust_domains.iter().map(|domain| &domain.store);
        std::iter::once(&self.store).chain(domains)
    }
}

/// How a certificate is mapped to a consumer when no credential matches.
#[derive(Clone)]
pub struct ConsumerLookup {
    /// Kong's `consumer_by`.
    pub by: ConsumerBy,
    /// Index of the consumer of trusted certificates that match no other consumer.
    pub default: Option<u32>,
    /// Whether `header_cert_auth_credentials` are matched besides `mtls_auth_credentials`.
    pub header: bool,
    /// The attribute types of a directoryName that are compared, as OpenSSL writes them; empty for
    /// all.
    pub dirname: Arc<[Box<str>]>,
    /// Whether userPrincipalNames are compared.
    pub upn: bool,
}

/// Kong's `authenticated_group_by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// The common name.
    Cn,
    /// The whole subject.
    Dn,
}

/// Kong's `revocation_check_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationMode {
    /// No check.
    Skip,
    /// An unknown status counts as good.
    IgnoreCaError,
    /// An unknown status counts as revoked.
    Strict,
}

/// How revocation is checked.
pub struct RevocationSettings {
    /// The mode.
    pub mode: RevocationMode,
    /// Longest time for which a status is cached, in seconds (Kong's `cert_cache_ttl`).
    pub ttl: i64,
    /// Time limit of one fetch, in milliseconds.
    pub http_timeout: u32,
    /// How long a request waits for a first answer with [`RevocationMode::IgnoreCaError`], in
    /// milliseconds.
    pub status_wait: u32,
    /// Greatest age in seconds of an OCSP response without nextUpdate that makes a certificate
    /// good.
    pub ocsp_max_age: i64,
    /// Whether the server certificate of an https source is verified.
    pub ssl_verify: bool,
    /// Host and port of the proxy for http URLs.
    pub http_proxy: Option<(Box<str>, u16)>,
    /// Host and port of the proxy for https URLs.
    pub https_proxy: Option<(Box<str>, u16)>,
    /// Most bytes of a CRL that is fetched.
    pub max_crl_bytes: usize,
    /// The CRLs of the plugin, if it has any.
    pub crls: Option<Arc<CrlSet>>,
    /// Part of the cache key of a status: SHA-256 over the digests of trust store and CRLs, and
    /// over the options of fetches. An answer from an unverified server is not used where servers
    /// are verified, and a failure with one proxy or time limit does not count for another.
    pub key: [u8; 32],
}

impl Policy {
    /// Reads a YAML or JSON file, or the files of a directory or of a list ([`join_list`]) as one
    /// policy.
    ///
    /// # Errors
    /// All errors, not only the first one.
    pub fn from_file(path: &FilePath) -> Result<Policy, Vec<Diagnostic>> {
        Policy::from_file_with(path, &mut Files::default())
    }

    /// The same. `files` records all files that were read or could not be read, also if the policy
    /// has errors.
    ///
    /// # Errors
    /// As [`Policy::from_file`].
    pub fn from_file_with(path: &FilePath, files: &mut Files) -> Result<Policy, Vec<Diagnostic>> {
        if let Some(paths) = files::split_list(path) {
            files.add_list(path);
            return Policy::from_paths(&paths, files);
        }
        Policy::from_paths(&[path.to_owned()], files)
    }

    /// Reads the files, and the files of the directories, as one policy.
    fn from_paths(paths: &[PathBuf], files: &mut Files) -> Result<Policy, Vec<Diagnostic>> {
        let mut sources = Vec::new();
        for path in paths {
            let label = path.to_string_lossy();
            let refused = |message| Err(refused(&label, Position::default(), message));
            if !files.is_directory(path) {
                sources.push((path.clone(), path.parent().unwrap_or(path).to_owned()));
                continue;
            }
            let names = match files.list(path) {
                Ok(names) => names,
                Err(error) => return refused(format!("cannot be read: {error}")),
            };
            let before = sources.len();
            for name in names {
                let file = path.join(name);
                let extension = file.extension().and_then(|extension| extension.to_str());
                if extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
                    sources.push((file, path.clone()));
                }
            }
            if sources.len() == before {
                return refused(
                    "has no file of a policy, expected .yaml, .yml or .json".to_owned(),
                );
            }
        }
        let mut documents: Vec<(Vec<u8>, String)> = Vec::new();
        let mut bytes = 0;
        for (file, _) in &sources {
            let label = file.to_string_lossy().into_owned();
            match files.read(file, MAX_BYTES - bytes) {
                Ok(text) => {
                    bytes += text.len();
                    documents.push((text, label));
                }
                Err(error) => {
                    let message = format!("cannot be read: {error}");
                    return Err(refused(&label, Position::default(), message));
                }
            }
            if bytes > MAX_BYTES {
                break;
            }
        }
        let directories: Vec<PathBuf> = sources.into_iter().map(|(_, path)| path).collect();
        let first = directories.first().cloned();
        let is_one = directories
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if a == b));
        match first.filter(|_| is_one) {
            Some(directory) => {
                let paths = document::FilePaths::default();
                Policy::read(&documents, Some(&directory), &paths, files)
            }
            None => {
                // The paths are already those from the directories of the files.
                let paths = document::FilePaths::of_several(directories);
                Policy::read(&documents, Some(FilePath::new("")), &paths, files)
            }
        }
    }

    /// Reads YAML or JSON text. `label` is the name of the file in diagnostics. Paths in the text
    /// must be absolute.
    ///
    /// # Errors
    /// All errors, not only the first one.
    pub fn from_yaml(text: &[u8], label: &str) -> Result<Policy, Vec<Diagnostic>> {
        Policy::from_yaml_with(text, label, &mut Files::default())
    }

    /// The same. `files` records all files that were read or could not be read, also if the policy
    /// has errors.
    ///
    /// # Errors
    /// As [`Policy::from_yaml`].
    pub fn from_yaml_with(
        text: &[u8],
        label: &str,
        files: &mut Files,
    ) -> Result<Policy, Vec<Diagnostic>> {
        let paths = document::FilePaths::default();
        Policy::read(&[(text, label.to_owned())], None, &paths, files)
    }

    /// `documents` are the texts of the files, each with its name in diagnostics.
    fn read(
        documents: &[(impl AsRef<[u8]>, String)],
        directory: Option<&FilePath>,
        paths: &document::FilePaths,
        files: &mut Files,
    ) -> Result<Policy, Vec<Diagnostic>> {
        let label = documents.first().map_or("", |(_, label)| label);
        let bytes = documents.iter().map(|(text, _)| text.as_ref().len());
        if bytes.sum::<usize>() > MAX_BYTES {
            let message = format!("over {} MB, the limit for a policy", MAX_BYTES >> 20);
            return Err(refused(label, Position::default(), message));
        }
        let need = documents
            .iter()
            .map(|(text, _)| memory_limit::estimate_for_document(text.as_ref()))
            .sum();
        if let Err(error) = files.check_memory(need) {
            return Err(refused(label, Position::default(), error.to_string()));
        }
        let mut report = Report::new(label);
        if files.wants_more_warnings() {
            report.keep_more_warnings();
        }
        let vault_values = vault::VaultValues::default();
        let mut texts = Vec::with_capacity(documents.len());
        let mut bases = Vec::with_capacity(documents.len());
        for (text, label) in documents {
            let text = match std::str::from_utf8(text.as_ref()) {
                Ok(text) => text,
                Err(error) => {
                    let valid = text.as_ref().get(..error.valid_up_to());
                    let place = end_of(valid.unwrap_or_default());
                    let message = "not UTF-8, expected YAML or JSON".to_owned();
                    return Err(refused(label, place, message));
                }
            };
            if let Some(before) = texts.last() {
                let before: &Option<Cow<'_, str>> = before;
                let lines = before.as_deref().map_or(0, |text| text.lines().count());
                report.begin_file(label, lines);
            }
            bases.push(report.line_base());
            texts.push(env::expand(text, &mut report));
        }
        let complete = !report.has_errors();
        let mut roots = Vec::with_capacity(texts.len());
        for (text, base) in texts.iter().zip(bases).filter(|_| complete) {
            let text = text.as_deref().unwrap_or_default();
            roots.extend(tree::read(text, base, &mut report));
        }
        let policy = (complete && roots.len() == documents.len())
            .then(|| document::read(&roots, &vault_values, paths, &mut report))
            .and_then(|document| compile::compile(&document, directory, files, &mut report));
        let untrusted_source_warning = report.take_untrusted_source_warning();
        let warnings = report.finish()?;
        // Without an error there is a policy. The fallback reports a bug of the compiler.
        let missing = || refused(label, Position::default(), "internal error".to_owned());
        Ok(Policy {
            warnings,
            untrusted_source_warning,
            ..policy.ok_or_else(missing)?
        })
    }

    /// Position in `plans` of a route's plan, by name or id; of the global one for no route.
    /// `None` when there is no such route.
    pub fn plan(&self, route: Option<&str>) -> Option<usize> {
        match route {
            None => Some(0),
            Some(route) => self.routes.find(route),
        }
    }

    /// The name or id of the route number `index`. It is empty if the global plan does the same for
    /// the route. `None` behind the last route.
    pub fn route_with_own_plan(&self, index: usize) -> Option<&str> {
        let (name, plan) = self.routes.get(index)?;
        let (global, own) = (self.plans.first()?, self.plans.get(plan)?);
        // tls-handshake-modifier has an effect in the handshake only.
        let has_effect = own.auth.is_some()
            || own.certificate_header.is_some()
            || own.token_auth.is_some()
            || own.acl.is_some()
            || own.rules.is_some()
            || own.lists.is_some()
            || !own.upstream_headers.kong.is_empty()
            || !own.upstream_headers.dialects.is_empty();
        Some(match has_effect && !Arc::ptr_eq(global, own) {
            true => name,
            false => "",
        })
    }

    /// The certificate request for the raw bytes of a server name; `None` when no certificate is
    /// requested.
    pub fn certificate_request(
        &self,
        server_name: Option<&[u8]>,
    ) -> Option<&Arc<CertificateRequest>> {
        self.certificate_requests
            .get(self.sni_map.get(server_name)? as usize)
    }

    /// Frees the policy, and the CA names that connections still hold.
    pub fn retire(self) {
        for request in &self.certificate_requests {
            request.ca_names().retire();
        }
    }

    /// A summary in text, for the operator.
    pub fn summary(&self) -> Summary<'_> {
        Summary(self)
    }
}

fn refused(label: &str, place: Position, message: String) -> Vec<Diagnostic> {
    let mut report = Report::new(label);
    report.error(place, &Path::ROOT, message);
    report.finish().err().unwrap_or_default()
}

/// The position behind the last character of UTF-8 text.
fn end_of(text: &[u8]) -> Position {
    let text = String::from_utf8_lossy(text);
    let last = text.rsplit('\n').next().unwrap_or_default();
    let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
    Position {
        line: number(text.matches('\n').count()),
        column: number(last.chars().count()),
    }
}
