//! Plugins that cannot apply to the same route, or not without another one.

use super::scopes::Scopes;
use crate::policy::document::{Document, PluginKind};
use crate::policy::report::{Path, Report};

/// Reports `header-cert-auth` together with `mtls-auth`, and `acl`, `client-cert-acl` and
/// `client-cert-lists` without either. Each plugin is reported once. An `acl` may be that of another
/// authentication of Kong's, so it is a warning; its routes are closed.
pub(super) fn refuse_conflicts(document: &Document<'_>, scopes: &Scopes, report: &mut Report) {
    let mut reported = vec![false; document.plugins.len()];
    let mut warned = reported.clone();
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
            let by_others =
                kind == PluginKind::Acl && slots[PluginKind::OpenidConnect as usize].is_none();
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
