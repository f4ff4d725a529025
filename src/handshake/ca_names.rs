//! The list of CA names that is sent in a CertificateRequest.
//!
//! A connection owns its list and frees it at its end, and copying 150 names costs more than the
//! rest of the handshake. A list is therefore attached to a connection, detached after the
//! CertificateRequest was sent, and attached to the next connection.

use std::collections::HashSet;
use std::sync::Arc;

use openssl::ssl::SslRef;
use openssl::stack::Stack;
use openssl::x509::{X509Name, X509NameRef};
use parking_lot::Mutex;

use crate::openssl_ext::ssl::{self as ext, AttachedCaNames};
use crate::trust::CaCertificate;
use crate::Error;

/// Most idle lists that are kept, about the number of concurrent handshakes of one worker.
const MAX_IDLE: usize = 64;

/// Lists that are attached to no connection.
#[derive(Default)]
struct IdleLists {
    lists: Vec<Stack<X509Name>>,
    /// Whether detached lists are freed instead of kept.
    retired: bool,
}

/// CA names without duplicates, and idle copies of the list.
pub struct CaNames {
    names: Vec<X509Name>,
    bytes: usize,
    over_budget: bool,
    /// Used by one thread at a time; the lock allows a policy to be freed by another thread than
    /// the one that compiled it.
    idle: Mutex<IdleLists>,
}

impl CaNames {
    /// The subjects of `cas` in order, without duplicates. A list that is longer than `budget`
    /// bytes is not sent.
    pub fn new(cas: &[Arc<CaCertificate>], budget: usize) -> Result<CaNames, Error> {
        let subjects = cas.iter().map(|ca| ca.x509().subject_name());
        CaNames::of_names(subjects, budget)
    }

    /// These names in order, without duplicates.
    pub fn of_names<'n>(
        all: impl Iterator<Item = &'n X509NameRef>,
        budget: usize,
    ) -> Result<CaNames, Error> {
        let mut seen = HashSet::new();
        let mut names = Vec::new();
        let mut bytes = 0usize;
        for subject in all {
            let der = subject.to_der()?;
            // Two octets of length precede each name (RFC 8446 section 4.2.4).
            let len = der.len() + 2;
            if seen.insert(der) {
                bytes += len;
                names.push(subject.to_owned()?);
            }
        }
        let over_budget = bytes > budget;
        if over_budget {
            names.clear();
        }
        Ok(CaNames {
            names,
            bytes,
            over_budget,
            idle: Mutex::default(),
        })
    }

    /// Whether `other` is the same list on the wire, up to spellings that OpenSSL holds for equal.
    pub fn sends_the_same(&self, other: &CaNames) -> bool {
        let equal =
            |(a, b): (&X509Name, &X509Name)| a.try_cmp(b).is_ok_and(std::cmp::Ordering::is_eq);
        self.names.len() == other.names.len() && self.names.iter().zip(&other.names).all(equal)
    }

    /// Whether this name is sent.
    pub fn has(&self, name: &X509NameRef) -> bool {
        let mut names = self.names.iter();
        names.any(|sent| sent.try_cmp(name).is_ok_and(std::cmp::Ordering::is_eq))
    }

    /// Number of names that are sent.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no name is sent.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Length of the list on the wire in bytes, even if it is not sent.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the list is longer than the budget and therefore not sent.
    pub fn over_budget(&self) -> bool {
        self.over_budget
    }

    /// Attaches a list to the connection, which sends it in its CertificateRequest.
    pub fn attach(&self, ssl: &SslRef) -> Result<AttachedCaNames, Error> {
        let idle = self.idle.lock().lists.pop();
        let list = match idle {
            Some(list) => list,
            None => {
                let mut list = Stack::new()?;
                for name in &self.names {
                    list.push((**name).to_owned()?)?;
                }
                list
            }
        };
        Ok(ext::attach_ca_names(ssl, list))
    }

    /// Detaches the list after the CertificateRequest was sent, and keeps it for
    /// [`CaNames::attach`].
    pub fn detach(&self, ssl: &SslRef, attached: AttachedCaNames) {
        if let Some(list) = ext::detach_ca_names(ssl, attached) {
            let mut idle = self.idle.lock();
            if idle.lists.len() < MAX_IDLE && !idle.retired {
                idle.lists.push(list);
            }
        }
    }

    /// Number of idle lists.
    pub fn idle_count(&self) -> usize {
        self.idle.lock().lists.len()
    }

    /// Frees the idle lists, which may take long, and keeps no more of them. Called when no new
    /// connection uses the policy any more.
    pub fn retire(&self) {
        let mut idle = self.idle.lock();
        idle.retired = true;
        let lists = std::mem::take(&mut idle.lists);
        drop(idle);
        drop(lists);
    }
}
