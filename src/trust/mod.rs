//! Who is trusted: CA certificates, trust stores, and the verdict on a presented chain.

mod ca;
mod store;
mod verdict;

pub use ca::CaCertificate;
pub use store::{TrustStore, VerifyOptions};
pub use verdict::{text as verdict_text, Verdict};
