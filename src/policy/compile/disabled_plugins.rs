//! The plugins that the document disables (`enabled: false`), or that refuse nothing (`enforce: report`).

use std::borrow::Cow;

use super::entity_id::uuid_text;
use super::references::ReferenceIndex;
use super::scopes::Scopes;
use crate::policy::document::{Document, Enforcement, Link, PluginKind};
use crate::policy::protection::{DisabledPlugins, ProtectingPlugin, ProtectingPlugins};
use crate::policy::Map;

pub(super) fn disabled_plugins<'t>(
    document: &Document<'t>,
    scopes: &Scopes,
    services: &ReferenceIndex<'t>,
    routes: &ReferenceIndex<'t>,
) -> DisabledPlugins {
    let mut everywhere = ProtectingPlugins::default();
    let mut reported = ProtectingPlugins::default();
    let mut of_service: Map<usize, ProtectingPlugins> = Map::default();
    let mut of_route: Map<usize, ProtectingPlugins> = Map::default();
    // In a disabled plugin, a reference to a missing entity is not an error.
    let target = |link: &Option<Link<'t>>, index: &ReferenceIndex<'t>| match link {
        None => Ok(None),
        Some(link) => index.find(link).map(Some).ok_or(()),
    };
    let disabled = document.disabled.iter().map(|plugin| (plugin, false));
    let reports = document.plugins.iter().map(|plugin| (plugin, true));
    let reports = reports.filter(|(plugin, _)| plugin.enforcement == Enforcement::Report);
    for (plugin, reports) in disabled.chain(reports) {
        let kind = match plugin.config.kind() {
            PluginKind::MtlsAuth | PluginKind::HeaderCertAuth => ProtectingPlugin::Certificate,
            PluginKind::OpenidConnect => ProtectingPlugin::Token,
            PluginKind::Acl => ProtectingPlugin::Acl,
            PluginKind::ClientCertAcl => ProtectingPlugin::Rules,
            PluginKind::ClientCertLists => ProtectingPlugin::Lists,
            PluginKind::TlsHandshakeModifier => ProtectingPlugin::Request,
            PluginKind::TlsMetadataHeaders | PluginKind::ClientCertHeaders => continue,
        };
        match (
            target(&plugin.route, routes),
            target(&plugin.service, services),
        ) {
            (Ok(Some(route)), _) => of_route.entry(route).or_default().add(kind),
            (Ok(None), Ok(Some(service))) => of_service.entry(service).or_default().add(kind),
            (Ok(None), Ok(None)) if reports => reported.add(kind),
            (Ok(None), Ok(None)) => everywhere.add(kind),
            (Err(()), _) | (_, Err(())) => {}
        }
    }
    let routes = document
        .routes
        .iter()
        .enumerate()
        .flat_map(|(position, route)| {
            let service = scopes.service_of.get(position).copied().flatten();
            let service = service.and_then(|service| of_service.get(&service).copied());
            let plugins = of_route
                .get(&position)
                .copied()
                .unwrap_or_default()
                .and(service);
            let names = [
                route.key.name.map(Cow::from),
                route.key.id.map(|id| Cow::from(uuid_text(&id))),
            ];
            let names = names.into_iter().flatten();
            names
                .filter(move |_| !plugins.is_empty())
                .map(move |name| (name, plugins))
        });
    DisabledPlugins::new(everywhere, reported, routes)
}
