//! What a name that the policy does not have may have been meant to be: for the error log, at the
//! time of a request.

use super::report::closest_within;
use super::Policy;
use crate::handshake::server_name::{normalise, parent};
use crate::text::quoted;

/// Most slips in a server name. Names share their domain, so a share of the length says little.
const MAX_SLIPS: usize = 3;

/// Most names that are compared within a second. Clients choose the names, and each comparison
/// takes up to a microsecond; in a larger policy, names beyond that many are not suggested.
const PER_SECOND: usize = 10_000;

/// How many names have been compared in a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct SuggestionBudget {
    second: i64,
    count: usize,
}

impl SuggestionBudget {
    /// What has been compared in the second `now`.
    fn at(self, now: i64) -> SuggestionBudget {
        match self.second == now {
            true => self,
            false => SuggestionBudget {
                second: now,
                count: 0,
            },
        }
    }
}

impl Policy {
    /// `, did you mean 'pattern'?` for the closest of the server names that ask for a certificate,
    /// or nothing. `name` is as a client sent it, `now` in seconds since the epoch.
    pub fn suggest_server_name(
        &self,
        name: &[u8],
        now: i64,
        compared: &mut SuggestionBudget,
    ) -> String {
        *compared = compared.at(now);
        let buffer = &mut [0; 256];
        let Some(name) = normalise(name, buffer).and_then(|name| std::str::from_utf8(name).ok())
        else {
            return String::new();
        };
        let slips = (name.len() / 6).clamp(1, MAX_SLIPS);
        let exact = self.names.exact();
        let found = closest_within(name, exact, slips, PER_SECOND, &mut compared.count);
        if let Some(found) = found {
            return meant(found.as_bytes());
        }
        // `*.example.com` stands for one label: neither for none nor for two.
        let below = |pattern: &&str| name.ends_with(*pattern) || pattern.get(1..) == Some(name);
        let patterns = || self.names.wildcard().take(PER_SECOND);
        let found = patterns().find(below).or_else(|| {
            let end = parent(name.as_bytes()).and_then(|end| std::str::from_utf8(end).ok())?;
            closest_within(end, patterns(), slips, PER_SECOND, &mut compared.count)
        });
        found.map_or(String::new(), |found| meant(format!("*{found}").as_bytes()))
    }

    /// The same for the name or id of a route.
    pub fn suggest_route(&self, name: &str, now: i64, compared: &mut SuggestionBudget) -> String {
        *compared = compared.at(now);
        let slips = (name.len() / 3).max(1);
        let routes = self.routes.routes();
        closest_within(name, routes, slips, PER_SECOND, &mut compared.count)
            .map_or(String::new(), |found| meant(found.as_bytes()))
    }
}

fn meant(name: &[u8]) -> String {
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
    fn meant_server_name_is_a_slip_away() {
        let policy = policy(&["payments.example.com", "*.partners.example.com", "a.test"]);
        let compared = &mut SuggestionBudget::default();
        for (name, meant) in [
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
                policy.suggest_server_name(name.as_bytes(), 1, compared),
                meant,
                "{name}"
            );
        }
        assert_eq!(policy.suggest_server_name(b"a.tes\xff", 1, compared), "");
    }

    #[test]
    fn meant_names_beyond_so_many_a_second_are_not_looked_for() {
        let policy = policy(&["payments.example.com"]);
        let compared = &mut SuggestionBudget::default();
        let meant = ", did you mean 'payments.example.com'?";
        let slip = b"paymnts.example.com";
        for _ in 0..PER_SECOND {
            assert_eq!(policy.suggest_server_name(slip, 7, compared), meant);
        }
        assert_eq!(policy.suggest_server_name(slip, 7, compared), "");
        assert_eq!(policy.suggest_route("payment", 7, compared), "");
        assert_eq!(
            policy.suggest_route("payment", 8, compared),
            ", did you mean 'payments'?"
        );
        assert_eq!(policy.suggest_server_name(slip, 8, compared), meant);
    }

    #[test]
    fn meant_route_is_a_slip_away() {
        let policy = policy(&["a.test"]);
        let compared = &mut SuggestionBudget::default();
        for (name, meant) in [
            ("paymnets", ", did you mean 'payments'?"),
            ("Payments", ", did you mean 'payments'?"),
            ("billing", ""),
            ("", ""),
        ] {
            assert_eq!(policy.suggest_route(name, 1, compared), meant, "{name}");
        }
    }
}
