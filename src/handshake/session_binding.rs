//! The session id context that ties a TLS session to the certificate request of its handshake.
//!
//! It is a digest of the content of the request, not of a name or a counter. Names with equal
//! requests therefore share sessions and HTTP/2 connections, a reload without a change of the
//! request keeps sessions valid, a change of the CAs invalidates them, and nodes with the same
//! ticket keys and policy resume each other's sessions.

use std::sync::Arc;

use openssl::sha::{sha256, Sha256};

use crate::trust::TrustStore;

/// Version of the digest; to be changed when the same content gets another meaning.
const FORMAT: &[u8] = b"resty-mtls binding 1";
const NO_RESUMPTION: &[u8] = b"resty-mtls no resumption 1";
const UNRESUMABLE: &[u8] = b"resty-mtls unresumable session 1";

/// The two session id contexts of a certificate request, each of 32 bytes, which is the maximum
/// (`SSL_MAX_SID_CTX_LENGTH`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionBinding {
    context: [u8; 32],
    unresumable: [u8; 32],
}

impl SessionBinding {
    /// The binding for a certificate request whose certificates are verified by `stores`.
    pub fn new(stores: &[Arc<TrustStore>]) -> SessionBinding {
        let mut digests: Vec<&[u8; 32]> = stores.iter().map(|store| store.digest()).collect();
        digests.sort_unstable();
        digests.dedup();
        let mut hasher = Sha256::new();
        hasher.update(FORMAT);
        for digest in digests {
            hasher.update(digest);
        }
        SessionBinding::of(hasher.finish())
    }

    /// The binding for the same request when its sessions must not be resumed.
    pub fn without_resumption(&self) -> SessionBinding {
        SessionBinding::of(sha256(&[NO_RESUMPTION, self.context.as_slice()].concat()))
    }

    fn of(context: [u8; 32]) -> SessionBinding {
        SessionBinding {
            context,
            unresumable: sha256(&[UNRESUMABLE, context.as_slice()].concat()),
        }
    }

    /// The context that the ClientHello phase sets.
    pub fn context(&self) -> &[u8; 32] {
        &self.context
    }

    /// A context that the ClientHello phase never sets, so that a session with it is never resumed.
    /// [`SessionBinding::matches`] accepts it for the connection that made the session.
    pub fn unresumable_context(&self) -> &[u8; 32] {
        &self.unresumable
    }

    /// Whether a session with this context was made under this binding.
    pub fn matches(&self, context: &[u8]) -> bool {
        context == self.context || context == self.unresumable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::trust::VerifyOptions;

    /// Two stores with the same CA: without and with `allow_partial_chain`.
    fn stores() -> [Arc<TrustStore>; 2] {
        let ca = testing::pki().ca_certificate();
        [false, true].map(|allow_partial_chain| {
            let options = VerifyOptions {
                allow_partial_chain,
                ..Default::default()
            };
            Arc::new(TrustStore::new(std::slice::from_ref(&ca), options).unwrap())
        })
    }

    #[test]
    fn new_of_equal_stores_in_any_order_is_equal() {
        let [a, b] = stores();
        assert_eq!(
            SessionBinding::new(&[a.clone(), b.clone()]),
            SessionBinding::new(&[b.clone(), a, b])
        );
    }

    #[test]
    fn new_of_other_verify_options_differs() {
        let [a, b] = stores();
        assert_ne!(SessionBinding::new(&[a]), SessionBinding::new(&[b]));
    }

    #[test]
    fn without_resumption_differs_and_does_not_match() {
        let binding = SessionBinding::new(&[]);
        let without = binding.without_resumption();
        assert_eq!(without, binding.without_resumption());
        assert!(!binding.matches(without.context()));
        assert!(!binding.matches(without.unresumable_context()));
        assert!(!without.matches(binding.context()));
    }

    #[test]
    fn matches_its_two_contexts_only() {
        let binding = SessionBinding::new(&[]);
        assert!(binding.matches(binding.context()));
        assert!(binding.matches(binding.unresumable_context()));
        assert!(!binding.matches(&[]));
        assert!(!binding.matches(&[0; 32]));
        assert!(!binding.matches(&binding.context()[..31]));
    }
}
