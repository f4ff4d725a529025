//! The plugin `client-cert-headers`.

use super::fields::{Object, Schema};
use super::{fold_header_name, DocumentReader};
use crate::headers::cloudflare_forwarding::{ForwardOn, HostSettings};
use crate::headers::{xfcc, Dialect, DialectConfig, ForwardWhen, MtlsMode};
use crate::policy::report::Path;
use crate::policy::tree::{Node, Value};
use crate::text::quoted;
use crate::Error;

/// The lowest value of `max_bytes`. A lower one would leave out headers of every certificate.
const LOWEST_MAX_BYTES: u32 = 512;
/// The highest value of `max_bytes`. By default nginx does not accept longer header lines.
const HIGHEST_MAX_BYTES: u32 = 64 * 1024;

/// The configuration of `client-cert-headers`.
#[derive(Default)]
pub(in crate::policy) struct ClientCertHeaders {
    /// The dialects.
    pub selections: Vec<DialectConfig>,
    /// Whether responses carry `Vary: Client-Cert`.
    pub vary: bool,
    /// Whether responses carry `Cache-Control: private`.
    pub private: bool,
}

pub(super) const CLIENT_CERT_HEADERS: Schema = Schema {
    name: "client-cert-headers",
    supported: &["dialects", "vary", "cache_control"],
    ignored: &[],
    unsupported: &[],
};

const DIALECT: Schema = Schema {
    name: "dialects",
    supported: &["name", "headers", "when", "chain", "max_bytes"],
    ignored: &[],
    unsupported: &[],
};

const WITH_MODE: Schema = Schema {
    supported: &["name", "headers", "when", "chain", "max_bytes", "mode"],
    ..DIALECT
};

const XFCC: Schema = Schema {
    supported: &["name", "headers", "when", "max_bytes", "mode", "detail"],
    ..DIALECT
};

const FORWARDING: Schema = Schema {
    supported: &["name", "headers", "when", "max_bytes", "on", "settings"],
    ..DIALECT
};

const SETTING: Schema = Schema {
    name: "settings",
    supported: &["hostname", "china_network", "client_certificate_forwarding"],
    ignored: &[],
    unsupported: &[],
};

/// The words of `detail`. `by` and `hash` are always written.
const DETAILS: &[&str] = &["cert", "chain", "subject", "uri", "dns"];

impl<'t> DocumentReader<'t, '_> {
    pub(super) fn client_cert_headers(
        &mut self,
        plugin: &Node<'_>,
        config: Option<&'t Node<'t>>,
        path: &Path<'_>,
    ) -> ClientCertHeaders {
        let mut headers = ClientCertHeaders::default();
        let Some(config) = config else {
            self.missing(plugin, path, "dialects");
            return headers;
        };
        let Some(object) = self.object(config, path, &CLIENT_CERT_HEADERS) else {
            return headers;
        };
        headers.vary = self.boolean(&object, path, "vary").unwrap_or(false);
        headers.private = self
            .one_of(&object, path, "cache_control", &[("private", ())])
            .is_some();
        let Some(list) = object.get("dialects") else {
            self.missing(config, path, "dialects");
            return headers;
        };
        let path = path.field("dialects");
        let Some(items) = self.list(list, &path) else {
            return headers;
        };
        if items.is_empty() {
            self.expected(list, &path, "at least one dialect");
        }
        for (index, item) in items.iter().enumerate() {
            let path = path.item(index);
            let Some(selection) = self.dialect(item, &path) else {
                continue;
            };
            let dialect = selection.dialect;
            if headers.selections.iter().any(|s| s.dialect == dialect) {
                let message = format!("the dialect '{}' is given twice", dialect.name());
                self.report.error(item.position, &path, message);
                continue;
            }
            self.check_distinct_names(&headers.selections, &selection, item, &path);
            headers.selections.push(selection);
        }
        headers
    }

    /// Reports two headers with the same name, which an upstream could not distinguish.
    fn check_distinct_names(
        &mut self,
        others: &[DialectConfig],
        this: &DialectConfig,
        node: &Node<'_>,
        path: &Path<'_>,
    ) {
        let mut seen: Vec<(String, &str)> = Vec::new();
        for other in others {
            let names = other.possible_names().into_iter();
            seen.extend(names.map(|name| (fold_header_name(&name), other.dialect.name())));
        }
        for name in this.possible_names() {
            let folded = fold_header_name(&name);
            if let Some((_, other)) = seen.iter().find(|(other, _)| *other == folded) {
                let message = format!(
                    "the header '{name}' is also one of '{other}' (case is ignored, and '-' \
                     and '_' are equal), expected another name for one of them in 'headers'"
                );
                self.report.error(node.position, path, message);
                return;
            }
            seen.push((folded, this.dialect.name()));
        }
    }

    /// Reads an entry of `dialects`: a name, or a mapping.
    fn dialect(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> Option<DialectConfig> {
        let Value::Map(_) = &node.value else {
            let name = self.text(node, path)?;
            let dialect = self.dialect_named(name, node, path)?;
            return Some(DialectConfig::new(dialect, Default::default()));
        };
        // The name is read first, because the schema depends on it.
        let object = Object { node };
        let Some(name) = object.get("name") else {
            self.object(node, path, &DIALECT);
            self.missing(node, path, "name");
            return None;
        };
        let name_path = path.field("name");
        let text = self.text(name, &name_path)?;
        let dialect = self.dialect_named(text, name, &name_path)?;
        let schema = match dialect {
            Dialect::Xfcc => &XFCC,
            Dialect::CloudflareForwarding => &FORWARDING,
            Dialect::AwsAlb | Dialect::CloudFront => &WITH_MODE,
            _ => &DIALECT,
        };
        let object = self.object(node, path, schema)?;
        let mut selection = DialectConfig::new(dialect, Default::default());
        let options = &mut selection.options;
        let whens = [
            ("verified", ForwardWhen::Verified),
            ("presented", ForwardWhen::Presented),
        ];
        options.when = self.one_of(&object, path, "when", &whens);
        if let Some(chain) = self.boolean(&object, path, "chain") {
            options.chain = chain;
        }
        options.max_bytes = self
            .integer(
                &object,
                path,
                "max_bytes",
                LOWEST_MAX_BYTES,
                HIGHEST_MAX_BYTES,
            )
            .map(|bytes| bytes as usize);
        match dialect {
            Dialect::Xfcc => {
                let modes = xfcc::XfccMode::ALL;
                if let Some(mode) = self.one_of(&object, path, "mode", &modes) {
                    options.xfcc.mode = mode;
                }
                if object.get("detail").is_some() {
                    options.xfcc.detail = self.detail(&object, path);
                }
            }
            Dialect::AwsAlb | Dialect::CloudFront => {
                let modes = [
                    ("verify", MtlsMode::Verify),
                    ("passthrough", MtlsMode::Passthrough),
                ];
                options.mode = self
                    .one_of(&object, path, "mode", &modes)
                    .unwrap_or_default();
            }
            Dialect::CloudflareForwarding => {
                let on = [
                    ("first_request", ForwardOn::FirstRequest),
                    ("every_request", ForwardOn::EveryRequest),
                ];
                options.forwarding.on = self.one_of(&object, path, "on", &on).unwrap_or_default();
                if let Some(settings) = object.get("settings") {
                    let path = path.field("settings");
                    options.forwarding.settings = Some(self.settings(settings, &path));
                }
            }
            _ => {}
        }
        if let Some(headers) = object.get("headers") {
            self.names(headers, &path.field("headers"), &mut selection);
        }
        Some(selection)
    }

    fn dialect_named(&mut self, name: &str, node: &Node<'_>, path: &Path<'_>) -> Option<Dialect> {
        let found = Dialect::from_name(name);
        if found.is_none() {
            let known = || Dialect::ALL.into_iter().map(Dialect::name);
            let hint = match self.report.did_you_mean(name, known()) {
                hint if hint.is_empty() => {
                    format!(
                        ", expected one of {}",
                        known().collect::<Vec<_>>().join(", ")
                    )
                }
                hint => hint,
            };
            let message = format!("unknown dialect '{}'{hint}", quoted(name.as_bytes()));
            self.report.error(node.position, path, message);
        }
        found
    }

    /// Reads `headers`: another name for a header, or null so that it is not set.
    fn names(&mut self, node: &'t Node<'t>, path: &Path<'_>, selection: &mut DialectConfig) {
        let Value::Map(entries) = &node.value else {
            self.expected(node, path, "a mapping of headers to names or null");
            return;
        };
        for (key, value) in entries.iter() {
            let field = path.field(&key.text);
            let name = match value.is_null() {
                true => None,
                false => match self.upstream_header_name(value, &field) {
                    Some(name) => Some(name),
                    None => continue,
                },
            };
            if let Err(Error::NotFound) = selection.rename(&key.text, name) {
                let headers = selection.dialect.headers();
                let known = headers
                    .iter()
                    .flat_map(|header| [Some(header.key), header.name])
                    .flatten();
                let hint = match self.report.did_you_mean(&key.text, known) {
                    hint if hint.is_empty() => {
                        let names: Vec<_> =
                            headers.iter().map(|h| h.name.unwrap_or(h.key)).collect();
                        format!(", expected one of {}", names.join(", "))
                    }
                    hint => hint,
                };
                let message = format!(
                    "'{}' is not a header of the dialect '{}'{hint}",
                    quoted(key.text.as_bytes()),
                    selection.dialect.name()
                );
                self.report.error(key.position, path, message);
            }
        }
        if selection.possible_names().is_empty() {
            let message = "disables every header, expected at least one".to_owned();
            self.report.error(node.position, path, message);
        }
    }

    /// Reads `detail`.
    fn detail(&mut self, object: &Object<'t>, path: &Path<'_>) -> xfcc::XfccDetails {
        let mut detail = xfcc::XfccDetails::NONE;
        let words = self.texts(object, path, "detail");
        let path = path.field("detail");
        for (word, position, index) in words {
            match word {
                "cert" => detail.cert = true,
                "chain" => detail.chain = true,
                "subject" => detail.subject = true,
                "uri" => detail.uri = true,
                "dns" => detail.dns = true,
                _ => {
                    let message = format!(
                        "'{}', expected one of {}",
                        quoted(word.as_bytes()),
                        DETAILS.join(", ")
                    );
                    self.report.error(position, &path.item(index), message);
                }
            }
        }
        detail
    }

    /// Reads `settings`, the array of Cloudflare's API.
    fn settings(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> HostSettings {
        let mut settings = HostSettings::default();
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let path = path.item(index);
            let Some(object) = self.object(item, &path, &SETTING) else {
                continue;
            };
            if self.boolean(&object, &path, "china_network") == Some(true) {
                let message = "concerns Cloudflare's own network and has no effect here";
                let path = path.field("china_network");
                self.report
                    .warn_once("settings china_network", item.position, &path, message);
            }
            let forwarding = self
                .boolean(&object, &path, "client_certificate_forwarding")
                .unwrap_or(false);
            let Some(hostname) = object.get("hostname") else {
                self.missing(item, &path, "hostname");
                continue;
            };
            let field = path.field("hostname");
            if let Some(text) = self.text(hostname, &field) {
                if let Err(error) = settings.add(text, forwarding) {
                    self.report
                        .error(hostname.position, &field, error.to_string());
                }
            }
        }
        settings
    }
}
