//! A policy: what routes and server names want of client certificates. Read from Kong's
//! declarative format, immutable once compiled.

mod bearer;
mod compile;
mod document;
mod env;
mod files;
mod memory_limit;
mod pem_text;
mod protection;
mod report;
mod route_names;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::HashMap;
use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use self::report::{Path, Position, Report};
use crate::handshake::{CertificateRequest, SniMap};
use crate::headers::{Dialect, DialectConfig, ReservedHeaders};
use crate::identity::{Acl, ConsumerBy, Consumers, Rules};
use crate::text::hex;
use crate::text::quoted;
use crate::trust::crl::CrlSet;
use crate::trust::TrustStore;

pub use self::bearer::{AuthMethods, Bearer, Client, ClientAuth, Inbound, Possession, Secret};
pub use self::files::{Account, FileChange, FileWatch, Files};
pub use self::protection::{has_end_marker, is_beginning, Disabled, Protection};
pub(crate) use self::report::FileName;
pub use self::report::{closest_name, Diagnostic, Severity};
pub use self::route_names::RouteNames;
pub use self::suggest::SuggestionBudget;

/// The standard map, with a hash that takes a third of the time for short texts. It is keyed as well.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Longest policy document, in bytes: room for 100,000 routes with a plugin each.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// A compiled policy.
pub struct Policy {
    /// What applies to requests: the global plan first. Routes that are treated alike share one.
    /// Those that only [`Plan::certificate_plan`] names are no route's.
    pub plans: Vec<Arc<Plan>>,
    /// What the routes are called.
    pub routes: RouteNames,
    /// What the handshake does; far fewer than server names.
    pub asks: Vec<Arc<CertificateRequest>>,
    /// Server name -> position in `asks`. A name that is not there does not ask.
    pub names: SniMap,
    /// The header names that only the gateway may set, on every route.
    pub reserved_headers: ReservedHeaders,
    /// Names of inbound headers that are removed as all owned names are, and read before.
    pub read_names: Vec<Box<str>>,
    /// Who certificates are mapped to.
    pub consumers: Consumers,
    /// SHA-256 of the compiled content: equal policies have equal digests, however written.
    pub digest: [u8; 32],
    /// What is allowed but hardly meant.
    pub warnings: Vec<Diagnostic>,
    /// What it demands of requests, for the comparison with the next policy.
    pub protection: Arc<Protection>,
    /// The plugins that it says are off.
    pub disabled: Disabled,
    /// What to warn of if no peer is trusted to send certificates in headers.
    pub unheard: Option<Diagnostic>,
    /// The local CRLs that a plugin checks.
    pub crls: Vec<Arc<CrlSet>>,
    /// When it was compiled, in seconds since the epoch.
    pub compiled_at: i64,
}

/// What applies to the requests of a route.
pub struct Plan {
    /// `mtls-auth` or `header-cert-auth`, if one applies.
    pub auth: Option<Auth>,
    /// The header that brings the certificate of a request: with `header-cert-auth` instead of the
    /// TLS connection; without any `auth`, that of `bearer`, before the TLS connection.
    pub inbound: Option<Inbound>,
    /// `openid-connect`, if it applies.
    pub bearer: Option<Arc<Bearer>>,
    /// Position of the plan whose `auth` judges the certificate that a token is bound to.
    pub certificate_plan: Option<usize>,
    /// `acl`, if it applies.
    pub acl: Option<Arc<Acl>>,
    /// `client-cert-acl`, if it applies.
    pub rules: Option<Arc<Rules>>,
    /// What the upstream is told of the certificate.
    pub told: Arc<Told>,
    /// Whether any plugin of ours applies.
    pub applies: bool,
    /// Whether `tls-handshake-modifier` applies.
    pub modifies_handshake: bool,
}

/// What a route tells its upstream of the certificate.
#[derive(Debug, Default)]
pub struct Told {
    /// `mtls-auth` with `skip_consumer_lookup`, and `tls-metadata-headers`: of a client that is let
    /// in for its certificate.
    pub kong: Vec<DialectConfig>,
    /// `client-cert-headers`: on every request.
    pub dialects: Vec<DialectConfig>,
    /// Whether responses carry `Vary: Client-Cert`.
    pub vary: bool,
    /// Whether responses carry `Cache-Control: private`.
    pub private: bool,
}

impl Told {
    /// `cloudflare-forwarding`, which depends on the host and the place of the request on its
    /// connection.
    pub fn forwarding(&self) -> Option<&DialectConfig> {
        self.of(Dialect::CloudflareForwarding)
    }

    /// `xfcc`.
    pub fn xfcc(&self) -> Option<&DialectConfig> {
        self.of(Dialect::Xfcc)
    }

    /// `xfcc` in a mode that depends on the header that came.
    pub fn xfcc_forwarded(&self) -> Option<&DialectConfig> {
        self.xfcc()
            .filter(|selection| selection.options.xfcc.mode.forwards())
    }

    /// The dialect, if it is told.
    pub fn of(&self, dialect: Dialect) -> Option<&DialectConfig> {
        self.dialects
            .iter()
            .find(|selection| selection.dialect == dialect)
    }
}

/// `mtls-auth` or `header-cert-auth` as it applies to a route.
#[derive(Clone)]
pub struct Auth {
    /// What client chains are verified against.
    pub store: Arc<TrustStore>,
    /// How a certificate is mapped to a consumer; `None` with `skip_consumer_lookup`.
    pub lookup: Option<Lookup>,
    /// Index of the consumer that stands in for clients that are not trusted.
    pub anonymous: Option<u32>,
    /// What group a trusted certificate itself gives.
    pub group_by: Option<GroupBy>,
    /// Whether and how revocation is checked.
    pub revocation: Arc<Revocation>,
    /// Whether its clients may come with a resumed TLS session.
    pub resumption: bool,
}

/// How a certificate is mapped to a consumer when no credential does it.
#[derive(Clone)]
pub struct Lookup {
    /// Kong's `consumer_by`.
    pub by: ConsumerBy,
    /// Index of the consumer of trusted certificates that map to nobody else.
    pub default: Option<u32>,
    /// Whether `header_cert_auth_credentials` count beside `mtls_auth_credentials`.
    pub header: bool,
    /// The attribute types of a directoryName that count, as OpenSSL writes them; empty for all.
    pub dirname: Arc<[Box<str>]>,
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
    /// A certificate whose status cannot be had counts as good.
    IgnoreCaError,
    /// A certificate whose status cannot be had counts as revoked.
    Strict,
}

/// How revocation is checked.
pub struct Revocation {
    /// The mode.
    pub mode: RevocationMode,
    /// Longest time for which a status is remembered, in seconds (Kong's `cert_cache_ttl`).
    pub ttl: i64,
    /// Time for one fetch, in milliseconds.
    pub http_timeout: u32,
    /// Whether the certificate of an https source is verified.
    pub ssl_verify: bool,
    /// Host and port of the proxy for http URLs.
    pub http_proxy: Option<(Box<str>, u16)>,
    /// Host and port of the proxy for https URLs.
    pub https_proxy: Option<(Box<str>, u16)>,
    /// The policy's own CRLs, if it has any for this plugin.
    pub crls: Option<Arc<CrlSet>>,
    /// What a remembered status depends on: SHA-256 over the digests of trust store and CRLs, and
    /// over the options of fetches. An answer from a server that was not verified must not serve
    /// where it has to be, and a failure with one proxy or time-out is none with another.
    pub key: [u8; 32],
}

impl Policy {
    /// Reads a YAML or JSON file.
    ///
    /// # Errors
    /// Everything that is wrong with it, not only the first error.
    pub fn from_file(path: &FilePath) -> Result<Policy, Vec<Diagnostic>> {
        Policy::from_file_with(path, &mut Files::default())
    }

    /// The same, and tells all files that were read or should have been, also for a bad policy.
    ///
    /// # Errors
    /// As [`Policy::from_file`].
    pub fn from_file_with(path: &FilePath, files: &mut Files) -> Result<Policy, Vec<Diagnostic>> {
        let label = path.to_string_lossy();
        match files.read(path, MAX_BYTES) {
            Ok(text) => Policy::read(&text, &label, Some(path.parent().unwrap_or(path)), files),
            Err(error) => {
                let message = format!("cannot be read: {error}");
                Err(refused(&label, Position::default(), message))
            }
        }
    }

    /// Reads YAML or JSON text. `label` stands for the file in diagnostics. The text cannot name
    /// files by relative paths.
    ///
    /// # Errors
    /// Everything that is wrong with it, not only the first error.
    pub fn from_yaml(text: &[u8], label: &str) -> Result<Policy, Vec<Diagnostic>> {
        Policy::from_yaml_with(text, label, &mut Files::default())
    }

    /// The same, and tells all files that were read or should have been, also for a bad policy.
    ///
    /// # Errors
    /// As [`Policy::from_yaml`].
    pub fn from_yaml_with(
        text: &[u8],
        label: &str,
        files: &mut Files,
    ) -> Result<Policy, Vec<Diagnostic>> {
        Policy::read(text, label, None, files)
    }

    fn read(
        text: &[u8],
        label: &str,
        directory: Option<&FilePath>,
        files: &mut Files,
    ) -> Result<Policy, Vec<Diagnostic>> {
        if text.len() > MAX_BYTES {
            let message = format!("over {} MB, the limit for a policy", MAX_BYTES >> 20);
            return Err(refused(label, Position::default(), message));
        }
        if let Err(error) = files.check_memory(memory_limit::of_document(text)) {
            return Err(refused(label, Position::default(), error.to_string()));
        }
        let text = match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let place = end_of(text.get(..error.valid_up_to()).unwrap_or_default());
                let message = "not UTF-8, expected YAML or JSON".to_owned();
                return Err(refused(label, place, message));
            }
        };
        let mut report = Report::new(label);
        let text = env::expand(text, &mut report);
        let policy = text
            .filter(|_| !report.has_errors())
            .as_deref()
            .and_then(|text| {
                let root = tree::read(text, &mut report)?;
                let document = document::read(&root, &mut report);
                compile::compile(&document, directory, files, &mut report)
            });
        let unheard = report.take_untrusted_source_warning();
        let warnings = report.finish()?;
        // Without an error there is a policy; the fallback is the bug's own report.
        let lost = || refused(label, Position::default(), "internal error".to_owned());
        Ok(Policy {
            warnings,
            unheard,
            ..policy.ok_or_else(lost)?
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

    /// The name of the route number `index`, or its id; `Some("")` where no more applies to the
    /// requests of the route than to those without one. `None` behind the last.
    pub fn route(&self, index: usize) -> Option<&str> {
        let (name, plan) = self.routes.get(index)?;
        let (global, own) = (self.plans.first()?, self.plans.get(plan)?);
        // A tls-handshake-modifier does all it does in the handshake.
        let has_effect = own.auth.is_some()
            || own.inbound.is_some()
            || own.bearer.is_some()
            || own.acl.is_some()
            || own.rules.is_some()
            || !own.told.kong.is_empty()
            || !own.told.dialects.is_empty();
        Some(match has_effect && !Arc::ptr_eq(global, own) {
            true => name,
            false => "",
        })
    }

    /// What the handshake does for the raw bytes of a server name; `None` when it does not ask.
    pub fn ask(&self, server_name: Option<&[u8]>) -> Option<&Arc<CertificateRequest>> {
        self.asks.get(self.names.get(server_name)? as usize)
    }

    /// Frees the policy, and what connections still hold of it as far as they can do without.
    pub fn retire(self) {
        for ask in &self.asks {
            ask.ca_names().retire();
        }
    }

    /// What an operator wants to see of it.
    pub fn summary(&self) -> Summary<'_> {
        Summary(self)
    }
}

fn refused(label: &str, place: Position, message: String) -> Vec<Diagnostic> {
    let mut report = Report::new(label);
    report.error(place, &Path::ROOT, message);
    report.finish().err().unwrap_or_default()
}

/// The place behind the last character of some UTF-8 text.
fn end_of(text: &[u8]) -> Position {
    let text = String::from_utf8_lossy(text);
    let last = text.rsplit('\n').next().unwrap_or_default();
    let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
    Position {
        line: number(text.matches('\n').count()),
        column: number(last.chars().count()),
    }
}

/// Most server names, and most routes, that a summary lists.
const MAX_LISTED: usize = 20;

/// A policy in words: server names that ask, CA-name lists, routes. Warnings are apart.
pub struct Summary<'p>(&'p Policy);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.0;
        writeln!(f, "digest: {}", hex(&policy.digest))?;

        let mut names: Vec<_> = policy.names.iter().collect();
        names.sort_unstable_by(|(a, i), (b, j)| (i, a).cmp(&(j, b)));
        let count = names.len();
        writeln!(f, "server names that ask for a client certificate: {count}")?;
        for names in names.chunk_by(|(_, a), (_, b)| a == b) {
            let ask = names
                .first()
                .and_then(|(_, ask)| policy.asks.get(*ask as usize));
            let Some(ask) = ask else {
                continue;
            };
            let sent = match ask.ca_names_len() {
                0 => "no CA names sent".to_owned(),
                1 => format!("1 CA name sent, {} bytes", ask.ca_names_bytes()),
                n => format!("{n} CA names sent, {} bytes", ask.ca_names_bytes()),
            };
            let names = listed(names.iter().map(|(pattern, _)| pattern.to_string()));
            writeln!(f, "  {names}: {sent}")?;
        }
        let routes = || {
            let routes = policy.routes.with_plans();
            routes.filter_map(|(name, plan)| Some((name, policy.plans.get(plan)?)))
        };
        writeln!(f, "routes: {}", routes().count())?;
        let protected = routes().filter(|(_, plan)| plan.auth.is_some() && plan.inbound.is_none());
        let protected = listed(protected.map(|(name, _)| quoted(name.as_bytes())));
        if !protected.is_empty() {
            writeln!(f, "routes that require a client certificate: {protected}")?;
        }
        for (what, protected) in [
            (
                "routes that require a client certificate in a header",
                routes()
                    .filter(|(_, plan)| plan.auth.is_some() && plan.inbound.is_some())
                    .map(|(name, _)| quoted(name.as_bytes()))
                    .collect::<Vec<_>>(),
            ),
            (
                "routes that require an access token",
                routes()
                    .filter(|(_, plan)| plan.bearer.is_some())
                    .map(|(name, _)| quoted(name.as_bytes()))
                    .collect(),
            ),
        ] {
            if !protected.is_empty() {
                writeln!(f, "{what}: {}", listed(protected.into_iter()))?;
            }
        }
        let global = policy.plans.first();
        if global.is_some_and(|plan| plan.bearer.is_some()) {
            writeln!(f, "requests without a route require an access token")?;
        }
        if global.is_some_and(|plan| plan.auth.is_some()) {
            writeln!(f, "requests without a route require a client certificate")?;
        }
        Ok(())
    }
}

fn listed(mut names: impl Iterator<Item = String>) -> String {
    let shown: Vec<_> = names.by_ref().take(MAX_LISTED).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
