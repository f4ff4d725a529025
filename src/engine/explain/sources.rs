//! The sources of a revocation status, queried by the caller's fetcher: `resty-mtls explain --online`.
//! What they answer is evaluated, and cached for the decision, by the functions that the gateway uses.

use std::thread;
use std::time::{Duration, Instant};

use super::super::revocation::{
    CachedStatus, CrlBody, CrlBytes, PlanRef, RevocationSource, RevocationState, SourceResult,
};
use super::{Engine, Step};
use crate::certificate::{time, Certificate};
use crate::policy::{Plan, Policy, RevocationMode};
use crate::Error;

/// The step of each source that is queried.
const STEP: &str = "revocation source";

/// How long a large CRL may be parsed on the other thread, and how often that is looked at.
const PARSING: Duration = Duration::from_secs(60);
const PARSING_PAUSE: Duration = Duration::from_millis(5);

/// How to fetch from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchSettings {
    /// Milliseconds for all requests to the source.
    pub http_timeout: u32,
    /// Most bytes of a CRL.
    pub max_crl_bytes: usize,
    /// Whether the plugin has an `http_proxy`.
    pub has_proxy: bool,
    /// Whether the URL is from the policy, not from the certificate: then it may lead to any address.
    pub of_policy: bool,
}

/// Returns what a source answers, or why it has not answered.
pub type FetchSource<'f> =
    dyn Fn(&RevocationSource, &FetchSettings) -> Result<Vec<u8>, String> + 'f;

/// What the sources of a certificate answered.
pub(super) struct QueriedStatus {
    /// The first definite status; `Unknown` without one.
    pub state: RevocationState,
    /// The source that it is of.
    pub by: String,
    /// One for each source that was queried.
    pub steps: Vec<Step>,
    /// The sources after the one that answered, which the gateway does not ask then.
    pub not_queried: Vec<String>,
}

/// `OCSP 'URL'` or `CRL 'URL'`.
fn name_of(source: &RevocationSource) -> String {
    match source {
        RevocationSource::Ocsp { url, .. } => format!("OCSP '{url}'"),
        RevocationSource::Crl { url } => format!("CRL '{url}'"),
    }
}

fn dates(this_update: i64, next_update: Option<i64>) -> String {
    let next = match next_update {
        Some(next) if next < i64::MAX => format!("nextUpdate {}", time::rfc3339(next, "Z")),
        _ => "no nextUpdate".to_owned(),
    };
    format!("thisUpdate {}, {next}", time::rfc3339(this_update, "Z"))
}

fn status_step(name: &str, status: &CachedStatus, entries: Option<usize>) -> Step {
    let entries = match entries {
        Some(1) => ", 1 entry".to_owned(),
        Some(count) => format!(", {count} entries"),
        None => String::new(),
    };
    let dates = match status.this_update {
        i64::MIN => "by another answer".to_owned(),
        this_update => dates(this_update, Some(status.next_update)),
    };
    match status.state {
        RevocationState::Revoked => {
            let hold = if status.hold {
                " (certificateHold)"
            } else {
                ""
            };
            Step::failed(
                STEP,
                format!("{name}: revoked{hold}, {dates}{entries}"),
                None,
            )
        }
        RevocationState::Good => Step::passed(STEP, format!("{name}: good, {dates}{entries}")),
        RevocationState::Unknown | RevocationState::Pending => {
            Step::unknown(STEP, format!("{name}: unknown"))
        }
    }
}

impl Engine {
    /// Asks the sources that a certificate names, until one has a definite status, which is cached.
    pub(super) fn query_sources(
        &self,
        certificate: &Certificate,
        plan_id: usize,
        fetch: &FetchSource<'_>,
        now: i64,
    ) -> Result<QueriedStatus, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let revocation = &plan.auth.as_ref().ok_or(Error::NotFound)?.revocation;
        let settings = FetchSettings {
            http_timeout: revocation.http_timeout,
            max_crl_bytes: revocation.max_crl_bytes,
            has_proxy: revocation.http_proxy.is_some(),
            of_policy: false,
        };
        let at = PlanRef {
            plan: plan_id,
            epoch: self.epoch(),
        };
        let mut queried = QueriedStatus {
            state: RevocationState::Unknown,
            by: String::new(),
            steps: Vec::new(),
            not_queried: Vec::new(),
        };
        for index in 0.. {
            let Some(source) = self.revocation_source(certificate, at, index, now)? else {
                break;
            };
            let name = name_of(&source);
            if queried.state != RevocationState::Unknown {
                queried.not_queried.push(name);
                continue;
            }
            let bytes = fetch(&source, &settings);
            let status = bytes.and_then(|bytes| {
                self.evaluate(certificate, at, &source, &bytes, now)
                    .map_err(|why| why.to_string())
            });
            queried.steps.push(match status {
                Ok((status, entries)) => {
                    if matches!(
                        status.state,
                        RevocationState::Good | RevocationState::Revoked
                    ) {
                        (queried.state, queried.by) = (status.state, name.clone());
                    }
                    status_step(&name, &status, entries)
                }
                Err(why) => Step::unknown(STEP, format!("{name}: no status: {why}")),
            });
        }
        Ok(queried)
    }

    /// The status by the bytes of a source, and the number of entries of a CRL.
    fn evaluate(
        &self,
        certificate: &Certificate,
        at: PlanRef,
        source: &RevocationSource,
        bytes: &[u8],
        now: i64,
    ) -> Result<(CachedStatus, Option<usize>), Error> {
        let start = Instant::now();
        while start.elapsed() < PARSING {
            match self.check_revocation_response(certificate, at, source, bytes, now, now)? {
                SourceResult::Status(status, crl) => {
                    return Ok((status, crl.map(|crl| crl.entries)));
                }
                SourceResult::Parsing => thread::sleep(PARSING_PAUSE),
            }
        }
        let message = format!("is still being parsed after {} s", PARSING.as_secs());
        Err(Error::Misuse(message))
    }

    /// Fetches the CRLs that the policy names by their URLs for this plan, and puts them in use.
    pub(super) fn fetch_url_crls(
        &self,
        policy: &Policy,
        plan: &Plan,
        fetch: &FetchSource<'_>,
    ) -> Result<Vec<Step>, Error> {
        let of_certificate = plan
            .certificate_plan
            .and_then(|plan| policy.plans.get(plan));
        let auth = plan.auth.as_ref();
        let Some(auth) = auth.or(of_certificate.and_then(|plan| plan.auth.as_ref())) else {
            return Ok(Vec::new());
        };
        let mut steps = Vec::new();
        let crls = auth.revocation.crls.as_ref();
        let urls = crls.map_or(&[][..], |crls| crls.urls());
        if auth.revocation.mode == RevocationMode::Skip {
            return Ok(steps);
        }
        for (index, of_policy) in policy.crl_urls.iter().enumerate() {
            let crl = &of_policy.crl;
            if !urls.iter().any(|url| std::sync::Arc::ptr_eq(url, crl)) {
                continue;
            }
            let source = RevocationSource::Crl {
                url: crl.url().to_owned(),
            };
            let settings = FetchSettings {
                http_timeout: of_policy.http_timeout,
                max_crl_bytes: crl.max_bytes(),
                has_proxy: of_policy.http_proxy.is_some(),
                of_policy: true,
            };
            let name = format!("{} of the policy", name_of(&source));
            let loaded = fetch(&source, &settings).and_then(|bytes| {
                let mut body = CrlBody::new(crl.max_bytes());
                let loaded = body.append(&bytes).and_then(|()| {
                    let bytes = Some(CrlBytes::Fetched(body, None));
                    self.load_url_crl(index, self.epoch(), bytes, true)
                });
                loaded.map_err(|why| why.to_string())
            });
            steps.push(match loaded {
                Ok(_) => Step::passed(STEP, format!("{name}: in use{}", self.crl_dates(&source)?)),
                Err(why) => Step::unknown(STEP, format!("{name}: not in use: {why}")),
            });
        }
        Ok(steps)
    }

    /// The dates of the CRL in use from the URL of a source.
    fn crl_dates(&self, source: &RevocationSource) -> Result<String, Error> {
        let RevocationSource::Crl { url } = source else {
            return Ok(String::new());
        };
        for index in 0.. {
            match self.crl_in_use(index)? {
                Some(crl) if *crl.file == **url => {
                    let dates = dates(crl.this_update, crl.next_update);
                    let noun = if crl.entries == 1 { "entry" } else { "entries" };
                    return Ok(format!(", {dates}, {} {noun}", crl.entries));
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(String::new())
    }
}
