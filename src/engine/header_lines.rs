//! The header lines that tell the upstream about a client.

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

/// When a line is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum LineKind {
    /// On every request of the client.
    Always = 0,
    /// On requests that [`Decision::forwarding`].
    Forwarding = 1,
    /// With what [`Engine::xfcc`] makes of it and of the header that came.
    Xfcc = 2,
    /// Never: longer than its limit.
    TooLarge = 3,
    /// Never: readers would read something else.
    Ambiguous = 4,
    /// Never: not what a header may hold.
    NotText = 5,
    /// Never: the certificate cannot be read that far.
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
    /// Header name.
    pub name: Box<str>,
    /// Its value, or why it has none.
    pub value: String,
}

/// What a request of a client carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderLines {
    /// The lines, in the order they are set.
    pub lines: Vec<HeaderLine>,
    /// First second at which they must be made again; 0 when they hold for one request only.
    pub until: i64,
}

impl HeaderLines {
    fn new() -> HeaderLines {
        HeaderLines {
            lines: Vec::new(),
            until: i64::MAX,
        }
    }

    /// The lines of one dialect, for those who have no policy.
    pub fn of(
        dialect: Dialect,
        certificate: &Certificate,
        verdict: VerifyResult,
        now: i64,
    ) -> Self {
        let facts = ClientInfo {
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
            DialectConfig::new(dialect, options).render(&facts),
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
            // "Too large" stands where what came would be forwarded, not with it.
            let marker = kind == LineKind::Xfcc && name.ends_with(TOO_LARGE_SUFFIX);
            let kind = if marker { LineKind::Always } else { kind };
            self.push(kind, &name, value);
        }
        for (name, why) in lines.left_out {
            self.push(LineKind::from(&why), &name, why.to_string());
        }
    }
}

/// What the facts of a client are taken from.
struct CertificateContext {
    certificate: Option<Rc<Certificate>>,
    verdict: VerifyResult,
    chain: Option<Verdict>,
    server_uris: Vec<Vec<u8>>,
}

impl CertificateContext {
    fn facts<'a>(&'a self, plan: &'a Plan, now: i64) -> ClientInfo<'a> {
        let issuer = || {
            let issuer = self.chain.as_ref()?.issuer();
            let certificate = self.certificate.as_deref()?;
            let Some(issuer) = issuer else {
                // Trusted as it is; its issuer is context only if it is its own.
                let leaf = certificate.leaf();
                return (leaf.issued(leaf) == X509VerifyResult::OK).then_some(leaf);
            };
            let is_it = |candidate: &&X509Ref| sha256(candidate).is_ok_and(|it| it == *issuer);
            let store = &plan.auth.as_ref()?.store;
            let own = || Some(&**store.find(issuer)?.x509());
            certificate.intermediates().iter().find(is_it).or_else(own)
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

/// The chain is good, but the route takes the client for nobody.
pub const NO_CONSUMER: VerifyResult = VerifyResult::Failed(UNSPECIFIED, "no consumer");

/// What a slot and a verdict of an [`Decision`] amount to.
fn verified(slot: Option<SlotId>, verdict: Option<i32>) -> VerifyResult {
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
    /// What of the lines depends on this very request.
    pub(super) fn set_request_fields(
        &self,
        plan: &Plan,
        ssl: Option<&SslRef>,
        host: &[u8],
        decision: &mut Decision,
    ) -> Result<(), Error> {
        if let Some(selection) = plan.upstream_headers.forwarding() {
            let options = &selection.options;
            let to = options.includes_certificate(verified(decision.client, decision.verdict))
                && options.forwarding.forwards(host);
            decision.forwarding = match ssl {
                _ if !to => CertificateForwarding::No,
                // Requests of many clients share the connection of a proxy: none is the first.
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
                Connection::of_or_new(ssl)?.server_certificate_id(|| own_digest(ssl));
        }
        Ok(())
    }

    /// The lines of a request after this answer of [`Engine::access`] for the same plan; nothing
    /// of it but the fields is read.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the client is not remembered any more.
    pub fn lines(
        &self,
        ssl: Option<&SslRef>,
        plan_id: usize,
        decision: &Decision,
        now: i64,
    ) -> Result<HeaderLines, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let told = &plan.upstream_headers;
        let context = self.certificate_context(ssl, plan, decision, now)?;
        let mut lines = HeaderLines::new();
        let facts = context.facts(plan, now);
        // What a certificate says counts for nothing once somebody else stands in.
        let taken =
            decision.client.is_some() && !matches!(decision.identity, Identity::Anonymous(_));
        if taken {
            for selection in &told.kong {
                lines.add(LineKind::Always, selection.render(&facts));
            }
        }
        for selection in &told.dialects {
            let kind = match selection.dialect {
                Dialect::CloudflareForwarding => LineKind::Forwarding,
                Dialect::Xfcc if selection.options.xfcc.mode.forwards() => LineKind::Xfcc,
                _ => LineKind::Always,
            };
            lines.add(kind, selection.render(&facts));
        }
        let taken = facts.certificate.filter(|_| taken);
        for (name, value) in policy.identity_lines(plan, taken, decision.identity) {
            lines.push(LineKind::Always, name, value);
        }
        if decision.client.is_none() && facts.certificate.is_some() {
            // Strangers are not remembered, so there is nothing to remember the lines by.
            lines.until = 0;
        }
        Ok(lines)
    }

    /// One value of a dialect for `client`, or without one for the client of a connection, as a header of that dialect carries
    /// it of any certificate presented. `verdict` and `plan_id` are those of an [`Decision`].
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown key, or when the client presented no certificate.
    #[allow(clippy::too_many_arguments)]
    pub fn header_value(
        &self,
        ssl: Option<&SslRef>,
        client: Option<Rc<Certificate>>,
        plan_id: usize,
        verdict: VerifyResult,
        dialect: Dialect,
        key: &str,
        now: i64,
    ) -> Result<Option<String>, Error> {
        self.with_client(ssl, client, plan_id, verdict, now, |facts| {
            dialect.value(key, facts, &presented())
        })
    }

    /// The 21 properties of `tlsClientAuth` for `client`, or without one for the client of a
    /// connection.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the client presented no certificate.
    pub fn cloudflare(
        &self,
        ssl: Option<&SslRef>,
        client: Option<Rc<Certificate>>,
        plan_id: usize,
        verdict: VerifyResult,
        now: i64,
    ) -> Result<Vec<(&'static str, Property)>, Error> {
        self.with_client(ssl, client, plan_id, verdict, now, |facts| {
            Ok(cloudflare::tls_client_auth(facts))
        })
    }

    fn with_client<T>(
        &self,
        ssl: Option<&SslRef>,
        client: Option<Rc<Certificate>>,
        plan_id: usize,
        verdict: VerifyResult,
        now: i64,
        read: impl FnOnce(&ClientInfo) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let policy = self.policy()?;
        let plan = policy.plans.get(plan_id).ok_or(Error::NotFound)?;
        let certificate = match (client, ssl) {
            (Some(client), _) => client,
            (None, Some(ssl)) => self.tls_client(ssl)?.ok_or(Error::NotFound)?,
            (None, None) => return Err(Error::NotFound),
        };
        let context = CertificateContext {
            verdict,
            chain: self.chain(ssl, plan, &certificate, verdict, now)?,
            certificate: Some(certificate),
            server_uris: ssl.map(server_uris).unwrap_or_default(),
        };
        read(&context.facts(plan, now))
    }

    /// The header to send upstream for `xfcc` on a route that forwards what came, or why there must
    /// be none; `came` are inbound headers, in order. See [`xfcc::forward`].
    pub fn xfcc(
        &self,
        plan_id: usize,
        decision: &Decision,
        came: &[(&[u8], &[u8])],
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
        let admitted = selection
            .options
            .includes_certificate(verified(decision.client, decision.verdict));
        let came: Vec<&[u8]> = came
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| *value)
            .collect();
        let (kind, value) = match xfcc::forward(&selection.options, admitted, &came, own) {
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
        let verdict = verified(decision.client, decision.verdict);
        let mut dialects = plan.upstream_headers.dialects.iter();
        let is_told = dialects.any(|selection| selection.options.includes_certificate(verdict));
        let certificate = match (decision.client, decision.verdict, ssl) {
            (Some(slot), ..) => Some(self.certificate_at(slot).ok_or(Error::NotFound)?),
            // On a route with a header, that of the connection is the proxy's.
            (None, Some(_), Some(ssl)) if is_told && plan.certificate_header.is_none() => {
                self.tls_client(ssl)?
            }
            _ => None,
        };
        // The only dialect that tells of the issuer's certificate.
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

    /// The verdict on a client that was found trusted, for what it says of its chain.
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
        let verdict = self.verdict(connection, &auth.store, certificate, now)?;
        Ok(Some(verdict).filter(Verdict::is_success))
    }
}

/// URI names of the certificate that this server shows on the connection.
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

fn own_digest(ssl: &SslRef) -> u32 {
    let uris = server_uris(ssl);
    if uris.is_empty() {
        return 0;
    }
    let digest = openssl::sha::sha256(&uris.join(&b"\0"[..]));
    let [a, b, c, d, ..] = digest;
    // 0 is "none".
    u32::from_be_bytes([a, b, c, d]).max(1)
}
