//! Plugins that cannot apply to the same route, or not without another one.

use super::scopes::{Scopes, Slots};
use crate::policy::document::{Document, Plugin, PluginConfig, PluginKind};
use crate::policy::report::{Path, Report};

/// Reports `header-cert-auth` together with `mtls-auth`, and `acl`, `client-cert-acl` and
/// `client-cert-lists` without either. Each plugin is reported once. An `acl` may be that of another
/// authentication of Kong's, so it is a warning; its routes are closed.
pub(super) fn refuse_conflicts(document: &Document<'_>, scopes: &Scopes, report: &mut Report) {
    let mut reported = vec![false; document.plugins.len()];
    let mut warned = reported.clone();
    let mut groups = reported.clone();
    let routes = document.routes.iter().enumerate().map(|(position, route)| {
        (
            scopes.effective(position),
            Path::Compact(&route.location.path),
        )
    });
    for (slots, place) in
        std::iter::once((scopes.global, Path::Text("a request without a route"))).chain(routes)
    {
        if let (Some(_), Some(position)) = (
            slots[PluginKind::MtlsAuth as usize],
            slots[PluginKind::HeaderCertAuth as usize],
        ) {
            let reported = reported
                .get_mut(position)
                .map(|reported| std::mem::replace(reported, true));
            if let (Some(plugin), Some(false)) = (document.plugins.get(position), reported) {
                let message = format!(
                    "applies to {place} together with mtls-auth, expected one source of the \
                     certificate on a route"
                );
                report.error(
                    plugin.location.position,
                    &Path::Compact(&plugin.location.path),
                    message,
                );
            }
        }
        refuse_groups_of_tokens(document, &slots, report, &mut groups);
        if slots[PluginKind::MtlsAuth as usize].is_some()
            || slots[PluginKind::HeaderCertAuth as usize].is_some()
        {
            continue;
        }
        for kind in [
            PluginKind::Acl,
            PluginKind::ClientCertAcl,
            PluginKind::ClientCertLists,
        ] {
            let Some(position) = slots[kind as usize] else {
                continue;
            };
            let token = slots[PluginKind::OpenidConnect as usize];
            let token = token.and_then(|plugin| document.plugins.get(plugin));
            if kind == PluginKind::Acl && token.is_some_and(maps_to_consumers) {
                continue;
            }
            let by_others = kind == PluginKind::Acl && token.is_none();
            let reported = match by_others {
                true => warned.get_mut(position),
                false => reported.get_mut(position),
            };
            let (Some(plugin), Some(reported)) = (document.plugins.get(position), reported) else {
                continue;
            };
            if std::mem::replace(reported, true) {
                continue;
            }
            if by_others {
                report.warn(
                    "acls without authentication",
                    plugin.location.position,
                    &Path::Compact(&plugin.location.path),
                    || {
                        format!(
                            "applies to {place}, where no plugin of resty-mtls authenticates \
                             clients: the authentication of other plugins of Kong's has no effect \
                             here, so every request there is refused with 401"
                        )
                    },
                );
            } else {
                let message = format!(
                    "applies to {place} without mtls-auth, so no client would be authenticated \
                     there; \
                     expected mtls-auth or header-cert-auth wherever {} applies",
                    kind.name()
                );
                report.error(
                    plugin.location.position,
                    &Path::Compact(&plugin.location.path),
                    message,
                );
            }
        }
    }
}

/// Whether it is an `openid-connect` that maps tokens to consumers.
fn maps_to_consumers(plugin: &Plugin<'_>) -> bool {
    matches!(&plugin.config, PluginConfig::OpenidConnect(config) if config.consumer.is_some())
}

/// Reports `authenticated_groups_claim` beside an `acl`, which does not see those groups here.
fn refuse_groups_of_tokens(
    document: &Document<'_>,
    slots: &Slots,
    report: &mut Report,
    reported: &mut [bool],
) {
    let (Some(_), Some(position)) = (
        slots[PluginKind::Acl as usize],
        slots[PluginKind::OpenidConnect as usize],
    ) else {
        return;
    };
    let (Some(plugin), Some(reported)) =
        (document.plugins.get(position), reported.get_mut(position))
    else {
        return;
    };
    let PluginConfig::OpenidConnect(config) = &plugin.config else {
        return;
    };
    if let (Some(place), false) = (config.authenticated_groups, *reported) {
        *reported = true;
        let path = Path::Compact(&plugin.location.path);
        let path = path.field("config");
        report.error(
            place,
            &path.field("authenticated_groups_claim"),
            "is not supported beside 'acl', expected groups of consumers and 'consumer_claims', or \
             'groups_required'",
        );
    }
}
