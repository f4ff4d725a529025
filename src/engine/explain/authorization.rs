//! The steps of `acl` and `client-cert-acl`, and what decided.

use super::steps::listed;
use super::{DecidedBy, Explained, Step};
use crate::certificate::Certificate;
use crate::decision::{Identity, Outcome};
use crate::identity::{DecidingRule, RuleSubject};
use crate::policy::Plan;
use crate::text::quoted;
use crate::Error;

/// Most rules of which a step says why they do not hold.
const MAX_RULES: usize = 10;

impl Explained<'_> {
    /// The steps of `acl` and `client-cert-acl`.
    pub(super) fn authorization(
        &self,
        plan: &Plan,
        subject: Option<RuleSubject<'_>>,
        identity: Identity,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        // A rule with `enforce: report` fails here too; the decision says that the request passes.
        let refusal = match self.policy.authorize(plan, subject, identity) {
            Ok(reported) => reported,
            Err(why) => Some(why),
        };
        let certificate = subject.map(|subject| subject.certificate);
        if !plan.checks_acl_with_token() {
            let why = refusal.as_ref().filter(|why| why.starts_with("acl:"));
            steps.extend(self.acl_step(plan, certificate, identity, why));
            if why.is_some() {
                return steps;
            }
        }
        if plan.rules.is_some() {
            let decided = subject.and_then(|subject| self.deciding_rule(plan, subject));
            let plugin = self.plugin_text(&["client-cert-acl"]);
            let at = match &decided {
                Some(DecidedBy {
                    rule: Some(rule),
                    at: Some(at),
                    ..
                }) => {
                    format!("rule '{}' at {at}", quoted(rule.as_bytes()))
                }
                _ => plugin.clone(),
            };
            steps.push(match refusal {
                None => Step::passed("client-cert-acl", format!("allowed by {at}")),
                Some(why) => {
                    let remedy = match subject {
                        None => "only a client with a trusted certificate is let in".to_owned(),
                        Some(_) => format!("compare the certificate with the rules: {at}"),
                    };
                    let tried = subject.and_then(|subject| self.tried_rules(plan, subject));
                    let why = why.strip_prefix("client-cert-acl: ").unwrap_or(&why);
                    let detail = tried.unwrap_or_else(|| why.to_owned());
                    Step::failed("client-cert-acl", detail, Some(remedy))
                }
            });
        }
        steps
    }

    /// The step of a refusal that passes nowhere, although the plugin it is of has
    /// `enforce: report`: another plugin needs an authenticated client.
    pub(super) fn ineffective_report(&self, plan: &Plan) -> Option<Step> {
        let auth = plan.auth.as_ref()?;
        let is_of_auth = match self.decision.outcome {
            Outcome::NoCertificate | Outcome::Misdirected => true,
            Outcome::Refused => {
                let reason = self.decision.reason.as_deref();
                !reason.is_some_and(|reason| reason.starts_with("client-cert-lists:"))
            }
            _ => false,
        };
        if !is_of_auth || !plan.report_only.authentication || auth.anonymous.is_some() {
            return None;
        }
        let enforcing = plan.enforcing_authorization();
        let enforcing: Vec<_> = enforcing.map(|name| self.plugin_text(&[name])).collect();
        if enforcing.is_empty() {
            return None;
        }
        let detail = format!(
            "'enforce: report' of the {} does not let the request pass, since a plugin beside it \
             enforces and needs an authenticated client: {}",
            self.plugin_text(&["mtls-auth", "header-cert-auth"]),
            enforcing.join(", ")
        );
        let remedy = "set 'enforce: report' there too, if such requests are to pass";
        Some(Step::failed("report", detail, Some(remedy.to_owned())))
    }

    /// The step of `acl` that follows the token.
    pub(super) fn acl(&self, plan: &Plan) -> Option<Step> {
        let slot = self.decision.client;
        let certificate = slot.and_then(|slot| self.engine.certificate_at(slot));
        let why = self.decision.reason.as_ref();
        let why = why.filter(|why| why.starts_with("acl:"));
        self.acl_step(plan, certificate.as_deref(), self.decision.identity, why)
    }

    /// The step of `acl`, with the reason of its refusal.
    fn acl_step(
        &self,
        plan: &Plan,
        certificate: Option<&Certificate>,
        identity: Identity,
        refusal: Option<&String>,
    ) -> Option<Step> {
        let acl = plan.acl.as_ref()?;
        let groups = self.policy.groups(plan, certificate, identity);
        let quoted_groups = |groups: &[Box<str>]| {
            listed(
                groups
                    .iter()
                    .map(|group| format!("'{}'", quoted(group.as_bytes()))),
            )
        };
        let plugin = self.plugin_text(&["acl"]);
        let mut of_client = match groups.is_empty() {
            true => "the client has no group".to_owned(),
            false => format!("groups of the client: {}", quoted_groups(&groups)),
        };
        let Some(why) = refusal else {
            return Some(Step::passed("acl", format!("{of_client}; {plugin}")));
        };
        let remedy = match acl.denies(&groups) || acl.allow.is_empty() {
            true => format!("'deny' of the {plugin} names {}", quoted_groups(&acl.deny)),
            false => format!(
                "put the client into one of the groups that the {plugin} allows: {}",
                quoted_groups(&acl.allow)
            ),
        };
        if acl.allows(&groups) {
            // The names of the certificate may be read as those of a denied client.
            let why = why.strip_prefix("acl: ").unwrap_or(why);
            of_client += &format!("; {why}");
        } else if acl.denies(&groups) {
            of_client += ", one of which is denied";
        } else if !groups.is_empty() {
            of_client += ", none of which is allowed";
        }
        Some(Step::failed("acl", of_client, Some(remedy)))
    }

    /// Why no allow rule holds for a certificate, for each rule with its place. `None` if a rule
    /// holds, or a deny rule may hold.
    fn tried_rules(&self, plan: &Plan, subject: RuleSubject<'_>) -> Option<String> {
        let rules = plan.rules.as_ref()?;
        if rules.deciding(subject).is_some() {
            return None;
        }
        let plugin = self.plugin(&["client-cert-acl"]);
        let places = plugin.and_then(|plugin| plugin.rules.first());
        let shown = rules.allow.iter().take(MAX_RULES).enumerate();
        let mut shown: Vec<_> = shown
            .map(|(index, rule)| {
                let place = places.and_then(|places| places.get(index));
                let place = place.map(|at| format!(" ({at})")).unwrap_or_default();
                let why = rule.unmet(subject).unwrap_or_default();
                format!("rule '{}'{place}: {why}", quoted(rule.name.as_bytes()))
            })
            .collect();
        match rules.allow.len().saturating_sub(MAX_RULES) {
            0 => {}
            more => shown.push(format!("and {more} more")),
        }
        Some(format!("no allow rule holds: {}", shown.join("; ")))
    }

    /// The rule of `client-cert-acl` that decides about a certificate.
    fn deciding_rule(&self, plan: &Plan, subject: RuleSubject<'_>) -> Option<DecidedBy> {
        let rules = plan.rules.as_ref()?;
        let plugin = self.plugin(&["client-cert-acl"]);
        let (list, index, rule) = match rules.deciding(subject) {
            Some(DecidingRule::Allow(index, rule)) => (0, index, Some(rule)),
            Some(DecidingRule::Deny(index, rule)) => (1, index, Some(rule)),
            None => (0, usize::MAX, None),
        };
        let place = plugin.and_then(|plugin| plugin.rules.get(list)?.get(index));
        Some(DecidedBy {
            plugin: "client-cert-acl",
            rule: rule.map(|rule| rule.name.clone()),
            at: place.or(plugin.map(|plugin| &plugin.at)).cloned(),
        })
    }

    /// What decided.
    pub(super) fn decided_by(&self, plan: &Plan) -> Result<Option<DecidedBy>, Error> {
        let of_plugin = |name: &'static str| {
            let plugin = self.plugin(&[name]);
            plugin.map(|plugin| DecidedBy {
                plugin: name,
                rule: None,
                at: Some(plugin.at.clone()),
            })
        };
        let authentication = || of_plugin("mtls-auth").or_else(|| of_plugin("header-cert-auth"));
        let reason = self.decision.reason.as_deref().unwrap_or_default();
        let is_by = |plugin: &str| {
            let rest = reason.strip_prefix(plugin);
            rest.is_some_and(|rest| rest.starts_with(':'))
        };
        let reported = self.decision.would_refuse.map(|found| found.outcome);
        match reported.unwrap_or(self.decision.outcome) {
            Outcome::Forbidden if is_by("acl") => return Ok(of_plugin("acl")),
            Outcome::Refused if is_by("client-cert-lists") => {
                return Ok(of_plugin("client-cert-lists"));
            }
            Outcome::Pass | Outcome::Forbidden => {}
            Outcome::NoCertificate | Outcome::Refused => return Ok(authentication()),
            _ => return Ok(None),
        }
        let rules = match (&plan.auth, &self.certificate, self.decision.client) {
            (Some(auth), Some(certificate), Some(_)) if plan.rules.is_some() => {
                let store = auth.store_of(certificate).map_err(Error::Misuse)?;
                let verdict = self
                    .engine
                    .verdict(None, store, certificate, self.probe.now)?;
                let subject = RuleSubject {
                    certificate,
                    cas: verdict.cas(),
                    spiffe_id: auth.spiffe_id(certificate),
                };
                self.deciding_rule(plan, subject)
            }
            _ if plan.rules.is_some() => of_plugin("client-cert-acl"),
            _ => None,
        };
        Ok(rules.or_else(|| of_plugin("acl")).or_else(authentication))
    }
}
