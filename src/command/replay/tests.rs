//! `replay` on policies and logs in files.

use super::super::audit::AuditEntry;
use super::super::tests::{run_reading, run_with};

const POLICY: &str = "_format_version: '3.0'\nroutes: [{name: open}]\n";

/// Runs `replay` with this policy on a log, with more arguments. In the output, `DIR` replaces the
/// directory of the files, which has the file `policy.yaml` only.
fn replay(name: &str, policy: &str, log: &str, args: &[&str]) -> (u8, String, String) {
    let id = std::process::id();
    let path = std::env::temp_dir().join(format!("resty-mtls-replay-{name}-{id}"));
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("policy.yaml"), policy).unwrap();
    let directory = path.to_str().unwrap();
    let mut all = vec![
        "replay".to_owned(),
        format!("{directory}/policy.yaml"),
        "-".to_owned(),
    ];
    all.extend(args.iter().map(|arg| arg.replace("DIR", directory)));
    let args: Vec<&str> = all.iter().map(String::as_str).collect();
    let (status, out, err) = run_reading(&args, &mut log.as_bytes());
    std::fs::remove_dir_all(&path).unwrap();
    (status, out, err.replace(directory, "DIR"))
}

fn line(route: &str, decision: &str) -> String {
    format!("{{\"route\":{route},\"decision\":\"{decision}\",\"host\":\"a.test\"}}\n")
}

/// The last line of a result.
fn counts(out: &str) -> &str {
    out.lines().last().unwrap_or_default()
}

#[test]
fn replay_reports_lines_that_are_not_read() {
    let log = line("\"open\"", "pass") + &line("7", "pass") + &line("\"open\"", "granted");
    let (status, out, err) = replay("lines", POLICY, &log, &[]);
    assert_eq!(
        (status, &*err),
        (
            0,
            "standard input:2: not read: 'route' is not text\n\
             standard input:3: not read: 'granted' is no value of $mtls_decision\n"
        )
    );
    assert_eq!(
        counts(&out),
        "requests: 3, not decided by the module: 0, lines not read: 2, left out over the limit: 0"
    );
}

#[test]
fn replay_needs_a_line_that_it_can_read() {
    let message = "resty-mtls: replay: standard input: none of its lines can be read, expected \
                   those of the format mtls_audit or mtls_audit_ecs\n";
    let (status, out, err) = replay("none", POLICY, "GET / 200\n\nGET / 200\n", &[]);
    assert_eq!((status, &*out), (1, ""));
    assert!(err.ends_with(message) && err.lines().count() == 3, "{err}");
    let first = "standard input:1: not read: expected value at column 1\n";
    assert!(err.starts_with(first), "{err}");
    // An empty log has no client that would be refused.
    assert_eq!(replay("empty", POLICY, "", &[]).0, 0);
}

#[test]
fn replay_with_strict_fails_on_lines_that_are_not_read() {
    let log = line("\"open\"", "pass");
    assert_eq!(replay("all-read", POLICY, &log, &["--strict"]).0, 0);
    let log = log + "127.0.0.1 - - GET /\n";
    assert_eq!(replay("some-read", POLICY, &log, &[]).0, 0);
    let (status, _, err) = replay("strict", POLICY, &log, &["--strict"]);
    let message = "standard input:2: not read: trailing characters at column 6\n";
    assert_eq!((status, &*err), (4, message));
}

#[test]
fn replay_needs_the_directory_of_certs() {
    let log = line("\"open\"", "pass");
    for (directory, why) in [
        (
            "DIR/none",
            "cannot be read: No such file or directory (os error 2)",
        ),
        ("DIR/policy.yaml", "not a directory"),
    ] {
        let found = replay("certs", POLICY, &log, &["--certs", directory]);
        let message = format!("resty-mtls: replay: --certs: {directory}: {why}\n");
        assert_eq!(found, (1, String::new(), message));
    }
    assert_eq!(replay("found", POLICY, &log, &["--certs", "DIR"]).0, 0);
}

#[test]
fn replay_takes_a_host_without_its_port() {
    let policy = "_format_version: '3.0'\nroutes: [{name: r, snis: [a.test]}]\n\
                  plugins: [{name: tls-handshake-modifier, route: r}]\n";
    let log = |host: &str| {
        format!(
            "{{\"route\":\"r\",\"decision\":\"pass\",\"server_name\":\"a.test\",\
             \"host\":\"{host}\"}}\n"
        )
    };
    for (host, status) in [("a.test:443", 0), ("A.test", 0), ("b.test:443", 4)] {
        let (found, out, err) = replay("host", policy, &log(host), &[]);
        assert_eq!((found, &*err), (status, ""), "{host}: {out}");
    }
}

#[test]
fn replay_reads_the_line_of_its_help() {
    let (_, help, _) = run_with(&["help", "replay"]);
    let line = help.lines().find(|line| line.starts_with("  {")).unwrap();
    let line = line.trim().replace("64 digits", &"ab".repeat(32));
    let entry = AuditEntry::parse(line.as_bytes()).unwrap().unwrap();
    assert_eq!(entry.route.as_deref(), Some("api"));
}
