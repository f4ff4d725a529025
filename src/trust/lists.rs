//! Lists of client certificates (`client-cert-lists`): a file with one selector a line, in memory as
//! sorted arrays.

use std::io::{self, BufRead, Read};

use super::selector::{CertificateSelectors, IssuerCache, Selector, SelectorKind, MAX_SELECTOR};
use crate::certificate::time::parse_rfc3339;
use crate::text::quoted;
use crate::Error;

/// Most entries of a list, of 40 bytes each.
pub const MAX_ENTRIES: usize = 2_000_000;
/// Longest line, in bytes.
const MAX_LINE: usize = MAX_SELECTOR + 100;
/// Longest file, in bytes.
pub const MAX_FILE: u64 = 512 << 20;
/// Seconds before the end of an entry at which a warning is due.
const SOON: i64 = 86_400;
/// The end of an entry that has none.
const NO_END: u32 = u32::MAX;

/// An error in a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The line with this number cannot be read.
    #[error("line {0}: {1}")]
    Line(u32, String),
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    File(String),
    /// There are too many entries or bytes.
    #[error("{0}")]
    TooLarge(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: [u8; 32],
    /// In seconds since 1970, up to 2106.
    until: u32,
    line: u32,
}

/// The entries of one [`SelectorKind`].
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    /// Sorted by key; of equal keys the last one to end is first.
    entries: Vec<Entry>,
    /// Number `n` is the index of the first entry whose key begins with the bits of `n` or higher
    /// ones. A look-up reads one of these and a few neighbouring entries, where a search in all of
    /// them would read memory in twenty places.
    starts: Vec<u32>,
}

/// Entries for each element of [`Table::starts`] on average, if the keys are digests.
const ENTRIES_A_START: usize = 16;

impl Table {
    fn sort(&mut self) {
        let entries = &mut self.entries;
        entries.sort_unstable_by(|one, other| {
            one.key.cmp(&other.key).then(other.until.cmp(&one.until))
        });
        entries.shrink_to_fit();
        let bits = (entries.len() / ENTRIES_A_START).checked_ilog2();
        let Some(bits) = bits.filter(|bits| *bits > 0) else {
            return;
        };
        let mut next = 0;
        self.starts = (0..1_u32 << bits)
            .map(|prefix| {
                let rest = entries.get(next..).unwrap_or_default();
                next += rest
                    .iter()
                    .take_while(|entry| key_prefix(&entry.key, bits) < prefix)
                    .count();
                next as u32
            })
            .collect();
    }

    /// The entries among which the first one with this key is, if there is one.
    fn candidates(&self, key: &[u8; 32]) -> &[Entry] {
        let Some(bits) = self.starts.len().checked_ilog2() else {
            return &self.entries;
        };
        let prefix = key_prefix(key, bits) as usize;
        let start = |number: usize| self.starts.get(number).map(|start| *start as usize);
        let (from, to) = (start(prefix), start(prefix + 1));
        let to = to.unwrap_or(self.entries.len());
        self.entries.get(from.unwrap_or(0)..to).unwrap_or_default()
    }

    fn find(&self, selector: &Selector, now: i64) -> Option<Found> {
        let entries = self.candidates(&selector.key);
        let at = entries.partition_point(|entry| entry.key < selector.key);
        let entry = entries.get(at).filter(|entry| entry.key == selector.key)?;
        (now < end(entry)).then_some(Found {
            line: entry.line,
            until: end(entry),
        })
    }

    fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.starts.capacity() * size_of::<u32>()
    }
}

/// The first bits of a key, of 1 to 31.
fn key_prefix(key: &[u8; 32], bits: u32) -> u32 {
    let first = key
        .first_chunk::<4>()
        .map_or(0, |first| u32::from_be_bytes(*first));
    first >> (32 - bits)
}

/// The entries that end at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    /// In seconds since 1970.
    until: u32,
    count: u32,
    /// Number of the first line.
    line: u32,
}

/// The entry of a list that has a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Number of its line, from 1.
    pub line: u32,
    /// First second at which it has no effect; `i64::MAX` without an end.
    pub until: i64,
}

/// A list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct List {
    tables: [Table; SelectorKind::ALL.len()],
    /// The ends of the entries that have one, sorted.
    ends: Vec<End>,
    bytes: u64,
}

impl List {
    /// Reads a list: `sha256 HEX`, `spki_sha256 HEX` or `serial HEX ISSUER` a line, which
    /// `until=2027-01-01T00:00:00Z` may follow. Empty lines and those that begin with `#` are
    /// skipped. `len` is the expected length in bytes.
    ///
    /// # Errors
    /// For the first line that cannot be read. A last line without a line end cannot: the file may
    /// have been cut there.
    pub fn read(reader: &mut dyn BufRead, len: u64) -> Result<List, ListError> {
        let mut list = List::default();
        let mut issuers = IssuerCache::default();
        let mut line = Vec::with_capacity(256);
        let mut number: u32 = 0;
        let mut entries = 0;
        loop {
            line.clear();
            number = number.saturating_add(1);
            let mut limited = Read::take(&mut *reader, MAX_LINE as u64 + 1);
            let read = limited
                .read_until(b'\n', &mut line)
                .map_err(|error: io::Error| ListError::File(error.to_string()))?;
            if read == 0 {
                break;
            }
            list.bytes += read as u64;
            if list.bytes > MAX_FILE {
                let why = format!("over {} MB, the limit for a list", MAX_FILE >> 20);
                return Err(ListError::TooLarge(why));
            }
            let at_line = |why: String| ListError::Line(number, why);
            let Some(content) = line.strip_suffix(b"\n") else {
                return Err(at_line(match line.len() > MAX_LINE {
                    true => format!("over {MAX_LINE} bytes"),
                    false => "no line end, as if the file were cut".to_owned(),
                }));
            };
            let content = content.trim_ascii();
            if content.is_empty() || content.starts_with(b"#") {
                continue;
            }
            let text = std::str::from_utf8(content)
                .map_err(|_| at_line(format!("'{}' is not UTF-8", quoted(content))))?;
            let (selector, until) = parse_line(text, &mut issuers).map_err(at_line)?;
            entries += 1;
            if entries > MAX_ENTRIES {
                let why = format!("over {MAX_ENTRIES} entries, the limit for a list");
                return Err(ListError::TooLarge(why));
            }
            let Some(table) = list.tables.get_mut(selector.kind as usize - 1) else {
                continue;
            };
            let entries_of_kind = &mut table.entries;
            if entries_of_kind.is_empty() {
                // A line of a digest has over 64 bytes.
                entries_of_kind.reserve_exact((len / 64).min(MAX_ENTRIES as u64) as usize + 1);
            }
            entries_of_kind.push(Entry {
                key: selector.key,
                until,
                line: number,
            });
        }
        for table in &mut list.tables {
            table.sort();
        }
        list.ends = ends(&list.tables);
        Ok(list)
    }

    /// The entry of a certificate that is in force at `now`.
    pub fn find(
        &self,
        selectors: &CertificateSelectors<'_>,
        now: i64,
    ) -> Result<Option<Found>, Error> {
        for (kind, table) in SelectorKind::ALL.into_iter().zip(&self.tables) {
            if table.entries.is_empty() {
                continue;
            }
            let found = selectors.find(kind, |selector| table.find(selector, now))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The entry of a selector that is in force at `now`.
    pub fn find_selector(&self, selector: &Selector, now: i64) -> Option<Found> {
        self.tables
            .get(selector.kind as usize - 1)?
            .find(selector, now)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.tables.iter().map(|table| table.entries.len()).sum()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the file has no bytes at all.
    pub fn is_of_empty_file(&self) -> bool {
        self.bytes == 0
    }

    /// A message about the entries that have ended at `now`, and one about those that end within a
    /// day.
    pub fn warnings(&self, now: i64) -> impl Iterator<Item = String> {
        let ended = ended_message(self.ends_between(i64::MIN, now));
        let soon = now.saturating_add(SOON);
        ended
            .into_iter()
            .chain(ending_message(self.ends_between(now, soon)))
    }

    /// The messages of [`List::warnings`] about the entries that have ended, or are within a day of
    /// their end, at `now` and were not at `since`.
    pub fn warnings_since(&self, since: i64, now: i64) -> impl Iterator<Item = String> {
        let ended = ended_message(self.ends_between(since, now));
        let (from, to) = (since.saturating_add(SOON), now.saturating_add(SOON));
        ended
            .into_iter()
            .chain(ending_message(self.ends_between(from.max(now), to)))
    }

    /// The number of the entries that end after `since` and until `now`, and the first of their
    /// lines.
    fn ends_between(&self, since: i64, now: i64) -> (u64, u32) {
        let after = |time: i64| {
            self.ends
                .partition_point(|end| i64::from(end.until) <= time)
        };
        let ends = self.ends.get(after(since)..after(now)).unwrap_or_default();
        ends.iter().fold((0, u32::MAX), |(count, line), end| {
            (count + u64::from(end.count), line.min(end.line))
        })
    }

    /// Bytes of memory for the entries.
    pub fn memory(&self) -> usize {
        let ends = self.ends.capacity() * size_of::<End>();
        self.tables.iter().map(Table::memory).sum::<usize>() + ends
    }
}

fn ended_message((count, line): (u64, u32)) -> Option<String> {
    let text = format!("{count} entries have ended and have no effect, the first in line {line}");
    (count > 0).then_some(text)
}

fn ending_message((count, line): (u64, u32)) -> Option<String> {
    let text = format!("{count} entries end within a day, the first in line {line}");
    (count > 0).then_some(text)
}

fn ends(tables: &[Table]) -> Vec<End> {
    let entries = tables.iter().flat_map(|table| &table.entries);
    let mut ends: Vec<End> = entries
        .filter(|entry| entry.until != NO_END)
        .map(|entry| End {
            until: entry.until,
            count: 1,
            line: entry.line,
        })
        .collect();
    ends.sort_unstable_by_key(|end| (end.until, end.line));
    ends.dedup_by(|next, end| {
        let is_same = next.until == end.until;
        end.count += u32::from(is_same);
        is_same
    });
    ends.shrink_to_fit();
    ends
}

fn end(entry: &Entry) -> i64 {
    match entry.until {
        NO_END => i64::MAX,
        until => until.into(),
    }
}

fn parse_line(text: &str, issuers: &mut IssuerCache) -> Result<(Selector, u32), String> {
    let (selector, until) = match text.rsplit_once([' ', '\t']) {
        Some((selector, last)) => match last.strip_prefix("until=") {
            Some(until) => (selector, Some(until)),
            None => (text, None),
        },
        None => (text, None),
    };
    let until = match until {
        None => NO_END,
        Some(until) => parse_rfc3339(until)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .filter(|seconds| *seconds != NO_END)
            .ok_or_else(|| {
                format!(
                    "until='{}', expected a time before 2106 such as 2027-01-01T00:00:00Z",
                    quoted(until.as_bytes())
                )
            })?,
    };
    let selector = Selector::parse_with(selector, issuers)?;
    if has_comment(text) {
        // Otherwise the comment would be a part of the issuer's name, and the entry that of no
        // certificate.
        return Err(
            "a comment behind an entry, expected it in a line of its own; a '#' in the name of an \
             issuer is written '\\#'"
                .to_owned(),
        );
    }
    Ok((selector, until))
}

/// Whether there is a `#` behind a blank, outside quotation marks.
fn has_comment(text: &str) -> bool {
    let (mut quoted, mut last) = (false, b'\0');
    text.bytes().any(|byte| {
        quoted ^= byte == b'"' && last != b'\\';
        let before = std::mem::replace(&mut last, byte);
        byte == b'#' && !quoted && matches!(before, b' ' | b'\t')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Certificate;
    use crate::testing;
    use crate::text::hex;

    fn read(text: &str) -> Result<List, ListError> {
        List::read(&mut text.as_bytes(), text.len() as u64)
    }

    fn certificate() -> Certificate {
        let pki = testing::pki();
        Certificate::new(pki.leaf.x509, testing::stack(&[])).unwrap()
    }

    fn digest(number: usize) -> String {
        hex(&openssl::sha::sha256(&number.to_be_bytes()))
    }

    #[test]
    fn find_returns_the_line_of_each_kind_of_entry() {
        let certificate = certificate();
        let others: String = (0..100)
            .map(|n| format!("sha256 {}\n", digest(n)))
            .collect();
        let spki = certificate.spki_sha256s().next().unwrap();
        for entry in [
            format!("sha256 {}", certificate.fingerprint_sha256()),
            format!("spki_sha256 {}", hex(&spki)),
            format!(
                "serial {} {}",
                certificate.serial(),
                certificate.issuer_dn().unwrap()
            ),
        ] {
            let list = read(&format!("# comment\n\n{others}  {entry}\t\r\n{others}")).unwrap();
            assert_eq!(list.len(), 201);
            let selectors = CertificateSelectors::verified(&certificate, None);
            let found = list.find(&selectors, 0).unwrap();
            assert_eq!(
                found,
                Some(Found {
                    line: 103,
                    until: i64::MAX
                }),
                "{entry}"
            );
        }
        let list = read(&others).unwrap();
        let selectors = CertificateSelectors::verified(&certificate, None);
        assert_eq!(list.find(&selectors, 0).unwrap(), None);
    }

    #[test]
    fn find_skips_entries_that_have_ended() {
        let certificate = certificate();
        let digest = certificate.fingerprint_sha256();
        let list = read(&format!(
            "sha256 {digest} until=2001-09-09T01:46:40Z\nsha256 {digest} until=2001-09-09T01:46:41Z\n"
        ))
        .unwrap();
        let selectors = CertificateSelectors::verified(&certificate, None);
        let found = |now| list.find(&selectors, now).unwrap();
        let last = Found {
            line: 2,
            until: 1_000_000_001,
        };
        assert_eq!(found(1_000_000_000), Some(last));
        assert_eq!(found(1_000_000_001), None);
    }

    #[test]
    fn find_selector_finds_every_entry_and_no_other_whatever_the_keys_begin_with() {
        let digests: Vec<String> = (0..1000).map(digest).collect();
        let same = |prefix: &str| -> Vec<String> {
            (0..1000).map(|n| format!("{prefix}{n:060x}")).collect()
        };
        let mixed = [&digests[..500], &same("ffff"), &same("0000")].concat();
        for keys in [digests, same("0000"), same("ffff"), same("80ab"), mixed] {
            let text: String = keys.iter().map(|key| format!("sha256 {key}\n")).collect();
            let list = read(&text).unwrap();
            assert!(!list.tables[0].starts.is_empty());
            for (number, key) in keys.iter().enumerate() {
                let selector = Selector::parse(&format!("sha256 {key}")).unwrap();
                let line = list.find_selector(&selector, 0).map(|found| found.line);
                assert_eq!(line, Some(number as u32 + 1), "{key}");
                let mut other = selector;
                other.key[20] ^= 0x80;
                assert_eq!(list.find_selector(&other, 0), None, "{key}");
            }
        }
    }

    #[test]
    fn read_refuses_a_comment_behind_an_issuer_whose_name_it_would_change() {
        let line = |issuer: &str| read(&format!("serial 0a1b {issuer}\n"));
        for issuer in [
            "CN=CA,O=Example # lost laptop",
            "CN=CA #lost",
            "CN=CA\t# lost",
            "CN=\"CA\" # lost",
            "CN=CA until=2096-10-02T07:06:40Z # lost",
        ] {
            assert_eq!(
                line(issuer).unwrap_err().to_string(),
                "line 1: a comment behind an entry, expected it in a line of its own; a '#' in the \
                 name of an issuer is written '\\#'",
                "{issuer}"
            );
        }
        let serial = |issuer: &str| Selector::parse(&format!("serial 0a1b {issuer}")).unwrap();
        for issuer in ["CN=CA \\#1", "CN=\"CA #1\"", "CN=CA\\ \\#1"] {
            let list = line(issuer).unwrap();
            assert!(
                list.find_selector(&serial("CN=CA #1"), 0).is_some(),
                "{issuer}"
            );
        }
        assert!(line("CN=CA#1").is_ok());
    }

    #[test]
    fn warnings_count_the_entries_that_have_ended_or_end_within_a_day() {
        let line = |number, until| format!("sha256 {} until={until}\n", digest(number));
        let list = read(&format!(
            "{}{}{}sha256 {}\n",
            line(1, "2001-09-10T01:46:40Z"),
            line(2, "2001-09-09T01:46:40Z"),
            line(3, "2001-09-09T01:46:40Z"),
            digest(4),
        ))
        .unwrap();
        assert_eq!(list.ends.len(), 2);
        let end = 1_000_000_000;
        let warnings = |now| list.warnings(now).collect::<Vec<_>>();
        let since = |since, now| list.warnings_since(since, now).collect::<Vec<_>>();
        let ended = |count, line| {
            format!("{count} entries have ended and have no effect, the first in line {line}")
        };
        let ending =
            |count, line| format!("{count} entries end within a day, the first in line {line}");
        assert_eq!(warnings(end - SOON - 1), [""; 0]);
        assert_eq!(warnings(end - SOON), [ending(2, 2)]);
        assert_eq!(warnings(end - 1), [ending(2, 2)]);
        assert_eq!(warnings(end), [ended(2, 2), ending(1, 1)]);
        assert_eq!(warnings(end + SOON), [ended(3, 1)]);
        assert_eq!(since(0, end - SOON - 1), [""; 0]);
        assert_eq!(since(end - SOON - 1, end - SOON), [ending(2, 2)]);
        assert_eq!(since(end - SOON, end - 1), [""; 0]);
        assert_eq!(since(end - 1, end), [ended(2, 2), ending(1, 1)]);
        assert_eq!(since(end, end + SOON), [ended(1, 1)]);
        // What has ended meanwhile is not reported as ending too.
        assert_eq!(since(0, end + SOON), [ended(3, 1)]);
    }

    #[test]
    fn read_names_the_line_that_cannot_be_read() {
        let good = format!("sha256 {}\n", digest(1));
        let kinds = "expected 'sha256 HEX', 'spki_sha256 HEX' or 'serial HEX ISSUER'";
        let until = "expected a time before 2106 such as 2027-01-01T00:00:00Z";
        for (bad, why) in [
            ("md5 00\n".to_owned(), format!("line 2: 'md5', {kinds}")),
            (
                "sha256 00 # lost\n".to_owned(),
                "line 2: '00 # lost' is not a SHA-256 digest, expected 64 hexadecimal digits, with \
                 or without colons"
                    .to_owned(),
            ),
            (
                format!("{} until=tomorrow\n", good.trim()),
                format!("line 2: until='tomorrow', {until}"),
            ),
            (
                format!("{} until=2106-02-08T00:00:00Z\n", good.trim()),
                format!("line 2: until='2106-02-08T00:00:00Z', {until}"),
            ),
            (
                good.trim().to_owned(),
                "line 2: no line end, as if the file were cut".to_owned(),
            ),
            (
                "x".repeat(MAX_LINE + 1),
                format!("line 2: over {MAX_LINE} bytes"),
            ),
        ] {
            let error = read(&format!("{good}{bad}")).unwrap_err();
            assert_eq!(error.to_string(), why);
        }
        let bytes = [good.as_bytes(), b"\xff\n"].concat();
        let error = List::read(&mut &*bytes, 0).unwrap_err();
        assert_eq!(error.to_string(), "line 2: '\u{fffd}' is not UTF-8");
        assert!(read("").unwrap().is_of_empty_file());
        assert!(read("# nobody\n").unwrap().is_empty());
    }

    #[test]
    fn memory_is_40_bytes_an_entry() {
        let text: String = (0..1000)
            .map(|n| format!("sha256 {}\n", digest(n)))
            .collect();
        let list = read(&text).unwrap();
        // And 32 starts of the index.
        assert_eq!((list.len(), list.memory()), (1000, 40_128));
    }
}
