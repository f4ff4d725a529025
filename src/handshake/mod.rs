//! What a TLS handshake does for a server name: the certificate request and the session binding.

pub mod ca_names;
pub mod server_name;
pub mod session_binding;
pub mod sni_map;

use std::sync::Arc;

use crate::trust::{CaCertificate, TrustStore};
use crate::Error;

pub use ca_names::CaNames;
pub use session_binding::SessionBinding;
pub use sni_map::{SniMap, SniMapBuilder};

/// Default limit for the list of CA names, in bytes on the wire. TLS allows 64 KB, but some clients
/// accept less (Java: 32 KB for the whole message).
pub const CA_NAMES_BUDGET: usize = 32 * 1024;

/// The certificate request of the handshakes under a server name: the CA names that are sent, the
/// session binding, and whether sessions may be resumed.
pub struct CertificateRequest {
    binding: SessionBinding,
    ca_names: CaNames,
    resumption: bool,
}

impl CertificateRequest {
    /// `stores`: the trust stores of all plugins that may verify the requested certificate.
    /// `ca_names`: the CAs whose names are sent; with `None` an empty list is sent ("any CA").
    /// `budget`: the longest list in bytes. A longer list is not sent at all: with a truncated
    /// list, clients of the omitted CAs would send no certificate.
    pub fn new(
        stores: &[Arc<TrustStore>],
        ca_names: Option<&[Arc<CaCertificate>]>,
        budget: usize,
    ) -> Result<CertificateRequest, Error> {
        let ca_names = CaNames::new(ca_names.unwrap_or_default(), budget)?;
        Ok(CertificateRequest::with_ca_names(stores, ca_names))
    }

    /// The same with a list of names.
    pub fn with_ca_names(stores: &[Arc<TrustStore>], ca_names: CaNames) -> CertificateRequest {
        CertificateRequest {
            binding: SessionBinding::new(stores),
            ca_names,
            resumption: true,
        }
    }

    /// The same request, with sessions that are never resumed.
    pub fn without_resumption(self) -> CertificateRequest {
        CertificateRequest {
            binding: self.binding.without_resumption(),
            resumption: false,
            ..self
        }
    }

    /// Whether sessions that are made under this request may be resumed.
    pub fn resumption(&self) -> bool {
        self.resumption
    }

    /// Session id context of the sessions that are made under this request.
    pub fn session_id_context(&self) -> &[u8; 32] {
        self.binding.context()
    }

    /// Whether a session with this session id context was made under this request.
    pub fn matches_session(&self, context: &[u8]) -> bool {
        self.binding.matches(context)
    }

    /// Whether a handshake under `other` is the same: what is requested, which CA names are sent,
    /// and what its session is bound to.
    pub fn requests_the_same(&self, other: &CertificateRequest) -> bool {
        self.binding == other.binding && self.ca_names.sends_the_same(&other.ca_names)
    }

    /// Number of CA names sent.
    pub fn ca_names_len(&self) -> usize {
        self.ca_names.len()
    }

    /// Length of the list of CA names on the wire, in bytes, even if it is not sent.
    pub fn ca_names_bytes(&self) -> usize {
        self.ca_names.bytes()
    }

    /// Whether the list of CA names is longer than the budget and therefore not sent.
    pub fn over_budget(&self) -> bool {
        self.ca_names.over_budget()
    }

    /// Session id context of sessions made under this request that must not be resumed.
    pub(crate) fn unresumable_context(&self) -> &[u8; 32] {
        self.binding.unresumable_context()
    }

    pub(crate) fn ca_names(&self) -> &CaNames {
        &self.ca_names
    }
}
