//! The names of plugins: those that are supported, Kong's others, and the custom ones of a
//! document.

use super::fields::Object;
use super::{DocumentReader, PluginKind};
use crate::policy::report::{Path, Position};
use crate::policy::tree::{Node, Value};
use crate::text::quoted;

/// Kong's other plugins, of the open-source and the enterprise gateway, from 0.x to 3.16, with
/// those that have been removed. They have no effect here.
const KONG_PLUGINS: &[&str] = &[
    "ace",
    "acme",
    "app-dynamics",
    "application-registration",
    "aws-lambda",
    "azure-functions",
    "basic-auth",
    "bot-detection",
    "canary",
    "collector",
    "confluent",
    "correlation-id",
    "cors",
    "datadog",
    "datakit",
    "degraphql",
    "exit-transformer",
    "file-log",
    "forward-proxy",
    "galileo",
    "grpc-gateway",
    "grpc-web",
    "hmac-auth",
    "http-log",
    "injection-protection",
    "ip-restriction",
    "jq",
    "json-threat-protection",
    "jwe-decrypt",
    "jwt",
    "jwt-signer",
    "key-auth",
    "key-auth-enc",
    "konnect-application-auth",
    "kubernetes-sidecar-injector",
    "ldap-auth",
    "ldap-auth-advanced",
    "loggly",
    "metering-and-billing",
    "mocking",
    "oas-validation",
    "oauth2",
    "oauth2-introspection",
    "opa",
    "opentelemetry",
    "openwhisk",
    "post-function",
    "pre-function",
    "prometheus",
    "proxy-cache",
    "proxy-cache-advanced",
    "rate-limiting",
    "rate-limiting-advanced",
    "redirect",
    "request-callout",
    "request-size-limiting",
    "request-termination",
    "request-transformer",
    "request-transformer-advanced",
    "request-validator",
    "response-ratelimiting",
    "response-transformer",
    "response-transformer-advanced",
    "route-by-header",
    "route-transformer-advanced",
    "runscope",
    "saml",
    "service-protection",
    "session",
    "ssl",
    "standard-webhooks",
    "statsd",
    "statsd-advanced",
    "syslog",
    "tcp-log",
    "udp-log",
    "upstream-oauth",
    "upstream-timeout",
    "upstream-tls",
    "vault-auth",
    "websocket-size-limit",
    "websocket-validator",
    "xml-threat-protection",
    "zipkin",
];

/// Prefixes of the names of Kong's plugins, for families that grow with every release.
const KONG_PREFIXES: &[&str] = &["ai-", "confluent-", "graphql-", "kafka-", "solace-"];

fn is_kong_plugin(name: &str) -> bool {
    KONG_PLUGINS.contains(&name)
        || KONG_PREFIXES.iter().any(|prefix| {
            let rest = name.strip_prefix(prefix);
            rest.is_some_and(|rest| !rest.is_empty())
        })
}

impl<'t> DocumentReader<'t, '_> {
    /// Returns the plugin of this name, if it is supported. Another plugin of Kong's, or a custom
    /// one, is warned about. Any other name is an error, because a misspelt name would leave a
    /// route without its plugin.
    pub(super) fn plugin_kind(
        &mut self,
        name: &str,
        position: Position,
        path: &Path<'_>,
    ) -> Option<PluginKind> {
        if let Some(kind) = PluginKind::ALL.into_iter().find(|kind| kind.name() == name) {
            return Some(kind);
        }
        let shown = quoted(name.as_bytes());
        if is_kong_plugin(name) || self.declared_plugins.contains(&name) {
            let message = format!("the plugin '{shown}' has no effect in resty-mtls");
            self.report
                .warn_once(&format!("plugin {name}"), position, path, &message);
            return None;
        }
        let supported = || PluginKind::ALL.into_iter().map(PluginKind::name);
        let known = supported().chain(KONG_PLUGINS.iter().copied());
        let mut expected = self.report.did_you_mean(name, known);
        if expected.is_empty() {
            let supported: Vec<_> = supported().collect();
            expected = format!(
                ", expected one of {} or another plugin of Kong's; declare your own plugins \
                 in 'custom_plugins'",
                supported.join(", ")
            );
        }
        let message = format!("unknown plugin '{shown}'{expected}");
        self.report.error(position, path, message);
        None
    }

    /// Reads the names in `custom_plugins` and `cloned_plugins`. A clone of a supported plugin is
    /// an error, because it would protect nothing.
    pub(super) fn declared_plugins(&mut self, policy: &Object<'t>) {
        for field in ["custom_plugins", "cloned_plugins"] {
            let Some(Value::List(items)) = policy.get(field).map(|node| &node.value) else {
                continue;
            };
            for (index, node) in items.iter().enumerate() {
                let item = Object { node };
                let text = |field| item.get(field).and_then(Node::as_text);
                let original = text("ref");
                if field == "custom_plugins" || original.is_some() {
                    self.declared_plugins.extend(text("name"));
                }
                let is_supported =
                    |name: &&str| PluginKind::ALL.into_iter().any(|kind| kind.name() == *name);
                if let Some(original) = original.filter(is_supported) {
                    let message =
                        format!("a clone of '{original}' is not supported by this version");
                    let path = Path::ROOT;
                    let path = path.field(field);
                    self.report.error(node.position, &path.item(index), message);
                }
            }
        }
    }
}
