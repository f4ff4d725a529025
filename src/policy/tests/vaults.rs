//! References to vaults in a whole document.

use super::*;

#[test]
fn vault_references_are_resolved_in_supported_plugins_and_certificates_only() {
    std::env::set_var("RMTLS_TEST_CA", ca_pem("CA A"));
    std::env::set_var(
        "RMTLS_TEST_CLIENT",
        r#"{"id": "gateway", "secret": "s3cret"}"#,
    );
    let text = |secret: &str| {
        format!(
            "_format_version: '3.0'\n\
             vaults: [{{name: env, prefix: own, config: {{prefix: RMTLS_TEST_}}}}]\n\
             ca_certificates: [{{id: {ID_A}, cert: '{{vault://env/rmtls-test-ca}}'}}]\n\
             plugins:\n\
             - {{name: rate-limiting, config: {{redis: {{password: '{{vault://hcv/r/p}}'}}}}}}\n\
             - {{name: mtls-auth, enabled: false, config: {{anonymous: '{{vault://hcv/a/b}}'}}}}\n\
             - name: openid-connect\n  config: {{issuer: 'https://idp.test', auth_methods: \
             [introspection], hide_credentials: true, audience_required: [a], client_id: \
             ['{{vault://own/client/id}}'], client_secret: ['{secret}']}}\n"
        )
    };
    let found = policy(&text("{vault://env/rmtls-test-client/secret}"));
    let client = found.plans[0].token_auth.as_ref().unwrap().client.clone();
    let client = client.unwrap();
    assert_eq!((&*client.id, &*client.secret.0), ("gateway", "s3cret"));
    assert_eq!(
        errors(&text("{vault://aws/client/secret}")),
        [
            "p:8:174: plugins[2].config.client_secret: '{vault://aws/client/secret}': the vault \
             'aws' is not supported, expected {vault://env/NAME} or {vault://env/NAME/KEY}"
        ]
    );
}
