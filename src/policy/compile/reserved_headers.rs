//! The request headers that a policy reserves for the gateway, and those that it reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::upstream_headers::certificate_holder_headers;
use crate::headers::{kong, Dialect, DialectConfig, DialectOptions, ReservedHeaders};
use crate::policy::certificate_header::CertificateHeader;
use crate::policy::document::{Document, Plugin, PluginConfig};
use crate::policy::report::{Path, Report};
use crate::policy::Plan;
use crate::text::quoted;

/// The names of headers that only the gateway may set, on any route, and the prefixes of further
/// names. Disabled plugins reserve their headers too.
pub(super) fn reserved_headers<'a>(
    document: &'a Document<'_>,
) -> (BTreeSet<String>, BTreeSet<&'a str>) {
    reserved_by(document.plugins.iter().chain(&document.disabled))
}

/// Reports headers for tokens that a plugin, also of another route, reserves: they are removed from
/// every request, so no request would have a token.
pub(super) fn refuse_reserved_token_headers(
    document: &Document<'_>,
    reserved: &ReservedHeaders,
    report: &mut Report,
) {
    for plugin in &document.plugins {
        let PluginConfig::OpenidConnect(config) = &plugin.config else {
            continue;
        };
        let header = config.token_header.as_deref();
        let Some(header) = header.filter(|header| reserved.contains(header.as_bytes())) else {
            continue;
        };
        let mut others = document.plugins.iter().chain(&document.disabled);
        let other = others.find(|other| {
            let (names, prefixes) = reserved_by(std::iter::once(*other));
            let names = names.iter().map(String::as_str);
            ReservedHeaders::new(names, prefixes.into_iter()).contains(header.as_bytes())
        });
        let by = other.map(|other| {
            let place = report.place(other.location.position, &other.location.path);
            format!(" by {} at {place}", other.config.kind().name())
        });
        let message = format!(
            "the header '{}' is reserved{}: it is removed from every request, and the token with \
             it; expected a header for the token alone",
            quoted(header.as_bytes()),
            by.unwrap_or_default()
        );
        let path = Path::Compact(&plugin.location.path);
        let path = path.field("config");
        report.error(
            plugin.location.position,
            &path.field("bearer_token_header_name"),
            message,
        );
    }
}

fn reserved_by<'a, 't: 'a>(
    plugins: impl Iterator<Item = &'a Plugin<'t>>,
) -> (BTreeSet<String>, BTreeSet<&'a str>) {
    let mut set: BTreeSet<String> = BTreeSet::new();
    let mut inbound: BTreeSet<String> = BTreeSet::new();
    let mut prefixes: BTreeSet<&str> = BTreeSet::new();
    let mut dialects: Vec<Dialect> = Vec::new();
    let mut has_identity_headers = false;
    for plugin in plugins {
        let config = &plugin.config;
        match config {
            PluginConfig::MtlsAuth(_)
            | PluginConfig::HeaderCertAuth(_)
            | PluginConfig::Acl(_)
            | PluginConfig::ClientCertAcl(_)
            | PluginConfig::ClientCertLists(_) => {
                has_identity_headers = true;
                if let PluginConfig::HeaderCertAuth(config) = config {
                    inbound.extend(header_names(config.certificate_header.as_ref()));
                }
            }
            PluginConfig::OpenidConnect(config) => {
                has_identity_headers |= config.consumer.is_some() || config.anonymous.is_some();
                let from_header = config.from_header.as_ref();
                inbound.extend(header_names(
                    from_header.and_then(|config| config.certificate_header.as_ref()),
                ));
                set.extend(config.headers.iter().map(|(_, header)| header.to_string()));
            }
            PluginConfig::TlsMetadataHeaders(headers) => {
                set.extend(headers.selection.reserved_names())
            }
            PluginConfig::ClientCertHeaders(headers) => {
                for selection in &headers.selections {
                    set.extend(selection.reserved_names());
                    prefixes.extend(selection.dialect.reserved_prefix());
                    prefixes.extend(selection.reserved_prefixes());
                }
            }
            PluginConfig::TlsHandshakeModifier => {}
        }
    }
    if has_identity_headers {
        set.extend(certificate_holder_headers().possible_names());
        set.extend(kong::IDENTITY_HEADERS.map(str::to_owned));
    }
    // A header that is set under a name of another dialect: upstreams that read that dialect also
    // read its other headers, so these are reserved as well.
    for dialect in Dialect::ALL {
        let names = dialect.default_reserved_headers();
        if set.iter().any(|name| names.contains(name.as_bytes())) {
            dialects.push(dialect);
        }
    }
    for dialect in dialects {
        set.extend(DialectConfig::new(dialect, DialectOptions::default()).reserved_names());
        set.extend(
            dialect
                .other_reserved_names()
                .iter()
                .map(|name| (*name).to_owned()),
        );
        prefixes.extend(dialect.reserved_prefix());
    }
    set.append(&mut inbound);
    (set, prefixes)
}

/// The names of a certificate header.
fn header_names(header: Option<&CertificateHeader>) -> impl Iterator<Item = String> + '_ {
    header
        .into_iter()
        .flat_map(|header| header.names().map(str::to_owned))
}

/// The names of inbound headers that some route reads.
pub(super) fn inbound_headers(plans: &[Arc<Plan>]) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for plan in plans {
        if let Some(selection) = plan.upstream_headers.xfcc_forwarded() {
            names.extend(selection.header_names().map(Box::from));
        }
        let headers = plan.certificate_header.iter();
        names.extend(headers.flat_map(CertificateHeader::names).map(Box::from));
    }
    names.sort_unstable();
    names.dedup();
    names
}
