//! How the tokens of a plan are checked, and what is needed for it.

use super::engine::rmtls_engine;
use super::{guard, handle, output, put, rmtls_buf};
use crate::policy::{ProofOfPossession, TokenAuth};
use crate::text::hex;
use crate::Error;

/// The issuer identifier.
pub const RMTLS_TOKEN_TEXT_ISSUER: u32 = 1;
/// The introspection endpoint, configured or from the discovery document.
pub const RMTLS_TOKEN_TEXT_INTROSPECTION_ENDPOINT: u32 = 2;
/// The `client_id` of this gateway.
pub const RMTLS_TOKEN_TEXT_CLIENT_ID: u32 = 3;
/// The `client_secret` of this gateway.
pub const RMTLS_TOKEN_TEXT_CLIENT_SECRET: u32 = 4;
/// The message of a 401 response.
pub const RMTLS_TOKEN_TEXT_UNAUTHORIZED: u32 = 5;
/// The message of a 403 response.
pub const RMTLS_TOKEN_TEXT_FORBIDDEN: u32 = 6;
/// The introspection endpoint that the policy configures.
pub const RMTLS_TOKEN_TEXT_CONFIGURED_ENDPOINT: u32 = 7;

/// The URL of the discovery document; none where the plan does not need it.
pub const RMTLS_TOKEN_TEXT_DISCOVERY_URL: u32 = 8;
/// The issuers whose discovery document is accepted, one a line: `issuer` of `rmtls_discovery_read`.
pub const RMTLS_TOKEN_TEXT_DOCUMENT_ISSUERS: u32 = 9;
/// A digest of everything that decides where the documents of the issuer are fetched and whether
/// they are accepted, in hexadecimal.
pub const RMTLS_TOKEN_TEXT_DOCUMENTS_KEY: u32 = 10;
/// The header with the token (`bearer_token_header_name`); none where it is `Authorization`.
pub const RMTLS_TOKEN_TEXT_TOKEN_HEADER: u32 = 11;

/// The URL of the keys, where it is not that of the discovery document (`jwks_endpoint`).
pub const RMTLS_TOKEN_TEXT_JWKS_ENDPOINT: u32 = 12;
/// URLs of further keys, one a line (`extra_jwks_uris`).
pub const RMTLS_TOKEN_TEXT_EXTRA_JWKS_URIS: u32 = 13;

/// The certificate of `tls_client_auth` with its intermediates, in PEM.
pub const RMTLS_TOKEN_TEXT_CLIENT_CERTIFICATE: u32 = 14;
/// Its private key, in PEM. Keep it out of logs and of memory that is shared or stored.
pub const RMTLS_TOKEN_TEXT_CLIENT_KEY: u32 = 15;

/// The gateway sends only its `client_id`.
pub const RMTLS_CLIENT_AUTH_NONE: i32 = 0;
/// `client_secret_basic`.
pub const RMTLS_CLIENT_AUTH_BASIC: i32 = 1;
/// `client_secret_post`.
pub const RMTLS_CLIENT_AUTH_POST: i32 = 2;
/// `private_key_jwt`: `rmtls_engine_client_assertion`.
pub const RMTLS_CLIENT_AUTH_PRIVATE_KEY: i32 = 3;
/// `tls_client_auth`: `RMTLS_TOKEN_TEXT_CLIENT_CERTIFICATE` and `RMTLS_TOKEN_TEXT_CLIENT_KEY`.
pub const RMTLS_CLIENT_AUTH_TLS: i32 = 4;

/// DPoP proofs are not checked.
pub const RMTLS_DPOP_OFF: i32 = 0;
/// The proof of a token that is bound to a key is checked.
pub const RMTLS_DPOP_OPTIONAL: i32 = 1;
/// Every token must be bound to a key.
pub const RMTLS_DPOP_STRICT: i32 = 2;

/// How the tokens of a plan are checked.
#[repr(C)]
#[derive(Default)]
pub struct rmtls_token_options {
    /// Whether the keys of the issuer are needed: 0 or 1.
    pub needs_keys: i32,
    /// `RMTLS_CLIENT_AUTH_*`.
    pub client_auth: i32,
    /// Whether the token is removed from the upstream request: 0 or 1.
    pub hide_credentials: i32,
    /// Whether a refusal has the reason in `WWW-Authenticate`: 0 or 1.
    pub expose_error_code: i32,
    /// Whether the certificate of the issuer's server is verified: 0 or 1.
    pub ssl_verify: i32,
    /// Timeout of one fetch in milliseconds.
    pub timeout: u32,
    /// Seconds after which the documents of the issuer may be fetched again.
    pub rediscovery_lifetime: u32,
    /// Most seconds for which an introspection response is cached.
    pub cache_ttl: u32,
    /// Plan that authenticates the certificate of a token, or `UINT32_MAX`.
    pub certificate_plan: u32,
    /// Whether the certificate binding of tokens is checked (RFC 8705): 0 or 1.
    pub proof_of_possession: i32,
    /// `RMTLS_DPOP_*`.
    pub dpop: i32,
    /// Whether the certificate of the introspection endpoint's server is verified: 0 or 1. Only
    /// `tls_client_auth` has a setting of its own.
    pub introspection_ssl_verify: i32,
    /// Whether requests without a valid token are those of an anonymous consumer: 0 or 1.
    pub anonymous: i32,
}

/// The issuer, and those that the policy allows besides. One with a line break cannot be that of a
/// document.
fn document_issuers(token_auth: &TokenAuth) -> String {
    let issuers = token_auth.issuers.iter().map(|issuer| &**issuer);
    std::iter::once(&*token_auth.issuer)
        .chain(issuers.filter(|issuer| !issuer.contains(char::is_control)))
        .collect::<Vec<_>>()
        .join("\n")
}

fn with_token_auth<T>(
    engine: &rmtls_engine,
    plan: u32,
    read: impl FnOnce(&TokenAuth, Option<usize>) -> Result<T, Error>,
) -> Result<T, Error> {
    engine.0.with_plan(plan as usize, |plan| {
        let token_auth = plan.token_auth.as_ref().ok_or(Error::NotFound)?;
        read(token_auth, plan.certificate_plan)
    })
}

/// Writes how the tokens of a plan are checked; `RMTLS_NOT_FOUND` if they are not.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_token_options(
    engine: *const rmtls_engine,
    plan: u32,
    out: *mut rmtls_token_options,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, out) = unsafe { (handle(engine)?, output(out)?) };
        *out = with_token_auth(engine, plan, |token_auth, certificate_plan| {
            Ok(rmtls_token_options {
                needs_keys: token_auth.methods.bearer.into(),
                client_auth: token_auth
                    .client
                    .as_ref()
                    .map_or(0, |client| client.auth as i32),
                hide_credentials: token_auth.hide_credentials.into(),
                expose_error_code: token_auth.expose_error_code.into(),
                ssl_verify: token_auth.ssl_verify.into(),
                timeout: token_auth.timeout,
                rediscovery_lifetime: token_auth.rediscovery_lifetime,
                cache_ttl: token_auth.cache_ttl,
                certificate_plan: certificate_plan.map_or(u32::MAX, |plan| plan as u32),
                proof_of_possession: (token_auth.proof_of_possession != ProofOfPossession::Off)
                    .into(),
                dpop: match token_auth.dpop.mode {
                    ProofOfPossession::Off => RMTLS_DPOP_OFF,
                    ProofOfPossession::Optional => RMTLS_DPOP_OPTIONAL,
                    ProofOfPossession::Strict => RMTLS_DPOP_STRICT,
                },
                introspection_ssl_verify: token_auth
                    .client_certificate()
                    .map_or(token_auth.ssl_verify, |certificate| certificate.ssl_verify)
                    .into(),
                anonymous: token_auth.anonymous.is_some().into(),
            })
        })?;
        Ok(())
    })
}

/// Writes one of the `RMTLS_TOKEN_TEXT_*` of a plan; `RMTLS_NOT_FOUND` if there is none.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_token_text(
    engine: *const rmtls_engine,
    plan: u32,
    field: u32,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let engine = unsafe { handle(engine) }?;
        let text = match field {
            RMTLS_TOKEN_TEXT_INTROSPECTION_ENDPOINT => {
                engine.0.introspection_endpoint(plan as usize)?
            }
            _ => with_token_auth(engine, plan, |token_auth, _| {
                let client = token_auth.client.as_ref();
                Ok(match field {
                    RMTLS_TOKEN_TEXT_ISSUER => Some(token_auth.issuer.to_string()),
                    RMTLS_TOKEN_TEXT_DISCOVERY_URL => token_auth
                        .needs_discovery()
                        .then(|| token_auth.discovery_url.to_string()),
                    RMTLS_TOKEN_TEXT_JWKS_ENDPOINT => {
                        token_auth.jwks_endpoint.as_deref().map(Into::into)
                    }
                    RMTLS_TOKEN_TEXT_EXTRA_JWKS_URIS => Some(token_auth.extra_jwks_uris.join("\n")),
                    RMTLS_TOKEN_TEXT_DOCUMENT_ISSUERS => Some(document_issuers(token_auth)),
                    RMTLS_TOKEN_TEXT_DOCUMENTS_KEY => Some(hex(&token_auth.issuer_key)),
                    RMTLS_TOKEN_TEXT_TOKEN_HEADER => {
                        token_auth.token_header.as_deref().map(Into::into)
                    }
                    RMTLS_TOKEN_TEXT_CLIENT_ID => client.map(|client| client.id.to_string()),
                    RMTLS_TOKEN_TEXT_CLIENT_SECRET => {
                        client.map(|client| client.secret.0.to_string())
                    }
                    RMTLS_TOKEN_TEXT_UNAUTHORIZED => Some(token_auth.unauthorized.to_string()),
                    RMTLS_TOKEN_TEXT_FORBIDDEN => Some(token_auth.forbidden.to_string()),
                    RMTLS_TOKEN_TEXT_CONFIGURED_ENDPOINT => token_auth
                        .configured_introspection_endpoint()
                        .map(Into::into),
                    RMTLS_TOKEN_TEXT_CLIENT_CERTIFICATE => token_auth
                        .client_certificate()
                        .map(|certificate| certificate.chain.to_string()),
                    RMTLS_TOKEN_TEXT_CLIENT_KEY => token_auth
                        .client_certificate()
                        .map(|certificate| certificate.key.0.to_string()),
                    _ => None,
                })
            })?,
        };
        // SAFETY: as above.
        unsafe { put(out, text.ok_or(Error::NotFound)?.as_bytes()) }
    })
}

/// `RMTLS_OK` if a plan of the policy in force needs `RMTLS_CLIENT_AUTH_TLS`, else
/// `RMTLS_NOT_FOUND`.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_needs_client_certificates(
    engine: *const rmtls_engine,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let engine = unsafe { handle(engine) }?;
        let policy = engine.0.policy()?;
        let mut tokens = policy
            .plans
            .iter()
            .filter_map(|plan| plan.token_auth.as_ref());
        match tokens.any(|token_auth| token_auth.client_certificate().is_some()) {
            true => Ok(()),
            false => Err(Error::NotFound),
        }
    })
}
