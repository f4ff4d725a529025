//! What names client certificates in a block or in a list: a digest of the certificate or of its
//! public key, or its serial number and issuer.

use std::borrow::Cow;

use openssl::asn1::Asn1Object;
use openssl::error::ErrorStack;
use openssl::sha::Sha256;

use crate::certificate::{signed_content, Certificate};
use crate::openssl_ext::x509 as ext;
use crate::text::quoted;
use crate::Error;

/// Longest text of a selector, in bytes.
pub const MAX_SELECTOR: usize = 1400;
/// Most attributes of an issuer.
const MAX_ATTRIBUTES: usize = 64;
/// Most octets of a serial number. RFC 5280 allows 20.
const MAX_SERIAL: usize = 64;

/// What a selector compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SelectorKind {
    /// SHA-256 of the certificate's DER.
    Sha256 = 1,
    /// SHA-256 of its SubjectPublicKeyInfo.
    SpkiSha256 = 2,
    /// Its serial number and issuer.
    Serial = 3,
}

impl SelectorKind {
    /// All kinds.
    pub const ALL: [SelectorKind; 3] = [
        SelectorKind::Sha256,
        SelectorKind::SpkiSha256,
        SelectorKind::Serial,
    ];

    /// The first word of the text.
    pub fn name(self) -> &'static str {
        match self {
            SelectorKind::Sha256 => "sha256",
            SelectorKind::SpkiSha256 => "spki_sha256",
            SelectorKind::Serial => "serial",
        }
    }
}

/// A selector, in a form that is compared at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// What it compares.
    pub kind: SelectorKind,
    /// The digest; of a serial number and an issuer SHA-256 over both in normal form.
    pub key: [u8; 32],
}

impl Selector {
    /// Reads `sha256 HEX`, `spki_sha256 HEX` or `serial HEX ISSUER`, where ISSUER is RFC 2253 text
    /// as in nginx's `$ssl_client_i_dn`, or the text that `openssl x509 -issuer` prints.
    ///
    /// # Errors
    /// What is wrong, and what is expected.
    pub fn parse(text: &str) -> Result<Selector, String> {
        Selector::parse_with(text, &mut IssuerCache::default())
    }

    /// The same. `issuers` has what was read last, since the lines of a list often name one issuer.
    ///
    /// # Errors
    /// As [`Selector::parse`].
    pub fn parse_with(text: &str, issuers: &mut IssuerCache) -> Result<Selector, String> {
        let text = text.trim_ascii();
        if text.len() > MAX_SELECTOR {
            return Err(format!(
                "{} bytes, expected at most {MAX_SELECTOR}",
                text.len()
            ));
        }
        let (word, rest) = match text.split_once([' ', '\t']) {
            Some((word, rest)) => (word, rest.trim_ascii()),
            None => (text, ""),
        };
        let kind = SelectorKind::ALL
            .into_iter()
            .find(|kind| kind.name() == word)
            .ok_or_else(|| {
                format!(
                    "'{}', expected 'sha256 HEX', 'spki_sha256 HEX' or 'serial HEX ISSUER'",
                    quoted(word.as_bytes())
                )
            })?;
        let key = match kind {
            SelectorKind::Sha256 | SelectorKind::SpkiSha256 => digest(rest).ok_or_else(|| {
                format!(
                    "'{}' is not a SHA-256 digest, expected 64 hexadecimal digits, with or \
                     without colons",
                    quoted(rest.as_bytes())
                )
            })?,
            SelectorKind::Serial => {
                let (number, issuer) = rest.split_once([' ', '\t']).ok_or_else(|| {
                    format!(
                        "'{}', expected a serial number and its issuer",
                        quoted(rest.as_bytes())
                    )
                })?;
                let number = serial(number).ok_or_else(|| {
                    format!(
                        "'{}' is not a serial number, expected at most {MAX_SERIAL} bytes in \
                         hexadecimal, with or without colons",
                        quoted(number.as_bytes())
                    )
                })?;
                serial_key(&number, issuers.normal(issuer)?)
            }
        };
        Ok(Selector { kind, key })
    }
}

/// The normal form of the issuer that was read last.
#[derive(Default)]
pub struct IssuerCache {
    text: String,
    normal: Vec<u8>,
}

impl IssuerCache {
    fn normal(&mut self, issuer: &str) -> Result<&[u8], String> {
        if self.text != issuer || self.normal.is_empty() {
            self.normal = normal_name(issuer)?;
            issuer.clone_into(&mut self.text);
        }
        Ok(&self.normal)
    }
}

/// The selectors that a certificate has, each read when it is first needed.
pub struct CertificateSelectors<'c> {
    certificate: &'c Certificate,
    alternate_sha256: Option<[u8; 32]>,
    encodings: Encodings,
}

/// Which encodings of a certificate and of its key count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encodings {
    /// That of the certificate.
    Presented,
    /// Those that verify.
    Verifying,
    /// Those that may verify.
    Possible,
}

impl<'c> CertificateSelectors<'c> {
    /// Of a certificate whose chain is verified. `alternate_sha256` is the SHA-256 of its alternate
    /// encoding, see [`signed_content::alternate_sha256`].
    pub fn verified(
        certificate: &'c Certificate,
        alternate_sha256: Option<[u8; 32]>,
    ) -> CertificateSelectors<'c> {
        CertificateSelectors {
            certificate,
            alternate_sha256,
            encodings: Encodings::Verifying,
        }
    }

    /// Of a certificate in the encoding in which it is presented, for what a selector allows.
    pub fn presented(certificate: &'c Certificate) -> CertificateSelectors<'c> {
        CertificateSelectors {
            certificate,
            alternate_sha256: None,
            encodings: Encodings::Presented,
        }
    }

    /// Of a certificate that is not verified. The curve of its issuer's key is not known, so the
    /// alternate encodings for all common curves count.
    pub fn unverified(certificate: &'c Certificate) -> CertificateSelectors<'c> {
        CertificateSelectors {
            certificate,
            alternate_sha256: None,
            encodings: Encodings::Possible,
        }
    }

    /// The first result of `find` for a selector of this kind.
    pub fn find<T>(
        &self,
        kind: SelectorKind,
        mut find: impl FnMut(&Selector) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let mut find = |key: [u8; 32]| find(&Selector { kind, key });
        Ok(match kind {
            SelectorKind::Sha256 => {
                let found = find(self.certificate.digests().leaf);
                match (found, self.alternate_sha256) {
                    (Some(found), _) => Some(found),
                    (None, Some(alternate)) => find(alternate),
                    (None, None) if self.encodings != Encodings::Possible => None,
                    (None, None) => {
                        let der = self.certificate.der()?;
                        let mut possible = signed_content::possible_alternate_sha256s(&der);
                        possible.find_map(find)
                    }
                }
            }
            SelectorKind::SpkiSha256 => {
                let all = match self.encodings {
                    Encodings::Presented => 1,
                    Encodings::Verifying | Encodings::Possible => usize::MAX,
                };
                self.certificate.spki_sha256s().take(all).find_map(find)
            }
            SelectorKind::Serial => certificate_serial_key(self.certificate).and_then(find),
        })
    }
}

/// The key of the serial number and issuer of a certificate; `None` if OpenSSL cannot print its
/// issuer, which then no selector names.
fn certificate_serial_key(certificate: &Certificate) -> Option<[u8; 32]> {
    let issuer = normal_name(&certificate.issuer_dn().ok()?).ok()?;
    Some(serial_key(&serial(&certificate.serial())?, &issuer))
}

fn serial_key(serial: &str, issuer: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"resty-mtls serial 1");
    hasher.update(&(serial.len() as u64).to_be_bytes());
    hasher.update(serial.as_bytes());
    hasher.update(issuer);
    hasher.finish()
}

/// A digest in hexadecimal, with or without colons.
fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let bytes = text.as_bytes();
    let pairs = match bytes.len() {
        64 => 2,
        95 => 3,
        _ => return None,
    };
    for (pair, byte) in bytes.chunks(pairs).zip(&mut digest) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
        if !matches!(pair.get(2), None | Some(b':')) {
            return None;
        }
    }
    Some(digest)
}

/// A serial number in lower-case hexadecimal without leading zeros, `-` before a negative one.
fn serial(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let digits: Cow<'_, str> = match digits.contains(':') {
        true => digits.replace(':', "").into(),
        false => digits.into(),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0').to_ascii_lowercase();
    match digits.len() {
        0 => Some("0".to_owned()),
        len if len > 2 * MAX_SERIAL => None,
        _ => Some(format!("{sign}{digits}")),
    }
}

/// The normal form of a name: the OIDs and values of its attributes, with ASCII letters in lower
/// case and white space compressed, as OpenSSL compares names. RFC 2253 text has the attributes in
/// the reverse of the order that `openssl x509` prints, so of both orders the smaller one counts.
fn normal_name(text: &str) -> Result<Vec<u8>, String> {
    let mut attributes = parse_name(text)?;
    let encode = |attributes: &[(String, Vec<u8>)]| {
        let mut bytes = Vec::new();
        for (oid, value) in attributes {
            for part in [oid.as_bytes(), value] {
                bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
                bytes.extend_from_slice(part);
            }
        }
        bytes
    };
    let forward = encode(&attributes);
    attributes.reverse();
    Ok(forward.min(encode(&attributes)))
}

/// The OIDs and normalised values of the attributes of a name in RFC 2253 text.
fn parse_name(text: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let expected = |what: &str| {
        format!(
            "issuer '{}': {what}, expected a name as in $ssl_client_i_dn, such as 'CN=CA,O=Example'",
            quoted(text.as_bytes())
        )
    };
    let mut attributes = Vec::new();
    let mut rest = text.trim_ascii();
    loop {
        let (kind, after) = rest
            .split_once('=')
            .ok_or_else(|| expected("an attribute without '='"))?;
        let kind = kind.trim_ascii();
        let oid = attribute_oid(kind).ok_or_else(|| {
            expected(&format!(
                "'{}' is no type of attribute",
                quoted(kind.as_bytes())
            ))
        })?;
        let (value, after) =
            attribute_value(after).ok_or_else(|| expected("a value that does not end"))?;
        let words = value.split(u8::is_ascii_whitespace);
        let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
        attributes.push((oid, words.join(&b' ').to_ascii_lowercase()));
        if attributes.len() > MAX_ATTRIBUTES {
            return Err(expected("too many attributes"));
        }
        match after {
            None => return Ok(attributes),
            Some(after) => rest = after.trim_ascii_start(),
        }
    }
}

/// The dotted OID of a type of attribute: OpenSSL's short or long name, or an OID.
fn attribute_oid(kind: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    if kind.is_empty() || !kind.bytes().all(is_plain) {
        return None;
    }
    let kind = kind.strip_prefix("OID.").unwrap_or(kind);
    // E is a common short form of what OpenSSL calls emailAddress.
    let kind = if kind == "E" { "emailAddress" } else { kind };
    let object = Asn1Object::from_str(kind).or_else(|_| {
        let upper = kind.to_ascii_uppercase();
        Asn1Object::from_str(&upper)
    });
    match object {
        Ok(object) => Some(ext::oid(&object)),
        Err(_) => {
            ErrorStack::get();
            None
        }
    }
}

/// The bytes of a value, and the text behind the separator after it, if there is one. `None` if a
/// quotation or an escape does not end.
fn attribute_value(text: &str) -> Option<(Vec<u8>, Option<&str>)> {
    let text = text.trim_ascii_start();
    let bytes = text.as_bytes();
    let mut value = Vec::new();
    // The length of the value without trailing spaces, unless these are escaped or quoted.
    let mut len = 0;
    let mut quoted = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => quoted = !quoted,
            b',' | b'+' | b';' if !quoted => {
                value.truncate(len);
                return Some((value, Some(text.get(at..)?)));
            }
            b'\\' => {
                let digits = text.get(at..at + 2);
                let octet = digits
                    .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                match octet {
                    Some(octet) => {
                        value.push(octet);
                        at += 2;
                    }
                    None => {
                        value.push(*bytes.get(at)?);
                        at += 1;
                    }
                }
                len = value.len();
            }
            _ => {
                value.push(byte);
                if quoted || byte != b' ' {
                    len = value.len();
                }
            }
        }
    }
    if quoted {
        return None;
    }
    value.truncate(len);
    Some((value, None))
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;

    use super::*;
    use crate::testing;
    use crate::text::hex;

    fn selector(text: &str) -> Selector {
        Selector::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    fn certificate() -> Certificate {
        let pki = testing::pki();
        Certificate::new(pki.leaf.x509, testing::stack(&[])).unwrap()
    }

    fn has(selectors: &CertificateSelectors<'_>, text: &str) -> bool {
        let wanted = selector(text);
        let found = selectors.find(wanted.kind, |found| (*found == wanted).then_some(()));
        found.unwrap().is_some()
    }

    #[test]
    fn parse_reads_digests_with_colons_and_in_upper_case() {
        let plain = "0a".repeat(32);
        let colons = ["0A"; 32].join(":");
        assert_eq!(
            selector(&format!("sha256 {plain}")),
            selector(&format!(" sha256\t{colons} "))
        );
        assert_ne!(
            selector(&format!("sha256 {plain}")),
            selector(&format!("spki_sha256 {plain}"))
        );
    }

    #[test]
    fn parse_reads_one_issuer_in_the_forms_of_nginx_and_openssl() {
        let one = selector("serial 0A:bc CN=My CA,O=Example\\, Inc,C=DE");
        for text in [
            "serial abc CN=My CA,O=Example\\, Inc,C=DE",
            "serial 0x0ABC cn=my  ca, o=\"Example, Inc\" , c=de",
            "serial ABC C = DE, O = \"Example, Inc\", CN = My CA",
            "serial ABC C=DE,2.5.4.10=Example\\2C Inc,commonName=My CA",
            "serial ABC CN=My CA+O=Example\\, Inc;C=DE",
        ] {
            assert_eq!(selector(text), one, "{text}");
        }
        for text in [
            "serial ABD CN=My CA,O=Example\\, Inc,C=DE",
            "serial -ABC CN=My CA,O=Example\\, Inc,C=DE",
            "serial ABC CN=My CA,O=Example\\, Inc",
            "serial ABC O=Example\\, Inc,CN=My CA,C=DE",
            "serial ABC CN=MyCA,O=Example\\, Inc,C=DE",
        ] {
            assert_ne!(selector(text), one, "{text}");
        }
    }

    #[test]
    fn parse_refuses_other_text_and_says_what_is_expected() {
        let digest =
            "'xy' is not a SHA-256 digest, expected 64 hexadecimal digits, with or without \
                      colons";
        let name = "expected a name as in $ssl_client_i_dn, such as 'CN=CA,O=Example'";
        for (text, expected) in [
            (
                "",
                "'', expected 'sha256 HEX', 'spki_sha256 HEX' or 'serial HEX ISSUER'".to_owned(),
            ),
            (
                "sha1 00",
                "'sha1', expected 'sha256 HEX', 'spki_sha256 HEX' or 'serial HEX ISSUER'"
                    .to_owned(),
            ),
            ("sha256 xy", digest.to_owned()),
            (
                "serial 01",
                "'01', expected a serial number and its issuer".to_owned(),
            ),
            (
                "serial xy CN=a",
                "'xy' is not a serial number, expected at most 64 bytes in hexadecimal, with or \
                 without colons"
                    .to_owned(),
            ),
            (
                "serial 01 /CN=a",
                format!("issuer '/CN=a': '/CN' is no type of attribute, {name}"),
            ),
            (
                "serial 01 CN=a,b",
                format!("issuer 'CN=a,b': an attribute without '=', {name}"),
            ),
            (
                "serial 01 CN=\"a",
                format!("issuer 'CN=\"a': a value that does not end, {name}"),
            ),
            (
                "serial 01 XYZ=a",
                format!("issuer 'XYZ=a': 'XYZ' is no type of attribute, {name}"),
            ),
        ] {
            assert_eq!(Selector::parse(text).unwrap_err(), expected, "{text}");
        }
        let long = format!("serial 01 CN={}", "a".repeat(MAX_SELECTOR));
        assert_eq!(
            Selector::parse(&long).unwrap_err(),
            format!("{} bytes, expected at most 1400", long.len())
        );
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn find_matches_digest_key_and_serial_of_the_certificate() {
        let certificate = certificate();
        let selectors = CertificateSelectors::verified(&certificate, None);
        let spki = certificate
            .leaf()
            .public_key()
            .unwrap()
            .public_key_to_der()
            .unwrap();
        for text in [
            format!("sha256 {}", certificate.fingerprint_sha256()),
            format!("spki_sha256 {}", hex(&openssl::sha::sha256(&spki))),
            format!(
                "serial {} {}",
                certificate.serial(),
                certificate.issuer_dn().unwrap()
            ),
        ] {
            assert!(has(&selectors, &text), "{text}");
        }
        assert!(!has(&selectors, &format!("sha256 {}", "00".repeat(32))));
        assert!(!has(
            &selectors,
            &format!("serial {} CN=other", certificate.serial())
        ));
    }

    #[test]
    fn find_matches_the_digest_of_the_alternate_encoding() {
        let key = testing::key();
        let leaf = testing::sign_leaf("leaf", &key, MessageDigest::sha256());
        let der = leaf.to_der().unwrap();
        let order = signed_content::ec_order(&leaf.public_key().unwrap()).unwrap();
        let other = signed_content::alternate_sha256(&der, &order).unwrap();
        let certificate = Certificate::new(leaf, testing::stack(&[])).unwrap();
        let text = format!("sha256 {}", hex(&other));
        assert!(has(
            &CertificateSelectors::verified(&certificate, Some(other)),
            &text
        ));
        assert!(has(&CertificateSelectors::unverified(&certificate), &text));
        assert!(!has(
            &CertificateSelectors::verified(&certificate, None),
            &text
        ));
    }
}
