//! Typed entities -> [`Policy`]: follows references, finds the plugin that applies to each route,
//! and works out what the handshake asks for under each server name.

mod ask;
mod cas;
mod consumers;
mod crls;
mod digest;
mod disabled;
mod header_names;
mod name_rules;
mod names;
mod plans;
mod plugins;
mod review;
mod scopes;
mod stores;
mod told;
mod trusting;

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::sha::Sha256;

use self::ask::ask;
use self::cas::Cas;
use self::consumers::People;
use self::crls::Crls;
use self::digest::{number, text};
use self::disabled::disabled;
use self::header_names::{owned, read_names};
use self::names::Names;
use self::plans::{plans, Plans};
use self::plugins::Plugins;
use self::review::{judged, look_over};
use self::scopes::{Index, Scopes};
use self::told::ToldOf;
use super::document::{Document, Uuid};
use super::report::{Path, Position, Report};
use super::{Disabled, Files, Map, Policy, Protection};
use crate::handshake::server_name::Pattern;
use crate::handshake::{CertificateRequest, SniMapBuilder};
use crate::headers::OwnedNames;
use crate::text::hex;
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
    let cas = Cas::new(document, report);
    let services = Index::new(
        "service",
        document
            .services
            .iter()
            .map(|service| (&service.key, &service.location)),
        report,
    );
    let routes = Index::new(
        "route",
        document
            .routes
            .iter()
            .map(|route| (&route.key, &route.location)),
        report,
    );
    let scopes = Scopes::new(document, &services, &routes, report);
    let people = People::new(document, &cas, report);
    let mut crls = Crls {
        directory,
        files,
        known: Map::default(),
        used: Vec::new(),
        compared: HashSet::new(),
        now,
    };
    let plugins = Plugins::new(document, &cas, &people, &mut crls, report);
    judged(document, &scopes, report);
    let mut told = ToldOf {
        document,
        plugins: &plugins,
        known: Map::default(),
    };
    let plans = plans(document, &scopes, &mut told, &people, report);
    if report.has_errors() {
        return None;
    }
    match assemble(document, &cas, &scopes, &plugins, people, plans, report) {
        Ok(policy) => Some(Policy {
            crls: crls.used,
            compiled_at: now,
            disabled: disabled(document, &scopes, &services, &routes),
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
    cas: &Cas,
    scopes: &Scopes,
    plugins: &Plugins<'_>,
    people: People<'_>,
    plans: Plans,
    report: &mut Report,
) -> Result<Policy, Error> {
    let mut names = Names::new(document, scopes, plugins);
    let mut asks: Vec<Arc<CertificateRequest>> = Vec::new();
    let mut ask_of: Map<usize, u32> = Map::default();
    let mut builder = SniMapBuilder::new();
    let mut digest = Sha256::new();
    digest.update(b"resty-mtls policy 3");

    let patterns = names.patterns();
    number(&mut digest, patterns.len());
    for (pattern, own) in patterns {
        let set = names.reached(pattern, own);
        let ask = match ask_of.get(&set) {
            Some(&ask) => ask,
            None => {
                let members = names.sets.members(set);
                let made = ask(document, cas, plugins, members, pattern, report)?;
                asks.push(Arc::new(made));
                let ask = asks.len() as u32 - 1;
                ask_of.insert(set, ask);
                ask
            }
        };
        builder.add_pattern(pattern, ask)?;
        match pattern {
            Pattern::Exact(name) => text(&mut digest, name),
            pattern => text(&mut digest, &pattern.to_string()),
        }
        if let Some(ask) = asks.get(ask as usize) {
            digest.update(ask.session_id_context());
            number(&mut digest, ask.ca_names_len());
            number(&mut digest, ask.ca_names_bytes());
        }
    }
    look_over(document, scopes, plugins, &mut names, report);
    name_rules::names(document, scopes, plugins, report);

    let Plans {
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
    number(&mut digest, called.len());
    let mut protected = Vec::with_capacity(called.len());
    for (name, position) in called {
        text(&mut digest, name);
        if let (Some(plan), Some(of_plan)) = (plans.get(position), digests.get(position)) {
            digest.update(of_plan);
            protected.push((name, &**plan, *of_plan));
        }
    }
    let protection = Protection::new(protected.into_iter(), *people.digest());
    digest.update(people.digest());
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
        routes,
        digest: digest.finish(),
        warnings: Vec::new(),
        protection: Arc::new(protection),
        disabled: Disabled::default(),
        unheard: None,
        crls: Vec::new(),
        compiled_at: 0,
    })
}

fn uuid_text(id: &Uuid) -> String {
    let mut text = hex(id);
    for dash in [20, 16, 12, 8] {
        text.insert(dash, '-');
    }
    text
}
