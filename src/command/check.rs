//! `resty-mtls check`: reads a policy as nginx does at start, and prints a summary or all errors.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{json, Value};

use super::arguments::Arguments;
use super::input::STDIN;
use super::output::write_json;
use super::progress::Progress;
use super::request::{read_policy, READING};
use super::{Command, Streams, BAD_INPUT, JSON, OK};
use crate::policy::{join_list, Diagnostic, Files, Policy};
use crate::text::hex;

pub(super) const COMMAND: Command = Command {
    name: "check",
    operands: "FILE...",
    summary: "check a policy as nginx would read it at start",
    help: help_with_policy!(
        "\
Reads the policy in FILE (YAML or JSON; a directory; several files) as nginx
would at its start, with the certificates and lists that it names. - is standard
input. Prints a summary with all warnings, or all errors, one a line: file,
line, column, place in the document, what is wrong, what is expected."
    ),
    options: &[JSON],
    statuses: &[
        (OK, "the policy can be used"),
        (BAD_INPUT, "it cannot be used"),
    ],
    run,
};

fn run(arguments: &Arguments, streams: &mut Streams) -> io::Result<u8> {
    let mut progress = Progress::new(COMMAND.name);
    let policy = match arguments.operands.as_slice() {
        [] => {
            let message = "no file, expected one, or - for standard input";
            return streams.misuse(COMMAND.name, message);
        }
        [file] if *file == "-" => read_policy(streams.input).and_then(|text| {
            progress.during(streams.err, READING, || {
                Policy::from_yaml_with(&text, STDIN, &mut Files::with_more_warnings())
            })
        }),
        files if files.iter().any(|file| *file == "-") => {
            return streams.misuse(COMMAND.name, "'-' beside files, expected it alone");
        }
        [file] => read_files(Path::new(file), streams, &mut progress),
        files => read_files(
            &join_list(files.iter().map(Path::new)),
            streams,
            &mut progress,
        ),
    };
    if arguments.has(JSON.name) {
        return print_json(&policy, streams.out);
    }
    print(policy, streams.out, streams.err)
}

fn read_files(
    path: &Path,
    streams: &mut Streams,
    progress: &mut Progress,
) -> Result<Policy, Vec<Diagnostic>> {
    progress.during(streams.err, READING, || {
        Policy::from_file_with(path, &mut Files::with_more_warnings())
    })
}

fn print(
    policy: Result<Policy, Vec<Diagnostic>>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    match policy {
        Ok(policy) => {
            let count = policy.warnings.len();
            writeln!(out, "{}warnings: {count}", policy.summary())?;
            for warning in &policy.warnings {
                writeln!(out, "{warning}")?;
            }
            Ok(OK)
        }
        Err(errors) => {
            for error in errors {
                writeln!(err, "{error}")?;
            }
            Ok(BAD_INPUT)
        }
    }
}

/// Most routes without a plugin that `--json` lists.
const MAX_ROUTES: usize = 1000;

/// `{valid, digest, routes_without_plugin, warnings, errors}`; `digest` and `routes_without_plugin`
/// are null for an invalid policy.
fn print_json(policy: &Result<Policy, Vec<Diagnostic>>, out: &mut dyn Write) -> io::Result<u8> {
    let (digest, warnings, errors) = match policy {
        Ok(policy) => (
            Some(hex(&policy.digest)),
            policy.warnings.as_slice(),
            [].as_slice(),
        ),
        Err(errors) => (None, [].as_slice(), errors.as_slice()),
    };
    let open = policy.as_ref().ok().map(|policy| {
        let routes = policy.routes_without_plugin().take(MAX_ROUTES);
        routes.collect::<Vec<_>>()
    });
    let value = json!({
        "valid": policy.is_ok(),
        "digest": digest,
        "routes_without_plugin": open,
        "warnings": warnings.iter().map(diagnostic_json).collect::<Vec<_>>(),
        "errors": errors.iter().map(diagnostic_json).collect::<Vec<_>>(),
    });
    write_json(out, &value)?;
    Ok(if policy.is_ok() { OK } else { BAD_INPUT })
}

/// `{file, line, column, path, message}`; line and column are null where a diagnostic concerns the
/// document as a whole.
fn diagnostic_json(diagnostic: &Diagnostic) -> Value {
    let position = |number: u32| Some(number).filter(|number| *number > 0);
    json!({
        "file": *diagnostic.file,
        "line": position(diagnostic.line),
        "column": position(diagnostic.column),
        "path": diagnostic.path,
        "message": diagnostic.message,
    })
}
