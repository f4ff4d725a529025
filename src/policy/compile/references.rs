//! References between entities of the document, by id or by name.

use super::entity_id::uuid_text;
use crate::policy::document::{self, EntityKey, Link, LinkBy, Location, Uuid};
use crate::policy::report::{Path, Report};
use crate::policy::Map;
use crate::text::quoted;

/// Services, routes or consumers by id and by name.
pub(super) struct ReferenceIndex<'t> {
    /// What one of them is called in messages and in fields that refer to it.
    pub noun: &'static str,
    /// The field of their name.
    pub name_field: &'static str,
    pub by_id: Map<Uuid, usize>,
    pub by_name: Map<&'t str, usize>,
}

impl<'t> ReferenceIndex<'t> {
    pub fn new(
        noun: &'static str,
        entities: impl Iterator<Item = (&'t EntityKey<'t>, &'t Location)>,
        report: &mut Report,
    ) -> ReferenceIndex<'t> {
        let mut index = ReferenceIndex {
            noun,
            name_field: "name",
            by_id: Map::default(),
            by_name: Map::default(),
        };
        let mut locations: Vec<&Location> = Vec::new();
        for (position, (identity, location)) in entities.enumerate() {
            locations.push(location);
            let mut report_twice = |field, value: &str, first| {
                if first != position {
                    let value = quoted(value.as_bytes());
                    let first = locations
                        .get(first)
                        .map(|first: &&Location| report.place(first.position, &first.path))
                        .unwrap_or_default();
                    let message = format!(
                        "the {field} '{value}' of a {noun} is given twice, first at {first}"
                    );
                    report.error(
                        location.position,
                        &Path::Compact(&location.path).field(field),
                        message,
                    );
                }
            };
            if let Some(id) = identity.id {
                let first = *index.by_id.entry(id).or_insert(position);
                if first != position {
                    report_twice("id", &uuid_text(&id), first);
                }
            }
            if let Some(name) = identity.name {
                report_twice("name", name, *index.by_name.entry(name).or_insert(position));
            }
        }
        index
    }

    /// The position of the entity that a link refers to; reports a link to none.
    pub fn follow(
        &self,
        link: &Link<'t>,
        location: &Location,
        report: &mut Report,
    ) -> Option<usize> {
        let found = self.find(link);
        if let (None, &Link::Reference { text, by, position }) = (found, link) {
            let what = match by {
                LinkBy::Id => "id",
                LinkBy::Name => self.name_field,
                LinkBy::Either => &format!("id or {}", self.name_field),
            };
            let meant = report.did_you_mean(text, self.by_name.keys().copied());
            let text = quoted(text.as_bytes());
            let message = format!("no {} has the {what} '{text}'{meant}", self.noun);
            report.error(
                position,
                &Path::Compact(&location.path).field(self.noun),
                message,
            );
        }
        found
    }

    /// The same without a report.
    pub fn find(&self, link: &Link<'t>) -> Option<usize> {
        let (text, by) = match *link {
            Link::Parent(position) => return Some(position),
            Link::Reference { text, by, .. } => (text, by),
        };
        let id = document::uuid(text).filter(|_| by != LinkBy::Name);
        let name = Some(text).filter(|_| by != LinkBy::Id);
        let found = id
            .and_then(|id| self.by_id.get(&id))
            .or_else(|| self.by_name.get(name?));
        found.copied()
    }
}

/// Reports an entity whose `field` has the value of an earlier entity.
pub(super) fn report_duplicate(
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
        first.map(|first| report.place(first.position, &first.path)).unwrap_or_default()
    );
    report.error(
        location.position,
        &Path::Compact(&location.path).field(field),
        message,
    );
}
