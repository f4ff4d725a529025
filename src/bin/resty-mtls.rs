//! The operator's command: checks a policy before anything is restarted with it, and tells what the
//! header dialects write.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use resty_mtls::headers::Dialect;
use resty_mtls::policy::Policy;

const USAGE: &str = "\
Usage: resty-mtls check FILE
       resty-mtls dialects [NAME]

Checks the policy in FILE (YAML or JSON) as nginx would read it at start, or lists what the header
dialects of client-cert-headers write.

  check FILE       exit 0 and a summary with all warnings, or exit 1 and all errors
  dialects [NAME]  the headers of all dialects or one: dialect, key, default header name
  -h, --help       show this help
  -V, --version    show the version

Exit status: 0 the policy can be used, 1 it cannot, 2 wrong usage.
";

const OK: u8 = 0;
const REFUSED: u8 = 1;
const MISUSE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&args, &mut io::stdout().lock(), &mut io::stderr().lock()) {
        Ok(status) => status.into(),
        // A reader that went away (`| head`) leaves nobody to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(args: &[OsString], out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    let words: Vec<_> = args.iter().map(|arg| arg.to_str()).collect();
    match (&*words, args) {
        ([Some("-h" | "--help")], _) => {
            out.write_all(USAGE.as_bytes())?;
            Ok(OK)
        }
        ([Some("-V" | "--version")], _) => {
            writeln!(out, "resty-mtls {}", env!("CARGO_PKG_VERSION"))?;
            Ok(OK)
        }
        ([Some("check"), name], [_, file]) if name.is_none_or(|name| !name.starts_with('-')) => {
            check(Path::new(file), out, err)
        }
        ([Some("dialects")], _) => dialects(&Dialect::ALL, out),
        ([Some("dialects"), Some(name)], _) if Dialect::from_name(name).is_some() => {
            dialects(Dialect::from_name(name).as_slice(), out)
        }
        _ => {
            err.write_all(USAGE.as_bytes())?;
            Ok(MISUSE)
        }
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

fn check(file: &Path, out: &mut impl Write, err: &mut impl Write) -> io::Result<u8> {
    match Policy::from_file(file) {
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
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = run(&args, &mut out, &mut err).unwrap();
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
                 FILE:2:36: warning: routes[0].paths: is not for resty-mtls and does nothing here\n"
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
    fn run_misuse_shows_the_usage_on_stderr() {
        for args in [
            &[][..],
            &["check"],
            &["check", "a", "b"],
            &["check", "--json"],
            &["chekc", "a"],
            &["--help", "x"],
            &["dialects", "klingon"],
            &["dialects", "nginx", "azure"],
        ] {
            assert_eq!(
                run_with(args),
                (2, String::new(), USAGE.to_owned()),
                "{args:?}"
            );
        }
    }
}
