//! The whole command: arguments in, exit status and output out.

use super::*;

/// Status, stdout, stderr.
pub(super) fn run_with(args: &[&str]) -> (u8, String, String) {
    run_reading(args, &mut io::empty())
}

pub(super) fn run_reading(args: &[&str], input: &mut impl Read) -> (u8, String, String) {
    let args: Vec<OsString> = args.iter().map(OsString::from).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = run(&args, input, &mut out, &mut err).unwrap();
    (
        status,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

/// Runs `check` on a file with this text. `FILE` replaces its name in the output.
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
fn check_prints_the_summary_of_a_valid_policy() {
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
             server names under which a client certificate is requested: 1\n\
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
fn check_lists_more_warnings_of_a_kind_than_a_gateway_keeps() {
    let routes = (0..12).map(|i| format!("- {{name: r{i}, snis: [r{i}.test]}}\n"));
    let text = format!(
        "_format_version: '3.0'\nroutes:\n{}",
        routes.collect::<String>()
    );
    let (_, of_file, _) = check_text("many", &text);
    let (_, of_input, _) = run_reading(&["check", "-"], &mut text.as_bytes());
    for out in [of_file, of_input] {
        let warnings = out.lines().filter(|line| line.contains(": warning: "));
        assert_eq!(warnings.count(), 12, "{out}");
        assert!(out.contains("warnings: 12\n"), "{out}");
    }
    let kept = crate::policy::Policy::from_yaml(text.as_bytes(), "p").unwrap();
    let kept: Vec<_> = kept.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        kept[10..],
        ["p: warning: 2 more routes with snis and without plugins; \
          resty-mtls check lists up to 1,000"]
    );
}

#[test]
fn check_prints_all_errors_on_stderr() {
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
fn help_and_version_go_to_stdout() {
    for flag in ["-h", "--help"] {
        assert_eq!(run_with(&[flag]), (0, usage(), String::new()));
    }
    let version = format!("resty-mtls {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["-V", "--version"] {
        assert_eq!(run_with(&[flag]), (0, version.clone(), String::new()));
    }
}

#[test]
fn dialects_lists_keys_and_names() {
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
fn check_reads_standard_input() {
    let bad = "_format_version: '3.0'\nrouts: []\n";
    assert_eq!(
        run_reading(&["check", "-"], &mut bad.as_bytes()),
        (
            1,
            String::new(),
            "standard input:2:1: unknown field 'routs', did you mean 'routes'?\n".to_owned()
        )
    );
    let good = "_format_version: '3.0'\nupstreams: [{name: u}]\n";
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
fn json_has_the_errors_and_warnings_of_check() {
    let text = "_format_version: '3.0'\nupstreams: [{name: u}]\n";
    let (status, out, err) = run_reading(&["check", "--json", "-"], &mut text.as_bytes());
    let digest = out.split('"').nth(3).unwrap_or_default();
    assert_eq!(
        (status, out.replace(digest, "DIGEST"), err),
        (
            0,
            r#"{
  "digest": "DIGEST",
  "errors": [],
  "routes_without_plugin": [],
  "valid": true,
  "warnings": [
    {
      "column": 1,
      "file": "standard input",
      "line": 2,
      "message": "has no effect in resty-mtls",
      "path": "upstreams"
    }
  ]
}
"#
            .to_owned(),
            String::new()
        )
    );
    assert_eq!(
        run_with(&["check", "/nonexistent", "--json"]),
        (
            1,
            r#"{
  "digest": null,
  "errors": [
    {
      "column": null,
      "file": "/nonexistent",
      "line": null,
      "message": "cannot be read: No such file or directory (os error 2)",
      "path": ""
    }
  ],
  "routes_without_plugin": null,
  "valid": false,
  "warnings": []
}
"#
            .to_owned(),
            String::new()
        )
    );
    let text = "_format_version: '3.0'\nroutes: [{name: website}]\n";
    let (_, out, _) = run_reading(&["check", "--json", "-"], &mut text.as_bytes());
    let routes = "\n  \"routes_without_plugin\": [\n    \"website\"\n  ],\n";
    assert!(out.contains(routes), "{out}");
    let azure = r#"[
  {
    "dialect": "azure",
    "key": "certificate",
    "name": "X-ARR-ClientCert",
    "numbered": false
  }
]
"#;
    let listed = run_with(&["dialects", "azure", "--json"]);
    assert_eq!(listed, (0, azure.to_owned(), String::new()));
}

#[test]
fn ca_prints_each_ca_once() {
    use super::inspect::tests::{CA, ODD};

    let id = "28d28e20-e521-5a82-a0b2-29ac271efdd3";
    let (status, out, err) = run_reading(&["ca", "-"], &mut [CA, ODD, CA].concat().as_bytes());
    assert_eq!(
        (status, &*err),
        (
            0,
            "standard input:11: warning: left out: certificate 'CN=ann\\1B[31m,O=Example,C=CZ' is \
             not a CA: expected the basic constraint CA:TRUE, and keyCertSign if it has a key \
             usage\n"
        )
    );
    let pem: String = CA.lines().map(|line| format!("    {line}\n")).collect();
    assert_eq!(
        out,
        format!(
            "_format_version: \"3.0\"\nca_certificates:\n# CN=Test CA,O=Example, until \
             2036-11-27T12:33:36Z\n- id: {id}\n  cert: |\n{pem}"
        )
    );
    assert_eq!(run_reading(&["check", "-"], &mut out.as_bytes()).0, 0);

    let (status, json, _) = run_reading(&["ca", "--json", "-"], &mut CA.as_bytes());
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status, 0);
    assert_eq!(
        value["ca_certificates"],
        serde_json::json!([{ "id": id, "cert": CA }])
    );
    assert_eq!(run_reading(&["check", "-"], &mut json.as_bytes()).0, 0);
}

#[test]
fn ca_gives_a_renewed_ca_an_id_of_its_own() {
    let ca = crate::testing::issue("a", None, true, 86_400 * 400, &[]);
    let renewed = crate::testing::renew(&ca);
    let pem = |x509: &openssl::x509::X509| String::from_utf8(x509.to_pem().unwrap()).unwrap();
    let ids = |text: String| -> Vec<String> {
        let (_, out, _) = run_reading(&["ca", "-"], &mut text.as_bytes());
        let ids = out.lines().filter_map(|line| line.strip_prefix("- id: "));
        ids.map(str::to_owned).collect()
    };
    let (first, second) = (pem(&ca.x509), pem(&renewed));
    let both = ids([&*first, &*second].concat());
    assert_eq!(both.len(), 2);
    assert_ne!(both[0], both[1]);
    // The first one has the id of the CA.
    assert_eq!(ids(first), both[..1]);
    assert_eq!(ids(second), both[..1]);
}

#[test]
fn ca_needs_a_ca() {
    use super::inspect::tests::ODD;

    let (status, out, err) = run_reading(&["ca", "-"], &mut ODD.as_bytes());
    assert_eq!((status, &*out, err.lines().count()), (1, "", 2));
    let message = "resty-mtls: ca: no CA in these files, expected certificates with CA:TRUE\n";
    assert!(err.ends_with(message), "{err}");
    let (status, out, err) = run_reading(&["ca", "-"], &mut &b"x"[..]);
    let message = "standard input: 'x' is neither PEM nor DER, expected '-----BEGIN \
                   CERTIFICATE-----'\n";
    assert_eq!((status, &*out, &*err), (1, "", message));
    assert_eq!(run_with(&["ca"]).0, 2);
}

#[test]
fn each_command_has_a_help() {
    for command in COMMANDS {
        let (status, out, err) = run_with(&[command.name, "x", "--help", "--unknown"]);
        assert_eq!((status, err), (0, String::new()));
        let usage = format!("Usage: resty-mtls {} ", command.name);
        assert!(out.starts_with(&usage), "{out}");
        for option in command.options {
            assert!(out.contains(&format!("\n  {} ", option.name)), "{out}");
        }
        let longest = out.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(80), "{out}");
        assert_eq!(run_with(&[command.name, "-h"]).1, out);
        // A file of this name.
        assert_ne!(run_with(&[command.name, "--", "--help"]).0, 0);
    }
}

#[test]
fn help_is_that_of_the_option() {
    assert_eq!(run_with(&["help"]), (0, usage(), String::new()));
    for command in COMMANDS {
        let found = run_with(&["help", command.name]);
        assert_eq!(found, run_with(&[command.name, "--help"]));
    }
}

#[test]
fn help_of_commands_with_a_policy_names_all_plugins() {
    for command in ["check", "explain", "simulate", "replay"] {
        let (_, help, _) = run_with(&["help", command]);
        let (_, names) = help.split_once(" Plugins: ").unwrap();
        let (names, _) = names.split_once('.').unwrap();
        let names: Vec<&str> = names.split([',', '\n']).map(str::trim).collect();
        let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
        assert_eq!(names.len(), 9);
        for name in names {
            let text = format!("_format_version: '3.0'\nplugins: [{{name: {name}}}]\n");
            let (_, out, err) = run_reading(&["check", "-"], &mut text.as_bytes());
            assert!(!(out + &err).contains("has no effect"), "{name}");
        }
    }
}

#[test]
fn check_and_dialects_describe_themselves() {
    assert_eq!(
        run_with(&["dialects", "--help"]).1,
        "\
Usage: resty-mtls dialects [OPTION]... [NAME]

Lists the headers that the dialects of the plugin client-cert-headers write, or
those of the dialect NAME. Each line has the dialect, the key of the header and
its default name, separated by tabs; - stands for a header that has no default
name, and a final N for a number.

Options:
  --json      print JSON instead of text
  -h, --help  show this help

Exit status:
  0  success
  2  wrong usage
"
    );
}

#[test]
fn misuse_is_reported_in_one_line() {
    for (args, message) in [
        (&[][..], "no command, expected one of NAMES"),
        (
            &["check"],
            "check: no file, expected one, or - for standard input",
        ),
        (
            &["check", "-", "b", "c"],
            "check: '-' beside files, expected it alone",
        ),
        (
            &["check", "--jsn"],
            "check: unknown option '--jsn', did you mean '--json'? (./--jsn for a file of that name)",
        ),
        (
            &["check", "--json=yes", "a"],
            "check: --json: takes no value",
        ),
        (
            &["import-ingress", "--out=", "a"],
            "import-ingress: --out: no value, expected DIR",
        ),
        (
            &["import-ingress", "--out", "", "a"],
            "import-ingress: --out: no value, expected DIR",
        ),
        (
            &["explain", "p", "--host="],
            "explain: --host: no value, expected NAME",
        ),
        (
            &["check", "--json", "a", "--json"],
            "check: --json: given twice",
        ),
        (
            &["check", "a", "-x"],
            "check: unknown option '-x', expected one of --json, --help (./-x for a file of that name)",
        ),
        (
            &["chekc", "a"],
            "unknown command 'chekc', did you mean 'check'?",
        ),
        (
            &["policy.yaml"],
            "unknown command 'policy.yaml', expected one of NAMES",
        ),
        (
            &["a\nb"],
            "unknown command 'a\\nb', expected one of NAMES",
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
        (
            &["help", "chekc"],
            "help: unknown command 'chekc', did you mean 'check'?",
        ),
        (
            &["help", "check", "ca"],
            "help: 2 commands, expected one or none",
        ),
        (
            &["explain", "-", "--cert", "-"],
            "explain: '-' twice, expected at most one file in standard input",
        ),
        (
            &["explain", "p", "--password-file", "f"],
            "explain: --password-file: only with --cert",
        ),
        (
            &["replay", "-", "-"],
            "replay: '-' twice, expected at most one file in standard input",
        ),
    ] {
        let names: Vec<_> = COMMANDS.iter().map(|command| command.name).collect();
        let message = message.replace("NAMES", &names.join(", "));
        let command = match message.split_once(':') {
            Some((name, _)) if names.contains(&name) => format!("{name} "),
            _ => String::new(),
        };
        assert_eq!(
            run_with(args),
            (
                2,
                String::new(),
                format!("resty-mtls: {message}; see resty-mtls {command}--help\n")
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
