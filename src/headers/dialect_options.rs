//! The options of a dialect on a route.

use super::{cloudflare_forwarding, xfcc, ClientInfo, VerifyResult};

/// The policy field `when`: which certificates the headers describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardWhen {
    /// Only one that the route verified. Headers for the verification result are always set.
    Verified,
    /// Any that was presented.
    Presented,
}

/// The mutual TLS mode of a load balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MtlsMode {
    /// It verifies the client certificate.
    #[default]
    Verify,
    /// It forwards what the client sent, unverified.
    Passthrough,
}

/// The options of all dialects; a dialect ignores those that it does not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialectOptions {
    /// `when`; without it `presented` in passthrough mode, else `verified`.
    pub when: Option<ForwardWhen>,
    /// Whether headers include the certificates that the client sent with the leaf; `true` by
    /// default.
    pub chain: bool,
    /// Longest value of each header in bytes; without it, the limit of the header.
    pub max_bytes: Option<usize>,
    /// `mode` of `aws-alb` and `cloudfront`.
    pub mode: MtlsMode,
    /// `mode` and `detail` of `xfcc`.
    pub xfcc: xfcc::XfccOptions,
    /// `settings` and `on` of `cloudflare-forwarding`.
    pub forwarding: cloudflare_forwarding::ForwardingOptions,
}

impl Default for DialectOptions {
    fn default() -> DialectOptions {
        DialectOptions {
            when: None,
            chain: true,
            max_bytes: None,
            mode: MtlsMode::default(),
            xfcc: xfcc::XfccOptions::default(),
            forwarding: cloudflare_forwarding::ForwardingOptions::default(),
        }
    }
}

impl DialectOptions {
    /// Whether headers describe a certificate with this verification result.
    pub fn includes_certificate(&self, verify_result: VerifyResult) -> bool {
        let default = match self.mode {
            MtlsMode::Verify => ForwardWhen::Verified,
            MtlsMode::Passthrough => ForwardWhen::Presented,
        };
        match self.when.unwrap_or(default) {
            ForwardWhen::Verified => verify_result.is_success(),
            ForwardWhen::Presented => verify_result.is_presented(),
        }
    }

    /// The client information without what these options exclude.
    pub(super) fn restrict<'a>(&self, client: &ClientInfo<'a>) -> ClientInfo<'a> {
        ClientInfo {
            certificate: client
                .certificate
                .filter(|_| self.includes_certificate(client.verify_result)),
            // In a chain that does not verify, the client chooses the issuer.
            issuer: client.issuer.filter(|_| client.verify_result.is_success()),
            ..*client
        }
    }
}
