//! The digest of what a policy says, however it is written.

use std::sync::Arc;

use openssl::sha::Sha256;

use super::consumers::People;
use crate::policy::Plan;

/// Of a plan, with the one that judges the certificates of its tokens.
pub(super) fn digest_of(plan: &Plan, plans: &[Arc<Plan>], people: &People<'_>) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest_plan(&mut digest, plan, people);
    let certificate = plan.certificate_plan.and_then(|plan| plans.get(plan));
    if let Some(plan) = certificate {
        digest_plan(&mut digest, plan, people);
    }
    digest.finish()
}

fn digest_plan(digest: &mut Sha256, plan: &Plan, people: &People<'_>) {
    digest.update(&[plan.applies.into(), plan.auth.is_some().into()]);
    if let Some(auth) = &plan.auth {
        digest.update(auth.store.key());
        let id = |consumer: Option<u32>| {
            let consumer = people.consumers.get(consumer?)?;
            Some(consumer.id.clone())
        };
        let lookup = auth.lookup.as_ref();
        let lookup = lookup.map(|lookup| {
            (
                lookup.by,
                id(lookup.default),
                lookup.header,
                &lookup.dirname,
            )
        });
        let revocation = &auth.revocation;
        digest.update(&revocation.key);
        let rest = (
            lookup,
            id(auth.anonymous),
            auth.group_by,
            revocation.mode,
            revocation.ttl,
            revocation.http_timeout,
            revocation.ssl_verify,
            &revocation.http_proxy,
            &revocation.https_proxy,
            auth.resumption,
        );
        text(digest, &format!("{rest:?}"));
    }
    text(digest, &format!("{:?} {:?}", plan.acl, plan.rules));
    text(digest, &format!("{:?}", plan.told));
    text(digest, &format!("{:?} {:?}", plan.inbound, plan.bearer));
}

pub(super) fn text(digest: &mut Sha256, text: &str) {
    number(digest, text.len());
    digest.update(text.as_bytes());
}

pub(super) fn number(digest: &mut Sha256, number: usize) {
    digest.update(&(number as u64).to_be_bytes());
}
