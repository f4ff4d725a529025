//! Certificates that an operator has blocked, in memory that all workers share.
//!
//! A generation number changes with each change of the table. A worker compares it for every
//! request, and reads the table again when it has changed.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{fence, AtomicU64, Ordering};

use openssl::sha::sha256;

use super::lock::Lock;
use super::state_file::{read_file, replace_file};
use crate::openssl_ext::shared_memory::{unnamed_file, SharedWords};
use crate::trust::selector::{Selector, SelectorKind, MAX_SELECTOR};

/// Most blocks.
pub const MAX_BLOCKS: usize = 4096;
/// Longest reason, in bytes.
pub const MAX_REASON: usize = 500;
/// The end of a block that has none.
pub const NO_END: i64 = i64::MAX;

const LOCK: usize = 0;
const GENERATION: usize = 1;
/// Number of slots that have ever been used.
const USED: usize = 2;
const SLOT: usize = 16;
/// Stamp, kind and lengths, end, beginning, key (4), text and reason. The stamp is a number that no
/// other write of a slot has; 0: the slot is free or being written.
const SLOT_WORDS: usize = 256;
const TEXT: usize = 8;
/// One more than blocks, so that a block that takes the place of another is complete before that one
/// is removed.
const SLOTS: usize = MAX_BLOCKS + 1;
const WORDS: usize = SLOT + SLOTS * SLOT_WORDS;
const _: () = assert!(MAX_SELECTOR + MAX_REASON <= (SLOT_WORDS - TEXT) * 8);
const _: () = assert!(MAX_SELECTOR < 1 << 16 && MAX_REASON < 1 << 16);

/// How often a slot is read again that changes meanwhile.
const MAX_READS: usize = 100;

/// Name of the memory file. The number is the version of the layout above.
pub(super) const NAME: &std::ffi::CStr = c"resty-mtls blocks 1";

/// A file of the state directory is this, the SHA-256 of the rest, and the blocks.
const MAGIC: &[u8; 16] = b"resty-mtls blk 1";
/// Longest file of blocks.
const MAX_FILE: usize = MAX_BLOCKS * (SLOT_WORDS * 8 + 64);

/// A block: requests with a certificate that it selects are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it selects.
    pub selector: Selector,
    /// The selector as text.
    pub text: String,
    /// Why, for the log.
    pub reason: String,
    /// When it was made, in seconds since 1970.
    pub added: i64,
    /// First second at which it has no effect; [`NO_END`] without an end.
    pub until: i64,
}

/// All blocks have slots, and all are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlocksFull;

/// The table of blocks.
pub struct Blocks {
    shared: SharedWords,
    /// The memory behind `shared`, kept open for the node of a new binary.
    _file: File,
}

impl Blocks {
    pub(super) fn new() -> io::Result<Blocks> {
        Blocks::of_file(unnamed_file(NAME)?)
    }

    pub(super) fn of_file(file: File) -> io::Result<Blocks> {
        Ok(Blocks {
            shared: SharedWords::map(&file, WORDS)?,
            _file: file,
        })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        static NONE: AtomicU64 = AtomicU64::new(0);
        self.shared.words().get(index).unwrap_or(&NONE)
    }

    fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    /// Changes with each change of the table; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.word(GENERATION).load(Ordering::Acquire)
    }

    /// Number of slots that may hold a block.
    pub fn slots(&self) -> usize {
        usize::try_from(self.get(USED)).map_or(SLOTS, |used| used.min(SLOTS))
    }

    /// Adds a block, in place of one with the same selector.
    ///
    /// # Errors
    /// When as many blocks as there is room for are in force at `now`.
    pub fn add(&self, block: &Block, now: i64) -> Result<(), BlocksFull> {
        let lock = Lock::take(self.word(LOCK));
        let (mut same, mut free, mut others) = (Vec::new(), None, 0);
        for slot in 0..SLOTS.min(self.slots() + 1) {
            match self.read_selector(slot) {
                Some((selector, _)) if selector == block.selector => same.push(slot),
                Some((_, until)) if now < until => others += 1,
                _ => {
                    free.get_or_insert(slot);
                }
            }
        }
        let target = match free {
            Some(free) if others < MAX_BLOCKS => free,
            _ => return Err(BlocksFull),
        };
        self.write(target, block);
        self.set(USED, self.slots().max(target + 1) as u64);
        // A worker that reads the table meanwhile finds the new block, the old one, or that the
        // generation has changed.
        self.changed(&lock);
        for slot in &same {
            self.set_stamp(*slot, 0);
        }
        if !same.is_empty() {
            self.changed(&lock);
        }
        Ok(())
    }

    /// Removes a block. Returns whether there was one in force at `now`.
    pub fn remove(&self, selector: &Selector, now: i64) -> bool {
        let lock = Lock::take(self.word(LOCK));
        let mut in_force = false;
        let mut found = false;
        for slot in 0..self.slots() {
            if let Some((_, until)) = self
                .read_selector(slot)
                .filter(|(of_slot, _)| of_slot == selector)
            {
                found = true;
                in_force |= now < until;
                self.set_stamp(slot, 0);
            }
        }
        if found {
            self.changed(&lock);
        }
        in_force
    }

    fn changed(&self, _: &Lock<'_>) {
        self.word(GENERATION).fetch_add(1, Ordering::AcqRel);
    }

    fn set_stamp(&self, slot: usize, stamp: u64) {
        self.word(SLOT + slot * SLOT_WORDS)
            .store(stamp, Ordering::Release);
    }

    fn write(&self, slot: usize, block: &Block) {
        let at = SLOT + slot * SLOT_WORDS;
        self.set_stamp(slot, 0);
        fence(Ordering::SeqCst);
        let text = cut(&block.text, MAX_SELECTOR);
        let reason = cut(&block.reason, MAX_REASON);
        let lengths = (text.len() as u64) << 8 | (reason.len() as u64) << 32;
        self.set(at + 1, u64::from(block.selector.kind as u8) | lengths);
        self.set(at + 2, block.until as u64);
        self.set(at + 3, block.added as u64);
        self.put_bytes(at + 4, &block.selector.key);
        self.put_bytes(at + TEXT, &[text.as_bytes(), reason.as_bytes()].concat());
        // No other write has this number: each is followed by a new generation, under the lock.
        self.set_stamp(slot, self.generation() + 1);
    }

    fn put_bytes(&self, at: usize, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.set(at + index, u64::from_ne_bytes(word));
        }
    }

    fn get_bytes(&self, at: usize, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8))
            .flat_map(|index| self.get(at + index).to_ne_bytes())
            .collect();
        bytes.truncate(len);
        bytes
    }

    /// What `read` reads of a slot that does not change meanwhile; `None` for a free slot. A slot
    /// that a writer left half written, because it died, is free.
    fn read_stable<T>(&self, slot: usize, read: impl Fn(usize) -> Option<T>) -> Option<T> {
        let at = SLOT + slot * SLOT_WORDS;
        for _ in 0..MAX_READS {
            let stamp = self.word(at).load(Ordering::Acquire);
            if stamp == 0 {
                return None;
            }
            let value = read(at);
            fence(Ordering::Acquire);
            if self.get(at) == stamp {
                return value;
            }
        }
        None
    }

    /// The selector in a slot and the end of its block.
    pub fn read_selector(&self, slot: usize) -> Option<(Selector, i64)> {
        self.read_stable(slot, |at| {
            let kind = self.get(at + 1) & 0xff;
            let kind = SelectorKind::ALL
                .into_iter()
                .find(|known| u64::from(*known as u8) == kind)?;
            let mut key = [0; 32];
            for (to, from) in key.iter_mut().zip(self.get_bytes(at + 4, 32)) {
                *to = from;
            }
            Some((Selector { kind, key }, self.get(at + 2) as i64))
        })
    }

    /// The block in a slot.
    pub fn read(&self, slot: usize) -> Option<Block> {
        let (selector, until) = self.read_selector(slot)?;
        let (text, reason, added) = self.read_stable(slot, |at| {
            let lengths = self.get(at + 1);
            let len = |shift: u32, max: usize| ((lengths >> shift & 0xffff) as usize).min(max);
            let (text, reason) = (len(8, MAX_SELECTOR), len(32, MAX_REASON));
            let mut bytes = self.get_bytes(at + TEXT, text + reason);
            let reason = bytes.split_off(text.min(bytes.len()));
            Some((bytes, reason, self.get(at + 3) as i64))
        })?;
        let block = Block {
            selector,
            text: String::from_utf8(text).ok()?,
            reason: String::from_utf8(reason).ok()?,
            added,
            until,
        };
        // Both were read of the same block.
        (Selector::parse(&block.text) == Ok(selector)).then_some(block)
    }

    /// The blocks in force at `now`.
    pub fn in_force(&self, now: i64) -> Vec<Block> {
        (0..self.slots())
            .filter_map(|slot| self.read(slot))
            .filter(|block| now < block.until)
            .collect()
    }
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The file in the state directory that keeps the blocks over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlocksFile {
    pub(super) directory: PathBuf,
    pub(super) file: PathBuf,
}

impl BlocksFile {
    /// Writes the blocks in force, mode 0600, by renaming a complete file, and again while other
    /// processes change them. The file is not flushed to the disk.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn write(&self, blocks: &Blocks, now: i64) -> io::Result<()> {
        loop {
            let generation = blocks.generation();
            let bytes = encode(&blocks.in_force(now));
            let digest = sha256(&bytes);
            let parts: [&[u8]; 3] = [MAGIC, &digest, &bytes];
            let written = replace_file(&self.directory, &self.file, &parts, false);
            if written.is_err() || blocks.generation() == generation {
                return written;
            }
        }
    }

    /// Flushes the file to the disk.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn sync(&self) -> io::Result<()> {
        let directory = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(&self.directory)?;
        File::open(&self.file)?.sync_all()?;
        directory.sync_all()
    }

    /// Reads the blocks; none if there is no file.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn read(&self) -> io::Result<Vec<Block>> {
        match read_file(&self.file, MAGIC, MAX_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(bytes) => decode(&bytes)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "is not a state file")),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.file
    }
}

/// For each block beginning and end, then selector and reason, each with its length before it.
fn encode(blocks: &[Block]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in blocks {
        bytes.extend_from_slice(&block.added.to_be_bytes());
        bytes.extend_from_slice(&block.until.to_be_bytes());
        for text in [&block.text, &block.reason] {
            bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

fn decode(mut rest: &[u8]) -> Option<Vec<Block>> {
    fn number(rest: &mut &[u8]) -> Option<i64> {
        let (number, behind) = rest.split_first_chunk::<8>()?;
        *rest = behind;
        Some(i64::from_be_bytes(*number))
    }
    fn text(rest: &mut &[u8]) -> Option<String> {
        let (len, behind) = rest.split_first_chunk::<4>()?;
        let (text, behind) = behind.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        *rest = behind;
        String::from_utf8(text.to_vec()).ok()
    }
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let (added, until) = (number(&mut rest)?, number(&mut rest)?);
        let (text, reason) = (text(&mut rest)?, text(&mut rest)?);
        blocks.push(Block {
            selector: Selector::parse(&text).ok()?,
            text,
            reason,
            added,
            until,
        });
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::engine::node::StateFile;

    fn block(number: usize, until: i64) -> Block {
        let text = format!("sha256 {number:064x}");
        Block {
            selector: Selector::parse(&text).unwrap(),
            text,
            reason: format!("reason {number}"),
            added: 1,
            until,
        }
    }

    #[test]
    fn add_and_remove_change_the_generation() {
        let blocks = Blocks::new().unwrap();
        assert_eq!((blocks.generation(), blocks.slots()), (0, 0));
        let (one, two) = (block(1, NO_END), block(2, 50));
        blocks.add(&one, 10).unwrap();
        blocks.add(&two, 10).unwrap();
        assert_eq!(blocks.generation(), 2);
        assert_eq!(blocks.in_force(49), [one.clone(), two.clone()]);
        assert_eq!(blocks.in_force(50), std::slice::from_ref(&one));
        assert!(blocks.remove(&one.selector, 10));
        assert!(!blocks.remove(&one.selector, 10));
        assert_eq!(blocks.generation(), 3);
        // It has ended, so there was none in force.
        assert!(!blocks.remove(&two.selector, 50));
        assert_eq!(blocks.in_force(0), []);
    }

    #[test]
    fn add_of_the_same_selector_replaces_the_block() {
        let blocks = Blocks::new().unwrap();
        blocks.add(&block(1, 50), 10).unwrap();
        let longer = Block {
            reason: "é".repeat(MAX_REASON),
            ..block(1, 90)
        };
        blocks.add(&longer, 10).unwrap();
        let found = blocks.in_force(10);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].until, 90);
        assert_eq!(found[0].reason, "é".repeat(MAX_REASON / 2));
    }

    #[test]
    fn add_to_a_full_table_reuses_the_slot_of_an_ended_block_and_no_other() {
        let blocks = Blocks::new().unwrap();
        // As add() does, which would read all earlier slots for each.
        let added_at_once = MAX_BLOCKS - 10;
        {
            let lock = Lock::take(blocks.word(LOCK));
            for number in 0..added_at_once {
                let until = if number == 7 { 20 } else { NO_END };
                blocks.write(number, &block(number, until));
                blocks.changed(&lock);
            }
            blocks.set(USED, added_at_once as u64);
        }
        for number in added_at_once..MAX_BLOCKS {
            blocks.add(&block(number, NO_END), 10).unwrap();
        }
        let more = block(MAX_BLOCKS, NO_END);
        assert_eq!(blocks.add(&more, 19), Err(BlocksFull));
        // The same selector has room.
        blocks.add(&block(3, 99), 19).unwrap();
        blocks.add(&more, 20).unwrap();
        assert_eq!(
            blocks.add(&block(MAX_BLOCKS + 1, NO_END), 20),
            Err(BlocksFull)
        );
        let found = blocks.in_force(20);
        assert_eq!(found.len(), MAX_BLOCKS);
        assert!(found.contains(&more) && found.contains(&block(3, 99)));
    }

    #[test]
    fn add_with_the_clock_set_back_keeps_blocks_in_force() {
        let blocks = Blocks::new().unwrap();
        blocks.add(&block(1, 1050), 1000).unwrap();
        blocks.add(&block(2, NO_END), -5).unwrap();
        assert_eq!(blocks.in_force(-5).len(), 2);
        assert_eq!(blocks.in_force(i64::MIN).len(), 2);
    }

    #[test]
    fn slot_that_a_writer_left_half_written_is_free() {
        let blocks = Blocks::new().unwrap();
        blocks.add(&block(1, NO_END), 0).unwrap();
        blocks.add(&block(2, NO_END), 0).unwrap();
        blocks.set_stamp(0, 0);
        assert_eq!(blocks.in_force(0), [block(2, NO_END)]);
        blocks.add(&block(3, NO_END), 0).unwrap();
        assert_eq!(blocks.slots(), 2);
    }

    #[test]
    fn readers_see_whole_blocks_while_others_write() {
        let blocks = Blocks::new().unwrap();
        blocks.add(&block(0, NO_END), 0).unwrap();
        std::thread::scope(|scope| {
            for writer in 1..3 {
                let blocks = &blocks;
                scope.spawn(move || {
                    for round in 0..300 {
                        let block = block(writer * 10 + round % 3, NO_END);
                        blocks.add(&block, 0).unwrap();
                        blocks.remove(&block.selector, 0);
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let found = blocks.in_force(0);
                        assert!(found.contains(&block(0, NO_END)));
                        for block in found {
                            let number = block.text.get(60..).unwrap();
                            let number = usize::from_str_radix(number.trim(), 16).unwrap();
                            assert_eq!(block.reason, format!("reason {number}"));
                        }
                    }
                });
            }
        });
        assert_eq!(blocks.in_force(0), [block(0, NO_END)]);
    }

    #[test]
    fn file_reads_what_was_written_and_refuses_damaged_files() {
        let directory =
            std::env::temp_dir().join(format!("resty-mtls-blocks-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        let file = StateFile::new(&directory, b"p").unwrap().blocks();
        assert_eq!(file.read().unwrap(), []);
        let blocks = Blocks::new().unwrap();
        blocks.add(&block(1, 50), 10).unwrap();
        blocks.add(&block(2, NO_END), 10).unwrap();
        file.write(&blocks, 50).unwrap();
        file.sync().unwrap();
        assert_eq!(file.read().unwrap(), [block(2, NO_END)]);
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        let bytes = fs::read(file.path()).unwrap();
        for len in 0..bytes.len() {
            fs::write(file.path(), &bytes[..len]).unwrap();
            assert!(file.read().is_err(), "{len}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
