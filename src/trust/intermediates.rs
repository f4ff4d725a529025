//! The CA certificates of a document as candidates for intermediates.
//!
//! A client chooses what it sends beside its leaf. Where the document has a CA's certificate too,
//! chains are built with that one: which credential applies must not depend on the client's copy.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use openssl::stack::StackRef;
use openssl::x509::{X509Ref, X509};

use super::CaCertificate;

/// Longest way from a leaf upwards that is followed, in names.
const MAX_NAMES: usize = 32;

/// CA certificates by subject. They are no anchors.
#[derive(Default)]
pub struct Intermediates {
    cas: Vec<Arc<CaCertificate>>,
    /// By `X509_NAME_hash` of the subject: OpenSSL itself compares the names afterwards.
    by_subject: HashMap<u32, Vec<usize>>,
}

impl Intermediates {
    /// All CA certificates of a document.
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

    /// Those that may stand in a chain of `leaf` beside what the client sent, without those that
    /// `is_known` names: found from the leaf upwards, by name.
    pub(super) fn candidates(
        &self,
        leaf: &X509Ref,
        sent: &StackRef<X509>,
        is_known: impl Fn(&CaCertificate) -> bool,
    ) -> Vec<&Arc<CaCertificate>> {
        let mut found: Vec<&Arc<CaCertificate>> = Vec::new();
        if self.cas.is_empty() {
            return found;
        }
        let mut wanted = vec![leaf.issuer_name_hash()];
        let mut seen: HashSet<u32> = wanted.iter().copied().collect();
        let mut next = 0;
        while let Some(name) = wanted.get(next).copied() {
            next += 1;
            let own = self.by_subject.get(&name).into_iter().flatten();
            let own: Vec<_> = own.filter_map(|index| self.cas.get(*index)).collect();
            let issuers = own.iter().map(|ca| ca.x509().issuer_name_hash());
            let beside = sent.iter().filter(|ca| ca.subject_name_hash() == name);
            for issuer in issuers.chain(beside.map(X509Ref::issuer_name_hash)) {
                if wanted.len() < MAX_NAMES && seen.insert(issuer) {
                    wanted.push(issuer);
                }
            }
            found.extend(own.into_iter().filter(|ca| !is_known(ca)));
        }
        found
    }
}
