//! The trust store of a plugin: its CAs and verify options.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use foreign_types::ForeignTypeRef;
use openssl::hash::{hash, MessageDigest};
use openssl::stack::{Stack, StackRef};
use openssl::x509::store::{X509Store, X509StoreBuilder, X509StoreRef};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509PurposeId, X509Ref, X509StoreContext, X509VerifyResult, X509};
use parking_lot::Mutex;

use super::ca::{ec_order, is_issuer};
use super::verdict::{ChainIds, VerifiedChain};
use super::{
    pinned, CaCertificate, CertificationPath, ClientAuthEku, Intermediates, PinnedCertificates,
    Verdict, INVALID_PURPOSE,
};
use crate::certificate::{self, encoded_chain, signed_content};
use crate::openssl_ext::x509 as ext;
use crate::Error;

/// Version of the digest; to be changed when the same content gets another meaning.
const FORMAT: &[u8] = b"resty-mtls trust store 1";

/// Options of the verification of a chain.
///
/// By default an `X509_STORE_CTX` checks neither purpose nor key strength. These options correspond
/// to what an `SSL_CTX` of a server checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VerifyOptions {
    /// Accept a CA that is not self-signed as trust anchor
    /// (`X509_V_FLAG_PARTIAL_CHAIN`; Kong `allow_partial_chain`).
    pub allow_partial_chain: bool,
    /// Maximum number of intermediates between leaf and anchor (`X509_VERIFY_PARAM_set_depth`).
    pub depth: u32,
    /// OpenSSL security level for keys and signatures, 0..=5
    /// (`X509_VERIFY_PARAM_set_auth_level`).
    pub auth_level: u32,
    /// Which extendedKeyUsage is accepted.
    pub client_auth_eku: ClientAuthEku,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        VerifyOptions {
            allow_partial_chain: false,
            depth: 10,
            auth_level: 2,
            client_auth_eku: ClientAuthEku::Required,
        }
    }
}

/// Trusted CAs and verify options, immutable once built.
pub struct TrustStore {
    /// All CAs.
    store: X509Store,
    /// The CAs that are valid at a time, if others are not.
    valid: Mutex<Option<ValidCas>>,
    /// From when until when all CAs are valid.
    all_valid: (i64, i64),
    options: VerifyOptions,
    cas: Arc<[Arc<CaCertificate>]>,
    /// Indices in `cas` by SHA-256 of the DER.
    by_digest: HashMap<[u8; 32], usize>,
    intermediates: Arc<Intermediates>,
    /// Certificates that are trusted by themselves.
    pinned: Option<Arc<PinnedCertificates>>,
    digest: [u8; 32],
    verdict_key: [u8; 32],
}

/// The CAs that are valid from `from` until `until`. OpenSSL prefers a CA of the store to the one
/// that a client sends, so that one that is not valid would hide its renewed twin.
struct ValidCas {
    from: i64,
    until: i64,
    store: Arc<X509Store>,
}

impl TrustStore {
    /// Builds the store. With an empty list of CAs, no chain is trusted.
    pub fn new(cas: &[Arc<CaCertificate>], options: VerifyOptions) -> Result<TrustStore, Error> {
        TrustStore::with_intermediates(cas, options, &Arc::default())
    }

    /// Builds the store. When a chain is built, `intermediates`, the CA certificates of the policy
    /// document, are preferred to certificates that the client sends.
    pub fn with_intermediates(
        cas: &[Arc<CaCertificate>],
        options: VerifyOptions,
        intermediates: &Arc<Intermediates>,
    ) -> Result<TrustStore, Error> {
        TrustStore::with_pinned(cas, options, intermediates, None)
    }

    /// The same with certificates of clients that are trusted by themselves.
    pub fn with_pinned(
        cas: &[Arc<CaCertificate>],
        options: VerifyOptions,
        intermediates: &Arc<Intermediates>,
        pinned: Option<&Arc<PinnedCertificates>>,
    ) -> Result<TrustStore, Error> {
        let store = x509_store(cas.iter(), options)?;
        let mut content = FORMAT.to_vec();
        content.push(options.allow_partial_chain.into());
        content.extend_from_slice(&options.depth.to_be_bytes());
        content.extend_from_slice(&options.auth_level.to_be_bytes());
        match options.client_auth_eku {
            // As before there was a choice, so that sessions stay valid.
            ClientAuthEku::Required => {}
            ClientAuthEku::AllowServerAuth => content.push(1),
            ClientAuthEku::Any => content.push(2),
        }
        append_digests(&mut content, cas);
        if let Some(pinned) = pinned {
            content.extend_from_slice(b"pinned");
            content.extend_from_slice(pinned.digests().as_flattened());
        }
        let digest = certificate::sha256_array(&hash(MessageDigest::sha256(), &content)?)?;
        let mut content = digest.to_vec();
        append_digests(&mut content, intermediates.cas());
        let position = |(index, ca): (usize, &Arc<CaCertificate>)| (*ca.digest(), index);
        Ok(TrustStore {
            store,
            valid: Mutex::default(),
            all_valid: cas.iter().fold((i64::MIN, i64::MAX), |(from, until), ca| {
                (from.max(ca.not_before()), until.min(ca.not_after()))
            }),
            options: VerifyOptions {
                auth_level: options.auth_level.min(5),
                ..options
            },
            cas: cas.into(),
            by_digest: cas.iter().enumerate().map(position).collect(),
            intermediates: intermediates.clone(),
            pinned: pinned.cloned(),
            digest,
            verdict_key: certificate::sha256_array(&hash(MessageDigest::sha256(), &content)?)?,
        })
    }

    /// Digest under which verdicts of the store are cached: SHA-256 over [`TrustStore::digest`] and
    /// the preferred intermediates.
    pub fn verdict_key(&self) -> &[u8; 32] {
        &self.verdict_key
    }

    /// The anchor or preferred intermediate with this SHA-256.
    pub fn find(&self, digest: &[u8; 32]) -> Option<&Arc<CaCertificate>> {
        let anchor = self.by_digest.get(digest).and_then(|ca| self.cas.get(*ca));
        anchor.or_else(|| {
            let mut intermediates = self.intermediates.cas().iter();
            intermediates.find(|ca| ca.digest() == digest)
        })
    }

    /// SHA-256 of the content: CAs (in any order) and options.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The CAs in the given order.
    pub fn cas(&self) -> &[Arc<CaCertificate>] {
        &self.cas
    }

    /// The certificates that are trusted by themselves.
    pub fn pinned(&self) -> &[X509] {
        self.pinned.as_ref().map_or(&[], |pinned| pinned.list())
    }

    /// Whether the certificate with this SHA-256 is one of them.
    pub fn pins(&self, sha256: &[u8; 32]) -> bool {
        self.pinned
            .as_ref()
            .is_some_and(|pinned| pinned.has_sha256(sha256))
    }

    /// The options of the verification.
    pub fn options(&self) -> VerifyOptions {
        self.options
    }

    /// Which extendedKeyUsage is accepted.
    pub fn client_auth_eku(&self) -> ClientAuthEku {
        self.options.client_auth_eku
    }

    /// OpenSSL security level that keys and signatures must meet.
    pub fn auth_level(&self) -> u32 {
        self.options.auth_level
    }

    /// The CAs that are valid at `now`; `None` if all are.
    fn valid_at(&self, now: i64) -> Result<Option<Arc<X509Store>>, Error> {
        let (from, until) = self.all_valid;
        if from <= now && now < until {
            return Ok(None);
        }
        let mut valid = self.valid.lock();
        if let Some(valid) = &*valid {
            if valid.from <= now && now < valid.until {
                return Ok(Some(valid.store.clone()));
            }
        }
        let times = self
            .cas
            .iter()
            .flat_map(|ca| [ca.not_before(), ca.not_after()]);
        let (mut from, mut until) = (i64::MIN, i64::MAX);
        for time in times {
            match time <= now {
                true => from = from.max(time),
                false => until = until.min(time),
            }
        }
        let cas = self.cas.iter().filter(|ca| ca.is_valid(now));
        let store = Arc::new(x509_store(cas, self.options)?);
        *valid = Some(ValidCas {
            from,
            until,
            store: store.clone(),
        });
        Ok(Some(store))
    }

    /// Verifies `leaf` as a TLS client certificate at `now`, in seconds since the epoch, with the
    /// candidates `untrusted` for intermediates (`X509_verify_cert`).
    ///
    /// For a certificate that is not trusted the result is a [`Verdict`], not an error.
    pub fn verify(
        &self,
        leaf: &X509Ref,
        untrusted: &StackRef<X509>,
        now: i64,
    ) -> Result<Verdict, Error> {
        self.build(leaf, untrusted, now, |built| match built {
            Ok((chain, pinned)) => {
                let verified = self.verified_chain(chain, untrusted, pinned)?;
                Ok(Verdict::success(chain, verified, now))
            }
            Err((code, depth)) => Ok(Verdict::refused(code, depth, now)),
        })?
    }

    /// The results for a chain that was just verified. `sent` holds the certificates that the
    /// client sent with the leaf.
    fn verified_chain(
        &self,
        chain: &StackRef<X509>,
        sent: &StackRef<X509>,
        pinned: bool,
    ) -> Result<VerifiedChain, Error> {
        let ids = ChainIds::new(chain, |ca, digest| match self.find(digest) {
            Some(found) => Ok(*found.id()),
            None => signed_content::ca_id(ca),
        })?;
        // A leaf that is its own anchor is self-signed, or its signature was not verified.
        let issuer = chain.get(1).or(chain.get(0));
        let order = match (issuer, ids.issuer().and_then(|digest| self.find(digest))) {
            (_, Some(found)) => found.ec_order().map(<[u8]>::to_vec),
            (Some(issuer), None) => ec_order(issuer),
            (None, None) => None,
        };
        let leaf = chain.get(0).zip(order);
        let alternate_sha256 = match leaf {
            Some((leaf, order)) => signed_content::alternate_sha256(&leaf.to_der()?, &order),
            None => None,
        };
        Ok(VerifiedChain {
            ids,
            alternate_sha256,
            used_intermediates: used_intermediates(chain, sent)?,
            pinned,
        })
    }

    /// The intermediates of the document that may be part of the chain, followed by `sent`. `None`
    /// when the client sent no certificate of the same CAs: a certificate of the document replaces
    /// that of the client, but an intermediate that the client omits is missing, as in nginx.
    fn with_preferred_intermediates(
        &self,
        leaf: &X509Ref,
        sent: &StackRef<X509>,
        now: i64,
    ) -> Result<Option<Stack<X509>>, Error> {
        let is_excluded =
            |ca: &CaCertificate| self.by_digest.contains_key(ca.digest()) || !ca.is_valid(now);
        let preferred = self.intermediates.candidates(leaf, sent, is_excluded);
        let mut replaces = false;
        for certificate in sent {
            let subject = certificate.subject_name_hash();
            if preferred.iter().any(|ca| ca.subject_hash() == subject) {
                let id = signed_content::ca_id(certificate)?;
                replaces |= preferred.iter().any(|ca| *ca.id() == id);
            }
        }
        if !replaces {
            return Ok(None);
        }
        let mut stack = Stack::new()?;
        for ca in preferred {
            stack.push(ca.x509().clone())?;
        }
        for certificate in sent {
            stack.push(certificate.to_owned())?;
        }
        Ok(Some(stack))
    }

    /// The verified chain, leaf first; empty when the chain is refused.
    pub fn chain(
        &self,
        leaf: &X509Ref,
        untrusted: &StackRef<X509>,
        now: i64,
    ) -> Result<Vec<X509>, Error> {
        self.build(leaf, untrusted, now, |built| match built {
            Ok((chain, _)) => chain.iter().map(X509Ref::to_owned).collect(),
            Err(_) => Vec::new(),
        })
    }

    /// The verified chain, followed by the issuers of an anchor that is not self-signed, as far as
    /// they are CAs of the store; empty when the chain is refused.
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

    /// The CA of the store that signed a certificate, if that is not self-signed. CAs in `path` are
    /// excluded. Among several certificates with the key, a self-signed one is preferred.
    fn issuer_of(&self, certificate: &X509Ref, path: &[X509]) -> Option<X509> {
        let name = certificate.issuer_name();
        if is_issuer(certificate, certificate) {
            return None;
        }
        let cas = self.cas.iter().map(|ca| ca.x509());
        let named = cas.filter(|ca| ca.subject_name().try_cmp(name).is_ok_and(Ordering::is_eq));
        let issuers = named.filter(|ca| !path.contains(ca) && is_issuer(ca, certificate));
        issuers.max_by_key(|ca| is_issuer(ca, ca)).cloned()
    }

    /// Builds and verifies a chain with the preferred intermediates or, if that fails, with the
    /// sent certificates only. CAs that are not valid at `now` are left out of both; only if that
    /// fails are they considered, so that the error names them. A pinned certificate is trusted by
    /// itself only where no CA verifies it, since a CA may also have revoked it.
    fn build<T>(
        &self,
        leaf: &X509Ref,
        untrusted: &StackRef<X509>,
        now: i64,
        read: impl FnOnce(Built<'_>) -> T,
    ) -> Result<T, Error> {
        let mut read = Some(read);
        let mut read_chain = |built: Built<'_>| match built {
            Ok(built) => read.take().map(|read| read(Ok(built))),
            Err(_) => None,
        };
        let valid = self.valid_at(now)?;
        let store = valid.as_deref().unwrap_or(&self.store);
        let eku = self.options.client_auth_eku;
        if let Some(stack) = self.with_preferred_intermediates(leaf, untrusted, now)? {
            if let Some(result) = run(store, eku, leaf, &stack, now, &mut read_chain)? {
                return Ok(result);
            }
        }
        if valid.is_some() {
            if let Some(result) = run(store, eku, leaf, untrusted, now, &mut read_chain)? {
                return Ok(result);
            }
        }
        if let Some(pinned) = &self.pinned {
            if pinned.contains(leaf)? {
                let built = run(&self.store, eku, leaf, untrusted, now, &mut read_chain)?;
                if let Some(result) = built {
                    return Ok(result);
                }
                let read = read.ok_or(Error::Panic)?;
                let none = Stack::new()?;
                let store = pinned::x509_store(leaf, self.options.auth_level)?;
                // The purpose of a pinned certificate is not checked.
                let eku = ClientAuthEku::Required;
                let refusal = run(&store, eku, leaf, &none, now, |built| built.err())?;
                return Ok(match refusal {
                    Some(refusal) => read(Err(refusal)),
                    None => {
                        let cas = self.intermediates.cas();
                        read(Ok((&*pinned::chain(leaf, cas, now)?, true)))
                    }
                });
            }
        }
        let read = read.ok_or(Error::Panic)?;
        run(&self.store, eku, leaf, untrusted, now, read)
    }
}

/// Builds and verifies a chain with `untrusted` and passes the result to `read`.
fn run<T>(
    store: &X509StoreRef,
    eku: ClientAuthEku,
    leaf: &X509Ref,
    untrusted: &StackRef<X509>,
    now: i64,
    read: impl FnOnce(Built<'_>) -> T,
) -> Result<T, Error> {
    let mut context = X509StoreContext::new()?;
    let result = context.init(store, leaf, untrusted, |context| {
        ext::set_verify_time(context, now);
        let trusted = context.verify_cert()?;
        let result = context.error();
        let refusal = (result.as_raw(), context.error_depth());
        Ok(read(match context.chain() {
            Some(chain) if trusted && result == X509VerifyResult::OK => {
                match eku.first_violation(chain) {
                    None => Ok((chain, false)),
                    Some(depth) => Err((INVALID_PURPOSE, depth)),
                }
            }
            _ => Err(refusal),
        }))
    });
    // A refused chain leaves errors in OpenSSL's queue, which nginx would report.
    openssl::error::ErrorStack::get();
    Ok(result?)
}

/// A store of OpenSSL with these CAs.
fn x509_store<'c>(
    cas: impl Iterator<Item = &'c Arc<CaCertificate>>,
    options: VerifyOptions,
) -> Result<X509Store, Error> {
    let mut param = X509VerifyParam::new()?;
    if options.client_auth_eku == ClientAuthEku::Required {
        param.set_purpose(X509PurposeId::SSL_CLIENT)?;
    }
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
    Ok(builder.build())
}

/// A verified chain, leaf first, and whether its leaf is a pinned certificate; or the `X509_V_ERR_*`
/// code and its depth.
type Built<'c> = Result<(&'c StackRef<X509>, bool), (i32, u32)>;

/// Appends the digests of CAs, sorted and without duplicates.
fn append_digests(content: &mut Vec<u8>, cas: &[Arc<CaCertificate>]) {
    let mut digests: Vec<&[u8; 32]> = cas.iter().map(|ca| ca.digest()).collect();
    digests.sort_unstable();
    digests.dedup();
    for digest in digests {
        content.extend_from_slice(digest);
    }
}

/// The certificates of a verified chain, without the leaf and in the order of the chain, whose
/// TBSCertificate is among `sent`.
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

/// [`VerifiedChain::used_intermediates`].
fn used_intermediates(
    chain: &StackRef<X509>,
    sent: &StackRef<X509>,
) -> Result<Option<[u8; 32]>, Error> {
    let cas = chain.iter().skip(1).take(sent.len());
    let same = |(ca, sent): (&X509Ref, &X509Ref)| ca.as_ptr() == sent.as_ptr();
    // Most clients send exactly the certificates that OpenSSL uses for the chain.
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
        let store = TrustStore::new(&[pki.ca_certificate()], options).unwrap();
        (pki, store)
    }

    #[test]
    fn verify_verdict_is_valid_until_the_earliest_expiry() {
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
    fn verify_without_the_intermediate_fails() {
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
    fn verify_with_an_empty_store_fails() {
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

    /// A second certificate of an intermediate, with other times, and the root that issued both.
    fn twins(times: [(i64, i64); 2]) -> (testing::Pki, [X509; 2]) {
        let pki = testing::pki();
        let twins = times.map(|(from, until)| {
            testing::reissue(&pki.intermediate, &pki.ca, NOW + from, NOW + until)
        });
        (pki, twins)
    }

    fn ca(x509: &X509) -> Arc<CaCertificate> {
        Arc::new(CaCertificate::from_x509(x509.clone()).unwrap())
    }

    #[test]
    fn verify_expired_ca_does_not_hide_the_renewed_one_of_the_client() {
        for (times, now) in [
            ([(-100, -50), (-60, 100)], 0),
            // It expires while the policy is in force.
            ([(-100, 50), (-60, 200)], 51),
            ([(-100, 50), (-60, 200)], 50),
            // The one of the policy is not valid yet.
            ([(50, 200), (-60, 100)], 0),
        ] {
            let (pki, [old, new]) = twins(times);
            let options = VerifyOptions::default();
            let root = pki.ca_certificate();
            let all = Arc::new(Intermediates::new(vec![root.clone(), ca(&old)]));
            let leaf = &pki.leaf_of_intermediate.x509;
            // The expired one is a CA of the plugin, or another one of the document.
            for cas in [&[root.clone(), ca(&old)][..], &[root]] {
                let store = TrustStore::with_intermediates(cas, options, &all).unwrap();
                let verdict = store.verify(leaf, &stack(&[&new]), NOW + now).unwrap();
                assert_eq!(verdict.text(), "SUCCESS", "{times:?}");
                let chain = store.chain(leaf, &stack(&[&new]), NOW + now).unwrap();
                assert_eq!(chain[1], new);
                // With the expired one alone, the text is that of OpenSSL.
                let verdict = store.verify(leaf, &stack(&[&old]), NOW + now).unwrap();
                let text = match times[0].0 < now {
                    true => "FAILED:certificate has expired",
                    false => "FAILED:certificate is not yet valid",
                };
                assert_eq!((verdict.text().as_str(), verdict.depth()), (text, 1));
            }
        }
    }

    #[test]
    fn verify_takes_a_ca_from_its_beginning_until_its_end_whatever_the_clock_did() {
        let (pki, [old, new]) = twins([(-100, 50), (40, 100)]);
        let options = VerifyOptions {
            allow_partial_chain: true,
            ..Default::default()
        };
        let store = TrustStore::new(&[ca(&old), ca(&new)], options).unwrap();
        let leaf = &pki.leaf_of_intermediate.x509;
        let used = |now: i64| store.chain(leaf, &stack(&[]), NOW + now).unwrap().pop();
        for (now, expected) in [
            (-101, None),
            (-100, Some(&old)),
            (0, Some(&old)),
            (49, Some(&old)),
            (50, Some(&new)),
            (99, Some(&new)),
            (100, None),
            (0, Some(&old)),
            (60, Some(&new)),
        ] {
            assert_eq!(used(now).as_ref(), expected, "{now}");
        }
        assert!(used(45).is_some());
    }

    #[test]
    fn digest_ignores_the_order_and_repetition_of_cas() {
        let (a, b) = (
            testing::pki().ca_certificate(),
            testing::pki().ca_certificate(),
        );
        let options = VerifyOptions::default();
        let one = TrustStore::new(&[a.clone(), b.clone()], options).unwrap();
        let two = TrustStore::new(&[b.clone(), a.clone(), b.clone()], options).unwrap();
        assert_eq!(one.digest(), two.digest());
        let three = TrustStore::new(&[a], options).unwrap();
        assert_ne!(one.digest(), three.digest());
    }

    /// The alternate encoding of the certificate.
    fn alternate_of(certificate: &X509, issuer: &testing::Issued) -> X509 {
        let order = signed_content::ec_order(&issuer.x509.public_key().unwrap()).unwrap();
        let der = certificate.to_der().unwrap();
        let alternate = signed_content::alternate_der(&der, &order).unwrap();
        X509::from_der(&alternate).unwrap()
    }

    /// A store that trusts `anchors` and prefers the intermediates `others`.
    fn store_of(anchors: &[&testing::Issued], others: &[&testing::Issued]) -> TrustStore {
        let cas = |issued: &[&testing::Issued]| issued.iter().map(|one| ca(&one.x509)).collect();
        let anchors: Vec<_> = cas(anchors);
        let intermediates = Arc::new(Intermediates::new(cas(others)));
        TrustStore::with_intermediates(&anchors, VerifyOptions::default(), &intermediates).unwrap()
    }

    #[test]
    fn verify_prefers_the_intermediate_of_the_document() {
        let pki = testing::pki();
        let alternate = alternate_of(&pki.intermediate.x509, &pki.ca);
        let own = ca(&pki.intermediate.x509);
        for (others, issuer) in [
            (vec![], certificate::sha256(&alternate).unwrap()),
            (vec![&pki.ca, &pki.intermediate], *own.digest()),
        ] {
            let store = store_of(&[&pki.ca], &others);
            let sent = stack(&[&alternate]);
            let verdict = store
                .verify(&pki.leaf_of_intermediate.x509, &sent, NOW)
                .unwrap();
            assert!(verdict.is_success());
            // The CA is the same for both encodings.
            assert_eq!(verdict.cas(), [*own.id(), *ca(&pki.ca.x509).id()]);
            assert_eq!(verdict.issuer(), Some(&issuer));
            assert_eq!(
                verdict.alternate_sha256(),
                Some(
                    certificate::sha256(&alternate_of(
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
    fn verify_does_not_trust_the_intermediate_of_the_document() {
        let pki = testing::pki();
        let store = store_of(&[&pki.ca], &[&pki.intermediate]);
        let verdict = store
            .verify(&pki.leaf_of_intermediate.x509, &stack(&[]), NOW)
            .unwrap();
        assert_eq!(
            verdict.text(),
            "FAILED:unable to get local issuer certificate"
        );
        // It is not an anchor either.
        let store = store_of(&[], &[&pki.ca, &pki.intermediate]);
        let sent = stack(&[&pki.intermediate.x509]);
        let verdict = store
            .verify(&pki.leaf_of_intermediate.x509, &sent, NOW)
            .unwrap();
        assert!(!verdict.is_success());
    }

    #[test]
    fn verify_uses_the_sent_intermediate_if_that_of_the_document_fails() {
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
        // An expired certificate of the document does not prevent the use of its successor.
        let old = testing::issue_for("Test Intermediate", Some(&pki.ca), true, -60, &[], key);
        let store = store_of(&[&pki.ca], &[&old]);
        let verdict = store
            .verify(&pki.leaf_of_intermediate.x509, &sent, NOW)
            .unwrap();
        assert_eq!(verdict.text(), "SUCCESS");
    }

    #[test]
    fn verdict_key_depends_on_the_intermediates_of_the_document() {
        let pki = testing::pki();
        let plain = store_of(&[&pki.ca], &[]);
        let more = store_of(&[&pki.ca], &[&pki.intermediate]);
        assert_eq!(plain.digest(), more.digest());
        assert_ne!(plain.verdict_key(), more.verdict_key());
    }

    #[test]
    fn status_key_is_equal_for_all_encodings_of_a_chain() {
        let pki = testing::pki();
        let store = store_of(&[&pki.ca], &[]);
        let renewed = testing::issue_for(
            "Test Intermediate",
            Some(&pki.ca),
            true,
            60,
            &[],
            &pki.intermediate.key,
        );
        let alternate_leaf = alternate_of(&pki.leaf_of_intermediate.x509, &pki.intermediate);
        let alternate_ca = alternate_of(&pki.intermediate.x509, &pki.ca);
        let ids = |leaf: &X509, ca: &X509| {
            let sent = stack(&[ca]);
            let verdict = store.verify(leaf, &sent, NOW).unwrap();
            let chain = store.chain(leaf, &sent, NOW).unwrap();
            let ids = verdict.ids().unwrap().clone();
            assert_eq!(ids, crate::trust::chain_ids(&chain).unwrap());
            (*ids.status_key(false), *ids.status_key(true))
        };
        let original = ids(&pki.leaf_of_intermediate.x509, &pki.intermediate.x509);
        assert_eq!(ids(&alternate_leaf, &pki.intermediate.x509), original);
        assert_eq!(ids(&alternate_leaf, &alternate_ca), original);
        let (path, exact) = ids(&pki.leaf_of_intermediate.x509, &renewed.x509);
        assert_eq!(path, original.0);
        // A CRL may have revoked only one of the two.
        assert_ne!(exact, original.1);
        let other = issue("below", Some(&pki.intermediate), false, 60, &[]);
        assert_ne!(ids(&other.x509, &pki.intermediate.x509).0, original.0);
    }

    #[test]
    fn used_intermediates_are_the_sent_certificates_of_the_chain() {
        let pki = testing::pki();
        let junk = issue("junk", None, true, 60, &[]);
        let (root, int) = (&pki.ca.x509, &pki.intermediate.x509);
        let alternate = alternate_of(int, &pki.ca);
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
        // The digest is that of the bytes that were verified, not of those that were sent.
        assert_eq!(used(&[&alternate]), digest(&[int]));
    }
}
