//! The entries of a CRL as an index of serial numbers: 24 bytes for an entry with a serial number
//! of 16 octets.

use openssl::asn1::Asn1IntegerRef;
use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::{GeneralName, X509NameRef};

use super::encoded::{element, tagged, Element, BOOLEAN, INTEGER, OCTET_STRING, OID, SEQUENCE};
use super::parsed::is_same_name;
use crate::certificate::{serial, time};
use crate::openssl_ext::revocation as ext;
use crate::trust::revocation_status::reason_name;

/// Content of the OIDs 2.5.29.21 and 2.5.29.29.
const REASON_CODE: &[u8] = &[0x55, 0x1d, 21];
const CERTIFICATE_ISSUER: &[u8] = &[0x55, 0x1d, 29];
const ENUMERATED: u8 = 0x0a;

/// certificateHold and removeFromCRL (RFC 5280 section 5.3.1).
pub(super) const HOLD: u8 = 6;
const REMOVE_FROM_CRL: u8 = 8;

/// Bits of a [`Fact`].
const ISSUER_BITS: u32 = 24;
const OWN_ISSUER: u64 = 1 << ISSUER_BITS;
const REASON_SHIFT: u32 = ISSUER_BITS + 1;

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

/// What an entry has beside its serial number: the revocation date in seconds since the epoch (0
/// for none; 32 bits), the reason (7 bits), whether it has a certificateIssuer of its own (1 bit),
/// and the number of its certificateIssuer, its own or that of an earlier entry, counted from 1
/// (24 bits).
#[derive(Clone, Copy)]
struct Fact(u64);

impl Fact {
    fn new(since: Option<i64>, reason: u8, own_issuer: bool, issuer: usize) -> Fact {
        let since = since
            .and_then(|since| u32::try_from(since).ok())
            .unwrap_or(0);
        let own = if own_issuer { OWN_ISSUER } else { 0 };
        let reason = u64::from(reason & 0x7f);
        Fact(u64::from(since) << 32 | reason << REASON_SHIFT | own | issuer as u64)
    }

    fn issuer(self) -> usize {
        (self.0 & (OWN_ISSUER - 1)) as usize
    }

    fn has_own_issuer(self) -> bool {
        self.0 & OWN_ISSUER != 0
    }

    fn status(self) -> EntryStatus {
        let since = i64::from((self.0 >> 32) as u32);
        let since = (since != 0).then_some(since);
        match (self.0 >> REASON_SHIFT) as u8 & 0x7f {
            REMOVE_FROM_CRL => EntryStatus::Removed,
            HOLD => EntryStatus::Held { since },
            code => EntryStatus::Revoked {
                since,
                reason: reason_name(i64::from(code)),
            },
        }
    }
}

/// A certificateIssuer (RFC 5280 section 5.3.3).
enum EntryIssuer {
    /// Has at least one directoryName.
    Named(Stack<GeneralName>),
    Unreadable,
}

/// The entries whose serial numbers have the same length.
struct Group {
    len: usize,
    /// The serial numbers one after the other, sorted.
    serials: Vec<u8>,
    facts: Vec<Fact>,
}

impl Group {
    fn serial(&self, index: usize) -> &[u8] {
        let start = index.saturating_mul(self.len);
        self.serials
            .get(start..start.saturating_add(self.len))
            .unwrap_or_default()
    }

    fn sort(&mut self) {
        // The first octets decide nearly always; comparing them alone needs no memory access.
        let mut order: Vec<(u64, u32)> = (0..self.facts.len())
            .map(|index| {
                let mut first = [0; 8];
                first
                    .iter_mut()
                    .zip(self.serial(index))
                    .for_each(|(to, octet)| *to = *octet);
                (u64::from_be_bytes(first), index as u32)
            })
            .collect();
        order.sort_unstable_by(|(one, at), (other, other_at)| {
            one.cmp(other).then_with(|| {
                self.serial(*at as usize)
                    .cmp(self.serial(*other_at as usize))
            })
        });
        let mut serials = Vec::with_capacity(self.serials.len());
        let mut facts = Vec::with_capacity(self.facts.len());
        for (_, index) in order {
            serials.extend_from_slice(self.serial(index as usize));
            facts.extend(self.facts.get(index as usize));
        }
        (self.serials, self.facts) = (serials, facts);
    }

    /// The facts of the entries with this serial number.
    fn find(&self, serial: &[u8]) -> impl Iterator<Item = Fact> + '_ {
        let (mut low, mut high) = (0, self.facts.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.serial(middle) < serial {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let count = (low..self.facts.len())
            .take_while(|index| self.serial(*index) == serial)
            .count();
        self.facts.iter().skip(low).take(count).copied()
    }
}

/// The entries of a CRL.
#[derive(Default)]
pub(super) struct Entries {
    groups: Vec<Group>,
    issuers: Vec<EntryIssuer>,
    is_indirect: bool,
    /// Whether an entry has a critical extension or a certificateIssuer.
    pub(super) has_limitation: bool,
    /// Whether an entry has an unsupported critical extension, or a certificateIssuer that cannot
    /// be read.
    pub(super) unsupported: bool,
    pub(super) count: usize,
}

/// The extensions of an entry.
#[derive(Default)]
struct Extensions {
    critical: bool,
    unsupported: bool,
    reason: u8,
    issuer: Option<EntryIssuer>,
}

impl Entries {
    /// Reads the content of revokedCertificates. `is_indirect`: whether the CRL has entries for
    /// certificates of other issuers.
    ///
    /// # Errors
    /// The reason why it cannot be read.
    pub(super) fn read(der: &[u8], is_indirect: bool) -> Result<Entries, String> {
        let mut entries = Entries {
            is_indirect,
            ..Entries::default()
        };
        let mut rest = der;
        while !rest.is_empty() {
            let next = tagged(rest, SEQUENCE).and_then(|entry| {
                entries.add(entry.content)?;
                Some(entry.rest)
            });
            rest = next.ok_or_else(|| {
                format!(
                    "not a readable CRL: entry number {} is malformed",
                    entries.count + 1
                )
            })?;
            entries.count += 1;
        }
        for group in &mut entries.groups {
            group.sort();
        }
        Ok(entries)
    }

    fn add(&mut self, entry: &[u8]) -> Option<()> {
        let serial = tagged(entry, INTEGER)?;
        if !is_shortest(serial.content) {
            return None;
        }
        let date = element(serial.rest).filter(Element::is_time)?;
        let mut extensions = Extensions::default();
        if !date.rest.is_empty() {
            let list = tagged(date.rest, SEQUENCE)?;
            if !list.rest.is_empty() {
                return None;
            }
            extensions = Extensions::read(list.content)?;
        }
        let has_own_issuer = extensions.issuer.is_some();
        self.has_limitation |= extensions.critical || has_own_issuer;
        self.unsupported |= extensions.unsupported;
        if let Some(issuer) = extensions.issuer {
            self.unsupported |= matches!(issuer, EntryIssuer::Unreadable);
            self.issuers.push(issuer);
            if self.issuers.len() >= 1 << ISSUER_BITS {
                return None;
            }
        }
        let since = time::from_der(date.tag, date.content);
        let issuer = self.issuers.len();
        let fact = Fact::new(since, extensions.reason, has_own_issuer, issuer);
        let len = serial.content.len();
        let index = match self.groups.iter().position(|group| group.len == len) {
            Some(index) => index,
            None => {
                self.groups.push(Group {
                    len,
                    serials: Vec::new(),
                    facts: Vec::new(),
                });
                self.groups.len() - 1
            }
        };
        let group = self.groups.get_mut(index)?;
        group.serials.extend_from_slice(serial.content);
        group.facts.push(fact);
        Some(())
    }

    /// The status of the certificate with this serial number and issuer. `is_own`: whether the
    /// issuer is that of the CRL. Of several entries the worst counts.
    pub(super) fn status(
        &self,
        serial: &Asn1IntegerRef,
        issuer: &X509NameRef,
        is_own: bool,
    ) -> EntryStatus {
        let serial = serial::content(serial);
        let group = self.groups.iter().find(|group| group.len == serial.len());
        let facts = group.into_iter().flat_map(|group| group.find(&serial));
        facts
            .filter(|fact| self.concerns(*fact, issuer, is_own))
            .map(Fact::status)
            .fold(EntryStatus::Absent, EntryStatus::max)
    }

    fn concerns(&self, fact: Fact, issuer: &X509NameRef, is_own: bool) -> bool {
        // The certificateIssuer of an earlier entry applies in an indirect CRL. In another one
        // OpenSSL applies it too, so the entry counts for both issuers.
        let is_for_own = is_own && !self.is_indirect && !fact.has_own_issuer();
        let names_issuer = match fact.issuer().checked_sub(1) {
            None => is_own,
            Some(index) => match self.issuers.get(index) {
                Some(EntryIssuer::Named(names)) => names
                    .iter()
                    .filter_map(|name| name.directory_name())
                    .any(|name| is_same_name(name, issuer)),
                Some(EntryIssuer::Unreadable) | None => is_own,
            },
        };
        is_for_own || names_issuer
    }

    /// Bytes of memory that the index needs.
    pub(super) fn memory(&self) -> usize {
        let groups = self.groups.iter();
        let bytes: usize = groups
            .map(|group| {
                group.serials.capacity() + group.facts.capacity() * std::mem::size_of::<Fact>()
            })
            .sum();
        // A certificateIssuer is a few objects of OpenSSL.
        bytes + self.issuers.len() * 512
    }
}

impl Extensions {
    fn read(list: &[u8]) -> Option<Extensions> {
        let mut found = Extensions::default();
        let (mut reasons, mut issuers) = (0, 0);
        let mut rest = list;
        while !rest.is_empty() {
            let extension = tagged(rest, SEQUENCE)?;
            rest = extension.rest;
            let oid = tagged(extension.content, OID)?;
            let (critical, after) = match tagged(oid.rest, BOOLEAN) {
                Some(flag) => (flag.content != [0], flag.rest),
                None => (false, oid.rest),
            };
            let value = tagged(after, OCTET_STRING)?;
            if !value.rest.is_empty() {
                return None;
            }
            found.critical |= critical;
            found.unsupported |= critical && oid.content != CERTIFICATE_ISSUER;
            if oid.content == REASON_CODE {
                reasons += 1;
                found.reason = reason(value.content);
            } else if oid.content == CERTIFICATE_ISSUER {
                issuers += 1;
                found.issuer = Some(issuer(value.content));
            }
        }
        // Of two extensions with one OID none can be read (RFC 5280 section 4.2).
        if reasons > 1 {
            found.reason = 0;
        }
        if issuers > 1 {
            found.issuer = Some(EntryIssuer::Unreadable);
        }
        Some(found)
    }
}

/// The code of a CRLReason, 0 (unspecified) for one that is unknown or cannot be read.
fn reason(der: &[u8]) -> u8 {
    match tagged(der, ENUMERATED).map(|code| code.content) {
        Some([code @ 0..=10]) => *code,
        _ => 0,
    }
}

fn issuer(der: &[u8]) -> EntryIssuer {
    let names = ext::general_names(der);
    ErrorStack::get();
    match names {
        Some(names) if names.iter().any(|name| name.directory_name().is_some()) => {
            EntryIssuer::Named(names)
        }
        _ => EntryIssuer::Unreadable,
    }
}

/// Whether an INTEGER is in the shortest form, which all serial numbers of certificates that
/// OpenSSL reads have.
fn is_shortest(content: &[u8]) -> bool {
    !matches!(content, [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..])
}
