//! The CA certificates of a policy document as candidates for intermediates.
//!
//! A client chooses which certificates it sends with its leaf. If the document has a certificate
//! of the same CA, chains are built with that one, so that the client's copy cannot select another
//! credential.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use openssl::stack::StackRef;
use openssl::x509::{X509Ref, X509};

use super::ca::is_issuer;
use super::CaCertificate;

/// Most issuer names that are looked up for a leaf.
const MAX_NAMES: usize = 32;

/// CA certificates by subject. They are not trust anchors.
#[derive(Default)]
pub struct Intermediates {
    cas: Vec<Arc<CaCertificate>>,
    /// Indices by `X509_NAME_hash` of the subject. OpenSSL compares the names when it builds a
    /// chain.
    by_subject: HashMap<u32, Vec<usize>>,
}

impl Intermediates {
    /// The candidates from all CA certificates of a document.
    pub fn new(cas: Vec<Arc<CaCertificate>>) -> Intermediates {
        let mut by_subject: HashMap<u32, Vec<usize>> = HashMap::new();
        for (index, ca) in cas.iter().enumerate() {
            by_subject.entry(ca.subject_hash()).or_default().push(index);
        }
        Intermediates { cas, by_subject }
    }

    /// The certificates, in the order of the document.
    pub fn cas(&self) -> &[Arc<CaCertificate>] {
        &self.cas
    }

    /// Whether one of them signed the certificate.
    pub fn has_issuer(&self, certificate: &X509Ref) -> bool {
        let found = self.by_subject.get(&certificate.issuer_name_hash());
        let mut cas = found
            .into_iter()
            .flatten()
            .filter_map(|ca| self.cas.get(*ca));
        let found = cas.any(|ca| is_issuer(ca.x509(), certificate));
        openssl::error::ErrorStack::get();
        found
    }

    /// The candidates for a chain of `leaf` with the certificates that the client sent, by the
    /// issuer names from the leaf upwards. Candidates for which `is_excluded` is true are omitted.
    pub(super) fn candidates(
        &self,
        leaf: &X509Ref,
        sent: &StackRef<X509>,
        is_excluded: impl Fn(&CaCertificate) -> bool,
    ) -> Vec<&Arc<CaCertificate>> {
        let mut candidates: Vec<&Arc<CaCertificate>> = Vec::new();
        if self.cas.is_empty() {
            return candidates;
        }
        let mut names = vec![leaf.issuer_name_hash()];
        let mut seen: HashSet<u32> = names.iter().copied().collect();
        let mut next = 0;
        while let Some(name) = names.get(next).copied() {
            next += 1;
            let matching = self.by_subject.get(&name).into_iter().flatten();
            let matching: Vec<_> = matching.filter_map(|index| self.cas.get(*index)).collect();
            let issuers = matching.iter().map(|ca| ca.x509().issuer_name_hash());
            let sent_matching = sent.iter().filter(|ca| ca.subject_name_hash() == name);
            for issuer in issuers.chain(sent_matching.map(X509Ref::issuer_name_hash)) {
                if names.len() < MAX_NAMES && seen.insert(issuer) {
                    names.push(issuer);
                }
            }
            candidates.extend(matching.into_iter().filter(|ca| !is_excluded(ca)));
        }
        candidates
    }
}
