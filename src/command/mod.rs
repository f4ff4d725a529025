//! The command `resty-mtls`: its sub-commands, one file each, with their arguments and exit
//! statuses.

/// The help of a command that reads a policy: what is said of the command, and where to begin.
macro_rules! help_with_policy {
    ($help:literal) => {
        concat!(
            $help,
            "\n\n\
An example of a policy is policy.example.yaml in share/resty-mtls/nginx-conf
below the prefix of the installation, /usr or /usr/local. Plugins: mtls-auth,
header-cert-auth, acl, client-cert-acl, client-cert-lists, openid-connect,
tls-handshake-modifier, tls-metadata-headers, client-cert-headers."
        )
    };
}

mod address_guard;
mod arguments;
pub mod audit;
pub mod blocks_file;
mod ca;
mod certificate_file;
mod check;
mod dialects;
mod explain;
mod fetch;
mod help;
mod import_ingress;
mod input;
mod inspect;
mod output;
mod progress;
mod replay;
mod request;
mod simulate;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};

use crate::policy::closest_name;
use arguments::{Arguments, Opt};

/// Exit status of success: the policy can be used, the client is allowed, all is as expected.
const OK: u8 = 0;
/// Exit status if the policy or another input is bad.
const BAD_INPUT: u8 = 1;
/// Exit status if the arguments are wrong.
const MISUSE: u8 = 2;
/// Exit status if a client is refused, or something is not as expected.
const REFUSED: u8 = 4;

/// A sub-command: how it is called, what its help says, and what runs it.
struct Command {
    name: &'static str,
    /// Operands in the usage.
    operands: &'static str,
    /// One line for the list of commands, without a full stop.
    summary: &'static str,
    /// What `resty-mtls NAME --help` says: whole sentences, lines of at most 80 characters.
    help: &'static str,
    /// Its options, without `--help`, which each has.
    options: &'static [Opt],
    /// Its exit statuses, without [`MISUSE`], which each has.
    statuses: &'static [(u8, &'static str)],
    run: fn(&Arguments, &mut Streams) -> io::Result<u8>,
}

/// All commands, in the order of the help.
const COMMANDS: &[Command] = &[
    check::COMMAND,
    inspect::COMMAND,
    explain::COMMAND,
    simulate::COMMAND,
    replay::COMMAND,
    ca::COMMAND,
    import_ingress::COMMAND,
    dialects::COMMAND,
    help::COMMAND,
];

/// The option of every command that prints data: one JSON value by [`output::write_json`] on
/// standard output instead of text. Errors stay lines on standard error.
const JSON: Opt = Opt::flag("--json", "print JSON instead of text");

const OPTIONS: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// Standard input, output and error of the process, or what tests put there.
struct Streams<'s> {
    input: &'s mut dyn Read,
    out: &'s mut dyn Write,
    /// Reports of progress are written by another thread.
    err: &'s mut (dyn Write + Send),
}

impl Streams<'_> {
    /// Prints what is wrong with the arguments of a command.
    fn misuse(&mut self, command: &str, message: &str) -> io::Result<u8> {
        writeln!(
            self.err,
            "resty-mtls: {command}: {message}; see resty-mtls {command} --help"
        )?;
        Ok(MISUSE)
    }
}

/// Runs the command with `args`, without the name of the program, and returns its exit status.
///
/// # Errors
/// A failure to write to `out` or `err`.
pub fn run(
    args: &[OsString],
    input: &mut impl Read,
    out: &mut impl Write,
    err: &mut (impl Write + Send),
) -> io::Result<u8> {
    let streams = &mut Streams { input, out, err };
    let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
    let Some((first, rest)) = args.split_first() else {
        let message = format!("no command, expected one of {}", names.join(", "));
        return misuse(streams, &message);
    };
    if let Some(command) = COMMANDS.iter().find(|command| first == command.name) {
        return run_command(command, rest, streams);
    }
    match (first.to_str(), rest) {
        (Some("-h" | "--help"), []) => {
            streams.out.write_all(usage().as_bytes())?;
            Ok(OK)
        }
        (Some("-V" | "--version"), []) => {
            writeln!(streams.out, "resty-mtls {}", env!("CARGO_PKG_VERSION"))?;
            Ok(OK)
        }
        (Some(option), [argument, ..]) if OPTIONS.contains(&option) => {
            let message = format!("{option}: takes no argument, found '{}'", escaped(argument));
            misuse(streams, &message)
        }
        _ if is_option(first) => {
            let message = format!("unknown option {}", unknown(first, &OPTIONS));
            misuse(streams, &message)
        }
        _ => misuse(
            streams,
            &format!("unknown command {}", unknown(first, &names)),
        ),
    }
}

fn run_command(command: &Command, args: &[OsString], streams: &mut Streams) -> io::Result<u8> {
    let before_operands = args.iter().take_while(|arg| *arg != "--");
    if before_operands
        .into_iter()
        .any(|arg| arg == "-h" || arg == "--help")
    {
        streams.out.write_all(command_usage(command).as_bytes())?;
        return Ok(OK);
    }
    match Arguments::parse(command, args) {
        Ok(arguments) => (command.run)(&arguments, streams),
        Err(message) => streams.misuse(command.name, &message),
    }
}

/// What `resty-mtls --help` prints.
fn usage() -> String {
    let commands = COMMANDS.iter().map(|command| {
        let call = format!("{} {}", command.name, command.operands);
        (call.trim_end().to_owned(), command.summary)
    });
    let options = [
        (
            "-h, --help".to_owned(),
            "show this help, or with a command, its help",
        ),
        ("-V, --version".to_owned(), "show the version"),
    ];
    format!(
        "Usage: resty-mtls COMMAND [ARGUMENT]...\n\n\
         Checks and explains what decides about client certificates in nginx.\n\n\
         Commands:\n{}\nOptions:\n{}\n\
         Exit status: 0 success; {BAD_INPUT} the policy or another input is bad; {MISUSE} wrong usage;\n\
         {REFUSED} refused, or not as expected.\n",
        table(commands),
        table(options),
    )
}

/// What `resty-mtls NAME --help` prints.
fn command_usage(command: &Command) -> String {
    let Command {
        name,
        operands,
        help,
        ..
    } = command;
    let help = help.trim_end();
    let option = match command.options {
        [] => "",
        _ => "[OPTION]... ",
    };
    let options = command
        .options
        .iter()
        .map(|option| match option.value {
            "" => (option.name.to_owned(), option.help),
            value => (format!("{} {value}", option.name), option.help),
        })
        .chain([("-h, --help".to_owned(), "show this help")]);
    let statuses = command
        .statuses
        .iter()
        .chain([&(MISUSE, "wrong usage")])
        .map(|(status, meaning)| (status.to_string(), *meaning));
    let usage = format!("Usage: resty-mtls {name} {option}{operands}");
    format!(
        "{}\n\n{help}\n\nOptions:\n{}\nExit status:\n{}",
        usage.trim_end(),
        table(options),
        table(statuses),
    )
}

/// Two columns. Further lines of the second column are indented as its first.
fn table<'t>(rows: impl IntoIterator<Item = (String, &'t str)>) -> String {
    let rows: Vec<(String, &str)> = rows.into_iter().collect();
    let width = rows.iter().map(|(first, _)| first.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (first, second) in rows {
        for (i, line) in second.lines().enumerate() {
            let first = if i == 0 { first.as_str() } else { "" };
            out.push_str(&format!("  {first:width$}  {line}\n"));
        }
    }
    out
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

/// Prints what is wrong with the arguments, where they name no command.
fn misuse(streams: &mut Streams, message: &str) -> io::Result<u8> {
    writeln!(streams.err, "resty-mtls: {message}; see resty-mtls --help")?;
    Ok(MISUSE)
}
