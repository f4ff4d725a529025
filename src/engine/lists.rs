//! `client-cert-lists` at work: the decision by the lists of a route, and the watch on their files.

use std::time::Duration;

use super::Engine;
use crate::background;
use crate::certificate::Certificate;
use crate::metrics::{self, Event};
use crate::policy::{ListEvent, ListFile, Lists};
use crate::text::quoted;
use crate::trust::selector::CertificateSelectors;
use crate::Error;

/// A change of a list takes effect when it is this old.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// The decision of the lists of a route about a certificate whose chain is valid.
pub(super) enum ListResult {
    /// It passes before `until`.
    Passed { until: i64 },
    /// It does not; the reason for the log.
    Denied(String),
    /// This worker does not have a list of the route; the reason for the log.
    Unavailable(String),
}

fn unavailable(file: &ListFile) -> ListResult {
    let name = quoted(file.name().as_bytes());
    let why = match file.error() {
        Some(error) => format!("client-cert-lists: {error}"),
        None => format!("client-cert-lists: '{name}' has changed and is not read yet"),
    };
    ListResult::Unavailable(why)
}

/// Checks a certificate against lists. `selectors` are those that verify.
pub(super) fn check_lists(
    lists: &Lists,
    certificate: &Certificate,
    selectors: &CertificateSelectors<'_>,
    now: i64,
) -> Result<ListResult, Error> {
    for file in &lists.deny {
        let Some(list) = file.list() else {
            return Ok(unavailable(file));
        };
        if let Some(found) = list.find(selectors, now)? {
            metrics::count(Event::DeniedByList);
            let name = quoted(file.name().as_bytes());
            return Ok(ListResult::Denied(format!(
                "client-cert-lists: denied by '{name}', line {}",
                found.line
            )));
        }
    }
    if lists.allow.is_empty() {
        return Ok(ListResult::Passed { until: i64::MAX });
    }
    let presented = CertificateSelectors::presented(certificate);
    for file in &lists.allow {
        let Some(list) = file.list() else {
            return Ok(unavailable(file));
        };
        if let Some(found) = list.find(&presented, now)? {
            return Ok(ListResult::Passed { until: found.until });
        }
    }
    metrics::count(Event::DeniedUnlisted);
    let names: Vec<_> = lists
        .allow
        .iter()
        .map(|file| format!("'{}'", quoted(file.name().as_bytes())))
        .collect();
    Ok(ListResult::Denied(format!(
        "client-cert-lists: not on {}",
        names.join(", ")
    )))
}

impl Engine {
    /// Starts to read the lists whose files have changed on the background thread, where they also
    /// come into force.
    ///
    /// # Errors
    /// Without a policy, and when the thread cannot be started.
    pub fn watch_lists(&self) -> Result<(), Error> {
        let policy = self.policy()?;
        let interval = self.watch_interval();
        let settle = match interval.is_zero() {
            true => SETTLE_TIME,
            false => SETTLE_TIME.min(interval),
        };
        for file in &policy.lists {
            // Without a watch, only what this process has inherited is compared with the file.
            if interval.is_zero() && file.list().is_some() {
                continue;
            }
            if file.must_be_read(settle) {
                let file = file.clone();
                background::defer(move || file.reread())?;
            }
        }
        Ok(())
    }

    /// Whether this worker has no list while a file is being read.
    pub fn is_awaiting_lists(&self) -> bool {
        let policy = self.policy();
        policy.is_ok_and(|policy| policy.lists.iter().any(|file| file.is_awaited()))
    }

    /// What happened to a list since the last call.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nothing did.
    pub fn next_list_event(&self) -> Result<ListEvent, Error> {
        let policy = self.policy()?;
        let event = policy.lists.iter().find_map(|file| file.take_event());
        event.ok_or(Error::NotFound)
    }

    /// Name of the list number `index`, its number of entries, and whether its file cannot be read.
    ///
    /// # Errors
    /// [`Error::NotFound`] behind the last one.
    pub fn list_state(&self, index: usize) -> Result<(String, usize, bool), Error> {
        let policy = self.policy()?;
        let file = policy.lists.get(index).ok_or(Error::NotFound)?;
        Ok((
            file.name().to_owned(),
            file.last_list().len(),
            file.error().is_some(),
        ))
    }
}
