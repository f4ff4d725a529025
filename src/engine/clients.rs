//! The clients that a worker remembers.
//!
//! A parsed certificate is a tree of some hundred pieces of memory. Those of clients that were not
//! here lately would lie about cold, cost more to free than to parse, and fragment the heap: of
//! them the bytes of the leaf are kept. Who comes on a new connection brings a parsed one along.

use std::collections::VecDeque;
use std::rc::Rc;

use openssl::stack::Stack;
use openssl::x509::X509;

use crate::cache::{Cache, Place};
use crate::certificate::{from_der, Certificate, Key};
use crate::Error;

/// Clients that are remembered.
const MAX_CLIENTS: usize = 512;
/// Bytes that these take together at most, by estimate.
const MAX_WEIGHT: usize = 32 << 20;
/// Bytes that OpenSSL takes for a byte of DER at worst: short names become structures of their own.
const DECODED: usize = 40;
/// Clients whose parsed certificate is at hand.
const MAX_RECENT: usize = 32;
/// Chains that clients share.
const MAX_CHAINS: usize = 64;
/// Bytes that these take together at most, by estimate.
const MAX_CHAINS_WEIGHT: usize = 8 << 20;

struct Client {
    leaf: Box<[u8]>,
    chain: Rc<Stack<X509>>,
    parsed: Option<Rc<Certificate>>,
}

/// A client that is remembered.
pub(super) struct Found {
    pub(super) place: Place,
    /// Its certificate, if that is at hand.
    pub(super) parsed: Option<Rc<Certificate>>,
    /// What it sent beside its leaf.
    pub(super) chain: Rc<Stack<X509>>,
}

/// What a client sent beside its leaf.
struct Chain {
    certificates: Rc<Stack<X509>>,
    der_len: usize,
}

/// Where a certificate came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// The connection, which has it parsed.
    Tls,
    /// A header, which would have to be parsed for each request.
    Header,
}

/// Clients by the content of their certificates.
pub(super) struct Clients {
    clients: Cache<Key, Client>,
    /// Those that came over TLS and whose certificate is parsed, the oldest first.
    recent: VecDeque<Place>,
    chains: Cache<[u8; 32], Chain>,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients {
            clients: Cache::with_weight(MAX_CLIENTS, MAX_WEIGHT),
            recent: VecDeque::new(),
            chains: Cache::with_weight(MAX_CHAINS, MAX_CHAINS_WEIGHT),
        }
    }
}

impl Clients {
    /// A client that is remembered.
    pub(super) fn find(&mut self, key: &Key) -> Option<Found> {
        let (place, client) = self.clients.find(key)?;
        Some(Found {
            place,
            parsed: client.parsed.clone(),
            chain: client.chain.clone(),
        })
    }

    /// Whether a place still is what it was.
    pub(super) fn holds(&mut self, place: Place) -> bool {
        self.clients.at(place).is_some()
    }

    /// The certificate at a place.
    pub(super) fn at(&mut self, place: Place) -> Option<Rc<Certificate>> {
        let client = self.clients.at(place)?;
        if let Some(certificate) = &client.parsed {
            return Some(certificate.clone());
        }
        let (leaf, chain) = (from_der(&client.leaf).ok()?, client.chain.clone());
        let key = *self.clients.key_at(place)?;
        let certificate = Rc::new(Certificate::with_key(leaf, chain, key));
        self.recall(place, &certificate);
        Some(certificate)
    }

    /// The chain with this digest, if clients with it are remembered.
    pub(super) fn chain(&mut self, digest: &[u8; 32]) -> Option<Rc<Stack<X509>>> {
        let (_, chain) = self.chains.find(digest)?;
        Some(chain.certificates.clone())
    }

    /// Has the certificate of a known client, parsed anew, at hand.
    pub(super) fn recall(&mut self, place: Place, certificate: &Rc<Certificate>) {
        if let Some(client) = self.clients.at_mut(place) {
            client.parsed = Some(certificate.clone());
            self.push(place);
        }
    }

    /// Remembers a client.
    pub(super) fn put(&mut self, certificate: &Rc<Certificate>, via: Via) -> Result<Place, Error> {
        let key = *certificate.key();
        let leaf = certificate.der()?.into_boxed_slice();
        let (chain, chain_len) = match self.chains.find(&key.chain) {
            Some((_, chain)) => (chain.certificates.clone(), chain.der_len),
            None => {
                let certificates = certificate.shared_intermediates();
                let der_len = certificate.der_len().saturating_sub(leaf.len());
                let chain = Chain {
                    certificates: certificates.clone(),
                    der_len,
                };
                let weight = der_len.saturating_mul(DECODED);
                self.chains.put_weighing(key.chain, chain, weight);
                (certificates, der_len)
            }
        };
        let weight = leaf.len().saturating_add(chain_len);
        let client = Client {
            leaf,
            chain,
            parsed: Some(certificate.clone()),
        };
        let weight = weight.saturating_mul(DECODED);
        let place = self.clients.put_weighing(key, client, weight);
        if via == Via::Tls {
            self.push(place);
        }
        Ok(place)
    }

    /// Makes all places handed out before invalid, and keeps what is there.
    pub(super) fn renew(&mut self) {
        for place in self.recent.drain(..) {
            if let Some(client) = self.clients.at_mut(place) {
                client.parsed = None;
            }
        }
        self.clients.renew();
    }

    fn push(&mut self, place: Place) {
        self.recent.push_back(place);
        if self.recent.len() > MAX_RECENT {
            if let Some(client) = self
                .recent
                .pop_front()
                .and_then(|old| self.clients.at_mut(old))
            {
                client.parsed = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn some(count: usize, via: Via) -> (Clients, Vec<(Place, Rc<Certificate>)>) {
        let ca = testing::issue("CA", None, true, 60, &[]);
        let mut clients = Clients::default();
        let put = (0..count)
            .map(|i| {
                let leaf = testing::issue(&format!("client {i}"), Some(&ca), false, 60, &[]);
                let sent = testing::stack(&[&ca.x509]);
                let certificate = Rc::new(Certificate::new(leaf.x509, sent).unwrap());
                (clients.put(&certificate, via).unwrap(), certificate)
            })
            .collect();
        (clients, put)
    }

    #[test]
    fn put_more_than_recent_keeps_bytes_from_which_at_reads_the_same_certificate() {
        let (mut clients, put) = some(MAX_RECENT + 2, Via::Tls);
        let (place, certificate) = &put[1];
        assert!(clients.find(certificate.key()).unwrap().parsed.is_none());
        assert_eq!(Rc::strong_count(certificate), 1);
        let again = clients.at(*place).unwrap();
        assert_eq!(again.key(), certificate.key());
        assert_eq!(again.chain_pem().unwrap(), certificate.chain_pem().unwrap());
        let found = clients.find(certificate.key()).unwrap();
        assert!(Rc::ptr_eq(&found.parsed.unwrap(), &again));
        assert_eq!(clients.recent.len(), MAX_RECENT);
    }

    #[test]
    fn put_clients_with_the_same_chain_share_it() {
        let (mut clients, put) = some(2, Via::Tls);
        let [a, b] = [0, 1].map(|i| clients.find(put[i].1.key()).unwrap().chain);
        assert!(Rc::ptr_eq(&a, &b));
        let known = clients.chain(&put[0].1.key().chain).unwrap();
        assert!(Rc::ptr_eq(&a, &known));
        assert!(clients.chain(&[0; 32]).is_none());
    }

    #[test]
    fn put_from_a_header_stays_parsed() {
        let (mut clients, put) = some(MAX_RECENT + 2, Via::Header);
        let parsed = |clients: &mut Clients, i: usize| clients.find(put[i].1.key()).unwrap().parsed;
        assert!((0..put.len()).all(|i| parsed(&mut clients, i).is_some()));
    }

    #[test]
    fn renew_makes_places_invalid_and_lets_go_of_what_is_parsed() {
        let (mut clients, put) = some(3, Via::Tls);
        clients.renew();
        for (place, certificate) in &put {
            assert!(!clients.holds(*place));
            assert!(clients.at(*place).is_none());
            let found = clients.find(certificate.key()).unwrap();
            assert!(found.parsed.is_none() && clients.holds(found.place));
        }
        assert!(clients.recent.is_empty());
    }
}
