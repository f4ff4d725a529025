use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::X509;

use super::*;
use crate::testing::{self, Issued};

fn ec(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// The DER of a leaf that is signed with this key.
fn signed_by(key: &PKey<Private>) -> Vec<u8> {
    let digest = match key.id() {
        openssl::pkey::Id::ED25519 | openssl::pkey::Id::ED448 => MessageDigest::null(),
        _ => MessageDigest::sha256(),
    };
    testing::sign_leaf("leaf", key, digest).to_der().unwrap()
}

fn order_of(key: &PKey<Private>) -> Option<Vec<u8>> {
    let der = key.public_key_to_der().unwrap();
    ec_order(&PKey::public_key_from_der(&der).unwrap())
}

/// The DER that OpenSSL encodes for a certificate; `None` when it cannot read it, or when the
/// signature is not one of this key.
fn accepted(der: &[u8], key: &PKey<Private>) -> Option<Vec<u8>> {
    let public = PKey::public_key_from_der(&key.public_key_to_der().unwrap()).unwrap();
    let read = X509::from_der(der).ok();
    let verified = read.filter(|read| read.verify(&public).unwrap_or(false));
    openssl::error::ErrorStack::get();
    verified.map(|read| read.to_der().unwrap())
}

/// The parts of a certificate: TBSCertificate, outer algorithm, and the bytes of the signature.
fn parts(der: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let mut parts = DerReader(der).inside(SEQUENCE).unwrap();
    let tbs = parts.next(SEQUENCE).unwrap().0;
    let algorithm = parts.next(SEQUENCE).unwrap().0;
    (tbs, algorithm, &parts.next(BIT_STRING).unwrap().1[1..])
}

fn with(tbs: &[u8], algorithm: &[u8], bits: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[tbs, algorithm, &element(BIT_STRING, &[bits])])
}

fn with_signature(der: &[u8], signature: &[u8]) -> Vec<u8> {
    let (tbs, algorithm, _) = parts(der);
    with(tbs, algorithm, &[&[0], signature].concat())
}

/// The element with its length in more octets than needed.
fn long(element: &[u8]) -> Vec<u8> {
    let (_, content) = DerReader(element).next(element[0]).unwrap();
    let len = (content.len() as u32).to_be_bytes();
    [&[element[0], 0x84], len.as_slice(), content].concat()
}

const CURVES: [Nid; 5] = [
    Nid::X9_62_PRIME256V1,
    Nid::SECP384R1,
    Nid::SECP521R1,
    Nid::SECP256K1,
    Nid::BRAINPOOL_P256R1,
];

#[test]
fn alternate_der_verifies_with_the_same_tbs_and_is_its_own_inverse() {
    for curve in CURVES {
        // High and low values of r and s, with and without a leading zero.
        for _ in 0..20 {
            let key = ec(curve);
            let order = order_of(&key).unwrap();
            let der = signed_by(&key);
            let other = alternate_der(&der, &order).unwrap();
            assert_ne!(other, der);
            assert_eq!(accepted(&other, &key), Some(other.clone()));
            assert_eq!(tbs_sha256_of_der(&other), tbs_sha256_of_der(&der));
            assert_eq!(alternate_sha256(&der, &order), Some(sha256(&other)));
            assert_eq!(alternate_der(&other, &order).unwrap(), der);
        }
    }
}

#[test]
fn alternate_der_without_ecdsa_signature_is_none() {
    let order = order_of(&ec(Nid::X9_62_PRIME256V1)).unwrap();
    for key in [
        PKey::generate_ed25519().unwrap(),
        PKey::generate_ed448().unwrap(),
        PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
    ] {
        assert_eq!(order_of(&key), None);
        assert_eq!(alternate_der(&signed_by(&key), &order), None);
    }
    assert_eq!(alternate_der(b"", &order), None);
    // The signature is not less than the order.
    assert_eq!(alternate_der(&signed_by(&ec(Nid::SECP521R1)), &[1]), None);
}

/// All possible changes outside the signed part. `true`: OpenSSL reads and verifies the
/// certificate and encodes it as the original, so there is no second encoding.
#[test]
fn another_encoding_of_an_ecdsa_certificate_is_refused_or_becomes_the_original() {
    let key = ec(Nid::X9_62_PRIME256V1);
    let der = signed_by(&key);
    let (tbs, algorithm, signature) = parts(&der);
    let bits = element(BIT_STRING, &[&[0], signature]);
    let mut pair = DerReader(signature).inside(SEQUENCE).unwrap();
    let (r, s) = (pair.next(INTEGER).unwrap(), pair.next(INTEGER).unwrap());
    let of_pair = |r: &[u8], s: &[u8]| with_signature(&der, &element(SEQUENCE, &[r, s]));
    let zero_before = |(_, content): (&[u8], &[u8])| element(INTEGER, &[&[0], content]);
    let order = BigNum::from_slice(&order_of(&key).unwrap()).unwrap();
    let add_order = |(_, content): (&[u8], &[u8])| {
        let mut sum = BigNum::new().unwrap();
        let number = BigNum::from_slice(content).unwrap();
        sum.checked_add(&number, &order).unwrap();
        integer(&sum)
    };
    let negative = |(_, content): (&[u8], &[u8])| {
        let unsigned = content.strip_prefix(&[0]).unwrap_or(content);
        element(INTEGER, &[&[0xff], unsigned])
    };
    let oid = DerReader(algorithm).inside(SEQUENCE).unwrap().0;
    let with_null = element(SEQUENCE, &[oid, &[0x05, 0x00]]);
    let other_hash = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
    let content = &DerReader(&der).inside(SEQUENCE).unwrap().0;
    let unused =
        |count: u8, signature: &[u8]| with(tbs, algorithm, &[&[count], signature].concat());
    let shifted: Vec<u8> = [signature, &[0]].concat();
    let parts_of_bits = element(0x23, &[&bits]);
    let cases: &[(&str, Vec<u8>, bool)] = &[
        ("itself", der.clone(), true),
        ("outer length in more octets", long(&der), true),
        (
            "outer length not given",
            [&[0x30, 0x80], *content, &[0, 0]].concat(),
            true,
        ),
        (
            "TBS length in more octets",
            element(SEQUENCE, &[&long(tbs), algorithm, &bits]),
            false,
        ),
        (
            "algorithm length in more octets",
            element(SEQUENCE, &[tbs, &long(algorithm), &bits]),
            true,
        ),
        (
            "signature length in more octets",
            element(SEQUENCE, &[tbs, algorithm, &long(&bits)]),
            true,
        ),
        (
            "signature in pieces",
            element(SEQUENCE, &[tbs, algorithm, &parts_of_bits]),
            true,
        ),
        ("bytes behind it", [&der[..], &[0, 0]].concat(), true),
        (
            "a fourth element",
            element(SEQUENCE, &[content, &[0x05, 0x00]]),
            false,
        ),
        (
            "algorithm with NULL",
            with(tbs, &with_null, &[&[0], signature].concat()),
            false,
        ),
        (
            "algorithm with another hash",
            with(
                tbs,
                &element(SEQUENCE, &[&other_hash]),
                &[&[0], signature].concat(),
            ),
            false,
        ),
        ("one unused bit", unused(1, signature), false),
        ("seven unused bits", unused(7, &shifted), false),
        ("eight unused bits", unused(8, &shifted), false),
        (
            "r with a zero before it",
            of_pair(&zero_before(r), s.0),
            false,
        ),
        (
            "s with a zero before it",
            of_pair(r.0, &zero_before(s)),
            false,
        ),
        ("r + n", of_pair(&add_order(r), s.0), false),
        ("s + n", of_pair(r.0, &add_order(s)), false),
        ("negative s", of_pair(r.0, &negative(s)), false),
        (
            "length of r in more octets",
            of_pair(&long(r.0), s.0),
            false,
        ),
        (
            "length of the pair in more octets",
            with_signature(&der, &long(signature)),
            false,
        ),
        (
            "a third number",
            with_signature(&der, &element(SEQUENCE, &[r.0, s.0, &[2, 1, 0]])),
            false,
        ),
        (
            "bytes behind the pair",
            with_signature(&der, &[signature, &[0]].concat()),
            false,
        ),
        ("r and s exchanged", of_pair(s.0, r.0), false),
    ];
    for (what, bytes, same) in cases {
        let expected = same.then(|| der.clone());
        assert_eq!(accepted(bytes, &key), expected, "{what}");
    }
}

#[test]
fn another_encoding_of_an_rsa_or_eddsa_certificate_is_refused() {
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let der = signed_by(&rsa);
    let (tbs, algorithm, signature) = parts(&der);
    let oid = algorithm[2..algorithm.len() - 2].to_vec();
    let without_null = element(SEQUENCE, &[&oid]);
    let modulus = rsa.rsa().unwrap().n().to_owned().unwrap();
    let number = BigNum::from_slice(signature).unwrap();
    let mut sum = BigNum::new().unwrap();
    sum.checked_add(&number, &modulus).unwrap();
    let mut rest = BigNum::new().unwrap();
    rest.checked_sub(&modulus, &number).unwrap();
    for (what, bytes) in [
        (
            "without NULL",
            with(tbs, &without_null, &[&[0], signature].concat()),
        ),
        (
            "zero before",
            with_signature(&der, &[&[0], signature].concat()),
        ),
        (
            "zero behind",
            with_signature(&der, &[signature, &[0]].concat()),
        ),
        ("plus the modulus", with_signature(&der, &sum.to_vec())),
        ("modulus minus", with_signature(&der, &rest.to_vec())),
    ] {
        assert_eq!(accepted(&bytes, &rsa), None, "RSA: {what}");
    }

    // RFC 8032 section 5.1.7: S below L, which not every library checks.
    let l = "1000000000000000000000000000000014DEF9DEA2F79CD65812631A5CF5D3ED";
    let l = BigNum::from_hex_str(l).unwrap();
    let key = PKey::generate_ed25519().unwrap();
    let der = signed_by(&key);
    let signature = parts(&der).2;
    assert_eq!(accepted(&der, &key), Some(der.clone()));
    let little: Vec<u8> = signature[32..].iter().rev().copied().collect();
    let mut sum = BigNum::new().unwrap();
    sum.checked_add(&BigNum::from_slice(&little).unwrap(), &l)
        .unwrap();
    let mut sum = sum.to_vec_padded(32).unwrap();
    sum.reverse();
    let bytes = with_signature(&der, &[&signature[..32], &sum].concat());
    assert_eq!(accepted(&bytes, &key), None);
}

/// A certificate with one changed byte outside the signed part is unreadable, fails
/// verification, or is encoded as the original. (The alternate encoding differs in more than
/// one byte.)
#[test]
fn no_change_of_one_byte_around_the_tbs_makes_a_second_certificate() {
    for key in [
        ec(Nid::X9_62_PRIME256V1),
        PKey::generate_ed25519().unwrap(),
        PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(),
    ] {
        let der = signed_by(&key);
        // 30 82 xx xx precede the TBSCertificate.
        let behind = 4 + parts(&der).0.len();
        for at in (0..4).chain(behind..der.len()) {
            // All values in the structure, some in the signature value.
            let structure = at < behind + 28;
            for value in (0..=255u8).step_by(if structure { 1 } else { 85 }) {
                let mut bytes = der.clone();
                bytes[at] = value;
                if let Some(encoded) = accepted(&bytes, &key) {
                    assert_eq!(encoded, der, "byte {at} as {value}");
                }
            }
        }
    }
}

fn renewed(cn: &str, issuer: &Issued, key: &Issued) -> X509 {
    testing::issue_for(cn, Some(issuer), true, 60, &[], &key.key).x509
}

#[test]
fn ca_id_depends_on_subject_and_key() {
    let root = testing::issue("Root", None, true, 60, &[]);
    let (one, other) = (
        testing::issue("Partner", Some(&root), true, 60, &[]),
        testing::issue("Partner", Some(&root), true, 60, &[]),
    );
    let id = |certificate: &X509| ca_id(certificate).unwrap();
    let order = ec_order(&root.x509.public_key().unwrap()).unwrap();
    let alternate = alternate_der(&one.x509.to_der().unwrap(), &order).unwrap();
    assert_eq!(id(&X509::from_der(&alternate).unwrap()), id(&one.x509));
    assert_eq!(id(&renewed("Partner", &root, &one)), id(&one.x509));
    assert_eq!(id(&renewed("Partner", &one, &one)), id(&one.x509));
    assert_eq!(id(&renewed(" partner  ", &root, &one)), id(&one.x509));
    assert_ne!(id(&renewed("Partners", &root, &one)), id(&one.x509));
    assert_ne!(id(&other.x509), id(&one.x509));
}

#[test]
fn tbs_sha256_of_der_of_other_bytes_is_none() {
    let der = signed_by(&ec(Nid::X9_62_PRIME256V1));
    assert!(tbs_sha256_of_der(&der).is_some());
    for len in 0..der.len() {
        assert_eq!(tbs_sha256_of_der(&der[..len]), None, "{len}");
    }
    assert_eq!(tbs_sha256_of_der(&[0x30, 0x80, 0x30, 0, 0, 0]), None);
    assert_eq!(tbs_sha256_of_der(&[0x30, 0x85, 1, 1, 1, 1, 1]), None);
}
