//! What `explain`, `simulate` and `replay` share: the policy, the parts of a request, and its
//! answer as JSON.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use openssl::stack::Stack;
use serde_json::{json, Value};

use super::certificate_file::{self, Entry, Pkcs12Error};
use super::input::STDIN;
use super::output::printable;
use super::progress::Progress;
use super::Streams;
use crate::certificate::Certificate;
use crate::engine::{Engine, Explanation};
use crate::handshake::server_name::Pattern;
use crate::policy::{Diagnostic, Files, Policy, MAX_BYTES};

/// Longest name and value of a header, together.
const MAX_HEADER: usize = 64 * 1024;

/// Longest file of a token or of keys.
const MAX_DOCUMENT: usize = 1 << 20;

/// What is reported while a policy is read.
pub(super) const READING: &str = "reading the policy";

/// An engine with the policy in this file or directory, or in standard input for `-`, in force.
pub(super) fn load_engine(
    file: &OsStr,
    streams: &mut Streams,
    progress: &mut Progress,
) -> Result<Engine, Vec<Diagnostic>> {
    let input = match file == "-" {
        true => Some(read_policy(streams.input)?),
        false => None,
    };
    progress.during(streams.err, READING, || {
        let files = &mut Files::with_outline();
        let policy = match input {
            Some(text) => Policy::from_yaml_with(&text, STDIN, files)?,
            None => Policy::from_file_with(Path::new(file), files)?,
        };
        Ok(Engine::of_policy(policy))
    })
}

/// Reads the text of a policy from standard input. Paths in it must be absolute, since it has no
/// directory.
pub(super) fn read_policy(input: &mut dyn Read) -> Result<Vec<u8>, Vec<Diagnostic>> {
    let mut text = Vec::new();
    // A text of `MAX_BYTES` is valid, so one byte more is read to recognise a longer one.
    match input.take(MAX_BYTES as u64 + 1).read_to_end(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(vec![Diagnostic::unreadable(STDIN, &error)]),
    }
}

/// What is wrong with a request without a route, which `option` would name, if no plugin would decide.
pub(super) fn lacks_route(engine: &Engine, option: &str) -> Option<String> {
    let policy = engine.policy().ok()?;
    let plan = policy.plan(None).and_then(|plan| policy.plans.get(plan));
    if plan.is_some_and(|plan| plan.has_plugins) {
        return None;
    }
    let routes = policy.listed_routes()?;
    let message = format!("no {option}, and the policy has no global plugin, expected {routes}");
    Some(printable(message.as_bytes()))
}

/// A server name under which a route is reached: the first of its `snis`.
pub(super) fn server_name_of(engine: &Engine, route: Option<&str>) -> Option<String> {
    let policy = engine.policy().ok()?;
    let route = policy.outline.as_ref()?.route(route?)?;
    route.server_names.iter().find_map(|pattern| match pattern {
        Pattern::Exact(name) => Some(name.clone()),
        Pattern::Wildcard(parent) => Some(format!("any{parent}")),
        Pattern::Any | Pattern::Absent => None,
    })
}

/// A Host as nginx's `$host` has it: without port and final dot, in lower case
/// (`ngx_http_validate_host`).
pub(super) fn host_variable(host: &str) -> String {
    let name = match host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(end) => host.get(..end + 2).unwrap_or(host),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Reads a file of at most `max` bytes.
pub(super) fn read_file(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = |bytes: &mut Vec<u8>| -> io::Result<()> {
        let mut file = File::open(path)?.take(max as u64 + 1);
        file.read_to_end(bytes).map(|_| ())
    };
    match read(&mut bytes) {
        Err(error) => Err(format!("{shown}: cannot be read: {error}")),
        Ok(()) if bytes.len() > max => Err(format!("{shown}: over {max} bytes")),
        Ok(()) => Ok(bytes),
    }
}

/// Reads a certificate, followed by the intermediates that the client sends: PEM, PKCS #7, DER or
/// PKCS #12 without a password.
pub(super) fn read_certificate(path: &Path) -> Result<Certificate, String> {
    let bytes = read_file(path, certificate_file::MAX_FILE)?;
    let entries = match certificate_file::is_pkcs12(&bytes) {
        false => certificate_file::read(&bytes).map(|(entries, _)| entries),
        true => certificate_file::read_pkcs12(&bytes, "").map_err(|error| match error {
            Pkcs12Error::Other(why) => why,
            Pkcs12Error::Password => {
                "a PKCS #12 file with a password, expected the certificates in PEM, as 'openssl \
                 pkcs12 -nokeys -in FILE' prints them"
                    .to_owned()
            }
        }),
    };
    let certificate = entries.and_then(certificate_of);
    certificate.map_err(|why| format!("{}: {why}", path.display()))
}

/// The certificate of a client with the intermediates that it sends.
pub(super) fn certificate_of(entries: Vec<Entry>) -> Result<Certificate, String> {
    let mut entries = entries.into_iter().map(|entry| entry.x509);
    let leaf = entries.next().ok_or("has no certificate")?;
    let mut sent = Stack::new().map_err(|error| error.to_string())?;
    for certificate in entries {
        sent.push(certificate).map_err(|error| error.to_string())?;
    }
    Certificate::new(leaf, sent).map_err(|error| error.to_string())
}

/// Reads a document of an issuer, or a token.
pub(super) fn read_document(path: &Path) -> Result<Vec<u8>, String> {
    read_file(path, MAX_DOCUMENT)
}

/// Reads `Name: value`.
pub(super) fn parse_header(line: &str) -> Result<(String, String), &'static str> {
    const EXPECTED: &str = "expected 'Name: value'";
    if line.len() > MAX_HEADER {
        return Err("a header of over 64 KB");
    }
    let (name, value) = line.split_once(':').ok_or(EXPECTED)?;
    // The token of RFC 9110 section 5.6.2.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let value = value.trim_matches([' ', '\t']);
    let is_value = value
        .bytes()
        .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    if name.is_empty() || !name.bytes().all(is_token) || !is_value {
        return Err(EXPECTED);
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The text of an argument.
pub(super) fn text<'a>(name: &str, value: Option<&'a OsStr>) -> Result<Option<&'a str>, String> {
    let text = |value: &'a OsStr| value.to_str().ok_or_else(|| format!("{name}: not UTF-8"));
    value.map(text).transpose()
}

/// `{allowed, status, decision, verdict, reason, steps, consumer, anonymous, groups, rule,
/// headers}`.
pub(super) fn explanation_json(explanation: &Explanation) -> Value {
    let steps = explanation.steps.iter().map(|step| {
        json!({
            "step": step.step,
            "ok": step.ok,
            "detail": step.detail,
            "remedy": step.remedy,
        })
    });
    let rule = explanation.rule.as_ref().map(|rule| {
        json!({
            "plugin": rule.plugin,
            "name": rule.rule,
            "file": rule.at.as_ref().map(|at| &*at.file),
            "line": rule.at.as_ref().map(|at| at.line),
        })
    });
    let headers = explanation.headers.iter();
    json!({
        "allowed": explanation.allowed,
        "status": explanation.status,
        "decision": explanation.decision,
        "verdict": explanation.verdict,
        "reason": explanation.reason,
        "steps": steps.collect::<Vec<_>>(),
        "consumer": explanation.consumer,
        "anonymous": explanation.anonymous,
        "groups": explanation.groups,
        "rule": rule,
        "headers": headers.map(|(name, value)| json!([name, value])).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_variable_is_that_of_nginx() {
        for (host, expected) in [
            ("api.example.com", "api.example.com"),
            ("api.example.com:443", "api.example.com"),
            ("API.Example.COM.:8443", "api.example.com"),
            ("api.example.com:", "api.example.com"),
            ("192.0.2.1:443", "192.0.2.1"),
            ("[2001:DB8::1]:443", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("[", "["),
            (":443", ""),
            ("", ""),
            ("\u{fc}.test:1", "\u{fc}.test"),
        ] {
            assert_eq!(host_variable(host), expected, "{host}");
        }
    }
}
