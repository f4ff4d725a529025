//! A small bounded map for what a worker remembers beyond one connection.

use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// A place in a [`Cache`]: an index that stays below the capacity, and a generation that tells the
/// content of the place from what was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Below the cache's capacity.
    pub index: u32,
    /// Never 0 and never used twice.
    pub generation: u32,
}

struct Entry<K, V> {
    key: K,
    value: V,
    generation: u32,
    used: bool,
}

/// Bounded map with second-chance replacement. Keys are hashed with a seed of this process.
pub struct Cache<K, V> {
    index: HashMap<K, u32, RandomState>,
    entries: Vec<Entry<K, V>>,
    capacity: usize,
    hand: usize,
    generation: u32,
}

impl<K: Copy + Eq + Hash, V> Cache<K, V> {
    /// An empty cache of at most `capacity` (at least 1) entries.
    pub fn new(capacity: usize) -> Cache<K, V> {
        Cache {
            index: HashMap::default(),
            entries: Vec::new(),
            capacity: capacity.max(1),
            hand: 0,
            generation: 0,
        }
    }

    /// Looks `key` up and marks it as used.
    pub fn find(&mut self, key: &K) -> Option<(Place, &V)> {
        let index = *self.index.get(key)?;
        let entry = self.entries.get_mut(index as usize)?;
        entry.used = true;
        Some((
            Place {
                index,
                generation: entry.generation,
            },
            &entry.value,
        ))
    }

    /// What is at `place`, unless it has been replaced.
    pub fn at(&mut self, place: Place) -> Option<&V> {
        let entry = self.entries.get_mut(place.index as usize)?;
        if entry.generation != place.generation {
            return None;
        }
        entry.used = true;
        Some(&entry.value)
    }

    /// Puts `value` under `key`, in place of an older value of that key or of an entry that was
    /// not used lately.
    pub fn put(&mut self, key: K, value: V) -> Place {
        // Skipping 0 keeps it free to mean "no place" across the C ABI.
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        let entry = Entry {
            key,
            value,
            generation: self.generation,
            used: true,
        };
        let index = match self.index.get(&key) {
            Some(index) => *index as usize,
            None if self.entries.len() < self.capacity => {
                self.entries.push(entry);
                let index = self.entries.len() - 1;
                self.index.insert(key, index as u32);
                return Place {
                    index: index as u32,
                    generation: self.generation,
                };
            }
            None => self.evict(),
        };
        if let Some(slot) = self.entries.get_mut(index) {
            *slot = entry;
        }
        self.index.insert(key, index as u32);
        Place {
            index: index as u32,
            generation: self.generation,
        }
    }

    fn evict(&mut self) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.entries.len().max(1);
            match self.entries.get_mut(self.hand) {
                Some(entry) if entry.used => entry.used = false,
                Some(entry) => {
                    self.index.remove(&entry.key);
                    return self.hand;
                }
                None => return 0,
            }
        }
    }

    /// Forgets everything. Places handed out before stay invalid.
    pub fn clear(&mut self) {
        self.index.clear();
        self.entries.clear();
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_over_capacity_replaces_an_unused_entry() {
        let mut cache = Cache::new(2);
        let first = cache.put(1, "a");
        let second = cache.put(2, "b");
        cache.put(3, "c");
        assert_eq!(cache.len(), 2);
        let live = [first, second]
            .into_iter()
            .filter(|p| cache.at(*p).is_some())
            .count();
        assert_eq!(live, 1);
        assert_eq!(cache.find(&3).unwrap().1, &"c");
    }

    #[test]
    fn at_replaced_place_is_none() {
        let mut cache = Cache::new(1);
        let place = cache.put(1, "a");
        assert_eq!(cache.at(place), Some(&"a"));
        cache.put(1, "b");
        assert_eq!(cache.at(place), None);
    }

    #[test]
    fn clear_invalidates_places() {
        let mut cache = Cache::new(4);
        let place = cache.put(1, "a");
        cache.clear();
        assert_eq!(cache.at(place), None);
        cache.put(1, "b");
        assert_eq!(cache.at(place), None);
    }

    #[test]
    fn find_keeps_what_is_used() {
        let mut cache = Cache::new(3);
        for key in 0..100 {
            cache.put(key, key);
            if key > 2 {
                assert!(cache.find(&key).is_some());
                assert_eq!(cache.len(), 3);
            }
        }
    }
}
