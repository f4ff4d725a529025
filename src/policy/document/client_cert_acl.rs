//! The plugin `client-cert-acl`.

use std::borrow::Cow;
use std::net::IpAddr;

use super::fields::{uuid, Object, Schema};
use super::DocumentReader;
use crate::certificate::normal_form;
use crate::certificate::spiffe::SpiffeIdPattern;
use crate::handshake::server_name::Pattern;
use crate::headers::kong;
use crate::identity::{CaCondition, Condition, Rule, Rules, SanCondition};
use crate::policy::report::{CompactPath, Path, Position};
use crate::policy::tree::{Node, Value};
use crate::text::quoted;

/// The deepest nesting of `all`, `any` and `not`.
const MAX_DEPTH: usize = 16;

/// The longest key identifier, in bytes. RFC 5280 suggests 20.
const MAX_KEY_ID: usize = 64;

pub(super) const CLIENT_CERT_ACL: Schema = Schema {
    name: "client-cert-acl",
    supported: &["allow", "deny", "enforce"],
    ignored: &[],
    unsupported: &[],
};

/// The keys of a rule. After `subject.` and `issuer.` any attribute type may follow.
const KEYS: &[&str] = &[
    "name",
    "subject.O",
    "subject.OU",
    "subject.CN",
    "issuer.O",
    "issuer.OU",
    "issuer.CN",
    "san.dns",
    "san.uri",
    "san.email",
    "san.ip",
    "san.upn",
    "ca",
    "trust_domain",
    "spiffe_id",
    "sha256",
    "spki_sha256",
    "issuer_key_id",
    "eku",
    "all",
    "any",
    "not",
];

/// The key of a condition with values.
#[derive(Clone)]
enum ValueKey {
    /// An attribute of the subject, by its type.
    Subject(Box<str>),
    /// An attribute of the issuer, by its type.
    Issuer(Box<str>),
    SanDns,
    SanUri,
    SanEmail,
    SanIp,
    SanUpn,
    Ca,
    TrustDomain,
    SpiffeId,
    Sha256,
    SpkiSha256,
    IssuerKeyId,
    Eku,
}

const VALUE_KEYS: &[(&str, ValueKey)] = &[
    ("san.dns", ValueKey::SanDns),
    ("san.uri", ValueKey::SanUri),
    ("san.email", ValueKey::SanEmail),
    ("san.ip", ValueKey::SanIp),
    ("san.upn", ValueKey::SanUpn),
    ("ca", ValueKey::Ca),
    ("trust_domain", ValueKey::TrustDomain),
    ("spiffe_id", ValueKey::SpiffeId),
    ("sha256", ValueKey::Sha256),
    ("spki_sha256", ValueKey::SpkiSha256),
    ("issuer_key_id", ValueKey::IssuerKeyId),
    ("eku", ValueKey::Eku),
];

/// Names of extended key usages, with their OIDs.
const PURPOSES: &[(&str, &str)] = &[
    ("serverAuth", "1.3.6.1.5.5.7.3.1"),
    ("clientAuth", "1.3.6.1.5.5.7.3.2"),
    ("codeSigning", "1.3.6.1.5.5.7.3.3"),
    ("emailProtection", "1.3.6.1.5.5.7.3.4"),
    ("timeStamping", "1.3.6.1.5.5.7.3.8"),
    ("OCSPSigning", "1.3.6.1.5.5.7.3.9"),
    ("anyExtendedKeyUsage", "2.5.29.37.0"),
];

impl<'t> DocumentReader<'t, '_> {
    pub(super) fn client_cert_acl(
        &mut self,
        plugin: &Node<'_>,
        config: Option<&'t Node<'t>>,
        path: &Path<'_>,
    ) -> Rules {
        let mut rules = Rules::default();
        let Some(object) = self.allow_and_deny(plugin, config, path, &CLIENT_CERT_ACL, "rule")
        else {
            return rules;
        };
        let mut positions = [Vec::new(), Vec::new()];
        let lists = [("allow", &mut rules.allow), ("deny", &mut rules.deny)];
        for ((field, list), positions) in lists.into_iter().zip(&mut positions) {
            let path = path.field(field);
            let items = match object.get(field) {
                Some(node) => self.list(node, &path).unwrap_or_default(),
                None => &[],
            };
            for (index, node) in items.iter().enumerate() {
                let path = path.item(index);
                if let Some(condition) = self.condition(node, &path, 0) {
                    let name = self.rule_name(node, &path);
                    let name = name.unwrap_or_else(|| format!("{field}[{index}]"));
                    list.push(Rule {
                        name: name.into(),
                        condition,
                    });
                    positions.push(node.position);
                }
            }
        }
        self.rule_positions = positions;
        rules
    }

    /// Reads the name of a rule, which is logged.
    fn rule_name(&mut self, node: &'t Node<'t>, path: &Path<'_>) -> Option<String> {
        let node = Object { node }.get("name")?;
        let path = path.field("name");
        let name = self.text(node, &path)?;
        if !kong::is_header_value(name) {
            self.expected(node, &path, "a name on one line");
        }
        Some(name.to_owned())
    }

    /// Reads a mapping of conditions, all of which must hold. `None` if it has errors, which are
    /// reported.
    fn condition(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
        depth: usize,
    ) -> Option<Condition> {
        let Value::Map(entries) = &node.value else {
            self.expected(node, path, "a mapping");
            return None;
        };
        if depth > MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            self.report.error(node.position, path, message);
            return None;
        }
        let mut conditions = Vec::new();
        let mut complete = true;
        for (key, value) in entries.iter() {
            let name = &*key.text;
            if name == "name" && depth == 0 {
                continue;
            }
            let path = path.field(name);
            let condition = match name {
                "all" => self.conditions(value, &path, depth).map(Condition::All),
                "any" => self.conditions(value, &path, depth).map(Condition::Any),
                "not" => {
                    let condition = self.condition(value, &path, depth + 1);
                    condition.map(|condition| Condition::Not(Box::new(condition)))
                }
                _ if is_value_condition(name) => self
                    .value_key(name, key.position, &path)
                    .and_then(|key| self.values(&key, value, &path)),
                _ => {
                    let keys = KEYS.iter().filter(|key| depth == 0 || **key != "name");
                    let hint = match self.report.did_you_mean(name, keys.copied()) {
                        hint if hint.is_empty() => format!(
                            ", expected one of subject.*, issuer.*, {}",
                            KEYS.get(7..).unwrap_or_default().join(", ")
                        ),
                        hint => hint,
                    };
                    let message = format!("unknown condition '{}'{hint}", quoted(name.as_bytes()));
                    self.report.error(key.position, &path, message);
                    None
                }
            };
            complete &= condition.is_some();
            conditions.extend(condition);
        }
        if !complete {
            return None;
        }
        if conditions.is_empty() {
            let message = "an empty rule, expected at least one condition";
            self.report.error(node.position, path, message);
        }
        match conditions.len() {
            0 => None,
            1 => conditions.pop(),
            _ => Some(Condition::All(conditions)),
        }
    }

    /// Reads the list of `all` or `any`.
    fn conditions(
        &mut self,
        node: &'t Node<'t>,
        path: &Path<'_>,
        depth: usize,
    ) -> Option<Vec<Condition>> {
        let items = self.list(node, path)?;
        if items.is_empty() {
            self.expected(node, path, "at least one condition");
            return None;
        }
        let conditions: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(index, item)| self.condition(item, &path.item(index), depth + 1))
            .collect();
        conditions.into_iter().collect()
    }

    /// Parses the key of a condition with values. `None` if its attribute type is not valid, which
    /// is reported.
    fn value_key(&mut self, name: &str, position: Position, path: &Path<'_>) -> Option<ValueKey> {
        Some(match name.split_once('.') {
            Some(("subject", attribute)) => {
                ValueKey::Subject(self.attribute_type(attribute, position, path)?)
            }
            Some(("issuer", attribute)) => {
                ValueKey::Issuer(self.attribute_type(attribute, position, path)?)
            }
            _ => {
                let (_, key) = VALUE_KEYS.iter().find(|(key, _)| *key == name)?;
                key.clone()
            }
        })
    }

    /// Reads a condition with one value or a list of values. One of them must match.
    fn values(&mut self, key: &ValueKey, node: &'t Node<'t>, path: &Path<'_>) -> Option<Condition> {
        let Value::List(items) = &node.value else {
            return self.value(key, node, path);
        };
        if items.is_empty() {
            self.expected(node, path, "text or a list of texts");
            return None;
        }
        let values: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(index, item)| self.value(key, item, &path.item(index)))
            .collect();
        values
            .into_iter()
            .collect::<Option<_>>()
            .map(Condition::Any)
    }

    /// Keeps the name of a trust domain in a rule, which must be an entry of `trust_domains`.
    fn rule_trust_domain(&mut self, name: &str, position: Position, path: &Path<'_>) {
        self.document
            .rule_trust_domains
            .push((name.into(), position, CompactPath::of(path)));
    }

    /// Reads one value of a condition.
    fn value(&mut self, key: &ValueKey, node: &'t Node<'t>, path: &Path<'_>) -> Option<Condition> {
        let text = self.text(node, path)?;
        let shown = quoted(text.as_bytes());
        let condition = match key {
            _ if text.is_empty() => Err("'', expected text".to_owned()),
            ValueKey::Subject(attribute) => normal_form::text(text)
                .map(|value| Condition::Subject(attribute.clone(), value))
                .map_err(|why| format!("'{shown}' {why}")),
            ValueKey::Issuer(attribute) => normal_form::text(text)
                .map(|value| Condition::Issuer(attribute.clone(), value))
                .map_err(|why| format!("'{shown}' {why}")),
            ValueKey::SanDns => dns(text).map(Condition::San),
            ValueKey::SanUri => uri(text).map(Condition::San),
            ValueKey::SanEmail => email(text).map(Condition::San),
            ValueKey::SanIp => match text.parse() {
                Ok(IpAddr::V4(address)) => normal_form::ip(&address.octets()),
                Ok(IpAddr::V6(address)) => normal_form::ip(&address.octets()),
                Err(_) => normal_form::ip(&[]),
            }
            .map(|address| Condition::San(SanCondition::Ip(address)))
            .map_err(|_| format!("'{shown}' is not an IP address")),
            ValueKey::SanUpn => normal_form::user_principal_name(Some(text.as_bytes()))
                .map(|name| Condition::San(SanCondition::Upn(name)))
                .map_err(|why| format!("'{shown}' {why}")),
            ValueKey::Ca => match uuid(text) {
                Some(id) => {
                    self.document
                        .rule_cas
                        .push((id, node.position, CompactPath::of(path)));
                    Ok(Condition::Ca(CaCondition {
                        id,
                        cas: Vec::new(),
                    }))
                }
                None => Err(format!(
                    "'{shown}' is not a UUID, expected the id of an entry of 'ca_certificates'"
                )),
            },
            ValueKey::TrustDomain => {
                self.rule_trust_domain(text, node.position, path);
                Ok(Condition::TrustDomain(text.into()))
            }
            ValueKey::SpiffeId => match SpiffeIdPattern::parse(text) {
                Ok(pattern) => {
                    self.rule_trust_domain(pattern.trust_domain(), node.position, path);
                    Ok(Condition::SpiffeId(pattern))
                }
                Err(why) => Err(format!("'{shown}' {why}")),
            },
            ValueKey::Sha256 => sha256(text).map(Condition::Sha256),
            ValueKey::SpkiSha256 => sha256(text).map(Condition::SpkiSha256),
            ValueKey::IssuerKeyId => hex_bytes(text)
                .filter(|id| id.len() <= MAX_KEY_ID)
                .map(|id| Condition::IssuerKeyId(id.into()))
                .ok_or_else(|| {
                    format!(
                        "'{shown}' is not a key identifier, expected at most {MAX_KEY_ID} bytes \
                         in hexadecimal, with or without colons"
                    )
                }),
            ValueKey::Eku => purpose(text)
                .map(|oid| Condition::ExtendedKeyUsage(oid.into()))
                .ok_or_else(|| {
                    let names: Vec<_> = PURPOSES.iter().map(|(name, _)| *name).collect();
                    format!(
                        "'{shown}' is not a purpose, expected {} or a dotted OID",
                        names.join(", ")
                    )
                }),
        };
        let is_literal = matches!(
            key,
            ValueKey::Subject(_) | ValueKey::Issuer(_) | ValueKey::SanEmail | ValueKey::SanUpn
        );
        let looks_like_pattern = text.starts_with(['~', '^']) || text.contains('*');
        if is_literal && looks_like_pattern && condition.is_ok() {
            self.report
                .warn("values that look like patterns", node.position, path, || {
                    format!(
                        "'{shown}' is compared as it is: '*', '~' and '^' match only themselves here"
                    )
                });
        }
        if let Ok(Condition::San(SanCondition::Uri(uri) | SanCondition::UriPrefix(uri))) =
            &condition
        {
            let prefix = text.strip_suffix('*').unwrap_or(text);
            if uri.as_bytes() != prefix.as_bytes() {
                let normal = quoted(uri.as_bytes());
                let star = text.get(prefix.len()..).unwrap_or_default();
                self.report
                    .warn("URIs not in normal form", node.position, path, || {
                        format!("'{shown}' is compared as its normal form, '{normal}{star}'")
                    });
            }
        }
        condition
            .map_err(|why| self.report.error(node.position, path, why))
            .ok()
    }
}

/// Whether `name` is a condition with values. A null value is an error for these, because without
/// the condition the rule would hold for more clients.
fn is_value_condition(name: &str) -> bool {
    let attribute = |rest: &str| !rest.is_empty();
    VALUE_KEYS.iter().any(|(key, _)| *key == name)
        || name.strip_prefix("subject.").is_some_and(attribute)
        || name.strip_prefix("issuer.").is_some_and(attribute)
}

/// Parses a DNS name, or `*.` and a name for all names one label below it. U-labels are converted
/// to A-labels.
fn dns(text: &str) -> Result<SanCondition, String> {
    let pattern = Pattern::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    let normalise = |name: &str| {
        normal_form::dns(name.as_bytes()).map_err(|why| {
            let shown = quoted(text.as_bytes());
            match name.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(_) => format!("'{shown}' is an IP address, expected a name, or 'san.ip'"),
                Err(_) => format!("'{shown}' {why}"),
            }
        })
    };
    match &pattern {
        Pattern::Exact(name) => normalise(name).map(SanCondition::Dns),
        Pattern::Wildcard(parent) => {
            normalise(parent.trim_start_matches('.')).map(SanCondition::DnsBelow)
        }
        Pattern::Any | Pattern::Absent => Err("'*', expected a name or '*.' and a name".to_owned()),
    }
}

/// Parses a mail address. U-labels of its host are converted to A-labels.
fn email(text: &str) -> Result<SanCondition, String> {
    let shown = quoted(text.as_bytes());
    let ascii = match text.rsplit_once('@') {
        Some((local, host)) if !host.is_ascii() => idna::domain_to_ascii(host)
            .map(|host| format!("{local}@{host}"))
            .map_err(|_| {
                format!("'{shown}' has a host that is not a valid internationalised domain name")
            })?,
        _ => text.to_owned(),
    };
    normal_form::email(ascii.as_bytes())
        .map(SanCondition::Email)
        .map_err(|why| format!("'{shown}' {why}"))
}

/// Converts U-labels in the host of a URI to A-labels.
fn ascii_host(uri: &str) -> Result<Cow<'_, str>, String> {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Ok(uri.into());
    };
    let (host, rest) = rest.split_at(rest.find([':', '/']).unwrap_or(rest.len()));
    if host.is_ascii() {
        return Ok(uri.into());
    }
    match idna::domain_to_ascii(host) {
        Ok(host) => Ok(format!("{scheme}://{host}{rest}").into()),
        Err(_) => Err(format!(
            "'{}' has a host that is not a valid internationalised domain name",
            quoted(uri.as_bytes())
        )),
    }
}

/// Parses a URI, or a prefix of URIs and `*`. The prefix must end with a separator after the host,
/// so that it cannot match a longer host or trust domain.
fn uri(text: &str) -> Result<SanCondition, String> {
    let shown = quoted(text.as_bytes());
    let Some(prefix) = text.strip_suffix('*') else {
        if text.contains('*') {
            return Err(format!("'{shown}': a '*' is allowed at the end only"));
        }
        return normal_form::uri(ascii_host(text)?.as_bytes())
            .map(SanCondition::Uri)
            .map_err(|why| format!("'{shown}' {why}"));
    };
    let whole_host = match prefix.split_once("://") {
        Some((_, rest)) => rest.is_empty() || rest.contains('/'),
        None => true,
    };
    if prefix.contains('*') {
        Err(format!("'{shown}': a '*' is allowed at the end only"))
    } else if prefix.ends_with(['/', ':']) && whole_host {
        normal_form::uri_prefix(ascii_host(prefix)?.as_bytes())
            .map(SanCondition::UriPrefix)
            .map_err(|why| format!("'{shown}' {why}"))
    } else {
        Err(format!(
            "'{shown}' would also match longer hosts or names, expected '/' or ':' before the \
             '*', and '/' after a host, for example 'spiffe://example.org/ns/*'"
        ))
    }
}

/// Parses a SHA-256 digest in hexadecimal.
fn sha256(text: &str) -> Result<[u8; 32], String> {
    hex_bytes(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            format!(
                "'{}' is not a SHA-256 digest, expected 64 hexadecimal digits, with or without \
                 colons",
                quoted(text.as_bytes())
            )
        })
}

/// Parses pairs of hexadecimal digits, all or none of them separated by colons.
fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let octet = |pair: &[u8]| {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        match *pair {
            [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
            _ => None,
        }
    };
    let bytes = text.as_bytes();
    if text.contains(':') {
        bytes.split(|byte| *byte == b':').map(octet).collect()
    } else {
        bytes.chunks(2).map(octet).collect()
    }
}

/// Parses an extended key usage, and returns its dotted OID.
fn purpose(text: &str) -> Option<&str> {
    if let Some((_, oid)) = PURPOSES.iter().find(|(name, _)| *name == text) {
        return Some(oid);
    }
    let arc = |arc: &str| {
        !arc.is_empty()
            && arc.bytes().all(|b| b.is_ascii_digit())
            && (arc == "0" || !arc.starts_with('0'))
    };
    (text.contains('.') && text.split('.').all(arc)).then_some(text)
}
