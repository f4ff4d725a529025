//! CA certificates, trust stores, the verdict on a presented chain, and revocation by CRL and OCSP.

mod ca;
mod certification_path;
mod client_auth_eku;
pub mod crl;
mod intermediates;
pub mod lists;
pub mod ocsp;
mod pinned;
mod revocation_status;
pub mod revocation_urls;
pub mod selector;
pub mod spiffe_bundle;
mod store;
#[cfg(test)]
pub(crate) mod test_ca;
mod verdict;

pub use ca::{CaCertificate, CaValidity};
pub use certification_path::CertificationPath;
pub use client_auth_eku::{ClientAuthEku, ExtendedKeyUsage, INVALID_PURPOSE};
pub use intermediates::Intermediates;
pub use pinned::PinnedCertificates;
pub use revocation_status::RevocationStatus;
pub use store::{sent_certificates_in, TrustStore, VerifyOptions};
pub use verdict::{chain_ids, ChainIds, Verdict};
