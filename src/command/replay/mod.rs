//! `resty-mtls replay`: which clients of an audit log another policy would refuse, or map to
//! another consumer.

mod judge;
mod output;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::arguments::{Arguments, Opt};
use super::audit::{AuditEntry, MAX_LINE};
use super::input::time_or_now;
use super::output::printable;
use super::progress::Progress;
use super::request::load_engine;
use super::{Command, Streams, BAD_INPUT, JSON, OK, REFUSED};
use judge::{Judge, Judgement};

const CERTS: &str = "--certs";
const STRICT: &str = "--strict";
const TIME: &str = "--time";

/// Most clients, each with its route, names and decision, that are kept.
const MAX_CLIENTS: usize = 100_000;

/// Most bytes of what the log says of them.
const MAX_BYTES: usize = 64 << 20;

/// Most lines that cannot be read which are reported one by one.
const MAX_REPORTED: usize = 10;

pub(super) const COMMAND: Command = Command {
    name: "replay",
    operands: "POLICY LOG",
    summary: "compare the clients of an audit log with what a policy would decide",
    help: help_with_policy!("\
Reads an audit log in one of the formats of mtls-audit.conf, - for standard
input, and decides about each of its clients by POLICY as explain does: who
would be refused, let in, or mapped to another consumer, and why.

Without its certificate a client is judged only where the log suffices, and
counted as not judged otherwise; so is one on a route that checks tokens. With
the option --strict that is a failure.

A line of the log has at least the decision, and the SHA-256 of the certificate:
  {\"route\":\"api\",\"decision\":\"pass\",\"fingerprint_sha256\":\"64 digits\"}"),
    options: &[
        Opt::with_value(
            CERTS,
            "DIR",
            "the certificates of the clients, with their\nintermediates, as SHA256.pem",
        ),
        Opt::flag(
            STRICT,
            "exit 4 also if a client is not judged, or a line\nnot read or left out",
        ),
        Opt::with_value(
            TIME,
            "TIME",
            "when the requests would be made:\n2027-01-31T08:00:00Z, 2027-01-31 or seconds since\n1970; by default now",
        ),
        JSON,
    ],
    statuses: &[
        (
            OK,
            "no client that could be judged would be refused or\nmapped otherwise",
        ),
        (BAD_INPUT, "the policy, the log or DIR cannot be used"),
        (
            REFUSED,
            "a client would be, or with --strict, was not judged",
        ),
    ],
    run,
};

/// Requests of the log that are equal for a policy.
struct Seen {
    requests: u64,
    /// Address and time of the last one.
    address: Option<String>,
    time: Option<String>,
}

/// The clients of a log.
#[derive(Default)]
struct Log {
    /// In the order of their first requests.
    clients: Vec<(AuditEntry, Seen)>,
    indexes: HashMap<AuditEntry, usize>,
    bytes: usize,
    requests: u64,
    /// Requests about which the module did not decide.
    undecided: u64,
    /// Lines that cannot be read.
    unreadable: u64,
    /// Requests of clients beyond [`MAX_CLIENTS`] or [`MAX_BYTES`].
    left_out: u64,
}

fn run(arguments: &Arguments, streams: &mut Streams) -> io::Result<u8> {
    let [policy, log] = arguments.operands.as_slice() else {
        let count = arguments.operands.len();
        let message = format!("{count} files, expected a policy and an audit log");
        return streams.misuse(COMMAND.name, &message);
    };
    let time = match time_or_now(TIME, arguments.value(TIME)) {
        Ok(time) => time,
        Err(message) => return streams.misuse(COMMAND.name, &message),
    };
    if *policy == "-" && *log == "-" {
        let message = "'-' twice, expected at most one file in standard input";
        return streams.misuse(COMMAND.name, message);
    }
    let certificates = arguments.value(CERTS).map(PathBuf::from);
    if let Some(why) = certificates.as_deref().and_then(why_no_directory) {
        return bad_input(streams, &format!("{CERTS}: {why}"));
    }
    let mut progress = Progress::new(COMMAND.name);
    let engine = match load_engine(policy, streams, &mut progress) {
        Ok(engine) => engine,
        Err(errors) => {
            for error in errors {
                writeln!(streams.err, "{error}")?;
            }
            return Ok(BAD_INPUT);
        }
    };
    let name = match *log == "-" {
        true => "standard input".into(),
        false => log.to_string_lossy(),
    };
    let read = match *log == "-" {
        true => {
            let mut input = BufReader::new(&mut *streams.input);
            Log::read(&mut input, &name, &mut progress, streams.err)
        }
        false => match File::open(log) {
            Ok(file) => Log::read(&mut BufReader::new(file), &name, &mut progress, streams.err),
            Err(error) => Err(error),
        },
    };
    let log = match read {
        Ok(log) => log,
        Err(error) => {
            return bad_input(streams, &format!("{name}: cannot be read: {error}"));
        }
    };
    if log.unreadable > 0 && log.unreadable == log.requests {
        let expected = "expected those of the format mtls_audit or mtls_audit_ecs";
        return bad_input(
            streams,
            &format!("{name}: none of its lines can be read, {expected}"),
        );
    }
    let judge = Judge::new(&engine, certificates, time);
    let mut judged = Vec::with_capacity(log.clients.len());
    for (index, (entry, seen)) in log.clients.iter().enumerate() {
        judged.push((entry, seen, judge.judge(entry)));
        progress.report(streams.err, index + 1, log.clients.len(), "clients");
    }
    match arguments.has(JSON.name) {
        true => output::write_json(streams.out, &log, &judged)?,
        false => output::write_text(streams.out, &log, &judged)?,
    }
    let is_strict = arguments.has(STRICT);
    let fails = |judgement: &Judgement| match judgement {
        Judgement::Refused(_) | Judgement::Mapped(_) => true,
        Judgement::NotJudged(_) => is_strict,
        Judgement::Same | Judgement::LetIn(_) => false,
    };
    let has_gaps = log.unreadable > 0 || log.left_out > 0;
    let failed = judged.iter().any(|(.., judgement)| fails(judgement));
    Ok(match failed || (is_strict && has_gaps) {
        true => REFUSED,
        false => OK,
    })
}

fn bad_input(streams: &mut Streams, message: &str) -> io::Result<u8> {
    let message = printable(message.as_bytes());
    writeln!(streams.err, "resty-mtls: {}: {message}", COMMAND.name)?;
    Ok(BAD_INPUT)
}

/// Why a path is no directory.
fn why_no_directory(path: &Path) -> Option<String> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => None,
        Ok(_) => Some(format!("{shown}: not a directory")),
        Err(error) => Some(format!("{shown}: cannot be read: {error}")),
    }
}

impl Log {
    fn read(
        input: &mut dyn BufRead,
        name: &str,
        progress: &mut Progress,
        err: &mut dyn io::Write,
    ) -> io::Result<Log> {
        let mut log = Log::default();
        let mut line = Vec::new();
        for number in 1usize.. {
            line.clear();
            let limit = MAX_LINE as u64 + 1;
            if Read::take(&mut *input, limit).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.len() > MAX_LINE && !line.ends_with(b"\n") {
                skip_line(input)?;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            log.requests += 1;
            match AuditEntry::parse(line.trim_ascii()) {
                Ok(Some(entry)) => log.add(entry),
                Ok(None) => log.undecided += 1,
                Err(why) => {
                    log.unreadable += 1;
                    if log.unreadable <= MAX_REPORTED as u64 {
                        let name = printable(name.as_bytes());
                        let why = printable(why.as_bytes());
                        writeln!(err, "{name}:{number}: not read: {why}")?;
                    }
                }
            }
            progress.report_count(err, number, "lines");
        }
        Ok(log)
    }

    fn add(&mut self, mut entry: AuditEntry) {
        let (address, time) = (entry.address.take(), entry.time.take());
        let known = self.indexes.get(&entry).copied();
        if let Some((_, seen)) = known.and_then(|index| self.clients.get_mut(index)) {
            seen.requests += 1;
            (seen.address, seen.time) = (address, time);
            return;
        }
        self.bytes = self.bytes.saturating_add(entry.byte_len());
        if self.clients.len() >= MAX_CLIENTS || self.bytes > MAX_BYTES {
            self.left_out += 1;
            return;
        }
        self.indexes.insert(entry.clone(), self.clients.len());
        let seen = Seen {
            requests: 1,
            address,
            time,
        };
        self.clients.push((entry, seen));
    }
}

/// Skips the rest of a line that is too long.
fn skip_line(input: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                input.consume(end + 1);
                return Ok(());
            }
            None => {
                let len = buffer.len();
                input.consume(len);
            }
        }
    }
}
