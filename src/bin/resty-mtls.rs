//! The operator's command: checks a policy before anything is restarted with it.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use resty_mtls::policy::Policy;

const USAGE: &str = "\
Usage: resty-mtls check FILE

Checks the policy in FILE (YAML or JSON) as nginx would read it at start.

  check FILE     exit 0 and a summary with all warnings, or exit 1 and all errors
  -h, --help     show this help
  -V, --version  show the version

Exit status: 0 the policy can be used, 1 it cannot, 2 wrong usage.
";

const MISUSE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = args.iter().map(|arg| arg.to_str()).collect();
    match *words {
        [Some("-h" | "--help")] => print(USAGE),
        [Some("-V" | "--version")] => {
            print(&format!("resty-mtls {}\n", env!("CARGO_PKG_VERSION")))
        }
        [Some("check"), file] if file.is_none_or(|file| !file.starts_with('-')) => {
            args.get(1).map_or(ExitCode::from(MISUSE), |file| check(Path::new(file)))
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(MISUSE)
        }
    }
}

fn check(file: &Path) -> ExitCode {
    match Policy::from_file(file) {
        Ok(policy) => {
            let mut text = policy.summary().to_string();
            text += &format!("warnings: {}\n", policy.warnings.len());
            for warning in &policy.warnings {
                text += &format!("{warning}\n");
            }
            print(&text)
        }
        Err(errors) => {
            for error in errors {
                eprintln!("{error}");
            }
            ExitCode::FAILURE
        }
    }
}

/// A reader that went away (`| head`) is no reason to panic, as `print!` does.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
