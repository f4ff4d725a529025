//! The CRLs that plugins name: local files, and URLs that the gateway fetches.

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::sync::Arc;

use super::policy_files;
use crate::policy::document::{CrlSource, MtlsAuth};
use crate::policy::report::{Path, Position, Report};
use crate::policy::{memory_limit, CrlUrl, Files, Map, PolicyCa};
use crate::text::{hex, quoted};
use crate::trust::crl::{self, CrlSet, UrlCrl};
use crate::trust::TrustStore;

/// CRLs, which are read once for each list of files and URLs.
pub(super) struct CrlSets<'p> {
    /// Directory of the policy file.
    pub directory: Option<&'p FilePath>,
    pub files: &'p mut Files,
    pub by_files: Map<Vec<String>, Option<Arc<CrlSet>>>,
    /// The sets that a plugin checks.
    pub used: Vec<Arc<CrlSet>>,
    /// The CRLs that are fetched, of all sets.
    pub urls: Vec<CrlUrl>,
    /// CRL sets and the trust stores that each was compared with.
    pub compared: HashSet<(*const CrlSet, Vec<*const TrustStore>)>,
    /// Seconds since the epoch.
    pub now: i64,
}

impl CrlSets<'_> {
    /// The CRLs of a plugin with these trust stores. `None` for no CRLs, and if the report has an
    /// error about them.
    pub fn get(
        &mut self,
        plugin: &MtlsAuth<'_>,
        stores: &[&Arc<TrustStore>],
        config: &Path<'_>,
        report: &mut Report,
    ) -> Option<Arc<CrlSet>> {
        let sources = &plugin.crls;
        if sources.is_empty() {
            return None;
        }
        let key: Vec<_> = sources
            .iter()
            .map(|(source, _)| key(source, plugin, stores))
            .collect();
        if let Some(set) = self.by_files.get(&key) {
            return set.clone();
        }
        let path = config.field("crls");
        let mut set = CrlSet::default();
        let mut complete = true;
        for (index, (source, place)) in sources.iter().enumerate() {
            let file = match *source {
                CrlSource::File(file) => file,
                CrlSource::Url { .. } => {
                    let url = self.url(source, plugin, stores);
                    set.add_url(url);
                    continue;
                }
            };
            let max = crl::MAX_FILE.max(plugin.max_crl_bytes as usize);
            let added = self.read(file, max).and_then(|bytes| set.add(file, &bytes));
            if let Err(why) = added {
                let message = format!("'{}': {why}", quoted(file.as_bytes()));
                report.error(*place, &path.item(index), message);
                complete = false;
            }
        }
        let (_, place) = sources.first()?;
        for limitation in set.limitations() {
            report.warn("unusual CRLs", *place, &path, || limitation);
        }
        for warning in set.out_of_force(self.now) {
            report.warn("CRLs that are not in force", *place, &path, || warning);
        }
        for warning in set.ending_soon(self.now) {
            report.warn("CRLs that end within a day", *place, &path, || warning);
        }
        let set = complete.then(|| Arc::new(set));
        self.by_files.insert(key, set.clone());
        set
    }

    /// The CRL at a URL, which plugins with the same settings share.
    fn url(
        &mut self,
        source: &CrlSource<'_>,
        plugin: &MtlsAuth<'_>,
        stores: &[&Arc<TrustStore>],
    ) -> Arc<UrlCrl> {
        let key = key(source, plugin, stores);
        if let Some(known) = self.urls.iter().find(|known| known.key == key) {
            return known.crl.clone();
        }
        let (url, refresh, max_stale) = match *source {
            CrlSource::Url {
                url,
                refresh,
                max_stale,
            } => (url, refresh, max_stale),
            CrlSource::File(file) => (file, None, 0),
        };
        let max = plugin.max_crl_bytes as usize;
        let cas: Vec<_> = stores
            .iter()
            .flat_map(|store| store.cas())
            .cloned()
            .collect();
        let crl = Arc::new(UrlCrl::new(url, max_stale, max, &cas));
        self.urls.push(CrlUrl {
            crl: crl.clone(),
            key,
            refresh,
            http_timeout: plugin.http_timeout,
            ssl_verify: plugin.ssl_verify,
            http_proxy: plugin.http_proxy.clone(),
            https_proxy: plugin.https_proxy.clone(),
        });
        crl
    }

    /// The CRLs that are fetched for the sets in `used`.
    pub fn used_urls(&mut self) -> Vec<CrlUrl> {
        let used = &self.used;
        let is_used = |crl: &Arc<UrlCrl>| {
            let mut urls = used.iter().flat_map(|set| set.urls());
            urls.any(|used| Arc::ptr_eq(used, crl))
        };
        self.urls.retain(|url| is_used(&url.crl));
        std::mem::take(&mut self.urls)
    }

    /// Warns about CRLs that no CA of the plugin signed, nor one of `all`, those of the document, and
    /// adds the set to `used`.
    pub fn check(
        &mut self,
        set: &Arc<CrlSet>,
        stores: &[&Arc<TrustStore>],
        all: &[PolicyCa],
        place: Position,
        path: &Path<'_>,
        report: &mut Report,
    ) {
        let pointers: Vec<_> = stores.iter().map(|store| Arc::as_ptr(store)).collect();
        if !self.compared.insert((Arc::as_ptr(set), pointers)) {
            return;
        }
        if !self.used.iter().any(|used| Arc::ptr_eq(used, set)) {
            self.used.push(set.clone());
        }
        let cas: Vec<_> = stores
            .iter()
            .flat_map(|store| store.cas())
            .cloned()
            .collect();
        for warning in set.not_signed_by(&cas) {
            report.warn("CRLs that no CA signed", place, path, || warning);
        }
        if let Some(warning) = set.of_other_cas(&cas, all.iter().map(|entry| &entry.ca)) {
            report.warn("CRLs of other CAs", place, path, || warning);
        }
    }

    fn read(&mut self, file: &str, max: usize) -> Result<Vec<u8>, String> {
        let path = policy_files::resolve(self.directory, file)?;
        let bytes = policy_files::read(self.files, &path, max, memory_limit::CRL_WEIGHT)?;
        if self.files.is_reload() && is_unfinished(&bytes) {
            return Err(
                "is still being written: its last PEM block is not closed, or its last line is not \
                 ended"
                    .to_owned(),
            );
        }
        Ok(bytes)
    }
}

/// Everything that the CRL of an entry depends on, other than the content of files.
fn key(source: &CrlSource<'_>, plugin: &MtlsAuth<'_>, stores: &[&Arc<TrustStore>]) -> String {
    match source {
        CrlSource::File(file) => format!("{} {file}", plugin.max_crl_bytes),
        CrlSource::Url {
            url,
            refresh,
            max_stale,
        } => format!(
            "{url} {refresh:?} {max_stale} {} {} {} {:?} {:?} {}",
            plugin.max_crl_bytes,
            plugin.http_timeout,
            plugin.ssl_verify,
            plugin.http_proxy,
            plugin.https_proxy,
            stores
                .iter()
                .map(|store| hex(store.digest()))
                .collect::<String>()
        ),
    }
}

/// Whether a PEM file ends within its last block or line. A short DER file fails to parse.
fn is_unfinished(bytes: &[u8]) -> bool {
    let count = |mark: &[u8]| {
        bytes
            .windows(mark.len())
            .filter(|part| *part == mark)
            .count()
    };
    let begins = count(b"-----BEGIN ");
    begins > 0 && (count(b"-----END ") < begins || !bytes.ends_with(b"\n"))
}
