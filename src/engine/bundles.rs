//! Bundles of trust domains that the workers fetch.
//!
//! A fetched bundle is a file in the state directory, and as such part of the policy: the watch of
//! its files puts the change in force on all workers, and a restart finds the last one.

use std::fs;

use super::Engine;
use crate::policy::bundle_file;
use crate::trust::{spiffe_bundle, CaCertificate};
use crate::Error;

/// Seconds between two fetches of a bundle that gives no hint (SPIFFE Trust Domain and Bundle
/// section 4.1.2 recommends five minutes).
const DEFAULT_REFRESH: u64 = 300;

impl Engine {
    /// The URL of bundle number `index` of the policy in force; `None` after the last.
    pub fn bundle_url(&self, index: usize) -> Result<Option<Box<str>>, Error> {
        Ok(self.policy()?.bundle_urls.get(index).cloned())
    }

    /// Checks a fetched bundle and keeps it for the policy. Returns the seconds after which it is to
    /// be fetched again.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the policy in force has no such URL; else why the bundle is not taken.
    pub fn store_bundle(&self, url: &str, bytes: &[u8]) -> Result<u64, Error> {
        if !self.policy()?.bundle_urls.iter().any(|own| **own == *url) {
            return Err(Error::NotFound);
        }
        let state = self.state_file.borrow().clone().ok_or(Error::NotFound)?;
        let bundle = spiffe_bundle::read(bytes).map_err(Error::Misuse)?;
        for ca in &bundle.cas {
            CaCertificate::from_x509(ca.clone())?;
        }
        let refresh = bundle.refresh_hint.unwrap_or(DEFAULT_REFRESH);
        let file = bundle_file(state.directory(), url);
        if let Ok(kept) = fs::read(&file) {
            if kept == bytes {
                return Ok(refresh);
            }
            let kept = spiffe_bundle::read(&kept).ok();
            let kept = kept.and_then(|kept| kept.sequence);
            match (kept, bundle.sequence) {
                (Some(kept), Some(new)) if new < kept => {
                    return Err(Error::Misuse(format!(
                        "its spiffe_sequence {new} is lower than {kept}, that of the bundle in use"
                    )));
                }
                (Some(kept), None) => {
                    return Err(Error::Misuse(format!(
                        "it has no spiffe_sequence, and the bundle in use has {kept}"
                    )));
                }
                _ => {}
            }
        }
        state
            .replace(&file, bytes)
            .map_err(|error| Error::Misuse(format!("'{}': {error}", file.display())))?;
        Ok(refresh)
    }
}
