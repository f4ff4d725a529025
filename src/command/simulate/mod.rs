//! `resty-mtls simulate`: decides about the cases of a file, and compares with what they expect.

mod output;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::json;

use super::arguments::{Arguments, Opt};
use super::input::{now, parse_time};
use super::output::{printable, write_json};
use super::progress::Progress;
use super::request::{
    explanation_json, host_variable, lacks_route, load_engine, parse_header, read_certificate,
    read_document, read_file, server_name_of,
};
use super::{Command, Streams, BAD_INPUT, JSON, OK, REFUSED};
use crate::certificate::Certificate;
use crate::engine::{Engine, Explanation, Probe, PublishedDocuments};
use crate::policy::cases::{self, Case, Expected};

const JUNIT: &str = "--junit";

/// Most files whose content is kept while the cases run.
const MAX_KEPT: usize = 1000;

pub(super) const COMMAND: Command = Command {
    name: "simulate",
    operands: "POLICY CASES",
    summary: "decide about the cases of a file and compare with what they expect",
    help: help_with_policy!(
        "\
Decides about each case of CASES (YAML or JSON) as explain does, and compares
with what the case expects. Prints TAP, for the tests of a policy. Files that a
case names are relative to CASES."
    ),
    options: &[
        Opt::with_value(JUNIT, "FILE", "write the results to FILE too, as JUnit XML"),
        JSON,
    ],
    statuses: &[
        (OK, "all cases are as expected"),
        (
            BAD_INPUT,
            "the policy, the cases or another file cannot be used",
        ),
        (REFUSED, "a case is not as expected"),
    ],
    run,
};

/// A case with its result.
pub(super) struct Outcome<'c> {
    case: &'c Case,
    explanation: Explanation,
    /// What is not as expected.
    differences: Vec<String>,
}

fn run(arguments: &Arguments, streams: &mut Streams) -> io::Result<u8> {
    let [policy, cases_path] = arguments.operands.as_slice() else {
        let count = arguments.operands.len();
        let message = format!("{count} files, expected a policy and a file of cases");
        return streams.misuse(COMMAND.name, &message);
    };
    let cases_path = Path::new(cases_path);
    let cases = match read_file(cases_path, cases::MAX_BYTES) {
        Ok(text) => cases::read(&text, &cases_path.to_string_lossy()),
        Err(message) => return bad_input(streams, &message),
    };
    let mut progress = Progress::new(COMMAND.name);
    let engine = load_engine(policy, streams, &mut progress);
    let (cases, engine) = match (cases, engine) {
        (Ok(cases), Ok(engine)) => (cases, engine),
        (cases, engine) => {
            for error in [cases.err(), engine.err()].into_iter().flatten().flatten() {
                writeln!(streams.err, "{error}")?;
            }
            return Ok(BAD_INPUT);
        }
    };
    let directory = cases_path.parent().unwrap_or(Path::new(""));
    let mut inputs = Inputs::new(directory);
    let mut outcomes = Vec::with_capacity(cases.len());
    let mut bad = 0usize;
    let lacks_route = lacks_route(&engine, "'route'");
    for (index, case) in cases.iter().enumerate() {
        let found = match &lacks_route {
            Some(message) if case.route.is_none() => Err(message.clone()),
            _ => inputs.explain(&engine, case),
        };
        match found {
            Ok(explanation) => outcomes.push(Outcome {
                case,
                differences: differences(&case.expect, &explanation),
                explanation,
            }),
            Err(message) => {
                bad += 1;
                writeln!(
                    streams.err,
                    "{}: {}",
                    case.at,
                    printable(message.as_bytes())
                )?;
            }
        }
        progress.report(streams.err, index + 1, cases.len(), "cases");
    }
    if bad > 0 {
        return Ok(BAD_INPUT);
    }
    if let Some(path) = arguments.value(JUNIT).map(Path::new) {
        let written = File::create(path).and_then(|file| {
            let mut file = io::BufWriter::new(file);
            output::write_junit(&mut file, &outcomes)?;
            io::Write::flush(&mut file)
        });
        if let Err(error) = written {
            let message = format!("{}: cannot be written: {error}", path.display());
            return bad_input(streams, &message);
        }
    }
    let all_as_expected = outcomes
        .iter()
        .all(|outcome| outcome.differences.is_empty());
    match arguments.has(JSON.name) {
        true => write_json(streams.out, &outcomes_json(&outcomes, all_as_expected))?,
        false => output::write_tap(streams.out, &outcomes)?,
    }
    Ok(match all_as_expected {
        true => OK,
        false => REFUSED,
    })
}

fn bad_input(streams: &mut Streams, message: &str) -> io::Result<u8> {
    let message = printable(message.as_bytes());
    writeln!(streams.err, "resty-mtls: {}: {message}", COMMAND.name)?;
    Ok(BAD_INPUT)
}

/// `{ok, cases: [{name, file, line, ok, differences, result}]}`, where `result` is that of
/// `explain`.
fn outcomes_json(outcomes: &[Outcome<'_>], ok: bool) -> serde_json::Value {
    let cases = outcomes.iter().map(|outcome| {
        json!({
            "name": outcome.case.name,
            "file": &*outcome.case.at.file,
            "line": outcome.case.at.line,
            "ok": outcome.differences.is_empty(),
            "differences": outcome.differences,
            "result": explanation_json(&outcome.explanation),
        })
    });
    json!({ "ok": ok, "cases": cases.collect::<Vec<_>>() })
}

/// Files by path.
struct Inputs<'d> {
    directory: &'d Path,
    now: i64,
    certificates: HashMap<PathBuf, Rc<Certificate>>,
    documents: HashMap<PathBuf, Rc<Vec<u8>>>,
}

fn kept<T>(
    cache: &mut HashMap<PathBuf, Rc<T>>,
    path: PathBuf,
    read: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<Rc<T>, String> {
    if let Some(found) = cache.get(&path) {
        return Ok(found.clone());
    }
    let found = Rc::new(read(&path)?);
    if cache.len() >= MAX_KEPT {
        cache.clear();
    }
    cache.insert(path, found.clone());
    Ok(found)
}

impl<'d> Inputs<'d> {
    fn new(directory: &'d Path) -> Inputs<'d> {
        Inputs {
            directory,
            now: now(),
            certificates: HashMap::new(),
            documents: HashMap::new(),
        }
    }

    fn document(&mut self, file: Option<&String>) -> Result<Option<Rc<Vec<u8>>>, String> {
        let path = file.map(|file| self.directory.join(file));
        let document = path.map(|path| kept(&mut self.documents, path, read_document));
        document.transpose()
    }

    fn explain(&mut self, engine: &Engine, case: &Case) -> Result<Explanation, String> {
        let path = case.cert.as_ref().map(|cert| self.directory.join(cert));
        let certificate = path.map(|path| kept(&mut self.certificates, path, read_certificate));
        let certificate = certificate.transpose()?;
        let keys = self.document(case.jwks.as_ref())?;
        let discovery = self.document(case.discovery.as_ref())?;
        let time = match &case.time {
            Some(time) => parse_time(time).map_err(|why| format!("time '{time}': {why}"))?,
            None => self.now,
        };
        let route = case.route.as_deref();
        let mut headers = Vec::new();
        for (name, value) in &case.headers {
            let line = format!("{name}: {value}");
            let header = parse_header(&line);
            headers.push(header.map_err(|why| format!("header '{name}': {why}"))?);
        }
        if let Some(token) = &case.token {
            headers.push((token_header(engine, route), format!("Bearer {token}")));
        }
        let headers: Vec<(&[u8], &[u8])> = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let of_route = server_name_of(engine, route);
        let host = case.host.as_deref().map(host_variable);
        let server_name = match case.sni.as_deref() {
            Some("") => None,
            Some(name) => Some(name),
            None => host.as_deref().or(of_route.as_deref()),
        };
        let host = host.as_deref().or(server_name).unwrap_or_default();
        let keys: Vec<&[u8]> = keys.iter().map(|keys| keys.as_slice()).collect();
        let has_documents = !keys.is_empty() || discovery.is_some();
        let probe = Probe {
            route,
            server_name: server_name.map(str::as_bytes),
            host: host.as_bytes(),
            certificate: certificate.as_deref(),
            headers: &headers,
            issuer: has_documents.then_some(PublishedDocuments {
                discovery: discovery.as_ref().map(|document| document.as_slice()),
                keys: &keys,
            }),
            now: time,
            fetch: None,
        };
        engine.explain(&probe).map_err(|error| error.to_string())
    }
}

/// The header in which a route expects its token.
fn token_header(engine: &Engine, route: Option<&str>) -> String {
    const AUTHORIZATION: &str = "Authorization";
    let header = || -> Option<String> {
        let policy = engine.policy().ok()?;
        let plan = policy.plans.get(policy.plan(route)?)?;
        Some(
            plan.token_auth
                .as_ref()?
                .token_header
                .as_deref()?
                .to_owned(),
        )
    };
    header().unwrap_or_else(|| AUTHORIZATION.to_owned())
}

/// What is not as expected.
fn differences(expected: &Expected, found: &Explanation) -> Vec<String> {
    let mut differences = Vec::new();
    let quoted = |value: Option<&str>| match value {
        Some(value) => format!("'{value}'"),
        None => "none".to_owned(),
    };
    let mut differs = |what: &str, expected: String, found: String| {
        if expected != found {
            differences.push(format!("{what}: expected {expected}, found {found}"));
        }
    };
    if let Some(status) = expected.status {
        differs("status", status.to_string(), found.status.to_string());
    }
    if let Some(verdict) = &expected.verdict {
        differs(
            "verdict",
            quoted(Some(verdict)),
            quoted(Some(&found.verdict)),
        );
    }
    if let Some(consumer) = &expected.consumer {
        let found = quoted(found.consumer.as_deref());
        differs("consumer", quoted(consumer.as_deref()), found);
    }
    if let Some(groups) = &expected.groups {
        let sorted = |mut groups: Vec<String>| {
            groups.sort_unstable();
            format!("{groups:?}")
        };
        let found = found.groups.iter().map(|group| group.to_string()).collect();
        differs("groups", sorted(groups.clone()), sorted(found));
    }
    for (name, value) in &expected.headers {
        let mut headers = found.headers.iter();
        let header = headers.find(|(header, _)| header.eq_ignore_ascii_case(name));
        let header = header.map(|(_, value)| value.as_str());
        differs(
            &format!("header {name}"),
            quoted(value.as_deref()),
            quoted(header),
        );
    }
    differences
}
