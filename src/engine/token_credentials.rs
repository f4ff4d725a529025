//! The token and the DPoP proof that a request carries, and the check of the proof.

use openssl::sha::Sha256;

use crate::policy::{ProofOfPossession, TokenAuth};
use crate::token::{
    check_proof, CertificateThumbprint, Claims, Proof, ProofRequest, TokenError, MAX_TOKEN,
};

/// The error code of a refusal (RFC 6750 section 3.1, RFC 9449 sections 7.1 and 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum Challenge {
    /// That of the outcome: `invalid_token` or `insufficient_scope`, or none without a token.
    #[default]
    Token = 0,
    /// `invalid_dpop_proof`.
    DpopProof = 1,
    /// `use_dpop_nonce`.
    DpopNonce = 2,
    /// None: no scope would help.
    None = 3,
}

/// What a DPoP proof is compared with.
#[derive(Clone, Copy)]
pub struct DpopRequest<'r> {
    /// All values of its `DPoP` headers.
    pub proofs: &'r [&'r [u8]],
    /// Its method.
    pub method: &'r [u8],
    /// Its URI, as the client knows it.
    pub uri: &'r [u8],
    /// The key of nonces on this node.
    pub nonce_key: &'r [u8; 32],
}

/// How a token was sent (RFC 6750 section 2.1, RFC 9449 section 7.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Bearer,
    Dpop,
}

/// The token of a request, from all values of the header that the route reads; `Ok(None)` when
/// there is none. With the scheme DPoP it counts where proofs are checked only. In a header other
/// than `Authorization` the scheme may be missing, which is Bearer then.
pub(super) fn token<'r>(
    token_auth: &TokenAuth,
    authorization: &[&'r [u8]],
) -> Result<Option<(Scheme, &'r str)>, TokenError> {
    let header = token_auth.token_header.as_deref();
    let line = match authorization {
        [] => return Ok(None),
        [line] => *line,
        lines => {
            let header = header.unwrap_or("Authorization");
            let why = format!("{} {header} headers, expected one", lines.len());
            return Err(TokenError::Malformed(why));
        }
    };
    let (scheme, rest) = match line.iter().position(|byte| *byte == b' ') {
        Some(end) => line.split_at(end),
        None if header.is_some() && !is_scheme(line) => (&b"Bearer"[..], line),
        None => (line, &b""[..]),
    };
    let is_dpop = token_auth.dpop.mode != ProofOfPossession::Off;
    let scheme = match scheme {
        _ if scheme.eq_ignore_ascii_case(b"Bearer") => Scheme::Bearer,
        _ if is_dpop && scheme.eq_ignore_ascii_case(b"DPoP") => Scheme::Dpop,
        _ => return Ok(None),
    };
    let token = rest.trim_ascii();
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Malformed(format!(
            "{} bytes are over the limit of {MAX_TOKEN}",
            token.len()
        )));
    }
    // token68 of RFC 9110 section 11.2, which is also that of RFC 6750 section 2.1.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    match std::str::from_utf8(token) {
        Ok(text) if !text.is_empty() && token.iter().all(plain) => Ok(Some((scheme, text))),
        _ => Err(TokenError::Malformed(
            "not a token of letters, digits and -._~+/".to_owned(),
        )),
    }
}

/// Whether this is a scheme without a token.
fn is_scheme(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"Bearer") || text.eq_ignore_ascii_case(b"DPoP")
}

/// The key of nonces: a client that is challenged by one gateway of a fleet may be served by
/// another one.
pub(super) fn nonce_key(token_auth: &TokenAuth, node_key: &[u8; 32]) -> [u8; 32] {
    let secret = token_auth.client.as_ref().map(|client| &*client.secret.0);
    let secret = secret.filter(|secret| !secret.is_empty());
    let mut hasher = Sha256::new();
    hasher.update(b"DPoP nonce");
    hasher.update(secret.map_or(&node_key[..], str::as_bytes));
    hasher.finish()
}

/// Checks the DPoP proof of a token as far as the route requires one. Returns the certificate to
/// which the token is bound as well, and the proof.
pub(super) fn check_dpop<'c>(
    token_auth: &TokenAuth,
    claims: &'c Claims,
    scheme: Scheme,
    token: &str,
    request: Option<&DpopRequest<'_>>,
    now: i64,
) -> Result<(Option<&'c CertificateThumbprint>, Option<Proof>), TokenError> {
    let dpop = &token_auth.dpop;
    if dpop.mode == ProofOfPossession::Off {
        // A token that is bound in a way this route does not check is refused.
        return Ok((claims.certificate_thumbprint()?, None));
    }
    let confirmation = claims.confirmation()?;
    let certificate = confirmation.certificate.as_ref();
    let key = match (&confirmation.key, scheme) {
        (Some(key), Scheme::Dpop) => key,
        (Some(_), Scheme::Bearer) => return Err(TokenError::DpopTokenAsBearer),
        (None, Scheme::Bearer) if dpop.mode == ProofOfPossession::Optional => {
            return Ok((certificate, None))
        }
        (None, _) => return Err(TokenError::NotKeyBound),
    };
    let refused = |why: String| Err(TokenError::DpopProof(why));
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let (request, proof) = match request.map(|request| (request, request.proofs)) {
        Some((request, [proof])) => (request, text(proof)),
        None | Some((_, [])) => return refused("the request has none".to_owned()),
        Some((_, proofs)) => {
            return refused(format!("{} DPoP headers, expected one", proofs.len()))
        }
    };
    let nonce_key = nonce_key(token_auth, request.nonce_key);
    let request = ProofRequest {
        method: text(request.method),
        uri: text(request.uri),
        token,
        key,
        lifetime: dpop.proof_lifetime.into(),
        leeway: token_auth.expected_claims.leeway,
        nonce_key: dpop.use_nonce.then_some(&nonce_key),
    };
    Ok((certificate, Some(check_proof(proof, &request, now)?)))
}
