//! The decision about one request as plain data: the engine makes it, the connection caches it, and
//! the C ABI returns it.

use crate::cache::SlotId;

/// The outcome of access for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Outcome {
    /// The request is allowed.
    Pass = 0,
    /// 401: the route requires a certificate, and the request has none.
    NoCertificate = 1,
    /// 401: the certificate is not trusted.
    Refused = 2,
    /// 421: the TLS session was made with another certificate request than this Host's.
    Misdirected = 3,
    /// 403: the client is authenticated but not authorized for this route.
    Forbidden = 4,
    /// Not decided yet: the revocation status of the certificate must be fetched first, then access
    /// is decided again.
    Pending = 5,
    /// 425: the request is TLS early data, which can be replayed.
    TooEarly = 6,
    /// 503: this worker does not have the policy in force.
    Unavailable = 7,
}

/// The client that a request is attributed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// None: the route has no `mtls-auth`, or the client is refused.
    None,
    /// The holder of a trusted certificate (`skip_consumer_lookup`).
    Holder,
    /// A consumer, with the credential that matched.
    Consumer(u32, Option<u32>),
    /// The anonymous consumer, used for clients that are not trusted.
    Anonymous(u32),
}

impl Identity {
    /// Position of the consumer.
    pub fn consumer(self) -> Option<u32> {
        match self {
            Identity::Consumer(consumer, _) | Identity::Anonymous(consumer) => Some(consumer),
            Identity::None | Identity::Holder => None,
        }
    }

    /// Position of the credential.
    pub fn credential(self) -> Option<u32> {
        match self {
            Identity::Consumer(_, credential) => credential,
            _ => None,
        }
    }
}

/// Whether the request carries the headers that forward the certificate, which a policy may set on
/// the first request of a connection only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum CertificateForwarding {
    /// It does not.
    No = 0,
    /// It does.
    Yes = 1,
    /// It does if it is the first such request of its connection.
    First = 2,
}

/// The refusal of a request that passes because the plugin it comes from has `enforce: report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WouldRefuse {
    /// What the outcome would be.
    pub outcome: Outcome,
    /// `X509_V_*` number of the verdict that the refusal is about, if it is about one.
    pub verdict: Option<i32>,
}

/// An outcome with what led to it.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The outcome.
    pub outcome: Outcome,
    /// The slot of the client in the client cache, when the client presented a certificate and the
    /// route uses it.
    pub client: Option<SlotId>,
    /// `X509_V_*` number of the verdict, when the route verifies certificates.
    pub verdict: Option<i32>,
    /// The client that the request is attributed to.
    pub identity: Identity,
    /// Whether this request carries the headers that forward the certificate.
    pub forwarding: CertificateForwarding,
    /// Number of the connection when its client certificate is not trusted, else 0. The number is
    /// never used twice, so it can be the key of what is cached for the connection.
    pub connection: u32,
    /// Number of this server's certificate on the connection. Header lines may describe it, so
    /// lines cached with another number are not used.
    pub server_certificate: u32,
    /// Whether the certificate is from a header: then the one of the connection is the proxy's.
    pub from_header: bool,
    /// Set for a request that passes although a plugin with `enforce: report` would refuse it.
    pub would_refuse: Option<WouldRefuse>,
    /// Why the request is or would be refused, for the error log only.
    pub reason: Option<String>,
}

impl Decision {
    /// An allowed request.
    pub(crate) fn pass(
        client: Option<SlotId>,
        verdict: Option<i32>,
        identity: Identity,
    ) -> Decision {
        Decision {
            outcome: Outcome::Pass,
            client,
            verdict,
            identity,
            forwarding: CertificateForwarding::No,
            connection: 0,
            server_certificate: 0,
            from_header: false,
            would_refuse: None,
            reason: None,
        }
    }

    /// A request that passes without an identity in place of this refusal.
    pub(crate) fn pass_unauthenticated(self) -> Decision {
        let would_refuse = WouldRefuse {
            outcome: self.outcome,
            verdict: self.verdict,
        };
        Decision {
            would_refuse: Some(would_refuse),
            reason: self.reason,
            ..Decision::pass(None, self.verdict, Identity::None)
        }
    }

    /// Records that a plugin with `enforce: report` would refuse the request, unless an earlier
    /// check would.
    pub(crate) fn report(&mut self, outcome: Outcome, verdict: Option<i32>, reason: String) {
        if self.would_refuse.is_none() {
            self.would_refuse = Some(WouldRefuse { outcome, verdict });
            self.reason = Some(reason);
        }
    }

    /// Refuses a request that was allowed so far.
    pub(crate) fn forbid(&mut self, reason: String) {
        self.outcome = Outcome::Forbidden;
        self.would_refuse = None;
        self.reason = Some(reason);
    }

    /// A refused request.
    pub(crate) fn refuse(outcome: Outcome, reason: String) -> Decision {
        Decision {
            outcome,
            reason: Some(reason),
            ..Decision::pass(None, None, Identity::None)
        }
    }
}
