//! What a TLS handshake does for a server name.

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

/// Longest CA-name list that is sent unless the caller says otherwise, in bytes on the wire. TLS
/// allows 64 KB, clients less (Java: 32 KB for the whole message).
pub const CA_NAMES_BUDGET: usize = 32 * 1024;

/// What the handshake does for a server name that asks for a client certificate.
pub struct CertificateRequest {
    binding: SessionBinding,
    ca_names: CaNames,
    resumption: bool,
}

impl CertificateRequest {
    /// `stores`: the trust store of every plugin that may judge the certificate asked for here.
    /// `ca_names`: the CAs whose names are sent, `None` to send an empty list ("any CA").
    /// `budget`: longest list in bytes; a longer one is not sent at all, since a truncated list
    /// would make clients of the CAs left out send nothing.
    pub fn new(
        stores: &[Arc<TrustStore>],
        ca_names: Option<&[Arc<CaCertificate>]>,
        budget: usize,
    ) -> Result<CertificateRequest, Error> {
        Ok(CertificateRequest {
            binding: SessionBinding::new(stores),
            ca_names: CaNames::new(ca_names.unwrap_or_default(), budget)?,
            resumption: true,
        })
    }

    /// The same ask, with sessions that are never resumed.
    pub fn without_resumption(self) -> CertificateRequest {
        CertificateRequest {
            binding: self.binding.without_resumption(),
            resumption: false,
            ..self
        }
    }

    /// Whether sessions made under this ask may be resumed.
    pub fn resumption(&self) -> bool {
        self.resumption
    }

    /// Session id context of every session made under this ask.
    pub fn session_id_context(&self) -> &[u8; 32] {
        self.binding.context()
    }

    /// Whether a session with this session id context was made under this ask.
    pub fn matches_session(&self, context: &[u8]) -> bool {
        self.binding.matches(context)
    }

    /// Number of CA names sent.
    pub fn ca_names_len(&self) -> usize {
        self.ca_names.len()
    }

    /// Length of the CA-name list on the wire, in bytes, if it were sent.
    pub fn ca_names_bytes(&self) -> usize {
        self.ca_names.bytes()
    }

    /// Whether the list is over the budget and therefore not sent.
    pub fn over_budget(&self) -> bool {
        self.ca_names.over_budget()
    }

    pub(crate) fn unresumable_context(&self) -> &[u8; 32] {
        self.binding.unresumable_context()
    }

    pub(crate) fn ca_names(&self) -> &CaNames {
        &self.ca_names
    }
}
