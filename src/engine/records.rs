//! What is kept for a client on a plan: its header lines as they are set, and a number under which
//! the caller keeps what it needs of its own (the tables of `client()` in Lua).
//!
//! A record belongs to one plan and one client, and to everything in the decision on which its
//! lines depend. Requests of one HTTP/2 connection may go to different routes, and behind a proxy
//! also come from different clients, so a record is never found by the connection alone.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use openssl::ssl::SslRef;

use super::{bounds, Engine, HeaderLine, HeaderLines, LineKind};
use crate::cache::{Cache, SlotId};
use crate::decision::{Decision, Identity, Outcome};
use crate::headers::list_entry;
use crate::policy::lists_generation;
use crate::Error;

/// Most records of clients.
const MAX_CLIENT_RECORDS: usize = 8192;
/// Most records of connections whose client is not trusted. Anybody can make such certificates, so
/// they evict no records of clients.
const MAX_CONNECTION_RECORDS: usize = 512;
/// Most records of tokens.
const MAX_TOKEN_RECORDS: usize = 4096;
/// Estimated bytes of a record, with the caller's table for it, without header lines.
const RECORD_SIZE: usize = 700;
/// Seconds between two reports of the end of a client's certificate.
const EXPIRY_REPORT_INTERVAL: i64 = 3600;

/// Header lines in one piece of memory, in the order in which they are set.
#[derive(Debug, Default)]
pub struct PackedLines {
    /// Of each line the name, the value, and the name in lower case, a NUL byte after each.
    pub bytes: Box<[u8]>,
    /// Where in `bytes` the name, the value and the whole of each line end, in turn: the first two
    /// before their NUL byte, the last after it.
    pub ends: Box<[u32]>,
    /// The [`list_entry::name_hash`] of each line.
    pub hashes: Box<[usize]>,
    /// Whether the lines that are set may be appended to the headers of a request, see
    /// [`list_entry::may_append`].
    pub may_append: bool,
    /// How many lines are set on every request; the others follow them.
    pub always: u32,
    /// How many lines are set on requests with [`Decision::forwarding`].
    pub forwarding: u32,
    /// The gateway's own value of the XFCC header, see [`LineKind::Xfcc`].
    pub xfcc: Option<Box<str>>,
    /// Why each line after those is never set: the value of its [`LineKind`].
    pub left_out: Box<[i32]>,
}

impl PackedLines {
    pub(crate) fn new(mut lines: Vec<HeaderLine>) -> PackedLines {
        let mut packed = PackedLines {
            may_append: true,
            ..PackedLines::default()
        };
        let (mut bytes, mut ends, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        let mut hashes = Vec::new();
        let mut names = HashSet::new();
        // The lines that are never set have the greatest values. The order within a kind stays.
        lines.sort_by_key(|line| line.kind as i32);
        for line in lines {
            match line.kind {
                LineKind::Always => packed.always += 1,
                LineKind::Forwarding => packed.forwarding += 1,
                LineKind::Xfcc => {
                    packed.xfcc = Some(line.value.into_boxed_str());
                    continue;
                }
                kind => left_out.push(kind as i32),
            }
            let lower_case = line.name.to_ascii_lowercase();
            let is_set = matches!(line.kind, LineKind::Always | LineKind::Forwarding);
            packed.may_append &= !is_set || list_entry::may_append(&lower_case, &line.value);
            hashes.push(list_entry::name_hash(lower_case.as_bytes()));
            // A line has at most 16 KB.
            let end = |bytes: &Vec<u8>| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            for text in [line.name.as_bytes(), line.value.as_bytes()] {
                bytes.extend_from_slice(text);
                ends.push(end(&bytes));
                bytes.push(0);
            }
            bytes.extend_from_slice(lower_case.as_bytes());
            bytes.push(0);
            ends.push(end(&bytes));
            packed.may_append &= names.insert(lower_case) || !is_set;
        }
        packed.hashes = hashes.into_boxed_slice();
        packed.bytes = bytes.into_boxed_slice();
        packed.ends = ends.into_boxed_slice();
        packed.left_out = left_out.into_boxed_slice();
        packed
    }

    /// The names of the lines that may have been set.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        let set = (self.always + self.forwarding) as usize;
        let mut from = 0;
        self.ends.chunks_exact(3).take(set).filter_map(move |ends| {
            let name = self.bytes.get(from..*ends.first()? as usize);
            from = *ends.last()? as usize;
            name
        })
    }

    fn weight(&self) -> usize {
        let xfcc = self.xfcc.as_deref().map_or(0, str::len);
        self.bytes.len() + 4 * self.ends.len() + 8 * self.hashes.len() + xfcc
    }
}

/// The record of a request.
#[derive(Debug, Default)]
pub struct FoundRecord {
    /// Its number, below a small bound; none for a request that is not decided yet.
    pub record: Option<SlotId>,
    /// Whether its header lines were made for this request.
    pub lines_are_new: bool,
    /// The notAfter of the client's certificate, once in an hour for each client and plan.
    pub report_expiry: Option<i64>,
}

/// Whose record it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    /// The generation of the client in the client cache.
    Client(u32),
    /// The number of a connection whose client is not trusted.
    Connection(u32),
    /// All requests with this result: their lines depend on nothing else.
    Any,
    /// The generation of the token in the token cache.
    Token(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct RecordKey {
    plan: usize,
    subject: Subject,
    verdict: Option<i32>,
    /// With another chain, the same certificate may map to another consumer.
    identity: Identity,
    server_certificate: u32,
    from_header: bool,
}

#[derive(Default)]
struct Record {
    lines: Option<Rc<PackedLines>>,
    /// When the lines were made. They are not used when the clock was set back since, as lines may
    /// contain a number of days.
    from: i64,
    /// First second at which the lines must be made again.
    until: i64,
    /// First second at which the end of the certificate is reported again.
    next_report: i64,
    /// Set once the caller keeps something for it.
    _kept_by_caller: Option<KeptByCaller>,
}

/// Adds the number of a record to those that were dropped.
struct KeptByCaller {
    index: u32,
    dropped: Rc<RefCell<Vec<u32>>>,
}

impl Drop for KeptByCaller {
    fn drop(&mut self) {
        let mut dropped = self.dropped.borrow_mut();
        if dropped.len() < MAX_CLIENT_RECORDS + MAX_CONNECTION_RECORDS {
            dropped.push(self.index);
        }
    }
}

/// The records of a worker.
pub(super) struct Records {
    clients: Cache<RecordKey, Record>,
    /// The indexes of their slots follow those of `clients`.
    connections: Cache<RecordKey, Record>,
    tokens: Cache<RecordKey, Record>,
    /// The numbers of records that were dropped and for which the caller keeps something.
    dropped: Rc<RefCell<Vec<u32>>>,
}

impl Default for Records {
    fn default() -> Records {
        Records {
            clients: Cache::with_weight(MAX_CLIENT_RECORDS, bounds::CLIENT_RECORDS),
            connections: Cache::with_weight(MAX_CONNECTION_RECORDS, bounds::CONNECTION_RECORDS),
            tokens: Cache::with_weight(MAX_TOKEN_RECORDS, bounds::TOKEN_RECORDS),
            dropped: Rc::default(),
        }
    }
}

/// The slot of an outer slot, and whether it is one in `connections`.
fn inner(slot: SlotId) -> (SlotId, bool) {
    match slot.index.checked_sub(MAX_CLIENT_RECORDS as u32) {
        Some(index) => (SlotId { index, ..slot }, true),
        None => (slot, false),
    }
}

impl Records {
    fn cache(&mut self, is_connection: bool) -> &mut Cache<RecordKey, Record> {
        match is_connection {
            true => &mut self.connections,
            false => &mut self.clients,
        }
    }

    fn get(&mut self, slot: SlotId) -> Option<&mut Record> {
        let (slot, is_connection) = inner(slot);
        self.cache(is_connection).get_mut(slot)
    }

    /// The slot of a record, which is made if there is none.
    fn slot(&mut self, key: RecordKey) -> SlotId {
        let is_connection = matches!(key.subject, Subject::Connection(_));
        let cache = self.cache(is_connection);
        let slot = match cache.find(&key) {
            Some((slot, _)) => slot,
            None => cache.insert_weighted(key, Record::default(), RECORD_SIZE),
        };
        match is_connection {
            true => SlotId {
                index: slot.index + MAX_CLIENT_RECORDS as u32,
                ..slot
            },
            false => slot,
        }
    }

    fn add_weight(&mut self, slot: SlotId, more: usize) {
        let (slot, is_connection) = inner(slot);
        self.cache(is_connection).add_weight(slot, more);
    }

    pub(super) fn clear(&mut self) {
        self.clients.clear();
        self.connections.clear();
        self.tokens.clear();
    }
}

impl Engine {
    /// A number that another policy, a block, a list or a revocation changes, and that never has
    /// the same value again: while it stays, a decision about a request holds.
    pub fn changes(&self) -> u64 {
        let evidence = self.evidence.borrow().changes();
        // None of them ever becomes smaller.
        self.epoch() + evidence + self.blocks_generation() + lists_generation()
    }

    /// The record of a decision of [`Engine::access`]. It gets header lines if the request is allowed
    /// and `with_lines`; they live until the record is dropped, at the earliest in the next call of a
    /// function that makes a record or puts a policy in force.
    pub fn find_record(
        &self,
        ssl: Option<&SslRef>,
        plan_id: usize,
        decision: &Decision,
        with_lines: bool,
        now: i64,
    ) -> Result<FoundRecord, Error> {
        if decision.outcome == Outcome::Pending {
            return Ok(FoundRecord::default());
        }
        let key = RecordKey {
            plan: plan_id,
            subject: match (decision.client, decision.connection) {
                (Some(slot), _) => Subject::Client(slot.generation),
                (None, 0) => Subject::Any,
                (None, number) => Subject::Connection(number),
            },
            verdict: decision.verdict,
            identity: decision.identity,
            server_certificate: decision.server_certificate,
            from_header: decision.from_header,
        };
        let mut records = self.records.borrow_mut();
        let slot = records.slot(key);
        let mut found = FoundRecord {
            record: Some(slot),
            ..FoundRecord::default()
        };
        if decision.outcome != Outcome::Pass || !with_lines {
            return Ok(found);
        }
        let Some(record) = records.get(slot) else {
            return Err(Error::NotFound);
        };
        if let Some(client) = decision.client.filter(|_| decision.verdict == Some(0)) {
            if record.next_report <= now {
                record.next_report = now.saturating_add(EXPIRY_REPORT_INTERVAL);
                let certificate = self.certificate_at(client).ok_or(Error::NotFound)?;
                found.report_expiry = Some(certificate.not_after()?);
            }
        }
        if record.lines.is_some() && record.from <= now && now < record.until {
            return Ok(found);
        }
        let HeaderLines { lines, until } = self.lines(ssl, plan_id, decision, now)?;
        let lines = Rc::new(PackedLines::new(lines));
        let weight = lines.weight();
        record.from = now;
        record.until = match (key.subject, until) {
            // Lines for the certificate of this connection, which has the record for itself.
            (Subject::Connection(_), 0) => i64::MAX,
            _ => until,
        };
        let before = record.lines.replace(lines);
        let before = before.map_or(0, |lines| lines.weight());
        records.add_weight(slot, weight.saturating_sub(before));
        found.lines_are_new = true;
        Ok(found)
    }

    /// The header lines of a record, if it has any and has not been dropped.
    pub fn record_lines(&self, record: SlotId) -> Option<Rc<PackedLines>> {
        self.records.borrow_mut().get(record)?.lines.clone()
    }

    /// Counts `bytes` that the caller keeps under the number of a record, which it must drop when
    /// [`Engine::dropped_record`] returns the number.
    pub fn keep_with_record(&self, record: SlotId, bytes: usize) {
        let mut records = self.records.borrow_mut();
        let dropped = records.dropped.clone();
        if let Some(found) = records.get(record) {
            found._kept_by_caller.get_or_insert(KeptByCaller {
                index: record.index,
                dropped,
            });
            records.add_weight(record, bytes);
        }
    }

    /// The number of a dropped record for which the caller keeps something, each once.
    pub fn dropped_record(&self) -> Option<u32> {
        self.records.borrow().dropped.borrow_mut().pop()
    }

    /// The header lines for the claims of a token that this plan accepted, and whether they were
    /// made by this call. They live as long as those of [`Engine::find_record`].
    ///
    /// # Errors
    /// [`Error::NotFound`] when the token is not in the cache any more.
    pub fn kept_claims(
        &self,
        plan_id: usize,
        token: SlotId,
    ) -> Result<(Rc<PackedLines>, bool), Error> {
        let key = RecordKey {
            plan: plan_id,
            subject: Subject::Token(token.generation),
            verdict: None,
            identity: Identity::None,
            server_certificate: 0,
            from_header: false,
        };
        let mut records = self.records.borrow_mut();
        if let Some((_, record)) = records.tokens.find(&key) {
            if let Some(lines) = &record.lines {
                return Ok((lines.clone(), false));
            }
        }
        let lines = Rc::new(PackedLines::new(self.claim_headers(plan_id, token)?.lines));
        let record = Record {
            lines: Some(lines.clone()),
            ..Record::default()
        };
        let weight = RECORD_SIZE + lines.weight();
        records.tokens.insert_weighted(key, record, weight);
        Ok((lines, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: LineKind, name: &str, value: &str) -> HeaderLine {
        HeaderLine {
            kind,
            name: name.into(),
            value: value.to_owned(),
        }
    }

    fn key(subject: Subject) -> RecordKey {
        RecordKey {
            plan: 1,
            subject,
            verdict: Some(0),
            identity: Identity::Holder,
            server_certificate: 0,
            from_header: false,
        }
    }

    #[test]
    fn packed_lines_are_in_order_and_sorted_by_kind() {
        let packed = PackedLines::new(vec![
            line(LineKind::Forwarding, "F", "1"),
            line(LineKind::Always, "A", "22"),
            line(LineKind::TooLarge, "L", "too long"),
            line(LineKind::Xfcc, "X", "own"),
            line(LineKind::Always, "B", ""),
        ]);
        assert_eq!(
            &*packed.bytes,
            b"A\x0022\0a\0B\0\0b\0F\x001\0f\0L\0too long\0l\0"
        );
        assert_eq!(&*packed.ends, [1, 4, 7, 8, 9, 12, 13, 15, 18, 19, 28, 31]);
        assert_eq!(&*packed.hashes, [97, 98, 102, 108]);
        // nginx takes the empty value of B for none.
        assert!(!packed.may_append);
        assert_eq!((packed.always, packed.forwarding), (2, 1));
        assert!(packed.names().eq([b"A", b"B", b"F"]));
        assert_eq!(packed.xfcc.as_deref(), Some("own"));
        assert_eq!(&*packed.left_out, [LineKind::TooLarge as i32]);
    }

    #[test]
    fn slot_of_untrusted_connections_evicts_no_client() {
        let mut records = Records::default();
        let client = records.slot(key(Subject::Client(7)));
        for number in 1..2000 {
            let slot = records.slot(key(Subject::Connection(number)));
            let index = slot.index as usize;
            assert!((MAX_CLIENT_RECORDS..).contains(&index));
            assert!(index < MAX_CLIENT_RECORDS + MAX_CONNECTION_RECORDS);
            assert!(records.get(slot).is_some());
        }
        assert_eq!(records.slot(key(Subject::Client(7))), client);
        assert_ne!(records.slot(key(Subject::Client(8))), client);
    }

    #[test]
    fn slot_differs_by_everything_that_lines_depend_on() {
        let mut records = Records::default();
        let base = key(Subject::Client(7));
        let keys = [
            base,
            RecordKey { plan: 2, ..base },
            RecordKey {
                verdict: Some(1),
                ..base
            },
            RecordKey {
                identity: Identity::Consumer(1, None),
                ..base
            },
            RecordKey {
                identity: Identity::Consumer(1, Some(1)),
                ..base
            },
            RecordKey {
                server_certificate: 1,
                ..base
            },
            RecordKey {
                from_header: true,
                ..base
            },
            key(Subject::Connection(7)),
            key(Subject::Any),
        ];
        let slots = keys.map(|key| records.slot(key));
        for (i, slot) in slots.iter().enumerate() {
            assert!(!slots[..i].contains(slot), "key {i}");
            assert_eq!(records.slot(keys[i]), *slot);
        }
    }

    #[test]
    fn keep_with_record_bounds_the_bytes_and_returns_what_was_dropped() {
        let engine = Engine::default();
        let slots: Vec<SlotId> = (1..=100)
            .map(|client| {
                let slot = engine
                    .records
                    .borrow_mut()
                    .slot(key(Subject::Client(client)));
                engine.keep_with_record(slot, 1 << 20);
                slot
            })
            .collect();
        let dropped: Vec<u32> = std::iter::from_fn(|| engine.dropped_record()).collect();
        let mut records = engine.records.borrow_mut();
        let held = slots.iter().filter(|slot| records.get(**slot).is_some());
        let held = held.count();
        assert!(held > 0 && held <= bounds::CLIENT_RECORDS >> 20, "{held}");
        assert_eq!(dropped.len() + held, slots.len());
        records.clear();
        drop(records);
        let dropped = std::iter::from_fn(|| engine.dropped_record());
        assert_eq!(dropped.count(), held);
    }
}
