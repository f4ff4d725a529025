use super::parsed::{BEGIN, END};
use super::*;
use crate::certificate::der::element as der;
use crate::testing::{issue, stack, Issued, NOW};
use crate::trust::test_ca::{now, TestCa};
use crate::trust::{CertificationPath, TrustStore, VerifyOptions};
use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use openssl::x509::extension::{AuthorityKeyIdentifier, BasicConstraints, SubjectKeyIdentifier};
use openssl::x509::X509Crl;

const DAY: i64 = 86_400;

/// A CRL that is encoded here, by default in force for a day from `testing::NOW`, 2027-01-15
/// 08:00:00.
pub(super) struct TestCrl<'a> {
    pub(super) issuer: &'a Issued,
    pub(super) this: &'a str,
    pub(super) next: &'a str,
    pub(super) entries: Vec<u8>,
    pub(super) extensions: Vec<u8>,
}

impl TestCrl<'_> {
    pub(super) fn by(issuer: &Issued) -> TestCrl<'_> {
        TestCrl {
            issuer,
            this: "270115080000Z",
            next: "270116080000Z",
            entries: Vec::new(),
            extensions: Vec::new(),
        }
    }

    pub(super) fn with(mut self, extension: Vec<u8>) -> Self {
        self.extensions.extend(extension);
        self
    }

    /// Adds an entry with a revocation date an hour before NOW.
    pub(super) fn revoke(mut self, serial: &[u8], extensions: &[u8]) -> Self {
        let extensions = match extensions {
            [] => Vec::new(),
            extensions => der(0x30, &[extensions]),
        };
        let time = der(0x17, &[b"270115070000Z"]);
        self.entries
            .extend(der(0x30, &[&der(0x02, &[serial]), &time, &extensions]));
        self
    }

    pub(super) fn der(&self) -> Vec<u8> {
        self.signed_with(&self.issuer.key)
    }

    pub(super) fn signed_with(&self, key: &PKey<Private>) -> Vec<u8> {
        let time = |text: &str| match text {
            "" => Vec::new(),
            text => der(0x17, &[text.as_bytes()]),
        };
        // ecdsa-with-SHA256, sha256WithRSAEncryption
        let algorithm: &[u8] = match key.id() {
            openssl::pkey::Id::RSA => {
                b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"
            }
            _ => b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
        };
        let entries = match &self.entries[..] {
            [] => Vec::new(),
            entries => der(0x30, &[entries]),
        };
        let list = der(
            0x30,
            &[
                b"\x02\x01\x01",
                algorithm,
                &self.issuer.x509.subject_name().to_der().unwrap(),
                &time(self.this),
                &time(self.next),
                &entries,
                &der(0xa0, &[&der(0x30, &[&self.extensions])]),
            ],
        );
        let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
        let signature = signer.sign_oneshot_to_vec(&list).unwrap();
        der(
            0x30,
            &[&list, algorithm, &der(0x03, &[b"\x00", &signature])],
        )
    }

    fn pem(&self) -> String {
        format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(self.der()))
    }
}

/// An issuingDistributionPoint with one boolean: 0x81 onlyContainsUserCerts, 0x82
/// onlyContainsCACerts, 0x84 indirectCRL, 0x85 onlyContainsAttributeCerts.
pub(super) fn only(tag: u8) -> Vec<u8> {
    ce(28, true, &der(0x30, &[&[tag, 1, 0xff]]))
}

/// A cRLReason.
pub(super) fn code(code: u8) -> Vec<u8> {
    ce(21, false, &[0x0a, 1, code])
}

/// A cRLNumber.
pub(super) fn number(number: u8) -> Vec<u8> {
    ce(20, false, &[2, 1, number])
}

/// A deltaCRLIndicator.
pub(super) fn delta(base: u8) -> Vec<u8> {
    ce(27, true, &[2, 1, base])
}

/// Extension 2.5.29.`id`.
pub(super) fn ce(id: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { b"\x01\x01\xff" } else { b"" };
    der(
        0x30,
        &[b"\x06\x03\x55\x1d", &[id], critical, &der(0x04, &[value])],
    )
}

pub(super) fn serial(certificate: &X509Ref) -> Vec<u8> {
    certificate.serial_number().to_bn().unwrap().to_vec()
}

fn ca() -> Issued {
    issue("CA", None, true, DAY, &[])
}

/// A CA named CA, or a leaf, with an authorityKeyIdentifier, by which OpenSSL selects one of
/// several CAs with the same name.
fn issue_with_key_ids(issuer: &Issued, ca: bool) -> Issued {
    let plain = issue(if ca { "CA" } else { "leaf" }, Some(issuer), ca, DAY, &[]);
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder
        .set_serial_number(plain.x509.serial_number())
        .unwrap();
    builder.set_subject_name(plain.x509.subject_name()).unwrap();
    builder.set_issuer_name(plain.x509.issuer_name()).unwrap();
    builder.set_not_before(plain.x509.not_before()).unwrap();
    builder.set_not_after(plain.x509.not_after()).unwrap();
    builder.set_pubkey(&plain.key).unwrap();
    if ca {
        let constraints = BasicConstraints::new().critical().ca().build();
        builder.append_extension(constraints.unwrap()).unwrap();
        let context = builder.x509v3_context(None, None);
        let id = SubjectKeyIdentifier::new().build(&context).unwrap();
        builder.append_extension(id).unwrap();
    }
    if issuer.x509.subject_key_id().is_some() {
        let context = builder.x509v3_context(Some(&issuer.x509), None);
        let id = AuthorityKeyIdentifier::new().keyid(true).build(&context);
        builder.append_extension(id.unwrap()).unwrap();
    }
    builder.sign(&issuer.key, MessageDigest::sha256()).unwrap();
    Issued {
        x509: builder.build(),
        key: plain.key,
    }
}

fn leaf(ca: &Issued) -> Issued {
    issue("leaf", Some(ca), false, DAY, &[])
}

fn load(bytes: &[u8], issuer: &Issued) -> Result<Crl, String> {
    let crl = Crl::load(bytes, &issuer.x509, LARGEST);
    assert!(ErrorStack::get().errors().is_empty());
    crl
}

#[track_caller]
fn assert_no_crl(bytes: &[u8], issuer: &Issued, why: &str) {
    let status = match load(bytes, issuer) {
        Ok(crl) => crl.status(&leaf(issuer).x509, &issuer.x509, NOW),
        Err(why) => RevocationStatus::Unknown(why),
    };
    assert_eq!(status, RevocationStatus::Unknown(why.to_owned()));
}

#[test]
fn status_by_a_crl_of_openssl_ca() {
    let ca = TestCa::new();
    let good = ca.issue("good", "extendedKeyUsage=clientAuth").x509;
    let bad = ca.issue("bad", "extendedKeyUsage=clientAuth").x509;
    let plain = ca.issue("plain", "extendedKeyUsage=clientAuth").x509;
    ca.add_to_database(&good, 'V', "");
    ca.add_to_database(&bad, 'R', "260102030405Z,superseded");
    ca.add_to_database(&plain, 'R', "260102030406Z");
    let pem = ca.crl("", &[]);
    let from_pem = Crl::load(&pem, &ca.x509, LARGEST).unwrap();
    let der = X509Crl::from_pem(&pem).unwrap().to_der().unwrap();
    let from_der = Crl::load(&der, &ca.x509, LARGEST).unwrap();
    for crl in [from_pem, from_der] {
        let until = crl.next_update().unwrap();
        assert!((until - now() - DAY).abs() < 60);
        assert_eq!(
            crl.status(&good, &ca.x509, now()),
            RevocationStatus::Good { until }
        );
        let since = Some(1_767_323_045);
        assert_eq!(
            crl.status(&bad, &ca.x509, now()),
            RevocationStatus::Revoked {
                until,
                since,
                reason: "superseded"
            }
        );
        let since = Some(1_767_323_046);
        assert_eq!(
            crl.status(&plain, &ca.x509, now()),
            RevocationStatus::Revoked {
                until,
                since,
                reason: "unspecified"
            }
        );
    }
}

#[test]
fn status_without_entry_by_partial_and_delta_crls_of_openssl_ca() {
    let ca = TestCa::new();
    let points = "extendedKeyUsage=clientAuth\ncrlDistributionPoints = a, b\n\
                  [a]\nfullname = URI:http://a.example/1.crl, URI:ldap://a.example/1\n\
                  [b]\nfullname = URI:http://b.example/{2}.crl\n";
    let good = ca.issue("good", points).x509;
    let bad = ca.issue("bad", points).x509;
    ca.add_to_database(&bad, 'R', "260102030405Z");
    let (one, two) = ("http://a.example/1.crl", "http://b.example/%7B2%7D.crl");
    let other_point = "is for another distribution point";
    // The URL that it was fetched from, and why it makes no certificate good.
    for (extensions, url, why) in [
        ("critical,@idp\n[idp]\nonlyuser=TRUE", one, ""),
        ("@idp\n[idp]\nonlyuser=TRUE", "", ""),
        (
            "critical,@idp\n[idp]\nonlyCA=TRUE",
            one,
            "covers only certificates of CAs",
        ),
        (
            "critical,@idp\n[idp]\nonlyAA=TRUE",
            one,
            "covers only attribute certificates",
        ),
        ("critical,@idp\n[idp]\nindirectCRL=TRUE", one, "is indirect"),
        (
            "@idp\n[idp]\nonlysomereasons=keyCompromise",
            one,
            "covers only some reasons",
        ),
        (
            "critical,@idp\n[idp]\nfullname=URI:http://a.example/1.crl",
            one,
            "",
        ),
        (
            "critical,@idp\n[idp]\nonlyuser=TRUE\nfullname=URI:ldap://a.example/1",
            one,
            "",
        ),
        (
            "critical,@idp\n[idp]\nfullname=URI:http://a.example/1.crl",
            two,
            other_point,
        ),
        (
            "critical,@idp\n[idp]\nfullname=URI:http://b.example/{2}.crl",
            two,
            "",
        ),
        (
            "critical,@idp\n[idp]\nfullname=URI:http://a.example/2.crl",
            one,
            other_point,
        ),
        (
            "critical,@idp\n[idp]\nfullname=URI:http://a.example/1.crl",
            "",
            other_point,
        ),
        (
            "@idp\n[idp]\nrelativename=name\n[name]\nCN=1",
            one,
            other_point,
        ),
    ] {
        let crl = ca.crl(&format!("issuingDistributionPoint={extensions}"), &[]);
        let crl = Crl::load(&crl, &ca.x509, LARGEST).unwrap();
        let status = |leaf| crl.status_from(leaf, &ca.x509, url, now());
        match why {
            "" => assert!(
                matches!(status(&good), RevocationStatus::Good { .. }),
                "{extensions} {:?}",
                status(&good)
            ),
            why => assert_eq!(
                status(&good),
                RevocationStatus::Unknown(format!("CRL of 'CN=Test CA,O=Example': {why}")),
                "{extensions}"
            ),
        }
        let revoked = matches!(status(&bad), RevocationStatus::Revoked { .. });
        assert!(revoked, "{extensions}");
    }
    let delta = "CRL of 'CN=Test CA,O=Example': is a delta CRL";
    for extensions in ["2.5.29.27=critical,DER:020107", "2.5.29.27=DER:020107"] {
        let crl = Crl::load(&ca.crl(extensions, &[]), &ca.x509, LARGEST).unwrap();
        let status = |leaf| crl.status_from(leaf, &ca.x509, one, now());
        assert_eq!(status(&good), RevocationStatus::Unknown(delta.to_owned()));
        assert!(matches!(status(&bad), RevocationStatus::Revoked { .. }));
    }
}

#[test]
fn load_large_crl_checks_the_signature_by_its_digest() {
    let rsa = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    for key in [rsa, crate::testing::key()] {
        let ca = crate::testing::issue_for("CA", None, true, DAY, &[], &key);
        let leaf = leaf(&ca);
        let made = (0..1000_u32).fold(TestCrl::by(&ca), |made, number| {
            made.revoke(&(0x4000_0000 + number).to_be_bytes(), b"")
        });
        let made = made.revoke(&serial(&leaf.x509), b"");
        let der = made.der();
        let crl = load(&der, &ca).unwrap();
        assert!(matches!(
            crl.status(&leaf.x509, &ca.x509, NOW),
            RevocationStatus::Revoked { .. }
        ));
        let bad = "CRL of 'CN=CA,O=Example': bad signature";
        for at in [der.len() / 2, der.len() - 5] {
            let mut changed = der.clone();
            changed[at] ^= 1;
            assert_eq!(load(&changed, &ca).map(|_| ()), Err(bad.to_owned()));
        }
        let other = ca_of_another_kind(&key);
        assert_eq!(load(&der, &other).map(|_| ()), Err(bad.to_owned()));
    }
}

#[test]
fn add_reads_a_signature_with_unused_bits_which_is_bad() {
    let ca = ca();
    for entries in [1, 2000_u32] {
        let made = (0..entries).fold(TestCrl::by(&ca), |made, number| {
            made.revoke(&(0x4000_0000 + number).to_be_bytes(), b"")
        });
        let mut der = made.der();
        let signature = super::encoded::EncodedCrl::read(&der).unwrap().signature;
        let unused_bits = der.len() - signature.len() - 1;
        load(&der, &ca).unwrap();
        der[unused_bits] = 1;
        let bad = "CRL of 'CN=CA,O=Example': bad signature";
        assert_no_crl(&der, &ca, bad);
        assert_eq!(CrlSet::default().add("", &der), Ok(1));
        der[unused_bits] = 8;
        assert!(CrlSet::default().add("", &der).is_err());
    }
}

/// A CA named CN=CA,O=Example with an EC key if `key` is RSA, and else with an RSA key.
fn ca_of_another_kind(key: &PKey<Private>) -> Issued {
    let other = match key.id() {
        openssl::pkey::Id::RSA => crate::testing::key(),
        _ => PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap(),
    };
    crate::testing::issue_for("CA", None, true, DAY, &[], &other)
}

#[test]
fn status_without_entry_is_unknown_by_unsupported_crls() {
    let ca = ca();
    let entry = "CRL of 'CN=CA,O=Example': has an entry with a critical extension or of another \
                 issuer";
    for (made, why) in [
        (
            TestCrl::by(&ca).with(ce(46, true, b"\x30\x00")),
            "CRL of 'CN=CA,O=Example': has the critical extension X509v3 Freshest CRL",
        ),
        (
            TestCrl::by(&ca)
                .with(ce(20, false, b"\x02\x01\x01"))
                .with(ce(99, true, b"")),
            "CRL of 'CN=CA,O=Example': has the critical extension 2.5.29.99",
        ),
        (
            TestCrl {
                next: "",
                ..TestCrl::by(&ca)
            },
            "CRL of 'CN=CA,O=Example': has no nextUpdate",
        ),
        (
            TestCrl::by(&ca)
                .revoke(b"\x01", b"")
                .revoke(b"\x02", &ce(99, true, b"")),
            entry,
        ),
        // certificateIssuer, which is to be critical.
        (
            TestCrl::by(&ca).revoke(b"\x02", &ce(29, false, b"\x30\x00")),
            entry,
        ),
    ] {
        assert_no_crl(&made.der(), &ca, why);
    }
    let known = TestCrl::by(&ca)
        .with(ce(35, true, b"\x30\x00"))
        .with(ce(46, false, b"\x30\x00"))
        .revoke(b"\x02", &ce(99, false, b""));
    assert!(load(&known.der(), &ca).is_ok());
}

#[test]
fn load_crl_of_another_issuer_is_an_error() {
    let (one, other) = (ca(), issue("Other CA", None, true, DAY, &[]));
    assert_no_crl(
        &TestCrl::by(&other).der(),
        &one,
        "CRL of 'CN=Other CA,O=Example', expected one of 'CN=CA,O=Example'",
    );
    // A CA with the same name has another key.
    let signature = "CRL of 'CN=CA,O=Example': bad signature";
    assert_no_crl(&TestCrl::by(&ca()).der(), &one, signature);
    assert_no_crl(&TestCrl::by(&one).signed_with(&other.key), &one, signature);
}

#[test]
fn load_changed_crl_is_an_error() {
    let ca = ca();
    let leaf = leaf(&ca);
    let der = TestCrl::by(&ca).revoke(b"\x05", b"").der();
    let good = load(&der, &ca).unwrap().status(&leaf.x509, &ca.x509, NOW);
    assert_eq!(good, RevocationStatus::Good { until: NOW + DAY });
    for index in 0..der.len() * 8 {
        let mut changed = der.clone();
        changed[index / 8] ^= 1 << (index % 8);
        if let Ok(crl) = load(&changed, &ca) {
            // The unused bits of the BIT STRING of the signature.
            assert_eq!(crl.status(&leaf.x509, &ca.x509, NOW), good, "bit {index}");
        }
    }
    for len in 0..der.len() {
        assert!(load(&der[..len], &ca).is_err(), "{len}");
    }
}

#[test]
fn status_without_entry_is_unknown_if_the_issuer_lacks_crl_sign() {
    let ca = TestCa::root("No CRLs", "keyCertSign");
    let leaf = ca.issue("leaf", "extendedKeyUsage=clientAuth").x509;
    let status = || {
        let crl = Crl::load(&ca.crl("", &[]), &ca.x509, LARGEST).unwrap();
        crl.status(&leaf, &ca.x509, now())
    };
    let why = "CRL of 'CN=No CRLs,O=Example': its issuer has a key usage without cRLSign";
    assert_eq!(status(), RevocationStatus::Unknown(why.to_owned()));
    // The CRL still revokes certificates.
    ca.add_to_database(&leaf, 'R', "260102030405Z");
    assert!(matches!(status(), RevocationStatus::Revoked { .. }));
}

#[test]
fn load_other_bytes_is_an_error() {
    let ca = ca();
    let made = TestCrl::by(&ca);
    let none = "no CRL found, expected DER or PEM blocks '-----BEGIN X509 CRL-----'";
    assert_no_crl(b"", &ca, none);
    assert_no_crl(b"0", &ca, none);
    assert_no_crl(b"<html>Not Found</html>", &ca, none);
    assert_no_crl(&ca.x509.to_pem().unwrap(), &ca, none);
    assert_no_crl(
        &ca.x509.to_der().unwrap(),
        &ca,
        "not a readable CRL: its DER is malformed or cut",
    );
    assert_no_crl(
        &[made.der(), vec![0; 3]].concat(),
        &ca,
        "3 bytes follow the CRL",
    );
    for ending in ["\n", "\r\n", " \n\n"] {
        let der = [&made.der()[..], ending.as_bytes()].concat();
        assert!(load(&der, &ca).is_ok());
    }
    let pem = made.pem();
    assert_no_crl(
        pem.repeat(2).as_bytes(),
        &ca,
        "2 CRLs found, expected exactly one",
    );
    let end = pem.find(END).unwrap();
    assert_no_crl(
        &pem.as_bytes()[..end],
        &ca,
        "PEM block without its END line",
    );
    let encrypted = pem.replace(
        BEGIN,
        &format!("{BEGIN}\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n"),
    );
    assert_no_crl(
        encrypted.as_bytes(),
        &ca,
        "PEM block: Invalid symbol 45, offset 4.",
    );
    let der = made.der();
    let why = format!(
        "CRL of {} bytes is over the limit of {}",
        der.len(),
        der.len() - 1
    );
    assert_eq!(
        Crl::load(&der, &ca.x509, der.len() - 1).map(|_| ()),
        Err(why)
    );
    assert!(load(
        format!("# text\r\n{}", pem.replace('\n', "\r\n")).as_bytes(),
        &ca
    )
    .is_ok());
}

#[test]
fn load_invalid_time_is_an_error() {
    let ca = ca();
    for made in [
        TestCrl {
            this: "271315080000Z",
            ..TestCrl::by(&ca)
        },
        TestCrl {
            next: "271315080000Z",
            ..TestCrl::by(&ca)
        },
    ] {
        assert_no_crl(&made.der(), &ca, "not a readable CRL: bad time");
    }
}

#[test]
fn status_tolerates_a_clock_skew_of_five_minutes() {
    let ca = ca();
    let leaf = leaf(&ca);
    let crl = load(&TestCrl::by(&ca).der(), &ca).unwrap();
    let unknown = |why: &str| RevocationStatus::Unknown(format!("CRL of 'CN=CA,O=Example': {why}"));
    let good = RevocationStatus::Good { until: NOW + DAY };
    assert_eq!(
        crl.status(&leaf.x509, &ca.x509, NOW - 301),
        unknown("thisUpdate is 301 s in the future")
    );
    assert_eq!(crl.status(&leaf.x509, &ca.x509, NOW - 300), good);
    assert_eq!(crl.status(&leaf.x509, &ca.x509, NOW + DAY + 299), good);
    assert_eq!(
        crl.status(&leaf.x509, &ca.x509, NOW + DAY + 300),
        unknown("nextUpdate was 300 s ago")
    );
}

#[test]
fn status_of_a_certificate_of_another_issuer_is_unknown() {
    let ca = ca();
    let other = issue("Other CA", None, true, DAY, &[]);
    let crl = load(&TestCrl::by(&ca).der(), &ca).unwrap();
    assert_eq!(
        crl.status(&leaf(&other).x509, &other.x509, NOW),
        RevocationStatus::Unknown(
            "CRL of 'CN=CA,O=Example': does not cover certificates of 'CN=Other \
             CA,O=Example'"
                .to_owned()
        )
    );
}

#[test]
fn status_of_a_certificate_of_a_ca_with_the_same_name_is_unknown() {
    let (ca, other_key) = (self::ca(), self::ca());
    let crl = load(&TestCrl::by(&ca).der(), &ca).unwrap();
    assert_eq!(
        crl.status(&leaf(&other_key).x509, &other_key.x509, NOW),
        RevocationStatus::Unknown("CRL of 'CN=CA,O=Example': bad signature".to_owned())
    );
}

#[test]
fn status_with_remove_from_crl_is_good() {
    let ca = ca();
    let leaf = leaf(&ca);
    let entry = |code: u8| {
        let made = TestCrl::by(&ca).revoke(&serial(&leaf.x509), &ce(21, false, &[0x0a, 1, code]));
        load(&made.der(), &ca)
            .unwrap()
            .status(&leaf.x509, &ca.x509, NOW)
    };
    let (until, since) = (NOW + DAY, Some(NOW - 3600));
    assert_eq!(
        entry(6),
        RevocationStatus::Revoked {
            until,
            since,
            reason: "certificateHold"
        }
    );
    assert_eq!(entry(8), RevocationStatus::Good { until });
}

#[test]
fn status_is_found_among_100_000_entries_in_microseconds() {
    let ca = ca();
    let made = (0..100_000u32)
        .rev()
        .fold(TestCrl::by(&ca), |made, number| {
            let mut serial = vec![0x40; 16];
            serial[12..].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
            made.revoke(&serial, b"")
        });
    let leaf = leaf(&ca);
    let made = made.revoke(&serial(&leaf.x509), b"");
    let (good, der) = (issue("good", Some(&ca), false, DAY, &[]), made.der());
    let start = std::time::Instant::now();
    let crl = load(&der, &ca).unwrap();
    let loaded = start.elapsed();
    let start = std::time::Instant::now();
    for _ in 0..500 {
        assert!(matches!(
            crl.status(&leaf.x509, &ca.x509, NOW),
            RevocationStatus::Revoked { .. }
        ));
        assert!(matches!(
            crl.status(&good.x509, &ca.x509, NOW),
            RevocationStatus::Good { .. }
        ));
    }
    let each = start.elapsed() / 1000;
    println!(
        "100,001 entries, {} bytes: load {loaded:?}, status {each:?}",
        der.len()
    );
    let memory = crl.memory() as f64 / 100_001.0;
    println!("{memory:.1} bytes of memory an entry");
    assert!(memory <= 40.0, "{memory}");
    // The budget is 10 us; unoptimised, on a busy machine, a linear search still takes 1 ms.
    assert!(each.as_micros() < 100, "{each:?}");
}

fn set(ders: &[&[u8]]) -> CrlSet {
    let mut set = CrlSet::default();
    for der in ders {
        assert_eq!(set.add("", der), Ok(1));
    }
    set
}

/// The verified path of leaf, intermediates and anchor.
fn path(certificates: &[&X509], now: i64) -> CertificationPath {
    let [leaf, untrusted @ .., anchor] = certificates else {
        panic!()
    };
    path_with(&[anchor], leaf, untrusted, now)
}

/// The verified path of a leaf with these CAs in the store, each of which may be the anchor.
pub(super) fn path_with(
    cas: &[&X509],
    leaf: &X509,
    untrusted: &[&X509],
    now: i64,
) -> CertificationPath {
    let ca = |ca: &&X509| Arc::new(CaCertificate::from_x509((*ca).clone()).unwrap());
    let cas: Vec<_> = cas.iter().map(ca).collect();
    let options = VerifyOptions {
        allow_partial_chain: true,
        ..VerifyOptions::default()
    };
    let store = TrustStore::new(&cas, options).unwrap();
    let path = store.path(leaf, &stack(untrusted), now).unwrap();
    assert!(!path.chain().is_empty());
    path
}

fn check_all(set: &CrlSet, certificates: &[&X509], now: i64) -> (i32, u32) {
    let verdict = check(set, certificates, now);
    (verdict.code, verdict.depth)
}

fn check(set: &CrlSet, certificates: &[&X509], now: i64) -> CrlVerdict {
    set.check(&path(certificates, now), now)
}

/// OpenSSL's check of each certificate below the anchor: the first error and its depth.
fn check_with_openssl(set: &CrlSet, certificates: &[&X509], now: i64) -> (i32, u32) {
    let path = path(certificates, now);
    for subject in PathCertificate::all(&path) {
        let crls: Vec<_> = set
            .crls
            .iter()
            .map(|crl| X509Crl::from_der(&crl.der).unwrap())
            .collect();
        let crls = crls.iter().map(|crl| &**crl);
        if subject.above.is_empty() {
            break;
        }
        match crate::openssl_ext::crl_check::crl_status(
            subject.certificate,
            subject.above,
            crls,
            now,
        )
        .unwrap()
        {
            0 => {}
            code => {
                let depth = certificates.len() - 1 - subject.above.len();
                return (code, depth as u32);
            }
        }
    }
    (0, 0)
}

#[track_caller]
fn assert_verdict(ders: &[&[u8]], certificates: &[&X509], code: i32, depth: u32, until: i64) {
    let set = set(ders);
    // Twice, the second time with cached signature checks.
    for _ in 0..2 {
        let verdict = check(&set, certificates, NOW);
        assert_eq!((verdict.code, verdict.depth), (code, depth));
        assert!(verdict.until > NOW);
        assert!(code != 0 || verdict.until == until);
    }
    assert!(ErrorStack::get().errors().is_empty());
    assert_eq!(check_with_openssl(&set, certificates, NOW), (code, depth));
}

#[test]
fn check_agrees_with_openssl() {
    let pki = crate::testing::pki();
    let chain = [
        &pki.leaf_of_intermediate.x509,
        &pki.intermediate.x509,
        &pki.ca.x509,
    ];
    let (leaf, intermediate) = (serial(chain[0]), serial(chain[1]));
    let by_ca = || TestCrl::by(&pki.ca);
    let by_intermediate = || TestCrl::by(&pki.intermediate);
    let (upper, lower) = (by_ca().der(), by_intermediate().der());

    let end = NOW + DAY;
    assert_verdict(&[&upper, &lower], &chain, 0, 0, end);
    let short = TestCrl {
        next: "270115080100Z",
        ..by_ca()
    }
    .der();
    assert_verdict(&[&short, &lower], &chain, 0, 0, NOW + 60);

    assert_verdict(&[], &chain, 3, 0, NOW);
    assert_verdict(&[&upper], &chain, 3, 0, NOW);
    // The intermediate needs no CRL if there is none of its issuer. OpenSSL requires one.
    assert_eq!(check_all(&set(&[&lower]), &chain, NOW), (0, 0));
    assert_eq!(check_with_openssl(&set(&[&lower]), &chain, NOW), (3, 1));

    let revoked = by_intermediate().revoke(&leaf, b"").der();
    assert_verdict(&[&upper, &revoked], &chain, 23, 0, NOW);
    let revoked_intermediate = by_ca().revoke(&leaf, b"").revoke(&intermediate, b"").der();
    assert_verdict(&[&revoked_intermediate, &lower], &chain, 23, 1, NOW);
    let another = by_intermediate().revoke(&intermediate, b"").der();
    assert_verdict(&[&upper, &another], &chain, 0, 0, end);
    let removed = by_intermediate()
        .revoke(&leaf, &ce(21, false, b"\x0a\x01\x08"))
        .der();
    assert_verdict(&[&upper, &removed], &chain, 0, 0, end);

    let expired = TestCrl {
        this: "270114080000Z",
        next: "270115080000Z",
        ..by_intermediate()
    };
    assert_verdict(&[&upper, &expired.der()], &chain, 12, 0, NOW);
    let future = TestCrl {
        this: "270115080001Z",
        ..by_intermediate()
    };
    assert_verdict(&[&upper, &future.der()], &chain, 11, 0, NOW);
    let forged = by_intermediate().signed_with(&pki.ca.key);
    assert_verdict(&[&upper, &forged], &chain, 8, 0, NOW);

    // Of several CRLs in force the newest is used.
    let older = TestCrl {
        this: "270115070000Z",
        ..by_intermediate()
    }
    .revoke(&leaf, b"")
    .der();
    assert_verdict(&[&upper, &older, &lower], &chain, 0, 0, end);
    assert_verdict(&[&upper, &lower, &older], &chain, 0, 0, end);
    let older = TestCrl {
        this: "270115070000Z",
        ..by_intermediate()
    }
    .der();
    assert_verdict(&[&upper, &older, &revoked], &chain, 23, 0, NOW);
    // A CRL that is not yet valid makes no certificate good, but revokes.
    let soon = TestCrl {
        this: "270115083000Z",
        ..by_intermediate()
    }
    .revoke(&leaf, b"")
    .der();
    let soon = set(&[&upper, &lower, &soon]);
    assert_eq!(check(&soon, &chain, NOW).code, 23);
    assert_eq!(check_with_openssl(&soon, &chain, NOW), (0, 0));
    let gone = TestCrl {
        this: "270115073000Z",
        next: "270115080000Z",
        ..by_intermediate()
    };
    assert_verdict(&[&upper, &older, &gone.der()], &chain, 0, 0, end);
}

#[test]
fn check_crl_by_a_former_key_of_the_ca_agrees_with_openssl() {
    let root = TestCa::new();
    let old = root.sub_ca("Rollover");
    let new = old.sub_ca("Rollover");
    let leaf = new.issue("leaf", "authorityKeyIdentifier = keyid").x509;
    // A minute later, because the CRLs are made after this line.
    let (chain, now) = ([&leaf, &new.x509, &old.x509, &root.x509], now() + 60);
    let by = |ca: &TestCa| {
        X509Crl::from_pem(&ca.crl("", &[]))
            .unwrap()
            .to_der()
            .unwrap()
    };
    for set in [
        set(&[&by(&root), &by(&old)]),
        set(&[&by(&root), &by(&new), &by(&old)]),
    ] {
        assert_eq!(check(&set, &chain, now).code, 0);
        assert_eq!(check_with_openssl(&set, &chain, now), (0, 0));
    }
    // A CRL by the new key does not cover the certificate that the old key signed.
    let only_new = set(&[&by(&root), &by(&new)]);
    assert_eq!(check_all(&only_new, &chain, now), (3, 1));
    assert_eq!(check_with_openssl(&only_new, &chain, now), (3, 1));
    let why = "CRL of 'CN=Rollover,O=Example': signed with another key of this issuer";
    let loaded = Crl::load(&by(&new), &old.x509, LARGEST);
    assert_eq!(loaded.map(|_| ()), Err(why.to_owned()));
    old.add_to_database(&leaf, 'R', "260102030405Z");
    let set = set(&[&by(&root), &by(&old)]);
    assert_eq!(check_all(&set, &chain, now), (23, 0));
    assert_eq!(check_with_openssl(&set, &chain, now), (23, 0));
}

#[test]
fn check_issuer_without_crl_sign_agrees_with_openssl() {
    let ca = TestCa::root("No CRLs", "keyCertSign");
    let leaf = ca.issue("leaf", "extendedKeyUsage=clientAuth");
    let set = set(&[&X509Crl::from_pem(&ca.crl("", &[]))
        .unwrap()
        .to_der()
        .unwrap()]);
    let (chain, now) = ([&leaf.x509, &ca.x509], now() + 60);
    assert_eq!(check_all(&set, &chain, now), (35, 0));
    assert_eq!(check_with_openssl(&set, &chain, now), (35, 0));
}

#[test]
fn check_partial_crls_with_openssl() {
    let pki = crate::testing::pki();
    let chain = [
        &pki.leaf_of_intermediate.x509,
        &pki.intermediate.x509,
        &pki.ca.x509,
    ];
    let upper = TestCrl {
        next: "270115090000Z",
        ..TestCrl::by(&pki.ca)
    }
    .der();
    // onlyContainsUserCerts, onlyContainsCACerts
    let scope = |tag: u8| ce(28, true, &der(0x30, &[&[tag, 1, 0xff]]));
    let for_users = || TestCrl::by(&pki.intermediate).with(scope(0x81));

    let users = set(&[&upper, &for_users().der()]);
    let limitation =
        "CRL of 'CN=Test Intermediate,O=Example': has an issuingDistributionPoint: it \
                  is partial or indirect";
    assert_eq!(users.limitations().collect::<Vec<_>>(), [limitation]);
    assert_eq!(check_all(&users, &chain, NOW), (0, 0));

    let revoked = for_users().revoke(&serial(chain[0]), b"").der();
    let verdict = check_all(&set(&[&upper, &revoked]), &chain, NOW);
    assert_eq!(verdict, (23, 0));

    let authorities = TestCrl::by(&pki.intermediate).with(scope(0x82)).der();
    let verdict = check_all(&set(&[&upper, &authorities]), &chain, NOW);
    assert_eq!(verdict, (44, 0));
}

#[test]
fn check_does_not_keep_crls() {
    let ca = ca();
    let leaf = leaf(&ca);
    let revoked = TestCrl::by(&ca).revoke(&serial(&leaf.x509), b"");
    let plain = set(&[&revoked.der()]);
    let malformed = set(&[&revoked.with(ce(28, false, b"\x30\x00")).der()]);
    let partial = set(&[&TestCrl::by(&ca).with(only(0x82)).der()]);
    let path = path(&[&leaf.x509, &ca.x509], NOW);
    for (set, code) in [(&plain, 23), (&malformed, 23), (&partial, 44)] {
        assert_eq!(set.check(&path, NOW).code, code);
        assert_eq!(CrlSet::default().check(&path, NOW).code, 3);
        let good = self::set(&[&TestCrl::by(&ca).der()]);
        assert_eq!(good.check(&path, NOW).code, 0);
    }
}

#[test]
fn add_reads_all_crls_in_pem_or_none() {
    let (one, two) = (ca(), ca());
    let (one, two) = (TestCrl::by(&one), TestCrl::by(&two));
    let mut both = CrlSet::default();
    assert!(both.is_empty());
    assert_eq!(
        both.add("", format!("{}text\n{}", one.pem(), two.pem()).as_bytes()),
        Ok(2)
    );
    let half = format!("{}{BEGIN}\nMAA=\n{END}\n", one.pem());
    let why = "not a readable CRL: its DER is malformed or cut";
    assert_eq!(both.add("", half.as_bytes()), Err(why.to_owned()));
    assert_eq!(both.crls.len(), 2);
    assert!(!both.is_empty());
}

#[test]
fn digest_ignores_order_and_repetition() {
    let (one, two) = (ca(), ca());
    let (one, two) = (TestCrl::by(&one).der(), TestCrl::by(&two).der());
    let digest = |ders: &[&[u8]]| set(ders).digest();
    assert_eq!(digest(&[&one, &two]), digest(&[&two, &one, &two]));
    assert_ne!(digest(&[&one, &two]), digest(&[&one]));
    assert_ne!(digest(&[&one]), digest(&[]));
}

/// A directoryName as GeneralNames.
fn directory(name: &X509NameRef) -> Vec<u8> {
    der(0x30, &[&der(0xa4, &[&name.to_der().unwrap()])])
}

/// CRLs of `issuer` that do not make a certificate good, each with a description.
fn limited_crls(issuer: &Issued) -> Vec<(&'static str, TestCrl<'_>)> {
    let made = || TestCrl::by(issuer);
    let idp = |fields: &[&[u8]]| ce(28, true, &der(0x30, fields));
    let point = der(0xa0, &[&der(0xa0, &[&der(0x86, &[b"http://a.example/"])])]);
    let expired = TestCrl {
        this: "270101080000Z",
        next: "270102080000Z",
        ..made()
    };
    let future = TestCrl {
        this: "270115080001Z",
        ..made()
    };
    let backwards = TestCrl {
        next: "270114080000Z",
        ..made()
    };
    vec![
        ("expired", expired),
        ("not yet valid", future),
        ("ends before it begins", backwards),
        ("critical extension", made().with(ce(99, true, b""))),
        (
            "critical freshestCRL",
            made().with(ce(46, true, b"\x30\x00")),
        ),
        ("empty scope", made().with(ce(28, true, b"\x30\x00"))),
        (
            "empty scope, not critical",
            made().with(ce(28, false, b"\x30\x00")),
        ),
        ("garbage scope", made().with(ce(28, true, b"\x04\x00"))),
        ("no scope content", made().with(ce(28, true, b""))),
        ("two scopes", made().with(only(0x81)).with(only(0x81))),
        (
            "contradictory scope",
            made().with(idp(&[b"\x81\x01\xff\x82\x01\xff"])),
        ),
        ("attribute certificates", made().with(only(0x85))),
        ("indirect", made().with(only(0x84))),
        ("some reasons", made().with(idp(&[b"\x83\x02\x06\x40"]))),
        ("distribution point", made().with(idp(&[&point]))),
        ("delta", made().with(delta(7)).with(number(9))),
        (
            "delta without a number",
            made().with(ce(27, true, b"\x05\x00")),
        ),
        (
            "other key identifier",
            made().with(ce(35, false, b"\x30\x03\x82\x01\x07")),
        ),
        (
            "critical entry extension",
            made().revoke(b"\x05", &ce(99, true, b"")),
        ),
        (
            "garbage certificateIssuer",
            made().revoke(b"\x05", &ce(29, true, b"\x04\x00")),
        ),
    ]
}

#[test]
fn check_entry_revokes_in_every_limited_crl() {
    let pki = crate::testing::pki();
    let chain = [
        &pki.leaf_of_intermediate.x509,
        &pki.intermediate.x509,
        &pki.ca.x509,
    ];
    let (upper, lower) = (
        TestCrl::by(&pki.ca).der(),
        TestCrl::by(&pki.intermediate).der(),
    );
    for (depth, issuer, rest) in [(0, &pki.intermediate, &upper), (1, &pki.ca, &lower)] {
        for entry in [
            vec![],
            code(1),
            ce(99, true, b""),
            ce(24, false, b"\x18\x0f20990101000000Z"),
        ] {
            for (what, made) in limited_crls(issuer) {
                let without = made.der();
                let with = made.revoke(&serial(chain[depth]), &entry).der();
                // Alone, with the CRL of the rest of the chain, and with an older CRL without
                // entry.
                let older = TestCrl {
                    this: "261231080000Z",
                    ..TestCrl::by(issuer)
                }
                .der();
                for ders in [&[&with[..]][..], &[&with, rest], &[&with, &older, rest]] {
                    let verdict = check_all(&set(ders), &chain, NOW);
                    assert_eq!(verdict, (23, depth as u32), "{what}");
                }
                let code = check_all(&set(&[&without, rest]), &chain, NOW).0;
                assert!(code != 0 && code != 23, "{what}: {code}");
            }
        }
    }
}

#[test]
fn check_partial_crl_that_covers_the_certificate_makes_it_good() {
    let pki = crate::testing::pki();
    let chain = [
        &pki.leaf_of_intermediate.x509,
        &pki.intermediate.x509,
        &pki.ca.x509,
    ];
    let users = TestCrl::by(&pki.intermediate).with(only(0x81)).der();
    let authorities = TestCrl::by(&pki.ca).with(only(0x82)).der();
    // The anchor needs no CRL, so that a CRL of its own need not cover it.
    assert_eq!(
        check_all(&set(&[&users, &authorities]), &chain, NOW),
        (0, 0)
    );
    let users = TestCrl::by(&pki.ca).with(only(0x81)).der();
    let lower = TestCrl::by(&pki.intermediate).der();
    assert_eq!(check_all(&set(&[&users, &lower]), &chain, NOW), (44, 1));
}

#[test]
fn check_only_a_newer_crl_of_the_same_key_and_scope_withdraws() {
    let ca = ca();
    let leaf = leaf(&ca);
    let chain = [&leaf.x509, &ca.x509];
    let list = TestCrl {
        this: "270115070000Z",
        ..TestCrl::by(&ca)
    };
    let list = list.with(only(0x81)).with(number(5));
    let list = list.revoke(&serial(&leaf.x509), &code(1)).der();
    let at = |this| TestCrl {
        this,
        ..TestCrl::by(&ca)
    };
    let newer = || at("270115073000Z").with(only(0x81));
    let check = |other: &[u8]| check_all(&set(&[&list, other]), &chain, NOW).0;
    assert_eq!(check(&newer().der()), 0);
    assert_eq!(check(&newer().with(number(6)).der()), 0);
    let removed = newer().revoke(&serial(&leaf.x509), &code(8));
    assert_eq!(check(&removed.der()), 0);
    let same_time = at("270115070000Z").with(only(0x81)).with(number(6));
    assert_eq!(check(&same_time.der()), 0);
    // It withdrew the revocation, but has expired since, so the status is unknown.
    let expired = TestCrl {
        next: "270115074500Z",
        ..newer()
    };
    assert_eq!(check(&expired.der()), 12);

    let other_key = self::ca();
    let key_id = ce(35, false, b"\x30\x03\x82\x01\x07");
    for (what, other) in [
        ("lower number", newer().with(number(4)).der()),
        ("not yet valid", at("270115080001Z").with(only(0x81)).der()),
        ("older", at("270115065959Z").with(only(0x81)).der()),
        ("same time", at("270115070000Z").with(only(0x81)).der()),
        ("full", at("270115073000Z").der()),
        ("another scope", at("270115073000Z").with(only(0x82)).der()),
        (
            "malformed scope",
            at("270115073000Z").with(ce(28, true, b"\x30\x00")).der(),
        ),
        ("critical extension", newer().with(ce(99, true, b"")).der()),
        (
            "critical entry",
            newer().revoke(b"\x05", &ce(99, true, b"")).der(),
        ),
        ("delta", newer().with(delta(5)).with(number(6)).der()),
        ("key identifier", newer().with(key_id).der()),
        ("another key", newer().signed_with(&other_key.key)),
    ] {
        assert_eq!(check(&other), 23, "{what}");
    }
}

#[test]
fn check_crl_with_malformed_scope_withdraws_nothing() {
    let ca = ca();
    let leaf = leaf(&ca);
    let empty = || ce(28, true, b"\x30\x00");
    let list = TestCrl {
        this: "270115070000Z",
        ..TestCrl::by(&ca)
    };
    let list = list.with(empty()).revoke(&serial(&leaf.x509), b"").der();
    let newer = TestCrl::by(&ca).with(empty()).der();
    let chain = [&leaf.x509, &ca.x509];
    assert_eq!(check_all(&set(&[&list, &newer]), &chain, NOW).0, 23);
}

#[test]
fn check_hold_revokes_while_its_crl_is_in_force() {
    let ca = ca();
    let leaf = leaf(&ca);
    let chain = [&leaf.x509, &ca.x509];
    let held = |made: TestCrl<'_>| made.revoke(&serial(&leaf.x509), &code(6)).der();
    let check = |ders: &[&[u8]]| check_all(&set(ders), &chain, NOW).0;
    for (what, made) in limited_crls(&ca) {
        let in_force = !["expired", "not yet valid", "ends before it begins"].contains(&what);
        assert_eq!(check(&[&held(made)]) == 23, in_force, "{what}");
    }
    let newer = TestCrl {
        this: "270115080000Z",
        ..TestCrl::by(&ca)
    };
    let older = || TestCrl {
        this: "270115070000Z",
        ..TestCrl::by(&ca)
    };
    assert_eq!(check(&[&held(older())]), 23);
    assert_eq!(check(&[&held(older()), &newer.der()]), 0);
    // On hold by an expired CRL, and without entry in an older one that is in force.
    let expired = TestCrl {
        this: "270115073000Z",
        next: "270115074500Z",
        ..TestCrl::by(&ca)
    };
    assert_eq!(check(&[&held(expired), &older().der()]), 0);
    // The verdict is valid until the CRL expires.
    let until = set(&[&held(older())]).check(&path(&chain, NOW), NOW).until;
    assert_eq!(until, NOW + DAY);
    let without_end = TestCrl {
        next: "",
        ..TestCrl::by(&ca)
    };
    assert_eq!(check(&[&held(without_end)]), 23);
}

#[test]
fn check_delta_crl_revokes_and_withdraws() {
    let ca = ca();
    let leaf = leaf(&ca);
    let chain = [&leaf.x509, &ca.x509];
    let serial = serial(&leaf.x509);
    let check = |ders: &[&[u8]]| check_all(&set(ders), &chain, NOW).0;
    let base = || {
        let base = TestCrl {
            this: "270115070000Z",
            ..TestCrl::by(&ca)
        };
        base.with(number(5))
    };
    let changes = |from: u8| TestCrl::by(&ca).with(delta(from)).with(number(7));
    let good = base().der();
    let revoked = base().revoke(&serial, &code(6)).der();
    assert_eq!(check(&[&good, &changes(5).der()]), 0);
    assert_eq!(check(&[&good, &changes(5).revoke(&serial, b"").der()]), 23);
    assert_eq!(check(&[&revoked, &changes(5).der()]), 23);
    let removed = |from| changes(from).revoke(&serial, &code(8));
    assert_eq!(check(&[&revoked, &removed(5).der()]), 0);
    assert_eq!(check(&[&revoked, &removed(3).der()]), 0);
    // The delta CRL is for a later base.
    assert_eq!(check(&[&revoked, &removed(6).der()]), 23);
    // The base has no number, so the delta CRL does not apply to it.
    let unnumbered = TestCrl {
        this: "270115070000Z",
        ..TestCrl::by(&ca)
    };
    let unnumbered = unnumbered.revoke(&serial, b"").der();
    assert_eq!(check(&[&unnumbered, &removed(5).der()]), 23);
    let itself = TestCrl::by(&ca)
        .with(delta(5))
        .revoke(&serial, &code(8))
        .der();
    assert_eq!(check(&[&revoked, &itself]), 23);
    let unsupported = removed(5).with(ce(99, true, b"")).der();
    assert_eq!(check(&[&revoked, &unsupported]), 23);
    let other_scope = removed(5).with(only(0x81)).der();
    assert_eq!(check(&[&revoked, &other_scope]), 23);
    // The delta CRL that withdrew the revocation has expired, so the status is unknown.
    let expired = TestCrl {
        this: "270115073000Z",
        next: "270115074500Z",
        ..removed(5)
    };
    assert_eq!(check(&[&revoked, &expired.der()]), 12);
    // A later delta CRL or a later base withdraws a revocation by a delta CRL.
    let early = TestCrl {
        this: "270115073000Z",
        ..TestCrl::by(&ca)
    };
    let early = early
        .with(delta(5))
        .with(number(6))
        .revoke(&serial, b"")
        .der();
    assert_eq!(check(&[&good, &early]), 23);
    assert_eq!(check(&[&good, &early, &removed(5).der()]), 0);
    assert_eq!(check(&[&good, &early, &changes(5).der()]), 23);
    let next = TestCrl::by(&ca).with(number(7)).der();
    assert_eq!(check(&[&good, &early, &next]), 0);
    assert_eq!(check(&[&good, &revoked, &early, &next]), 0);
}

#[test]
fn check_uses_the_worst_of_several_entries() {
    let ca = ca();
    let leaf = leaf(&ca);
    let serial = serial(&leaf.x509);
    let chain = [&leaf.x509, &ca.x509];
    for codes in [[8, 1], [1, 8], [6, 8], [8, 6], [0, 6]] {
        let made = codes.into_iter().fold(TestCrl::by(&ca), |made, reason| {
            made.revoke(b"\x05", b"").revoke(&serial, &code(reason))
        });
        assert_eq!(
            check_all(&set(&[&made.der()]), &chain, NOW).0,
            23,
            "{codes:?}"
        );
    }
}

#[test]
fn revocation_is_the_entry_that_revokes_with_its_file() {
    let ca = ca();
    let leaf = leaf(&ca);
    let serial = serial(&leaf.x509);
    let path = path(&[&leaf.x509, &ca.x509], NOW);
    let found = |extensions: &[u8], depth| {
        let mut set = CrlSet::default();
        let good = TestCrl::by(&ca).revoke(b"\x05", b"").der();
        let bad = TestCrl::by(&ca).revoke(&serial, extensions).der();
        set.add("good.crl", &good).unwrap();
        set.add("bad.crl", &bad).unwrap();
        set.revocation(&path, depth, NOW)
    };
    for (extensions, reason) in [
        (&[][..], "unspecified"),
        (&code(1), "keyCompromise"),
        (&code(6), "certificateHold"),
    ] {
        let expected = CrlRevocation {
            file: "bad.crl".into(),
            since: Some(NOW - 3600),
            reason,
        };
        assert_eq!(found(extensions, 0), Some(expected));
        assert_eq!(found(extensions, 1), None);
        assert_eq!(found(extensions, 2), None);
    }
}

#[test]
fn check_ignores_another_key_under_another_anchor() {
    let (one, other) = (ca(), ca());
    let leaf = leaf(&one);
    let good = TestCrl::by(&one).der();
    let foreign = TestCrl::by(&other).revoke(&serial(&leaf.x509), b"").der();
    let set = set(&[&good, &foreign]);
    let path = path_with(&[&one.x509, &other.x509], &leaf.x509, &[], NOW);
    assert_eq!(set.check(&path, NOW).code, 0);
    let alone = self::set(&[&foreign]);
    assert_eq!(alone.check(&path, NOW).code, 8);
}

#[test]
fn check_another_key_under_the_same_anchor_revokes() {
    let root = issue("Root", None, true, DAY, &[]);
    let (old, new) = (
        issue_with_key_ids(&root, true),
        issue_with_key_ids(&root, true),
    );
    let leaf = issue_with_key_ids(&old, false);
    let good = TestCrl::by(&old).der();
    let upper = TestCrl::by(&root).der();
    let listed = || TestCrl::by(&new).revoke(&serial(&leaf.x509), b"");
    let cas = [&root.x509, &old.x509, &new.x509];
    let path = path_with(&cas, &leaf.x509, &[], NOW);
    let verdict = |ders: &[&[u8]], path: &CertificationPath| {
        let verdict = set(ders).check(path, NOW);
        (verdict.code, verdict.depth)
    };
    assert_eq!(verdict(&[&good, &listed().der(), &upper], &path), (23, 0));
    assert_eq!(verdict(&[&listed().der()], &path), (23, 0));
    // The path of the new key needs a CA that only the client sends.
    let middle = issue("Middle", Some(&root), true, DAY, &[]);
    let (below_old, below_new) = (
        issue_with_key_ids(&middle, true),
        issue_with_key_ids(&middle, true),
    );
    let lower = issue_with_key_ids(&below_old, false);
    let cas = [&root.x509, &below_new.x509];
    let sent = [&below_old.x509, &middle.x509];
    let over = path_with(&cas, &lower.x509, &sent, NOW);
    assert_eq!(over.certificates().len(), 4);
    let made = TestCrl::by(&below_new).revoke(&serial(&lower.x509), b"");
    assert_eq!(verdict(&[&made.der()], &over), (23, 0));
    // Only a newer CRL of the new key withdraws the revocation, and no CRL of it makes a
    // certificate good.
    let empty = TestCrl::by(&new).der();
    assert_eq!(verdict(&[&empty, &upper], &path), (8, 0));
    let earlier = TestCrl {
        this: "270115070000Z",
        ..listed()
    };
    assert_eq!(verdict(&[&good, &earlier.der(), &upper], &path), (23, 0));
    assert_eq!(
        verdict(&[&good, &earlier.der(), &empty, &upper], &path),
        (0, 0)
    );
    // It must be a CA of the plugin, and one under the same anchor.
    let without = path_with(&[&root.x509, &old.x509], &leaf.x509, &[], NOW);
    assert_eq!(verdict(&[&good, &listed().der(), &upper], &without), (0, 0));
    let elsewhere = issue("Root", None, true, DAY, &[]);
    let foreign = issue_with_key_ids(&elsewhere, true);
    let made = TestCrl::by(&foreign).revoke(&serial(&leaf.x509), b"").der();
    let cas = [&root.x509, &elsewhere.x509, &old.x509, &foreign.x509];
    let apart = path_with(&cas, &leaf.x509, &[], NOW);
    assert_eq!(verdict(&[&good, &made, &upper], &apart), (0, 0));
    let alone = ca();
    let made = TestCrl::by(&alone).revoke(&serial(&leaf.x509), b"").der();
    let cas = [&root.x509, &old.x509, &alone.x509];
    let apart = path_with(&cas, &leaf.x509, &[], NOW);
    assert_eq!(verdict(&[&good, &made, &upper], &apart), (0, 0));
}

#[test]
fn check_accepts_the_crl_for_a_renewed_ca_certificate() {
    let ca = ca();
    let leaf = leaf(&ca);
    // Another certificate for the same name and key.
    let renewed = crate::testing::renew_as(&ca, "CA", 2 * DAY).x509;
    let list = TestCrl::by(&ca).revoke(&serial(&leaf.x509), b"").der();
    for anchor in [&ca.x509, &renewed] {
        let verdict = check_all(&set(&[&list]), &[&leaf.x509, anchor], NOW);
        assert_eq!(verdict, (23, 0));
    }
}

#[test]
fn check_anchor_that_is_not_self_signed() {
    let pki = crate::testing::pki();
    let (root, anchor, leaf) = (&pki.ca, &pki.intermediate, &pki.leaf_of_intermediate.x509);
    let lower = TestCrl::by(anchor).der();
    let both = path_with(&[&root.x509, &anchor.x509], leaf, &[], NOW);
    assert_eq!((both.anchor(), both.certificates().len()), (1, 3));
    let alone = path_with(&[&anchor.x509], leaf, &[], NOW);
    assert_eq!((alone.anchor(), alone.certificates().len()), (1, 2));
    let upper = |made: TestCrl<'_>| made.revoke(&serial(&anchor.x509), b"").der();
    let check = |ders: &[&[u8]], path: &CertificationPath| {
        let verdict = set(ders).check(path, NOW);
        (verdict.code, verdict.depth)
    };
    assert_eq!(check(&[&upper(TestCrl::by(root)), &lower], &both), (23, 1));
    for (what, made) in limited_crls(root) {
        assert_eq!(check(&[&upper(made), &lower], &both), (23, 1), "{what}");
    }
    // Without its issuer, the signer of the CRL is not known.
    assert_eq!(check(&[&upper(TestCrl::by(root)), &lower], &alone), (0, 0));
    // The anchor needs no CRL, but an existing one must be in force.
    assert_eq!(check(&[&lower], &both), (0, 0));
    assert_eq!(check(&[&TestCrl::by(root).der(), &lower], &both), (0, 0));
    let expired = TestCrl {
        this: "270101080000Z",
        next: "270102080000Z",
        ..TestCrl::by(root)
    };
    assert_eq!(check(&[&expired.der(), &lower], &both), (12, 1));
    // A CRL of another CA with the name of the root.
    let unrelated = issue("Test CA", None, true, DAY, &[]);
    let forged = TestCrl::by(&unrelated)
        .revoke(&serial(&anchor.x509), b"")
        .der();
    let fresh = TestCrl::by(root).der();
    assert_eq!(check(&[&fresh, &forged, &lower], &both), (0, 0));
    let three = path_with(&[&unrelated.x509, &root.x509, &anchor.x509], leaf, &[], NOW);
    assert_eq!(check(&[&upper(TestCrl::by(root)), &lower], &three), (23, 1));
}

#[test]
fn check_root_with_an_entry_for_itself() {
    let ca = ca();
    let leaf = leaf(&ca);
    let list = TestCrl::by(&ca).revoke(&serial(&ca.x509), b"").der();
    assert_eq!(
        check_all(&set(&[&list]), &[&leaf.x509, &ca.x509], NOW),
        (23, 1)
    );
}

#[test]
fn check_indirect_entry_revokes_certificates_of_its_certificate_issuer() {
    let pki = crate::testing::pki();
    let (root, middle) = (&pki.ca, &pki.intermediate);
    let chain = [&pki.leaf_of_intermediate.x509, &middle.x509, &root.x509];
    let (upper, lower) = (TestCrl::by(root).der(), TestCrl::by(middle).der());
    let other = issue("Other", None, true, DAY, &[]);
    let names = |issuer: &X509NameRef| ce(29, true, &directory(issuer));
    let of = |issued: &Issued| names(issued.x509.subject_name());
    let leaf = serial(chain[0]);
    let list = |signer, entry: &[u8]| {
        let made = TestCrl::by(signer)
            .with(only(0x84))
            .revoke(b"\x05", &of(&other));
        made.revoke(&leaf, entry).der()
    };
    let check = |list: &[u8]| check_all(&set(&[&upper, &lower, list]), &chain, NOW);
    // By its issuer or a CA above its issuer, with the certificateIssuer in the entry or the one
    // before it.
    assert_eq!(check(&list(middle, &of(middle))), (23, 0));
    assert_eq!(check(&list(root, &of(middle))), (23, 0));
    // For a certificate of another issuer with the same serial number.
    assert_eq!(check(&list(middle, b"")), (0, 0));
    assert_eq!(check(&list(middle, &of(&other))), (0, 0));
    assert_eq!(check(&list(root, &of(root))), (0, 0));
    // By a CA that is not authorised.
    assert_eq!(check(&list(&other, &of(middle))), (0, 0));
    let path = path_with(&[&root.x509, &other.x509], chain[0], &[chain[1]], NOW);
    let unrelated = set(&[&upper, &lower, &list(&other, &of(middle))]);
    assert_eq!(unrelated.check(&path, NOW).code, 0);
    // Alone it makes no certificate good.
    let alone = set(&[&upper, &TestCrl::by(middle).with(only(0x84)).der()]);
    assert_ne!(check_all(&alone, &chain, NOW).0, 0);
}

#[test]
fn check_entry_with_unreadable_or_misplaced_certificate_issuer() {
    let ca = ca();
    let leaf = leaf(&ca);
    let other = issue("Other", None, true, DAY, &[]);
    let of = |issued: &Issued| ce(29, true, &directory(issued.x509.subject_name()));
    let own = serial(&leaf.x509);
    let full = || TestCrl::by(&ca);
    let indirect = || TestCrl::by(&ca).with(only(0x84));
    let coded = |reason, issued| [code(reason), of(issued)].concat();
    let check = |made: TestCrl<'_>| {
        let list = made.der();
        check_all(&set(&[&list]), &[&leaf.x509, &ca.x509], NOW).0
    };
    // Not indirect: the certificateIssuer of the previous entry does not apply.
    assert_eq!(
        check(full().revoke(b"\x05", &of(&other)).revoke(&own, b"")),
        23
    );
    assert_eq!(check(full().revoke(&own, &of(&ca))), 23);
    assert_ne!(check(full().revoke(&own, &of(&other))), 23);
    // No directoryName: no name, a URI, malformed.
    for names in [&b"\x30\x00"[..], b"\x30\x03\x86\x01x", b"\x30\x07x"] {
        let entry = ce(29, true, names);
        assert_eq!(check(indirect().revoke(&own, &entry)), 23, "{names:?}");
        assert_eq!(check(full().revoke(&own, &entry)), 23, "{names:?}");
    }
    // The worst of several entries is used, in any order.
    for (first, second) in [(8, 1), (1, 8), (8, 6), (6, 8)] {
        let list = indirect()
            .revoke(&own, &coded(first, &ca))
            .revoke(&own, &coded(second, &ca));
        assert_eq!(check(list), 23, "{first} {second}");
    }
    for (first, second) in [(6, 1), (1, 6)] {
        let mut list = indirect()
            .revoke(&own, &coded(first, &ca))
            .revoke(&own, &coded(second, &ca));
        // An expired hold does not revoke, but the other entry does.
        (list.this, list.next) = ("270114080000Z", "270115075959Z");
        assert_eq!(check(list), 23, "{first} {second}");
    }
    let list = indirect()
        .revoke(&own, &coded(8, &ca))
        .revoke(&own, &coded(1, &other));
    assert_ne!(check(list), 23);
}

#[test]
fn check_indirect_crl_of_the_crl_issuer_that_the_certificate_names() {
    let root = TestCa::new();
    let other = TestCa::root("CRL issuer", "keyCertSign, cRLSign");
    let points = "crlDistributionPoints = dp\n[dp]\nfullname = URI:http://a.example/\n\
                  CRLissuer = dirName:crlissuer\n[crlissuer]\nO = Example\nCN = CRL issuer";
    let named = root.issue("named", points).x509;
    let unnamed = root.issue("unnamed", "basicConstraints = CA:FALSE").x509;
    let now = now() + 60;
    let entry = ce(29, true, &directory(root.x509.subject_name()));
    let key = std::fs::read(format!("{}.key", other.file())).unwrap();
    let signer = Issued {
        x509: other.x509.clone(),
        key: PKey::private_key_from_pem(&key).unwrap(),
    };
    let list = TestCrl::by(&signer)
        .with(only(0x84))
        .revoke(&serial(&named), &entry);
    let list = list.revoke(&serial(&unnamed), &entry).der();
    let upper = X509Crl::from_pem(&root.crl("", &[]))
        .unwrap()
        .to_der()
        .unwrap();
    let set = set(&[&upper, &list]);
    let check = |leaf: &X509, cas: &[&X509]| {
        let path = path_with(cas, leaf, &[], now);
        set.check(&path, now).code
    };
    let both = [&root.x509, &other.x509];
    assert_eq!(check(&named, &both), 23);
    assert_eq!(check(&unnamed, &both), 0);
    // The CRL issuer is not among the CAs, so the signature cannot be checked.
    assert_eq!(check(&named, &[&root.x509]), 0);
    let other_key = TestCa::root("CRL issuer", "keyCertSign, cRLSign");
    assert_eq!(check(&named, &[&root.x509, &other_key.x509]), 0);
}

#[test]
fn status_entry_revokes_in_every_limited_crl() {
    let ca = ca();
    let leaf = leaf(&ca);
    for (what, made) in limited_crls(&ca) {
        // Five minutes of clock skew are tolerated.
        let skewed = what == "not yet valid";
        let status = |made: &TestCrl<'_>| {
            let crl = load(&made.der(), &ca).unwrap();
            crl.status(&leaf.x509, &ca.x509, NOW)
        };
        let silent = status(&made);
        assert_eq!(
            matches!(silent, RevocationStatus::Unknown(_)),
            !skewed,
            "{what}: {silent:?}"
        );
        let made = made.revoke(&serial(&leaf.x509), b"");
        match status(&made) {
            RevocationStatus::Revoked { until, .. } => assert!(until > NOW, "{what}"),
            status => panic!("{what}: {status:?}"),
        }
    }
    let held = |next| {
        let made = TestCrl {
            this: "270114080000Z",
            next,
            ..TestCrl::by(&ca)
        };
        let crl = load(&made.revoke(&serial(&leaf.x509), &code(6)).der(), &ca).unwrap();
        crl.status(&leaf.x509, &ca.x509, NOW)
    };
    assert!(
        matches!(held("270116080000Z"), RevocationStatus::Revoked { until, .. } if until == NOW + DAY)
    );
    let why = "CRL of 'CN=CA,O=Example': nextUpdate was 3600 s ago";
    assert_eq!(
        held("270115070000Z"),
        RevocationStatus::Unknown(why.to_owned())
    );
}

#[test]
fn out_of_force_and_expired_since_name_the_crl_and_its_end() {
    let ca = ca();
    let mut set = CrlSet::default();
    let (expired, future) = (
        TestCrl {
            this: "270114080000Z",
            next: "270115080000Z",
            ..TestCrl::by(&ca)
        },
        TestCrl {
            this: "270115080001Z",
            ..TestCrl::by(&ca)
        },
    );
    set.add("a.crl", &expired.der()).unwrap();
    set.add("b.crl", &future.der()).unwrap();
    set.add("c.crl", &TestCrl::by(&ca).der()).unwrap();
    let effect = "listed certificates are revoked, but it makes no other certificate good";
    let expired = format!("CRL of 'CN=CA,O=Example': expired at 2027-01-15T08:00:00Z: {effect}");
    let future =
        format!("CRL of 'CN=CA,O=Example': not valid before 2027-01-15T08:00:01Z: {effect}");
    let all: Vec<_> = set.out_of_force(NOW).collect();
    assert_eq!(all, [expired.clone(), future]);
    assert_eq!(set.out_of_force(NOW - 1).count(), 2);
    let ended = |since, now| set.expired_since(since, now);
    assert_eq!(ended(NOW - 1, NOW), [format!("'a.crl': {expired}")]);
    assert!(ended(NOW, NOW + DAY - 1).is_empty());
    assert!(ended(NOW - 2, NOW - 1).is_empty());
    let first = CrlSummary {
        file: "a.crl".into(),
        issuer: "CN=CA,O=Example".to_owned(),
        this_update: set.crls[0].this_update,
        next_update: Some(NOW),
        entries: set.crls[0].entry_count(),
        bytes: set.crls[0].der.len(),
    };
    assert_eq!((set.count_in_use(), set.summary(0)), (3, Some(first)));
    assert_eq!(&*set.summary(2).unwrap().file, "c.crl");
    assert_eq!(set.summary(3), None);
}

#[test]
fn not_signed_by_names_crls_of_another_ca_with_the_same_name() {
    let (one, other) = (ca(), ca());
    let trusted = |ca: &Issued| Arc::new(CaCertificate::from_x509(ca.x509.clone()).unwrap());
    let unrelated = issue("Unrelated", None, true, DAY, &[]);
    let set = set(&[&TestCrl::by(&one).der(), &TestCrl::by(&unrelated).der()]);
    assert_eq!(
        set.not_signed_by(&[trusted(&other), trusted(&one)]).count(),
        0
    );
    let why = "CRL of 'CN=CA,O=Example': no CA of the plugin with this name signed it, so it has \
               no effect there";
    let named: Vec<_> = set.not_signed_by(&[trusted(&other)]).collect();
    assert_eq!(named, [why]);
}

#[test]
fn of_other_cas_is_about_sets_without_any_crl_of_a_ca() {
    let (one, other) = (ca(), issue("Other CA", None, true, DAY, &[]));
    let trusted = |ca: &Issued| Arc::new(CaCertificate::from_x509(ca.x509.clone()).unwrap());
    let unrelated = issue("Unrelated", None, true, DAY, &[]);
    let (of_one, of_other, of_unrelated) = (trusted(&one), trusted(&other), trusted(&unrelated));
    let namesake = trusted(&issue("Unrelated", None, true, DAY, &[]));
    let by = |ca: &Issued| TestCrl::by(ca).der();
    let found = |crls: &[&Vec<u8>], others: &[&Arc<CaCertificate>]| {
        let crls: Vec<&[u8]> = crls.iter().map(|crl| crl.as_slice()).collect();
        let cas = [of_one.clone(), of_other.clone()];
        set(&crls).of_other_cas(&cas, others.iter().copied())
    };
    let (good, wrong) = (by(&one), by(&unrelated));
    assert_eq!(found(&[&good], &[]), None);
    assert_eq!(found(&[&wrong, &good], &[]), None);
    let why = "CRL of 'CN=Unrelated,O=Example': is of no CA of the plugin: it counts for \
               certificates of an issuer with this name whose certificate the client sends";
    assert_eq!(found(&[&wrong], &[&of_one]).as_deref(), Some(why));
    assert_eq!(found(&[&wrong], &[&namesake]).as_deref(), Some(why));
    // An intermediate that the document has, or its namesake with the key of the CRL.
    assert_eq!(found(&[&wrong], &[&namesake, &of_unrelated]), None);
    let why = why.replace("plugin:", "plugin, nor is another CRL of the list:");
    assert_eq!(found(&[&wrong, &wrong], &[]), Some(why));
    let mut set = set(&[&wrong]);
    assert!(set.of_other_cas(&[], [].iter()).is_some());
    let url = UrlCrl::new(
        "http://a.example/",
        60,
        LARGEST,
        std::slice::from_ref(&of_one),
    );
    set.add_url(Arc::new(url));
    assert_eq!(set.of_other_cas(&[], [].iter()), None);
}

#[test]
fn url_crl_is_replaced_by_a_newer_one_of_its_issuer_only() {
    let (one, other) = (ca(), issue("Other CA", None, true, DAY, &[]));
    let trusted = |ca: &Issued| Arc::new(CaCertificate::from_x509(ca.x509.clone()).unwrap());
    let leaf = leaf(&one);
    let url = "http://a.example/";
    let crl = Arc::new(UrlCrl::new(
        url,
        60,
        LARGEST,
        &[trusted(&one), trusted(&other)],
    ));
    let mut set = CrlSet::default();
    set.add_url(crl.clone());
    let path = path(&[&leaf.x509, &one.x509], NOW);
    assert_eq!(set.check(&path, NOW).code, 3);
    assert_eq!(
        (crl.times(), crl.size(), crl.is_in_use()),
        (None, None, false)
    );

    let good = TestCrl::by(&one).der();
    assert!(crl.replace(crl.load(&good).unwrap()).is_none());
    assert_eq!(set.check(&path, NOW).code, 0);
    assert_eq!(crl.times(), Some((NOW, Some(NOW + DAY))));
    // max_stale seconds longer than its nextUpdate.
    assert_eq!(set.check(&path, NOW).until, NOW + DAY + 60);
    assert_eq!(set.check(&path, NOW + DAY + 59).code, 0);
    assert_eq!(set.check(&path, NOW + DAY + 60).code, 12);

    let why = |bytes: &[u8]| crl.load(bytes).map(|_| ()).unwrap_err();
    let older = TestCrl {
        this: "270115075959Z",
        ..TestCrl::by(&one)
    };
    let name = "CRL of 'CN=CA,O=Example'";
    assert_eq!(
        why(&older.der()),
        format!("{name}: is older than the one in use")
    );
    assert_eq!(
        why(&TestCrl::by(&other).der()),
        "CRL of 'CN=Other CA,O=Example': the one in use is of 'CN=CA,O=Example', which has not \
         ended"
    );
    assert_eq!(
        why(&TestCrl::by(&ca()).der()),
        format!("{name}: bad signature")
    );
    let unknown = issue("Unknown", None, true, DAY, &[]);
    assert_eq!(
        why(&TestCrl::by(&unknown).der()),
        "CRL of 'CN=Unknown,O=Example': no CA of the plugin has this name"
    );
    assert_eq!(why(b""), why(b"<html>"));

    let revoked = TestCrl {
        this: "270115080001Z",
        ..TestCrl::by(&one)
    };
    let revoked = revoked.revoke(&serial(&leaf.x509), b"").der();
    assert!(crl.replace(crl.load(&revoked).unwrap()).is_some());
    assert_eq!(set.check(&path, NOW + 1).code, 23);
    assert_eq!(set.check(&path, NOW + 10 * DAY).code, 23);
    // A policy takes it over only if one of its CAs signed it.
    for (cas, times) in [(&one, crl.times()), (&other, None)] {
        let next = UrlCrl::new(url, 60, LARGEST, &[trusted(cas)]);
        next.adopt(&crl);
        assert_eq!(next.times(), times);
    }
}

#[test]
fn check_intermediate_needs_a_crl_while_one_by_url_is_not_there() {
    let pki = crate::testing::pki();
    let chain = [
        &pki.leaf_of_intermediate.x509,
        &pki.intermediate.x509,
        &pki.ca.x509,
    ];
    let ca = Arc::new(CaCertificate::from_x509(pki.ca.x509.clone()).unwrap());
    let crl = Arc::new(UrlCrl::new("http://a.example/", 0, LARGEST, &[ca]));
    let mut set = set(&[&TestCrl::by(&pki.intermediate).der()]);
    assert_eq!(check_all(&set, &chain, NOW), (0, 0));
    set.add_url(crl.clone());
    assert_eq!(check_all(&set, &chain, NOW), (3, 1));
    crl.replace(crl.load(&TestCrl::by(&pki.ca).der()).unwrap());
    assert_eq!(check_all(&set, &chain, NOW), (0, 0));
}
