//! Consumers, and the mapping of certificates to consumers (Kong: `mtls-auth`).

use std::collections::HashMap;

use crate::certificate::name::Attribute;
use crate::certificate::normal_form::{attribute_value, lookalike_key, NormalForm, SanKind};
use crate::certificate::{Certificate, San};
use crate::Error;

/// A consumer of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// UUID.
    pub id: Box<str>,
    /// Unique username, if it has one.
    pub username: Option<Box<str>>,
    /// Unique id in another system, if it has one.
    pub custom_id: Option<Box<str>>,
    /// The groups of its `acls`.
    pub groups: Vec<Box<str>>,
    /// Its consumer groups.
    pub consumer_groups: Vec<Box<str>>,
}

/// A credential of `mtls_auth_credentials` or `header_cert_auth_credentials`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Whether it is one of `header_cert_auth_credentials`, for header certificates only.
    pub header: bool,
    /// UUID, which is forwarded to the upstream.
    pub id: Option<Box<str>>,
    /// Name that the certificate must have.
    pub subject_name: Box<str>,
    /// Identity (subject and key) of a CA that must be part of the verified chain.
    pub ca: Option<[u8; 32]>,
}

/// Fields by which a consumer is found without a credential (Kong `consumer_by`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerBy {
    /// By `username`.
    pub username: bool,
    /// By `custom_id`.
    pub custom_id: bool,
}

/// A field by which the consumer of a token is found (Kong `consumer_by` of `openid-connect`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerField {
    /// By `id`.
    Id,
    /// By `username`.
    Username,
    /// By `custom_id`.
    CustomId,
}

/// A name of a certificate by which consumers are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectName {
    text: String,
    /// [`lookalike_key`] of the text.
    key: String,
    /// Whether its comparison ignores ASCII case: that of a DNS name (RFC 4343) or a
    /// userPrincipalName.
    caseless: bool,
}

impl SubjectName {
    fn new(text: String, caseless: bool) -> SubjectName {
        SubjectName {
            key: lookalike_key(&text),
            text,
            caseless,
        }
    }

    /// The name.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn is(&self, text: &str) -> bool {
        *self.text == *text || (self.caseless && self.text.eq_ignore_ascii_case(text))
    }
}

/// The names of a certificate by which consumers are looked up.
#[derive(Debug, Default)]
pub struct SubjectNames {
    /// In the order in which they are tried.
    pub names: Vec<SubjectName>,
    /// Whether a name has no normal form or cannot be read.
    pub irregular: bool,
}

/// The names of a certificate in the order in which they are tried: its SANs in certificate order,
/// or its CNs if it has no SAN extension. `dirname` selects attributes of directoryNames; if it is
/// empty, all are used. With `upn`, userPrincipalNames follow the other SANs. Names that are not
/// UTF-8 or have a NUL, and attributes and userPrincipalNames without normal form, are not used.
pub fn subject_names(certificate: &Certificate, dirname: &[Box<str>], upn: bool) -> SubjectNames {
    let mut found = SubjectNames::default();
    let push = |found: &mut SubjectNames, bytes: Vec<u8>, dns: bool| match String::from_utf8(bytes)
    {
        Ok(text) if !text.is_empty() && !text.contains('\0') => {
            found.names.push(SubjectName::new(text, dns));
        }
        _ => found.irregular = true,
    };
    let attribute =
        |found: &mut SubjectNames, attribute: &Attribute, normal: &NormalForm| match normal {
            Ok(_) => push(found, attribute.value.clone(), false),
            Err(_) => found.irregular = true,
        };
    if !certificate.has_san() {
        for (cn, normal) in certificate.normal_subject() {
            if cn.is("CN") {
                attribute(&mut found, cn, normal);
            }
        }
        return found;
    }
    for san in certificate.san() {
        match san {
            San::Dns(name) => push(&mut found, name.clone(), true),
            San::Directory { attributes, .. } => {
                for each in attributes {
                    if dirname.is_empty() || dirname.iter().any(|name| each.is(name)) {
                        attribute(&mut found, each, &attribute_value(each));
                    }
                }
            }
            other => push(&mut found, other.value(), false),
        }
    }
    let sans = certificate.normal_san();
    for (kind, name) in &sans.names {
        match (kind, name) {
            (SanKind::Upn, _) if !upn => {}
            (SanKind::Upn, Ok(name)) => push(&mut found, name.as_bytes().to_vec(), true),
            (_, Err(_)) => found.irregular = true,
            _ => {}
        }
    }
    found.irregular |= sans.unreadable;
    found
}

/// The result of mapping a certificate to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerMatch {
    /// Index of the consumer.
    pub consumer: u32,
    /// Index of the credential; `None` for a match by username or custom_id.
    pub credential: Option<u32>,
}

/// Indices by [`lookalike_key`] of names: names that a reader may consider equal share an entry.
type LookalikeIndex = HashMap<Box<str>, Vec<u32>>;

/// All consumers of a policy, immutable. The time of a look-up does not depend on their number.
#[derive(Default)]
pub struct Consumers {
    consumers: Vec<Consumer>,
    credentials: Vec<(Credential, u32)>,
    by_id: HashMap<Box<str>, u32>,
    by_username: LookalikeIndex,
    by_custom_id: LookalikeIndex,
    by_subject_name: LookalikeIndex,
}

/// Builds [`Consumers`].
#[derive(Default)]
pub struct ConsumersBuilder(Consumers);

impl ConsumersBuilder {
    /// Adds a consumer and returns its index.
    ///
    /// # Errors
    /// When another consumer has the same id, username or custom_id.
    pub fn consumer(&mut self, consumer: Consumer) -> Result<u32, Error> {
        let all = &mut self.0;
        let duplicate = |key: &str, value: &str| {
            Error::Misuse(format!(
                "uniqueness violation: 'consumers' entity with {key} set to '{value}' already \
                 declared"
            ))
        };
        if all.by_id.contains_key(&consumer.id) {
            return Err(duplicate("id", &consumer.id));
        }
        if let Some(username) = &consumer.username {
            if all
                .find_by_exact_name(&all.by_username, username, |c| c.username.as_deref())
                .is_some()
            {
                return Err(duplicate("username", username));
            }
        }
        if let Some(custom_id) = &consumer.custom_id {
            if all
                .find_by_exact_name(&all.by_custom_id, custom_id, |c| c.custom_id.as_deref())
                .is_some()
            {
                return Err(duplicate("custom_id", custom_id));
            }
        }
        let index = all.consumers.len() as u32;
        all.by_id.insert(consumer.id.clone(), index);
        if let Some(username) = &consumer.username {
            all.by_username
                .entry(index_key(username))
                .or_default()
                .push(index);
        }
        if let Some(custom_id) = &consumer.custom_id {
            all.by_custom_id
                .entry(index_key(custom_id))
                .or_default()
                .push(index);
        }
        all.consumers.push(consumer);
        Ok(index)
    }

    /// Adds a credential to a consumer.
    ///
    /// # Errors
    /// When another credential has the same name and CA, so that the consumer is ambiguous.
    pub fn credential(&mut self, consumer: u32, credential: Credential) -> Result<(), Error> {
        let all = &mut self.0;
        let index = all.credentials.len() as u32;
        let same_name = all
            .by_subject_name
            .entry(index_key(&credential.subject_name))
            .or_default();
        let is_duplicate = same_name.iter().any(|other| {
            all.credentials
                .get(*other as usize)
                .is_some_and(|(other, _)| {
                    other.subject_name == credential.subject_name
                        && other.ca == credential.ca
                        && other.header == credential.header
                })
        });
        if is_duplicate {
            return Err(Error::Misuse(format!(
                "uniqueness violation: a credential with subject_name '{}' and the same \
                 ca_certificate is already declared",
                credential.subject_name
            )));
        }
        same_name.push(index);
        all.credentials.push((credential, consumer));
        Ok(())
    }

    /// Builds the consumers.
    pub fn build(self) -> Consumers {
        self.0
    }
}

impl Consumers {
    /// Number of consumers.
    pub fn len(&self) -> usize {
        self.consumers.len()
    }

    /// Whether there is no consumer.
    pub fn is_empty(&self) -> bool {
        self.consumers.is_empty()
    }

    /// The consumer at an index.
    pub fn get(&self, index: u32) -> Option<&Consumer> {
        self.consumers.get(index as usize)
    }

    /// The credential at an index.
    pub fn credential(&self, index: u32) -> Option<&Credential> {
        self.credentials
            .get(index as usize)
            .map(|(credential, _)| credential)
    }

    /// A consumer by id, else by username; never by custom_id (Kong `anonymous`,
    /// `default_consumer`).
    pub fn by_id_or_username(&self, name: &str) -> Option<u32> {
        let id = name.to_ascii_lowercase();
        self.by_id
            .get(id.as_str())
            .copied()
            .or_else(|| self.find_by_exact_name(&self.by_username, name, |c| c.username.as_deref()))
    }

    /// Maps a verified certificate to a consumer. For each name in order, a credential with a CA of
    /// `chain` is searched (identities from the leaf's issuer up to the anchor), then for each name
    /// a credential without CA, then for each name a username or else a custom_id. With `header`,
    /// credentials for header certificates are searched before others of the same name and CA.
    pub fn find(
        &self,
        names: &[SubjectName],
        chain: &[[u8; 32]],
        by: ConsumerBy,
        header: bool,
    ) -> Option<ConsumerMatch> {
        self.find_tied(names, chain, header)
            .or_else(|| self.find_untied(names, by, header))
    }

    /// The part of [`Consumers::find`] that searches credentials with a CA.
    pub fn find_tied(
        &self,
        names: &[SubjectName],
        chain: &[[u8; 32]],
        header: bool,
    ) -> Option<ConsumerMatch> {
        names.iter().find_map(|name| {
            chain
                .iter()
                .find_map(|ca| self.credential_of(name, Some(ca), header))
        })
    }

    /// The part of [`Consumers::find`] that searches credentials without CA, usernames and
    /// custom_ids.
    pub fn find_untied(
        &self,
        names: &[SubjectName],
        by: ConsumerBy,
        header: bool,
    ) -> Option<ConsumerMatch> {
        names
            .iter()
            .find_map(|name| self.credential_of(name, None, header))
            .or_else(|| {
                names.iter().find_map(|name| {
                    let username =
                        || self.find_by_name(&self.by_username, name, |c| c.username.as_deref());
                    let custom_id =
                        || self.find_by_name(&self.by_custom_id, name, |c| c.custom_id.as_deref());
                    by.username
                        .then(username)
                        .flatten()
                        .or_else(|| by.custom_id.then(custom_id).flatten())
                        .map(|consumer| ConsumerMatch {
                            consumer,
                            credential: None,
                        })
                })
            })
    }

    /// The consumer whose field has this value, the first one of `by`. With `ignore_case` the case
    /// of ASCII letters in a username does not matter, unless two usernames differ in it alone.
    pub fn find_by_value(
        &self,
        value: &str,
        by: &[ConsumerField],
        ignore_case: bool,
    ) -> Option<u32> {
        by.iter().find_map(|field| match field {
            ConsumerField::Id => self.by_id.get(value.to_ascii_lowercase().as_str()).copied(),
            ConsumerField::Username => {
                let name = SubjectName::new(value.to_owned(), ignore_case);
                self.find_by_name(&self.by_username, &name, |c| c.username.as_deref())
            }
            ConsumerField::CustomId => {
                self.find_by_exact_name(&self.by_custom_id, value, |c| c.custom_id.as_deref())
            }
        })
    }

    /// The consumers with a name that a reader may consider equal to one of `names`. A name that
    /// exactly matches a consumer is ignored. Used for conditions that refuse consumers.
    pub fn lookalikes<'a>(
        &'a self,
        names: &'a [SubjectName],
        by: ConsumerBy,
        header: bool,
    ) -> impl Iterator<Item = &'a Consumer> {
        names.iter().flat_map(move |name| {
            let mut found = Vec::new();
            let mut exact = false;
            let mut push = |text: Option<&str>, consumer: u32| {
                exact |= text.is_some_and(|text| name.is(text));
                found.extend(text.and(self.get(consumer)));
            };
            let of =
                |index: &'a LookalikeIndex| index.get(&*name.key).into_iter().flatten().copied();
            for index in of(&self.by_subject_name) {
                if let Some((credential, consumer)) = self.credentials.get(index as usize) {
                    if header || !credential.header {
                        push(Some(&credential.subject_name), *consumer);
                    }
                }
            }
            for index in of(&self.by_username).filter(|_| by.username) {
                let consumer = self.get(index);
                push(consumer.and_then(|c| c.username.as_deref()), index);
            }
            for index in of(&self.by_custom_id).filter(|_| by.custom_id) {
                let consumer = self.get(index);
                push(consumer.and_then(|c| c.custom_id.as_deref()), index);
            }
            match exact {
                true => Vec::new(),
                false => found,
            }
        })
    }

    /// Whether one of the names is the username or custom_id of a consumer.
    pub fn is_named(&self, consumer: u32, names: &[SubjectName], by: ConsumerBy) -> bool {
        let Some(consumer) = self.get(consumer) else {
            return false;
        };
        let is = |text: &Option<Box<str>>| {
            text.as_deref()
                .is_some_and(|text| names.iter().any(|name| name.is(text)))
        };
        (by.username && is(&consumer.username)) || (by.custom_id && is(&consumer.custom_id))
    }

    fn credential_of(
        &self,
        name: &SubjectName,
        ca: Option<&[u8; 32]>,
        header: bool,
    ) -> Option<ConsumerMatch> {
        let candidates = self.by_subject_name.get(&*name.key)?;
        let matching = |header: bool| {
            candidates.iter().filter_map(move |index| {
                let (credential, consumer) = self.credentials.get(*index as usize)?;
                (credential.ca.as_ref() == ca && credential.header == header)
                    .then_some((&*credential.subject_name, (*index, *consumer)))
            })
        };
        let for_header = header.then(|| pick(name, matching(true))).flatten();
        let (index, consumer) = for_header.or_else(|| pick(name, matching(false)))?;
        Some(ConsumerMatch {
            consumer,
            credential: Some(index),
        })
    }

    fn find_by_name(
        &self,
        index: &LookalikeIndex,
        name: &SubjectName,
        text: impl Fn(&Consumer) -> Option<&str>,
    ) -> Option<u32> {
        let candidates = index.get(&*name.key)?;
        pick(
            name,
            candidates
                .iter()
                .filter_map(|index| Some((text(self.get(*index)?)?, *index))),
        )
    }

    fn find_by_exact_name(
        &self,
        index: &LookalikeIndex,
        name: &str,
        text: impl Fn(&Consumer) -> Option<&str>,
    ) -> Option<u32> {
        self.find_by_name(index, &SubjectName::new(name.to_owned(), false), text)
    }
}

/// The candidate whose text is exactly that of `name`; otherwise, for a DNS name, the only
/// candidate.
fn pick<'a, T: Copy>(
    name: &SubjectName,
    candidates: impl Iterator<Item = (&'a str, T)>,
) -> Option<T> {
    let mut case_insensitive = None;
    let mut count = 0;
    for (text, candidate) in candidates {
        if text == name.text {
            return Some(candidate);
        }
        if name.is(text) {
            case_insensitive = Some(candidate);
            count += 1;
        }
    }
    // With two that differ only in case, the match is ambiguous.
    case_insensitive.filter(|_| count == 1)
}

fn index_key(name: &str) -> Box<str> {
    lookalike_key(name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: ConsumerBy = ConsumerBy {
        username: true,
        custom_id: true,
    };
    const A: [u8; 32] = [1; 32];
    const B: [u8; 32] = [2; 32];

    fn consumer(number: u32, username: &str, custom_id: &str) -> Consumer {
        let text = |text: &str| (!text.is_empty()).then(|| text.into());
        Consumer {
            id: format!("00000000-0000-4000-8000-{number:012}").into(),
            username: text(username),
            custom_id: text(custom_id),
            ..Consumer::default()
        }
    }

    fn credential(subject_name: &str, ca: Option<[u8; 32]>) -> Credential {
        Credential {
            header: false,
            id: None,
            subject_name: subject_name.into(),
            ca,
        }
    }

    fn names(texts: &[&str], dns: bool) -> Vec<SubjectName> {
        texts
            .iter()
            .map(|text| SubjectName::new((*text).to_owned(), dns))
            .collect()
    }

    fn all() -> Consumers {
        let mut builder = ConsumersBuilder::default();
        for (number, username, custom_id) in [
            (0, "ann", "a-1"),
            (1, "bob", "ann"),
            (2, "Host.example", ""),
            (3, "a-1", "x"),
        ] {
            builder
                .consumer(consumer(number, username, custom_id))
                .unwrap();
        }
        builder.credential(1, credential("ann", Some(A))).unwrap();
        builder.credential(2, credential("ann", Some(B))).unwrap();
        builder.credential(3, credential("carl", None)).unwrap();
        builder.credential(0, credential("carl", Some(B))).unwrap();
        builder.build()
    }

    fn found(
        names: &[SubjectName],
        chain: &[[u8; 32]],
        by: ConsumerBy,
    ) -> Option<(u32, Option<u32>)> {
        all()
            .find(names, chain, by, false)
            .map(|found| (found.consumer, found.credential))
    }

    #[test]
    fn find_searches_credentials_then_username_then_custom_id() {
        let none = ConsumerBy {
            username: false,
            custom_id: false,
        };
        let only = |custom_id: bool| ConsumerBy {
            username: !custom_id,
            custom_id,
        };
        for (case, texts, chain, by, expected) in [
            (
                "a credential with CA",
                &["ann"][..],
                &[A][..],
                BOTH,
                Some((1, Some(0))),
            ),
            ("the other CA", &["ann"], &[B], BOTH, Some((2, Some(1)))),
            (
                "the CA nearest to the leaf",
                &["ann"],
                &[B, A],
                BOTH,
                Some((2, Some(1))),
            ),
            (
                "any name with CA before any without",
                &["carl", "ann"],
                &[A],
                BOTH,
                Some((1, Some(0))),
            ),
            (
                "a credential without CA",
                &["carl"],
                &[A],
                BOTH,
                Some((3, Some(2))),
            ),
            (
                "with CA before without",
                &["carl"],
                &[B],
                BOTH,
                Some((0, Some(3))),
            ),
            (
                "a credential before a username",
                &["bob", "carl"],
                &[],
                BOTH,
                Some((3, Some(2))),
            ),
            (
                "username before custom_id",
                &["ann"],
                &[],
                BOTH,
                Some((0, None)),
            ),
            (
                "username before custom_id, once more",
                &["a-1"],
                &[],
                BOTH,
                Some((3, None)),
            ),
            ("custom_id only", &["ann"], &[], only(true), Some((1, None))),
            ("username only", &["x"], &[], only(false), None),
            (
                "the first name",
                &["bob", "ann"],
                &[],
                BOTH,
                Some((1, None)),
            ),
            ("consumer_by is empty", &["bob"], &[], none, None),
            ("another case", &["ANN"], &[A], BOTH, None),
            ("unknown name", &["zoe"], &[A], BOTH, None),
        ] {
            assert_eq!(found(&names(texts, false), chain, by), expected, "{case}");
        }
    }

    #[test]
    fn find_dns_name_ignores_case() {
        assert_eq!(
            found(&names(&["hOST.EXAMPLE"], true), &[], BOTH),
            Some((2, None))
        );
        assert_eq!(found(&names(&["hOST.EXAMPLE"], false), &[], BOTH), None);
    }

    #[test]
    fn find_dns_name_that_matches_two_is_none() {
        let mut builder = ConsumersBuilder::default();
        builder.consumer(consumer(0, "h.example", "")).unwrap();
        builder.consumer(consumer(1, "H.example", "")).unwrap();
        let all = builder.build();
        assert_eq!(
            all.find(&names(&["H.EXAMPLE"], true), &[], BOTH, false),
            None
        );
        let exact = all.find(&names(&["H.example"], true), &[], BOTH, false);
        assert_eq!(
            exact,
            Some(ConsumerMatch {
                consumer: 1,
                credential: None
            })
        );
    }

    #[test]
    fn lookalikes_ignores_names_with_an_exact_match() {
        let mut builder = ConsumersBuilder::default();
        for (number, username, custom_id) in [
            (0, "spiffe://example.org/ns/a", ""),
            (1, "Ann Smith", "A-1"),
            (2, "h.example", ""),
            (3, "ann smith", ""),
        ] {
            let consumer = consumer(number, username, custom_id);
            builder.consumer(consumer).unwrap();
        }
        builder.credential(2, credential("carl", None)).unwrap();
        let mut header_credential = credential("zoe", None);
        header_credential.header = true;
        builder.credential(3, header_credential).unwrap();
        let all = builder.build();
        let none = ConsumerBy {
            username: false,
            custom_id: false,
        };
        for (name, dns, by, header, expected) in [
            ("SPIFFE://example.org/%6es/a", false, BOTH, false, &[0][..]),
            ("SPIFFE://example.org/%6es/a", false, none, false, &[]),
            ("ANN  SMITH", false, BOTH, false, &[1, 3]),
            // It exactly matches a consumer.
            ("Ann Smith", false, BOTH, false, &[]),
            ("a-1", false, BOTH, false, &[1]),
            ("h.example.", true, BOTH, false, &[2]),
            ("H.EXAMPLE", true, BOTH, false, &[]),
            ("Carl", false, none, false, &[2]),
            ("Zoe", false, none, false, &[]),
            ("Zoe", false, none, true, &[3]),
            ("bob", false, BOTH, true, &[]),
        ] {
            let names = names(&[name], dns);
            let found: Vec<u32> = all
                .lookalikes(&names, by, header)
                .map(|consumer| consumer.id[24..].parse().unwrap())
                .collect();
            assert_eq!(found, expected, "{name}");
        }
        let named = |name: &str, by| all.is_named(1, &names(&[name], false), by);
        assert!(named("Ann Smith", BOTH) && named("A-1", BOTH));
        assert!(!named("ann smith", BOTH) && !named("Ann Smith", none));
    }

    #[test]
    fn consumer_with_a_duplicate_name_is_refused() {
        let mut builder = ConsumersBuilder::default();
        builder.consumer(consumer(0, "ann", "a-1")).unwrap();
        for (duplicate, text) in [
            (
                consumer(0, "x", ""),
                "id set to '00000000-0000-4000-8000-000000000000'",
            ),
            (consumer(1, "ann", ""), "username set to 'ann'"),
            (consumer(2, "y", "a-1"), "custom_id set to 'a-1'"),
        ] {
            let error = builder.consumer(duplicate).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("uniqueness violation: 'consumers' entity with {text} already declared")
            );
        }
        builder.credential(0, credential("ann", None)).unwrap();
        assert!(builder.credential(0, credential("ann", None)).is_err());
        builder.credential(0, credential("ann", Some(A))).unwrap();
    }

    #[test]
    fn by_id_or_username_never_finds_a_custom_id() {
        let all = all();
        assert_eq!(all.by_id_or_username("ann"), Some(0));
        assert_eq!(
            all.by_id_or_username("00000000-0000-4000-8000-000000000002"),
            Some(2)
        );
        assert_eq!(all.by_id_or_username("x"), None);
    }
}
