//! Blocked certificates in one worker: an index of the table that the workers share, made again when
//! that has changed.

use std::collections::HashMap;

use super::node::blocks::{Block, Blocks, MAX_REASON};
use super::Engine;
use crate::background;
use crate::certificate::Certificate;
use crate::metrics::{self, Event};
use crate::text::hex;
use crate::trust::selector::{CertificateSelectors, Selector, SelectorKind};
use crate::Error;

/// How often the table is read again that changes meanwhile.
const MAX_READS: usize = 10;

/// The blocks as of a generation of the table.
#[derive(Default)]
pub(super) struct BlockIndex {
    generation: u64,
    /// Slot and end of each block.
    blocks: HashMap<Selector, (usize, i64)>,
    /// Whether there are blocks of each kind.
    kinds: [bool; SelectorKind::ALL.len()],
}

impl BlockIndex {
    fn refresh(&mut self, table: &Blocks) {
        for attempt in 0..MAX_READS {
            let generation = table.generation();
            if generation == self.generation {
                return;
            }
            // If the table keeps changing, a block that was found stays, and the next request reads
            // the table again.
            if attempt + 1 < MAX_READS {
                self.blocks.clear();
            }
            for slot in 0..table.slots() {
                if let Some((selector, until)) = table.read_selector(slot) {
                    let found = self.blocks.entry(selector).or_insert((slot, until));
                    if found.1 < until {
                        *found = (slot, until);
                    }
                }
            }
            self.kinds = SelectorKind::ALL
                .map(|kind| self.blocks.keys().any(|selector| selector.kind == kind));
            if table.generation() == generation {
                self.generation = generation;
            }
        }
    }

    /// The slot of a block of a certificate that is in force at `now`.
    fn find(
        &self,
        selectors: &CertificateSelectors<'_>,
        now: i64,
    ) -> Result<Option<(Selector, usize)>, Error> {
        for (kind, present) in SelectorKind::ALL.into_iter().zip(self.kinds) {
            if !present {
                continue;
            }
            let found = selectors.find(kind, |selector| {
                let (slot, until) = self.blocks.get(selector)?;
                (now < *until).then_some((*selector, *slot))
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

fn misuse(why: impl Into<String>) -> Error {
    Error::Misuse(why.into())
}

impl Engine {
    /// Changes with each change of the blocks: a decision that was made at another generation is
    /// not used.
    pub(super) fn blocks_generation(&self) -> u64 {
        let node = self.node.borrow();
        node.as_ref().map_or(0, |node| node.blocks().generation())
    }

    /// Whether this engine has a table of blocks.
    pub(super) fn has_blocks_table(&self) -> bool {
        self.node.borrow().is_some()
    }

    /// Why a certificate is blocked, for the log; `None` if it is not.
    pub(super) fn find_block(
        &self,
        selectors: &CertificateSelectors<'_>,
        now: i64,
    ) -> Result<Option<String>, Error> {
        let node = self.node.borrow();
        let Some(table) = node.as_ref().map(|node| node.blocks()) else {
            return Ok(None);
        };
        let mut index = self.blocks.borrow_mut();
        index.refresh(table);
        let Some((selector, slot)) = index.find(selectors, now)? else {
            return Ok(None);
        };
        metrics::count(Event::DeniedByBlock);
        let block = table.read(slot).filter(|block| block.selector == selector);
        Ok(Some(match block {
            Some(block) if block.reason.is_empty() => format!("blocked by {}", block.text),
            Some(block) => format!("blocked by {} ({})", block.text, block.reason),
            None => format!("blocked by {}", selector.kind.name()),
        }))
    }

    /// [`Engine::find_block`] of a certificate that is not verified.
    pub(super) fn find_block_of_unverified(
        &self,
        certificate: &Certificate,
        now: i64,
    ) -> Result<Option<String>, Error> {
        self.find_block(&CertificateSelectors::unverified(certificate), now)
    }

    /// Blocks certificates on all workers of this nginx, from the next request on. `selector` is
    /// `sha256 HEX`, `spki_sha256 HEX` or `serial HEX ISSUER`, `until` the first second without
    /// effect, [`super::NO_END`] for none.
    ///
    /// # Errors
    /// When the selector or the reason is not valid, the block has ended, or there is no room.
    pub fn block(
        &self,
        selector: &str,
        reason: &str,
        added: i64,
        until: i64,
        now: i64,
    ) -> Result<(), Error> {
        let text = selector.trim_ascii();
        let selector = Selector::parse(text).map_err(misuse)?;
        if reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
            return Err(misuse(format!(
                "reason: expected one line of at most {MAX_REASON} bytes"
            )));
        }
        if until <= now {
            return Err(misuse("the end of the block has passed"));
        }
        let text = match selector.kind {
            SelectorKind::Serial => text.to_owned(),
            kind => format!("{} {}", kind.name(), hex(&selector.key)),
        };
        let block = Block {
            selector,
            text,
            reason: reason.to_owned(),
            added,
            until,
        };
        self.with_blocks(|table| {
            table.add(&block, now).map_err(|_| {
                misuse(format!(
                    "no room: {} blocks are in force, unblock some",
                    super::node::blocks::MAX_BLOCKS
                ))
            })
        })
    }

    /// Removes a block.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none in force at `now`; and when the selector is not valid.
    pub fn unblock(&self, selector: &str, now: i64) -> Result<(), Error> {
        let selector = Selector::parse(selector).map_err(misuse)?;
        self.with_blocks(|table| match table.remove(&selector, now) {
            true => Ok(()),
            false => Err(Error::NotFound),
        })
    }

    /// The first block in force at `now` in this slot or behind it, and its slot.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub fn next_block(&self, slot: usize, now: i64) -> Result<(usize, Block), Error> {
        self.with_blocks(|table| {
            (slot..table.slots())
                .find_map(|slot| {
                    Some((slot, table.read(slot)?)).filter(|(_, block)| now < block.until)
                })
                .ok_or(Error::NotFound)
        })
    }

    /// Writes the blocks to the state directory, if there is one. They then outlive a restart; they
    /// outlive a loss of power once the background thread has flushed them to the disk.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn save_blocks(&self, now: i64) -> Result<(), Error> {
        let Some(file) = self.state_file.borrow().as_ref().map(|file| file.blocks()) else {
            return Ok(());
        };
        self.with_blocks(|table| {
            file.write(table, now)
                .map_err(|error| misuse(format!("'{}': {error}", file.path().display())))
        })?;
        // Before the workers are forked there must be no thread: then this flushes here.
        if !self.is_watched() || background::start().is_ok() {
            background::run(move || drop(file.sync()));
        }
        Ok(())
    }

    /// Reads the blocks from the state directory, unless this node has had blocks already.
    pub(super) fn restore_blocks(&self, now: i64) -> Result<(), Error> {
        let Some(file) = self.state_file.borrow().as_ref().map(|file| file.blocks()) else {
            return Ok(());
        };
        if self.node.borrow().is_none() || self.blocks_generation() != 0 {
            return Ok(());
        }
        let blocks = file.read().map_err(|error| {
            misuse(format!(
                "'{}' with the blocked certificates: {error}; remove it to start without",
                file.path().display()
            ))
        })?;
        self.with_blocks(|table| {
            for block in blocks.iter().filter(|block| now < block.until) {
                table.add(block, now).map_err(|_| Error::Panic)?;
            }
            Ok(())
        })
    }

    fn with_blocks<T>(&self, run: impl FnOnce(&Blocks) -> Result<T, Error>) -> Result<T, Error> {
        let node = self.node.borrow();
        let node = node
            .as_ref()
            .ok_or_else(|| misuse("no memory that workers share: see the error at the start"))?;
        run(node.blocks())
    }
}
