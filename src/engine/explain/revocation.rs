//! The step of the revocation status.

use std::rc::Rc;

use openssl_sys as sys;

use super::super::revocation::{status_from_local_crls, RevocationSource};
use super::super::verdict::TrustResult;
use super::chain::{date, issuer, subject};
use super::sources::QueriedStatus;
use super::steps::listed;
use super::{Explained, PlanRef, RevocationState, Step};
use crate::certificate::Certificate;
use crate::policy::{Auth, RevocationMode};
use crate::text::quoted;
use crate::trust::Verdict;
use crate::Error;

const STEP: &str = "revocation";

const NO_STATUS_REMEDY: &str = "a CRL of the issuer in 'crls', or a source that answers, is needed";

impl Explained<'_> {
    /// The status by local CRLs or by the sources, and what it means for the client.
    pub(super) fn revocation(
        &self,
        auth: &Auth,
        certificate: &Rc<Certificate>,
        verdict: &Verdict,
    ) -> Result<Step, Error> {
        let now = self.probe.now;
        let mode = auth.revocation.mode;
        if mode == RevocationMode::Skip {
            return Ok(Step::passed(
                STEP,
                "not checked (revocation_check_mode: SKIP)",
            ));
        }
        let trust = self.engine.check_revocation_status(
            auth,
            self.plan_id,
            certificate,
            verdict.clone(),
            now,
        )?;
        let local = status_from_local_crls(auth, certificate, now)?;
        let local = local.map(|status| (status.state, status.depth));
        let mut step = match (&trust, local) {
            (_, Some((RevocationState::Good, _))) => {
                Step::passed(STEP, "good by the local CRLs of the policy")
            }
            (TrustResult::Untrusted(_), Some((RevocationState::Revoked, depth))) => {
                let detail = self.revoked_by_crl(auth, certificate, depth)?;
                let remedy = "the client needs a new certificate".to_owned();
                Step::failed(STEP, detail, Some(remedy))
            }
            (TrustResult::Untrusted(_), _) => {
                let detail = "no status is known, and revocation_check_mode is STRICT";
                Step::failed(STEP, detail, Some(NO_STATUS_REMEDY.to_owned()))
            }
            _ => Step::passed(STEP, "no status is known, which counts as good"),
        };
        if let (Some(queried), None) = (&self.queried, local) {
            let mut step = status_by_sources(queried, &trust);
            if queried.state == RevocationState::Unknown {
                self.add_expired_crls(auth, certificate, &mut step)?;
            }
            return Ok(step);
        }
        let sources = match local {
            None => self.sources(certificate)?,
            Some(_) => Vec::new(),
        };
        if !sources.is_empty() {
            let without = match step.ok {
                Some(false) => "refused (STRICT) unless one of them answers",
                _ => "let in unless one of them answers that it is revoked",
            };
            step = Step::unknown(
                STEP,
                format!("{without}; they were not asked: {}", listed(sources)),
            );
        }
        if matches!(local, None | Some((RevocationState::Unknown, _))) {
            self.add_expired_crls(auth, certificate, &mut step)?;
        }
        let urls = auth.revocation.crls.iter().flat_map(|crls| crls.urls());
        let urls: Vec<_> = urls.map(|crl| quoted(crl.url().as_bytes())).collect();
        if !urls.is_empty() && self.probe.fetch.is_none() {
            step.detail += &format!(
                "; CRLs that the gateway fetches are not here: {}",
                listed(urls)
            );
        }
        Ok(step)
    }

    /// The CRL of the policy that revokes the certificate at this depth, with date and reason.
    fn revoked_by_crl(
        &self,
        auth: &Auth,
        certificate: &Certificate,
        depth: u32,
    ) -> Result<String, Error> {
        let now = self.probe.now;
        let (leaf, sent) = (certificate.leaf(), certificate.intermediates());
        let store = auth.store_of(certificate).map_err(|_| Error::NotFound)?;
        let chain = store.chain(leaf, sent, now)?;
        let who = chain.get(depth as usize).map(|revoked| subject(revoked));
        let who = format!("{} at depth {depth}", who.unwrap_or_default());
        let path = store.path(leaf, sent, now)?;
        let crls = auth.revocation.crls.as_ref();
        let Some(entry) = crls.and_then(|crls| crls.revocation(&path, depth, now)) else {
            return Ok(format!("revoked by a local CRL: {who}"));
        };
        let mut text = format!(
            "revoked by the CRL '{}': {who}",
            quoted(entry.file.as_bytes())
        );
        if let Some(since) = entry.since {
            text += &format!(", since {}", date(since, now));
        }
        if entry.reason != "unspecified" {
            text += &format!(", reason {}", entry.reason);
        }
        Ok(text)
    }

    /// Adds to a step without status that the CRLs which would give it have expired.
    fn add_expired_crls(
        &self,
        auth: &Auth,
        certificate: &Certificate,
        step: &mut Step,
    ) -> Result<(), Error> {
        let now = self.probe.now;
        let Some(crls) = &auth.revocation.crls else {
            return Ok(());
        };
        let (leaf, sent) = (certificate.leaf(), certificate.intermediates());
        let store = auth.store_of(certificate).map_err(|_| Error::NotFound)?;
        let checked = crls.check(&store.path(leaf, sent, now)?, now);
        if checked.code != sys::X509_V_ERR_CRL_HAS_EXPIRED {
            return Ok(());
        }
        let chain = store.chain(leaf, sent, now)?;
        let Some(without_status) = chain.get(checked.depth as usize) else {
            return Ok(());
        };
        let expired = crls.expired_of(without_status.issuer_name(), now);
        let files = expired
            .iter()
            .map(|(file, end)| format!("'{}' ({})", quoted(file.as_bytes()), date(*end, now)));
        let issuer = issuer(without_status);
        step.detail += &format!("; the CRL of {issuer} has expired: {}", listed(files));
        if step.remedy.as_deref() == Some(NO_STATUS_REMEDY) {
            let files = expired.iter();
            let files = files.map(|(file, _)| format!("'{}'", quoted(file.as_bytes())));
            step.remedy = Some(format!(
                "{} must have a CRL of {issuer} that is in force, or a source that answers is \
                 needed",
                listed(files)
            ));
        }
        Ok(())
    }

    /// The sources of the status that a certificate names.
    fn sources(&self, certificate: &Certificate) -> Result<Vec<String>, Error> {
        let at = PlanRef {
            plan: self.plan_id,
            epoch: self.engine.epoch(),
        };
        let mut sources = Vec::new();
        for index in 0.. {
            let source = self
                .engine
                .revocation_source(certificate, at, index, self.probe.now)?;
            sources.push(match source {
                Some(RevocationSource::Ocsp { url, .. }) => {
                    format!("OCSP {}", quoted(url.as_bytes()))
                }
                Some(RevocationSource::Crl { url }) => format!("CRL {}", quoted(url.as_bytes())),
                None => break,
            });
        }
        Ok(sources)
    }
}

/// The step of a revocation status for which the sources were queried.
fn status_by_sources(queried: &QueriedStatus, trust: &TrustResult) -> Step {
    let by = &queried.by;
    let mut step = match (queried.state, trust) {
        (RevocationState::Good, TrustResult::Trusted { .. }) => {
            Step::passed(STEP, format!("good by {by}"))
        }
        (RevocationState::Revoked, TrustResult::Untrusted(_)) => {
            let remedy = "the client needs a new certificate".to_owned();
            Step::failed(STEP, format!("revoked by {by}"), Some(remedy))
        }
        (_, TrustResult::Untrusted(_)) => {
            let detail = "no source has a status, and revocation_check_mode is STRICT";
            Step::failed(STEP, detail, Some(NO_STATUS_REMEDY.to_owned()))
        }
        (_, TrustResult::Trusted { .. }) => {
            Step::passed(STEP, "no source has a status, which counts as good")
        }
        _ => Step::unknown(STEP, "the status is not known"),
    };
    if !queried.not_queried.is_empty() {
        let sources = listed(queried.not_queried.iter().cloned());
        step.detail += &format!("; not asked, because that one answered: {sources}");
    }
    step
}
