//! `client-cert-lists`: fields and files, and that no reload loses it.

use std::fs;

use super::*;
use crate::testing;

const ID: &str = "11111111-1111-4111-8111-111111111111";

/// A policy in a directory of its own, with these lists and this configuration of the plugin.
fn compile(name: &str, config: &str, lists: &[(&str, &str)]) -> Result<Policy, Vec<String>> {
    let directory = std::env::temp_dir().join(format!("resty-mtls-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    for (file, text) in lists {
        fs::write(directory.join(file), text).unwrap();
    }
    let path = directory.join("p.yaml");
    let document = format!(
        "_format_version: '3.0'\nca_certificates:\n- id: {ID}\n  cert: |\n    {}\nroutes:\n- name: a\n  \
         snis: [a.test]\n  plugins:\n  - name: mtls-auth\n    config: {{ca_certificates: [{ID}], \
         skip_consumer_lookup: true}}\n{config}",
        String::from_utf8(testing::pki().ca.x509.to_pem().unwrap())
            .unwrap()
            .trim_end()
            .replace('\n', "\n    ")
    );
    fs::write(&path, document).unwrap();
    let policy = Policy::from_file(&path);
    fs::remove_dir_all(&directory).unwrap();
    policy.map_err(|errors| {
        let text = |error: &Diagnostic| {
            let text = error.to_string();
            text.split_once(": ")
                .map_or(String::new(), |(_, text)| text.to_owned())
        };
        errors.iter().map(text).collect()
    })
}

/// The warnings about the plugin, of which the test's CA has others.
fn warnings(policy: &Policy) -> Vec<String> {
    let warnings = policy.warnings.iter().map(ToString::to_string);
    warnings
        .filter(|warning| warning.contains("plugins[1]"))
        .collect()
}

fn plugin(config: &str) -> String {
    format!("  - name: client-cert-lists\n    config: {config}\n")
}

#[test]
fn lists_are_read_beside_the_policy_and_shared_by_routes() {
    let entry = format!("sha256 {}\n", "0a".repeat(32));
    let policy = compile(
        "lists-shared",
        &plugin("{deny: [d.list], allow: [a.list]}"),
        &[("d.list", "# nobody\n"), ("a.list", &entry)],
    );
    let policy = policy.unwrap();
    assert_eq!(policy.lists.len(), 2);
    let plan = &policy.plans[policy.plan(Some("a")).unwrap()];
    let lists = plan.lists.as_ref().unwrap();
    assert_eq!(lists.deny[0].name(), "d.list");
    assert_eq!(lists.allow[0].list().unwrap().len(), 1);
    assert!(warnings(&policy).is_empty());
}

#[test]
fn lists_without_entries_and_with_ended_ones_are_warned_about() {
    let ended = format!(
        "# a\nsha256 {} until=2001-01-01T00:00:00Z\n",
        "0a".repeat(32)
    );
    let policy = compile(
        "lists-warned",
        &plugin("{deny: [d.list], allow: [a.list]}"),
        &[("d.list", &ended), ("a.list", "# nobody\n")],
    );
    let warnings = warnings(&policy.unwrap());
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].ends_with(
        "config.deny[0]: 'd.list': 1 entries have ended and have no effect, the first in line 2"
    ));
    assert!(warnings[1].ends_with("config.allow: has no entries, so every certificate is refused"));
}

#[test]
fn lists_that_cannot_be_read_and_bad_fields_are_errors() {
    let good = [("d.list", "# nobody\n")];
    for (config, lists, why) in [
        (
            plugin("{deny: [none.list]}"),
            &good,
            "config.deny[0]: 'none.list': cannot be read: No such file or directory (os error 2)",
        ),
        (
            plugin("{deny: [d.list]}"),
            &[("d.list", "# a\nfoo\n")],
            "config.deny[0]: 'd.list': line 2: 'foo', expected 'sha256 HEX', 'spki_sha256 HEX' or \
             'serial HEX ISSUER'",
        ),
        (
            plugin("{deny: [''], allow: null}"),
            &good,
            "config.deny[0]: '', expected the name of a file",
        ),
        (
            plugin("{}"),
            &good,
            "config: expected at least one file in 'allow' or 'deny'",
        ),
        (
            plugin("{deny: [d.list], allow: []}"),
            &good,
            "config.allow: an empty list together with 'deny' would allow all, expected at least \
             one file, or no 'allow' to mean that",
        ),
        (
            "plugins:\n- name: client-cert-lists\n  config: {deny: [d.list]}\n".to_owned(),
            &good,
            "plugins[0]: applies to a request without a route without mtls-auth, so no client \
             would be authenticated there; expected mtls-auth or header-cert-auth wherever \
             client-cert-lists applies",
        ),
    ] {
        let errors = compile("lists-bad", &config, lists).err().unwrap();
        assert!(errors[0].ends_with(why), "{errors:?}");
    }
}

#[test]
fn refusal_names_a_route_that_would_lose_its_lists() {
    let lists = [("d.list", "# nobody\n")];
    let before = compile("lists-lost", &plugin("{deny: [d.list]}"), &lists).unwrap();
    let after = compile("lists-lost", "", &lists).unwrap();
    let why = before.protection.refusal(&after, false).unwrap();
    assert!(
        why.starts_with("refused, since route 'a' would lose client-cert-lists"),
        "{why}"
    );
    assert_ne!(before.digest, after.digest);
    assert_eq!(after.protection.refusal(&before, false), None);
}
