//! Typed entities -> [`Policy`]: follows references, finds the plugin that applies to each route,
//! and works out what the handshake asks for under each server name.

mod acl_warnings;
mod ca_certificates;
mod certificate_auth;
mod certificate_request;
mod consumers;
mod credentials;
mod crl_sets;
mod digest;
mod disabled_plugins;
mod entity_id;
mod ineffective_settings;
mod insecure_settings;
mod plan_digest;
mod plugin_conflicts;
mod plugins;
mod references;
mod reserved_headers;
mod route_plans;
mod scopes;
mod server_names;
mod trust_stores;
mod upstream_headers;

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::sha::Sha256;

use self::acl_warnings::warn_about_acls;
use self::ca_certificates::CaCertificates;
use self::certificate_auth::AuthBuilder;
use self::certificate_request::certificate_request;
use self::consumers::ConsumerIndex;
use self::crl_sets::CrlSets;
use self::digest::{update_number, update_text};
use self::disabled_plugins::disabled_plugins;
use self::entity_id::uuid_text;
use self::ineffective_settings::warn_about_ineffective_settings;
use self::plugin_conflicts::refuse_conflicts;
use self::plugins::Plugins;
use self::references::ReferenceIndex;
use self::reserved_headers::{inbound_headers, reserved_headers};
use self::route_plans::{route_plans, RoutePlans};
use self::scopes::Scopes;
use self::server_names::ServerNames;
use self::trust_stores::TrustStores;
use self::upstream_headers::UpstreamHeadersBuilder;
use super::document::Document;
use super::report::{Path, Position, Report};
use super::{DisabledPlugins, Files, Map, Policy, Protection};
use crate::handshake::server_name::Pattern;
use crate::handshake::{CertificateRequest, SniMapBuilder};
use crate::headers::ReservedHeaders;
use crate::Error;

/// Compiles a document from a file in `directory`, if it is from a file. `None` when the report
/// holds errors, now or from before.
pub(super) fn compile(
    document: &Document<'_>,
    directory: Option<&FilePath>,
    files: &mut Files,
    report: &mut Report,
) -> Option<Policy> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs() as i64);
    let cas = CaCertificates::new(document, report);
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
    let mut crls = CrlSets {
        directory,
        files,
        known: Map::default(),
        used: Vec::new(),
        compared: HashSet::new(),
        now,
    };
    let mut auths = AuthBuilder {
        cas: &cas,
        consumers: &consumers,
        crls: &mut crls,
        stores: TrustStores::default(),
    };
    let plugins = Plugins::new(document, &mut auths, report);
    refuse_conflicts(document, &scopes, report);
    let mut told = UpstreamHeadersBuilder {
        document,
        plugins: &plugins,
        known: Map::default(),
    };
    let plans = route_plans(document, &scopes, &mut told, &consumers, report);
    if report.has_errors() {
        return None;
    }
    match assemble(document, &cas, &scopes, &plugins, consumers, plans, report) {
        Ok(policy) => Some(Policy {
            crls: crls.used,
            compiled_at: now,
            disabled: disabled_plugins(document, &scopes, &services, &routes),
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
    let mut asks: Vec<Arc<CertificateRequest>> = Vec::new();
    let mut ask_of: Map<usize, u32> = Map::default();
    let mut builder = SniMapBuilder::new();
    let mut digest = Sha256::new();
    digest.update(b"resty-mtls policy 3");

    let patterns = names.patterns();
    update_number(&mut digest, patterns.len());
    for (pattern, own) in patterns {
        let set = names.effective(pattern, own);
        let ask = match ask_of.get(&set) {
            Some(&ask) => ask,
            None => {
                let members = names.sets.members(set);
                let made = certificate_request(document, cas, plugins, members, pattern, report)?;
                asks.push(Arc::new(made));
                let ask = asks.len() as u32 - 1;
                ask_of.insert(set, ask);
                ask
            }
        };
        builder.add_pattern(pattern, ask)?;
        match pattern {
            Pattern::Exact(name) => update_text(&mut digest, name),
            pattern => update_text(&mut digest, &pattern.to_string()),
        }
        if let Some(ask) = asks.get(ask as usize) {
            digest.update(ask.session_id_context());
            update_number(&mut digest, ask.ca_names_len());
            update_number(&mut digest, ask.ca_names_bytes());
        }
    }
    warn_about_ineffective_settings(document, scopes, plugins, &mut names, report);
    warn_about_acls(document, scopes, plugins, report);

    let RoutePlans {
        list: plans,
        digests,
        mut routes,
    } = plans;
    // A route with a name may be called by its id too.
    for route in &document.routes {
        if let (Some(name), Some(id)) = (route.key.name, route.key.id) {
            if let Some(position) = routes.find(name) {
                routes.alias(&uuid_text(&id), position);
            }
        }
    }
    let mut called: Vec<(&str, usize)> = routes.all().collect();
    // No route has an empty name: that is the global plan.
    called.push(("", 0));
    called.sort_unstable();
    update_number(&mut digest, called.len());
    let mut protected = Vec::with_capacity(called.len());
    for (name, position) in called {
        update_text(&mut digest, name);
        if let (Some(plan), Some(of_plan)) = (plans.get(position), digests.get(position)) {
            digest.update(of_plan);
            protected.push((name, &**plan, *of_plan));
        }
    }
    let protection = Protection::new(protected.into_iter(), *consumers.digest());
    digest.update(consumers.digest());
    let (owned, prefixes) = reserved_headers(document);
    for name in owned
        .iter()
        .map(String::as_str)
        .chain(prefixes.iter().copied())
    {
        update_text(&mut digest, name);
    }
    Ok(Policy {
        certificate_requests: asks,
        sni_map: builder.build(),
        consumers: consumers.consumers,
        reserved_headers: ReservedHeaders::new(
            owned.iter().map(String::as_str),
            prefixes.iter().copied(),
        ),
        inbound_headers: inbound_headers(&plans),
        plans,
        routes,
        digest: digest.finish(),
        warnings: Vec::new(),
        protection: Arc::new(protection),
        disabled: DisabledPlugins::default(),
        untrusted_source_warning: None,
        crls: Vec::new(),
        compiled_at: 0,
    })
}
