//! The consumers of a document, with their credentials and groups.

use std::collections::HashMap;

use openssl::sha::Sha256;
use sha1::{Digest, Sha1};

use super::cas::{unreadable, Cas};
use super::digest::{number, text};
use super::name_rules::looks_like_a_dn;
use super::scopes::Index;
use super::uuid_text;
use crate::identity::{Consumer, Consumers, ConsumersBuilder, Credential};
use crate::policy::document::{self, CaReference, Document, Link, Location, Uuid};
use crate::policy::report::{Path, Position, Report};
use crate::policy::Map;
use crate::text::hex;
use crate::text::quoted;
use crate::trust::CaCertificate;

/// Namespace of the UUIDs of entities that have none in the document (RFC 9562 section 5.5).
const NAMESPACE: Uuid = *b"\x5b\x1f\x0c\x3e\x84\x6a\x4d\x0b\x9c\x57\x2e\xd1\x60\x7a\x93\xf4";

/// Consumers ready for use.
pub(super) struct People<'t> {
    pub consumers: Consumers,
    index: Index<'t>,
    /// SHA-256 of everything.
    digest: [u8; 32],
}

impl<'t> People<'t> {
    pub fn new(document: &'t Document<'t>, cas: &Cas, report: &mut Report) -> People<'t> {
        let ids = ids(document);
        let index = index(document, &ids, report);
        let mut consumers: Vec<Consumer> = document
            .consumers
            .iter()
            .zip(&ids)
            .map(|(consumer, id)| {
                let owned = |text: &str| text.into();
                Consumer {
                    id: uuid_text(id).into(),
                    username: consumer.key.name.map(owned),
                    custom_id: consumer.custom_id.map(owned),
                    groups: Vec::new(),
                    consumer_groups: consumer
                        .consumer_groups
                        .iter()
                        .copied()
                        .map(owned)
                        .collect(),
                }
            })
            .collect();
        for group in &document.groups {
            let consumer = index.follow(&group.consumer, &group.location, report);
            let Some(consumer) = consumer.and_then(|consumer| consumers.get_mut(consumer)) else {
                continue;
            };
            if consumer.groups.iter().any(|name| **name == *group.name) {
                let name = quoted(group.name.as_bytes());
                let message =
                    format!("uniqueness violation: the consumer is in the group '{name}' already");
                let path = Path::Compact(&group.location.path);
                report.error(group.location.position, &path.field("group"), message);
            } else {
                consumer.groups.push(group.name.into());
            }
        }
        let credentials = credentials(document, cas, &index, &consumers, report);

        let digest = digest(&consumers, &credentials);
        let mut builder = ConsumersBuilder::default();
        // With an error before, positions and content are not worth any more.
        if !report.has_errors() {
            for (consumer, entity) in consumers.into_iter().zip(&document.consumers) {
                if let Err(error) = builder.consumer(consumer) {
                    let path = Path::Compact(&entity.location.path);
                    report.error(entity.location.position, &path, error.to_string());
                }
            }
            for (credential, consumer, location) in credentials {
                if let Err(error) = builder.credential(consumer, credential) {
                    report.error(
                        location.position,
                        &Path::Compact(&location.path),
                        error.to_string(),
                    );
                }
            }
        }
        People {
            consumers: builder.build(),
            index,
            digest,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.index.by_id.is_empty()
    }

    /// A consumer by id or username, never by custom_id.
    pub fn find(
        &self,
        name: &str,
        place: Position,
        path: &Path<'_>,
        report: &mut Report,
    ) -> Option<u32> {
        let id = document::uuid(name).and_then(|id| self.index.by_id.get(&id));
        let found = id.or_else(|| self.index.by_name.get(name));
        if found.is_none() {
            let meant = report.did_you_mean(name, self.index.by_name.keys().copied());
            let name = quoted(name.as_bytes());
            let message = format!("no consumer has the id or username '{name}'{meant}");
            report.error(place, path, message);
        }
        found.map(|position| *position as u32)
    }

    /// Of consumers, credentials and groups.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// The UUID of each consumer.
fn ids(document: &Document<'_>) -> Vec<Uuid> {
    let id = |consumer: &document::Consumer<'_>| {
        consumer.key.id.unwrap_or_else(|| {
            let name = consumer.key.name.map(|name| ("username", name));
            let name = name.or(consumer.custom_id.map(|name| ("custom_id", name)));
            let (key, name) = name.unwrap_or_default();
            derived(&["consumers", key, name])
        })
    };
    document.consumers.iter().map(id).collect()
}

/// Consumers by id and username; reports those that share an id or a name.
fn index<'t>(document: &'t Document<'t>, ids: &[Uuid], report: &mut Report) -> Index<'t> {
    let mut index = Index {
        noun: "consumer",
        name: "username",
        by_id: Map::default(),
        by_name: Map::default(),
    };
    let mut by_custom_id: HashMap<&str, usize> = HashMap::new();
    for (position, (consumer, id)) in document.consumers.iter().zip(ids).enumerate() {
        let first = *index.by_id.entry(*id).or_insert(position);
        let id = consumer.key.id.map(|id| ("id", uuid_text(&id), first));
        let name = consumer.key.name.map(|name| {
            let first = *index.by_name.entry(name).or_insert(position);
            ("username", name.to_owned(), first)
        });
        let custom_id = consumer.custom_id.map(|name| {
            let first = *by_custom_id.entry(name).or_insert(position);
            ("custom_id", name.to_owned(), first)
        });
        for (field, value, first) in [id, name, custom_id].into_iter().flatten() {
            if first != position {
                let first = document.consumers.get(first).map(|first| &first.location);
                twice(
                    "consumers",
                    field,
                    &value,
                    first,
                    &consumer.location,
                    report,
                );
            }
        }
    }
    index
}

fn twice(
    entity: &str,
    field: &str,
    value: &str,
    first: Option<&Location>,
    location: &Location,
    report: &mut Report,
) {
    let message =
        format!(
        "uniqueness violation: '{entity}' entity with {field} set to '{}' already declared at {}",
        quoted(value.as_bytes()),
        first.map(|first| first.path.to_string()).unwrap_or_default()
    );
    report.error(
        location.position,
        &Path::Compact(&location.path).field(field),
        message,
    );
}

/// The CA of a credential.
#[derive(Clone, Copy)]
struct Ca {
    /// Its identity.
    id: [u8; 32],
    /// SHA-256 of the certificate that names it.
    digest: [u8; 32],
}

impl Ca {
    fn of(ca: &CaCertificate) -> Ca {
        Ca {
            id: *ca.id(),
            digest: *ca.digest(),
        }
    }
}

/// The first credential of a name and CA.
#[derive(Clone, Copy)]
struct First<'t> {
    location: &'t Location,
    consumer: usize,
    digest: Option<[u8; 32]>,
}

/// A credential, its consumer, and where it stands.
type Entry<'t> = (Credential, u32, &'t Location);

fn credentials<'t>(
    document: &'t Document<'t>,
    cas: &Cas,
    index: &Index<'t>,
    consumers: &[Consumer],
    report: &mut Report,
) -> Vec<Entry<'t>> {
    let mut found = Vec::with_capacity(document.credentials.len());
    let mut pems: HashMap<&str, Option<Ca>> = HashMap::new();
    let mut by_id: HashMap<Uuid, &Location> = HashMap::new();
    let mut by_content: HashMap<(bool, &str, Option<[u8; 32]>), First<'_>> = HashMap::new();
    for entity in &document.credentials {
        let location = &entity.location;
        let kind = match entity.header {
            true => "header_cert_auth_credentials",
            false => "mtls_auth_credentials",
        };
        let consumer = match entity.consumer {
            Link::Parent(position) => Some(position),
            _ => index.follow(&entity.consumer, location, report),
        };
        let path = Path::Compact(&location.path);
        let path = path.field("ca_certificate");
        let mut ca: Option<Ca> = None;
        let mut complete = true;
        for (reference, place) in &entity.ca {
            let found = match *reference {
                CaReference::Id(id) => of_id(&id, *place, &path, cas, report),
                CaReference::Pem(pem) => *pems
                    .entry(pem)
                    .or_insert_with(|| of_pem(pem, *place, &path, cas, report)),
            };
            complete &= found.is_some();
            if let (Some(first), Some(found)) = (ca, found) {
                if first.digest != found.digest {
                    let message = "'id' and 'cert' name two CAs, expected one";
                    report.error(*place, &path, message);
                }
            }
            ca = ca.or(found);
        }
        if looks_like_a_dn(entity.subject_name) {
            let path = Path::Compact(&location.path);
            report.warn(
                "subject names that look like a DN",
                location.position,
                &path.field("subject_name"),
                || {
                    format!(
                        "'{}' looks like a distinguished name, and is compared with single names: \
                         a subject alternative name, or the CN where there is none; expected for \
                         example 'ann.example.com'",
                        quoted(entity.subject_name.as_bytes())
                    )
                },
            );
        }
        let owner = consumer.and_then(|consumer| consumers.get(consumer));
        let (Some(position), Some(owner), true) = (consumer, owner, complete) else {
            continue;
        };
        let ca_text = ca.map(|ca| hex(&ca.digest)).unwrap_or_default();
        let id = entity
            .id
            .unwrap_or_else(|| derived(&[kind, &owner.id, &ca_text, entity.subject_name]));
        let content = (entity.header, entity.subject_name, ca.map(|ca| ca.id));
        let digest = ca.map(|ca| ca.digest);
        let first = *by_content.entry(content).or_insert(First {
            location,
            consumer: position,
            digest,
        });
        if !std::ptr::eq(first.location, location) {
            let name = quoted(entity.subject_name.as_bytes());
            let path = Path::Compact(&location.path);
            let path = path.field("subject_name");
            let first_path = &first.location.path;
            if first.digest == digest {
                let message = format!(
                    "uniqueness violation: '{kind}' entity with subject_name set to '{name}' and \
                     the same ca_certificate already declared at {first_path}"
                );
                report.error(location.position, &path, message);
            } else if first.consumer != position {
                let message = format!(
                    "uniqueness violation: '{kind}' entity with subject_name set to '{name}' and \
                     another certificate of the same CA, for another consumer, already declared at \
                     {first_path}"
                );
                report.error(location.position, &path, message);
            } else {
                report.warn(
                    "credentials for two certificates of one CA",
                    location.position,
                    &path,
                    || {
                        format!(
                            "'{name}' has a credential for this CA already at {first_path}, whose \
                             certificate has the same subject and key: that one applies to both"
                        )
                    },
                );
            }
            continue;
        }
        let first = *by_id.entry(id).or_insert(location);
        if !std::ptr::eq(first, location) {
            let id = uuid_text(&id);
            twice(kind, "id", &id, Some(first), location, report);
            continue;
        }
        let credential = Credential {
            header: entity.header,
            id: Some(uuid_text(&id).into()),
            subject_name: entity.subject_name.into(),
            ca: ca.map(|ca| ca.id),
        };
        found.push((credential, position as u32, location));
    }
    found
}

fn of_id(
    id: &Uuid,
    place: Position,
    path: &Path<'_>,
    cas: &Cas,
    report: &mut Report,
) -> Option<Ca> {
    let Some(position) = cas.by_id.get(id) else {
        let id = uuid_text(id);
        let meant = report.did_you_mean(&id, cas.ids.iter().map(String::as_str));
        let message = format!("no entry of 'ca_certificates' has the id '{id}'{meant}");
        report.error(place, path, message);
        return None;
    };
    // Without a certificate the entry itself was reported.
    Some(Ca::of(cas.list.get(*position)?.as_ref()?))
}

fn of_pem(
    pem: &str,
    place: Position,
    path: &Path<'_>,
    cas: &Cas,
    report: &mut Report,
) -> Option<Ca> {
    let ca = match CaCertificate::from_pem(pem.as_bytes()) {
        Ok(ca) => ca,
        Err(error) => {
            report.error(place, path, unreadable(pem, &error));
            return None;
        }
    };
    if !cas.by_digest.contains_key(ca.digest()) {
        let subject = quoted(ca.subject().as_bytes());
        let message = format!(
            "the certificate '{subject}' is none of 'ca_certificates', expected one of them"
        );
        report.error(place, path, message);
        return None;
    }
    Some(Ca::of(&ca))
}

/// The UUID, version 5, of an entity that has none: the same for the same content, whatever stands
/// around it in the document.
fn derived(parts: &[&str]) -> Uuid {
    let mut name = NAMESPACE.to_vec();
    for part in parts {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part.as_bytes());
    }
    let mut id = Uuid::default();
    for (to, from) in id.iter_mut().zip(Sha1::digest(&name)) {
        *to = from;
    }
    id[6] = id[6] & 0x0f | 0x50;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

fn digest(consumers: &[Consumer], credentials: &[Entry<'_>]) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut sorted: Vec<&Consumer> = consumers.iter().collect();
    sorted.sort_unstable_by_key(|consumer| &consumer.id);
    number(&mut digest, sorted.len());
    let list = |digest: &mut Sha256, texts: &mut dyn Iterator<Item = &str>| {
        let texts: Vec<&str> = texts.collect();
        number(digest, texts.len());
        for item in texts {
            text(digest, item);
        }
    };
    for consumer in sorted {
        text(&mut digest, &consumer.id);
        for names in [&consumer.username, &consumer.custom_id] {
            list(&mut digest, &mut names.iter().map(|name| &**name));
        }
        for groups in [&consumer.groups, &consumer.consumer_groups] {
            list(&mut digest, &mut groups.iter().map(|group| &**group));
        }
    }
    let mut sorted: Vec<&Entry<'_>> = credentials.iter().collect();
    sorted.sort_unstable_by_key(|(credential, ..)| &credential.id);
    number(&mut digest, sorted.len());
    for (credential, consumer, _) in sorted {
        let owner = consumers.get(*consumer as usize);
        text(&mut digest, owner.map_or("", |owner| &owner.id));
        text(&mut digest, credential.id.as_deref().unwrap_or_default());
        text(&mut digest, &credential.subject_name);
        digest.update(&[credential.header.into()]);
        digest.update(&credential.ca.unwrap_or_default());
    }
    digest.finish()
}
