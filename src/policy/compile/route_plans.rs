//! What applies to the requests of each route.

use std::borrow::Cow;
use std::sync::Arc;

use super::consumers::ConsumerIndex;
use super::entity_id::uuid_text;
use super::plan_digest::plan_digest;
use super::plugins::CompiledPlugin;
use super::scopes::{Scopes, Slots};
use super::upstream_headers::UpstreamHeadersBuilder;
use crate::policy::document::{Document, PluginKind, Route};
use crate::policy::report::{Path, Report};
use crate::policy::{Map, Plan, RouteNames};

/// What applies to requests.
pub(super) struct RoutePlans {
    /// The global plan first. Each one once, however many routes have it.
    pub list: Vec<Arc<Plan>>,
    /// Digest of each.
    pub digests: Vec<[u8; 32]>,
    /// What the routes are called.
    pub routes: RouteNames,
}

/// Plans as they are made, shared between routes that are treated alike.
struct PlanBuilder<'m, 't> {
    headers: &'m mut UpstreamHeadersBuilder<'t>,
    people: &'m ConsumerIndex<'t>,
    list: Vec<Arc<Plan>>,
    digests: Vec<[u8; 32]>,
    by_slots: Map<Slots, usize>,
    by_digest: Map<[u8; 32], usize>,
}

impl PlanBuilder<'_, '_> {
    /// Position of the plan of these plugins.
    fn get(&mut self, slots: &Slots, report: &mut Report) -> usize {
        let plugins = self.headers.plugins;
        let slots = plugins.firsts(slots);
        if let Some(position) = self.by_slots.get(&slots) {
            return *position;
        }
        let token = slots[PluginKind::OpenidConnect as usize];
        let judge = token.and_then(|token| match plugins.ready(token)? {
            CompiledPlugin::TokenAuth {
                certificate: Some((auth, header)),
                ..
            } => Some(Plan {
                auth: Some(auth.clone()),
                certificate_header: Some(header.clone()),
                token_auth: None,
                certificate_plan: None,
                acl: None,
                rules: None,
                upstream_headers: Arc::default(),
                has_plugins: true,
                modifies_handshake: false,
            }),
            _ => None,
        });
        let judge = judge.map(|judge| (plan_digest(&judge, None, self.people), judge));
        // A plan that is new stands before the one that judges for it: the global one is the first.
        let certificate_plan = judge.as_ref().map(|(digest, _)| {
            let known = self.by_digest.get(digest);
            known.copied().unwrap_or(self.list.len() + 1)
        });
        let plan = Plan {
            auth: plugins.auth(&slots).cloned(),
            certificate_header: plugins.certificate_header(&slots).cloned(),
            token_auth: plugins.token_auth(&slots).cloned(),
            certificate_plan,
            acl: plugins.acl(&slots).cloned(),
            rules: plugins.rules(&slots).cloned(),
            upstream_headers: self.headers.get(&slots, report),
            has_plugins: slots.iter().any(Option::is_some),
            modifies_handshake: slots[PluginKind::TlsHandshakeModifier as usize].is_some(),
        };
        let own = judge.as_ref().map(|(_, judge)| judge);
        let digest = plan_digest(&plan, own, self.people);
        let position = self.add(digest, plan);
        if let Some((digest, judge)) = judge {
            self.add(digest, judge);
        }
        self.by_slots.insert(slots, position);
        position
    }

    fn add(&mut self, digest: [u8; 32], plan: Plan) -> usize {
        *self.by_digest.entry(digest).or_insert_with(|| {
            self.list.push(Arc::new(plan));
            self.digests.push(digest);
            self.list.len() - 1
        })
    }
}

pub(super) fn route_plans<'t>(
    document: &Document<'t>,
    scopes: &Scopes,
    headers: &mut UpstreamHeadersBuilder<'t>,
    people: &ConsumerIndex<'t>,
    report: &mut Report,
) -> RoutePlans {
    let mut builder = PlanBuilder {
        headers,
        people,
        list: Vec::new(),
        digests: Vec::new(),
        by_slots: Map::default(),
        by_digest: Map::default(),
    };
    builder.get(&scopes.global, report);
    let named = |route: &&Route<'_>| route.key.name.is_some() || route.key.id.is_some();
    let mut routes = RouteNames::default();
    routes.reserve(document.routes.iter().filter(named).count());
    for (position, route) in document.routes.iter().enumerate() {
        let slots = scopes.effective(position);
        let id = || route.key.id.map(|id| Cow::from(uuid_text(&id)));
        match route.key.name.map(Cow::from).or_else(id) {
            Some(name) => routes.push(&name, builder.get(&slots, report)),
            None => {
                if slots != scopes.global {
                    let path = Path::Compact(&route.location.path);
                    report.warn(
                        "routes without name and id",
                        route.location.position,
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
    RoutePlans {
        list: builder.list,
        digests: builder.digests,
        routes,
    }
}
