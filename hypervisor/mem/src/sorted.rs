//! A map in one sorted array.

use alloc::vec::Vec;

/// Keys in ascending order with their values, in one allocation. For the hypervisor's small
/// maps: finding is a binary search, inserting and removing move what lies behind. A B-tree's
/// code is ten times as long for every pair of types.
#[derive(Clone, Debug)]
pub struct SortedMap<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> SortedMap<K, V> {
    /// Nothing, without an allocation.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every key with its value, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// Every key, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries.iter().map(|(key, _)| key)
    }

    /// Every value, in the order of the keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Keeps what `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
        self.trim();
    }

    /// The memory goes back when few are left, so that an empty map holds none.
    fn trim(&mut self) {
        if self.entries.len() <= self.entries.capacity() / 4 {
            self.entries.shrink_to_fit();
        }
    }
}

impl<K: Ord + Copy, V> SortedMap<K, V> {
    #[inline(never)]
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.entries.binary_search_by(|(one, _)| one.cmp(key))
    }

    /// Whether the key is there.
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let index = self.find(key).ok()?;
        self.entries.get(index).map(|(_, value)| value)
    }

    /// The value of a key, to change.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let index = self.find(key).ok()?;
        self.entries.get_mut(index).map(|(_, value)| value)
    }

    /// Puts a value at a key; answers what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(index) => self.entries.get_mut(index).map(|(_, old)| core::mem::replace(old, value)),
            Err(index) => {
                self.entries.insert(index, (key, value));
                None
            }
        }
    }

    /// Takes a key out; answers its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let index = self.find(key).ok()?;
        let (_, value) = self.entries.remove(index);
        self.trim();
        Some(value)
    }

    /// Takes the greatest key out.
    pub fn pop_last(&mut self) -> Option<(K, V)> {
        let last = self.entries.pop();
        self.trim();
        last
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::SortedMap;

    /// A B-tree is the model: 20,000 steps over keys that collide often.
    #[test]
    fn does_what_a_btree_does() {
        let (mut map, mut model) = (SortedMap::new(), BTreeMap::new());
        let mut seed = 1u64;
        for step in 0..20_000u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (seed >> 33) as u32 % 97;
            match (seed >> 50) % 5 {
                0 | 1 => assert_eq!(map.insert(key, step), model.insert(key, step)),
                2 => assert_eq!(map.remove(&key), model.remove(&key)),
                3 => {
                    let change = |value: &mut u32| *value = value.wrapping_add(1);
                    assert_eq!(map.get_mut(&key).map(change), model.get_mut(&key).map(change));
                    assert_eq!(map.get(&key), model.get(&key));
                    assert_eq!(map.contains_key(&key), model.contains_key(&key));
                }
                _ if key == 0 => {
                    map.retain(|key, _| key % 3 != 0);
                    model.retain(|key, _| key % 3 != 0);
                }
                _ => assert_eq!(map.pop_last(), model.pop_last()),
            }
            assert_eq!(map.len(), model.len());
            assert!(map.iter().eq(model.iter()), "step {step}");
        }
    }

    #[test]
    fn an_empty_map_holds_no_memory() {
        let mut map = SortedMap::new();
        for key in 0..1000u32 {
            map.insert(key, ());
        }
        for key in 0..1000 {
            map.remove(&key);
        }
        assert!(map.is_empty());
        assert_eq!(map.entries.capacity(), 0);
    }
}
