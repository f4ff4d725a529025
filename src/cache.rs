//! A small bounded cache.

use std::cell::Cell;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

thread_local! {
    /// Shared by all caches of the thread: a slot id of one cache is never valid in another, nor in
    /// a cache that replaced it.
    static GENERATION: Cell<u32> = const { Cell::new(0) };
}

/// Identifies an entry of a [`Cache`]: the index of its slot, and the generation of the entry,
/// which distinguishes it from earlier entries in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId {
    /// Below the cache's capacity.
    pub index: u32,
    /// Never 0 and never used twice.
    pub generation: u32,
}

struct Entry<K, V> {
    key: K,
    value: V,
    weight: usize,
    generation: u32,
    used: bool,
}

/// A map that is bounded in number and in weight, with second-chance replacement. Keys are hashed
/// with a random seed.
pub struct Cache<K, V> {
    index: HashMap<K, u32, RandomState>,
    entries: Vec<Option<Entry<K, V>>>,
    free: Vec<u32>,
    capacity: usize,
    max_weight: usize,
    weight: usize,
    hand: usize,
}

impl<K: Copy + Eq + Hash, V> Cache<K, V> {
    /// An empty cache of at most `capacity` (at least 1) entries.
    pub fn new(capacity: usize) -> Cache<K, V> {
        Cache::with_weight(capacity, usize::MAX)
    }

    /// An empty cache of at most `capacity` (at least 1) entries that weigh at most `max_weight`
    /// together; one entry alone may weigh more.
    pub fn with_weight(capacity: usize, max_weight: usize) -> Cache<K, V> {
        Cache {
            index: HashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            capacity: capacity.max(1),
            max_weight,
            weight: 0,
            hand: 0,
        }
    }

    /// Looks `key` up and marks it as used.
    pub fn find(&mut self, key: &K) -> Option<(SlotId, &V)> {
        let index = *self.index.get(key)?;
        let entry = self.entries.get_mut(index as usize)?.as_mut()?;
        entry.used = true;
        let slot = SlotId {
            index,
            generation: entry.generation,
        };
        Some((slot, &entry.value))
    }

    /// The value of this entry, marked as used, unless it has been replaced.
    pub fn get(&mut self, slot: SlotId) -> Option<&V> {
        let entry = self.entries.get_mut(slot.index as usize)?.as_mut()?;
        if entry.generation != slot.generation {
            return None;
        }
        entry.used = true;
        Some(&entry.value)
    }

    /// [`Cache::get`] for changes; does not mark the entry as used.
    pub fn get_mut(&mut self, slot: SlotId) -> Option<&mut V> {
        let entry = self.entries.get_mut(slot.index as usize)?.as_mut()?;
        (entry.generation == slot.generation).then_some(&mut entry.value)
    }

    /// The key of this entry.
    pub fn key(&self, slot: SlotId) -> Option<&K> {
        let entry = self.entries.get(slot.index as usize)?.as_ref()?;
        (entry.generation == slot.generation).then_some(&entry.key)
    }

    /// Stores `value` under `key`. It replaces an older value of that key, or entries that were not
    /// used lately when the cache is full.
    pub fn insert(&mut self, key: K, value: V) -> SlotId {
        self.insert_weighted(key, value, 0)
    }

    /// [`Cache::insert`] for a value of this weight.
    pub fn insert_weighted(&mut self, key: K, value: V, weight: usize) -> SlotId {
        if let Some(index) = self.index.get(&key) {
            self.remove(*index);
        }
        while self.index.len() >= self.capacity
            || (self.weight.saturating_add(weight) > self.max_weight && !self.index.is_empty())
        {
            self.evict(None);
        }
        let generation = next_generation();
        let entry = Some(Entry {
            key,
            value,
            weight,
            generation,
            used: true,
        });
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(slot) = self.entries.get_mut(index as usize) {
                    *slot = entry;
                }
                index
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.index.insert(key, index);
        self.weight = self.weight.saturating_add(weight);
        SlotId { index, generation }
    }

    /// Adds to the weight of an entry, and evicts others, never this one, where the cache becomes too
    /// heavy.
    pub fn add_weight(&mut self, slot: SlotId, more: usize) {
        let found = self.entries.get_mut(slot.index as usize);
        let Some(entry) = found.and_then(Option::as_mut) else {
            return;
        };
        if entry.generation != slot.generation {
            return;
        }
        entry.weight = entry.weight.saturating_add(more);
        entry.used = true;
        self.weight = self.weight.saturating_add(more);
        while self.weight > self.max_weight && self.index.len() > 1 {
            self.evict(Some(slot.index));
        }
    }

    fn remove(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize).and_then(Option::take) {
            self.index.remove(&entry.key);
            self.weight = self.weight.saturating_sub(entry.weight);
            self.free.push(index);
        }
    }

    fn evict(&mut self, kept: Option<u32>) {
        // The first round removes the marks, so the second finds an entry.
        for _ in 0..2 * self.entries.len() {
            self.hand = (self.hand + 1) % self.entries.len();
            if kept == Some(self.hand as u32) {
                continue;
            }
            match self.entries.get_mut(self.hand).and_then(Option::as_mut) {
                Some(entry) if entry.used => entry.used = false,
                Some(_) => return self.remove(self.hand as u32),
                None => (),
            }
        }
    }

    /// Makes all slot ids invalid that were returned before, and keeps the entries.
    pub fn invalidate_slots(&mut self) {
        for entry in self.entries.iter_mut().flatten() {
            entry.generation = next_generation();
        }
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        for index in 0..self.entries.len() {
            self.remove(index as u32);
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

fn next_generation() -> u32 {
    // 0 means "no entry" across the C ABI.
    let generation = GENERATION.get().checked_add(1).unwrap_or(1);
    GENERATION.set(generation);
    generation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insert_over_capacity_replaces_an_unused_entry() {
        let mut cache = Cache::new(2);
        let first = cache.insert(1, "a");
        let second = cache.insert(2, "b");
        cache.insert(3, "c");
        assert_eq!(cache.len(), 2);
        let slots = [first, second].into_iter();
        assert_eq!(slots.filter(|slot| cache.get(*slot).is_some()).count(), 1);
        assert_eq!(cache.find(&3).unwrap().1, &"c");
    }

    #[test]
    fn insert_over_weight_makes_room() {
        let mut cache = Cache::with_weight(100, 10);
        for key in 0..50 {
            cache.insert_weighted(key, key, 4);
            assert!(cache.len() <= 2);
        }
        cache.insert_weighted(50, 50, 11);
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.find(&50).unwrap().1, &50);
        cache.insert_weighted(51, 51, 1);
        assert_eq!((cache.len(), cache.weight), (1, 1));
    }

    #[test]
    fn insert_keeps_indexes_below_the_capacity() {
        let mut cache = Cache::with_weight(3, 10);
        for key in 0..100 {
            assert!(cache.insert_weighted(key, (), key % 7).index < 3);
        }
    }

    #[test]
    fn add_weight_evicts_others_and_keeps_within_the_weight() {
        let mut cache = Cache::with_weight(8, 10);
        let slots: Vec<SlotId> = (0..5)
            .map(|key| cache.insert_weighted(key, key, 2))
            .collect();
        cache.add_weight(slots[3], 5);
        assert_eq!(cache.get(slots[3]), Some(&3));
        assert_eq!((cache.len(), cache.weight), (2, 9));
        // One entry alone may weigh more, and one that was replaced weighs nothing.
        cache.add_weight(slots[3], 50);
        assert_eq!((cache.len(), cache.weight), (1, 57));
        cache.insert_weighted(9, 9, 1);
        cache.add_weight(slots[3], 50);
        assert_eq!((cache.len(), cache.weight), (1, 1));
    }

    #[test]
    fn add_weight_keeps_the_entry_wherever_the_hand_is() {
        let mut cache = Cache::with_weight(100, 10);
        let mut random = 1_u64;
        for key in 0..1000_u32 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let slot = cache.insert_weighted(key, key, 1);
            cache.add_weight(slot, (random >> 40) as usize % 5);
            assert_eq!(cache.get(slot), Some(&key));
        }
    }

    #[test]
    fn get_replaced_entry_is_none() {
        let mut cache = Cache::new(1);
        let slot = cache.insert(1, "a");
        assert_eq!(cache.get(slot), Some(&"a"));
        cache.insert(1, "b");
        assert_eq!(cache.get(slot), None);
    }

    #[test]
    fn get_slot_of_another_cache_is_none() {
        let slot = Cache::new(1).insert(1, "a");
        let mut other = Cache::new(1);
        other.insert(1, "b");
        assert_eq!(other.get(slot), None);
    }

    #[test]
    fn invalidate_slots_keeps_content() {
        let mut cache = Cache::new(4);
        let slot = cache.insert(1, "a");
        cache.invalidate_slots();
        assert_eq!(cache.get(slot), None);
        let (slot, _) = cache.find(&1).unwrap();
        assert_eq!(cache.get(slot), Some(&"a"));
    }

    #[test]
    fn clear_leaves_an_empty_cache_that_works() {
        let mut cache = Cache::with_weight(2, 10);
        let slot = cache.insert_weighted(1, "a", 5);
        cache.insert_weighted(2, "b", 5);
        cache.clear();
        assert_eq!((cache.len(), cache.weight), (0, 0));
        assert_eq!(cache.get(slot), None);
        for key in 3..10 {
            cache.insert_weighted(key, "c", 5);
            assert_eq!(cache.find(&key).unwrap().1, &"c");
            assert!(cache.len() <= 2);
        }
    }

    #[test]
    fn find_keeps_what_is_used() {
        let mut cache = Cache::new(3);
        for key in 0..100 {
            cache.insert(key, key);
            if key > 2 {
                assert!(cache.find(&key).is_some());
                assert_eq!(cache.len(), 3);
            }
        }
    }
}
