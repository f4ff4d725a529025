//! Certificate revocation lists (RFC 5280 section 5) as functions on bytes: one that was fetched
//! for a certificate, and the local files of a policy.
//!
//! What a CRL lists and what it does not list have different weight.
//!
//! - *CrlExpiry*: a certificate that stands in a CRL which its issuer signed is revoked, also if the
//!   CRL is expired, not yet valid, of partial scope, a delta, or has extensions that are malformed
//!   or critical and not supported. Only the CA takes it back: by a newer CRL of the same key and
//!   scope without the entry, or by `removeFromCRL`. An entry with the reason `certificateHold`
//!   counts while its CRL is in force. In a local CRL another key of the issuer's name may have
//!   signed, that of a CA of the policy under the same anchor.
//! - *Not listed*: only a CRL in force that is fully understood makes a certificate good.
//!
//! A CRL is *plain* if it covers every certificate of its issuer: full, direct, for all reasons,
//! with a nextUpdate and no critical extension that is not supported. Whether another CRL covers a
//! given certificate takes the rules of RFC 5280 section 6.3.3, which OpenSSL implements, see
//! [`ext::crl_status`]. A fetched CRL makes a certificate good only if it is plain.

#[cfg(test)]
mod random_tests;
mod scope;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::ffi::c_int;
use std::sync::{Arc, Mutex, PoisonError};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::sha::sha256;
use openssl::stack::Stack;
use openssl::x509::{
    CertificateIssuer, CrlStatus, GeneralName, ReasonCode, X509Crl, X509KeyUsage, X509NameRef,
    X509Ref, X509RevokedRef, X509,
};
use openssl_sys as sys;

use self::scope::{Number, Scope};
use super::revocation_status::{
    self, in_force, reason_name, revoked_until, RevocationStatus, CLOCK_SKEW,
};
use super::store::CertificationPath;
use super::CaCertificate;
use crate::certificate::{name, time, unix_seconds};
use crate::openssl_ext::revocation as ext;

/// Longest CRL that is fetched, in bytes.
pub const MAX_FETCHED: usize = 10 * 1024 * 1024;

/// Longest local file of CRLs, in bytes.
pub const MAX_FILE: usize = 64 * 1024 * 1024;

/// Most issuers remembered for one CRL: keys of one name, of which few are in use at a time.
const MAX_ISSUERS: usize = 8;

const BEGIN: &str = "-----BEGIN X509 CRL-----";
const END: &str = "-----END X509 CRL-----";

/// A CRL that its issuer signed.
pub struct Crl {
    list: List,
}

impl Crl {
    /// Reads a CRL of at most `max` bytes in DER or PEM that `issuer` signed.
    ///
    /// # Errors
    /// Why it says nothing, for [`RevocationStatus::Unknown`].
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
        match list.signed_by(issuer) {
            Signed { authentic, .. } if authentic => Ok(Crl { list }),
            Signed { standing, .. } => Err(list.about(standing.why())),
        }
    }

    /// What the CRL says about `certificate` at `now`. `issuer` is the next certificate of the
    /// verified chain: a CRL that was kept may be of another CA with the same name.
    pub fn status(&self, certificate: &X509Ref, issuer: &X509Ref, now: i64) -> RevocationStatus {
        match self.try_status(certificate, issuer, now) {
            Ok(answer) => answer,
            Err(why) => RevocationStatus::Unknown(self.list.about(&why)),
        }
    }

    fn try_status(
        &self,
        certificate: &X509Ref,
        issuer: &X509Ref,
        now: i64,
    ) -> Result<RevocationStatus, String> {
        let list = &self.list;
        if !same(list.issuer(), certificate.issuer_name()) {
            let issuer = text(certificate.issuer_name());
            return Err(format!("does not cover certificates of '{issuer}'"));
        }
        let Signed {
            standing,
            authentic,
        } = list.signed_by(issuer);
        if !authentic {
            return Err(standing.why().to_owned());
        }
        let next = list.next.unwrap_or(i64::MAX);
        let in_force = in_force(list.this, next, now, CLOCK_SKEW);
        let revoked = |since, reason| RevocationStatus::Revoked {
            until: revoked_until(next, now),
            since,
            reason,
        };
        match list.entry(certificate) {
            Entry::Revoked { since, reason } => return Ok(revoked(since, reason)),
            Entry::Held { since } if in_force.is_ok() => {
                return Ok(revoked(since, reason_name(HOLD)))
            }
            _ => {}
        }
        if let Some(oddity) = &list.oddity {
            return Err(oddity.clone());
        }
        if standing != Standing::Good {
            return Err(standing.why().to_owned());
        }
        in_force?;
        Ok(RevocationStatus::Good { until: next })
    }

    /// nextUpdate, in seconds since the unix_seconds.
    pub fn until(&self) -> Option<i64> {
        self.list.next
    }
}

/// The local CRLs of a policy, any number an issuer. For a chain to be good, every certificate
/// below the anchor needs a CRL in force, as with nginx's `ssl_crl` (`X509_V_FLAG_CRL_CHECK_ALL`).
#[derive(Default)]
pub struct CrlSet {
    lists: Vec<List>,
}

/// What came of checking a path against a [`CrlSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlVerdict {
    /// `X509_V_OK` (0) or an `X509_V_ERR_*` number.
    pub code: i32,
    /// Depth of the certificate a refusal is about; 0 is the leaf.
    pub depth: u32,
    /// First second at which the CRLs may say otherwise.
    pub until: i64,
}

/// When a local CRL ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlExpiry<'a> {
    /// The file, as the policy names it.
    pub file: &'a str,
    /// The issuer as RFC 2253 text.
    pub issuer: &'a str,
    /// nextUpdate, in seconds since the unix_seconds.
    pub next_update: Option<i64>,
}

impl CrlSet {
    /// Adds the CRLs of a file: one in DER, or any number in PEM. Returns how many there were.
    ///
    /// # Errors
    /// What is wrong with the file. Nothing is added then.
    pub fn add(&mut self, file: &str, bytes: &[u8]) -> Result<usize, String> {
        let lists = read(bytes, MAX_FILE);
        ErrorStack::get();
        let lists = lists?;
        let count = lists.len();
        let file: Arc<str> = file.into();
        self.lists.extend(lists.into_iter().map(|list| List {
            file: file.clone(),
            ..list
        }));
        Ok(count)
    }

    /// Why a CRL is not plain, for each that is not.
    pub fn limitations(&self) -> impl Iterator<Item = String> + '_ {
        let odd = |list: &List| list.oddity.as_deref().map(|oddity| list.about(oddity));
        self.lists.iter().filter_map(odd)
    }

    /// For each CRL that is not in force at `now`, since when or until when.
    pub fn out_of_force(&self, now: i64) -> impl Iterator<Item = String> + '_ {
        let lists = self.lists.iter();
        lists.filter_map(move |list| Some(list.about(&list.out_of_force(now)?)))
    }

    /// The same for each whose nextUpdate lies after `since`, and which expired by `now`.
    pub fn expired_since(&self, since: i64, now: i64) -> impl Iterator<Item = String> + '_ {
        let ended = move |next| since < next && next <= now;
        let lists = self.lists.iter();
        let lists = lists.filter(move |list| list.next.is_some_and(ended));
        lists.filter_map(move |list| {
            let text = list.about(&list.out_of_force(now)?);
            Some(format!("'{}': {text}", list.file))
        })
    }

    /// For each CRL of an issuer that is among `cas`, but signed by none of that name.
    pub fn not_signed_by<'a>(
        &'a self,
        cas: &'a [Arc<CaCertificate>],
    ) -> impl Iterator<Item = String> + 'a {
        self.lists.iter().filter_map(|list| {
            let cas = cas.iter().map(|ca| ca.x509());
            let mut named = cas.filter(|ca| same(list.issuer(), ca.subject_name()));
            let first = named.next()?;
            let strange = !list.signed_by(first).authentic
                && !named.any(|other| list.signed_by(other).authentic);
            ErrorStack::get();
            strange.then(|| {
                list.about(
                    "no CA of the plugin with this name signed it, so it has no effect there",
                )
            })
        })
    }

    /// When each CRL ends.
    pub fn expiries(&self) -> impl Iterator<Item = CrlExpiry<'_>> {
        self.lists.iter().map(|list| CrlExpiry {
            file: &list.file,
            issuer: &list.name,
            next_update: list.next,
        })
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

    /// Checks a verified path. Revoked at any depth comes before all that is missing.
    ///
    /// Below the anchor every certificate needs a CRL in force. From the anchor on, a certificate
    /// whose issuer is in the path needs one if the set holds CRLs of that issuer.
    pub fn check(&self, path: &CertificationPath, now: i64) -> CrlVerdict {
        let outcome = self.judge(path, now);
        ErrorStack::get();
        outcome
    }

    fn judge(&self, path: &CertificationPath, now: i64) -> CrlVerdict {
        let outcome = |code, depth: usize| CrlVerdict {
            code,
            depth: u32::try_from(depth).unwrap_or(u32::MAX),
            until: self.next_change(now),
        };
        let certificates = || Subject::all(path);
        for (depth, subject) in certificates().enumerate() {
            if self.revokes(&subject, path, now) {
                return outcome(sys::X509_V_ERR_CERT_REVOKED, depth);
            }
        }
        for (depth, subject) in certificates().enumerate() {
            let needed = depth < path.anchor()
                || (!subject.above.is_empty() && self.of(subject.issuer()).next().is_some());
            if !needed {
                continue;
            }
            if let Err(code) = self.status(&subject, now) {
                return outcome(code, depth);
            }
        }
        outcome(sys::X509_V_OK, 0)
    }

    /// The CRLs of an issuer of this name.
    fn of<'a>(&'a self, name: &'a X509NameRef) -> impl Iterator<Item = &'a List> {
        self.lists
            .iter()
            .filter(move |list| same(list.issuer(), name))
    }

    /// Whether a CRL lists the certificate and was signed by somebody who may say so, and the CA
    /// did not take it back.
    fn revokes(&self, subject: &Subject<'_>, path: &CertificationPath, now: i64) -> bool {
        self.lists.iter().any(|list| {
            let counts = match list.entry(subject.certificate) {
                Entry::Revoked { .. } => true,
                Entry::Held { .. } => list.in_force(now).is_ok(),
                Entry::Removed | Entry::Absent => false,
            };
            let says = |signer: &X509Ref| {
                list.signed_by(signer).authentic
                    && !self.takes_back(list, signer, subject.certificate, now, |_| true)
            };
            counts
                && (subject.signers_of(list).any(says)
                    || subject
                        .namesakes_for(list)
                        .any(|ca| says(ca) && path.shares_anchor(ca)))
        })
    }

    /// Whether a newer CRL by the same key takes back what `list` says of the certificate.
    fn takes_back(
        &self,
        list: &List,
        signer: &X509Ref,
        certificate: &X509Ref,
        now: i64,
        accepted: impl Fn(&List) -> bool,
    ) -> bool {
        let replaces = |newer: &List| {
            let entry = newer.entry(certificate);
            match (&newer.delta, &list.delta) {
                (None, _) => matches!(entry, Entry::Absent | Entry::Removed),
                // A delta CRL that does not list the certificate says that nothing changed.
                // RFC 5280 section 5.2.4: its base at most is the complete one, and it is numbered.
                (Some(base), None) => {
                    entry == Entry::Removed
                        && base.is_some()
                        && *base <= list.number
                        && newer.number.is_some()
                }
                (Some(_), Some(_)) => entry == Entry::Removed,
            }
        };
        self.of(list.issuer()).any(|newer| {
            newer.is_newer(list)
                && newer.this <= now
                && newer.scope == list.scope
                && newer.is_understood()
                && accepted(newer)
                && replaces(newer)
                && newer.signed_by(signer).standing == Standing::Good
        })
    }

    /// The status of a certificate that no CRL revokes, as an `X509_V_ERR_*` number unless it is
    /// good.
    fn status(&self, subject: &Subject<'_>, now: i64) -> Result<(), c_int> {
        let mut code = sys::X509_V_ERR_UNABLE_TO_GET_CRL;
        let mut best: Option<(&List, &X509Ref)> = None;
        let mut partial = false;
        for list in self.of(subject.issuer()) {
            let signers = subject.signers_of(list);
            let standing = |signer: &'_ X509Ref| list.signed_by(signer).standing;
            let best_signer = signers
                .map(|signer| (standing(signer), signer))
                .max_by_key(|(standing, _)| *standing);
            match best_signer {
                Some((Standing::Good, _)) if list.oddity.is_some() => match list.scope {
                    Scope::Malformed(_) => code = sys::X509_V_ERR_DIFFERENT_CRL_SCOPE,
                    _ if list.unsupported => {
                        code = sys::X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION;
                    }
                    _ => partial |= list.is_for_openssl(),
                },
                Some((Standing::Good, signer)) => {
                    let rank = |list: &List| (list.in_force(now).is_ok(), list.this);
                    if best.is_none_or(|(best, _)| rank(list) > rank(best)) {
                        best = Some((list, signer));
                    }
                }
                Some((Standing::NotAllowed, _)) => code = sys::X509_V_ERR_KEYUSAGE_NO_CRL_SIGN,
                Some((Standing::BadSignature, _)) => code = sys::X509_V_ERR_CRL_SIGNATURE_FAILURE,
                Some((Standing::OtherKey, _)) | None => {}
            }
        }
        let plain = match best {
            None => Err(code),
            Some((list, signer)) => list.in_force(now).and_then(|()| {
                let in_force = |newer: &List| newer.in_force(now).is_ok();
                let certificate = subject.certificate;
                match list.entry(certificate) {
                    Entry::Absent | Entry::Removed => Ok(()),
                    _ if self.takes_back(list, signer, certificate, now, in_force) => Ok(()),
                    // What took it back has expired itself.
                    _ => Err(sys::X509_V_ERR_CRL_HAS_EXPIRED),
                }
            }),
        };
        match plain {
            Err(_) if partial => self.status_with_openssl(subject, now),
            plain => plain,
        }
    }

    /// The same where a CRL of partial scope may cover the certificate.
    fn status_with_openssl(&self, subject: &Subject<'_>, now: i64) -> Result<(), c_int> {
        let lists = self.of(subject.issuer()).filter(|list| {
            // An entry that was taken back must not count again, nor a CRL of another CA with the
            // same name hide one of the issuer.
            let entry = list.entry(subject.certificate);
            list.is_for_openssl()
                && matches!(entry, Entry::Absent | Entry::Removed)
                && subject
                    .signers_of(list)
                    .any(|signer| list.signed_by(signer).standing == Standing::Good)
        });
        let crls = lists.map(|list| &*list.crl);
        match ext::crl_status(subject.certificate, subject.above, crls, now) {
            Ok(sys::X509_V_OK) => Ok(()),
            Ok(code) => Err(code),
            Err(_) => Err(sys::X509_V_ERR_UNSPECIFIED),
        }
    }

    /// First second after `now` at which a CRL of the set comes into or goes out of force.
    pub fn next_change(&self, now: i64) -> i64 {
        let times = self
            .lists
            .iter()
            .flat_map(|list| [Some(list.this), list.next])
            .flatten();
        times.filter(|time| *time > now).min().unwrap_or(i64::MAX)
    }
}

/// A certificate of a verified path.
struct Subject<'a> {
    certificate: &'a X509,
    /// What stands above it in the path.
    above: &'a [X509],
    cas: &'a [Arc<CaCertificate>],
}

impl<'a> Subject<'a> {
    fn all(path: &'a CertificationPath) -> impl Iterator<Item = Subject<'a>> {
        let mut rest = path.certificates();
        std::iter::from_fn(move || {
            let (certificate, above) = rest.split_first()?;
            rest = above;
            Some(Subject {
                certificate,
                above,
                cas: path.cas(),
            })
        })
    }

    fn issuer(&self) -> &'a X509NameRef {
        self.certificate.issuer_name()
    }

    /// The certificates whose key may sign what `list` says of this one (RFC 5280 section 6.3.3):
    /// of the name that issued the CRL, those above it, which include former keys of its issuer and
    /// the CAs that vouch for that; a root for itself; and, for an indirect CRL, the CAs of the
    /// policy if the certificate names them as cRLIssuer.
    fn signers_of<'l>(&'l self, list: &'l List) -> impl Iterator<Item = &'l X509Ref> {
        let named = |signer: &&X509Ref| same(signer.subject_name(), list.issuer());
        let own = self.above.is_empty().then_some(&**self.certificate);
        let above = self.above.iter().map(|above| &**above);
        let indirect = !same(list.issuer(), self.issuer())
            && ext::names_crl_issuer(self.certificate, list.issuer());
        let cas = if indirect { self.cas } else { &[] };
        let cas = cas.iter().map(|ca| &**ca.x509());
        above.chain(own).chain(cas).filter(named)
    }

    /// The CAs of the policy with the name of the certificate's issuer, which may have another key.
    /// RFC 5280 section 6.3.3 (f): what one of them signed is authentic if its path leads to the
    /// anchor of the certificate's. It revokes, but makes nothing good.
    fn namesakes_for<'l>(&'l self, list: &'l List) -> impl Iterator<Item = &'l X509Ref> {
        let own = !self.above.is_empty() && same(list.issuer(), self.issuer());
        let cas = if own { self.cas } else { &[] };
        let cas = cas.iter().map(|ca| &**ca.x509());
        cas.filter(move |ca| same(ca.subject_name(), list.issuer()))
    }
}

/// What a CRL says about one certificate, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Absent,
    Removed,
    Held {
        since: Option<i64>,
    },
    Revoked {
        since: Option<i64>,
        reason: &'static str,
    },
}

/// Whose certificates an entry is about, by its own certificateIssuer (RFC 5280 section 5.3.3).
enum EntryIssuer {
    Unsaid,
    /// With a directoryName at least.
    Named(Stack<GeneralName>),
    Unreadable,
}

impl EntryIssuer {
    fn of(entry: &X509RevokedRef) -> EntryIssuer {
        match entry.extension::<CertificateIssuer>() {
            Ok(None) => EntryIssuer::Unsaid,
            Ok(Some((_, names))) if names.iter().any(|name| name.directory_name().is_some()) => {
                EntryIssuer::Named(names)
            }
            Ok(Some(_)) => EntryIssuer::Unreadable,
            Err(_) => {
                ErrorStack::get();
                EntryIssuer::Unreadable
            }
        }
    }
}

/// certificateHold and removeFromCRL (RFC 5280 section 5.3.1).
const HOLD: i64 = 6;
const REMOVE_FROM_CRL: i64 = 8;

impl Entry {
    fn of(entry: &X509RevokedRef) -> Entry {
        let code = match entry.extension::<ReasonCode>() {
            Ok(Some((_, code))) => code.get_i64().unwrap_or(0),
            _ => 0,
        };
        let since = unix_seconds(entry.revocation_date()).ok();
        match code {
            REMOVE_FROM_CRL => Entry::Removed,
            HOLD => Entry::Held { since },
            code => Entry::Revoked {
                since,
                reason: reason_name(code),
            },
        }
    }
}

/// What a certificate makes of a CRL that may be its own, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// The CRL itself says that it is signed with another key.
    OtherKey,
    BadSignature,
    /// The certificate does not let its key sign CRLs.
    NotAllowed,
    Good,
}

impl Standing {
    fn why(self) -> &'static str {
        match self {
            Standing::OtherKey => "signed with another key of this issuer",
            Standing::BadSignature => "bad signature",
            Standing::NotAllowed => "its issuer has a key usage without cRLSign",
            Standing::Good => "",
        }
    }
}

#[derive(Clone, Copy)]
struct Signed {
    standing: Standing,
    /// Whether the key made the signature, whatever else stands against it.
    authentic: bool,
}

/// A CRL as read; nothing is known of its signature yet.
struct List {
    crl: X509Crl,
    digest: [u8; 32],
    file: Arc<str>,
    /// The issuer as RFC 2253 text.
    name: String,
    this: i64,
    next: Option<i64>,
    number: Option<Number>,
    /// For a delta CRL the number of its base, if that is readable.
    delta: Option<Option<Number>>,
    scope: Scope,
    /// Whether it has a critical extension that is not supported, or an entry has.
    unsupported: bool,
    /// Whether a serial number has several entries.
    repeats: bool,
    /// Whether an entry has a certificateIssuer that names nobody, or has one though the CRL is not
    /// indirect.
    misplaced: bool,
    /// Why it is not plain.
    oddity: Option<String>,
    signatures: Mutex<Vec<(X509, Signed)>>,
}

impl List {
    fn from_der(der: &[u8]) -> Result<List, String> {
        let unreadable = |stack| {
            format!(
                "not a readable CRL: {}",
                revocation_status::decoding_error(&stack)
            )
        };
        let time = |time| unix_seconds(time).map_err(|_| "not a readable CRL: bad time".to_owned());
        let (crl, len) = ext::crl_from_der(der).map_err(unreadable)?;
        if len != der.len() {
            return Err(format!("{} bytes follow the CRL", der.len() - len));
        }
        // The first look-up sorts the entries. Here rather than while a request waits.
        let zero = BigNum::new()
            .and_then(|zero| zero.to_asn1_integer())
            .map_err(unreadable)?;
        crl.get_by_serial(&zero);
        let mut list = List {
            digest: sha256(der),
            file: "".into(),
            name: text(crl.issuer_name()),
            this: time(crl.last_update())?,
            next: crl.next_update().map(time).transpose()?,
            number: None,
            delta: None,
            scope: Scope::Full,
            unsupported: false,
            repeats: false,
            misplaced: false,
            oddity: None,
            crl,
            signatures: Mutex::default(),
        };
        list.read_extensions();
        list.read_entries();
        if list.next.is_none() {
            list.oddity
                .get_or_insert_with(|| "has no nextUpdate".to_owned());
        }
        Ok(list)
    }

    fn read_extensions(&mut self) {
        for extension in ext::crl_extensions(&self.crl) {
            let oddity = match extension.object.nid() {
                Nid::DELTA_CRL => {
                    self.delta = Some(Number::of(extension.value));
                    "is a delta CRL".to_owned()
                }
                Nid::ISSUING_DISTRIBUTION_POINT => {
                    self.scope = match self.scope {
                        Scope::Full => Scope::of(extension.value),
                        _ => Scope::Malformed("two issuingDistributionPoints"),
                    };
                    match self.scope {
                        Scope::Malformed(what) => {
                            format!("has {what}, which RFC 5280 section 5.2.5 does not allow")
                        }
                        _ => {
                            "has an issuingDistributionPoint: it is partial or indirect".to_owned()
                        }
                    }
                }
                Nid::AUTHORITY_KEY_IDENTIFIER => continue,
                nid => {
                    if nid == Nid::CRL_NUMBER {
                        self.number = Number::of(extension.value);
                    }
                    if !extension.critical {
                        continue;
                    }
                    self.unsupported = true;
                    format!("has the critical extension {}", extension.object)
                }
            };
            // The first says enough, but a malformed scope keeps the CRL from OpenSSL.
            match self.scope {
                Scope::Malformed(_) => self.oddity = Some(oddity),
                _ => {
                    self.oddity.get_or_insert(oddity);
                }
            }
        }
    }

    fn read_entries(&mut self) {
        let mut odd = false;
        let mut last: Option<&X509RevokedRef> = None;
        for entry in self.crl.get_revoked().into_iter().flatten() {
            let extensions = ext::entry_extensions(entry);
            odd |= extensions.critical || extensions.issuer;
            self.unsupported |= extensions.unsupported;
            if extensions.issuer {
                let unreadable = matches!(EntryIssuer::of(entry), EntryIssuer::Unreadable);
                self.unsupported |= unreadable;
                self.misplaced |= unreadable || !self.scope.is_indirect();
            }
            self.repeats |= last.is_some_and(|last| last.serial_number() == entry.serial_number());
            last = Some(entry);
        }
        if odd {
            self.oddity.get_or_insert_with(|| {
                "has an entry with a critical extension or of another issuer".to_owned()
            });
        }
    }

    fn issuer(&self) -> &X509NameRef {
        self.crl.issuer_name()
    }

    /// Whether every part that matters is supported, so that what it does not list counts.
    fn is_understood(&self) -> bool {
        !self.unsupported && !matches!(self.scope, Scope::Malformed(_))
    }

    /// Whether OpenSSL can tell which certificates it covers.
    fn is_for_openssl(&self) -> bool {
        self.delta.is_none() && self.is_understood()
    }

    /// Whether it was issued after another one of the same issuer, by every sign that it gives.
    fn is_newer(&self, other: &List) -> bool {
        let numbers = match (&self.number, &other.number) {
            (Some(number), Some(other)) => Some(number.cmp(other)),
            _ => None,
        };
        match self.this.cmp(&other.this) {
            Ordering::Greater => numbers.is_none_or(Ordering::is_ge),
            Ordering::Equal => numbers.is_some_and(Ordering::is_gt),
            Ordering::Less => false,
        }
    }

    fn about(&self, what: &str) -> String {
        format!("CRL of '{}': {what}", self.name)
    }

    fn signed_by(&self, issuer: &X509Ref) -> Signed {
        let mut known = self
            .signatures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, signed)) = known.iter().find(|(known, _)| &**known == issuer) {
            return *signed;
        }
        let allowed = |usage: X509KeyUsage| usage.contains(X509KeyUsage::CRL_SIGN);
        let verified = issuer.public_key().and_then(|key| self.crl.verify(&key));
        let authentic = verified.unwrap_or(false);
        let signed = Signed {
            standing: if !ext::key_id_matches(&self.crl, issuer) {
                Standing::OtherKey
            } else if !authentic {
                Standing::BadSignature
            } else if !issuer.key_usage().is_none_or(allowed) {
                Standing::NotAllowed
            } else {
                Standing::Good
            },
            authentic,
        };
        ErrorStack::get();
        if known.len() == MAX_ISSUERS {
            known.clear();
        }
        known.push((issuer.to_owned(), signed));
        signed
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

    /// What is wrong with its times at `now`.
    fn out_of_force(&self, now: i64) -> Option<String> {
        const SO: &str = "listed certificates are revoked, but it makes no other certificate good";
        let when = |time| time::rfc3339(time, "Z");
        Some(match (self.in_force(now).err()?, self.next) {
            (sys::X509_V_ERR_CRL_HAS_EXPIRED, Some(next)) => {
                format!("expired at {}: {SO}", when(next))
            }
            _ => format!("not valid before {}: {SO}", when(self.this)),
        })
    }

    /// What it says about a certificate of the issuer that it or its entry names.
    fn entry(&self, certificate: &X509Ref) -> Entry {
        let found = match self.crl.get_by_cert(&certificate.to_owned()) {
            CrlStatus::Revoked(entry) => Entry::of(entry),
            CrlStatus::RemoveFromCrl(_) => Entry::Removed,
            CrlStatus::NotRevoked => Entry::Absent,
        };
        if !self.repeats && !self.misplaced {
            return found;
        }
        // OpenSSL finds one of several entries, and none that it takes for another issuer's; the
        // worst counts.
        let serial = certificate.serial_number();
        let issuer = certificate.issuer_name();
        let own = same(self.issuer(), issuer);
        let concerns = |entry: &&X509RevokedRef| match EntryIssuer::of(entry) {
            // What the entry before it says holds for it in an indirect CRL only.
            EntryIssuer::Unsaid => found != Entry::Absent || (own && !self.scope.is_indirect()),
            EntryIssuer::Named(names) => names
                .iter()
                .filter_map(|name| name.directory_name())
                .any(|name| same(name, issuer)),
            EntryIssuer::Unreadable => own,
        };
        let entries = self.crl.get_revoked().into_iter().flatten();
        entries
            .filter(|entry| entry.serial_number() == serial)
            .filter(concerns)
            .map(Entry::of)
            .fold(found, Entry::max)
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
