//! Why the condition of an allow rule does not hold, for `resty-mtls explain`.

use openssl::asn1::Asn1Object;

use super::{Condition, Rule, RuleSubject, SanCondition};
use crate::certificate::name::Attribute;
use crate::certificate::normal_form::{NormalForm, NormalName, SanKind};
use crate::certificate::{Certificate, San};
use crate::text::{hex, quoted};

/// Most values of a certificate, and most values of a condition, in a text.
const MAX_VALUES: usize = 8;

impl Rule {
    /// The first condition of an allow rule that does not hold, and what the certificate has:
    /// `subject.OU is 'Sales', expected 'Payments'`. `None` if the rule holds. The text is one line
    /// of some 1,200 characters at most.
    pub fn unmet(&self, subject: RuleSubject<'_>) -> Option<String> {
        self.condition.unmet(subject)
    }
}

impl Condition {
    fn unmet(&self, subject: RuleSubject<'_>) -> Option<String> {
        match self.holds(subject) {
            Some(true) => return None,
            Some(false) => {}
            None => {
                let why = self.uncertainty(subject);
                let unknown = || "what the certificate has is not certain".to_owned();
                return Some(why.unwrap_or_else(unknown));
            }
        }
        if let Some(values) = self.values() {
            let found = found(values, subject)?;
            let expected = listed(values.iter().filter_map(Condition::expected), " or ");
            return Some(format!("{found}, expected {expected}"));
        }
        Some(match self {
            Condition::Any(any) => {
                let first = any.iter().find_map(|one| one.unmet(subject))?;
                format!("no condition of 'any' holds, the first because {first}")
            }
            Condition::Not(condition) => {
                match condition.values().and_then(|values| found(values, subject)) {
                    Some(found) => format!("{found}, which 'not' excludes"),
                    None => "the condition of 'not' holds".to_owned(),
                }
            }
            Condition::All(all) => all.iter().find_map(|one| one.unmet(subject))?,
            _ => return None,
        })
    }

    /// The conditions of one key with its value or its list of values; `None` for another condition.
    fn values(&self) -> Option<&[Condition]> {
        let values = match self {
            Condition::Any(any) => any.as_slice(),
            one => std::slice::from_ref(one),
        };
        let key = values.first()?.key()?;
        let is_of_key = |one: &Condition| one.key().as_ref() == Some(&key);
        values.iter().all(is_of_key).then_some(values)
    }

    /// The key of a condition with a value, as in a policy.
    fn key(&self) -> Option<String> {
        Some(match self {
            Condition::All(_) | Condition::Any(_) | Condition::Not(_) => return None,
            Condition::Subject(kind, _) => format!("subject.{}", short_name(kind)),
            Condition::Issuer(kind, _) => format!("issuer.{}", short_name(kind)),
            Condition::San(condition) => condition.policy_key().to_owned(),
            Condition::Sha256(_) => "sha256".to_owned(),
            Condition::SpkiSha256(_) => "spki_sha256".to_owned(),
            Condition::IssuerKeyId(_) => "issuer_key_id".to_owned(),
            Condition::ExtendedKeyUsage(_) => "eku".to_owned(),
            Condition::Ca(_) => "ca".to_owned(),
            Condition::SpiffeId(_) => "spiffe_id".to_owned(),
            Condition::TrustDomain(_) => "trust_domain".to_owned(),
        })
    }

    /// The value of the condition, in quotes.
    fn expected(&self) -> Option<String> {
        Some(match self {
            Condition::All(_) | Condition::Any(_) | Condition::Not(_) => return None,
            Condition::Subject(_, value) | Condition::Issuer(_, value) => {
                in_quotes(value.as_bytes())
            }
            Condition::San(condition) => condition.expected(),
            Condition::Sha256(digest) | Condition::SpkiSha256(digest) => {
                in_quotes(hex(digest).as_bytes())
            }
            Condition::IssuerKeyId(id) => in_quotes(hex(id).as_bytes()),
            Condition::ExtendedKeyUsage(oid) => in_quotes(short_name(oid).as_bytes()),
            Condition::Ca(ca) => in_quotes(uuid(&ca.id).as_bytes()),
            Condition::SpiffeId(pattern) => in_quotes(pattern.to_string().as_bytes()),
            Condition::TrustDomain(name) => in_quotes(name.as_bytes()),
        })
    }

    /// What the certificate has of the key of the condition, in quotes.
    fn found(&self, subject: RuleSubject<'_>) -> Vec<String> {
        let certificate = subject.certificate;
        match self {
            Condition::All(_) | Condition::Any(_) | Condition::Not(_) | Condition::Ca(_) => {
                Vec::new()
            }
            Condition::Subject(kind, _) => attributes(certificate.normal_subject(), kind),
            Condition::Issuer(kind, _) => attributes(certificate.normal_issuer(), kind),
            Condition::San(condition) => condition.found(certificate),
            Condition::Sha256(_) => vec![in_quotes(certificate.fingerprint_sha256().as_bytes())],
            Condition::SpkiSha256(_) => {
                let digests = certificate.spki_sha256s().take(1);
                digests.map(|it| in_quotes(hex(&it).as_bytes())).collect()
            }
            Condition::IssuerKeyId(_) => {
                let id = certificate.issuer_key_id().into_iter();
                id.map(|id| in_quotes(hex(&id).as_bytes())).collect()
            }
            Condition::ExtendedKeyUsage(_) => {
                let purposes = certificate.extended_key_usage();
                let purposes = purposes.iter();
                purposes
                    .map(|oid| in_quotes(short_name(oid).as_bytes()))
                    .collect()
            }
            Condition::SpiffeId(_) => {
                let id = subject.spiffe_id.into_iter();
                id.map(|id| in_quotes(id.as_str().as_bytes())).collect()
            }
            Condition::TrustDomain(_) => {
                let id = subject.spiffe_id.into_iter();
                id.map(|id| in_quotes(id.trust_domain().as_bytes()))
                    .collect()
            }
        }
    }
}

/// What the certificate has of the key that these conditions share: `subject.OU is 'Sales'`.
fn found(values: &[Condition], subject: RuleSubject<'_>) -> Option<String> {
    let first = values.first()?;
    let key = first.key()?;
    let found = listed(first.found(subject).into_iter(), ", ");
    Some(match (first, found.is_empty()) {
        (Condition::Ca(_), _) => {
            let holds = |one: &&Condition| one.holds(subject) == Some(true);
            match values.iter().find(holds).and_then(Condition::expected) {
                Some(id) => format!("a CA of the verified chain is of the ca {id}"),
                None => "no CA of the verified chain is of the ca".to_owned(),
            }
        }
        (Condition::SpiffeId(_) | Condition::TrustDomain(_), true) => {
            format!("no trust domain verified a SPIFFE ID, so there is no {key}")
        }
        (_, true) => format!("the certificate has no {key}"),
        (_, false) => format!("{key} is {found}"),
    })
}

impl SanCondition {
    /// The value of the condition, in quotes.
    fn expected(&self) -> String {
        let shown = |name: &NormalName| quoted(name.as_bytes());
        match self {
            SanCondition::Dns(name)
            | SanCondition::Uri(name)
            | SanCondition::Email(name)
            | SanCondition::Upn(name) => in_quotes(name.as_bytes()),
            SanCondition::DnsBelow(parent) => format!("'*.{}'", shown(parent)),
            SanCondition::UriPrefix(prefix) => format!("'{}*'", shown(prefix)),
            SanCondition::Ip(octets) => in_quotes(&San::Ip(octets.as_bytes().to_vec()).value()),
        }
    }

    /// The names of the certificate of the same type, in quotes.
    fn found(&self, certificate: &Certificate) -> Vec<String> {
        let is_of_type = |san: &&San| {
            matches!(
                (self, san),
                (
                    SanCondition::Dns(_) | SanCondition::DnsBelow(_),
                    San::Dns(_)
                ) | (
                    SanCondition::Uri(_) | SanCondition::UriPrefix(_),
                    San::Uri(_)
                ) | (SanCondition::Email(_), San::Email(_))
                    | (SanCondition::Ip(_), San::Ip(_))
            )
        };
        let SanCondition::Upn(_) = self else {
            let names = certificate.san().iter().filter(is_of_type);
            return names.map(|san| in_quotes(&san.value())).collect();
        };
        let upns = certificate.normal_san().names.iter();
        let upns = upns.filter(|(kind, _)| *kind == SanKind::Upn);
        // One without normal form makes the condition uncertain.
        let upns = upns.filter_map(|(_, name)| name.as_ref().ok());
        upns.map(|name| in_quotes(name.as_bytes())).collect()
    }
}

/// The values of the attributes of a type, in quotes.
fn attributes(attributes: &[(Attribute, NormalForm)], kind: &str) -> Vec<String> {
    let of_kind = attributes.iter().filter(|(one, _)| one.is(kind));
    of_kind.map(|(one, _)| in_quotes(&one.value)).collect()
}

/// OpenSSL's short name for a long name or an OID, such as `CN` and `clientAuth`; else that itself.
fn short_name(name: &str) -> String {
    let object = Asn1Object::from_str(name);
    let short = object.and_then(|object| object.nid().short_name());
    openssl::error::ErrorStack::get();
    match short {
        Ok(short) if short != "UNDEF" => short.to_owned(),
        _ => quoted(name.as_bytes()),
    }
}

fn uuid(id: &[u8; 16]) -> String {
    let mut text = hex(id);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

fn in_quotes(text: &[u8]) -> String {
    format!("'{}'", quoted(text))
}

/// The first few values.
fn listed(mut values: impl Iterator<Item = String>, separator: &str) -> String {
    let shown: Vec<_> = values.by_ref().take(MAX_VALUES).collect();
    let shown = shown.join(separator);
    match values.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
