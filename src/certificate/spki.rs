//! Digests of the SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), which identify a public key.
//!
//! A key has several encodings, of which the certificate has the one of its signing request: a
//! point is uncompressed, compressed or hybrid (SEC 1 section 2.3.3), a curve is given by name or
//! by parameters, an RSA key has a NULL, has none, or is limited to PSS (RFC 4055 section 1.2).

use openssl::bn::BigNumContext;
use openssl::ec::{Asn1Flag, EcGroup, EcKey, EcKeyRef, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, PKeyRef, Public};
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use openssl::x509::X509Ref;

use super::der::{element, DerReader, BIT_STRING, SEQUENCE};

/// AlgorithmIdentifiers of RSA keys: rsaEncryption with NULL and without, RSASSA-PSS unlimited.
const RSA: [&[u8]; 3] = [
    &[
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ],
    &[
        0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    ],
    &[
        0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a,
    ],
];

const FORMS: [PointConversionForm; 3] = [
    PointConversionForm::UNCOMPRESSED,
    PointConversionForm::COMPRESSED,
    PointConversionForm::HYBRID,
];

/// SHA-256 of the encodings of the public key of a certificate.
#[derive(Debug)]
pub(super) struct SpkiDigests {
    /// Of the encoding in the certificate.
    original: [u8; 32],
    others: Vec<[u8; 32]>,
}

impl SpkiDigests {
    /// `None` when OpenSSL cannot read the key.
    pub(super) fn of(certificate: &X509Ref) -> Option<SpkiDigests> {
        let digests = || {
            let key = certificate.public_key()?;
            let encoded = key.public_key_to_der()?;
            let der = certificate.to_der()?;
            let original = spki_of(&der).unwrap_or(&encoded);
            let others = others(&key, &encoded)?;
            Ok::<_, ErrorStack>(SpkiDigests {
                original: sha256(original),
                others: others.iter().map(|other| sha256(other)).collect(),
            })
        };
        let digests = digests();
        if digests.is_err() {
            ErrorStack::get();
        }
        digests.ok()
    }

    /// Of the encoding in the certificate, and of the other encodings of the same key.
    pub(super) fn all(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        std::iter::once(self.original).chain(self.others.iter().copied())
    }

    /// Whether this is the digest of the encoding in the certificate; `None` if it is that of
    /// another encoding of the same key.
    pub(super) fn has(&self, digest: &[u8; 32]) -> Option<bool> {
        if self.original == *digest {
            return Some(true);
        }
        (!self.others.contains(digest)).then_some(false)
    }
}

/// SHA-256 of the SubjectPublicKeyInfo as it is in the certificate, also if OpenSSL cannot read the
/// key.
pub(super) fn original_sha256(certificate: &X509Ref) -> Option<[u8; 32]> {
    Some(sha256(spki_of(&certificate.to_der().ok()?)?))
}

/// The SubjectPublicKeyInfo in the DER of a certificate; `None` if the DER cannot be read.
fn spki_of(der: &[u8]) -> Option<&[u8]> {
    let mut tbs = DerReader(der).inside(SEQUENCE)?.inside(SEQUENCE)?;
    // version [0] DEFAULT v1; serialNumber, signature, issuer, validity, subject
    if tbs.0.first() == Some(&0xa0) {
        tbs.next(0xa0)?;
    }
    for tag in [0x02, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        tbs.next(tag)?;
    }
    Some(tbs.next(SEQUENCE)?.0)
}

/// The encodings of a key that OpenSSL reads. `encoded` is the one that it writes.
fn others(key: &PKeyRef<Public>, encoded: &[u8]) -> Result<Vec<Vec<u8>>, ErrorStack> {
    let mut others = match key.id() {
        Id::EC => points(&*key.ec_key()?)?,
        Id::RSA | Id::RSA_PSS => {
            let rsa = key.rsa()?;
            let rsa = Rsa::from_public_components(rsa.n().to_owned()?, rsa.e().to_owned()?)?;
            let bits = element(BIT_STRING, &[&[0], &rsa.public_key_to_der_pkcs1()?]);
            RSA.map(|algorithm| element(SEQUENCE, &[algorithm, &bits]))
                .to_vec()
        }
        _ => Vec::new(),
    };
    others.push(encoded.to_vec());
    Ok(others)
}

/// The encodings of an EC key with its point in each form, and the curve by name if it has one.
fn points(key: &EcKeyRef<Public>) -> Result<Vec<Vec<u8>>, ErrorStack> {
    let mut named = None;
    if let Some(name) = key.group().curve_name() {
        let mut group = EcGroup::from_curve_name(name)?;
        group.set_asn1_flag(Asn1Flag::NAMED_CURVE);
        named = Some(group);
    }
    let group = named.as_deref().unwrap_or(key.group());
    let plain = EcKey::from_public_key(group, key.public_key())?;
    let plain = PKey::from_ec_key(plain)?.public_key_to_der()?;
    let algorithm = DerReader(&plain)
        .inside(SEQUENCE)
        .and_then(|mut parts| Some(parts.next(SEQUENCE)?.0));
    let algorithm = algorithm.unwrap_or_default();
    let mut context = BigNumContext::new()?;
    let mut encodings = Vec::new();
    for form in FORMS {
        let point = key.public_key().to_bytes(group, form, &mut context)?;
        let bits = element(BIT_STRING, &[&[0], &point]);
        encodings.push(element(SEQUENCE, &[algorithm, &bits]));
    }
    Ok(encodings)
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::Private;
    use openssl::sign::Signer;
    use openssl::x509::X509;

    use super::*;
    use crate::testing::{self, Issued};

    /// A certificate with exactly this SubjectPublicKeyInfo, signed by this CA.
    fn certified(ca: &Issued, spki: &[u8]) -> X509 {
        let der = testing::issue("leaf", Some(ca), false, 60, &[]).x509;
        let der = der.to_der().unwrap();
        let mut parts = DerReader(&der).inside(SEQUENCE).unwrap();
        let (tbs, content) = parts.next(SEQUENCE).unwrap();
        let algorithm = parts.next(SEQUENCE).unwrap().0;
        let old = spki_of(&der).unwrap();
        let at = old.as_ptr() as usize - content.as_ptr() as usize;
        assert!(tbs.len() > at);
        let tbs = element(
            SEQUENCE,
            &[&content[..at], spki, &content[at + old.len()..]],
        );
        let mut signer = Signer::new(MessageDigest::sha256(), &ca.key).unwrap();
        let signature = signer.sign_oneshot_to_vec(&tbs).unwrap();
        let bits = element(BIT_STRING, &[&[0], &signature]);
        let der = element(SEQUENCE, &[&tbs, algorithm, &bits]);
        let certificate = X509::from_der(&der).unwrap();
        assert!(certificate.verify(&ca.key).unwrap());
        assert_eq!(spki_of(&certificate.to_der().unwrap()), Some(spki));
        certificate
    }

    fn ca() -> Issued {
        testing::issue("CA", None, true, 60, &[])
    }

    /// Checks that for each of the encodings of a key, its own digest is certain and those of the
    /// others are not. `other_key` is the encoding of another key.
    fn assert_same_key(ca: &Issued, encodings: &[Vec<u8>], other_key: &[u8]) {
        for (at, spki) in encodings.iter().enumerate() {
            let digests = SpkiDigests::of(&certified(ca, spki)).unwrap();
            for (other, encoding) in encodings.iter().enumerate() {
                let expected = (at == other).then_some(true);
                assert_eq!(digests.has(&sha256(encoding)), expected, "{at} {other}");
            }
            assert_eq!(digests.has(&sha256(other_key)), Some(false));
        }
    }

    fn spki(algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[algorithm, &element(BIT_STRING, &[&[0], bits])])
    }

    fn algorithm_of(der: &[u8]) -> &[u8] {
        let mut parts = DerReader(der).inside(SEQUENCE).unwrap();
        parts.next(SEQUENCE).unwrap().0
    }

    fn generate(group: &EcGroup) -> EcKey<Private> {
        EcKey::generate(group).unwrap()
    }

    fn point(key: &EcKey<Private>, form: PointConversionForm) -> Vec<u8> {
        let mut context = BigNumContext::new().unwrap();
        let point = key.public_key();
        point.to_bytes(key.group(), form, &mut context).unwrap()
    }

    fn der_of(key: &EcKey<Private>) -> Vec<u8> {
        PKey::from_ec_key(key.clone())
            .unwrap()
            .public_key_to_der()
            .unwrap()
    }

    #[test]
    fn digests_of_a_point_in_another_form_are_not_certain() {
        let ca = ca();
        for curve in [
            Nid::X9_62_PRIME256V1,
            Nid::SECP384R1,
            Nid::SECP521R1,
            Nid::BRAINPOOL_P256R1,
        ] {
            let group = EcGroup::from_curve_name(curve).unwrap();
            let key = generate(&group);
            let der = der_of(&key);
            let forms = FORMS.map(|form| spki(algorithm_of(&der), &point(&key, form)));
            assert_eq!(forms[0], der);
            assert_same_key(&ca, &forms, &der_of(&generate(&group)));
        }
    }

    /// OpenSSL recognises the curve of the parameters; a rule may have the digest of the named
    /// curve.
    #[test]
    fn digests_of_a_curve_by_its_parameters_are_not_certain() {
        let ca = ca();
        let mut group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = generate(&group);
        let named = der_of(&key);
        group.set_asn1_flag(Asn1Flag::EXPLICIT_CURVE);
        let explicit = EcKey::from_public_key(&group, key.public_key()).unwrap();
        let explicit = PKey::from_ec_key(explicit).unwrap();
        let explicit = explicit.public_key_to_der().unwrap();
        assert!(explicit.len() > named.len() + 100);
        for form in FORMS {
            let given = spki(algorithm_of(&explicit), &point(&key, form));
            let digests = SpkiDigests::of(&certified(&ca, &given)).unwrap();
            assert_eq!(digests.has(&sha256(&given)), Some(true));
            for form in FORMS {
                let other = spki(algorithm_of(&named), &point(&key, form));
                assert_eq!(digests.has(&sha256(&other)), None);
            }
            assert_eq!(digests.has(&[0; 32]), Some(false));
        }
    }

    #[test]
    fn digests_of_rsa_without_null_or_for_pss_are_not_certain() {
        let key = || Rsa::generate(2048).unwrap();
        let one = key();
        let bits = one.public_key_to_der_pkcs1().unwrap();
        let encodings = RSA.map(|algorithm| spki(algorithm, &bits));
        let der = PKey::from_rsa(one).unwrap().public_key_to_der().unwrap();
        assert_eq!(encodings[0], der);
        let other_key = PKey::from_rsa(key()).unwrap().public_key_to_der().unwrap();
        assert_same_key(&ca(), &encodings, &other_key);
    }

    /// Keys with one encoding, and a key that OpenSSL does not read.
    #[test]
    fn digests_of_keys_with_one_encoding() {
        let ca = ca();
        let key = |key: PKey<Private>| key.public_key_to_der().unwrap();
        let der = key(PKey::generate_ed25519().unwrap());
        assert_same_key(
            &ca,
            std::slice::from_ref(&der),
            &key(PKey::generate_ed25519().unwrap()),
        );
        let bits = &der[der.len() - 32..];
        let with_null = spki(&[0x30, 7, 6, 3, 0x2b, 0x65, 0x70, 5, 0], bits);
        assert!(SpkiDigests::of(&certified(&ca, &with_null)).is_none());
        assert!(ErrorStack::get().errors().is_empty());
    }
}
