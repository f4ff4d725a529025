//! Arguments of a command: options, which its row in the table lists, and operands.

use std::ffi::{OsStr, OsString};

use super::{escaped, is_option, unknown, Command};

/// An option of a command.
pub(super) struct Opt {
    /// `--name`
    pub name: &'static str,
    /// What its value is called in the help; empty if it takes none.
    pub value: &'static str,
    /// Whether it may be given several times.
    pub repeated: bool,
    /// What the help says about it. It may have several lines.
    pub help: &'static str,
}

impl Opt {
    /// An option without a value.
    pub const fn flag(name: &'static str, help: &'static str) -> Opt {
        Opt::with_value(name, "", help)
    }

    /// An option with a value, given at most once.
    pub const fn with_value(name: &'static str, value: &'static str, help: &'static str) -> Opt {
        Opt {
            name,
            value,
            repeated: false,
            help,
        }
    }
}

/// The arguments of one run.
#[derive(Debug, Default)]
pub(super) struct Arguments<'a> {
    /// What is no option, in the order given. `-` is one of them.
    pub operands: Vec<&'a OsStr>,
    options: Vec<(&'static str, &'a OsStr)>,
}

impl<'a> Arguments<'a> {
    /// Reads `args`, which follow the name of the command: `--name`, `--name VALUE` or
    /// `--name=VALUE`, and operands, also mixed. What follows `--` is an operand.
    ///
    /// # Errors
    /// What is wrong, for one line behind the name of the command.
    pub fn parse(command: &Command, args: &'a [OsString]) -> Result<Arguments<'a>, String> {
        let mut parsed = Arguments::default();
        let mut args = args.iter().map(OsString::as_os_str);
        while let Some(arg) = args.next() {
            if arg == "--" {
                parsed.operands.extend(args);
                break;
            }
            if arg == "-" || !is_option(arg) {
                parsed.operands.push(arg);
                continue;
            }
            let (name, inline) = split_value(arg);
            let Some(option) = command.options.iter().find(|option| name == option.name) else {
                return Err(unknown_option(command, name));
            };
            let value = match (option.value, inline) {
                ("", None) => OsStr::new(""),
                ("", Some(_)) => return Err(format!("{}: takes no value", option.name)),
                (_, Some(value)) => value,
                (what, None) => args
                    .next()
                    .ok_or_else(|| format!("{}: no value, expected {what}", option.name))?,
            };
            if value.is_empty() && !option.value.is_empty() {
                return Err(format!(
                    "{}: no value, expected {}",
                    option.name, option.value
                ));
            }
            if !option.repeated && parsed.has(option.name) {
                return Err(format!("{}: given twice", option.name));
            }
            parsed.options.push((option.name, value));
        }
        Ok(parsed)
    }

    /// Whether the option is there.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(found, _)| *found == name)
    }

    /// The value of the option.
    pub fn value(&self, name: &str) -> Option<&'a OsStr> {
        self.values(name).next()
    }

    /// All values of an option that may be repeated, in the order given.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a OsStr> + 's {
        let of_name = move |(found, _): &&(&str, &'a OsStr)| *found == name;
        self.options.iter().filter(of_name).map(|(_, value)| *value)
    }
}

/// `--name=VALUE` in its parts.
fn split_value(arg: &OsStr) -> (&OsStr, Option<&OsStr>) {
    use std::os::unix::ffi::OsStrExt;

    let bytes = arg.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) if bytes.starts_with(b"--") => {
            let (name, value) = bytes.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            (OsStr::from_bytes(name), Some(OsStr::from_bytes(value)))
        }
        _ => (arg, None),
    }
}

fn unknown_option(command: &Command, name: &OsStr) -> String {
    let known: Vec<&str> = command
        .options
        .iter()
        .map(|option| option.name)
        .chain(["--help"])
        .collect();
    format!(
        "unknown option {} (./{} for a file of that name)",
        unknown(name, &known),
        escaped(name)
    )
}
