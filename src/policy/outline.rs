//! Where the document has what: its routes with their server names and plugins, and its CA
//! certificates. Only the command asks for it, see [`super::Files::with_outline`].

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::report::FileName;
use crate::handshake::server_name::{is_address, normalise, parent, Pattern};

/// A line of a file of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// The file.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
}

/// Writes `FILE:LINE`.
impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", FileName(&self.file), self.line)
    }
}

/// A plugin that applies to a route.
#[derive(Clone, Debug)]
pub struct PluginOutline {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub at: SourceLine,
    /// Whether it requests a certificate in the handshakes of the route.
    pub requests_certificate: bool,
    /// Where the rules of `client-cert-acl` are: those of `allow`, then those of `deny`.
    pub rules: [Vec<SourceLine>; 2],
}

/// The plugins that apply to a route, and the server names under which they request a certificate.
#[derive(Clone, Debug)]
pub struct RouteOutline {
    /// Name and id, as far as it has them.
    pub names: Vec<Box<str>>,
    /// Where it is.
    pub at: SourceLine,
    /// Its `snis`; `*` for a route without.
    pub server_names: Vec<Pattern>,
    /// The plugins that apply to it, also those of its service and the global ones.
    pub plugins: Vec<PluginOutline>,
}

/// What is where in the document.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// The routes, in order.
    routes: Vec<RouteOutline>,
    /// Their indexes by name and id.
    indexes: HashMap<Box<str>, usize>,
    /// The global plugins.
    global: Vec<PluginOutline>,
    /// Places of the entries of `ca_certificates` by id.
    cas: HashMap<Box<str>, SourceLine>,
}

impl Outline {
    /// With these routes, global plugins, and ids of CA certificates.
    pub(super) fn new(
        routes: Vec<RouteOutline>,
        global: Vec<PluginOutline>,
        cas: impl Iterator<Item = (Box<str>, SourceLine)>,
    ) -> Outline {
        let mut indexes = HashMap::new();
        for (index, route) in routes.iter().enumerate() {
            for name in &route.names {
                indexes.insert(name.clone(), index);
            }
        }
        Outline {
            routes,
            indexes,
            global,
            cas: cas.collect(),
        }
    }

    /// The route with this name or id.
    pub fn route(&self, name: &str) -> Option<&RouteOutline> {
        self.routes.get(*self.indexes.get(name)?)
    }

    /// The plugins that apply to a route; without a name, the global ones.
    pub fn plugins(&self, route: Option<&str>) -> &[PluginOutline] {
        match route {
            None => &self.global,
            Some(name) => self.route(name).map_or(&[], |route| &route.plugins),
        }
    }

    /// Where the entry of `ca_certificates` with this id is.
    pub fn ca(&self, id: &str) -> Option<&SourceLine> {
        self.cas.get(id)
    }

    /// The plugins that request a certificate under a server name, each with the route that it
    /// applies to; `None` for a global plugin without a route. A plugin of several routes is there
    /// once, with the first of them.
    pub fn requesting(
        &self,
        server_name: Option<&[u8]>,
    ) -> Vec<(Option<&RouteOutline>, &PluginOutline)> {
        let mut buffer = [0; 256];
        let name = server_name.and_then(|name| normalise(name, &mut buffer));
        let name = name.filter(|name| !is_address(name));
        let matches = |pattern: &Pattern| match (pattern, name) {
            (Pattern::Any, _) | (Pattern::Absent, None) => true,
            (Pattern::Exact(exact), Some(name)) => exact.as_bytes() == name,
            (Pattern::Wildcard(below), Some(name)) => parent(name) == Some(below.as_bytes()),
            _ => false,
        };
        let global = self.global.iter().map(|plugin| (None, plugin));
        let of_routes = self
            .routes
            .iter()
            .filter(|route| route.server_names.iter().any(matches));
        let of_routes = of_routes.flat_map(|route| {
            route
                .plugins
                .iter()
                .map(move |plugin| (Some(route), plugin))
        });
        let (mut found, mut places) = (Vec::new(), HashSet::new());
        for (route, plugin) in of_routes.chain(global) {
            if plugin.requests_certificate && places.insert((&plugin.at.file, plugin.at.line)) {
                found.push((route, plugin));
            }
        }
        found
    }
}
