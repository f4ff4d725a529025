//! Certificate revocation lists (RFC 5280 section 5) as functions on bytes: one that was fetched
//! for a certificate, and the local files of a policy.
//!
//! A CRL is *plain* if it speaks for every certificate of its issuer: full, direct, for all
//! reasons, with a nextUpdate and no critical extension that OpenSSL does not know. Only a plain
//! CRL gives an answer here. A CRL with an issuingDistributionPoint is never plain, even where
//! that extension only repeats the URL it came from: it is one part of several, and whether it is
//! the part for a given certificate takes the rules of RFC 5280 section 6.3.3. OpenSSL has them,
//! see [`CrlSet::verify`].

use std::cmp::Ordering;
use std::ffi::c_int;
use std::sync::{Mutex, PoisonError};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use openssl::asn1::Asn1IntegerRef;
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::sha::sha256;
use openssl::stack::StackRef;
use openssl::x509::{
    CrlStatus, ReasonCode, X509Crl, X509KeyUsage, X509NameRef, X509Ref, X509StoreContextRef,
    X509VerifyResult, X509,
};
use openssl_sys as sys;

use super::answer::{self, in_force, reason, Answer, CLOCK_SKEW};
use crate::certificate::{epoch, name};
use crate::openssl_ext::revocation as ext;

/// Longest CRL that is fetched, in bytes.
pub const MAX_FETCHED: usize = 10 * 1024 * 1024;

/// Longest local file of CRLs, in bytes.
pub const MAX_FILE: usize = 64 * 1024 * 1024;

/// Most issuers remembered for one CRL: keys of one name, of which few are in use at a time.
const MAX_ISSUERS: usize = 8;

const BEGIN: &str = "-----BEGIN X509 CRL-----";
const END: &str = "-----END X509 CRL-----";

/// A plain CRL whose signature was checked.
pub struct Crl {
    list: List,
    until: i64,
}

impl Crl {
    /// Reads a CRL of at most `max` bytes in DER or PEM that `issuer` signed.
    ///
    /// # Errors
    /// Why it gives no answer, for [`Answer::NoAnswer`].
    pub fn load(bytes: &[u8], issuer: &X509Ref, max: usize) -> Result<Crl, String> {
        let crl = Crl::read(bytes, issuer, max);
        ErrorStack::get();
        crl
    }

    fn read(bytes: &[u8], issuer: &X509Ref, max: usize) -> Result<Crl, String> {
        let mut lists = read(bytes, max)?;
        let count = lists.len();
        let (Some(list), 1) = (lists.pop(), count) else {
            return Err(format!("{count} CRLs found, expected exactly one"));
        };
        if !same(list.issuer(), issuer.subject_name()) {
            return Err(format!(
                "CRL of '{}', expected one of '{}'",
                text(list.issuer()),
                text(issuer.subject_name())
            ));
        }
        let (None, Some(until)) = (&list.oddity, list.next) else {
            return Err(list.about(list.oddity.as_deref().unwrap_or_default()));
        };
        list.vouch(issuer)?;
        Ok(Crl { list, until })
    }

    /// What the CRL says about `certificate` at `now`. `issuer` is the next certificate of the
    /// verified chain: a CRL that was kept may be of a namesake.
    pub fn answer(&self, certificate: &X509Ref, issuer: &X509Ref, now: i64) -> Answer {
        if !same(self.list.issuer(), certificate.issuer_name()) {
            let issuer = text(certificate.issuer_name());
            let why = format!("says nothing about certificates of '{issuer}'");
            return Answer::NoAnswer(self.list.about(&why));
        }
        if let Err(why) = self.list.vouch(issuer) {
            return Answer::NoAnswer(why);
        }
        if let Err(why) = in_force(self.list.this, self.until, now, CLOCK_SKEW) {
            return Answer::NoAnswer(self.list.about(&why));
        }
        match self.list.revoked(certificate.serial_number()) {
            None => Answer::Good { until: self.until },
            Some((since, reason)) => Answer::Revoked {
                until: self.until,
                since,
                reason,
            },
        }
    }

    /// nextUpdate, in seconds since the epoch.
    pub fn until(&self) -> i64 {
        self.until
    }
}

/// The local CRLs of a policy, any number an issuer. Checks a chain as nginx's `ssl_crl` does
/// (`X509_V_FLAG_CRL_CHECK_ALL`): every certificate below the anchor needs a CRL in force.
#[derive(Default)]
pub struct CrlSet {
    lists: Vec<List>,
}

/// What came of verifying a chain against a [`CrlSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `X509_V_OK` (0) or an `X509_V_ERR_*` number.
    pub code: i32,
    /// Depth of the certificate a refusal is about; 0 is the leaf.
    pub depth: u32,
    /// First second at which the CRLs may say otherwise, as far as that is known.
    pub until: i64,
}

impl CrlSet {
    /// Adds the CRLs of a file: one in DER, or any number in PEM. Answers how many there were.
    ///
    /// # Errors
    /// What is wrong with the file. Nothing is added then.
    pub fn add(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let lists = read(bytes, MAX_FILE);
        ErrorStack::get();
        let lists = lists?;
        let count = lists.len();
        self.lists.extend(lists);
        Ok(count)
    }

    /// Why a CRL is not plain, for each that is not.
    pub fn oddities(&self) -> impl Iterator<Item = String> + '_ {
        let odd = |list: &List| list.oddity.as_deref().map(|oddity| list.about(oddity));
        self.lists.iter().filter_map(odd)
    }

    /// Whether some CRL is not plain, so that only OpenSSL's own check, which reads every CRL
    /// anew each time, does the set justice.
    pub fn needs_openssl(&self) -> bool {
        self.lists.iter().any(|list| list.oddity.is_some())
    }

    /// Whether the set holds no CRL, so that no chain passes.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// SHA-256 of the content: the CRLs, in any order.
    pub fn digest(&self) -> [u8; 32] {
        let mut digests: Vec<_> = self.lists.iter().map(|list| list.digest).collect();
        digests.sort_unstable();
        digests.dedup();
        sha256(digests.as_flattened())
    }

    /// Verifies the chain of an initialised context, whose time is set to `now`, and the status
    /// of its certificates. The CRLs serve this call only and leave no trace in the store.
    ///
    /// # Errors
    /// When OpenSSL could not decide.
    pub fn verify(
        &self,
        context: &mut X509StoreContextRef,
        now: i64,
    ) -> Result<Outcome, ErrorStack> {
        let with_openssl = self.needs_openssl();
        let trusted = if with_openssl {
            ext::verify_with_crls(context, self.lists.iter().map(|list| &*list.crl))?
        } else {
            context.verify_cert()?
        };
        let error = context.error();
        match context.chain() {
            Some(chain) if trusted && error == X509VerifyResult::OK => Ok(match with_openssl {
                true => self.passed(now),
                false => self.check(chain, now),
            }),
            _ => {
                let code = match error.as_raw() {
                    // A chain that is refused must never read as X509_V_OK.
                    sys::X509_V_OK => sys::X509_V_ERR_UNSPECIFIED,
                    code => code,
                };
                Ok(Outcome {
                    code,
                    depth: context.error_depth(),
                    until: now,
                })
            }
        }
    }

    /// Checks a verified chain, leaf first and anchor last, against plain CRLs.
    pub fn check(&self, chain: &StackRef<X509>, now: i64) -> Outcome {
        let chain: Vec<&X509Ref> = chain.iter().collect();
        let mut rest = &chain[..];
        let mut depth = 0;
        while let [certificate, above @ ..] = rest {
            if above.is_empty() {
                break;
            }
            if let Err(code) = self.status(certificate, above, now) {
                return Outcome {
                    code,
                    depth,
                    until: now,
                };
            }
            rest = above;
            depth += 1;
        }
        self.passed(now)
    }

    /// Whether a CRL in force revokes any certificate of a verified chain, leaf first and anchor
    /// last, whatever the set lacks for the others.
    pub fn revokes(&self, chain: &[X509], now: i64) -> bool {
        let chain: Vec<&X509Ref> = chain.iter().map(|certificate| &**certificate).collect();
        (0..chain.len().saturating_sub(1)).any(|depth| {
            let (Some(certificate), Some(above)) = (chain.get(depth), chain.get(depth + 1..))
            else {
                return false;
            };
            self.status(certificate, above, now) == Err(sys::X509_V_ERR_CERT_REVOKED)
        })
    }

    /// The status of one certificate with what stands above it in its chain, as an
    /// `X509_V_ERR_*` number unless it is good.
    fn status(&self, certificate: &X509Ref, above: &[&X509Ref], now: i64) -> Result<(), c_int> {
        let name = certificate.issuer_name();
        let mut code = sys::X509_V_ERR_UNABLE_TO_GET_CRL;
        let mut best: Option<&List> = None;
        // Whom an odd CRL speaks for is OpenSSL's to say.
        let plain = self.lists.iter().filter(|list| list.oddity.is_none());
        for list in plain.filter(|list| same(list.issuer(), name)) {
            // A CA that changed its key signs its CRLs with either, certified in this chain.
            let issuers = above
                .iter()
                .filter(|issuer| same(issuer.subject_name(), name));
            match issuers.map(|issuer| list.signed_by(issuer)).max() {
                Some(Signature::Good) => {
                    let rank = |list: &List| (list.in_force(now).is_ok(), list.this);
                    if best.is_none_or(|best| rank(list) > rank(best)) {
                        best = Some(list);
                    }
                }
                Some(Signature::NotAllowed) => code = sys::X509_V_ERR_KEYUSAGE_NO_CRL_SIGN,
                Some(Signature::Bad) => code = sys::X509_V_ERR_CRL_SIGNATURE_FAILURE,
                Some(Signature::OtherKey) | None => {}
            }
        }
        let list = best.ok_or(code)?;
        list.in_force(now)?;
        match list.revoked(certificate.serial_number()) {
            Some(_) => Err(sys::X509_V_ERR_CERT_REVOKED),
            None => Ok(()),
        }
    }

    /// Good until the next second at which a CRL of the set comes into or goes out of force.
    fn passed(&self, now: i64) -> Outcome {
        let times = self
            .lists
            .iter()
            .flat_map(|list| [Some(list.this), list.next])
            .flatten();
        Outcome {
            code: sys::X509_V_OK,
            depth: 0,
            until: times.filter(|time| *time > now).min().unwrap_or(i64::MAX),
        }
    }
}

/// What a key says of a CRL's signature, worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Signature {
    /// By a key that the CRL itself says is another.
    OtherKey,
    Bad,
    /// Good, but the certificate of the key does not let it sign CRLs.
    NotAllowed,
    Good,
}

/// A CRL as read; nothing is known of its signature yet.
struct List {
    crl: X509Crl,
    digest: [u8; 32],
    this: i64,
    next: Option<i64>,
    /// Why it is not plain.
    oddity: Option<String>,
    signatures: Mutex<Vec<(X509, Signature)>>,
}

impl List {
    fn from_der(der: &[u8]) -> Result<List, String> {
        let unreadable = |stack| format!("not a readable CRL: {}", answer::unreadable(&stack));
        let time = |time| epoch(time).map_err(|_| "not a readable CRL: bad time".to_owned());
        let (crl, len) = ext::crl_from_der(der).map_err(unreadable)?;
        if len != der.len() {
            return Err(format!("{} bytes follow the CRL", der.len() - len));
        }
        // The first look-up sorts the entries. Here rather than while a request waits.
        let zero = BigNum::new()
            .and_then(|zero| zero.to_asn1_integer())
            .map_err(unreadable)?;
        crl.get_by_serial(&zero);
        Ok(List {
            digest: sha256(der),
            this: time(crl.last_update())?,
            next: crl.next_update().map(time).transpose()?,
            oddity: oddity(&crl),
            crl,
            signatures: Mutex::default(),
        })
    }

    fn issuer(&self) -> &X509NameRef {
        self.crl.issuer_name()
    }

    /// Whether `issuer` signed the CRL and was allowed to.
    fn vouch(&self, issuer: &X509Ref) -> Result<(), String> {
        match self.signed_by(issuer) {
            Signature::Good => Ok(()),
            Signature::NotAllowed => Err(self.about("its issuer has a key usage without cRLSign")),
            Signature::Bad => Err(self.about("bad signature")),
            Signature::OtherKey => Err(self.about("signed with another key of this issuer")),
        }
    }

    fn about(&self, what: &str) -> String {
        format!("CRL of '{}': {what}", text(self.issuer()))
    }

    fn signed_by(&self, issuer: &X509Ref) -> Signature {
        let mut known = self
            .signatures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, signature)) = known.iter().find(|(known, _)| &**known == issuer) {
            return *signature;
        }
        let allowed = |usage: X509KeyUsage| usage.contains(X509KeyUsage::CRL_SIGN);
        let signature = if !ext::key_id_matches(&self.crl, issuer) {
            Signature::OtherKey
        } else {
            match issuer.public_key().and_then(|key| self.crl.verify(&key)) {
                Ok(true) if issuer.key_usage().is_none_or(allowed) => Signature::Good,
                Ok(true) => Signature::NotAllowed,
                _ => Signature::Bad,
            }
        };
        ErrorStack::get();
        if known.len() == MAX_ISSUERS {
            known.clear();
        }
        known.push((issuer.to_owned(), signature));
        signature
    }

    /// An `X509_V_ERR_*` number when it is not in force. As OpenSSL, without a skew.
    fn in_force(&self, now: i64) -> Result<(), c_int> {
        if self.this > now {
            return Err(sys::X509_V_ERR_CRL_NOT_YET_VALID);
        }
        match self.next {
            Some(next) if next <= now => Err(sys::X509_V_ERR_CRL_HAS_EXPIRED),
            _ => Ok(()),
        }
    }

    /// Time and reason of a revocation.
    fn revoked(&self, serial: &Asn1IntegerRef) -> Option<(Option<i64>, &'static str)> {
        // removeFromCRL takes back a hold.
        let CrlStatus::Revoked(entry) = self.crl.get_by_serial(serial) else {
            return None;
        };
        let code = match entry.extension::<ReasonCode>() {
            Ok(Some((_, code))) => code.get_i64().unwrap_or(0),
            _ => 0,
        };
        Some((epoch(entry.revocation_date()).ok(), reason(code)))
    }
}

/// Why the CRL is not plain.
fn oddity(crl: &X509Crl) -> Option<String> {
    for (object, critical) in ext::crl_extensions(crl) {
        match object.nid() {
            Nid::DELTA_CRL => return Some("is a delta CRL".to_owned()),
            Nid::ISSUING_DISTRIBUTION_POINT => {
                return Some(
                    "has an issuingDistributionPoint: it is partial or indirect".to_owned(),
                )
            }
            Nid::AUTHORITY_KEY_IDENTIFIER => {}
            _ if critical => return Some(format!("has the critical extension {object}")),
            _ => {}
        }
    }
    if crl
        .get_revoked()
        .into_iter()
        .flatten()
        .any(ext::is_odd_entry)
    {
        return Some("has an entry with a critical extension or of another issuer".to_owned());
    }
    match crl.next_update() {
        Some(_) => None,
        None => Some("has no nextUpdate".to_owned()),
    }
}

fn read(bytes: &[u8], max: usize) -> Result<Vec<List>, String> {
    if bytes.len() > max {
        return Err(format!(
            "CRL of {} bytes is over the limit of {max}",
            bytes.len()
        ));
    }
    // No CRL is so short that its DER could be taken for text.
    if matches!(bytes, [0x30, length, ..] if *length >= 0x80) {
        return Ok(vec![List::from_der(bytes)?]);
    }
    let pem = String::from_utf8_lossy(bytes);
    let blocks = pem.split(BEGIN).skip(1).map(|block| {
        // Decoded here: OpenSSL would ask the terminal for the password of an encrypted block.
        let (body, _) = block
            .split_once(END)
            .ok_or("PEM block without its END line")?;
        let mut body = body.to_owned();
        body.retain(|c| !c.is_ascii_whitespace());
        let der = STANDARD
            .decode(body)
            .map_err(|error| format!("PEM block: {error}"))?;
        List::from_der(&der)
    });
    let lists = blocks.collect::<Result<Vec<_>, String>>()?;
    if lists.is_empty() {
        return Err(format!(
            "no CRL found, expected DER or PEM blocks '{BEGIN}'"
        ));
    }
    Ok(lists)
}

fn same(one: &X509NameRef, other: &X509NameRef) -> bool {
    one.try_cmp(other).is_ok_and(Ordering::is_eq)
}

fn text(name: &X509NameRef) -> String {
    name::rfc2253(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openssl_ext::x509::set_verify_time;
    use crate::testing::{issue, stack, Issued, NOW};
    use crate::trust::test_ca::{der, now, TestCa};
    use openssl::hash::MessageDigest;
    use openssl::pkey::{PKey, Private};
    use openssl::sign::Signer;
    use openssl::x509::store::{X509Store, X509StoreBuilder};
    use openssl::x509::X509StoreContext;

    const DAY: i64 = 86_400;

    /// A CRL made by hand, in force a day from `testing::NOW`, 2027-01-15 08:00:00.
    struct Made<'a> {
        issuer: &'a Issued,
        this: &'a str,
        next: &'a str,
        entries: Vec<u8>,
        extensions: Vec<u8>,
    }

    impl Made<'_> {
        fn by(issuer: &Issued) -> Made<'_> {
            Made {
                issuer,
                this: "270115080000Z",
                next: "270116080000Z",
                entries: Vec::new(),
                extensions: Vec::new(),
            }
        }

        fn with(mut self, extension: Vec<u8>) -> Self {
            self.extensions.extend(extension);
            self
        }

        /// Revoked an hour before NOW.
        fn revoke(mut self, serial: &[u8], extensions: &[u8]) -> Self {
            let extensions = match extensions {
                [] => Vec::new(),
                extensions => der(0x30, &[extensions]),
            };
            let time = der(0x17, &[b"270115070000Z"]);
            self.entries
                .extend(der(0x30, &[&der(0x02, &[serial]), &time, &extensions]));
            self
        }

        fn der(&self) -> Vec<u8> {
            self.signed_with(&self.issuer.key)
        }

        fn signed_with(&self, key: &PKey<Private>) -> Vec<u8> {
            let time = |text: &str| match text {
                "" => Vec::new(),
                text => der(0x17, &[text.as_bytes()]),
            };
            // ecdsa-with-SHA256
            let algorithm = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
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

    /// Extension 2.5.29.`id`.
    fn ce(id: u8, critical: bool, value: &[u8]) -> Vec<u8> {
        let critical: &[u8] = if critical { b"\x01\x01\xff" } else { b"" };
        der(
            0x30,
            &[b"\x06\x03\x55\x1d", &[id], critical, &der(0x04, &[value])],
        )
    }

    fn serial(certificate: &X509Ref) -> Vec<u8> {
        certificate.serial_number().to_bn().unwrap().to_vec()
    }

    fn ca() -> Issued {
        issue("CA", None, true, DAY, &[])
    }

    fn leaf(ca: &Issued) -> Issued {
        issue("leaf", Some(ca), false, DAY, &[])
    }

    fn load(bytes: &[u8], issuer: &Issued) -> Result<Crl, String> {
        let crl = Crl::load(bytes, &issuer.x509, MAX_FETCHED);
        assert!(ErrorStack::get().errors().is_empty());
        crl
    }

    #[track_caller]
    fn assert_no_crl(bytes: &[u8], issuer: &Issued, why: &str) {
        assert_eq!(load(bytes, issuer).map(|_| ()), Err(why.to_owned()));
    }

    #[test]
    fn answer_from_a_crl_of_openssl_ca() {
        let ca = TestCa::new();
        let good = ca.issue("good", "extendedKeyUsage=clientAuth").x509;
        let bad = ca.issue("bad", "extendedKeyUsage=clientAuth").x509;
        let plain = ca.issue("plain", "extendedKeyUsage=clientAuth").x509;
        ca.enter(&good, 'V', "");
        ca.enter(&bad, 'R', "260102030405Z,superseded");
        ca.enter(&plain, 'R', "260102030406Z");
        let pem = ca.crl("", &[]);
        let from_pem = Crl::load(&pem, &ca.x509, MAX_FETCHED).unwrap();
        let der = X509Crl::from_pem(&pem).unwrap().to_der().unwrap();
        let from_der = Crl::load(&der, &ca.x509, MAX_FETCHED).unwrap();
        for crl in [from_pem, from_der] {
            let until = crl.until();
            assert!((until - now() - DAY).abs() < 60);
            assert_eq!(crl.answer(&good, &ca.x509, now()), Answer::Good { until });
            let since = Some(1_767_323_045);
            assert_eq!(
                crl.answer(&bad, &ca.x509, now()),
                Answer::Revoked {
                    until,
                    since,
                    reason: "superseded"
                }
            );
            let since = Some(1_767_323_046);
            assert_eq!(
                crl.answer(&plain, &ca.x509, now()),
                Answer::Revoked {
                    until,
                    since,
                    reason: "unspecified"
                }
            );
        }
    }

    #[test]
    fn load_partial_and_delta_crls_of_openssl_ca_are_no_answer() {
        let ca = TestCa::new();
        let partial = "CRL of 'CN=Test CA,O=Example': has an issuingDistributionPoint: it is \
                       partial or indirect";
        let delta = "CRL of 'CN=Test CA,O=Example': is a delta CRL";
        for (extensions, why) in [
            (
                "issuingDistributionPoint=critical,@idp\n[idp]\nonlyuser=TRUE",
                partial,
            ),
            (
                "issuingDistributionPoint=critical,@idp\n[idp]\nonlyCA=TRUE",
                partial,
            ),
            (
                "issuingDistributionPoint=critical,@idp\n[idp]\nindirectCRL=TRUE",
                partial,
            ),
            (
                "issuingDistributionPoint=@idp\n[idp]\nonlysomereasons=keyCompromise",
                partial,
            ),
            (
                "issuingDistributionPoint=@idp\n[idp]\nfullname=URI:http://a.example/",
                partial,
            ),
            ("2.5.29.27=critical,DER:020107", delta),
            ("2.5.29.27=DER:020107", delta),
        ] {
            let loaded = Crl::load(&ca.crl(extensions, &[]), &ca.x509, MAX_FETCHED);
            assert_eq!(loaded.map(|_| ()), Err(why.to_owned()), "{extensions}");
        }
    }

    #[test]
    fn load_odd_crls_are_no_answer() {
        let ca = ca();
        let entry =
            "CRL of 'CN=CA,O=Example': has an entry with a critical extension or of another \
                     issuer";
        for (made, why) in [
            (
                Made::by(&ca).with(ce(46, true, b"\x30\x00")),
                "CRL of 'CN=CA,O=Example': has the critical extension X509v3 Freshest CRL",
            ),
            (
                Made::by(&ca)
                    .with(ce(20, false, b"\x02\x01\x01"))
                    .with(ce(99, true, b"")),
                "CRL of 'CN=CA,O=Example': has the critical extension 2.5.29.99",
            ),
            (
                Made {
                    next: "",
                    ..Made::by(&ca)
                },
                "CRL of 'CN=CA,O=Example': has no nextUpdate",
            ),
            (
                Made::by(&ca)
                    .revoke(b"\x01", b"")
                    .revoke(b"\x02", &ce(99, true, b"")),
                entry,
            ),
            // certificateIssuer, which is to be critical.
            (
                Made::by(&ca).revoke(b"\x02", &ce(29, false, b"\x30\x00")),
                entry,
            ),
        ] {
            assert_no_crl(&made.der(), &ca, why);
        }
        let known = Made::by(&ca)
            .with(ce(35, true, b"\x30\x00"))
            .with(ce(46, false, b"\x30\x00"))
            .revoke(b"\x02", &ce(99, false, b""));
        assert!(load(&known.der(), &ca).is_ok());
    }

    #[test]
    fn load_crl_of_another_issuer_is_no_answer() {
        let (one, other) = (ca(), issue("Other CA", None, true, DAY, &[]));
        assert_no_crl(
            &Made::by(&other).der(),
            &one,
            "CRL of 'CN=Other CA,O=Example', expected one of 'CN=CA,O=Example'",
        );
        // Only its key tells a namesake apart.
        let signature = "CRL of 'CN=CA,O=Example': bad signature";
        assert_no_crl(&Made::by(&ca()).der(), &one, signature);
        assert_no_crl(&Made::by(&one).signed_with(&other.key), &one, signature);
    }

    #[test]
    fn load_changed_crl_is_no_answer() {
        let ca = ca();
        let leaf = leaf(&ca);
        let der = Made::by(&ca).revoke(b"\x05", b"").der();
        let good = load(&der, &ca).unwrap().answer(&leaf.x509, &ca.x509, NOW);
        assert_eq!(good, Answer::Good { until: NOW + DAY });
        for index in 0..der.len() * 8 {
            let mut changed = der.clone();
            changed[index / 8] ^= 1 << (index % 8);
            if let Ok(crl) = load(&changed, &ca) {
                // The spare bits of the signature's BIT STRING.
                assert_eq!(crl.answer(&leaf.x509, &ca.x509, NOW), good, "bit {index}");
            }
        }
        for len in 0..der.len() {
            assert!(load(&der[..len], &ca).is_err(), "{len}");
        }
    }

    #[test]
    fn load_issuer_must_be_allowed_to_sign_crls() {
        let ca = TestCa::root("No CRLs", "keyCertSign");
        let loaded = Crl::load(&ca.crl("", &[]), &ca.x509, MAX_FETCHED);
        let why = "CRL of 'CN=No CRLs,O=Example': its issuer has a key usage without cRLSign";
        assert_eq!(loaded.map(|_| ()), Err(why.to_owned()));
    }

    #[test]
    fn load_other_bytes_are_no_answer() {
        let ca = ca();
        let made = Made::by(&ca);
        let none = "no CRL found, expected DER or PEM blocks '-----BEGIN X509 CRL-----'";
        assert_no_crl(b"", &ca, none);
        assert_no_crl(b"0", &ca, none);
        assert_no_crl(b"<html>Not Found</html>", &ca, none);
        assert_no_crl(&ca.x509.to_pem().unwrap(), &ca, none);
        assert_no_crl(
            &ca.x509.to_der().unwrap(),
            &ca,
            "not a readable CRL: wrong tag",
        );
        assert_no_crl(
            &[made.der(), vec![0; 3]].concat(),
            &ca,
            "3 bytes follow the CRL",
        );
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
    fn load_time_that_is_none_is_no_answer() {
        let ca = ca();
        for made in [
            Made {
                this: "271315080000Z",
                ..Made::by(&ca)
            },
            Made {
                next: "271315080000Z",
                ..Made::by(&ca)
            },
        ] {
            assert_no_crl(&made.der(), &ca, "not a readable CRL: bad time");
        }
    }

    #[test]
    fn answer_times_bear_a_skew_of_five_minutes() {
        let ca = ca();
        let leaf = leaf(&ca);
        let crl = load(&Made::by(&ca).der(), &ca).unwrap();
        let no_answer = |why: &str| Answer::NoAnswer(format!("CRL of 'CN=CA,O=Example': {why}"));
        let good = Answer::Good { until: NOW + DAY };
        assert_eq!(
            crl.answer(&leaf.x509, &ca.x509, NOW - 301),
            no_answer("thisUpdate is 301 s in the future")
        );
        assert_eq!(crl.answer(&leaf.x509, &ca.x509, NOW - 300), good);
        assert_eq!(crl.answer(&leaf.x509, &ca.x509, NOW + DAY + 299), good);
        assert_eq!(
            crl.answer(&leaf.x509, &ca.x509, NOW + DAY + 300),
            no_answer("nextUpdate was 300 s ago")
        );
    }

    #[test]
    fn answer_certificate_of_another_issuer_is_none() {
        let ca = ca();
        let other = issue("Other CA", None, true, DAY, &[]);
        let crl = load(&Made::by(&ca).der(), &ca).unwrap();
        assert_eq!(
            crl.answer(&leaf(&other).x509, &other.x509, NOW),
            Answer::NoAnswer(
                "CRL of 'CN=CA,O=Example': says nothing about certificates of 'CN=Other \
                 CA,O=Example'"
                    .to_owned()
            )
        );
    }

    #[test]
    fn answer_certificate_of_a_namesake_is_none() {
        let (ca, namesake) = (self::ca(), self::ca());
        let crl = load(&Made::by(&ca).der(), &ca).unwrap();
        assert_eq!(
            crl.answer(&leaf(&namesake).x509, &namesake.x509, NOW),
            Answer::NoAnswer("CRL of 'CN=CA,O=Example': bad signature".to_owned())
        );
    }

    #[test]
    fn answer_removed_from_the_crl_is_good() {
        let ca = ca();
        let leaf = leaf(&ca);
        let entry = |code: u8| {
            let made = Made::by(&ca).revoke(&serial(&leaf.x509), &ce(21, false, &[0x0a, 1, code]));
            load(&made.der(), &ca)
                .unwrap()
                .answer(&leaf.x509, &ca.x509, NOW)
        };
        let (until, since) = (NOW + DAY, Some(NOW - 3600));
        assert_eq!(
            entry(6),
            Answer::Revoked {
                until,
                since,
                reason: "certificateHold"
            }
        );
        assert_eq!(entry(8), Answer::Good { until });
    }

    #[test]
    fn answer_from_100_000_entries_takes_microseconds() {
        let ca = ca();
        let made = (0..100_000u32).rev().fold(Made::by(&ca), |made, number| {
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
                crl.answer(&leaf.x509, &ca.x509, NOW),
                Answer::Revoked { .. }
            ));
            assert!(matches!(
                crl.answer(&good.x509, &ca.x509, NOW),
                Answer::Good { .. }
            ));
        }
        let each = start.elapsed() / 1000;
        println!(
            "100,001 entries, {} bytes: load {loaded:?}, answer {each:?}",
            der.len()
        );
        // The budget is 10 us; unoptimised, on a busy machine, a linear search still takes 1 ms.
        assert!(each.as_micros() < 100, "{each:?}");
    }

    fn set(ders: &[&[u8]]) -> CrlSet {
        let mut set = CrlSet::default();
        for der in ders {
            assert_eq!(set.add(der), Ok(1));
        }
        set
    }

    fn store(anchors: &[&X509]) -> X509Store {
        let mut store = X509StoreBuilder::new().unwrap();
        for anchor in anchors {
            store.add_cert((*anchor).clone()).unwrap();
        }
        store.build()
    }

    /// `certificates` is leaf, intermediates, anchor.
    fn verify(set: &CrlSet, certificates: &[&X509], now: i64) -> Outcome {
        let [leaf, untrusted @ .., anchor] = certificates else {
            panic!()
        };
        X509StoreContext::new()
            .unwrap()
            .init(&store(&[anchor]), leaf, &stack(untrusted), |context| {
                set_verify_time(context, now);
                set.verify(context, now)
            })
            .unwrap()
    }

    /// What OpenSSL makes of CRLs that would not need it.
    fn verify_with_openssl(set: &CrlSet, certificates: &[&X509], now: i64) -> (i32, u32) {
        let [leaf, untrusted @ .., anchor] = certificates else {
            panic!()
        };
        X509StoreContext::new()
            .unwrap()
            .init(&store(&[anchor]), leaf, &stack(untrusted), |context| {
                set_verify_time(context, now);
                let crls = set.lists.iter().map(|list| &*list.crl);
                let verified = ext::verify_with_crls(context, crls)?;
                assert_eq!(verified, context.error() == X509VerifyResult::OK);
                Ok((
                    context.error().as_raw(),
                    if verified { 0 } else { context.error_depth() },
                ))
            })
            .unwrap()
    }

    #[track_caller]
    fn assert_outcome(ders: &[&[u8]], certificates: &[&X509], code: i32, depth: u32, until: i64) {
        let set = set(ders);
        assert!(!set.needs_openssl());
        // Twice, the second time from memory.
        for _ in 0..2 {
            assert_eq!(
                verify(&set, certificates, NOW),
                Outcome { code, depth, until }
            );
        }
        assert_eq!(verify_with_openssl(&set, certificates, NOW), (code, depth));
        assert!(ErrorStack::get().errors().is_empty() || code != 0);
    }

    #[test]
    fn verify_agrees_with_openssl() {
        let pki = crate::testing::pki();
        let chain = [&pki.below.x509, &pki.intermediate.x509, &pki.ca.x509];
        let (leaf, intermediate) = (serial(chain[0]), serial(chain[1]));
        let by_ca = || Made::by(&pki.ca);
        let by_intermediate = || Made::by(&pki.intermediate);
        let (upper, lower) = (by_ca().der(), by_intermediate().der());

        let end = NOW + DAY;
        assert_outcome(&[&upper, &lower], &chain, 0, 0, end);
        let short = Made {
            next: "270115080100Z",
            ..by_ca()
        }
        .der();
        assert_outcome(&[&short, &lower], &chain, 0, 0, NOW + 60);

        assert_outcome(&[], &chain, 3, 0, NOW);
        assert_outcome(&[&upper], &chain, 3, 0, NOW);
        assert_outcome(&[&lower], &chain, 3, 1, NOW);

        let revoked = by_intermediate().revoke(&leaf, b"").der();
        assert_outcome(&[&upper, &revoked], &chain, 23, 0, NOW);
        let revoked_intermediate = by_ca().revoke(&leaf, b"").revoke(&intermediate, b"").der();
        assert_outcome(&[&revoked_intermediate, &lower], &chain, 23, 1, NOW);
        let another = by_intermediate().revoke(&intermediate, b"").der();
        assert_outcome(&[&upper, &another], &chain, 0, 0, end);
        let removed = by_intermediate()
            .revoke(&leaf, &ce(21, false, b"\x0a\x01\x08"))
            .der();
        assert_outcome(&[&upper, &removed], &chain, 0, 0, end);

        let expired = Made {
            this: "270114080000Z",
            next: "270115080000Z",
            ..by_intermediate()
        };
        assert_outcome(&[&upper, &expired.der()], &chain, 12, 0, NOW);
        let future = Made {
            this: "270115080001Z",
            ..by_intermediate()
        };
        assert_outcome(&[&upper, &future.der()], &chain, 11, 0, NOW);
        let forged = by_intermediate().signed_with(&pki.ca.key);
        assert_outcome(&[&upper, &forged], &chain, 8, 0, NOW);

        // Of several in force the newest counts, and one that is not in force never does.
        let older = Made {
            this: "270115070000Z",
            ..by_intermediate()
        }
        .revoke(&leaf, b"")
        .der();
        assert_outcome(&[&upper, &older, &lower], &chain, 0, 0, end);
        assert_outcome(&[&upper, &lower, &older], &chain, 0, 0, end);
        let older = Made {
            this: "270115070000Z",
            ..by_intermediate()
        }
        .der();
        assert_outcome(&[&upper, &older, &revoked], &chain, 23, 0, NOW);
        // A CRL of tomorrow says nothing today, and the verdict ends when it begins to.
        let soon = Made {
            this: "270115083000Z",
            ..by_intermediate()
        }
        .revoke(&leaf, b"")
        .der();
        assert_outcome(&[&upper, &lower, &soon], &chain, 0, 0, NOW + 1800);
        let gone = Made {
            this: "270115073000Z",
            next: "270115080000Z",
            ..by_intermediate()
        };
        assert_outcome(&[&upper, &older, &gone.der()], &chain, 0, 0, end);
    }

    #[test]
    fn verify_crl_signed_with_the_former_key_of_the_ca_agrees_with_openssl() {
        let root = TestCa::new();
        let old = root.sub_ca("Rollover");
        let new = old.sub_ca("Rollover");
        let leaf = new.issue("leaf", "authorityKeyIdentifier = keyid").x509;
        // A minute ahead: the CRLs below are made a moment later.
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
            assert_eq!(verify(&set, &chain, now).code, 0);
            assert_eq!(verify_with_openssl(&set, &chain, now), (0, 0));
        }
        // The new key does not answer for the certificate that the old one gave it.
        let only_new = set(&[&by(&root), &by(&new)]);
        assert_eq!(
            verify(&only_new, &chain, now),
            Outcome {
                code: 3,
                depth: 1,
                until: now
            }
        );
        assert_eq!(verify_with_openssl(&only_new, &chain, now), (3, 1));
        let why = "CRL of 'CN=Rollover,O=Example': signed with another key of this issuer";
        let loaded = Crl::load(&by(&new), &old.x509, MAX_FETCHED);
        assert_eq!(loaded.map(|_| ()), Err(why.to_owned()));
        old.enter(&leaf, 'R', "260102030405Z");
        let set = set(&[&by(&root), &by(&old)]);
        assert_eq!(
            verify(&set, &chain, now),
            Outcome {
                code: 23,
                depth: 0,
                until: now
            }
        );
        assert_eq!(verify_with_openssl(&set, &chain, now), (23, 0));
    }

    #[test]
    fn verify_issuer_without_crl_sign_agrees_with_openssl() {
        let ca = TestCa::root("No CRLs", "keyCertSign");
        let leaf = ca.issue("leaf", "extendedKeyUsage=clientAuth");
        let set = set(&[&X509Crl::from_pem(&ca.crl("", &[]))
            .unwrap()
            .to_der()
            .unwrap()]);
        let (chain, now) = ([&leaf.x509, &ca.x509], now() + 60);
        assert_eq!(
            verify(&set, &chain, now),
            Outcome {
                code: 35,
                depth: 0,
                until: now
            }
        );
        assert_eq!(verify_with_openssl(&set, &chain, now), (35, 0));
    }

    #[test]
    fn verify_untrusted_chain_keeps_its_own_reason() {
        let (ca, other) = (ca(), issue("Other CA", None, true, DAY, &[]));
        let leaf = leaf(&ca);
        let partial = Made::by(&ca).with(ce(28, true, b"\x30\x00")).der();
        for set in [set(&[&Made::by(&ca).der()]), set(&[&partial])] {
            let outcome = verify(&set, &[&leaf.x509, &other.x509], NOW);
            assert_eq!(
                outcome,
                Outcome {
                    code: 20,
                    depth: 0,
                    until: NOW
                }
            );
        }
    }

    #[test]
    fn verify_partial_crls_with_openssl() {
        let pki = crate::testing::pki();
        let chain = [&pki.below.x509, &pki.intermediate.x509, &pki.ca.x509];
        let upper = Made {
            next: "270115090000Z",
            ..Made::by(&pki.ca)
        }
        .der();
        // onlyContainsUserCerts, onlyContainsCACerts
        let scope = |tag: u8| ce(28, true, &der(0x30, &[&[tag, 1, 0xff]]));
        let for_users = || Made::by(&pki.intermediate).with(scope(0x81));

        let users = set(&[&upper, &for_users().der()]);
        assert!(users.needs_openssl());
        let oddity =
            "CRL of 'CN=Test Intermediate,O=Example': has an issuingDistributionPoint: it \
                      is partial or indirect";
        assert_eq!(users.oddities().collect::<Vec<_>>(), [oddity]);
        assert_eq!(
            verify(&users, &chain, NOW),
            Outcome {
                code: 0,
                depth: 0,
                until: NOW + 3600
            }
        );

        let revoked = for_users().revoke(&serial(chain[0]), b"").der();
        let outcome = verify(&set(&[&upper, &revoked]), &chain, NOW);
        assert_eq!(
            outcome,
            Outcome {
                code: 23,
                depth: 0,
                until: NOW
            }
        );

        let authorities = Made::by(&pki.intermediate).with(scope(0x82)).der();
        let outcome = verify(&set(&[&upper, &authorities]), &chain, NOW);
        assert_eq!(
            outcome,
            Outcome {
                code: 44,
                depth: 0,
                until: NOW
            }
        );
    }

    #[test]
    fn verify_leaves_no_crl_behind() {
        let ca = ca();
        let leaf = leaf(&ca);
        let revoked = Made::by(&ca).revoke(&serial(&leaf.x509), b"");
        let plain = set(&[&revoked.der()]);
        let odd = set(&[&revoked.with(ce(28, false, b"\x30\x00")).der()]);
        let shared = store(&[&ca.x509]);
        let verify = |set: Option<&CrlSet>| {
            let verify = |context: &mut X509StoreContextRef| {
                set_verify_time(context, NOW);
                match set {
                    Some(set) => Ok(set.verify(context, NOW)?.code),
                    None => context.verify_cert().map(|_| context.error().as_raw()),
                }
            };
            let mut context = X509StoreContext::new().unwrap();
            context
                .init(&shared, &leaf.x509, &stack(&[]), verify)
                .unwrap()
        };
        for set in [&plain, &odd] {
            assert_eq!(verify(Some(set)), 23);
            assert_eq!(verify(None), 0);
        }
        assert_eq!(verify(Some(&CrlSet::default())), 3);
    }

    #[test]
    fn add_takes_several_in_pem_and_all_or_none() {
        let (one, two) = (ca(), ca());
        let (one, two) = (Made::by(&one), Made::by(&two));
        let mut both = CrlSet::default();
        assert!(both.is_empty());
        assert_eq!(
            both.add(format!("{}text\n{}", one.pem(), two.pem()).as_bytes()),
            Ok(2)
        );
        let half = format!("{}{BEGIN}\nMAA=\n{END}\n", one.pem());
        let why = "not a readable CRL: field missing: Field=crl, Type=X509_CRL";
        assert_eq!(both.add(half.as_bytes()), Err(why.to_owned()));
        assert_eq!(both.lists.len(), 2);
        assert!(!both.needs_openssl() && !both.is_empty());
    }

    #[test]
    fn digest_ignores_order_and_repetition() {
        let (one, two) = (ca(), ca());
        let (one, two) = (Made::by(&one).der(), Made::by(&two).der());
        let digest = |ders: &[&[u8]]| set(ders).digest();
        assert_eq!(digest(&[&one, &two]), digest(&[&two, &one, &two]));
        assert_ne!(digest(&[&one, &two]), digest(&[&one]));
        assert_ne!(digest(&[&one]), digest(&[]));
    }
}
