//! The credentials of consumers: `mtls_auth_credentials` and `header_cert_auth_credentials`.

use std::collections::HashMap;

use super::ca_certificates::{unreadable_message, CaCertificates};
use super::entity_id::{derived_id, uuid_text};
use super::references::{report_duplicate, ReferenceIndex};
use crate::identity::{Consumer, Credential};
use crate::policy::document::{CaReference, Document, Link, Location, Uuid};
use crate::policy::report::{Path, Position, Report};
use crate::text::hex;
use crate::text::quoted;
use crate::trust::CaCertificate;

/// The CA of a credential.
#[derive(Clone, Copy)]
struct Ca {
    /// The digest of its subject and public key.
    id: [u8; 32],
    /// SHA-256 of the certificate in the document.
    digest: [u8; 32],
    /// Whether `digest` is `id` instead, for an entry with files: they may change.
    from_files: bool,
}

impl Ca {
    fn of(ca: &CaCertificate) -> Ca {
        Ca {
            id: *ca.id(),
            digest: *ca.digest(),
            from_files: false,
        }
    }

    fn is_other_than(&self, other: &Ca) -> bool {
        let by_digest = !self.from_files && !other.from_files;
        self.id != other.id || by_digest && self.digest != other.digest
    }
}

/// The first credential with a subject name and CA.
#[derive(Clone, Copy)]
struct FirstCredential<'t> {
    location: &'t Location,
    consumer: usize,
    digest: Option<[u8; 32]>,
}

/// A credential, the position of its consumer, and its location in the document.
pub(super) type CredentialEntry<'t> = (Credential, u32, &'t Location);

pub(super) fn credentials<'t>(
    document: &'t Document<'t>,
    cas: &CaCertificates,
    index: &ReferenceIndex<'t>,
    consumers: &[Consumer],
    report: &mut Report,
) -> Vec<CredentialEntry<'t>> {
    let mut found = Vec::with_capacity(document.credentials.len());
    let mut pems: HashMap<&str, Option<Ca>> = HashMap::new();
    let mut by_id: HashMap<Uuid, &Location> = HashMap::new();
    let mut by_content: HashMap<(bool, &str, Option<[u8; 32]>), FirstCredential<'_>> =
        HashMap::new();
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
                CaReference::Id(id) => ca_of_id(&id, *place, &path, cas, report),
                CaReference::Pem(pem) => *pems
                    .entry(pem)
                    .or_insert_with(|| ca_of_pem(pem, *place, &path, cas, report)),
            };
            complete &= found.is_some();
            if let (Some(first), Some(found)) = (ca, found) {
                if first.is_other_than(&found) {
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
            .unwrap_or_else(|| derived_id(&[kind, &owner.id, &ca_text, entity.subject_name]));
        let content = (entity.header, entity.subject_name, ca.map(|ca| ca.id));
        let digest = ca.map(|ca| ca.digest);
        let first = *by_content.entry(content).or_insert(FirstCredential {
            location,
            consumer: position,
            digest,
        });
        if !std::ptr::eq(first.location, location) {
            let name = quoted(entity.subject_name.as_bytes());
            let path = Path::Compact(&location.path);
            let path = path.field("subject_name");
            let first_place = report.place(first.location.position, &first.location.path);
            if first.digest == digest {
                let message = format!(
                    "uniqueness violation: '{kind}' entity with subject_name set to '{name}' and \
                     the same ca_certificate already declared at {first_place}"
                );
                report.error(location.position, &path, message);
            } else if first.consumer != position {
                let message = format!(
                    "uniqueness violation: '{kind}' entity with subject_name set to '{name}' and \
                     another certificate of the same CA, for another consumer, already declared at \
                     {first_place}"
                );
                report.error(location.position, &path, message);
            } else {
                report.warn(
                    "credentials for two certificates of one CA",
                    location.position,
                    &path,
                    || {
                        format!(
                            "'{name}' has a credential for this CA already at {first_place}, whose \
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
            report_duplicate(kind, "id", &id, Some(first), location, report);
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

fn ca_of_id(
    id: &Uuid,
    place: Position,
    path: &Path<'_>,
    cas: &CaCertificates,
    report: &mut Report,
) -> Option<Ca> {
    let Some(position) = cas.by_id.get(id) else {
        let id = uuid_text(id);
        let meant = report.did_you_mean(&id, cas.ids.iter().map(String::as_str));
        let message = format!("no entry of 'ca_certificates' has the id '{id}'{meant}");
        report.error(place, path, message);
        return None;
    };
    // An entry without a certificate is in the report.
    let entry = cas.list.get(*position)?;
    let first = Ca::of(entry.first()?);
    if entry.iter().any(|ca| *ca.id() != first.id) {
        let id = uuid_text(id);
        let message = format!(
            "the entry '{id}' of 'ca_certificates' has several CAs, expected one, of which it may \
             have several certificates"
        );
        report.error(place, path, message);
        return None;
    }
    Some(match cas.is_inline(*position) {
        true => first,
        false => Ca {
            digest: first.id,
            from_files: true,
            ..first
        },
    })
}

fn ca_of_pem(
    pem: &str,
    place: Position,
    path: &Path<'_>,
    cas: &CaCertificates,
    report: &mut Report,
) -> Option<Ca> {
    let ca = match CaCertificate::from_pem(pem.as_bytes()) {
        Ok(ca) => ca,
        Err(error) => {
            report.error(place, path, unreadable_message(pem, &error));
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

/// Whether the text looks like a distinguished name, not like one name of a certificate.
fn looks_like_a_dn(name: &str) -> bool {
    const TYPES: [&str; 10] = [
        "CN",
        "O",
        "OU",
        "C",
        "L",
        "ST",
        "DC",
        "UID",
        "emailAddress",
        "serialNumber",
    ];
    let Some((kind, _)) = name.trim_start_matches('/').split_once('=') else {
        return false;
    };
    TYPES
        .iter()
        .any(|known| known.eq_ignore_ascii_case(kind.trim()))
}
