//! Compiles the entities of a document to a [`Policy`]: follows references, finds the plugins that
//! apply to each route, and builds the certificate request of each server name.

mod acl_warnings;
mod ca_certificates;
mod certificate_auth;
mod certificate_files;
mod certificate_request;
mod client_auth_eku;
mod consumers;
mod credentials;
mod crl_sets;
mod digest;
mod disabled_plugins;
mod entity_id;
mod ineffective_settings;
mod insecure_settings;
mod list_files;
mod outline;
mod plan_digest;
mod plugin_conflicts;
mod plugins;
mod policy_files;
mod references;
mod reserved_headers;
mod route_plans;
mod scopes;
mod server_names;
mod trust_domains;
mod trust_stores;
mod upstream_headers;

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::sha::Sha256;

use self::acl_warnings::warn_about_acls;
use self::ca_certificates::{CaCertificates, CaReader};
use self::certificate_auth::AuthBuilder;
use self::certificate_request::certificate_request;
use self::client_auth_eku::refuse_unlimited_eku;
use self::consumers::ConsumerIndex;
use self::crl_sets::CrlSets;
use self::digest::{update_number, update_text};
use self::disabled_plugins::disabled_plugins;
use self::entity_id::uuid_text;
use self::ineffective_settings::warn_about_ineffective_settings;
use self::list_files::ListReader;
use self::outline::outline;
use self::plugin_conflicts::refuse_conflicts;
use self::plugins::Plugins;
use self::references::ReferenceIndex;
use self::reserved_headers::{inbound_headers, refuse_reserved_token_headers, reserved_headers};
use self::route_plans::{route_plans, RoutePlans};
use self::scopes::Scopes;
use self::server_names::ServerNames;
use self::trust_domains::{bundle_urls, TrustDomains};
use self::trust_stores::TrustStores;
use self::upstream_headers::UpstreamHeadersBuilder;
use super::document::Document;
use super::report::{Path, Position, Report};
use super::{DisabledPlugins, Files, Map, Policy, Protection};
use crate::handshake::server_name::Pattern;
use crate::handshake::{CertificateRequest, SniMapBuilder};
use crate::headers::ReservedHeaders;
use crate::Error;

/// Compiles a document. `directory` is that of its file, if it is from a file. `None` if the report
/// has errors, of the document or of its compilation.
pub(super) fn compile(
    document: &Document<'_>,
    directory: Option<&FilePath>,
    files: &mut Files,
    report: &mut Report,
) -> Option<Policy> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs() as i64);
    let reader = CaReader {
        directory,
        files: &mut *files,
        now,
    };
    let cas = CaCertificates::new(document, reader, report);
    let trust_domains = TrustDomains::new(document, &cas, directory, files, report);
    let services = ReferenceIndex::new(
        "service",
        document
            .services
            .iter()
            .map(|service| (&service.key, &service.location)),
        report,
    );
    let routes = ReferenceIndex::new(
        "route",
        document
            .routes
            .iter()
            .map(|route| (&route.key, &route.location)),
        report,
    );
    let scopes = Scopes::new(document, &services, &routes, report);
    let consumers = ConsumerIndex::new(document, &cas, report);
    // A start must not begin with an older list than the file has.
    let keep = files.is_reload() || files.is_from_contents();
    let mut crls = CrlSets {
        directory,
        files,
        by_files: Map::default(),
        used: Vec::new(),
        urls: Vec::new(),
        compared: HashSet::new(),
        now,
    };
    let mut lists = ListReader {
        directory,
        keep,
        used: Vec::new(),
        now,
    };
    let mut auths = AuthBuilder {
        lists: &mut lists,
        cas: &cas,
        trust_domains: &trust_domains,
        consumers: &consumers,
        crls: &mut crls,
        stores: TrustStores::default(),
    };
    let plugins = Plugins::new(document, &mut auths, report);
    refuse_conflicts(document, &scopes, report);
    refuse_unlimited_eku(document, &scopes, &consumers, report);
    let mut headers = UpstreamHeadersBuilder {
        document,
        plugins: &plugins,
        built: Map::default(),
    };
    let plans = route_plans(document, &scopes, &mut headers, &consumers, report);
    if report.has_errors() {
        return None;
    }
    let mut for_policy = cas.for_policy.clone();
    let outline = crls
        .files
        .wants_outline()
        .then(|| outline(document, &scopes, &plugins, report));
    match assemble(document, &cas, &scopes, &plugins, consumers, plans, report) {
        Ok(policy) => Some(Policy {
            crl_urls: crls.used_urls(),
            crls: crls.used,
            lists: lists.used,
            cas: std::mem::take(&mut for_policy),
            bundle_urls: bundle_urls(document),
            compiled_at: now,
            disabled: disabled_plugins(document, &scopes, &services, &routes),
            outline,
            ..policy
        }),
        Err(error) => {
            report.error(Position::default(), &Path::ROOT, error.to_string());
            None
        }
    }
}

fn assemble(
    document: &Document<'_>,
    cas: &CaCertificates,
    scopes: &Scopes,
    plugins: &Plugins<'_>,
    consumers: ConsumerIndex<'_>,
    plans: RoutePlans,
    report: &mut Report,
) -> Result<Policy, Error> {
    let mut names = ServerNames::new(document, scopes, plugins);
    let mut requests: Vec<Arc<CertificateRequest>> = Vec::new();
    let mut request_of_set: Map<usize, u32> = Map::default();
    let mut builder = SniMapBuilder::new();
    let mut digest = Sha256::new();
    digest.update(b"resty-mtls policy 3");

    let patterns = names.patterns();
    update_number(&mut digest, patterns.len());
    for (pattern, own) in patterns {
        let set = names.effective(pattern, own);
        let position = match request_of_set.get(&set) {
            Some(&position) => position,
            None => {
                let members = names.sets.members(set);
                let request =
                    certificate_request(document, cas, plugins, members, pattern, report)?;
                requests.push(Arc::new(request));
                let position = requests.len() as u32 - 1;
                request_of_set.insert(set, position);
                position
            }
        };
        builder.add_pattern(pattern, position)?;
        match pattern {
            Pattern::Exact(name) => update_text(&mut digest, name),
            pattern => update_text(&mut digest, &pattern.to_string()),
        }
        if let Some(request) = requests.get(position as usize) {
            digest.update(request.session_id_context());
            update_number(&mut digest, request.ca_names_len());
            update_number(&mut digest, request.ca_names_bytes());
        }
    }
    warn_about_ineffective_settings(document, scopes, plugins, &mut names, report);
    warn_about_acls(document, scopes, plugins, report);

    let RoutePlans {
        list: plans,
        digests,
        mut routes,
    } = plans;
    // A route with a name is found by its id too.
    for route in &document.routes {
        if let (Some(name), Some(id)) = (route.key.name, route.key.id) {
            if let Some(position) = routes.find(name) {
                routes.alias(&uuid_text(&id), position);
            }
        }
    }
    let mut route_names: Vec<(&str, usize)> = routes.all().collect();
    // The empty name, which no route has, is that of the global plan.
    route_names.push(("", 0));
    route_names.sort_unstable();
    update_number(&mut digest, route_names.len());
    let mut protection = Vec::with_capacity(route_names.len());
    for (name, position) in route_names {
        update_text(&mut digest, name);
        if let (Some(plan), Some(plan_digest)) = (plans.get(position), digests.get(position)) {
            digest.update(plan_digest);
            protection.push((name, &**plan, *plan_digest));
        }
    }
    let protection = Protection::new(protection.into_iter(), *consumers.digest());
    digest.update(consumers.digest());
    let (reserved, prefixes) = reserved_headers(document);
    for name in reserved
        .iter()
        .map(String::as_str)
        .chain(prefixes.iter().copied())
    {
        update_text(&mut digest, name);
    }
    let reserved = ReservedHeaders::new(
        reserved.iter().map(String::as_str),
        prefixes.iter().copied(),
    );
    refuse_reserved_token_headers(document, &reserved, report);
    Ok(Policy {
        certificate_requests: requests,
        sni_map: builder.build(),
        consumers: consumers.consumers,
        reserved_headers: reserved,
        inbound_headers: inbound_headers(&plans),
        plans,
        routes,
        digest: digest.finish(),
        warnings: Vec::new(),
        protection: Arc::new(protection),
        disabled: DisabledPlugins::default(),
        untrusted_source_warning: None,
        crls: Vec::new(),
        lists: Vec::new(),
        crl_urls: Vec::new(),
        cas: Vec::new(),
        bundle_urls: Vec::new(),
        compiled_at: 0,
        outline: None,
    })
}
