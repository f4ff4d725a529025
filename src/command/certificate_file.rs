//! The certificates of a client as `inspect` and `explain` read them: PEM, DER, PKCS #7 or PKCS #12.

use std::borrow::Cow;
use std::ffi::OsStr;

use openssl::error::ErrorStack;
use openssl::pkcs12::Pkcs12;
use openssl::x509::X509;

use super::arguments::Opt;
use super::progress::Progress;
use super::{input, Streams};
use crate::certificate::{self, bundle};

/// Longest file, in bytes.
pub(super) const MAX_FILE: usize = bundle::MAX_FILE;
/// Most certificates of one file, which are described one by one.
pub(super) const MAX_CERTIFICATES: usize = 1000;

/// Longest password file, in bytes.
const MAX_PASSWORD: usize = 4096;

/// The option for the password of a PKCS #12 file.
pub(super) const PASSWORD: Opt = Opt::with_value(
    "--password-file",
    "FILE",
    "the first line of FILE is the password of a PKCS #12\n\
     file; without it, it is read from the terminal",
);

/// The reason of `PKCS12_parse` for a wrong password (pkcs12err.h).
const MAC_VERIFY_FAILURE: &str = "mac verify failure";

/// The error for a file in which no block is left without the keys.
const ONLY_A_KEY: &str = "holds a private key and no certificate, expected \
                          '-----BEGIN CERTIFICATE-----'";

/// A certificate of a file.
pub(super) struct Entry {
    /// The line of its block, from 1; 0 in a file that is not PEM.
    pub line: usize,
    pub x509: X509,
}

/// Why a PKCS #12 file was not read.
pub(super) enum Pkcs12Error {
    /// The password is wrong, or one is needed.
    Password,
    /// What is wrong, after the name of the file.
    Other(String),
}

/// Whether these bytes are a PKCS #12 file: a SEQUENCE that begins with the version 3 (RFC 7292
/// section 4), which no certificate and no PKCS #7 structure does.
pub(super) fn is_pkcs12(bytes: &[u8]) -> bool {
    let content = match bytes {
        // The indefinite length of BER, which other programs write.
        [0x30, 0x80, content @ ..] => content,
        [0x30, length @ 0..=0x7f, content @ ..] if *length > 2 => content,
        [0x30, length @ 0x81..=0x84, rest @ ..] => {
            rest.get(usize::from(length & 0x7f)..).unwrap_or_default()
        }
        _ => return false,
    };
    content.starts_with(&[2, 1, 3])
}

pub(super) fn in_file(file: &OsStr, message: &str) -> String {
    format!("{}: {message}", input::label(file))
}

/// Reads the certificates of a file, and why the policy would not read it.
///
/// # Errors
/// What is wrong, as one line.
pub(super) fn read_entries(
    file: &OsStr,
    password_file: Option<&OsStr>,
    streams: &mut Streams,
    progress: &mut Progress,
) -> Result<(Vec<Entry>, Option<String>), String> {
    let bytes = input::read_with_progress(file, streams, MAX_FILE, progress)?;
    let what = format!("reading the certificates of {}", input::label(file));
    if !is_pkcs12(&bytes) {
        return match password_file {
            Some(_) => Err(in_file(
                file,
                "not a PKCS #12 file, expected one with --password-file",
            )),
            None => progress
                .during(streams.err, &what, || read(&bytes))
                .map_err(|error| in_file(file, &error)),
        };
    }
    let wrong = "the password of this PKCS #12 file is wrong";
    let password = match password_file {
        Some(password_file) => read_password(password_file, streams)?,
        None => String::new(),
    };
    // The file chooses how long the derivation of its key takes.
    let mut read_with =
        |password: &str| progress.during(streams.err, &what, || read_pkcs12(&bytes, password));
    let password = match (read_with(&password), password_file) {
        (Ok(entries), _) => return Ok((entries, None)),
        (Err(Pkcs12Error::Other(error)), _) => return Err(in_file(file, &error)),
        (Err(Pkcs12Error::Password), Some(_)) => return Err(in_file(file, wrong)),
        (Err(Pkcs12Error::Password), None) => {
            rpassword::prompt_password(format!("Password of {}: ", input::label(file))).map_err(
                |_| {
                    let message = "this PKCS #12 file has a password and there is no terminal, \
                               expected --password-file FILE";
                    in_file(file, message)
                },
            )?
        }
    };
    match read_with(&password) {
        Ok(entries) => Ok((entries, None)),
        Err(Pkcs12Error::Password) => Err(in_file(file, wrong)),
        Err(Pkcs12Error::Other(error)) => Err(in_file(file, &error)),
    }
}

/// The first line of a file.
fn read_password(file: &OsStr, streams: &mut Streams) -> Result<String, String> {
    let bytes = input::read(file, streams.input, MAX_PASSWORD)?;
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8(line.to_vec());
    text.map_err(|_| in_file(file, "the password is not UTF-8"))
}

/// Reads a file that is no PKCS #12 file. Private keys beside the certificates are ignored.
///
/// Where the policy's reader of files refuses it and OpenSSL reads it all the same, such as with
/// bytes behind a certificate, the second value is what the former says.
///
/// # Errors
/// What is wrong, after the name of the file.
pub(super) fn read(bytes: &[u8]) -> Result<(Vec<Entry>, Option<String>), String> {
    let bytes = without_private_keys(bytes);
    let (entries, refusal) = match bundle::read(&bytes) {
        Ok(entries) => {
            let entries = entries.into_iter();
            let entry = |entry: bundle::Entry| Entry {
                line: entry.line,
                x509: entry.x509,
            };
            (entries.map(entry).collect::<Vec<_>>(), None)
        }
        Err(error) => match read_leniently(&bytes) {
            Some(certificates) => {
                let certificates = certificates.into_iter();
                let entry = |x509| Entry { line: 0, x509 };
                (certificates.map(entry).collect(), Some(error))
            }
            None => {
                let is_key = matches!(bytes, Cow::Owned(_)) && !has_block(&bytes);
                return Err(match is_key {
                    true => ONLY_A_KEY.to_owned(),
                    false => error,
                });
            }
        },
    };
    limited(entries.len())?;
    Ok((entries, refusal))
}

fn has_block(bytes: &[u8]) -> bool {
    let begin = b"-----BEGIN ";
    bytes.windows(begin.len()).any(|part| part == begin)
}

/// What OpenSSL reads.
fn read_leniently(bytes: &[u8]) -> Option<Vec<X509>> {
    let certificates = match bytes.first() {
        Some(0x30) => certificate::from_der(bytes).map(|x509| vec![x509]),
        _ => certificate::from_pem(bytes, MAX_FILE),
    };
    ErrorStack::get();
    certificates.ok().filter(|found| !found.is_empty())
}

/// Reads a PKCS #12 file: the certificate of its key first.
pub(super) fn read_pkcs12(bytes: &[u8], password: &str) -> Result<Vec<Entry>, Pkcs12Error> {
    let result = parse_pkcs12(bytes, password);
    ErrorStack::get();
    result
}

fn parse_pkcs12(bytes: &[u8], password: &str) -> Result<Vec<Entry>, Pkcs12Error> {
    let structure = Pkcs12::from_der(bytes)
        .map_err(|_| Pkcs12Error::Other("not a readable PKCS #12 file".to_owned()))?;
    let parsed = structure.parse2(password).map_err(|stack| {
        let reasons: Vec<&str> = stack.errors().iter().filter_map(|e| e.reason()).collect();
        if reasons.contains(&MAC_VERIFY_FAILURE) {
            return Pkcs12Error::Password;
        }
        let unsupported = reasons.iter().any(|reason| reason.contains("unsupported"));
        Pkcs12Error::Other(match (unsupported, reasons.first()) {
            (true, _) => "encrypted by an algorithm that OpenSSL 3 has in its provider 'legacy' \
                          alone, expected the certificates in PEM, as \
                          'openssl pkcs12 -legacy -nokeys -in FILE' prints them"
                .to_owned(),
            (false, Some(reason)) => format!("the PKCS #12 file cannot be read: {reason}"),
            (false, None) => "the PKCS #12 file cannot be read".to_owned(),
        })
    })?;
    let others = parsed.ca.into_iter().flatten();
    let entries: Vec<Entry> = parsed
        .cert
        .into_iter()
        .chain(others)
        .map(|x509| Entry { line: 0, x509 })
        .collect();
    limited(entries.len()).map_err(Pkcs12Error::Other)?;
    match entries.is_empty() {
        true => Err(Pkcs12Error::Other(
            "the PKCS #12 file has no certificate".to_owned(),
        )),
        false => Ok(entries),
    }
}

fn limited(count: usize) -> Result<(), String> {
    match count {
        0..=MAX_CERTIFICATES => Ok(()),
        _ => Err(format!(
            "has {count} certificates, expected at most {MAX_CERTIFICATES}; 'resty-mtls ca' lists \
             bundles"
        )),
    }
}

/// The text with empty lines in place of private keys and parameters of keys, so that the numbers
/// of lines stay.
fn without_private_keys(bytes: &[u8]) -> Cow<'_, [u8]> {
    let is_key = |line: &[u8]| {
        let line = line.trim_ascii_end();
        line.starts_with(b"-----BEGIN ")
            && (line.ends_with(b" PRIVATE KEY-----")
                || line == b"-----BEGIN PRIVATE KEY-----"
                || line.ends_with(b" PARAMETERS-----"))
    };
    if !bytes.split(|byte| *byte == b'\n').any(is_key) {
        return Cow::Borrowed(bytes);
    }
    let mut kept = Vec::with_capacity(bytes.len());
    let mut inside = false;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        inside = inside || is_key(line);
        match inside {
            true => kept.push(b'\n'),
            false => kept.extend_from_slice(line),
        }
        inside = inside && !line.starts_with(b"-----END ");
    }
    Cow::Owned(kept)
}
