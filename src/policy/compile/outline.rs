//! The outline of the document, for the command.

use super::entity_id::uuid_text;
use super::plugins::Plugins;
use super::scopes::{Scopes, Slots};
use crate::handshake::server_name::Pattern;
use crate::policy::document::Document;
use crate::policy::outline::{Outline, PluginOutline, RouteOutline};
use crate::policy::report::Report;

pub(super) fn outline(
    document: &Document<'_>,
    scopes: &Scopes,
    plugins: &Plugins<'_>,
    report: &Report,
) -> Outline {
    let of_slots = |slots: &Slots| -> Vec<PluginOutline> {
        let of_slot = |&index: &usize| {
            let plugin = document.plugins.get(index)?;
            let lines = |rules: &Vec<_>| rules.iter().map(|at| report.source_line(*at)).collect();
            Some(PluginOutline {
                name: plugin.config.kind().name(),
                at: report.source_line(plugin.location.position),
                requests_certificate: plugins.requests_certificate(index),
                rules: [lines(&plugin.rules[0]), lines(&plugin.rules[1])],
            })
        };
        slots.iter().flatten().filter_map(of_slot).collect()
    };
    let routes = document.routes.iter().enumerate().map(|(index, route)| {
        let name = route.key.name.map(Box::from);
        let id = route.key.id.map(|id| uuid_text(&id).into());
        RouteOutline {
            names: name.into_iter().chain(id).collect(),
            at: report.source_line(route.location.position),
            server_names: match route.snis.is_empty() {
                true => vec![Pattern::Any],
                false => route.snis.clone(),
            },
            plugins: of_slots(&scopes.effective(index)),
        }
    });
    let cas = document.cas.iter().filter_map(|ca| {
        let id = uuid_text(&ca.id?).into();
        Some((id, report.source_line(ca.location.position)))
    });
    Outline::new(routes.collect(), of_slots(&scopes.global), cas)
}
