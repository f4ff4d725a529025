//! Access rules on certificates (`client-cert-acl`).
//!
//! A condition holds, does not hold, or is not certain. It is not certain if a name of the
//! certificate has no normal form, or if a reader may consider it equal to the name of the rule
//! ([`crate::certificate::normal_form`]). `all`, `any` and `not` follow Kleene's three-valued
//! logic. If the condition of a rule is not certain, an allow rule does not apply, and a deny rule
//! does.

mod unmet;

use crate::certificate::name::Attribute;
use crate::certificate::normal_form::{NormalForm, NormalName, SanKind};
use crate::certificate::spiffe::{SpiffeId, SpiffeIdPattern};
use crate::certificate::Certificate;
use crate::text::quoted;

/// A condition on a subject alternative name, with names in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SanCondition {
    /// A dNSName.
    Dns(NormalName),
    /// A dNSName with exactly one label before this parent (`example.com` for `*.example.com`).
    DnsBelow(NormalName),
    /// A uniformResourceIdentifier.
    Uri(NormalName),
    /// A uniformResourceIdentifier with this prefix. A SPIFFE prefix ends with `/`, so that
    /// `spiffe://example.org` does not match `spiffe://example.org.evil`.
    UriPrefix(NormalName),
    /// An rfc822Name.
    Email(NormalName),
    /// An iPAddress.
    Ip(NormalName),
    /// A userPrincipalName.
    Upn(NormalName),
}

/// CAs of the policy, one of which must be in the verified chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaCondition {
    /// The id of the entry of `ca_certificates` as UUID.
    pub id: [u8; 16],
    /// The ids of its CAs; empty before the policy is compiled.
    pub cas: Vec<[u8; 32]>,
}

/// What conditions are about: a certificate and how it was verified.
#[derive(Clone, Copy)]
pub struct RuleSubject<'c> {
    /// The certificate.
    pub certificate: &'c Certificate,
    /// Ids of the CAs of the verified chain, from the leaf's issuer up to the anchor.
    pub cas: &'c [[u8; 32]],
    /// The SPIFFE ID, if its trust domain's CAs verified it.
    pub spiffe_id: Option<&'c SpiffeId>,
}

/// A condition on a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of them hold.
    All(Vec<Condition>),
    /// At least one of them holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// The subject has an attribute of this type (short name, long name or OID) with this value.
    Subject(Box<str>, NormalName),
    /// The issuer has such an attribute.
    Issuer(Box<str>, NormalName),
    /// A subject alternative name matches.
    San(SanCondition),
    /// SHA-256 of the certificate's DER.
    Sha256([u8; 32]),
    /// SHA-256 of the DER of the SubjectPublicKeyInfo. For another encoding of the same key the
    /// condition is not certain.
    SpkiSha256([u8; 32]),
    /// keyIdentifier of the authorityKeyIdentifier.
    IssuerKeyId(Box<[u8]>),
    /// A purpose of the extendedKeyUsage extension, as dotted OID.
    ExtendedKeyUsage(Box<str>),
    /// A CA of the verified chain.
    Ca(CaCondition),
    /// The SPIFFE ID of a verified SVID.
    SpiffeId(SpiffeIdPattern),
    /// The trust domain of a verified SVID.
    TrustDomain(Box<str>),
}

impl Condition {
    /// Whether the condition holds; `None`: not certain.
    pub fn holds(&self, subject: RuleSubject<'_>) -> Option<bool> {
        let certificate = subject.certificate;
        match self {
            Condition::All(all) => all_of(all.iter().map(|one| one.holds(subject))),
            Condition::Any(any) => any_of(any.iter().map(|one| one.holds(subject))),
            Condition::Not(condition) => condition.holds(subject).map(|holds| !holds),
            Condition::Subject(kind, value) => {
                any_of(comparisons(certificate.normal_subject(), kind, value).map(|(is, _)| is))
            }
            Condition::Issuer(kind, value) => {
                any_of(comparisons(certificate.normal_issuer(), kind, value).map(|(is, _)| is))
            }
            Condition::San(condition) => {
                let sans = certificate.normal_san();
                let matches = |(kind, name): &(SanKind, NormalForm)| condition.matches(*kind, name);
                let unreadable = sans.unreadable.then_some(None);
                any_of(sans.names.iter().map(matches).chain(unreadable))
            }
            Condition::Sha256(digest) => certificate.has_sha256(digest),
            Condition::SpkiSha256(digest) => certificate.has_spki_sha256(digest),
            // OpenSSL verifies no chain with an unreadable authorityKeyIdentifier.
            Condition::IssuerKeyId(id) => Some(
                certificate
                    .issuer_key_id()
                    .is_some_and(|issuer| *issuer == **id),
            ),
            Condition::ExtendedKeyUsage(oid) => {
                let purposes = certificate.extended_key_usage();
                if purposes.is_empty() && certificate.has_extended_key_usage() {
                    return None;
                }
                Some(purposes.iter().any(|purpose| **purpose == **oid))
            }
            Condition::Ca(condition) => {
                Some(condition.cas.iter().any(|ca| subject.cas.contains(ca)))
            }
            Condition::SpiffeId(pattern) => {
                Some(subject.spiffe_id.is_some_and(|id| pattern.matches(id)))
            }
            Condition::TrustDomain(name) => {
                let domain = subject.spiffe_id.map(SpiffeId::trust_domain);
                Some(domain == Some(&**name))
            }
        }
    }

    /// Calls `visit` for each condition on a CA.
    pub fn each_ca(&mut self, visit: &mut dyn FnMut(&mut CaCondition)) {
        match self {
            Condition::All(all) | Condition::Any(all) => {
                all.iter_mut().for_each(|one| one.each_ca(visit));
            }
            Condition::Not(condition) => condition.each_ca(visit),
            Condition::Ca(condition) => visit(condition),
            _ => {}
        }
    }

    /// The reason why the condition is not certain, for the log.
    fn uncertainty(&self, subject: RuleSubject<'_>) -> Option<String> {
        let certificate = subject.certificate;
        match self {
            Condition::All(all) | Condition::Any(all) => {
                let uncertain = |one: &&Condition| one.holds(subject).is_none();
                all.iter().find(uncertain)?.uncertainty(subject)
            }
            Condition::Not(condition) => condition.uncertainty(subject),
            Condition::Subject(kind, value) => {
                attribute_uncertainty(certificate.normal_subject(), "subject", kind, value)
            }
            Condition::Issuer(kind, value) => {
                attribute_uncertainty(certificate.normal_issuer(), "issuer", kind, value)
            }
            Condition::San(condition) => {
                let sans = certificate.normal_san();
                if sans.unreadable {
                    return Some("the subject alternative names cannot be read".to_owned());
                }
                let uncertain = |(kind, name): &&(SanKind, NormalForm)| {
                    condition.matches(*kind, name).is_none()
                };
                let (_, name) = sans.names.iter().find(uncertain)?;
                Some(format!(
                    "{} {}",
                    condition.policy_key(),
                    name_uncertainty(name)
                ))
            }
            Condition::SpkiSha256(_) => {
                let reason =
                    "the public key is that of the rule in another encoding, or unreadable";
                Some(reason.to_owned())
            }
            _ => None,
        }
    }

    /// Whether the condition depends on names that the issuer of a certificate may choose: subject
    /// and subject alternative names.
    pub fn depends_on_names(&self) -> bool {
        match self {
            Condition::All(all) | Condition::Any(all) => {
                all.iter().any(Condition::depends_on_names)
            }
            Condition::Not(condition) => condition.depends_on_names(),
            Condition::Subject(..) | Condition::San(_) => true,
            _ => false,
        }
    }

    /// Whether a part of the condition is about the SPIFFE ID that a trust domain verified.
    pub fn needs_trust_domain(&self) -> bool {
        match self {
            Condition::All(all) | Condition::Any(all) => {
                all.iter().any(Condition::needs_trust_domain)
            }
            Condition::Not(condition) => condition.needs_trust_domain(),
            Condition::SpiffeId(_) | Condition::TrustDomain(_) => true,
            _ => false,
        }
    }

    /// Whether the condition holds for some holders of certificates of a CA only. `not` does not
    /// limit them, nor does what all certificates of a CA or trust domain have in common: its name,
    /// its key, itself, and purposes of the key, which public CAs certify for every owner of a name;
    /// nor a DNS name below a top-level domain, which anyone may register.
    pub fn limits_holders(&self) -> bool {
        self.limits(false)
    }

    fn limits(&self, negated: bool) -> bool {
        match (self, negated) {
            (Condition::Not(condition), _) => condition.limits(!negated),
            (Condition::All(all), false) | (Condition::Any(all), true) => {
                all.iter().any(|one| one.limits(negated))
            }
            (Condition::Any(all), false) | (Condition::All(all), true) => {
                all.iter().all(|one| one.limits(negated))
            }
            (
                Condition::Issuer(..)
                | Condition::IssuerKeyId(_)
                | Condition::Ca(_)
                | Condition::TrustDomain(_)
                | Condition::ExtendedKeyUsage(_),
                _,
            ) => false,
            (Condition::SpiffeId(pattern), negated) => !negated && !pattern.is_whole_domain(),
            (Condition::San(san), negated) => {
                !negated && !san.is_whole_trust_domain() && !san.is_top_level_wildcard()
            }
            (Condition::Subject(..) | Condition::Sha256(_) | Condition::SpkiSha256(_), negated) => {
                !negated
            }
        }
    }

    /// Whether the condition holds only for certificates or keys whose digests it has, or for
    /// certificates of a CA that it names.
    pub fn is_tied(&self) -> bool {
        match self {
            Condition::All(all) => all.iter().any(Condition::is_tied),
            Condition::Any(any) => any.iter().all(Condition::is_tied),
            Condition::Sha256(_)
            | Condition::SpkiSha256(_)
            | Condition::Ca(_)
            | Condition::SpiffeId(_)
            | Condition::TrustDomain(_) => true,
            _ => false,
        }
    }
}

impl SanCondition {
    /// Whether all SPIFFE IDs match, or all of a trust domain.
    fn is_whole_trust_domain(&self) -> bool {
        let SanCondition::UriPrefix(prefix) = self else {
            return false;
        };
        let rest = prefix.as_bytes().strip_prefix(b"spiffe:");
        rest.is_some_and(|rest| rest.iter().filter(|byte| **byte == b'/').count() <= 3)
    }

    /// Whether the condition holds for all names of a top-level domain (`*.com`): public CAs certify
    /// them for everyone who registers one.
    fn is_top_level_wildcard(&self) -> bool {
        matches!(self, SanCondition::DnsBelow(parent) if !parent.as_bytes().contains(&b'.'))
    }

    /// Whether a name matches; `None`: not certain. A name of another type does not match.
    fn matches(&self, kind: SanKind, name: &NormalForm) -> Option<bool> {
        let condition_kind = match self {
            SanCondition::Dns(_) | SanCondition::DnsBelow(_) => SanKind::Dns,
            SanCondition::Uri(_) | SanCondition::UriPrefix(_) => SanKind::Uri,
            SanCondition::Email(_) => SanKind::Email,
            SanCondition::Ip(_) => SanKind::Ip,
            SanCondition::Upn(_) => SanKind::Upn,
        };
        if kind != condition_kind {
            return Some(false);
        }
        let name = name.as_ref().ok()?;
        match self {
            SanCondition::Dns(other)
            | SanCondition::Uri(other)
            | SanCondition::Email(other)
            | SanCondition::Ip(other)
            | SanCondition::Upn(other) => name.is(other),
            SanCondition::DnsBelow(parent) => Some(name.is_one_label_below(parent)),
            SanCondition::UriPrefix(prefix) => name.begins_with(prefix),
        }
    }

    /// The name of the condition in a policy.
    fn policy_key(&self) -> &'static str {
        match self {
            SanCondition::Dns(_) | SanCondition::DnsBelow(_) => "san.dns",
            SanCondition::Uri(_) | SanCondition::UriPrefix(_) => "san.uri",
            SanCondition::Email(_) => "san.email",
            SanCondition::Ip(_) => "san.ip",
            SanCondition::Upn(_) => "san.upn",
        }
    }
}

/// Kleene's conjunction.
fn all_of(conditions: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for holds in conditions {
        match holds {
            Some(false) => return Some(false),
            None => all = None,
            Some(true) => {}
        }
    }
    all
}

/// Kleene's disjunction.
fn any_of(conditions: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    all_of(conditions.map(|holds| holds.map(|holds| !holds))).map(|none| !none)
}

/// Compares the attributes of a type with a value.
fn comparisons<'a>(
    attributes: &'a [(Attribute, NormalForm)],
    kind: &'a str,
    value: &'a NormalName,
) -> impl Iterator<Item = (Option<bool>, &'a NormalForm)> {
    let of_kind = attributes
        .iter()
        .filter(move |(attribute, _)| attribute.is(kind));
    of_kind.map(|(_, name)| {
        let is = name.as_ref().ok().and_then(|name| name.is(value));
        (is, name)
    })
}

/// The reason why a condition on an attribute is not certain.
fn attribute_uncertainty(
    attributes: &[(Attribute, NormalForm)],
    name: &str,
    kind: &str,
    value: &NormalName,
) -> Option<String> {
    let (_, value) = comparisons(attributes, kind, value).find(|(is, _)| is.is_none())?;
    Some(format!("{name}.{kind} {}", name_uncertainty(value)))
}

/// The reason why a comparison with this name is not certain.
fn name_uncertainty(name: &NormalForm) -> String {
    match name {
        Ok(name) => format!(
            "'{}' may be read as the name of the rule",
            quoted(name.as_bytes())
        ),
        Err(irregular) => irregular.what().to_owned(),
    }
}

/// A condition with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Name for the log.
    pub name: Box<str>,
    /// The condition of the rule.
    pub condition: Condition,
}

impl Rule {
    /// Text for the log after the name of the rule: the reason why the condition is not certain, or
    /// an empty text if it is.
    fn uncertainty(&self, subject: RuleSubject<'_>) -> String {
        match self.condition.holds(subject) {
            None => self
                .condition
                .uncertainty(subject)
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default(),
            Some(_) => String::new(),
        }
    }
}

/// Allow and deny rules. Deny takes precedence. If there are allow rules, one of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// If not empty, one of these must hold.
    pub allow: Vec<Rule>,
    /// None of these may hold.
    pub deny: Vec<Rule>,
}

/// The rule that decides about a certificate, with its index in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidingRule<'r> {
    /// The first allow rule that holds, if no deny rule holds or may hold.
    Allow(usize, &'r Rule),
    /// The first deny rule that holds or may hold.
    Deny(usize, &'r Rule),
}

impl Rules {
    /// The rule that decides; `None` if no rule holds.
    pub fn deciding(&self, subject: RuleSubject<'_>) -> Option<DecidingRule<'_>> {
        let holds = |rule: &Rule| rule.condition.holds(subject);
        let mut deny = self.deny.iter().enumerate();
        if let Some((index, rule)) = deny.find(|(_, rule)| holds(rule) != Some(false)) {
            return Some(DecidingRule::Deny(index, rule));
        }
        let mut allow = self.allow.iter().enumerate();
        let (index, rule) = allow.find(|(_, rule)| holds(rule) == Some(true))?;
        Some(DecidingRule::Allow(index, rule))
    }

    /// Checks that the rules allow the certificate.
    ///
    /// # Errors
    /// The reason for the log, with the name of the rule.
    pub fn check(&self, subject: RuleSubject<'_>) -> Result<(), String> {
        match self.deciding(subject) {
            Some(DecidingRule::Deny(_, rule)) => {
                return Err(match rule.condition.holds(subject) {
                    Some(_) => format!("deny rule '{}' holds", rule.name),
                    None => {
                        let uncertainty = rule.uncertainty(subject);
                        format!("deny rule '{}' may hold{uncertainty}", rule.name)
                    }
                });
            }
            Some(DecidingRule::Allow(..)) => return Ok(()),
            None if self.allow.is_empty() => return Ok(()),
            None => {}
        }
        let rules: Vec<String> = self
            .allow
            .iter()
            .map(|rule| format!("{}{}", rule.name, rule.uncertainty(subject)))
            .collect();
        Err(format!("no allow rule holds ({})", rules.join(", ")))
    }
}

#[cfg(test)]
mod tests;
