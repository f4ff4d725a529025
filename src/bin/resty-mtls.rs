//! The operator's command: checks a policy before anything is restarted with it, and lists what the
//! header dialects write.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use resty_mtls::headers::Dialect;
use resty_mtls::policy::{closest_name, Diagnostic, Policy, MAX_BYTES};

const USAGE: &str = "\
Usage: resty-mtls check FILE
       resty-mtls dialects [NAME]

Checks the policy in FILE (YAML or JSON) as nginx would read it at start, or lists what the header
dialects of client-cert-headers write.

  check FILE       exit 0 and a summary with all warnings, or exit 1 and all errors; - is standard
                   input
  dialects [NAME]  the headers of all dialects or one: dialect, key, default header name
  -h, --help       show this help
  -V, --version    show the version

Exit status: 0 the policy can be used, 1 it cannot, 2 wrong usage.
";

const OK: u8 = 0;
const REFUSED: u8 = 1;
const MISUSE: u8 = 2;

const COMMANDS: [&str; 2] = ["check", "dialects"];
const OPTIONS: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// Stands for the file in the errors of a policy from standard input.
const STDIN: &str = "standard input";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    match run(
        &args,
        &mut stdin.lock(),
        &mut stdout.lock(),
        &mut stderr.lock(),
    ) {
        Ok(status) => status.into(),
        // The reader has gone away (`| head`): there is no place for a message.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(
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
        (Some("check"), []) => misuse(err, "check: no file, expected one, or - for standard input"),
        (Some("check"), [file]) if file == "-" => report(from_input(input), out, err),
        (Some("check"), [file]) if !is_option(file) => {
            report(Policy::from_file(Path::new(file)), out, err)
        }
        (Some("check"), args) => {
            let options = args
                .iter()
                .filter(|arg| *arg != "-")
                .find(|arg| is_option(arg));
            match options {
                Some(option) => {
                    let option = shown(option);
                    let message =
                        format!("check: unknown option '{option}', expected a file (./{option} for one of that name)");
                    misuse(err, &message)
                }
                None => {
                    let message = format!("check: {} files, expected one", args.len());
                    misuse(err, &message)
                }
            }
        }
        (Some("dialects"), []) => dialects(&Dialect::ALL, out),
        (Some("dialects"), [name]) => match name.to_str().and_then(Dialect::from_name) {
            Some(dialect) => dialects(&[dialect], out),
            None => {
                let names = Dialect::ALL.map(Dialect::name);
                let message = format!("dialects: unknown dialect {}", unknown(name, &names));
                misuse(err, &message)
            }
        },
        (Some("dialects"), args) => misuse(
            err,
            &format!("dialects: {} names, expected one or none", args.len()),
        ),
        (Some(option), [argument, ..]) if OPTIONS.contains(&option) => {
            let message = format!("{option}: takes no argument, found '{}'", shown(argument));
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

/// An argument in a one-line message.
fn shown(arg: &OsStr) -> String {
    arg.to_string_lossy().escape_debug().to_string()
}

/// `'name', did you mean 'known'?`, or what is known.
fn unknown(arg: &OsStr, known: &[&str]) -> String {
    let name = shown(arg);
    match closest_name(&name, known.iter().copied()) {
        Some(meant) => format!("'{name}', did you mean '{meant}'?"),
        None => format!("'{name}', expected one of {}", known.join(", ")),
    }
}

/// Says in one line what is wrong with the arguments.
fn misuse(err: &mut impl Write, message: &str) -> io::Result<u8> {
    writeln!(err, "resty-mtls: {message}; see resty-mtls --help")?;
    Ok(MISUSE)
}

/// The policy in standard input. Paths in it must be absolute: there is no file they could be
/// relative to.
fn from_input(input: &mut impl Read) -> Result<Policy, Vec<Diagnostic>> {
    let mut text = Vec::new();
    // One byte more tells a text that is too long from one that just fits.
    match input.take(MAX_BYTES as u64 + 1).read_to_end(&mut text) {
        Ok(_) => Policy::from_yaml(&text, STDIN),
        Err(error) => Err(vec![Diagnostic::unreadable(STDIN, &error)]),
    }
}

/// One line a header; `-` for one that is set only under a name of the operator's, `N` for a number.
fn dialects(dialects: &[Dialect], out: &mut impl Write) -> io::Result<u8> {
    for dialect in dialects {
        for header in dialect.headers() {
            let number = if header.is_numbered() { "N" } else { "" };
            let (name, key) = (dialect.name(), header.key);
            let header = header.name.unwrap_or("-");
            writeln!(out, "{name}\t{key}{number}\t{header}{number}")?;
        }
    }
    Ok(OK)
}

fn report(
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
            Ok(REFUSED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, stdout, stderr.
    fn run_with(args: &[&str]) -> (u8, String, String) {
        run_reading(args, &mut io::empty())
    }

    fn run_reading(args: &[&str], input: &mut impl Read) -> (u8, String, String) {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = run(&args, input, &mut out, &mut err).unwrap();
        (
            status,
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    }

    /// What `check` says of a file with this text, `FILE` in place of its name.
    fn check_text(name: &str, text: &str) -> (u8, String, String) {
        let id = std::process::id();
        let path = std::env::temp_dir().join(format!("resty-mtls-check-{name}-{id}.yaml"));
        std::fs::write(&path, text).unwrap();
        let path_text = path.to_str().unwrap();
        let (status, out, err) = run_with(&["check", path_text]);
        std::fs::remove_file(&path).unwrap();
        (
            status,
            out.replace(path_text, "FILE"),
            err.replace(path_text, "FILE"),
        )
    }

    #[test]
    fn run_good_policy_is_summed_up() {
        let (status, out, err) = check_text(
            "good",
            "_format_version: '3.0'\nroutes: [{name: r, snis: [a.test], paths: [/]}]\n\
             plugins: [{name: tls-handshake-modifier, route: r}]\n",
        );
        let digest = out.lines().next().unwrap();
        assert!(
            digest.starts_with("digest: ") && digest.len() == 8 + 64,
            "{digest}"
        );
        assert_eq!(
            (status, out.replace(digest, "DIGEST"), err),
            (
                0,
                "DIGEST\n\
                 server names that ask for a client certificate: 1\n\
                 \x20 a.test: no CA names sent\n\
                 routes: 1\n\
                 warnings: 1\n\
                 FILE:2:36: warning: routes[0].paths: has no effect in resty-mtls\n"
                    .to_owned(),
                String::new()
            )
        );
    }

    #[test]
    fn run_bad_policy_gives_all_errors_on_stderr() {
        let bad = "_format_version: 3\nrouts: []\n";
        assert_eq!(
            check_text("bad", bad),
            (
                1,
                String::new(),
                "FILE:1:18: _format_version: the number 3, expected text, in quotes\n\
                 FILE:2:1: unknown field 'routs', did you mean 'routes'?\n"
                    .to_owned()
            )
        );
        assert_eq!(
            run_with(&["check", "/nonexistent"]),
            (
                1,
                String::new(),
                "/nonexistent: cannot be read: No such file or directory (os error 2)\n".to_owned()
            )
        );
    }

    #[test]
    fn run_help_and_version_go_to_stdout() {
        for flag in ["-h", "--help"] {
            assert_eq!(run_with(&[flag]), (0, USAGE.to_owned(), String::new()));
        }
        let version = format!("resty-mtls {}\n", env!("CARGO_PKG_VERSION"));
        for flag in ["-V", "--version"] {
            assert_eq!(run_with(&[flag]), (0, version.clone(), String::new()));
        }
    }

    #[test]
    fn run_dialects_lists_keys_and_names() {
        let azure = "azure\tcertificate\tX-ARR-ClientCert\n".to_owned();
        assert_eq!(
            run_with(&["dialects", "azure"]),
            (0, azure.clone(), String::new())
        );
        let (status, all, _) = run_with(&["dialects"]);
        assert_eq!(status, 0);
        for line in [
            azure.trim_end(),
            "nginx\tssl_client_serial\t-",
            "cloudflare\tcertSubjectDNLegacy\tCf-Cert-Subject-DN-Legacy",
            "apache\tSSL_CLIENT_SAN_DNS_N\tSSL_CLIENT_SAN_DNS_N",
        ] {
            assert!(all.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn run_check_reads_standard_input() {
        let bad = "_format_version: '3.0'\nrouts: []\n";
        assert_eq!(
            run_reading(&["check", "-"], &mut bad.as_bytes()),
            (
                1,
                String::new(),
                "standard input:2:1: unknown field 'routs', did you mean 'routes'?\n".to_owned()
            )
        );
        let good = "_format_version: '3.0'\nupstreams: []\n";
        let (status, out, err) = run_reading(&["check", "-"], &mut good.as_bytes());
        assert_eq!((status, err), (0, String::new()));
        let warning = "standard input:2:1: warning: upstreams: has no effect in resty-mtls\n";
        assert!(out.ends_with(warning), "{out}");

        let too_long = "standard input: over 32 MB, the limit for a policy\n".to_owned();
        assert_eq!(
            run_reading(&["check", "-"], &mut io::repeat(b' ')),
            (1, String::new(), too_long)
        );
        let mut directory = std::fs::File::open("/").unwrap();
        assert_eq!(
            run_reading(&["check", "-"], &mut directory),
            (
                1,
                String::new(),
                "standard input: cannot be read: Is a directory (os error 21)\n".to_owned()
            )
        );
    }

    #[test]
    fn run_misuse_says_what_is_wrong_in_one_line() {
        for (args, message) in [
            (&[][..], "no command, expected 'check' or 'dialects'"),
            (
                &["check"],
                "check: no file, expected one, or - for standard input",
            ),
            (&["check", "a", "b"], "check: 2 files, expected one"),
            (&["check", "-", "b", "c"], "check: 3 files, expected one"),
            (
                &["check", "--json"],
                "check: unknown option '--json', expected a file (./--json for one of that name)",
            ),
            (
                &["check", "a", "-x"],
                "check: unknown option '-x', expected a file (./-x for one of that name)",
            ),
            (
                &["chekc", "a"],
                "unknown command 'chekc', did you mean 'check'?",
            ),
            (
                &["policy.yaml"],
                "unknown command 'policy.yaml', expected one of check, dialects",
            ),
            (
                &["a\nb"],
                "unknown command 'a\\nb', expected one of check, dialects",
            ),
            (
                &["--hlep"],
                "unknown option '--hlep', did you mean '--help'?",
            ),
            (&["--help", "x"], "--help: takes no argument, found 'x'"),
            (
                &["dialects", "ngnix"],
                "dialects: unknown dialect 'ngnix', did you mean 'nginx'?",
            ),
            (
                &["dialects", "nginx", "azure"],
                "dialects: 2 names, expected one or none",
            ),
        ] {
            assert_eq!(
                run_with(args),
                (
                    2,
                    String::new(),
                    format!("resty-mtls: {message}; see resty-mtls --help\n")
                ),
                "{args:?}"
            );
        }
        let (status, out, err) = run_with(&["dialects", "klingon"]);
        assert_eq!((status, out), (2, String::new()));
        assert!(
            err.contains("unknown dialect 'klingon', expected one of "),
            "{err}"
        );
        assert_eq!(err.lines().count(), 1);
    }
}
