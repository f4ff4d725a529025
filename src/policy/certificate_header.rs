//! A request header in which a proxy sends the client certificate.

use crate::inbound::{AllowedPeers, Format, XfccElement};

/// The name of the chain's header ends with this (RFC 9440: `Client-Cert` and `Client-Cert-Chain`).
const CHAIN_SUFFIX: &str = "-Chain";

/// A request header that carries a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateHeader {
    /// Its name.
    pub name: Box<str>,
    /// The name of the chain's header, if the format has one.
    pub chain: Option<Box<str>>,
    /// The encoding of the certificate in the header.
    pub format: Format,
    /// Which element is read in the format `xfcc`.
    pub xfcc_element: XfccElement,
    /// Which peers may send it.
    pub allowed_peers: AllowedPeers,
}

impl CertificateHeader {
    pub(super) fn new(
        name: &str,
        format: Format,
        xfcc_element: XfccElement,
        allowed_peers: AllowedPeers,
    ) -> CertificateHeader {
        let chain = format.has_chain_header();
        CertificateHeader {
            name: name.into(),
            chain: chain.then(|| format!("{name}{CHAIN_SUFFIX}").into()),
            format,
            xfcc_element,
            allowed_peers,
        }
    }

    /// Its name, and the name of the chain's header if the format has one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        [Some(&*self.name), self.chain.as_deref()]
            .into_iter()
            .flatten()
    }
}
