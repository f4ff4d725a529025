//! The extensions issuingDistributionPoint, cRLNumber and deltaCRLIndicator of a CRL (RFC 5280
//! sections 5.2.3 to 5.2.5). OpenSSL does not read them, because its releases treat malformed ones
//! differently.

use std::cmp::Ordering;

/// Tags of the fields.
pub const DISTRIBUTION_POINT: u8 = 0xa0;
pub const ONLY_USER_CERTS: u8 = 0x81;
pub const ONLY_CA_CERTS: u8 = 0x82;
pub const ONLY_SOME_REASONS: u8 = 0x83;
pub const INDIRECT: u8 = 0x84;
pub const ONLY_ATTRIBUTE_CERTS: u8 = 0x85;

const ONLY: [u8; 3] = [ONLY_USER_CERTS, ONLY_CA_CERTS, ONLY_ATTRIBUTE_CERTS];

/// The scope of a CRL. A newer CRL replaces an older one with an equal scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No issuingDistributionPoint.
    Full,
    /// The DER of a well-formed issuingDistributionPoint.
    Partial(Box<[u8]>),
    /// The issuingDistributionPoint is malformed. Holds the reason.
    Malformed(&'static str),
}

impl Scope {
    /// Reads the content of an issuingDistributionPoint extension.
    pub fn of(der: &[u8]) -> Scope {
        match read(der) {
            Ok(()) => Scope::Partial(der.into()),
            Err(why) => Scope::Malformed(why),
        }
    }

    /// Whether indirectCRL is set: entries may be for certificates of other issuers.
    pub fn is_indirect(&self) -> bool {
        self.has(INDIRECT)
    }

    /// Whether the field with this tag is present, and not false.
    pub fn has(&self, field: u8) -> bool {
        let Scope::Partial(der) = self else {
            return false;
        };
        let mut rest = element(der).map_or(&[][..], |(_, fields, _)| fields);
        while let Some((tag, content, after)) = element(rest) {
            if tag == field {
                return content.iter().any(|octet| *octet != 0);
            }
            rest = after;
        }
        false
    }
}

fn read(der: &[u8]) -> Result<(), &'static str> {
    const MALFORMED: &str = "a malformed issuingDistributionPoint";
    let Some((0x30, mut fields, [])) = element(der) else {
        return Err(MALFORMED);
    };
    // [0] distributionPoint and [3] onlySomeReasons with content, [1], [2], [4] and [5] booleans,
    // of which false is equal to absence.
    let (mut next, mut asserted, mut only) = (0, 0, 0);
    while !fields.is_empty() {
        let (tag, content, rest) = element(fields).ok_or(MALFORMED)?;
        let is_set = match (tag, content) {
            (0xa0 | 0x83, [_, ..]) => true,
            (0x81 | 0x82 | 0x84 | 0x85, [value]) => *value != 0,
            _ => return Err(MALFORMED),
        };
        let number = tag & 0x1f;
        if number < next {
            return Err(MALFORMED);
        }
        next = number + 1;
        asserted += usize::from(is_set);
        only += usize::from(is_set && ONLY.contains(&tag));
        fields = rest;
    }
    match (asserted, only) {
        (0, _) => Err("an empty issuingDistributionPoint"),
        (_, 0 | 1) => Ok(()),
        _ => Err("an issuingDistributionPoint that excludes every certificate"),
    }
}

/// Tag and content of the first DER element, which must have a tag of one byte, and the bytes after
/// it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = octets
                .iter()
                .fold(0usize, |len, octet| len << 8 | usize::from(*octet));
            // DER requires the shortest form of a length.
            if octets.first() == Some(&0) || len < 0x80 {
                return None;
            }
            (len, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// A cRLNumber, or the BaseCRLNumber of a delta CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number(Box<[u8]>);

impl Number {
    /// Reads a non-negative INTEGER of any length.
    pub fn of(der: &[u8]) -> Option<Number> {
        let (0x02, octets @ [0..=0x7f, ..], []) = element(der)? else {
            return None;
        };
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        octets.get(zeros..).map(|octets| Number(octets.into()))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        let order = self.0.len().cmp(&other.0.len());
        order.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::der::element as der;

    #[test]
    fn of_accepts_fields_in_order() {
        let name = der(0xa0, &[&der(0xa0, &[&der(0x86, &[b"http://a.example/"])])]);
        let fields: [&[u8]; 6] = [
            &name,
            b"\x81\x01\xff",
            b"\x82\x01\xff",
            b"\x83\x02\x06\x40",
            b"\x84\x01\xff",
            b"\x85\x01\xff",
        ];
        for field in fields {
            let idp = der(0x30, &[field]);
            assert_eq!(Scope::of(&idp), Scope::Partial(idp.clone().into()));
            // A false field is equal to an absent one.
            let idp = der(0x30, &[field, b"\x85\x01\x00"]);
            assert_eq!(
                matches!(Scope::of(&idp), Scope::Partial(_)),
                field != fields[5]
            );
        }
        let all = der(0x30, &[&name, fields[1], fields[3], fields[4]]);
        assert_eq!(Scope::of(&all), Scope::Partial(all.clone().into()));
        let reversed = der(0x30, &[fields[4], fields[3]]);
        let malformed = Scope::Malformed("a malformed issuingDistributionPoint");
        assert_eq!(Scope::of(&reversed), malformed);
    }

    #[test]
    fn of_returns_the_reason_for_malformed_extensions() {
        let empty = Scope::Malformed("an empty issuingDistributionPoint");
        assert_eq!(Scope::of(b"\x30\x00"), empty);
        assert_eq!(Scope::of(b"\x30\x06\x81\x01\x00\x84\x01\x00"), empty);
        assert_eq!(
            Scope::of(b"\x30\x06\x81\x01\xff\x82\x01\xff"),
            Scope::Malformed("an issuingDistributionPoint that excludes every certificate")
        );
        for der in [
            &b""[..],
            b"\x30",
            b"\x30\x00\x00",
            b"\x30\x80\x00\x00",
            b"\x30\x81\x03\x81\x01\xff",
            b"\x30\x85\x00\x00\x00\x00\x03\x81\x01\xff",
            b"\x31\x03\x81\x01\xff",
            b"\x30\x04\x81\x01\xff",
            b"\x30\x02\x81\x00",
            b"\x30\x04\x81\x02\xff\xff",
            b"\x30\x03\x01\x01\xff",
            b"\x30\x03\x86\x01\xff",
            b"\x30\x03\xa1\x01\xff",
            b"\x30\x02\xa0\x00",
            b"\x30\x02\x83\x00",
            b"\x30\x06\x81\x01\xff\x81\x01\xff",
        ] {
            let malformed = Scope::Malformed("a malformed issuingDistributionPoint");
            assert_eq!(Scope::of(der), malformed, "{der:02x?}");
        }
    }

    #[test]
    fn number_compares_by_value() {
        let number = |der: &[u8]| Number::of(der);
        assert!(number(b"\x02\x01\x7f") < number(b"\x02\x02\x00\x80"));
        assert!(number(b"\x02\x02\x00\x80") < number(b"\x02\x02\x01\x00"));
        assert_eq!(number(b"\x02\x02\x00\x05"), number(b"\x02\x01\x05"));
        for der in [
            &b""[..],
            b"\x02\x00",
            b"\x02\x01\xff",
            b"\x02\x02\x05",
            b"\x02\x01\x05\x00",
            b"\x04\x01\x05",
        ] {
            assert_eq!(number(der), None, "{der:02x?}");
        }
    }
}
