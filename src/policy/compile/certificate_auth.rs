//! The settings of `mtls-auth` and `header-cert-auth` as they apply to routes.

use std::sync::Arc;

use openssl::sha::sha256;

use super::ca_certificates::CaCertificates;
use super::consumers::ConsumerIndex;
use super::crl_sets::CrlSets;
use super::list_files::ListReader;
use super::trust_domains::TrustDomains;
use super::trust_stores::TrustStores;
use crate::policy::certificate_header::CertificateHeader;
use crate::policy::document::{ConsumerName, HeaderCertAuth, Location, MtlsAuth};
use crate::policy::report::{Path, Report};
use crate::policy::{Auth, ConsumerLookup, RevocationMode, RevocationSettings, TrustDomain};
use crate::trust::TrustStore;

/// Builds settings from what they refer to, and shares trust stores and CRLs between them.
pub(super) struct AuthBuilder<'b, 't, 'f> {
    pub cas: &'b CaCertificates,
    pub trust_domains: &'b TrustDomains<'t>,
    pub consumers: &'b ConsumerIndex<'t>,
    pub crls: &'b mut CrlSets<'f>,
    pub lists: &'b mut ListReader<'f>,
    pub stores: TrustStores,
}

impl<'t> AuthBuilder<'_, 't, '_> {
    /// The settings of `mtls-auth` and the positions of its CAs; `None` if the report has an error.
    pub fn mtls_auth(
        &mut self,
        config: &MtlsAuth<'t>,
        location: &Location,
        path: &Path<'_>,
        report: &mut Report,
    ) -> Option<(Vec<usize>, Auth)> {
        let (positions, store) = self
            .stores
            .get(config, location, path, self.cas, self.crls, report)?;
        let domains = &config.trust_domains;
        let domains = self.trust_domains.positions(domains, path, report);
        let intermediates = &self.cas.intermediates;
        let domains =
            self.stores
                .trust_domains(&domains, self.trust_domains, config.options, intermediates);
        let domains = domains
            .map_err(|error| report.error(location.position, path, error.to_string()))
            .ok()?;
        let auth = self.auth(config, location, path, (store, domains), report);
        Some((positions, auth))
    }

    /// The settings of `header-cert-auth` and the header that carries the certificate; `None` if
    /// the report has an error.
    pub fn header_cert_auth(
        &mut self,
        config: &HeaderCertAuth<'t>,
        location: &Location,
        path: &Path<'_>,
        report: &mut Report,
    ) -> Option<(Auth, CertificateHeader)> {
        let (_, mut auth) = self.mtls_auth(&config.auth, location, path, report)?;
        if let Some(lookup) = &mut auth.lookup {
            lookup.header = true;
        }
        Some((auth, config.certificate_header.clone()?))
    }

    fn auth(
        &mut self,
        config: &MtlsAuth<'t>,
        location: &Location,
        path: &Path<'_>,
        (store, trust_domains): (Arc<TrustStore>, Arc<[TrustDomain]>),
        report: &mut Report,
    ) -> Auth {
        let mut consumer = |field, name: Option<ConsumerName<'t>>| {
            let (name, place) = name?;
            self.consumers.find(name, place, &path.field(field), report)
        };
        let anonymous = consumer("anonymous", config.anonymous);
        let default = consumer("default_consumer", config.default_consumer);
        if !config.skip_consumer_lookup && self.consumers.is_empty() {
            report.warn_once(
                "mtls-auth without consumers",
                location.position,
                path,
                "no consumer: every client is refused; expected an entry of 'consumers', or \
                 'skip_consumer_lookup: true' to let every client of the CAs pass",
            );
        }
        let lookup = ConsumerLookup {
            by: config.consumer_by,
            default,
            header: false,
            dirname: config.dirname.clone().into(),
            upn: config.upn,
        };
        let domains = trust_domains.iter().map(|domain| &domain.store);
        let stores: Vec<_> = std::iter::once(&store).chain(domains).collect();
        let crls = self.crls.get(config, &stores, path, report);
        if config.revocation == RevocationMode::Skip && !config.crls.is_empty() {
            report.warn(
                "lists of CRLs that are not used",
                location.position,
                &path.field("crls"),
                || "have no effect with the revocation_check_mode 'SKIP'".to_owned(),
            );
        } else if let Some(crls) = &crls {
            self.crls.check(
                crls,
                &stores,
                &self.cas.for_policy,
                location.position,
                &path.field("crls"),
                report,
            );
        }
        let crls_digest = crls.as_ref().map_or([0; 32], |crls| crls.digest());
        let fetch_options = format!(
            "{} {} {:?} {:?} {} {}",
            config.ssl_verify,
            config.http_timeout,
            config.http_proxy,
            config.https_proxy,
            config.ocsp_max_age,
            config.max_crl_bytes
        );
        let mut key = [&store.digest()[..], &crls_digest, fetch_options.as_bytes()].concat();
        for domain in trust_domains.iter() {
            key.extend_from_slice(domain.store.digest());
        }
        let key = sha256(&key);
        Auth {
            store,
            trust_domains,
            has_cas: !config.cas.is_empty(),
            lookup: Some(lookup).filter(|_| !config.skip_consumer_lookup),
            anonymous,
            group_by: config.group_by,
            revocation: Arc::new(RevocationSettings {
                mode: config.revocation,
                ttl: config.cert_cache_ttl.into(),
                http_timeout: config.http_timeout,
                status_wait: config.status_wait.unwrap_or(config.http_timeout),
                ocsp_max_age: config.ocsp_max_age.into(),
                ssl_verify: config.ssl_verify,
                http_proxy: config.http_proxy.clone(),
                https_proxy: config.https_proxy.clone(),
                max_crl_bytes: config.max_crl_bytes as usize,
                crls,
                key,
            }),
            resumption: config.resumption,
        }
    }
}
