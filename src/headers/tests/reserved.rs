//! Every header name that can be set is reserved. The names are not a list: they are taken from
//! the code that sets them, with certificates for which it sets every line.

use std::collections::BTreeSet;

use super::*;
use crate::decision::Identity;
use crate::policy::Policy;

const CA: &str = "11111111-1111-4111-8111-111111111111";

/// A policy with these plugins on its one route, for consumers with a value for every header.
fn policy(plugins: &str) -> Policy {
    let key = key();
    let ca = Template {
        extensions: vec![extension("2.5.29.19", &der(0x30, b"\x01\x01\xff"))],
        validity: (0, 4_102_444_800),
        subject: name(&[("CN", UTF8, b"issuer")]),
        ..Template::default()
    };
    let ca = String::from_utf8(ca.issue(&key).to_pem().unwrap()).unwrap();
    let text = format!(
        "_format_version: \"3.0\"\n\
         ca_certificates: [{{id: {CA}, cert: {ca:?}}}]\n\
         consumers:\n\
         - username: ann\n  custom_id: c-1\n  acls: [{{group: g}}]\n  \
         mtls_auth_credentials: [{{id: {CA}, subject_name: ann}}]\n\
         routes: [{{name: r, snis: [a.test]}}]\n\
         plugins:\n{plugins}"
    );
    Policy::from_yaml(text.as_bytes(), "p").unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// Certificates with all kinds of content, and more of each than there is room for.
fn certificates() -> Vec<Certificate> {
    let key = key();
    let names: Vec<String> = (0..1000).map(|n| format!("host-{n}.example.com")).collect();
    let emails: Vec<String> = (0..1000).map(|n| format!("a-{n}@example.com")).collect();
    let long = "x".repeat(20_000);
    let list = |tag, names: &'static [&'static str]| -> Vec<(u8, &[u8])> {
        names.iter().map(|name| (tag, name.as_bytes())).collect()
    };
    let few = [
        list(SAN_DNS, &["a.example.com", "b.example.com"]),
        list(SAN_EMAIL, &["a@example.com", "b@example.com"]),
        list(SAN_URI, &["spiffe://example.org/a", "urn:a"]),
    ]
    .concat();
    let mut many: Vec<(u8, &[u8])> = names.iter().map(|n| (SAN_DNS, n.as_bytes())).collect();
    many.extend(emails.iter().map(|n| (SAN_EMAIL, n.as_bytes())));
    let uri = format!("spiffe://example.org/{long}");
    let key_id = || extension("2.5.29.14", &der(0x04, &[7; 20]));
    let mut certificates = vec![certificate_with_special_characters().certificate];
    let uri = [(SAN_URI, uri.as_bytes())];
    for (subject, serial, names, padding, intermediates) in [
        ("ann", "01", few.as_slice(), 0, 20),
        ("ann", "01", many.as_slice(), 0, 1),
        (&long, &"9A".repeat(400), &uri, 0, 1),
        ("ann", "01", &few, 45 * 1024, 1),
    ] {
        for intermediates in [0, intermediates] {
            let subject = || name(&[("CN", UTF8, subject.as_bytes())]);
            let leaf = Template {
                subject: subject(),
                issuer: subject(),
                serial: serial.to_owned(),
                extensions: vec![
                    san(names),
                    key_id(),
                    extension("1.2.3.4", &vec![0; padding]),
                ],
                ..Template::default()
            };
            let leaf = leaf.issue(&key);
            let mut sent = Stack::new().unwrap();
            for _ in 0..intermediates {
                sent.push(leaf.clone()).unwrap();
            }
            certificates.push(Certificate::new(leaf, sent).unwrap());
        }
    }
    certificates
}

const VERDICTS: [VerifyResult; 5] = [
    VerifyResult::NoCertificate,
    VerifyResult::NotVerified,
    VerifyResult::Success,
    VerifyResult::Failed(20, "unable to get local issuer certificate"),
    VerifyResult::Revoked,
];

/// The names of all that the route of this policy can set for these certificates.
fn set_names(policy: &Policy, certificates: &[Certificate]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let plan = &policy.plans[policy.plan(Some("r")).unwrap()];
    let identities = [
        Identity::None,
        Identity::Holder,
        Identity::Anonymous(0),
        Identity::Consumer(0, Some(0)),
    ];
    for certificate in certificates {
        for verdict in VERDICTS {
            let is_none = verdict == VerifyResult::NoCertificate;
            let client = ClientInfo {
                certificate: Some(certificate).filter(|_| !is_none),
                verify_result: verdict,
                issuer: Some(certificate.leaf()),
                now: NOW,
                server_uris: &[],
            };
            for config in plan
                .upstream_headers
                .kong
                .iter()
                .chain(&plan.upstream_headers.dialects)
            {
                let mut smallest = config.clone();
                smallest.options.max_bytes = Some(1);
                for lines in [config.render(&client), smallest.render(&client)] {
                    names.extend(lines.lines.into_iter().map(|line| line.0.into()));
                }
            }
            // Without a plugin that finds consumers there is none.
            for identity in identities.into_iter().filter(|_| plan.auth.is_some()) {
                let lines = policy.identity_lines(plan, client.certificate, identity);
                names.extend(lines.into_iter().map(|(name, _)| name.to_owned()));
            }
        }
    }
    if let Some(token) = &plan.token_auth {
        names.extend(token.claim_headers.iter().map(|(_, name)| name.to_string()));
    }
    names
}

/// The spellings that an upstream takes for the same name.
fn spellings(name: &str) -> [String; 4] {
    [
        name.to_owned(),
        name.to_ascii_uppercase().replace('-', "_"),
        name.to_ascii_lowercase().replace('_', "-"),
        name.replace(['-', '_'], "."),
    ]
}

fn check_reserved(plugins: &str, certificates: &[Certificate], expected: &[&str]) {
    let policy = policy(plugins);
    let names = set_names(&policy, certificates);
    for name in &names {
        for spelling in spellings(name) {
            assert!(
                policy.reserved_headers.contains(spelling.as_bytes()),
                "{spelling}: {plugins}"
            );
        }
    }
    for name in expected {
        assert!(
            names.contains(*name),
            "{name} is not among {names:?}: {plugins}"
        );
    }
}

#[test]
fn reserved_is_every_name_of_every_dialect() {
    let certificates = certificates();
    for dialect in Dialect::ALL {
        for mode in ["", ", mode: passthrough"] {
            let has_mode = matches!(dialect, Dialect::AwsAlb | Dialect::CloudFront);
            if !has_mode && !mode.is_empty() {
                continue;
            }
            let by_key = |rename: fn(&Header, usize) -> Option<String>| {
                let renamed: Vec<_> = dialect
                    .headers()
                    .iter()
                    .enumerate()
                    .filter(|(_, header)| {
                        !has_mode
                            || header.exists_in(match mode {
                                "" => MtlsMode::Verify,
                                _ => MtlsMode::Passthrough,
                            })
                    })
                    .filter_map(|(place, header)| {
                        Some(format!("{:?}: {:?}", header.key, rename(header, place)?))
                    })
                    .collect();
                renamed.join(", ")
            };
            for headers in [
                by_key(|header, _| {
                    header
                        .name
                        .is_none()
                        .then(|| format!("X-{}", header.key.to_ascii_lowercase()))
                }),
                by_key(|_, place| Some(format!("X_Odd~{}_", char::from(b'a' + place as u8)))),
            ] {
                let name = dialect.name();
                let detail = match dialect {
                    Dialect::Xfcc => ", detail: [cert, chain, subject, uri, dns]",
                    _ => "",
                };
                check_reserved(
                    &format!(
                        "- {{name: mtls-auth, config: {{ca_certificates: [{CA}]}}}}\n\
                             - name: client-cert-headers\n  config: {{dialects: [{{name: {name}, \
                             when: presented, headers: {{{headers}}}{mode}{detail}}}]}}\n"
                    ),
                    &certificates,
                    &[],
                );
            }
        }
    }
}

#[test]
fn reserved_is_every_name_of_kongs_plugins() {
    let certificates = certificates();
    let auth = |config: &str| {
        format!("- {{name: mtls-auth, config: {{ca_certificates: [{CA}]{config}}}}}\n")
    };
    check_reserved(
        &auth(", skip_consumer_lookup: true, authenticated_group_by: CN"),
        &certificates,
        &[
            "X-Client-Cert-Dn",
            "X-Client-Cert-Dn-Too-Large",
            "X-Client-Cert-San",
            "X-Client-Cert-San-Too-Large",
        ],
    );
    let consumer = [
        "X-Consumer-ID",
        "X-Consumer-Username",
        "X-Consumer-Custom-ID",
        "X-Credential-Identifier",
        "X-Anonymous-Consumer",
    ];
    check_reserved(&auth(""), &certificates, &consumer);
    let acl = "- {name: acl, config: {allow: [g]}}\n";
    check_reserved(&(auth("") + acl), &certificates, &["X-Consumer-Groups"]);
    check_reserved(
        &(auth(", skip_consumer_lookup: true, authenticated_group_by: CN") + acl),
        &certificates,
        &["X-Authenticated-Groups"],
    );
    let header = "- {name: header-cert-auth, config: {ca_certificates: [11111111-1111-4111-8111-111111111111], \
                  skip_consumer_lookup: true, certificate_header_name: X-Cert, \
                  certificate_header_format: url_encoded, secure_source: false}}\n";
    check_reserved(header, &certificates, &["X-Client-Cert-San-Too-Large"]);
    let metadata = "- {name: tls-metadata-headers, config: {inject_client_cert_details: true}}\n";
    check_reserved(
        metadata,
        &certificates,
        &[
            "X-Client-Cert",
            "X-Client-Cert-Too-Large",
            "X-Client-Cert-Serial",
            "X-Client-Cert-Issuer-DN-Too-Large",
            "X-Client-Cert-Subject-DN-Too-Large",
            "X-Client-Cert-Fingerprint",
            "X-Client-Cert-Chain-Too-Large",
        ],
    );
    let token = "- {name: openid-connect, config: {issuer: https://a.example/, \
                 auth_methods: [bearer], audience_required: [a], upstream_headers_claims: [sub, scope], \
                 upstream_headers_names: [x_sub, X-Scope]}}\n";
    check_reserved(token, &certificates, &["x_sub", "X-Scope"]);
}

#[test]
fn reserved_are_the_names_of_the_dialect_that_a_header_is_renamed_into() {
    let tomcat = [
        "ssl_client_cert",
        "SSL-CLIENT-CERT",
        "ssl_client_escaped_cert-Too-Large",
        "ssl_cipher",
    ];
    for (plugins, names, free) in [
        (
            "- {name: tls-metadata-headers, config: {inject_client_cert_details: true, \
             client_cert_header_name: ssl_client_escaped_cert}}\n",
            &tomcat[..],
            "X-SSL-Client-Cert",
        ),
        (
            "- {name: client-cert-headers, enabled: false, config: {dialects: [{name: kong, headers: \
             {client_cert: Ssl-Client-Escaped-Cert}}]}}\n",
            &tomcat[..],
            "X-SSL-Client-Cert",
        ),
        (
            "- {name: client-cert-headers, config: {dialects: [{name: azure, headers: \
             {certificate: client_cert}}]}}\n",
            &["Client-Cert-Chain", "client_cert-too-large", "X-ARR-ClientCert"],
            "ssl_client_cert",
        ),
        (
            "- {name: openid-connect, config: {issuer: https://a.example/, auth_methods: [bearer], \
             audience_required: [a], upstream_headers_claims: [sub], \
             upstream_headers_names: [X-SSL-Client-CN]}}\n",
            &["x_ssl_client_dn", "X-SSL-Issuer"],
            "Client-Cert",
        ),
        (
            "- {name: client-cert-headers, config: {dialects: [{name: nginx, headers: \
             {ssl_client_s_dn: X-Cert-Subject-Dn}}]}}\n",
            &["ssl-client-subject-dn", "X_Cert-SUBJECT_DN", "X-CERT-VERIFY"],
            "X-Cert-Other",
        ),
    ] {
        let policy = policy(plugins);
        for name in names {
            assert!(policy.reserved_headers.contains(name.as_bytes()), "{name}: {plugins}");
        }
        assert!(!policy.reserved_headers.contains(free.as_bytes()), "{free}: {plugins}");
    }
}
