//! Which extendedKeyUsage a client certificate and its CAs must have.
//!
//! Public CAs stop to issue certificates with clientAuth, so a policy may also allow those with
//! serverAuth.

use openssl::stack::StackRef;
use openssl::x509::{X509ExtendedKeyUsage, X509KeyUsage, X509Ref, X509};

use crate::metrics::Event;

/// `X509_V_ERR_INVALID_PURPOSE`.
pub const INVALID_PURPOSE: i32 = 26;

/// Which extendedKeyUsage is accepted, in the leaf and in all CAs of its chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientAuthEku {
    /// None, or one with clientAuth: the purpose `sslclient` of OpenSSL.
    #[default]
    Required,
    /// None, or one with clientAuth or serverAuth.
    AllowServerAuth,
    /// Any.
    Any,
}

impl ClientAuthEku {
    /// The depth of the first certificate of a verified chain, leaf first, that is not accepted.
    /// With `Required`, OpenSSL has checked the chain already.
    pub(super) fn first_violation(self, chain: &StackRef<X509>) -> Option<u32> {
        let allowed = match self {
            ClientAuthEku::Required => return None,
            ClientAuthEku::AllowServerAuth => {
                Some(X509ExtendedKeyUsage::SSL_CLIENT | X509ExtendedKeyUsage::SSL_SERVER)
            }
            ClientAuthEku::Any => None,
        };
        let has_usage = |certificate: &X509Ref| match (certificate.extended_key_usage(), allowed) {
            (Some(found), Some(allowed)) => found.intersects(allowed),
            _ => true,
        };
        let is_accepted = |depth: usize, certificate: &X509Ref| {
            // The keyUsage of CAs is checked when the chain is built.
            has_usage(certificate) && (depth > 0 || may_sign(certificate))
        };
        let mut chain = chain.iter().enumerate();
        let found = chain.find(|(depth, certificate)| !is_accepted(*depth, certificate));
        found.map(|(depth, _)| depth as u32)
    }

    /// Why a leaf is refused whatever its chain; `None` if it is not.
    pub fn refusal(self, leaf: &X509Ref) -> Option<&'static str> {
        let usage = ExtendedKeyUsage::of(leaf);
        let is_accepted = match self {
            ClientAuthEku::Required => {
                !matches!(usage, ExtendedKeyUsage::Server | ExtendedKeyUsage::Other)
            }
            ClientAuthEku::AllowServerAuth => usage != ExtendedKeyUsage::Other,
            ClientAuthEku::Any => true,
        };
        (!is_accepted || !may_sign(leaf)).then(|| self.missing(leaf, 0))
    }

    /// What a leaf lacks that is refused with `INVALID_PURPOSE` at this depth, for the error log.
    pub fn missing(self, leaf: &X509Ref, depth: u32) -> &'static str {
        if depth > 0 {
            return match self {
                ClientAuthEku::Required => "the extendedKeyUsage of that CA has no clientAuth",
                _ => "the extendedKeyUsage of that CA has neither clientAuth nor serverAuth",
            };
        }
        if !may_sign(leaf) {
            return "its keyUsage has no digitalSignature";
        }
        match (self, ExtendedKeyUsage::of(leaf)) {
            (ClientAuthEku::Required, ExtendedKeyUsage::Server) => {
                "its extendedKeyUsage has serverAuth and no clientAuth"
            }
            (ClientAuthEku::Required, _) => "its extendedKeyUsage has no clientAuth",
            _ => "its extendedKeyUsage has neither clientAuth nor serverAuth",
        }
    }
}

/// Whether the keyUsage allows the signature of a TLS client, as OpenSSL checks it for the purpose
/// `sslclient`.
fn may_sign(certificate: &X509Ref) -> bool {
    let needed = X509KeyUsage::DIGITAL_SIGNATURE | X509KeyUsage::KEY_AGREEMENT;
    certificate
        .key_usage()
        .is_none_or(|usage| usage.intersects(needed))
}

/// The purposes of TLS in an extendedKeyUsage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendedKeyUsage {
    /// clientAuth.
    Client,
    /// serverAuth.
    Server,
    /// Both.
    Both,
    /// Others alone, or the extension cannot be read.
    Other,
    /// There is no extension.
    None,
}

impl ExtendedKeyUsage {
    /// Of a certificate.
    pub fn of(certificate: &X509Ref) -> ExtendedKeyUsage {
        let Some(usage) = certificate.extended_key_usage() else {
            return ExtendedKeyUsage::None;
        };
        let client = usage.contains(X509ExtendedKeyUsage::SSL_CLIENT);
        match (client, usage.contains(X509ExtendedKeyUsage::SSL_SERVER)) {
            (true, true) => ExtendedKeyUsage::Both,
            (true, false) => ExtendedKeyUsage::Client,
            (false, true) => ExtendedKeyUsage::Server,
            (false, false) => ExtendedKeyUsage::Other,
        }
    }

    /// The event that counts trusted certificates with it.
    pub fn event(self) -> Event {
        match self {
            ExtendedKeyUsage::Client => Event::TrustedForClients,
            ExtendedKeyUsage::Server => Event::TrustedForServers,
            ExtendedKeyUsage::Both => Event::TrustedForBoth,
            ExtendedKeyUsage::Other => Event::TrustedForOther,
            ExtendedKeyUsage::None => Event::TrustedForAny,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, issue_with_usage, stack, Usage, NOW};
    use crate::trust::{CaCertificate, TrustStore, Verdict, VerifyOptions};
    use std::sync::Arc;

    const ALL: [ClientAuthEku; 3] = [
        ClientAuthEku::Required,
        ClientAuthEku::AllowServerAuth,
        ClientAuthEku::Any,
    ];

    /// Whether a leaf and an intermediate with these usages are accepted in each mode; the depth
    /// if not.
    fn verify(leaf: Usage<'_>, intermediate: Usage<'_>) -> [Result<(), u32>; 3] {
        let root = testing::pki().ca;
        let ca = issue_with_usage("Int", &root, true, intermediate);
        let leaf = issue_with_usage("leaf", &ca, false, leaf);
        let anchor = Arc::new(CaCertificate::from_x509(root.x509.clone()).unwrap());
        ALL.map(|client_auth_eku| {
            let options = VerifyOptions {
                client_auth_eku,
                ..VerifyOptions::default()
            };
            let store = TrustStore::new(std::slice::from_ref(&anchor), options).unwrap();
            let verdict: Verdict = store.verify(&leaf.x509, &stack(&[&ca.x509]), NOW).unwrap();
            match verdict.code() {
                0 => Ok(()),
                INVALID_PURPOSE => Err(verdict.depth()),
                code => panic!("{code}"),
            }
        })
    }

    fn eku(purposes: &'static str) -> Usage<'static> {
        Usage {
            extended: Some(purposes),
            key: None,
        }
    }

    #[test]
    fn verify_accepts_the_purposes_of_each_mode() {
        let none = Usage::default();
        let (no, ok) = (Err(0), Ok(()));
        for (leaf, expected) in [
            (none, [ok, ok, ok]),
            (eku("clientAuth"), [ok, ok, ok]),
            (eku("serverAuth"), [no, ok, ok]),
            (eku("serverAuth,clientAuth"), [ok, ok, ok]),
            (eku("emailProtection"), [no, no, ok]),
            (eku("serverAuth,emailProtection"), [no, ok, ok]),
            (eku("OCSPSigning"), [no, no, ok]),
            (eku("anyExtendedKeyUsage"), [no, no, ok]),
            (eku("1.2.3.4"), [no, no, ok]),
            (eku("msSGC"), [no, no, ok]),
        ] {
            assert_eq!(verify(leaf, none), expected, "{leaf:?}");
            // The same of an intermediate.
            let expected = expected.map(|result| result.map_err(|_| 1));
            assert_eq!(verify(none, leaf), expected, "{leaf:?} in the CA");
        }
    }

    #[test]
    fn verify_needs_a_key_that_may_sign_in_every_mode() {
        let usage = |key| Usage {
            extended: None,
            key: Some(key),
        };
        for (key, expected) in [
            ("digitalSignature", Ok(())),
            ("keyAgreement", Ok(())),
            ("keyEncipherment", Err(0)),
            ("keyCertSign", Err(0)),
        ] {
            assert_eq!(verify(usage(key), Usage::default()), [expected; 3], "{key}");
        }
    }

    #[test]
    fn missing_says_what_the_leaf_lacks() {
        let root = testing::pki().ca;
        let missing = |mode: ClientAuthEku, usage| {
            let leaf = issue_with_usage("leaf", &root, false, usage);
            mode.missing(&leaf.x509, 0)
        };
        let [required, server, _] = ALL;
        assert_eq!(
            missing(required, eku("serverAuth")),
            "its extendedKeyUsage has serverAuth and no clientAuth"
        );
        assert_eq!(
            missing(required, eku("emailProtection")),
            "its extendedKeyUsage has no clientAuth"
        );
        assert_eq!(
            missing(server, eku("emailProtection")),
            "its extendedKeyUsage has neither clientAuth nor serverAuth"
        );
        let encryption = Usage {
            extended: None,
            key: Some("keyEncipherment"),
        };
        assert_eq!(
            missing(required, encryption),
            "its keyUsage has no digitalSignature"
        );
    }
}
