//! A CRL as read: its extensions, entries and signature.

use std::cmp::Ordering;
use std::ffi::c_int;
use std::sync::Arc;

use parking_lot::Mutex;

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

use super::scope::{Number, Scope};
use crate::certificate::{name, time, unix_seconds};
use crate::openssl_ext::revocation as ext;
use crate::trust::revocation_status::{self, reason_name};

/// Most issuers whose signature check is cached for one CRL. They are keys of one name, of which
/// few are in use at a time.
const MAX_ISSUERS: usize = 8;

/// Bytes of memory for each byte of DER: OpenSSL allocates several objects for an entry.
const MEMORY_FACTOR: usize = 10;

pub(super) const BEGIN: &str = "-----BEGIN X509 CRL-----";
pub(super) const END: &str = "-----END X509 CRL-----";

/// The status of one certificate in a CRL. The order is from good to revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EntryStatus {
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

/// The certificateIssuer of an entry (RFC 5280 section 5.3.3).
enum EntryIssuer {
    Absent,
    /// Has at least one directoryName.
    Named(Stack<GeneralName>),
    Unreadable,
}

impl EntryIssuer {
    fn of(entry: &X509RevokedRef) -> EntryIssuer {
        match entry.extension::<CertificateIssuer>() {
            Ok(None) => EntryIssuer::Absent,
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
pub(super) const HOLD: i64 = 6;
const REMOVE_FROM_CRL: i64 = 8;

impl EntryStatus {
    fn of(entry: &X509RevokedRef) -> EntryStatus {
        let code = match entry.extension::<ReasonCode>() {
            Ok(Some((_, code))) => code.get_i64().unwrap_or(0),
            _ => 0,
        };
        let since = unix_seconds(entry.revocation_date()).ok();
        match code {
            REMOVE_FROM_CRL => EntryStatus::Removed,
            HOLD => EntryStatus::Held { since },
            code => EntryStatus::Revoked {
                since,
                reason: reason_name(code),
            },
        }
    }
}

/// Result of checking a CRL with the certificate of a possible issuer, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SignatureResult {
    /// The authorityKeyIdentifier of the CRL is that of another key.
    OtherKeyId,
    BadSignature,
    /// The key usage of the certificate lacks cRLSign.
    NoCrlSign,
    Good,
}

impl SignatureResult {
    pub(super) fn problem(self) -> &'static str {
        match self {
            SignatureResult::OtherKeyId => "signed with another key of this issuer",
            SignatureResult::BadSignature => "bad signature",
            SignatureResult::NoCrlSign => "its issuer has a key usage without cRLSign",
            SignatureResult::Good => "",
        }
    }
}

/// The check of a CRL with the certificate of a possible issuer.
#[derive(Clone, Copy)]
pub(super) struct SignatureCheck {
    pub(super) result: SignatureResult,
    /// Whether the key made the signature, independent of `result`.
    pub(super) authentic: bool,
}

/// A CRL as read. Its signature is checked by [`ParsedCrl::check_signature`].
pub(super) struct ParsedCrl {
    pub(super) x509_crl: X509Crl,
    pub(super) digest: [u8; 32],
    pub(super) file: Arc<str>,
    /// The issuer as RFC 2253 text.
    pub(super) issuer_text: String,
    pub(super) this_update: i64,
    pub(super) next_update: Option<i64>,
    pub(super) number: Option<Number>,
    /// For a delta CRL its BaseCRLNumber, if that is readable.
    pub(super) delta: Option<Option<Number>>,
    pub(super) scope: Scope,
    /// Whether the CRL or an entry has an unsupported critical extension.
    pub(super) unsupported: bool,
    /// Whether several entries have the same serial number.
    has_repeated_serials: bool,
    /// Whether an entry has a certificateIssuer without a directoryName, or has one in a CRL that
    /// is not indirect.
    has_misplaced_issuers: bool,
    /// The reason why the CRL is not complete; `None` if it is.
    pub(super) limitation: Option<String>,
    /// Bytes of memory that it needs, approximately.
    pub(super) memory: usize,
    /// Results of [`ParsedCrl::check_signature`].
    signatures: Mutex<Vec<(X509, SignatureCheck)>>,
}

impl ParsedCrl {
    fn from_der(der: &[u8]) -> Result<ParsedCrl, String> {
        let unreadable = |stack| {
            format!(
                "not a readable CRL: {}",
                revocation_status::decoding_error(&stack)
            )
        };
        let time = |time| unix_seconds(time).map_err(|_| "not a readable CRL: bad time".to_owned());
        let (x509_crl, len) = ext::crl_from_der(der).map_err(unreadable)?;
        if len != der.len() {
            return Err(format!("{} bytes follow the CRL", der.len() - len));
        }
        // The first look-up sorts the entries. It is done here, so that no request waits for it.
        let zero = BigNum::new()
            .and_then(|zero| zero.to_asn1_integer())
            .map_err(unreadable)?;
        x509_crl.get_by_serial(&zero);
        let mut crl = ParsedCrl {
            digest: sha256(der),
            file: "".into(),
            issuer_text: name_text(x509_crl.issuer_name()),
            this_update: time(x509_crl.last_update())?,
            next_update: x509_crl.next_update().map(time).transpose()?,
            number: None,
            delta: None,
            scope: Scope::Full,
            unsupported: false,
            has_repeated_serials: false,
            has_misplaced_issuers: false,
            limitation: None,
            memory: der.len().saturating_mul(MEMORY_FACTOR),
            x509_crl,
            signatures: Mutex::default(),
        };
        crl.read_extensions();
        crl.read_entries();
        if crl.next_update.is_none() {
            crl.limitation
                .get_or_insert_with(|| "has no nextUpdate".to_owned());
        }
        Ok(crl)
    }

    fn read_extensions(&mut self) {
        for extension in ext::crl_extensions(&self.x509_crl) {
            let limitation = match extension.object.nid() {
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
            // The first limitation is kept. A malformed scope replaces it, because the CRL is not
            // passed to OpenSSL then.
            match self.scope {
                Scope::Malformed(_) => self.limitation = Some(limitation),
                _ => {
                    self.limitation.get_or_insert(limitation);
                }
            }
        }
    }

    fn read_entries(&mut self) {
        let mut has_limitation = false;
        let mut previous: Option<&X509RevokedRef> = None;
        for entry in self.x509_crl.get_revoked().into_iter().flatten() {
            let extensions = ext::entry_extensions(entry);
            has_limitation |= extensions.critical || extensions.issuer;
            self.unsupported |= extensions.unsupported;
            if extensions.issuer {
                let unreadable = matches!(EntryIssuer::of(entry), EntryIssuer::Unreadable);
                self.unsupported |= unreadable;
                self.has_misplaced_issuers |= unreadable || !self.scope.is_indirect();
            }
            self.has_repeated_serials |=
                previous.is_some_and(|previous| previous.serial_number() == entry.serial_number());
            previous = Some(entry);
        }
        if has_limitation {
            self.limitation.get_or_insert_with(|| {
                "has an entry with a critical extension or of another issuer".to_owned()
            });
        }
    }

    pub(super) fn issuer(&self) -> &X509NameRef {
        self.x509_crl.issuer_name()
    }

    /// Whether the scope and all critical extensions are supported, so that the absence of an entry
    /// is evidence.
    pub(super) fn is_supported(&self) -> bool {
        !self.unsupported && !matches!(self.scope, Scope::Malformed(_))
    }

    /// Whether OpenSSL can decide which certificates the CRL covers.
    pub(super) fn has_decidable_scope(&self) -> bool {
        self.delta.is_none() && self.is_supported()
    }

    /// Whether the CRL is newer than another one of the same issuer, by thisUpdate and by
    /// cRLNumber.
    pub(super) fn is_newer(&self, other: &ParsedCrl) -> bool {
        let numbers = match (&self.number, &other.number) {
            (Some(number), Some(other)) => Some(number.cmp(other)),
            _ => None,
        };
        match self.this_update.cmp(&other.this_update) {
            Ordering::Greater => numbers.is_none_or(Ordering::is_ge),
            Ordering::Equal => numbers.is_some_and(Ordering::is_gt),
            Ordering::Less => false,
        }
    }

    /// A message about the CRL.
    pub(super) fn message(&self, what: &str) -> String {
        format!("CRL of '{}': {what}", self.issuer_text)
    }

    /// Checks the CRL with the certificate of a possible issuer. The result is cached.
    pub(super) fn check_signature(&self, issuer: &X509Ref) -> SignatureCheck {
        let mut signatures = self.signatures.lock();
        if let Some((_, check)) = signatures.iter().find(|(known, _)| &**known == issuer) {
            return *check;
        }
        let allowed = |usage: X509KeyUsage| usage.contains(X509KeyUsage::CRL_SIGN);
        let verified = issuer
            .public_key()
            .and_then(|key| self.x509_crl.verify(&key));
        let authentic = verified.unwrap_or(false);
        let check = SignatureCheck {
            result: if !ext::key_id_matches(&self.x509_crl, issuer) {
                SignatureResult::OtherKeyId
            } else if !authentic {
                SignatureResult::BadSignature
            } else if !issuer.key_usage().is_none_or(allowed) {
                SignatureResult::NoCrlSign
            } else {
                SignatureResult::Good
            },
            authentic,
        };
        ErrorStack::get();
        if signatures.len() == MAX_ISSUERS {
            signatures.clear();
        }
        signatures.push((issuer.to_owned(), check));
        check
    }

    /// Checks that the CRL is in force, without tolerance for clock skew, as OpenSSL does. The
    /// error is an `X509_V_ERR_*` code.
    pub(super) fn in_force(&self, now: i64) -> Result<(), c_int> {
        if self.this_update > now {
            return Err(sys::X509_V_ERR_CRL_NOT_YET_VALID);
        }
        match self.next_update {
            Some(next) if next <= now => Err(sys::X509_V_ERR_CRL_HAS_EXPIRED),
            _ => Ok(()),
        }
    }

    /// The reason why the CRL is not in force at `now`.
    pub(super) fn out_of_force(&self, now: i64) -> Option<String> {
        const EFFECT: &str =
            "listed certificates are revoked, but it makes no other certificate good";
        let when = |time| time::rfc3339(time, "Z");
        Some(match (self.in_force(now).err()?, self.next_update) {
            (sys::X509_V_ERR_CRL_HAS_EXPIRED, Some(next)) => {
                format!("expired at {}: {EFFECT}", when(next))
            }
            _ => format!("not valid before {}: {EFFECT}", when(self.this_update)),
        })
    }

    /// The status of a certificate whose issuer is that of the CRL or that of an entry.
    pub(super) fn entry(&self, certificate: &X509Ref) -> EntryStatus {
        let found = match self.x509_crl.get_by_cert(&certificate.to_owned()) {
            CrlStatus::Revoked(entry) => EntryStatus::of(entry),
            CrlStatus::RemoveFromCrl(_) => EntryStatus::Removed,
            CrlStatus::NotRevoked => EntryStatus::Absent,
        };
        if !self.has_repeated_serials && !self.has_misplaced_issuers {
            return found;
        }
        // OpenSSL returns one of several entries, and ignores entries that it considers to be of
        // another issuer. The worst entry is used.
        let serial = certificate.serial_number();
        let issuer = certificate.issuer_name();
        let is_own = is_same_name(self.issuer(), issuer);
        let concerns = |entry: &&X509RevokedRef| match EntryIssuer::of(entry) {
            // The certificateIssuer of the previous entry applies in an indirect CRL only.
            EntryIssuer::Absent => {
                found != EntryStatus::Absent || (is_own && !self.scope.is_indirect())
            }
            EntryIssuer::Named(names) => names
                .iter()
                .filter_map(|name| name.directory_name())
                .any(|name| is_same_name(name, issuer)),
            EntryIssuer::Unreadable => is_own,
        };
        let entries = self.x509_crl.get_revoked().into_iter().flatten();
        entries
            .filter(|entry| entry.serial_number() == serial)
            .filter(concerns)
            .map(EntryStatus::of)
            .fold(found, EntryStatus::max)
    }
}

/// Reads one CRL in DER or any number of CRLs in PEM from at most `max` bytes.
pub(super) fn read(bytes: &[u8], max: usize) -> Result<Vec<ParsedCrl>, String> {
    if bytes.len() > max {
        return Err(over_the_limit(bytes.len(), max));
    }
    if is_der(bytes) {
        return Ok(vec![ParsedCrl::from_der(bytes)?]);
    }
    let pem = String::from_utf8_lossy(bytes);
    let blocks = pem.split(BEGIN).skip(1).map(|block| {
        // OpenSSL is not used here, because it would prompt for the password of an encrypted block.
        let (body, _) = block
            .split_once(END)
            .ok_or("PEM block without its END line")?;
        let mut body = body.to_owned();
        body.retain(|c| !c.is_ascii_whitespace());
        let der = STANDARD
            .decode(body)
            .map_err(|error| format!("PEM block: {error}"))?;
        ParsedCrl::from_der(&der)
    });
    let crls = blocks.collect::<Result<Vec<_>, String>>()?;
    if crls.is_empty() {
        return Err(format!(
            "no CRL found, expected DER or PEM blocks '{BEGIN}'"
        ));
    }
    Ok(crls)
}

/// Whether the bytes begin as a CRL in DER does. Every CRL is so long that its length has the long
/// form, which text does not begin with.
pub(crate) fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, length, ..] if *length >= 0x80)
}

pub(crate) fn over_the_limit(len: usize, max: usize) -> String {
    format!("CRL of {len} bytes is over the limit of {max}")
}

pub(super) fn is_same_name(one: &X509NameRef, other: &X509NameRef) -> bool {
    one.try_cmp(other).is_ok_and(Ordering::is_eq)
}

pub(super) fn name_text(name: &X509NameRef) -> String {
    name::rfc2253(name).unwrap_or_default()
}
