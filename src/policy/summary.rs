//! The summary of a policy, as `resty-mtls check` prints it.

use std::fmt;

use super::Policy;
use crate::text::{hex, quoted};

/// Most server names, and most routes, that a summary lists on a line.
const MAX_LISTED: usize = 20;

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
            let names = listed(names.iter().map(|(pattern, _)| pattern.to_string()));
            writeln!(f, "  {names}: {sent}")?;
        }
        let routes = || {
            let routes = policy.routes.with_plans();
            routes.filter_map(|(name, plan)| Some((name, policy.plans.get(plan)?)))
        };
        writeln!(f, "routes: {}", routes().count())?;
        let protected =
            routes().filter(|(_, plan)| plan.auth.is_some() && plan.certificate_header.is_none());
        let protected = listed(protected.map(|(name, _)| quoted(name.as_bytes())));
        if !protected.is_empty() {
            writeln!(f, "routes that require a client certificate: {protected}")?;
        }
        for (what, protected) in [
            (
                "routes that require a client certificate in a header",
                routes()
                    .filter(|(_, plan)| plan.auth.is_some() && plan.certificate_header.is_some())
                    .map(|(name, _)| quoted(name.as_bytes()))
                    .collect::<Vec<_>>(),
            ),
            (
                "routes that require an access token",
                routes()
                    .filter(|(_, plan)| plan.token_auth.is_some())
                    .map(|(name, _)| quoted(name.as_bytes()))
                    .collect(),
            ),
        ] {
            if !protected.is_empty() {
                writeln!(f, "{what}: {}", listed(protected.into_iter()))?;
            }
        }
        let global = policy.plans.first();
        if global.is_some_and(|plan| plan.token_auth.is_some()) {
            writeln!(f, "requests without a route require an access token")?;
        }
        if global.is_some_and(|plan| plan.auth.is_some()) {
            writeln!(f, "requests without a route require a client certificate")?;
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
