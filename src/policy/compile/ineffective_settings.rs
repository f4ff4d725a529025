//! Warnings about settings that have no effect, or not the intended one, in combination with
//! others.

use super::plugins::{CompiledPlugin, Plugins};
use super::scopes::{Scopes, Slots};
use super::server_names::ServerNames;
use crate::handshake::server_name::Pattern;
use crate::headers::{DialectConfig, VerifyResult};
use crate::policy::document::{Document, Plugin, PluginConfig, PluginKind, Route};
use crate::policy::report::{Path, Report};
use crate::policy::token_auth::ProofOfPossession;
use crate::text::quoted;

/// Warns about routes and services whose plugins, snis and hosts do not fit together.
pub(super) fn warn_about_ineffective_settings(
    document: &Document<'_>,
    scopes: &Scopes,
    plugins: &Plugins<'_>,
    names: &mut ServerNames<'_>,
    report: &mut Report,
) {
    for (position, route) in document.routes.iter().enumerate() {
        let slots = scopes.effective(position);
        let path = Path::Compact(&route.location.path);
        let from_inbound_header = plugins.certificate_header(&slots).is_some();
        let has_certificate =
            from_inbound_header || plugins.contributions_of(&slots).next().is_some();
        let mut not_global = slots;
        for (slot, global) in not_global.iter_mut().zip(scopes.global) {
            *slot = slot.filter(|_| *slot != global);
        }
        let adds_request = plugins.contributions_of(&not_global).next().is_some();
        if adds_request && route.snis.is_empty() {
            report.warn(
                "routes without snis that request a certificate",
                route.location.position,
                &path,
                || "has no snis, so every TLS handshake requests a client certificate".to_owned(),
            );
        }
        let forwards = slots[PluginKind::TlsMetadataHeaders as usize].is_some()
            || slots[PluginKind::ClientCertHeaders as usize].is_some();
        let from_header = plugins
            .token_auth(&slots)
            .is_some_and(|token_auth| token_auth.certificate_header.is_some());
        if forwards && from_header && slots[PluginKind::MtlsAuth as usize].is_some() {
            report.warn("certificates that are the proxy's", route.location.position, &path, || {
                "has mtls-auth, openid-connect with a certificate from a header, and a plugin that \
                 forwards the certificate that mtls-auth verifies, which is the proxy's; expected \
                 header-cert-auth in place of mtls-auth, to forward that of the header"
                    .to_owned()
            });
        }
        if let (false, Some(token_auth)) = (has_certificate, plugins.token_auth(&slots)) {
            if token_auth.proof_of_possession != ProofOfPossession::Off
                && token_auth.certificate_header.is_none()
            {
                report.warn(
                    "routes without a plugin that requests a certificate",
                    route.location.position,
                    &path,
                    || {
                        "has openid-connect with proof_of_possession_mtls but neither mtls-auth \
                         nor tls-handshake-modifier nor a certificate from a header, so no client \
                         certificate is requested to compare with the token"
                            .to_owned()
                    },
                );
            }
        }
        let is_open = slots.iter().all(Option::is_none) && document.disabled.is_empty();
        if is_open && !route.snis.is_empty() {
            report.warn(
                "routes with snis and without plugins",
                route.location.position,
                &path,
                || {
                    "has snis but no plugin of resty-mtls applies to it, so it is open to every \
                     client"
                        .to_owned()
                },
            );
        }
        warn_about_uncovered_hosts(route, &slots, plugins, names, report);
        let compiled = |kind: PluginKind| plugins.compiled(not_global[kind as usize]?);
        let forwarding = match (
            compiled(PluginKind::TlsMetadataHeaders),
            compiled(PluginKind::ClientCertHeaders),
        ) {
            (Some(CompiledPlugin::TlsMetadataHeaders(config)), _) if config.inject => {
                Some(PluginKind::TlsMetadataHeaders)
            }
            (_, Some(CompiledPlugin::ClientCertHeaders(_))) => Some(PluginKind::ClientCertHeaders),
            _ => None,
        };
        if let (false, Some(kind)) = (has_certificate, forwarding) {
            report.warn(
                "routes without a plugin that requests a certificate",
                route.location.position,
                &path,
                || {
                    format!(
                        "has {} but neither mtls-auth nor tls-handshake-modifier, so the \
                     certificate that it forwards is not requested",
                        kind.name()
                    )
                },
            );
        }
        let excludes_unverified = |selection: &&DialectConfig| {
            !selection
                .options
                .includes_certificate(VerifyResult::NotVerified)
        };
        if let (None, true, Some(CompiledPlugin::ClientCertHeaders(config))) = (
            plugins.auth(&slots),
            has_certificate,
            compiled(PluginKind::ClientCertHeaders),
        ) {
            if let Some(selection) = config.selections.iter().find(excludes_unverified) {
                report.warn(
                    "routes that verify nothing",
                    route.location.position,
                    &path,
                    || {
                        format!(
                        "has no mtls-auth, so the dialect '{}' never forwards a certificate there; \
                         expected mtls-auth, or 'when: presented' for upstreams that verify it \
                         themselves",
                        selection.dialect.name()
                    )
                    },
                );
            }
        }
    }
    for (service, slots) in scopes.services_without_routes() {
        let location = document
            .services
            .get(service)
            .map(|service| &service.location);
        if let (Some(location), Some(_)) = (location, plugins.contributions_of(slots).next()) {
            report.warn(
                "services without routes that request a certificate",
                location.position,
                &Path::Compact(&location.path),
                || "has no routes, so every TLS handshake requests a client certificate".to_owned(),
            );
        }
    }
    let includes_consumer_groups = |plugin: &Plugin<'_>| matches!(&plugin.config, PluginConfig::Acl(acl) if acl.include_consumer_groups);
    if let Some((place, section)) = document.unread_members {
        if document.plugins.iter().any(includes_consumer_groups) {
            report.error(
                place,
                &Path::ROOT.field(section),
                "members of consumer groups are read from 'groups' of a consumer only, and an acl \
                 with 'include_consumer_groups' depends on them",
            );
        }
    }
}

/// Warns about hosts of a route with `mtls-auth` for which no certificate is requested.
fn warn_about_uncovered_hosts(
    route: &Route<'_>,
    slots: &Slots,
    plugins: &Plugins<'_>,
    names: &mut ServerNames<'_>,
    report: &mut Report,
) {
    let auth = slots[PluginKind::MtlsAuth as usize].and_then(|auth| plugins.contribution(auth));
    let Some(auth) = auth else {
        return;
    };
    for (index, (host, place)) in route.hosts.iter().enumerate() {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        // Kong's `example.*` is not a pattern of an SNI map: only `*` covers it.
        let pattern = Pattern::parse(name.as_bytes()).unwrap_or(Pattern::Any);
        let set = names.effective(&pattern, names.own(&pattern));
        if names.sets.members(set).binary_search(&auth).is_err() {
            let path = Path::Compact(&route.location.path);
            let path = path.field("hosts");
            report.warn(
                "hosts without a server name that requests a certificate",
                *place,
                &path.item(index),
                || {
                    format!(
                        "no sni of the route covers the host '{}': no certificate \
                     for this route is requested under that name, and its clients get 421 or 401",
                        quoted(host.as_bytes())
                    )
                },
            );
        }
    }
}
