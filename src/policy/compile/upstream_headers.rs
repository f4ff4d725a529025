//! What routes tell their upstreams, shared between routes with the same plugins.

use std::sync::Arc;

use super::plugins::{CompiledPlugin, Plugins};
use super::scopes::Slots;
use crate::headers::{kong, Dialect, DialectConfig, DialectOptions, ForwardWhen};
use crate::policy::document::{fold_header_name, Document, Plugin, PluginKind};
use crate::policy::report::{Path, Report};
use crate::policy::{Map, UpstreamHeaders};

/// The plugins that tell something, by position, and whether `mtls-auth` or its like does.
type ToldBy = ([Option<usize>; 3], bool);

/// What the routes tell, shared between routes with the same plugins.
pub(super) struct UpstreamHeadersBuilder<'a> {
    pub document: &'a Document<'a>,
    pub plugins: &'a Plugins<'a>,
    pub known: Map<ToldBy, Arc<UpstreamHeaders>>,
}

impl UpstreamHeadersBuilder<'_> {
    pub fn get(&mut self, slots: &Slots, report: &mut Report) -> Arc<UpstreamHeaders> {
        let headers = slots[PluginKind::TlsMetadataHeaders as usize];
        let cert_headers = slots[PluginKind::ClientCertHeaders as usize];
        let skip = self
            .plugins
            .auth(slots)
            .is_some_and(|auth| auth.lookup.is_none());
        let token = slots[PluginKind::OpenidConnect as usize];
        let key = ([headers, cert_headers, token], skip);
        if let Some(told) = self.known.get(&key) {
            return told.clone();
        }
        let mut told = UpstreamHeaders::default();
        let mut names = Vec::new();
        if skip {
            let selection = certificate_holder_headers();
            self.take(
                "mtls-auth with 'skip_consumer_lookup'",
                &selection,
                None,
                &mut names,
                report,
            );
            told.kong.push(selection);
        }
        let ready = |plugin: Option<usize>| self.plugins.ready(plugin?);
        if let Some(CompiledPlugin::Headers(config)) = ready(headers) {
            if config.inject {
                let selection = &config.selection;
                self.take(
                    "tls-metadata-headers",
                    selection,
                    headers,
                    &mut names,
                    report,
                );
                told.kong.push(config.selection.clone());
            }
        }
        if let Some(CompiledPlugin::ClientCertHeaders(config)) = ready(cert_headers) {
            for selection in &config.selections {
                self.take("", selection, cert_headers, &mut names, report);
            }
            told.dialects.clone_from(&config.selections);
            told.vary = config.vary;
            told.private = config.private;
        }
        let location = token.and_then(|token| self.document.plugins.get(token));
        if let (Some(token_auth), Some(Plugin { location, .. })) =
            (self.plugins.token_auth(slots), location)
        {
            for (_, header) in &token_auth.claim_headers {
                if let Some((_, other)) = names
                    .iter()
                    .find(|(other, _)| *other == fold_header_name(header))
                {
                    let other = match *other {
                        "" => "client-cert-headers",
                        other => other,
                    };
                    let message = format!(
                        "the header '{header}' is set by {other} on the same route, expected \
                         another name"
                    );
                    let path = Path::Compact(&location.path);
                    let path = path.field("config");
                    let path = path.field("upstream_headers_names");
                    report.error(location.position, &path, message);
                }
            }
        }
        let told = Arc::new(told);
        self.known.insert(key, told.clone());
        told
    }

    /// Reports when `plugin` sets a header that another plugin on the same route sets. Those of
    /// one plugin were compared before.
    fn take(
        &self,
        name: &'static str,
        selection: &DialectConfig,
        plugin: Option<usize>,
        names: &mut Vec<(String, &'static str)>,
        report: &mut Report,
    ) {
        let taken = selection.possible_names();
        let clash = taken.iter().find_map(|taken| {
            let folded = fold_header_name(taken);
            let (_, other) = names
                .iter()
                .find(|(other, by)| *other == folded && *by != name)?;
            Some((taken, *other))
        });
        let location = plugin.and_then(|plugin| self.document.plugins.get(plugin));
        if let (Some((header, other)), Some(Plugin { location, .. })) = (clash, location) {
            let message = format!(
                "the header '{header}' is set by {other} on the same route, expected another name"
            );
            let path = Path::Compact(&location.path);
            report.error(location.position, &path.field("config"), message);
        }
        names.extend(taken.iter().map(|taken| (fold_header_name(taken), name)));
    }
}

/// What `mtls-auth` tells with `skip_consumer_lookup`.
pub(super) fn certificate_holder_headers() -> DialectConfig {
    let options = DialectOptions {
        when: Some(ForwardWhen::Presented),
        ..DialectOptions::default()
    };
    let mut selection = DialectConfig::without_headers(Dialect::Kong, options);
    for (key, name) in [("client_cert_dn", kong::DN), ("client_cert_san", kong::SAN)] {
        // Both are keys of the dialect.
        let _ = selection.rename(key, Some(name));
    }
    selection
}
