//! The plans of routes.

use std::borrow::Cow;
use std::sync::Arc;

use super::consumers::ConsumerIndex;
use super::entity_id::uuid_text;
use super::insecure_settings::warn_about_reports;
use super::plan_digest::plan_digest;
use super::plugins::CompiledPlugin;
use super::scopes::{Scopes, Slots};
use super::upstream_headers::UpstreamHeadersBuilder;
use crate::policy::document::{
    Document, Enforcement, PluginConfig, PluginKind, PluginKinds, Route,
};
use crate::policy::report::{Path, Report};
use crate::policy::{Map, Plan, ReportOnly, RouteNames};

/// The plans, and the routes that have them.
pub(super) struct RoutePlans {
    /// The global plan is the first. A plan that several routes have is listed once.
    pub list: Vec<Arc<Plan>>,
    /// The digest of each plan.
    pub digests: Vec<[u8; 32]>,
    /// Names and ids of routes, with the positions of their plans.
    pub routes: RouteNames,
}

/// Builds plans; routes with equal plugins share one.
struct PlanBuilder<'m, 't> {
    headers: &'m mut UpstreamHeadersBuilder<'t>,
    consumers: &'m ConsumerIndex<'t>,
    list: Vec<Arc<Plan>>,
    digests: Vec<[u8; 32]>,
    by_slots: Map<Slots, usize>,
    by_digest: Map<[u8; 32], usize>,
}

impl PlanBuilder<'_, '_> {
    /// The position of the plan of these plugins.
    fn get(&mut self, slots: &Slots, report: &mut Report) -> usize {
        let plugins = self.headers.plugins;
        let slots = plugins.canonical(slots);
        if let Some(position) = self.by_slots.get(&slots) {
            return *position;
        }
        let token = slots[PluginKind::OpenidConnect as usize];
        let certificate_plan = token.and_then(|token| match plugins.compiled(token)? {
            CompiledPlugin::OpenidConnect {
                certificate: Some((auth, header)),
                ..
            } => Some(Plan {
                auth: Some(auth.clone()),
                certificate_header: Some(header.clone()),
                token_auth: None,
                certificate_plan: None,
                acl: None,
                rules: None,
                lists: None,
                upstream_headers: Arc::default(),
                has_plugins: true,
                plugins: PluginKinds::default(),
                report_only: ReportOnly::default(),
                modifies_handshake: false,
                passes_preflight: false,
            }),
            _ => None,
        });
        let certificate_plan = certificate_plan.map(|plan| {
            let digest = plan_digest(&plan, None, self.consumers);
            (digest, plan)
        });
        // A new plan is added before its certificate plan, so that the global plan is the first.
        let certificate_position = certificate_plan.as_ref().map(|(digest, _)| {
            let existing = self.by_digest.get(digest);
            existing.copied().unwrap_or(self.list.len() + 1)
        });
        let plan = Plan {
            auth: plugins.auth(&slots).cloned(),
            certificate_header: plugins.certificate_header(&slots).cloned(),
            token_auth: plugins.token_auth(&slots).cloned(),
            certificate_plan: certificate_position,
            acl: plugins.acl(&slots).cloned(),
            rules: plugins.rules(&slots).cloned(),
            lists: plugins.lists(&slots).cloned(),
            upstream_headers: self.headers.get(&slots, report),
            has_plugins: slots.iter().any(Option::is_some),
            plugins: PluginKinds::of(|kind| slots[kind as usize].is_some()),
            report_only: ReportOnly::of(|kind| self.reports(slots[kind as usize])),
            modifies_handshake: slots[PluginKind::TlsHandshakeModifier as usize].is_some(),
            passes_preflight: self.passes_preflight(&slots),
        };
        let verifier = certificate_plan.as_ref().map(|(_, plan)| plan);
        let digest = plan_digest(&plan, verifier, self.consumers);
        let position = self.add(digest, plan);
        if let Some((digest, plan)) = certificate_plan {
            self.add(digest, plan);
        }
        self.by_slots.insert(slots, position);
        position
    }

    /// Whether the plugin in a slot has `enforce: report`.
    fn reports(&self, slot: Option<usize>) -> bool {
        let plugin = slot.and_then(|plugin| self.headers.document.plugins.get(plugin));
        plugin.is_some_and(|plugin| plugin.enforcement == Enforcement::Report)
    }

    /// Whether all plugins that authenticate have `run_on_preflight: false`, of which there is one.
    fn passes_preflight(&self, slots: &Slots) -> bool {
        let mut found = false;
        for kind in [
            PluginKind::MtlsAuth,
            PluginKind::HeaderCertAuth,
            PluginKind::OpenidConnect,
        ] {
            let plugin = slots[kind as usize];
            let Some(plugin) = plugin.and_then(|plugin| self.headers.document.plugins.get(plugin))
            else {
                continue;
            };
            let runs = match &plugin.config {
                PluginConfig::MtlsAuth(config) => config.run_on_preflight,
                PluginConfig::OpenidConnect(config) => config.run_on_preflight,
                _ => true,
            };
            if runs {
                return false;
            }
            found = true;
        }
        found
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
    consumers: &ConsumerIndex<'t>,
    report: &mut Report,
) -> RoutePlans {
    let mut builder = PlanBuilder {
        headers,
        consumers,
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
    let plans = builder.by_slots.iter();
    let plans = plans.filter_map(|(slots, plan)| Some((slots, &**builder.list.get(*plan)?)));
    warn_about_reports(document, plans, report);
    RoutePlans {
        list: builder.list,
        digests: builder.digests,
        routes,
    }
}
