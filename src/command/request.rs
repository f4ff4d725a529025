//! What `explain`, `simulate` and `replay` share: the policy, the parts of a request, and its
//! answer as JSON.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::stack::Stack;
use serde_json::{json, Value};

use super::progress::Progress;
use super::Streams;
use crate::certificate::{bundle, time, Certificate};
use crate::engine::{Engine, Explanation};
use crate::handshake::server_name::Pattern;
use crate::policy::{Diagnostic, Files, Policy};

/// Longest name and value of a header, together.
const MAX_HEADER: usize = 64 * 1024;

/// Longest file of a token or of keys.
const MAX_DOCUMENT: usize = 1 << 20;

/// What is reported while a policy is read.
pub(super) const READING: &str = "reading the policy";

/// An engine with the policy in these files in force.
pub(super) fn load_engine(
    path: &Path,
    streams: &mut Streams,
    progress: &mut Progress,
) -> Result<Engine, Vec<Diagnostic>> {
    progress.during(streams.err, READING, || {
        let policy = Policy::from_file_with(path, &mut Files::with_outline())?;
        Ok(Engine::of_policy(policy))
    })
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

/// Reads a certificate, followed by the intermediates that the client sends: PEM, PKCS #7 or DER.
pub(super) fn read_certificate(path: &Path) -> Result<Certificate, String> {
    let bytes = read_file(path, bundle::MAX_FILE)?;
    let shown = path.display();
    let entries = bundle::read(&bytes).map_err(|why| format!("{shown}: {why}"))?;
    certificate_of(entries).map_err(|why| format!("{shown}: {why}"))
}

fn certificate_of(entries: Vec<bundle::Entry>) -> Result<Certificate, String> {
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

/// Reads a time: `2027-01-31T08:00:00Z`, `2027-01-31` for its begin in UTC, or seconds since 1970.
pub(super) fn parse_time(text: &str) -> Result<i64, &'static str> {
    const EXPECTED: &str = "expected a time such as 2027-01-31T08:00:00Z, 2027-01-31, or seconds \
                            since 1970";
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && text.len() <= 12 {
        return text.parse().map_err(|_| EXPECTED);
    }
    let time = match text.len() {
        10 => time::parse_rfc3339(&format!("{text}T00:00:00Z")),
        _ => time::parse_rfc3339(text),
    };
    time.ok_or(EXPECTED)
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() as i64)
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
