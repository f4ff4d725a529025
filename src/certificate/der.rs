//! DER elements (X.690) of a certificate, where the openssl crate gives no access to them.

use openssl::bn::BigNumRef;

pub(crate) const SEQUENCE: u8 = 0x30;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;

/// The DER of a positive INTEGER.
pub(super) fn integer(number: &BigNumRef) -> Vec<u8> {
    let bytes = number.to_vec();
    let sign: &[u8] = match bytes.first() {
        Some(first) if *first < 0x80 => &[],
        _ => &[0],
    };
    element(INTEGER, &[sign, &bytes])
}

/// The DER of an element whose content is these parts.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let octets = len.to_be_bytes();
    let octets: Vec<u8> = octets.into_iter().skip_while(|octet| *octet == 0).collect();
    let mut bytes = vec![tag];
    match len {
        0..=0x7f => bytes.push(len as u8),
        _ => {
            bytes.push(0x80 | octets.len() as u8);
            bytes.extend_from_slice(&octets);
        }
    }
    bytes.extend(parts.iter().flat_map(|part| part.iter()));
    bytes
}

/// Reads DER elements one after the other. Lengths must be definite, of at most four octets.
pub(crate) struct DerReader<'a>(pub(crate) &'a [u8]);

impl<'a> DerReader<'a> {
    /// The next element with this tag: all of it, and its content.
    pub(crate) fn next(&mut self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        let (found, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(*first & 0x7f))?;
                let len = octets
                    .iter()
                    .fold(0, |len, octet| len << 8 | usize::from(*octet));
                (len, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        let whole = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        (*found == tag).then_some((whole, content))
    }

    /// A reader of the content of the next element, which must have this tag.
    pub(crate) fn inside(mut self, tag: u8) -> Option<DerReader<'a>> {
        Some(DerReader(self.next(tag)?.1))
    }
}
