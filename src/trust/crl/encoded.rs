//! The DER of a CertificateList (RFC 5280 section 5.1), split without decoding the entries.
//! OpenSSL allocates several objects for each entry, ten times the bytes of the CRL.

use crate::certificate::der;

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const OID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const EXTENSIONS: u8 = 0xa0;

/// An element with a tag of one byte and a definite length.
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// The element with its tag and length.
    pub(super) whole: &'a [u8],
    pub(super) content: &'a [u8],
    /// The bytes after it.
    pub(super) rest: &'a [u8],
}

impl Element<'_> {
    pub(super) fn is_time(&self) -> bool {
        [UTC_TIME, GENERALIZED_TIME].contains(&self.tag)
    }
}

/// The first element. As OpenSSL does, it accepts lengths that are not the shortest form.
pub(super) fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = octets
                .iter()
                .fold(0usize, |len, octet| len << 8 | usize::from(*octet));
            (len, rest)
        }
        _ => return None,
    };
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (content, rest) = rest.split_at_checked(len)?;
    let whole = bytes.get(..bytes.len() - rest.len())?;
    Some(Element {
        tag,
        whole,
        content,
        rest,
    })
}

/// The first element, if it has this tag.
pub(super) fn tagged(bytes: &[u8], tag: u8) -> Option<Element<'_>> {
    element(bytes).filter(|element| element.tag == tag)
}

/// The parts of a CertificateList.
pub(super) struct EncodedCrl<'a> {
    /// The TBSCertList, which is signed.
    pub(super) signed: &'a [u8],
    /// Content of revokedCertificates: the entries.
    pub(super) entries: &'a [u8],
    /// The octets of the signature.
    pub(super) signature: &'a [u8],
    /// Whether the last octet of the signature counts only in part. OpenSSL accepts no such
    /// signature, but reads the CRL.
    pub(super) has_unused_bits: bool,
    /// The CertificateList without its entries. The signature does not match it.
    pub(super) without_entries: Vec<u8>,
}

impl EncodedCrl<'_> {
    /// Splits the DER of one CRL, which white space may follow, as a text editor or a transfer
    /// adds it.
    ///
    /// # Errors
    /// The reason why it is none.
    pub(super) fn read(bytes: &[u8]) -> Result<EncodedCrl<'_>, String> {
        let malformed = || "not a readable CRL: its DER is malformed or cut".to_owned();
        let list = tagged(bytes, SEQUENCE).ok_or_else(malformed)?;
        if !list.rest.iter().all(u8::is_ascii_whitespace) {
            return Err(format!("{} bytes follow the CRL", list.rest.len()));
        }
        EncodedCrl::split(list.content).ok_or_else(malformed)
    }

    fn split(list: &[u8]) -> Option<EncodedCrl<'_>> {
        let signed = tagged(list, SEQUENCE)?;
        let algorithm = tagged(signed.rest, SEQUENCE)?;
        let signature = tagged(algorithm.rest, BIT_STRING)?;
        let (unused_bits, octets) = signature.content.split_first()?;
        if !signature.rest.is_empty() {
            return None;
        }
        let mut rest = signed.content;
        if let Some(version) = tagged(rest, INTEGER) {
            rest = version.rest;
        }
        rest = tagged(rest, SEQUENCE)?.rest;
        let issuer = tagged(rest, SEQUENCE)?;
        let this_update = element(issuer.rest).filter(Element::is_time)?;
        rest = this_update.rest;
        if let Some(next_update) = element(rest).filter(Element::is_time) {
            rest = next_update.rest;
        }
        let before = signed.content.get(..signed.content.len() - rest.len())?;
        let mut entries: &[u8] = &[];
        if let Some(revoked) = tagged(rest, SEQUENCE) {
            (entries, rest) = (revoked.content, revoked.rest);
        }
        if let Some(extensions) = tagged(rest, EXTENSIONS) {
            if !extensions.rest.is_empty() {
                return None;
            }
        } else if !rest.is_empty() {
            return None;
        }
        let head = der::element(SEQUENCE, &[before, rest]);
        Some(EncodedCrl {
            signed: signed.whole,
            entries,
            signature: octets,
            has_unused_bits: *unused_bits != 0,
            without_entries: der::element(SEQUENCE, &[&head, signed.rest]),
        })
    }
}
