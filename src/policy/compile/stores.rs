//! What client chains are verified against, and how: trust stores, one for each content, in use by `mtls-auth`
//! and its like.

use std::sync::Arc;

use openssl::sha::sha256;

use super::cas::Cas;
use super::consumers::People;
use super::crls::Crls;
use super::uuid_text;
use crate::policy::bearer::Inbound;
use crate::policy::document::{self, ConsumerName, Location, MtlsAuth};
use crate::policy::report::{Path, Report};
use crate::policy::{Auth, Lookup, Map, Revocation, RevocationMode};
use crate::trust::{TrustStore, VerifyOptions};

/// Trust stores, one for each content.
#[derive(Default)]
pub(super) struct Stores(Map<(Vec<usize>, VerifyOptions), Arc<TrustStore>>);

impl Stores {
    /// With the positions of its CAs; `None` when it was reported why not.
    pub fn get(
        &mut self,
        config: &MtlsAuth<'_>,
        location: &Location,
        path: &Path<'_>,
        cas: &Cas,
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

    /// For certificates from a header.
    #[allow(clippy::too_many_arguments)]
    pub fn header<'t>(
        &mut self,
        config: &document::HeaderCertAuth<'t>,
        location: &Location,
        path: &Path<'_>,
        cas: &Cas,
        people: &People<'t>,
        crls: &mut Crls<'_>,
        report: &mut Report,
    ) -> Option<(Auth, Inbound)> {
        let (_, store) = self.get(&config.auth, location, path, cas, report)?;
        let mut auth = auth(&config.auth, location, path, store, people, crls, report);
        if let Some(lookup) = &mut auth.lookup {
            lookup.header = true;
        }
        Some((auth, config.inbound.clone()?))
    }
}

pub(super) fn auth<'t>(
    config: &MtlsAuth<'t>,
    location: &Location,
    path: &Path<'_>,
    store: Arc<TrustStore>,
    people: &People<'t>,
    crls: &mut Crls<'_>,
    report: &mut Report,
) -> Auth {
    let mut consumer = |field, name: Option<ConsumerName<'t>>| {
        let (name, place) = name?;
        people.find(name, place, &path.field(field), report)
    };
    let anonymous = consumer("anonymous", config.anonymous);
    let default = consumer("default_consumer", config.default_consumer);
    if !config.skip_consumer_lookup && people.is_empty() {
        report.warn_once(
            "mtls-auth without consumers",
            location.position,
            path,
            "no consumer: every client is refused; expected an entry of 'consumers', or \
             'skip_consumer_lookup: true' to let every client of the CAs pass",
        );
    }
    let lookup = Lookup {
        by: config.consumer_by,
        default,
        header: false,
        dirname: config.dirname.clone().into(),
    };
    let sets = crls;
    let crls = sets.get(&config.crls, path, report);
    if config.revocation == RevocationMode::Skip && !config.crls.is_empty() {
        report.warn(
            "lists of CRLs that are not used",
            location.position,
            &path.field("crls"),
            || "have no effect with the revocation_check_mode 'SKIP'".to_owned(),
        );
    } else if let Some(crls) = &crls {
        sets.check(crls, &store, location.position, &path.field("crls"), report);
    }
    let crls_digest = crls.as_ref().map_or([0; 32], |crls| crls.digest());
    let way = format!(
        "{} {} {:?} {:?}",
        config.ssl_verify, config.http_timeout, config.http_proxy, config.https_proxy
    );
    let key = sha256(&[&store.digest()[..], &crls_digest, way.as_bytes()].concat());
    Auth {
        store,
        lookup: Some(lookup).filter(|_| !config.skip_consumer_lookup),
        anonymous,
        group_by: config.group_by,
        revocation: Arc::new(Revocation {
            mode: config.revocation,
            ttl: config.cert_cache_ttl.into(),
            http_timeout: config.http_timeout,
            ssl_verify: config.ssl_verify,
            http_proxy: config.http_proxy.clone(),
            https_proxy: config.https_proxy.clone(),
            crls,
            key,
        }),
        resumption: config.resumption,
    }
}

/// Positions of the CAs that a plugin names, each once, in order.
fn positions(config: &MtlsAuth, path: &Path<'_>, cas: &Cas, report: &mut Report) -> Vec<usize> {
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
