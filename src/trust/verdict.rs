//! What was decided about a presented chain, and until when that holds.

use std::rc::Rc;

use openssl::sha::Sha256;
use openssl::stack::StackRef;
use openssl::x509::{X509Ref, X509VerifyResult, X509};

use crate::certificate::{self, signed_content};
use crate::openssl_ext::x509::{verify_error_string, UNSPECIFIED};
use crate::Error;

/// Seconds for which a refusal is remembered: long enough to blunt a flood of bad handshakes,
/// short enough that a repaired clock or CA is noticed.
const REFUSAL_TTL: i64 = 5;

/// What a verified chain is, by content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainIds {
    /// SHA-256 of the leaf's TBSCertificate.
    leaf: [u8; 32],
    /// Identities of the CAs, from the leaf's issuer up to the anchor: subject and key.
    cas: Box<[[u8; 32]]>,
    /// SHA-256 over the leaf's TBSCertificate and `cas`.
    path: [u8; 32],
    /// The same with the TBSCertificates of the CAs: a list of revoked certificates names these.
    exact: [u8; 32],
    /// SHA-256 of the DER of the leaf's issuer, if that is not the leaf itself.
    issuer: Option<[u8; 32]>,
}

impl ChainIds {
    /// Of a chain, leaf first; `id` identifies a CA.
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

    /// SHA-256 of the DER of the leaf's issuer, if that is not the leaf itself.
    pub fn issuer(&self) -> Option<&[u8; 32]> {
        self.issuer.as_ref()
    }

    /// What the status of the leaf is remembered under. A client must not get rid of one by another
    /// encoding of its certificate, nor by one more certificate beside it; `exact` for a status that
    /// depends on the certificates of the CAs too.
    pub fn status(&self, exact: bool) -> &[u8; 32] {
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

/// A verified chain with what else the verification found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trusted {
    pub ids: ChainIds,
    /// SHA-256 of the leaf's other encoding, see [`signed_content::alternate_sha256`].
    pub alternate_sha256: Option<[u8; 32]>,
    /// Digest of what of the certificates sent stands in the chain, unless that is all of them in
    /// the order of the chain.
    pub used_intermediates: Option<[u8; 32]>,
}

/// Verdict of one trust store on one chain. Holds for `from <= now < until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `X509_V_OK` (0) or an `X509_V_ERR_*` number.
    code: i32,
    depth: u32,
    from: i64,
    until: i64,
    trusted: Option<Rc<Trusted>>,
}

impl Verdict {
    pub(super) fn success(chain: &StackRef<X509>, trusted: Trusted, now: i64) -> Verdict {
        let (mut from, mut until) = (i64::MIN, i64::MAX);
        for certificate in chain {
            match (
                certificate::unix_seconds(certificate.not_before()),
                certificate::unix_seconds(certificate.not_after()),
            ) {
                (Ok(not_before), Ok(not_after)) => {
                    from = from.max(not_before);
                    // OpenSSL takes a certificate for expired at notAfter itself.
                    until = until.min(not_after);
                }
                // OpenSSL read these times a moment ago; if we cannot, remember nothing.
                _ => until = now,
            }
        }
        Verdict {
            code: 0,
            depth: 0,
            from,
            until,
            trusted: Some(Rc::new(trusted)),
        }
    }

    pub(super) fn failed(result: X509VerifyResult, depth: u32, now: i64) -> Verdict {
        Verdict::refused(result.as_raw(), depth, now)
    }

    /// A refusal for the reason of an `X509_V_ERR_*` number.
    pub(crate) fn refused(code: i32, depth: u32, now: i64) -> Verdict {
        Verdict {
            // A chain that is refused must never read as X509_V_OK.
            code: if code == 0 { UNSPECIFIED } else { code },
            depth,
            from: now,
            until: now.saturating_add(REFUSAL_TTL),
            trusted: None,
        }
    }

    /// Identities of the CAs of the verified chain, from the leaf's issuer up to the anchor; empty for
    /// a refusal.
    pub fn cas(&self) -> &[[u8; 32]] {
        let trusted = self.trusted.as_ref();
        trusted.map_or(&[], |trusted| &*trusted.ids.cas)
    }

    /// What the verified chain is, by content; `None` for a refusal.
    pub fn ids(&self) -> Option<&ChainIds> {
        Some(&self.trusted.as_ref()?.ids)
    }

    /// SHA-256 of the DER of the leaf's issuer.
    pub fn issuer(&self) -> Option<&[u8; 32]> {
        self.ids()?.issuer()
    }

    /// SHA-256 of the other encoding of the leaf, if its signature has one.
    pub fn alternate_sha256(&self) -> Option<[u8; 32]> {
        self.trusted.as_ref()?.alternate_sha256
    }

    /// Digest of what of the certificates sent stands in the verified chain, in its order, unless
    /// that is all of them.
    pub fn used_intermediates(&self) -> Option<[u8; 32]> {
        self.trusted.as_ref()?.used_intermediates
    }

    /// Whether the chain is trusted.
    pub fn is_success(&self) -> bool {
        self.code == 0
    }

    /// `X509_V_OK` (0) or the `X509_V_ERR_*` number.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// Depth of the certificate the refusal is about; 0 is the leaf.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether the verdict may still be used at `now`.
    pub fn holds_at(&self, now: i64) -> bool {
        self.from <= now && now < self.until
    }

    /// First second at which the verdict must not be used any more.
    pub fn until(&self) -> i64 {
        self.until
    }

    /// First second at which the verdict may be used.
    pub fn from(&self) -> i64 {
        self.from
    }

    /// `SUCCESS` or `FAILED:<reason>`, as nginx's `$ssl_client_verify`.
    pub fn text(&self) -> String {
        text(self.code).concat()
    }
}

/// [`Verdict::text`] for an `X509_V_*` number, in two parts that follow each other.
pub fn text(code: i32) -> [&'static str; 2] {
    match code {
        0 => ["SUCCESS", ""],
        code => ["FAILED:", verify_error_string(code)],
    }
}
