//! Suggestions (`did you mean`) in the error log, for server names and routes of a request that the
//! policy does not have.

use super::report::{closest_within, max_typos};
use super::Policy;
use crate::handshake::server_name::{normalise, parent};
use crate::text::quoted;

/// The largest number of typing errors in a server name. A share of its length alone would be too
/// large, because names share their domain.
const MAX_TYPOS: usize = 3;

/// Most routes that a message lists.
const MAX_LISTED: usize = 10;

/// The largest number of names that are compared within a second. Clients choose the names, and
/// each comparison takes up to a microsecond. In a larger policy, the names after these are not
/// suggested.
const PER_SECOND: usize = 10_000;

/// Counts the names that have been compared in the current second.
#[derive(Clone, Copy, Debug, Default)]
pub struct SuggestionBudget {
    second: i64,
    compared: usize,
}

impl SuggestionBudget {
    /// The budget in the second `now`.
    fn at(self, now: i64) -> SuggestionBudget {
        match self.second == now {
            true => self,
            false => SuggestionBudget {
                second: now,
                compared: 0,
            },
        }
    }
}

impl Policy {
    /// Returns `, did you mean 'pattern'?` with the closest of the server names under which a
    /// certificate is requested, or an empty text. `name` is what a client sent, `now` is in
    /// seconds since the epoch.
    pub fn suggest_server_name(
        &self,
        name: &[u8],
        now: i64,
        budget: &mut SuggestionBudget,
    ) -> String {
        *budget = budget.at(now);
        let buffer = &mut [0; 256];
        let Some(name) = normalise(name, buffer).and_then(|name| std::str::from_utf8(name).ok())
        else {
            return String::new();
        };
        let typos = (name.len() / 6).clamp(1, MAX_TYPOS);
        let exact = self.sni_map.exact();
        let found = closest_within(name, exact, typos, PER_SECOND, &mut budget.compared);
        if let Some(found) = found {
            return suggestion(found.as_bytes());
        }
        // `*.example.com` matches one label, so it is suggested for a name with none or two of
        // them.
        let below = |pattern: &&str| name.ends_with(*pattern) || pattern.get(1..) == Some(name);
        let patterns = || self.sni_map.wildcard().take(PER_SECOND);
        let found = patterns().find(below).or_else(|| {
            let end = parent(name.as_bytes()).and_then(|end| std::str::from_utf8(end).ok())?;
            closest_within(end, patterns(), typos, PER_SECOND, &mut budget.compared)
        });
        found.map_or(String::new(), |found| {
            suggestion(format!("*{found}").as_bytes())
        })
    }

    /// As [`Policy::suggest_server_name`], for the name or id of a route.
    pub fn suggest_route(&self, name: &str, now: i64, budget: &mut SuggestionBudget) -> String {
        *budget = budget.at(now);
        let typos = max_typos(name);
        let routes = self.routes.routes();
        closest_within(name, routes, typos, PER_SECOND, &mut budget.compared)
            .map_or(String::new(), |found| suggestion(found.as_bytes()))
    }

    /// The routes, as far as a message lists them: `'a', 'b' and 3 more`; `None` without any.
    pub fn listed_routes(&self) -> Option<String> {
        let mut routes = self.routes.routes();
        let shown = routes.by_ref().take(MAX_LISTED);
        let shown: Vec<_> = shown
            .map(|route| format!("'{}'", quoted(route.as_bytes())))
            .collect();
        match (shown.is_empty(), routes.count()) {
            (true, _) => None,
            (false, 0) => Some(shown.join(", ")),
            (false, more) => Some(format!("{} and {more} more", shown.join(", "))),
        }
    }
}

fn suggestion(name: &[u8]) -> String {
    format!(", did you mean '{}'?", quoted(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(snis: &[&str]) -> Policy {
        let text = format!(
            "{{\"_format_version\": \"3.0\", \"routes\": [{{\"name\": \"payments\", \"snis\": \
             [{}]}}], \"plugins\": [{{\"name\": \"tls-handshake-modifier\", \"route\": \
             \"payments\"}}]}}",
            snis.iter()
                .map(|sni| format!("{sni:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        Policy::from_yaml(text.as_bytes(), "p").unwrap()
    }

    #[test]
    fn suggest_server_name_finds_a_misspelt_name() {
        let policy = policy(&["payments.example.com", "*.partners.example.com", "a.test"]);
        let budget = &mut SuggestionBudget::default();
        for (name, expected) in [
            (
                "paymnets.example.com",
                ", did you mean 'payments.example.com'?",
            ),
            (
                "PAYMENT.Example.COM.",
                ", did you mean 'payments.example.com'?",
            ),
            (
                "payments.exmaple.com",
                ", did you mean 'payments.example.com'?",
            ),
            (
                "payments.example.net",
                ", did you mean 'payments.example.com'?",
            ),
            ("billing.example.com", ""),
            ("example.com", ""),
            ("a.tset", ", did you mean 'a.test'?"),
            (
                "x.partnres.example.com",
                ", did you mean '*.partners.example.com'?",
            ),
            (
                "x.y.partners.example.com",
                ", did you mean '*.partners.example.com'?",
            ),
            (
                "partners.example.com",
                ", did you mean '*.partners.example.com'?",
            ),
            ("", ""),
            ("a\0test", ""),
        ] {
            assert_eq!(
                policy.suggest_server_name(name.as_bytes(), 1, budget),
                expected,
                "{name}"
            );
        }
        assert_eq!(policy.suggest_server_name(b"a.tes\xff", 1, budget), "");
    }

    #[test]
    fn suggest_compares_a_limited_number_of_names_a_second() {
        let policy = policy(&["payments.example.com"]);
        let budget = &mut SuggestionBudget::default();
        let expected = ", did you mean 'payments.example.com'?";
        let misspelt = b"paymnts.example.com";
        for _ in 0..PER_SECOND {
            assert_eq!(policy.suggest_server_name(misspelt, 7, budget), expected);
        }
        assert_eq!(policy.suggest_server_name(misspelt, 7, budget), "");
        assert_eq!(policy.suggest_route("payment", 7, budget), "");
        assert_eq!(
            policy.suggest_route("payment", 8, budget),
            ", did you mean 'payments'?"
        );
        assert_eq!(policy.suggest_server_name(misspelt, 8, budget), expected);
    }

    #[test]
    fn listed_routes_are_at_most_ten() {
        let of = |count: usize| {
            let names: Vec<_> = (0..count).map(|i| format!("{{name: r{i}}}")).collect();
            let text = format!("_format_version: '3.0'\nroutes: [{}]\n", names.join(", "));
            Policy::from_yaml(text.as_bytes(), "p").unwrap()
        };
        for (count, expected) in [
            (0, None),
            (1, Some("'r0'")),
            (
                10,
                Some("'r0', 'r1', 'r2', 'r3', 'r4', 'r5', 'r6', 'r7', 'r8', 'r9'"),
            ),
            (
                12,
                Some("'r0', 'r1', 'r2', 'r3', 'r4', 'r5', 'r6', 'r7', 'r8', 'r9' and 2 more"),
            ),
        ] {
            assert_eq!(of(count).listed_routes().as_deref(), expected, "{count}");
        }
    }

    #[test]
    fn suggest_route_finds_a_misspelt_name() {
        let policy = policy(&["a.test"]);
        let budget = &mut SuggestionBudget::default();
        for (name, expected) in [
            ("paymnets", ", did you mean 'payments'?"),
            ("Payments", ", did you mean 'payments'?"),
            ("billing", ""),
            ("", ""),
        ] {
            assert_eq!(policy.suggest_route(name, 1, budget), expected, "{name}");
        }
    }
}
