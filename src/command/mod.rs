//! The command `resty-mtls`: its sub-commands, one file each, with their arguments and exit
//! statuses.

mod check;
mod dialects;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};

use crate::policy::closest_name;

const USAGE: &str = "\
Usage: resty-mtls check FILE...
       resty-mtls dialects [NAME]

Checks the policy in FILE (YAML or JSON; a directory; several) as nginx would read it at start, or
lists what the header dialects of client-cert-headers write.

  check FILE...    exit 0 and a summary with all warnings, or exit 1 and all errors; - is standard
                   input
  dialects [NAME]  the headers of all dialects or one: dialect, key, default header name
  -h, --help       show this help
  -V, --version    show the version

Exit status: 0 the policy can be used, 1 it cannot, 2 wrong usage.
";

/// Exit status of success.
const OK: u8 = 0;
/// Exit status if the policy has errors.
const INVALID_POLICY: u8 = 1;
/// Exit status if the arguments are wrong.
const MISUSE: u8 = 2;

const COMMANDS: [&str; 2] = ["check", "dialects"];
const OPTIONS: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// Runs the command with `args`, without the name of the program, and returns its exit status.
///
/// # Errors
/// A failure to write to `out` or `err`.
pub fn run(
    args: &[OsString],
    input: &mut impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let Some((command, args)) = args.split_first() else {
        return misuse(err, "no command, expected 'check' or 'dialects'");
    };
    match (command.to_str(), args) {
        (Some("-h" | "--help"), []) => {
            out.write_all(USAGE.as_bytes())?;
            Ok(OK)
        }
        (Some("-V" | "--version"), []) => {
            writeln!(out, "resty-mtls {}", env!("CARGO_PKG_VERSION"))?;
            Ok(OK)
        }
        (Some("check"), args) => check::run(args, input, out, err),
        (Some("dialects"), args) => dialects::run(args, out, err),
        (Some(option), [argument, ..]) if OPTIONS.contains(&option) => {
            let message = format!("{option}: takes no argument, found '{}'", escaped(argument));
            misuse(err, &message)
        }
        _ if is_option(command) => misuse(
            err,
            &format!("unknown option {}", unknown(command, &OPTIONS)),
        ),
        _ => misuse(
            err,
            &format!("unknown command {}", unknown(command, &COMMANDS)),
        ),
    }
}

fn is_option(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"-")
}

/// An argument for a message of one line.
fn escaped(arg: &OsStr) -> String {
    arg.to_string_lossy().escape_debug().to_string()
}

/// `'arg', did you mean 'known'?`, or the list of known names if none is close.
fn unknown(arg: &OsStr, known: &[&str]) -> String {
    let name = escaped(arg);
    match closest_name(&name, known.iter().copied()) {
        Some(suggestion) => format!("'{name}', did you mean '{suggestion}'?"),
        None => format!("'{name}', expected one of {}", known.join(", ")),
    }
}

/// Prints what is wrong with the arguments.
fn misuse(err: &mut impl Write, message: &str) -> io::Result<u8> {
    writeln!(err, "resty-mtls: {message}; see resty-mtls --help")?;
    Ok(MISUSE)
}
