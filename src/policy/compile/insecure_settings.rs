//! Warnings about insecure settings: headers that any client may send, tokens that may be forged,
//! plugins that do not refuse.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::scopes::Slots;
use crate::inbound::AllowedPeers;
use crate::policy::document::{self, Document, Enforcement, Location, Plugin, PluginKind};
use crate::policy::report::{Path, Report};
use crate::policy::token_auth::ClientAuthMethod;
use crate::policy::{Map, Plan};

/// What applies beside a plugin that authenticates and has `enforce: report`.
#[derive(Default)]
struct Beside {
    /// Whether its refusals pass on a route.
    passes: bool,
    /// The plugins for which they do not, on other routes.
    enforcing: BTreeSet<&'static str>,
}

/// Warns about plugins that do not refuse. `plans` are all plans with their plugins.
pub(super) fn warn_about_reports<'p>(
    document: &Document<'_>,
    plans: impl Iterator<Item = (&'p Slots, &'p Plan)>,
    report: &mut Report,
) {
    let mut beside: Map<usize, Beside> = Map::default();
    for (slots, plan) in plans.filter(|(_, plan)| plan.report_only.authentication) {
        for kind in [PluginKind::MtlsAuth, PluginKind::HeaderCertAuth] {
            if let Some(plugin) = slots[kind as usize] {
                let found = beside.entry(plugin).or_default();
                found.passes |= plan.passes_unauthenticated();
                found.enforcing.extend(plan.enforcing_authorization());
            }
        }
    }
    for (position, plugin) in document.plugins.iter().enumerate() {
        if plugin.enforcement == Enforcement::Report {
            let beside = beside.remove(&position).unwrap_or_default();
            warn_about_report(plugin, &beside, report);
        }
    }
}

fn warn_about_report(plugin: &Plugin<'_>, beside: &Beside, report: &mut Report) {
    let path = Path::Compact(&plugin.location.path);
    let path = path.field("config");
    let kind = plugin.config.kind().name();
    let enforcing = || {
        let names: Vec<_> = beside.enforcing.iter().copied().collect();
        names.join(", ")
    };
    report.warn(
        "plugins that do not refuse",
        plugin.location.position,
        &path.field("enforce"),
        || match (beside.passes, beside.enforcing.is_empty()) {
            (_, true) => format!(
                "is report: requests that {kind} would refuse pass; expected enforce, once no \
                 client of yours would be refused"
            ),
            (true, false) => format!(
                "is report: requests that {kind} would refuse pass, except where a plugin beside \
                 it enforces and needs an authenticated client: {}; expected enforce, once no \
                 client of yours would be refused",
                enforcing()
            ),
            (false, false) => format!(
                "is report, but requests that {kind} would refuse are still refused, since a \
                 plugin beside it enforces and needs an authenticated client: {}; expected report \
                 there too, or enforce here",
                enforcing()
            ),
        },
    );
}

/// Warns about a certificate header that any client may send, or that no peer may send.
pub(super) fn warn_about_source(
    config: &document::HeaderCertAuth<'_>,
    location: &Location,
    path: &Path<'_>,
    report: &mut Report,
) {
    match config
        .certificate_header
        .as_ref()
        .map(|header| header.allowed_peers)
    {
        Some(AllowedPeers::Trusted) => {
            report.warn_untrusted_source(location.position, &path.field("certificate_header_name"));
        }
        Some(AllowedPeers::Anyone) => report.warn(
            "headers that any client may send",
            location.position,
            &path.field("secure_source"),
            || {
                "is false: any client of this gateway may present any certificate, without its \
                 key; expected true, and the proxies in 'trusted_ips' of mtls.init"
                    .to_owned()
            },
        ),
        None => {}
    }
}

/// Warns about tokens of any audience, and about tokens that an attacker on the network can forge.
pub(super) fn warn_about_tokens(
    config: &document::OpenidConnect<'_>,
    location: &Location,
    path: &Path<'_>,
    report: &mut Report,
) {
    if config.expected.audience.is_empty() {
        report.warn(
            "routes for tokens of any audience",
            location.position,
            path,
            || {
                "has no 'audience_required': any token of the issuer is accepted, whatever its \
                 audience; expected \
                 the audience that the issuer gives tokens for this API"
                    .to_owned()
            },
        );
    }
    let endpoint = config.introspection_endpoint.as_deref();
    let extra = config.extra_jwks_uris.iter().map(|url| &**url);
    for (field, url) in [
        ("issuer", Some(&*config.issuer)),
        ("introspection_endpoint", endpoint),
        ("jwks_endpoint", config.jwks_endpoint.as_deref()),
        (
            "extra_jwks_uris",
            extra.into_iter().find(|url| is_remote_http(url)),
        ),
    ] {
        if url.is_some_and(is_remote_http) {
            report.warn(
                "issuers over http",
                location.position,
                &path.field(field),
                || {
                    "is http: an attacker on the network path can forge its documents, and with \
                     them tokens; expected https"
                        .to_owned()
                },
            );
        }
    }
    let by_certificate = config
        .client
        .as_ref()
        .filter(|_| config.methods.introspection);
    let by_certificate = by_certificate
        .filter(|client| client.auth == ClientAuthMethod::Tls)
        .and_then(|client| client.certificate.as_ref());
    if by_certificate.is_some_and(|certificate| !certificate.ssl_verify) {
        report.warn(
            "introspection endpoints that are not verified",
            location.position,
            &path.field("tls_client_auth_ssl_verify"),
            || {
                "is false: an attacker on the network path can forge introspection responses; \
                 expected true, and the CA of the endpoint in lua_ssl_trusted_certificate"
                    .to_owned()
            },
        );
    }
    if !config.ssl_verify {
        report.warn(
            "issuers that are not verified",
            location.position,
            &path.field("ssl_verify"),
            || {
                "is false: an attacker on the network path can forge documents of the issuer, \
                 and with them tokens; expected true, and its CA in lua_ssl_trusted_certificate"
                    .to_owned()
            },
        );
    }
}

/// Whether a URL is http and leaves this machine.
fn is_remote_http(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default().trim_end_matches('.');
    let host = host.to_ascii_lowercase();
    let loopback = match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    };
    !loopback
}
