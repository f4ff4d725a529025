//! The ends of the CA certificates of the policy in force, for warnings and metrics.

use super::Engine;
use crate::policy::PolicyCa;
use crate::Error;

/// Most warnings that wait to be logged.
const MAX_WARNINGS: usize = 1000;

/// Which CA certificates have ended, or soon will, since they were reported last.
#[derive(Default)]
pub(super) struct CaExpiryWatch {
    epoch: u64,
    /// What happened by this second is reported.
    reported_until: i64,
    /// Warnings that are not reported yet.
    texts: Vec<String>,
}

impl Engine {
    /// Reads CA certificate number `index` of the policy in force; `None` after the last.
    pub fn with_ca_certificate<T>(
        &self,
        index: usize,
        read: impl FnOnce(&PolicyCa) -> T,
    ) -> Result<Option<T>, Error> {
        Ok(self.policy()?.cas.get(index).map(read))
    }

    /// Writes a warning about a CA certificate that expired since the policy was compiled, or will
    /// within 30 days; one warning per call.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no other; an error of `write`, after which the next call
    /// writes the same warning.
    pub fn ending_ca(
        &self,
        now: i64,
        write: impl FnOnce(&str) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (policy, epoch) = (self.policy()?, self.epoch());
        let mut watch = self.ca_expiry.borrow_mut();
        // After a clock that was ahead, what happens from now on must be reported.
        if watch.epoch != epoch || now < watch.reported_until {
            *watch = CaExpiryWatch {
                epoch,
                // The warnings of the policy have what had happened by then.
                reported_until: policy.compiled_at.min(now),
                texts: Vec::new(),
            };
        }
        let since = watch.reported_until;
        if now > since {
            let ending = policy
                .cas
                .iter()
                .filter(|ca| ca.ca.ends_between(since, now));
            let texts = ending.filter_map(|ca| {
                let message = ca.ca.validity_message(now)?;
                let id = ca.id.as_deref().unwrap_or("without id");
                Some(format!("ca_certificates {id}: {message}"))
            });
            watch.texts.extend(texts.take(MAX_WARNINGS));
            watch.texts.sort();
            watch.texts.dedup();
            watch.texts.truncate(MAX_WARNINGS);
            watch.reported_until = now;
        }
        write(watch.texts.last().ok_or(Error::NotFound)?)?;
        watch.texts.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::PolicySource;
    use crate::testing::{issue, NOW};

    const DAY: i64 = 86_400;

    fn engine(ends: &[i64]) -> Engine {
        let cas: Vec<_> = ends
            .iter()
            .enumerate()
            .map(|(index, end)| {
                let ca = issue(&format!("CA {index}"), None, true, *end, &[]).x509;
                let pem = String::from_utf8(ca.to_pem().unwrap()).unwrap();
                format!("{{id: 11111111-1111-4111-8111-11111111111{index}, cert: {pem:?}}}")
            })
            .collect();
        let text = format!(
            "{{_format_version: '3.0', ca_certificates: [{}]}}",
            cas.join(", ")
        );
        let engine = Engine::default();
        let source = PolicySource::Text {
            text: text.into_bytes().into(),
            label: "p".to_owned(),
        };
        engine.load(source).unwrap();
        engine
    }

    fn warnings(engine: &Engine, now: i64) -> Vec<String> {
        let mut texts = Vec::new();
        while engine
            .ending_ca(now, |text| {
                texts.push(text.split(" on ").next().unwrap().to_owned());
                Ok(())
            })
            .is_ok()
        {}
        texts
    }

    #[test]
    fn ending_ca_reports_each_change_once() {
        // The policy is compiled now, before all of these times.
        let engine = engine(&[31 * DAY, 31 * DAY, 300 * DAY]);
        let text = |index: u32, what: &str| {
            format!(
                "ca_certificates 11111111-1111-4111-8111-11111111111{index}: the CA \
                 'CN=CA {index},O=Example' {what}"
            )
        };
        assert_eq!(warnings(&engine, NOW), [""; 0]);
        let soon = [text(1, "ends"), text(0, "ends")];
        assert_eq!(warnings(&engine, NOW + 2 * DAY), soon);
        assert_eq!(warnings(&engine, NOW + 3 * DAY), [""; 0]);
        let expired = [text(1, "expired"), text(0, "expired")];
        assert_eq!(warnings(&engine, NOW + 31 * DAY), expired);
        assert_eq!(warnings(&engine, NOW + 31 * DAY), [""; 0]);
        // A write that fails is repeated.
        let failed = engine.ending_ca(NOW + 271 * DAY, |_| Err(Error::NotFound));
        assert!(failed.is_err());
        assert_eq!(warnings(&engine, NOW + 271 * DAY), [text(2, "ends")]);
        // After a clock that was ahead, the same is reported again.
        assert_eq!(warnings(&engine, NOW + 2 * DAY), soon);
    }

    #[test]
    fn with_ca_certificate_ends_after_the_last() {
        let engine = engine(&[DAY, 2 * DAY]);
        let end = |index| engine.with_ca_certificate(index, |ca| ca.ca.not_after() - NOW);
        assert_eq!(
            [0, 1, 2].map(|i| end(i).unwrap()),
            [Some(DAY), Some(2 * DAY), None]
        );
        assert!(Engine::default().with_ca_certificate(0, |_| ()).is_err());
    }
}
