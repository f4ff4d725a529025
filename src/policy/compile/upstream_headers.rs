//! The upstream headers of routes, shared between routes with the same plugins.

use std::sync::Arc;

use super::plugins::{CompiledPlugin, Plugins};
use super::scopes::Slots;
use crate::headers::{kong, Dialect, DialectConfig, DialectOptions, ForwardWhen};
use crate::policy::document::{fold_header_name, Document, Plugin, PluginKind};
use crate::policy::report::{Path, Report};
use crate::policy::{Map, UpstreamHeaders};

/// Positions of the plugins that set headers, and whether `mtls-auth` or `header-cert-auth` does.
type HeadersKey = ([Option<usize>; 3], bool);

/// Builds the upstream headers of routes and reports headers that two plugins of a route set.
pub(super) struct UpstreamHeadersBuilder<'a> {
    pub document: &'a Document<'a>,
    pub plugins: &'a Plugins<'a>,
    pub built: Map<HeadersKey, Arc<UpstreamHeaders>>,
}

impl UpstreamHeadersBuilder<'_> {
    pub fn get(&mut self, slots: &Slots, report: &mut Report) -> Arc<UpstreamHeaders> {
        let metadata_headers = slots[PluginKind::TlsMetadataHeaders as usize];
        let cert_headers = slots[PluginKind::ClientCertHeaders as usize];
        let skips_lookup = self
            .plugins
            .auth(slots)
            .is_some_and(|auth| auth.lookup.is_none());
        let token = slots[PluginKind::OpenidConnect as usize];
        let key = ([metadata_headers, cert_headers, token], skips_lookup);
        if let Some(headers) = self.built.get(&key) {
            return headers.clone();
        }
        let mut result = UpstreamHeaders::default();
        let mut names = Vec::new();
        if skips_lookup {
            let selection = certificate_holder_headers();
            self.add_names(
                "mtls-auth with 'skip_consumer_lookup'",
                &selection,
                None,
                &mut names,
                report,
            );
            result.kong.push(selection);
        }
        let compiled = |plugin: Option<usize>| self.plugins.compiled(plugin?);
        if let Some(CompiledPlugin::TlsMetadataHeaders(config)) = compiled(metadata_headers) {
            if config.inject {
                let selection = &config.selection;
                self.add_names(
                    "tls-metadata-headers",
                    selection,
                    metadata_headers,
                    &mut names,
                    report,
                );
                result.kong.push(config.selection.clone());
            }
        }
        if let Some(CompiledPlugin::ClientCertHeaders(config)) = compiled(cert_headers) {
            for selection in &config.selections {
                self.add_names("", selection, cert_headers, &mut names, report);
            }
            result.dialects.clone_from(&config.selections);
            result.vary = config.vary;
            result.private = config.private;
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
        let result = Arc::new(result);
        self.built.insert(key, result.clone());
        result
    }

    /// Adds the names of headers that a plugin sets to `names`, and reports a name that another
    /// plugin of the route sets. The reader of the document compared the names of one plugin.
    fn add_names(
        &self,
        name: &'static str,
        selection: &DialectConfig,
        plugin: Option<usize>,
        names: &mut Vec<(String, &'static str)>,
        report: &mut Report,
    ) {
        let new_names = selection.possible_names();
        let conflict = new_names.iter().find_map(|new_name| {
            let folded = fold_header_name(new_name);
            let (_, other) = names
                .iter()
                .find(|(other, by)| *other == folded && *by != name)?;
            Some((new_name, *other))
        });
        let location = plugin.and_then(|plugin| self.document.plugins.get(plugin));
        if let (Some((header, other)), Some(Plugin { location, .. })) = (conflict, location) {
            let message = format!(
                "the header '{header}' is set by {other} on the same route, expected another name"
            );
            let path = Path::Compact(&location.path);
            report.error(location.position, &path.field("config"), message);
        }
        names.extend(
            new_names
                .iter()
                .map(|new_name| (fold_header_name(new_name), name)),
        );
    }
}

/// The headers of `mtls-auth` with `skip_consumer_lookup`.
pub(super) fn certificate_holder_headers() -> DialectConfig {
    let options = DialectOptions {
        when: Some(ForwardWhen::Presented),
        ..DialectOptions::default()
    };
    let mut selection = DialectConfig::without_headers(Dialect::Kong, options);
    for (key, name) in [("client_cert_dn", kong::DN), ("client_cert_san", kong::SAN)] {
        // Cannot fail: both are keys of the dialect.
        let _ = selection.rename(key, Some(name));
    }
    selection
}
