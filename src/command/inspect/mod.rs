//! `resty-mtls inspect`: describes a certificate, or a chain, as the gateway reads it.

mod description;
mod oddities;
#[cfg(test)]
pub(in crate::command) mod tests;

use std::io;

use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::{X509Ref, X509VerifyResult};
use serde_json::{json, Value};

use self::description::Description;
use super::arguments::{Arguments, Opt};
use super::certificate_file::{in_file, read_entries, Entry, PASSWORD};
use super::dialects::parse_dialect;
use super::input::time_or_now;
use super::output::{printable, write_json};
use super::progress::Progress;
use super::{Command, Streams, BAD_INPUT, JSON, OK};
use crate::certificate::Certificate;
use crate::headers::{ClientInfo, Dialect, DialectOptions, ForwardWhen, VerifyResult};
use crate::Error;

const DIALECT: &str = "--dialect";
const TIME: &str = "--time";

pub(super) const COMMAND: Command = Command {
    name: "inspect",
    operands: "CERT",
    summary: "describe a certificate or chain, and what is odd about it",
    help: "\
Describes the certificates in CERT: PEM, DER, PKCS #7 or PKCS #12; - is standard
input. The first one is the client's, the others are those that it sends with
it. Shown are the fields that policies and headers use, which values of
'auth_level' and 'client_auth_eku' accept the certificate, whether it is an SVID
of SPIFFE, and what is odd about it. Nothing is verified: resty-mtls explain
does that for a policy. Private keys in the file are ignored.",
    options: &[
        Opt::with_value(
            DIALECT,
            "NAME",
            "print the headers of this dialect too, as for a client\n\
             that the route has verified; 'dialects' lists them",
        ),
        PASSWORD,
        Opt::with_value(
            TIME,
            "TIME",
            "compare dates with this time instead of now:\n\
             2027-01-31T08:00:00Z, 2027-01-31 or seconds since 1970",
        ),
        JSON,
    ],
    statuses: &[(OK, "success"), (BAD_INPUT, "CERT cannot be read")],
    run,
};

fn run(arguments: &Arguments, streams: &mut Streams) -> io::Result<u8> {
    let file = match arguments.operands.as_slice() {
        [file] => *file,
        [] => {
            let message = "no file, expected one, or - for standard input";
            return streams.misuse(COMMAND.name, message);
        }
        files => {
            let message = format!("{} files, expected one", files.len());
            return streams.misuse(COMMAND.name, &message);
        }
    };
    let options = arguments.value(DIALECT).map(parse_dialect).transpose();
    let options = options
        .map_err(|error| format!("{DIALECT}: {error}"))
        .and_then(|dialect| Ok((dialect, time_or_now(TIME, arguments.value(TIME))?)));
    let (dialect, now) = match options {
        Ok(options) => options,
        Err(message) => return streams.misuse(COMMAND.name, &message),
    };
    let mut progress = Progress::new(COMMAND.name);
    let password_file = arguments.value(PASSWORD.name);
    let result = read_entries(file, password_file, streams, &mut progress);
    let result = result.and_then(|(entries, refusal)| {
        let chain = chain_of(&entries).map_err(|error| in_file(file, &error.to_string()))?;
        Ok((chain, refusal))
    });
    let (chain, refusal) = match result {
        Ok(read) => read,
        Err(message) => {
            writeln!(streams.err, "{message}")?;
            return Ok(BAD_INPUT);
        }
    };
    let refusal = refusal.map(|why| format!("no file of a policy may be like this: {why}"));
    let odd: Vec<String> = refusal.into_iter().chain(chain_oddities(&chain)).collect();
    match arguments.has(JSON.name) {
        true => {
            let value = progress.during(streams.err, "describing the certificates", || {
                chain_json(&chain, odd, dialect, now)
            });
            write_json(streams.out, &value)?;
        }
        false => print(&chain, odd, dialect, now, streams, &mut progress)?,
    }
    Ok(OK)
}

/// Each certificate with its line. The first one has the others as its chain.
fn chain_of(entries: &[Entry]) -> Result<Vec<(usize, Certificate)>, Error> {
    let mut chain = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let mut others = Stack::new()?;
        if index == 0 {
            for other in entries.iter().skip(1) {
                others.push(other.x509.clone())?;
            }
        }
        chain.push((entry.line, Certificate::new(entry.x509.clone(), others)?));
    }
    Ok(chain)
}

/// What is odd about the order of a chain.
fn chain_oddities(chain: &[(usize, Certificate)]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, pair) in chain.windows(2).enumerate() {
        let [(_, subject), (_, issuer)] = pair else {
            continue;
        };
        let (number, next) = (index + 1, index + 2);
        if !is_issued_by(subject.leaf(), issuer.leaf()) {
            found.push(format!(
                "certificate {next} did not issue certificate {number}"
            ));
        }
    }
    let digests = || {
        chain
            .iter()
            .map(|(_, certificate)| certificate.digests().leaf)
    };
    let mut seen = std::collections::HashSet::new();
    if !digests().all(|digest| seen.insert(digest)) {
        found.push("a certificate is there twice".to_owned());
    }
    ErrorStack::get();
    found
}

fn is_issued_by(subject: &X509Ref, issuer: &X509Ref) -> bool {
    let verified = || subject.verify(&*issuer.public_key()?);
    issuer.issued(subject) == X509VerifyResult::OK && verified().unwrap_or(false)
}

/// The description of the first certificate, with `chain`, and `headers` for a dialect.
fn chain_json(
    chain: &[(usize, Certificate)],
    oddities: Vec<String>,
    dialect: Option<Dialect>,
    now: i64,
) -> Value {
    let Some(((_, leaf), others)) = chain.split_first() else {
        return Value::Null;
    };
    let mut object = Description::new(leaf, true, now).json();
    let others = others
        .iter()
        .map(|(_, other)| Description::new(other, false, now).json().into());
    object.insert("chain".to_owned(), Value::Array(others.collect()));
    object.insert("chain_oddities".to_owned(), oddities.into());
    if let Some(dialect) = dialect {
        let headers = headers(dialect, leaf, now).into_iter().map(|header| {
            json!({
                "key": header.key,
                "name": header.name,
                "value": header.value,
                "left_out": header.left_out,
            })
        });
        object.insert("headers".to_owned(), Value::Array(headers.collect()));
    }
    Value::Object(object)
}

fn print(
    chain: &[(usize, Certificate)],
    oddities: Vec<String>,
    dialect: Option<Dialect>,
    now: i64,
    streams: &mut Streams,
    progress: &mut Progress,
) -> io::Result<()> {
    let Streams { out, err, .. } = streams;
    let count = chain.len();
    for (index, (line, certificate)) in chain.iter().enumerate() {
        if count > 1 {
            let number = index + 1;
            let place = match line {
                0 => String::new(),
                line => format!(", line {line}"),
            };
            writeln!(out, "certificate {number} of {count}{place}")?;
        }
        let indent = if count > 1 { "  " } else { "" };
        for (label, value) in Description::new(certificate, index == 0, now).lines() {
            writeln!(
                out,
                "{indent}{:20}{}",
                format!("{label}:"),
                printable(&value)
            )?;
        }
        progress.report(*err, index + 1, count, "certificates");
    }
    for oddity in oddities {
        let oddity = printable(oddity.as_bytes());
        writeln!(out, "oddity of the chain: {oddity}")?;
    }
    let (Some(dialect), Some((_, leaf))) = (dialect, chain.first()) else {
        return Ok(());
    };
    let name = dialect.name();
    writeln!(out, "headers of the dialect {name} for a verified client:")?;
    for header in headers(dialect, leaf, now) {
        let name = match header.name {
            Some(name) => name,
            None => format!("({})", header.key),
        };
        let is_left_out = header.value.is_none();
        if let Some(value) = header.value {
            writeln!(out, "  {name}: {}", printable(value.as_bytes()))?;
        }
        for what in header.left_out {
            let what = printable(what.as_bytes());
            match is_left_out {
                true => writeln!(out, "  {name} is left out: {what}")?,
                false => writeln!(out, "  {name} is without {what}")?,
            }
        }
    }
    Ok(())
}

/// A header of a dialect.
struct DialectHeader {
    key: &'static str,
    /// Its default name, with the number of a numbered header.
    name: Option<String>,
    value: Option<String>,
    /// Why there is no value, or which parts it is without and why.
    left_out: Vec<String>,
}

/// The headers that a dialect has for a verified certificate, those without a default name too.
fn headers(dialect: Dialect, certificate: &Certificate, now: i64) -> Vec<DialectHeader> {
    let is_issuer = |other: &&X509Ref| is_issued_by(certificate.leaf(), other);
    let client = ClientInfo {
        certificate: Some(certificate),
        verify_result: VerifyResult::Success,
        issuer: certificate.intermediates().iter().find(is_issuer),
        now,
        server_uris: &[],
    };
    let options = DialectOptions {
        when: Some(ForwardWhen::Verified),
        ..DialectOptions::default()
    };
    let mut found = Vec::new();
    for header in dialect.headers() {
        let name = |number: Option<usize>| {
            let number = number.map_or(String::new(), |number| number.to_string());
            header.name.map(|name| format!("{name}{number}"))
        };
        let mut push = |name, value, left_out| {
            let key = header.key;
            found.push(DialectHeader {
                key,
                name,
                value,
                left_out,
            });
        };
        let values = match header.values(&client, &options) {
            Ok(values) => values,
            Err(reason) => {
                push(name(None), None, vec![reason.to_string()]);
                continue;
            }
        };
        let parts = header.left_out_parts(&client, &options);
        let parts = parts
            .iter()
            .map(|(part, reason)| format!("{part}: {reason}"));
        let mut parts: Vec<String> = parts.collect();
        for (number, value) in values.into_iter().enumerate() {
            let name = name(header.is_numbered().then_some(number));
            push(name, Some(value), std::mem::take(&mut parts));
        }
    }
    ErrorStack::get();
    found
}
