//! The trust stores that plugins verify client chains against.

use std::sync::Arc;

use openssl::x509::X509;

use super::ca_certificates::CaCertificates;
use super::certificate_files::{self, FileCertificate};
use super::crl_sets::CrlSets;
use super::entity_id::uuid_text;
use super::trust_domains::TrustDomains;
use crate::certificate::{self, name};
use crate::policy::document::{Location, MtlsAuth, Uuid};
use crate::policy::report::{Path, Position, Report};
use crate::policy::{Map, TrustDomain};
use crate::text::quoted;
use crate::trust::{revocation_urls, Intermediates, PinnedCertificates, TrustStore, VerifyOptions};
use crate::Error;

/// What a trust store depends on: CAs, files of pinned certificates, options.
type StoreContent = (Vec<usize>, Vec<String>, VerifyOptions);

/// Trust stores, one for each set of CAs, pinned certificates and options.
#[derive(Default)]
pub(super) struct TrustStores {
    stores: Map<StoreContent, Arc<TrustStore>>,
    pinned: Map<Vec<String>, Option<Arc<PinnedCertificates>>>,
    by_trust_domain: Map<(usize, VerifyOptions), Arc<TrustStore>>,
}

impl TrustStores {
    /// The positions of a plugin's CAs and their trust store; `None` if the report has an error.
    pub fn get(
        &mut self,
        config: &MtlsAuth<'_>,
        location: &Location,
        path: &Path<'_>,
        cas: &CaCertificates,
        crls: &mut CrlSets<'_>,
        report: &mut Report,
    ) -> Option<(Vec<usize>, Arc<TrustStore>)> {
        let files = config.pinned.iter().map(|(file, _)| (*file).to_owned());
        let key = (
            positions(&config.cas, path, cas, report),
            files.collect(),
            config.options,
        );
        let pinned = match config.pinned.is_empty() {
            true => None,
            false => Some(self.pinned(config, path, cas, crls, report)?),
        };
        let store = match self.stores.get(&key) {
            Some(store) => Ok(store.clone()),
            None => {
                let (of_plugin, all) = (cas.of(&key.0), &cas.intermediates);
                TrustStore::with_pinned(&of_plugin, key.2, all, pinned.as_ref()).map(Arc::new)
            }
        };
        match store {
            Ok(store) => {
                self.stores.insert(key.clone(), store.clone());
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

    /// The trust domains at these positions. All CAs of a bundle are anchors, self-signed or not
    /// (X.509-SVID section 5).
    pub fn trust_domains(
        &mut self,
        positions: &[usize],
        domains: &TrustDomains<'_>,
        options: VerifyOptions,
        intermediates: &Arc<Intermediates>,
    ) -> Result<Arc<[TrustDomain]>, Error> {
        let options = VerifyOptions {
            allow_partial_chain: true,
            ..options
        };
        let mut list = Vec::with_capacity(positions.len());
        for position in positions {
            let Some((name, cas)) = domains.get(*position) else {
                continue;
            };
            let store = match self.by_trust_domain.get(&(*position, options)) {
                Some(store) => store.clone(),
                None => Arc::new(TrustStore::with_intermediates(cas, options, intermediates)?),
            };
            self.by_trust_domain
                .insert((*position, options), store.clone());
            list.push(TrustDomain {
                name: name.into(),
                store,
            });
        }
        Ok(list.into())
    }
}

impl TrustStores {
    /// The pinned certificates of a plugin; `None` if the report has an error about them.
    fn pinned(
        &mut self,
        config: &MtlsAuth<'_>,
        path: &Path<'_>,
        cas: &CaCertificates,
        crls: &mut CrlSets<'_>,
        report: &mut Report,
    ) -> Option<Arc<PinnedCertificates>> {
        let files = config.pinned.iter().map(|(file, _)| (*file).to_owned());
        let key: Vec<String> = files.collect();
        if let Some(pinned) = self.pinned.get(&key) {
            return pinned.clone();
        }
        let path = path.field("pinned_certificates");
        let mut list = Vec::new();
        let mut complete = true;
        for (index, (file, place)) in config.pinned.iter().enumerate() {
            let path = path.item(index);
            let mut each = |found: FileCertificate<'_>, report: &mut Report| {
                let warning = pinned_warning(&found.x509, cas);
                let warning = warning.map_err(|error| error.to_string())?;
                if let Some(warning) = warning {
                    report.warn("pinned certificates with a flaw", *place, &path, || {
                        format!("{}: {warning}", found.position)
                    });
                }
                list.push(found.x509);
                Ok(())
            };
            let read =
                certificate_files::read_file(crls.directory, file, crls.files, report, &mut each);
            if let Err(message) = read {
                report.error(*place, &path, message);
                complete = false;
            }
        }
        let pinned = match complete.then(|| PinnedCertificates::new(list)) {
            Some(Ok(pinned)) => Some(Arc::new(pinned)),
            Some(Err(error)) => {
                let (_, place) = config.pinned.first()?;
                report.error(*place, &path, error.to_string());
                None
            }
            None => None,
        };
        self.pinned.insert(key, pinned.clone());
        pinned
    }
}

/// What is to be known about a pinned certificate.
fn pinned_warning(x509: &X509, cas: &CaCertificates) -> Result<Option<String>, Error> {
    let subject = name::rfc2253(x509.subject_name())?;
    let subject = quoted(subject.as_bytes());
    let end = certificate::unix_seconds(x509.not_after())?;
    if end <= cas.now {
        let end = x509.not_after();
        return Ok(Some(format!(
            "'{subject}' expired on {end}: it is not accepted"
        )));
    }
    let has_source =
        !revocation_urls::ocsp(x509).is_empty() || !revocation_urls::crl(x509).is_empty();
    if has_source && !cas.intermediates.has_issuer(x509) {
        return Ok(Some(format!(
            "'{subject}' names sources of its revocation status, and its issuer is none of \
             'ca_certificates': the status is unknown, and with STRICT it is refused"
        )));
    }
    Ok(None)
}

/// Positions of the CAs with these ids, each once, in order.
pub(super) fn positions(
    ids: &[(Uuid, Position)],
    path: &Path<'_>,
    cas: &CaCertificates,
    report: &mut Report,
) -> Vec<usize> {
    let mut positions = Vec::with_capacity(ids.len());
    for (index, (id, place)) in ids.iter().enumerate() {
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
