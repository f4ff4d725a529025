//! What an operator chooses for a dialect.

use super::{cloudflare_forwarding, xfcc, Facts, Verified};

/// Whose certificate is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Only one that the route verified. Headers that tell the verdict are set always.
    Verified,
    /// Any that was presented.
    Presented,
}

/// What a load balancer is said to have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It verified the client.
    #[default]
    Verify,
    /// It hands over what the client sent, unverified.
    Passthrough,
}

/// Options of one dialect on one route. Those a dialect has no use for do nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `when`; without it `presented` in passthrough mode, else `verified`.
    pub when: Option<When>,
    /// Whether the certificates sent beside the leaf are told; `true` by default.
    pub chain: bool,
    /// Longest value of each header in bytes; without it [`super::Header::limit`].
    pub max_bytes: Option<usize>,
    /// `mode` of `aws-alb` and `cloudfront`.
    pub mode: Mode,
    /// `mode` and `detail` of `xfcc`.
    pub xfcc: xfcc::Options,
    /// `settings` and `on` of `cloudflare-forwarding`.
    pub forwarding: cloudflare_forwarding::Options,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            when: None,
            chain: true,
            max_bytes: None,
            mode: Mode::default(),
            xfcc: xfcc::Options::default(),
            forwarding: cloudflare_forwarding::Options::default(),
        }
    }
}

impl Options {
    /// Whether a certificate of this worth is told.
    pub fn admits(&self, verdict: Verified) -> bool {
        let default = match self.mode {
            Mode::Verify => When::Verified,
            Mode::Passthrough => When::Presented,
        };
        match self.when.unwrap_or(default) {
            When::Verified => verdict.is_success(),
            When::Presented => verdict.is_presented(),
        }
    }

    /// The facts without what must not be told.
    pub(super) fn told<'a>(&self, facts: &Facts<'a>) -> Facts<'a> {
        Facts {
            certificate: facts.certificate.filter(|_| self.admits(facts.verdict)),
            // A chain that does not verify names an issuer of the client's choice.
            issuer: facts.issuer.filter(|_| facts.verdict.is_success()),
            ..*facts
        }
    }
}
