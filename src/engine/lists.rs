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

/// Seconds of which the ends of entries are reported together, and by all workers in the same way.
const ENDS_TOGETHER: i64 = 10;
/// Most warnings that wait to be logged.
const MAX_WARNINGS: usize = 1000;

/// Which entries of lists have ended, or soon will, since they were reported last.
#[derive(Default)]
pub(super) struct ListExpiryWatch {
    epoch: u64,
    /// [`ListFile::replacements`] of each list of the policy.
    replacements: Vec<u64>,
    /// What happened by this second is reported.
    reported_until: i64,
    /// Warnings that are not reported yet.
    texts: Vec<String>,
}

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

/// A list of the policy in force, for the operator.
pub struct ListState {
    /// As the policy names it.
    pub name: String,
    /// Its number of entries.
    pub entries: usize,
    /// When its file was modified, in seconds since the epoch, as it was when it was read.
    pub modified: Option<i64>,
    /// Why the file cannot be read as it is now.
    pub error: Option<String>,
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

    /// Writes a warning about a list that is in force since the last call, or since the policy was
    /// compiled: entries that have ended, or will within a day; one warning per call.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no other; an error of `write`, after which the next call
    /// writes the same warning.
    pub fn ending_list(
        &self,
        now: i64,
        write: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (policy, epoch) = (self.policy()?, self.epoch());
        let mut watch = self.list_expiry.borrow_mut();
        let watch = &mut *watch;
        // After a clock that was ahead, what happens from now on must be reported.
        if watch.epoch != epoch || now < watch.reported_until {
            *watch = ListExpiryWatch {
                epoch,
                replacements: policy
                    .lists
                    .iter()
                    .map(|file| file.replacements())
                    .collect(),
                // The warnings of the policy have what had happened by then.
                reported_until: policy.compiled_at.min(now),
                texts: Vec::new(),
            };
        }
        let since = watch.reported_until;
        let until = now.saturating_sub(now.rem_euclid(ENDS_TOGETHER)).max(since);
        for (file, known) in policy.lists.iter().zip(&mut watch.replacements) {
            let current = file.replacements();
            let list = file.last_list();
            let name = quoted(file.name().as_bytes());
            let texts: Vec<_> = match *known == current {
                true if until == since => continue,
                true => list.warnings_since(since, until).collect(),
                false => list.warnings(until).collect(),
            };
            *known = current;
            let texts = texts.iter().map(|text| format!("'{name}': {text}"));
            watch.texts.extend(texts);
        }
        watch.texts.truncate(MAX_WARNINGS);
        watch.reported_until = until;
        write(watch.texts.last().ok_or(Error::NotFound)?)?;
        watch.texts.pop();
        Ok(())
    }

    /// The list number `index` of the policy in force.
    ///
    /// # Errors
    /// [`Error::NotFound`] behind the last one.
    pub fn list_state(&self, index: usize) -> Result<ListState, Error> {
        let policy = self.policy()?;
        let file = policy.lists.get(index).ok_or(Error::NotFound)?;
        Ok(ListState {
            name: file.name().to_owned(),
            entries: file.last_list().len(),
            modified: file.modified(),
            error: file.error(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::PolicySource;

    #[test]
    fn ending_list_reports_entries_that_end_and_lists_that_were_replaced() {
        let name = format!("resty-mtls-ending-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let shown = path.display();
        // 2096, since the policy is compiled now.
        let end = 4_000_000_000;
        let ending =
            |line| format!("'{shown}': 1 entries end within a day, the first in line {line}");
        let ended =
            format!("'{shown}': 1 entries have ended and have no effect, the first in line 1");
        let entry = format!("sha256 {:064x} until=2096-10-02T07:06:40Z\n", 1);
        std::fs::write(&path, &entry).unwrap();
        let text = format!(
            "{{_format_version: '3.0', ca_certificates: [{{id: {id}, cert: {pem:?}}}], routes: [{{name: a, \
             plugins: [{{name: mtls-auth, config: {{ca_certificates: [{id}]}}}}, \
             {{name: client-cert-lists, config: {{deny: ['{shown}']}}}}]}}]}}",
            id = "11111111-1111-4111-8111-111111111111",
            pem = String::from_utf8(crate::testing::pki().ca.x509.to_pem().unwrap()).unwrap(),
        );
        let engine = Engine::default();
        let source = PolicySource::Text {
            text: text.into_bytes().into(),
            label: "p".to_owned(),
        };
        engine.load(source).unwrap();
        let warnings = |now| {
            let mut texts = Vec::new();
            let mut write = |text: &str| {
                texts.push(text.to_owned());
                Ok(())
            };
            while engine.ending_list(now, &mut write).is_ok() {}
            texts
        };
        assert_eq!(warnings(end - 86_401), [""; 0]);
        assert_eq!(warnings(end - 86_400), [ending(1)]);
        assert_eq!(warnings(end - 86_390), [""; 0]);
        std::fs::write(&path, format!("# comment\n{entry}")).unwrap();
        engine.policy().unwrap().lists[0].refresh().unwrap();
        assert_eq!(warnings(end - 86_389), [ending(2)]);
        std::fs::write(&path, entry).unwrap();
        engine.policy().unwrap().lists[0].refresh().unwrap();
        assert_eq!(warnings(end - 1), [ending(1)]);
        // A write that fails is repeated.
        let failed = engine.ending_list(end, |_| Err(Error::Panic));
        assert_eq!(failed, Err(Error::Panic));
        assert_eq!(warnings(end + 9), [ended]);
        assert_eq!(warnings(end + 10), [""; 0]);
        std::fs::remove_file(path).unwrap();
    }
}
