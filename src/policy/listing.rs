//! Parts of a policy as JSON for the operator's page: server names with a certificate request, and
//! routes with their plugins. A policy may have 100,000 of each, so they are listed in pages.

use std::cmp::Ordering;

use serde_json::{json, Value};

use super::Policy;

/// Most entries of a page.
pub const MAX_LISTED: usize = 1000;

/// Which entries are listed.
#[derive(Clone, Copy, Debug)]
pub struct Page<'f> {
    /// How many entries are left out before.
    pub from: usize,
    /// How many entries are listed, at most [`MAX_LISTED`].
    pub limit: usize,
    /// Only names that contain this text are listed, whether letters are upper or lower case in
    /// ASCII.
    pub filter: &'f str,
}

impl Page<'_> {
    fn matches(&self, name: &str) -> bool {
        let (name, filter) = (name.as_bytes(), self.filter.as_bytes());
        filter.is_empty()
            || name
                .windows(filter.len())
                .any(|part| part.eq_ignore_ascii_case(filter))
    }

    fn limit(&self) -> usize {
        self.limit.min(MAX_LISTED)
    }

    fn json(&self, total: usize, matching: usize, items: Vec<Value>) -> Value {
        json!({ "total": total, "matching": matching, "from": self.from, "items": items })
    }
}

/// Wildcards before names, each in order. The first part of a name is empty.
fn by_name(a: &(&str, &str, u32), b: &(&str, &str, u32)) -> Ordering {
    let (is_name, other_is_name) = (a.0.is_empty(), b.0.is_empty());
    (is_name, a.0, a.1).cmp(&(other_is_name, b.0, b.1))
}

impl Policy {
    /// The routes in the order of the document, as `{total, matching, from, items: [{name, plugins,
    /// report_only}], without_route, without_route_report_only}`. `name` is the id of a route
    /// without a name; `plugins` are the names of all that apply, those of its service and the
    /// global ones included, and `report_only` those of them with `enforce: report`;
    /// `without_route` are those that apply to requests without a route.
    pub fn list_routes(&self, page: Page<'_>) -> String {
        let plugins = |plan: usize| -> Vec<&'static str> {
            let plan = self.plans.get(plan);
            plan.map_or_else(Vec::new, |plan| plan.plugins.names().collect())
        };
        let report_only = |plan: usize| -> Vec<&'static str> {
            let plan = self.plans.get(plan);
            plan.map_or_else(Vec::new, |plan| plan.reporting_plugins().collect())
        };
        let mut matching = 0;
        let mut items = Vec::new();
        for (name, plan) in self.routes.with_plans() {
            if !page.matches(name) {
                continue;
            }
            if matching >= page.from && items.len() < page.limit() {
                items.push(json!({
                    "name": name,
                    "plugins": plugins(plan),
                    "report_only": report_only(plan),
                }));
            }
            matching += 1;
        }
        let mut list = page.json(self.routes.len(), matching, items);
        if let Some(list) = list.as_object_mut() {
            list.insert("without_route".to_owned(), plugins(0).into());
            list.insert(
                "without_route_report_only".to_owned(),
                report_only(0).into(),
            );
        }
        list.to_string()
    }

    /// The server names under which a certificate is requested, in order, as `{total, matching,
    /// from, items: [{name, ca_names, ca_names_bytes, ca_names_sent, resumption}]}`.
    pub fn list_server_names(&self, page: Page<'_>) -> String {
        let names = self.sni_map.texts().filter(|(star, name, _)| {
            // Only wildcards have two parts.
            match star.is_empty() || page.filter.is_empty() {
                true => page.matches(name),
                false => page.matches(&format!("{star}{name}")),
            }
        });
        let mut names: Vec<_> = names.collect();
        let matching = names.len();
        // The map has no order. Only the page is sorted.
        if page.from > 0 && page.from < matching {
            names.select_nth_unstable_by(page.from, by_name);
        }
        let mut names = names.split_off(page.from.min(matching));
        if page.limit() < names.len() {
            names.select_nth_unstable_by(page.limit(), by_name);
            names.truncate(page.limit());
        }
        names.sort_unstable_by(by_name);
        let items = names.iter().filter_map(|(star, name, request)| {
            let request = self.certificate_requests.get(*request as usize)?;
            Some(json!({
                "name": format!("{star}{name}"),
                "ca_names": request.ca_names_len(),
                "ca_names_bytes": request.ca_names_bytes(),
                "ca_names_sent": request.ca_names_len() > 0 && !request.over_budget(),
                "resumption": request.resumption(),
            }))
        });
        let items = items.collect();
        page.json(self.sni_map.len(), matching, items).to_string()
    }
}
