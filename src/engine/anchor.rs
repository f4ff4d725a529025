//! What verified a trusted certificate: its trust anchor, and its trust domain.

use super::Engine;
use crate::certificate::Certificate;
use crate::Error;

/// The trust anchor of a verified chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Its subject as RFC 2253 text.
    pub subject: String,
    /// The id of its entry of `ca_certificates`; `None` for one of a bundle.
    pub id: Option<Box<str>>,
}

/// The SPIFFE ID that a trust domain verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSpiffeId {
    /// The SPIFFE ID.
    pub id: Box<str>,
    /// The name of its trust domain.
    pub trust_domain: Box<str>,
}

impl Engine {
    /// The trust anchor of a certificate on a plan; `None` if the plan does not trust it. `now` is
    /// in seconds since the epoch.
    pub fn anchor(
        &self,
        certificate: &Certificate,
        plan_id: usize,
        now: i64,
    ) -> Result<Option<Anchor>, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let Some(auth) = &plan.auth else {
            return Ok(None);
        };
        let Ok(store) = auth.store_of(certificate) else {
            return Ok(None);
        };
        let verdict = self.verdict(None, store, certificate, now)?;
        let Some(anchor) = verdict.cas().last() else {
            return Ok(None);
        };
        let in_document = policy.cas.iter().find(|entry| entry.ca.id() == anchor);
        let found = store.cas().iter().find(|ca| ca.id() == anchor);
        Ok(found.map(|ca| Anchor {
            subject: ca.subject().to_owned(),
            id: in_document.and_then(|entry| entry.id.clone()),
        }))
    }

    /// The SPIFFE ID of a certificate that a plan trusts; `None` if no trust domain of the plan
    /// verified it.
    pub fn spiffe_id(
        &self,
        certificate: &Certificate,
        plan_id: usize,
    ) -> Result<Option<VerifiedSpiffeId>, Error> {
        self.with_plan(plan_id, |plan| {
            let auth = plan.auth.as_ref();
            Ok(auth
                .and_then(|auth| auth.spiffe_id(certificate))
                .map(|id| VerifiedSpiffeId {
                    id: id.as_str().into(),
                    trust_domain: id.trust_domain().into(),
                }))
        })
    }
}
