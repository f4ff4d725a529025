//! The session id context that ties a TLS session to what its handshake asked for.
//!
//! A digest of content, not of a name or a counter: names with equal policies share sessions and
//! HTTP/2 connections, a reload that changes nothing here keeps them, a changed CA set ends them,
//! and nodes that share ticket keys and a policy resume each other's sessions.

use std::sync::Arc;

use openssl::sha::{sha256, Sha256};

use crate::trust::TrustStore;

/// Changes whenever the meaning of a binding with the same content changes.
const FORMAT: &[u8] = b"resty-mtls binding 1";
const NO_RESUMPTION: &[u8] = b"resty-mtls no resumption 1";
const UNRESUMABLE: &[u8] = b"resty-mtls unresumable session 1";

/// Session id context of 32 bytes, the most OpenSSL takes (`SSL_MAX_SID_CTX_LENGTH`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionBinding {
    context: [u8; 32],
    unresumable: [u8; 32],
}

impl SessionBinding {
    /// SessionBinding of a handshake that asks, for certificates judged by any of `stores`.
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

    /// The binding of the same handshake when its sessions must not be resumed.
    pub fn without_resumption(&self) -> SessionBinding {
        SessionBinding::of(sha256(&[NO_RESUMPTION, self.context.as_slice()].concat()))
    }

    fn of(context: [u8; 32]) -> SessionBinding {
        SessionBinding {
            context,
            unresumable: sha256(&[UNRESUMABLE, context.as_slice()].concat()),
        }
    }

    /// The context set in the ClientHello phase.
    pub fn context(&self) -> &[u8; 32] {
        &self.context
    }

    /// A context that no ClientHello ever sets: a session bound to it is never resumed, while the
    /// connection that made it still counts as made under this binding.
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

    /// Stores of the same CA, without and with partial chains.
    fn stores() -> [Arc<TrustStore>; 2] {
        let ca = testing::pki().trusted();
        [false, true].map(|allow_partial_chain| {
            let options = VerifyOptions {
                allow_partial_chain,
                ..Default::default()
            };
            Arc::new(TrustStore::new(std::slice::from_ref(&ca), options).unwrap())
        })
    }

    #[test]
    fn new_same_content_is_the_same_binding() {
        let [a, b] = stores();
        assert_eq!(
            SessionBinding::new(&[a.clone(), b.clone()]),
            SessionBinding::new(&[b.clone(), a, b])
        );
    }

    #[test]
    fn new_other_flags_are_another_binding() {
        let [a, b] = stores();
        assert_ne!(SessionBinding::new(&[a]), SessionBinding::new(&[b]));
    }

    #[test]
    fn without_resumption_is_another_binding() {
        let binding = SessionBinding::new(&[]);
        let without = binding.without_resumption();
        assert_eq!(without, binding.without_resumption());
        assert!(!binding.matches(without.context()));
        assert!(!binding.matches(without.unresumable_context()));
        assert!(!without.matches(binding.context()));
    }

    #[test]
    fn matches_only_its_two_contexts() {
        let binding = SessionBinding::new(&[]);
        assert!(binding.matches(binding.context()));
        assert!(binding.matches(binding.unresumable_context()));
        assert!(!binding.matches(&[]));
        assert!(!binding.matches(&[0; 32]));
        assert!(!binding.matches(&binding.context()[..31]));
    }
}
