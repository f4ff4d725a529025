//! Certificates that a proxy put into a header.

use std::rc::Rc;

use openssl::sha::Sha256;
use openssl::ssl::SslRef;

use super::Engine;
use crate::cache::SlotId;
use crate::certificate::Certificate;
use crate::inbound::decode;
use crate::policy::CertificateHeader;
use crate::Error;

/// The headers of a request that its route may read, and who sent them.
#[derive(Clone, Copy, Default)]
pub struct RequestHeaders<'r> {
    /// Names and values, in order, as they came.
    pub headers: &'r [(&'r [u8], &'r [u8])],
    /// Whether `trusted_ips` names the peer of the TCP connection.
    pub trusted: bool,
}

/// What stands in the header for a certificate.
pub(super) enum HeaderCertificate {
    /// No certificate, and why.
    Nothing(&'static str),
    /// A certificate, with its slot if it is remembered already.
    Certificate(Option<SlotId>, Rc<Certificate>),
    /// Something else, and what.
    Refused(String),
}

pub(super) const ABSENT: &str = "no header carries one";
const STRANGER: &str = "the header is from a peer that trusted_ips does not name";
const EMPTY: &str = "the proxy says that there is none";

impl<'r> RequestHeaders<'r> {
    fn of(&self, name: &str) -> Vec<&'r [u8]> {
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
        came: &RequestHeaders<'_>,
    ) -> Result<HeaderCertificate, Error> {
        let lines = came.of(&inbound.name);
        let chain = inbound.chain.as_deref().map(|name| came.of(name));
        let chain = chain.unwrap_or_default();
        if lines.is_empty() && chain.is_empty() {
            return Ok(HeaderCertificate::Nothing(ABSENT));
        }
        if !inbound.source.admits(came.trusted) {
            return Ok(HeaderCertificate::Nothing(STRANGER));
        }
        let mut hasher = Sha256::new();
        hasher.update(inbound.format.name().as_bytes());
        for lines in [&lines, &chain] {
            hasher.update(&(lines.len() as u64).to_be_bytes());
            for line in lines {
                hasher.update(&(line.len() as u64).to_be_bytes());
                hasher.update(line);
            }
        }
        let id = hasher.finish();
        let known = self.inbound.borrow_mut().find(&id).map(|(_, key)| *key);
        if let Some((slot, certificate)) = known.and_then(|key| {
            let mut clients = self.clients.borrow_mut();
            let slot = clients.find(&key)?.slot;
            Some((slot, clients.at(slot)?))
        }) {
            return Ok(HeaderCertificate::Certificate(Some(slot), certificate));
        }
        let certificate = match decode(inbound.format, &lines, &chain) {
            Ok(None) => return Ok(HeaderCertificate::Nothing(EMPTY)),
            Ok(Some(decoded)) => decoded.certificate(),
            Err(error) => Err(error),
        };
        Ok(match certificate {
            Ok(certificate) => {
                let certificate = Rc::new(certificate);
                self.inbound.borrow_mut().put(id, *certificate.digests());
                let slot = self
                    .clients
                    .borrow_mut()
                    .find(certificate.digests())
                    .map(|found| found.slot);
                HeaderCertificate::Certificate(slot, certificate)
            }
            // OpenSSL's own failures are of the certificate too: it is what was read.
            Err(error) => HeaderCertificate::Refused(error.to_string()),
        })
    }

    /// The certificate of a request on a plan, whatever it is worth: from its header where the plan
    /// has one, else from the connection; `or_tls` also takes the latter when no header came.
    pub fn unverified_certificate(
        &self,
        ssl: Option<&SslRef>,
        plan_id: usize,
        came: &RequestHeaders<'_>,
        or_tls: bool,
    ) -> Result<Option<Rc<Certificate>>, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        if let Some(inbound) = &plan.certificate_header {
            match self.certificate_from_header(inbound, came)? {
                HeaderCertificate::Certificate(_, certificate) => return Ok(Some(certificate)),
                HeaderCertificate::Nothing(EMPTY) | HeaderCertificate::Refused(_) => {
                    return Ok(None)
                }
                HeaderCertificate::Nothing(_) if !or_tls => return Ok(None),
                HeaderCertificate::Nothing(_) => {}
            }
        }
        match ssl {
            Some(ssl) => self.client(ssl),
            None => Ok(None),
        }
    }

    /// Whether the proxy says that there is no certificate, which is more than saying nothing.
    pub(super) fn denies(sent: &HeaderCertificate) -> bool {
        matches!(sent, HeaderCertificate::Nothing(why) if *why == EMPTY)
    }
}
