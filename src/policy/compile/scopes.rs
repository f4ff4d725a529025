//! The plugin of each kind that applies to a route.

use super::references::ReferenceIndex;
use crate::policy::document::{Document, Link, PluginKind};
use crate::policy::report::{Path, Report};
use crate::policy::Map;

/// For each [`PluginKind`] the position of the plugin.
pub(super) type Slots = [Option<usize>; PluginKind::ALL.len()];

/// The plugins at each scope.
pub(super) struct Scopes {
    pub global: Slots,
    pub services: Vec<Slots>,
    routes: Vec<Slots>,
    /// By route, for plugins that name a route and its service.
    routes_with_service: Map<usize, Slots>,
    /// The service of each route.
    pub service_of: Vec<Option<usize>>,
    /// Whether each service has a route.
    has_routes: Vec<bool>,
}

impl Scopes {
    pub fn new<'t>(
        document: &'t Document<'t>,
        services: &ReferenceIndex<'t>,
        routes: &ReferenceIndex<'t>,
        report: &mut Report,
    ) -> Scopes {
        let follow =
            |link: &Option<Link<'t>>, index: &ReferenceIndex<'t>, location, report: &mut Report| {
                link.as_ref()
                    .map(|link| index.follow(link, location, report))
            };
        let mut scopes = Scopes {
            global: Slots::default(),
            services: vec![Slots::default(); document.services.len()],
            routes: vec![Slots::default(); document.routes.len()],
            routes_with_service: Map::default(),
            service_of: document
                .routes
                .iter()
                .map(|route| follow(&route.service, services, &route.location, report).flatten())
                .collect(),
            has_routes: vec![false; document.services.len()],
        };
        for service in scopes.service_of.iter().flatten() {
            if let Some(has_routes) = scopes.has_routes.get_mut(*service) {
                *has_routes = true;
            }
        }
        for (position, plugin) in document.plugins.iter().enumerate() {
            let service = follow(&plugin.service, services, &plugin.location, report);
            let route = follow(&plugin.route, routes, &plugin.location, report);
            let slots = match (route, service) {
                (None, None) => Some(&mut scopes.global),
                (None, Some(Some(service))) => scopes.services.get_mut(service),
                (Some(Some(route)), None) => scopes.routes.get_mut(route),
                (Some(Some(route)), Some(Some(service))) => {
                    if scopes.service_of.get(route) != Some(&Some(service)) {
                        let message = "never applies: the route does not belong to the service, \
                                       expected one of its routes or no service";
                        let path = Path::Compact(&plugin.location.path);
                        report.error(plugin.location.position, &path.field("service"), message);
                    }
                    Some(scopes.routes_with_service.entry(route).or_default())
                }
                // The reference is in the report.
                (Some(None), _) | (_, Some(None)) => continue,
            };
            let kind = plugin.config.kind();
            let slot = slots.and_then(|slots| slots.get_mut(kind as usize));
            if let Some(first) = slot.and_then(|slot| slot.replace(position)) {
                let first = document
                    .plugins
                    .get(first)
                    .map(|plugin| report.place(plugin.location.position, &plugin.location.path))
                    .unwrap_or_default();
                let message = format!(
                    "a second plugin '{}' at the same scope, first at {first}",
                    kind.name()
                );
                report.error(
                    plugin.location.position,
                    &Path::Compact(&plugin.location.path),
                    message,
                );
            }
        }
        scopes
    }

    /// The services without a route, with their plugins. nginx may pass requests to them all the
    /// same.
    pub fn services_without_routes(&self) -> impl Iterator<Item = (usize, &Slots)> {
        let services = self.services.iter().enumerate();
        services
            .zip(&self.has_routes)
            .filter(|(_, has)| !**has)
            .map(|(service, _)| service)
    }

    /// The plugins that apply to a route: of each kind the one at the most specific scope.
    pub fn effective(&self, route: usize) -> Slots {
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
