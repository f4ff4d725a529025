//! Certificates of clients that are trusted by themselves, whoever issued them.

use std::collections::HashSet;
use std::sync::Arc;

use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509Ref, X509};

use super::ca::is_issuer;
use super::CaCertificate;
use crate::certificate;
use crate::Error;

/// Pinned certificates. A presented certificate is pinned if it is equal in all bytes: then it has
/// the same key, which the handshake proves, and no other fingerprint than rules may name.
pub struct PinnedCertificates {
    list: Vec<X509>,
    /// SHA-256 of the DER of each.
    digests: HashSet<[u8; 32]>,
}

impl PinnedCertificates {
    /// These certificates, each once.
    pub fn new(certificates: impl IntoIterator<Item = X509>) -> Result<PinnedCertificates, Error> {
        let mut pinned = PinnedCertificates {
            list: Vec::new(),
            digests: HashSet::new(),
        };
        for x509 in certificates {
            if pinned.digests.insert(certificate::sha256(&x509)?) {
                pinned.list.push(x509);
            }
        }
        Ok(pinned)
    }

    /// The certificates, in the given order.
    pub fn list(&self) -> &[X509] {
        &self.list
    }

    /// Whether this certificate is one of them.
    pub fn contains(&self, certificate: &X509Ref) -> Result<bool, Error> {
        Ok(self.digests.contains(&certificate::sha256(certificate)?))
    }

    /// Whether the one with this SHA-256 is one of them.
    pub fn has_sha256(&self, sha256: &[u8; 32]) -> bool {
        self.digests.contains(sha256)
    }

    /// SHA-256 of each, sorted.
    pub(super) fn digests(&self) -> Vec<[u8; 32]> {
        let mut digests: Vec<_> = self.digests.iter().copied().collect();
        digests.sort_unstable();
        digests
    }
}

/// A store of OpenSSL that trusts this certificate alone, without its issuer and for any purpose, and
/// checks its times and the strength of its key. OpenSSL prefers an issuer in the store to the end of
/// the chain, so other pinned certificates in it, such as an expired CA, could refuse this one.
pub(super) fn x509_store(pinned: &X509Ref, auth_level: u32) -> Result<X509Store, Error> {
    let mut param = X509VerifyParam::new()?;
    param.set_depth(0);
    param.set_auth_level(auth_level as i32);
    param.set_flags(X509VerifyFlags::PARTIAL_CHAIN | X509VerifyFlags::IGNORE_CRITICAL)?;
    let mut builder = X509StoreBuilder::new()?;
    builder.set_param(&param)?;
    builder.add_cert(pinned.to_owned())?;
    Ok(builder.build())
}

/// A chain of a pinned certificate, with the CA that issued it if that is one of `cas`: the status
/// of the certificate is asked with it.
pub(super) fn chain(
    leaf: &X509Ref,
    cas: &[Arc<CaCertificate>],
    now: i64,
) -> Result<Stack<X509>, Error> {
    let mut chain = Stack::new()?;
    chain.push(leaf.to_owned())?;
    let mut cas = cas.iter().filter(|ca| ca.is_valid(now));
    if let Some(issuer) = cas.find(|ca| is_issuer(ca.x509(), leaf)) {
        chain.push(issuer.x509().clone())?;
    }
    openssl::error::ErrorStack::get();
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::signed_content;
    use crate::testing::{self, issue, stack, NOW};
    use crate::trust::{Intermediates, TrustStore, Verdict, VerifyOptions};
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::pkey::{PKey, Private};
    use openssl::rsa::Rsa;
    use openssl::x509::{X509Builder, X509NameBuilder};

    fn store(cas: &[Arc<CaCertificate>], pins: &[&X509]) -> TrustStore {
        let pins = pins.iter().map(|x509| (*x509).clone());
        let pinned = Arc::new(PinnedCertificates::new(pins).unwrap());
        let all = Arc::new(Intermediates::new(cas.to_vec()));
        TrustStore::with_pinned(&[], VerifyOptions::default(), &all, Some(&pinned)).unwrap()
    }

    fn verify(store: &TrustStore, leaf: &X509, now: i64) -> Verdict {
        store.verify(leaf, &stack(&[]), now).unwrap()
    }

    /// A self-signed certificate without extensions.
    fn self_signed(key: &PKey<Private>, digest: MessageDigest, version: i32) -> X509 {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", "partner").unwrap();
        let name = name.build();
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(version - 1).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        let time = |seconds| Asn1Time::from_unix(seconds).unwrap();
        builder.set_not_before(&time(NOW - 60)).unwrap();
        builder.set_not_after(&time(NOW + 60)).unwrap();
        builder.set_pubkey(key).unwrap();
        builder.sign(key, digest).unwrap();
        builder.build()
    }

    #[test]
    fn verify_accepts_a_pinned_certificate_while_it_is_valid_whoever_issued_it() {
        let pki = testing::pki();
        let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let ed = PKey::generate_ed25519().unwrap();
        let sha256 = MessageDigest::sha256();
        let ca = issue("self", None, true, 60, &[]).x509;
        let server = testing::Usage {
            extended: Some("serverAuth"),
            key: Some("keyEncipherment"),
        };
        let server = testing::issue_with_usage("server", &pki.ca, false, server).x509;
        let all = [
            self_signed(&rsa, sha256, 3),
            self_signed(&rsa, sha256, 1),
            self_signed(&ed, MessageDigest::null(), 3),
            self_signed(&testing::key(), sha256, 1),
            ca,
            pki.leaf.x509.clone(),
            server,
        ];
        let trusting = store(&[], &all.each_ref());
        let empty = store(&[], &[]);
        for pinned in &all {
            let verdict = verify(&trusting, pinned, NOW);
            assert_eq!(verdict.text(), "SUCCESS", "{pinned:?}");
            assert!(verdict.is_pinned() && verdict.cas().is_empty());
            assert!(!verify(&empty, pinned, NOW).is_success());
        }
        let first = &all[0];
        assert!(verify(&trusting, first, NOW).holds_at(NOW + 59));
        for (now, text) in [
            (NOW + 60, "FAILED:certificate has expired"),
            (NOW - 61, "FAILED:certificate is not yet valid"),
        ] {
            assert_eq!(verify(&trusting, first, now).text(), text);
        }
        // Neither what a pinned certificate issued, nor its own twin with another signature.
        let key = testing::key();
        let [pinned, twin] = [(); 2].map(|()| self_signed(&key, sha256, 3));
        assert_ne!(pinned, twin);
        assert!(!verify(&store(&[], &[&pinned]), &twin, NOW).is_success());
        let below = issue("below", Some(&pki.leaf), false, 60, &[]);
        assert!(!verify(&trusting, &below.x509, NOW).is_success());
        assert!(openssl::error::ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn verify_accepts_a_pinned_certificate_beside_its_pinned_issuer() {
        let root = issue("root", None, true, 60, &[]);
        let ca = issue("ca", Some(&root), true, 20, &[]);
        let leaf = issue("leaf", Some(&ca), false, 60, &[]);
        let below = issue("below", Some(&leaf), false, 60, &[]);
        let all = [&root.x509, &ca.x509, &leaf.x509, &below.x509];
        let trusting = store(&[], &all);
        for (pinned, now) in [(&leaf, NOW), (&leaf, NOW + 30), (&below, NOW)] {
            let verdict = verify(&trusting, &pinned.x509, now);
            assert_eq!(verdict.text(), "SUCCESS", "{:?}", pinned.x509);
        }
    }

    #[test]
    fn verify_refuses_another_encoding_of_a_pinned_certificate() {
        let pki = testing::pki();
        let order = signed_content::ec_order(&pki.ca.x509.public_key().unwrap()).unwrap();
        let der = pki.leaf.x509.to_der().unwrap();
        let alternate = signed_content::alternate_der(&der, &order).unwrap();
        let alternate = X509::from_der(&alternate).unwrap();
        let store = store(&[], &[&pki.leaf.x509]);
        assert!(verify(&store, &pki.leaf.x509, NOW).is_success());
        assert!(!verify(&store, &alternate, NOW).is_success());
    }

    #[test]
    fn verify_refuses_a_pinned_key_below_the_security_level() {
        let weak = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
        let weak = self_signed(&weak, MessageDigest::sha256(), 3);
        let verdict = verify(&store(&[], &[&weak]), &weak, NOW);
        assert_eq!(verdict.text(), "FAILED:EE certificate key too weak");
    }

    #[test]
    fn verify_prefers_the_chain_of_a_ca_to_the_pin() {
        let pki = testing::pki();
        let ca = pki.ca_certificate();
        let pins = Arc::new(PinnedCertificates::new([pki.leaf.x509.clone()]).unwrap());
        let options = VerifyOptions::default();
        let all = Arc::new(Intermediates::new(vec![ca.clone()]));
        let both =
            TrustStore::with_pinned(std::slice::from_ref(&ca), options, &all, Some(&pins)).unwrap();
        assert!(!verify(&both, &pki.leaf.x509, NOW).is_pinned());
        let cas_only =
            TrustStore::with_intermediates(std::slice::from_ref(&ca), options, &all).unwrap();
        assert_ne!(both.digest(), cas_only.digest());
        // With the issuer elsewhere in the document, the chain has it for the status.
        let pinned = store(std::slice::from_ref(&ca), &[&pki.leaf.x509]);
        let verdict = verify(&pinned, &pki.leaf.x509, NOW);
        assert!(verdict.is_pinned());
        assert_eq!(verdict.cas(), [*ca.id()]);
        let chain = pinned.chain(&pki.leaf.x509, &stack(&[]), NOW).unwrap();
        assert_eq!(chain, [pki.leaf.x509.clone(), pki.ca.x509.clone()]);
    }
}
