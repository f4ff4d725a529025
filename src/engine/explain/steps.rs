//! The steps of a decision, each by the function of the engine that takes it.

use std::rc::Rc;

use super::super::header_certificate::HeaderCertificate;
use super::super::lists::{check_lists, ListResult};
use super::chain::{subject, PathInput};
use super::{Explained, RequestHeaders, Step};
use crate::certificate::Certificate;
use crate::connection::Connection;
use crate::decision::{Identity, Outcome};
use crate::handshake::CertificateRequest;
use crate::identity::{subject_names, RuleSubject, SubjectName};
use crate::policy::{Auth, Plan, PluginOutline, RevocationMode};
use crate::text::quoted;
use crate::trust::selector::CertificateSelectors;
use crate::Error;

/// Most plugins, groups, names or sources that a step lists.
const MAX_LISTED: usize = 8;

pub(super) fn listed(items: impl IntoIterator<Item = String>) -> String {
    let mut items = items.into_iter();
    let shown: Vec<_> = items.by_ref().take(MAX_LISTED).collect();
    match items.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

impl Explained<'_> {
    /// A plugin of the route, with its place: `mtls-auth at FILE:LINE`.
    pub(super) fn plugin(&self, names: &[&str]) -> Option<&PluginOutline> {
        let mut plugins = self.outline().plugins(self.probe.route).iter();
        plugins.find(|plugin| names.contains(&plugin.name))
    }

    pub(super) fn plugin_text(&self, names: &[&str]) -> String {
        match self.plugin(names) {
            Some(plugin) => format!("{} at {}", plugin.name, plugin.at),
            None => names.first().copied().unwrap_or_default().to_owned(),
        }
    }

    fn auth_plugin(&self) -> String {
        self.plugin_text(&["mtls-auth", "header-cert-auth"])
    }

    pub(super) fn steps(
        &self,
        plan: &Plan,
        headers: &RequestHeaders<'_>,
    ) -> Result<Vec<Step>, Error> {
        let mut steps = vec![self.certificate_request()];
        if self.probe.route.is_none() {
            let detail = "none is given: only the global plugins are judged";
            steps.push(Step::passed("route", detail));
        }
        if !plan.has_plugins {
            steps.push(Step::passed(
                "route",
                "no plugin applies: every client is let in",
            ));
            return Ok(steps);
        }
        if plan.auth.is_none() && plan.acl.is_some() && !plan.checks_acl_with_token() {
            let detail = self.decision.reason.clone().unwrap_or_default();
            let remedy = "give the route an mtls-auth or header-cert-auth".to_owned();
            steps.push(Step::failed("route", detail, Some(remedy)));
            return Ok(steps);
        }
        steps.push(self.binding(plan));
        if self.would_be(Outcome::Misdirected) {
            return Ok(steps);
        }
        steps.push(self.presented(plan, headers)?);
        let Some(auth) = &plan.auth else {
            return Ok(steps);
        };
        let Some(certificate) = &self.certificate else {
            if let Some(anonymous) = auth.anonymous {
                steps.push(self.anonymous(anonymous));
                steps.extend(self.authorization(plan, None, Identity::Anonymous(anonymous)));
            }
            return Ok(steps);
        };
        self.authentication(plan, auth, certificate, &mut steps)?;
        let is_refused = steps.iter().any(|step| step.ok == Some(false));
        if let (true, Identity::Anonymous(anonymous)) = (is_refused, self.decision.identity) {
            steps.push(self.anonymous(anonymous));
        }
        if let (true, Some(anonymous)) = (is_refused, auth.anonymous) {
            steps.extend(self.authorization(plan, None, Identity::Anonymous(anonymous)));
        }
        Ok(steps)
    }

    /// Whether the handshake requests a certificate, and by which plugins.
    fn certificate_request(&self) -> Step {
        const STEP: &str = "certificate request";
        let name = match self.probe.server_name {
            Some(name) => format!("under the server name '{}'", quoted(name)),
            None => "of a client without server name (SNI)".to_owned(),
        };
        let Some(request) = self.policy.certificate_request(self.probe.server_name) else {
            return Step::passed(STEP, format!("no certificate is requested {name}"));
        };
        let plugins = self.outline().requesting(self.probe.server_name);
        let plugins = plugins.into_iter().map(|(route, plugin)| match route {
            Some(route) => {
                let route = route.names.first().map_or("without name", |name| name);
                format!(
                    "{} at {} (route '{}')",
                    plugin.name,
                    plugin.at,
                    quoted(route.as_bytes())
                )
            }
            None => format!("{} at {} (global)", plugin.name, plugin.at),
        });
        let plugins = listed(plugins);
        let resumption = match request.resumption() {
            true => "",
            false => "; TLS sessions are not resumed",
        };
        let mut detail = format!(
            "a certificate is requested {name} by {plugins}; {}{resumption}",
            ca_names(request)
        );
        if let Some(certificate) = self
            .probe
            .certificate
            .filter(|_| request.ca_names_len() > 0)
        {
            let leaf = certificate.leaf();
            let mut path = vec![leaf.issuer_name()];
            path.extend(
                certificate
                    .intermediates()
                    .iter()
                    .map(|ca| ca.issuer_name()),
            );
            if !path.iter().any(|name| request.ca_names().has(name)) {
                detail += "; no issuer of the certificate is among them, so that a client which \
                           chooses by them (browsers, Java, Go) sends none";
            }
        }
        Step::passed(STEP, detail)
    }

    /// Whether the session of a handshake under the server name serves requests for the Host.
    fn binding(&self, plan: &Plan) -> Step {
        const STEP: &str = "session binding";
        let host = quoted(self.probe.host);
        if self.would_be(Outcome::Misdirected) {
            let remedy = "connect under the server name that the request names as its Host: a \
                          client does so by itself after a 421";
            return Step::failed(
                STEP,
                self.decision.reason.clone().unwrap_or_default(),
                Some(remedy.to_owned()),
            );
        }
        let of_host = self.policy.certificate_request(Some(self.probe.host));
        let detail = match (self.probe.server_name, of_host) {
            (Some(name), _) if name == self.probe.host => {
                format!("the Host '{host}' is the server name of the handshake")
            }
            (_, None) => format!("no certificate is requested for the Host '{host}'"),
            (_, Some(_)) => format!(
                "handshakes for the Host '{host}' request the same as that of this connection"
            ),
        };
        let resumed = match &plan.auth {
            Some(auth) if !auth.resumption => "; a resumed session would get 421",
            _ => "",
        };
        Step::passed(STEP, format!("{detail}{resumed}"))
    }

    /// The certificate that the request presents.
    fn presented(&self, plan: &Plan, headers: &RequestHeaders<'_>) -> Result<Step, Error> {
        const STEP: &str = "certificate";
        if let Some(inbound) = &plan.certificate_header {
            let name = quoted(inbound.name.as_bytes());
            let format = inbound.format.name();
            match self.engine.certificate_from_header(inbound, headers)? {
                HeaderCertificate::Found(_, certificate) => {
                    let who = subject(certificate.leaf());
                    let detail = format!(
                        "{who} in the header '{name}', which counts from peers in trusted_ips only"
                    );
                    return Ok(Step::passed(STEP, detail));
                }
                HeaderCertificate::Invalid(why) => {
                    let remedy = format!("expected the format '{format}' in the header '{name}'");
                    return Ok(Step::failed(STEP, why, Some(remedy)));
                }
                HeaderCertificate::Absent(why)
                    if plan.auth.is_some() || !self.has_certificate() =>
                {
                    let remedy = format!(
                        "the proxy in front must send '{name}' with the certificate as '{format}'"
                    );
                    return Ok(match plan.auth {
                        Some(_) => Step::failed(STEP, why.text(), Some(remedy)),
                        None => Step::passed(STEP, why.text()),
                    });
                }
                HeaderCertificate::Absent(_) => {}
            }
        }
        if let Some(certificate) = &self.certificate {
            let sent = certificate.intermediates().len();
            let chain = match sent {
                0 => "without intermediates".to_owned(),
                1 => "with 1 more certificate".to_owned(),
                sent => format!("with {sent} more certificates"),
            };
            let who = subject(certificate.leaf());
            return Ok(Step::passed(
                STEP,
                format!("the client presents {who} {chain}"),
            ));
        }
        let connection = Connection::of(self.server.ssl());
        let requested = connection.is_some_and(Connection::requested);
        let why = match requested {
            true if self.probe.certificate.is_some() => {
                "the client presents none, because keys of this type do not sign in TLS 1.3"
                    .to_owned()
            }
            true => "the client presents none".to_owned(),
            false if self.probe.certificate.is_some() => {
                "the client presents none, because none is requested".to_owned()
            }
            false => "none is requested".to_owned(),
        };
        if plan.auth.is_none() {
            return Ok(Step::passed(STEP, why));
        }
        let remedy = match requested {
            true => "the client needs a certificate of a CA that the route trusts".to_owned(),
            false => {
                let name = self.probe.server_name.map(quoted).unwrap_or_default();
                match name.is_empty() {
                    true => "the client must send a server name of the route, or the route needs \
                             the entry \"\" in its snis"
                        .to_owned(),
                    false => format!(
                        "add '{name}' to the snis of a route with {}",
                        self.auth_plugin()
                    ),
                }
            }
        };
        Ok(Step::failed(STEP, why, Some(remedy)))
    }

    fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// Chain, lists, revocation, consumer, and rules, up to the first that refuses.
    fn authentication(
        &self,
        plan: &Plan,
        auth: &Auth,
        certificate: &Rc<Certificate>,
        steps: &mut Vec<Step>,
    ) -> Result<(), Error> {
        let now = self.probe.now;
        let store = match auth.store_of(certificate) {
            Ok(store) => store,
            Err(why) => {
                let remedy = "name its trust domain in trust_domains, or ca_certificates, of the";
                let remedy = format!("{remedy} {}", self.auth_plugin());
                steps.push(Step::failed("chain", why, Some(remedy)));
                return Ok(());
            }
        };
        let verdict = self.engine.verdict(None, store, certificate, now)?;
        let path = PathInput {
            policy: &self.policy,
            outline: self.outline(),
            store,
            certificate,
            plugin: self.auth_plugin(),
            now,
        };
        steps.push(path.step(&verdict)?);
        if !verdict.is_success() {
            return Ok(());
        }
        let selectors = CertificateSelectors::verified(certificate, verdict.alternate_sha256());
        if self.engine.has_blocks_table() {
            if let Some(why) = self.engine.find_block(&selectors, now)? {
                let remedy = "remove the block: mtls.unblock, or DELETE of /mtls/blocks".to_owned();
                steps.push(Step::failed("blocks", why, Some(remedy)));
                return Ok(());
            }
            steps.push(Step::passed("blocks", "none of the given blocks names it"));
        }
        if let Some(lists) = &plan.lists {
            match check_lists(lists, certificate, &selectors, now)? {
                ListResult::Passed { .. } => {
                    steps.push(Step::passed("lists", "not denied by client-cert-lists"));
                }
                ListResult::Denied(why) | ListResult::Unavailable(why) => {
                    let remedy = format!(
                        "change the files of the {}",
                        self.plugin_text(&["client-cert-lists"])
                    );
                    steps.push(Step::failed("lists", why, Some(remedy)));
                    return Ok(());
                }
            }
        }
        let revocation = self.revocation(auth, certificate, &verdict)?;
        let is_refused = revocation.ok == Some(false);
        if auth.revocation.mode != RevocationMode::Skip {
            steps.extend(self.crls.iter().cloned());
        }
        if let Some(queried) = &self.queried {
            steps.extend(queried.steps.iter().cloned());
        }
        steps.push(revocation);
        if is_refused {
            return Ok(());
        }
        if let Some(digest) = verdict.alternate_sha256() {
            certificate.set_alternate_sha256(digest);
        }
        let Some(identity) = self.policy.identify(auth, certificate, verdict.cas()) else {
            steps.push(self.no_consumer(auth, certificate));
            return Ok(());
        };
        steps.push(self.consumer(identity));
        let subject = RuleSubject {
            certificate,
            cas: verdict.cas(),
            spiffe_id: auth.spiffe_id(certificate),
        };
        steps.extend(self.authorization(plan, Some(subject), identity));
        Ok(())
    }

    fn anonymous(&self, consumer: u32) -> Step {
        let name = self.consumer_name(consumer);
        Step::passed(
            "anonymous",
            format!("the request is attributed to the anonymous consumer '{name}'"),
        )
    }

    fn consumer_name(&self, index: u32) -> String {
        let consumer = self.policy.consumers.get(index);
        let name = consumer.map(|consumer| {
            let name = consumer.username.as_ref().or(consumer.custom_id.as_ref());
            quoted(name.unwrap_or(&consumer.id).as_bytes())
        });
        name.unwrap_or_default()
    }

    fn consumer(&self, identity: Identity) -> Step {
        let Identity::Consumer(consumer, credential) = identity else {
            return Step::passed("consumer", "not looked up (skip_consumer_lookup)");
        };
        let name = self.consumer_name(consumer);
        let credential = credential.and_then(|index| self.policy.consumers.credential(index));
        let how = match credential {
            Some(credential) => {
                let ca = match credential.ca {
                    Some(_) => " and its ca_certificate",
                    None => "",
                };
                let subject_name = quoted(credential.subject_name.as_bytes());
                format!("by the credential with subject_name '{subject_name}'{ca}")
            }
            None => "by its username or custom_id, or as default_consumer".to_owned(),
        };
        Step::passed("consumer", format!("'{name}', {how}"))
    }

    fn no_consumer(&self, auth: &Auth, certificate: &Certificate) -> Step {
        let lookup = auth.lookup.as_ref();
        let found = lookup
            .map(|lookup| subject_names(certificate, &lookup.dirname, lookup.upn))
            .unwrap_or_default();
        // Of an SVID only the SPIFFE ID counts.
        let id = auth.spiffe_id(certificate).map(|id| id.as_str());
        let counts = |name: &&SubjectName| id.is_none_or(|id| name.text() == id);
        let names: Vec<_> = found
            .names
            .iter()
            .filter(counts)
            .map(|name| format!("'{}'", quoted(name.text().as_bytes())))
            .collect();
        let first = names.first().cloned();
        let detail = match names.is_empty() {
            true => "it has no name by which consumers are looked up".to_owned(),
            false => format!(
                "no consumer or credential has one of its names {}",
                listed(names)
            ),
        };
        let remedy = match first {
            Some(name) => format!(
                "add an entry with subject_name {name} to mtls_auth_credentials, or set \
                 default_consumer or skip_consumer_lookup in the {}",
                self.auth_plugin()
            ),
            None => format!(
                "set default_consumer or skip_consumer_lookup in the {}",
                self.auth_plugin()
            ),
        };
        Step::failed("consumer", detail, Some(remedy))
    }
}

/// How many CA names a handshake sends.
fn ca_names(request: &CertificateRequest) -> String {
    let bytes = request.ca_names_bytes();
    match request.ca_names_len() {
        0 if request.over_budget() => {
            format!("no CA names are sent, because {bytes} bytes of names are over the limit")
        }
        0 => "no CA names are sent".to_owned(),
        1 => format!("1 CA name is sent, {bytes} bytes"),
        count => format!("{count} CA names are sent, {bytes} bytes"),
    }
}
