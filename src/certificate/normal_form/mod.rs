//! Names in normal form, so that two spellings of one name compare equal.
//!
//! A comparison has three results, as `Option<bool>`: with `Some(true)` the names are equal, with
//! `Some(false)` they differ, and `None` is not certain. A comparison is not certain if a reader
//! may consider the names equal, because they differ only in letter case, blanks, compatibility
//! characters or optional escapes. A name without normal form is [`Irregular`]: readers interpret
//! it differently, so no comparison with it is certain.

mod uri;

use std::borrow::Cow;
use std::fmt;

use icu_normalizer::ComposingNormalizerBorrowed;
use openssl::x509::{X509NameRef, X509Ref};

use super::name::{self, Attribute, Encoding};
use super::{san, San};

pub use uri::{uri, uri_prefix};

/// Longest DNS name in bytes, without a trailing dot (RFC 1035 section 2.3.4).
const MAX_DNS: usize = 253;
/// Longest label of a DNS name in bytes (RFC 1035 section 2.3.4).
pub(crate) const MAX_LABEL: usize = 63;
/// Longest mail address in bytes (RFC 5321 section 4.5.3.1: 64, `@`, 255).
const MAX_EMAIL: usize = 320;
/// Longest attribute value in bytes of UTF-8. RFC 5280 appendix A.1 allows 32,768 characters at
/// most.
const MAX_TEXT: usize = 32_768;

/// A name in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalName {
    exact: Box<[u8]>,
    /// A form that is equal for all names that a reader may consider equal; `None` if it is
    /// `exact`.
    broad: Option<Box<[u8]>>,
}

impl NormalName {
    fn new(exact: impl Into<Box<[u8]>>, broad: impl Into<Box<[u8]>>) -> NormalName {
        let (exact, broad) = (exact.into(), broad.into());
        let broad = (broad != exact).then_some(broad);
        NormalName { exact, broad }
    }

    /// A name whose exact and broad forms are equal.
    fn with_one_form(exact: impl Into<Box<[u8]>>) -> NormalName {
        NormalName {
            exact: exact.into(),
            broad: None,
        }
    }

    /// The normal form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.exact
    }

    fn broad(&self) -> &[u8] {
        self.broad.as_deref().unwrap_or(&self.exact)
    }

    /// Whether the name is equal to `other`; `None`: not certain.
    pub fn is(&self, other: &NormalName) -> Option<bool> {
        comparison(self.exact == other.exact, self.broad() == other.broad())
    }

    /// Whether the name begins with `prefix`; `None`: not certain.
    pub fn begins_with(&self, prefix: &NormalName) -> Option<bool> {
        comparison(
            self.exact.starts_with(&prefix.exact),
            self.broad().starts_with(prefix.broad()),
        )
    }

    /// Whether the name consists of one label and `parent`, for DNS names.
    pub fn is_one_label_below(&self, parent: &NormalName) -> bool {
        let dot = self.exact.iter().position(|byte| *byte == b'.');
        let rest = dot.and_then(|dot| self.exact.get(dot + 1..));
        rest.is_some_and(|rest| *rest == *parent.exact)
    }
}

/// The result of a comparison in the exact and the broad form.
fn comparison(exact: bool, broad: bool) -> Option<bool> {
    match (exact, broad) {
        (true, _) => Some(true),
        (false, true) => None,
        (false, false) => Some(false),
    }
}

/// The reason why a name has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Irregular {
    what: &'static str,
    expected: &'static str,
}

/// Writes what is wrong and what is expected.
impl fmt::Display for Irregular {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, expected {}", self.what, self.expected)
    }
}

impl Irregular {
    const fn new(what: &'static str, expected: &'static str) -> Irregular {
        Irregular { what, expected }
    }

    /// What is wrong.
    pub fn what(&self) -> &'static str {
        self.what
    }
}

/// A name in normal form, or the reason why it has none.
pub type NormalForm = Result<NormalName, Irregular>;

/// The normal form of a dNSName: lower case without trailing dot. Labels consist of letters,
/// digits, `-` and `_`. A label that begins with `xn--` must be an A-label (RFC 5890 section
/// 2.3.2.1).
pub fn dns(raw: &[u8]) -> NormalForm {
    let name = raw.strip_suffix(b".").unwrap_or(raw);
    if name.len() > MAX_DNS {
        return Err(Irregular::new(
            "is longer than 253 bytes",
            "at most 253 bytes",
        ));
    }
    let name = labels(name)?;
    if name
        .split(|byte| *byte == b'.')
        .any(|l| l.len() > MAX_LABEL)
    {
        return Err(Irregular::new(
            "has a label longer than 63 bytes",
            "labels of at most 63 bytes",
        ));
    }
    Ok(NormalName::with_one_form(name))
}

/// The labels of a host, in lower case.
fn labels(host: &[u8]) -> Result<Vec<u8>, Irregular> {
    let name = host.to_ascii_lowercase();
    for label in name.split(|byte| *byte == b'.') {
        if label.is_empty() {
            return Err(Irregular::new(
                "has an empty label",
                "a name such as 'api.example.com'",
            ));
        }
        if label.contains(&b'*') {
            return Err(Irregular::new(
                "has a wildcard",
                "the name of one host, such as 'api.example.com'",
            ));
        }
        let ldh = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !label.iter().all(ldh) {
            return Err(Irregular::new(
                "has a character that is not allowed in a host name",
                "letters, digits, '-', '_' and '.' only",
            ));
        }
    }
    if name.starts_with(b"xn--") || name.windows(5).any(|bytes| bytes == b".xn--") {
        let ascii = std::str::from_utf8(&name)
            .ok()
            .and_then(|text| idna::domain_to_ascii(text).ok());
        if ascii.is_none_or(|ascii| ascii.as_bytes() != name) {
            return Err(Irregular::new(
                "has a label that begins with 'xn--' and is not an A-label",
                "internationalised labels as IDNA writes them",
            ));
        }
    }
    Ok(name)
}

/// The normal form of an rfc822Name: the host like a dNSName, the local part unchanged (RFC 5280
/// section 7.5). The comparison of local parts that differ only in letter case is not certain.
pub fn email(raw: &[u8]) -> NormalForm {
    const WRONG: Irregular = Irregular::new(
        "is not a mail address without quotes, comments and blanks",
        "an address such as 'ann@example.com'",
    );
    if raw.len() > MAX_EMAIL {
        return Err(Irregular::new(
            "is longer than 320 bytes",
            "at most 320 bytes",
        ));
    }
    let at = raw.iter().position(|byte| *byte == b'@').ok_or(WRONG)?;
    let (local, host) = raw.split_at(at);
    // Atoms joined by dots (RFC 5321 section 4.1.2).
    let atom = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(byte);
    let atoms = |part: &[u8]| !part.is_empty() && part.iter().all(atom);
    if !local.split(|byte| *byte == b'.').all(atoms) {
        return Err(WRONG);
    }
    let host = dns(host.get(1..).unwrap_or_default())?;
    let address = [local, b"@", host.as_bytes()].concat();
    let broad = address.to_ascii_lowercase();
    Ok(NormalName::new(address, broad))
}

/// The normal form of a userPrincipalName, `USER@SUFFIX`: ASCII letters in lower case, as Active
/// Directory compares them. The comparison of names that differ in another way that [`text()`]
/// lists is not certain. `None`: it is encoded as another type than UTF8String.
pub fn user_principal_name(raw: Option<&[u8]>) -> NormalForm {
    const WRONG: Irregular = Irregular::new(
        "is not a user principal name",
        "a name such as 'ann@corp.example.com'",
    );
    let name = raw.and_then(|raw| std::str::from_utf8(raw).ok());
    let (user, suffix) = name.and_then(|name| name.rsplit_once('@')).ok_or(WRONG)?;
    if user.is_empty() || user.contains('@') {
        return Err(WRONG);
    }
    let suffix = dns(suffix.as_bytes())?;
    let suffix = String::from_utf8_lossy(suffix.as_bytes());
    text(&format!("{}@{suffix}", user.to_ascii_lowercase()))
}

/// The normal form of an iPAddress: its 4 or 16 octets. The comparison of an IPv4-mapped address
/// (RFC 4291 section 2.5.5.2) with the IPv4 address is not certain.
pub fn ip(octets: &[u8]) -> NormalForm {
    const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    match octets.len() {
        4 => Ok(NormalName::with_one_form(octets)),
        16 => Ok(match octets.strip_prefix(&MAPPED) {
            Some(inner) => NormalName::new(octets, inner),
            None => NormalName::with_one_form(octets),
        }),
        _ => Err(Irregular::new(
            "is not an IP address of 4 or 16 octets",
            "an IPv4 or IPv6 address",
        )),
    }
}

/// The normal form of an attribute value: the value itself. The comparison of values that differ
/// only in letter case, blanks, compatibility characters (NFKC) or invisible characters is not
/// certain (RFC 5280 section 7.1, RFC 4518).
pub fn text(value: &str) -> NormalForm {
    if value.len() > MAX_TEXT {
        return Err(Irregular::new(
            "is longer than 32768 bytes",
            "at most 32768 bytes",
        ));
    }
    if value.chars().any(|c| c.is_control() || c == '\u{fffd}') {
        return Err(Irregular::new(
            "has a control character",
            "text without control characters",
        ));
    }
    Ok(match folded(value) {
        Cow::Borrowed(_) => NormalName::with_one_form(value.as_bytes()),
        Cow::Owned(broad) => NormalName::new(value.as_bytes(), broad.into_bytes()),
    })
}

/// The broad form of a text, which is equal for all texts that a reader may consider equal: NFKC
/// with full case folding, without invisible characters and without blanks at the ends, other runs
/// of blanks as one space.
fn folded(value: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    if value.bytes().all(plain) {
        return Cow::Borrowed(value);
    }
    if value.is_ascii() {
        return Cow::Owned(with_single_blanks(&value.to_ascii_lowercase()));
    }
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let visible: String = value.chars().filter(|c| !is_invisible(*c)).collect();
    // Via upper case, so that 'ß' equals 'SS', and all three forms of sigma are equal.
    let folded: String = nfkc
        .normalize(&visible)
        .chars()
        .filter(|c| !is_invisible(*c))
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect();
    Cow::Owned(with_single_blanks(&nfkc.normalize(&folded)))
}

fn with_single_blanks(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// Whether a character is invisible: Default_Ignorable_Code_Point of Unicode (soft hyphens,
/// joiners, direction marks, variation selectors, tags), interlinear annotation, the joiners of
/// hieroglyphs, and the blank of Braille.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{2800}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A key that is equal for all names that a reader may consider equal, for names of unknown type.
pub fn lookalike_key(name: &str) -> String {
    let uri = name.contains(':').then(|| uri(name.as_bytes()).ok());
    let text = match &uri {
        Some(Some(uri)) => String::from_utf8_lossy(uri.broad()),
        _ => Cow::Borrowed(name),
    };
    let mut text = folded(&text).into_owned();
    if text.ends_with('.') && dns(text.as_bytes()).is_ok() {
        text.pop();
    }
    text
}

/// [`lookalike_key`] of a distinguished name in RFC 4514 text, without escapes and without blanks
/// around delimiters.
pub fn lookalike_dn_key(dn: &str) -> String {
    let mut bytes = Vec::with_capacity(dn.len());
    let mut rest = dn.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let octet = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (octet, after.split_first()) {
            (Some(octet), _) => {
                bytes.push(octet);
                rest = after.get(2..).unwrap_or_default();
            }
            (None, Some((&escaped, after))) => {
                bytes.push(escaped);
                rest = after;
            }
            (None, None) => bytes.push(byte),
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let text = folded(&text);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let delimiter = |c: char| matches!(c, ',' | '+' | '=' | ';');
        if delimiter(c) && out.ends_with(' ') {
            out.pop();
        }
        if c != ' ' || !out.ends_with(delimiter) {
            out.push(c);
        }
    }
    out
}

/// Type of a subject alternative name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanKind {
    /// dNSName.
    Dns,
    /// rfc822Name.
    Email,
    /// uniformResourceIdentifier.
    Uri,
    /// iPAddress.
    Ip,
    /// userPrincipalName.
    Upn,
}

/// Subject alternative names in normal form.
#[derive(Debug, Default)]
pub struct NormalSans {
    /// In certificate order, without directoryNames; userPrincipalNames follow the others.
    pub names: Vec<(SanKind, NormalForm)>,
    /// Whether the extension cannot be read.
    pub unreadable: bool,
}

impl NormalSans {
    pub(super) fn of(certificate: &X509Ref, names: &[San]) -> NormalSans {
        let normal = |san: &San| {
            Some(match san {
                San::Dns(raw) => (SanKind::Dns, dns(raw)),
                San::Email(raw) => (SanKind::Email, email(raw)),
                San::Uri(raw) => (SanKind::Uri, uri(raw)),
                San::Ip(octets) => (SanKind::Ip, ip(octets)),
                San::Directory { .. } => return None,
            })
        };
        let upns = san::user_principal_names(certificate);
        let upns = upns
            .iter()
            .map(|upn| (SanKind::Upn, user_principal_name(upn.as_deref())));
        NormalSans {
            names: names.iter().filter_map(normal).chain(upns).collect(),
            unreadable: san::is_unreadable(certificate),
        }
    }
}

/// The attributes of a name in encoded order, each with its value in normal form.
pub fn attributes(name: &X509NameRef) -> Vec<(Attribute, NormalForm)> {
    name::all_attributes(name)
        .map(|attribute| {
            let normal = attribute_value(&attribute);
            (attribute, normal)
        })
        .collect()
}

/// The normal form of the value of an attribute of a certificate, see [`text()`].
pub fn attribute_value(attribute: &Attribute) -> NormalForm {
    match (attribute.encoding, std::str::from_utf8(&attribute.value)) {
        (Encoding::Unambiguous, Ok(value)) => text(value),
        (Encoding::EightBit, _) => Err(Irregular::new(
            "has non-ASCII bytes in a string type without a defined character set",
            "a UTF8String",
        )),
        _ => Err(Irregular::new("is not text", "a string of characters")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Form = fn(&[u8]) -> NormalForm;

    fn attribute(raw: &[u8]) -> NormalForm {
        text(std::str::from_utf8(raw).unwrap())
    }

    /// Compares two names by their normal forms.
    fn is(form: Form, a: &[u8], b: &[u8]) -> Option<bool> {
        let [a, b] = [a, b].map(|raw| form(raw).unwrap());
        assert_eq!(a.is(&b), b.is(&a), "{a:?} {b:?}");
        a.is(&b)
    }

    fn assert_all(form: Form, pairs: &[(&str, &str)], expected: Option<bool>) {
        for (a, b) in pairs {
            assert_eq!(is(form, a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }

    fn assert_irregular(form: Form, names: &[&[u8]]) {
        for name in names {
            let shown = String::from_utf8_lossy(name);
            assert!(form(name).is_err(), "{shown} {:?}", form(name));
        }
    }

    #[test]
    fn dns_ignores_case_and_trailing_dot() {
        let long = format!("{}.{}", "a".repeat(63), "b".repeat(63));
        assert_all(
            dns,
            &[
                ("a.example.com", "A.Example.COM."),
                ("_dmarc.example", "_DMARC.example"),
                ("xn--bcher-kva.example", "XN--BCHER-KVA.example"),
                (&long, &long.to_uppercase()),
            ],
            Some(true),
        );
        assert_all(
            dns,
            &[
                ("a.example.com", "b.example.com"),
                ("a.example.com", "example.com"),
                ("a.example.com", "a-example.com"),
            ],
            Some(false),
        );
    }

    #[test]
    fn dns_irregular_names() {
        let long = [&*"a".repeat(63); 4].join(".");
        assert_irregular(
            dns,
            &[
                b"",
                b".",
                b"a..b",
                b".a",
                b"a..",
                b"*.example.com",
                b"a*.example.com",
                b"*",
                b" a.example",
                b"a.example ",
                b"a.exam\0ple",
                b"a.example\n",
                b"b\xc3\xbccher.example",
                b"b\xfccher.example",
                b"a%2eexample",
                b"a.example:443",
                b"xn--a.example",
                // 'u' and a combining diaeresis
                b"xn--bucher-yhf.example",
                long.as_bytes(),
                "a".repeat(64).as_bytes(),
            ],
        );
        assert!(dns(&long.as_bytes()[2..]).is_ok(), "253 bytes");
    }

    #[test]
    fn is_one_label_below_requires_exactly_one_label() {
        let parent = dns(b"Example.com.").unwrap();
        for (name, below) in [
            ("A.example.COM.", true),
            ("example.com", false),
            ("a.b.example.com", false),
            ("aexample.com", false),
        ] {
            let name = dns(name.as_bytes()).unwrap();
            assert_eq!(name.is_one_label_below(&parent), below, "{name:?}");
        }
    }

    #[test]
    fn email_case_of_the_local_part_is_not_certain() {
        assert_all(
            email,
            &[("Ann@Example.com.", "Ann@eXAMPLE.COM")],
            Some(true),
        );
        assert_all(email, &[("Ann@example.com", "ann@example.com")], None);
        assert_all(
            email,
            &[
                ("ann@example.com", "ann@example.org"),
                ("ann@example.com", "a.nn@example.com"),
            ],
            Some(false),
        );
        assert_irregular(
            email,
            &[
                b"",
                b"ann",
                b"@example.com",
                b"ann@",
                b"\"ann\"@example.com",
                b"ann(x)@example.com",
                b"a..n@example.com",
                b".ann@example.com",
                b"ann.@example.com",
                b" ann@example.com",
                b"ann@example.com ",
                b"ann@@example.com",
                b"a@b@example.com",
                b"ann@[192.0.2.7]",
                b"ann@*.example.com",
                b"ann@example.com\0.evil.org",
                b"<ann@example.com>",
                b"\xc3\xa4@example.com",
                "ann@b\u{fc}cher.example".as_bytes(),
            ],
        );
    }

    #[test]
    fn ip_comparison_with_a_mapped_address_is_not_certain() {
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7];
        let compatible = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7];
        assert_eq!(is(ip, &[192, 0, 2, 7], &[192, 0, 2, 7]), Some(true));
        assert_eq!(is(ip, &[192, 0, 2, 7], &[192, 0, 2, 8]), Some(false));
        assert_eq!(is(ip, &[192, 0, 2, 7], &mapped), None);
        assert_eq!(is(ip, &mapped, &mapped), Some(true));
        assert_eq!(is(ip, &[192, 0, 2, 7], &compatible), Some(false));
        assert_irregular(ip, &[b"", &[1, 2, 3], &[0; 8], &[0; 17], &[0; 32]]);
    }

    #[test]
    fn text_case_blanks_and_compatibility_characters_are_not_certain() {
        assert_all(
            attribute,
            &[
                ("Contractors", "contractors"),
                ("Contractors", "CONTRACTORS "),
                ("Con tractors", " Con  tractors"),
                ("Con tractors", "Con\u{a0}tractors"),
                ("Contractors", "Con\u{200b}tractors"),
                ("Contractors", "Con\u{ad}tractors"),
                ("Contractors", "Con\u{fff9}tractors"),
                ("Contractors", "Con\u{13430}tractors"),
                ("Contractors", "Contractors\u{2800}"),
                ("Contractors", "\u{ff23}ontractors"),
                ("Office", "O\u{fb03}ce"),
                ("Müller", "MU\u{308}LLER"),
                ("Straße", "STRASSE"),
                ("ΣΊΣΥΦΟΣ", "σίσυφος"),
                ("Kelvin", "\u{212a}elvin"),
                ("x\u{2460}", "X1"),
            ],
            None,
        );
        assert_all(attribute, &[("a b", "a b"), ("é", "é")], Some(true));
        assert_all(
            attribute,
            &[
                ("Contractors", "Contractor"),
                ("a b", "ab"),
                ("a.b", "ab"),
                ("é", "e"),
                ("Fa\u{200c}rsi", "Sales"),
            ],
            Some(false),
        );
        assert_irregular(
            attribute,
            &[
                b"a\0",
                b"a\tb",
                b"a\n",
                b"\x7f",
                "a\u{85}".as_bytes(),
                "\u{fffd}".as_bytes(),
                "x".repeat(MAX_TEXT + 1).as_bytes(),
            ],
        );
    }

    #[test]
    fn lookalike_key_is_equal_for_spellings_of_all_types() {
        for (a, b) in [
            ("a.example.com", "A.Example.com."),
            ("ann@example.com", "Ann@EXAMPLE.com"),
            ("spiffe://example.org/a", "SPIFFE://Example.ORG./%61"),
            ("Ann  Smith", "ann smith "),
            ("https://x.example/a", "https://X.example:443/a"),
        ] {
            assert_eq!(lookalike_key(a), lookalike_key(b));
        }
        assert_ne!(lookalike_key("ann"), lookalike_key("anna"));
    }

    #[test]
    fn lookalike_dn_key_ignores_escapes_and_blanks_at_delimiters() {
        for other in [
            "cn=ann smith, o=example\\, inc.",
            "CN=Ann  Smith\\ ,O=EXAMPLE\\2C Inc.",
            "CN=Ann Smith , O = Example\\, Inc.",
        ] {
            assert_eq!(
                lookalike_dn_key("CN=Ann Smith,O=Example\\, Inc."),
                lookalike_dn_key(other)
            );
        }
        assert_eq!(
            lookalike_dn_key("CN=M\\C3\\9Cller"),
            lookalike_dn_key("cn=Müller")
        );
        assert_ne!(
            lookalike_dn_key("CN=Ann,O=x"),
            lookalike_dn_key("CN=Ann,O=y")
        );
        for malformed in ["\\", "a\\", "\\c", "\\c3"] {
            lookalike_dn_key(malformed);
        }
    }
}
