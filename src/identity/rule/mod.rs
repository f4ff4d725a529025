//! Rules over what a certificate says (`client-cert-acl`), compiled when the policy is.
//!
//! A condition holds, does not hold, or is not certain: a name of the certificate has no normal
//! form, or differs from that of the rule in nothing that every reader tells apart
//! ([`crate::certificate::normal_form`]). `all`, `any` and `not` follow Kleene's logic, so that what is
//! not certain stays so in any nesting; an allow rule does not hold then, and a deny rule does.

use crate::certificate::name::Attribute;
use crate::certificate::normal_form::{NormalForm, NormalName, SanKind};
use crate::certificate::Certificate;
use crate::text::quoted;

/// What a subject alternative name must be, in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SanCondition {
    /// A dNSName.
    Dns(NormalName),
    /// A dNSName with exactly one label before this parent (`*.example.com` has `example.com`).
    DnsBelow(NormalName),
    /// A uniformResourceIdentifier.
    Uri(NormalName),
    /// A uniformResourceIdentifier that begins so. For SPIFFE ends in `/`, so that
    /// `spiffe://example.org` does not let `spiffe://example.org.evil` in.
    UriPrefix(NormalName),
    /// An rfc822Name.
    Email(NormalName),
    /// An iPAddress.
    Ip(NormalName),
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
    Subject(Box<str>, NormalName),
    /// The same of the issuer.
    Issuer(Box<str>, NormalName),
    /// Some subject alternative name fits.
    San(SanCondition),
    /// SHA-256 of the certificate's DER.
    Sha256([u8; 32]),
    /// SHA-256 of the DER SubjectPublicKeyInfo. Another encoding of the same key is not certain.
    SpkiSha256([u8; 32]),
    /// keyIdentifier of the authorityKeyIdentifier.
    IssuerKeyId(Box<[u8]>),
    /// A purpose of the extendedKeyUsage, as dotted OID.
    ExtendedKeyUsage(Box<str>),
}

impl Condition {
    /// Whether the certificate fulfils the condition; `None`: not certain.
    pub fn holds(&self, certificate: &Certificate) -> Option<bool> {
        match self {
            Condition::All(all) => every(all.iter().map(|one| one.holds(certificate))),
            Condition::Any(any) => some(any.iter().map(|one| one.holds(certificate))),
            Condition::Not(condition) => condition.holds(certificate).map(|holds| !holds),
            Condition::Subject(kind, value) => {
                some(compared(certificate.normal_subject(), kind, value).map(|(is, _)| is))
            }
            Condition::Issuer(kind, value) => {
                some(compared(certificate.normal_issuer(), kind, value).map(|(is, _)| is))
            }
            Condition::San(wanted) => {
                let sans = certificate.normal_san();
                let fits = |(kind, name): &(SanKind, NormalForm)| wanted.fits(*kind, name);
                let unreadable = sans.unreadable.then_some(None);
                some(sans.names.iter().map(fits).chain(unreadable))
            }
            Condition::Sha256(digest) => certificate.has_sha256(digest),
            Condition::SpkiSha256(digest) => certificate.has_spki_sha256(digest),
            // One that cannot be read does not get here: OpenSSL verifies no chain with it.
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
        }
    }

    /// What keeps the condition from being certain, for the log.
    fn doubt(&self, certificate: &Certificate) -> Option<String> {
        match self {
            Condition::All(all) | Condition::Any(all) => {
                let uncertain = |one: &&Condition| one.holds(certificate).is_none();
                all.iter().find(uncertain)?.doubt(certificate)
            }
            Condition::Not(condition) => condition.doubt(certificate),
            Condition::Subject(kind, value) => {
                doubtful(certificate.normal_subject(), "subject", kind, value)
            }
            Condition::Issuer(kind, value) => {
                doubtful(certificate.normal_issuer(), "issuer", kind, value)
            }
            Condition::San(wanted) => {
                let sans = certificate.normal_san();
                if sans.unreadable {
                    return Some("the subject alternative names cannot be read".to_owned());
                }
                let uncertain =
                    |(kind, name): &&(SanKind, NormalForm)| wanted.fits(*kind, name).is_none();
                let (_, name) = sans.names.iter().find(uncertain)?;
                Some(format!("{} {}", wanted.key(), why(name)))
            }
            Condition::SpkiSha256(_) => {
                let doubt = "the public key is that of the rule in another encoding, or unreadable";
                Some(doubt.to_owned())
            }
            _ => None,
        }
    }

    /// Whether the condition looks at names that the issuer of a certificate chooses freely:
    /// subject and subject alternative names.
    pub fn looks_at_names(&self) -> bool {
        match self {
            Condition::All(all) | Condition::Any(all) => all.iter().any(Condition::looks_at_names),
            Condition::Not(condition) => condition.looks_at_names(),
            Condition::Subject(..) | Condition::San(_) => true,
            _ => false,
        }
    }

    /// Whether the condition holds only for certificates or keys that it names by digest.
    pub fn is_pinned(&self) -> bool {
        match self {
            Condition::All(all) => all.iter().any(Condition::is_pinned),
            Condition::Any(any) => any.iter().all(Condition::is_pinned),
            Condition::Sha256(_) | Condition::SpkiSha256(_) => true,
            _ => false,
        }
    }
}

impl SanCondition {
    /// `None`: not certain. A name of another type is another name.
    fn fits(&self, kind: SanKind, name: &NormalForm) -> Option<bool> {
        let wanted = match self {
            SanCondition::Dns(_) | SanCondition::DnsBelow(_) => SanKind::Dns,
            SanCondition::Uri(_) | SanCondition::UriPrefix(_) => SanKind::Uri,
            SanCondition::Email(_) => SanKind::Email,
            SanCondition::Ip(_) => SanKind::Ip,
        };
        if kind != wanted {
            return Some(false);
        }
        let name = name.as_ref().ok()?;
        match self {
            SanCondition::Dns(other)
            | SanCondition::Uri(other)
            | SanCondition::Email(other)
            | SanCondition::Ip(other) => name.is(other),
            SanCondition::DnsBelow(parent) => Some(name.is_one_label_below(parent)),
            SanCondition::UriPrefix(prefix) => name.begins_with(prefix),
        }
    }

    /// The key of the condition in a policy.
    fn key(&self) -> &'static str {
        match self {
            SanCondition::Dns(_) | SanCondition::DnsBelow(_) => "san.dns",
            SanCondition::Uri(_) | SanCondition::UriPrefix(_) => "san.uri",
            SanCondition::Email(_) => "san.email",
            SanCondition::Ip(_) => "san.ip",
        }
    }
}

/// Kleene's conjunction.
fn every(conditions: impl Iterator<Item = Option<bool>>) -> Option<bool> {
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
fn some(conditions: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    every(conditions.map(|holds| holds.map(|holds| !holds))).map(|none| !none)
}

/// The attributes of a type, each with whether it has this value.
fn compared<'a>(
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

fn doubtful(
    attributes: &[(Attribute, NormalForm)],
    name: &str,
    kind: &str,
    value: &NormalName,
) -> Option<String> {
    let (_, value) = compared(attributes, kind, value).find(|(is, _)| is.is_none())?;
    Some(format!("{name}.{kind} {}", why(value)))
}

fn why(name: &NormalForm) -> String {
    match name {
        Ok(name) => format!(
            "'{}' may be read as the name of the rule",
            quoted(name.as_bytes())
        ),
        Err(irregular) => irregular.what().to_owned(),
    }
}

/// A condition with the name it has in logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// NormalName, for the log.
    pub name: Box<str>,
    /// What it says.
    pub condition: Condition,
}

impl Rule {
    /// Why the condition is not certain, to stand behind the rule in the log; empty if it is.
    fn doubt(&self, certificate: &Certificate) -> String {
        match self.condition.holds(certificate) {
            None => self
                .condition
                .doubt(certificate)
                .map(|doubt| format!(": {doubt}"))
                .unwrap_or_default(),
            Some(_) => String::new(),
        }
    }
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
        for rule in &self.deny {
            match rule.condition.holds(certificate) {
                Some(false) => {}
                Some(true) => return Err(format!("deny rule '{}' holds", rule.name)),
                None => {
                    let doubt = rule.doubt(certificate);
                    return Err(format!("deny rule '{}' may hold{doubt}", rule.name));
                }
            }
        }
        let holds = |rule: &Rule| rule.condition.holds(certificate) == Some(true);
        if self.allow.is_empty() || self.allow.iter().any(holds) {
            return Ok(());
        }
        let rules: Vec<String> = self
            .allow
            .iter()
            .map(|rule| format!("{}{}", rule.name, rule.doubt(certificate)))
            .collect();
        Err(format!("no allow rule holds ({})", rules.join(", ")))
    }
}

#[cfg(test)]
mod tests;
