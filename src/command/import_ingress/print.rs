//! The policy and the server blocks of an import.

use std::fmt::Write as _;

use super::convert::{Host, Import, VerifyClient};

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
    let _ = match host.auth.verify {
        VerifyClient::Optional => write!(
            text,
            "    access_by_lua_block {{\n        local mtls = require \"resty.mtls\"\n        \
             mtls.access(\"{name}\")\n        \
             -- Without a certificate a client is let in, with one that is not trusted it is not.\n\
             \x20       local client = mtls.client()\n        \
             if client and client.verified ~= \"SUCCESS\" then\n            \
             return ngx.exit(400)\n        end\n    }}\n"
        ),
        _ => writeln!(
            text,
            "    access_by_lua_block {{ require(\"resty.mtls\").access(\"{name}\") }}"
        ),
    };
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
