//! Why a client would be let in or refused: the decision of the engine about a request that nobody
//! has sent, and the steps to it. The decision is that of [`Engine::access_with_headers`] and
//! [`Engine::check_token`] for a TLS connection in memory; the steps read what these have cached.
//!
//! Without [`Probe::fetch`] nothing is fetched. Where the decision depends on a status or a document
//! that the gateway would fetch, it is decided as if no source answered, and the step says so.

mod authorization;
mod chain;
mod connection;
mod revocation;
mod sources;
mod steps;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::LazyLock;

use openssl::pkey::Id;

use self::connection::ServerSide;
use self::sources::QueriedStatus;
pub use self::sources::{FetchSettings, FetchSource};
use super::revocation::{PlanRef, RevocationState};
use super::{Engine, LineKind, RequestHeaders, TokenOutcome, TokenRequest, NO_CONSUMER};
use crate::certificate::Certificate;
use crate::decision::{CertificateForwarding, Decision, Identity, Outcome};
use crate::headers::{VerifyResult, TOO_LARGE_SUFFIX};
use crate::policy::{Outline, Policy, SourceLine};
use crate::text::quoted;
use crate::Error;

/// A request that is explained.
#[derive(Clone, Copy, Default)]
pub struct Probe<'p> {
    /// The name or id of the route; `None` for the global plugins only.
    pub route: Option<&'p str>,
    /// The server name of the ClientHello; `None` for a client without SNI.
    pub server_name: Option<&'p [u8]>,
    /// The Host of the request.
    pub host: &'p [u8],
    /// The certificate that the client has; it is presented only if the handshake requests one.
    pub certificate: Option<&'p Certificate>,
    /// The headers of the request, from a peer in `trusted_ips`.
    pub headers: &'p [(&'p [u8], &'p [u8])],
    /// The documents of the token's issuer.
    pub issuer: Option<PublishedDocuments<'p>>,
    /// In seconds since the epoch.
    pub now: i64,
    /// Fetches from the sources of a revocation status. Without it they are not queried.
    pub fetch: Option<&'p FetchSource<'p>>,
}

/// What the issuer of a token publishes.
#[derive(Clone, Copy)]
pub struct PublishedDocuments<'p> {
    /// Its discovery document.
    pub discovery: Option<&'p [u8]>,
    /// Its sets of keys.
    pub keys: &'p [&'p [u8]],
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is decided.
    pub step: &'static str,
    /// Whether the client passes; `None` if it depends on what is not known here.
    pub ok: Option<bool>,
    /// What was found.
    pub detail: String,
    /// What would make it pass.
    pub remedy: Option<String>,
}

impl Step {
    fn passed(step: &'static str, detail: impl Into<String>) -> Step {
        Step {
            step,
            ok: Some(true),
            detail: detail.into(),
            remedy: None,
        }
    }

    fn failed(step: &'static str, detail: impl Into<String>, remedy: Option<String>) -> Step {
        Step {
            step,
            ok: Some(false),
            detail: detail.into(),
            remedy,
        }
    }

    fn unknown(step: &'static str, detail: impl Into<String>) -> Step {
        Step {
            ok: None,
            ..Step::passed(step, detail)
        }
    }
}

/// The rule, list of groups or plugin that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedBy {
    /// Name of the plugin.
    pub plugin: &'static str,
    /// Name of the rule of `client-cert-acl`.
    pub rule: Option<Box<str>>,
    /// Where it is.
    pub at: Option<SourceLine>,
}

/// The decision about a [`Probe`].
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Whether the request is let in.
    pub allowed: bool,
    /// Status of the response; 200 for one that is let in.
    pub status: u16,
    /// `pass`, `would_refuse`, or the refusal, as `$mtls_decision`.
    pub decision: &'static str,
    /// `NONE`, `SUCCESS` or `FAILED:<reason>`, as `$mtls_verify`.
    pub verdict: String,
    /// The reason of a refusal, also of one that is only reported, as in the error log.
    pub reason: Option<String>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Username, else custom_id, else id of the consumer, as `$mtls_consumer`.
    pub consumer: Option<String>,
    /// Whether the request is attributed to the anonymous consumer.
    pub anonymous: bool,
    /// The groups of the client.
    pub groups: Vec<Box<str>>,
    /// What decided.
    pub rule: Option<DecidedBy>,
    /// The headers that the upstream receives, of the first request of a connection.
    pub headers: Vec<(Box<str>, String)>,
}

static NO_OUTLINE: LazyLock<Outline> = LazyLock::new(Outline::default);

/// What the steps are read from.
struct Explained<'e> {
    engine: &'e Engine,
    probe: &'e Probe<'e>,
    policy: Rc<Policy>,
    plan_id: usize,
    server: ServerSide,
    /// The certificate that the decision is about.
    certificate: Option<Rc<Certificate>>,
    decision: Decision,
    /// The CRLs of the policy that were fetched.
    crls: Vec<Step>,
    /// What the sources of its certificate answered, if they were queried.
    queried: Option<QueriedStatus>,
}

/// Whether a TLS client can use the key of a certificate. TLS 1.3 has no signatures by DSA (RFC 8446,
/// section 4.2.3), so that such a client presents no certificate.
///
/// # Errors
/// When the server cannot read the key, so that the handshake fails.
fn can_sign(certificate: &Certificate) -> Result<bool, Error> {
    let key = certificate.leaf().public_key().map_err(|_| {
        let message = "the key of the certificate cannot be read: its handshake fails";
        Error::BadCertificate(message.to_owned())
    })?;
    Ok(![Id::DSA, Id::DH, Id::X25519, Id::X448].contains(&key.id()))
}

/// Status and `$mtls_decision` of an outcome.
fn status_of(outcome: Outcome) -> (u16, &'static str) {
    match outcome {
        Outcome::Pass => (200, "pass"),
        Outcome::NoCertificate => (401, "no_certificate"),
        Outcome::Refused => (401, "refused"),
        Outcome::Misdirected => (421, "misdirected"),
        Outcome::Forbidden => (403, "forbidden"),
        Outcome::TooEarly => (425, "too_early"),
        Outcome::Pending | Outcome::Unavailable => (503, "unavailable"),
    }
}

impl Engine {
    /// An engine with a policy in force, for a command.
    pub fn of_policy(policy: Policy) -> Engine {
        let engine = Engine::default();
        engine.install(policy);
        engine
    }

    /// Decides about a request that nobody has sent, and explains the decision.
    ///
    /// # Errors
    /// For a route that is not in the policy, a server name that no client can send, issuer
    /// documents that are not valid, and a certificate with which no handshake is possible.
    pub fn explain(&self, probe: &Probe<'_>) -> Result<Explanation, Error> {
        let policy = self.policy()?;
        let plan_id = policy.plan(probe.route).ok_or_else(|| {
            let route = probe.route.unwrap_or_default();
            let mut suggestion = self.suggest_route(route, probe.now).unwrap_or_default();
            if suggestion.is_empty() {
                let routes = policy.listed_routes();
                suggestion = routes.map_or(String::new(), |routes| format!(", expected {routes}"));
            }
            let route = crate::text::quoted(route.as_bytes());
            Error::Misuse(format!("no route '{route}' in the policy{suggestion}"))
        })?;
        let presented = match probe.certificate {
            Some(certificate) if can_sign(certificate)? => Some(certificate),
            _ => None,
        };
        // What was given for another request does not count for this one.
        self.forget_tokens();
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let crls = match probe.fetch {
            Some(fetch) => self.fetch_url_crls(&policy, plan, fetch)?,
            None => Vec::new(),
        };
        let server = connection::connect(self, probe.server_name, presented)?;
        let headers = RequestHeaders {
            headers: probe.headers,
            trusted: true,
        };
        let (decision, queried) = self.decide_by_sources(&server, plan_id, probe, &headers)?;
        let or_tls = plan.auth.is_none();
        let certificate =
            self.unverified_certificate(Some(server.ssl()), plan_id, &headers, or_tls)?;
        let explained = Explained {
            engine: self,
            probe,
            policy: policy.clone(),
            plan_id,
            server,
            certificate,
            decision,
            crls,
            queried,
        };
        explained.explain(&headers)
    }

    /// The decision; where it needs a revocation status, by what its sources answer, or as if none
    /// answered.
    fn decide_by_sources(
        &self,
        server: &ServerSide,
        plan_id: usize,
        probe: &Probe<'_>,
        headers: &RequestHeaders<'_>,
    ) -> Result<(Decision, Option<QueriedStatus>), Error> {
        let ssl = Some(server.ssl());
        let decide = || self.access_with_headers(ssl, plan_id, probe.host, headers, probe.now);
        let decision = decide()?;
        if decision.outcome != Outcome::Pending {
            return Ok((decision, None));
        }
        let certificate = self.unverified_certificate(ssl, plan_id, headers, false)?;
        let queried = self.query_status(certificate.as_deref(), plan_id, probe)?;
        Ok((decide()?, queried))
    }

    /// Queries the sources of a status, and records that it is unknown if none of them has one.
    fn query_status(
        &self,
        certificate: Option<&Certificate>,
        plan_id: usize,
        probe: &Probe<'_>,
    ) -> Result<Option<QueriedStatus>, Error> {
        let now = probe.now;
        let at = PlanRef {
            plan: plan_id,
            epoch: self.epoch(),
        };
        let certificate = certificate.ok_or(Error::NotFound)?;
        let query = |fetch| self.query_sources(certificate, plan_id, fetch, now);
        let queried = probe.fetch.map(query).transpose()?;
        let has_status = |queried: &QueriedStatus| queried.state != RevocationState::Unknown;
        if !queried.as_ref().is_some_and(has_status) {
            let until = now.saturating_add(1);
            self.set_revocation_status(certificate, at, RevocationState::Unknown, until, now)?;
        }
        Ok(queried)
    }
}

impl Explained<'_> {
    /// What is where in the document; nothing if the policy was read without its outline.
    fn outline(&self) -> &Outline {
        self.policy.outline.as_ref().unwrap_or(&NO_OUTLINE)
    }

    fn explain(mut self, headers: &RequestHeaders<'_>) -> Result<Explanation, Error> {
        let policy = self.policy.clone();
        let plan = policy.plans.get(self.plan_id).ok_or(Error::NotFound)?;
        let mut steps = self.steps(plan, headers)?;
        let (mut status, mut decision) = status_of(self.decision.outcome);
        let mut reason = self.decision.reason.clone();
        let mut reported = None;
        let mut headers_out = Vec::new();
        if self.decision.outcome == Outcome::Pass {
            let mut claims = Vec::new();
            let (engine, plan_id) = (self.engine, self.plan_id);
            if self.would_be(Outcome::Misdirected) {
                if plan.token_auth.is_some() {
                    engine.pass_without_token(plan_id, &mut self.decision)?;
                }
            } else if plan.token_auth.is_some() {
                let token = self.check_token(headers)?;
                steps.extend(token.sources);
                steps.push(token.step);
                (status, decision) = (token.status, token.decision);
                if status == 200 {
                    engine.apply_token(plan_id, &mut self.decision, token.identity)?;
                    claims = token.headers;
                }
                let applied = status == 200
                    || status < 500 && engine.pass_without_token(plan_id, &mut self.decision)?;
                if applied {
                    if plan.checks_acl_with_token() {
                        steps.extend(self.acl(plan));
                    }
                    reported = token
                        .reason
                        .filter(|_| status != 200)
                        .map(|why| (status, why));
                    (status, decision) = status_of(self.decision.outcome);
                    reason = self.decision.reason.clone();
                } else {
                    reason = token.reason;
                }
            }
            if let Some(found) = self.decision.would_refuse {
                let why = self.decision.reason.clone().unwrap_or_default();
                reported = Some((status_of(found.outcome).0, why));
            }
            if let Some((refusal, why)) = reported.filter(|_| status == 200) {
                decision = "would_refuse";
                let detail = format!(
                    "the request passes, although it would be refused with {refusal}: a plugin of \
                     the route has 'enforce: report'"
                );
                steps.push(Step::passed("report", detail));
                reason = Some(why);
            }
            if status == 200 {
                headers_out = self.header_lines()?;
                headers_out.extend(claims);
            }
        }
        steps.extend(self.ineffective_report(plan));
        let allowed = status == 200;
        let client = self.decision.client;
        let certificate = client.and_then(|slot| self.engine.certificate_at(slot));
        let identity = self.decision.identity;
        let has_groups = client.is_some() || plan.checks_acl_with_token();
        let is_consumer = matches!(identity, Identity::Consumer(..));
        let consumer = identity.consumer().filter(|_| is_consumer);
        let consumer = consumer.and_then(|index| self.policy.consumers.get(index));
        Ok(Explanation {
            allowed,
            status,
            decision,
            verdict: self.verdict_text(),
            reason,
            consumer: consumer.map(|consumer| {
                let name = consumer.username.as_ref().or(consumer.custom_id.as_ref());
                name.unwrap_or(&consumer.id).to_string()
            }),
            anonymous: matches!(identity, Identity::Anonymous(_)),
            groups: match has_groups {
                true => policy.groups(plan, certificate.as_deref(), identity),
                false => Vec::new(),
            },
            rule: self.decided_by(plan)?,
            steps,
            headers: headers_out,
        })
    }

    /// Whether the request is, or without `enforce: report` would be, refused with this outcome.
    fn would_be(&self, outcome: Outcome) -> bool {
        let reported = self.decision.would_refuse.map(|found| found.outcome);
        reported.unwrap_or(self.decision.outcome) == outcome
    }

    /// As `$mtls_verify`: of the certificate that the request presents.
    fn verdict_text(&self) -> String {
        let Decision {
            client, verdict, ..
        } = self.decision;
        let result = match (self.certificate.is_some(), client, verdict) {
            (true, None, Some(0)) => NO_CONSUMER,
            (true, _, None) => VerifyResult::NotVerified,
            (true, _, Some(code)) => VerifyResult::from_code(code),
            // A header with something that is not a certificate.
            (false, _, Some(code)) if code != 0 => VerifyResult::from_code(code),
            (false, ..) => VerifyResult::NoCertificate,
        };
        result.text()
    }

    /// The headers for the upstream.
    fn header_lines(&self) -> Result<Vec<(Box<str>, String)>, Error> {
        let (ssl, decision) = (Some(self.server.ssl()), &self.decision);
        let lines = self
            .engine
            .lines(ssl, self.plan_id, decision, self.probe.now)?;
        let forwards = decision.forwarding != CertificateForwarding::No;
        let mut headers = Vec::new();
        let mut own_xfcc = None;
        for line in lines.lines {
            match line.kind {
                LineKind::Always => headers.push((line.name, line.value)),
                LineKind::Forwarding if forwards => headers.push((line.name, line.value)),
                LineKind::Xfcc => own_xfcc = Some(line.value),
                LineKind::Forwarding
                | LineKind::TooLarge
                | LineKind::Ambiguous
                | LineKind::NotText
                | LineKind::Unreadable => {}
            }
        }
        let inbound = self.probe.headers;
        let xfcc = self
            .engine
            .xfcc(self.plan_id, decision, inbound, own_xfcc.as_deref())?;
        match xfcc {
            Some(line) if line.kind == LineKind::Always => headers.push((line.name, line.value)),
            Some(line) if line.kind == LineKind::TooLarge => {
                let name = format!("{}{TOO_LARGE_SUFFIX}", line.name);
                headers.push((name.into(), "1".to_owned()));
            }
            _ => {}
        }
        Ok(headers)
    }

    /// The token of the request; its certificate was accepted.
    fn check_token(&self, headers: &RequestHeaders<'_>) -> Result<TokenStep, Error> {
        let (engine, plan_id, now) = (self.engine, self.plan_id, self.probe.now);
        if let Some(PublishedDocuments { discovery, keys }) = self.probe.issuer {
            engine.set_issuer_documents(plan_id, discovery, keys)?;
        }
        let plan = self.policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let token_auth = plan.token_auth.as_ref().ok_or(Error::NotFound)?;
        let token_header = token_auth.token_header.as_deref();
        let token_header = token_header.unwrap_or("authorization").as_bytes();
        let authorization: Vec<&[u8]> = self
            .probe
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(token_header))
            .map(|(_, value)| *value)
            .collect();
        let request = TokenRequest {
            authorization: &authorization,
            dpop: None,
            headers: *headers,
            ssl: Some(self.server.ssl()),
            latest: self.probe.issuer.is_some(),
        };
        let mut sources = Vec::new();
        let mut checked = engine.check_token(plan_id, &request, now)?;
        if checked.outcome == TokenOutcome::Pending {
            let plan = plan.certificate_plan.ok_or(Error::NotFound)?;
            let queried = engine.query_status(self.certificate.as_deref(), plan, self.probe)?;
            sources.extend(self.crls.iter().cloned());
            sources.extend(queried.into_iter().flat_map(|queried| queried.steps));
            checked = engine.check_token(plan_id, &request, now)?;
        }
        let reason = checked.reason.clone();
        let (status, decision) = match checked.outcome {
            TokenOutcome::Pass => (200, "pass"),
            TokenOutcome::NoToken => (401, "no_token"),
            TokenOutcome::Refused => (401, "token_refused"),
            TokenOutcome::Forbidden => (403, "token_forbidden"),
            TokenOutcome::NeedsKeys | TokenOutcome::NeedsIntrospection => {
                (503, "issuer_unavailable")
            }
            TokenOutcome::Pending => (503, "unavailable"),
        };
        let step = match checked.outcome {
            TokenOutcome::Pass => {
                let name = checked.identity.consumer();
                let name = name.and_then(|index| self.policy.consumers.get(index));
                let name = name.map(|consumer| {
                    let name = consumer.username.as_ref().or(consumer.custom_id.as_ref());
                    quoted(name.unwrap_or(&consumer.id).as_bytes())
                });
                Step::passed(
                    "token",
                    match (checked.identity, name) {
                        (Identity::Anonymous(_), Some(name)) => {
                            format!("none that is valid: the anonymous consumer '{name}'")
                        }
                        (_, Some(name)) => format!(
                            "valid, and bound as the route requires, of the consumer '{name}'"
                        ),
                        _ => "valid, and bound as the route requires".to_owned(),
                    },
                )
            }
            TokenOutcome::NeedsKeys => {
                Step::unknown("token", "needs the keys of its issuer, which are not given")
            }
            TokenOutcome::NeedsIntrospection => {
                Step::unknown("token", "would be introspected by its issuer")
            }
            _ => Step::failed("token", reason.clone().unwrap_or_default(), None),
        };
        let claims = match checked.token.filter(|_| status == 200) {
            Some(token) => engine.claim_headers(plan_id, token)?.lines,
            None => Vec::new(),
        };
        let claims = claims.into_iter();
        let claims = claims.filter(|line| line.kind == LineKind::Always);
        Ok(TokenStep {
            sources,
            step,
            status,
            decision,
            reason,
            identity: checked.identity,
            headers: claims.map(|line| (line.name, line.value)).collect(),
        })
    }
}

/// The outcome for a token.
struct TokenStep {
    /// The sources of the status of its certificate.
    sources: Vec<Step>,
    step: Step,
    status: u16,
    decision: &'static str,
    reason: Option<String>,
    identity: Identity,
    headers: Vec<(Box<str>, String)>,
}
