//! The access phase: the decision about one request.

use std::rc::Rc;

use openssl::ssl::{NameType, SslRef};

use super::clients::CertificateOrigin;
use super::handshake::NO_CLIENT_HELLO_PHASE;
use super::header_certificate::{HeaderCertificate, RequestHeaders};
use super::lists::{check_lists, ListResult};
use super::verdict::{TrustResult, DENIED};
use super::Engine;
use crate::cache::SlotId;
use crate::certificate::Certificate;
use crate::connection::{CachedDecision, Connection};
use crate::decision::{Decision, Identity, Outcome};
use crate::identity::RuleSubject;
use crate::metrics::{self, Event};
use crate::openssl_ext::ssl as ext;
use crate::openssl_ext::x509::UNSPECIFIED;
use crate::policy::{lists_generation, Auth, CertificateHeader, Plan, Policy};
use crate::trust::selector::CertificateSelectors;
use crate::trust::INVALID_PURPOSE;
use crate::Error;

const NO_AUTHENTICATION: &str = "acl: no plugin authenticates the clients of this route";

/// Longest Host for which a connection caches a decision: the longest DNS name (RFC 1035).
const MAX_HOST: usize = 255;

/// A request and the route plan that applies to it.
#[derive(Clone, Copy)]
struct Request<'r> {
    policy: &'r Policy,
    plan: &'r Plan,
    plan_id: usize,
    /// `None` on plain HTTP.
    ssl: Option<&'r SslRef>,
    host: &'r [u8],
    headers: &'r RequestHeaders<'r>,
    /// In seconds since the epoch.
    now: i64,
}

/// Why a client is not authenticated.
struct Failure {
    /// `X509_V_*` number of the verdict on the certificate; `None` without a certificate.
    verdict: Option<i32>,
    /// Whether a block or a list denies the certificate, so that `enforce: report` of the plugin
    /// that authenticates does not let the request pass.
    is_denied: bool,
    reason: String,
}

impl Failure {
    fn no_certificate(why: &str) -> Failure {
        Failure {
            verdict: None,
            is_denied: false,
            reason: format!("no certificate: {why}"),
        }
    }
}

impl Engine {
    /// Access phase: authenticates the client and decides whether it may use the route of a plan
    /// under this Host. `ssl` is `None` on plain HTTP. `now` in seconds since the epoch.
    pub fn access(
        &self,
        ssl: Option<&SslRef>,
        plan_id: usize,
        host: &[u8],
        now: i64,
    ) -> Result<Decision, Error> {
        self.access_with_headers(ssl, plan_id, host, &RequestHeaders::default(), now)
    }

    /// [`Engine::access`] of a request whose certificate may be in a header.
    pub fn access_with_headers(
        &self,
        ssl: Option<&SslRef>,
        plan_id: usize,
        host: &[u8],
        headers: &RequestHeaders<'_>,
        now: i64,
    ) -> Result<Decision, Error> {
        let policy = self.policy()?;
        let plan = policy
            .plans
            .get(plan_id)
            .ok_or_else(|| Error::Misuse(format!("no plan {plan_id} in this policy")))?;
        if self.must_not_serve() {
            let reason = "a newer policy than that of this worker is in force".to_owned();
            return Ok(Decision::refuse(Outcome::Unavailable, reason));
        }
        if !plan.has_plugins {
            return Ok(Decision::pass(None, None, Identity::None));
        }
        let lacks_authentication =
            plan.auth.is_none() && plan.acl.is_some() && !plan.checks_acl_with_token();
        if lacks_authentication && plan.enforces_acl() {
            let reason = NO_AUTHENTICATION.to_owned();
            return Ok(Decision::refuse(Outcome::NoCertificate, reason));
        }
        let request = Request {
            policy: &policy,
            plan,
            plan_id,
            ssl,
            host,
            headers,
            now,
        };
        let mut decision = match (&plan.auth, &plan.certificate_header) {
            (Some(auth), Some(inbound)) => Decision {
                from_header: true,
                ..self.authenticate_header(&request, auth, inbound)?
            },
            (None, Some(inbound)) => self.unverified_from_header(&request, inbound)?,
            _ => {
                let mut decision = self.decide_tls(&request)?;
                if let (None, Some(_), Some(ssl)) = (decision.client, decision.verdict, ssl) {
                    decision.connection = Connection::of_or_new(ssl)?.number();
                }
                decision
            }
        };
        if lacks_authentication && decision.outcome == Outcome::Pass {
            decision.report(Outcome::NoCertificate, None, NO_AUTHENTICATION.to_owned());
        }
        if decision.outcome == Outcome::Pass && !plan.upstream_headers.dialects.is_empty() {
            self.set_request_fields(plan, ssl, host, &mut decision)?;
        }
        Ok(decision)
    }

    /// Authenticates the certificate in a header. The decision is not cached on the connection,
    /// which is the proxy's and carries requests of many clients.
    fn authenticate_header(
        &self,
        request: &Request<'_>,
        auth: &Auth,
        inbound: &CertificateHeader,
    ) -> Result<Decision, Error> {
        if let Some(ssl) = request.ssl {
            let connection = Connection::of_or_new(ssl)?;
            if let Some(decision) = early_or_misdirected(request, connection, ssl) {
                return Ok(decision);
            }
        }
        let failure = match self.certificate_from_header(inbound, request.headers)? {
            HeaderCertificate::Found(slot, certificate) => {
                let (decision, _) = self.authenticate(request, auth, None, slot, &certificate)?;
                return Ok(decision);
            }
            HeaderCertificate::Absent(why) => Failure::no_certificate(why.text()),
            HeaderCertificate::Invalid(reason) => Failure {
                verdict: Some(UNSPECIFIED),
                is_denied: false,
                reason,
            },
        };
        Ok(refuse_or_anonymous(request, auth, failure))
    }

    /// The decision on a route without `mtls-auth` and `header-cert-auth` whose token is bound to a
    /// certificate in a header. The certificate is the one that [`Engine::check_token`] compares
    /// with the token, and counts as not verified, since only that comparison can verify it.
    fn unverified_from_header(
        &self,
        request: &Request<'_>,
        inbound: &CertificateHeader,
    ) -> Result<Decision, Error> {
        let header = self.certificate_from_header(inbound, request.headers)?;
        if header.is_absent() {
            return self.decide_tls(request);
        }
        if let Some(ssl) = request.ssl {
            let connection = Connection::of_or_new(ssl)?;
            connection.count(ssl);
            if let Some(decision) = early_or_misdirected(request, connection, ssl) {
                return Ok(decision);
            }
        }
        let (client, verdict) = match header {
            HeaderCertificate::Found(slot, certificate) => {
                let slot = self.cache_client(slot, &certificate, CertificateOrigin::Unverified)?;
                (Some(slot), None)
            }
            HeaderCertificate::Absent(_) => (None, None),
            // Not "no certificate": the header has a value.
            HeaderCertificate::Invalid(_) => (None, Some(UNSPECIFIED)),
        };
        Ok(Decision {
            from_header: true,
            ..Decision::pass(client, verdict, Identity::None)
        })
    }

    /// The decision about a certificate, and the second before which it holds.
    fn authenticate(
        &self,
        request: &Request<'_>,
        auth: &Auth,
        connection: Option<&Connection>,
        slot: Option<SlotId>,
        certificate: &Rc<Certificate>,
    ) -> Result<(Decision, i64), Error> {
        let Request {
            policy, plan, now, ..
        } = *request;
        let refuse_as = |code, is_denied, reason: &str| {
            let failure = Failure {
                verdict: Some(code),
                is_denied,
                reason: with_certificate(reason, certificate),
            };
            // A refusal is not cached: it may be different in the next second.
            Ok((refuse_or_anonymous(request, auth, failure), now))
        };
        let refuse = |code, reason: &str| refuse_as(code, false, reason);
        // Lists with `enforce: report` are checked last, so that the client keeps its identity.
        let lists = plan.lists.as_deref();
        let enforced_lists = lists.filter(|_| !plan.report_only.lists);
        let reported_lists = lists.filter(|_| plan.report_only.lists);
        let store = match auth.store_of(certificate) {
            Ok(store) => store,
            Err(reason) => return refuse(UNSPECIFIED, &reason),
        };
        let (verdict, mut until) = match self.check_trust(
            connection,
            (auth, request.plan_id),
            store,
            enforced_lists,
            certificate,
            now,
        )? {
            TrustResult::Trusted { verdict, until } => (verdict, until),
            TrustResult::Untrusted(verdict) => {
                let mut reason = format!("{} at depth {}", verdict.text(), verdict.depth());
                if verdict.code() == INVALID_PURPOSE {
                    let eku = auth.store.client_auth_eku();
                    reason += ": ";
                    reason += eku.missing(certificate.leaf(), verdict.depth());
                }
                return refuse(verdict.code(), &reason);
            }
            TrustResult::Denied(why) => return refuse_as(DENIED, true, &why),
            TrustResult::Unavailable(why) => {
                return Ok((Decision::refuse(Outcome::Unavailable, why), now));
            }
            TrustResult::Pending => {
                let decision = Decision {
                    outcome: Outcome::Pending,
                    ..Decision::pass(None, None, Identity::None)
                };
                return Ok((decision, now));
            }
        };
        let Some(identity) = policy.identify(auth, certificate, verdict.cas()) else {
            return match auth.spiffe_id(certificate) {
                Some(id) => refuse(
                    0,
                    &format!("no consumer for the SPIFFE ID '{}'", id.as_str()),
                ),
                None => refuse(0, "no consumer"),
            };
        };
        if let Some(digest) = verdict.alternate_sha256() {
            certificate.set_alternate_sha256(digest);
        }
        let mut denied = None;
        if let Some(lists) = reported_lists {
            let selectors = CertificateSelectors::verified(certificate, verdict.alternate_sha256());
            match check_lists(lists, certificate, &selectors, now)? {
                ListResult::Passed { until: listed } => until = until.min(listed),
                ListResult::Denied(why) => denied = Some(why),
                ListResult::Unavailable(why) => {
                    return Ok((Decision::refuse(Outcome::Unavailable, why), now));
                }
            }
        }
        let origin = connection.map_or(CertificateOrigin::Header, |_| CertificateOrigin::Tls);
        let slot = self.cache_trusted_client(slot, certificate, origin, &verdict, store, now)?;
        let mut decision = Decision::pass(Some(slot), Some(0), identity);
        let subject = RuleSubject {
            certificate,
            cas: verdict.cas(),
            spiffe_id: auth.spiffe_id(certificate),
        };
        if let Some(why) = denied {
            let reason = with_certificate(&why, certificate);
            decision.report(Outcome::Refused, Some(DENIED), reason);
        }
        let reason = |why: String| with_certificate(&why, certificate);
        match policy.authorize(plan, Some(subject), identity) {
            Ok(None) => {}
            Ok(Some(why)) => decision.report(Outcome::Forbidden, Some(0), reason(why)),
            Err(why) => decision.forbid(reason(why)),
        }
        Ok((decision, until))
    }

    /// The decision by the certificate of the connection.
    fn decide_tls(&self, request: &Request<'_>) -> Result<Decision, Error> {
        let Request {
            policy, plan, now, ..
        } = *request;
        let Some(ssl) = request.ssl else {
            let failure = Failure::no_certificate("the connection is not TLS");
            return Ok(match &plan.auth {
                Some(auth) => refuse_or_anonymous(request, auth, failure),
                None => Decision::pass(None, None, Identity::None),
            });
        };
        let connection = Connection::of_or_new(ssl)?;
        connection.count(ssl);
        // Before the decision: a block or list that comes into force meanwhile is found by the next request.
        let denials = (self.blocks_generation(), lists_generation());
        let cached = self.cached_decision(request, connection, denials);
        metrics::count_look_up(cached.is_some(), Event::DecisionHit, Event::DecisionMiss);
        if let Some(decision) = cached {
            return Ok(decision);
        }

        if let Some(decision) = early_or_misdirected(request, connection, ssl) {
            return Ok(decision);
        }
        let resumption = plan.auth.as_ref().is_none_or(|auth| auth.resumption);
        if !resumption && ext::is_resumed(ssl) {
            return Ok(refuse_misdirected(
                plan,
                "the route accepts no resumed TLS session, and this Host is none of its snis",
            ));
        }
        let client = self.certificate_of(connection, ssl)?;
        if let Some((slot, _)) = &client {
            metrics::count_look_up(slot.is_some(), Event::ClientHit, Event::ClientMiss);
        }
        let (decision, until) = match (&plan.auth, client) {
            (None, client) => {
                let cache = |(slot, certificate)| {
                    self.cache_client(slot, &certificate, CertificateOrigin::Tls)
                };
                let slot = client.map(cache).transpose()?;
                (Decision::pass(slot, None, Identity::None), i64::MAX)
            }
            (Some(auth), None) => {
                // With an anonymous consumer the request passes, and no reason is logged.
                let why = match auth.anonymous {
                    Some(_) => String::new(),
                    None => self.why_without_certificate(policy, connection, ssl, now),
                };
                let failure = Failure::no_certificate(&why);
                return Ok(refuse_or_anonymous(request, auth, failure));
            }
            (Some(auth), Some((slot, certificate))) => {
                self.authenticate(request, auth, Some(connection), slot, &certificate)?
            }
        };
        let is_pass = decision.outcome == Outcome::Pass && decision.would_refuse.is_none();
        if is_pass && now < until && request.host.len() <= MAX_HOST {
            connection.cache_decision(CachedDecision {
                epoch: self.epoch(),
                revocations: self.evidence.borrow().changes(),
                denials,
                plan: request.plan_id,
                host: request.host.into(),
                decision: decision.clone(),
                from: now,
                until,
            });
        }
        Ok(decision)
    }

    /// The last decision on this connection, if everything that it depended on is unchanged.
    fn cached_decision(
        &self,
        request: &Request<'_>,
        connection: &Connection,
        denials: (u64, u64),
    ) -> Option<Decision> {
        let cached = connection.cached_decision();
        let cached = cached.as_ref()?;
        if cached.epoch != self.epoch()
            || cached.plan != request.plan_id
            || *cached.host != *request.host
        {
            return None;
        }
        if request.now < cached.from || cached.until <= request.now {
            return None;
        }
        if cached.revocations != self.evidence.borrow().changes() || cached.denials != denials {
            return None;
        }
        if let Some(slot) = cached.decision.client {
            if !self.clients.borrow_mut().contains(slot) {
                return None;
            }
        }
        Some(cached.decision.clone())
    }
}

/// The decision about a client that is not authenticated: the anonymous consumer, or a refusal.
fn refuse_or_anonymous(request: &Request<'_>, auth: &Auth, failure: Failure) -> Decision {
    let outcome = match failure.verdict {
        Some(_) => Outcome::Refused,
        None => Outcome::NoCertificate,
    };
    let Some(anonymous) = auth.anonymous else {
        let refusal = Decision {
            verdict: failure.verdict,
            ..Decision::refuse(outcome, failure.reason)
        };
        return match request.plan.passes_unauthenticated() && !failure.is_denied {
            true => refusal.pass_unauthenticated(),
            false => refusal,
        };
    };
    let identity = Identity::Anonymous(anonymous);
    match request.policy.authorize(request.plan, None, identity) {
        Ok(reported) => {
            let mut decision = Decision::pass(None, failure.verdict, identity);
            if let Some(why) = reported {
                let reason = format!("{why} (anonymous)");
                decision.report(Outcome::Forbidden, failure.verdict, reason);
            }
            decision
        }
        Err(reason) => Decision {
            verdict: failure.verdict,
            ..Decision::refuse(Outcome::Forbidden, format!("{reason} (anonymous)"))
        },
    }
}

/// Refuses early data, and a request whose Host has another certificate request than the one under
/// which the session of its connection was made.
///
/// A connection whose own server name is the Host was made under this very name, so only a change
/// of the policy makes a difference. Its certificate is verified by the policy in force. It is
/// refused only if that policy wants what its handshake did not do.
fn early_or_misdirected(
    request: &Request<'_>,
    connection: &Connection,
    ssl: &SslRef,
) -> Option<Decision> {
    if !ext::is_handshake_over(ssl) {
        return Some(Decision::refuse(
            Outcome::TooEarly,
            "too early: the request was sent as early data".to_owned(),
        ));
    }
    let policy = request.policy;
    let of_host = policy.certificate_request(Some(request.host));
    // A client without SNI may send any Host.
    let without_sni = || match ssl.servername_raw(NameType::HOST_NAME) {
        None => policy.certificate_request(None),
        Some(_) => None,
    };
    let expected = of_host.or_else(without_sni).map(|request| &**request);
    if connection.is_bound(ssl, expected) {
        return None;
    }
    let why = if !connection.saw_client_hello() {
        NO_CLIENT_HELLO_PHASE
    } else if !connection.is_own_name(request.host) {
        "the TLS session was made with another certificate request than this Host's"
    } else {
        match expected {
            Some(_) if !connection.is_bound_to_own_request(ssl) => {
                "no certificate was requested under this Host when the client connected"
            }
            Some(expected) if !expected.resumption() && ext::is_resumed(ssl) => {
                "the TLS session was resumed, which this Host no longer accepts"
            }
            _ => return None,
        }
    };
    Some(refuse_misdirected(request.plan, why))
}

fn refuse_misdirected(plan: &Plan, why: &str) -> Decision {
    let refusal = Decision::refuse(Outcome::Misdirected, format!("misdirected request: {why}"));
    match plan.passes_misdirected() {
        true => refusal.pass_unauthenticated(),
        false => refusal,
    }
}

/// Adds subject, issuer and serial number of a certificate to a reason for the error log.
pub(super) fn with_certificate(reason: &str, certificate: &Certificate) -> String {
    let name = |dn: Result<String, Error>| dn.unwrap_or_else(|_| "(unprintable)".to_owned());
    format!(
        "{reason}, subject: \"{}\", issuer: \"{}\", serial: {}",
        name(certificate.subject_dn()),
        name(certificate.issuer_dn()),
        certificate.serial(),
    )
}
