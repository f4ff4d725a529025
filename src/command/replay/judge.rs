//! What the policy would decide about a client of the log, compared with what was decided.

use std::path::PathBuf;

use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};

use super::super::audit::AuditEntry;
use super::super::request::{host_variable, read_certificate};
use crate::certificate::{time, Certificate};
use crate::engine::{Engine, Explanation, Probe};
use crate::policy::Plan;

/// The new decision, as far as it differs.
pub(super) struct Change {
    /// Status, `$mtls_decision` and `$mtls_verify` of the new decision.
    pub status: u16,
    pub decision: String,
    pub verdict: Option<String>,
    pub consumer: Option<String>,
    /// Why, for a refusal.
    pub reason: Option<String>,
    /// What would prevent it.
    pub remedy: Option<String>,
}

/// The comparison of the old and the new decision.
pub(super) enum Judgement {
    Same,
    /// Was let in, and would be refused.
    Refused(Change),
    /// Was refused, and would be let in.
    LetIn(Change),
    /// Would be let in as before, as another consumer.
    Mapped(Change),
    /// Not known, and why.
    NotJudged(String),
}

/// The new policy at work.
pub(super) struct Judge<'e> {
    engine: &'e Engine,
    certificates: Option<PathBuf>,
    now: i64,
}

impl<'e> Judge<'e> {
    pub(super) fn new(engine: &'e Engine, certificates: Option<PathBuf>, now: i64) -> Judge<'e> {
        Judge {
            engine,
            certificates,
            now,
        }
    }

    pub(super) fn judge(&self, entry: &AuditEntry) -> Judgement {
        match self.decide(entry) {
            Ok(change) => compare(entry, change),
            Err(why) => Judgement::NotJudged(why),
        }
    }

    /// The new decision.
    ///
    /// # Errors
    /// Why it is not known.
    fn decide(&self, entry: &AuditEntry) -> Result<Change, String> {
        let policy = self.engine.policy().map_err(|error| error.to_string())?;
        let route = entry.route.as_deref();
        let plan = policy.plan(route).and_then(|plan| policy.plans.get(plan));
        let Some(plan) = plan else {
            return Ok(Change {
                status: 500,
                decision: "unknown route".to_owned(),
                verdict: None,
                consumer: None,
                reason: Some("the policy has no such route".to_owned()),
                remedy: Some("add the route, or change the location that names it".to_owned()),
            });
        };
        let certificate = match &entry.sha256 {
            None => None,
            Some(digest) => match self.certificate(digest)? {
                Some(certificate) => Some(certificate),
                None => return self.decide_without_certificate(entry, plan, digest),
            },
        };
        let explanation = self.explain(entry, plan, certificate.as_ref())?;
        // A refusal of the certificate precedes one of the token.
        let is_of_token = plan.token_auth.is_some()
            && matches!(
                explanation.decision,
                "pass"
                    | "would_refuse"
                    | "no_token"
                    | "token_refused"
                    | "token_forbidden"
                    | "issuer_unavailable"
            );
        match is_of_token {
            true => Err("the route checks a token, which no log has".to_owned()),
            false => Ok(change(explanation)),
        }
    }

    fn certificate(&self, digest: &str) -> Result<Option<Certificate>, String> {
        let Some(directory) = &self.certificates else {
            return Ok(None);
        };
        let path = directory.join(format!("{digest}.pem"));
        if !path.exists() {
            return Ok(None);
        }
        let certificate = read_certificate(&path)?;
        match certificate.fingerprint_sha256() == *digest {
            true => Ok(Some(certificate)),
            false => Err(format!(
                "{}: the SHA-256 of its certificate is another one",
                path.display()
            )),
        }
    }

    fn explain(
        &self,
        entry: &AuditEntry,
        plan: &Plan,
        certificate: Option<&Certificate>,
    ) -> Result<Explanation, String> {
        let mut header = None;
        if let (Some(inbound), Some(certificate)) = (&plan.certificate_header, certificate) {
            let format = inbound.format.name();
            if !matches!(format, "url_encoded" | "auto") || inbound.chain.is_some() {
                return Err(format!(
                    "the route reads certificates of the format '{format}'"
                ));
            }
            header = Some((inbound.name.to_string(), url_encoded(certificate)?));
        }
        let headers: Vec<(&[u8], &[u8])> = header
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let host = host_variable(entry.host.as_deref().unwrap_or_default());
        let probe = Probe {
            route: entry.route.as_deref(),
            server_name: entry.server_name.as_deref().map(str::as_bytes),
            host: host.as_bytes(),
            certificate: certificate.filter(|_| headers.is_empty()),
            headers: &headers,
            issuer: None,
            now: self.now,
            fetch: None,
        };
        self.engine
            .explain(&probe)
            .map_err(|error| error.to_string())
    }

    /// The decision about a client whose certificate is not there, where the log suffices.
    fn decide_without_certificate(
        &self,
        entry: &AuditEntry,
        plan: &Plan,
        digest: &str,
    ) -> Result<Change, String> {
        let of_none = self.explain(entry, plan, None)?;
        // A decision that no certificate changes.
        let is_final = of_none.decision == "misdirected" || !plan.has_plugins;
        let policy = self.engine.policy().map_err(|error| error.to_string())?;
        let server_name = entry.server_name.as_deref().map(str::as_bytes);
        let is_requested = policy.certificate_request(server_name).is_some();
        let from_connection = plan.certificate_header.is_none() && plan.token_auth.is_none();
        if is_final || (from_connection && !is_requested) {
            return Ok(change(of_none));
        }
        let end = entry.not_after.as_deref().and_then(time::parse_rfc3339);
        let verifies = plan.auth.as_ref().filter(|auth| auth.anonymous.is_none());
        let verifies = verifies.filter(|_| !plan.passes_unauthenticated());
        if let (Some(end), Some(_)) = (end.filter(|end| *end <= self.now), verifies) {
            let end = time::rfc3339(end, "Z");
            return Ok(Change {
                status: 401,
                decision: "refused".to_owned(),
                verdict: None,
                consumer: None,
                reason: Some(format!("the certificate expired at {end}")),
                remedy: Some("the client needs a new certificate".to_owned()),
            });
        }
        Err(match &self.certificates {
            None => "its certificate is needed, see --certs".to_owned(),
            Some(directory) => format!("{}/{digest}.pem is not there", directory.display()),
        })
    }
}

fn change(explanation: Explanation) -> Change {
    let refused = explanation.steps.into_iter();
    let mut refused = refused.filter(|step| step.ok == Some(false));
    let step = refused.next();
    Change {
        status: explanation.status,
        decision: explanation.decision.to_owned(),
        verdict: Some(explanation.verdict),
        consumer: explanation.consumer,
        reason: match explanation.allowed {
            true => None,
            false => step
                .as_ref()
                .map(|step| step.detail.clone())
                .or(explanation.reason),
        },
        remedy: step.and_then(|step| step.remedy),
    }
}

fn compare(entry: &AuditEntry, change: Change) -> Judgement {
    let passed = matches!(&*entry.decision, "pass" | "would_refuse");
    match (passed, change.status == 200) {
        (true, false) => Judgement::Refused(change),
        (false, true) => Judgement::LetIn(change),
        (true, true) if entry.consumer != change.consumer => Judgement::Mapped(change),
        _ => Judgement::Same,
    }
}

/// The certificate with its intermediates as nginx's `$ssl_client_escaped_cert` has one.
fn url_encoded(certificate: &Certificate) -> Result<String, String> {
    let error = |error: openssl::error::ErrorStack| error.to_string();
    let mut pem = certificate.leaf().to_pem().map_err(error)?;
    for sent in certificate.intermediates() {
        pem.extend(sent.to_pem().map_err(error)?);
    }
    let pem = String::from_utf8_lossy(&pem);
    Ok(utf8_percent_encode(&pem, NON_ALPHANUMERIC).to_string())
}
