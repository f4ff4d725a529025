//! The policy and the server blocks of an import.

use std::fmt::Write as _;

use super::convert::{ErrorPage, Host, Import, VerifyClient};

/// The location of an error page, which only nginx itself redirects to.
const ERROR_LOCATION: &str = "/.mtls-error-page";

/// The consumer of clients whose certificate is not trusted.
const ANONYMOUS: &str = "anonymous";

/// policy.yaml
pub(super) fn policy(import: &Import) -> String {
    let mut text = "# Made by resty-mtls import-ingress.\n_format_version: \"3.0\"\n\n".to_owned();
    text.push_str(&import.cas.yaml());
    let lets_in_all = |host: &Host| {
        let verify = host.auth.verify;
        matches!(verify, VerifyClient::Optional | VerifyClient::OptionalNoCa)
    };
    if import.hosts.values().any(lets_in_all) {
        let _ = write!(
            text,
            "\nconsumers:\n# A client without a trusted certificate.\n- username: {ANONYMOUS}\n"
        );
    }
    text.push_str("\nroutes:\n");
    for (name, host) in &import.hosts {
        route(&mut text, import, name, host);
    }
    text
}

fn route(text: &mut String, import: &Import, name: &str, host: &Host) {
    let auth = &host.auth;
    let _ = writeln!(text, "- name: \"{name}\"");
    if auth.verify == VerifyClient::Off {
        return;
    }
    let ids = auth.cas.iter().filter_map(|at| import.cas.entries.get(*at));
    let ids: Vec<&str> = ids.map(|entry| entry.id.as_str()).collect();
    let ids = ids.join(", ");
    let _ = write!(
        text,
        "  snis: [\"{name}\"]\n  plugins:\n  - name: mtls-auth\n    config:\n      \
         ca_certificates: [{ids}]\n      send_ca_dn: true\n      skip_consumer_lookup: true\n      \
         verify_depth: {}\n",
        auth.depth
    );
    // As nginx: with ssl_crl every certificate of the chain needs a CRL, without it none is looked
    // for.
    let _ = match &auth.crls {
        Some(file) => writeln!(
            text,
            "      revocation_check_mode: STRICT\n      crls: [\"{file}\"]"
        ),
        None => writeln!(text, "      revocation_check_mode: SKIP"),
    };
    if auth.verify != VerifyClient::On {
        let _ = writeln!(text, "      anonymous: {ANONYMOUS}");
    }
    if let Some(names) = &auth.common_names {
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let names = names.join(", ");
        let _ = write!(
            text,
            "  - name: client-cert-acl\n    config:\n      allow:\n      - name: match-cn\n        \
             subject.CN: [{names}]\n"
        );
    }
    let _ = write!(
        text,
        "  - name: client-cert-headers\n    config:\n      dialects:\n      - name: nginx\n        \
         when: presented\n"
    );
    if !auth.passes_certificate {
        let _ = writeln!(text, "        headers: {{ssl-client-cert: null}}");
    }
}

/// servers.conf
pub(super) fn servers(import: &Import) -> String {
    let mut text = "# Made by resty-mtls import-ingress.\n#\n\
                    # Context: http{}, after mtls-http.conf, which loads the policy. Servers without \
                    a certificate of\n# their own have that of http{}.\n"
        .to_owned();
    let mut hosts = import.hosts.values();
    if hosts.any(|host| host.auth.error_page.is_some()) {
        text.push_str(
            "#\n# Error pages need an option of mtls.init in mtls-http.conf, without which \
             refused clients get 401:\n#\n#     require(\"resty.mtls\").init { policy = ..., refusals = \
             \"nginx\" }\n",
        );
    }
    for (name, (service, port)) in &import.upstreams {
        // A named port is known to the Service alone.
        let number = port.parse::<u16>().unwrap_or(80);
        let _ = write!(
            text,
            "\nupstream {name} {{\n    # The Service {service}, port {port}: its address goes \
             here.\n    server 127.0.0.1:{number};\n}}\n"
        );
    }
    text.push_str(
        "\n# Other hosts.\nserver {\n    listen 443 ssl default_server;\n    return 404;\n}\n",
    );
    for (name, host) in &import.hosts {
        server(&mut text, name, host);
    }
    // A server with a wildcard must not serve them.
    for name in &import.left_out {
        let _ = write!(
            text,
            "\n# Left out.\nserver {{\n    listen 443 ssl;\n    server_name {name};\n    \
             return 503;\n}}\n"
        );
    }
    text
}

fn server(text: &mut String, name: &str, host: &Host) {
    let _ = write!(
        text,
        "\nserver {{\n    listen 443 ssl;\n    server_name {name};\n"
    );
    if let Some(secret) = &host.server_certificate {
        let _ = write!(
            text,
            "    # tls.crt and tls.key of the Secret {secret}:\n    \
             # ssl_certificate     /etc/nginx/tls/{name}.crt;\n    \
             # ssl_certificate_key /etc/nginx/tls/{name}.key;\n"
        );
    }
    text.push_str(
        "\n    # The module requests and verifies certificates.\n    ssl_verify_client off;\n    \
         ssl_early_data off;\n    \
         rewrite_by_lua_block { require(\"resty.mtls\").strip() }\n",
    );
    let untrusted = match &host.auth.error_page {
        // nginx's status for the same, which clients see as 400.
        Some(_) => 495,
        None => 400,
    };
    let _ = match host.auth.verify {
        VerifyClient::Optional => write!(
            text,
            "    access_by_lua_block {{\n        local mtls = require \"resty.mtls\"\n        \
             mtls.access(\"{name}\")\n        \
             -- Without a certificate a client is let in, with one that is not trusted it is not.\n\
             \x20       local client = mtls.client()\n        \
             if client and client.verified ~= \"SUCCESS\" then\n            \
             return ngx.exit({untrusted})\n        end\n    }}\n"
        ),
        _ => writeln!(
            text,
            "    access_by_lua_block {{ require(\"resty.mtls\").access(\"{name}\") }}"
        ),
    };
    error_page(text, host);
    text.push_str(
        "\n    proxy_http_version 1.1;\n    proxy_set_header Host $host;\n    \
         proxy_set_header X-Real-IP $remote_addr;\n    \
         proxy_set_header X-Forwarded-For $remote_addr;\n    \
         proxy_set_header X-Forwarded-Host $host;\n    \
         proxy_set_header X-Forwarded-Proto $scheme;\n",
    );
    for (location, upstream) in &host.locations {
        let _ = write!(
            text,
            "\n    location {location} {{\n        proxy_pass http://{upstream};\n    }}\n"
        );
    }
    if !host.locations.contains_key("/") {
        text.push_str("\n    location / {\n        return 404;\n    }\n");
    }
    text.push_str("}\n");
}

/// What clients without an accepted certificate get in place of 401: in ingress-nginx the statuses
/// 495 and 496. A 403 of `auth-tls-match-cn` and a 421 have no error page there either.
fn error_page(text: &mut String, host: &Host) {
    let Some(page) = &host.auth.error_page else {
        return;
    };
    let statuses = match host.auth.verify {
        VerifyClient::Optional => "401 495",
        _ => "401",
    };
    let _ = match (page, &host.error_upstream) {
        (ErrorPage::Redirect(url), _) => write!(
            text,
            "\n    # auth-tls-error-page: refused clients are redirected, but for 403 and 421.\n    \
             error_page {statuses} {url};\n"
        ),
        (ErrorPage::Path(path), Some(upstream)) => write!(
            text,
            "\n    # auth-tls-error-page: refused clients get this path, without headers about \
             certificates, but for 403 and\n    # 421.\n    error_page {statuses} = {ERROR_LOCATION};\n\
             \n    location = {ERROR_LOCATION} {{\n        internal;\n        access_by_lua_block {{ \
             return }}\n        rewrite ^ {path} break;\n        proxy_pass http://{upstream};\n    \
             }}\n"
        ),
        (ErrorPage::Path(_), None) => Ok(()),
    };
}
