//! A route's trust store: its CAs with the flags that decide what they vouch for.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use foreign_types::ForeignTypeRef;
use openssl::hash::{hash, MessageDigest};
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509PurposeId, X509Ref, X509StoreContext, X509VerifyResult, X509};

use super::ca::ec_order;
use super::verdict::{ChainIds, Trusted};
use super::{CaCertificate, Intermediates, Verdict};
use crate::certificate::{self, encoded_chain, signed_content};
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
    /// Positions in `cas` by SHA-256 of the DER.
    by_digest: HashMap<[u8; 32], usize>,
    intermediates: Arc<Intermediates>,
    auth_level: u32,
    digest: [u8; 32],
    key: [u8; 32],
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

    /// Whether the path of `ca`, by the CAs of the store and those of this path, leads to the
    /// anchor at its top: one with the same subject and key.
    pub fn shares_anchor(&self, ca: &X509Ref) -> bool {
        let shares = self.leads_to_top(ca);
        openssl::error::ErrorStack::get();
        shares
    }

    fn leads_to_top(&self, ca: &X509Ref) -> bool {
        // A path of the leaf alone has no CA above it.
        let Some((_, above)) = self.certificates.split_first() else {
            return false;
        };
        let Some(top) = above.last() else {
            return false;
        };
        let cas = || self.cas.iter().map(|ca| ca.x509()).chain(above);
        // Each CA enters once, so that certificates which issued each other come to an end.
        let mut reached: Vec<&X509Ref> = vec![ca];
        let mut next = 0;
        while let Some(&certificate) = reached.get(next) {
            next += 1;
            if is_same_ca(certificate, top) {
                return true;
            }
            for issuer in cas() {
                if !reached.contains(&&**issuer) && signs(issuer, certificate) {
                    reached.push(issuer);
                }
            }
        }
        false
    }
}

/// Whether `ca` has the name of the certificate's issuer and its key made the signature.
fn signs(ca: &X509Ref, certificate: &X509Ref) -> bool {
    let same = ca.subject_name().try_cmp(certificate.issuer_name());
    let key = ca.public_key();
    same.is_ok_and(Ordering::is_eq)
        && key
            .and_then(|key| certificate.verify(&key))
            .unwrap_or(false)
}

/// Whether two certificates are of one CA: of the same subject and key.
fn is_same_ca(one: &X509Ref, other: &X509Ref) -> bool {
    let same = one.subject_name().try_cmp(other.subject_name());
    let keys = one
        .public_key()
        .and_then(|key| Ok((key, other.public_key()?)));
    same.is_ok_and(Ordering::is_eq) && keys.is_ok_and(|(one, other)| one.public_eq(&other))
}

impl TrustStore {
    /// Builds the store. An empty list of CAs is allowed and trusts nobody.
    pub fn new(cas: &[Arc<CaCertificate>], options: VerifyOptions) -> Result<TrustStore, Error> {
        TrustStore::with_intermediates(cas, options, &Arc::default())
    }

    /// Builds the store of a document whose other CA certificates may stand between leaf and anchor,
    /// and stand there before what a client sends.
    pub fn with_intermediates(
        cas: &[Arc<CaCertificate>],
        options: VerifyOptions,
        intermediates: &Arc<Intermediates>,
    ) -> Result<TrustStore, Error> {
        let mut param = X509VerifyParam::new()?;
        param.set_purpose(X509PurposeId::SSL_CLIENT)?;
        param.set_depth(options.depth.min(100) as i32);
        param.set_auth_level(options.auth_level.min(5) as i32);
        if options.allow_partial_chain {
            param.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        }
        let mut builder = X509StoreBuilder::new()?;
        builder.set_param(&param)?;

        for ca in cas {
            builder.add_cert(ca.x509().clone())?;
        }
        let mut content = FORMAT.to_vec();
        content.push(options.allow_partial_chain.into());
        content.extend_from_slice(&options.depth.to_be_bytes());
        content.extend_from_slice(&options.auth_level.to_be_bytes());
        append_digests(&mut content, cas);
        let digest = certificate::sha256_array(&hash(MessageDigest::sha256(), &content)?)?;
        let mut content = digest.to_vec();
        append_digests(&mut content, intermediates.cas());
        let position = |(index, ca): (usize, &Arc<CaCertificate>)| (*ca.digest(), index);
        Ok(TrustStore {
            store: builder.build(),
            cas: cas.into(),
            by_digest: cas.iter().enumerate().map(position).collect(),
            intermediates: intermediates.clone(),
            auth_level: options.auth_level.min(5),
            digest,
            key: certificate::sha256_array(&hash(MessageDigest::sha256(), &content)?)?,
        })
    }

    /// SHA-256 of all that verdicts depend on: [`TrustStore::digest`], and the certificates that may
    /// stand below the anchors.
    pub fn verdict_key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The certificate with this SHA-256, of the anchors or of those that may stand below them.
    pub fn find(&self, digest: &[u8; 32]) -> Option<&Arc<CaCertificate>> {
        let anchor = self.by_digest.get(digest).and_then(|ca| self.cas.get(*ca));
        anchor.or_else(|| {
            let mut others = self.intermediates.cas().iter();
            others.find(|ca| ca.digest() == digest)
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
            Ok(chain) => Ok(Verdict::success(
                chain,
                self.trusted(chain, untrusted)?,
                now,
            )),
            Err((result, depth)) => Ok(Verdict::failed(result, depth, now)),
        })?
    }

    /// What a chain that was just verified is. `sent` is what came beside the leaf.
    fn trusted(&self, chain: &StackRef<X509>, sent: &StackRef<X509>) -> Result<Trusted, Error> {
        let ids = ChainIds::new(chain, |ca, digest| match self.find(digest) {
            Some(known) => Ok(*known.id()),
            None => signed_content::ca_id(ca),
        })?;
        // A leaf that is trusted by itself is its own issuer, or nobody looked at its signature.
        let issuer = chain.get(1).or(chain.get(0));
        let order = match (issuer, ids.issuer().and_then(|digest| self.find(digest))) {
            (_, Some(known)) => known.ec_order().map(<[u8]>::to_vec),
            (Some(issuer), None) => ec_order(issuer),
            (None, None) => None,
        };
        let leaf = chain.get(0).zip(order);
        let alternate_sha256 = match leaf {
            Some((leaf, order)) => signed_content::alternate_sha256(&leaf.to_der()?, &order),
            None => None,
        };
        Ok(Trusted {
            ids,
            alternate_sha256,
            used_intermediates: used_intermediates(chain, sent)?,
        })
    }

    /// `sent` behind the certificates of the document that may stand in the chain; `None` when the
    /// client sent no certificate of any of these CAs. The document's stand in for the client's: an
    /// intermediate that nobody sends is missing, as it is for nginx.
    fn preferred(
        &self,
        leaf: &X509Ref,
        sent: &StackRef<X509>,
    ) -> Result<Option<Stack<X509>>, Error> {
        let is_anchor = |ca: &CaCertificate| self.by_digest.contains_key(ca.digest());
        let own = self.intermediates.candidates(leaf, sent, is_anchor);
        let mut stands_in = false;
        for certificate in sent {
            let subject = certificate.subject_name_hash();
            if own.iter().any(|ca| ca.subject_hash() == subject) {
                let id = signed_content::ca_id(certificate)?;
                stands_in |= own.iter().any(|ca| *ca.id() == id);
            }
        }
        if !stands_in {
            return Ok(None);
        }
        let mut stack = Stack::new()?;
        for ca in own {
            stack.push(ca.x509().clone())?;
        }
        for certificate in sent {
            stack.push(certificate.to_owned())?;
        }
        Ok(Some(stack))
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
        if signs(certificate, certificate) {
            return None;
        }
        let cas = self.cas.iter().map(|ca| ca.x509());
        let named = cas.filter(|ca| ca.subject_name().try_cmp(name).is_ok_and(Ordering::is_eq));
        let issuers = named.filter(|ca| !path.contains(ca) && signs(ca, certificate));
        issuers.max_by_key(|ca| signs(ca, ca)).cloned()
    }

    /// Builds and verifies a chain: with the document's own certificates, or where that leads to no
    /// anchor, with nothing but what was sent.
    fn build<T>(
        &self,
        leaf: &X509Ref,
        untrusted: &StackRef<X509>,
        now: i64,
        read: impl FnOnce(Built<'_>) -> T,
    ) -> Result<T, Error> {
        let mut read = Some(read);
        if let Some(stack) = self.preferred(leaf, untrusted)? {
            let result = self.run(leaf, &stack, now, |built| match built {
                Ok(chain) => read.take().map(|read| read(Ok(chain))),
                Err(_) => None,
            })?;
            if let Some(result) = result {
                return Ok(result);
            }
        }
        let read = read.ok_or(Error::Panic)?;
        self.run(leaf, untrusted, now, read)
    }

    fn run<T>(
        &self,
        leaf: &X509Ref,
        untrusted: &StackRef<X509>,
        now: i64,
        read: impl FnOnce(Built<'_>) -> T,
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

/// A verified chain, leaf first, or why there is none, and at which depth.
type Built<'c> = Result<&'c StackRef<X509>, (X509VerifyResult, u32)>;

/// Digests of CAs, each once, in an order of their own: the order given decides nothing.
fn append_digests(content: &mut Vec<u8>, cas: &[Arc<CaCertificate>]) {
    let mut digests: Vec<&[u8; 32]> = cas.iter().map(|ca| ca.digest()).collect();
    digests.sort_unstable();
    digests.dedup();
    for digest in digests {
        content.extend_from_slice(digest);
    }
}

/// What of `sent` stands in a verified chain, leaf first: those certificates of the chain, in its
/// order, whose TBSCertificate was sent.
pub fn sent_certificates_in<'c>(
    chain: impl IntoIterator<Item = &'c X509Ref>,
    sent: &StackRef<X509>,
) -> Result<Vec<&'c X509Ref>, Error> {
    let sent: Vec<[u8; 32]> = sent
        .iter()
        .map(signed_content::tbs_sha256)
        .collect::<Result<_, _>>()?;
    let mut used = Vec::new();
    for ca in chain.into_iter().skip(1) {
        if sent.contains(&signed_content::tbs_sha256(ca)?) {
            used.push(ca);
        }
    }
    Ok(used)
}

/// [`Trusted::used_intermediates`].
fn used_intermediates(
    chain: &StackRef<X509>,
    sent: &StackRef<X509>,
) -> Result<Option<[u8; 32]>, Error> {
    let cas = chain.iter().skip(1).take(sent.len());
    let same = |(ca, sent): (&X509Ref, &X509Ref)| ca.as_ptr() == sent.as_ptr();
    // Most clients send just what OpenSSL then puts into the chain.
    if chain.len() > sent.len() && cas.zip(sent).all(same) {
        return Ok(None);
    }
    let used = encoded_chain::encode(sent_certificates_in(chain, sent)?.into_iter())?;
    let all = encoded_chain::encode(sent.iter())?;
    Ok((used != all).then(|| encoded_chain::digest(&used)))
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
        let verdict = store
            .verify(&pki.leaf_of_intermediate.x509, &stack(&[]), NOW)
            .unwrap();
        assert_eq!(
            verdict.text(),
            "FAILED:unable to get local issuer certificate"
        );
        let chain = stack(&[&pki.intermediate.x509]);
        assert!(store
            .verify(&pki.leaf_of_intermediate.x509, &chain, NOW)
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
            store
                .verify(&pki.leaf_of_intermediate.x509, &chain, NOW)
                .unwrap()
                .text(),
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
            let verdict = store
                .verify(&pki.leaf_of_intermediate.x509, &stack(&[]), NOW)
                .unwrap();
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

    /// The certificate with the other encoding of its issuer's signature.
    fn twin_of(certificate: &X509, issuer: &testing::Issued) -> X509 {
        let order = signed_content::ec_order(&issuer.x509.public_key().unwrap()).unwrap();
        let der = certificate.to_der().unwrap();
        let twin = signed_content::alternate_der(&der, &order).unwrap();
        X509::from_der(&twin).unwrap()
    }

    fn ca(issued: &testing::Issued) -> Arc<CaCertificate> {
        Arc::new(CaCertificate::from_x509(issued.x509.clone()).unwrap())
    }

    /// A store that trusts `anchors`, of a document that has `others` too.
    fn store_of(anchors: &[&testing::Issued], others: &[&testing::Issued]) -> TrustStore {
        let cas = |issued: &[&testing::Issued]| issued.iter().map(|one| ca(one)).collect();
        let anchors: Vec<_> = cas(anchors);
        let intermediates = Arc::new(Intermediates::new(cas(others)));
        TrustStore::with_intermediates(&anchors, VerifyOptions::default(), &intermediates).unwrap()
    }

    #[test]
    fn verify_takes_the_documents_own_intermediate_before_what_the_client_sends() {
        let pki = testing::pki();
        let flipped = twin_of(&pki.intermediate.x509, &pki.ca);
        let own = ca(&pki.intermediate);
        for (others, issuer) in [
            (vec![], certificate::sha256(&flipped).unwrap()),
            (vec![&pki.ca, &pki.intermediate], *own.digest()),
        ] {
            let store = store_of(&[&pki.ca], &others);
            let sent = stack(&[&flipped]);
            let verdict = store
                .verify(&pki.leaf_of_intermediate.x509, &sent, NOW)
                .unwrap();
            assert!(verdict.is_success());
            // Whichever it is, the CA is the same one.
            assert_eq!(verdict.cas(), [*own.id(), *ca(&pki.ca).id()]);
            assert_eq!(verdict.issuer(), Some(&issuer));
            assert_eq!(
                verdict.alternate_sha256(),
                Some(
                    certificate::sha256(&twin_of(
                        &pki.leaf_of_intermediate.x509,
                        &pki.intermediate
                    ))
                    .unwrap()
                )
            );
            let chain = store
                .chain(&pki.leaf_of_intermediate.x509, &sent, NOW)
                .unwrap();
            assert_eq!(certificate::sha256(&chain[1]).unwrap(), issuer);
        }
    }

    #[test]
    fn verify_trusts_nobody_for_the_documents_own_intermediate() {
        let pki = testing::pki();
        let store = store_of(&[&pki.ca], &[&pki.intermediate]);
        let verdict = store
            .verify(&pki.leaf_of_intermediate.x509, &stack(&[]), NOW)
            .unwrap();
        assert_eq!(
            verdict.text(),
            "FAILED:unable to get local issuer certificate"
        );
        // Nor is it an anchor.
        let store = store_of(&[], &[&pki.ca, &pki.intermediate]);
        let sent = stack(&[&pki.intermediate.x509]);
        let verdict = store
            .verify(&pki.leaf_of_intermediate.x509, &sent, NOW)
            .unwrap();
        assert!(!verdict.is_success());
    }

    #[test]
    fn verify_takes_what_the_client_sends_where_the_documents_own_leads_nowhere() {
        let pki = testing::pki();
        let elsewhere = issue("elsewhere", None, true, 60, &[]);
        let key = &pki.intermediate.key;
        let cross = testing::issue_for("Test Intermediate", Some(&elsewhere), true, 60, &[], key);
        let store = store_of(&[&pki.ca], &[&cross]);
        let sent = stack(&[&pki.intermediate.x509]);
        let verdict = store
            .verify(&pki.leaf_of_intermediate.x509, &sent, NOW)
            .unwrap();
        assert_eq!(verdict.text(), "SUCCESS");
        // And one that is expired does not stand in the way of its successor.
        let old = testing::issue_for("Test Intermediate", Some(&pki.ca), true, -60, &[], key);
        let store = store_of(&[&pki.ca], &[&old]);
        let verdict = store
            .verify(&pki.leaf_of_intermediate.x509, &sent, NOW)
            .unwrap();
        assert_eq!(verdict.text(), "SUCCESS");
    }

    #[test]
    fn key_depends_on_the_documents_other_cas_and_digest_does_not() {
        let pki = testing::pki();
        let plain = store_of(&[&pki.ca], &[]);
        let more = store_of(&[&pki.ca], &[&pki.intermediate]);
        assert_eq!(plain.digest(), more.digest());
        assert_ne!(plain.verdict_key(), more.verdict_key());
    }

    #[test]
    fn status_is_the_same_for_every_encoding_of_a_chain() {
        let pki = testing::pki();
        let store = store_of(&[&pki.ca], &[]);
        let again = testing::issue_for(
            "Test Intermediate",
            Some(&pki.ca),
            true,
            60,
            &[],
            &pki.intermediate.key,
        );
        let leaf_twin = twin_of(&pki.leaf_of_intermediate.x509, &pki.intermediate);
        let ca_twin = twin_of(&pki.intermediate.x509, &pki.ca);
        let ids = |leaf: &X509, ca: &X509| {
            let sent = stack(&[ca]);
            let verdict = store.verify(leaf, &sent, NOW).unwrap();
            let chain = store.chain(leaf, &sent, NOW).unwrap();
            let ids = verdict.ids().unwrap().clone();
            assert_eq!(ids, crate::trust::chain_ids(&chain).unwrap());
            (*ids.status(false), *ids.status(true))
        };
        let original = ids(&pki.leaf_of_intermediate.x509, &pki.intermediate.x509);
        assert_eq!(ids(&leaf_twin, &pki.intermediate.x509), original);
        assert_eq!(ids(&leaf_twin, &ca_twin), original);
        let (path, exact) = ids(&pki.leaf_of_intermediate.x509, &again.x509);
        assert_eq!(path, original.0);
        // A list may have revoked the one and not the other.
        assert_ne!(exact, original.1);
        let other = issue("below", Some(&pki.intermediate), false, 60, &[]);
        assert_ne!(ids(&other.x509, &pki.intermediate.x509).0, original.0);
    }

    #[test]
    fn used_is_what_of_the_certificates_sent_stands_in_the_chain() {
        let pki = testing::pki();
        let junk = issue("junk", None, true, 60, &[]);
        let (root, int) = (&pki.ca.x509, &pki.intermediate.x509);
        let flipped = twin_of(int, &pki.ca);
        let store = store_of(&[&pki.ca], &[&pki.intermediate]);
        let used = |sent: &[&X509]| {
            let verdict = store
                .verify(&pki.leaf_of_intermediate.x509, &stack(sent), NOW)
                .unwrap();
            assert!(verdict.is_success());
            verdict.used_intermediates()
        };
        let digest = |used: &[&X509]| {
            let used = used.iter().map(|used| &***used);
            Some(encoded_chain::digest(&encoded_chain::encode(used).unwrap()))
        };
        for sent in [&[int][..], &[int, root]] {
            assert_eq!(used(sent), None, "{}", sent.len());
        }
        assert_eq!(used(&[&junk.x509, int]), digest(&[int]));
        assert_eq!(used(&[int, &junk.x509]), digest(&[int]));
        assert_eq!(
            used(&[root, int, &pki.leaf_of_intermediate.x509]),
            digest(&[int, root])
        );
        assert_eq!(used(&[int, int]), digest(&[int]));
        // The bytes that were verified, not those that were sent.
        assert_eq!(used(&[&flipped]), digest(&[int]));
    }
}
