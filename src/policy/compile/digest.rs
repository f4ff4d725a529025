//! The digest of what a policy says, however it is written.

use openssl::sha::Sha256;

use super::consumers::People;
use crate::policy::{Auth, Lookup, Plan, Revocation};

/// Of a plan, with the one that judges the certificates of its tokens.
pub(super) fn digest_of(plan: &Plan, judge: Option<&Plan>, people: &People<'_>) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest_plan(&mut digest, plan, people);
    if let Some(plan) = judge {
        digest_plan(&mut digest, plan, people);
    }
    digest.finish()
}

/// All fields by name: plans with the same digest are one plan, so a field that is not here would be
/// taken from another route.
fn digest_plan(digest: &mut Sha256, plan: &Plan, people: &People<'_>) {
    let Plan {
        auth,
        inbound,
        bearer,
        // Its content is in the digest of the whole.
        certificate_plan: _,
        acl,
        rules,
        told,
        applies,
        modifies_handshake,
    } = plan;
    digest.update(&[
        (*applies).into(),
        (*modifies_handshake).into(),
        auth.is_some().into(),
    ]);
    if let Some(auth) = auth {
        digest_auth(digest, auth, people);
    }
    text(digest, &format!("{acl:?} {rules:?}"));
    text(digest, &format!("{told:?}"));
    text(digest, &format!("{inbound:?} {bearer:?}"));
}

fn digest_auth(digest: &mut Sha256, auth: &Auth, people: &People<'_>) {
    let Auth {
        store,
        lookup,
        anonymous,
        group_by,
        revocation,
        resumption,
    } = auth;
    digest.update(store.verdict_key());
    let id = |consumer: Option<u32>| {
        let consumer = people.consumers.get(consumer?)?;
        Some(consumer.id.clone())
    };
    let lookup = lookup.as_ref().map(|lookup| {
        let Lookup {
            by,
            default,
            header,
            dirname,
        } = lookup;
        (by, id(*default), header, dirname)
    });
    let Revocation {
        mode,
        ttl,
        http_timeout,
        ssl_verify,
        http_proxy,
        https_proxy,
        // In the key, as the store is.
        crls: _,
        key,
    } = &**revocation;
    digest.update(key);
    let rest = (
        lookup,
        id(*anonymous),
        group_by,
        mode,
        ttl,
        http_timeout,
        ssl_verify,
        http_proxy,
        https_proxy,
        resumption,
    );
    text(digest, &format!("{rest:?}"));
}

pub(super) fn text(digest: &mut Sha256, text: &str) {
    number(digest, text.len());
    digest.update(text.as_bytes());
}

pub(super) fn number(digest: &mut Sha256, number: usize) {
    digest.update(&(number as u64).to_be_bytes());
}
