//! Subject alternative names (RFC 5280 section 4.2.1.6).

use std::net::{Ipv4Addr, Ipv6Addr};

use openssl::nid::Nid;
use openssl::x509::X509Ref;
use percent_encoding::{percent_encode, AsciiSet, CONTROLS};

use super::name::{self, Attribute};
use crate::openssl_ext::x509::{general_name, has_extension, is_one_element, GeneralName};
use crate::text::hex;

/// Characters that are escaped, so that one name cannot be read as two: the separator, the escape
/// character, and everything that is not visible ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b',').add(b'%');

/// One subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// dNSName, bytes as encoded.
    Dns(Vec<u8>),
    /// rfc822Name, bytes as encoded.
    Email(Vec<u8>),
    /// uniformResourceIdentifier, bytes as encoded.
    Uri(Vec<u8>),
    /// iPAddress, octets as encoded.
    Ip(Vec<u8>),
    /// directoryName.
    Directory {
        /// RFC 2253 text.
        text: String,
        /// Its attributes in encoded order.
        attributes: Vec<Attribute>,
    },
}

impl San {
    /// The type as prefix in [`text`].
    pub fn kind(&self) -> &'static str {
        match self {
            San::Dns(_) => "DNS",
            San::Email(_) => "email",
            San::Uri(_) => "URI",
            San::Ip(_) => "IP",
            San::Directory { .. } => "dirName",
        }
    }

    /// The value: bytes as encoded, an IP address as text (in hexadecimal if it has neither 4 nor
    /// 16 octets).
    pub fn value(&self) -> Vec<u8> {
        match self {
            San::Dns(value) | San::Email(value) | San::Uri(value) => value.clone(),
            San::Ip(octets) => address(octets).into_bytes(),
            San::Directory { text, .. } => text.clone().into_bytes(),
        }
    }
}

fn address(octets: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        Ipv4Addr::from(octets).to_string()
    } else if let Ok(octets) = <[u8; 16]>::try_from(octets) {
        Ipv6Addr::from(octets).to_string()
    } else {
        hex(octets)
    }
}

/// Whether there is an extension that cannot be read, or that has trailing bytes.
pub fn is_unreadable(certificate: &X509Ref) -> bool {
    has_extension(certificate, Nid::SUBJECT_ALT_NAME)
        && (!is_one_element(certificate, Nid::SUBJECT_ALT_NAME)
            || certificate.subject_alt_names().is_none())
}

/// The names of a certificate in encoded order, without those of other types (otherName,
/// registeredID, ...). Empty when the extension cannot be read.
pub fn of(certificate: &X509Ref) -> Vec<San> {
    if !is_one_element(certificate, Nid::SUBJECT_ALT_NAME) {
        return Vec::new();
    }
    let Some(names) = certificate.subject_alt_names() else {
        return Vec::new();
    };
    names
        .iter()
        .filter_map(|entry| match general_name(entry) {
            GeneralName::Dns(value) => Some(San::Dns(value.to_vec())),
            GeneralName::Email(value) => Some(San::Email(value.to_vec())),
            GeneralName::Uri(value) => Some(San::Uri(value.to_vec())),
            GeneralName::Ip(octets) => Some(San::Ip(octets.to_vec())),
            GeneralName::Directory(directory) => Some(San::Directory {
                text: name::rfc2253(directory).ok()?,
                attributes: name::attributes(directory),
            }),
            GeneralName::UserPrincipalName(_) | GeneralName::Other => None,
        })
        .collect()
}

/// The userPrincipalNames of a certificate, as encoded and in encoded order: what Active Directory
/// writes into otherNames of the SAN extension. `None` for one that is no UTF8String. Empty when
/// the extension cannot be read.
pub fn user_principal_names(certificate: &X509Ref) -> Vec<Option<Vec<u8>>> {
    if !is_one_element(certificate, Nid::SUBJECT_ALT_NAME) {
        return Vec::new();
    }
    let Some(names) = certificate.subject_alt_names() else {
        return Vec::new();
    };
    names
        .iter()
        .filter_map(|entry| match general_name(entry) {
            GeneralName::UserPrincipalName(value) => Some(value.map(<[u8]>::to_vec)),
            _ => None,
        })
        .collect()
}

/// `DNS:a.example, URI:spiffe://x/y, IP:192.0.2.7`. Space, comma, `%` and everything that is not
/// visible ASCII is percent-encoded in a value, so that one name cannot be read as two.
pub fn text(names: &[San]) -> String {
    let mut text = String::new();
    for name in names {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(name.kind());
        text.push(':');
        text.extend(percent_encode(&name.value(), ESCAPED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_joins_names_in_order() {
        let names = [
            San::Dns(b"ann.example.com".to_vec()),
            San::Uri(b"spiffe://example.org/ns/prod".to_vec()),
            San::Email(b"ann@example.com".to_vec()),
            San::Ip(vec![192, 0, 2, 7]),
            San::Ip(vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]),
        ];
        assert_eq!(
            text(&names),
            "DNS:ann.example.com, URI:spiffe://example.org/ns/prod, email:ann@example.com, \
             IP:192.0.2.7, IP:2001:db8::7"
        );
    }

    #[test]
    fn text_escapes_a_separator_in_a_name() {
        let names = [San::Dns(b"a, DNS:admin\r\n\0\xff%".to_vec())];
        assert_eq!(text(&names), "DNS:a%2C%20DNS:admin%0D%0A%00%FF%25");
    }

    #[test]
    fn value_of_an_address_of_invalid_length_is_hexadecimal() {
        assert_eq!(San::Ip(vec![1, 2, 3]).value(), b"010203");
    }
}
