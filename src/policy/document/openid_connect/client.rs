//! The fields of `openid-connect` about the introspection endpoint and the client that calls it.

use openssl::pkey::PKey;
use openssl::x509::X509;

use super::OpenidConnect;
use crate::policy::document::fields::{uuid, Object, Schema};
use crate::policy::document::DocumentReader;
use crate::policy::report::Path;
use crate::policy::token_auth::{ClientAuthMethod, ClientCertificate, OAuthClient, Secret};
use crate::policy::tree::{Node, Value};
use crate::text::quoted;
use crate::token::SigningKey;

const CLIENT_JWK: Schema = Schema {
    name: "client_jwk",
    supported: &[
        "kty", "kid", "alg", "crv", "x", "y", "d", "n", "e", "p", "q", "dp", "dq", "qi",
    ],
    ignored: &["issuer", "key_ops", "use", "x5c", "x5t", "x5t#S256", "x5u"],
    unsupported: &["k", "oth", "r", "t"],
};

impl<'t> DocumentReader<'t, '_> {
    /// Reads the fields about the introspection endpoint and the client credentials for it.
    pub(super) fn introspection(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        read: &mut OpenidConnect<'t>,
    ) {
        let mut url = |field| Some(self.url(object.get(field)?, &path.field(field))?.into());
        read.introspection_endpoint = url("introspection_endpoint");
        read.mtls_introspection_endpoint = url("mtls_introspection_endpoint");
        let id = self.first_secret(object, path, "client_id");
        let secret = self.first_secret(object, path, "client_secret");
        let client_auths = [
            ("client_secret_basic", Some(ClientAuthMethod::Basic)),
            ("client_secret_post", Some(ClientAuthMethod::Post)),
            ("private_key_jwt", Some(ClientAuthMethod::PrivateKey)),
            ("none", Some(ClientAuthMethod::None)),
            ("tls_client_auth", Some(ClientAuthMethod::Tls)),
            ("self_signed_tls_client_auth", Some(ClientAuthMethod::Tls)),
        ];
        let explicit = self.one_of(
            object,
            path,
            "introspection_endpoint_auth_method",
            &client_auths,
        );
        let mut client_auth = explicit.flatten();
        for (text, position, _) in self.texts(object, path, "client_auth").into_iter().take(1) {
            let found = client_auths.iter().find(|(name, _)| *name == text);
            match found {
                Some((_, found)) => client_auth = client_auth.or(*found),
                None if client_auth.is_none() && read.methods.introspection => {
                    let message = format!(
                        "'{}' is not supported, expected 'client_secret_basic', \
                         'client_secret_post', 'private_key_jwt', 'tls_client_auth', \
                         'self_signed_tls_client_auth' or 'none'",
                        quoted(text.as_bytes())
                    );
                    self.report
                        .error(position, &path.field("client_auth").item(0), message);
                }
                None => {}
            }
        }
        let client_auth = client_auth.unwrap_or(ClientAuthMethod::Basic);
        let key = self.client_key(object, path);
        let certificate = self.client_certificate(object, path);
        if read.methods.introspection {
            let needs_secret = matches!(
                client_auth,
                ClientAuthMethod::Basic | ClientAuthMethod::Post
            );
            let needs_key = client_auth == ClientAuthMethod::PrivateKey;
            for (field, given, needed) in [
                ("client_jwk", key.is_some(), needs_key),
                ("client_id", id.is_some(), true),
                (
                    "tls_client_auth_cert_id",
                    certificate.is_some(),
                    client_auth == ClientAuthMethod::Tls,
                ),
                ("client_secret", secret.is_some(), needs_secret),
            ] {
                if !given && needed && object.get(field).is_none() {
                    self.missing(object.node, path, field);
                }
            }
        }
        if read.methods.introspection && client_auth == ClientAuthMethod::Tls {
            for field in ["mtls_introspection_endpoint", "introspection_endpoint"] {
                let Some(node) = object.get(field) else {
                    continue;
                };
                if node.as_text().is_some_and(|url| url.starts_with("http://")) {
                    let message = "is http, expected https: the client authenticates with its \
                                   certificate on a TLS connection";
                    self.report
                        .error(node.position, &path.field(field), message);
                }
                break;
            }
        }
        read.client = id.map(|id| OAuthClient {
            id: id.into(),
            secret: Secret(secret.unwrap_or_default().into()),
            auth: client_auth,
            key,
            certificate,
        });
    }

    /// Reads `tls_client_auth_cert_id`, the id of an entry of `certificates`. Errors do not show
    /// its key.
    fn client_certificate(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
    ) -> Option<ClientCertificate> {
        let ssl_verify = self.boolean(object, path, "tls_client_auth_ssl_verify");
        let field = "tls_client_auth_cert_id";
        let node = object.get(field)?;
        let path = path.field(field);
        let text = self.text(node, &path)?;
        let entry = uuid(text).and_then(|id| {
            let mut entries = self.certificates.iter();
            entries
                .find(|(other, _)| *other == id)
                .map(|(_, node)| *node)
        });
        self.uses_certificates |= entry.is_some();
        let message = match entry {
            None => format!(
                "'{}', expected the id of an entry of 'certificates'",
                quoted(text.as_bytes())
            ),
            Some(node) => {
                let entry = Object { node };
                let mut pem = |field| {
                    let text = entry.get(field).and_then(Node::as_text).unwrap_or_default();
                    self.vault_value(text, node.position, &path)
                };
                let (chain, key) = (pem("cert")?, pem("key")?);
                match matching_pair(chain, key) {
                    Ok(()) => {
                        return Some(ClientCertificate {
                            chain: chain.into(),
                            key: Secret(key.into()),
                            ssl_verify: ssl_verify.unwrap_or(true),
                        })
                    }
                    Err(why) => {
                        format!(
                            "the entry '{}' of 'certificates' {why}",
                            quoted(text.as_bytes())
                        )
                    }
                }
            }
        };
        self.report.error(node.position, &path, message);
        None
    }

    /// Reads `client_jwk`: a key, or the first one of a list. Errors do not show its members.
    fn client_key(&mut self, object: &Object<'t>, path: &Path<'_>) -> Option<SigningKey> {
        let node = object.get("client_jwk")?;
        let first = match &node.value {
            Value::List(items) => items.first()?,
            _ => node,
        };
        let path = path.field("client_jwk");
        let jwk = self.object(first, &path, &CLIENT_JWK)?;
        let mut members: Vec<(&str, &str)> = Vec::new();
        for name in CLIENT_JWK.supported {
            if let Some(member) = jwk.get(name) {
                let text = member.as_text();
                let path = path.field(name);
                let text = text.and_then(|text| self.vault_value(text, member.position, &path));
                members.extend(text.map(|text| (*name, text)));
            }
        }
        let member = |name: &str| {
            let mut members = members.iter();
            members
                .find(|(other, _)| *other == name)
                .map(|(_, text)| *text)
        };
        match SigningKey::from_jwk(member) {
            Ok(key) => Some(key),
            Err(why) => {
                self.report.error(first.position, &path, why);
                None
            }
        }
    }

    /// Reads a text, or the first one of a list. Errors do not show it.
    fn first_secret(
        &mut self,
        object: &Object<'t>,
        path: &Path<'_>,
        field: &str,
    ) -> Option<&'t str> {
        let node = object.get(field)?;
        let path = path.field(field);
        let first = match &node.value {
            Value::List(items) => items.first(),
            _ => Some(node),
        };
        match first.map(|node| &node.value) {
            // An id or secret may look like a number.
            Some(Value::Scalar { text, .. }) if !text.is_empty() => {
                self.vault_value(text, node.position, &path)
            }
            _ => {
                let message = "expected a list of one text";
                self.report.error(node.position, &path, message);
                None
            }
        }
    }
}

/// Checks that PEM text has a certificate and its private key. Errors do not show them.
fn matching_pair(chain: &str, key: &str) -> Result<(), &'static str> {
    let chain = X509::stack_from_pem(chain.as_bytes()).unwrap_or_default();
    let leaf = chain.first().ok_or("has no PEM certificate in 'cert'")?;
    // The callback answers a request for a pass phrase, which would otherwise be read from the
    // terminal.
    let key = PKey::private_key_from_pem_callback(key.as_bytes(), |_| Ok(0))
        .map_err(|_| "has no unencrypted PEM private key in 'key'")?;
    match leaf.public_key() {
        Ok(public) if public.public_eq(&key) => Ok(()),
        _ => Err("has a 'key' that does not belong to its 'cert'"),
    }
}
