//! Refuses routes that would let in every holder of a certificate of a public CA.

use super::consumers::ConsumerIndex;
use super::scopes::{Scopes, Slots};
use crate::identity::Acl;
use crate::policy::document::{Document, Enforcement, MtlsAuth, PluginConfig, PluginKind};
use crate::policy::report::{Path, Report};
use crate::trust::ClientAuthEku;

/// Reports plugins with another `client_auth_eku` than `required` on a route where nothing but the
/// chain is required of a certificate. A certificate with serverAuth only shows that its holder has
/// a DNS name. Each plugin is reported once.
pub(super) fn refuse_unlimited_eku(
    document: &Document<'_>,
    scopes: &Scopes,
    consumers: &ConsumerIndex<'_>,
    report: &mut Report,
) {
    let mut reported = vec![false; document.plugins.len()];
    let routes = document.routes.iter().enumerate().map(|(position, route)| {
        (
            scopes.effective(position),
            Path::Compact(&route.location.path),
        )
    });
    let services = scopes
        .services_without_routes()
        .filter_map(|(service, slots)| {
            let service = document.services.get(service)?;
            Some((*slots, Path::Compact(&service.location.path)))
        });
    let global = std::iter::once((scopes.global, Path::Text("a request without a route")));
    for (slots, place) in global.chain(routes).chain(services) {
        for kind in [PluginKind::MtlsAuth, PluginKind::HeaderCertAuth] {
            let Some(position) = slots[kind as usize] else {
                continue;
            };
            let (Some(plugin), Some(reported)) =
                (document.plugins.get(position), reported.get_mut(position))
            else {
                continue;
            };
            let config = match &plugin.config {
                PluginConfig::MtlsAuth(config) => config,
                PluginConfig::HeaderCertAuth(config) => &config.auth,
                _ => continue,
            };
            let value = match config.options.client_auth_eku {
                ClientAuthEku::Required => continue,
                ClientAuthEku::AllowServerAuth => "allow_server_auth",
                ClientAuthEku::Any => "any",
            };
            if *reported
                || limits_clients(config)
                || allows_some(document, &slots, plugin.enforcement, config, consumers)
            {
                continue;
            }
            *reported = true;
            let path = Path::Compact(&plugin.location.path);
            let path = path.field("config");
            let message = format!(
                "'{value}' lets in every holder of a certificate of the CAs at {place}, of public \
                 CAs every owner of a DNS name; expected consumers (without skip_consumer_lookup \
                 and default_consumer), or acl, client-cert-acl or client-cert-lists with 'allow' \
                 and without enforce: report, in client-cert-acl by subject, san, spiffe_id or \
                 digest"
            );
            report.error(
                plugin.location.position,
                &path.field("client_auth_eku"),
                message,
            );
        }
    }
}

/// Whether only certificates that map to a consumer are accepted, or no CA is trusted but pinned
/// certificates alone.
fn limits_clients(config: &MtlsAuth<'_>) -> bool {
    let maps = !config.skip_consumer_lookup && config.default_consumer.is_none();
    maps || config.cas.is_empty() && config.trust_domains.is_empty()
}

/// Whether another plugin accepts some certificates only. One that denies some accepts the others,
/// and so does an `acl` with a group of the consumer of all others. One with `enforce: report`
/// accepts all, which matters only if the authentication enforces.
fn allows_some(
    document: &Document<'_>,
    slots: &Slots,
    authentication: Enforcement,
    config: &MtlsAuth<'_>,
    consumers: &ConsumerIndex<'_>,
) -> bool {
    let plugins = slots.iter().flatten();
    let plugins = plugins.filter_map(|plugin| document.plugins.get(*plugin));
    let mut plugins = plugins.filter(|plugin| {
        authentication == Enforcement::Report || plugin.enforcement == Enforcement::Enforce
    });
    plugins.any(|plugin| match &plugin.config {
        PluginConfig::Acl(acl) => {
            !acl.allow.is_empty() && !allows_default_consumer(acl, config, consumers)
        }
        PluginConfig::ClientCertAcl(rules) => {
            let mut allow = rules.allow.iter();
            !rules.allow.is_empty() && allow.all(|rule| rule.condition.limits_holders())
        }
        PluginConfig::ClientCertLists(lists) => !lists.allow.is_empty(),
        _ => false,
    })
}

/// Whether an `acl` allows the consumer of certificates that map to no other one.
fn allows_default_consumer(
    acl: &Acl,
    config: &MtlsAuth<'_>,
    consumers: &ConsumerIndex<'_>,
) -> bool {
    if config.skip_consumer_lookup {
        return false;
    }
    let Some((name, ..)) = config.default_consumer else {
        return false;
    };
    let found = consumers.consumers.by_id_or_username(name);
    // An unknown consumer is reported elsewhere.
    let Some(consumer) = found.and_then(|index| consumers.consumers.get(index)) else {
        return false;
    };
    let counted = match acl.include_consumer_groups {
        true => &consumer.consumer_groups[..],
        false => &[],
    };
    let mut groups = consumer.groups.iter().chain(counted);
    groups.any(|group| acl.allow.contains(group))
}
