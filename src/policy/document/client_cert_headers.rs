//! `client-cert-headers`.

use super::super::report::Path;
use super::super::tree::{Node, Value};
use super::fields::{Object, Shape};
use super::{fold_header_name, Reader};
use crate::headers::cloudflare_forwarding::{On, Settings};
use crate::headers::{xfcc, Dialect, Mode, Selection, When};
use crate::text::quoted;
use crate::Error;

/// Least `max_bytes`: a lower one would leave out what every certificate has.
const MIN_VALUE: u32 = 512;
/// Most `max_bytes`; nginx takes no longer header lines without being told to.
const MAX_VALUE: u32 = 64 * 1024;

/// `client-cert-headers` as written.
#[derive(Default)]
pub(in super::super) struct ClientCertHeaders {
    /// The dialects.
    pub selections: Vec<Selection>,
    /// Whether responses carry `Vary: Client-Cert`.
    pub vary: bool,
    /// Whether responses carry `Cache-Control: private`.
    pub private: bool,
}

const CLIENT_CERT_HEADERS: Shape = Shape {
    what: "client-cert-headers",
    ours: &["dialects", "vary", "cache_control"],
    kongs: &[],
    refused: &[],
};

const DIALECT: Shape = Shape {
    what: "dialects",
    ours: &["name", "headers", "when", "chain", "max_bytes"],
    kongs: &[],
    refused: &[],
};

const WITH_MODE: Shape = Shape {
    ours: &["name", "headers", "when", "chain", "max_bytes", "mode"],
    ..DIALECT
};

const XFCC: Shape = Shape {
    ours: &["name", "headers", "when", "max_bytes", "mode", "detail"],
    ..DIALECT
};

const FORWARDING: Shape = Shape {
    ours: &["name", "headers", "when", "max_bytes", "on", "settings"],
    ..DIALECT
};

const SETTING: Shape = Shape {
    what: "settings",
    ours: &["hostname", "china_network", "client_certificate_forwarding"],
    kongs: &[],
    refused: &[],
};

/// Words of `detail`; `by` and `hash` are always there.
const DETAILS: &[&str] = &["cert", "chain", "subject", "uri", "dns"];

impl<'t> Reader<'t, '_> {
    pub(super) fn cert_headers(
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
                let message = format!("the dialect '{}' is there already", dialect.name());
                self.report.error(item.position, &path, message);
                continue;
            }
            self.apart(&headers.selections, &selection, item, &path);
            headers.selections.push(selection);
        }
        headers
    }

    /// Two headers must not share a name: the upstream could not tell them apart.
    fn apart(&mut self, others: &[Selection], this: &Selection, node: &Node<'_>, path: &Path<'_>) {
        let mut seen: Vec<(String, &str)> = Vec::new();
        for other in others {
            let names = other.names().into_iter();
            seen.extend(names.map(|name| (fold_header_name(&name), other.dialect.name())));
        }
        for name in this.names() {
            let folded = fold_header_name(&name);
            if let Some((_, other)) = seen.iter().find(|(other, _)| *other == folded) {
                let message = format!(
                    "the header '{name}' is also one of '{other}' (case, '-' and '_' do not tell \
                     headers apart), expected another name for one of them in 'headers'"
                );
                self.report.error(node.position, path, message);
                return;
            }
            seen.push((folded, this.dialect.name()));
        }
    }

    fn dialect(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> Option<Selection> {
        let Value::Map(_) = &node.value else {
            let name = self.text(node, path)?;
            let dialect = self.dialect_named(name, node, path)?;
            return Some(Selection::new(dialect, Default::default()));
        };
        // Which fields it may have depends on its name.
        let object = Object { node };
        let Some(name) = object.get("name") else {
            self.object(node, path, &DIALECT);
            self.missing(node, path, "name");
            return None;
        };
        let name_path = path.field("name");
        let text = self.text(name, &name_path)?;
        let dialect = self.dialect_named(text, name, &name_path)?;
        let shape = match dialect {
            Dialect::Xfcc => &XFCC,
            Dialect::CloudflareForwarding => &FORWARDING,
            Dialect::AwsAlb | Dialect::CloudFront => &WITH_MODE,
            _ => &DIALECT,
        };
        let object = self.object(node, path, shape)?;
        let mut selection = Selection::new(dialect, Default::default());
        let options = &mut selection.options;
        let whens = [("verified", When::Verified), ("presented", When::Presented)];
        options.when = self.one_of(&object, path, "when", &whens);
        if let Some(chain) = self.boolean(&object, path, "chain") {
            options.chain = chain;
        }
        options.max_bytes = self
            .integer(&object, path, "max_bytes", MIN_VALUE, MAX_VALUE)
            .map(|bytes| bytes as usize);
        match dialect {
            Dialect::Xfcc => {
                let modes = xfcc::Mode::ALL;
                if let Some(mode) = self.one_of(&object, path, "mode", &modes) {
                    options.xfcc.mode = mode;
                }
                if object.get("detail").is_some() {
                    options.xfcc.detail = self.detail(&object, path);
                }
            }
            Dialect::AwsAlb | Dialect::CloudFront => {
                let modes = [("verify", Mode::Verify), ("passthrough", Mode::Passthrough)];
                options.mode = self
                    .one_of(&object, path, "mode", &modes)
                    .unwrap_or_default();
            }
            Dialect::CloudflareForwarding => {
                let on = [
                    ("first_request", On::FirstRequest),
                    ("every_request", On::EveryRequest),
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
            let meant = match self.report.did_you_mean(name, known()) {
                meant if meant.is_empty() => {
                    format!(
                        ", expected one of {}",
                        known().collect::<Vec<_>>().join(", ")
                    )
                }
                meant => meant,
            };
            let message = format!("unknown dialect '{}'{meant}", quoted(name.as_bytes()));
            self.report.error(node.position, path, message);
        }
        found
    }

    /// `headers`: another name for a header, or null to switch it off.
    fn names(&mut self, node: &'t Node<'t>, path: &Path<'_>, selection: &mut Selection) {
        let Value::Map(entries) = &node.value else {
            self.expected(node, path, "a mapping of headers to names or null");
            return;
        };
        for (key, value) in entries.iter() {
            let field = path.field(&key.text);
            let name = match value.is_null() {
                true => None,
                false => match self.told_name(value, &field) {
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
                let meant = match self.report.did_you_mean(&key.text, known) {
                    meant if meant.is_empty() => {
                        let names: Vec<_> =
                            headers.iter().map(|h| h.name.unwrap_or(h.key)).collect();
                        format!(", expected one of {}", names.join(", "))
                    }
                    meant => meant,
                };
                let message = format!(
                    "'{}' is no header of the dialect '{}'{meant}",
                    quoted(key.text.as_bytes()),
                    selection.dialect.name()
                );
                self.report.error(key.position, path, message);
            }
        }
        if selection.names().is_empty() {
            let message = "switches every header off, expected one at least".to_owned();
            self.report.error(node.position, path, message);
        }
    }

    fn detail(&mut self, object: &Object<'t>, path: &Path<'_>) -> xfcc::Detail {
        let mut detail = xfcc::Detail::NONE;
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

    /// The array of Cloudflare's API call.
    fn settings(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> Settings {
        let mut settings = Settings::default();
        for (index, item) in self.list(node, path).unwrap_or_default().iter().enumerate() {
            let path = path.item(index);
            let Some(object) = self.object(item, &path, &SETTING) else {
                continue;
            };
            if self.boolean(&object, &path, "china_network") == Some(true) {
                let message = "concerns Cloudflare's own network and does nothing here";
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
