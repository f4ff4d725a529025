//! The verdict on a presented chain, and for which time it is valid.

use std::rc::Rc;

use openssl::sha::Sha256;
use openssl::stack::StackRef;
use openssl::x509::{X509Ref, X509};

use crate::certificate::{self, signed_content};
use crate::openssl_ext::x509::{verify_error_string, UNSPECIFIED};
use crate::Error;

/// Seconds for which a refusal is cached. This limits the work for a flood of bad handshakes, and a
/// corrected clock or CA has an effect soon.
const REFUSAL_TTL: i64 = 5;

/// Digests that identify a verified chain by its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainIds {
    /// SHA-256 of the leaf's TBSCertificate.
    leaf: [u8; 32],
    /// [`CaCertificate::id`] of the CAs, from the leaf's issuer up to the anchor.
    ///
    /// [`CaCertificate::id`]: super::CaCertificate::id
    cas: Box<[[u8; 32]]>,
    /// SHA-256 over the leaf's TBSCertificate and `cas`.
    path: [u8; 32],
    /// SHA-256 over the TBSCertificates of the leaf and the CAs: a CRL revokes a certificate, not a
    /// key.
    exact: [u8; 32],
    /// SHA-256 of the DER of the leaf's issuer; `None` for a leaf that is its own anchor.
    issuer: Option<[u8; 32]>,
}

impl ChainIds {
    /// The digests of a chain, leaf first. `id` returns the identity of a CA with this digest.
    pub(super) fn new<'c>(
        chain: impl IntoIterator<Item = &'c X509Ref>,
        mut id: impl FnMut(&X509Ref, &[u8; 32]) -> Result<[u8; 32], Error>,
    ) -> Result<ChainIds, Error> {
        let (mut path, mut exact) = (Sha256::new(), Sha256::new());
        let (mut cas, mut issuer) = (Vec::new(), None);
        let mut leaf = [0; 32];
        for (depth, certificate) in chain.into_iter().enumerate() {
            let der = certificate.to_der()?;
            let tbs = signed_content::tbs_sha256_of_der(&der).ok_or(Error::NotFound)?;
            exact.update(&tbs);
            if depth == 0 {
                path.update(&tbs);
                leaf = tbs;
                continue;
            }
            let digest = certificate::digest(&der);
            let ca = id(certificate, &digest)?;
            issuer.get_or_insert(digest);
            path.update(&ca);
            cas.push(ca);
        }
        Ok(ChainIds {
            leaf,
            cas: cas.into(),
            path: path.finish(),
            exact: exact.finish(),
            issuer,
        })
    }

    /// SHA-256 of the leaf's TBSCertificate.
    pub fn leaf(&self) -> &[u8; 32] {
        &self.leaf
    }

    /// SHA-256 of the DER of the leaf's issuer; `None` for a leaf that is its own anchor.
    pub fn issuer(&self) -> Option<&[u8; 32]> {
        self.issuer.as_ref()
    }

    /// Key under which the revocation status of the leaf is cached. A client must not be able to
    /// change it by another encoding of its certificate or by sending more certificates. With
    /// `exact`, for a status that depends on the certificates of the CAs too.
    pub fn status_key(&self, exact: bool) -> &[u8; 32] {
        match exact {
            true => &self.exact,
            false => &self.path,
        }
    }
}

/// [`ChainIds`] of a verified chain, leaf first.
pub fn chain_ids(chain: &[X509]) -> Result<ChainIds, Error> {
    let chain = chain.iter().map(|certificate| &**certificate);
    ChainIds::new(chain, |ca, _| signed_content::ca_id(ca))
}

/// The chain that a successful verification built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct VerifiedChain {
    pub ids: ChainIds,
    /// SHA-256 of the alternate encoding of the leaf, see [`signed_content::alternate_sha256`].
    pub alternate_sha256: Option<[u8; 32]>,
    /// Digest of those sent certificates that are part of the chain, in its order; `None` if these
    /// are all sent certificates in the order sent.
    pub used_intermediates: Option<[u8; 32]>,
    /// Whether the leaf is trusted by itself.
    pub pinned: bool,
}

/// Verdict of one trust store on one chain. It is valid for `from <= now < until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `X509_V_OK` (0) or an `X509_V_ERR_*` code.
    code: i32,
    depth: u32,
    from: i64,
    until: i64,
    verified: Option<Rc<VerifiedChain>>,
}

impl Verdict {
    pub(super) fn success(chain: &StackRef<X509>, verified: VerifiedChain, now: i64) -> Verdict {
        let (mut from, mut until) = (i64::MIN, i64::MAX);
        for certificate in chain {
            match (
                certificate::unix_seconds(certificate.not_before()),
                certificate::unix_seconds(certificate.not_after()),
            ) {
                (Ok(not_before), Ok(not_after)) => {
                    from = from.max(not_before);
                    // For OpenSSL a certificate is expired at notAfter itself.
                    until = until.min(not_after);
                }
                // OpenSSL has just read these times. If reading fails here, nothing is cached.
                _ => until = now,
            }
        }
        Verdict {
            code: 0,
            depth: 0,
            from,
            until,
            verified: Some(Rc::new(verified)),
        }
    }

    /// A refusal with an `X509_V_ERR_*` code.
    pub(crate) fn refused(code: i32, depth: u32, now: i64) -> Verdict {
        Verdict {
            // A refusal must not have the code X509_V_OK.
            code: if code == 0 { UNSPECIFIED } else { code },
            depth,
            from: now,
            until: now.saturating_add(REFUSAL_TTL),
            verified: None,
        }
    }

    /// Identities of the CAs of the verified chain, from the leaf's issuer up to the anchor; empty
    /// for a refusal.
    pub fn cas(&self) -> &[[u8; 32]] {
        let verified = self.verified.as_ref();
        verified.map_or(&[], |verified| &*verified.ids.cas)
    }

    /// Whether the leaf is trusted by itself, as a pinned certificate.
    pub fn is_pinned(&self) -> bool {
        self.verified
            .as_ref()
            .is_some_and(|verified| verified.pinned)
    }

    /// Digests of the verified chain; `None` for a refusal.
    pub fn ids(&self) -> Option<&ChainIds> {
        Some(&self.verified.as_ref()?.ids)
    }

    /// SHA-256 of the DER of the leaf's issuer.
    pub fn issuer(&self) -> Option<&[u8; 32]> {
        self.ids()?.issuer()
    }

    /// SHA-256 of the alternate encoding of the leaf, if its signature has one.
    pub fn alternate_sha256(&self) -> Option<[u8; 32]> {
        self.verified.as_ref()?.alternate_sha256
    }

    /// Digest of those sent certificates that are part of the verified chain, in its order; `None`
    /// if these are all sent certificates in the order sent.
    pub fn used_intermediates(&self) -> Option<[u8; 32]> {
        self.verified.as_ref()?.used_intermediates
    }

    /// Whether the chain is trusted.
    pub fn is_success(&self) -> bool {
        self.code == 0
    }

    /// `X509_V_OK` (0) or the `X509_V_ERR_*` code.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// Depth of the refused certificate; 0 is the leaf.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether the verdict is valid at `now`.
    pub fn holds_at(&self, now: i64) -> bool {
        self.from <= now && now < self.until
    }

    /// First second at which the verdict is not valid any more.
    pub fn until(&self) -> i64 {
        self.until
    }

    /// First second at which the verdict is valid.
    pub fn from(&self) -> i64 {
        self.from
    }

    /// `SUCCESS` or `FAILED:<reason>`, as nginx's `$ssl_client_verify`.
    pub fn text(&self) -> String {
        match self.code {
            0 => "SUCCESS".to_owned(),
            code => format!("FAILED:{}", verify_error_string(code)),
        }
    }
}
