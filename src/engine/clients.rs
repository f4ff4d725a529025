//! The client cache of a worker.
//!
//! A parsed certificate is a tree of some hundred allocations. For clients that were not seen
//! lately these would be out of the CPU caches, cost more to free than to parse, and fragment the
//! heap, so only the bytes of the leaf are kept. A new connection has the certificate parsed
//! already.
//!
//! Where a proxy does not verify certificates, any client can have any certificate put into its
//! header. Unverified certificates have a few slots of their own, so that they evict no client.

use std::collections::VecDeque;
use std::rc::Rc;

use openssl::ssl::SslRef;
use openssl::stack::Stack;
use openssl::x509::X509;

use super::{bounds, Engine};
use crate::cache::{Cache, SlotId};
use crate::certificate::{from_der, Certificate, CertificateDigests};
use crate::connection::Connection;
use crate::trust::{sent_certificates_in, TrustStore, Verdict};
use crate::Error;

/// Most clients in the cache.
const MAX_CLIENTS: usize = 512;
/// Most certificates in the cache that are not verified.
const MAX_UNVERIFIED: usize = 32;
/// Bytes that OpenSSL allocates for a byte of DER at worst, with many short names.
const DECODED: usize = 40;
/// Most clients whose parsed certificate is kept.
const MAX_RECENT: usize = 32;
/// Most chains in the cache, which clients share.
const MAX_CHAINS: usize = 64;

struct Client {
    leaf: Box<[u8]>,
    chain: Rc<Stack<X509>>,
    parsed: Option<Rc<Certificate>>,
}

/// A client that was found in the cache.
pub(super) struct CachedClient {
    pub(super) slot: SlotId,
    /// Its parsed certificate, if that is kept.
    pub(super) parsed: Option<Rc<Certificate>>,
    /// The intermediates that it sent.
    pub(super) chain: Rc<Stack<X509>>,
}

/// The intermediates that a client sent.
struct Chain {
    certificates: Rc<Stack<X509>>,
    der_len: usize,
}

/// Where a certificate is from, which decides how it is cached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CertificateOrigin {
    /// The TLS connection, which keeps it parsed.
    Tls,
    /// A header, and it is verified: it stays parsed, because each request has only the header.
    Header,
    /// A header, and it is not verified.
    Unverified,
}

/// The cached clients by the digests of their certificates.
pub(super) struct Clients {
    clients: Cache<CertificateDigests, Client>,
    /// The indexes of their slots follow those of `clients`. All are parsed.
    unverified: Cache<CertificateDigests, Client>,
    /// The TLS clients whose certificate is kept parsed, the oldest first.
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

/// The slot in `unverified` of an outer slot; `None` for a slot in `clients`.
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
    /// Looks a client up.
    pub(super) fn find(&mut self, key: &CertificateDigests) -> Option<CachedClient> {
        let (slot, client) = match self.clients.find(key) {
            Some(found) => found,
            None => {
                let (slot, client) = self.unverified.find(key)?;
                (outer(slot), client)
            }
        };
        Some(CachedClient {
            slot,
            parsed: client.parsed.clone(),
            chain: client.chain.clone(),
        })
    }

    /// Whether the entry of this slot id has not been replaced.
    pub(super) fn contains(&mut self, slot: SlotId) -> bool {
        match inner(slot) {
            Some(inner) => self.unverified.get(inner).is_some(),
            None => self.clients.get(slot).is_some(),
        }
    }

    /// Whether this is the slot of a certificate that was not verified when it was cached.
    pub(super) fn is_unverified(slot: SlotId) -> bool {
        inner(slot).is_some()
    }

    /// The certificate in a slot.
    pub(super) fn get(&mut self, slot: SlotId) -> Option<Rc<Certificate>> {
        if let Some(inner) = inner(slot) {
            return self.unverified.get(inner)?.parsed.clone();
        }
        let client = self.clients.get(slot)?;
        if let Some(certificate) = &client.parsed {
            return Some(certificate.clone());
        }
        let (leaf, chain) = (from_der(&client.leaf).ok()?, client.chain.clone());
        let key = *self.clients.key(slot)?;
        let certificate = Rc::new(Certificate::with_digests(leaf, chain, key));
        self.keep_parsed(slot, &certificate);
        Some(certificate)
    }

    /// The chain with this digest, if a client in the cache has it.
    pub(super) fn chain(&mut self, digest: &[u8; 32]) -> Option<Rc<Stack<X509>>> {
        let (_, chain) = self.chains.find(digest)?;
        Some(chain.certificates.clone())
    }

    /// Keeps the parsed certificate of a cached client.
    pub(super) fn keep_parsed(&mut self, slot: SlotId, certificate: &Rc<Certificate>) {
        if let Some(client) = self.clients.get_mut(slot) {
            client.parsed = Some(certificate.clone());
            self.push(slot);
        }
    }

    /// Caches a client.
    pub(super) fn insert(
        &mut self,
        certificate: &Rc<Certificate>,
        origin: CertificateOrigin,
    ) -> Result<SlotId, Error> {
        let key = *certificate.digests();
        let leaf = certificate.der()?.into_boxed_slice();
        if origin == CertificateOrigin::Unverified {
            let weight = certificate.der_len().saturating_mul(DECODED);
            let client = Client {
                leaf,
                // Not in the cache of chains, where it would evict those of clients.
                chain: certificate.shared_intermediates(),
                parsed: Some(certificate.clone()),
            };
            return Ok(outer(self.unverified.insert_weighted(key, client, weight)));
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
                self.chains.insert_weighted(key.chain, chain, weight);
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
        let slot = self.clients.insert_weighted(key, client, weight);
        if origin == CertificateOrigin::Tls {
            self.push(slot);
        }
        Ok(slot)
    }

    /// Makes all slot ids invalid that were returned before, and keeps the entries.
    pub(super) fn invalidate_slots(&mut self) {
        for slot in self.recent.drain(..) {
            if let Some(client) = self.clients.get_mut(slot) {
                client.parsed = None;
            }
        }
        self.clients.invalidate_slots();
        self.unverified.invalidate_slots();
    }

    fn push(&mut self, slot: SlotId) {
        self.recent.push_back(slot);
        if self.recent.len() > MAX_RECENT {
            if let Some(client) = self
                .recent
                .pop_front()
                .and_then(|old| self.clients.get_mut(old))
            {
                client.parsed = None;
            }
        }
    }
}

/// A presented certificate, with its slot if it is in the client cache.
pub(super) type SlotAndCertificate = (Option<SlotId>, Rc<Certificate>);

impl Engine {
    /// The certificate presented on a connection, not verified.
    pub fn tls_client(&self, ssl: &SslRef) -> Result<Option<Rc<Certificate>>, Error> {
        let client = self.certificate_of(Connection::of_or_new(ssl)?, ssl)?;
        Ok(client.map(|(_, certificate)| certificate))
    }

    /// [`Engine::tls_client`] with its slot, if it is in the client cache.
    pub(super) fn certificate_of(
        &self,
        connection: &Connection,
        ssl: &SslRef,
    ) -> Result<Option<SlotAndCertificate>, Error> {
        let Some(digests) = connection.digests(ssl)? else {
            return Ok(None);
        };
        let mut clients = self.clients.borrow_mut();
        let Some(found) = clients.find(&digests) else {
            let chain = clients.chain(&digests.chain);
            let certificate = Rc::new(connection.certificate(ssl, digests, chain)?);
            return Ok(Some((None, certificate)));
        };
        let certificate = match found.parsed {
            Some(certificate) => certificate,
            None => {
                let certificate = connection.certificate(ssl, digests, Some(found.chain))?;
                let certificate = Rc::new(certificate);
                clients.keep_parsed(found.slot, &certificate);
                certificate
            }
        };
        Ok(Some((Some(found.slot), certificate)))
    }

    /// Caches a client. Where the route verifies chains, only a client whose chain is verified is
    /// cached with the trusted ones, because anybody can make untrusted certificates.
    pub(super) fn cache_client(
        &self,
        slot: Option<SlotId>,
        certificate: &Rc<Certificate>,
        origin: CertificateOrigin,
    ) -> Result<SlotId, Error> {
        match slot {
            Some(slot)
                if origin == CertificateOrigin::Unverified || !Clients::is_unverified(slot) =>
            {
                Ok(slot)
            }
            _ => self.clients.borrow_mut().insert(certificate, origin),
        }
    }

    /// Caches a client whose chain is verified, with those of the intermediates it sent that are in
    /// that chain: certificates that are not used must not make another client of it.
    pub(super) fn cache_trusted_client(
        &self,
        slot: Option<SlotId>,
        certificate: &Rc<Certificate>,
        origin: CertificateOrigin,
        verdict: &Verdict,
        store: &TrustStore,
        now: i64,
    ) -> Result<SlotId, Error> {
        let Some(chain) = verdict.used_intermediates() else {
            return self.cache_client(slot, certificate, origin);
        };
        let mut clients = self.clients.borrow_mut();
        if origin == CertificateOrigin::Header && slot.is_none() {
            // Otherwise the header would be parsed again for the next request.
            clients.insert(certificate, CertificateOrigin::Unverified)?;
        }
        let key = CertificateDigests {
            chain,
            ..*certificate.digests()
        };
        match clients.find(&key) {
            Some(found) if !Clients::is_unverified(found.slot) => Ok(found.slot),
            _ => {
                let sent = certificate.intermediates();
                let chain = store.chain(certificate.leaf(), sent, now)?;
                let mut used = Stack::new()?;
                for ca in sent_certificates_in(chain.iter().map(|ca| &**ca), sent)? {
                    used.push(ca.to_owned())?;
                }
                let leaf = certificate.leaf().to_owned();
                let client = Rc::new(Certificate::new(leaf, used)?);
                clients.insert(&client, origin)
            }
        }
    }

    /// The certificate of the client in a slot, see [`crate::decision::Decision::client`].
    pub fn certificate_at(&self, slot: SlotId) -> Option<Rc<Certificate>> {
        self.clients.borrow_mut().get(slot)
    }

    /// [`Engine::certificate_at`] by the numbers of a slot id.
    pub fn cached_client(&self, index: u32, generation: u32) -> Option<Rc<Certificate>> {
        self.certificate_at(SlotId { index, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn clients(
        count: usize,
        origin: CertificateOrigin,
    ) -> (Clients, Vec<(SlotId, Rc<Certificate>)>) {
        let ca = testing::issue("CA", None, true, 60, &[]);
        let mut clients = Clients::default();
        let put = (0..count)
            .map(|i| {
                let leaf = testing::issue(&format!("client {i}"), Some(&ca), false, 60, &[]);
                let sent = testing::stack(&[&ca.x509]);
                let certificate = Rc::new(Certificate::new(leaf.x509, sent).unwrap());
                (clients.insert(&certificate, origin).unwrap(), certificate)
            })
            .collect();
        (clients, put)
    }

    #[test]
    fn insert_more_than_recent_keeps_bytes_from_which_get_reads_the_same_certificate() {
        let (mut clients, put) = clients(MAX_RECENT + 2, CertificateOrigin::Tls);
        let (slot, certificate) = &put[1];
        assert!(clients
            .find(certificate.digests())
            .unwrap()
            .parsed
            .is_none());
        assert_eq!(Rc::strong_count(certificate), 1);
        let reparsed = clients.get(*slot).unwrap();
        assert_eq!(reparsed.digests(), certificate.digests());
        assert_eq!(
            reparsed.chain_pem().unwrap(),
            certificate.chain_pem().unwrap()
        );
        let found = clients.find(certificate.digests()).unwrap();
        assert!(Rc::ptr_eq(&found.parsed.unwrap(), &reparsed));
        assert_eq!(clients.recent.len(), MAX_RECENT);
    }

    #[test]
    fn insert_clients_with_the_same_chain_share_it() {
        let (mut clients, put) = self::clients(2, CertificateOrigin::Tls);
        let [a, b] = [0, 1].map(|i| clients.find(put[i].1.digests()).unwrap().chain);
        assert!(Rc::ptr_eq(&a, &b));
        let cached = clients.chain(&put[0].1.digests().chain).unwrap();
        assert!(Rc::ptr_eq(&a, &cached));
        assert!(clients.chain(&[0; 32]).is_none());
    }

    #[test]
    fn insert_from_a_header_stays_parsed() {
        let (mut clients, put) = clients(MAX_RECENT + 2, CertificateOrigin::Header);
        let parsed =
            |clients: &mut Clients, i: usize| clients.find(put[i].1.digests()).unwrap().parsed;
        assert!((0..put.len()).all(|i| parsed(&mut clients, i).is_some()));
    }

    #[test]
    fn insert_unverified_evicts_no_client_and_shares_no_slot_with_one() {
        let (mut clients, put) = self::clients(1, CertificateOrigin::Header);
        let ca = testing::issue("untrusted", None, true, 60, &[]);
        let mut slots = Vec::new();
        for i in 0..MAX_CLIENTS + MAX_CHAINS {
            let sent = testing::issue(&format!("{i}"), None, true, 60, &[]);
            let sent = testing::stack(&[&sent.x509]);
            let certificate = Rc::new(Certificate::new(ca.x509.clone(), sent).unwrap());
            let slot = clients
                .insert(&certificate, CertificateOrigin::Unverified)
                .unwrap();
            assert!(clients.contains(slot) && Clients::is_unverified(slot));
            assert!((MAX_CLIENTS..MAX_CLIENTS + MAX_UNVERIFIED).contains(&(slot.index as usize)));
            assert_eq!(clients.find(certificate.digests()).unwrap().slot, slot);
            assert!(Rc::ptr_eq(&clients.get(slot).unwrap(), &certificate));
            slots.push(slot);
        }
        let held = |slot: &&SlotId| clients.contains(**slot);
        assert_eq!(slots.iter().filter(held).count(), MAX_UNVERIFIED);
        let (slot, certificate) = &put[0];
        assert!(clients.contains(*slot) && !Clients::is_unverified(*slot));
        assert!(clients.chain(&certificate.digests().chain).is_some());
        assert_eq!(clients.clients.len(), 1);
        clients.invalidate_slots();
        assert!(!slots.iter().any(|slot| clients.contains(*slot)));
    }

    #[test]
    fn insert_unverified_is_bounded_by_weight() {
        let mut clients = Clients::default();
        let sans: Vec<String> = (0..1000)
            .map(|i| format!("DNS:host-{i:04}.example"))
            .collect();
        let sans: Vec<&str> = sans.iter().map(|san| &**san).collect();
        let mut held = 0;
        for i in 0..MAX_UNVERIFIED {
            let client = testing::issue(&format!("{i}"), None, false, 60, &sans);
            let sent = testing::stack(&[]);
            let certificate = Rc::new(Certificate::new(client.x509, sent).unwrap());
            clients
                .insert(&certificate, CertificateOrigin::Unverified)
                .unwrap();
            held = bounds::UNVERIFIED / (certificate.der_len() * DECODED);
        }
        assert!(held < MAX_UNVERIFIED);
        assert_eq!(clients.unverified.len(), held);
    }

    #[test]
    fn find_prefers_the_slot_of_a_verified_client() {
        let (mut clients, put) = self::clients(1, CertificateOrigin::Unverified);
        let (slot, certificate) = &put[0];
        let verified = clients
            .insert(certificate, CertificateOrigin::Header)
            .unwrap();
        assert_eq!(clients.find(certificate.digests()).unwrap().slot, verified);
        // A request that holds the slot id can still read the certificate.
        assert!(clients.contains(*slot) && !Clients::is_unverified(verified));
    }

    #[test]
    fn invalidate_slots_drops_parsed_certificates() {
        let (mut clients, put) = self::clients(3, CertificateOrigin::Tls);
        clients.invalidate_slots();
        for (slot, certificate) in &put {
            assert!(!clients.contains(*slot));
            assert!(clients.get(*slot).is_none());
            let found = clients.find(certificate.digests()).unwrap();
            assert!(found.parsed.is_none() && clients.contains(found.slot));
        }
        assert!(clients.recent.is_empty());
    }
}
