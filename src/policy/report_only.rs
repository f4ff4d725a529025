//! Plugins with `enforce: report`: their refusals are logged and counted, and the request passes.

use super::document::PluginKind;
use super::Plan;

/// Which plugins of a plan have `enforce: report`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportOnly {
    /// `mtls-auth` or `header-cert-auth`, whichever applies.
    pub authentication: bool,
    /// `openid-connect`.
    pub token: bool,
    /// `acl`.
    pub acl: bool,
    /// `client-cert-acl`.
    pub rules: bool,
    /// `client-cert-lists`.
    pub lists: bool,
}

impl ReportOnly {
    pub(in crate::policy) fn of(reports: impl Fn(PluginKind) -> bool) -> ReportOnly {
        ReportOnly {
            authentication: reports(PluginKind::MtlsAuth) || reports(PluginKind::HeaderCertAuth),
            token: reports(PluginKind::OpenidConnect),
            acl: reports(PluginKind::Acl),
            rules: reports(PluginKind::ClientCertAcl),
            lists: reports(PluginKind::ClientCertLists),
        }
    }
}

impl Plan {
    /// Names of the plugins that apply and do not refuse.
    pub(in crate::policy) fn reporting_plugins(&self) -> impl Iterator<Item = &'static str> + '_ {
        let reports = |kind: &PluginKind| match kind {
            PluginKind::MtlsAuth | PluginKind::HeaderCertAuth => self.report_only.authentication,
            PluginKind::OpenidConnect => self.report_only.token,
            PluginKind::Acl => self.report_only.acl,
            PluginKind::ClientCertAcl => self.report_only.rules,
            PluginKind::ClientCertLists => self.report_only.lists,
            PluginKind::TlsHandshakeModifier
            | PluginKind::TlsMetadataHeaders
            | PluginKind::ClientCertHeaders => false,
        };
        self.plugins.kinds().filter(reports).map(PluginKind::name)
    }

    /// Whether `acl` refuses.
    pub fn enforces_acl(&self) -> bool {
        self.acl.is_some() && !self.report_only.acl
    }

    /// Names of the plugins that refuse and need a client which is authenticated by its certificate.
    pub fn enforcing_authorization(&self) -> impl Iterator<Item = &'static str> {
        let acl = self.enforces_acl() && !self.checks_acl_with_token();
        let rules = self.rules.is_some() && !self.report_only.rules;
        let lists = self.lists.is_some() && !self.report_only.lists;
        [
            (acl, PluginKind::Acl),
            (rules, PluginKind::ClientCertAcl),
            (lists, PluginKind::ClientCertLists),
        ]
        .into_iter()
        .filter(|(enforces, _)| *enforces)
        .map(|(_, kind)| kind.name())
    }

    fn enforces_authorization(&self) -> bool {
        self.enforcing_authorization().next().is_some()
    }

    /// Whether a request passes whose client is not authenticated by its certificate.
    pub fn passes_unauthenticated(&self) -> bool {
        self.report_only.authentication && !self.enforces_authorization()
    }

    /// Whether a misdirected request passes. The certificate of its connection is no evidence under
    /// its Host, also not for the binding of a token.
    pub fn passes_misdirected(&self) -> bool {
        let authentication = self.auth.is_none() || self.report_only.authentication;
        let token = self.token_auth.is_none() || self.report_only.token;
        let authenticates = self.auth.is_some() || self.token_auth.is_some();
        authenticates
            && authentication
            && token
            && !self.enforces_acl()
            && !self.enforces_authorization()
    }
}
