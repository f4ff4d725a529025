//! `header-cert-auth`, and the header of `openid-connect` that carries a certificate.

use super::*;
use crate::inbound::{AllowedPeers, Format};

fn header_cert_auth(extra: &str) -> String {
    with_cas(&format!(
        "plugins:\n- {{name: header-cert-auth, config: {{ca_certificates: [{ID_A}], \
         certificate_header_name: X-Client-Cert, certificate_header_format: url_encoded{extra}}}}}"
    ))
}

#[test]
fn header_cert_auth_fields() {
    let plan = |extra: &str| policy(&header_cert_auth(extra)).plans.remove(0);
    for (name, format) in Format::ALL {
        let text = header_cert_auth("").replace("url_encoded", name);
        let plan = policy(&text).plans.remove(0);
        let inbound = plan.certificate_header.as_ref().unwrap();
        assert_eq!(inbound.format, format);
        let chain = matches!(format, Format::Rfc9440 | Format::Auto);
        assert_eq!(
            inbound.chain.as_deref(),
            chain.then_some("X-Client-Cert-Chain")
        );
    }
    assert_eq!(
        plan("").certificate_header.as_ref().unwrap().allowed_peers,
        AllowedPeers::Trusted
    );
    let open = plan(", secure_source: false, skip_consumer_lookup: true");
    assert_eq!(
        open.certificate_header.as_ref().unwrap().allowed_peers,
        AllowedPeers::Anyone
    );
    assert!(open.auth.as_ref().unwrap().lookup.is_none());
    assert!(
        plan("")
            .auth
            .as_ref()
            .unwrap()
            .lookup
            .as_ref()
            .unwrap()
            .header
    );
    // The handshake requests no certificate.
    let policy = policy(&header_cert_auth(""));
    assert_eq!(ca_names_len(&policy, "-"), None);
    assert_eq!(warnings(&policy), [""; 0]);
    assert!(policy.reserved_headers.contains(b"x-client_cert"));
    for (extra, error) in [
        (", send_ca_dn: true", "unknown field 'send_ca_dn'"),
        (
            ", san_dirname_matcher: [CN]",
            "unknown field 'san_dirname_matcher'",
        ),
        (
            ", certificate_header_name: Cookie",
            "certificate_header_name: the header 'Cookie' carries credentials, expected another \
             name",
        ),
        (
            ", certificate_header_name: Host",
            "certificate_header_name: the header 'Host' frames the message",
        ),
    ] {
        let field = extra.split([' ', ':']).nth(1).unwrap();
        let text = match field {
            "certificate_header_name" => {
                header_cert_auth("").replace("certificate_header_name: X-Client-Cert", &extra[2..])
            }
            _ => header_cert_auth(extra),
        };
        let errors = errors_without_name(&text);
        assert!(errors[0].contains(error), "{errors:?}");
    }
    let text = header_cert_auth("").replace(", certificate_header_format: url_encoded", "");
    assert_eq!(
        errors_without_name(&text),
        ["6:36: plugins[0].config: the required field 'certificate_header_format' is missing"]
    );
    let text = header_cert_auth("").replace("url_encoded", "pem");
    assert!(errors_without_name(&text)[0].contains(
        "'pem', expected 'base64_encoded', 'url_encoded', 'rfc9440', 'xfcc', 'traefik', \
         'aws_alb' or 'auto'"
    ));
}

#[test]
fn header_cert_auth_together_with_mtls_auth_is_refused() {
    let text = with_cas(&format!(
        "routes: [{{name: r, snis: [a.test], plugins: [{{name: header-cert-auth, config: \
         {{ca_certificates: [{ID_A}], certificate_header_name: a, certificate_header_format: \
         auto}}}}]}}]\n\
         plugins: [{{name: mtls-auth, config: {{ca_certificates: [{ID_A}]}}}}]"
    ));
    assert_eq!(
        errors_without_name(&text),
        ["5:46: routes[0].plugins[0]: applies to routes[0] together with mtls-auth, expected one \
          source of the certificate on a route"]
    );
}

#[test]
fn header_cert_auth_credentials_are_for_headers_only() {
    let text = with_cas(&format!(
        "routes: [{{name: tls, plugins: [{{name: mtls-auth, config: {{ca_certificates: [{ID_A}]\
         }}}}]}}, {{name: hdr, plugins: [{{name: header-cert-auth, config: {{ca_certificates: \
         [{ID_A}], certificate_header_name: a, certificate_header_format: auto}}}}]}}]\n\
         consumers:\n\
         - {{username: ann, header_cert_auth_credentials: [{{subject_name: leaf}}]}}\n\
         - {{username: bob, mtls_auth_credentials: [{{subject_name: leaf}}]}}\n\
         - {{username: cy, mtls_auth_credentials: [{{subject_name: other}}]}}\n"
    ));
    let policy = policy(&text);
    let certificate = |cn: &str| {
        let leaf = crate::testing::issue(cn, None, false, 60, &[]);
        let pem = leaf.x509.to_pem().unwrap();
        crate::certificate::Certificate::from_pem(&pem).unwrap()
    };
    let consumer_of = |route: &str, cn: &str| {
        let auth = plan(&policy, route).auth.as_ref().unwrap();
        let lookup = auth.lookup.as_ref().unwrap();
        let names = crate::identity::subject_names(&certificate(cn), &lookup.dirname, false);
        let found = policy
            .consumers
            .find(&names.names, &[], lookup.by, lookup.header);
        found.and_then(|found| policy.consumers.get(found.consumer)?.username.clone())
    };
    assert_eq!(consumer_of("tls", "leaf").as_deref(), Some("bob"));
    assert_eq!(consumer_of("hdr", "leaf").as_deref(), Some("ann"));
    assert_eq!(consumer_of("hdr", "other").as_deref(), Some("cy"));
}

#[test]
fn acl_with_header_cert_auth_is_accepted_and_with_openid_connect_alone_is_not() {
    let acl = ", {name: acl, config: {allow: [a]}}]";
    let text = header_cert_auth("").replace(
        "plugins:\n- {name: header-cert-auth",
        "plugins: [{name: header-cert-auth",
    );
    let text = text.replace("url_encoded}}", &format!("url_encoded}}}}{acl}"));
    assert!(policy(&text).plans[0].acl.is_some());
    let text = openid_connect("").replace("false}}]", &format!("false}}}}{acl}"));
    assert!(errors_without_name(&text)[0].contains("so no client would be authenticated there"));
}

#[test]
fn header_sources_that_are_insecure_or_empty_are_warned_about() {
    let untrusted_source_warning = |policy: &Policy| {
        policy
            .untrusted_source_warning
            .as_ref()
            .map(ToString::to_string)
    };
    let of_token = |extra: &str| {
        openid_connect(&format!(
            ", audience_required: [a], proof_of_possession_mtls_from_header: \
             {{certificate_header_name: X-Client-Cert, ca_certificates: [{ID_A}]}}{extra}"
        ))
    };
    let strict = ", proof_of_possession_mtls: strict";
    for (text, place) in [
        (header_cert_auth(""), "p:6:3: warning: plugins[0].config"),
        (
            of_token(strict),
            "p:5:11: warning: plugins[0].config.proof_of_possession_mtls_from_header",
        ),
    ] {
        let policy = policy(&text);
        assert_eq!(warnings(&policy), [""; 0]);
        assert_eq!(
            untrusted_source_warning(&policy),
            Some(format!(
                "{place}.certificate_header_name: the header is accepted only from 'trusted_ips' \
                 of mtls.init, and that list is empty: every certificate in it is ignored; \
                 expected the addresses of the proxies that send it"
            ))
        );
        let text = text.replace("_name: X-Client-Cert", "_name: X-C, secure_source: false");
        let open = self::policy(&text);
        assert_eq!(
            warnings(&open),
            [format!(
                "{place}.secure_source: is false: any client of this gateway may present any \
                 certificate, without its key; expected true, and the proxies in 'trusted_ips' of \
                 mtls.init"
            )]
        );
        assert_eq!(untrusted_source_warning(&open), None);
    }
    // It reads no header at all.
    let off = policy(&of_token(""));
    assert_eq!(
        (untrusted_source_warning(&off), warnings(&off).len()),
        (None, 1)
    );
    assert_eq!(untrusted_source_warning(&policy(&openid_connect(""))), None);
}
