//! The digest of a compiled plan. It depends on the content, not on how the document is written.

use openssl::sha::Sha256;

use super::consumers::ConsumerIndex;
use super::digest::{update_number, update_text};
use crate::policy::{Auth, ConsumerLookup, Plan, RevocationSettings};

/// The digest of `plan` and of its [`Plan::certificate_plan`].
pub(super) fn plan_digest(
    plan: &Plan,
    certificate_plan: Option<&Plan>,
    consumers: &ConsumerIndex<'_>,
) -> [u8; 32] {
    let mut digest = Sha256::new();
    update_plan(&mut digest, plan, consumers);
    if let Some(plan) = certificate_plan {
        update_plan(&mut digest, plan, consumers);
    }
    digest.finish()
}

/// Lists all fields by name. Plans with the same digest become one plan, so a field that is missing
/// here would be taken from the plan of another route.
fn update_plan(digest: &mut Sha256, plan: &Plan, consumers: &ConsumerIndex<'_>) {
    let Plan {
        auth,
        certificate_header,
        token_auth,
        // `plan_digest` adds the content of that plan.
        certificate_plan: _,
        acl,
        rules,
        lists,
        upstream_headers,
        has_plugins,
        plugins,
        report_only,
        modifies_handshake,
        passes_preflight,
    } = plan;
    digest.update(&[
        (*has_plugins).into(),
        (*modifies_handshake).into(),
        (*passes_preflight).into(),
        auth.is_some().into(),
    ]);
    digest.update(&plugins.bits().to_be_bytes());
    if let Some(auth) = auth {
        update_auth(digest, auth, consumers);
    }
    update_text(digest, &format!("{acl:?} {rules:?} {lists:?}"));
    update_text(digest, &format!("{upstream_headers:?} {report_only:?}"));
    update_text(digest, &format!("{certificate_header:?} {token_auth:?}"));
}

fn update_auth(digest: &mut Sha256, auth: &Auth, consumers: &ConsumerIndex<'_>) {
    let Auth {
        store,
        trust_domains,
        has_cas,
        lookup,
        anonymous,
        group_by,
        revocation,
        resumption,
    } = auth;
    digest.update(store.verdict_key());
    digest.update(&[(*has_cas).into()]);
    update_number(digest, trust_domains.len());
    for domain in trust_domains.iter() {
        update_text(digest, &domain.name);
        digest.update(domain.store.verdict_key());
    }
    let id = |consumer: Option<u32>| {
        let consumer = consumers.consumers.get(consumer?)?;
        Some(consumer.id.clone())
    };
    let lookup = lookup.as_ref().map(|lookup| {
        let ConsumerLookup {
            by,
            default,
            header,
            dirname,
            upn,
        } = lookup;
        (by, id(*default), header, dirname, upn)
    });
    let RevocationSettings {
        mode,
        ttl,
        http_timeout,
        status_wait,
        ocsp_max_age,
        ssl_verify,
        http_proxy,
        https_proxy,
        max_crl_bytes,
        // `key` covers them, and the store.
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
        (status_wait, ocsp_max_age),
        ssl_verify,
        http_proxy,
        https_proxy,
        max_crl_bytes,
        resumption,
    );
    update_text(digest, &format!("{rest:?}"));
}
