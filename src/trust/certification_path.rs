//! A verified chain with the issuers of its anchor.

use std::cmp::Ordering;
use std::sync::Arc;

use openssl::x509::{X509Ref, X509};

use super::ca::is_issuer;
use super::CaCertificate;

/// A verified chain, and the issuers of its anchor.
pub struct CertificationPath {
    pub(super) certificates: Vec<X509>,
    pub(super) anchor: usize,
    pub(super) cas: Arc<[Arc<CaCertificate>]>,
}

impl CertificationPath {
    /// The chain and the issuers of its anchor, leaf first.
    pub fn certificates(&self) -> &[X509] {
        &self.certificates
    }

    /// The verified chain, from the leaf to the anchor; empty when the chain is refused.
    pub fn chain(&self) -> &[X509] {
        let end = self.certificates.len().min(self.anchor + 1);
        self.certificates.get(..end).unwrap_or_default()
    }

    /// Index of the anchor.
    pub fn anchor(&self) -> usize {
        self.anchor
    }

    /// The CAs of the store.
    pub fn cas(&self) -> &[Arc<CaCertificate>] {
        &self.cas
    }

    /// Whether a path from `ca` over CAs of the store and of this path ends at a CA with the
    /// subject and key of the topmost certificate of this path.
    pub fn shares_anchor(&self, ca: &X509Ref) -> bool {
        let shares = self.has_path_to_top(ca);
        openssl::error::ErrorStack::get();
        shares
    }

    fn has_path_to_top(&self, ca: &X509Ref) -> bool {
        // A path that consists of the leaf has no CA.
        let Some((_, above)) = self.certificates.split_first() else {
            return false;
        };
        let Some(top) = above.last() else {
            return false;
        };
        let cas = || self.cas.iter().map(|ca| ca.x509()).chain(above);
        // Each CA is added once, so that the loop ends for CAs that issued each other.
        let mut reached: Vec<&X509Ref> = vec![ca];
        let mut next = 0;
        while let Some(&certificate) = reached.get(next) {
            next += 1;
            if is_same_ca(certificate, top) {
                return true;
            }
            for issuer in cas() {
                if !reached.contains(&&**issuer) && is_issuer(issuer, certificate) {
                    reached.push(issuer);
                }
            }
        }
        false
    }
}

/// Whether two certificates have the same subject and key.
fn is_same_ca(one: &X509Ref, other: &X509Ref) -> bool {
    let same = one.subject_name().try_cmp(other.subject_name());
    let keys = one
        .public_key()
        .and_then(|key| Ok((key, other.public_key()?)));
    same.is_ok_and(Ordering::is_eq) && keys.is_ok_and(|(one, other)| one.public_eq(&other))
}
