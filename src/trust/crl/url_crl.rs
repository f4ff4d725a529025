//! CRLs of a policy that are fetched from a URL of the operator.

use std::sync::Arc;

use parking_lot::Mutex;

use super::parsed::{is_same_name, read, ParsedCrl, SignatureResult};
use crate::trust::CaCertificate;

/// A CRL that was read from the bytes at the URL of a [`UrlCrl`], and that a CA of its plugin
/// signed.
pub struct LoadedCrl(Arc<ParsedCrl>);

/// A CRL of a policy by its URL. The last good one that was fetched stays in use until a newer one
/// is there.
pub struct UrlCrl {
    url: Arc<str>,
    /// Seconds after nextUpdate for which it makes certificates good.
    max_stale: i64,
    max_bytes: usize,
    cas: Vec<Arc<CaCertificate>>,
    current: Mutex<Option<Arc<ParsedCrl>>>,
}

impl UrlCrl {
    /// A CRL that has not been fetched yet, of one of these CAs.
    pub fn new(url: &str, max_stale: u32, max_bytes: usize, cas: &[Arc<CaCertificate>]) -> UrlCrl {
        UrlCrl {
            url: url.into(),
            max_stale: max_stale.into(),
            max_bytes,
            cas: cas.to_vec(),
            current: Mutex::default(),
        }
    }

    /// SHA-256 of what decides beside the content.
    pub(super) fn digest(&self) -> [u8; 32] {
        let text = format!("{} {} {}", self.max_stale, self.max_bytes, self.url);
        openssl::sha::sha256(text.as_bytes())
    }

    /// Where it is fetched from.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Most bytes that may be fetched.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Reads the CRL that was fetched. Its issuer must be a CA of the plugin, and that of the CRL in
    /// use until that ends, and it must not be older than that: who controls the connection could
    /// send another CRL that lists fewer certificates.
    ///
    /// # Errors
    /// The reason why it is not used.
    pub fn load(&self, bytes: &[u8]) -> Result<LoadedCrl, String> {
        let crl = self.read(bytes);
        openssl::error::ErrorStack::get();
        crl
    }

    fn read(&self, bytes: &[u8]) -> Result<LoadedCrl, String> {
        let mut crls = read(bytes, self.max_bytes)?;
        let count = crls.len();
        let (Some(mut crl), 1) = (crls.pop(), count) else {
            return Err(format!("{count} CRLs found, expected exactly one"));
        };
        crl.file = self.url.clone();
        crl.max_stale = self.max_stale;
        self.check_issuer(&crl)?;
        self.check_age(&crl)?;
        Ok(LoadedCrl(Arc::new(crl)))
    }

    fn check_issuer(&self, crl: &ParsedCrl) -> Result<(), String> {
        let cas = self.cas.iter().map(|ca| ca.x509());
        let results = cas
            .filter(|ca| is_same_name(crl.issuer(), ca.subject_name()))
            .map(|ca| crl.check_signature(ca).result);
        match results.max() {
            Some(SignatureResult::Good) => Ok(()),
            Some(result) => Err(crl.message(result.problem())),
            None => Err(crl.message("no CA of the plugin has this name")),
        }
    }

    fn check_age(&self, crl: &ParsedCrl) -> Result<(), String> {
        let Some(current) = self.current() else {
            return Ok(());
        };
        if current.this_update > crl.this_update {
            return Err(crl.message("is older than the one in use"));
        }
        let has_ended = current.end().is_some_and(|end| end <= crl.this_update);
        if !is_same_name(current.issuer(), crl.issuer()) && !has_ended {
            let why = format!(
                "the one in use is of '{}', which has not ended",
                current.issuer_text
            );
            return Err(crl.message(&why));
        }
        Ok(())
    }

    /// Puts the CRL in use, and returns the previous one, which the caller frees where it does not
    /// delay requests. An older one than that in use is not put in use.
    pub fn replace(&self, crl: LoadedCrl) -> Option<LoadedCrl> {
        if self.check_age(&crl.0).is_err() {
            return Some(crl);
        }
        self.current.lock().replace(crl.0).map(LoadedCrl)
    }

    /// Takes the CRL over that another policy of this worker has in use, if a CA of this one signed
    /// it.
    pub fn adopt(&self, other: &UrlCrl) {
        let Some(crl) = other.current() else {
            return;
        };
        if self.check_issuer(&crl).is_ok() {
            self.replace(LoadedCrl(crl));
        }
        openssl::error::ErrorStack::get();
    }

    pub(super) fn current(&self) -> Option<Arc<ParsedCrl>> {
        self.current.lock().clone()
    }

    /// Whether there is a CRL in use.
    pub fn is_in_use(&self) -> bool {
        self.current.lock().is_some()
    }

    /// Number of entries and length in bytes of the CRL in use.
    pub fn size(&self) -> Option<(usize, usize)> {
        self.current().map(|crl| (crl.entry_count(), crl.len))
    }

    /// thisUpdate and nextUpdate of the CRL in use, in seconds since the epoch.
    pub fn times(&self) -> Option<(i64, Option<i64>)> {
        self.current().map(|crl| (crl.this_update, crl.next_update))
    }
}
