//! A route's trust store: its CAs with the flags that decide what they vouch for.

use std::cmp::Ordering;
use std::sync::Arc;

use openssl::hash::{hash, MessageDigest};
use openssl::stack::StackRef;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509PurposeId, X509Ref, X509StoreContext, X509VerifyResult, X509};

use super::{CaCertificate, Verdict};
use crate::certificate;
use crate::openssl_ext::x509 as ext;
use crate::Error;

/// Changes whenever the meaning of a store with the same content changes.
const FORMAT: &[u8] = b"resty-mtls trust store 1";

/// How a chain is verified beyond its signatures.
///
/// OpenSSL's own defaults for a bare `X509_STORE_CTX` check neither purpose nor key strength;
/// these are what `SSL_CTX` does for a server, made explicit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VerifyOptions {
    /// Accept a CA of the store that is not self-signed as the anchor
    /// (`X509_V_FLAG_PARTIAL_CHAIN`; Kong `allow_partial_chain`).
    pub allow_partial_chain: bool,
    /// Most intermediates between leaf and anchor (`X509_VERIFY_PARAM_set_depth`).
    pub depth: u32,
    /// OpenSSL security level for keys and signatures, 0..=5
    /// (`X509_VERIFY_PARAM_set_auth_level`).
    pub auth_level: u32,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        VerifyOptions {
            allow_partial_chain: false,
            depth: 10,
            auth_level: 2,
        }
    }
}

/// CAs and verify options, immutable once built.
pub struct TrustStore {
    store: X509Store,
    cas: Arc<[Arc<CaCertificate>]>,
    auth_level: u32,
    digest: [u8; 32],
}

/// A verified chain, and what stands above its anchor.
pub struct CertificationPath {
    certificates: Vec<X509>,
    anchor: usize,
    cas: Arc<[Arc<CaCertificate>]>,
}

impl CertificationPath {
    /// Leaf first.
    pub fn certificates(&self) -> &[X509] {
        &self.certificates
    }

    /// The verified chain, leaf first and anchor last; empty when it is refused.
    pub fn chain(&self) -> &[X509] {
        let end = self.certificates.len().min(self.anchor + 1);
        self.certificates.get(..end).unwrap_or_default()
    }

    /// Index of the anchor.
    pub fn anchor(&self) -> usize {
        self.anchor
    }

    /// The CAs of the store.
    pub fn cas(&self) -> &[Arc<CaCertificate>] {
        &self.cas
    }
}

impl TrustStore {
    /// Builds the store. An empty list of CAs is allowed and trusts nobody.
    pub fn new(cas: &[Arc<CaCertificate>], options: VerifyOptions) -> Result<TrustStore, Error> {
        let mut param = X509VerifyParam::new()?;
        param.set_purpose(X509PurposeId::SSL_CLIENT)?;
        param.set_depth(options.depth.min(100) as i32);
        param.set_auth_level(options.auth_level.min(5) as i32);
        if options.allow_partial_chain {
            param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        }
        let mut builder = X509StoreBuilder::new()?;
        builder.set_param(&param)?;

        let mut digests: Vec<&[u8; 32]> = Vec::with_capacity(cas.len());
        for ca in cas {
            builder.add_cert(ca.x509().clone())?;
            digests.push(ca.digest());
        }
        // The order of CAs decides nothing, so it must not decide the digest.
        digests.sort_unstable();
        digests.dedup();
        let mut content = FORMAT.to_vec();
        content.push(options.allow_partial_chain.into());
        content.extend_from_slice(&options.depth.to_be_bytes());
        content.extend_from_slice(&options.auth_level.to_be_bytes());
        for digest in digests {
            content.extend_from_slice(digest);
        }
        Ok(TrustStore {
            store: builder.build(),
            cas: cas.into(),
            auth_level: options.auth_level.min(5),
            digest: certificate::fixed(&hash(MessageDigest::sha256(), &content)?)?,
        })
    }

    /// SHA-256 of the content: CAs (in any order) and options.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The CAs, in the order given.
    pub fn cas(&self) -> &[Arc<CaCertificate>] {
        &self.cas
    }

    /// OpenSSL security level that keys and signatures must meet.
    pub fn auth_level(&self) -> u32 {
        self.auth_level
    }

    /// Verifies `leaf` as a TLS client certificate at `now` (seconds since the epoch), with
    /// `untrusted` as candidates for intermediates (`X509_verify_cert`).
    ///
    /// A certificate that is not trusted is a [`Verdict`], not an error.
    pub fn verify(
        &self,
        leaf: &X509Ref,
        untrusted: &StackRef<X509>,
        now: i64,
    ) -> Result<Verdict, Error> {
        self.build(leaf, untrusted, now, |built| match built {
            Ok(chain) => Verdict::success(chain, now),
            Err((result, depth)) => Verdict::failed(result, depth, now),
        })
    }

    /// The verified chain, leaf first; empty when it is refused.
    pub fn chain(
        &self,
        leaf: &X509Ref,
        untrusted: &StackRef<X509>,
        now: i64,
    ) -> Result<Vec<X509>, Error> {
        self.build(leaf, untrusted, now, |built| match built {
            Ok(chain) => chain.iter().map(X509Ref::to_owned).collect(),
            Err(_) => Vec::new(),
        })
    }

    /// The verified chain and, above an anchor that is not self-signed, what issued it as far as
    /// the CAs of the store have it; empty when the chain is refused.
    pub fn path(
        &self,
        leaf: &X509Ref,
        untrusted: &StackRef<X509>,
        now: i64,
    ) -> Result<CertificationPath, Error> {
        let mut certificates = self.chain(leaf, untrusted, now)?;
        let anchor = certificates.len().saturating_sub(1);
        while let Some(issuer) = certificates
            .last()
            .and_then(|top| self.issuer_of(top, &certificates))
        {
            certificates.push(issuer);
        }
        openssl::error::ErrorStack::get();
        Ok(CertificationPath {
            certificates,
            anchor,
            cas: self.cas.clone(),
        })
    }

    /// The CA that signed a certificate which is not self-signed and is not in `path` itself. Of
    /// several with this key, one that is self-signed.
    fn issuer_of(&self, certificate: &X509Ref, path: &[X509]) -> Option<X509> {
        let name = certificate.issuer_name();
        let signs = |ca: &X509Ref, certificate: &X509Ref| {
            let same = ca.subject_name().try_cmp(certificate.issuer_name());
            let key = ca.public_key();
            same.is_ok_and(Ordering::is_eq)
                && key
                    .and_then(|key| certificate.verify(&key))
                    .unwrap_or(false)
        };
        if signs(certificate, certificate) {
            return None;
        }
        let cas = self.cas.iter().map(|ca| ca.x509());
        let named = cas.filter(|ca| ca.subject_name().try_cmp(name).is_ok_and(Ordering::is_eq));
        let issuers = named.filter(|ca| !path.contains(ca) && signs(ca, certificate));
        issuers.max_by_key(|ca| signs(ca, ca)).cloned()
    }

    fn build<T>(
        &self,
        leaf: &X509Ref,
        untrusted: &StackRef<X509>,
        now: i64,
        read: impl FnOnce(Result<&StackRef<X509>, (X509VerifyResult, u32)>) -> T,
    ) -> Result<T, Error> {
        let mut context = X509StoreContext::new()?;
        let result = context.init(&self.store, leaf, untrusted, |context| {
            ext::set_verify_time(context, now);
            let trusted = context.verify_cert()?;
            let result = context.error();
            let refusal = (result, context.error_depth());
            Ok(read(match context.chain() {
                Some(chain) if trusted && result == X509VerifyResult::OK => Ok(chain),
                _ => Err(refusal),
            }))
        });
        // A refused chain leaves its reasons in OpenSSL's queue, where nginx would find them.
        openssl::error::ErrorStack::get();
        Ok(result?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, issue, stack, NOW};

    fn store(options: VerifyOptions) -> (testing::Pki, TrustStore) {
        let pki = testing::pki();
        let store = TrustStore::new(&[pki.trusted()], options).unwrap();
        (pki, store)
    }

    #[test]
    fn verify_leaf_of_trusted_ca_succeeds_until_the_earliest_expiry() {
        let (pki, store) = store(VerifyOptions::default());
        let leaf = issue("short", Some(&pki.ca), false, 60, &[]);
        let verdict = store.verify(&leaf.x509, &stack(&[]), NOW).unwrap();
        assert_eq!(verdict.text(), "SUCCESS");
        assert!(verdict.holds_at(NOW + 59));
        assert!(!verdict.holds_at(NOW + 60));
        let verdict = store.verify(&leaf.x509, &stack(&[]), NOW + 60).unwrap();
        assert_eq!(verdict.text(), "FAILED:certificate has expired");
    }

    #[test]
    fn verify_needs_the_intermediate() {
        let (pki, store) = store(VerifyOptions::default());
        let verdict = store.verify(&pki.below.x509, &stack(&[]), NOW).unwrap();
        assert_eq!(
            verdict.text(),
            "FAILED:unable to get local issuer certificate"
        );
        let chain = stack(&[&pki.intermediate.x509]);
        assert!(store
            .verify(&pki.below.x509, &chain, NOW)
            .unwrap()
            .is_success());
    }

    #[test]
    fn verify_depth_counts_intermediates() {
        let (pki, store) = store(VerifyOptions {
            depth: 0,
            ..Default::default()
        });
        let chain = stack(&[&pki.intermediate.x509]);
        assert!(store
            .verify(&pki.leaf.x509, &chain, NOW)
            .unwrap()
            .is_success());
        assert_eq!(
            store.verify(&pki.below.x509, &chain, NOW).unwrap().text(),
            "FAILED:certificate chain too long"
        );
    }

    #[test]
    fn verify_empty_store_trusts_nobody() {
        let pki = testing::pki();
        let store = TrustStore::new(&[], VerifyOptions::default()).unwrap();
        let verdict = store
            .verify(&pki.leaf.x509, &stack(&[&pki.ca.x509]), NOW)
            .unwrap();
        assert_eq!(
            verdict.text(),
            "FAILED:self-signed certificate in certificate chain"
        );
        assert!(openssl::error::ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn verify_intermediate_as_anchor_needs_partial_chain() {
        let pki = testing::pki();
        let ca = Arc::new(CaCertificate::from_x509(pki.intermediate.x509.clone()).unwrap());
        for (allow_partial_chain, text) in [
            (false, "FAILED:unable to get issuer certificate"),
            (true, "SUCCESS"),
        ] {
            let options = VerifyOptions {
                allow_partial_chain,
                ..Default::default()
            };
            let store = TrustStore::new(std::slice::from_ref(&ca), options).unwrap();
            let verdict = store.verify(&pki.below.x509, &stack(&[]), NOW).unwrap();
            assert_eq!(verdict.text(), text);
        }
    }

    #[test]
    fn digest_ignores_the_order_and_repetition_of_cas() {
        let (a, b) = (testing::pki().trusted(), testing::pki().trusted());
        let options = VerifyOptions::default();
        let one = TrustStore::new(&[a.clone(), b.clone()], options).unwrap();
        let two = TrustStore::new(&[b.clone(), a.clone(), b.clone()], options).unwrap();
        assert_eq!(one.digest(), two.digest());
        let three = TrustStore::new(&[a], options).unwrap();
        assert_ne!(one.digest(), three.digest());
    }
}
