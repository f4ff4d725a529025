//! A PKI for unit tests, which is generated when the tests run.

use std::sync::Arc;

use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::stack::Stack;
use openssl::x509::extension::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
};
use openssl::x509::{X509Builder, X509Extension, X509NameBuilder, X509NameRef, X509};

use crate::certificate::der::element;
use crate::trust::CaCertificate;

/// A time at which the certificates of [`pki`] are valid: 2027-01-15 08:00:00 UTC.
pub const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

/// A certificate and its key.
pub struct Issued {
    pub x509: X509,
    pub key: PKey<Private>,
}

/// A CA, an intermediate and a leaf of each.
pub struct Pki {
    pub ca: Issued,
    pub intermediate: Issued,
    /// Issued by `ca`.
    pub leaf: Issued,
    /// Issued by `intermediate`.
    pub leaf_of_intermediate: Issued,
}

impl Pki {
    /// The root.
    pub fn ca_certificate(&self) -> Arc<CaCertificate> {
        Arc::new(CaCertificate::from_x509(self.ca.x509.clone()).unwrap())
    }
}

/// Generates a PKI.
pub fn pki() -> Pki {
    let ca = issue("Test CA", None, true, DAY, &[]);
    let intermediate = issue("Test Intermediate", Some(&ca), true, DAY, &[]);
    let leaf = issue("leaf", Some(&ca), false, DAY, &["ann.example.com"]);
    let leaf_of_intermediate = issue("below", Some(&intermediate), false, DAY, &[]);
    Pki {
        ca,
        intermediate,
        leaf,
        leaf_of_intermediate,
    }
}

/// Issues a certificate that is valid from a day before [`NOW`] to `valid` seconds after it.
pub fn issue(cn: &str, issuer: Option<&Issued>, ca: bool, valid: i64, dns: &[&str]) -> Issued {
    issue_for(cn, issuer, ca, valid, dns, &key())
}

/// Generates an EC key.
pub fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// Issues another self-issued certificate for the key of `root`, with the name `cn`.
pub fn renew_as(root: &Issued, cn: &str, valid: i64) -> Issued {
    issue_for(cn, Some(root), true, valid, &[], &root.key)
}

/// Issues a client certificate that is signed with `key`.
pub fn sign_leaf(cn: &str, key: &PKey<Private>, digest: MessageDigest) -> X509 {
    let mut builder = builder(cn, None, false, 60, &[], &self::key());
    builder.sign(key, digest).unwrap();
    builder.build()
}

/// [`issue`] for a given key.
pub fn issue_for(
    cn: &str,
    issuer: Option<&Issued>,
    ca: bool,
    valid: i64,
    dns: &[&str],
    key: &PKey<Private>,
) -> Issued {
    let mut builder = builder(cn, issuer, ca, valid, dns, key);
    builder
        .sign(
            issuer.map_or(key, |issuer| &issuer.key),
            MessageDigest::sha256(),
        )
        .unwrap();
    Issued {
        x509: builder.build(),
        key: key.clone(),
    }
}

fn builder(
    cn: &str,
    issuer: Option<&Issued>,
    ca: bool,
    valid: i64,
    dns: &[&str],
    key: &PKey<Private>,
) -> X509Builder {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("O", "Example").unwrap();
    name.append_entry_by_text("CN", cn).unwrap();
    let name = name.build();

    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial
        .rand(127, openssl::bn::MsbOption::ONE, false)
        .unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&name).unwrap();
    builder
        .set_issuer_name(issuer.map_or(&*name, |issuer| issuer.x509.subject_name()))
        .unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(NOW - DAY).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::from_unix(NOW + valid).unwrap())
        .unwrap();
    builder.set_pubkey(key).unwrap();
    if ca {
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
    } else {
        builder
            .append_extension(ExtendedKeyUsage::new().client_auth().build().unwrap())
            .unwrap();
    }
    if !dns.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for name in dns {
            names.dns(name);
        }
        let extension = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(extension).unwrap();
    }
    builder
}

/// Issues another self-issued certificate of a root, with the same subject and key.
pub fn renew(ca: &Issued) -> X509 {
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(ca.x509.subject_name()).unwrap();
    builder.set_issuer_name(ca.x509.subject_name()).unwrap();
    builder.set_not_before(ca.x509.not_before()).unwrap();
    builder.set_not_after(ca.x509.not_after()).unwrap();
    builder.set_pubkey(&ca.key).unwrap();
    builder
        .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
        .unwrap();
    builder.sign(&ca.key, MessageDigest::sha256()).unwrap();
    builder.build()
}

/// Issues another certificate for subject and key of `ca`, with these times.
pub fn reissue(ca: &Issued, issuer: &Issued, from: i64, until: i64) -> X509 {
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(ca.x509.subject_name()).unwrap();
    builder.set_issuer_name(issuer.x509.subject_name()).unwrap();
    let time = |seconds| Asn1Time::from_unix(seconds).unwrap();
    builder.set_not_before(&time(from)).unwrap();
    builder.set_not_after(&time(until)).unwrap();
    builder.set_pubkey(&ca.key).unwrap();
    builder
        .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
        .unwrap();
    builder.sign(&issuer.key, MessageDigest::sha256()).unwrap();
    builder.build()
}

/// The usages of a certificate, as OpenSSL's configuration has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage<'u> {
    pub extended: Option<&'u str>,
    pub key: Option<&'u str>,
}

/// Issues a certificate with these usages and no others.
pub fn issue_with_usage(cn: &str, issuer: &Issued, ca: bool, usage: Usage<'_>) -> Issued {
    let key = key();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", cn).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name.build()).unwrap();
    builder.set_issuer_name(issuer.x509.subject_name()).unwrap();
    let time = |seconds| Asn1Time::from_unix(seconds).unwrap();
    builder.set_not_before(&time(NOW - DAY)).unwrap();
    builder.set_not_after(&time(NOW + DAY)).unwrap();
    builder.set_pubkey(&key).unwrap();
    if ca {
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
    }
    if let Some(purposes) = usage.extended {
        let mut extension = ExtendedKeyUsage::new();
        for purpose in purposes.split(',') {
            extension.other(purpose);
        }
        builder
            .append_extension(extension.build().unwrap())
            .unwrap();
    }
    if let Some(key) = usage.key {
        let mut extension = KeyUsage::new();
        match key {
            "digitalSignature" => extension.digital_signature(),
            "keyAgreement" => extension.key_agreement(),
            "keyEncipherment" => extension.key_encipherment(),
            "keyCertSign" => extension.key_cert_sign(),
            other => panic!("{other}"),
        };
        builder
            .append_extension(extension.build().unwrap())
            .unwrap();
    }
    builder.sign(&issuer.key, MessageDigest::sha256()).unwrap();
    Issued {
        x509: builder.build(),
        key,
    }
}

/// A stack of copies.
pub fn stack(certificates: &[&X509]) -> Stack<X509> {
    let mut stack = Stack::new().unwrap();
    for certificate in certificates {
        stack.push((*certificate).clone()).unwrap();
    }
    stack
}

/// Issues a certificate with this subject and this content of the subjectAltName extension.
pub fn issue_with_subject(issuer: &Issued, subject: &X509NameRef, san: Option<&[u8]>) -> X509 {
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(subject).unwrap();
    builder.set_issuer_name(issuer.x509.subject_name()).unwrap();
    let time = |seconds| Asn1Time::from_unix(seconds).unwrap();
    builder.set_not_before(&time(NOW - DAY)).unwrap();
    builder.set_not_after(&time(NOW + DAY)).unwrap();
    builder.set_pubkey(&issuer.key).unwrap();
    if let Some(der) = san {
        let oid = Asn1Object::from_str("subjectAltName").unwrap();
        let der = Asn1OctetString::new_from_bytes(der).unwrap();
        let extension = X509Extension::new_from_der(&oid, false, &der).unwrap();
        builder.append_extension(extension).unwrap();
    }
    builder.sign(&issuer.key, MessageDigest::sha256()).unwrap();
    builder.build()
}

/// Content of a subjectAltName extension, from tags (`0x86` is a URI) and contents.
pub fn san_extension(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = names
        .iter()
        .map(|(tag, name)| element(*tag, &[name]))
        .collect();
    element(0x30, &[&names.concat()])
}

/// Pseudo-random numbers (xorshift64*), which are the same in each run.
pub struct Random(pub u64);

impl Random {
    /// A number from 0 to `bound` - 1.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// True once in `count` calls on average.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// One of these values.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
