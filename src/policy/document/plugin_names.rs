//! The names of plugins: ours, Kong's, and what else a document declares.

use super::fields::Object;
use super::{PluginKind, Reader};
use crate::policy::report::{Path, Position};
use crate::policy::tree::{Node, Value};
use crate::text::quoted;

/// Kong's other plugins: those of the open-source and of the enterprise gateway, 0.x to 3.16, with
/// those that were withdrawn since. They do nothing here.
const KONGS: &[&str] = &[
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

/// Kong's families of plugins, which grow with every release.
const FAMILIES: &[&str] = &["ai-", "confluent-", "graphql-", "kafka-", "solace-"];

fn is_kongs(name: &str) -> bool {
    KONGS.contains(&name)
        || FAMILIES.iter().any(|family| {
            let member = name.strip_prefix(family);
            member.is_some_and(|member| !member.is_empty())
        })
}

impl<'t> Reader<'t, '_> {
    /// Which plugin of ours it is, if it is one. Another one of Kong's is warned about; a name that
    /// is neither is an error, since a slip would leave a route without the plugin it was meant
    /// for.
    pub(super) fn kind(
        &mut self,
        name: &str,
        position: Position,
        path: &Path<'_>,
    ) -> Option<PluginKind> {
        if let Some(kind) = PluginKind::ALL.into_iter().find(|kind| kind.name() == name) {
            return Some(kind);
        }
        let shown = quoted(name.as_bytes());
        if is_kongs(name) || self.declared_plugins.contains(&name) {
            let message =
                format!("the plugin '{shown}' is not for resty-mtls and does nothing here");
            self.report
                .warn_once(&format!("plugin {name}"), position, path, &message);
            return None;
        }
        let ours = || PluginKind::ALL.into_iter().map(PluginKind::name);
        let known = ours().chain(KONGS.iter().copied());
        let mut expected = self.report.did_you_mean(name, known);
        if expected.is_empty() {
            let ours: Vec<_> = ours().collect();
            expected = format!(
                ", expected one of {} or another plugin of Kong's; plugins of your own are named \
                 in 'custom_plugins'",
                ours.join(", ")
            );
        }
        let message = format!("unknown plugin '{shown}'{expected}");
        self.report.error(position, path, message);
        None
    }

    /// The names in `custom_plugins` and `cloned_plugins`. A clone of one of ours is refused: what
    /// it protects would be open.
    pub(super) fn declared_plugins(&mut self, policy: &Object<'t>) {
        for field in ["custom_plugins", "cloned_plugins"] {
            let Some(Value::List(items)) = policy.get(field).map(|node| &node.value) else {
                continue;
            };
            for (index, node) in items.iter().enumerate() {
                let item = Object { node };
                let of = |field| item.get(field).and_then(Node::as_text);
                let original = of("ref");
                if field == "custom_plugins" || original.is_some() {
                    self.declared_plugins.extend(of("name"));
                }
                let ours =
                    |name: &&str| PluginKind::ALL.into_iter().any(|kind| kind.name() == *name);
                if let Some(ours) = original.filter(ours) {
                    let message = format!("a clone of '{ours}' is not supported by this version");
                    let path = Path::ROOT;
                    let path = path.field(field);
                    self.report.error(node.position, &path.item(index), message);
                }
            }
        }
    }
}
