//! The summary of a policy, as `resty-mtls check` prints it.

use std::fmt;

use super::{Plan, Policy};
use crate::handshake::server_name::Pattern;
use crate::text::{hex, quoted};

/// Most server names, and most routes, that a summary lists on a line.
const MAX_LISTED: usize = 20;

impl Policy {
    /// The names (or ids) of the routes without a plugin in effect, which are open to every client.
    pub fn routes_without_plugin(&self) -> impl Iterator<Item = &str> {
        let routes = self.routes.with_plans();
        routes.filter_map(|(name, plan)| {
            let plan = self.plans.get(plan)?;
            (!plan.has_plugins).then_some(name)
        })
    }
}

/// A list of routes: what it is called, and whether a route with this plan is on it.
type RouteList<'l> = (&'l str, &'l dyn Fn(&Plan) -> bool);

/// The text of a policy: server names with their CA-name lists, and protected routes. It has no
/// warnings.
pub struct Summary<'p>(pub(super) &'p Policy);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.0;
        writeln!(f, "digest: {}", hex(&policy.digest))?;

        let mut names: Vec<_> = policy.sni_map.iter().collect();
        names.sort_unstable_by(|(a, i), (b, j)| (i, a).cmp(&(j, b)));
        let count = names.len();
        writeln!(
            f,
            "server names under which a client certificate is requested: {count}"
        )?;
        for names in names.chunk_by(|(_, a), (_, b)| a == b) {
            let request = names
                .first()
                .and_then(|(_, request)| policy.certificate_requests.get(*request as usize));
            let Some(request) = request else {
                continue;
            };
            let sent = match request.ca_names_len() {
                0 => "no CA names sent".to_owned(),
                1 => format!("1 CA name sent, {} bytes", request.ca_names_bytes()),
                n => format!("{n} CA names sent, {} bytes", request.ca_names_bytes()),
            };
            let names = listed(names.iter().map(|(pattern, _)| match pattern {
                Pattern::Any => format!("{pattern} (every name)"),
                _ => pattern.to_string(),
            }));
            writeln!(f, "  {names}: {sent}")?;
        }
        let routes = || {
            let routes = policy.routes.with_plans();
            routes.filter_map(|(name, plan)| Some((name, policy.plans.get(plan)?)))
        };
        writeln!(f, "routes: {}", routes().count())?;
        let lists: [RouteList<'_>; 6] = [
            ("routes that require a client certificate", &|plan| {
                plan.certificate_header.is_none() && policy.requires_certificate(plan)
            }),
            (
                "routes that require a client certificate in a header",
                &|plan| plan.certificate_header.is_some() && policy.requires_certificate(plan),
            ),
            (
                "routes that let in clients without a client certificate",
                &|plan| plan.auth.is_some() && !policy.requires_certificate(plan),
            ),
            ("routes that require an access token", &|plan| {
                policy.requires_token(plan)
            }),
            (
                "routes that let in clients without an access token",
                &|plan| plan.token_auth.is_some() && !policy.requires_token(plan),
            ),
            ("routes without a plugin, open to every client", &|plan| {
                !plan.has_plugins
            }),
        ];
        for (what, is_listed) in lists {
            let found = routes().filter(|(_, plan)| is_listed(plan));
            let found = listed(found.map(|(name, _)| quoted(name.as_bytes())));
            if !found.is_empty() {
                writeln!(f, "{what}: {found}")?;
            }
        }
        let Some(global) = policy.plans.first() else {
            return Ok(());
        };
        for (applies, is_required, what) in [
            (
                global.token_auth.is_some(),
                policy.requires_token(global),
                "an access token",
            ),
            (
                global.auth.is_some(),
                policy.requires_certificate(global),
                "a client certificate",
            ),
        ] {
            match (applies, is_required) {
                (false, _) => {}
                (true, true) => writeln!(f, "requests without a route require {what}")?,
                (true, false) => writeln!(f, "requests without a route are let in without {what}")?,
            }
        }
        Ok(())
    }
}

fn listed(mut names: impl Iterator<Item = String>) -> String {
    let shown: Vec<_> = names.by_ref().take(MAX_LISTED).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
