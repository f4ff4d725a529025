//! Whole documents: what they compile to, and what is said about bad ones.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509Builder, X509NameBuilder};

mod identity;
mod tokens;

use super::*;
use crate::handshake::CA_NAMES_BUDGET;
use crate::Error;

/// Another thread compiles and frees policies.
const fn crosses_threads<T: Send + Sync>() {}
const _: () = crosses_threads::<Policy>();

const ID_A: &str = "11111111-1111-4111-8111-111111111111";
const ID_B: &str = "22222222-2222-4222-8222-222222222222";

const EXPECTED_PEM: &str =
    "expected 'cert: |' and below it, indented, the lines from '-----BEGIN CERTIFICATE-----' to \
     '-----END CERTIFICATE-----'";

/// A self-signed certificate, valid from and until so many days from now.
fn pem(cn: &str, ca: bool, from: i64, until: i64) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let day = |days: i64| Asn1Time::from_unix(now.as_secs() as i64 + days * 86_400).unwrap();
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", cn).unwrap();
    let name = name.build();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder
        .set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_not_before(&day(from)).unwrap();
    builder.set_not_after(&day(until)).unwrap();
    builder.set_pubkey(&key).unwrap();
    if ca {
        builder
            .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
            .unwrap();
    }
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
}

fn ca_pem(cn: &str) -> String {
    pem(cn, true, -1, 30)
}

/// An entry of `ca_certificates` in flow style, so that it takes one line of the document.
fn ca_entry(id: &str, pem: &str) -> String {
    format!("- {{id: {id}, cert: {pem:?}}}\n")
}

/// A document with two CAs in lines 1 to 4, then `rest` from line 5, then a consumer if `rest` has
/// none.
fn with_cas(rest: &str) -> String {
    let a = ca_entry(ID_A, &ca_pem("CA A"));
    let b = ca_entry(ID_B, &ca_pem("CA B"));
    let consumers = if rest.contains("consumers:") {
        ""
    } else {
        "\nconsumers: [{username: ann}]\n"
    };
    format!("_format_version: \"3.0\"\nca_certificates:\n{a}{b}{rest}{consumers}")
}

fn policy(text: &str) -> Policy {
    Policy::from_yaml(text.as_bytes(), "p").unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn errors(text: &str) -> Vec<String> {
    match Policy::from_yaml(text.as_bytes(), "p") {
        Ok(_) => panic!("no error: {text}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn warnings(policy: &Policy) -> Vec<String> {
    policy.warnings.iter().map(ToString::to_string).collect()
}

/// `(name, number of CA names sent)`; `-` for no name, `None` for a name that does not ask.
fn asked(policy: &Policy, name: &str) -> Option<usize> {
    let name = Some(name).filter(|name| *name != "-").map(str::as_bytes);
    policy
        .certificate_request(name)
        .map(|ask| ask.ca_names_len())
}

fn plan<'p>(policy: &'p Policy, route: &str) -> &'p Plan {
    &policy.plans[policy.plan(Some(route)).unwrap()]
}

fn header_names(plan: &Plan) -> Vec<&str> {
    let told = plan
        .upstream_headers
        .kong
        .iter()
        .chain(&plan.upstream_headers.dialects);
    told.flat_map(|selection| selection.header_names())
        .collect()
}

fn same_store(a: &Plan, b: &Plan) -> bool {
    let digest = |plan: &Plan| *plan.auth.as_ref().unwrap().store.digest();
    digest(a) == digest(b)
}

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
        assert_eq!(asked(policy, "pay.example.com"), Some(1));
        assert_eq!(asked(policy, "other.example.com"), None);
        assert_eq!(asked(policy, "-"), None);
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
fn ask_scopes_follow_the_founding_rules() {
    let auth = format!("name: mtls-auth, config: {{ca_certificates: [{ID_A}], send_ca_dn: true}}");
    let one =
        "routes: [{name: r, service: s, snis: [r.test]}, {name: q, service: s, snis: [q.test]}]\n";
    let lacking = "routes: [{name: r, service: s, snis: [r.test]}, {name: q, service: s}]\n";
    let services = "services: [{name: s}]\n";
    // Plugin, routes, then who is asked under r.test, q.test, x.test and without a name.
    for (scope, routes, asks) in [
        ("", one, [Some(1); 4]),
        (", service: s", one, [Some(1), Some(1), None, None]),
        (", service: s", lacking, [Some(1); 4]),
        (", service: s", "", [Some(1); 4]),
        (", route: r", one, [Some(1), None, None, None]),
        (", route: q", lacking, [Some(1); 4]),
        (
            ", route: r, service: s",
            lacking,
            [Some(1), None, None, None],
        ),
    ] {
        let text = with_cas(&format!("{services}{routes}plugins: [{{{auth}{scope}}}]\n"));
        let policy = policy(&text);
        let found = ["r.test", "q.test", "x.test", "-"].map(|name| asked(&policy, name));
        assert_eq!(found, asks, "{scope} {routes}");
    }
}

#[test]
fn ask_service_plugin_that_no_route_uses_does_not_ask() {
    let auth = |ca: &str| format!("config: {{ca_certificates: [{ca}], send_ca_dn: true}}");
    let text = with_cas(&format!(
        "services: [{{name: s, routes: [{{name: r, snis: [r.test]}}]}}]\n\
         plugins:\n\
         - {{name: mtls-auth, service: s, {}}}\n\
         - {{name: mtls-auth, route: r, {}}}\n",
        auth(&format!("{ID_A}, {ID_B}")),
        auth(ID_B),
    ));
    assert_eq!(asked(&policy(&text), "r.test"), Some(1));
}

#[test]
fn ask_unites_what_can_be_reached_under_a_name() {
    let auth = |route: &str, ca: &str| {
        format!(
            "- {{name: mtls-auth, route: {route}, config: {{ca_certificates: [{ca}], \
             send_ca_dn: true}}}}\n"
        )
    };
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: exact, snis: [a.example.com]}}\n\
         - {{name: wildcard, snis: ['*.example.com']}}\n\
         - {{name: again, snis: [a.example.com, b.example.com, c.test]}}\n\
         plugins:\n{}{}{}",
        auth("exact", ID_A),
        auth("wildcard", ID_B),
        auth("again", ID_A),
    ));
    let policy = policy(&text);
    assert_eq!(asked(&policy, "a.example.com"), Some(2));
    assert_eq!(asked(&policy, "b.example.com"), Some(2));
    assert_eq!(asked(&policy, "x.example.com"), Some(1));
    assert_eq!(asked(&policy, "c.test"), Some(1));
    assert_eq!(asked(&policy, "x.a.example.com"), None);
    // Equal contributions share one ask: {A, B}, {B}, {A}.
    assert_eq!(policy.certificate_requests.len(), 3);
    let binding = |name: &str| {
        *policy
            .certificate_request(Some(name.as_bytes()))
            .unwrap()
            .session_id_context()
    };
    assert_eq!(binding("a.example.com"), binding("b.example.com"));
    assert_ne!(binding("a.example.com"), binding("c.test"));
}

#[test]
fn ask_resumption_is_part_of_the_binding() {
    let auth = |route: &str, option: &str| {
        format!(
            "- {{name: mtls-auth, route: {route}, config: {{ca_certificates: [{ID_A}]{option}}}}}\n"
        )
    };
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: may, snis: [a.test, d.test]}}\n\
         - {{name: never, snis: [b.test, d.test]}}\n\
         - {{name: default, snis: [c.test]}}\n\
         plugins:\n{}{}{}",
        auth("may", ", resumption: true"),
        auth("never", ", resumption: false"),
        auth("default", ""),
    ));
    let policy = policy(&text);
    let ask = |name: &str| policy.certificate_request(Some(name.as_bytes())).unwrap();
    assert!(ask("a.test").resumption() && ask("c.test").resumption());
    assert_eq!(
        ask("a.test").session_id_context(),
        ask("c.test").session_id_context()
    );
    // A name that reaches a route without resumption has none.
    for name in ["b.test", "d.test"] {
        assert!(!ask(name).resumption(), "{name}");
        assert!(
            !ask(name).matches_session(ask("a.test").session_id_context()),
            "{name}"
        );
    }
    assert_eq!(
        policy
            .plans
            .iter()
            .map(|plan| plan.auth.as_ref().map(|auth| auth.resumption))
            .collect::<Vec<_>>(),
        [None, Some(true), Some(false)]
    );
    let other = super::Policy::from_yaml(
        text.replace("resumption: false", "resumption: true")
            .as_bytes(),
        "p",
    );
    assert_ne!(other.map(|other| other.digest).ok(), Some(policy.digest));
}

#[test]
fn ask_ca_names_are_complete_or_empty() {
    let text = with_cas(&format!(
        "routes:\n\
         - name: r\n  snis: [a.test, b.test]\n  plugins:\n  - name: mtls-auth\n    \
         config: {{ca_certificates: [{ID_A}], send_ca_dn: true}}\n\
         - name: q\n  snis: [b.test]\n  plugins:\n  - name: mtls-auth\n    \
         config: {{ca_certificates: [{ID_B}]}}\n"
    ));
    let policy = policy(&text);
    assert_eq!(asked(&policy, "a.test"), Some(1));
    assert_eq!(asked(&policy, "b.test"), Some(0));
    assert_eq!(
        warnings(&policy),
        [
            "p:9:5: warning: routes[0].plugins[0].config.send_ca_dn: no CA names are sent for the \
          server name 'b.test': routes[1].plugins[0] asks under the same name and sends none"
        ]
    );
}

#[test]
fn ask_handshake_modifier_takes_any_certificate() {
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: r, snis: [a.test]}}\n\
         plugins:\n\
         - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}], send_ca_dn: true}}}}\n\
         - {{name: tls-handshake-modifier}}\n"
    ));
    let policy = policy(&text);
    for name in ["a.test", "x.test", "-"] {
        assert_eq!(asked(&policy, name), Some(0), "{name}");
    }
    assert!(policy.plans[0].has_plugins && policy.plans[0].auth.is_none());
    assert_eq!(
        warnings(&policy),
        ["p:8:3: warning: plugins[0].config.send_ca_dn: no CA names are sent for the server name \
          'a.test': plugins[1] asks under the same name and sends none"]
    );
}

#[test]
fn ask_ca_names_over_the_budget_are_not_sent() {
    let mut entries = String::new();
    let mut ids = Vec::new();
    // 300 names of 120 bytes are more than 32 KB.
    for i in 0..300 {
        let id = format!("11111111-1111-4111-8111-{i:012}");
        entries += &ca_entry(&id, &ca_pem(&format!("{}{i:04}", "x".repeat(60))));
        ids.push(id);
    }
    // A common name takes at most 64 characters: several attributes would hide the count.
    let text = format!(
        "_format_version: \"3.0\"\nca_certificates:\n{entries}plugins:\n- name: mtls-auth\n  \
         config: {{ca_certificates: [{}], send_ca_dn: true, skip_consumer_lookup: true}}\n",
        ids.join(", ")
    );
    let few = policy(&text);
    assert_eq!((asked(&few, "-"), warnings(&few).len()), (Some(300), 0));
    assert!(few.certificate_requests[0].ca_names_bytes() <= CA_NAMES_BUDGET);

    let mut more = String::new();
    for i in 300..500 {
        let id = format!("11111111-1111-4111-8111-{i:012}");
        more += &ca_entry(&id, &ca_pem(&format!("{}{i:04}", "x".repeat(60))));
        ids.push(id);
    }
    let text = format!(
        "_format_version: \"3.0\"\nca_certificates:\n{entries}{more}plugins:\n- name: mtls-auth\n  \
         config: {{ca_certificates: [{}], send_ca_dn: true, skip_consumer_lookup: true}}\n",
        ids.join(", ")
    );
    let many = policy(&text);
    assert_eq!(asked(&many, "-"), Some(0));
    let bytes = many.certificate_requests[0].ca_names_bytes();
    assert_eq!(
        warnings(&many),
        [format!(
            "p:504:3: warning: plugins[0].config.send_ca_dn: no CA names are sent for the server \
             name '*': {bytes} bytes of names are over the limit of 32768"
        )]
    );
}

#[test]
fn lines_follow_the_two_plugins() {
    let text = |meta: &str, skip: bool| {
        with_cas(&format!(
            "routes: [{{name: r, snis: [a.test]}}]\n\
             plugins:\n\
             - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}], \
             skip_consumer_lookup: {skip}}}}}\n\
             - {{name: tls-metadata-headers, config: {{{meta}}}}}\n"
        ))
    };
    let off = policy(&text("", false));
    assert_eq!(header_names(plan(&off, "r")), [""; 0]);
    assert!(off.plans[0].has_plugins);
    for name in [
        "X-Client-Cert-Chain",
        "x_client_cert",
        "X-Client-Cert-Dn",
        "X-CLIENT-CERT-SAN",
    ] {
        assert!(off.reserved_headers.contains(name.as_bytes()), "{name}");
    }
    assert!(!off.reserved_headers.contains(b"X-Other"));

    let skip = policy(&text("", true));
    assert_eq!(
        header_names(plan(&skip, "r")),
        ["X-Client-Cert-Dn", "X-Client-Cert-San"]
    );
    assert_eq!(header_names(&skip.plans[0]), [""; 0]);

    let renamed = policy(&text(
        "inject_client_cert_details: true, client_cert_header_name: X-Cert, \
         client_serial_header_name: null, client_cert_chain_header_name: null",
        true,
    ));
    assert_eq!(
        header_names(plan(&renamed, "r")),
        [
            "X-Client-Cert-Dn",
            "X-Client-Cert-San",
            "X-Cert",
            "X-Client-Cert-Serial",
            "X-Client-Cert-Issuer-DN",
            "X-Client-Cert-Subject-DN",
            "X-Client-Cert-Fingerprint"
        ]
    );
    assert!(renamed.reserved_headers.contains(b"x-cert"));
    // What reads the other names of the plugin falls back to those that are switched off.
    assert!(renamed.reserved_headers.contains(b"x-client-cert-chain"));
}

#[test]
fn owned_names_without_mtls_auth_are_the_headers_plugins_only() {
    let text = "_format_version: \"3.0\"\nplugins: [{name: tls-handshake-modifier}]\n";
    assert!(policy(text).reserved_headers.is_empty());
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
fn from_yaml_bad_ca_is_told_what_it_is() {
    let leaf = pem("leaf", false, -1, 30);
    let (a, b) = (ca_pem("CA A"), ca_pem("CA B"));
    let text = format!(
        "_format_version: \"3.0\"\nca_certificates:\n\
         - {{id: {ID_A}, cert: {leaf:?}}}\n\
         - {{id: {ID_B}, cert: {:?}}}\n\
         - {{id: 33333333-3333-4333-8333-333333333333, cert: /etc/ca.pem}}\n\
         - {{id: 44444444-4444-4444-8444-444444444444}}\n\
         - {{id: nonsense, cert: {a:?}}}\n\
         - {{cert: {a:?}, cert_digest: '00'}}\n\
         - {{id: {ID_A}, cert: {b:?}, crt: x}}\n",
        format!("{a}{b}"),
    );
    let digest = hex_digest(&a);
    assert_eq!(
        errors(&text),
        [
            format!(
                "p:3:52: ca_certificates[0].cert: {}",
                Error::NotCa("CN=leaf".to_owned())
            ),
            "p:4:52: ca_certificates[1].cert: 2 certificates found, expected exactly one; give \
             each CA an entry of its own"
                .to_owned(),
            format!(
                "p:5:52: ca_certificates[2].cert: '/etc/ca.pem' is the path of a file, which is \
                 not read, {EXPECTED_PEM}"
            ),
            "p:6:3: ca_certificates[3]: the required field 'cert' is missing".to_owned(),
            "p:7:8: ca_certificates[4].id: 'nonsense' is not a UUID, expected for example \
             '11111111-1111-4111-8111-111111111111'"
                .to_owned(),
            "p:8:10: ca_certificates[5].cert: is the same certificate as ca_certificates[4], \
             expected it once"
                .to_owned(),
            format!(
                "p:8:{}: ca_certificates[5].cert_digest: '00' is not the SHA-256 digest of \
                 'cert', expected '{digest}'",
                10 + format!("{a:?}").len() + ", cert_digest: ".len()
            ),
            "p:9:3: ca_certificates[6].id: the id '11111111-1111-4111-8111-111111111111' is \
             given twice, first at ca_certificates[0]"
                .to_owned(),
            format!(
                "p:9:{}: ca_certificates[6]: unknown field 'crt', did you mean 'cert'?",
                52 + format!("{b:?}").len() + ", ".len()
            ),
        ]
    );
}

fn hex_digest(pem: &str) -> String {
    let der = openssl::x509::X509::from_pem(pem.as_bytes())
        .unwrap()
        .to_der()
        .unwrap();
    crate::text::hex(&openssl::sha::sha256(&der))
}

#[test]
fn from_yaml_right_cert_digest_is_accepted_in_any_case() {
    let pem = ca_pem("CA A");
    let digest = hex_digest(&pem).to_uppercase();
    policy(&format!(
        "_format_version: \"3.0\"\nca_certificates:\n\
         - {{id: {ID_A}, cert: {pem:?}, cert_digest: '{digest}', tags: [x]}}\n"
    ));
}

#[test]
fn from_yaml_ca_outside_its_validity_is_a_warning() {
    let text = format!(
        "_format_version: \"3.0\"\nca_certificates:\n{}{}- {{cert: {:?}}}\n",
        ca_entry(ID_A, &pem("old", true, -3, -2)),
        ca_entry(ID_B, &pem("new", true, 2, 3)),
        ca_pem("nameless"),
    );
    let found = warnings(&policy(&text));
    assert_eq!(found.len(), 3);
    assert!(
        found[0]
            .starts_with("p:3:52: warning: ca_certificates[0].cert: the CA 'CN=old' expired on ")
            && found[0].ends_with(" GMT: it verifies no client"),
        "{}",
        found[0]
    );
    assert!(
        found[1].starts_with(
            "p:4:52: warning: ca_certificates[1].cert: the CA 'CN=new' is not valid before "
        ) && found[1].ends_with(" GMT: it verifies no client"),
        "{}",
        found[1]
    );
    assert_eq!(
        found[2],
        "p:5:3: warning: ca_certificates[2]: has no id, so no plugin can refer to it"
    );
}

#[test]
fn from_yaml_all_errors_are_collected_in_order() {
    let text = with_cas(
        "services:\n\
         - name: api\n\
         - name: api\n\
         routes:\n\
         - name: r\n  service: apii\n  snis: [ok.test, bad..test, 'example.*']\n\
         - name: r\n  snis: a.test\n  hsots: []\n\
         plugins:\n\
         - name: mtls-auth\n  route: q\n  config:\n    \
         ca_certificates: [11111111-1111-4111-8111-111111111112, nope]\n    \
         send_ca_dnn: true\n    verify_depth: 101\n    auth_level: '2'\n\
         - nmae: mtls-auth\n\
         - 7\n\
         pluginss: []\n",
    );
    assert_eq!(
        errors(&text),
        [
            "p:7:3: services[1].name: the name 'api' of a service is given twice, first at \
             services[0]",
            "p:10:12: routes[0].service: no service has the id or name 'apii', did you mean 'api'?",
            "p:11:19: routes[0].snis[1]: server name 'bad..test': has an empty label",
            "p:11:30: routes[0].snis[2]: server name 'example.*': a wildcard at the right end is \
             not supported, expected '*' as the left-most label or a full name",
            "p:12:3: routes[1].name: the name 'r' of a route is given twice, first at routes[0]",
            "p:13:9: routes[1].snis: 'a.test', expected a list",
            "p:14:3: routes[1]: unknown field 'hsots', did you mean 'hosts'?",
            "p:17:10: plugins[0].route: no route has the id or name 'q', did you mean 'r'?",
            "p:19:23: plugins[0].config.ca_certificates[0]: no entry of 'ca_certificates' has the \
             id '11111111-1111-4111-8111-111111111112', did you mean \
             '11111111-1111-4111-8111-111111111111'?",
            "p:19:61: plugins[0].config.ca_certificates[1]: 'nope' is not a UUID, expected the id \
             of an entry of 'ca_certificates'",
            "p:20:5: plugins[0].config: unknown field 'send_ca_dnn', did you mean 'send_ca_dn'?",
            "p:21:19: plugins[0].config.verify_depth: the number 101, expected an integer from 0 \
             to 100",
            "p:22:17: plugins[0].config.auth_level: '2', expected an integer from 0 to 5",
            "p:23:3: plugins[1]: unknown field 'nmae', did you mean 'name'?",
            "p:23:3: plugins[1]: the required field 'name' is missing",
            "p:24:3: plugins[2]: the number 7, expected a mapping",
            "p:25:1: unknown field 'pluginss', did you mean 'plugins'?",
        ]
    );
}

#[test]
fn from_yaml_wrong_types_are_told_apart() {
    for (text, error) in [
        ("[]", "p:1:1: a list, expected a mapping"),
        (
            "{}",
            "p:1:1: the required field '_format_version' is missing",
        ),
        ("text", "p:1:1: 'text', expected a mapping"),
        (
            "_format_version: 3.0",
            "p:1:18: _format_version: the number 3.0, expected text, in quotes",
        ),
        (
            "_format_version: '4.0'",
            "p:1:18: _format_version: '4.0' is not a known version, expected \"1.1\", \"2.1\" or \
             \"3.0\"",
        ),
        (
            "{_format_version: '3.0', routes: {name: r}}",
            "p:1:34: routes: a mapping, expected a list",
        ),
        (
            "{_format_version: '3.0', routes: [{name: no}]}",
            "p:1:42: routes[0].name: the boolean no, expected text, in quotes",
        ),
        (
            "{_format_version: '3.0', routes: [{name: ''}]}",
            "p:1:42: routes[0].name: '', expected a name",
        ),
        (
            "{_format_version: '3.0', routes: [{name: [r]}]}",
            "p:1:42: routes[0].name: a list, expected text",
        ),
        (
            "{_format_version: '3.0', routes: [{name: r, snis: [~]}]}",
            "p:1:52: routes[0].snis[0]: null, expected text",
        ),
        (
            "{_format_version: '3.0', plugins: [{name: tls-handshake-modifier, enabled: maybe}]}",
            "p:1:76: plugins[0].enabled: 'maybe', expected true or false",
        ),
        (
            "{_format_version: '3.0', plugins: [{name: tls-handshake-modifier, config: x}]}",
            "p:1:75: plugins[0].config: 'x', expected a mapping",
        ),
        (
            "{_format_version: '3.0', routes: [{name: r, service: {}}]}",
            "p:1:54: routes[0].service: a mapping, expected either 'id' or 'name'",
        ),
        (
            "{_format_version: '3.0', routes: [{name: '${{ env \"DECK_R\" }}'}]}",
            "p:1:43: environment variable 'DECK_R' present in the policy but not set",
        ),
    ] {
        let first = errors(text).remove(0);
        assert_eq!(first, error, "{text}");
    }
}

#[test]
fn from_yaml_references_that_cannot_be_followed_are_refused() {
    for (rest, error) in [
        (
            "services: [{name: s, routes: [{name: r, service: s}]}]",
            "p:5:50: services[0].routes[0].service: 's' inside the service it belongs to, expected \
             null or nothing",
        ),
        (
            "services: [{name: s, plugins: [{name: tls-handshake-modifier, service: {name: s}}]}]",
            "p:5:72: services[0].plugins[0].service: a mapping inside the service it belongs to, \
             expected null or nothing",
        ),
        (
            "routes: [{name: r, plugins: [{name: tls-handshake-modifier, route: r}]}]",
            "p:5:68: routes[0].plugins[0].route: 'r' inside the route it belongs to, expected \
             null or nothing",
        ),
        (
            "routes: [{name: r, service: {id: s}}]",
            "p:5:34: routes[0].service: no service has the id 's'",
        ),
        (
            "services: [{name: s}, {name: t}]\nroutes: [{name: r, service: s}]\nplugins:\n\
             - {name: tls-handshake-modifier, route: r, service: t}",
            "p:8:3: plugins[0].service: never applies: the route does not belong to the service, \
             expected one of its routes or no service",
        ),
        (
            "routes: [{name: r, plugins: [{name: tls-handshake-modifier}]}]\nplugins:\n\
             - {name: tls-handshake-modifier, route: r}",
            "p:7:3: plugins[0]: a second plugin 'tls-handshake-modifier' at the same scope, first \
             at routes[0].plugins[0]",
        ),
    ] {
        assert_eq!(errors(&with_cas(rest)), [error], "{rest}");
    }
}

#[test]
fn from_yaml_mtls_auth_without_cas_is_refused() {
    for (config, error) in [
        ("", "p:5:12: plugins[0].config: the required field 'ca_certificates' is missing"),
        (
            ", config: {ca_certificates: null}",
            "p:5:38: plugins[0].config: the required field 'ca_certificates' is missing",
        ),
        (
            ", config: {ca_certificates: []}",
            "p:5:56: plugins[0].config.ca_certificates: an empty list, expected the id of at least \
             one entry of 'ca_certificates'",
        ),
        (
            ", config: {ca_certificates: {}}",
            "p:5:56: plugins[0].config.ca_certificates: an empty list, expected the id of at least \
             one entry of 'ca_certificates'",
        ),
    ] {
        let text = with_cas(&format!("plugins: [ {{name: mtls-auth{config}}}]\n"));
        assert_eq!(errors(&text), [error], "{config}");
    }
}

#[test]
fn from_yaml_what_this_version_cannot_do_is_refused() {
    for (plugin, error) in [
        (
            "- {name: tls-handshake-modifier, consumer: bob}".to_owned(),
            "p:6:34: plugins[0].consumer: is not supported by this version, expected null or \
             nothing"
                .to_owned(),
        ),
        (
            "- {name: tls-handshake-modifier, config: {tls_client_certificate: REQUIRE}}"
                .to_owned(),
            "p:6:67: plugins[0].config.tls_client_certificate: 'REQUIRE', expected 'REQUEST'"
                .to_owned(),
        ),
    ] {
        assert_eq!(errors(&with_cas(&format!("plugins:\n{plugin}\n"))), [error]);
    }
}

#[test]
fn from_yaml_plugin_name_close_to_a_known_one_is_refused() {
    for (name, ours) in [
        ("mtls_auth", "mtls-auth"),
        ("MTLS-Auth", "mtls-auth"),
        ("mtlsauth", "mtls-auth"),
        ("mlts-auth", "mtls-auth"),
        ("tls-handshake-modifer", "tls-handshake-modifier"),
        ("tls-metadata-header", "tls-metadata-headers"),
        ("ACL", "acl"),
        ("header-cert-oauth", "header-cert-auth"),
        ("acls", "acl"),
        ("clientcert-acl", "client-cert-acl"),
        ("openid_connect", "openid-connect"),
        ("key-aut", "key-auth"),
        ("ratelimiting", "rate-limiting"),
    ] {
        assert_eq!(
            errors(&with_cas(&format!("plugins:\n- name: {name}\n"))),
            [format!(
                "p:6:9: plugins[0].name: unknown plugin '{name}', did you mean '{ours}'?"
            )]
        );
    }
}

#[test]
fn from_yaml_badly_indented_pem_is_said_to_be_so() {
    let pem = ca_pem("a");
    let not_alike =
        "a line of the PEM text is not indented as its first line, or not deeper than its \
                     key, expected 'cert: |' and below it all lines indented alike";
    // The indentation of the first line, the second and the others, and the line that is wrong.
    for (first, second, others, expected) in [
        ("    ", "  ", "    ", format!("p:5:1: {not_alike}")),
        ("    ", "", "", format!("p:5:1: {not_alike}")),
        ("    ", "    ", "  ", format!("p:6:1: {not_alike}")),
        ("", "", "", format!("p:4:1: {not_alike}")),
        ("  ", "  ", "  ", format!("p:4:1: {not_alike}")),
    ] {
        let mut text = format!("ca_certificates:\n- id: {ID_A}\n  cert: |\n");
        for (number, line) in pem.lines().enumerate() {
            let blanks = match number {
                0 => first,
                1 => second,
                _ => others,
            };
            text += &format!("{blanks}{line}\n");
        }
        text += "_format_version: '3.0'\nroutes: []\n";
        assert_eq!(errors(&text), [expected], "{text}");
    }
    let deeper = pem.replace('\n', "\n      ");
    let text = format!(
        "_format_version: '3.0'\nca_certificates:\n- id: {ID_A}\n  cert: |\n    {deeper}\n"
    );
    assert_eq!(
        errors(&text),
        ["p:5:5: ca_certificates[0].cert: line 2 of the PEM text begins with blanks, expected all \
          its lines at the indentation of the first one below 'cert: |'"]
    );
}

#[test]
fn from_yaml_private_key_beside_a_ca_is_warned_about() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    let text = format!(
        "_format_version: '3.0'\nca_certificates:\n- {{id: {ID_A}, cert: {:?}}}\n",
        format!("{}{key}", ca_pem("a"))
    );
    assert_eq!(
        warnings(&policy(&text)),
        ["p:3:52: warning: ca_certificates[0].cert: holds a private key beside the certificate, \
          which must not be in a policy"]
    );
}

#[test]
fn from_yaml_unknown_plugin_is_refused() {
    for name in ["my-own-thing", "x", "ai-", "'\u{e9} auth'"] {
        assert_eq!(
            errors(&with_cas(&format!("plugins:\n- name: {name}\n"))),
            [format!(
                "p:6:9: plugins[0].name: unknown plugin '{}', expected one of mtls-auth, \
                 tls-handshake-modifier, tls-metadata-headers, client-cert-headers, acl, \
                 client-cert-acl, header-cert-auth, openid-connect or another plugin of Kong's; \
                 declare your own plugins in 'custom_plugins'",
                name.trim_matches('\'')
            )]
        );
    }
    // It does nothing, whatever it is.
    let disabled = with_cas("plugins:\n- {name: my-own-thing, enabled: false}\n");
    assert_eq!(warnings(&policy(&disabled)), Vec::<String>::new());
}

#[test]
fn from_yaml_plugin_that_the_document_declares_is_warned_about() {
    let nothing = "has no effect in resty-mtls";
    let text = "_format_version: '3.0'\n\
                custom_plugins: [{name: my-own-thing, schema: x, handler: y}]\n\
                cloned_plugins: [{name: second-limit, ref: rate-limiting, priority: 1}]\n\
                plugins: [{name: my-own-thing}, {name: second-limit}]\n";
    assert_eq!(
        warnings(&policy(text)),
        [
            format!("p:2:1: warning: custom_plugins: {nothing}"),
            format!("p:3:1: warning: cloned_plugins: {nothing}"),
            format!("p:4:18: warning: plugins[0].name: the plugin 'my-own-thing' {nothing}"),
            format!("p:4:40: warning: plugins[1].name: the plugin 'second-limit' {nothing}"),
        ]
    );
    let text = "_format_version: '3.0'\n\
                cloned_plugins: [{name: zz-9, ref: mtls-auth}, {name: no-ref-at-all}]\n\
                plugins: [{name: zz-9}, {name: no-ref-at-all}]\n";
    let errors = errors(text);
    assert_eq!(
        errors[0],
        "p:2:18: cloned_plugins[0]: a clone of 'mtls-auth' is not supported by this version"
    );
    assert!(errors[1].starts_with("p:3:32: plugins[1].name: unknown plugin 'no-ref-at-all', "));
    assert_eq!(errors.len(), 2);
}

/// The names in Kong's documentation up to 3.16, those of families and of withdrawn plugins too.
#[test]
fn from_yaml_every_plugin_of_kong_loads() {
    let names = "acme ai-azure-content-safety ai-prompt-guard ai-proxy ai-proxy-advanced ai-rag-injector \
                 app-dynamics application-registration aws-lambda azure-functions basic-auth \
                 bot-detection canary confluent confluent-consume correlation-id cors datadog \
                 datakit degraphql exit-transformer file-log forward-proxy \
                 graphql-proxy-cache-advanced graphql-rate-limiting-advanced grpc-gateway grpc-web \
                 hmac-auth http-log injection-protection ip-restriction jq json-threat-protection \
                 jwe-decrypt jwt jwt-signer kafka-consume kafka-log kafka-upstream key-auth \
                 key-auth-enc konnect-application-auth ldap-auth ldap-auth-advanced loggly mocking \
                 oas-validation oauth2 oauth2-introspection opa opentelemetry openwhisk \
                 post-function pre-function prometheus proxy-cache proxy-cache-advanced \
                 rate-limiting rate-limiting-advanced redirect request-callout \
                 request-size-limiting request-termination request-transformer \
                 request-transformer-advanced request-validator response-ratelimiting \
                 response-transformer response-transformer-advanced route-by-header \
                 route-transformer-advanced saml service-protection session solace-consume \
                 solace-log solace-upstream standard-webhooks statsd statsd-advanced syslog tcp-log \
                 udp-log upstream-oauth upstream-timeout vault-auth websocket-size-limit \
                 websocket-validator xml-threat-protection zipkin";
    for name in names.split_whitespace() {
        let text = format!("_format_version: '3.0'\nplugins:\n- name: {name}\n- name: {name}\n");
        assert_eq!(
            warnings(&policy(&text)),
            [format!(
                "p:3:9: warning: plugins[0].name: the plugin '{name}' has no effect \
                 in resty-mtls"
            )]
        );
    }
}

#[test]
fn from_yaml_what_is_kongs_alone_is_warned_about_once() {
    let text = "_format_version: \"3.0\"\n\
                _transform: true\n\
                _comment: hello\n\
                upstreams: []\n\
                services:\n\
                - {name: s, url: 'http://a', tags: [x], created_at: 1}\n\
                - {name: t, url: 'http://b', retries: null}\n\
                routes:\n\
                - {name: r, protocols: [https], paths: [/]}\n\
                plugins:\n\
                - {name: key-auth, config: {anything: [1]}}\n\
                - {name: key-auth, service: nosuch}\n\
                - {name: rate-limiting}\n\
                - {name: tls-handshake-modifier, protocols: [https], instance_name: x}\n";
    let nothing = "has no effect in resty-mtls";
    assert_eq!(
        warnings(&policy(text)),
        [
            format!("p:4:1: warning: upstreams: {nothing}"),
            format!("p:6:13: warning: services[0].url: {nothing}"),
            format!("p:9:13: warning: routes[0].protocols: {nothing}"),
            format!("p:9:33: warning: routes[0].paths: {nothing}"),
            format!("p:11:10: warning: plugins[0].name: the plugin 'key-auth' {nothing}"),
            format!("p:13:10: warning: plugins[2].name: the plugin 'rate-limiting' {nothing}"),
            format!("p:14:34: warning: plugins[3].protocols: {nothing}"),
        ]
    );
}

#[test]
fn from_yaml_bad_header_names_are_refused() {
    for (name, why) in [
        ("''", "'' is not a header name, expected a token such as 'X-Client-Cert'"),
        ("'X Cert'", "'X Cert' is not a header name, expected a token such as 'X-Client-Cert'"),
        (
            "\"X\\r\\nY: z\"",
            "'X\\r\\nY: z' is not a header name, expected a token such as 'X-Client-Cert'",
        ),
        ("Ü", "'Ü' is not a header name, expected a token such as 'X-Client-Cert'"),
        (
            "x_consumer_id",
            "the header 'x_consumer_id' identifies the consumer, expected another name",
        ),
        (
            "host",
            "the header 'host' frames the message or belongs to one connection, expected another \
             name",
        ),
        (
            "Content_Length",
            "the header 'Content_Length' frames the message or belongs to one connection, expected \
             another name",
        ),
    ] {
        assert_eq!(
            errors(&with_cas(&format!(
                "plugins:\n- name: tls-metadata-headers\n  config:\n    \
                 client_cert_header_name: {name}\n"
            ))),
            [format!("p:8:30: plugins[0].config.client_cert_header_name: {why}")]
        );
    }
    let long = "X".repeat(128);
    assert_eq!(
        errors(&with_cas(&format!(
            "plugins:\n- name: tls-metadata-headers\n  config: {{client_cert_header_name: {long}}}\n"
        ))),
        [format!(
            "p:7:37: plugins[0].config.client_cert_header_name: the header name '{}...' is over \
             110 bytes",
            &long[..64]
        )]
    );
    assert_eq!(
        errors(&with_cas(
            "plugins:\n- name: tls-metadata-headers\n  config:\n    \
             client_serial_header_name: x_client-CERT\n    client_cert_chain_header_name: \
             X_Client.Cert_Issuer_DN\n"
        )),
        [
            "p:8:32: plugins[0].config.client_serial_header_name: the header 'x_client-CERT' is \
             the same as that of 'client_cert_header_name' (case is ignored, and '-' and '_' are \
             equal), expected another name",
            "p:9:36: plugins[0].config.client_cert_chain_header_name: the header \
             'X_Client.Cert_Issuer_DN' is the same as that of 'client_cert_issuer_dn_header_name' \
             (case is ignored, and '-' and '_' are equal), expected another name",
        ]
    );
}

#[test]
fn from_yaml_header_of_both_plugins_on_one_route_is_refused() {
    let text = |skip: bool| {
        with_cas(&format!(
            "routes: [{{name: r, snis: [a.test]}}]\nplugins:\n\
             - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}], \
             skip_consumer_lookup: {skip}}}}}\n\
             - {{name: tls-metadata-headers, config: {{inject_client_cert_details: true, \
             client_cert_subject_dn_header_name: x-client-cert-dn}}}}\n"
        ))
    };
    assert_eq!(
        errors(&text(true)),
        [
            "p:8:3: plugins[1].config: the header 'x-client-cert-dn' is set by mtls-auth with \
          'skip_consumer_lookup' on the same route, expected another name"
        ]
    );
    assert_eq!(warnings(&policy(&text(false))), [""; 0]);
}

#[test]
fn from_yaml_what_is_hardly_meant_is_warned_about() {
    let auth = format!("{{name: mtls-auth, config: {{ca_certificates: [{ID_A}]}}}}");
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: everywhere, plugins: [{auth}]}}\n\
         services:\n\
         - {{name: empty, plugins: [{{name: tls-handshake-modifier}}]}}\n\
         - name: s\n  routes:\n  - snis: [x.test]\n    plugins: [{{name: tls-metadata-headers, \
         config: {{inject_client_cert_details: true}}}}]\n"
    ));
    let found = warnings(&policy(&text));
    assert_eq!(
        found,
        [
            "p:6:3: warning: routes[0]: has no snis, so every TLS handshake asks for a client \
             certificate",
            "p:8:3: warning: services[0]: has no routes, so every TLS handshake asks for a client \
             certificate",
            "p:11:5: warning: services[1].routes[0]: has neither name nor id, so no location can \
             apply its plugins",
            "p:11:5: warning: services[1].routes[0]: has tls-metadata-headers but neither \
             mtls-auth nor tls-handshake-modifier, so no client is asked for the certificate it \
             forwards",
        ]
    );
}

#[test]
fn from_yaml_hosts_no_sni_covers_are_warned_about() {
    let auth = |ca: &str| format!("{{name: mtls-auth, config: {{ca_certificates: [{ca}]}}}}");
    let text = with_cas(&format!(
        "routes:\n\
         - name: r\n  snis: [a.test, '*.b.test']\n  \
         hosts: [A.test, a.test:8443, x.b.test, '*.b.test', c.test, d.test, 'a.*', y.x.b.test]\n  \
         plugins: [{}]\n\
         - name: q\n  snis: [d.test]\n  hosts: [d.test]\n  plugins: [{}]\n\
         - name: open\n  hosts: [open.test]\n",
        auth(ID_A),
        auth(ID_B),
    ));
    let line = |column: u32, index: u32, host: &str| {
        format!(
            "p:8:{column}: warning: routes[0].hosts[{index}]: no sni of the route covers the host \
             '{host}': its clients are not asked for their certificate there, and get 421 or 401"
        )
    };
    assert_eq!(
        warnings(&policy(&text)),
        [
            line(54, 4, "c.test"),
            line(62, 5, "d.test"),
            line(70, 6, "a.*"),
            line(77, 7, "y.x.b.test")
        ]
    );
}

#[test]
fn from_yaml_bytes_that_are_no_text_are_refused() {
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
fn from_file_what_cannot_be_read_is_refused() {
    let refusal = |path: &str| Policy::from_file(FilePath::new(path)).err().unwrap()[0].to_string();
    assert_eq!(
        refusal("/nonexistent/policy.yaml"),
        "/nonexistent/policy.yaml: cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(
        refusal("/"),
        "/: cannot be read: Is a directory (os error 21)"
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
fn from_file_names_the_file() {
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

#[test]
fn from_yaml_many_routes_share_a_handful_of_asks() {
    const ROUTES: usize = 20_000;
    let mut text = with_cas("services: [{name: s}]\nconsumers: [{username: ann}]\nroutes:\n");
    for i in 0..ROUTES {
        let ca = if i % 2 == 0 { ID_A } else { ID_B };
        text += &format!(
            "- {{name: r{i}, service: s, snis: [h{i}.test], hosts: [h{i}.test], plugins: \
             [{{name: mtls-auth, config: {{ca_certificates: [{ca}]}}}}]}}\n"
        );
    }
    let start = Instant::now();
    let policy = policy(&text);
    // A debug build takes 2 s; what grows with the square of the routes would take minutes.
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        (policy.plans.len(), policy.certificate_requests.len()),
        (3, 2)
    );
    assert_eq!(policy.routes.len(), ROUTES);
    assert_eq!(policy.sni_map.len(), ROUTES);
    assert_eq!(warnings(&policy), [""; 0]);
    assert!(same_store(plan(&policy, "r0"), plan(&policy, "r19998")));
    assert!(!same_store(plan(&policy, "r0"), plan(&policy, "r19999")));
}

#[test]
fn summary_says_what_asks_and_what_is_protected() {
    let text = with_cas(&format!(
        "routes:\n\
         - {{name: r, snis: [b.test, a.test]}}\n\
         - {{name: q, snis: [c.test]}}\n\
         - {{name: open}}\n\
         plugins:\n\
         - {{name: mtls-auth, route: r, config: {{ca_certificates: [{ID_A}], send_ca_dn: true}}}}\n\
         - {{name: mtls-auth, route: q, config: {{ca_certificates: [{ID_B}]}}}}\n"
    ));
    let policy = policy(&text);
    assert_eq!(
        policy.summary().to_string(),
        format!(
            "digest: {}\n\
             server names that ask for a client certificate: 3\n\
             \x20 a.test, b.test: 1 CA name sent, 19 bytes\n\
             \x20 c.test: no CA names sent\n\
             routes: 3\n\
             routes that require a client certificate: r, q\n",
            crate::text::hex(&policy.digest)
        )
    );
}

#[test]
fn summary_long_lists_are_cut() {
    let names: Vec<_> = (10..35).map(|i| format!("h{i}.test")).collect();
    let text = format!(
        "_format_version: \"3.0\"\nroutes: [{{name: r, snis: [{}]}}]\n\
         plugins: [{{name: tls-handshake-modifier, route: r}}]\n",
        names.join(", ")
    );
    let summary = policy(&text).summary().to_string();
    let line = summary.lines().nth(2).unwrap();
    assert_eq!(
        line,
        format!("  {} and 5 more: no CA names sent", names[..20].join(", "))
    );
}

#[test]
fn owned_names_of_a_disabled_plugin_stay_owned() {
    let policy = policy(&with_cas(&format!(
        "plugins:\n\
         - {{name: mtls-auth, enabled: false, config: {{ca_certificates: [{ID_A}]}}}}\n\
         - {{name: tls-metadata-headers, enabled: false, config: {{client_cert_header_name: X-Mine}}}}\n"
    )));
    for name in ["X_Mine", "x-client-cert-subject-dn", "X-Client-Cert-Dn"] {
        assert!(policy.reserved_headers.contains(name.as_bytes()), "{name}");
    }
    assert!(policy.certificate_requests.is_empty());
    assert!(!policy.plans[0].has_plugins);
}

/// The errors of one `client-cert-headers` with this config, without their common start.
fn cert_headers_errors(config: &str) -> Vec<String> {
    let text = format!("plugins:\n- name: client-cert-headers\n  config: {config}\n");
    errors(&with_cas(&text))
        .into_iter()
        .map(|error| error.split_once("].").unwrap().1.to_owned())
        .collect()
}

#[test]
fn client_cert_headers_bad_ones_are_refused() {
    for (config, error) in [
        ("{}", "config: the required field 'dialects' is missing"),
        (
            "{dialects: []}",
            "config.dialects: a list, expected at least one dialect",
        ),
        (
            "{dialects: [cloudflair]}",
            "config.dialects[0]: unknown dialect 'cloudflair', did you mean 'cloudflare'?",
        ),
        (
            "{dialects: [{when: presented}]}",
            "config.dialects[0]: the required field 'name' is missing",
        ),
        (
            "{dialects: [{name: nginx, when: always}]}",
            "config.dialects[0].when: 'always', expected 'verified' or 'presented'",
        ),
        (
            "{dialects: [{name: nginx, max_bytes: 511}]}",
            "config.dialects[0].max_bytes: the number 511, expected an integer from 512 to 65536",
        ),
        (
            "{dialects: [{name: nginx, mode: verify}]}",
            "config.dialects[0]: unknown field 'mode', expected one of name, headers, when, chain, max_bytes",
        ),
        (
            "{dialects: [nginx, nginx]}",
            "config.dialects[1]: the dialect 'nginx' is given twice",
        ),
        (
            "{dialects: [{name: nginx, headers: {ssl_client_dn: X-Dn}}]}",
            "config.dialects[0].headers: 'ssl_client_dn' is not a header of the dialect 'nginx', \
             did you mean 'ssl_client_s_dn'?",
        ),
        (
            "{dialects: [{name: azure, headers: {certificate: null}}]}",
            "config.dialects[0].headers: disables every header, expected at least one",
        ),
        (
            "{dialects: [{name: azure, headers: {certificate: Host}}]}",
            "config.dialects[0].headers.certificate: the header 'Host' frames the message or \
             belongs to one connection, expected another name",
        ),
        (
            "{dialects: [{name: azure, headers: {certificate: cookie}}]}",
            "config.dialects[0].headers.certificate: the header 'cookie' is sent by clients, \
             expected another name",
        ),
        (
            "{dialects: nginx}",
            "config.dialects: 'nginx', expected a list",
        ),
        (
            "{dialects: [{name: nginx, headers: {ssl_client_serial: ssl_client_verify}}]}",
            "config.dialects[0]: the header 'ssl_client_verify' is also one of 'nginx' \
             (case is ignored, and '-' and '_' are equal), expected another name for one of them \
             in 'headers'",
        ),
        (
            "{dialects: [gcp, kong]}",
            "config.dialects[1]: the header 'X-Client-Cert-Issuer-DN' is also one of 'gcp' (case \
             is ignored, and '-' and '_' are equal), expected another name for one of them in \
             'headers'",
        ),
        (
            "{dialects: [{name: xfcc, mode: SANITISE}]}",
            "config.dialects[0].mode: 'SANITISE', expected 'SANITIZE', 'FORWARD_ONLY', \
             'APPEND_FORWARD', 'SANITIZE_SET' or 'ALWAYS_FORWARD_ONLY'",
        ),
        (
            "{dialects: [{name: xfcc, detail: [subject, url]}]}",
            "config.dialects[0].detail[1]: 'url', expected one of cert, chain, subject, uri, dns",
        ),
        (
            "{dialects: [{name: cloudflare-forwarding, settings: [{hostname: '*.a.test'}]}]}",
            "config.dialects[0].settings[0].hostname: hostname '*.a.test' is a wildcard, expected \
             one host name",
        ),
        (
            "{dialects: [{name: cloudflare-forwarding, settings: [{china_network: false}]}]}",
            "config.dialects[0].settings[0]: the required field 'hostname' is missing",
        ),
        (
            "{dialects: [azure], cache_control: no-store}",
            "config.cache_control: 'no-store', expected 'private'",
        ),
    ] {
        assert_eq!(cert_headers_errors(config), [error], "{config}");
    }
}

#[test]
fn client_cert_headers_and_tls_metadata_headers_on_one_route_share_no_name() {
    let text = "plugins:\n\
        - {name: tls-handshake-modifier}\n\
        - {name: tls-metadata-headers, config: {inject_client_cert_details: true}}\n\
        - {name: client-cert-headers, config: {dialects: [gcp]}}\n";
    assert_eq!(
        errors(&with_cas(text)),
        [
            "p:8:3: plugins[2].config: the header 'X-Client-Cert-Issuer-DN' is set by \
             tls-metadata-headers on the same route, expected another name"
        ]
    );
}

#[test]
fn client_cert_headers_where_nothing_is_asked_or_verified_are_warned_about() {
    let text = |plugin: &str| {
        with_cas(&format!(
            "routes:\n- name: r\n  snis: [a.test]\n  plugins:\n{plugin}  \
             - {{name: client-cert-headers, config: {{dialects: [rfc9440, {{name: azure, when: presented}}]}}}}\n"
        ))
    };
    assert_eq!(
        warnings(&policy(&text(""))),
        [
            "p:6:3: warning: routes[0]: has client-cert-headers but neither mtls-auth nor \
             tls-handshake-modifier, so no client is asked for the certificate it forwards"
        ]
    );
    assert_eq!(
        warnings(&policy(&text("  - {name: tls-handshake-modifier}\n"))),
        [
            "p:6:3: warning: routes[0]: has no mtls-auth, so the dialect 'rfc9440' never forwards \
             a certificate there; expected mtls-auth, or 'when: presented' for upstreams that \
             verify it themselves"
        ]
    );
}

#[test]
fn client_cert_headers_own_default_names_new_names_and_prefixes() {
    let policy = policy(&with_cas(
        "plugins:\n- name: client-cert-headers\n  enabled: false\n  config:\n    dialects:\n    \
         - {name: nginx, headers: {ssl-client-cert: X-Pem, ssl-client-verify: null}}\n    \
         - {name: xfcc, mode: FORWARD_ONLY}\n",
    ));
    for name in [
        "X-Pem",
        "x_pem-too-large",
        "ssl-client-cert",
        "SSL_CLIENT_VERIFY",
        "ssl-client-new",
        "X-Forwarded-Client-Cert",
    ] {
        assert!(policy.reserved_headers.contains(name.as_bytes()), "{name}");
    }
    assert!(!policy.reserved_headers.contains(b"ssl-client"));
    // Nothing reads it while the plugin is off.
    assert!(policy.inbound_headers.is_empty());
}

#[test]
fn client_cert_headers_change_the_digest() {
    let digest = |config: &str| {
        policy(&with_cas(&format!(
            "plugins:\n- {{name: client-cert-headers, config: {{dialects: [{config}]}}}}\n"
        )))
        .digest
    };
    let plain = digest("nginx");
    for other in [
        "caddy",
        "{name: nginx, when: presented}",
        "{name: nginx, max_bytes: 512}",
        "{name: nginx, headers: {ssl-client-cert: X-Pem}}",
    ] {
        assert_ne!(digest(other), plain, "{other}");
    }
    assert_eq!(digest("{name: nginx, when: null}"), plain);
}

#[test]
fn client_cert_headers_own_what_a_numbered_header_could_go_on_with() {
    let policy = policy(&with_cas(
        "plugins:\n- name: client-cert-headers\n  config: {dialects: [{name: apache, headers: \
         {SSL_CLIENT_SAN_DNS_: 9-San-}}]}\n",
    ));
    for name in ["9-San-0", "9_san_16", "9-San-00", "9-san-x"] {
        assert!(policy.reserved_headers.contains(name.as_bytes()), "{name}");
    }
    assert!(!policy.reserved_headers.contains(b"9-Sa"));
}

#[test]
fn warnings_name_routes_with_snis_that_no_plugin_protects() {
    let warned = |text: &str| {
        let policy = Policy::from_yaml(text.as_bytes(), "p").unwrap();
        let warnings: Vec<_> = policy.warnings.iter().map(ToString::to_string).collect();
        warnings.join("\n")
    };
    assert_eq!(
        warned("_format_version: '3.0'\nroutes:\n- name: a\n  snis: [a.test]\n- name: b\n"),
        "p:3:3: warning: routes[0]: has snis but no plugin of resty-mtls applies to it, so it is open to \
         every client"
    );
    assert_eq!(
        warned(
            "_format_version: '3.0'\nroutes:\n- name: a\n  snis: [a.test]\n  plugins: [{name: \
             tls-handshake-modifier, enabled: false}]\n"
        ),
        ""
    );
}
