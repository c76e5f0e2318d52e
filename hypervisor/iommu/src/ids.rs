//! Numbers that are given out once and come back only when clean.

use alloc::vec::Vec;

/// A set of numbers `1..=max`, each free, in use, or lost for good. All memory is taken when it
/// is made, so giving out and taking back never allocate.
#[derive(Debug)]
pub struct IdPool {
    /// Bit set: not free.
    words: Vec<u64>,
    max: u16,
    used: u32,
    lost: u32,
    /// Where the search goes on: numbers are reused as late as possible, so that a use after
    /// free shows.
    next: u16,
}

impl IdPool {
    /// A pool of `1..=max`.
    pub fn new(max: u16) -> Self {
        let count = usize::from(max) / 64 + 1;
        Self { words: alloc::vec![0; count], max, used: 0, lost: 0, next: 1 }
    }

    /// Takes a free number at most `limit`.
    pub fn alloc(&mut self, limit: u16) -> Option<u16> {
        let top = self.max.min(limit);
        let start = if self.next > top { 1 } else { self.next };
        let id = (start..=top).chain(1..start).find(|&id| !self.is_taken(id))?;
        self.set(id, true);
        self.used += 1;
        self.next = if id >= self.max { 1 } else { id + 1 };
        Some(id)
    }

    /// Takes exactly `id`, if it is free.
    pub fn take(&mut self, id: u16) -> bool {
        if id == 0 || id > self.max || self.is_taken(id) {
            return false;
        }
        self.set(id, true);
        self.used += 1;
        true
    }

    /// Takes a number back: it is clean wherever it was used. `false` if it was not out.
    pub fn free(&mut self, id: u16) -> bool {
        if id == 0 || id > self.max || !self.is_taken(id) || self.used == 0 {
            return false;
        }
        self.set(id, false);
        self.used -= 1;
        true
    }

    /// Gives a number up: something may still be tagged with it.
    pub fn lose(&mut self, id: u16) {
        if id != 0 && id <= self.max && self.is_taken(id) && self.used > 0 {
            self.used -= 1;
            self.lost += 1;
        }
    }

    /// Numbers in use.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Numbers lost for good.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// `id` is in use or lost.
    pub fn is_taken(&self, id: u16) -> bool {
        self.words.get(usize::from(id) / 64).is_none_or(|word| word & (1 << (id % 64)) != 0)
    }

    fn set(&mut self, id: u16, taken: bool) {
        if let Some(word) = self.words.get_mut(usize::from(id) / 64) {
            let bit = 1 << (id % 64);
            *word = if taken { *word | bit } else { *word & !bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_never_given_and_every_number_once() {
        let mut pool = IdPool::new(130);
        let mut seen: Vec<u16> = core::iter::from_fn(|| pool.alloc(u16::MAX)).collect();
        assert_eq!(seen.len(), 130, "the limit is inclusive");
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(1..=130));
        assert!(pool.free(77) && !pool.free(77), "a number comes back once");
        assert_eq!(pool.alloc(u16::MAX), Some(77));
    }

    #[test]
    fn a_lost_number_never_comes_back() {
        let mut pool = IdPool::new(2);
        assert_eq!(pool.alloc(2), Some(1));
        pool.lose(1);
        assert_eq!(pool.alloc(2), Some(2));
        assert_eq!(pool.alloc(2), None);
        assert_eq!((pool.used(), pool.lost()), (1, 1));
    }

    #[test]
    fn a_limit_below_the_pool_is_kept() {
        let mut pool = IdPool::new(0xffff);
        for _ in 0..255 {
            assert!(pool.alloc(255).is_some_and(|id| id <= 255));
        }
        assert_eq!(pool.alloc(255), None);
    }
}
