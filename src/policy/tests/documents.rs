//! Forms of a document, its digest, and files.

use std::fs::File;
use std::io::Write;

use super::*;

#[test]
fn from_yaml_nested_and_flat_forms_are_one_policy() {
    let cas = with_cas("");
    let nested = format!(
        "{cas}services:\n\
         - name: api\n\
         \x20 routes:\n\
         \x20 - name: payments\n\
         \x20   snis: [pay.example.com]\n\
         \x20   plugins:\n\
         \x20   - name: mtls-auth\n\
         \x20     config: {{ca_certificates: [{ID_A}], send_ca_dn: true}}\n\
         \x20 plugins:\n\
         \x20 - {{name: tls-metadata-headers, config: {{inject_client_cert_details: true}}}}\n"
    );
    let flat = format!(
        "{cas}plugins:\n\
         - {{name: tls-metadata-headers, service: api, config: {{inject_client_cert_details: yes}}}}\n\
         - name: mtls-auth\n\
         \x20 route: {{name: payments}}\n\
         \x20 config: {{send_ca_dn: true, ca_certificates: [{}]}}\n\
         routes:\n\
         - {{service: {{id: {ID_B}}}, name: payments, snis: [PAY.example.com.]}}\n\
         services:\n\
         - {{id: {}, name: api}}\n",
        ID_A.to_uppercase(),
        ID_B.to_uppercase(),
    );
    let (nested, flat) = (policy(&nested), policy(&flat));
    assert_eq!(nested.digest, flat.digest);
    for policy in [&nested, &flat] {
        assert_eq!(warnings(policy), [""; 0]);
        assert_eq!(ca_names_len(policy, "pay.example.com"), Some(1));
        assert_eq!(ca_names_len(policy, "other.example.com"), None);
        assert_eq!(ca_names_len(policy, "-"), None);
        let payments = plan(policy, "payments");
        assert!(payments.has_plugins);
        assert!(payments.auth.as_ref().unwrap().lookup.is_some());
        assert_eq!(
            header_names(payments),
            [
                "X-Client-Cert",
                "X-Client-Cert-Serial",
                "X-Client-Cert-Issuer-DN",
                "X-Client-Cert-Subject-DN",
                "X-Client-Cert-Fingerprint",
                "X-Client-Cert-Chain"
            ]
        );
        assert!(!policy.plans[policy.plan(None).unwrap()].has_plugins);
        assert_eq!(policy.plan(Some("nosuch")), None);
    }
}

#[test]
fn from_yaml_json_is_read_too() {
    let pem = ca_pem("CA A");
    let yaml = format!(
        "_format_version: '3.0'\nca_certificates:\n- id: {ID_A}\n  cert: |\n    {}\n\
         routes:\n- name: r\n  snis: [a.test]\n  plugins:\n  - name: mtls-auth\n    config:\n      \
         ca_certificates: [{ID_A}]\n",
        pem.trim().replace('\n', "\n    ")
    );
    let json = format!(
        "{{\n\t\"_format_version\": \"3.0\",\n\t\"ca_certificates\": [{{\"id\": \"{ID_A}\", \
         \"cert\": {pem:?}}}],\n\t\"services\": {{}},\n\t\"routes\": [{{\"name\": \"r\", \"snis\": \
         [\"a.test\"], \"hosts\": {{}}, \"plugins\": [{{\"name\": \"mtls-auth\", \"config\": \
         {{\"ca_certificates\": [\"{ID_A}\"], \"anonymous\": null}}}}]}}]\n}}\n"
    );
    assert_eq!(policy(&yaml).digest, policy(&json).digest);
}

#[test]
fn from_yaml_content_decides_the_digest() {
    let cas = with_cas("");
    let with = |config: &str| {
        let text = format!(
            "{cas}routes: [{{name: r, snis: [a.test]}}]\nplugins:\n- {{name: mtls-auth, route: r, \
             config: {{ca_certificates: [{ID_A}]{config}}}}}\n"
        );
        policy(&text).digest
    };
    let plain = with("");
    assert_eq!(
        plain,
        with(", send_ca_dn: false, auth_level: 2, verify_depth: 10")
    );
    for other in [
        ", send_ca_dn: true",
        ", allow_partial_chain: true",
        ", skip_consumer_lookup: true",
        ", verify_depth: 1",
        ", auth_level: 1",
    ] {
        assert_ne!(plain, with(other), "{other}");
    }
}

#[test]
fn from_yaml_most_specific_plugin_wins() {
    let mtls = |rest: &str, ca: &str, depth: u32| {
        format!(
            "- {{name: mtls-auth{rest}, config: {{ca_certificates: [{ca}], verify_depth: {depth}}}}}\n"
        )
    };
    let text = with_cas(&format!(
        "services: [{{name: s}}, {{name: t}}]\n\
         routes:\n\
         - {{name: both, service: s, snis: [both.test]}}\n\
         - {{name: route, service: s, snis: [route.test]}}\n\
         - {{name: service, service: s, snis: [service.test]}}\n\
         - {{name: global, service: t, snis: [global.test]}}\n\
         - {{name: alone, snis: [alone.test]}}\n\
         plugins:\n{}{}{}{}{}",
        mtls("", ID_A, 1),
        mtls(", service: s", ID_A, 2),
        mtls(", route: route", ID_A, 3),
        mtls(", route: both", ID_A, 4),
        mtls(", route: both, service: s", ID_A, 5),
    ));
    let policy = policy(&text);
    let global = &policy.plans[0];
    let store = |route| *plan(&policy, route).auth.as_ref().unwrap().store.digest();
    let all = [
        store("both"),
        store("route"),
        store("service"),
        store("global"),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), 4);
    assert!(same_store(global, plan(&policy, "global")));
    assert!(same_store(global, plan(&policy, "alone")));
    // The one at route and service is neither of the others.
    let other = text.replace("verify_depth: 5", "verify_depth: 4");
    assert_ne!(policy.digest, self::policy(&other).digest);
}

#[test]
fn from_yaml_disabled_plugin_is_as_absent() {
    let text = with_cas(&format!(
        "routes: [{{name: r, snis: [a.test]}}]\n\
         plugins:\n\
         - {{name: mtls-auth, enabled: false, route: r, config: {{ca_certificates: [{ID_A}]}}}}\n\
         - {{name: openid-connect, enabled: no, config: {{issuer: 'https://a.test', auth_methods: [bearer]}}}}\n\
         - {{name: tls-metadata-headers, config: {{inject_client_cert_details: true}}}}\n\
         - {{name: mtls-auth, config: {{ca_certificates: [{ID_A}]}}}}\n"
    ));
    let policy = policy(&text);
    assert!(same_store(plan(&policy, "r"), &policy.plans[0]));
}

#[test]
fn plan_route_is_found_by_name_or_id() {
    let text = format!(
        "_format_version: \"2.1\"\nroutes:\n\
         - {{id: {ID_A}, name: r, plugins: [{{name: tls-handshake-modifier}}]}}\n\
         - {{id: {ID_B}, plugins: [{{name: tls-metadata-headers, config: {{inject_client_cert_details: true}}}}]}}\n- {{}}\n"
    );
    let policy = policy(&text);
    assert_eq!(policy.plan(None), Some(0));
    assert_eq!(policy.plan(Some("r")), Some(1));
    assert_eq!(policy.plan(Some(ID_A)), Some(1));
    assert_eq!(policy.plan(Some(ID_B)), Some(2));
    assert_eq!(policy.routes.routes().nth(1), Some(ID_B));
    assert_eq!(policy.plans.len(), 3);
}

#[test]
fn from_yaml_text_that_is_not_utf8_is_refused() {
    let refusal = |text: &[u8]| Policy::from_yaml(text, "p").err().unwrap()[0].to_string();
    assert_eq!(
        refusal(b"a: 1\nb\xc3\xa9: \xff\n"),
        "p:2:5: not UTF-8, expected YAML or JSON"
    );
    assert_eq!(
        refusal(b""),
        "p:1:1: the document is empty, expected a mapping with '_format_version'"
    );
}

#[test]
fn from_file_unreadable_file_is_refused() {
    let refusal = |path: &str| Policy::from_file(FilePath::new(path)).err().unwrap()[0].to_string();
    assert_eq!(
        refusal("/nonexistent/policy.yaml"),
        "/nonexistent/policy.yaml: cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(
        refusal("/proc/self/task"),
        "/proc/self/task: has no file of a policy, expected .yaml, .yml or .json"
    );
    assert_eq!(
        refusal("/dev/zero"),
        "/dev/zero: cannot be read: is not a regular file"
    );
    let long = std::env::temp_dir().join(format!("resty-mtls-long-{}", std::process::id()));
    let file = std::fs::File::create(&long).unwrap();
    file.set_len((32 << 20) + 1).unwrap();
    let text = refusal(long.to_str().unwrap());
    std::fs::remove_file(&long).unwrap();
    assert!(
        text.ends_with(": over 32 MB, the limit for a policy"),
        "{text}"
    );
}

#[test]
fn from_file_diagnostics_name_the_file() {
    let path = std::env::temp_dir().join(format!("resty-mtls-policy-{}.yaml", std::process::id()));
    let mut file = File::create(&path).unwrap();
    file.write_all(b"_format_version: '3.0'\nroute: []\n")
        .unwrap();
    let found = Policy::from_file(&path).err().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        found[0].to_string(),
        format!(
            "{}:2:1: unknown field 'route', did you mean 'routes'?",
            path.display()
        )
    );
}
