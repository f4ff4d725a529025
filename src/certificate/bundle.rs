//! Reads files of certificates: PEM bundles, PKCS #7 and DER.
//!
//! Explanatory text around PEM blocks (RFC 7468 section 5.2) is ignored, but nothing that may be a
//! lost certificate: a block that is none, base64 outside of a block and a block without its last
//! line are errors with the line.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use openssl::error::ErrorStack;
use openssl::pkcs7::Pkcs7;
use openssl::x509::X509;

use super::der::{DerReader, SEQUENCE};
use super::from_der;
use crate::text::quoted;

/// Longest file, in bytes.
pub const MAX_FILE: usize = 16 << 20;
/// Most certificates of one file.
pub const MAX_CERTIFICATES: usize = 20_000;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// Shortest line outside of a block that counts as base64, in characters.
const MIN_BASE64_LINE: usize = 60;

/// Content of the OIDs clientAuth and anyExtendedKeyUsage.
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const ANY_PURPOSE: &[u8] = &[0x55, 0x1d, 0x25, 0];
const OID: u8 = 6;
/// `[0] IMPLICIT SEQUENCE`, the purposes that a TRUSTED CERTIFICATE rejects.
const REJECT: u8 = 0xa0;

/// A certificate of a file.
pub struct Entry {
    /// The line of its block, from 1; 0 in a file that is not PEM.
    pub line: usize,
    /// The certificate.
    pub x509: X509,
}

/// Reads all certificates of a file, in order.
///
/// # Errors
/// Where and why a part of it is no certificate, on one line.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    if bytes.len() > MAX_FILE {
        return Err(format!("is over {} MB", MAX_FILE >> 20));
    }
    let entries = match has_block(bytes) {
        true => read_pem(bytes),
        false => read_binary(bytes),
    };
    // Whatever OpenSSL could not read is in the result.
    ErrorStack::get();
    let entries = entries?;
    match entries.len() {
        0 => Err("has no certificate, expected '-----BEGIN CERTIFICATE-----'".to_owned()),
        MAX_CERTIFICATES.. => Err(format!("has {MAX_CERTIFICATES} certificates or more")),
        _ => Ok(entries),
    }
}

fn has_block(bytes: &[u8]) -> bool {
    let begin = BEGIN.as_bytes();
    bytes.windows(begin.len()).any(|part| part == begin)
}

/// A PEM block that is being read.
struct Block<'t> {
    label: &'t str,
    line: usize,
    base64: String,
}

fn read_pem(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    // Comments may be in any encoding.
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}');
    let mut entries = Vec::new();
    let mut block: Option<Block<'_>> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim_end();
        let error = |message: &str| Err(format!("line {number}: {message}"));
        match &mut block {
            None => {
                if let Some(label) = between(line, BEGIN) {
                    block = Some(Block {
                        label,
                        line: number,
                        base64: String::new(),
                    });
                } else if line.contains(BEGIN) {
                    return error("'-----BEGIN' is not at the start of a line of its own");
                } else if line.contains(END) {
                    return error("'-----END' without '-----BEGIN'");
                } else if is_base64_line(line) {
                    return error("base64 outside of a block, expected '-----BEGIN' above it");
                }
            }
            Some(open) => {
                if line == format!("{END}{}{DASHES}", open.label) {
                    read_block(open, &mut entries)
                        .map_err(|error| format!("line {}: {error}", open.line))?;
                    block = None;
                } else if line.contains(DASHES) {
                    return error(&format!(
                        "'{}', expected '{END}{}{DASHES}'",
                        quoted(line.as_bytes()),
                        quoted(open.label.as_bytes())
                    ));
                } else if line.contains("Proc-Type") {
                    return error("an encrypted block");
                } else if !line.trim().bytes().all(is_base64) {
                    return error(&format!("'{}' is not base64", quoted(line.as_bytes())));
                } else {
                    open.base64.push_str(line.trim());
                }
            }
        }
    }
    match block {
        Some(open) => Err(format!(
            "line {}: the block has no line '{END}{}{DASHES}'",
            open.line,
            quoted(open.label.as_bytes())
        )),
        None => Ok(entries),
    }
}

/// The label of a line `-----BEGIN label-----`.
fn between<'t>(line: &'t str, start: &str) -> Option<&'t str> {
    line.strip_prefix(start)?.strip_suffix(DASHES)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)
}

fn is_base64_line(line: &str) -> bool {
    let line = line.trim();
    // Titles are underlined with '='.
    line.len() >= MIN_BASE64_LINE
        && line.bytes().all(is_base64)
        && line.bytes().any(|byte| byte != b'=')
}

fn read_block(block: &Block<'_>, entries: &mut Vec<Entry>) -> Result<(), String> {
    let is_certificate = matches!(
        block.label,
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE"
    );
    let is_pkcs7 = matches!(block.label, "PKCS7" | "CMS" | "PKCS #7 SIGNED DATA");
    if !is_certificate && !is_pkcs7 {
        return Err(match block.label.ends_with("PRIVATE KEY") {
            true => "a private key, which must not be in a file of certificates".to_owned(),
            false => format!(
                "a block '{}', expected '-----BEGIN CERTIFICATE-----'",
                quoted(block.label.as_bytes())
            ),
        });
    }
    let der = STANDARD
        .decode(&block.base64)
        .map_err(|_| "the block is not base64, or a part of it is missing".to_owned())?;
    if is_pkcs7 {
        return read_pkcs7(&der, block.line, entries);
    }
    let certificate = match block.label {
        "TRUSTED CERTIFICATE" => without_trust_settings(&der)?,
        _ => &der,
    };
    entries.push(Entry {
        line: block.line,
        x509: read_der(certificate)?,
    });
    Ok(())
}

fn read_der(der: &[u8]) -> Result<X509, String> {
    if DerReader(der).next(SEQUENCE).map(|(whole, _)| whole.len()) != Some(der.len()) {
        return Err("not a certificate in DER, or bytes behind it".to_owned());
    }
    from_der(der).map_err(|error| error.to_string())
}

fn read_pkcs7(der: &[u8], line: usize, entries: &mut Vec<Entry>) -> Result<(), String> {
    let message = || "not a readable PKCS #7 structure".to_owned();
    let pkcs7 = Pkcs7::from_der(der).map_err(|_| message())?;
    let signed = pkcs7
        .signed()
        .ok_or("a PKCS #7 structure without signedData")?;
    for x509 in signed.certificates().into_iter().flatten() {
        entries.push(Entry {
            line,
            x509: x509.to_owned(),
        });
    }
    Ok(())
}

fn read_binary(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    if bytes.trim_ascii().is_empty() {
        return Err("is empty, expected '-----BEGIN CERTIFICATE-----'".to_owned());
    }
    if bytes.first() != Some(&SEQUENCE) {
        let first = bytes
            .split(|byte| *byte == b'\n')
            .find(|line| !line.trim_ascii().is_empty());
        return Err(format!(
            "'{}' is neither PEM nor DER, expected '-----BEGIN CERTIFICATE-----'",
            quoted(first.unwrap_or_default().trim_ascii())
        ));
    }
    // A ContentInfo begins with an OID, a certificate with the TBSCertificate.
    let mut inside = DerReader(bytes).inside(SEQUENCE);
    let is_pkcs7 = inside
        .as_mut()
        .is_some_and(|inside| inside.next(OID).is_some());
    let mut entries = Vec::new();
    match is_pkcs7 || bytes.get(1) == Some(&0x80) {
        true => read_pkcs7(bytes, 0, &mut entries)?,
        false => entries.push(Entry {
            line: 0,
            x509: read_der(bytes)?,
        }),
    }
    Ok(entries)
}

/// The certificate of a TRUSTED CERTIFICATE, which has OpenSSL's trust settings behind it. They are
/// not kept, so they must not forbid what the policy uses the certificate for.
fn without_trust_settings(der: &[u8]) -> Result<&[u8], String> {
    let mut reader = DerReader(der);
    let message = || "not a readable TRUSTED CERTIFICATE".to_owned();
    let (certificate, _) = reader.next(SEQUENCE).ok_or_else(message)?;
    if reader.0.is_empty() {
        return Ok(certificate);
    }
    let (_, content) = reader.next(SEQUENCE).ok_or_else(message)?;
    if !reader.0.is_empty() {
        return Err(message());
    }
    let mut content = DerReader(content);
    let (mut trusted, mut rejected) = (true, false);
    if content.0.first() == Some(&SEQUENCE) {
        let (_, list) = content.next(SEQUENCE).ok_or_else(message)?;
        trusted = has_client_auth(list);
    }
    if content.0.first() == Some(&REJECT) {
        let (_, list) = content.next(REJECT).ok_or_else(message)?;
        rejected = has_client_auth(list);
    }
    match trusted && !rejected {
        true => Ok(certificate),
        false => Err(
            "the trust settings of this TRUSTED CERTIFICATE do not allow TLS client authentication"
                .to_owned(),
        ),
    }
}

fn has_client_auth(list: &[u8]) -> bool {
    let mut list = DerReader(list);
    std::iter::from_fn(|| list.next(OID)).any(|(_, oid)| oid == CLIENT_AUTH || oid == ANY_PURPOSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::der::element;
    use crate::testing;

    fn pem(x509: &X509) -> String {
        String::from_utf8(x509.to_pem().unwrap()).unwrap()
    }

    fn block(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8_lossy(line))
            .collect();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            lines.join("\n")
        )
    }

    fn lines(bytes: &[u8]) -> Vec<usize> {
        let entries = read(bytes).unwrap_or_else(|error| panic!("{error}"));
        entries.iter().map(|entry| entry.line).collect()
    }

    /// A PKCS #7 signedData with these certificates and no signer (RFC 2315 section 9.1).
    fn pkcs7(certificates: &[&X509]) -> Vec<u8> {
        let oid = |last: u8| element(OID, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, last]]);
        let ders: Vec<_> = certificates
            .iter()
            .map(|x509| x509.to_der().unwrap())
            .collect();
        let signed = element(
            SEQUENCE,
            &[
                &[2, 1, 1],
                &element(0x31, &[]),
                &element(SEQUENCE, &[&oid(1)]),
                &element(0xa0, &[&ders.concat()]),
                &element(0x31, &[]),
            ],
        );
        element(SEQUENCE, &[&oid(2), &element(0xa0, &[&signed])])
    }

    #[test]
    fn read_finds_all_certificates_among_comments() {
        let pki = testing::pki();
        let (a, b) = (pem(&pki.ca.x509), pem(&pki.intermediate.x509));
        let text = format!(
            "\u{feff}# The root\n{a}\nGlobal Root\n{}\nsubject=CN = x\n{b}",
            "=".repeat(70)
        );
        let expected = [2, 6 + a.lines().count()];
        assert_eq!(lines(text.as_bytes()), expected);
        assert_eq!(lines(text.replace('\n', "\r\n").as_bytes()), expected);
        let mut latin1 = b"# caf\xe9\n".to_vec();
        latin1.extend(a.bytes());
        assert_eq!(lines(&latin1), [2]);
        // The last line end may be missing.
        assert_eq!(lines(a.trim_end().as_bytes()), [1]);
        let der = read(text.as_bytes()).unwrap()[1].x509.to_der().unwrap();
        assert_eq!(der, pki.intermediate.x509.to_der().unwrap());
    }

    #[test]
    fn read_takes_der_and_pkcs7() {
        let pki = testing::pki();
        let all = [&pki.ca.x509, &pki.intermediate.x509];
        assert_eq!(lines(&pki.ca.x509.to_der().unwrap()), [0]);
        assert_eq!(lines(&pkcs7(&all)), [0, 0]);
        let text = format!("{}{}", block("PKCS7", &pkcs7(&all)), pem(all[0]));
        assert_eq!(lines(text.as_bytes())[..2], [1, 1]);
        assert_eq!(lines(text.as_bytes()).len(), 3);
        assert_eq!(
            read(&pkcs7(&[])).err().unwrap(),
            "has no certificate, expected '-----BEGIN CERTIFICATE-----'"
        );
        assert!(ErrorStack::get().errors().is_empty());
    }

    #[test]
    fn read_takes_a_trusted_certificate_only_if_its_settings_allow_clients() {
        let der = testing::pki().ca.x509.to_der().unwrap();
        let oid = |oid: &[u8]| element(OID, &[oid]);
        let server = oid(&[0x2b, 6, 1, 5, 5, 7, 3, 1]);
        let client = oid(CLIENT_AUTH);
        let (trust, reject) = (
            |list: &[u8]| element(SEQUENCE, &[list]),
            |list: &[u8]| element(REJECT, &[list]),
        );
        let refused =
            "line 1: the trust settings of this TRUSTED CERTIFICATE do not allow TLS client \
             authentication";
        let unreadable = "line 1: not a readable TRUSTED CERTIFICATE";
        for (settings, expected) in [
            (Vec::new(), None),
            (element(SEQUENCE, &[]), None),
            (
                element(SEQUENCE, &[&trust(&[&server[..], &client].concat())]),
                None,
            ),
            (element(SEQUENCE, &[&trust(&oid(ANY_PURPOSE))]), None),
            (element(SEQUENCE, &[&reject(&server)]), None),
            (element(SEQUENCE, &[&trust(&server)]), Some(refused)),
            (element(SEQUENCE, &[&reject(&client)]), Some(refused)),
            (
                element(SEQUENCE, &[&trust(&client), &reject(&client)]),
                Some(refused),
            ),
            (element(SEQUENCE, &[&trust(&[])]), Some(refused)),
            (element(4, &[]), Some(unreadable)),
            (vec![0x30, 0x80], Some(unreadable)),
        ] {
            let text = block("TRUSTED CERTIFICATE", &[&der[..], &settings].concat());
            let found = read(text.as_bytes()).err();
            assert_eq!(found.as_deref(), expected, "{settings:02x?}");
        }
    }

    #[test]
    fn read_names_the_line_of_what_is_no_certificate() {
        let pki = testing::pki();
        let a = pem(&pki.ca.x509);
        let count = a.lines().count();
        let der = pki.ca.x509.to_der().unwrap();
        let middle = a.lines().nth(3).unwrap();
        for (text, expected) in [
            (
                String::new(),
                "is empty, expected '-----BEGIN CERTIFICATE-----'".to_owned(),
            ),
            (
                "\nhello\n".to_owned(),
                "'hello' is neither PEM nor DER, expected '-----BEGIN CERTIFICATE-----'".to_owned(),
            ),
            (
                format!("{a}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                format!(
                    "line {}: not a certificate in DER, or bytes behind it",
                    count + 1
                ),
            ),
            (
                block("CERTIFICATE", &[&der[..], b"\0"].concat()),
                "line 1: not a certificate in DER, or bytes behind it".to_owned(),
            ),
            (
                block("CERTIFICATE", &element(SEQUENCE, &[b"\x05\0"])),
                "line 1: not a readable X.509 certificate: wrong tag".to_owned(),
            ),
            (
                block("PKCS7", &der),
                "line 1: not a readable PKCS #7 structure".to_owned(),
            ),
            (
                format!("{a}{}", block("EC PRIVATE KEY", b"x")),
                format!(
                    "line {}: a private key, which must not be in a file of certificates",
                    count + 1
                ),
            ),
            (
                block("X509 CRL", b"x"),
                "line 1: a block 'X509 CRL', expected '-----BEGIN CERTIFICATE-----'".to_owned(),
            ),
            (
                a.replace(middle, "not base64!"),
                "line 4: 'not base64!' is not base64".to_owned(),
            ),
            (
                a.replace(middle, &middle[1..]),
                "line 1: the block is not base64, or a part of it is missing".to_owned(),
            ),
            (
                a.replace("-----END CERTIFICATE-----\n", ""),
                "line 1: the block has no line '-----END CERTIFICATE-----'".to_owned(),
            ),
            (
                a.replace("-----END CERTIFICATE-----\n", &a),
                format!(
                    "line {count}: '-----BEGIN CERTIFICATE-----', expected '-----END \
                     CERTIFICATE-----'"
                ),
            ),
            (
                format!("{}{a}", a.replace("-----BEGIN CERTIFICATE-----\n", "")),
                "line 1: base64 outside of a block, expected '-----BEGIN' above it".to_owned(),
            ),
            (
                format!("{a}-----END CERTIFICATE-----\n"),
                format!("line {}: '-----END' without '-----BEGIN'", count + 1),
            ),
            (
                a.replace("-----BEGIN", "  -----BEGIN"),
                "line 1: '-----BEGIN' is not at the start of a line of its own".to_owned(),
            ),
            (
                a.replace("-----\nM", "-----\nProc-Type: 4,ENCRYPTED\n\nM"),
                "line 2: an encrypted block".to_owned(),
            ),
        ] {
            assert_eq!(read(text.as_bytes()).err(), Some(expected), "{text}");
        }
        assert!(read(&vec![b'x'; MAX_FILE + 1]).is_err());
        assert!(ErrorStack::get().errors().is_empty());
    }
}
