//! Rules over what a certificate says (`client-cert-acl`), compiled when the policy is.

use crate::certificate::{Certificate, San as CertificateSan};

/// What a subject alternative name must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    /// A dNSName, without regard to ASCII case.
    Dns(Box<str>),
    /// A dNSName with exactly one label before this parent (`*.example.com` has `example.com`).
    DnsBelow(Box<str>),
    /// A uniformResourceIdentifier.
    Uri(Box<str>),
    /// A uniformResourceIdentifier that begins so. For SPIFFE ends in `/`, so that
    /// `spiffe://example.org` does not let `spiffe://example.org.evil` in.
    UriPrefix(Box<str>),
    /// An rfc822Name.
    Email(Box<str>),
    /// An iPAddress, as its octets.
    Ip(Box<[u8]>),
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of them hold.
    All(Vec<Condition>),
    /// One of them holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// Some attribute of the subject of this type (short name, long name or OID) has this value.
    Subject(Box<str>, Box<str>),
    /// The same of the issuer.
    Issuer(Box<str>, Box<str>),
    /// Some subject alternative name fits.
    San(San),
    /// SHA-256 of the certificate's DER.
    Sha256([u8; 32]),
    /// SHA-256 of the DER SubjectPublicKeyInfo.
    SpkiSha256([u8; 32]),
    /// keyIdentifier of the authorityKeyIdentifier.
    IssuerKeyId(Box<[u8]>),
    /// A purpose of the extendedKeyUsage, as dotted OID.
    ExtendedKeyUsage(Box<str>),
}

impl Condition {
    /// Whether the certificate fulfils the condition. What cannot be read from it fulfils nothing.
    pub fn holds(&self, certificate: &Certificate) -> bool {
        match self {
            Condition::All(all) => all.iter().all(|condition| condition.holds(certificate)),
            Condition::Any(any) => any.iter().any(|condition| condition.holds(certificate)),
            Condition::Not(condition) => !condition.holds(certificate),
            Condition::Subject(name, value) => certificate
                .subject()
                .iter()
                .any(|attribute| attribute.is(name) && attribute.value == value.as_bytes()),
            Condition::Issuer(name, value) => certificate
                .issuer()
                .iter()
                .any(|attribute| attribute.is(name) && attribute.value == value.as_bytes()),
            Condition::San(wanted) => certificate.san().iter().any(|san| wanted.fits(san)),
            Condition::Sha256(digest) => certificate.key().leaf == *digest,
            Condition::SpkiSha256(digest) => {
                certificate.spki_sha256().is_ok_and(|spki| spki == *digest)
            }
            Condition::IssuerKeyId(id) => certificate
                .issuer_key_id()
                .is_some_and(|issuer| *issuer == **id),
            Condition::ExtendedKeyUsage(oid) => certificate
                .extended_key_usage()
                .iter()
                .any(|purpose| **purpose == **oid),
        }
    }
}

impl San {
    fn fits(&self, san: &CertificateSan) -> bool {
        match (self, san) {
            (San::Dns(name), CertificateSan::Dns(value)) => {
                value.eq_ignore_ascii_case(name.as_bytes())
            }
            (San::DnsBelow(parent), CertificateSan::Dns(value)) => {
                let mut parts = value.splitn(2, |byte| *byte == b'.');
                let label = parts.next().unwrap_or_default();
                // A certificate for *.example.com is a wildcard itself, not a name below it.
                !label.is_empty()
                    && label != b"*"
                    && parts
                        .next()
                        .is_some_and(|rest| rest.eq_ignore_ascii_case(parent.as_bytes()))
            }
            (San::Uri(uri), CertificateSan::Uri(value)) => value == uri.as_bytes(),
            (San::UriPrefix(prefix), CertificateSan::Uri(value)) => {
                value.starts_with(prefix.as_bytes()) && !value.contains(&0) && !climbs(value)
            }
            (San::Email(email), CertificateSan::Email(value)) => value == email.as_bytes(),
            (San::Ip(octets), CertificateSan::Ip(value)) => **value == **octets,
            _ => false,
        }
    }
}

/// Whether a URI has a `..` segment, plain or escaped: a prefix says nothing about it then.
fn climbs(uri: &[u8]) -> bool {
    let text = String::from_utf8_lossy(uri)
        .to_ascii_lowercase()
        .replace("%2e", ".")
        .replace("%2f", "/");
    text.split(['/', '?', '#']).any(|segment| segment == "..")
}

/// A condition with the name it has in logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Name, for the log.
    pub name: Box<str>,
    /// What it says.
    pub condition: Condition,
}

/// Allow and deny rules. Deny wins; with allow rules, one of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// One of these must hold, unless there is none.
    pub allow: Vec<Rule>,
    /// None of these may hold.
    pub deny: Vec<Rule>,
}

impl Rules {
    /// # Errors
    /// Why the certificate may not pass, with the name of the rule, for the log.
    pub fn check(&self, certificate: &Certificate) -> Result<(), String> {
        if let Some(rule) = self
            .deny
            .iter()
            .find(|rule| rule.condition.holds(certificate))
        {
            return Err(format!("deny rule '{}' holds", rule.name));
        }
        if self.allow.is_empty()
            || self
                .allow
                .iter()
                .any(|rule| rule.condition.holds(certificate))
        {
            return Ok(());
        }
        let names: Vec<&str> = self.allow.iter().map(|rule| &*rule.name).collect();
        Err(format!("no allow rule holds ({})", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn leaf() -> Certificate {
        let pki = testing::pki();
        let leaf = testing::issue(
            "leaf",
            Some(&pki.ca),
            false,
            60,
            &["Ann.Example.com", "*.wild.example"],
        );
        Certificate::new(leaf.x509, testing::stack(&[])).unwrap()
    }

    fn text(text: &str) -> Box<str> {
        text.into()
    }

    #[test]
    fn holds_attributes_by_any_spelling_of_their_type() {
        let leaf = leaf();
        for name in ["O", "organizationName", "2.5.4.10"] {
            assert!(
                Condition::Subject(text(name), text("Example")).holds(&leaf),
                "{name}"
            );
        }
        assert!(!Condition::Subject(text("o"), text("Example")).holds(&leaf));
        assert!(!Condition::Subject(text("O"), text("example")).holds(&leaf));
        assert!(Condition::Issuer(text("CN"), text("Test CA")).holds(&leaf));
        assert!(!Condition::Subject(text("CN"), text("Test CA")).holds(&leaf));
    }

    #[test]
    fn holds_dns_exact_and_one_label_below() {
        let leaf = leaf();
        let dns = |name| Condition::San(San::Dns(text(name))).holds(&leaf);
        let below = |name| Condition::San(San::DnsBelow(text(name))).holds(&leaf);
        assert!(dns("ann.example.com"));
        assert!(!dns("example.com"));
        assert!(below("example.com"));
        assert!(!below("com"));
        assert!(!below("wild.example"));
    }

    #[test]
    fn fits_uri_prefix_does_not_climb() {
        let prefix = San::UriPrefix(text("spiffe://example.org/ns/"));
        for (uri, fits) in [
            ("spiffe://example.org/ns/a", true),
            ("spiffe://example.org/nsa", false),
            ("spiffe://example.org.evil/ns/a", false),
            ("spiffe://example.org/ns/../admin", false),
            ("spiffe://example.org/ns/%2E%2e/admin", false),
            ("spiffe://example.org/ns/a..b", true),
        ] {
            assert_eq!(prefix.fits(&CertificateSan::Uri(uri.into())), fits, "{uri}");
        }
    }

    #[test]
    fn holds_digests_and_purposes() {
        let leaf = leaf();
        assert!(Condition::Sha256(leaf.key().leaf).holds(&leaf));
        assert!(!Condition::Sha256([0; 32]).holds(&leaf));
        assert!(Condition::SpkiSha256(leaf.spki_sha256().unwrap()).holds(&leaf));
        assert!(Condition::ExtendedKeyUsage(text("1.3.6.1.5.5.7.3.2")).holds(&leaf));
        assert!(!Condition::ExtendedKeyUsage(text("1.3.6.1.5.5.7.3.1")).holds(&leaf));
        assert!(!Condition::IssuerKeyId([1].into()).holds(&leaf));
    }

    #[test]
    fn check_deny_wins_and_names_its_rule() {
        let leaf = leaf();
        let yes = || Condition::All(Vec::new());
        let rule = |name, condition| Rule {
            name: text(name),
            condition,
        };
        let rules = Rules {
            allow: vec![rule("all", yes())],
            deny: vec![rule("bad", yes())],
        };
        assert_eq!(rules.check(&leaf), Err("deny rule 'bad' holds".to_owned()));
        let no = Condition::Not(Box::new(yes()));
        let rules = Rules {
            allow: vec![rule("a", no.clone()), rule("b", no)],
            deny: Vec::new(),
        };
        assert_eq!(
            rules.check(&leaf),
            Err("no allow rule holds (a, b)".to_owned())
        );
        assert_eq!(Rules::default().check(&leaf), Ok(()));
    }
}
