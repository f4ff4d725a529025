//! Ids of entities: those of the document as text, and derived ones for entities without an id.

use sha1::{Digest, Sha1};

use crate::policy::document::Uuid;
use crate::text::hex;

/// Namespace of the UUIDs of entities that have none in the document (RFC 9562 section 5.5).
const NAMESPACE: Uuid = *b"\x5b\x1f\x0c\x3e\x84\x6a\x4d\x0b\x9c\x57\x2e\xd1\x60\x7a\x93\xf4";

/// The text of a UUID, in lower case.
pub(super) fn uuid_text(id: &Uuid) -> String {
    let mut text = hex(id);
    for dash in [20, 16, 12, 8] {
        text.insert(dash, '-');
    }
    text
}

/// The UUID, version 5, of an entity without an id. It depends on the content of the entity, not on
/// its position in the document.
pub(super) fn derived_id(parts: &[&str]) -> Uuid {
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
