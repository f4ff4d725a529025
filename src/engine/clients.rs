//! The clients that a worker remembers.
//!
//! A parsed certificate is a tree of some hundred pieces of memory. Those of clients that were not
//! here lately would lie about cold, cost more to free than to parse, and fragment the heap: of
//! them the bytes of the leaf are kept. Who comes on a new connection brings a parsed one along.
//!
//! Anybody can put made-up certificates into the header of a proxy that checks none. Those have a few
//! slots of their own until somebody vouches for them.

use std::collections::VecDeque;
use std::rc::Rc;

use openssl::stack::Stack;
use openssl::x509::X509;

use super::bounds;
use crate::cache::{Cache, SlotId};
use crate::certificate::{from_der, Certificate, CertificateDigests};
use crate::Error;

/// Clients that are remembered.
const MAX_CLIENTS: usize = 512;
/// Certificates that are remembered before anybody judged them.
const MAX_UNVERIFIED: usize = 32;
/// Bytes that OpenSSL takes for a byte of DER at worst: short names become structures of their own.
const DECODED: usize = 40;
/// Clients whose parsed certificate is at hand.
const MAX_RECENT: usize = 32;
/// Chains that clients share.
const MAX_CHAINS: usize = 64;

struct Client {
    leaf: Box<[u8]>,
    chain: Rc<Stack<X509>>,
    parsed: Option<Rc<Certificate>>,
}

/// A client that is remembered.
pub(super) struct Found {
    pub(super) slot: SlotId,
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
pub(super) enum CertificateOrigin {
    /// The connection, which has it parsed.
    Tls,
    /// A header, which would have to be parsed for each request.
    Header,
    /// A header, and nobody has judged it yet.
    Unverified,
}

/// Clients by the content of their certificates.
pub(super) struct Clients {
    clients: Cache<CertificateDigests, Client>,
    /// Their slots are handed out behind those of `clients`. All are parsed.
    unverified: Cache<CertificateDigests, Client>,
    /// Those that came over TLS and whose certificate is parsed, the oldest first.
    recent: VecDeque<SlotId>,
    chains: Cache<[u8; 32], Chain>,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients {
            clients: Cache::with_weight(MAX_CLIENTS, bounds::CLIENTS),
            unverified: Cache::with_weight(MAX_UNVERIFIED, bounds::UNVERIFIED),
            recent: VecDeque::new(),
            chains: Cache::with_weight(MAX_CHAINS, bounds::CHAINS),
        }
    }
}

/// The slot in `unverified` that was handed out as `slot`, if that is none in `clients`.
fn inner(slot: SlotId) -> Option<SlotId> {
    let index = slot.index.checked_sub(MAX_CLIENTS as u32)?;
    Some(SlotId { index, ..slot })
}

fn outer(slot: SlotId) -> SlotId {
    SlotId {
        index: slot.index + MAX_CLIENTS as u32,
        ..slot
    }
}

impl Clients {
    /// A client that is remembered.
    pub(super) fn find(&mut self, key: &CertificateDigests) -> Option<Found> {
        let (slot, client) = match self.clients.find(key) {
            Some(found) => found,
            None => {
                let (slot, client) = self.unverified.find(key)?;
                (outer(slot), client)
            }
        };
        Some(Found {
            slot,
            parsed: client.parsed.clone(),
            chain: client.chain.clone(),
        })
    }

    /// Whether a slot still is what it was.
    pub(super) fn holds(&mut self, slot: SlotId) -> bool {
        match inner(slot) {
            Some(inner) => self.unverified.at(inner).is_some(),
            None => self.clients.at(slot).is_some(),
        }
    }

    /// Whether this is the slot of a certificate that nobody had judged when it was remembered.
    pub(super) fn is_unverified(slot: SlotId) -> bool {
        inner(slot).is_some()
    }

    /// The certificate at a slot.
    pub(super) fn at(&mut self, slot: SlotId) -> Option<Rc<Certificate>> {
        if let Some(inner) = inner(slot) {
            return self.unverified.at(inner)?.parsed.clone();
        }
        let client = self.clients.at(slot)?;
        if let Some(certificate) = &client.parsed {
            return Some(certificate.clone());
        }
        let (leaf, chain) = (from_der(&client.leaf).ok()?, client.chain.clone());
        let key = *self.clients.key_at(slot)?;
        let certificate = Rc::new(Certificate::with_digests(leaf, chain, key));
        self.recall(slot, &certificate);
        Some(certificate)
    }

    /// The chain with this digest, if clients with it are remembered.
    pub(super) fn chain(&mut self, digest: &[u8; 32]) -> Option<Rc<Stack<X509>>> {
        let (_, chain) = self.chains.find(digest)?;
        Some(chain.certificates.clone())
    }

    /// Has the certificate of a known client, parsed anew, at hand.
    pub(super) fn recall(&mut self, slot: SlotId, certificate: &Rc<Certificate>) {
        if let Some(client) = self.clients.at_mut(slot) {
            client.parsed = Some(certificate.clone());
            self.push(slot);
        }
    }

    /// Remembers a client.
    pub(super) fn put(
        &mut self,
        certificate: &Rc<Certificate>,
        via: CertificateOrigin,
    ) -> Result<SlotId, Error> {
        let key = *certificate.digests();
        let leaf = certificate.der()?.into_boxed_slice();
        if via == CertificateOrigin::Unverified {
            let weight = certificate.der_len().saturating_mul(DECODED);
            let client = Client {
                leaf,
                // Not among the chains that clients share: they would go for it.
                chain: certificate.shared_intermediates(),
                parsed: Some(certificate.clone()),
            };
            return Ok(outer(self.unverified.put_weighing(key, client, weight)));
        }
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
        let slot = self.clients.put_weighing(key, client, weight);
        if via == CertificateOrigin::Tls {
            self.push(slot);
        }
        Ok(slot)
    }

    /// Makes all slots handed out before invalid, and keeps what is there.
    pub(super) fn renew(&mut self) {
        for slot in self.recent.drain(..) {
            if let Some(client) = self.clients.at_mut(slot) {
                client.parsed = None;
            }
        }
        self.clients.renew();
        self.unverified.renew();
    }

    fn push(&mut self, slot: SlotId) {
        self.recent.push_back(slot);
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

    fn some(count: usize, via: CertificateOrigin) -> (Clients, Vec<(SlotId, Rc<Certificate>)>) {
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
        let (mut clients, put) = some(MAX_RECENT + 2, CertificateOrigin::Tls);
        let (slot, certificate) = &put[1];
        assert!(clients
            .find(certificate.digests())
            .unwrap()
            .parsed
            .is_none());
        assert_eq!(Rc::strong_count(certificate), 1);
        let again = clients.at(*slot).unwrap();
        assert_eq!(again.digests(), certificate.digests());
        assert_eq!(again.chain_pem().unwrap(), certificate.chain_pem().unwrap());
        let found = clients.find(certificate.digests()).unwrap();
        assert!(Rc::ptr_eq(&found.parsed.unwrap(), &again));
        assert_eq!(clients.recent.len(), MAX_RECENT);
    }

    #[test]
    fn put_clients_with_the_same_chain_share_it() {
        let (mut clients, put) = some(2, CertificateOrigin::Tls);
        let [a, b] = [0, 1].map(|i| clients.find(put[i].1.digests()).unwrap().chain);
        assert!(Rc::ptr_eq(&a, &b));
        let known = clients.chain(&put[0].1.digests().chain).unwrap();
        assert!(Rc::ptr_eq(&a, &known));
        assert!(clients.chain(&[0; 32]).is_none());
    }

    #[test]
    fn put_from_a_header_stays_parsed() {
        let (mut clients, put) = some(MAX_RECENT + 2, CertificateOrigin::Header);
        let parsed =
            |clients: &mut Clients, i: usize| clients.find(put[i].1.digests()).unwrap().parsed;
        assert!((0..put.len()).all(|i| parsed(&mut clients, i).is_some()));
    }

    #[test]
    fn put_unjudged_pushes_out_no_client_and_shares_no_place_with_one() {
        let (mut clients, put) = some(1, CertificateOrigin::Header);
        let ca = testing::issue("stranger", None, true, 60, &[]);
        let mut slots = Vec::new();
        for i in 0..MAX_CLIENTS + MAX_CHAINS {
            let sent = testing::issue(&format!("{i}"), None, true, 60, &[]);
            let sent = testing::stack(&[&sent.x509]);
            let certificate = Rc::new(Certificate::new(ca.x509.clone(), sent).unwrap());
            let slot = clients
                .put(&certificate, CertificateOrigin::Unverified)
                .unwrap();
            assert!(clients.holds(slot) && Clients::is_unverified(slot));
            assert!((MAX_CLIENTS..MAX_CLIENTS + MAX_UNVERIFIED).contains(&(slot.index as usize)));
            assert_eq!(clients.find(certificate.digests()).unwrap().slot, slot);
            assert!(Rc::ptr_eq(&clients.at(slot).unwrap(), &certificate));
            slots.push(slot);
        }
        let held = |slot: &&SlotId| clients.holds(**slot);
        assert_eq!(slots.iter().filter(held).count(), MAX_UNVERIFIED);
        let (slot, certificate) = &put[0];
        assert!(clients.holds(*slot) && !Clients::is_unverified(*slot));
        assert!(clients.chain(&certificate.digests().chain).is_some());
        assert_eq!(clients.clients.len(), 1);
        clients.renew();
        assert!(!slots.iter().any(|slot| clients.holds(*slot)));
    }

    #[test]
    fn put_unjudged_is_bounded_by_weight() {
        let mut clients = Clients::default();
        let sans: Vec<String> = (0..1000)
            .map(|i| format!("DNS:host-{i:04}.example"))
            .collect();
        let sans: Vec<&str> = sans.iter().map(|san| &**san).collect();
        let mut held = 0;
        for i in 0..MAX_UNVERIFIED {
            let stranger = testing::issue(&format!("{i}"), None, false, 60, &sans);
            let sent = testing::stack(&[]);
            let certificate = Rc::new(Certificate::new(stranger.x509, sent).unwrap());
            clients
                .put(&certificate, CertificateOrigin::Unverified)
                .unwrap();
            held = bounds::UNVERIFIED / (certificate.der_len() * DECODED);
        }
        assert!(held < MAX_UNVERIFIED);
        assert_eq!(clients.unverified.len(), held);
    }

    #[test]
    fn find_prefers_the_place_of_a_judged_client() {
        let (mut clients, put) = some(1, CertificateOrigin::Unverified);
        let (slot, certificate) = &put[0];
        let judged = clients.put(certificate, CertificateOrigin::Header).unwrap();
        assert_eq!(clients.find(certificate.digests()).unwrap().slot, judged);
        // A request that has it already can still read it.
        assert!(clients.holds(*slot) && !Clients::is_unverified(judged));
    }

    #[test]
    fn renew_makes_places_invalid_and_lets_go_of_what_is_parsed() {
        let (mut clients, put) = some(3, CertificateOrigin::Tls);
        clients.renew();
        for (slot, certificate) in &put {
            assert!(!clients.holds(*slot));
            assert!(clients.at(*slot).is_none());
            let found = clients.find(certificate.digests()).unwrap();
            assert!(found.parsed.is_none() && clients.holds(found.slot));
        }
        assert!(clients.recent.is_empty());
    }
}
