//! The summary of a policy.

use super::*;

#[test]
fn summary_lists_certificate_requests_and_protected_routes() {
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
             server names under which a client certificate is requested: 3\n\
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
