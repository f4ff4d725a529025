//! Certificates that a proxy put into a request header.

use std::rc::Rc;

use openssl::sha::Sha256;
use openssl::ssl::SslRef;

use super::Engine;
use crate::cache::SlotId;
use crate::certificate::Certificate;
use crate::inbound::decode;
use crate::policy::CertificateHeader;
use crate::Error;

/// The request headers that a route may read a certificate from.
#[derive(Clone, Copy, Default)]
pub struct RequestHeaders<'r> {
    /// Names and values, in the order of the request.
    pub headers: &'r [(&'r [u8], &'r [u8])],
    /// Whether `trusted_ips` names the peer of the TCP connection.
    pub trusted: bool,
}

/// The certificate that a trusted proxy put into a header.
pub(super) enum HeaderCertificate {
    /// There is none.
    Absent(Absent),
    /// A certificate, with its slot if it is in the client cache.
    Found(Option<SlotId>, Rc<Certificate>),
    /// The header holds something else; an error text.
    Invalid(String),
}

/// Why a request has no header certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// The request has no such header.
    NoHeader,
    /// The header is not from a peer in `trusted_ips`, and is ignored.
    UntrustedPeer,
    /// A trusted proxy sent the header without a certificate: its client has none.
    NoCertificate,
}

impl Absent {
    /// For the error log.
    pub(super) fn text(self) -> &'static str {
        match self {
            Absent::NoHeader => "the request has no header with one",
            Absent::UntrustedPeer => "the header is from a peer that is not in trusted_ips",
            Absent::NoCertificate => "the proxy sent a header without one",
        }
    }
}

impl HeaderCertificate {
    /// Whether the headers are no evidence about the client, so that a route may use the
    /// certificate of the connection instead.
    pub(super) fn is_absent(&self) -> bool {
        match self {
            HeaderCertificate::Absent(why) => *why != Absent::NoCertificate,
            HeaderCertificate::Found(..) | HeaderCertificate::Invalid(_) => false,
        }
    }
}

impl<'r> RequestHeaders<'r> {
    fn values(&self, name: &str) -> Vec<&'r [u8]> {
        self.headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| *value)
            .collect()
    }
}

impl Engine {
    /// Reads the certificate of a request from its header.
    pub(super) fn certificate_from_header(
        &self,
        inbound: &CertificateHeader,
        request: &RequestHeaders<'_>,
    ) -> Result<HeaderCertificate, Error> {
        let lines = request.values(&inbound.name);
        let chain = inbound.chain.as_deref().map(|name| request.values(name));
        let chain = chain.unwrap_or_default();
        if lines.is_empty() && chain.is_empty() {
            return Ok(HeaderCertificate::Absent(Absent::NoHeader));
        }
        if !inbound.allowed_peers.admits(request.trusted) {
            return Ok(HeaderCertificate::Absent(Absent::UntrustedPeer));
        }
        let mut hasher = Sha256::new();
        hasher.update(inbound.format.name().as_bytes());
        hasher.update(&[inbound.xfcc_element as u8]);
        for lines in [&lines, &chain] {
            hasher.update(&(lines.len() as u64).to_be_bytes());
            for line in lines {
                hasher.update(&(line.len() as u64).to_be_bytes());
                hasher.update(line);
            }
        }
        let id = hasher.finish();
        let cached = self
            .header_certificates
            .borrow_mut()
            .find(&id)
            .map(|(_, key)| *key);
        if let Some((slot, certificate)) = cached.and_then(|key| {
            let mut clients = self.clients.borrow_mut();
            let slot = clients.find(&key)?.slot;
            Some((slot, clients.get(slot)?))
        }) {
            return Ok(HeaderCertificate::Found(Some(slot), certificate));
        }
        let certificate = match decode(inbound.format, inbound.xfcc_element, &lines, &chain) {
            Ok(None) => return Ok(HeaderCertificate::Absent(Absent::NoCertificate)),
            Ok(Some(decoded)) => decoded.certificate(),
            Err(error) => Err(error),
        };
        Ok(match certificate {
            Ok(certificate) => {
                let certificate = Rc::new(certificate);
                self.header_certificates
                    .borrow_mut()
                    .insert(id, *certificate.digests());
                let slot = self
                    .clients
                    .borrow_mut()
                    .find(certificate.digests())
                    .map(|found| found.slot);
                HeaderCertificate::Found(slot, certificate)
            }
            // An error of OpenSSL is an error in the certificate, which is all that it read.
            Err(error) => HeaderCertificate::Invalid(error.to_string()),
        })
    }

    /// The certificate of a request on a plan, not verified: from its header where the plan reads
    /// one, else from the connection; with `or_tls` from the connection also without that header.
    pub fn unverified_certificate(
        &self,
        ssl: Option<&SslRef>,
        plan_id: usize,
        request: &RequestHeaders<'_>,
        or_tls: bool,
    ) -> Result<Option<Rc<Certificate>>, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        if let Some(inbound) = &plan.certificate_header {
            match self.certificate_from_header(inbound, request)? {
                HeaderCertificate::Found(_, certificate) => return Ok(Some(certificate)),
                header if or_tls && header.is_absent() => {}
                _ => return Ok(None),
            }
        }
        match ssl {
            Some(ssl) => self.tls_client(ssl),
            None => Ok(None),
        }
    }
}
