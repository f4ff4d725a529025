//! Explains the decision about any certificate with one more.

#![no_main]

use libfuzzer_sys::fuzz_target;
use openssl::stack::Stack;
use openssl::x509::X509;
use resty_mtls::certificate::Certificate;
use resty_mtls::engine::{Engine, Probe};
use resty_mtls::policy::{Files, Policy};
use resty_mtls_fuzz::Pki;

thread_local! {
    static ENGINE: Engine = {
        let ca = String::from_utf8(Pki::default().ca.to_pem().expect("PEM")).expect("text");
        let id = "11111111-1111-4111-8111-111111111111";
        let text = format!(
            "_format_version: '3.0'\nca_certificates: [{{id: {id}, cert: {ca:?}}}]\nroutes:\n\
             - name: r\n  snis: [a.test]\n  plugins:\n  - name: mtls-auth\n    config: \
             {{ca_certificates: [{id}], send_ca_dn: true}}\n  - name: client-cert-acl\n    \
             config: {{deny: [{{subject.CN: bad}}]}}\n"
        );
        let policy = Policy::from_yaml_with(text.as_bytes(), "p", &mut Files::with_outline());
        Engine::of_policy(policy.unwrap_or_else(|errors| panic!("{errors:#?}")))
    };
}

fuzz_target!(|data: &[u8]| {
    let (leaf, sent) = match data.split_first_chunk::<2>() {
        Some((len, rest)) => rest.split_at(rest.len().min(u16::from_be_bytes(*len).into())),
        None => return,
    };
    let Ok(leaf) = X509::from_der(leaf) else {
        return;
    };
    let mut stack = Stack::new().expect("memory");
    if let Ok(sent) = X509::from_der(sent) {
        stack.push(sent).expect("memory");
    }
    let Ok(certificate) = Certificate::new(leaf, stack) else {
        return;
    };
    let probe = Probe {
        route: Some("r"),
        server_name: Some(b"a.test"),
        host: b"a.test",
        certificate: Some(&certificate),
        now: 1_800_000_000,
        ..Probe::default()
    };
    ENGINE.with(|engine| {
        if let Ok(explanation) = engine.explain(&probe) {
            let refused = explanation.steps.iter().any(|step| step.ok == Some(false));
            assert_eq!(explanation.allowed, !refused, "{:#?}", explanation.steps);
        }
    });
});
