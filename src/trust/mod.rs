//! Who is trusted: CA certificates, trust stores, and the verdict on a presented chain.

mod answer;
mod ca;
pub mod crl;
mod intermediates;
pub mod ocsp;
pub mod sources;
mod store;
#[cfg(test)]
pub(crate) mod test_ca;
mod verdict;

pub use answer::Answer;
pub use ca::CaCertificate;
pub use intermediates::Intermediates;
pub use store::{sent_in, CertificationPath, TrustStore, VerifyOptions};
pub use verdict::{chain_ids, text as verdict_text, ChainIds, Verdict};
