use openssl::nid::Nid;
use openssl::x509::X509;

use super::*;
use crate::engine::RevocationSource;
use crate::policy::Files;
use crate::testing::{self, issue, stack, Issued, Usage, NOW};
use crate::trust::test_ca::{now, TestCa};

const ROOT: &str = "11111111-1111-4111-8111-111111111111";
const OTHER: &str = "22222222-2222-4222-8222-222222222222";

fn pem(certificate: &X509) -> String {
    String::from_utf8(certificate.to_pem().unwrap()).unwrap()
}

/// An engine with these CAs and the rest of a policy, in which the first line is line 2.
fn engine(rest: &str, cas: &[(&str, &X509)]) -> Engine {
    let entry = |(id, ca): &(&str, &X509)| format!("- {{id: {id}, cert: {:?}}}\n", pem(ca));
    let cas: String = cas.iter().map(entry).collect();
    let text = format!("_format_version: '3.0'\n{rest}ca_certificates:\n{cas}");
    let policy = Policy::from_yaml_with(text.as_bytes(), "p.yaml", &mut Files::with_outline());
    Engine::of_policy(policy.unwrap_or_else(|errors| panic!("{errors:#?}")))
}

fn route(config: &str) -> String {
    format!(
        "routes:\n- name: r\n  snis: [a.test]\n  plugins:\n  - name: mtls-auth\n    config:\n      \
         {{ca_certificates: [{ROOT}], skip_consumer_lookup: true{config}}}\n"
    )
}

fn certificate(leaf: &X509, sent: &[&X509]) -> Certificate {
    Certificate::new(leaf.clone(), stack(sent)).unwrap()
}

fn explain(engine: &Engine, certificate: Option<&Certificate>) -> Explanation {
    let probe = Probe {
        route: Some("r"),
        server_name: Some(b"a.test"),
        host: b"a.test",
        certificate,
        now: NOW,
        ..Probe::default()
    };
    engine.explain(&probe).unwrap()
}

/// The step that refuses: detail and remedy.
fn failure(explanation: &Explanation) -> (&str, &str) {
    let failed = explanation.steps.iter().find(|step| step.ok == Some(false));
    let failed = failed.unwrap_or_else(|| panic!("{:#?}", explanation.steps));
    (&failed.detail, failed.remedy.as_deref().unwrap_or_default())
}

/// An intermediate and a leaf below it.
fn below(root: &Issued) -> (Issued, Issued) {
    let intermediate = issue("Sub", Some(root), true, 60, &[]);
    let leaf = issue("leaf", Some(&intermediate), false, 60, &[]);
    (intermediate, leaf)
}

#[test]
fn explain_a_client_that_only_a_plugin_in_report_mode_refuses() {
    let root = issue("Root", None, true, 60, &[]);
    let engine = engine(&route(", enforce: report"), &[(ROOT, &root.x509)]);
    let stranger = issue("stranger", None, false, 60, &[]);
    let client = certificate(&stranger.x509, &[]);
    for (client, verdict) in [
        (None, "NONE"),
        (Some(&client), "FAILED:self-signed certificate"),
    ] {
        let explanation = explain(&engine, client);
        assert!(explanation.allowed);
        assert_eq!(explanation.status, 200);
        assert_eq!(explanation.decision, "would_refuse");
        assert_eq!(explanation.verdict, verdict);
        assert!(explanation.reason.is_some());
        assert_eq!(explanation.rule.clone().unwrap().plugin, "mtls-auth");
        assert!(explanation.headers.is_empty());
        let last = explanation.steps.last().unwrap();
        assert_eq!(
            (last.step, &*last.detail),
            (
                "report",
                "the request passes, although it would be refused with 401: a plugin of the route \
                 has 'enforce: report'"
            )
        );
        assert!(explanation.steps.iter().any(|step| step.ok == Some(false)));
    }
}

#[test]
fn explain_a_report_that_a_plugin_beside_it_overrules() {
    let root = issue("Root", None, true, 60, &[]);
    let text = route(", enforce: report") + "  - {name: acl, config: {allow: [staff]}}\n";
    let engine = engine(&text, &[(ROOT, &root.x509)]);
    let explanation = explain(&engine, None);
    assert_eq!(
        (explanation.status, explanation.decision),
        (401, "no_certificate")
    );
    let last = explanation.steps.last().unwrap();
    assert_eq!(
        (last.step, last.ok, &*last.detail, last.remedy.as_deref()),
        (
            "report",
            Some(false),
            "'enforce: report' of the mtls-auth at p.yaml:6 does not let the request pass, since a \
             plugin beside it enforces and needs an authenticated client: acl at p.yaml:9",
            Some("set 'enforce: report' there too, if such requests are to pass")
        )
    );
    let leaf = issue("leaf", Some(&root), false, 60, &[]);
    let explanation = explain(&engine, Some(&certificate(&leaf.x509, &[])));
    assert_eq!(explanation.status, 403);
    assert!(explanation.steps.iter().all(|step| step.step != "report"));
}

#[test]
fn explain_a_client_that_passes() {
    let root = issue("Root", None, true, 60, &[]);
    let (intermediate, leaf) = below(&root);
    let engine = engine(&route(", send_ca_dn: true"), &[(ROOT, &root.x509)]);
    let client = certificate(&leaf.x509, &[&intermediate.x509]);
    let explanation = explain(&engine, Some(&client));
    let steps: Vec<_> = explanation
        .steps
        .iter()
        .map(|step| (step.step, step.ok, step.detail.as_str()))
        .collect();
    let until = crate::certificate::time::rfc3339(NOW + 60, "Z");
    assert_eq!(
        steps,
        [
            (
                "certificate request",
                Some(true),
                "a certificate is requested under the server name 'a.test' by mtls-auth at \
                 p.yaml:6 (route 'r'); 1 CA name is sent, 37 bytes"
            ),
            (
                "session binding",
                Some(true),
                "the Host 'a.test' is the server name of the handshake"
            ),
            (
                "certificate",
                Some(true),
                "the client presents 'CN=leaf,O=Example' with 1 more certificate"
            ),
            (
                "chain",
                Some(true),
                &*format!(
                    "'CN=leaf,O=Example' <- 'CN=Sub,O=Example' (sent by the client) <- \
                     'CN=Root,O=Example' (ca_certificates {ROOT} at p.yaml:10); valid until {until}"
                )
            ),
            (
                "revocation",
                Some(true),
                "no status is known, which counts as good"
            ),
            (
                "consumer",
                Some(true),
                "not looked up (skip_consumer_lookup)"
            ),
        ]
    );
    let plugin = DecidedBy {
        plugin: "mtls-auth",
        rule: None,
        at: Some(SourceLine {
            file: "p.yaml".into(),
            line: 6,
        }),
    };
    assert_eq!(
        (explanation.allowed, explanation.status, explanation.rule),
        (true, 200, Some(plugin))
    );
    assert_eq!(explanation.verdict, "SUCCESS");
    let headers: Vec<_> = explanation
        .headers
        .iter()
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(headers, ["X-Client-Cert-Dn"]);
}

#[test]
fn explain_what_would_repair_a_chain() {
    let root = issue("Root", None, true, 60, &[]);
    let other = issue("Other", None, true, 60, &[]);
    let (intermediate, leaf) = below(&root);
    let of_other = issue("leaf", Some(&other), false, 60, &[]);
    let expired = testing::reissue(&intermediate, &root, NOW - 200, NOW - 100);
    let server = Usage {
        extended: Some("serverAuth"),
        key: None,
    };
    let server = testing::issue_with_usage("server", &root, false, server);
    let late = issue("late", Some(&root), false, -5, &[]);
    let fresh = issue("fresh", Some(&root), false, 60, &[]);
    let unsigned = issued_by_impostor();
    let plugin = "mtls-auth at p.yaml:6";
    for (cas, config, leaf, sent, detail, remedy) in [
        (
            &[(ROOT, &root.x509)][..],
            "",
            &leaf.x509,
            &[][..],
            "FAILED:unable to get local issuer certificate at depth 0: the certificate of \
             'CN=Sub,O=Example', which issued 'CN=leaf,O=Example', is neither sent by the client \
             nor in the policy"
                .to_owned(),
            format!(
                "if 'CN=Sub,O=Example' is an intermediate, the client must send its certificate; \
                 if it is a root, add that to ca_certificates and its id to the {plugin}"
            ),
        ),
        (
            &[(ROOT, &root.x509), (OTHER, &intermediate.x509)],
            "",
            &leaf.x509,
            &[],
            "FAILED:unable to get local issuer certificate at depth 0: the client did not send the \
             intermediate 'CN=Sub,O=Example'"
                .to_owned(),
            format!(
                "append the certificate of 'CN=Sub,O=Example' to the client's certificate file, so \
                 that it is sent (it is ca_certificates {OTHER} at p.yaml:11, but only to compare: \
                 what a client leaves out is not added)"
            ),
        ),
        (
            &[(ROOT, &root.x509), (OTHER, &other.x509)],
            "",
            &of_other.x509,
            &[],
            "FAILED:unable to get local issuer certificate at depth 0: its CA 'CN=Other,O=Example' \
             is none that this route trusts"
                .to_owned(),
            format!(
                "add 'CN=Other,O=Example' (ca_certificates {OTHER} at p.yaml:11) to the CAs of the \
                 {plugin}, if all its clients are to be let in"
            ),
        ),
        (
            &[(ROOT, &root.x509)],
            "",
            &of_other.x509,
            &[&other.x509],
            "FAILED:self-signed certificate in certificate chain at depth 1: the path ends at \
             'CN=Other,O=Example', a CA that is not in the policy"
                .to_owned(),
            format!(
                "add the certificate of 'CN=Other,O=Example' to ca_certificates and its id to the \
                 {plugin}, if all its clients are to be let in"
            ),
        ),
        (
            &[(ROOT, &root.x509)],
            "",
            &leaf.x509,
            &[&expired],
            format!(
                "FAILED:certificate has expired at depth 1: 'CN=Sub,O=Example' expired at {}, less \
                 than a day ago",
                crate::certificate::time::rfc3339(NOW - 100, "Z")
            ),
            "the client must send the renewed certificate of 'CN=Sub,O=Example', if there is one, \
             else its CA must issue a new chain"
                .to_owned(),
        ),
        (
            &[(ROOT, &root.x509)],
            "",
            &late.x509,
            &[],
            format!(
                "FAILED:certificate has expired at depth 0: 'CN=late,O=Example' expired at {}, less \
                 than a day ago",
                crate::certificate::time::rfc3339(NOW - 5, "Z")
            ),
            "the client needs a new certificate".to_owned(),
        ),
        (
            &[(ROOT, &root.x509)],
            "",
            &server.x509,
            &[],
            "FAILED:unsuitable certificate purpose at depth 0: 'CN=server': its extendedKeyUsage \
             has serverAuth and no clientAuth"
                .to_owned(),
            format!(
                "issue the certificate anew with the extendedKeyUsage clientAuth, or, with consumers \
                 or rules that limit its clients, set \
                 'client_auth_eku: allow_server_auth' in the {plugin}"
            ),
        ),
        (
            &[(ROOT, &intermediate.x509)],
            "",
            &leaf.x509,
            &[],
            "FAILED:unable to get issuer certificate at depth 1: 'CN=Sub,O=Example' is trusted, but \
             is not self-signed"
                .to_owned(),
            format!(
                "set 'allow_partial_chain: true' in the {plugin}, or add the root \
                 'CN=Root,O=Example' to its ca_certificates"
            ),
        ),
        (
            &[(ROOT, &root.x509)],
            ", verify_depth: 0",
            &leaf.x509,
            &[&intermediate.x509],
            "FAILED:certificate chain too long at depth 1: more than 0 intermediates".to_owned(),
            format!("set 'verify_depth: 1' in the {plugin}"),
        ),
        (
            &[(ROOT, &root.x509)],
            ", auth_level: 4",
            &fresh.x509,
            &[],
            "FAILED:EE certificate key too weak at depth 0: 'CN=fresh,O=Example' does not meet \
             auth_level 4"
                .to_owned(),
            format!(
                "issue it anew with a stronger key and signature, or lower 'auth_level' to 3 in the \
                 {plugin}, which weakens it for all clients"
            ),
        ),
        (
            &[(ROOT, &root.x509)],
            "",
            &unsigned,
            &[],
            "FAILED:certificate signature failure at depth 0: the signature of 'CN=mine' is not \
             that of 'CN=Root,O=Example'"
                .to_owned(),
            "compare with the certificate of 'CN=Root,O=Example' that issued it: the CA may have a \
             new key"
                .to_owned(),
        ),
    ] {
        let engine = engine(&route(config), cas);
        let sent: Vec<&X509> = sent.iter().map(|sent| &**sent).collect();
        let explanation = explain(&engine, Some(&certificate(leaf, &sent)));
        assert_eq!(failure(&explanation), (&*detail, &*remedy));
        assert_eq!(
            (explanation.status, explanation.decision),
            (401, "refused")
        );
    }
}

/// A certificate that a CA with the name of the root has signed with another key.
fn issued_by_impostor() -> X509 {
    let impostor = issue("Root", None, true, 60, &[]);
    let mut name = openssl::x509::X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, "mine").unwrap();
    testing::issue_with_subject(&impostor, &name.build(), None)
}

#[test]
fn explain_names_the_rule_that_decides() {
    let root = issue("Root", None, true, 60, &[]);
    let rules =
        "  - name: client-cert-acl\n    config:\n      allow:\n      - name: ours\n        \
                 subject.O: Example\n      deny:\n      - subject.CN: bad\n      - subject.CN: \
                 worse\n";
    let engine = engine(&(route("") + rules), &[(ROOT, &root.x509)]);
    for (cn, status, rule, line) in [
        ("good", 200, "ours", 12),
        ("bad", 403, "deny[0]", 15),
        ("worse", 403, "deny[1]", 16),
    ] {
        let leaf = issue(cn, Some(&root), false, 60, &[]);
        let explanation = explain(&engine, Some(&certificate(&leaf.x509, &[])));
        let decided = explanation.rule.clone().unwrap();
        let at = decided.at.map(|at| at.line);
        assert_eq!(
            (explanation.status, decided.rule.as_deref(), at),
            (status, Some(rule), Some(line)),
            "{cn}"
        );
    }
}

#[test]
fn explain_without_a_certificate_and_under_other_names() {
    let root = issue("Root", None, true, 60, &[]);
    let leaf = issue("leaf", Some(&root), false, 60, &[]);
    let client = certificate(&leaf.x509, &[]);
    let engine = engine(&route(""), &[(ROOT, &root.x509)]);
    let explanation = explain(&engine, None);
    assert_eq!(
        failure(&explanation),
        (
            "the client presents none",
            "the client needs a certificate of a CA that the route trusts"
        )
    );
    let probe = |server_name, host| Probe {
        route: Some("r"),
        server_name,
        host,
        certificate: Some(&client),
        now: NOW,
        ..Probe::default()
    };
    for (server_name, host, status) in [
        (Some(&b"A.Test."[..]), &b"a.test"[..], 200),
        (Some(b"a.test"), b"b.test", 421),
        (Some(b"b.test"), b"a.test", 421),
        (Some(b"b.test"), b"b.test", 401),
        (None, b"a.test", 421),
        (None, b"", 401),
    ] {
        let explanation = engine.explain(&probe(server_name, host)).unwrap();
        assert_eq!(explanation.status, status, "{server_name:?} {host:?}");
        let failed = explanation.steps.iter().any(|step| step.ok == Some(false));
        assert_eq!(failed, status != 200, "{:#?}", explanation.steps);
    }
    let unknown = Probe {
        route: Some("s"),
        ..Probe::default()
    };
    assert_eq!(
        engine.explain(&unknown).unwrap_err().to_string(),
        "no route 's' in the policy, did you mean 'r'?"
    );
    let unknown = Probe {
        route: Some("payments"),
        ..Probe::default()
    };
    assert_eq!(
        engine.explain(&unknown).unwrap_err().to_string(),
        "no route 'payments' in the policy, expected 'r'"
    );
    let long = vec![b'a'; 256];
    let error = engine.explain(&probe(Some(&long), b"a")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected a server name of 1 to 255 bytes"
    );
}

#[test]
fn explain_a_revoked_client_and_sources_that_are_not_asked() {
    let root = issue("Root", None, true, 60, &[]);
    let leaf = issue("leaf", Some(&root), false, 60, &[]);
    let client = certificate(&leaf.x509, &[]);
    for (mode, status) in [("IGNORE_CA_ERROR", 200), ("STRICT", 401), ("SKIP", 200)] {
        let config = format!(", revocation_check_mode: {mode}");
        let engine = engine(&route(&config), &[(ROOT, &root.x509)]);
        let explanation = explain(&engine, Some(&client));
        assert_eq!(explanation.status, status, "{mode}");
    }
}

#[test]
fn explain_an_expired_crl() {
    let ca = TestCa::new();
    let client = certificate(&ca.issue("leaf", "extendedKeyUsage=clientAuth").x509, &[]);
    let name = format!("resty-mtls-explain-{}.crl", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, ca.crl("", &["-crlhours", "1"])).unwrap();
    let file = path.to_str().unwrap();
    let step = |mode: &str, after: i64| {
        let config = format!(", crls: ['{file}'], revocation_check_mode: {mode}");
        let engine = engine(&route(&config), &[(ROOT, &ca.x509)]);
        let probe = Probe {
            route: Some("r"),
            server_name: Some(b"a.test"),
            host: b"a.test",
            certificate: Some(&client),
            now: now() + after,
            ..Probe::default()
        };
        let explanation = engine.explain(&probe).unwrap();
        let mut steps = explanation.steps.into_iter();
        steps.find(|step| step.step == "revocation").unwrap()
    };
    let good = step("STRICT", 60);
    assert_eq!(
        (good.ok, &*good.detail),
        (Some(true), "good by the local CRLs of the policy")
    );
    let issuer = chain::issuer(client.leaf());
    for (mode, ok, before, remedy) in [
        (
            "STRICT",
            false,
            "no status is known, and revocation_check_mode is STRICT",
            Some(format!(
                "'{file}' must have a CRL of {issuer} that is in force, or a source that answers \
                 is needed"
            )),
        ),
        (
            "IGNORE_CA_ERROR",
            true,
            "no status is known, which counts as good",
            None,
        ),
    ] {
        let step = step(mode, 7_200);
        let before = format!("{before}; the CRL of {issuer} has expired: '{file}' (");
        let date = step.detail.strip_prefix(&before);
        let date = date.unwrap_or_else(|| panic!("{}", step.detail));
        assert!(date.ends_with("Z, less than a day ago)"), "{date}");
        assert_eq!((step.ok, step.remedy), (Some(ok), remedy));
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn explain_by_what_the_sources_answer() {
    let ca = TestCa::new();
    let urls = "extendedKeyUsage=clientAuth\n\
                crlDistributionPoints=URI:http://crl.test/1,URI:http://crl.test/2";
    let client = certificate(&ca.issue("leaf", urls).x509, &[]);
    let good = ca.crl("", &[]);
    ca.add_to_database(&client.leaf().to_owned(), 'R', "260102030405Z");
    let revoked = ca.crl("", &[]);
    let now = now() + 1;
    for (mode, bytes, ok, status, last) in [
        (
            "STRICT",
            &good,
            Some(true),
            200,
            "good by CRL 'http://crl.test/2'",
        ),
        (
            "STRICT",
            &revoked,
            Some(false),
            401,
            "revoked by CRL 'http://crl.test/2'",
        ),
        (
            "IGNORE_CA_ERROR",
            &revoked,
            Some(false),
            401,
            "revoked by CRL 'http://crl.test/2'",
        ),
        (
            "STRICT",
            &b"no CRL".to_vec(),
            None,
            401,
            "no source has a status, and revocation_check_mode is STRICT",
        ),
        (
            "IGNORE_CA_ERROR",
            &b"no CRL".to_vec(),
            None,
            200,
            "no source has a status, which counts as good",
        ),
    ] {
        let config = format!(", revocation_check_mode: {mode}, http_timeout: 700");
        let engine = engine(&route(&config), &[(ROOT, &ca.x509)]);
        let fetch = |source: &RevocationSource, settings: &FetchSettings| {
            assert_eq!((settings.http_timeout, settings.of_policy), (700, false));
            match source {
                RevocationSource::Crl { url } if url.ends_with('1') => Err("down".to_owned()),
                _ => Ok(bytes.clone()),
            }
        };
        let probe = Probe {
            route: Some("r"),
            server_name: Some(b"a.test"),
            host: b"a.test",
            certificate: Some(&client),
            now,
            fetch: Some(&fetch),
            ..Probe::default()
        };
        let explanation = engine.explain(&probe).unwrap();
        assert_eq!(explanation.status, status, "{mode} {last}");
        let steps = explanation.steps.iter();
        let steps: Vec<_> = steps
            .filter(|step| step.step.starts_with("revocation"))
            .map(|step| (step.ok, &*step.detail))
            .collect();
        let [down, answer, found] = steps[..] else {
            panic!("{steps:#?}");
        };
        assert_eq!(down, (None, "CRL 'http://crl.test/1': no status: down"));
        assert_eq!(answer.0, ok);
        assert_eq!(found, (Some(status == 200), last));
    }
}

#[test]
fn explain_an_acl_that_follows_the_token() {
    let policy = |group: &str| {
        format!(
            "routes:\n- name: r\n  plugins:\n  - name: openid-connect\n    config: {{issuer: \
             'https://idp.test', auth_methods: [bearer], audience_required: [a], \
             hide_credentials: true, consumer_claims: [sub], anonymous: guest}}\n  - name: acl\n    \
             config: {{allow: [{group}]}}\nconsumers: [{{username: guest, acls: [{{group: \
             guests}}]}}]\n"
        )
    };
    let root = issue("Root", None, true, 60, &[]);
    let explanation = |group: &str| {
        let engine = engine(&policy(group), &[(ROOT, &root.x509)]);
        explain(&engine, None)
    };
    let allowed = explanation("guests");
    let steps = allowed.steps.iter().rev().take(2);
    let steps: Vec<_> = steps.map(|step| (step.step, &*step.detail)).collect();
    assert_eq!(
        steps,
        [
            ("acl", "groups of the client: 'guests'; acl at p.yaml:7"),
            (
                "token",
                "none that is valid: the anonymous consumer 'guest'"
            ),
        ]
    );
    assert!(allowed.allowed && allowed.anonymous && allowed.reason.is_none());
    assert!(allowed
        .headers
        .contains(&("X-Anonymous-Consumer".into(), "true".to_owned())));
    let refused = explanation("staff");
    assert_eq!((refused.status, refused.decision), (403, "forbidden"));
    assert_eq!(
        failure(&refused),
        (
            "groups of the client: 'guests', none of which is allowed",
            "put the client into one of the groups that the acl at p.yaml:7 allows: 'staff'"
        )
    );
    assert!(refused.headers.is_empty());
}

#[test]
fn explain_has_a_step_for_blocks_that_are_given() {
    let root = issue("Root", None, true, 60, &[]);
    let leaf = issue("leaf", Some(&root), false, 60, &[]);
    let client = certificate(&leaf.x509, &[]);
    let engine = engine(&route(""), &[(ROOT, &root.x509)]);
    let step = |engine: &Engine| {
        let found = explain(engine, Some(&client));
        let mut steps = found.steps.iter();
        let step = steps.find(|step| step.step == "blocks").cloned();
        (found.status, step.map(|step| (step.ok, step.detail)))
    };
    assert_eq!(step(&engine), (200, None));
    engine.join(std::sync::Arc::new(crate::engine::Node::new().unwrap()));
    let passed = "none of the given blocks names it".to_owned();
    assert_eq!(step(&engine), (200, Some((Some(true), passed))));
    let selector = format!("sha256 {}", client.fingerprint_sha256());
    engine
        .block(&selector, "lost", NOW, crate::engine::NO_END, NOW)
        .unwrap();
    let blocked = format!("blocked by {selector} (lost)");
    assert_eq!(step(&engine), (401, Some((Some(false), blocked))));
}

#[test]
fn explain_names_the_condition_of_each_allow_rule_that_fails() {
    let root = issue("Root", None, true, 60, &[]);
    let leaf = issue("leaf", Some(&root), false, 60, &["a.test"]);
    let client = certificate(&leaf.x509, &[]);
    let rules = |rules: &str| {
        let text = route("") + "  - name: client-cert-acl\n    config:\n" + rules;
        let explanation = explain(&engine(&text, &[(ROOT, &root.x509)]), Some(&client));
        assert_eq!(explanation.status, 403);
        let (detail, remedy) = failure(&explanation);
        (detail.to_owned(), remedy.to_owned())
    };
    let compare = "compare the certificate with the rules: client-cert-acl at p.yaml:9".to_owned();
    assert_eq!(
        rules(
            "      allow:\n      - {name: pay, subject.O: Example, subject.CN: [a, b]}\n      - \
             {subject.OU: Payments}\n"
        ),
        (
            "no allow rule holds: rule 'pay' (p.yaml:12): subject.CN is 'leaf', expected 'a' or \
             'b'; rule 'allow[1]' (p.yaml:13): the certificate has no subject.OU, expected \
             'Payments'"
                .to_owned(),
            compare.clone()
        )
    );
    let many = "{san.dns: b.test}, ".repeat(12);
    let (detail, _) = rules(&format!("      allow: [{many}]\n"));
    assert!(detail.starts_with(
        "no allow rule holds: rule 'allow[0]' (p.yaml:11): san.dns is 'a.test', expected 'b.test'; "
    ));
    assert!(detail.ends_with(
        "; rule 'allow[9]' (p.yaml:11): san.dns is 'a.test', expected 'b.test'; and 2 more"
    ));
    let (detail, remedy) = rules("      deny: [{name: out, subject.CN: leaf}]\n");
    assert_eq!(detail, "deny rule 'out' holds");
    assert_eq!(
        remedy,
        "compare the certificate with the rules: rule 'out' at p.yaml:11"
    );
}

#[test]
fn explain_an_acl_without_the_log_line() {
    let root = issue("Root", None, true, 60, &[]);
    let leaf = issue("leaf", Some(&root), false, 60, &[]);
    let client = certificate(&leaf.x509, &[]);
    let detail = |by: &str, acl: &str| {
        let text = route(by) + &format!("  - {{name: acl, config: {{{acl}}}}}\n");
        let explanation = explain(&engine(&text, &[(ROOT, &root.x509)]), Some(&client));
        assert_eq!(explanation.status, 403);
        failure(&explanation).0.to_owned()
    };
    let by_cn = ", authenticated_group_by: CN";
    for (by, acl, expected) in [
        (
            by_cn,
            "allow: [x]",
            "groups of the client: 'leaf', none of which is allowed",
        ),
        (
            by_cn,
            "deny: [leaf]",
            "groups of the client: 'leaf', one of which is denied",
        ),
        (
            by_cn,
            "deny: [LEAF]",
            "groups of the client: 'leaf'; the subject may be read as a denied group",
        ),
        (
            ", authenticated_group_by: null",
            "allow: [x]",
            "the client has no group",
        ),
    ] {
        assert_eq!(detail(by, acl), expected, "{acl}");
    }
}
