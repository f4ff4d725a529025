//! What applies to the requests of each route.

use std::sync::Arc;

use super::plugins::Ready;
use super::scopes::{Scopes, Slots};
use super::told::ToldOf;
use super::uuid_text;
use crate::policy::document::{Document, Kind};
use crate::policy::report::{Path, Report};
use crate::policy::Plan;

/// The global plan, then one for each route that can be named.
pub(super) fn plans(
    document: &Document<'_>,
    scopes: &Scopes,
    told: &mut ToldOf<'_>,
    report: &mut Report,
) -> Vec<Plan> {
    // The plans of openid-connect's own certificates stand behind all others.
    let mut hidden: Vec<usize> = Vec::new();
    let mut plan = |route: Option<Box<str>>, slots: &Slots, report: &mut Report| {
        let token = slots[Kind::OpenidConnect as usize];
        let own = token.filter(|token| {
            let ready = told.plugins.ready.get(*token);
            matches!(
                ready,
                Some(Ready::Bearer {
                    certificate: Some(_),
                    ..
                })
            )
        });
        let certificate_plan = own.map(|token| {
            let known = hidden.iter().position(|hidden| *hidden == token);
            known.unwrap_or_else(|| {
                hidden.push(token);
                hidden.len() - 1
            })
        });
        Plan {
            route,
            auth: told.plugins.auth(slots).cloned(),
            inbound: told.plugins.inbound(slots).cloned(),
            bearer: told.plugins.bearer(slots).cloned(),
            certificate_plan,
            acl: told.plugins.acl(slots).cloned(),
            rules: told.plugins.rules(slots).cloned(),
            told: told.get(slots, report),
            applies: slots.iter().any(Option::is_some),
        }
    };
    let mut plans = vec![plan(None, &scopes.global, report)];
    for (position, route) in document.routes.iter().enumerate() {
        let slots = scopes.effective(position);
        let id = route.identity.id.map(|id| uuid_text(&id));
        match route.identity.name.map(str::to_owned).or(id) {
            Some(name) => plans.push(plan(Some(name.into()), &slots, report)),
            None => {
                if slots != scopes.global {
                    let path = Path::Text(&route.spot.path);
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
    let behind = plans.len();
    for plan in &mut plans {
        plan.certificate_plan = plan.certificate_plan.map(|number| behind + number);
    }
    for token in hidden {
        let Some(Ready::Bearer {
            certificate: Some((auth, inbound)),
            ..
        }) = told.plugins.ready.get(token)
        else {
            continue;
        };
        plans.push(Plan {
            route: None,
            auth: Some(auth.clone()),
            inbound: Some(inbound.clone()),
            bearer: None,
            certificate_plan: None,
            acl: None,
            rules: None,
            told: Arc::default(),
            applies: true,
        });
    }
    plans
}
