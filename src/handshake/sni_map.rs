//! An immutable map from server names to values, for up to millions of names.
//!
//! A name is looked up as exact name, then as wildcard `*.` with its parent, then as `*`. The names
//! and values of one hash bucket are stored next to each other in an arena, so a look-up causes two
//! cache misses, for the bucket and for its names, independent of the size of the map.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::hash_table::{Entry, HashTable};

use super::server_name::{is_address, normalise, parent, Pattern, MAX_LEN};
use crate::Error;

/// Collects patterns for a [`SniMap`].
#[derive(Default)]
pub struct SniMapBuilder {
    exact: NameCollector,
    wildcard: NameCollector,
    any: Option<u32>,
    absent: Option<u32>,
    /// The hash is keyed, because clients choose the names that are looked up.
    seed: RandomState,
}

/// Records in the order of addition, and a set of their offsets.
#[derive(Default)]
struct NameCollector {
    arena: Vec<u8>,
    starts: HashTable<u32>,
}

impl SniMapBuilder {
    /// A builder without names.
    pub fn new() -> SniMapBuilder {
        SniMapBuilder::default()
    }

    /// Adds a pattern as [`Pattern::parse`] reads it.
    ///
    /// # Errors
    /// [`Error::ServerName`] for text that is not a pattern, and for a pattern that was added
    /// before. The builder is unchanged then.
    pub fn add(&mut self, pattern: &[u8], value: u32) -> Result<(), Error> {
        self.add_pattern(&Pattern::parse(pattern)?, value)
    }

    /// Adds a pattern.
    ///
    /// # Errors
    /// As [`SniMapBuilder::add`].
    pub fn add_pattern(&mut self, pattern: &Pattern, value: u32) -> Result<(), Error> {
        let added = match pattern {
            Pattern::Exact(name) => self.exact.add(&self.seed, name.as_bytes(), value),
            Pattern::Wildcard(parent) => self.wildcard.add(&self.seed, parent.as_bytes(), value),
            Pattern::Any => add_once(&mut self.any, value),
            Pattern::Absent => add_once(&mut self.absent, value),
        };
        added.map_err(|why| Error::ServerName(format!("server name '{pattern}' {why}")))
    }

    /// Builds the map.
    pub fn build(self) -> SniMap {
        SniMap {
            exact: NameTable::new(&self.exact, &self.seed),
            wildcard: NameTable::new(&self.wildcard, &self.seed),
            any: self.any,
            absent: self.absent,
            seed: self.seed,
        }
    }
}

fn add_once(slot: &mut Option<u32>, value: u32) -> Result<(), &'static str> {
    match slot {
        Some(_) => Err(DUPLICATE),
        None => {
            *slot = Some(value);
            Ok(())
        }
    }
}

const DUPLICATE: &str = "is added twice";
const FULL: &str = "does not fit: a map holds at most 4 GiB of names";

impl NameCollector {
    fn add(&mut self, seed: &RandomState, name: &[u8], value: u32) -> Result<(), &'static str> {
        let arena = &mut self.arena;
        let len = u8::try_from(name.len()).map_err(|_| FULL)?;
        let start = u32::try_from(arena.len()).map_err(|_| FULL)?;
        let text = |start: u32| Record::at(arena, start as usize).map_or(&[][..], |r| r.text);
        match self.starts.entry(
            hash(seed, name),
            |&other| text(other) == name,
            |&other| hash(seed, text(other)),
        ) {
            Entry::Occupied(_) => return Err(DUPLICATE),
            Entry::Vacant(slot) => slot.insert(start),
        };
        arena.extend_from_slice(&value.to_ne_bytes());
        arena.push(len);
        arena.extend_from_slice(name);
        Ok(())
    }
}

/// Bytes of a record before its name.
const HEADER: usize = 5;

/// A record of an arena: value (4 bytes), length of the name (1 byte), name.
struct Record<'a> {
    value: u32,
    text: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    #[inline]
    fn at(arena: &'a [u8], start: usize) -> Option<Record<'a>> {
        let arena = arena.get(start..)?;
        let (&[a, b, c, d, len], rest) = arena.split_first_chunk::<HEADER>()?;
        Some(Record {
            value: u32::from_ne_bytes([a, b, c, d]),
            text: rest.get(..usize::from(len))?,
            bytes: arena.get(..HEADER + usize::from(len))?,
        })
    }

    /// The records from `start` to `end`.
    #[inline]
    fn between(arena: &'a [u8], start: usize, end: usize) -> impl Iterator<Item = Record<'a>> {
        let mut at = start;
        std::iter::from_fn(move || {
            let record = (at < end).then(|| Record::at(arena, at))??;
            at += record.bytes.len();
            Some(record)
        })
    }
}

/// A hash table whose records are grouped by bucket, with as many buckets as names.
struct NameTable {
    /// Offset of each bucket in the arena, then the end of the last one.
    starts: Box<[u32]>,
    arena: Box<[u8]>,
}

impl NameTable {
    fn new(collected: &NameCollector, seed: &RandomState) -> NameTable {
        let (arena, len) = (&collected.arena, collected.starts.len());
        let mut order: Vec<(u32, u32)> = Vec::with_capacity(len);
        let mut start = 0;
        for record in Record::between(arena, 0, arena.len()) {
            order.push((bucket(hash(seed, record.text), len) as u32, start));
            start += record.bytes.len() as u32;
        }
        order.sort_unstable();

        let mut starts = Vec::with_capacity(len + 1);
        let mut grouped = Vec::with_capacity(arena.len());
        for (bucket, start) in order {
            starts.resize(
                (bucket as usize + 1).max(starts.len()),
                grouped.len() as u32,
            );
            if let Some(record) = Record::at(arena, start as usize) {
                grouped.extend_from_slice(record.bytes);
            }
        }
        starts.resize(len + 1, grouped.len() as u32);
        NameTable {
            starts: starts.into(),
            arena: grouped.into(),
        }
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    #[inline]
    fn find(&self, seed: &RandomState, name: &[u8]) -> Option<u32> {
        if self.arena.is_empty() {
            return None;
        }
        let bucket = bucket(hash(seed, name), self.len());
        let &[start, end] = self.starts.get(bucket..bucket + 2)? else {
            return None;
        };
        Record::between(&self.arena, start as usize, end as usize)
            .find(|record| record.text == name)
            .map(|record| record.value)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        Record::between(&self.arena, 0, self.arena.len())
            .filter_map(|record| std::str::from_utf8(record.text).ok())
    }

    fn entries(&self) -> impl Iterator<Item = (&str, u32)> {
        Record::between(&self.arena, 0, self.arena.len())
            .filter_map(|record| Some((std::str::from_utf8(record.text).ok()?, record.value)))
    }

    fn iter(&self) -> impl Iterator<Item = (String, u32)> + '_ {
        Record::between(&self.arena, 0, self.arena.len()).map(|record| {
            (
                String::from_utf8_lossy(record.text).into_owned(),
                record.value,
            )
        })
    }
}

/// The finished map.
pub struct SniMap {
    exact: NameTable,
    wildcard: NameTable,
    any: Option<u32>,
    absent: Option<u32>,
    seed: RandomState,
}

impl SniMap {
    /// Value of the most specific pattern that matches the bytes of a server name. Only the pattern
    /// for absent names and `*` match an absent name, one that [`normalise`] does not accept, and an
    /// IP address, under which clients send no name.
    pub fn get(&self, raw: Option<&[u8]>) -> Option<u32> {
        let mut buffer = [0; MAX_LEN + 1];
        let found = match raw.and_then(|raw| normalise(raw, &mut buffer)) {
            Some(name) => self
                .get_named(name)
                .or_else(|| self.absent.filter(|_| is_address(name))),
            None => self.absent,
        };
        found.or(self.any)
    }

    fn get_named(&self, name: &[u8]) -> Option<u32> {
        self.exact
            .find(&self.seed, name)
            .or_else(|| self.wildcard.find(&self.seed, parent(name)?))
    }

    /// Number of patterns.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len() + [self.any, self.absent].iter().flatten().count()
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of the map in bytes.
    pub fn memory(&self) -> usize {
        let names = |names: &NameTable| size_of_val(&*names.starts) + names.arena.len();
        size_of::<SniMap>() + names(&self.exact) + names(&self.wildcard)
    }

    /// The exact names, in no particular order.
    pub fn exact(&self) -> impl Iterator<Item = &str> {
        self.exact.texts()
    }

    /// The wildcard patterns without their star, such as `.example.com`, in no particular order.
    pub fn wildcard(&self) -> impl Iterator<Item = &str> {
        self.wildcard.texts()
    }

    /// All patterns as text in two parts, such as `*` and `.example.com`, with their values, in no
    /// particular order. Unlike [`SniMap::iter`] it allocates nothing.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &str, u32)> {
        let special = |text: &'static str, value: Option<u32>| {
            value.into_iter().map(move |value| (text, "", value))
        };
        let wildcard = self.wildcard.entries();
        let exact = self.exact.entries();
        special("\"\"", self.absent)
            .chain(special("*", self.any))
            .chain(wildcard.map(|(parent, value)| ("*", parent, value)))
            .chain(exact.map(|(name, value)| ("", name, value)))
    }

    /// All patterns with their values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Pattern, u32)> + '_ {
        self.exact
            .iter()
            .map(|(name, value)| (Pattern::Exact(name), value))
            .chain(
                self.wildcard
                    .iter()
                    .map(|(name, value)| (Pattern::Wildcard(name), value)),
            )
            .chain(self.any.map(|value| (Pattern::Any, value)))
            .chain(self.absent.map(|value| (Pattern::Absent, value)))
    }
}

#[inline]
fn hash(seed: &RandomState, name: &[u8]) -> u64 {
    let mut hasher = seed.build_hasher();
    hasher.write(name);
    hasher.finish()
}

/// The upper bits of `hash` scaled to `0..buckets`.
#[inline]
fn bucket(hash: u64, buckets: usize) -> usize {
    ((u128::from(hash) * buckets as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(patterns: &[&str]) -> SniMap {
        let mut builder = SniMapBuilder::new();
        for (value, pattern) in (0..).zip(patterns) {
            builder.add(pattern.as_bytes(), value).unwrap();
        }
        builder.build()
    }

    #[test]
    fn get_prefers_the_most_specific_pattern() {
        let map = map(&["a.example.com", "*.example.com", "*", "*.a.example.com"]);
        for (name, value) in [
            ("a.example.com", 0),
            ("A.EXAMPLE.com.", 0),
            ("b.example.com", 1),
            ("x.a.example.com", 3),
            ("x.b.example.com", 2),
            ("example.com", 2),
            (".example.com", 2),
            ("..example.com", 2),
            ("*.example.com", 1),
            ("*", 2),
        ] {
            assert_eq!(map.get(Some(name.as_bytes())), Some(value), "{name}");
        }
    }

    #[test]
    fn get_without_usable_name_matches_any_only() {
        let with_any = map(&["a.test", "*"]);
        let without = map(&["a.test"]);
        for raw in [
            None,
            Some(&b""[..]),
            Some(b"a.test\0"),
            Some(&[b'a'; 256][..]),
        ] {
            assert_eq!(with_any.get(raw), Some(1));
            assert_eq!(without.get(raw), None);
        }
    }

    #[test]
    fn get_of_the_absent_pattern_is_for_clients_without_a_name_alone() {
        for any in [None, Some(2)] {
            let mut builder = SniMapBuilder::new();
            builder.add(b"a.test", 0).unwrap();
            builder.add_pattern(&Pattern::Absent, 1).unwrap();
            assert_eq!(
                builder
                    .add_pattern(&Pattern::Absent, 3)
                    .unwrap_err()
                    .to_string(),
                "server name '\"\"' is added twice"
            );
            if let Some(any) = any {
                builder.add(b"*", any).unwrap();
            }
            let map = builder.build();
            assert_eq!(map.len(), 2 + usize::from(any.is_some()));
            assert_eq!(map.iter().count(), map.len());
            for raw in [
                None,
                Some(&b""[..]),
                Some(b"10.0.0.1"),
                Some(b"[::1]"),
                Some(b"::1"),
            ] {
                assert_eq!(map.get(raw), Some(1), "{raw:?}");
            }
            assert_eq!(map.get(Some(b"a.test")), Some(0));
            for raw in [&b"b.test"[..], b"10.0.0.1.test", b"1.2.3", b"cafe"] {
                assert_eq!(map.get(Some(raw)), any);
            }
        }
    }

    #[test]
    fn get_in_an_empty_map_is_none() {
        let map = map(&[]);
        assert!(map.is_empty());
        assert_eq!(map.get(Some(b"a.test")), None);
        assert_eq!(map.get(None), None);
    }

    #[test]
    fn add_duplicate_is_refused_and_changes_nothing() {
        let mut builder = SniMapBuilder::new();
        for pattern in ["a.test", "*.test", "*"] {
            builder.add(pattern.as_bytes(), 1).unwrap();
        }
        for (pattern, canonical) in [("A.test.", "a.test"), ("*.TEST", "*.test"), ("*", "*")] {
            assert_eq!(
                builder.add(pattern.as_bytes(), 2).unwrap_err().to_string(),
                format!("server name '{canonical}' is added twice")
            );
        }
        let map = builder.build();
        assert_eq!(map.len(), 3);
        for name in ["a.test", "b.test", "other"] {
            assert_eq!(map.get(Some(name.as_bytes())), Some(1));
        }
    }

    #[test]
    fn add_invalid_pattern_is_refused() {
        let mut builder = SniMapBuilder::new();
        assert_eq!(
            builder.add(b"a..test", 1).unwrap_err().to_string(),
            "server name 'a..test': has an empty label"
        );
        assert!(builder.build().is_empty());
    }

    #[test]
    fn iter_returns_all_patterns() {
        let map = map(&["b.test", "a.test", "*.test", "*"]);
        let mut all: Vec<_> = map
            .iter()
            .map(|(pattern, value)| (pattern.to_string(), value))
            .collect();
        all.sort();
        let expected = [("*", 3), ("*.test", 2), ("a.test", 1), ("b.test", 0)];
        assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn memory_is_less_than_100_bytes_a_name() {
        const NAMES: u32 = 100_000;
        let mut builder = SniMapBuilder::new();
        let mut text = 0;
        for value in 0..NAMES {
            let name = format!("host-{value}.example.com");
            text += name.len();
            builder.add(name.as_bytes(), value).unwrap();
        }
        let map = builder.build();
        assert_eq!(map.len(), NAMES as usize);
        let beyond = map.memory() - text;
        assert!(beyond < 100 * NAMES as usize, "{beyond} bytes");
        for value in 0..NAMES {
            let name = format!("host-{value}.example.com");
            assert_eq!(map.get(Some(name.as_bytes())), Some(value));
        }
    }
}
