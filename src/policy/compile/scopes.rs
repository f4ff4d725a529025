//! References of entities to each other, and the plugin that applies to each route.

use super::uuid_text;
use crate::policy::document::{
    self, Document, EntityKey, Link, LinkBy, Location, PluginKind, Uuid,
};
use crate::policy::report::{Path, Report};
use crate::policy::Map;
use crate::text::quoted;

/// Services, routes or consumers by what other entities may call them.
pub(super) struct Index<'t> {
    pub noun: &'static str,
    /// What they call a name.
    pub name: &'static str,
    pub by_id: Map<Uuid, usize>,
    pub by_name: Map<&'t str, usize>,
}

impl<'t> Index<'t> {
    pub fn new(
        noun: &'static str,
        entities: impl Iterator<Item = (&'t EntityKey<'t>, &'t Location)>,
        report: &mut Report,
    ) -> Index<'t> {
        let mut index = Index {
            noun,
            name: "name",
            by_id: Map::default(),
            by_name: Map::default(),
        };
        let mut spots: Vec<&Location> = Vec::new();
        for (position, (identity, location)) in entities.enumerate() {
            spots.push(location);
            let mut twice = |field, value: &str, first| {
                if first != position {
                    let value = quoted(value.as_bytes());
                    let first = spots
                        .get(first)
                        .map(|first: &&Location| first.path.to_string())
                        .unwrap_or_default();
                    let message = format!(
                        "the {field} '{value}' of a {noun} is given twice, first at {first}"
                    );
                    report.error(
                        location.position,
                        &Path::Compact(&location.path).field(field),
                        message,
                    );
                }
            };
            if let Some(id) = identity.id {
                let first = *index.by_id.entry(id).or_insert(position);
                if first != position {
                    twice("id", &uuid_text(&id), first);
                }
            }
            if let Some(name) = identity.name {
                twice("name", name, *index.by_name.entry(name).or_insert(position));
            }
        }
        index
    }

    /// Position of what a link names.
    pub fn follow(
        &self,
        link: &Link<'t>,
        location: &Location,
        report: &mut Report,
    ) -> Option<usize> {
        let found = self.find(link);
        if let (None, &Link::Reference { text, by, position }) = (found, link) {
            let what = match by {
                LinkBy::Id => "id",
                LinkBy::Name => self.name,
                LinkBy::Either => &format!("id or {}", self.name),
            };
            let meant = report.did_you_mean(text, self.by_name.keys().copied());
            let text = quoted(text.as_bytes());
            let message = format!("no {} has the {what} '{text}'{meant}", self.noun);
            report.error(
                position,
                &Path::Compact(&location.path).field(self.noun),
                message,
            );
        }
        found
    }

    /// The same without a report.
    pub fn find(&self, link: &Link<'t>) -> Option<usize> {
        let (text, by) = match *link {
            Link::Parent(position) => return Some(position),
            Link::Reference { text, by, .. } => (text, by),
        };
        let id = document::uuid(text).filter(|_| by != LinkBy::Name);
        let name = Some(text).filter(|_| by != LinkBy::Id);
        let found = id
            .and_then(|id| self.by_id.get(&id))
            .or_else(|| self.by_name.get(name?));
        found.copied()
    }
}

/// For each [`PluginKind`] the position of the plugin.
pub(super) type Slots = [Option<usize>; PluginKind::ALL.len()];

/// Which plugin stands at which scope.
pub(super) struct Scopes {
    pub global: Slots,
    pub services: Vec<Slots>,
    routes: Vec<Slots>,
    /// By route; such a plugin names the route's own service too.
    routes_with_service: Map<usize, Slots>,
    /// For each route its service.
    pub service_of: Vec<Option<usize>>,
    /// For each service whether it has a route.
    has_routes: Vec<bool>,
}

impl Scopes {
    pub fn new<'t>(
        document: &'t Document<'t>,
        services: &Index<'t>,
        routes: &Index<'t>,
        report: &mut Report,
    ) -> Scopes {
        let follow = |link: &Option<Link<'t>>, index: &Index<'t>, location, report: &mut Report| {
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
                // The reference was reported.
                (Some(None), _) | (_, Some(None)) => continue,
            };
            let kind = plugin.config.kind();
            let slot = slots.and_then(|slots| slots.get_mut(kind as usize));
            if let Some(first) = slot.and_then(|slot| slot.replace(position)) {
                let first = document
                    .plugins
                    .get(first)
                    .map(|plugin| plugin.location.path.to_string())
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

    /// The services without a route, with their plugins: nginx may route to them all the same.
    pub fn routeless(&self) -> impl Iterator<Item = (usize, &Slots)> {
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
