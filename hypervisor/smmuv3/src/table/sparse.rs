//! A small map from numbers, sorted: a handful of streams, second levels, leaves.

use alloc::vec::Vec;

use palisade_iommu::DriverError;

/// Values by number, in order.
pub(crate) struct Small<T>(Vec<(u32, T)>);

impl<T> Small<T> {
    /// An empty map.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    fn find(&self, key: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, |entry| entry.0)
    }

    /// The value of `key`.
    pub fn get(&self, key: u32) -> Option<&T> {
        self.find(key).ok().and_then(|at| self.0.get(at)).map(|entry| &entry.1)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        self.find(key).ok().and_then(|at| self.0.get_mut(at)).map(|entry| &mut entry.1)
    }

    /// Whether `key` has a value.
    pub fn contains(&self, key: u32) -> bool {
        self.find(key).is_ok()
    }

    /// Makes sure that the next [`put`](Self::put) needs no memory.
    ///
    /// # Errors
    /// [`DriverError::NoMemory`].
    pub fn reserve(&mut self) -> Result<(), DriverError> {
        self.0.try_reserve(1).map_err(|_| DriverError::NoMemory)
    }

    /// Gives `key` a value.
    pub fn put(&mut self, key: u32, value: T) {
        match self.find(key) {
            Ok(at) => {
                if let Some(entry) = self.0.get_mut(at) {
                    entry.1 = value;
                }
            }
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// Takes the value of `key` away.
    pub fn take(&mut self, key: u32) -> Option<T> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// The numbers that have a value, in order.
    pub fn keys(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|entry| entry.0)
    }

    /// The values, in order of their numbers.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.0.into_iter().map(|entry| entry.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_forgets() {
        let mut map = Small::new();
        for key in [5, 1, 9, 5] {
            map.reserve().unwrap();
            map.put(key, key * 10);
        }
        assert!(map.keys().eq([1, 5, 9]));
        assert_eq!((map.get(5), map.get(2)), (Some(&50), None));
        assert_eq!((map.take(5), map.take(5)), (Some(50), None));
        assert!(map.contains(9) && !map.contains(5));
        assert!(map.into_values().eq([10, 90]));
    }
}
