//! The plugins that protect each route, compared between a policy and the next one.
//!
//! A document that was truncated by a full disk or a slow writer is often valid, but lacks plugins.
//! So a reload removes a protecting plugin from a route that stays only if the document disables
//! it.

use std::borrow::Cow;

use openssl::sha::sha256;

use super::files::is_listing;
use super::{Plan, Policy};
use crate::certificate::bundle;
use crate::text::quoted;

/// Most routes that a message names.
const MAX_NAMED: usize = 5;

/// One plugin that protects a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ProtectingPlugin {
    /// `mtls-auth` or `header-cert-auth`.
    Certificate = 1,
    /// `openid-connect`.
    Token = 2,
    /// `acl`.
    Acl = 4,
    /// `client-cert-acl`.
    Rules = 8,
    /// `tls-handshake-modifier`, which requests a certificate.
    Request = 16,
    /// `client-cert-lists`.
    Lists = 32,
}

impl ProtectingPlugin {
    const ALL: [ProtectingPlugin; 6] = [
        ProtectingPlugin::Certificate,
        ProtectingPlugin::Token,
        ProtectingPlugin::Acl,
        ProtectingPlugin::Rules,
        ProtectingPlugin::Request,
        ProtectingPlugin::Lists,
    ];

    fn name(self) -> &'static str {
        match self {
            ProtectingPlugin::Certificate => "mtls-auth or header-cert-auth",
            ProtectingPlugin::Token => "openid-connect",
            ProtectingPlugin::Acl => "acl",
            ProtectingPlugin::Rules => "client-cert-acl",
            ProtectingPlugin::Request => "tls-handshake-modifier",
            ProtectingPlugin::Lists => "client-cert-lists",
        }
    }
}

/// A set of [`ProtectingPlugin`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProtectingPlugins(u8);

impl ProtectingPlugins {
    /// Those that refuse requests: none with `enforce: report`.
    fn of(plan: &Plan) -> ProtectingPlugins {
        let report = plan.report_only;
        let mut plugins = ProtectingPlugins::default();
        for (plugin, applies, reports) in [
            (
                ProtectingPlugin::Certificate,
                plan.auth.is_some(),
                report.authentication,
            ),
            (
                ProtectingPlugin::Token,
                plan.token_auth.is_some(),
                report.token,
            ),
            (ProtectingPlugin::Acl, plan.acl.is_some(), report.acl),
            (ProtectingPlugin::Rules, plan.rules.is_some(), report.rules),
            (ProtectingPlugin::Request, plan.modifies_handshake, false),
            (ProtectingPlugin::Lists, plan.lists.is_some(), report.lists),
        ] {
            if applies && !reports {
                plugins.add(plugin);
            }
        }
        plugins
    }

    pub(super) fn add(&mut self, plugin: ProtectingPlugin) {
        self.0 |= plugin as u8;
    }

    pub(super) fn and(self, other: Option<ProtectingPlugins>) -> ProtectingPlugins {
        ProtectingPlugins(self.0 | other.unwrap_or_default().0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn in_common(self, other: ProtectingPlugins) -> ProtectingPlugins {
        ProtectingPlugins(self.0 & other.0)
    }

    fn without(self, other: ProtectingPlugins) -> ProtectingPlugins {
        ProtectingPlugins(self.0 & !other.0)
    }

    fn names(self) -> String {
        let held = ProtectingPlugin::ALL
            .into_iter()
            .filter(|plugin| self.0 & *plugin as u8 != 0);
        held.map(ProtectingPlugin::name)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Plugins with `enabled: false` or `enforce: report`, by their scope.
#[derive(Debug, Default)]
pub struct DisabledPlugins {
    everywhere: ProtectingPlugins,
    /// Global ones with `enforce: report`.
    reported: ProtectingPlugins,
    /// By hash of the route's name or id, sorted. Plans are no key, since routes share them.
    routes: Vec<(u64, ProtectingPlugins)>,
}

impl DisabledPlugins {
    /// `routes` are names and ids of routes.
    pub(super) fn new<'n>(
        everywhere: ProtectingPlugins,
        reported: ProtectingPlugins,
        routes: impl Iterator<Item = (Cow<'n, str>, ProtectingPlugins)>,
    ) -> DisabledPlugins {
        let mut routes: Vec<_> = routes
            .map(|(name, plugins)| (name_hash(&name), plugins))
            .collect();
        routes.sort_unstable_by_key(|(key, _)| *key);
        DisabledPlugins {
            everywhere,
            reported,
            routes,
        }
    }

    fn at(&self, name: &str) -> ProtectingPlugins {
        let own = self
            .routes
            .binary_search_by_key(&name_hash(name), |(key, _)| *key);
        let own = own.ok().and_then(|found| self.routes.get(found));
        self.everywhere.and(own.map(|(_, plugins)| *plugins))
    }
}

/// The protecting plugins of each route.
#[derive(Debug, Default)]
pub struct Protection {
    /// For each name of a route its hash, and the digest of its plan with its [`ProtectingPlugins`]
    /// in the lowest byte; in order. 16 bytes a route.
    routes: Box<[(u64, u64)]>,
    /// Digest of consumers, credentials and groups.
    consumers: u64,
}

impl Protection {
    /// `plans` has the name of each route with its plan and the digest of the plan.
    pub(super) fn new<'p>(
        plans: impl Iterator<Item = (&'p str, &'p Plan, [u8; 32])>,
        consumers: [u8; 32],
    ) -> Protection {
        let mut routes: Vec<_> = plans
            .map(|(name, plan, digest)| {
                let digest = first_word(&digest) & !0xff;
                (
                    name_hash(name),
                    digest | u64::from(ProtectingPlugins::of(plan).0),
                )
            })
            .collect();
        routes.sort_unstable();
        Protection {
            routes: routes.into(),
            consumers: first_word(&consumers),
        }
    }

    fn find(&self, name: &str) -> Option<u64> {
        let key = name_hash(name);
        let found = self
            .routes
            .binary_search_by_key(&key, |(key, _)| *key)
            .ok()?;
        self.routes.get(found).map(|(_, plan)| *plan)
    }

    /// The digest of the plan of a route with its plugins, if there is a route of that name.
    #[cfg(test)]
    pub(crate) fn digest(&self, route: &str) -> Option<u64> {
        self.find(route)
    }

    /// Why `next` must not replace the policy of this protection; `None` if it may. `truncated`
    /// is set if its document is the beginning of the one in force.
    pub fn refusal(&self, next: &Policy, truncated: bool) -> Option<String> {
        let mut lost = Vec::new();
        let mut kinds = ProtectingPlugins::default();
        let mut differs = truncated && self.consumers != next.protection.consumers;
        // A route whose own plugin is gone must not fall back to a global one that only reports, and did
        // so before.
        let enforced_globally = ProtectingPlugins(self.find("").unwrap_or_default() as u8);
        let reported = next.disabled.reported.in_common(enforced_globally);
        // The first name of each route suffices: all its names have the same plan.
        for (name, position) in next.routes.with_plans().chain([("", 0)]) {
            let (Some(before), Some(plan)) = (self.find(name), next.plans.get(position)) else {
                continue;
            };
            let gone = ProtectingPlugins(before as u8)
                .without(ProtectingPlugins::of(plan))
                .without(next.disabled.at(name))
                .without(reported);
            if !gone.is_empty() {
                lost.push(name);
                kinds = kinds.and(Some(gone));
            }
            differs |= truncated && next.protection.find(name) != Some(before);
        }
        if !lost.is_empty() {
            lost.sort_unstable();
            return Some(format!(
                "refused, since {} would lose {}, which the document no longer has; where that is meant, \
                 set 'enabled: false' on the plugin, remove the route, or reload by HUP",
                listed(&lost),
                kinds.names(),
            ));
        }
        differs.then(|| {
            "refused, since the document is the beginning of the one in force and changes what stays of \
             it, as if it were cut; where that is meant, end it with a line '...' or reload by HUP"
                .to_owned()
        })
    }
}

fn listed(routes: &[&str]) -> String {
    let shown: Vec<_> = routes
        .iter()
        .take(MAX_NAMED)
        .map(|name| match name.is_empty() {
            true => "requests without a route".to_owned(),
            false => format!("route '{}'", quoted(name.as_bytes())),
        })
        .collect();
    match routes.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Whether the document `next` is a beginning of the document `before`, as after a truncation. Of a
/// policy in a directory the first file is the directory, of which names may be missing.
pub fn is_truncation(next: &[u8], before: &[u8]) -> bool {
    next.len() < before.len() && before.starts_with(next) && !is_listing(next)
}

/// [`is_truncation`] of a file that the policy names. A directory with less files and a bundle with
/// less certificates are meant: CAs are removed like that, and a bundle that was cut within a
/// certificate is not valid.
pub fn is_file_truncation(next: &[u8], before: &[u8]) -> bool {
    is_truncation(next, before) && bundle::read(next).is_err()
}

/// Whether a document ends with the document end marker, a last line `...` (YAML 1.2, section
/// 9.1.4).
pub fn has_end_marker(document: &[u8]) -> bool {
    let last = document
        .trim_ascii_end()
        .rsplit(|byte| *byte == b'\n')
        .next();
    last == Some(b"...") && document.ends_with(b"\n")
}

fn name_hash(name: &str) -> u64 {
    first_word(&sha256(name.as_bytes()))
}

fn first_word(digest: &[u8; 32]) -> u64 {
    let first = digest.first_chunk::<8>().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}
