//! A CRL as read: its extensions, entries and signature.

use std::cmp::Ordering;
use std::ffi::c_int;
use std::sync::Arc;

use parking_lot::Mutex;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::sha::sha256;
use openssl::x509::{DistPointRef, X509Crl, X509KeyUsage, X509NameRef, X509Ref, X509};
use openssl_sys as sys;

use super::encoded::EncodedCrl;
use super::entries::{Entries, EntryStatus};
use super::scope::{
    Number, Scope, DISTRIBUTION_POINT, INDIRECT, ONLY_ATTRIBUTE_CERTS, ONLY_CA_CERTS,
    ONLY_SOME_REASONS, ONLY_USER_CERTS,
};
use super::signature::Signature;
use super::SOON;
use crate::certificate::{name, time, unix_seconds};
use crate::openssl_ext::revocation as ext;
use crate::trust::revocation_status;

/// Most issuers whose signature check is cached for one CRL. They are keys of one name, of which
/// few are in use at a time.
const MAX_ISSUERS: usize = 8;

pub(super) const BEGIN: &str = "-----BEGIN X509 CRL-----";
pub(super) const END: &str = "-----END X509 CRL-----";

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
    /// The CRL without its entries and with a signature that does not match it.
    skeleton: X509Crl,
    signature: Signature,
    entries: Entries,
    pub(super) digest: [u8; 32],
    /// Length in bytes.
    pub(super) len: usize,
    pub(super) file: Arc<str>,
    /// The issuer as RFC 2253 text.
    pub(super) issuer_text: String,
    pub(super) this_update: i64,
    pub(super) next_update: Option<i64>,
    /// Seconds after nextUpdate for which it is still in force.
    pub(super) max_stale: i64,
    pub(super) number: Option<Number>,
    /// For a delta CRL its BaseCRLNumber, if that is readable.
    pub(super) delta: Option<Option<Number>>,
    pub(super) scope: Scope,
    /// Whether the CRL or an entry has an unsupported critical extension.
    pub(super) unsupported: bool,
    /// The reason why the CRL is not complete; `None` if it is.
    pub(super) limitation: Option<String>,
    /// Whether its scope is the only reason why it is not complete.
    pub(super) only_scope_is_limited: bool,
    #[cfg(test)]
    pub(super) der: Vec<u8>,
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
        let encoded = EncodedCrl::read(der)?;
        let (skeleton, _) = ext::crl_from_der(&encoded.without_entries).map_err(unreadable)?;
        let mut crl = ParsedCrl {
            digest: sha256(der),
            len: der.len(),
            file: "".into(),
            issuer_text: name_text(skeleton.issuer_name()),
            this_update: time(skeleton.last_update())?,
            next_update: skeleton.next_update().map(time).transpose()?,
            max_stale: 0,
            number: None,
            delta: None,
            scope: Scope::Full,
            unsupported: false,
            limitation: None,
            only_scope_is_limited: false,
            signature: Signature::of(&encoded, &skeleton),
            entries: Entries::default(),
            skeleton,
            #[cfg(test)]
            der: der.to_vec(),
            signatures: Mutex::default(),
        };
        crl.read_extensions();
        crl.entries = Entries::read(encoded.entries, crl.scope.is_indirect())?;
        crl.unsupported |= crl.entries.unsupported;
        crl.only_scope_is_limited = matches!(crl.scope, Scope::Partial(_))
            && crl.delta.is_none()
            && !crl.unsupported
            && !crl.entries.has_limitation
            && crl.next_update.is_some();
        if crl.entries.has_limitation {
            crl.limitation.get_or_insert_with(|| {
                "has an entry with a critical extension or of another issuer".to_owned()
            });
        }
        if crl.next_update.is_none() {
            crl.limitation
                .get_or_insert_with(|| "has no nextUpdate".to_owned());
        }
        Ok(crl)
    }

    fn read_extensions(&mut self) {
        for extension in ext::crl_extensions(&self.skeleton) {
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

    pub(super) fn issuer(&self) -> &X509NameRef {
        self.skeleton.issuer_name()
    }

    /// Whether the scope and all critical extensions are supported, so that the absence of an entry
    /// is evidence.
    pub(super) fn is_supported(&self) -> bool {
        !self.unsupported && !matches!(self.scope, Scope::Malformed(_))
    }

    /// Whether [`ParsedCrl::covers`] decides which certificates the CRL makes good.
    pub(super) fn has_decidable_scope(&self) -> bool {
        self.delta.is_none() && self.is_supported()
    }

    /// Whether the scope contains the certificate with all reasons for revocation (RFC 5280 section
    /// 6.3.3 (b)(2)). A distribution point of the certificate is used if `is_accepted` is true for
    /// it.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn covers(
        &self,
        certificate: &X509Ref,
        is_accepted: impl Fn(&DistPointRef) -> bool,
    ) -> Result<(), &'static str> {
        let scope = &self.scope;
        if scope.has(INDIRECT) {
            return Err("is indirect");
        }
        if scope.has(ONLY_SOME_REASONS) {
            return Err("covers only some reasons");
        }
        if scope.has(ONLY_ATTRIBUTE_CERTS) {
            return Err("covers only attribute certificates");
        }
        let is_ca = ext::is_ca_certificate(certificate);
        if scope.has(ONLY_USER_CERTS) && is_ca {
            return Err("covers only certificates of end entities");
        }
        if scope.has(ONLY_CA_CERTS) && !is_ca {
            return Err("covers only certificates of CAs");
        }
        if scope.has(DISTRIBUTION_POINT)
            && !ext::shares_distribution_point(&self.skeleton, certificate, is_accepted)
        {
            return Err("is for another distribution point");
        }
        Ok(())
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
            .map(|key| self.signature.is_by(&self.skeleton, &key));
        let authentic = verified.unwrap_or(false);
        let check = SignatureCheck {
            result: if !ext::key_id_matches(&self.skeleton, issuer) {
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
        match self.end() {
            Some(end) if end <= now => Err(sys::X509_V_ERR_CRL_HAS_EXPIRED),
            _ => Ok(()),
        }
    }

    /// First second at which it is no longer in force.
    pub(super) fn end(&self) -> Option<i64> {
        Some(self.next_update?.saturating_add(self.max_stale))
    }

    /// A text if it is in force and ends within a day.
    pub(super) fn ends_soon(&self, now: i64) -> Option<String> {
        let end = self.end()?;
        let is_soon = self.in_force(now).is_ok() && end <= now.saturating_add(SOON);
        // A list that is issued every few hours is not reported each time.
        let is_short = end.saturating_sub(self.this_update) <= 2 * SOON;
        (is_soon && !is_short).then(|| format!("expires at {}", time::rfc3339(end, "Z")))
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
        let issuer = certificate.issuer_name();
        let is_own = is_same_name(self.issuer(), issuer);
        self.entries
            .status(certificate.serial_number(), issuer, is_own)
    }

    /// Number of entries.
    pub(super) fn entry_count(&self) -> usize {
        self.entries.count
    }

    /// Bytes of memory that it needs, approximately.
    pub(super) fn memory(&self) -> usize {
        4096 + self.entries.memory() + self.signature.memory()
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
