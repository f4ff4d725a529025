//! Whole documents: what they compile to, and which errors and warnings they give.

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509Builder, X509NameBuilder};

mod acl;
mod ca_certificates;
mod ca_files;
mod certificate_requests;
mod client_cert_acl;
mod client_cert_lists;
mod consumers;
mod directories;
mod documents;
mod errors;
mod header_cert_auth;
mod headers;
mod ineffective_settings;
mod kong_documents;
mod listing;
mod mtls_auth;
mod openid_connect;
mod plugin_names;
mod report_only;
mod shared_plans;
mod summary;
mod trust_domains;
mod vaults;

use super::*;
use crate::Error;

/// Policies are compiled and freed by another thread.
const fn is_send_and_sync<T: Send + Sync>() {}
const _: () = is_send_and_sync::<Policy>();

pub(super) const ID_A: &str = "11111111-1111-4111-8111-111111111111";
const ID_B: &str = "22222222-2222-4222-8222-222222222222";

const ID_C: &str = "33333333-3333-4333-8333-333333333333";

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

pub(super) fn ca_pem(cn: &str) -> String {
    pem(cn, true, -1, 300)
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

/// Two CAs, then one global `mtls-auth` in lines 5 to 8, its further fields from line 9, then
/// `rest`.
fn with_auth(fields: &str, rest: &str) -> String {
    with_cas(&format!(
        "plugins:\n- name: mtls-auth\n  config:\n    ca_certificates: [{ID_A}]\n{fields}{rest}"
    ))
}

/// One global `openid-connect` that validates JWTs, with further fields.
fn openid_connect(extra: &str) -> String {
    let hide = match extra.contains("hide_credentials") {
        true => "",
        false => ", hide_credentials: false",
    };
    with_cas(&format!(
        "plugins: [{{name: openid-connect, config: {{issuer: 'https://idp.test', auth_methods: \
         [bearer]{extra}{hide}}}}}]"
    ))
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

/// The errors without the name of the document.
fn errors_without_name(text: &str) -> Vec<String> {
    errors(text)
        .iter()
        .map(|line| line.strip_prefix("p:").unwrap_or(line).to_owned())
        .collect()
}

/// Asserts the errors of a document, each as `line:column: path: message`.
fn assert_errors(text: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|line| format!("p:{line}")).collect();
    assert_eq!(errors(text), expected, "{text}");
}

fn warnings(policy: &Policy) -> Vec<String> {
    policy.warnings.iter().map(ToString::to_string).collect()
}

/// The warnings that contain `what`, each up to its first semicolon.
fn warnings_that_contain(text: &str, what: &str) -> Vec<String> {
    let found = warnings(&policy(text)).into_iter();
    found
        .filter(|line| line.contains(what))
        .map(|line| line.split(';').next().unwrap().to_owned())
        .collect()
}

/// The number of CA names that are sent under a server name, `-` for no server name. `None` if no
/// certificate is requested.
fn ca_names_len(policy: &Policy, name: &str) -> Option<usize> {
    let name = Some(name).filter(|name| *name != "-").map(str::as_bytes);
    policy
        .certificate_request(name)
        .map(|request| request.ca_names_len())
}

fn plan<'p>(policy: &'p Policy, route: &str) -> &'p Plan {
    &policy.plans[policy.plan(Some(route)).unwrap()]
}

fn auth(policy: &Policy) -> &Auth {
    policy.plans[0].auth.as_ref().unwrap()
}

fn consumer(policy: &Policy, name: &str) -> crate::identity::Consumer {
    let index = policy.consumers.by_id_or_username(name).unwrap();
    policy.consumers.get(index).unwrap().clone()
}

fn header_names(plan: &Plan) -> Vec<&str> {
    let upstream_headers = plan
        .upstream_headers
        .kong
        .iter()
        .chain(&plan.upstream_headers.dialects);
    upstream_headers
        .flat_map(|selection| selection.header_names())
        .collect()
}

fn same_store(a: &Plan, b: &Plan) -> bool {
    let digest = |plan: &Plan| *plan.auth.as_ref().unwrap().store.digest();
    digest(a) == digest(b)
}
