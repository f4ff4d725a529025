//! `resty-mtls check`: reads a policy as nginx does at start, and prints a summary or all errors.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;

use super::{escaped, is_option, misuse, INVALID_POLICY, OK};
use crate::policy::{join_list, Diagnostic, Policy, MAX_BYTES};

/// The label of standard input in diagnostics.
const STDIN: &str = "standard input";

pub(super) fn run(
    args: &[OsString],
    input: &mut impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    match args {
        [] => misuse(err, "check: no file, expected one, or - for standard input"),
        [file] if file == "-" => print(read_input(input), out, err),
        [file] if !is_option(file) => print(Policy::from_file(Path::new(file)), out, err),
        files if !files.iter().any(|file| is_option(file)) => {
            let list = join_list(files.iter().map(Path::new));
            print(Policy::from_file(&list), out, err)
        }
        args => {
            let option = args.iter().find(|arg| *arg != "-" && is_option(arg));
            let message = match option {
                Some(option) => {
                    let option = escaped(option);
                    format!(
                        "check: unknown option '{option}', expected a file (./{option} for one of \
                         that name)"
                    )
                }
                None => "check: '-' beside files, expected it alone".to_owned(),
            };
            misuse(err, &message)
        }
    }
}

/// Reads the policy from standard input. Paths in it must be absolute, since it has no directory.
fn read_input(input: &mut impl Read) -> Result<Policy, Vec<Diagnostic>> {
    let mut text = Vec::new();
    // A text of `MAX_BYTES` is valid, so one byte more is read to recognise a longer one.
    match input.take(MAX_BYTES as u64 + 1).read_to_end(&mut text) {
        Ok(_) => Policy::from_yaml(&text, STDIN),
        Err(error) => Err(vec![Diagnostic::unreadable(STDIN, &error)]),
    }
}

fn print(
    policy: Result<Policy, Vec<Diagnostic>>,
    out: &mut impl Write,
    err: &mut impl Write,
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
            Ok(INVALID_POLICY)
        }
    }
}
