//! What the processes of one nginx share: which policy is in force, and its documents.
//!
//! A worker that nginx starts later is a copy of the master and has the policy that the master
//! read. If another policy has come into force since then, the worker compiles the documents kept
//! here, whatever the files contain by now. The memory is shared with all processes forked later
//! and is freed when the last of them ends; a state directory keeps the documents beyond that.

mod answer_files;
pub mod blocks;
mod lock;
mod state_file;

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use openssl::sha::sha256;

use self::blocks::Blocks;
use self::lock::{is_alive, Lock};
use crate::openssl_ext::shared_memory::{unnamed_file, SharedWords};

pub use self::state_file::StateFile;
pub(in crate::engine) use self::state_file::{check_directory, replace_file};

/// Most bytes of documents that are kept.
const MAX_KEPT: usize = 256 << 20;
/// Versions of the documents: the one in force, one or two that are being written, and that of a
/// master whose workers have not started.
const VERSIONS: usize = 4;
/// Most workers whose state is reported.
pub const MAX_WORKERS: usize = 128;
/// Most compilations that are tracked at the same time, to notice when their worker dies.
const MAX_ATTEMPTS: usize = 64;
/// A document is not compiled again once this many workers died while they compiled it.
const MAX_CRASHES: u64 = 2;
const LOCK: usize = 0;
const NEXT_ORDER: usize = 1;
const EPOCH: usize = 2;
/// Position of the version in force, from 1; 0 when its documents are not kept.
const ACTIVE: usize = 3;
const ORDER: usize = 4;
const SINCE: usize = 5;
const DIGEST: usize = 6;
const CRASHED_KEY: usize = 10;
const CRASHES: usize = 11;
/// 1 while order, digest and epoch are written.
const CHANGING: usize = 12;
const VERSION: usize = 16;
/// Order, length, digest.
const VERSION_WORDS: usize = 6;
const ATTEMPT: usize = VERSION + VERSIONS * VERSION_WORDS;
/// Process, key of what it compiles.
const ATTEMPT_WORDS: usize = 2;
const WORKER: usize = ATTEMPT + MAX_ATTEMPTS * ATTEMPT_WORDS;
/// Process, epoch, since, whether the last reload failed.
const WORKER_WORDS: usize = 4;
const WORDS: usize = WORKER + MAX_WORKERS * WORKER_WORDS;

/// The bytes that a policy was compiled from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// The label of a policy that is not from a file, used in messages.
    pub label: Option<String>,
    /// The document first, then the files that it names.
    pub files: Vec<(PathBuf, Vec<u8>)>,
}

impl Documents {
    fn encode(&self) -> Vec<u8> {
        use std::os::unix::ffi::OsStrExt;
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        };
        put(self.label.as_deref().unwrap_or_default().as_bytes());
        for (path, content) in &self.files {
            put(path.as_os_str().as_bytes());
            put(content);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Documents> {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        fn part<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
            let (len, behind) = rest.split_first_chunk::<8>()?;
            let len = usize::try_from(u64::from_be_bytes(*len)).ok()?;
            let (part, behind) = behind.split_at_checked(len)?;
            *rest = behind;
            Some(part)
        }
        let mut rest = bytes;
        let label = std::str::from_utf8(part(&mut rest)?).ok()?;
        let mut documents = Documents {
            label: Some(label.to_owned()).filter(|label| !label.is_empty()),
            files: Vec::new(),
        };
        while !rest.is_empty() {
            let path = PathBuf::from(OsStr::from_bytes(part(&mut rest)?));
            documents.files.push((path, part(&mut rest)?.to_vec()));
        }
        Some(documents)
    }
}

/// The policy that a worker serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// Process id.
    pub process: u32,
    /// The epoch of the policy that it serves.
    pub epoch: u64,
    /// When the worker put it in force, in seconds since 1970.
    pub since: u64,
    /// Whether its last reload failed.
    pub failed: bool,
}

/// The result of putting a policy in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is in force, with this epoch.
    InForce(u64),
    /// A policy that was read later is in force already.
    Superseded,
}

/// The shared state of the processes of one nginx.
pub struct Node {
    shared: SharedWords,
    /// The memory behind `shared`, kept open for [`Node::of_parent`] of a new binary.
    _words: File,
    versions: Vec<File>,
    blocks: Blocks,
}

/// Names of the memory files. The number is the version of the layout above: raise it with any
/// change.
const WORDS_NAME: &CStr = c"resty-mtls node 1";
const VERSION_NAMES: [&CStr; VERSIONS] = [
    c"resty-mtls policy 0",
    c"resty-mtls policy 1",
    c"resty-mtls policy 2",
    c"resty-mtls policy 3",
];

impl Node {
    /// Creates the shared memory, before workers are forked.
    ///
    /// # Errors
    /// Without memory or descriptors.
    pub fn new() -> io::Result<Node> {
        let words = unnamed_file(WORDS_NAME)?;
        let versions = VERSION_NAMES.iter().map(|name| unnamed_file(name));
        Ok(Node {
            shared: SharedWords::map(&words, WORDS)?,
            _words: words,
            versions: versions.collect::<io::Result<_>>()?,
            blocks: Blocks::new()?,
        })
    }

    /// The node of the parent process. During a binary upgrade (USR2) that is the old nginx, whose
    /// workers may serve together with those of the new one, and take over again. `None` when the
    /// parent has no node, one of another layout, or when this process may not open it.
    pub fn of_parent() -> Option<Node> {
        Node::of_process(std::os::unix::process::parent_id())
    }

    fn of_process(process: u32) -> Option<Node> {
        let mut found = HashMap::new();
        for entry in fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten() {
            if let Ok(target) = fs::read_link(entry.path()) {
                found.insert(target, entry.path());
            }
        }
        let open = |name: &CStr| {
            let target = format!("/memfd:{} (deleted)", name.to_str().ok()?);
            let path = found.get(Path::new(&target))?;
            OpenOptions::new().read(true).write(true).open(path).ok()
        };
        let words = open(WORDS_NAME)?;
        if words.metadata().ok()?.len() != (WORDS * size_of::<u64>()) as u64 {
            return None;
        }
        // A release without blocks has no memory for them.
        let blocks = match open(blocks::NAME) {
            Some(file) => Blocks::of_file(file),
            None => Blocks::new(),
        };
        Some(Node {
            blocks: blocks.ok()?,
            shared: SharedWords::map(&words, WORDS).ok()?,
            _words: words,
            versions: VERSION_NAMES
                .iter()
                .map(|name| open(name))
                .collect::<Option<_>>()?,
        })
    }

    /// The blocked certificates.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        static NONE: AtomicU64 = AtomicU64::new(0);
        self.shared.words().get(index).unwrap_or(&NONE)
    }

    fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Release);
    }

    fn get_digest(&self, index: usize) -> [u8; 32] {
        let mut digest = [0; 32];
        for (word, bytes) in digest.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&self.get(index + word).to_be_bytes());
        }
        digest
    }

    fn set_digest(&self, index: usize, digest: &[u8; 32]) {
        for (word, bytes) in digest.chunks_exact(8).enumerate() {
            self.set(index + word, first_word(bytes));
        }
    }

    /// The next number in the order of reading: higher than all before.
    pub fn next_order(&self) -> u64 {
        self.word(NEXT_ORDER).fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The epoch of the policy in force; 0 before the first. It increases with each policy that is
    /// put in force.
    pub fn epoch(&self) -> u64 {
        self.get(EPOCH)
    }

    /// Epoch, order and digest of the policy in force; `None` while another one is being put in
    /// force.
    pub fn in_force(&self) -> Option<(u64, u64, [u8; 32])> {
        let epoch = self.epoch();
        let found = (epoch, self.get(ORDER), self.get_digest(DIGEST));
        (epoch != 0 && self.epoch() == epoch && self.get(CHANGING) == 0).then_some(found)
    }

    /// When that was put in force, in seconds since 1970.
    pub fn since(&self) -> u64 {
        self.get(SINCE)
    }

    /// Keeps documents that may be put in force later. Returns `false` when they are too large or
    /// memory is short.
    pub fn keep(&self, order: u64, documents: &Documents) -> bool {
        self.keep_encoded(order, &documents.encode())
    }

    fn keep_encoded(&self, order: u64, bytes: &[u8]) -> bool {
        let lock = self.lock();
        self.write_version(order, bytes, &lock)
    }

    fn write_version(&self, order: u64, bytes: &[u8], _: &Lock<'_>) -> bool {
        let digest = sha256(bytes);
        let active = self.get(ACTIVE);
        let free = (0..self.versions.len()).filter(|version| *version as u64 + 1 != active);
        let oldest = free.min_by_key(|version| self.get(VERSION + version * VERSION_WORDS));
        let Some(version) = oldest else {
            return false;
        };
        let Some(file) = self.versions.get(version) else {
            return false;
        };
        let at = VERSION + version * VERSION_WORDS;
        self.set(at, 0);
        let written = bytes.len() <= MAX_KEPT
            && file.set_len(0).is_ok()
            && file.write_all_at(bytes, 0).is_ok();
        if !written {
            let _ = file.set_len(0);
            return false;
        }
        self.set(at + 1, bytes.len() as u64);
        self.set_digest(at + 2, &digest);
        self.set(at, order);
        true
    }

    /// Puts the policy that was read at `order` in force, with the documents that were kept for
    /// that order, unless it was read before the one in force. The same documents keep their epoch
    /// unless `renew` is set.
    pub fn publish(&self, order: u64, digest: &[u8; 32], renew: bool, now: u64) -> Published {
        let lock = self.lock();
        self.publish_locked(order, digest, renew, now, &lock)
    }

    /// [`Node::keep`] and [`Node::publish`] under one lock: of many workers that compile at the
    /// same time, none overwrites documents that another one is about to put in force. Also returns
    /// whether the documents in force are kept.
    pub fn put_in_force(
        &self,
        order: u64,
        documents: &Documents,
        renew: bool,
        now: u64,
    ) -> (Published, bool) {
        let bytes = documents.encode();
        let digest = sha256(&bytes);
        let lock = self.lock();
        let same = self.get(CHANGING) == 0 && self.get_digest(DIGEST) == digest;
        let kept = same && self.get(ACTIVE) != 0;
        if !kept && order >= self.get(ORDER) {
            self.write_version(order, &bytes, &lock);
        }
        let published = self.publish_locked(order, &digest, renew, now, &lock);
        (published, self.get(ACTIVE) != 0)
    }

    fn publish_locked(
        &self,
        order: u64,
        digest: &[u8; 32],
        renew: bool,
        now: u64,
        _: &Lock<'_>,
    ) -> Published {
        let in_force = self.get(ORDER);
        let epoch = self.epoch();
        // A process that died here left the words partly written: then all of them are written
        // again.
        let whole = self.get(CHANGING) == 0;
        let same = whole && epoch != 0 && self.get_digest(DIGEST) == *digest;
        let kept = (0..self.versions.len())
            .find(|version| self.get(VERSION + version * VERSION_WORDS) == order);
        let active = kept.map_or(0, |version| version as u64 + 1);
        if whole && order == in_force || same && !renew {
            self.set(ORDER, order.max(in_force));
            // The worker that put the documents in force could not keep them.
            if same && self.get(ACTIVE) == 0 {
                self.set(ACTIVE, active);
            }
            return Published::InForce(epoch);
        }
        if order < in_force {
            return Published::Superseded;
        }
        // A version with the same content is as good.
        if !(same && active == 0) {
            self.set(ACTIVE, active);
        }
        self.set(CHANGING, 1);
        self.set_digest(DIGEST, digest);
        self.set(ORDER, order);
        self.set(SINCE, now);
        self.set(EPOCH, epoch + 1);
        self.set(CHANGING, 0);
        Published::InForce(epoch + 1)
    }

    /// The documents in force with their epoch and order; `None` when they are not kept.
    pub fn documents(&self) -> Option<(Documents, u64, u64)> {
        // A writer overwrites the oldest version that is not in force, so the first attempt nearly
        // always succeeds.
        for _ in 0..3 {
            let (epoch, order, active) = (self.epoch(), self.get(ORDER), self.get(ACTIVE));
            let version = usize::try_from(active.checked_sub(1)?).ok()?;
            let file = self.versions.get(version)?;
            let at = VERSION + version * VERSION_WORDS;
            let len = usize::try_from(self.get(at + 1)).ok()?;
            let digest = self.get_digest(at + 2);
            let mut bytes = vec![0; len.min(MAX_KEPT)];
            if file.read_exact_at(&mut bytes, 0).is_ok() && sha256(&bytes) == digest {
                return Some((Documents::decode(&bytes)?, epoch, order));
            }
        }
        None
    }

    /// Marks that this process compiles the document with this key, until the guard is dropped.
    ///
    /// # Errors
    /// How many workers died while they compiled the same document.
    pub fn attempt(&self, key: u64) -> Result<Attempt<'_>, u64> {
        let words = |index: usize| ATTEMPT + index * ATTEMPT_WORDS;
        for index in (0..MAX_ATTEMPTS).map(words) {
            let process = self.get(index);
            let dead = process != 0 && !is_alive(process);
            if dead
                && self
                    .word(index)
                    .compare_exchange(process, 0, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                let crashed_key = self.get(index + 1);
                if self.word(CRASHED_KEY).swap(crashed_key, Ordering::AcqRel) != crashed_key {
                    self.set(CRASHES, 0);
                }
                self.word(CRASHES).fetch_add(1, Ordering::AcqRel);
            }
        }
        let crashes = self.get(CRASHES);
        if self.get(CRASHED_KEY) == key && crashes >= MAX_CRASHES {
            return Err(crashes);
        }
        let this = u64::from(process::id());
        let claimed = (0..MAX_ATTEMPTS).map(words).find(|index| {
            self.word(*index)
                .compare_exchange(0, this, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        if let Some(index) = claimed {
            self.set(index + 1, key);
        }
        Ok(Attempt {
            node: self,
            index: claimed,
        })
    }

    /// Reports which policy a worker serves. `worker` is its number in nginx.
    pub fn report(&self, worker: usize, state: WorkerState) {
        if worker < MAX_WORKERS {
            let at = WORKER + worker * WORKER_WORDS;
            self.set(at, state.process.into());
            self.set(at + 1, state.epoch);
            self.set(at + 2, state.since);
            self.set(at + 3, state.failed.into());
        }
    }

    /// The report of the worker with this number, if it has reported and is alive.
    pub fn worker(&self, worker: usize) -> Option<WorkerState> {
        let at = WORKER + worker * WORKER_WORDS;
        let process = self.get(at);
        if worker >= MAX_WORKERS || process == 0 || !is_alive(process) {
            return None;
        }
        Some(WorkerState {
            process: process.try_into().ok()?,
            epoch: self.get(at + 1),
            since: self.get(at + 2),
            failed: self.get(at + 3) != 0,
        })
    }

    /// Excludes other writers.
    fn lock(&self) -> Lock<'_> {
        Lock::take(self.word(LOCK))
    }
}

/// Marks a compilation in progress. If the process dies meanwhile, the next one finds the mark.
pub struct Attempt<'n> {
    node: &'n Node,
    index: Option<usize>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            self.node.set(index, 0);
        }
    }
}

fn first_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_be_bytes(word)
}

/// A short digest of bytes.
pub fn short_digest(bytes: &[u8]) -> u64 {
    first_word(&sha256(bytes))
}

/// SHA-256 of documents, which identifies them.
pub fn documents_digest(documents: &Documents) -> [u8; 32] {
    sha256(&documents.encode())
}

#[cfg(test)]
mod tests;
