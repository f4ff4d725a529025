//! The path of a certificate: how it was built, or where it failed and what would repair that. A
//! remedy is proposed only after the verification succeeded with it.

use std::sync::Arc;

use openssl::nid::Nid;
use openssl::stack::{Stack, StackRef};
use openssl::x509::{X509Ref, X509VerifyResult, X509};
use openssl_sys as sys;

use super::Step;
use crate::certificate::{self, name, sha256, time, Certificate};
use crate::policy::{Outline, Policy};
use crate::trust::{
    CaCertificate, ClientAuthEku, TrustStore, Verdict, VerifyOptions, INVALID_PURPOSE,
};
use crate::Error;

/// Longest path that is followed from a leaf upwards.
const MAX_PATH: usize = 32;

/// Most bytes of a name or URL of a certificate in a text.
const MAX_TEXT: usize = 500;

/// What a path is built from.
pub(super) struct PathInput<'a> {
    pub policy: &'a Policy,
    pub outline: &'a Outline,
    /// The store that verifies the certificate.
    pub store: &'a TrustStore,
    pub certificate: &'a Certificate,
    /// Name and place of the plugin that verifies it.
    pub plugin: String,
    pub now: i64,
}

/// The subject of a certificate, in quotes.
pub(super) fn subject(certificate: &X509Ref) -> String {
    quoted_name(name::rfc2253(certificate.subject_name()))
}

pub(super) fn issuer(certificate: &X509Ref) -> String {
    quoted_name(name::rfc2253(certificate.issuer_name()))
}

fn quoted_name(name: Result<String, Error>) -> String {
    let name = name.unwrap_or_else(|_| "(unprintable)".to_owned());
    let shown: String = name.chars().take(MAX_TEXT).collect();
    let dots = if shown.len() < name.len() { "..." } else { "" };
    format!("'{shown}{dots}'")
}

/// `2026-01-02T03:04:05Z (12 days ago)`.
pub(super) fn date(at: i64, now: i64) -> String {
    let days = now.abs_diff(at) / 86_400;
    let text = time::rfc3339(at, "Z");
    match (days, at <= now) {
        (0, true) => format!("{text}, less than a day ago"),
        (1, true) => format!("{text}, 1 day ago"),
        (days, true) => format!("{text}, {days} days ago"),
        (0, false) => format!("{text}, in less than a day"),
        (1, false) => format!("{text}, in 1 day"),
        (days, false) => format!("{text}, in {days} days"),
    }
}

fn same(one: &X509Ref, other: &X509Ref) -> bool {
    matches!((sha256(one), sha256(other)), (Ok(one), Ok(other)) if one == other)
}

impl PathInput<'_> {
    fn leaf(&self) -> &X509Ref {
        self.certificate.leaf()
    }

    fn sent(&self) -> &StackRef<X509> {
        self.certificate.intermediates()
    }

    /// The step of a chain with this verdict.
    pub(super) fn step(&self, verdict: &Verdict) -> Result<Step, Error> {
        if verdict.is_success() {
            let chain = self.store.chain(self.leaf(), self.sent(), self.now)?;
            return Ok(Step::passed("chain", self.describe(&chain, verdict)));
        }
        let (detail, remedy) = self.diagnose(verdict)?;
        openssl::error::ErrorStack::get();
        let head = format!("{} at depth {}", verdict.text(), verdict.depth());
        Ok(Step::failed("chain", format!("{head}: {detail}"), remedy))
    }

    fn describe(&self, chain: &[X509], verdict: &Verdict) -> String {
        let mut text = String::new();
        for (depth, certificate) in chain.iter().enumerate() {
            let is_sent = self.sent().iter().any(|sent| same(sent, certificate));
            let from = match (depth, self.entry(certificate)) {
                (0, _) => String::new(),
                (_, Some(entry)) => format!(" ({entry})"),
                (_, None) if is_sent => " (sent by the client)".to_owned(),
                (_, None) => " (of a bundle)".to_owned(),
            };
            let arrow = if depth > 0 { " <- " } else { "" };
            text += &format!("{arrow}{}{from}", subject(certificate));
        }
        if verdict.is_pinned() {
            text += ", a pinned certificate";
        }
        let until = time::rfc3339(verdict.until(), "Z");
        format!("{text}; valid until {until}")
    }

    /// The entry of `ca_certificates` that a CA is from.
    fn entry(&self, ca: &X509Ref) -> Option<String> {
        let digest = sha256(ca).ok()?;
        let mut cas = self.policy.cas.iter();
        let found = cas.find(|entry| *entry.ca.digest() == digest)?;
        Some(match found.id.as_deref() {
            None => "in ca_certificates".to_owned(),
            Some(id) => match self.outline.ca(id) {
                Some(at) => format!("ca_certificates {id} at {at}"),
                None => format!("ca_certificates {id}"),
            },
        })
    }

    /// Whether the certificate is trusted with these CAs, options, certificates of the client and
    /// time; the path.
    fn try_with(
        &self,
        cas: &[Arc<CaCertificate>],
        options: VerifyOptions,
        sent: &StackRef<X509>,
        now: i64,
    ) -> Option<Vec<X509>> {
        let store = TrustStore::new(cas, options).ok()?;
        let chain = store.chain(self.leaf(), sent, now).ok()?;
        (!chain.is_empty()).then_some(chain)
    }

    fn with_options(&self, change: impl FnOnce(&mut VerifyOptions)) -> bool {
        let mut options = self.store.options();
        change(&mut options);
        let found = self.try_with(self.store.cas(), options, self.sent(), self.now);
        found.is_some()
    }

    /// What the client sent, and all CA certificates of the policy.
    fn sent_and_policy(&self) -> Result<Stack<X509>, Error> {
        let mut all = Stack::new()?;
        for certificate in self.sent() {
            all.push(certificate.to_owned())?;
        }
        for entry in &self.policy.cas {
            all.push(entry.ca.x509().clone())?;
        }
        Ok(all)
    }

    /// The certificates from the leaf upwards, as far as the client or the policy has them. `true`
    /// when the last one is self-signed.
    fn known_path(&self) -> (Vec<X509>, bool) {
        let mut path = vec![self.leaf().to_owned()];
        let of_policy = || {
            let entries = self.policy.cas.iter().map(|entry| &entry.ca);
            self.store.cas().iter().chain(entries)
        };
        while let Some(top) = path.last() {
            if top.issued(top) == X509VerifyResult::OK {
                return (path, true);
            }
            let signed_top = |candidate: &X509Ref| {
                let key = candidate.public_key();
                candidate.issued(top) == X509VerifyResult::OK
                    && key.is_ok_and(|key| top.verify(&key).unwrap_or(false))
            };
            let of_client = self.sent().iter().find(|sent| signed_top(sent));
            let of_policy = || of_policy().map(|ca| &**ca.x509()).find(|ca| signed_top(ca));
            let next = of_client.or_else(of_policy);
            match next.filter(|_| path.len() < MAX_PATH) {
                Some(next) => path.push(next.to_owned()),
                None => break,
            }
        }
        (path, false)
    }

    /// What is wrong, and what would repair it.
    fn diagnose(&self, verdict: &Verdict) -> Result<(String, Option<String>), Error> {
        let (path, _) = self.known_path();
        let at_depth = path.get(verdict.depth() as usize);
        let at_depth = at_depth.map_or(self.leaf(), |certificate| &**certificate);
        let of_leaf = verdict.depth() == 0;
        let options = self.store.options();
        Ok(match verdict.code() {
            sys::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
            | sys::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
            | sys::X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE
            | sys::X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
            | sys::X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
            | sys::X509_V_ERR_CERT_UNTRUSTED => self.without_anchor()?,
            sys::X509_V_ERR_CERT_HAS_EXPIRED => {
                let end = certificate::unix_seconds(at_depth.not_after())?;
                let sent = self.sent().iter().any(|sent| same(sent, at_depth));
                let mut remedy = match (of_leaf, sent) {
                    (true, _) => "the client needs a new certificate".to_owned(),
                    (false, true) => format!(
                        "the client must send the renewed certificate of {}, if there is one, \
                         else its CA must issue a new chain",
                        subject(at_depth)
                    ),
                    (false, false) => format!(
                        "replace the certificate of {} in ca_certificates by its renewed one",
                        subject(at_depth)
                    ),
                };
                let before = end.saturating_sub(1);
                let path = self.try_with(self.store.cas(), options, self.sent(), before);
                if path.is_none() {
                    remedy += "; its path was not valid before that either";
                }
                let who = subject(at_depth);
                let detail = format!("{who} expired at {}", date(end, self.now));
                (detail, Some(remedy))
            }
            sys::X509_V_ERR_CERT_NOT_YET_VALID => {
                let start = certificate::unix_seconds(at_depth.not_before())?;
                let who = subject(at_depth);
                let detail = format!("{who} is valid from {}", date(start, self.now));
                let remedy = "compare the clocks of this machine and of the CA, or wait";
                (detail, Some(remedy.to_owned()))
            }
            INVALID_PURPOSE => {
                let eku = self.store.client_auth_eku();
                let detail = eku.missing(self.leaf(), verdict.depth());
                let detail = format!("{}: {detail}", subject(at_depth));
                let server = |options: &mut VerifyOptions| {
                    options.client_auth_eku = ClientAuthEku::AllowServerAuth;
                };
                let any = |options: &mut VerifyOptions| {
                    options.client_auth_eku = ClientAuthEku::Any;
                };
                let new = "issue the certificate anew with the extendedKeyUsage clientAuth";
                let or = match (self.with_options(server), self.with_options(any)) {
                    (true, _) => {
                        ", or, with consumers or rules that limit its clients, set \
                                  'client_auth_eku: allow_server_auth'"
                    }
                    (_, true) => {
                        ", or, with consumers or rules that limit its clients, set \
                                  'client_auth_eku: any'"
                    }
                    _ => "",
                };
                let new = match of_leaf {
                    true if or.is_empty() => {
                        "issue the certificate anew with the keyUsage \
                                              digitalSignature and the extendedKeyUsage clientAuth"
                    }
                    true => new,
                    false => "the CA needs a certificate that may issue certificates of clients",
                };
                (detail, Some(format!("{new}{or}{}", self.in_plugin(or))))
            }
            sys::X509_V_ERR_CERT_CHAIN_TOO_LONG => {
                let needed = (options.depth..=100)
                    .find(|depth| self.with_options(|options| options.depth = *depth));
                let remedy = needed
                    .map(|depth| format!("set 'verify_depth: {depth}' in the {}", self.plugin));
                let detail = format!("more than {} intermediates", options.depth);
                (detail, remedy)
            }
            sys::X509_V_ERR_EE_KEY_TOO_SMALL
            | sys::X509_V_ERR_CA_KEY_TOO_SMALL
            | sys::X509_V_ERR_CA_MD_TOO_WEAK => {
                let lower = (0..options.auth_level)
                    .rev()
                    .find(|level| self.with_options(|options| options.auth_level = *level));
                let mut remedy = "issue it anew with a stronger key and signature".to_owned();
                if let Some(level) = lower {
                    remedy += &format!(
                        ", or lower 'auth_level' to {level} in the {}, which weakens it for all \
                         clients",
                        self.plugin
                    );
                }
                let detail = format!(
                    "{} does not meet auth_level {}",
                    subject(at_depth),
                    options.auth_level
                );
                (detail, Some(remedy))
            }
            sys::X509_V_ERR_CERT_SIGNATURE_FAILURE => (
                format!(
                    "the signature of {} is not that of {}",
                    subject(at_depth),
                    issuer(at_depth)
                ),
                Some(format!(
                    "compare with the certificate of {} that issued it: the CA may have a new key",
                    issuer(at_depth)
                )),
            ),
            sys::X509_V_ERR_INVALID_CA => (
                format!("{} is not a CA", subject(at_depth)),
                Some("the certificate must be issued by a CA".to_owned()),
            ),
            sys::X509_V_ERR_PERMITTED_VIOLATION | sys::X509_V_ERR_EXCLUDED_VIOLATION => (
                format!(
                    "a name of {} is outside of the name constraints of its CA",
                    subject(self.leaf())
                ),
                Some("issue it anew with names that the CA may issue".to_owned()),
            ),
            _ => (subject(at_depth), None),
        })
    }

    fn in_plugin(&self, option: &str) -> String {
        match option {
            "" => String::new(),
            _ => format!(" in the {}", self.plugin),
        }
    }

    /// No path leads to a CA that the route trusts.
    fn without_anchor(&self) -> Result<(String, Option<String>), Error> {
        let all = self.sent_and_policy()?;
        let options = self.store.options();
        let missing = |path: &[X509]| {
            let known = |ca: &X509Ref| {
                self.sent().iter().any(|sent| same(sent, ca))
                    || self
                        .store
                        .cas()
                        .iter()
                        .any(|trusted| same(trusted.x509(), ca))
            };
            let above = path.iter().skip(1).filter(|ca| !known(ca));
            above
                .map(|ca| (subject(ca), self.entry(ca)))
                .collect::<Vec<_>>()
        };
        // A client that leaves its intermediates out.
        if let Some(path) = self.try_with(self.store.cas(), options, &all, self.now) {
            let missing = missing(&path);
            let names: Vec<_> = missing.iter().map(|(name, _)| name.as_str()).collect();
            let places: Vec<_> = missing.iter().filter_map(|(_, at)| at.clone()).collect();
            let names = names.join(", ");
            return Ok((
                format!("the client did not send the intermediate {names}"),
                Some(format!(
                    "append the certificate of {names} to the client's certificate file, so that \
                     it is sent (it is {}, but only to compare: what a client leaves out is not \
                     added)",
                    places.join(", ")
                )),
            ));
        }
        let partial = VerifyOptions {
            allow_partial_chain: true,
            ..options
        };
        if !options.allow_partial_chain {
            let found = self.try_with(self.store.cas(), partial, self.sent(), self.now);
            if let Some(anchor) = found.as_ref().and_then(|path| path.last()) {
                return Ok((
                    format!("{} is trusted, but is not self-signed", subject(anchor)),
                    Some(format!(
                        "set 'allow_partial_chain: true' in the {}, or add the root {} to its \
                         ca_certificates",
                        self.plugin,
                        issuer(anchor)
                    )),
                ));
            }
        }
        // A CA of the policy that this route does not trust.
        let every: Vec<_> = self
            .policy
            .cas
            .iter()
            .map(|entry| entry.ca.clone())
            .collect();
        for (sent, is_complete) in [(self.sent(), true), (&*all, false)] {
            let Some(path) = self.try_with(&every, options, sent, self.now) else {
                continue;
            };
            let Some(anchor) = path.last() else {
                continue;
            };
            let entry = self.entry(anchor).unwrap_or_default();
            let mut remedy = format!(
                "add {} ({entry}) to the CAs of the {}, if all its clients are to be let in",
                subject(anchor),
                self.plugin
            );
            if !is_complete {
                let above = path.iter().skip(1).take(path.len().saturating_sub(2));
                let names: Vec<_> = above.map(|ca| subject(ca)).collect();
                remedy += &format!("; the client must also send {}", names.join(", "));
            }
            return Ok((
                format!("its CA {} is none that this route trusts", subject(anchor)),
                Some(remedy),
            ));
        }
        let (path, is_self_signed) = self.known_path();
        let top = path.last().map_or(self.leaf(), |top| &**top);
        Ok(match (is_self_signed, path.len()) {
            (true, 1) => (
                format!("{} is self-signed", subject(top)),
                Some(format!(
                    "to trust this one certificate, name its file in 'pinned_certificates' of the \
                     {}",
                    self.plugin
                )),
            ),
            (true, _) => (
                format!(
                    "the path ends at {}, a CA that is not in the policy",
                    subject(top)
                ),
                Some(format!(
                    "add the certificate of {} to ca_certificates and its id to the {}, if all its \
                     clients are to be let in",
                    subject(top),
                    self.plugin
                )),
            ),
            (false, _) => self.without_issuer(top),
        })
    }

    /// Nobody has the issuer of the last certificate of the path.
    fn without_issuer(&self, top: &X509Ref) -> (String, Option<String>) {
        let name = issuer(top);
        let mut other_key = self.policy.cas.iter().filter(|entry| {
            let same = entry.ca.x509().subject_name().try_cmp(top.issuer_name());
            same.is_ok_and(std::cmp::Ordering::is_eq)
        });
        if let Some(entry) = other_key.next() {
            let place = self.entry(entry.ca.x509()).unwrap_or_default();
            return (
                format!(
                    "{} was issued by {name} with another key than that of {place}",
                    subject(top)
                ),
                Some(format!(
                    "add the certificate of {name} with the key that signed {} to \
                     ca_certificates, and its id to the {}",
                    subject(top),
                    self.plugin
                )),
            );
        }
        let infos = top.authority_info();
        let urls = infos.iter().flatten();
        let urls = urls.filter(|access| access.method().nid() == Nid::AD_CA_ISSUERS);
        let url = urls.filter_map(|access| access.location().uri()).next();
        let url = url.map(|url| {
            let url: String = url.chars().take(MAX_TEXT).collect();
            format!(" (offered at {url})")
        });
        (
            format!(
                "the certificate of {name}, which issued {}, is neither sent by the client nor in \
                 the policy",
                subject(top)
            ),
            Some(format!(
                "if {name} is an intermediate, the client must send its certificate{}; if it is a \
                 root, add that to ca_certificates and its id to the {}",
                url.unwrap_or_default(),
                self.plugin
            )),
        )
    }
}
