//! What applies to the requests of each route.

use std::borrow::Cow;
use std::sync::Arc;

use super::plugins::Ready;
use super::scopes::{Scopes, Slots};
use super::told::ToldOf;
use super::uuid_text;
use crate::policy::document::{Document, Kind, Route};
use crate::policy::report::{Path, Report};
use crate::policy::{Map, Plan, RouteNames};

/// What applies to requests.
pub(super) struct Plans {
    /// The global plan, then one for each route that can be named. Those of openid-connect's own
    /// certificates stand behind all others.
    pub list: Vec<Arc<Plan>>,
    /// What the routes are called.
    pub routes: RouteNames,
}

pub(super) fn plans(
    document: &Document<'_>,
    scopes: &Scopes,
    told: &mut ToldOf<'_>,
    report: &mut Report,
) -> Plans {
    let named = |route: &&Route<'_>| route.identity.name.is_some() || route.identity.id.is_some();
    let behind = 1 + document.routes.iter().filter(named).count();
    let mut hidden: Vec<usize> = Vec::new();
    let mut place_of: Map<usize, usize> = Map::default();
    let mut known: Map<Slots, Arc<Plan>> = Map::default();
    let mut plan = |slots: &Slots, report: &mut Report| {
        let slots = &told.plugins.firsts(slots);
        if let Some(plan) = known.get(slots) {
            return plan.clone();
        }
        let token = slots[Kind::OpenidConnect as usize];
        let own = token.filter(|token| {
            let ready = told.plugins.ready(*token);
            matches!(
                ready,
                Some(Ready::Bearer {
                    certificate: Some(_),
                    ..
                })
            )
        });
        let certificate_plan = own.map(|token| {
            *place_of.entry(token).or_insert_with(|| {
                hidden.push(token);
                behind + hidden.len() - 1
            })
        });
        let plan = Arc::new(Plan {
            auth: told.plugins.auth(slots).cloned(),
            inbound: told.plugins.certificate_header(slots).cloned(),
            bearer: told.plugins.bearer(slots).cloned(),
            certificate_plan,
            acl: told.plugins.acl(slots).cloned(),
            rules: told.plugins.rules(slots).cloned(),
            told: told.get(slots, report),
            applies: slots.iter().any(Option::is_some),
        });
        known.insert(*slots, plan.clone());
        plan
    };
    let mut plans = Plans {
        list: vec![plan(&scopes.global, report)],
        routes: RouteNames::default(),
    };
    plans.routes.reserve(behind);
    for (position, route) in document.routes.iter().enumerate() {
        let slots = scopes.effective(position);
        let id = || route.identity.id.map(|id| Cow::from(uuid_text(&id)));
        match route.identity.name.map(Cow::from).or_else(id) {
            Some(name) => {
                plans.routes.push(&name, plans.list.len());
                plans.list.push(plan(&slots, report));
            }
            None => {
                if slots != scopes.global {
                    let path = Path::Trail(&route.spot.path);
                    report.warn(
                        "routes without name and id",
                        route.spot.place,
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
    for token in hidden {
        let Some(Ready::Bearer {
            certificate: Some((auth, inbound)),
            ..
        }) = told.plugins.ready(token)
        else {
            continue;
        };
        plans.list.push(Arc::new(Plan {
            auth: Some(auth.clone()),
            inbound: Some(inbound.clone()),
            bearer: None,
            certificate_plan: None,
            acl: None,
            rules: None,
            told: Arc::default(),
            applies: true,
        }));
    }
    plans
}
