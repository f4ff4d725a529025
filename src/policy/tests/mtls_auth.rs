//! `mtls-auth`: its fields, its CRLs, and their part in the digest.

use super::*;
use crate::trust::ClientAuthEku;

#[test]
fn mtls_auth_defaults_are_kongs() {
    let policy = policy(&with_auth("", ""));
    let auth = auth(&policy);
    let lookup = auth.lookup.as_ref().unwrap();
    let both = ConsumerBy {
        username: true,
        custom_id: true,
    };
    assert_eq!((lookup.by, lookup.default), (both, None));
    assert!(lookup.dirname.is_empty());
    assert_eq!((auth.anonymous, auth.group_by), (None, Some(GroupBy::Cn)));
    let revocation = &auth.revocation;
    assert_eq!(revocation.mode, RevocationMode::IgnoreCaError);
    assert_eq!((revocation.ttl, revocation.http_timeout), (60_000, 30_000));
    assert!(revocation.ssl_verify && revocation.crls.is_none());
    assert_eq!(
        (&revocation.http_proxy, &revocation.https_proxy),
        (&None, &None)
    );
    assert_eq!(warnings(&policy), [""; 0]);
}

#[test]
fn mtls_auth_every_field_is_read() {
    let text = with_auth(
        "    consumer_by: [custom_id]\n    anonymous: guest\n    default_consumer: \
         33333333-3333-4333-8333-333333333333\n    authenticated_group_by: DN\n    \
         revocation_check_mode: STRICT\n    http_timeout: 1500\n    cert_cache_ttl: 60\n    \
         cache_ttl: 0\n    http_proxy_host: proxy.example.com\n    http_proxy_port: 3128\n    \
         https_proxy_host: '2001:db8::7'\n    https_proxy_port: 65535\n    ssl_verify: false\n    \
         san_dirname_matcher: [CN, organizationName, 2.5.4.11, 1.2.3.4]\n",
        &format!("consumers: [{{username: guest}}, {{username: other, id: {ID_C}}}]\n"),
    );
    let policy = policy(&text);
    let auth = auth(&policy);
    let lookup = auth.lookup.as_ref().unwrap();
    let by = ConsumerBy {
        username: false,
        custom_id: true,
    };
    assert_eq!((lookup.by, lookup.default), (by, Some(1)));
    let dirname: Vec<&str> = lookup.dirname.iter().map(|name| &**name).collect();
    assert_eq!(
        dirname,
        [
            "commonName",
            "organizationName",
            "organizationalUnitName",
            "1.2.3.4"
        ]
    );
    assert_eq!(
        (auth.anonymous, auth.group_by),
        (Some(0), Some(GroupBy::Dn))
    );
    let revocation = &auth.revocation;
    assert_eq!(revocation.mode, RevocationMode::Strict);
    assert_eq!((revocation.ttl, revocation.http_timeout), (60, 1500));
    assert!(!revocation.ssl_verify);
    assert_eq!(
        revocation.http_proxy,
        Some(("proxy.example.com".into(), 3128))
    );
    assert_eq!(revocation.https_proxy, Some(("2001:db8::7".into(), 65535)));
    assert_eq!(warnings(&policy), [""; 0]);
}

#[test]
fn mtls_auth_null_and_empty_lists_switch_off() {
    for off in ["[]", "null", "{}"] {
        let fields = format!("    consumer_by: {off}\n    authenticated_group_by: null\n");
        let policy = policy(&with_auth(&fields, ""));
        let by = auth(&policy).lookup.as_ref().unwrap().by;
        assert!(!by.username && !by.custom_id, "{off}");
        assert_eq!(auth(&policy).group_by, None);
    }
    let skip = policy(&with_auth("    skip_consumer_lookup: true\n", ""));
    assert!(auth(&skip).lookup.is_none());
}

#[test]
fn mtls_auth_bad_values_are_refused() {
    for (field, error) in [
        (
            "consumer_by: [username, id]",
            "9:29: plugins[0].config.consumer_by[1]: 'id', expected 'username' or 'custom_id'",
        ),
        (
            "consumer_by: username",
            "9:18: plugins[0].config.consumer_by: 'username', expected a list",
        ),
        (
            "authenticated_group_by: cn",
            "9:29: plugins[0].config.authenticated_group_by: 'cn', expected 'CN' or 'DN'",
        ),
        (
            "revocation_check_mode: strict",
            "9:28: plugins[0].config.revocation_check_mode: 'strict', expected 'SKIP', \
             'IGNORE_CA_ERROR' or 'STRICT'",
        ),
        (
            "http_timeout: soon",
            "9:19: plugins[0].config.http_timeout: 'soon', expected an integer from 1 to \
             2147483647",
        ),
        (
            "cert_cache_ttl: 0",
            "9:21: plugins[0].config.cert_cache_ttl: the number 0, expected an integer from 1 to \
             2147483647",
        ),
        (
            "cache_ttl: -1",
            "9:16: plugins[0].config.cache_ttl: the number -1, expected an integer from 0 to \
             2147483647",
        ),
        (
            "ssl_verify: maybe",
            "9:17: plugins[0].config.ssl_verify: 'maybe', expected true or false",
        ),
        (
            "http_proxy_host: proxy",
            "9:22: plugins[0].config.http_proxy_host: without 'http_proxy_port', expected both or \
             neither",
        ),
        (
            "https_proxy_port: 3128",
            "9:23: plugins[0].config.https_proxy_port: without 'https_proxy_host', expected both \
             or neither",
        ),
        (
            "{http_proxy_host: 'http://proxy', http_proxy_port: 1}",
            "9:27: plugins[0].config.http_proxy_host: 'http://proxy' is neither a host name nor \
             an address, expected for example 'proxy.example.com'",
        ),
        (
            "{https_proxy_host: proxy, https_proxy_port: 65536}",
            "9:53: plugins[0].config.https_proxy_port: the number 65536, expected an integer from \
             1 to 65535",
        ),
        (
            "anonymous: gest",
            "9:16: plugins[0].config.anonymous: no consumer has the id or username 'gest', did \
             you mean 'guest'?",
        ),
        (
            "default_consumer: a-1",
            "9:23: plugins[0].config.default_consumer: no consumer has the id or username 'a-1'",
        ),
        (
            "anonymous: ''",
            "9:16: plugins[0].config.anonymous: no consumer has the id or username ''",
        ),
        (
            "san_dirname_matcher: [CN, cn]",
            "9:31: plugins[0].config.san_dirname_matcher[1]: 'cn' is not an attribute type \
             of OpenSSL's, expected a short name such as 'OU', a long name such as \
             'organizationalUnitName' or an OID such as '2.5.4.11' (case matters)",
        ),
        (
            "crls: ['']",
            "9:12: plugins[0].config.crls[0]: '', expected the path of a file of CRLs",
        ),
        (
            "crls: [crl.pem]",
            "9:12: plugins[0].config.crls[0]: 'crl.pem': a relative path in a policy that is not \
             a file, expected an absolute path",
        ),
        (
            "crls: [/nonexistent/crl.pem]",
            "9:12: plugins[0].config.crls[0]: '/nonexistent/crl.pem': cannot be read: No such \
             file or directory (os error 2)",
        ),
        (
            "enforce: true",
            "9:14: plugins[0].config.enforce: the boolean true, expected 'enforce' or 'report'",
        ),
        (
            "crls: [http://a.example/ca.crl]",
            "9:12: plugins[0].config.crls[0]: 'http://a.example/ca.crl' is a URL, expected it as \
             {url: 'http://a.example/ca.crl'}",
        ),
        (
            "crls: {file: a.crl}",
            "9:11: plugins[0].config.crls: a mapping, expected a list, here ['a.crl']",
        ),
        (
            "crls: {url: 'http://a.example/'}",
            "9:11: plugins[0].config.crls: a mapping, expected a list, here \
             [{url: 'http://a.example/'}]",
        ),
        (
            "crls: a.crl",
            "9:11: plugins[0].config.crls: 'a.crl', expected a list, here ['a.crl']",
        ),
        (
            "crls: http://a.example/",
            "9:11: plugins[0].config.crls: 'http://a.example/', expected a list, here \
             [{url: 'http://a.example/'}]",
        ),
        (
            "crls: [{file: a.crl}]",
            "9:12: plugins[0].config.crls[0]: a file is an entry by itself, expected 'a.crl'",
        ),
        (
            "crls: [{refresh: 60}]",
            "9:12: plugins[0].config.crls[0]: the required field 'url' is missing",
        ),
        (
            "crls: [{url: 'ldap://a.example/'}]",
            "9:18: plugins[0].config.crls[0].url: 'ldap://a.example/' is not an http or \
             https URL, expected for example 'https://pki.example.com/ca.crl'",
        ),
        (
            "crls: [{url: 'http://a.example/a b'}]",
            "9:18: plugins[0].config.crls[0].url: 'http://a.example/a b' is not an http or https \
             URL, expected for example 'https://pki.example.com/ca.crl'",
        ),
        (
            "crls: [{url: 'http://a.example/', refresh: 0}]",
            "9:48: plugins[0].config.crls[0].refresh: the number 0, expected an integer from 1 to 2147483647",
        ),
        (
            "crls: [{url: 'http://a.example/', max_stale: -1}]",
            "9:50: plugins[0].config.crls[0].max_stale: the number -1, expected an integer from 0 to \
             2147483647",
        ),
        (
            "max_crl_bytes: 536870913",
            "9:20: plugins[0].config.max_crl_bytes: the number 536870913, expected an integer from 1024 to \
             536870912",
        ),
        (
            "crls: [/etc/passwd]",
            "9:12: plugins[0].config.crls[0]: '/etc/passwd': no CRL found, expected DER or PEM \
             blocks '-----BEGIN X509 CRL-----'",
        ),
    ] {
        // Fields in braces are merged, so that two of them take one line.
        let field = match field.strip_prefix('{') {
            Some(_) => format!("    <<: {field}\n"),
            None => format!("    {field}\n"),
        };
        let rest = "consumers: [{username: guest, custom_id: a-1}]\n";
        assert_errors(&with_auth(&field, rest), &[error]);
    }
}

#[test]
fn mtls_auth_without_consumers_is_warned_about_where_they_would_count() {
    let without = |fields: &str| warnings(&policy(&with_auth(fields, "consumers: []\n")));
    assert_eq!(
        without(""),
        [
            "p:6:3: warning: plugins[0].config: no consumer: every client is refused; expected an \
          entry of 'consumers', or 'skip_consumer_lookup: true' to let every client of the CAs \
          pass"
        ]
    );
    assert_eq!(without("    skip_consumer_lookup: true\n"), [""; 0]);
}

#[test]
fn digest_depends_on_every_field() {
    let cas = with_cas("consumers: []\n").replace("consumers: []\n", "");
    let with = |auth: &str, consumers: &str, plugins: &str| {
        policy(&format!(
            "{cas}consumers:\n- {{username: ann{consumers}}}\nplugins:\n\
             - {{name: mtls-auth, config: {{ca_certificates: [{ID_A}]{auth}}}}}\n{plugins}"
        ))
        .digest
    };
    let plain = with("", "", "");
    let defaults = ", consumer_by: [custom_id, username], authenticated_group_by: CN, \
                    revocation_check_mode: IGNORE_CA_ERROR, http_timeout: 30000, cert_cache_ttl: \
                    60000, cache_ttl: 7, ssl_verify: true, anonymous: null, crls: []";
    assert_eq!(plain, with(defaults, ", tags: [x]", ""));
    let acl = |config: &str| format!("- {{name: acl, config: {{{config}}}}}\n");
    let rule = |rule: &str| format!("- {{name: client-cert-acl, config: {{allow: [{rule}]}}}}\n");
    let mut digests = std::collections::HashSet::from([plain]);
    for (auth, consumers, plugins) in [
        (", consumer_by: [username]", "", String::new()),
        (", consumer_by: []", "", String::new()),
        (", anonymous: ann", "", String::new()),
        (", default_consumer: ann", "", String::new()),
        (", skip_consumer_lookup: true", "", String::new()),
        (", authenticated_group_by: DN", "", String::new()),
        (", authenticated_group_by: null", "", String::new()),
        (", revocation_check_mode: STRICT", "", String::new()),
        (", revocation_check_mode: SKIP", "", String::new()),
        (", http_timeout: 1", "", String::new()),
        (", cert_cache_ttl: 1", "", String::new()),
        (", ssl_verify: false", "", String::new()),
        (
            ", http_proxy_host: a, http_proxy_port: 1",
            "",
            String::new(),
        ),
        (
            ", https_proxy_host: a, https_proxy_port: 1",
            "",
            String::new(),
        ),
        (", san_dirname_matcher: [CN]", "", String::new()),
        ("", ", custom_id: x", String::new()),
        (
            "",
            ", id: 33333333-3333-4333-8333-333333333333",
            String::new(),
        ),
        ("", ", acls: [{group: x}]", String::new()),
        ("", ", groups: [x]", String::new()),
        (
            "",
            ", mtls_auth_credentials: [{subject_name: x}]",
            String::new(),
        ),
        ("", "", acl("allow: [x]")),
        ("", "", acl("deny: [x]")),
        ("", "", acl("deny: [x], hide_groups_header: true")),
        ("", "", acl("deny: [x], include_consumer_groups: true")),
        (
            "",
            "",
            acl("deny: [x], always_use_authenticated_groups: true"),
        ),
        ("", "", rule("{subject.O: x}")),
        ("", "", rule("{issuer.O: x}")),
        ("", "", rule("{name: y, issuer.O: x}")),
    ] {
        assert!(
            digests.insert(with(auth, consumers, &plugins)),
            "{auth} {consumers} {plugins}"
        );
    }
}

#[test]
fn crls_are_read_relative_to_the_policy_and_change_the_status_key_only() {
    let directory = std::env::temp_dir().join(format!("resty-mtls-crls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, content: &[u8]| {
        std::fs::write(directory.join(name), content).unwrap();
        directory.join(name)
    };
    write(
        "crl.pem",
        &crate::trust::test_ca::TestCa::new().crl("", &[]),
    );
    let text = |fields: &str| with_auth(fields, "");
    let fixed = text("");
    let with = |fields: &str| {
        let text = fixed.replace("\nconsumers:", &format!("{fields}\nconsumers:"));
        let path = write("policy.yaml", text.as_bytes());
        Policy::from_file(&path).unwrap_or_else(|errors| panic!("{errors:#?}"))
    };
    let none = with("");
    let one = with("    crls: [crl.pem]");
    let unused = with("    revocation_check_mode: SKIP\n    crls: [crl.pem]");
    let path = directory.join("policy.yaml");
    let label = path.display().to_string();
    std::fs::remove_dir_all(&directory).unwrap();

    assert!(!auth(&one).revocation.crls.as_ref().unwrap().is_empty());
    assert_ne!(auth(&one).revocation.key, auth(&none).revocation.key);
    assert_eq!(auth(&one).store.digest(), auth(&none).store.digest());
    assert_eq!(
        one.certificate_requests[0].session_id_context(),
        none.certificate_requests[0].session_id_context()
    );
    assert_ne!(one.digest, none.digest);
    assert_eq!(
        warnings(&one),
        [format!(
            "{label}:6:3: warning: plugins[0].config.crls: CRL of 'CN=Test CA,O=Example': is of no \
             CA of the plugin: it counts for certificates of an issuer with this name whose \
             certificate the client sends"
        )]
    );
    assert_eq!(
        warnings(&unused),
        [format!(
            "{label}:6:3: warning: plugins[0].config.crls: have no effect with the \
             revocation_check_mode 'SKIP'"
        )]
    );
}

#[test]
fn client_auth_eku_is_part_of_the_trust_store() {
    let text = with_auth("    client_auth_eku: required\n", "");
    let policies = ["null", "required", "allow_server_auth", "any"]
        .map(|value| policy(&text.replace("eku: required", &format!("eku: {value}"))));
    let ekus = policies
        .each_ref()
        .map(|policy| auth(policy).store.client_auth_eku());
    assert_eq!(
        ekus,
        [
            ClientAuthEku::Required,
            ClientAuthEku::Required,
            ClientAuthEku::AllowServerAuth,
            ClientAuthEku::Any
        ]
    );
    let [none, required, server, any] = policies.each_ref().map(|policy| {
        let request = policy.certificate_request(None).unwrap();
        (
            policy.plans.len(),
            *auth(policy).store.verdict_key(),
            *request.session_id_context(),
        )
    });
    assert_eq!(none, required);
    assert!(required.1 != server.1 && server.1 != any.1 && required.1 != any.1);
    assert!(required.2 != server.2 && server.2 != any.2);
}

#[test]
fn client_auth_eku_without_a_limit_of_clients_is_refused() {
    let error = |value: &str, place: &str| {
        format!(
            ".config.client_auth_eku: '{value}' lets in every holder of a certificate of the CAs \
             at {place}, of public CAs every owner of a DNS name; expected consumers (without \
             skip_consumer_lookup and default_consumer), or acl, client-cert-acl or client-cert-lists \
             with 'allow' and without enforce: report, in client-cert-acl by subject, san, spiffe_id \
             or digest"
        )
    };
    let found = |value: &str, fields: &str, rest: &str| {
        let fields = format!("    client_auth_eku: {value}\n{fields}");
        match Policy::from_yaml(with_auth(&fields, rest).as_bytes(), "p") {
            Ok(_) => Vec::new(),
            Err(errors) => errors
                .iter()
                .map(|error| {
                    format!(
                        ".{}: {}",
                        error.path.split_once('.').unwrap().1,
                        error.message
                    )
                })
                .collect(),
        }
    };
    let skip = "    skip_consumer_lookup: true\n";
    let everywhere = "a request without a route";
    for value in ["allow_server_auth", "any"] {
        assert_eq!(found(value, skip, ""), [error(value, everywhere)]);
        let default = "    default_consumer: ann\n";
        assert_eq!(found(value, default, ""), [error(value, everywhere)]);
    }
    assert_eq!(found("required", skip, ""), [""; 0]);
    // One plugin of each kind that limits clients, and the same without a limit.
    let rules = |list: &str| {
        format!("- name: client-cert-acl\n  config: {{{list}: [{{subject.CN: ann}}]}}\n")
    };
    let acl = |list: &str| format!("- {{name: acl, config: {{{list}: [ann]}}}}\n");
    for (rest, limited) in [
        (rules("allow"), true),
        (rules("deny"), false),
        (acl("allow"), true),
        (acl("deny"), false),
    ] {
        let found = found("any", skip, &rest);
        assert_eq!(found.is_empty(), limited, "{rest}: {found:?}");
    }
    // A wildcard over a top-level domain is a name that anyone may register.
    for (name, limited) in [
        ("*.example.com", true),
        ("*.co.uk", true),
        ("example.com", true),
        ("localhost", true),
        ("*.com", false),
        ("*.COM.", false),
        ("*.\u{440}\u{444}", false),
    ] {
        let rest =
            format!("- name: client-cert-acl\n  config: {{allow: [{{san.dns: '{name}'}}]}}\n");
        let found = found("any", skip, &rest);
        assert_eq!(found.is_empty(), limited, "{name}: {found:?}");
    }
    // Rules under which all but some are allowed are none.
    let all_but_one = "{not: {subject.CN: mallory}}";
    let of_ca = format!("{{ca: {ID_A}}}");
    let digest = format!("{{sha256: '{}'}}", "00".repeat(32));
    for (rule, limited) in [
        ("{not: {not: {subject.CN: ann}}}", true),
        (
            "{not: {any: [{not: {san.dns: a.example}}, {subject.CN: b}]}}",
            true,
        ),
        ("{all: [{eku: serverAuth}, {san.dns: a.example}]}", true),
        (all_but_one, false),
        ("{eku: serverAuth}", false),
        // What all certificates of a CA have in common, public ones among them.
        (&of_ca, false),
        ("{issuer.CN: CA}", false),
        ("{issuer_key_id: '01:02'}", false),
        ("{all: [{issuer.CN: CA}, {eku: serverAuth}]}", false),
        ("{all: [{issuer.CN: CA}, {subject.CN: ann}]}", true),
        ("{any: [{issuer.CN: CA}, {subject.CN: ann}]}", false),
        ("{not: {not: {issuer.CN: CA}}}", false),
        (&digest, true),
        (
            "{any: [{subject.CN: ann}, {not: {subject.CN: mallory}}]}",
            false,
        ),
        (
            "{not: {all: [{subject.CN: ann}, {not: {subject.CN: bob}}]}}",
            false,
        ),
    ] {
        for more in ["", ", {subject.CN: ann}"] {
            let rest = format!("- name: client-cert-acl\n  config: {{allow: [{rule}{more}]}}\n");
            let found = found("any", skip, &rest);
            assert_eq!(found.is_empty(), limited, "{rest}: {found:?}");
        }
    }
    // Rules that refuse nothing are none, where the authentication refuses.
    for (auth, rules, limited) in [
        ("", ", enforce: report", false),
        ("", ", enforce: enforce", true),
        ("    enforce: report\n", ", enforce: report", true),
        ("    enforce: report\n", "", true),
    ] {
        let fields = format!("{skip}{auth}");
        for plugin in [
            "client-cert-acl, config: {allow: [{subject.CN: ann}]",
            "acl, config: {allow: [ann]",
        ] {
            let rest = format!("- {{name: {plugin}{rules}}}}}\n");
            let found = found("any", &fields, &rest);
            assert_eq!(found.is_empty(), limited, "{auth}{rest}: {found:?}");
        }
    }
    // An acl that allows the consumer of all other certificates is none.
    let default = "    default_consumer: other\n";
    let acl = |fields: &str| format!("- {{name: acl, config: {{allow: [staff]{fields}}}}}\n");
    let consumers = |other: &str| {
        format!(
            "consumers: [{{username: ann, acls: [{{group: staff}}]}}, {{username: other{other}}}]\n"
        )
    };
    let in_consumer_group = ", groups: [{name: staff}]";
    for (fields, other, limited) in [
        ("", "", true),
        ("", ", acls: [{group: guests}]", true),
        ("", ", acls: [{group: staff}]", false),
        ("", in_consumer_group, true),
        (", include_consumer_groups: true", in_consumer_group, false),
    ] {
        let found = found("any", default, &(acl(fields) + &consumers(other)));
        let found: Vec<_> = found
            .iter()
            .filter(|error| error.contains("lets in"))
            .collect();
        assert_eq!(found.is_empty(), limited, "{fields} {other}: {found:?}");
    }
    // A limit on one route does not limit another.
    let routes = "routes:\n- name: a\n  plugins:\n  - name: client-cert-acl\n    \
                  config: {allow: [{subject.CN: ann}]}\n- name: b\n";
    let auth = format!(
        "- name: mtls-auth\n  config: {{ca_certificates: [{ID_A}], skip_consumer_lookup: true, \
         client_auth_eku: any}}\n"
    );
    let on = |scope: &str| {
        let auth = auth.replacen("mtls-auth\n", &format!("mtls-auth\n  {scope}\n"), 1);
        with_cas(&format!("{routes}plugins:\n{auth}"))
    };
    policy(&on("route: a"));
    let errors = errors(&on("route: b"));
    let expected = error("any", "routes[1]");
    assert!(
        errors.iter().any(|error| error.contains(&expected)),
        "{errors:?}"
    );
}
