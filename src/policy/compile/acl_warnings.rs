//! Warnings about `acl` and `client-cert-acl`: names that several CAs may issue, and groups without
//! consumers.

use std::collections::HashSet;
use std::sync::Arc;

use openssl::x509::X509;

use super::plugins::Plugins;
use super::scopes::{Scopes, Slots};
use crate::certificate::digest;
use crate::identity::Acl;
use crate::policy::document::{Document, Plugin, PluginConfig, PluginKind};
use crate::policy::report::{Path, Report};
use crate::policy::{Auth, GroupBy, Map};
use crate::text::quoted;
use crate::trust::CaCertificate;

/// Most CAs that a warning names.
const MAX_NAMED: usize = 4;

/// The kinds of groups that an `acl` is compared with, over all routes.
#[derive(Clone, Copy, Default)]
struct Groups {
    of_consumers: bool,
    of_certificates: bool,
}

pub(super) fn warn_about_acls(
    document: &Document<'_>,
    scopes: &Scopes,
    plugins: &Plugins<'_>,
    report: &mut Report,
) {
    let mut seen: HashSet<(usize, usize)> = HashSet::new();
    let mut warned: HashSet<(usize, [u8; 32])> = HashSet::new();
    let mut chains: Map<[u8; 32], bool> = Map::default();
    let mut groups: Vec<Groups> = vec![Groups::default(); document.plugins.len()];
    let routes = (0..document.routes.len()).map(|route| scopes.effective(route));
    for slots in std::iter::once(scopes.global).chain(routes) {
        let by_token = plugins
            .token_auth(&slots)
            .is_some_and(|token| token.consumer.is_some());
        let acl = slots[PluginKind::Acl as usize].filter(|_| by_token);
        if let Some(groups) = acl.and_then(|acl| groups.get_mut(acl)) {
            groups.of_consumers = true;
        }
        let (Some(source), Some(auth)) = (auth_plugin(&slots), plugins.auth(&slots)) else {
            continue;
        };
        for kind in [PluginKind::Acl, PluginKind::ClientCertAcl] {
            let Some(position) = slots[kind as usize] else {
                continue;
            };
            if !seen.insert((position, source)) {
                continue;
            }
            if let (PluginKind::Acl, Some(groups)) = (kind, groups.get_mut(position)) {
                groups.of_consumers |= auth.lookup.is_some();
                groups.of_certificates |= auth.lookup.is_none() && auth.group_by.is_some();
            }
            if auth.trust_domains.is_empty() {
                if let Some(plugin) = document.plugins.get(position) {
                    refuse_rules_without_trust_domain(plugin, report);
                }
            }
            let digest = auth.revocation.key;
            let one_chain = *chains
                .entry(digest)
                .or_insert_with(|| form_one_chain(&all_cas(auth)));
            if let (false, Some(plugin)) = (one_chain, document.plugins.get(position)) {
                if !warned.contains(&(position, digest))
                    && warn_about_several_cas(plugin, auth, report)
                {
                    warned.insert((position, digest));
                }
            }
        }
    }
    for (plugin, groups) in document.plugins.iter().zip(groups) {
        if let (PluginConfig::Acl(acl), true, false) =
            (&plugin.config, groups.of_consumers, groups.of_certificates)
        {
            warn_about_empty_groups(document, plugin, acl, report);
        }
    }
}

/// The position of the plugin that verifies certificates.
fn auth_plugin(slots: &Slots) -> Option<usize> {
    slots[PluginKind::MtlsAuth as usize].or(slots[PluginKind::HeaderCertAuth as usize])
}

/// Warns about a rule on names that each of several CAs may issue. Returns whether it did.
fn warn_about_several_cas(plugin: &Plugin<'_>, auth: &Auth, report: &mut Report) -> bool {
    let path = Path::Compact(&plugin.location.path);
    let path = path.field("config");
    let path = path.field("allow");
    let (index, what) = match &plugin.config {
        PluginConfig::ClientCertAcl(rules) => {
            let by_names = |rule: &crate::identity::Rule| {
                rule.condition.depends_on_names() && !rule.condition.is_tied()
            };
            match rules.allow.iter().position(by_names) {
                Some(index) => (index, "the rule allows by names of the certificate"),
                None => return false,
            }
        }
        PluginConfig::Acl(acl) if auth.lookup.is_none() && !acl.allow.is_empty() => {
            match auth.group_by {
                Some(GroupBy::Cn) => (0, "the group is the CN of the certificate"),
                Some(GroupBy::Dn) => (0, "the group is the subject of the certificate"),
                None => return false,
            }
        }
        _ => return false,
    };
    report.warn(
        "rules on names that several CAs may issue",
        plugin.location.position,
        &path.item(index),
        || {
            let cas = all_cas(auth);
            let mut named: Vec<String> = cas
                .iter()
                .take(MAX_NAMED)
                .map(|ca| format!("'{}'", quoted(ca.subject().as_bytes())))
                .collect();
            if cas.len() > MAX_NAMED {
                named.push(format!("{} more", cas.len() - MAX_NAMED));
            }
            format!(
                "{what}, and each of several CAs that are not in one chain may issue such a \
                 certificate: {}; expected one CA and those below it in 'ca_certificates' of the \
                 route, or 'ca', 'sha256' or 'spki_sha256' in addition to the names",
                named.join(", ")
            )
        },
    );
    true
}

/// Reports rules on SPIFFE IDs where no trust domain verifies them: they would never hold, also
/// under `deny`.
fn refuse_rules_without_trust_domain(plugin: &Plugin<'_>, report: &mut Report) {
    let PluginConfig::ClientCertAcl(rules) = &plugin.config else {
        return;
    };
    let path = Path::Compact(&plugin.location.path);
    let path = path.field("config");
    for (field, list) in [("allow", &rules.allow), ("deny", &rules.deny)] {
        let path = path.field(field);
        for (index, rule) in list.iter().enumerate() {
            if rule.condition.needs_trust_domain() {
                report.error(
                    plugin.location.position,
                    &path.item(index),
                    "'trust_domain' and 'spiffe_id' never hold on a route of the plugin, expected \
                     'trust_domains' in the 'mtls-auth' or 'header-cert-auth' of each of its routes",
                );
            }
        }
    }
}

/// The CAs of all trust stores of a route.
fn all_cas(auth: &Auth) -> Vec<Arc<CaCertificate>> {
    auth.stores()
        .flat_map(|store| store.cas().iter().cloned())
        .collect()
}

/// Whether the CAs form one chain: all but one are issued by another of them, and each issues at
/// most one. CAs with the same subject and key count as one.
fn form_one_chain(cas: &[Arc<CaCertificate>]) -> bool {
    let mut one_each: Map<([u8; 32], [u8; 32]), &X509> = Map::default();
    for ca in cas {
        let x509 = ca.x509();
        let key = x509.public_key().and_then(|key| key.public_key_to_der());
        let (Ok(name), Ok(key)) = (x509.subject_name().to_der(), key) else {
            return false;
        };
        one_each
            .entry((digest(&name), digest(&key)))
            .or_insert(x509);
    }
    let cas: Vec<&X509> = one_each.into_values().collect();
    let mut roots = 0;
    let mut issuers: HashSet<usize> = HashSet::new();
    for (index, ca) in cas.iter().enumerate() {
        let issuer = cas.iter().enumerate().position(|(other, issuer)| {
            other != index
                && issuer.subject_name().to_der().ok() == ca.issuer_name().to_der().ok()
                && issuer
                    .public_key()
                    .and_then(|key| ca.verify(&key))
                    .unwrap_or(false)
        });
        match issuer {
            Some(issuer) if !issuers.insert(issuer) => return false,
            Some(_) => {}
            None => roots += 1,
        }
        if roots > 1 {
            return false;
        }
    }
    true
}

/// Warns about groups without consumers.
fn warn_about_empty_groups(
    document: &Document<'_>,
    plugin: &Plugin<'_>,
    acl: &Acl,
    report: &mut Report,
) {
    let mut with_consumers: HashSet<&str> =
        document.groups.iter().map(|group| group.name).collect();
    let consumers = document.consumers.iter();
    let consumer_groups: HashSet<&str> = consumers
        .flat_map(|consumer| consumer.consumer_groups.iter().copied())
        .collect();
    if acl.include_consumer_groups {
        with_consumers.extend(&consumer_groups);
    }
    for (field, groups) in [("allow", &acl.allow), ("deny", &acl.deny)] {
        for (index, group) in groups.iter().enumerate() {
            if with_consumers.contains(&**group) {
                continue;
            }
            let meant = match consumer_groups.contains(&**group) {
                true => ", but in the consumer group of this name, which counts with \
                         'include_consumer_groups: true'"
                    .to_owned(),
                false => report.did_you_mean(group, with_consumers.iter().copied()),
            };
            let path = Path::Compact(&plugin.location.path);
            let path = path.field("config");
            let path = path.field(field);
            report.warn(
                "groups without consumers",
                plugin.location.position,
                &path.item(index),
                || {
                    let group = quoted(group.as_bytes());
                    format!("no consumer is in the group '{group}'{meant}")
                },
            );
        }
    }
}
