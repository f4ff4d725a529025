//! `import-ingress` on manifests.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

use super::super::inspect::tests::{CA, ODD};
use super::super::tests::{run_reading, run_with};
use crate::policy::Policy;

/// A Secret with the CA.
fn secret() -> String {
    let ca = STANDARD.encode(CA);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: ca, namespace: shop}}\n\
         data: {{ca.crt: {ca}}}\n"
    )
}

/// An Ingress of a host with these annotations, which begin at line 8.
fn ingress(host: &str, annotations: &[(&str, &str)]) -> String {
    let mut text =
        "---\nkind: Ingress\nmetadata:\n  name: i\n  namespace: shop\n  annotations:\n    \
                    nginx.ingress.kubernetes.io/auth-tls-secret: shop/ca\n"
            .to_owned();
    for (name, value) in annotations {
        text.push_str(&format!(
            "    nginx.ingress.kubernetes.io/{name}: '{value}'\n"
        ));
    }
    text.push_str(&format!(
        "spec:\n  rules:\n  - host: '{host}'\n    http:\n      paths:\n      - path: /\n        \
         pathType: Prefix\n        backend: {{service: {{name: web, port: {{number: 80}}}}}}\n"
    ));
    text
}

fn import(text: &str) -> (u8, String, String) {
    run_reading(&["import-ingress", "-"], &mut text.as_bytes())
}

/// The policy without its CA, the servers, and what is said about the annotations.
fn import_one(annotations: &[(&str, &str)]) -> (u8, String, String, String) {
    let (status, out, err) = import(&(secret() + &ingress("a.test", annotations)));
    let (policy, servers) = out.split_once("\n---\n").unwrap_or_default();
    let policy = policy.to_owned() + "\n";
    if !out.is_empty() {
        let read = Policy::from_yaml(policy.as_bytes(), "policy.yaml");
        if let Err(errors) = read {
            panic!("{errors:?}");
        }
    }
    let from = policy.find("\nconsumers:").or(policy.find("\nroutes:"));
    let policy = policy.get(from.unwrap_or(1)..).unwrap_or_default();
    (status, policy.to_owned(), servers.to_owned(), err)
}

const ROUTE: &str = "
routes:
- name: \"a.test\"
  snis: [\"a.test\"]
  plugins:
  - name: mtls-auth
    config:
      ca_certificates: [ID]
      send_ca_dn: true
      skip_consumer_lookup: true
      verify_depth: 1
      revocation_check_mode: SKIP
";

const HEADERS: &str = "  - name: client-cert-headers
    config:
      dialects:
      - name: nginx
        when: presented
        headers: {ssl-client-cert: null}
";

/// [`ROUTE`] with the id of the CA.
fn route() -> String {
    let ca = run_reading(&["ca", "-"], &mut CA.as_bytes()).1;
    let id = ca.split("- id: ").nth(1).unwrap().lines().next().unwrap();
    ROUTE.replace("ID", id)
}

#[test]
fn the_defaults_are_those_of_ingress_nginx() {
    let (status, policy, servers, err) = import_one(&[]);
    assert_eq!((status, policy, err), (0, route() + HEADERS, String::new()));
    assert_eq!(
        servers,
        "\
# Made by resty-mtls import-ingress.
#
# Context: http{}, after mtls-http.conf, which loads the policy. Servers without a certificate of
# their own have that of http{}.

upstream shop.web.80 {
    # The Service shop/web, port 80: its address goes here.
    server 127.0.0.1:80;
}

# Other hosts.
server {
    listen 443 ssl default_server;
    return 404;
}

server {
    listen 443 ssl;
    server_name a.test;

    # The module requests and verifies certificates.
    ssl_verify_client off;
    ssl_early_data off;
    rewrite_by_lua_block { require(\"resty.mtls\").strip() }
    access_by_lua_block { require(\"resty.mtls\").access(\"a.test\") }

    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Host $host;
    proxy_set_header X-Forwarded-Proto $scheme;

    location / {
        proxy_pass http://shop.web.80;
    }
}
"
    );
}

#[test]
fn settings_are_carried_over() {
    let (status, policy, _, err) = import_one(&[
        ("auth-tls-verify-client", "on"),
        ("auth-tls-verify-depth", "3"),
        ("auth-tls-pass-certificate-to-upstream", "true"),
    ]);
    let expected = route().replace("depth: 1", "depth: 3") + HEADERS;
    let expected = expected.replace("        headers: {ssl-client-cert: null}\n", "");
    assert_eq!((status, policy, err), (0, expected, String::new()));

    for (value, depth) in [("0", 1), ("100", 100)] {
        let (status, policy, _, _) = import_one(&[("auth-tls-verify-depth", value)]);
        let expected = route().replace("depth: 1", &format!("depth: {depth}")) + HEADERS;
        assert_eq!((status, policy), (0, expected));
    }
}

#[test]
fn off_and_the_optional_values_are_as_lax_as_they_were() {
    let (status, policy, _, err) = import_one(&[("auth-tls-verify-client", "off")]);
    assert_eq!(
        (status, &*policy, &*err),
        (
            4,
            "\nroutes:\n- name: \"a.test\"\n",
            "standard input:12: clients are not authenticated, as with ingress-nginx: 'off'\n"
        )
    );
    for (value, has_check) in [("optional", true), ("optional_no_ca", false)] {
        let (status, policy, servers, err) = import_one(&[("auth-tls-verify-client", value)]);
        let expected = "\nconsumers:\n# A client without a trusted certificate.\n- username: \
                        anonymous\n"
            .to_owned()
            + &route()
            + "      anonymous: anonymous\n"
            + HEADERS;
        assert_eq!((status, policy), (4, expected));
        assert!(
            err.contains(&format!("'{value}'; the upstream must check")),
            "{err}"
        );
        assert_eq!(servers.contains("return ngx.exit(400)"), has_check);
    }
}

#[test]
fn match_cn_is_a_rule_or_leaves_the_host_out() {
    for value in ["on", "optional", "optional_no_ca"] {
        let (status, policy, servers, err) = import_one(&[
            ("auth-tls-match-cn", "CN=(ann|bob)"),
            ("auth-tls-verify-client", value),
        ]);
        let rule =
            "  - name: client-cert-acl\n    config:\n      allow:\n      - name: match-cn\n  \
                    \x20     subject.CN: [\"ann\", \"bob\"]\n";
        assert_eq!((status, policy), (4, route() + rule + HEADERS), "{value}");
        assert!(!servers.contains("ngx.exit"), "{servers}");
        assert!(
            err.contains(":12: the common name must now be equal"),
            "{err}"
        );
        let needs = err.contains(":12: clients need a trusted certificate now");
        assert_eq!(needs, value != "on", "{err}");
    }
    let (status, policy, _, err) = import_one(&[("auth-tls-match-cn", "CN=.*")]);
    assert_eq!(
        (status, &*policy, &*err),
        (
            1,
            "",
            "standard input:12: 'CN=.*' is not carried over, expected 'CN=NAME' or \
             'CN=(NAME|NAME)': write a rule of client-cert-acl\n\
             standard input:15: the host 'a.test' is left out\n\
             resty-mtls: import-ingress: no host with 'auth-tls-secret' to import\n"
        )
    );
}

#[test]
fn what_is_not_carried_over_is_reported_with_its_line() {
    let (status, policy, _, err) = import_one(&[
        ("auth-tls-error-page", "https://a.test/$error"),
        ("auth-tls-verify-client", "yes"),
        ("auth-tls-verify-depth", "many"),
        ("limit-rps", "10"),
    ]);
    assert_eq!((status, policy), (4, route() + HEADERS));
    let lines = [
        ":15: 'limit-rps' is not carried over",
        ":13: 'yes' is no value of 'auth-tls-verify-client': taken for 'on', as ingress-nginx does",
        ":14: 'many' is not a number from 1 to 100: 1 is used",
        ":12: the error page 'https://a.test/$error' is not carried over, expected a URL of http or https, \
         or a path: refused clients get 401",
    ];
    let lines = lines.map(|line| format!("standard input{line}\n"));
    assert_eq!(err, lines.concat());
}

#[test]
fn error_pages_cannot_write_configuration() {
    let needs = "standard input:12: the error page needs the option refusals = \"nginx\" of \
                 mtls.init, see the head of servers.conf; without it, refused clients get 401\n";
    for (page, directive) in [
        ("https://sso.test/why?a=%20b&c=(d)", None),
        ("HTTP://[2001:db8::1]:8080/", None),
        ("/error.html", Some("= /.mtls-error-page")),
    ] {
        let (status, policy, servers, err) = import_one(&[("auth-tls-error-page", page)]);
        assert_eq!((status, policy, &*err), (4, route() + HEADERS, needs));
        let directive = format!("    error_page 401 {};\n", directive.unwrap_or(page));
        assert!(servers.contains(&directive), "{servers}");
        assert!(servers.contains("refusals = \"nginx\""), "{servers}");
        let location = format!(
            "internal;\n        access_by_lua_block {{ return }}\n        rewrite ^ {page} break;\n        \
             proxy_pass http://shop.web.80;\n"
        );
        assert_eq!(servers.contains(&location), page.starts_with('/'));
    }
    for page in [
        "https://sso.test/$host",
        "https://sso.test/a b",
        "https://sso.test/;return",
        "https://sso.test/\"",
        "https://sso.test/\\n",
        "https://sso.test/{",
        "https://sso.test/#a",
        "https://$host/",
        "https://",
        "https:///a",
        "ftp://sso.test/",
        "javascript:alert(1)",
        "//sso.test/",
        "/a?b",
        "/a b",
        "/$host",
        "@named",
        "error.html",
        &format!("/{}", "a".repeat(2000)),
    ] {
        let quoted = page.replace('\'', "''");
        let (status, policy, servers, err) = import_one(&[("auth-tls-error-page", &quoted)]);
        assert_eq!((status, policy), (4, route() + HEADERS));
        assert!(
            err.contains("' is not carried over, expected a URL"),
            "{page}: {err}"
        );
        assert!(!servers.contains("error_page"), "{servers}");
    }

    // A redirect to the same server would be refused again.
    for (page, verify, is_noted) in [
        ("https://a.test/error", "on", true),
        ("HTTPS://A.test:443?a", "optional", true),
        ("https://a.test", "off", false),
        ("http://a.test/error", "on", false),
        ("https://a.test:8443/error", "on", false),
        ("https://b.a.test/error", "on", false),
    ] {
        let annotations = [
            ("auth-tls-error-page", page),
            ("auth-tls-verify-client", verify),
        ];
        let (_, _, servers, err) = import_one(&annotations);
        let note = format!(
            "standard input:11: the error page '{page}' is on its own host, which redirects refused \
             clients to it again: expected another host, or a path\n"
        );
        assert_eq!(err.contains(&note), is_noted, "{page}: {err}");
        assert!(servers.contains(&format!(" {page};\n")), "{servers}");
    }

    let (_, _, servers, _) = import_one(&[
        ("auth-tls-error-page", "https://sso.test/"),
        ("auth-tls-verify-client", "optional"),
    ]);
    assert!(
        servers.contains("error_page 401 495 https://sso.test/;"),
        "{servers}"
    );
    assert!(servers.contains("return ngx.exit(495)"), "{servers}");

    let text = secret()
        + &ingress("a.test", &[("auth-tls-error-page", "/error")])
            .replace("path: /\n", "path: /b\n");
    let (status, out, err) = import(&text);
    assert_eq!(status, 4);
    assert!(!out.contains("error_page"), "{out}");
    let lost = "the error page '/error' is not carried over, since no path of the host serves it";
    assert!(err.contains(lost), "{err}");
}

#[test]
fn a_host_with_another_restriction_is_left_out() {
    for (name, value) in [
        ("allowlist-source-range", "10.0.0.0/8"),
        ("auth-realm", "shop"),
        ("auth-secret", "shop/users"),
        ("auth-secret-type", "auth-file"),
        ("auth-signin", "https://sso.test"),
        ("auth-snippet", "deny all;"),
        ("auth-tls-later", "strict"),
        ("auth-type", "basic"),
        ("auth-url", "https://auth.test"),
        ("configuration-snippet", "deny all;"),
        ("denylist-source-range", "10.0.0.0/8"),
        ("enable-global-auth", "true"),
        ("enable-modsecurity", "true"),
        ("enable-owasp-core-rules", "true"),
        ("modsecurity-snippet", "SecRuleEngine On"),
        ("satisfy", "any"),
        ("server-snippet", "deny all;"),
        ("whitelist-source-range", "10.0.0.0/8"),
    ] {
        let restricted = ingress("a.test", &[(name, value)]);
        let (status, out, err) = import(&(secret() + &ingress("b.test", &[]) + &restricted));
        let expected = format!(
            "standard input:27: '{name}' restricts access, and is not carried over\n\
             standard input:30: the host 'a.test' is left out\n"
        );
        assert_eq!((status, err), (4, expected));
        let refusal = "    server_name a.test;\n    return 503;\n}\n";
        assert!(out.ends_with(refusal), "{out}");
        let policy = out.split("\n---\n").next().unwrap();
        assert!(
            !policy.contains("a.test") && policy.contains("b.test"),
            "{out}"
        );
    }
    for (name, value) in [
        ("enable-global-auth", "false"),
        ("enable-modsecurity", "false"),
        ("limit-connections", "5"),
        ("limit-whitelist", "10.0.0.0/8"),
        ("proxy-body-size", "8m"),
    ] {
        let (status, policy, _, err) = import_one(&[(name, value)]);
        assert_eq!((status, policy), (4, route() + HEADERS));
        assert_eq!(
            err,
            format!("standard input:12: '{name}' is not carried over\n")
        );
    }
    let (status, out, err) = import(&(secret() + &ingress("a.test", &[("auth-url", "x")])));
    assert_eq!((status, &*out), (1, ""));
    assert!(
        err.ends_with("import-ingress: no host with 'auth-tls-secret' to import\n"),
        "{err}"
    );
}

#[test]
fn a_restriction_of_one_ingress_leaves_its_host_out_for_all() {
    let secret_line = "    nginx.ingress.kubernetes.io/auth-tls-secret: shop/ca\n";
    let restricted = ingress(
        "a.test",
        &[("auth-url", "https://auth.test"), ("satisfy", "any")],
    )
    .replace(secret_line, "")
    .replace("path: /", "path: /b");
    for text in [
        secret() + &restricted + &ingress("a.test", &[]) + &ingress("b.test", &[]),
        secret() + &ingress("a.test", &[]) + &restricted + &ingress("b.test", &[]),
    ] {
        let (status, out, err) = import(&text);
        let line = |found: &str| 1 + text.lines().position(|line| line.contains(found)).unwrap();
        let (url, satisfy) = (line("auth-url"), line("satisfy"));
        let host = satisfy + 3;
        let expected = format!(
            "standard input:{url}: 'auth-url' restricts access, and is not carried over\n\
             standard input:{satisfy}: 'satisfy' restricts access, and is not carried over\n\
             standard input:{host}: the host 'a.test' is left out\n"
        );
        assert_eq!((status, err), (4, expected));
        let refusal = "    server_name a.test;\n    return 503;\n}\n";
        assert!(
            out.ends_with(refusal) && !out.contains("location = /b"),
            "{out}"
        );
    }
    // Without client certificates, a host is none to import.
    let other = restricted.replace("a.test", "c.test");
    let (status, out, err) = import(&(secret() + &other + &ingress("b.test", &[])));
    assert_eq!((status, err), (0, String::new()));
    assert!(!out.contains("c.test"), "{out}");
}

#[test]
fn a_host_of_several_ingresses_has_one_protection() {
    let plain = ingress("a.test", &[("limit-rps", "1")])
        .replace(
            "    nginx.ingress.kubernetes.io/auth-tls-secret: shop/ca\n",
            "",
        )
        .replace("path: /", "path: /b")
        .replace("name: web", "name: other");
    let (status, out, err) = import(&(secret() + &plain + &ingress("a.test", &[])));
    assert_eq!(
        (status, &*err),
        (4, "standard input:11: 'limit-rps' is not carried over\n")
    );
    assert!(
        out.contains("location = /b {\n        proxy_pass http://shop.other.80;"),
        "{out}"
    );
    assert!(out.contains("location /b/ {"), "{out}");

    let lax = ingress("a.test", &[("auth-tls-verify-client", "off")]);
    let good = ingress("b.test", &[]);
    let (status, out, err) = import(&(secret() + &lax + &ingress("a.test", &[]) + &good));
    assert_eq!(status, 4);
    let policy = out.split("\n---\n").next().unwrap();
    assert!(
        !policy.contains("a.test") && policy.contains("b.test"),
        "{out}"
    );
    let refusal = "    server_name a.test;\n    return 503;\n}\n";
    assert!(out.ends_with(refusal), "{out}");
    assert!(
        err.contains(
            "standard input:30: the host 'a.test' has other settings at standard input:11, of \
             which ingress-nginx would use those of the older Ingress: the host is left out"
        ),
        "{err}"
    );
}

#[test]
fn secrets_are_read_in_every_form() {
    let indented = |indent: &str| {
        CA.lines()
            .map(|line| format!("{indent}{line}\n"))
            .collect::<String>()
    };
    let string_data = format!(
        "kind: List\nitems:\n- kind: Secret\n  metadata: {{name: ca, namespace: shop}}\n  \
         data: {{ca.crt: AAAA}}\n  stringData:\n    ca.crt: |\n{}",
        indented("      ")
    );
    let (status, out, err) = import(&(string_data + &ingress("a.test", &[])));
    assert_eq!((status, err), (0, String::new()));
    assert!(out.contains(&route()), "{out}");

    let no_ca = secret().replace("ca.crt", "tls.crt");
    let not_base64 = secret().replace("ca.crt: ", "ca.crt: '*', x: ");
    let leaf = secret().replace(&STANDARD.encode(CA), &STANDARD.encode(ODD));
    for (secret, message) in [
        (
            String::new(),
            ":7: the Secret 'shop/ca' is in none of the files",
        ),
        (no_ca, ":1: the Secret has no 'ca.crt'"),
        (
            leaf,
            ":4: line 1 of 'ca.crt': warning: left out: certificate 'CN=ann",
        ),
        (
            secret() + "---\n" + &secret(),
            ":6: the Secret shop/ca is there twice, first at",
        ),
        (not_base64, ": data.ca.crt is not base64"),
    ] {
        let (status, out, err) = import(&(secret + &ingress("a.test", &[])));
        assert_eq!((status, &*out), (1, ""), "{err}");
        assert!(err.contains(message), "{err}");
    }
}

#[test]
fn crls_need_a_directory_and_are_checked_strictly() {
    let with_crl = secret().replace("data: {", "data: {ca.crl: eA==, ");
    let text = with_crl + &ingress("a.test", &[]);
    let (status, out, err) = import(&text);
    let message = "resty-mtls: import-ingress: a Secret has 'ca.crl', which must be a file: \
                   expected --out DIR\n";
    assert_eq!((status, &*out, &*err), (1, "", message));

    let id = std::process::id();
    let directory = std::env::temp_dir().join(format!("resty-mtls-import-{id}"));
    let path = directory.to_str().unwrap();
    let args = ["import-ingress", "--out", path, "-"];
    let result = run_reading(&args, &mut text.as_bytes());
    assert_eq!(result, (0, String::new(), String::new()));
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    assert_eq!(read("shop.ca.crl.pem"), "x");
    let expected = "revocation_check_mode: STRICT\n      crls: [\"shop.ca.crl.pem\"]\n";
    assert!(read("policy.yaml").contains(expected));
    assert!(read("servers.conf").contains("server_name a.test;"));

    let (status, _, err) = run_reading(&args, &mut text.as_bytes());
    std::fs::remove_dir_all(&directory).unwrap();
    let message = "policy.yaml: cannot be written: File exists (os error 17)\n";
    assert!(status == 1 && err.ends_with(message), "{err}");
}

#[test]
fn names_cannot_write_configuration() {
    for host in [
        "a;b", "a b", "a{", "a\"", "*", "a.*", "a\\nb", "$host", "a'' b",
    ] {
        let (status, out, err) = import(&(secret() + &ingress(host, &[])));
        assert_eq!((status, &*out), (1, ""), "{host}: {err}");
        assert!(
            err.contains("is not a host name, and left out"),
            "{host}: {err}"
        );
    }
    for path in ["/a b", "/a;b", "/a{", "a", "~ /a", "/a$x", "/(.*)"] {
        let text = ingress("a.test", &[]).replace("path: /\n", &format!("path: '{path}'\n"));
        let (status, out, err) = import(&(secret() + &text));
        assert_eq!(status, 4, "{err}");
        assert!(err.contains(": the path '"), "{path}: {err}");
        assert!(
            out.ends_with("location / {\n        return 404;\n    }\n}\n"),
            "{out}"
        );
    }
    let text = ingress("a.test", &[]).replace("name: web", "name: 'w;b'");
    let (_, out, err) = import(&(secret() + &text));
    assert!(
        !out.contains("w;b") && err.contains("its backend is no Service"),
        "{err}"
    );
}

#[test]
fn bad_input_and_misuse_are_reported() {
    for (text, message) in [
        ("a: [", "standard input:1:4: not valid YAML"),
        (
            "a: b",
            "standard input:1: no 'kind', expected a resource of Kubernetes",
        ),
        ("kind: Ingress", "standard input:1: no 'metadata.name'"),
        (
            "kind: Pod",
            "resty-mtls: import-ingress: no host with 'auth-tls-secret' to import",
        ),
        ("\u{fffd}", "standard input:1: no 'kind'"),
    ] {
        let (status, out, err) = import(text);
        assert_eq!((status, &*out), (1, ""));
        assert!(err.starts_with(message), "{err}");
    }
    let (status, _, err) = run_reading(&["import-ingress", "-"], &mut &b"\xff"[..]);
    assert_eq!((status, &*err), (1, "standard input: not UTF-8\n"));
    assert_eq!(run_with(&["import-ingress"]).0, 2);
}
