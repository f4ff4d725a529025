//! The signature of a CRL. Of a large CRL the digest of the signed bytes is kept instead of the
//! bytes: a signature may have to be checked with the keys of several CAs of one name, and hashing
//! 100 MB takes a quarter of a second.

use openssl::error::ErrorStack;
use openssl::hash::{hash, DigestBytes, MessageDigest};
use openssl::md::{Md, MdRef};
use openssl::nid::Nid;
use openssl::pkey::{Id, PKeyRef, Public};
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::Padding;
use openssl::x509::X509CrlRef;

use super::encoded::EncodedCrl;
use crate::openssl_ext::revocation as ext;

/// Longest signed content in bytes that is kept and checked by `ASN1_item_verify`.
const KEPT: usize = 16 * 1024;

/// The signature and what it was made over.
pub(super) enum Signature {
    /// The signed bytes. The skeleton of the CRL has algorithm and signature.
    Content(Box<[u8]>),
    /// Their digest, for algorithms that sign a digest.
    Digest {
        digest: DigestBytes,
        method: &'static MdRef,
        key: Id,
        octets: Box<[u8]>,
    },
}

impl Signature {
    pub(super) fn of(encoded: &EncodedCrl<'_>, skeleton: &X509CrlRef) -> Signature {
        Signature::prehashed(encoded, skeleton)
            .unwrap_or_else(|| Signature::Content(encoded.signed.into()))
    }

    fn prehashed(encoded: &EncodedCrl<'_>, skeleton: &X509CrlRef) -> Option<Signature> {
        if encoded.signed.len() <= KEPT || encoded.has_unused_bits {
            return None;
        }
        // RSASSA-PSS and EdDSA have no digest here.
        let algorithms = ext::crl_signature_nid(skeleton).signature_algorithms()?;
        let key = match algorithms.pkey {
            Nid::RSAENCRYPTION => Id::RSA,
            Nid::X9_62_ID_ECPUBLICKEY => Id::EC,
            _ => return None,
        };
        let method = Md::from_nid(algorithms.digest)?;
        let digest = hash(MessageDigest::from_nid(algorithms.digest)?, encoded.signed).ok()?;
        Some(Signature::Digest {
            digest,
            method,
            key,
            octets: encoded.signature.into(),
        })
    }

    /// Whether `key` made the signature.
    pub(super) fn is_by(&self, skeleton: &X509CrlRef, key: &PKeyRef<Public>) -> bool {
        match self {
            Signature::Content(content) => ext::is_crl_signed_with(skeleton, content, key),
            Signature::Digest {
                digest,
                method,
                key: id,
                octets,
            } => {
                let verify = || -> Result<bool, ErrorStack> {
                    let mut context = PkeyCtx::new(key)?;
                    context.verify_init()?;
                    if *id == Id::RSA {
                        context.set_rsa_padding(Padding::PKCS1)?;
                    }
                    context.set_signature_md(method)?;
                    context.verify(digest, octets)
                };
                key.id() == *id && verify().unwrap_or(false)
            }
        }
    }

    pub(super) fn memory(&self) -> usize {
        match self {
            Signature::Content(content) => content.len(),
            Signature::Digest { octets, .. } => octets.len(),
        }
    }
}
