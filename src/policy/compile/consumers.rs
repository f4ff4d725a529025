//! The consumers of a document, with their credentials and groups.

use std::collections::HashMap;

use openssl::sha::Sha256;

use super::ca_certificates::CaCertificates;
use super::credentials::{credentials, CredentialEntry};
use super::digest::{update_number, update_text};
use super::entity_id::{derived_id, uuid_text};
use super::references::{report_duplicate, ReferenceIndex};
use crate::identity::{Consumer, Consumers, ConsumersBuilder};
use crate::policy::document::{self, Document, Uuid};
use crate::policy::report::{Path, Position, Report};
use crate::policy::Map;
use crate::text::quoted;

/// The consumers, with an index for references to them.
pub(super) struct ConsumerIndex<'t> {
    pub consumers: Consumers,
    index: ReferenceIndex<'t>,
    /// SHA-256 of consumers, credentials and groups.
    digest: [u8; 32],
}

impl<'t> ConsumerIndex<'t> {
    pub fn new(
        document: &'t Document<'t>,
        cas: &CaCertificates,
        report: &mut Report,
    ) -> ConsumerIndex<'t> {
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
        // After an error, the positions of consumers may be wrong.
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
        ConsumerIndex {
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

    /// SHA-256 of consumers, credentials and groups.
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
            derived_id(&["consumers", key, name])
        })
    };
    document.consumers.iter().map(id).collect()
}

/// Consumers by id and username; reports those that share an id or a name.
fn index<'t>(document: &'t Document<'t>, ids: &[Uuid], report: &mut Report) -> ReferenceIndex<'t> {
    let mut index = ReferenceIndex {
        noun: "consumer",
        name_field: "username",
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
                report_duplicate(
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

fn digest(consumers: &[Consumer], credentials: &[CredentialEntry<'_>]) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut sorted: Vec<&Consumer> = consumers.iter().collect();
    sorted.sort_unstable_by_key(|consumer| &consumer.id);
    update_number(&mut digest, sorted.len());
    let list = |digest: &mut Sha256, texts: &mut dyn Iterator<Item = &str>| {
        let texts: Vec<&str> = texts.collect();
        update_number(digest, texts.len());
        for item in texts {
            update_text(digest, item);
        }
    };
    for consumer in sorted {
        update_text(&mut digest, &consumer.id);
        for names in [&consumer.username, &consumer.custom_id] {
            list(&mut digest, &mut names.iter().map(|name| &**name));
        }
        for groups in [&consumer.groups, &consumer.consumer_groups] {
            list(&mut digest, &mut groups.iter().map(|group| &**group));
        }
    }
    let mut sorted: Vec<&CredentialEntry<'_>> = credentials.iter().collect();
    sorted.sort_unstable_by_key(|(credential, ..)| &credential.id);
    update_number(&mut digest, sorted.len());
    for (credential, consumer, _) in sorted {
        let owner = consumers.get(*consumer as usize);
        update_text(&mut digest, owner.map_or("", |owner| &owner.id));
        update_text(&mut digest, credential.id.as_deref().unwrap_or_default());
        update_text(&mut digest, &credential.subject_name);
        digest.update(&[credential.header.into()]);
        digest.update(&credential.ca.unwrap_or_default());
    }
    digest.finish()
}
