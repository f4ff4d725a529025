//! The trust domains of a document, with their CAs.

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;

use openssl::x509::X509;

use super::ca_certificates::CaCertificates;
use super::certificate_files;
use super::policy_files;
use super::trust_stores::positions;
use crate::policy::document::{Document, TrustDomain};
use crate::policy::memory_limit::CERTIFICATE_WEIGHT;
use crate::policy::report::{Path, Position, Report};
use crate::policy::Files;
use crate::text::quoted;
use crate::trust::{spiffe_bundle, CaCertificate};

/// The CAs of each entry of `trust_domains`, by position.
pub(super) struct TrustDomains<'t> {
    list: Vec<(&'t str, Vec<Arc<CaCertificate>>)>,
}

impl<'t> TrustDomains<'t> {
    /// `directory` is that of the policy file.
    pub fn new(
        document: &Document<'t>,
        cas: &CaCertificates,
        directory: Option<&FilePath>,
        files: &mut Files,
        report: &mut Report,
    ) -> TrustDomains<'t> {
        let entries = document.trust_domains.iter();
        let list = entries.map(|entry| {
            let path = Path::Compact(&entry.location.path);
            let own = match (entry.bundle, entry.bundle_url) {
                (Some(bundle), _) => read_bundle(entry, bundle, directory, files, report),
                (None, Some(url)) => fetched_bundle(entry, url, files, report),
                (None, None) => cas.of(&positions(&entry.cas, &path, cas, report)),
            };
            (entry.name, own)
        });
        let list = list.collect();
        let domains = TrustDomains { list };
        domains.check_rules(document, report);
        domains
    }

    /// The name and the CAs of an entry.
    pub fn get(&self, position: usize) -> Option<(&'t str, &[Arc<CaCertificate>])> {
        let (name, cas) = self.list.get(position)?;
        Some((name, cas))
    }

    /// The positions of these names, each once, in order.
    pub fn positions(
        &self,
        names: &[(&str, Position)],
        path: &Path<'_>,
        report: &mut Report,
    ) -> Vec<usize> {
        let field = path.field("trust_domains");
        let mut positions = Vec::with_capacity(names.len());
        for (index, (name, place)) in names.iter().enumerate() {
            positions.extend(self.find(name, *place, &field.item(index), report));
        }
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    fn find(
        &self,
        name: &str,
        place: Position,
        path: &Path<'_>,
        report: &mut Report,
    ) -> Option<usize> {
        let found = self.list.iter().position(|(other, _)| *other == name);
        if found.is_none() {
            let meant = report.did_you_mean(name, self.list.iter().map(|(name, _)| *name));
            let name = quoted(name.as_bytes());
            let message = format!("no entry of 'trust_domains' has the name '{name}'{meant}");
            report.error(place, path, message);
        }
        found
    }

    /// Reports names in rules that no entry has.
    fn check_rules(&self, document: &Document<'_>, report: &mut Report) {
        for (name, place, path) in &document.rule_trust_domains {
            self.find(name, *place, &Path::Compact(path), report);
        }
    }
}

/// The CAs of a file in PEM, or in the JSON of SPIFFE.
fn read_bundle(
    entry: &TrustDomain<'_>,
    (file, place): (&str, Position),
    directory: Option<&FilePath>,
    files: &mut Files,
    report: &mut Report,
) -> Vec<Arc<CaCertificate>> {
    let path = Path::Compact(&entry.location.path);
    let path = path.field("bundle");
    let read = if file.to_ascii_lowercase().ends_with(".json") {
        let resolved = policy_files::resolve(directory, file);
        let max = spiffe_bundle::MAX_BYTES;
        resolved
            .and_then(|path| policy_files::read(files, &path, max, CERTIFICATE_WEIGHT))
            .and_then(|bytes| spiffe_bundle::read(&bytes))
            .and_then(|bundle| cas_of(bundle.cas))
            .map_err(|error| format!("'{}': {error}", quoted(file.as_bytes())))
    } else {
        let mut list = Vec::new();
        let mut each = |found: certificate_files::FileCertificate<'_>, _: &mut Report| {
            // A certificate that is no CA is reported with its line.
            CaCertificate::from_x509(found.x509.clone()).map_err(|error| error.to_string())?;
            list.push(found.x509);
            Ok(())
        };
        certificate_files::read_file(directory, file, files, report, &mut each)
            .and_then(|_| cas_of(list))
    };
    match read {
        Ok(cas) if cas.is_empty() => {
            let message = format!(
                "'{}': no certificate, so no SVID of the trust domain is trusted",
                quoted(file.as_bytes())
            );
            report.warn("trust domains without CAs", place, &path, || message);
            cas
        }
        Ok(cas) => cas,
        Err(message) => {
            report.error(place, &path, message);
            Vec::new()
        }
    }
}

/// The CAs of the bundle that was fetched last from a URL. The workers fetch it while the gateway
/// runs.
fn fetched_bundle(
    entry: &TrustDomain<'_>,
    (url, place): (&str, Position),
    files: &mut Files,
    report: &mut Report,
) -> Vec<Arc<CaCertificate>> {
    let path = Path::Compact(&entry.location.path);
    let path = path.field("bundle_url");
    let file = match files.bundle_path(url) {
        Ok(Some(file)) => file,
        Ok(None) => return Vec::new(),
        Err(why) => {
            report.error(place, &path, why);
            return Vec::new();
        }
    };
    let read = policy_files::read(files, &file, spiffe_bundle::MAX_BYTES, CERTIFICATE_WEIGHT)
        .and_then(|bytes| spiffe_bundle::read(&bytes))
        .and_then(|bundle| cas_of(bundle.cas));
    match read {
        Ok(cas) => cas,
        Err(why) => {
            report.warn("trust domains without CAs", place, &path, || {
                format!("no bundle is there, so no SVID of the trust domain is trusted: {why}")
            });
            Vec::new()
        }
    }
}

/// The CAs, each once.
fn cas_of(list: Vec<X509>) -> Result<Vec<Arc<CaCertificate>>, String> {
    let mut seen = HashSet::new();
    let mut cas = Vec::new();
    for x509 in list {
        let ca = CaCertificate::from_x509(x509).map_err(|error| error.to_string())?;
        if seen.insert(*ca.digest()) {
            cas.push(Arc::new(ca));
        }
    }
    Ok(cas)
}

/// The URLs of bundles, each once.
pub(super) fn bundle_urls(document: &Document<'_>) -> Vec<Box<str>> {
    let mut urls: Vec<Box<str>> = Vec::new();
    for (url, _) in document
        .trust_domains
        .iter()
        .filter_map(|entry| entry.bundle_url)
    {
        if !urls.iter().any(|other| **other == *url) {
            urls.push(url.into());
        }
    }
    urls
}
