//! What the policy would decide about a client of the log, compared with what was decided.

use std::path::PathBuf;

use openssl::stack::Stack;
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

/// Reasons in `$mtls_verify`, after `FAILED:`, of certificates from which no path to a trusted CA was
/// found: OpenSSL's texts of X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, _DEPTH_ZERO_SELF_SIGNED_CERT,
/// _SELF_SIGNED_CERT_IN_CHAIN, _UNABLE_TO_GET_ISSUER_CERT_LOCALLY, _UNABLE_TO_VERIFY_LEAF_SIGNATURE
/// and _CERT_CHAIN_TOO_LONG. It looks for a path first, so other reasons mean that there was one.
const CHAIN_REASONS: [&str; 6] = [
    "unable to get issuer certificate",
    "self-signed certificate",
    "self-signed certificate in certificate chain",
    "unable to get local issuer certificate",
    "unable to verify the first certificate",
    "certificate chain too long",
];

/// The comparison of the old and the new decision.
pub(super) enum Judgement {
    Same,
    /// Was let in, and would be refused.
    Refused(Change),
    /// Was refused, or let in only since a plugin had `enforce: report`, and would be let in.
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
        if let Some(certificate) = &certificate {
            self.check_intermediates(entry, plan, certificate, &explanation)?;
        }
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

    /// Whether the decision is that about the client of the log, which may not have sent the
    /// intermediates of the file: they may be of another connection.
    ///
    /// # Errors
    /// Its chain failed in the log, and the policy would decide otherwise without them.
    fn check_intermediates(
        &self,
        entry: &AuditEntry,
        plan: &Plan,
        certificate: &Certificate,
        explanation: &Explanation,
    ) -> Result<(), String> {
        let reason = entry.verify.as_deref();
        let reason = reason.and_then(|text| text.strip_prefix("FAILED:"));
        let reason = reason.filter(|reason| CHAIN_REASONS.contains(reason));
        let (Some(reason), false) = (reason, certificate.intermediates().is_empty()) else {
            return Ok(());
        };
        let none = Stack::new().map_err(|error| error.to_string())?;
        let alone = Certificate::new(certificate.leaf().to_owned(), none);
        let alone = alone.map_err(|error| error.to_string())?;
        let alone = self.explain(entry, plan, Some(&alone))?;
        let outcome = |of: &Explanation| {
            let verified = of.verdict == "SUCCESS";
            (of.status, of.decision, verified, of.consumer.clone())
        };
        let is_allowed = explanation.allowed || alone.allowed;
        match is_allowed && outcome(explanation) != outcome(&alone) {
            true => Err(format!(
                "in the log its chain failed ({reason}); the file has intermediates that it may \
                 not have sent"
            )),
            false => Ok(()),
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
            None => format!("its certificate is needed, see --certs{}", in_log(entry)),
            Some(directory) => {
                let shown = directory.display();
                format!("{shown}/{digest}.pem is not there{}", in_log(entry))
            }
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

/// What the log says of the verification, as the end of a sentence.
fn in_log(entry: &AuditEntry) -> String {
    match &entry.verify {
        Some(verify) => format!("; in the log: {verify}"),
        None => String::new(),
    }
}

fn compare(entry: &AuditEntry, change: Change) -> Judgement {
    let passed = matches!(&*entry.decision, "pass" | "would_refuse");
    match (passed, change.status == 200) {
        (true, false) => Judgement::Refused(change),
        (false, true) => Judgement::LetIn(change),
        // As another consumer than the one that the log has, it is mapped otherwise.
        (true, true)
            if entry.decision == "would_refuse"
                && change.decision == "pass"
                && (entry.consumer.is_none() || entry.consumer == change.consumer) =>
        {
            Judgement::LetIn(change)
        }
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
