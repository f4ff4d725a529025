//! The header lines about a client for the upstream.

use std::rc::Rc;

use openssl::ssl::SslRef;
use openssl::x509::{X509Ref, X509VerifyResult};

use super::Engine;
use crate::cache::SlotId;
use crate::certificate::{san, sha256, Certificate, San};
use crate::connection::Connection;
use crate::decision::{CertificateForwarding, Decision, Identity};
use crate::headers::cloudflare::{self, Property};
use crate::headers::cloudflare_forwarding::ForwardOn;
use crate::headers::{
    xfcc, ClientInfo, Dialect, DialectConfig, DialectOptions, ForwardWhen, LeftOutReason,
    RenderedHeaders, VerifyResult, TOO_LARGE_SUFFIX,
};
use crate::openssl_ext::x509::UNSPECIFIED;
use crate::policy::Plan;
use crate::trust::Verdict;
use crate::Error;

/// When a header line is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum LineKind {
    /// On every request of the client.
    Always = 0,
    /// On requests with [`Decision::forwarding`].
    Forwarding = 1,
    /// With the value that [`Engine::xfcc`] computes from it and from the inbound header.
    Xfcc = 2,
    /// Never: the value is longer than its limit.
    TooLarge = 3,
    /// Never: a reader could read another value.
    Ambiguous = 4,
    /// Never: the value is not allowed in a header.
    NotText = 5,
    /// Never: this part of the certificate cannot be parsed.
    Unreadable = 6,
}

impl From<&LeftOutReason> for LineKind {
    fn from(why: &LeftOutReason) -> LineKind {
        match why {
            LeftOutReason::TooLarge { .. } | LeftOutReason::TooMany { .. } => LineKind::TooLarge,
            LeftOutReason::Ambiguous(_) => LineKind::Ambiguous,
            LeftOutReason::NotText(_) => LineKind::NotText,
            LeftOutReason::Unreadable(_) => LineKind::Unreadable,
        }
    }
}

/// One header line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLine {
    /// When it is set.
    pub kind: LineKind,
    /// The header name.
    pub name: Box<str>,
    /// The value, or why there is none.
    pub value: String,
}

/// The header lines for requests of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderLines {
    /// The lines, in the order they are set.
    pub lines: Vec<HeaderLine>,
    /// First second at which they must be rendered again; 0 when they are for one request only.
    pub until: i64,
}

impl HeaderLines {
    fn new() -> HeaderLines {
        HeaderLines {
            lines: Vec::new(),
            until: i64::MAX,
        }
    }

    /// The lines of one dialect, without a policy.
    pub fn of(
        dialect: Dialect,
        certificate: &Certificate,
        verdict: VerifyResult,
        now: i64,
    ) -> Self {
        let client = ClientInfo {
            certificate: Some(certificate),
            verify_result: verdict,
            issuer: None,
            now,
            server_uris: &[],
        };
        let mut lines = HeaderLines::new();
        let options = presented();
        lines.add(
            LineKind::Always,
            DialectConfig::new(dialect, options).render(&client),
        );
        lines
    }

    fn push(&mut self, kind: LineKind, name: &str, value: String) {
        self.lines.push(HeaderLine {
            kind,
            name: name.into(),
            value,
        });
    }

    fn add(&mut self, kind: LineKind, lines: RenderedHeaders) {
        self.until = self.until.min(lines.changes_at.unwrap_or(i64::MAX));
        for (name, value) in lines.lines {
            // The "too large" header replaces the inbound value, so it is not combined with it.
            let marker = kind == LineKind::Xfcc && name.ends_with(TOO_LARGE_SUFFIX);
            let kind = if marker { LineKind::Always } else { kind };
            self.push(kind, &name, value);
        }
        for (name, why) in lines.left_out {
            self.push(LineKind::from(&why), &name, why.to_string());
        }
    }
}

/// The certificate whose values [`Engine::header_value`] and [`Engine::cloudflare`] render.
pub struct ClientCertificate<'r> {
    /// The connection of the request, if it is TLS.
    pub ssl: Option<&'r SslRef>,
    /// `None` is the certificate of the connection.
    pub certificate: Option<Rc<Certificate>>,
    /// The plan that the result belongs to.
    pub plan_id: usize,
    /// The result of verification.
    pub verify_result: VerifyResult,
    /// In seconds since the epoch.
    pub now: i64,
}

/// A client certificate with what its header lines depend on.
struct CertificateContext {
    certificate: Option<Rc<Certificate>>,
    verdict: VerifyResult,
    chain: Option<Verdict>,
    server_uris: Vec<Vec<u8>>,
}

impl CertificateContext {
    fn client_info<'a>(&'a self, plan: &'a Plan, now: i64) -> ClientInfo<'a> {
        let issuer = || {
            let issuer = self.chain.as_ref()?.issuer();
            let certificate = self.certificate.as_deref()?;
            let Some(issuer) = issuer else {
                // The certificate itself is the trust anchor. Its issuer is known only if it is
                // self-signed.
                let leaf = certificate.leaf();
                return (leaf.issued(leaf) == X509VerifyResult::OK).then_some(leaf);
            };
            let matches =
                |candidate: &&X509Ref| sha256(candidate).is_ok_and(|digest| digest == *issuer);
            let auth = plan.auth.as_ref()?;
            let from_store = || {
                let found = auth.stores().find_map(|store| store.find(issuer));
                Some(&**found?.x509())
            };
            certificate
                .intermediates()
                .iter()
                .find(matches)
                .or_else(from_store)
        };
        ClientInfo {
            certificate: self.certificate.as_deref(),
            verify_result: self.verdict,
            issuer: issuer(),
            now,
            server_uris: &self.server_uris,
        }
    }
}

/// The chain is trusted, but the certificate maps to no consumer.
pub const NO_CONSUMER: VerifyResult = VerifyResult::Failed(UNSPECIFIED, "no consumer");

/// The verify result by slot and verdict of a [`Decision`].
fn verify_result(slot: Option<SlotId>, verdict: Option<i32>) -> VerifyResult {
    match (slot, verdict) {
        (None, None) => VerifyResult::NoCertificate,
        (Some(_), None) => VerifyResult::NotVerified,
        (Some(_), Some(0)) => VerifyResult::Success,
        (None, Some(0)) => NO_CONSUMER,
        (_, Some(code)) => VerifyResult::from_code(code),
    }
}

fn presented() -> DialectOptions {
    DialectOptions {
        when: Some(ForwardWhen::Presented),
        ..DialectOptions::default()
    }
}

impl Engine {
    /// Sets the fields of a decision that depend on the single request.
    pub(super) fn set_request_fields(
        &self,
        plan: &Plan,
        ssl: Option<&SslRef>,
        host: &[u8],
        decision: &mut Decision,
    ) -> Result<(), Error> {
        if let Some(selection) = plan.upstream_headers.forwarding() {
            let options = &selection.options;
            let applies = options
                .includes_certificate(verify_result(decision.client, decision.verdict))
                && options.forwarding.forwards(host);
            decision.forwarding = match ssl {
                _ if !applies => CertificateForwarding::No,
                // The connection of a proxy carries requests of many clients, so each is forwarded.
                _ if decision.from_header => CertificateForwarding::Yes,
                Some(_) if options.forwarding.on == ForwardOn::EveryRequest => {
                    CertificateForwarding::Yes
                }
                Some(_) => CertificateForwarding::First,
                None => CertificateForwarding::No,
            };
        }
        let Some(ssl) = ssl else {
            return Ok(());
        };
        if plan.upstream_headers.xfcc().is_some() {
            decision.server_certificate =
                Connection::of_or_new(ssl)?.server_certificate_id(|| server_uris_digest(ssl));
        }
        Ok(())
    }

    /// The header lines of a request by its decision from [`Engine::access`] for the same plan.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the client is not in the client cache any more.
    pub fn lines(
        &self,
        ssl: Option<&SslRef>,
        plan_id: usize,
        decision: &Decision,
        now: i64,
    ) -> Result<HeaderLines, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let headers = &plan.upstream_headers;
        let context = self.certificate_context(ssl, plan, decision, now)?;
        let mut lines = HeaderLines::new();
        let client = context.client_info(plan, now);
        // The certificate does not describe the anonymous consumer.
        let authenticated =
            decision.client.is_some() && !matches!(decision.identity, Identity::Anonymous(_));
        if authenticated {
            for selection in &headers.kong {
                lines.add(LineKind::Always, selection.render(&client));
            }
        }
        for selection in &headers.dialects {
            let kind = match selection.dialect {
                Dialect::CloudflareForwarding => LineKind::Forwarding,
                Dialect::Xfcc if selection.options.xfcc.mode.forwards() => LineKind::Xfcc,
                _ => LineKind::Always,
            };
            lines.add(kind, selection.render(&client));
        }
        let certificate = client.certificate.filter(|_| authenticated);
        for (name, value) in policy.identity_lines(plan, certificate, decision.identity) {
            lines.push(LineKind::Always, name, value);
        }
        if decision.client.is_none() && client.certificate.is_some() {
            // Unverified clients are not cached, so their lines cannot be cached either.
            lines.until = 0;
        }
        Ok(lines)
    }

    /// One value of a dialect, as a header of that dialect has it for any presented certificate.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown key, or when the client presented no certificate.
    pub fn header_value(
        &self,
        subject: ClientCertificate<'_>,
        dialect: Dialect,
        key: &str,
    ) -> Result<Option<String>, Error> {
        self.with_client(subject, |client| dialect.value(key, client, &presented()))
    }

    /// The 21 properties of Cloudflare's `tlsClientAuth`.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the client presented no certificate.
    pub fn cloudflare(
        &self,
        subject: ClientCertificate<'_>,
    ) -> Result<Vec<(&'static str, Property)>, Error> {
        self.with_client(subject, |client| Ok(cloudflare::tls_client_auth(client)))
    }

    fn with_client<T>(
        &self,
        subject: ClientCertificate<'_>,
        read: impl FnOnce(&ClientInfo) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let ClientCertificate {
            ssl,
            certificate,
            plan_id,
            verify_result,
            now,
        } = subject;
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let certificate = match (certificate, ssl) {
            (Some(certificate), _) => certificate,
            (None, Some(ssl)) => self.tls_client(ssl)?.ok_or(Error::NotFound)?,
            (None, None) => return Err(Error::NotFound),
        };
        let context = CertificateContext {
            verdict: verify_result,
            chain: self.chain(ssl, plan, &certificate, verify_result, now)?,
            certificate: Some(certificate),
            server_uris: ssl.map(server_uris).unwrap_or_default(),
        };
        read(&context.client_info(plan, now))
    }

    /// The upstream header of `xfcc` on a route that forwards the inbound one, or why there must be
    /// none; `inbound` are the request headers in order. See [`xfcc::forward`].
    pub fn xfcc(
        &self,
        plan_id: usize,
        decision: &Decision,
        inbound: &[(&[u8], &[u8])],
        own: Option<&str>,
    ) -> Result<Option<HeaderLine>, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let Some(selection) = plan.upstream_headers.xfcc_forwarded() else {
            return Ok(None);
        };
        let Some(name) = selection.header_names().next() else {
            return Ok(None);
        };
        let verified = selection
            .options
            .includes_certificate(verify_result(decision.client, decision.verdict));
        let inbound: Vec<&[u8]> = inbound
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| *value)
            .collect();
        let (kind, value) = match xfcc::forward(&selection.options, verified, &inbound, own) {
            Ok(None) => return Ok(None),
            Ok(Some(value)) => (LineKind::Always, value),
            Err(why) => (LineKind::from(&why), why.to_string()),
        };
        Ok(Some(HeaderLine {
            kind,
            name: name.into(),
            value,
        }))
    }

    fn certificate_context(
        &self,
        ssl: Option<&SslRef>,
        plan: &Plan,
        decision: &Decision,
        now: i64,
    ) -> Result<CertificateContext, Error> {
        let verdict = verify_result(decision.client, decision.verdict);
        let mut dialects = plan.upstream_headers.dialects.iter();
        let is_rendered = dialects.any(|selection| selection.options.includes_certificate(verdict));
        let certificate = match (decision.client, decision.verdict, ssl) {
            (Some(slot), ..) => Some(self.certificate_at(slot).ok_or(Error::NotFound)?),
            // On a route with a certificate header, the certificate of the connection is the
            // proxy's.
            (None, Some(_), Some(ssl)) if is_rendered && plan.certificate_header.is_none() => {
                self.tls_client(ssl)?
            }
            _ => None,
        };
        // Only this dialect has values of the issuer's certificate.
        let chain = match (&certificate, plan.upstream_headers.of(Dialect::Cloudflare)) {
            (Some(certificate), Some(_)) => self.chain(ssl, plan, certificate, verdict, now)?,
            _ => None,
        };
        let server_uris = match (plan.upstream_headers.xfcc(), ssl) {
            (Some(_), Some(ssl)) => server_uris(ssl),
            _ => Vec::new(),
        };
        Ok(CertificateContext {
            certificate,
            verdict,
            chain,
            server_uris,
        })
    }

    /// The verdict on a trusted client, which has its chain.
    fn chain(
        &self,
        ssl: Option<&SslRef>,
        plan: &Plan,
        certificate: &Certificate,
        verdict: VerifyResult,
        now: i64,
    ) -> Result<Option<Verdict>, Error> {
        let (Some(auth), VerifyResult::Success) = (&plan.auth, verdict) else {
            return Ok(None);
        };
        let connection = match ssl.filter(|_| plan.certificate_header.is_none()) {
            Some(ssl) => Some(Connection::of_or_new(ssl)?),
            None if plan.certificate_header.is_some() => None,
            None => return Ok(None),
        };
        let Ok(store) = auth.store_of(certificate) else {
            return Ok(None);
        };
        let verdict = self.verdict(connection, store, certificate, now)?;
        Ok(Some(verdict).filter(Verdict::is_success))
    }
}

/// The URI names of the certificate that this server presents on the connection.
fn server_uris(ssl: &SslRef) -> Vec<Vec<u8>> {
    let names = ssl.certificate().map(san::of).unwrap_or_default();
    names
        .into_iter()
        .filter_map(|name| match name {
            San::Uri(uri) => Some(uri),
            _ => None,
        })
        .collect()
}

fn server_uris_digest(ssl: &SslRef) -> u32 {
    let uris = server_uris(ssl);
    if uris.is_empty() {
        return 0;
    }
    let digest = openssl::sha::sha256(&uris.join(&b"\0"[..]));
    let [a, b, c, d, ..] = digest;
    // 0 is "none".
    u32::from_be_bytes([a, b, c, d]).max(1)
}
