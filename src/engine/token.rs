//! Access tokens: whether a request has a token that its route accepts, and that is bound to the
//! certificate of the client. The documents and responses of the issuer are passed in as bytes.
//!
//! Only the result of a signature check or an introspection is cached. Everything else is checked
//! on every request, and nothing is cached on the connection.

use std::borrow::Cow;
use std::rc::Rc;

use openssl::sha::Sha256;
use openssl::ssl::SslRef;

use super::access::with_certificate;
use super::clients::CertificateOrigin;
use super::header_certificate::{Absent, HeaderCertificate, RequestHeaders};
use super::token_credentials::{check_dpop, nonce_key, token, Challenge, DpopRequest};
use super::token_identity::token_identity;
use super::verdict::TrustResult;
use super::{Engine, HeaderLine, HeaderLines, LineKind};
use crate::cache::SlotId;
use crate::connection::Connection;
use crate::decision::Identity;
use crate::headers::MAX_VALUE;
use crate::policy::{Plan, Policy, ProofOfPossession, TokenAuth};
use crate::token::{
    is_jwt, nonce, parse_introspection_response, Algorithm, CertificateThumbprint, Claims,
    Discovery, Jwks, Jws, Proof, TokenError,
};
use crate::Error;

/// Estimated bytes in memory for a byte of JSON claims.
const DECODED: usize = 12;
/// Estimated bytes of a cached token in addition to its claims.
const BASE: usize = 400;

/// Seconds for which an inactive token is not introspected again, so that a client cannot cause an
/// introspection with every request.
const INACTIVE: u32 = 5;

/// The published documents of an issuer.
pub(super) struct IssuerDocuments {
    discovery: Option<Discovery>,
    keys: Option<Rc<Jwks>>,
}

/// A token that is not active according to its issuer.
#[derive(Clone, Copy)]
pub(super) struct InactiveToken {
    /// When the issuer responded: the entry is not used if the clock is set back before that.
    from: i64,
    /// First second at which the token may be introspected again.
    until: i64,
}

/// A token with a valid signature, or an active one by introspection.
pub(super) struct CachedToken {
    claims: Claims,
    /// The algorithm of its signature; `None` for an introspected token.
    algorithm: Option<Algorithm>,
    /// When it was introspected, in seconds since the epoch: the entry is not used if the clock is
    /// set back before that.
    from: i64,
    /// First second at which it must be introspected again.
    until: i64,
}

/// The outcome for the token of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum TokenOutcome {
    /// The request is allowed.
    Pass = 0,
    /// 401: the request has no token.
    NoToken = 1,
    /// 401: the token is not valid.
    Refused = 2,
    /// 403: the token is valid but does not authorize the request.
    Forbidden = 3,
    /// Not decided yet: the documents of the issuer are missing or too old; pass newer ones to
    /// [`Engine::set_issuer_documents`].
    NeedsKeys = 4,
    /// Not decided yet: introspect the token and pass the response to
    /// [`Engine::set_introspection`].
    NeedsIntrospection = 5,
    /// Not decided yet: the revocation status of the certificate must be fetched for the plan of
    /// `certificate_plan`, as for [`crate::decision::Outcome::Pending`].
    Pending = 6,
}

/// An outcome with what led to it.
#[derive(Clone, Debug)]
pub struct TokenDecision {
    /// The outcome.
    pub outcome: TokenOutcome,
    /// The slot of an accepted token in the token cache.
    pub token: Option<SlotId>,
    /// The key of the token: SHA-256 of the token and of the source of its validation.
    pub id: [u8; 32],
    /// Why the request is refused, for the error log only.
    pub reason: Option<String>,
    /// Why the request is refused, for the client (`error_description`).
    pub description: Option<&'static str>,
    /// The error code of the refusal.
    pub challenge: Challenge,
    /// The DPoP proof of an allowed request, which counts once: the caller must refuse the request
    /// if it was used before.
    pub proof: Option<Proof>,
    /// The consumer of an allowed request, if the token or its absence decides about it: pass it to
    /// [`Engine::apply_token`].
    pub identity: Identity,
}

/// A request with its token and the evidence that the token is bound to its client.
#[derive(Clone, Copy)]
pub struct TokenRequest<'r> {
    /// All values of its `Authorization` headers, or of the header that the route reads instead.
    pub authorization: &'r [&'r [u8]],
    /// Its DPoP proof, where the route checks one.
    pub dpop: Option<DpopRequest<'r>>,
    /// The headers that may carry a certificate.
    pub headers: RequestHeaders<'r>,
    /// The connection, if it is TLS.
    pub ssl: Option<&'r SslRef>,
    /// Whether the documents of the issuer were just fetched: then an unknown key is refused.
    pub latest: bool,
}

impl TokenDecision {
    fn new(outcome: TokenOutcome) -> TokenDecision {
        TokenDecision {
            outcome,
            token: None,
            id: [0; 32],
            reason: None,
            description: None,
            challenge: Challenge::Token,
            proof: None,
            identity: Identity::None,
        }
    }

    fn refuse(refusal: &TokenError) -> TokenDecision {
        let outcome = match refusal.is_forbidden() {
            true => TokenOutcome::Forbidden,
            false => TokenOutcome::Refused,
        };
        TokenDecision {
            reason: Some(refusal.to_string()),
            description: Some(refusal.description()),
            challenge: match refusal {
                TokenError::DpopProof(_) => Challenge::DpopProof,
                TokenError::DpopNonce(_) => Challenge::DpopNonce,
                TokenError::NoConsumer(_) => Challenge::None,
                _ => Challenge::Token,
            },
            ..TokenDecision::new(outcome)
        }
    }
}

/// A valid token from the cache or by its signature, a refusal, or what is missing to decide.
enum TokenLookup {
    Found(SlotId, Rc<CachedToken>),
    Refused(TokenError),
    Needs(TokenOutcome, [u8; 32]),
}

/// Whether a token may be used with the certificate of the request.
enum BindingCheck {
    Fits,
    Refused(TokenError),
    /// The revocation status of the certificate must be fetched first.
    Pending,
}

impl Engine {
    /// Access phase, after [`Engine::access`] allowed the request: checks its token for the route
    /// of `plan_id`.
    ///
    /// Where the policy has an anonymous consumer, a request without a valid token is allowed as
    /// that one. A valid token that is not sufficient is refused.
    pub fn check_token(
        &self,
        plan_id: usize,
        request: &TokenRequest<'_>,
        now: i64,
    ) -> Result<TokenDecision, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let token_auth = plan.token_auth.as_ref().ok_or(Error::NotFound)?;
        let decision = self.validate_token(&policy, plan, token_auth, request, now)?;
        let anonymous = match (decision.outcome, &token_auth.anonymous) {
            (TokenOutcome::NoToken | TokenOutcome::Refused, Some(id)) => {
                policy.consumers.by_id_or_username(id)
            }
            _ => None,
        };
        Ok(match anonymous {
            Some(consumer) => TokenDecision {
                identity: Identity::Anonymous(consumer),
                ..TokenDecision::new(TokenOutcome::Pass)
            },
            None => decision,
        })
    }

    fn validate_token(
        &self,
        policy: &Policy,
        plan: &Plan,
        token_auth: &TokenAuth,
        request: &TokenRequest<'_>,
        now: i64,
    ) -> Result<TokenDecision, Error> {
        let (scheme, token) = match token(token_auth, request.authorization) {
            Ok(Some(found)) => found,
            Ok(None) => {
                return Ok(TokenDecision {
                    reason: Some("no bearer token".to_owned()),
                    ..TokenDecision::new(TokenOutcome::NoToken)
                });
            }
            Err(refusal) => return Ok(TokenDecision::refuse(&refusal)),
        };
        let (slot, cached_token) = match self.look_up_token(token_auth, token, request.latest, now)
        {
            TokenLookup::Found(slot, cached_token) => (slot, cached_token),
            TokenLookup::Refused(refusal) => return Ok(TokenDecision::refuse(&refusal)),
            TokenLookup::Needs(outcome, id) => {
                return Ok(TokenDecision {
                    id,
                    ..TokenDecision::new(outcome)
                });
            }
        };
        let checked = self
            .check_issuer(token_auth, &cached_token)
            .and_then(|()| {
                let is_bound = |claims: &Claims| {
                    let confirmation = claims.confirmation();
                    confirmation.is_ok_and(|confirmation| confirmation.key.is_some())
                };
                let claims = &cached_token.claims;
                let dpop = token_auth.dpop.mode != ProofOfPossession::Off && is_bound(claims);
                claims.check_token_type(dpop)
            })
            .and_then(|()| {
                let (claims, leeway) = (&cached_token.claims, token_auth.expected_claims.leeway);
                match cached_token.algorithm {
                    Some(_) => claims.check_times(leeway, now),
                    None => claims.check_present_times(leeway, now),
                }
            })
            .and_then(|()| {
                cached_token
                    .claims
                    .check_requirements(&token_auth.expected_claims)
            });
        let bound = checked.and_then(|()| {
            let claims = &cached_token.claims;
            check_dpop(
                token_auth,
                claims,
                scheme,
                token,
                request.dpop.as_ref(),
                now,
            )
        });
        let (thumbprint, proof) = match bound {
            Ok(bound) => bound,
            Err(refusal) => return Ok(TokenDecision::refuse(&refusal)),
        };
        match self.check_binding(policy, plan, token_auth, thumbprint, request, now)? {
            BindingCheck::Refused(refusal) => Ok(TokenDecision::refuse(&refusal)),
            BindingCheck::Pending => Ok(TokenDecision::new(TokenOutcome::Pending)),
            BindingCheck::Fits => Ok(
                match token_identity(policy, token_auth, &cached_token.claims) {
                    Err(refusal) => TokenDecision::refuse(&refusal),
                    Ok(identity) => TokenDecision {
                        token: Some(slot),
                        proof,
                        identity,
                        ..TokenDecision::new(TokenOutcome::Pass)
                    },
                },
            ),
        }
    }

    fn look_up_token(
        &self,
        token_auth: &TokenAuth,
        token: &str,
        latest: bool,
        now: i64,
    ) -> TokenLookup {
        let by_signature = token_auth.methods.bearer && is_jwt(token);
        if !by_signature && !token_auth.methods.introspection {
            return match Jws::parse(token) {
                Err(refusal) => TokenLookup::Refused(refusal),
                Ok(_) => TokenLookup::Refused(TokenError::Malformed("not a JWT".to_owned())),
            };
        }
        let documents = self
            .issuers
            .borrow_mut()
            .find(&token_auth.issuer_key)
            .map(|(_, documents)| documents.clone());
        if !by_signature {
            let id = introspection_cache_key(token_auth, token);
            return match self
                .find_token(&id)
                .filter(|(_, cached)| cached.from <= now && now < cached.until)
            {
                Some((slot, cached_token)) => TokenLookup::Found(slot, cached_token),
                None if self.is_inactive(&id, now) => TokenLookup::Refused(TokenError::Inactive),
                None if token_auth.configured_introspection_endpoint().is_none()
                    && documents.is_none_or(|documents| documents.discovery.is_none()) =>
                {
                    TokenLookup::Needs(TokenOutcome::NeedsKeys, id)
                }
                None => TokenLookup::Needs(TokenOutcome::NeedsIntrospection, id),
            };
        }
        let documents = documents.as_deref();
        let discovery = documents.and_then(|documents| documents.discovery.as_ref());
        // Another route with the same issuer may have set the keys alone.
        let keys = documents
            .filter(|_| discovery.is_some() || token_auth.jwks_endpoint.is_some())
            .and_then(|documents| documents.keys.as_ref());
        let Some(keys) = keys else {
            return TokenLookup::Needs(TokenOutcome::NeedsKeys, [0; 32]);
        };
        let mut hasher = Sha256::new();
        hasher.update(b"signature");
        hasher.update(&token_auth.issuer_key);
        hasher.update(keys.digest());
        hasher.update(token.as_bytes());
        let id = hasher.finish();
        if let Some((slot, cached_token)) = self.find_token(&id) {
            let accepted = cached_token.algorithm.is_some_and(|algorithm| {
                let mut accepted = token_auth.algorithms.iter();
                accepted.any(|accepted| accepted.includes(algorithm))
            });
            if accepted {
                return TokenLookup::Found(slot, cached_token);
            }
        }
        let jws = match Jws::parse(token) {
            Ok(jws) => jws,
            Err(refusal) => return TokenLookup::Refused(refusal),
        };
        match jws.verify(keys, &token_auth.algorithms) {
            Ok(claims) => {
                let cached_token = Rc::new(CachedToken {
                    claims,
                    algorithm: Some(jws.algorithm()),
                    from: i64::MIN,
                    until: i64::MAX,
                });
                TokenLookup::Found(self.cache_token(id, cached_token.clone()), cached_token)
            }
            Err(TokenError::UnknownKey(why)) if !latest => {
                // A token that is refused whatever its key must not cause a fetch.
                let acceptable = jws.claims().and_then(|claims| {
                    let expected = expected_issuers(token_auth, discovery);
                    check_issuer(&claims, &expected)?;
                    claims.check_times(token_auth.expected_claims.leeway, now)
                });
                match acceptable {
                    Ok(()) => TokenLookup::Needs(TokenOutcome::NeedsKeys, id),
                    Err(_) => TokenLookup::Refused(TokenError::UnknownKey(why)),
                }
            }
            Err(refusal) => TokenLookup::Refused(refusal),
        }
    }

    fn find_token(&self, id: &[u8; 32]) -> Option<(SlotId, Rc<CachedToken>)> {
        let mut tokens = self.tokens.borrow_mut();
        tokens
            .find(id)
            .map(|(slot, cached_token)| (slot, cached_token.clone()))
    }

    fn is_inactive(&self, id: &[u8; 32], now: i64) -> bool {
        let mut inactive = self.inactive_tokens.borrow_mut();
        let found = inactive.find(id);
        found.is_some_and(|(_, token)| token.from <= now && now < token.until)
    }

    fn cache_token(&self, id: [u8; 32], cached_token: Rc<CachedToken>) -> SlotId {
        let weight = cached_token.claims.len().saturating_mul(DECODED) + BASE;
        self.tokens
            .borrow_mut()
            .insert_weighted(id, cached_token, weight)
    }

    fn check_issuer(
        &self,
        token_auth: &TokenAuth,
        cached_token: &CachedToken,
    ) -> Result<(), TokenError> {
        // `iss` is optional in an introspection response (RFC 7662), which is from the issuer
        // anyway.
        if cached_token.algorithm.is_none() && !cached_token.claims.has("iss") {
            return Ok(());
        }
        let mut issuers = self.issuers.borrow_mut();
        let documents = issuers.find(&token_auth.issuer_key).map(|(_, found)| found);
        let discovery = documents.and_then(|documents| documents.discovery.as_ref());
        let expected = expected_issuers(token_auth, discovery);
        check_issuer(&cached_token.claims, &expected)
    }

    /// Checks the binding of a token to the certificate of the request, as far as the route
    /// requires one.
    fn check_binding(
        &self,
        policy: &Policy,
        plan: &Plan,
        token_auth: &TokenAuth,
        thumbprint: Option<&CertificateThumbprint>,
        request: &TokenRequest<'_>,
        now: i64,
    ) -> Result<BindingCheck, Error> {
        let thumbprint = match (thumbprint, token_auth.proof_of_possession) {
            (_, ProofOfPossession::Off) | (None, ProofOfPossession::Optional) => {
                return Ok(BindingCheck::Fits)
            }
            (None, ProofOfPossession::Strict) => {
                return Ok(BindingCheck::Refused(TokenError::NotBound))
            }
            (Some(thumbprint), _) => thumbprint,
        };
        let header = match &token_auth.certificate_header {
            Some(inbound) => self.certificate_from_header(inbound, &request.headers)?,
            None => HeaderCertificate::Absent(Absent::NoHeader),
        };
        let no_certificate = |why: &str| {
            let refusal = TokenError::NoCertificate(why.to_owned());
            Ok(BindingCheck::Refused(refusal))
        };
        let is_absent = header.is_absent();
        let (slot, certificate, connection) = match (header, request.ssl) {
            (HeaderCertificate::Found(slot, certificate), _) => (slot, certificate, None),
            (HeaderCertificate::Invalid(why), _) => {
                return Ok(BindingCheck::Refused(TokenError::UntrustedCertificate(why)))
            }
            (HeaderCertificate::Absent(why), Some(ssl)) if is_absent => {
                let connection = Connection::of_or_new(ssl)?;
                match self.certificate_of(connection, ssl)? {
                    Some((slot, certificate)) => (slot, certificate, Some(connection)),
                    None if token_auth.certificate_header.is_none() => {
                        let why = self.why_without_certificate(policy, connection, ssl, now);
                        return no_certificate(&why);
                    }
                    None => return no_certificate(why.text()),
                }
            }
            (HeaderCertificate::Absent(why), _) => return no_certificate(why.text()),
        };
        // The comparison is first, because it is cheap: a client with another certificate must not
        // cause fetches of its revocation status.
        if !thumbprint.matches(&certificate.digests().leaf) {
            return Ok(BindingCheck::Refused(TokenError::CertificateMismatch));
        }
        let auth = plan
            .certificate_plan
            .and_then(|plan| Some((plan, policy.plans.get(plan)?.auth.as_ref()?)));
        // The parsed certificate is cached only now, when the token is bound to it and the route,
        // if it verifies certificates, trusts it.
        let origin = connection.map_or(CertificateOrigin::Header, |_| CertificateOrigin::Tls);
        let Some((plan_id, auth)) = auth else {
            if let Some(why) = self.find_block_of_unverified(&certificate, now)? {
                let why = with_certificate(&why, &certificate);
                return Ok(BindingCheck::Refused(TokenError::UntrustedCertificate(why)));
            }
            self.cache_client(slot, &certificate, origin)?;
            return Ok(BindingCheck::Fits);
        };
        let store = match auth.store_of(&certificate) {
            Ok(store) => store,
            Err(why) => {
                let why = with_certificate(&why, &certificate);
                return Ok(BindingCheck::Refused(TokenError::UntrustedCertificate(why)));
            }
        };
        Ok(
            match self.check_trust(connection, (auth, plan_id), store, None, &certificate, now)? {
                TrustResult::Trusted { verdict, .. } => {
                    self.cache_trusted_client(slot, &certificate, origin, &verdict, store, now)?;
                    BindingCheck::Fits
                }
                TrustResult::Untrusted(verdict) => {
                    let why = format!("{} at depth {}", verdict.text(), verdict.depth());
                    BindingCheck::Refused(TokenError::UntrustedCertificate(with_certificate(
                        &why,
                        &certificate,
                    )))
                }
                TrustResult::Denied(why) | TrustResult::Unavailable(why) => BindingCheck::Refused(
                    TokenError::UntrustedCertificate(with_certificate(&why, &certificate)),
                ),
                TrustResult::Pending => BindingCheck::Pending,
            },
        )
    }

    /// Forgets the documents of all issuers, and which tokens are valid or inactive.
    pub fn forget_tokens(&self) {
        self.issuers.borrow_mut().clear();
        self.tokens.borrow_mut().clear();
        self.inactive_tokens.borrow_mut().clear();
    }

    /// Stores the documents of the issuer of a plan: its discovery document and the sets of its
    /// keys, each where it is needed.
    ///
    /// # Errors
    /// Why they are rejected; then the previous ones stay.
    pub fn set_issuer_documents(
        &self,
        plan_id: usize,
        discovery: Option<&[u8]>,
        keys: &[&[u8]],
    ) -> Result<(), Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let token_auth = plan.token_auth.as_ref().ok_or(Error::NotFound)?;
        let wrong = |what: &str, why: String| Error::Misuse(format!("{what}: {why}"));
        if discovery.is_none() && token_auth.needs_discovery() {
            return Err(wrong("discovery document", "there is none".to_owned()));
        }
        let discovery = discovery
            .map(|bytes| Discovery::parse(bytes, &token_auth.issuer, &token_auth.issuers))
            .transpose()
            .map_err(|why| wrong("discovery document", why))?;
        let keys = (!keys.is_empty())
            .then(|| Jwks::parse_all(keys))
            .transpose()
            .map_err(|why| wrong("keys", why))?
            .map(Rc::new);
        let mut issuers = self.issuers.borrow_mut();
        // Another route with the same issuer may need what this one does not.
        let previous = issuers.find(&token_auth.issuer_key).map(|(_, found)| found);
        let keys = keys.or_else(|| previous.and_then(|previous| previous.keys.clone()));
        let discovery = discovery.or_else(|| previous?.discovery.clone());
        issuers.insert(
            token_auth.issuer_key,
            Rc::new(IssuerDocuments { discovery, keys }),
        );
        Ok(())
    }

    /// The introspection endpoint of a plan, if it is configured or discovered.
    pub fn introspection_endpoint(&self, plan_id: usize) -> Result<Option<String>, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let token_auth = plan.token_auth.as_ref().ok_or(Error::NotFound)?;
        if let Some(endpoint) = token_auth.configured_introspection_endpoint() {
            return Ok(Some(endpoint.to_owned()));
        }
        let mut issuers = self.issuers.borrow_mut();
        let documents = issuers.find(&token_auth.issuer_key);
        let discovery = documents.and_then(|(_, documents)| documents.discovery.as_ref());
        let by_certificate = token_auth.client_certificate().is_some();
        Ok(discovery.and_then(|discovery| {
            let alias = discovery.mtls_introspection_endpoint.clone();
            let alias = alias.filter(|_| by_certificate);
            alias.or_else(|| discovery.introspection_endpoint.clone())
        }))
    }

    /// A nonce for DPoP proofs on a plan. Gateways with the same client secret accept each other's.
    pub fn dpop_nonce(
        &self,
        plan_id: usize,
        node_key: &[u8; 32],
        now: i64,
    ) -> Result<String, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let token_auth = plan.token_auth.as_ref().ok_or(Error::NotFound)?;
        nonce(&nonce_key(token_auth, node_key), now)
    }

    /// A JWT that authenticates this gateway to the issuer of a plan (`private_key_jwt`).
    pub fn client_assertion(&self, plan_id: usize, now: i64) -> Result<String, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let token_auth = plan.token_auth.as_ref().ok_or(Error::NotFound)?;
        let client = token_auth.client.as_ref().ok_or(Error::NotFound)?;
        let key = client.key.as_ref().ok_or(Error::NotFound)?;
        let mut issuers = self.issuers.borrow_mut();
        let documents = issuers.find(&token_auth.issuer_key);
        let discovery = documents.and_then(|(_, documents)| documents.discovery.as_ref());
        let issuer = match discovery {
            Some(discovery) => &*discovery.issuer,
            None => &*token_auth.issuer,
        };
        key.assertion(&client.id, issuer, now)
    }

    /// Stores the introspection response for a token. `Some` is the refusal of an inactive token.
    ///
    /// # Errors
    /// When the response is not valid.
    pub fn set_introspection(
        &self,
        plan_id: usize,
        authorization: &[&[u8]],
        response: &[u8],
        now: i64,
    ) -> Result<Option<TokenDecision>, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let token_auth = plan.token_auth.as_ref().ok_or(Error::NotFound)?;
        let token = match token(token_auth, authorization) {
            Ok(token) => token.ok_or(Error::NotFound)?.1,
            Err(refusal) => return Ok(Some(TokenDecision::refuse(&refusal))),
        };
        match parse_introspection_response(response) {
            Err(refusal @ TokenError::Inactive) => {
                let until = now.saturating_add(token_auth.cache_ttl.clamp(1, INACTIVE).into());
                let id = introspection_cache_key(token_auth, token);
                let inactive = InactiveToken { from: now, until };
                self.inactive_tokens.borrow_mut().insert(id, inactive);
                Ok(Some(TokenDecision::refuse(&refusal)))
            }
            // An error of the issuer, not of the token.
            Err(refusal) => Err(Error::Misuse(refusal.to_string())),
            Ok(claims) => {
                let limit = now.saturating_add(token_auth.cache_ttl.into());
                let until = claims.expires_at().map_or(limit, |exp| exp.min(limit));
                let cached_token = Rc::new(CachedToken {
                    claims,
                    algorithm: None,
                    from: now,
                    // The result holds for the request that is waiting for it.
                    until: until.max(now.saturating_add(1)),
                });
                self.cache_token(introspection_cache_key(token_auth, token), cached_token);
                Ok(None)
            }
        }
    }

    /// The header lines for the claims of a token that this plan accepted.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the token is not in the cache any more.
    pub fn claim_headers(&self, plan_id: usize, token: SlotId) -> Result<HeaderLines, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let token_auth = plan.token_auth.as_ref().ok_or(Error::NotFound)?;
        let mut tokens = self.tokens.borrow_mut();
        let claims = &tokens.get(token).ok_or(Error::NotFound)?.claims;
        let mut lines = HeaderLines {
            lines: Vec::new(),
            until: i64::MAX,
        };
        for (claim, header) in &token_auth.claim_headers {
            let (kind, value) = match claims.header_value(claim, MAX_VALUE) {
                Ok(None) => continue,
                Ok(Some(value)) => (LineKind::Always, value),
                Err(why) => {
                    let claim = claim.join(".");
                    (LineKind::NotText, format!("the claim '{claim}' is {why}"))
                }
            };
            lines.lines.push(HeaderLine {
                kind,
                name: header.clone(),
                value,
            });
        }
        Ok(lines)
    }
}

/// The cache key of an introspected token. The issuer may respond differently to another client,
/// so the client credentials are part of the key.
fn introspection_cache_key(token_auth: &TokenAuth, token: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"introspection");
    hasher.update(&token_auth.introspection_key);
    hasher.update(token.as_bytes());
    hasher.finish()
}

/// The values of `iss` that are accepted. Without the discovery document it is not known whether
/// the issuer's name ends with a slash.
fn expected_issuers<'b>(
    token_auth: &'b TokenAuth,
    discovery: Option<&'b Discovery>,
) -> Vec<Cow<'b, str>> {
    if !token_auth.issuers.is_empty() {
        let issuers = token_auth.issuers.iter();
        return issuers.map(|issuer| Cow::Borrowed(&**issuer)).collect();
    }
    // What is accepted must not depend on whether another route with this issuer needs a document.
    if token_auth.jwks_endpoint.is_some() {
        let bare = token_auth.issuer.trim_end_matches('/');
        return vec![bare.into(), format!("{bare}/").into()];
    }
    match discovery {
        Some(discovery) => vec![discovery.issuer.as_str().into()],
        None => vec![(*token_auth.issuer).into()],
    }
}

fn check_issuer(claims: &Claims, expected: &[Cow<'_, str>]) -> Result<(), TokenError> {
    let mut last = Err(TokenError::WrongIssuer);
    for issuer in expected {
        last = claims.check_issuer(issuer);
        if last.is_ok() {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::PolicySource;

    #[test]
    fn introspection_results_are_not_used_once_the_clock_is_set_back() {
        let text = "{_format_version: '3.0', routes: [{name: a, plugins: [{name: openid-connect, \
            config: {issuer: 'https://idp.example', auth_methods: [introspection], \
            client_id: [gw], client_secret: [s], cache_ttl: 60, \
            introspection_endpoint: 'https://idp.example/introspect'}}]}]}";
        let engine = Engine::default();
        let label = "policy".to_owned();
        let text: Arc<[u8]> = text.as_bytes().into();
        engine.load(PolicySource::Text { text, label }).unwrap();
        let plan = engine.policy().unwrap().plan(Some("a")).unwrap();
        let authorization: &[&[u8]] = &[b"Bearer opaque"];
        let decide = |now| {
            let request = TokenRequest {
                authorization,
                headers: RequestHeaders::default(),
                dpop: None,
                ssl: None,
                latest: false,
            };
            engine.check_token(plan, &request, now).unwrap().outcome
        };
        let asks = TokenOutcome::NeedsIntrospection;
        for (decision, outcome, until) in [
            (r#"{"active":false}"#, TokenOutcome::Refused, 1005),
            (r#"{"active":true}"#, TokenOutcome::Pass, 1060),
        ] {
            assert_eq!(decide(1000), asks);
            let decision = decision.as_bytes();
            engine
                .set_introspection(plan, authorization, decision, 1000)
                .unwrap();
            let decisions = [999, 1000, until - 1, until].map(decide);
            assert_eq!(decisions, [asks, outcome, outcome, asks]);
            *engine.inactive_tokens.borrow_mut() = crate::cache::Cache::new(1);
        }
    }

    fn keys_of(x: &str) -> Vec<u8> {
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#).into_bytes()
    }

    #[test]
    fn jwks_endpoint_replaces_the_discovery_document() {
        let text = "{_format_version: '3.0', routes: [\
            {name: keys, plugins: [{name: openid-connect, config: {issuer: 'https://idp.example', \
            jwks_endpoint: 'https://idp.example/k', auth_methods: [bearer]}}]}, \
            {name: both, plugins: [{name: openid-connect, config: {issuer: 'https://idp.example', \
            jwks_endpoint: 'https://idp.example/k', auth_methods: [bearer, introspection], \
            client_id: [gw], client_secret: [s]}}]}, \
            {name: found, plugins: [{name: openid-connect, config: {\
            issuer: 'https://idp.example', auth_methods: [bearer]}}]}]}";
        let engine = Engine::default();
        let label = "policy".to_owned();
        let text: Arc<[u8]> = text.as_bytes().into();
        engine.load(PolicySource::Text { text, label }).unwrap();
        let plan = |name| engine.policy().unwrap().plan(Some(name)).unwrap();
        let (keys, both, found) = (plan("keys"), plan("both"), plan("found"));
        let set = keys_of("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        let more = keys_of("O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik");
        let token = "Bearer eyJhbGciOiJFZERTQSJ9.e30.AAAA";
        let decide = |plan, token: &str| {
            let request = TokenRequest {
                authorization: &[token.as_bytes()],
                headers: RequestHeaders::default(),
                dpop: None,
                ssl: None,
                latest: false,
            };
            engine.check_token(plan, &request, 1000).unwrap().outcome
        };
        let needs = TokenOutcome::NeedsKeys;
        assert_eq!(decide(keys, token), needs);
        for plan in [both, found] {
            let refused = engine.set_issuer_documents(plan, None, &[&set]);
            let why = "discovery document: there is none";
            assert_eq!(refused.unwrap_err().to_string(), why);
        }
        let missing = engine.set_issuer_documents(keys, None, &[&set, b"{}"]);
        let why = "keys: no list 'keys' in it";
        assert_eq!(missing.unwrap_err().to_string(), why);
        engine
            .set_issuer_documents(keys, None, &[&set, &more])
            .unwrap();
        assert_eq!(decide(keys, token), TokenOutcome::Refused);
        // The other routes still need the document, which the keys alone do not stand for.
        assert_eq!(decide(both, "Bearer opaque"), needs);
        assert_eq!(decide(found, token), needs);
        let document = br#"{"issuer":"https://idp.example/",
            "introspection_endpoint":"https://idp.example/i"}"#;
        engine
            .set_issuer_documents(both, Some(document), &[&set])
            .unwrap();
        engine.set_issuer_documents(keys, None, &[&set]).unwrap();
        let asks = TokenOutcome::NeedsIntrospection;
        assert_eq!(decide(both, "Bearer opaque"), asks);
        // `iss` may end with a slash or not, since no document says which.
        let policy = engine.policy().unwrap();
        let auth = policy.plans[keys].token_auth.as_ref().unwrap();
        for (iss, accepted) in [
            ("https://idp.example", true),
            ("https://idp.example/", true),
            ("https://idp.example//", false),
            ("https://idp.example.org", false),
        ] {
            let claims = Claims::parse(format!(r#"{{"iss":"{iss}"}}"#).as_bytes()).unwrap();
            let checked = check_issuer(&claims, &expected_issuers(auth, None));
            assert_eq!(checked.is_ok(), accepted, "{iss}");
        }
    }
}
