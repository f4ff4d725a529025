//! Access tokens (RFC 6750) and their certificate binding (RFC 8705).

use std::ffi::c_void;

use super::access::{
    identity as identity_of, identity_kind, rmtls_decision, rmtls_lines, RMTLS_DECISION_PASS,
    RMTLS_FORWARDS_NO,
};
use super::certificate::rmtls_certificate;
use super::engine::rmtls_engine;
use super::request_header::{request_headers, rmtls_request_header};
use super::{
    bytes, connection, guard, guard_with, handle, output, put, put_truncated, rmtls_buf, text,
};
use crate::cache::SlotId;
use crate::certificate::Certificate;
use crate::decision::Decision;
use crate::engine::{
    DpopRequest, Engine, RequestHeaders, TokenDecision, TokenOutcome, TokenRequest,
};
use crate::token::{Claims, Discovery, Jwks, Jws, TokenError};
use crate::Error;

/// The request is allowed.
pub const RMTLS_TOKEN_PASS: i32 = 0;

/// 401: the request has no token.
pub const RMTLS_TOKEN_NO_TOKEN: i32 = 1;

/// 401 with `error="invalid_token"`: the token is not valid.
pub const RMTLS_TOKEN_REFUSED: i32 = 2;

/// 403 with `error="insufficient_scope"`: the scope of the token is too small.
pub const RMTLS_TOKEN_FORBIDDEN: i32 = 3;

/// Not decided yet: pass the documents of the issuer to `rmtls_engine_set_issuer_documents`, then
/// check again.
pub const RMTLS_TOKEN_NEEDS_KEYS: i32 = 4;
/// Not decided yet: introspect the token, pass the response to `rmtls_engine_set_introspection`,
/// then check again.
pub const RMTLS_TOKEN_NEEDS_INTROSPECTION: i32 = 5;

/// Not decided yet: determine the revocation status of the certificate on the plan
/// `rmtls_token_options.certificate_plan`, then check again.
pub const RMTLS_TOKEN_PENDING: i32 = 6;

/// Most JWK Sets of an issuer: above what a policy may configure.
const MAX_KEY_SETS: usize = 64;

/// The error code of a refusal is that of `RMTLS_TOKEN_*`.
pub const RMTLS_CHALLENGE_TOKEN: i32 = 0;
/// `invalid_dpop_proof` (RFC 9449 section 7.1).
pub const RMTLS_CHALLENGE_DPOP_PROOF: i32 = 1;
/// `use_dpop_nonce`, with a nonce of `rmtls_engine_dpop_nonce` (RFC 9449 section 9).
pub const RMTLS_CHALLENGE_DPOP_NONCE: i32 = 2;
/// None.
pub const RMTLS_CHALLENGE_NONE: i32 = 3;

/// What the DPoP proof of a request is compared with.
#[repr(C)]
pub struct rmtls_dpop_request {
    /// All `DPoP` headers of the request.
    pub proofs: *const rmtls_request_header,
    /// Their number.
    pub proofs_len: usize,
    /// The method.
    pub method: *const u8,
    /// Bytes of the method.
    pub method_len: usize,
    /// The URI as the client knows it.
    pub uri: *const u8,
    /// Bytes of the URI.
    pub uri_len: usize,
    /// 32 bytes: the key of nonces on this node.
    pub nonce_key: *const u8,
}

/// Decision of `rmtls_engine_check_token`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct rmtls_token_decision {
    /// `RMTLS_TOKEN_*`.
    pub decision: i32,
    /// Slot of the claims of an allowed token in the token cache; below a small bound, so that it
    /// can index a table.
    pub token: u32,
    /// Generation of the slot: it changes when the slot is reused. 0 when there is none.
    pub generation: u32,
    /// Key of the token while it is being introspected.
    pub id: [u8; 32],
    /// `RMTLS_CHALLENGE_*` of a refusal.
    pub challenge: i32,
    /// Digest of the DPoP proof of an allowed request. Refuse the request if the proof was used
    /// before.
    pub proof_id: [u8; 32],
    /// Until when its use must be remembered, in seconds since the epoch; 0 without a proof.
    pub proof_expires: i64,
    /// `RMTLS_IDENTITY_CONSUMER` or `RMTLS_IDENTITY_ANONYMOUS` of an allowed request, if the token
    /// or its absence decides about it, else `RMTLS_IDENTITY_NONE`. For `rmtls_engine_apply_token`.
    pub identity: i32,
    /// Index of the consumer.
    pub consumer: u32,
}

impl rmtls_token_decision {
    fn new(decision: &TokenDecision) -> rmtls_token_decision {
        rmtls_token_decision {
            decision: match decision.outcome {
                TokenOutcome::Pass => RMTLS_TOKEN_PASS,
                TokenOutcome::NoToken => RMTLS_TOKEN_NO_TOKEN,
                TokenOutcome::Refused => RMTLS_TOKEN_REFUSED,
                TokenOutcome::Forbidden => RMTLS_TOKEN_FORBIDDEN,
                TokenOutcome::NeedsKeys => RMTLS_TOKEN_NEEDS_KEYS,
                TokenOutcome::NeedsIntrospection => RMTLS_TOKEN_NEEDS_INTROSPECTION,
                TokenOutcome::Pending => RMTLS_TOKEN_PENDING,
            },
            token: decision.token.map_or(0, |place| place.index),
            generation: decision.token.map_or(0, |place| place.generation),
            id: decision.id,
            challenge: decision.challenge as i32,
            proof_id: decision.proof.map_or([0; 32], |proof| proof.id),
            proof_expires: decision.proof.map_or(0, |proof| proof.expires),
            identity: identity_kind(decision.identity),
            consumer: decision.identity.consumer().unwrap_or(0),
        }
    }
}

/// Access phase, on a plan with `RMTLS_PLAN_TOKEN` after `rmtls_engine_access` allowed the
/// request: decides about its token. `authorization` are all its `Authorization` headers, or those
/// with the name `RMTLS_TOKEN_TEXT_TOKEN_HEADER` where the plan has one; `dpop` is NULL where
/// `rmtls_token_options.dpop` is `RMTLS_DPOP_OFF`; `headers` and `trusted` are as for
/// `rmtls_engine_access_with_headers`; `latest` is 1 when the documents of the issuer have just
/// been fetched. On a refusal `reason` has the reason for the error log, and `description` the text
/// for the client.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `authorization`
/// and `headers` are readable for their lengths, with names and values; `dpop` is NULL or valid,
/// with all that it points to; `out` is NULL or valid for writing; `description` and `reason` are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_check_token(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    plan: u32,
    authorization: *const rmtls_request_header,
    authorization_len: usize,
    dpop: *const rmtls_dpop_request,
    headers: *const rmtls_request_header,
    headers_len: usize,
    trusted: i32,
    latest: i32,
    now: i64,
    out: *mut rmtls_token_decision,
    description: *mut rmtls_buf,
    reason: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(reason, || {
            let (engine, out) = (&handle(engine)?.0, output(out)?);
            let authorization = request_headers(authorization, authorization_len)?;
            let authorization: Vec<&[u8]> = authorization.iter().map(|(_, value)| *value).collect();
            let headers = request_headers(headers, headers_len)?;
            let mut proofs = Vec::new();
            let dpop = match dpop.as_ref() {
                None => None,
                Some(dpop) => {
                    proofs.extend(
                        request_headers(dpop.proofs, dpop.proofs_len)?
                            .iter()
                            .map(|(_, value)| *value),
                    );
                    Some(DpopRequest {
                        proofs: &proofs,
                        method: bytes(dpop.method, dpop.method_len)?,
                        uri: bytes(dpop.uri, dpop.uri_len)?,
                        nonce_key: handle(dpop.nonce_key.cast::<[u8; 32]>())?,
                    })
                }
            };
            let request = TokenRequest {
                authorization: &authorization,
                dpop,
                headers: RequestHeaders {
                    headers: &headers,
                    trusted: trusted == 1,
                },
                ssl: connection(ssl),
                latest: latest == 1,
            };
            let decision = engine.check_token(plan as usize, &request, now)?;
            put_token_decision(&decision, out, description, reason);
            Ok(())
        })
    }
}

/// # Safety
/// `description` and `reason` are NULL or valid, with their data.
unsafe fn put_token_decision(
    decision: &TokenDecision,
    out: &mut rmtls_token_decision,
    description: *mut rmtls_buf,
    reason: *mut rmtls_buf,
) {
    *out = rmtls_token_decision::new(decision);
    // SAFETY: the caller's promises.
    unsafe {
        put_truncated(description, decision.description.unwrap_or_default());
        put_truncated(reason, decision.reason.as_deref().unwrap_or_default());
    }
}

/// Forgets the documents of all issuers, and which tokens are valid or inactive, in this worker.
///
/// # Safety
/// `engine` is NULL or live.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_forget_tokens(engine: *const rmtls_engine) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { handle(engine) }?.0.forget_tokens();
        Ok(())
    })
}

/// Sets the documents of the issuer of a plan: its discovery document, or NULL where the plan has
/// no `RMTLS_TOKEN_TEXT_DISCOVERY_URL`, and its JWK Sets, none where
/// `rmtls_token_options.needs_keys` is 0. `keys` has the sets one after another, and `key_sizes`
/// their `key_sets` lengths. When they are not valid, `err` has the reason, and the previous ones
/// stay.
///
/// # Safety
/// `engine` is NULL or live; `discovery` is NULL or readable for its length; `key_sizes` is readable
/// for `key_sets` numbers and `keys` for their sum, or both are NULL; `err` is NULL or valid, with
/// its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_set_issuer_documents(
    engine: *const rmtls_engine,
    plan: u32,
    discovery: *const u8,
    discovery_len: usize,
    keys: *const u8,
    key_sizes: *const u32,
    key_sets: usize,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let engine = &handle(engine)?.0;
            let discovery = match discovery.is_null() {
                true => None,
                false => Some(bytes(discovery, discovery_len)?),
            };
            let mut sets = Vec::new();
            if key_sets > 0 {
                if key_sizes.is_null() || key_sets > MAX_KEY_SETS {
                    return Err(Error::Misuse(format!("{key_sets} sets of keys")));
                }
                let sizes = std::slice::from_raw_parts(key_sizes, key_sets);
                let sum = sizes.iter().map(|size| *size as usize).sum();
                let mut rest = bytes(keys, sum)?;
                for size in sizes {
                    let (set, others) = rest
                        .split_at_checked(*size as usize)
                        .ok_or_else(|| Error::Misuse("sizes of keys".to_owned()))?;
                    sets.push(set);
                    rest = others;
                }
            }
            engine.set_issuer_documents(plan as usize, discovery, &sets)
        })
    }
}

/// Sets the introspection response for the token of a request. With `RMTLS_OK` and
/// `RMTLS_TOKEN_PASS`, check the token again; any other decision is final, as from
/// `rmtls_engine_check_token`. With `RMTLS_INVALID` the response is not valid, and `reason` has
/// the reason.
///
/// # Safety
/// `engine` is NULL or live; `authorization` is readable for its length, with names and values;
/// `data` is readable for `data_len` bytes; `out` is NULL or valid for writing; `description` and
/// `reason` are NULL or valid, with their data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_set_introspection(
    engine: *const rmtls_engine,
    plan: u32,
    authorization: *const rmtls_request_header,
    authorization_len: usize,
    data: *const u8,
    data_len: usize,
    now: i64,
    out: *mut rmtls_token_decision,
    description: *mut rmtls_buf,
    reason: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(reason, || {
            let (engine, out) = (&handle(engine)?.0, output(out)?);
            let authorization = request_headers(authorization, authorization_len)?;
            let authorization: Vec<&[u8]> = authorization.iter().map(|(_, value)| *value).collect();
            let data = bytes(data, data_len)?;
            *out = rmtls_token_decision::default();
            if let Some(decision) =
                engine.set_introspection(plan as usize, &authorization, data, now)?
            {
                put_token_decision(&decision, out, description, reason);
            }
            Ok(())
        })
    }
}

/// Writes 32 random bytes: a key of nonces, which the workers of a node share.
///
/// # Safety
/// `key` is NULL or writable for 32 bytes.
#[no_mangle]
pub unsafe extern "C" fn rmtls_dpop_new_nonce_key(key: *mut u8) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let key = unsafe { output(key.cast::<[u8; 32]>()) }?;
        openssl::rand::rand_bytes(key)?;
        Ok(())
    })
}

/// Writes a nonce for the DPoP proofs of a plan.
///
/// # Safety
/// `engine` is NULL or live; `nonce_key` is NULL or readable for 32 bytes; `out` is NULL or valid,
/// with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_dpop_nonce(
    engine: *const rmtls_engine,
    plan: u32,
    nonce_key: *const u8,
    now: i64,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = handle(engine)?;
            let key = handle(nonce_key.cast::<[u8; 32]>())?;
            let nonce = engine.0.dpop_nonce(plan as usize, key, now)?;
            put(out, nonce.as_bytes())
        }
    })
}

/// Access phase, after `rmtls_engine_check_token` allowed the request: applies the identity in its
/// decision to `decision`, which `rmtls_engine_access` has just allowed for the same plan, and
/// checks `acl` where the token decides about the consumer. An allowed `decision` gets its header
/// lines. On a refusal it has `RMTLS_DECISION_FORBIDDEN`, and `reason` the reason for the error log.
///
/// # Safety
/// `engine` is NULL or live; `ssl` is NULL or a live `SSL` after its handshake; `decision` is NULL or valid for reading and writing; `reason` is NULL
/// or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_apply_token(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    plan: u32,
    identity: i32,
    consumer: u32,
    now: i64,
    decision: *mut rmtls_decision,
    reason: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(reason, || {
            let (engine, decision) = (&handle(engine)?.0, output(decision)?);
            apply(engine, ssl, plan, now, decision, reason, |applied| {
                let identity = identity_of(identity, consumer, u32::MAX);
                engine.apply_token(plan as usize, applied, identity)
            })
        })
    }
}

/// Access phase, after `rmtls_engine_check_token` refused a request that `rmtls_engine_access` has
/// just allowed for the same plan: lets it pass without its token where `openid-connect` has
/// `enforce: report`, else returns `RMTLS_NOT_FOUND`, and the refusal stays. As
/// `rmtls_engine_apply_token`, it checks `acl` and makes the header lines.
///
/// # Safety
/// As `rmtls_engine_apply_token`.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_pass_without_token(
    engine: *const rmtls_engine,
    ssl: *mut c_void,
    plan: u32,
    now: i64,
    decision: *mut rmtls_decision,
    reason: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(reason, || {
            let (engine, decision) = (&handle(engine)?.0, output(decision)?);
            apply(
                engine,
                ssl,
                plan,
                now,
                decision,
                reason,
                |applied| match engine.pass_without_token(plan as usize, applied)? {
                    true => Ok(()),
                    false => Err(Error::NotFound),
                },
            )
        })
    }
}

/// Changes an allowed decision, and makes its header lines.
///
/// # Safety
/// As `rmtls_engine_apply_token`.
unsafe fn apply(
    engine: &Engine,
    ssl: *mut c_void,
    plan: u32,
    now: i64,
    decision: &mut rmtls_decision,
    reason: *mut rmtls_buf,
    change: impl FnOnce(&mut Decision) -> Result<(), Error>,
) -> Result<(), Error> {
    if decision.decision != RMTLS_DECISION_PASS {
        return Err(Error::Misuse("the decision is a refusal".to_owned()));
    }
    let mut applied = decision.to_decision();
    change(&mut applied)?;
    // SAFETY: the caller's promises, passed on unchanged.
    let ssl = unsafe { connection(ssl) };
    let found = engine.find_record(ssl, plan as usize, &applied, true, now)?;
    let forwards = match applied.client == decision.client_slot() {
        true => decision.forwards,
        false => RMTLS_FORWARDS_NO,
    };
    *decision = rmtls_decision::new(&applied, &found, decision.changes);
    decision.forwards = forwards;
    if let Some(text) = applied.reason {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe { put_truncated(reason, &text) };
    }
    Ok(())
}

/// Writes a JWT that authenticates this gateway to the issuer of a plan (RFC 7523), valid for a
/// minute; `RMTLS_NOT_FOUND` without a key.
///
/// # Safety
/// `engine` is NULL or live; `out` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_client_assertion(
    engine: *const rmtls_engine,
    plan: u32,
    now: i64,
    out: *mut rmtls_buf,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        unsafe {
            let engine = handle(engine)?;
            put(
                out,
                engine.0.client_assertion(plan as usize, now)?.as_bytes(),
            )
        }
    })
}

/// Writes the header lines for the claims of an allowed token, which live as long as those of
/// `rmtls_decision`, and whether they were made by this call (1) or are kept (0). `RMTLS_NOT_FOUND`
/// for a token that is no longer cached.
///
/// # Safety
/// `engine` is NULL or live; `out` and `are_new` are NULL or valid for writing.
#[no_mangle]
pub unsafe extern "C" fn rmtls_engine_claim_headers(
    engine: *const rmtls_engine,
    plan: u32,
    token: u32,
    generation: u32,
    out: *mut rmtls_lines,
    are_new: *mut i32,
) -> i32 {
    guard(|| {
        // SAFETY: the caller's promises, passed on unchanged.
        let (engine, out, are_new) =
            unsafe { (&handle(engine)?.0, output(out)?, output(are_new)?) };
        let slot = SlotId {
            index: token,
            generation,
        };
        let (lines, made) = engine.kept_claims(plan as usize, slot)?;
        *out = rmtls_lines::new(&lines);
        *are_new = made.into();
        Ok(())
    })
}

/// Reads the discovery document of an issuer, and writes the URLs of its keys and of its
/// introspection endpoint, empty where the document has none. `issuer` is the issuer, and on
/// further lines others that are accepted. `RMTLS_INVALID` for the document of another issuer and
/// for URLs that are not https; then `err` has the reason.
///
/// # Safety
/// `document` and `issuer` are readable for their lengths; `jwks_uri` and `introspection` are NULL
/// or valid, with their data; `err` is NULL or valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_discovery_read(
    document: *const u8,
    document_len: usize,
    issuer: *const u8,
    issuer_len: usize,
    jwks_uri: *mut rmtls_buf,
    introspection: *mut rmtls_buf,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            output(jwks_uri)?;
            output(introspection)?;
            let document = bytes(document, document_len)?;
            let mut issuers = text(issuer, issuer_len)?.split('\n');
            let issuer = issuers.next().unwrap_or_default();
            let allowed: Vec<&str> = issuers.collect();
            let discovery = Discovery::parse(document, issuer, &allowed).map_err(Error::Misuse)?;
            put(jwks_uri, discovery.jwks_uri.unwrap_or_default().as_bytes())?;
            let endpoint = discovery.introspection_endpoint.unwrap_or_default();
            put(introspection, endpoint.as_bytes())
        })
    }
}

/// Checks a JWK Set, and writes the number of its keys that can verify tokens. `RMTLS_INVALID`
/// when there is none, or when it is not a JWK Set; then `err` has the reason.
///
/// # Safety
/// `document` is readable for its length; `count` is NULL or valid for writing; `err` is NULL or
/// valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_jwks_check(
    document: *const u8,
    document_len: usize,
    count: *mut u32,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let count = output(count)?;
            let keys = Jwks::parse(bytes(document, document_len)?).map_err(Error::Misuse)?;
            *count = keys.len() as u32;
            Ok(())
        })
    }
}

/// Checks that a token, which the caller has already validated, is bound to a certificate (RFC
/// 8705 section 3). `token` is a compact JWT, whose signature is not verified, or with `is_jwt` 0
/// the JSON of its claims or of an introspection response. With `strict` 0 a token without a
/// binding is accepted. `certificate` NULL is no certificate. `RMTLS_INVALID` when the token is
/// not bound to it; then `err` has the reason for the error log.
///
/// # Safety
/// `token` is readable for `token_len` bytes; `certificate` is NULL or live; `err` is NULL or
/// valid, with its data.
#[no_mangle]
pub unsafe extern "C" fn rmtls_token_check(
    token: *const u8,
    token_len: usize,
    is_jwt: i32,
    certificate: *const rmtls_certificate,
    strict: i32,
    err: *mut rmtls_buf,
) -> i32 {
    // SAFETY: the caller's promises, passed on unchanged.
    unsafe {
        guard_with(err, || {
            let token = bytes(token, token_len)?;
            let certificate = certificate.as_ref().map(|certificate| &*certificate.0);
            check_binding(token, is_jwt == 1, certificate, strict == 1)
                .map_err(|refusal| Error::Misuse(refusal.to_string()))
        })
    }
}

fn check_binding(
    token: &[u8],
    is_jwt: bool,
    certificate: Option<&Certificate>,
    strict: bool,
) -> Result<(), TokenError> {
    let claims = match is_jwt {
        true => {
            let token = std::str::from_utf8(token)
                .map_err(|_| TokenError::Malformed("not UTF-8".to_owned()))?;
            Jws::parse(token)?.claims()?
        }
        false => Claims::parse(token).map_err(TokenError::Malformed)?,
    };
    // Of an introspection decision.
    if claims.get("active").is_some_and(|active| active != true) {
        return Err(TokenError::Inactive);
    }
    match (claims.certificate_thumbprint()?, certificate) {
        (None, _) if strict => Err(TokenError::NotBound),
        (None, _) => Ok(()),
        (Some(_), None) => Err(TokenError::NoCertificate("none given".to_owned())),
        (Some(thumbprint), Some(certificate)) => {
            match thumbprint.matches(&certificate.digests().leaf) {
                true => Ok(()),
                false => Err(TokenError::CertificateMismatch),
            }
        }
    }
}
