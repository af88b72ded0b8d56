//! One run's keys and values.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// A map from keys to values that keeps the order in which keys were first set.
///
/// Every call costs the same however many keys there are: entries stay where they were written, a
/// deleted one leaves a hole, and the holes are closed once they are the majority.
#[derive(Debug)]
pub struct Store<V> {
    entries: Vec<Option<Entry<V>>>,
    index: HashTable<u32>,
    // Seeded at random: keys often come from outside, and an attacker must not choose keys that collide.
    hasher: RandomState,
    // Grows with every change of any key: two equal versions of a key mean that there was no write in between.
    writes: u64,
}

#[derive(Debug)]
struct Entry<V> {
    hash: u64,
    version: u64,
    key: Box<str>,
    value: V,
}

impl<V> Default for Store<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), index: HashTable::new(), hasher: RandomState::default(), writes: 0 }
    }
}

impl<V> Store<V> {
    /// The value of a key.
    #[inline]
    pub fn get(&self, key: &str) -> Option<&V> {
        self.find(key).map(|entry| &entry.value)
    }

    /// The value of a key with its version, which changes whenever the key is written.
    pub fn get_versioned(&self, key: &str) -> Option<(&V, u64)> {
        self.find(key).map(|entry| (&entry.value, entry.version))
    }

    /// Sets a key and gives back the value that it held.
    #[inline]
    pub fn set(&mut self, key: &str, value: V) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        self.writes += 1;
        let entries = &self.entries;
        let found = self.index.find(hash, |&at| is(&entries[at as usize], hash, key)).copied();
        if let Some(entry) = found.and_then(|at| self.entries[at as usize].as_mut()) {
            entry.version = self.writes;
            return Some(std::mem::replace(&mut entry.value, value));
        }
        self.insert(Entry { hash, version: self.writes, key: key.into(), value });
        None
    }

    /// Sets a key only if it was not written since it had `version` (`None`: only if it is missing).
    ///
    /// # Errors
    /// The value that was not set, if the key was written in between.
    pub fn compare_and_set(&mut self, key: &str, version: Option<u64>, value: V) -> Result<Option<V>, V> {
        if self.find(key).map(|entry| entry.version) == version { Ok(self.set(key, value)) } else { Err(value) }
    }

    /// Removes a key and gives back its value.
    pub fn delete(&mut self, key: &str) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let entries = &self.entries;
        let found = self.index.find_entry(hash, |&at| is(&entries[at as usize], hash, key)).ok()?;
        let (at, _) = found.remove();
        self.writes += 1;
        let removed = self.entries[at as usize].take();
        if self.entries.len() > 8 && self.index.len() < self.entries.len() / 2 {
            self.close_holes();
        }
        removed.map(|entry| entry.value)
    }

    /// Whether the key is there.
    #[inline]
    pub fn contains(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The keys and values in the order in which the keys were first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().flatten().map(|entry| (&*entry.key, &entry.value))
    }

    /// The keys and values, taken out, in that order.
    pub fn into_pairs(self) -> impl Iterator<Item = (Box<str>, V)> {
        self.entries.into_iter().flatten().map(|entry| (entry.key, entry.value))
    }

    #[inline]
    fn find(&self, key: &str) -> Option<&Entry<V>> {
        let hash = self.hasher.hash_one(key);
        let at = *self.index.find(hash, |&at| is(&self.entries[at as usize], hash, key))?;
        self.entries[at as usize].as_ref()
    }

    fn insert(&mut self, entry: Entry<V>) {
        let at = u32::try_from(self.entries.len()).expect("fewer than 2^32 keys in one run");
        let hash = entry.hash;
        self.entries.push(Some(entry));
        let entries = &self.entries;
        self.index.insert_unique(hash, at, |&at| hash_at(entries, at));
    }

    fn close_holes(&mut self) {
        self.entries.retain(Option::is_some);
        self.index.clear();
        let entries = &self.entries;
        for (at, entry) in (0u32..).zip(entries) {
            if let Some(entry) = entry {
                self.index.insert_unique(entry.hash, at, |&at| hash_at(entries, at));
            }
        }
    }
}

impl<V: Clone> Clone for Store<V> {
    fn clone(&self) -> Self {
        self.iter().map(|(key, value)| (key, value.clone())).collect()
    }
}

impl<K: AsRef<str>, V> FromIterator<(K, V)> for Store<V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut store = Self::default();
        for (key, value) in pairs {
            store.set(key.as_ref(), value);
        }
        store
    }
}

impl<V: PartialEq> PartialEq for Store<V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[inline]
fn is<V>(slot: &Option<Entry<V>>, hash: u64, key: &str) -> bool {
    slot.as_ref().is_some_and(|entry| entry.hash == hash && &*entry.key == key)
}

fn hash_at<V>(entries: &[Option<Entry<V>>], at: u32) -> u64 {
    entries[at as usize].as_ref().map_or(0, |entry| entry.hash)
}
