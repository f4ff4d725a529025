//! Certificate revocation lists (RFC 5280 section 5) as functions on bytes: one that was fetched
//! for a certificate, and the local files of a policy.
//!
//! An entry of a CRL and the absence of an entry are treated differently.
//!
//! - *With an entry*, a certificate is revoked if its issuer signed the CRL. This holds even if the
//!   CRL is expired, not yet valid, partial or a delta CRL, or has extensions that are malformed, or
//!   critical and not supported. The CA withdraws the revocation by a newer CRL with the same key
//!   and scope that has no such entry, or by `removeFromCRL`. An entry with the reason
//!   `certificateHold` revokes while its CRL is in force. A local CRL may also be signed by another
//!   key of the issuer's name, if that is the key of a CA of the policy under the same anchor.
//! - *Without an entry*, a certificate is good only by a CRL that is in force and whose scope and
//!   critical extensions are all supported.
//!
//! A CRL is *complete* if it covers all certificates of its issuer: it is full and direct, covers
//! all reasons, and has a nextUpdate and no unsupported critical extension. A CRL of partial scope
//! makes a certificate good if the scope contains it (RFC 5280 section 6.3.3 (b)(2)): the
//! issuingDistributionPoint names no distribution point, or one of the certificate, for a fetched
//! CRL the one that it was fetched from; and all reasons are covered. Delta and indirect CRLs make
//! none good.

mod encoded;
mod entries;
mod parsed;
#[cfg(test)]
mod random_tests;
mod scope;
mod signature;
#[cfg(test)]
mod tests;
mod url_crl;

use std::ffi::c_int;
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::sha::sha256;
use openssl::x509::{X509NameRef, X509Ref, X509};
use openssl_sys as sys;

use self::entries::{EntryStatus, HOLD};
pub(crate) use self::parsed::{is_der, over_the_limit};
use self::parsed::{is_same_name, name_text, read, ParsedCrl, SignatureCheck, SignatureResult};
use self::scope::Scope;
pub use self::url_crl::{LoadedCrl, UrlCrl};
use super::revocation_status::{
    in_force, reason_name, revoked_until, RevocationStatus, CLOCK_SKEW,
};
use super::revocation_urls;
use super::CaCertificate;
use super::CertificationPath;
use crate::openssl_ext::revocation as ext;

/// Longest CRL in bytes that `max_crl_bytes` can allow.
pub const LARGEST: usize = 512 << 20;

/// Seconds before the end of a CRL at which a warning is due.
const SOON: i64 = 86_400;

/// Longest local file of CRLs, in bytes, if `max_crl_bytes` is not higher.
pub const MAX_FILE: usize = 64 * 1024 * 1024;

/// A CRL with an authentic signature of its issuer.
pub struct Crl {
    parsed: ParsedCrl,
}

impl Crl {
    /// Reads a CRL of at most `max` bytes in DER or PEM that `issuer` signed.
    ///
    /// # Errors
    /// The reason, for [`RevocationStatus::Unknown`].
    pub fn load(bytes: &[u8], issuer: &X509Ref, max: usize) -> Result<Crl, String> {
        let crl = Crl::read(bytes, issuer, max);
        ErrorStack::get();
        crl
    }

    fn read(bytes: &[u8], issuer: &X509Ref, max: usize) -> Result<Crl, String> {
        let mut crls = read(bytes, max)?;
        let count = crls.len();
        let (Some(crl), 1) = (crls.pop(), count) else {
            return Err(format!("{count} CRLs found, expected exactly one"));
        };
        if !is_same_name(crl.issuer(), issuer.subject_name()) {
            return Err(format!(
                "CRL of '{}', expected one of '{}'",
                name_text(crl.issuer()),
                name_text(issuer.subject_name())
            ));
        }
        match crl.check_signature(issuer) {
            SignatureCheck { authentic, .. } if authentic => Ok(Crl { parsed: crl }),
            SignatureCheck { result, .. } => Err(crl.message(result.problem())),
        }
    }

    /// The status of `certificate` at `now`. `issuer` is the next certificate of the verified
    /// chain; its key is checked, since a cached CRL may be of another CA with the same name.
    pub fn status(&self, certificate: &X509Ref, issuer: &X509Ref, now: i64) -> RevocationStatus {
        self.status_from(certificate, issuer, "", now)
    }

    /// [`Crl::status`] of a CRL that was fetched from `url`, a distribution point of the
    /// certificate as [`revocation_urls::crl`] returns it.
    pub fn status_from(
        &self,
        certificate: &X509Ref,
        issuer: &X509Ref,
        url: &str,
        now: i64,
    ) -> RevocationStatus {
        match self.try_status(certificate, issuer, url, now) {
            Ok(status) => status,
            Err(why) => RevocationStatus::Unknown(self.parsed.message(&why)),
        }
    }

    fn try_status(
        &self,
        certificate: &X509Ref,
        issuer: &X509Ref,
        url: &str,
        now: i64,
    ) -> Result<RevocationStatus, String> {
        let crl = &self.parsed;
        if !is_same_name(crl.issuer(), certificate.issuer_name()) {
            let issuer = name_text(certificate.issuer_name());
            return Err(format!("does not cover certificates of '{issuer}'"));
        }
        let SignatureCheck { result, authentic } = crl.check_signature(issuer);
        if !authentic {
            return Err(result.problem().to_owned());
        }
        let next_update = crl.next_update.unwrap_or(i64::MAX);
        let in_force = in_force(crl.this_update, next_update, now, CLOCK_SKEW);
        let revoked = |since, reason| RevocationStatus::Revoked {
            until: revoked_until(next_update, now),
            since,
            reason,
        };
        match crl.entry(certificate) {
            EntryStatus::Revoked { since, reason } => return Ok(revoked(since, reason)),
            EntryStatus::Held { since } if in_force.is_ok() => {
                return Ok(revoked(since, reason_name(HOLD.into())))
            }
            _ => {}
        }
        if crl.only_scope_is_limited {
            crl.covers(certificate, |point| revocation_urls::names(point, url))?;
        } else if let Some(limitation) = &crl.limitation {
            return Err(limitation.clone());
        }
        if result != SignatureResult::Good {
            return Err(result.problem().to_owned());
        }
        in_force?;
        Ok(RevocationStatus::Good { until: next_update })
    }

    /// thisUpdate, in seconds since the epoch.
    pub fn this_update(&self) -> i64 {
        self.parsed.this_update
    }

    /// nextUpdate, in seconds since the epoch.
    pub fn next_update(&self) -> Option<i64> {
        self.parsed.next_update
    }

    /// Number of entries.
    pub fn entry_count(&self) -> usize {
        self.parsed.entry_count()
    }

    /// Bytes of memory that it needs, approximately.
    pub fn memory(&self) -> usize {
        self.parsed.memory()
    }
}

/// The local CRLs of a policy, any number of them for each issuer. A chain is good if there is a
/// CRL in force for the leaf, and for each CA of whose issuer the set has CRLs.
#[derive(Default)]
pub struct CrlSet {
    crls: Vec<Arc<ParsedCrl>>,
    /// CRLs that are fetched.
    urls: Vec<Arc<UrlCrl>>,
    /// Whether a CRL of `urls` has not been fetched yet. Any certificate may be listed there.
    is_incomplete: bool,
}

/// Result of checking a path against a [`CrlSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlVerdict {
    /// `X509_V_OK` (0) or an `X509_V_ERR_*` code.
    pub code: i32,
    /// Depth of the refused certificate; 0 is the leaf.
    pub depth: u32,
    /// First second at which the result may change.
    pub until: i64,
}

/// The entry of a CRL that revokes a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlRevocation {
    /// The file of the CRL, or its URL.
    pub file: Arc<str>,
    /// The revocation date, in seconds since the epoch.
    pub since: Option<i64>,
    /// Name of the CRLReason (RFC 5280 section 5.3.1); `unspecified` without one.
    pub reason: &'static str,
}

/// The age and size of a CRL in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlSummary {
    /// The path of its file as written in the policy, or its URL.
    pub file: Arc<str>,
    /// The issuer as RFC 2253 text.
    pub issuer: String,
    /// thisUpdate, in seconds since the epoch.
    pub this_update: i64,
    /// nextUpdate, in seconds since the epoch.
    pub next_update: Option<i64>,
    /// Number of entries.
    pub entries: usize,
    /// Length in bytes.
    pub bytes: usize,
}

impl CrlSet {
    /// Adds the CRLs of a file, which has one CRL in DER or any number in PEM, and returns their
    /// number. The caller limits the length.
    ///
    /// # Errors
    /// The reason, when a CRL of the file cannot be read. No CRL is added then.
    pub fn add(&mut self, file: &str, bytes: &[u8]) -> Result<usize, String> {
        let crls = read(bytes, usize::MAX);
        ErrorStack::get();
        let crls = crls?;
        let count = crls.len();
        let file: Arc<str> = file.into();
        self.crls.extend(crls.into_iter().map(|mut crl| {
            crl.file = file.clone();
            Arc::new(crl)
        }));
        Ok(count)
    }

    /// Adds a CRL that is fetched.
    pub fn add_url(&mut self, crl: Arc<UrlCrl>) {
        self.urls.push(crl);
    }

    /// The CRLs that are fetched.
    pub fn urls(&self) -> &[Arc<UrlCrl>] {
        &self.urls
    }

    /// The CRLs that are in use now, those of `urls` among them.
    fn current(&self) -> CrlSet {
        let mut crls = self.crls.clone();
        let fetched: Vec<_> = self.urls.iter().map(|crl| crl.current()).collect();
        let is_incomplete = fetched.iter().any(Option::is_none);
        crls.extend(fetched.into_iter().flatten());
        CrlSet {
            crls,
            urls: Vec::new(),
            is_incomplete,
        }
    }

    /// A message for each CRL that is not complete.
    pub fn limitations(&self) -> impl Iterator<Item = String> + '_ {
        let message = |crl: &Arc<ParsedCrl>| {
            crl.limitation
                .as_deref()
                .map(|limitation| crl.message(limitation))
        };
        self.crls.iter().filter_map(message)
    }

    /// A message for each CRL that is not in force at `now`, with its thisUpdate or nextUpdate.
    pub fn out_of_force(&self, now: i64) -> impl Iterator<Item = String> + '_ {
        let crls = self.crls.iter();
        crls.filter_map(move |crl| Some(crl.message(&crl.out_of_force(now)?)))
    }

    /// A message for each CRL in force that expires within a day.
    pub fn ending_soon(&self, now: i64) -> impl Iterator<Item = String> + '_ {
        let crls = self.crls.iter();
        crls.filter_map(move |crl| Some(crl.message(&crl.ends_soon(now)?)))
    }

    /// The messages of [`CrlSet::out_of_force`] for the CRLs that expired after `since` and until
    /// `now`, and those of [`CrlSet::ending_soon`] for the CRLs that came within a day of their
    /// end, with their files and URLs.
    pub fn expired_since(&self, since: i64, now: i64) -> Vec<String> {
        let passed = |time: i64| since < time && time <= now;
        let crls = self.current().crls;
        let messages = crls.iter().filter_map(|crl| {
            let end = crl.end()?;
            let what = if passed(end) {
                crl.out_of_force(now)
            } else if passed(end.saturating_sub(SOON)) {
                crl.ends_soon(now)
            } else {
                None
            };
            Some(format!("'{}': {}", crl.file, crl.message(&what?)))
        });
        messages.collect()
    }

    /// File or URL and nextUpdate, in seconds since the epoch, of each CRL of this issuer that is in
    /// use and has expired at `now`.
    pub fn expired_of(&self, issuer: &X509NameRef, now: i64) -> Vec<(Arc<str>, i64)> {
        let current = self.current();
        let expired = |crl: &Arc<ParsedCrl>| {
            let next_update = crl.next_update?;
            let is_expired = crl.end().is_some_and(|end| end <= now);
            is_expired.then(|| (crl.file.clone(), next_update))
        };
        let crls = current.crls.iter();
        crls.filter(|crl| is_same_name(crl.issuer(), issuer))
            .filter_map(expired)
            .collect()
    }

    /// A message for each CRL with the name of a CA in `cas` that no CA of that name signed.
    pub fn not_signed_by<'a>(
        &'a self,
        cas: &'a [Arc<CaCertificate>],
    ) -> impl Iterator<Item = String> + 'a {
        self.crls.iter().filter_map(|crl| {
            let cas = cas.iter().map(|ca| ca.x509());
            let mut same_name = cas.filter(|ca| is_same_name(crl.issuer(), ca.subject_name()));
            let first = same_name.next()?;
            let unsigned = !crl.check_signature(first).authentic
                && !same_name.any(|other| crl.check_signature(other).authentic);
            ErrorStack::get();
            unsigned.then(|| {
                crl.message(
                    "no CA of the plugin with this name signed it, so it has no effect there",
                )
            })
        })
    }

    /// A message if the files have CRLs, none of them has the name of a CA in `cas`, and none is
    /// signed by a CA in `others`, such as an intermediate between a CA in `cas` and the clients.
    pub fn of_other_cas<'a>(
        &self,
        cas: &[Arc<CaCertificate>],
        others: impl Iterator<Item = &'a Arc<CaCertificate>> + Clone,
    ) -> Option<String> {
        let has_name = |crl: &ParsedCrl, ca: &CaCertificate| {
            is_same_name(crl.issuer(), ca.x509().subject_name())
        };
        let is_known = |crl: &Arc<ParsedCrl>| {
            cas.iter().any(|ca| has_name(crl, ca))
                || others
                    .clone()
                    .any(|ca| has_name(crl, ca) && crl.check_signature(ca.x509()).authentic)
        };
        let first = self.crls.first()?;
        let is_known = !self.urls.is_empty() || self.crls.iter().any(is_known);
        ErrorStack::get();
        let more = match self.crls.len() {
            1 => "",
            _ => ", nor is another CRL of the list",
        };
        (!is_known).then(|| {
            first.message(&format!(
                "is of no CA of the plugin{more}: it counts for certificates of an issuer with this \
                 name whose certificate the client sends"
            ))
        })
    }

    /// Number of CRLs that are in use.
    pub fn count_in_use(&self) -> usize {
        let fetched = self.urls.iter().filter(|crl| crl.is_in_use());
        self.crls.len() + fetched.count()
    }

    /// CRL number `index` of those that are in use.
    pub fn summary(&self, index: usize) -> Option<CrlSummary> {
        let fetched = || {
            let mut fetched = self.urls.iter().filter_map(|crl| crl.current());
            fetched.nth(index.checked_sub(self.crls.len())?)
        };
        let crl = self.crls.get(index).cloned().or_else(fetched)?;
        Some(CrlSummary {
            file: crl.file.clone(),
            issuer: crl.issuer_text.clone(),
            this_update: crl.this_update,
            next_update: crl.next_update,
            entries: crl.entry_count(),
            bytes: crl.len,
        })
    }

    /// Whether the set has no CRL, so that no chain is good.
    pub fn is_empty(&self) -> bool {
        self.crls.is_empty() && self.urls.is_empty()
    }

    /// SHA-256 of the content, without that of CRLs that are fetched. It does not depend on the
    /// order of the CRLs.
    pub fn digest(&self) -> [u8; 32] {
        let files = self.crls.iter().map(|crl| crl.digest);
        let urls = self.urls.iter().map(|crl| crl.digest());
        let mut digests: Vec<_> = files.chain(urls).collect();
        digests.sort_unstable();
        digests.dedup();
        sha256(digests.as_flattened())
    }

    /// Checks a verified path. A revoked certificate at any depth takes precedence over a missing
    /// CRL.
    ///
    /// The leaf needs a CRL in force. The CAs above it need one if their issuer is in the path and
    /// the set has CRLs of that issuer, those below the anchor also while a CRL has not been fetched
    /// yet.
    pub fn check(&self, path: &CertificationPath, now: i64) -> CrlVerdict {
        let verdict = match &self.urls[..] {
            [] => self.check_path(path, now),
            _ => self.current().check_path(path, now),
        };
        ErrorStack::get();
        verdict
    }

    fn check_path(&self, path: &CertificationPath, now: i64) -> CrlVerdict {
        let verdict = |code, depth: usize| CrlVerdict {
            code,
            depth: u32::try_from(depth).unwrap_or(u32::MAX),
            until: self.next_change(now),
        };
        let certificates = || PathCertificate::all(path);
        for (depth, target) in certificates().enumerate() {
            if self.revoking(&target, path, now).is_some() {
                return verdict(sys::X509_V_ERR_CERT_REVOKED, depth);
            }
        }
        for (depth, target) in certificates().enumerate() {
            let needed = depth == 0
                || (self.is_incomplete && depth < path.anchor())
                || (!target.above.is_empty() && self.by_issuer(target.issuer()).next().is_some());
            if !needed {
                continue;
            }
            if let Err(code) = self.status(&target, now) {
                return verdict(code, depth);
            }
        }
        verdict(sys::X509_V_OK, 0)
    }

    /// The CRLs whose issuer has this name.
    fn by_issuer<'a>(&'a self, name: &'a X509NameRef) -> impl Iterator<Item = &'a ParsedCrl> {
        self.crls
            .iter()
            .map(|crl| &**crl)
            .filter(move |crl| is_same_name(crl.issuer(), name))
    }

    /// The first CRL with an entry for the certificate that is signed by an authorised signer, unless
    /// the CA withdrew the revocation.
    fn revoking(
        &self,
        target: &PathCertificate<'_>,
        path: &CertificationPath,
        now: i64,
    ) -> Option<&ParsedCrl> {
        let revoking = self.crls.iter().find(|crl| {
            let is_listed = match crl.entry(target.certificate) {
                EntryStatus::Revoked { .. } => true,
                EntryStatus::Held { .. } => crl.in_force(now).is_ok(),
                EntryStatus::Removed | EntryStatus::Absent => false,
            };
            let is_revoked_by = |signer: &X509Ref| {
                crl.check_signature(signer).authentic
                    && !self.is_withdrawn(crl, signer, target.certificate, now, |_| true)
            };
            is_listed
                && (target.signer_candidates(crl).any(is_revoked_by)
                    || target
                        .other_keys_of_issuer(crl)
                        .any(|ca| is_revoked_by(ca) && path.shares_anchor(ca)))
        });
        revoking.map(|crl| &**crl)
    }

    /// The entry by which [`CrlSet::check`] finds the certificate at this depth revoked.
    pub fn revocation(
        &self,
        path: &CertificationPath,
        depth: u32,
        now: i64,
    ) -> Option<CrlRevocation> {
        let current = self.current();
        let target = PathCertificate::all(path).nth(depth as usize)?;
        let crl = current.revoking(&target, path, now);
        let revocation = crl.map(|crl| {
            let (since, reason) = match crl.entry(target.certificate) {
                EntryStatus::Revoked { since, reason } => (since, reason),
                EntryStatus::Held { since } => (since, "certificateHold"),
                EntryStatus::Removed | EntryStatus::Absent => (None, "unspecified"),
            };
            CrlRevocation {
                file: crl.file.clone(),
                since,
                reason,
            }
        });
        ErrorStack::get();
        revocation
    }

    /// Whether a newer CRL with the same key withdraws the revocation of the certificate by `crl`.
    /// Newer CRLs are considered if `is_accepted` is true for them.
    fn is_withdrawn(
        &self,
        crl: &ParsedCrl,
        signer: &X509Ref,
        certificate: &X509Ref,
        now: i64,
        is_accepted: impl Fn(&ParsedCrl) -> bool,
    ) -> bool {
        let withdraws = |newer: &ParsedCrl| {
            let entry = newer.entry(certificate);
            match (&newer.delta, &crl.delta) {
                (None, _) => matches!(entry, EntryStatus::Absent | EntryStatus::Removed),
                // A delta CRL without an entry for the certificate changes nothing. RFC 5280
                // section 5.2.4: its BaseCRLNumber is at most the number of the full CRL, and it
                // has a cRLNumber itself.
                (Some(base), None) => {
                    entry == EntryStatus::Removed
                        && base.is_some()
                        && *base <= crl.number
                        && newer.number.is_some()
                }
                (Some(_), Some(_)) => entry == EntryStatus::Removed,
            }
        };
        self.by_issuer(crl.issuer()).any(|newer| {
            newer.is_newer(crl)
                && newer.this_update <= now
                && newer.scope == crl.scope
                && newer.is_supported()
                && is_accepted(newer)
                && withdraws(newer)
                && newer.check_signature(signer).result == SignatureResult::Good
        })
    }

    /// Checks that a certificate that is not revoked is good. The error is an `X509_V_ERR_*` code.
    fn status(&self, target: &PathCertificate<'_>, now: i64) -> Result<(), c_int> {
        let mut code = sys::X509_V_ERR_UNABLE_TO_GET_CRL;
        let mut best: Option<(&ParsedCrl, &X509Ref)> = None;
        let mut has_partial = false;
        for crl in self.by_issuer(target.issuer()) {
            let signers = target.signer_candidates(crl);
            let result = |signer: &'_ X509Ref| crl.check_signature(signer).result;
            let best_signer = signers
                .map(|signer| (result(signer), signer))
                .max_by_key(|(result, _)| *result);
            match best_signer {
                Some((SignatureResult::Good, _)) if crl.limitation.is_some() => match crl.scope {
                    Scope::Malformed(_) => code = sys::X509_V_ERR_DIFFERENT_CRL_SCOPE,
                    _ if crl.unsupported => {
                        code = sys::X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION;
                    }
                    _ => has_partial |= crl.has_decidable_scope(),
                },
                Some((SignatureResult::Good, signer)) => {
                    let rank = |crl: &ParsedCrl| (crl.in_force(now).is_ok(), crl.this_update);
                    if best.is_none_or(|(best, _)| rank(crl) > rank(best)) {
                        best = Some((crl, signer));
                    }
                }
                Some((SignatureResult::NoCrlSign, _)) => {
                    code = sys::X509_V_ERR_KEYUSAGE_NO_CRL_SIGN
                }
                Some((SignatureResult::BadSignature, _)) => {
                    code = sys::X509_V_ERR_CRL_SIGNATURE_FAILURE
                }
                Some((SignatureResult::OtherKeyId, _)) | None => {}
            }
        }
        let complete = match best {
            None => Err(code),
            Some((crl, signer)) => crl.in_force(now).and_then(|()| {
                let in_force = |newer: &ParsedCrl| newer.in_force(now).is_ok();
                let certificate = target.certificate;
                match crl.entry(certificate) {
                    EntryStatus::Absent | EntryStatus::Removed => Ok(()),
                    _ if self.is_withdrawn(crl, signer, certificate, now, in_force) => Ok(()),
                    // The CRL that withdrew the revocation has expired.
                    _ => Err(sys::X509_V_ERR_CRL_HAS_EXPIRED),
                }
            }),
        };
        match complete {
            Err(_) if has_partial => self.status_by_partial(target, now),
            complete => complete,
        }
    }

    /// The same check when a partial CRL may cover the certificate.
    fn status_by_partial(&self, target: &PathCertificate<'_>, now: i64) -> Result<(), c_int> {
        let mut code = sys::X509_V_ERR_UNABLE_TO_GET_CRL;
        for crl in self.by_issuer(target.issuer()) {
            // Not with a withdrawn entry, nor of another CA with the same name.
            let entry = crl.entry(target.certificate);
            let is_usable = crl.has_decidable_scope()
                && matches!(entry, EntryStatus::Absent | EntryStatus::Removed)
                && target
                    .signer_candidates(crl)
                    .any(|signer| crl.check_signature(signer).result == SignatureResult::Good);
            if !is_usable {
                continue;
            }
            let covers = crl.covers(target.certificate, |_| true);
            match (covers, crl.in_force(now)) {
                (Ok(()), Ok(())) => return Ok(()),
                (Ok(()), Err(why)) => code = why,
                (Err(_), _) if code == sys::X509_V_ERR_UNABLE_TO_GET_CRL => {
                    code = sys::X509_V_ERR_DIFFERENT_CRL_SCOPE;
                }
                (Err(_), _) => {}
            }
        }
        Err(code)
    }

    /// First second after `now` at which a CRL of the set enters into force or expires.
    pub fn next_change(&self, now: i64) -> i64 {
        let crls = self.current().crls;
        let times = crls
            .iter()
            .flat_map(|crl| [Some(crl.this_update), crl.end()])
            .flatten();
        times.filter(|time| *time > now).min().unwrap_or(i64::MAX)
    }
}

/// A certificate of a verified path.
struct PathCertificate<'a> {
    certificate: &'a X509,
    /// The rest of the path, from its issuer up.
    above: &'a [X509],
    cas: &'a [Arc<CaCertificate>],
}

impl<'a> PathCertificate<'a> {
    fn all(path: &'a CertificationPath) -> impl Iterator<Item = PathCertificate<'a>> {
        let mut rest = path.certificates();
        std::iter::from_fn(move || {
            let (certificate, above) = rest.split_first()?;
            rest = above;
            Some(PathCertificate {
                certificate,
                above,
                cas: path.cas(),
            })
        })
    }

    fn issuer(&self) -> &'a X509NameRef {
        self.certificate.issuer_name()
    }

    /// The certificates whose keys may have signed `crl`, if it has an entry for this certificate
    /// or covers it (RFC 5280 section 6.3.3). They have the name of the CRL's issuer and are: the
    /// CAs above the certificate, among which there may be former keys of its issuer; for a root,
    /// the root itself; for an indirect CRL, CAs of the policy that the certificate names as
    /// cRLIssuer.
    fn signer_candidates<'l>(&'l self, crl: &'l ParsedCrl) -> impl Iterator<Item = &'l X509Ref> {
        let has_name = |signer: &&X509Ref| is_same_name(signer.subject_name(), crl.issuer());
        let root = self.above.is_empty().then_some(&**self.certificate);
        let above = self.above.iter().map(|above| &**above);
        let is_indirect = !is_same_name(crl.issuer(), self.issuer())
            && ext::names_crl_issuer(self.certificate, crl.issuer());
        let cas = if is_indirect { self.cas } else { &[] };
        let cas = cas.iter().map(|ca| &**ca.x509());
        above.chain(root).chain(cas).filter(has_name)
    }

    /// The CAs of the policy with the name of the certificate's issuer, if that issued `crl`. They
    /// may have another key. RFC 5280 section 6.3.3 (f): a CRL that one of them signed is authentic
    /// if its path has the same anchor. Such a CRL revokes certificates, but does not make them
    /// good.
    fn other_keys_of_issuer<'l>(&'l self, crl: &'l ParsedCrl) -> impl Iterator<Item = &'l X509Ref> {
        let is_issuer = !self.above.is_empty() && is_same_name(crl.issuer(), self.issuer());
        let cas = if is_issuer { self.cas } else { &[] };
        let cas = cas.iter().map(|ca| &**ca.x509());
        cas.filter(move |ca| is_same_name(ca.subject_name(), crl.issuer()))
    }
}
