//! The trust stores that plugins verify client chains against.

use std::sync::Arc;

use super::ca_certificates::CaCertificates;
use super::entity_id::uuid_text;
use crate::policy::document::{Location, MtlsAuth};
use crate::policy::report::{Path, Report};
use crate::policy::Map;
use crate::trust::{TrustStore, VerifyOptions};

/// Trust stores, one for each set of CAs and options.
#[derive(Default)]
pub(super) struct TrustStores(Map<(Vec<usize>, VerifyOptions), Arc<TrustStore>>);

impl TrustStores {
    /// The positions of a plugin's CAs and their trust store; `None` if the report has an error.
    pub fn get(
        &mut self,
        config: &MtlsAuth<'_>,
        location: &Location,
        path: &Path<'_>,
        cas: &CaCertificates,
        report: &mut Report,
    ) -> Option<(Vec<usize>, Arc<TrustStore>)> {
        let key = (positions(config, path, cas, report), config.options);
        let store = match self.0.get(&key) {
            Some(store) => Ok(store.clone()),
            None => TrustStore::with_intermediates(&cas.of(&key.0), key.1, &cas.intermediates)
                .map(Arc::new),
        };
        match store {
            Ok(store) => {
                self.0.insert(key.clone(), store.clone());
                Some((key.0, store))
            }
            Err(error) => {
                report.error(
                    location.position,
                    &Path::Compact(&location.path),
                    error.to_string(),
                );
                None
            }
        }
    }
}

/// Positions of the CAs that a plugin names, each once, in order.
fn positions(
    config: &MtlsAuth,
    path: &Path<'_>,
    cas: &CaCertificates,
    report: &mut Report,
) -> Vec<usize> {
    let mut positions = Vec::with_capacity(config.cas.len());
    for (index, (id, place)) in config.cas.iter().enumerate() {
        match cas.by_id.get(id) {
            Some(&position) => positions.push(position),
            None => {
                let id = uuid_text(id);
                let meant = report.did_you_mean(&id, cas.ids.iter().map(String::as_str));
                let path = path.field("ca_certificates");
                let message = format!("no entry of 'ca_certificates' has the id '{id}'{meant}");
                report.error(*place, &path.item(index), message);
            }
        }
    }
    positions.sort_unstable();
    positions.dedup();
    positions
}
