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
        let checked = match certificate.is_none() && by_certificate {
            true => Err("acl: the certificate is no longer known".to_owned()),
            false => policy.check_acl(plan, certificate.as_deref(), decision.identity),
        };
        if let Err(reason) = checked {
            decision.outcome = Outcome::Forbidden;
            decision.reason = Some(match identity {
                Identity::Consumer(..) => format!("{reason} of the token's consumer"),
                Identity::Anonymous(_) if replaced => format!("{reason} (anonymous)"),
                _ => reason,
            });
        }
        Ok(())
    }
}
