//! The consumer of a token, and what it changes in the decision about the certificate.

use super::Engine;
use crate::decision::{Decision, Identity, Outcome};
use crate::policy::{Policy, TokenAuth};
use crate::text::quoted;
use crate::token::{Claims, TokenError};
use crate::Error;

/// The consumer of a valid token; [`Identity::None`] if it decides about none.
///
/// # Errors
/// [`TokenError::NoConsumer`] where the route requires one.
pub(super) fn token_identity(
    policy: &Policy,
    token_auth: &TokenAuth,
    claims: &Claims,
) -> Result<Identity, TokenError> {
    let Some(mapping) = &token_auth.consumer else {
        return Ok(Identity::None);
    };
    let mut paths = mapping.claims.iter();
    let consumers = &policy.consumers;
    let found = paths.find_map(|path| {
        let value = claims.name_at(path)?;
        consumers.find_by_value(&value, &mapping.by, mapping.ignore_case)
    });
    match found {
        Some(consumer) => Ok(Identity::Consumer(consumer, None)),
        None if mapping.optional => Ok(Identity::None),
        None => {
            let claims = mapping.claims.iter().map(|path| {
                let name = quoted(path.join(".").as_bytes());
                match claims.name_at(path) {
                    Some(value) => format!("'{name}' is '{}'", quoted(value.as_bytes())),
                    None => format!("no text '{name}'"),
                }
            });
            let claims: Vec<String> = claims.collect();
            Err(TokenError::NoConsumer(claims.join(", ")))
        }
    }
}

impl Engine {
    /// Access phase, after [`Engine::check_token`] allowed the request with this `identity`:
    /// applies it to the decision of [`Engine::access`], and checks `acl` for the result.
    ///
    /// The consumer of a token replaces that of the certificate. A client that is authenticated by
    /// its certificate does not become anonymous for lack of a token.
    pub fn apply_token(
        &self,
        plan_id: usize,
        decision: &mut Decision,
        identity: Identity,
    ) -> Result<(), Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        if plan.token_auth.is_none() {
            return Err(Error::NotFound);
        }
        let is_authenticated =
            matches!(decision.identity, Identity::Holder | Identity::Consumer(..));
        let replaced = match identity {
            Identity::None | Identity::Holder => false,
            Identity::Anonymous(_) => !is_authenticated,
            Identity::Consumer(..) => true,
        };
        if replaced {
            decision.identity = identity;
        }
        if !plan.checks_acl_with_token() {
            return Ok(());
        }
        let by_certificate = is_authenticated && !replaced;
        let certificate = decision.client.filter(|_| by_certificate);
        let certificate = certificate.and_then(|slot| self.certificate_at(slot));
        // A client that another plugin lets pass unauthenticated has no groups, and would escape
        // the `deny` of an `acl` that refuses.
        let escapes = decision.identity == Identity::None && decision.would_refuse.is_some();
        let checked = if certificate.is_none() && by_certificate {
            Err("acl: the certificate is no longer known".to_owned())
        } else if escapes && plan.enforces_acl() {
            Err("acl: the client is not authenticated".to_owned())
        } else {
            policy.check_acl(plan, certificate.as_deref(), decision.identity)
        };
        if let Err(reason) = checked {
            let reason = match identity {
                Identity::Consumer(..) => format!("{reason} of the token's consumer"),
                Identity::Anonymous(_) if replaced => format!("{reason} (anonymous)"),
                _ => reason,
            };
            match plan.report_only.acl {
                true => decision.report(Outcome::Forbidden, decision.verdict, reason),
                false => decision.forbid(reason),
            }
        }
        Ok(())
    }

    /// Access phase, after [`Engine::check_token`] refused the token of a request that
    /// [`Engine::access`] allowed: whether the request passes without the token, because
    /// `openid-connect` has `enforce: report`. It keeps the identity that the certificate gives it,
    /// for which `acl` is checked.
    pub fn pass_without_token(
        &self,
        plan_id: usize,
        decision: &mut Decision,
    ) -> Result<bool, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let is_needed = plan.enforces_acl() && decision.identity == Identity::None;
        if !plan.report_only.token || is_needed {
            return Ok(false);
        }
        if plan.auth.is_none() {
            // Only the token could verify the certificate.
            decision.client = None;
        }
        let reported = decision.would_refuse;
        self.apply_token(plan_id, decision, Identity::None)?;
        if decision.outcome == Outcome::Pass {
            // The refusal of the token precedes that of `acl`.
            decision.would_refuse = reported;
        }
        Ok(true)
    }
}
