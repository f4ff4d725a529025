//! The list of CA names sent in a CertificateRequest.
//!
//! OpenSSL takes a list over and frees it with the connection, and copying 150 names costs more
//! than the rest of the handshake. So lists are lent: taken back from the connection once the
//! CertificateRequest is on the wire, and lent again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openssl::ssl::SslRef;
use openssl::stack::Stack;
use openssl::x509::X509Name;

use crate::openssl_ext::ssl::{self as ext, AttachedCaNames};
use crate::trust::CaCertificate;
use crate::Error;

/// Most lists kept for lending, about the number of handshakes of one worker in flight.
const MAX_IDLE: usize = 64;

/// Lists waiting to be lent.
#[derive(Default)]
struct Idle {
    lists: Vec<Stack<X509Name>>,
    retired: bool,
}

/// A list of CA names without duplicates, and the copies of it that are not lent out.
pub struct CaNames {
    names: Vec<X509Name>,
    bytes: usize,
    over_budget: bool,
    /// Of one thread in practice: the lock lets a policy be built in one and freed in another.
    idle: Mutex<Idle>,
}

impl CaNames {
    /// Subjects of `cas`, each once, in order. A list of over `budget` bytes is not sent.
    pub fn new(cas: &[Arc<CaCertificate>], budget: usize) -> Result<CaNames, Error> {
        let mut seen = HashSet::new();
        let mut names = Vec::new();
        let mut bytes = 0usize;
        for ca in cas {
            let subject = ca.x509().subject_name();
            let der = subject.to_der()?;
            // Each name goes with two octets of length (RFC 8446 section 4.2.4).
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

    /// Number of names sent.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no name is sent.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Length of the list on the wire in bytes, also when it is over the budget.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the list is over the budget and therefore not sent.
    pub fn over_budget(&self) -> bool {
        self.over_budget
    }

    /// Makes the connection send the list.
    pub fn attach(&self, ssl: &SslRef) -> Result<AttachedCaNames, Error> {
        let idle = self.idle_lists().lists.pop();
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

    /// Takes the list back after the CertificateRequest was sent.
    pub fn detach(&self, ssl: &SslRef, lent: AttachedCaNames) {
        if let Some(list) = ext::detach_ca_names(ssl, lent) {
            let mut idle = self.idle_lists();
            if idle.lists.len() < MAX_IDLE && !idle.retired {
                idle.lists.push(list);
            }
        }
    }

    /// Number of lists waiting to be lent.
    pub fn idle(&self) -> usize {
        self.idle_lists().lists.len()
    }

    /// Keeps no lists any more: only connections that are under way still use it. Frees what it
    /// kept, which takes a while.
    pub fn retire(&self) {
        let mut idle = self.idle_lists();
        idle.retired = true;
        let lists = std::mem::take(&mut idle.lists);
        drop(idle);
        drop(lists);
    }

    fn idle_lists(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
