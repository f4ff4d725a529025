//! Distinguished names as attributes, and as text in the formats of other programs.

use openssl::nid::Nid;
use openssl::x509::X509NameRef;

use crate::openssl_ext::x509 as ext;
use crate::text::hex;
use crate::Error;

/// RFC 2253 text of printable ASCII, as in nginx's `$ssl_client_s_dn`.
pub fn rfc2253(name: &X509NameRef) -> Result<String, Error> {
    ext::print_rfc2253(name)
        .and_then(|text| String::from_utf8(text).ok())
        .ok_or_else(|| Error::BadCertificate("a name that OpenSSL cannot print".to_owned()))
}

/// One attribute of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// OpenSSL's short name, else the OID in dotted form.
    pub name: String,
    nid: Nid,
    oid: String,
    /// UTF-8 bytes as encoded, NULs kept.
    pub value: Vec<u8>,
    pub(super) encoding: Encoding,
}

impl Attribute {
    /// Whether `name` is the type of the attribute: its short name, long name or dotted OID,
    /// case-sensitive.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
            || self.oid == name
            || self
                .nid
                .long_name()
                .is_ok_and(|long_name| long_name == name)
    }
}

/// The attributes in encoded order, without those whose value OpenSSL cannot convert to UTF-8.
pub fn attributes(name: &X509NameRef) -> Vec<Attribute> {
    all_attributes(name)
        .filter(|attribute| attribute.encoding != Encoding::Unreadable)
        .collect()
}

/// How the value of an attribute is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// The characters are unambiguous.
    Unambiguous,
    /// Non-ASCII bytes in a string type that readers decode differently (TeletexString) or that
    /// does not allow them (PrintableString). OpenSSL reads them as ISO 8859-1.
    EightBit,
    /// OpenSSL cannot convert the value to UTF-8; `value` is empty.
    Unreadable,
}

/// All attributes in encoded order.
pub(super) fn all_attributes(name: &X509NameRef) -> impl Iterator<Item = Attribute> + '_ {
    name.entries().map(|entry| {
        let nid = entry.object().nid();
        let oid = ext::oid(entry.object());
        let name = match nid {
            Nid::UNDEF => oid.clone(),
            nid => nid.short_name().map_or_else(|_| oid.clone(), str::to_owned),
        };
        let data = entry.data();
        let value = ext::to_utf8(data);
        let encoding = match &value {
            None => Encoding::Unreadable,
            Some(_) if ext::is_one_byte_string(data) && !data.as_slice().is_ascii() => {
                Encoding::EightBit
            }
            Some(_) => Encoding::Unambiguous,
        };
        Attribute {
            name,
            nid,
            oid,
            value: value.unwrap_or_default(),
            encoding,
        }
    })
}

/// Reason why a name cannot be written so that a reader gets the same name from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unprintable {
    /// OpenSSL cannot print the name, or an attribute is not text.
    #[error("a name with an attribute that is not text")]
    NotText,
    /// Another name has the same text. Holds the type of the attribute.
    #[error("the value of '{0}' would be read as something else")]
    Ambiguous(String),
    /// Readers use one of several values. Holds the type of the attribute.
    #[error("'{0}' has several values, of which readers use one")]
    Repeated(String),
    /// Readers that split at commas read several attributes as one. Holds the type of the second.
    #[error("'{0}' shares a relative distinguished name with another attribute")]
    MultiValued(String),
}

/// [`rfc2253`] with unescaped UTF-8, as in Apache's `SSL_CLIENT_S_DN`.
pub fn rfc2253_utf8(name: &X509NameRef) -> Result<String, Unprintable> {
    let escaped = rfc2253(name).map_err(|_| Unprintable::NotText)?;
    let mut text = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        // After a backslash there are two hexadecimal digits, or the escaped character, which is
        // not a hexadecimal digit.
        let octet = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|octet| !octet.is_ascii());
        match octet {
            Some(octet) => {
                text.push(octet);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                text.push(byte);
                if let Some((&escaped, after)) = after.split_first() {
                    text.push(escaped);
                    rest = after;
                }
            }
        }
    }
    String::from_utf8(text).map_err(|_| Unprintable::NotText)
}

/// [`rfc2253`] of a name that needs no escape. Readers that remove a layer of backslashes, readers
/// that do not, and readers without support for escapes read the same name from it.
///
/// A value with a delimiter cannot be written in this way: after one backslash the first kind of
/// readers reads `\2C` as `2C`, after two the second kind reads a backslash, and parsers that do
/// not decode BER read the hexadecimal form (`#0c..`) as text. Such a name is an error.
pub fn rfc2253_without_escapes(name: &X509NameRef) -> Result<String, Unprintable> {
    let mut last = None;
    let mut single = Vec::new();
    for (attribute, entry) in all_readable(name)?.iter().zip(name.entries()) {
        let ambiguous = || Unprintable::Ambiguous(attribute.name.clone());
        if last.replace(ext::rdn_index(entry)) == Some(ext::rdn_index(entry)) {
            return Err(Unprintable::MultiValued(attribute.name.clone()));
        }
        // Go's pkix.Name has one value of these types.
        if attribute.is("CN") || attribute.is("serialNumber") {
            if single.contains(&&*attribute.oid) {
                return Err(Unprintable::Repeated(attribute.name.clone()));
            }
            single.push(&*attribute.oid);
        }
        let value = std::str::from_utf8(&attribute.value).map_err(|_| ambiguous())?;
        // The special characters of RFC 2253 section 3, with `=` and `#`.
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && !b",=+<>#;\"\\".contains(&byte);
        // An unknown type is written as dotted OID, its value in hexadecimal.
        if attribute.nid == Nid::UNDEF
            || value.is_empty()
            || value.trim() != value
            || !value.bytes().all(is_plain)
        {
            return Err(ambiguous());
        }
    }
    // OpenSSL may have escaped other characters or written a value in hexadecimal.
    match rfc2253(name).map_err(|_| Unprintable::NotText)? {
        text if text.contains(['\\', '"', '#']) => Err(Unprintable::NotText),
        text => Ok(text),
    }
}

/// `/C=CZ/CN=Ann+UID=7`, as `X509_NAME_oneline` of OpenSSL 3.0.22 prints, and with it nginx's
/// `$ssl_client_s_dn_legacy`. Older releases do not escape `/` and `+` in a value.
///
/// `X509_NAME_oneline` prints the bytes of all string types in the same way and does not escape
/// backslashes. A name is therefore ambiguous if a value has a backslash, is a BMPString, a
/// UniversalString or a TeletexString with non-ASCII bytes, or [contains an
/// attribute](contains_key).
pub fn oneline(name: &X509NameRef) -> Result<String, Unprintable> {
    let mut text = String::new();
    let mut last = None;
    for (attribute, entry) in all_readable(name)?.iter().zip(name.entries()) {
        if attribute.value != entry.data().as_slice()
            || attribute.value.contains(&b'\\')
            || contains_key(&attribute.value, '=', ATTRIBUTES)
        {
            return Err(Unprintable::Ambiguous(attribute.name.clone()));
        }
        text.push(
            if last.replace(ext::rdn_index(entry)) == Some(ext::rdn_index(entry)) {
                '+'
            } else {
                '/'
            },
        );
        text.push_str(&attribute.name);
        text.push('=');
        for &byte in &attribute.value {
            match byte {
                b'/' | b'+' => text.extend(['\\', char::from(byte)]),
                b' '..=b'~' => text.push(char::from(byte)),
                _ => {
                    text.push_str("\\x");
                    text.push_str(&hex(&[byte]).to_ascii_uppercase());
                }
            }
        }
    }
    Ok(text)
}

/// `/C=CZ/CN=Ann` without escapes, as HAProxy's `ssl_c_s_dn`, but in UTF-8 for all string types.
pub fn oneline_unescaped(name: &X509NameRef) -> Result<String, Unprintable> {
    let mut text = String::new();
    for attribute in all_readable(name)? {
        text.push('/');
        text.push_str(&attribute.name);
        text.push('=');
        text.push_str(unescaped(&attribute)?);
    }
    Ok(text)
}

/// The text of Go's `pkix.Name.String`, in UTF-8: RFC 2253 in a fixed order of types, with the
/// values of a type joined by `+`, only the last CN and SERIALNUMBER, and a type that is not in
/// `GO_TYPES` as OID and hexadecimal DER.
pub fn go_pkix(name: &X509NameRef) -> Result<String, Unprintable> {
    let attributes = all_readable(name)?;
    let mut parts = Vec::new();
    for attribute in &attributes {
        if !GO_TYPES.iter().any(|(_, oid, _)| attribute.oid == *oid) {
            let der = hex(&go_der(go_text(attribute)?));
            parts.push(format!("{}=#{der}", attribute.oid));
        }
    }
    for (go_name, oid, single) in GO_TYPES {
        let mut values = Vec::new();
        for attribute in attributes.iter().filter(|attribute| attribute.oid == *oid) {
            values.push(go_text(attribute)?);
        }
        if *single {
            values = values
                .pop()
                .filter(|value| !value.is_empty())
                .into_iter()
                .collect();
        }
        let values: Vec<_> = values
            .iter()
            .map(|value| format!("{go_name}={}", go_escaped(value)))
            .collect();
        if !values.is_empty() {
            parts.push(values.join("+"));
        }
    }
    parts.reverse();
    Ok(parts.join(","))
}

/// Names, OIDs, and whether Go uses only the last value, in the order of `Name.ToRDNSequence`.
const GO_TYPES: &[(&str, &str, bool)] = &[
    ("C", "2.5.4.6", false),
    ("ST", "2.5.4.8", false),
    ("L", "2.5.4.7", false),
    ("STREET", "2.5.4.9", false),
    ("POSTALCODE", "2.5.4.17", false),
    ("O", "2.5.4.10", false),
    ("OU", "2.5.4.11", false),
    ("CN", "2.5.4.3", true),
    ("SERIALNUMBER", "2.5.4.5", true),
];

fn go_text(attribute: &Attribute) -> Result<&str, Unprintable> {
    std::str::from_utf8(&attribute.value).map_err(|_| Unprintable::NotText)
}

fn go_escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (index, character) in value.char_indices() {
        let escape = match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => index == 0 || index == last,
            '#' => index == 0,
            _ => false,
        };
        if escape {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// The DER of Go's `asn1.Marshal` for a string: a PrintableString if possible, else a UTF8String.
fn go_der(value: &str) -> Vec<u8> {
    let printable = |byte: u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte);
    let tag = if value.bytes().all(printable) {
        0x13
    } else {
        0x0c
    };
    let len = value.len().to_be_bytes();
    let len = len
        .get(len.iter().take_while(|byte| **byte == 0).count()..)
        .unwrap_or_default();
    let mut der = vec![tag];
    match len {
        [] => der.push(0),
        [short @ 0..=0x7f] => der.push(*short),
        long => {
            der.push(0x80 | long.len() as u8);
            der.extend_from_slice(long);
        }
    }
    der.extend_from_slice(value.as_bytes());
    der
}

/// `C=CZ,CN=Ann` without escapes, in the order of Traefik. Types that Traefik does not support are
/// omitted, and so are all but the last CN and serialNumber. Traefik writes OU only for subjects.
pub fn traefik(name: &X509NameRef, organizational_unit: bool) -> Result<String, Unprintable> {
    const TYPES: &[(&str, &str, bool)] = &[
        ("DC", "0.9.2342.19200300.100.1.25", false),
        ("C", "2.5.4.6", false),
        ("ST", "2.5.4.8", false),
        ("L", "2.5.4.7", false),
        ("O", "2.5.4.10", false),
        ("OU", "2.5.4.11", false),
        ("SN", "2.5.4.5", true),
        ("CN", "2.5.4.3", true),
    ];
    let attributes = all_readable(name)?;
    let mut parts = Vec::new();
    for (prefix, oid, single) in TYPES {
        if *prefix == "OU" && !organizational_unit {
            continue;
        }
        let mut values: Vec<_> = attributes
            .iter()
            .filter(|attribute| attribute.oid == *oid)
            .collect();
        if *single {
            values = values.pop().into_iter().collect();
        }
        for attribute in values
            .into_iter()
            .filter(|attribute| !attribute.value.is_empty())
        {
            let value = go_text(attribute)?;
            if !is_traefik_value(value) {
                return Err(Unprintable::Ambiguous(attribute.name.clone()));
            }
            parts.push(format!("{prefix}={value}"));
        }
    }
    Ok(parts.join(","))
}

/// Whether all readers of Traefik's `Info` read this value correctly, in a DN or a list of
/// alternative names. Traefik escapes neither quotes nor separators, and readers may interpret a
/// backslash as an escape and search for a key anywhere in the text.
pub fn is_traefik_value(value: &str) -> bool {
    const FIELDS: &[&str] = &["Subject", "Issuer", "SerialNumber", "NB", "NA", "SAN"];
    let bytes = value.as_bytes();
    value.trim() == value
        && !value.contains(['"', '\\', ';', ','])
        && !contains_key(bytes, '=', ATTRIBUTES)
        && !contains_key(bytes, '=', FIELDS)
}

/// Types of attributes that readers search for in a name.
const ATTRIBUTES: &[&str] = &[
    "C",
    "CN",
    "DC",
    "E",
    "emailAddress",
    "GN",
    "L",
    "O",
    "OU",
    "SN",
    "serialNumber",
    "S",
    "ST",
    "street",
    "T",
    "UID",
];

/// Whether a `separator` in the value is preceded by one of `keys`, in any letter case. Readers
/// that search a text for `CN=` would find it in such a value.
pub fn contains_key(value: &[u8], separator: char, keys: &[&str]) -> bool {
    let mut before = value;
    while let Some(end) = before
        .iter()
        .rposition(|&byte| char::from(byte) == separator)
    {
        before = before.get(..end).unwrap_or_default();
        let word = before.trim_ascii_end();
        let ends_with = |key: &&str| {
            let start = word.len().checked_sub(key.len());
            start
                .and_then(|start| word.get(start..))
                .is_some_and(|end| end.eq_ignore_ascii_case(key.as_bytes()))
        };
        if keys.iter().any(ends_with) {
            return true;
        }
    }
    false
}

/// A value that can be written unescaped between slashes and cannot be read as two attributes.
fn unescaped(attribute: &Attribute) -> Result<&str, Unprintable> {
    let value = go_text(attribute)?;
    let splits = value
        .split_once('/')
        .is_some_and(|(_, after)| after.contains('='));
    if splits || contains_key(value.as_bytes(), '=', ATTRIBUTES) {
        return Err(Unprintable::Ambiguous(attribute.name.clone()));
    }
    Ok(value)
}

/// All attributes; an error if OpenSSL cannot convert the value of one.
pub fn all_readable(name: &X509NameRef) -> Result<Vec<Attribute>, Unprintable> {
    let attributes = attributes(name);
    if attributes.len() == name.entries().count() {
        Ok(attributes)
    } else {
        Err(Unprintable::NotText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::asn1::Asn1Type;
    use openssl::x509::{X509Name, X509NameBuilder};

    fn typed_name(entries: &[(Nid, &str, Asn1Type)]) -> X509Name {
        let mut builder = X509NameBuilder::new().unwrap();
        for (nid, value, kind) in entries {
            builder
                .append_entry_by_nid_with_type(*nid, value, *kind)
                .unwrap();
        }
        builder.build()
    }

    fn utf8(entries: &[(Nid, &str)]) -> X509Name {
        let entries: Vec<_> = entries
            .iter()
            .map(|(nid, value)| (*nid, *value, Asn1Type::UTF8STRING))
            .collect();
        typed_name(&entries)
    }

    fn ambiguous(attribute: &str) -> Result<String, Unprintable> {
        Err(Unprintable::Ambiguous(attribute.to_owned()))
    }

    #[test]
    fn rfc2253_utf8_keeps_non_ascii_characters_and_other_escapes() {
        let name = utf8(&[
            (Nid::COUNTRYNAME, "CZ"),
            (Nid::ORGANIZATIONNAME, "Žluť, \\C5 + \"x\""),
            (Nid::COMMONNAME, "#a\r\n\u{1f600} "),
        ]);
        assert_eq!(
            rfc2253_utf8(&name).unwrap(),
            "CN=\\#a\\0D\\0A\u{1f600}\\ ,O=Žluť\\, \\\\C5 \\+ \\\"x\\\",C=CZ"
        );
    }

    #[test]
    fn oneline_escapes_like_openssl_3() {
        let name = utf8(&[
            (Nid::ORGANIZATIONNAME, "Žluť, Widgets + Sons"),
            (Nid::COMMONNAME, "a/b\n"),
        ]);
        assert_eq!(
            oneline(&name).unwrap(),
            "/O=\\xC5\\xBDlu\\xC5\\xA5, Widgets \\+ Sons/CN=a\\/b\\x0A"
        );
        // A reader that splits at slashes would read a CN.
        let name = utf8(&[(Nid::ORGANIZATIONNAME, "a/CN=b")]);
        assert_eq!(oneline(&name), ambiguous("O"));
    }

    #[test]
    fn oneline_of_a_backslash_or_a_bmp_string_is_ambiguous() {
        let name = utf8(&[(Nid::COMMONNAME, "a\\")]);
        assert_eq!(oneline(&name), ambiguous("CN"));
        // U+4161 U+4241: the octets read "AaBA".
        let name = typed_name(&[(Nid::COMMONNAME, "AaBA", Asn1Type::BMPSTRING)]);
        assert_eq!(oneline(&name), ambiguous("CN"));
        assert_eq!(oneline_unescaped(&name).unwrap(), "/CN=\u{4161}\u{4241}");
    }

    #[test]
    fn oneline_unescaped_with_an_attribute_in_a_value_is_ambiguous() {
        let name = utf8(&[(Nid::COMMONNAME, "Smith, \"Ann\" #1/x")]);
        assert_eq!(oneline_unescaped(&name).unwrap(), "/CN=Smith, \"Ann\" #1/x");
        let name = utf8(&[(Nid::ORGANIZATIONNAME, "x/CN=admin")]);
        assert_eq!(oneline_unescaped(&name), ambiguous("O"));
    }

    #[test]
    fn go_pkix_orders_types_joins_values_and_encodes_other_types() {
        let name = typed_name(&[
            (Nid::COMMONNAME, "first", Asn1Type::UTF8STRING),
            (Nid::PKCS9_EMAILADDRESS, "a@b.cz", Asn1Type::IA5STRING),
            (Nid::DOMAINCOMPONENT, "example", Asn1Type::IA5STRING),
            (Nid::ORGANIZATIONALUNITNAME, "b;", Asn1Type::UTF8STRING),
            (Nid::COUNTRYNAME, "CZ", Asn1Type::PRINTABLESTRING),
            (Nid::ORGANIZATIONALUNITNAME, " a#", Asn1Type::UTF8STRING),
            (Nid::COMMONNAME, "#last", Asn1Type::UTF8STRING),
            (Nid::SERIALNUMBER, "", Asn1Type::PRINTABLESTRING),
        ]);
        assert_eq!(
            go_pkix(&name).unwrap(),
            "CN=\\#last,OU=b\\;+OU=\\ a#,C=CZ,\
             0.9.2342.19200300.100.1.25=#13076578616d706c65,1.2.840.113549.1.9.1=#0c066140622e637a"
        );
    }

    #[test]
    fn go_pkix_has_the_order_of_to_rdn_sequence() {
        let of = |nid, value| (nid, value, Asn1Type::UTF8STRING);
        let name = typed_name(&[
            of(Nid::SERIALNUMBER, "7"),
            of(Nid::COMMONNAME, "ann"),
            of(Nid::ORGANIZATIONALUNITNAME, "R&D"),
            of(Nid::ORGANIZATIONNAME, "Example"),
            of(Nid::POSTALCODE, "11000"),
            of(Nid::STREETADDRESS, "Na Lab=7"),
            of(Nid::LOCALITYNAME, "Praha"),
            of(Nid::STATEORPROVINCENAME, "PHA"),
            (Nid::COUNTRYNAME, "CZ", Asn1Type::PRINTABLESTRING),
        ]);
        assert_eq!(
            go_pkix(&name).unwrap(),
            "SERIALNUMBER=7,CN=ann,OU=R&D,O=Example,POSTALCODE=11000,STREET=Na Lab=7,L=Praha,\
             ST=PHA,C=CZ"
        );
    }

    #[test]
    fn go_der_has_long_lengths() {
        assert_eq!(go_der(&"x".repeat(127))[..2], [0x13, 127]);
        assert_eq!(go_der(&"*".repeat(128))[..3], [0x0c, 0x81, 128]);
        assert_eq!(go_der(&"x".repeat(256))[..4], [0x13, 0x82, 1, 0]);
        assert_eq!(go_der(""), [0x13, 0]);
    }

    #[test]
    fn traefik_orders_types_and_refuses_values_with_an_attribute() {
        let name = utf8(&[
            (Nid::COMMONNAME, "Ann"),
            (Nid::SERIALNUMBER, "7"),
            (Nid::ORGANIZATIONALUNITNAME, "a=b"),
            (Nid::ORGANIZATIONNAME, "Widgets & Sons"),
            (Nid::SURNAME, "Smith"),
            (Nid::COUNTRYNAME, "CZ"),
        ]);
        assert_eq!(
            traefik(&name, true).unwrap(),
            "C=CZ,O=Widgets & Sons,OU=a=b,SN=7,CN=Ann"
        );
        assert_eq!(
            traefik(&name, false).unwrap(),
            "C=CZ,O=Widgets & Sons,SN=7,CN=Ann"
        );
        for value in [
            "x,CN=admin",
            "x, CN=admin",
            "\"",
            "x\\",
            "x;y",
            "x,y",
            "x CN=admin",
            "x ",
        ] {
            let name = utf8(&[(Nid::ORGANIZATIONNAME, value)]);
            assert_eq!(traefik(&name, true), ambiguous("O"), "{value}");
        }
    }

    #[test]
    fn attribute_that_is_not_text_is_an_error() {
        let name = typed_name(&[
            (Nid::COMMONNAME, "Ann", Asn1Type::UTF8STRING),
            (Nid::COMMONNAME, "\0x", Asn1Type::BIT_STRING),
        ]);
        for print in [oneline, oneline_unescaped, go_pkix] {
            assert_eq!(print(&name), Err(Unprintable::NotText));
        }
        assert_eq!(traefik(&name, true), Err(Unprintable::NotText));
    }
}
