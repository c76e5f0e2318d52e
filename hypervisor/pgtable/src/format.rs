//! A format: what the words of a table mean. It sees a word and a level; the
//! walker in [`crate::walk`] does the walking.

use core::sync::atomic::{AtomicU64, Ordering};

use palisade_mem::Words;

use crate::prot::Prot;

/// What a word says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing.
    Invalid,
    /// A pointer to the next level's table, at this physical address.
    Table(u64),
    /// A mapping to this physical address; in a run, to the run's first byte for
    /// formats that repeat the word, else to this entry's own.
    Leaf(u64),
}

/// The first word in use.
#[inline(always)]
pub fn first_used(words: &[AtomicU64]) -> Option<usize> {
    let (mut used, mut left) = (0, words);
    while let Some((eight, rest)) = left.split_first_chunk::<8>() {
        for word in eight {
            used |= word.load(Ordering::Relaxed);
        }
        left = rest;
    }
    for word in left {
        used |= word.load(Ordering::Relaxed);
    }
    if used == 0 { None } else { Some(find_used(words)) }
}

#[cold]
#[inline(never)]
fn find_used(words: &[AtomicU64]) -> usize {
    words.iter().take_while(|word| word.load(Ordering::Relaxed) == 0).count()
}

/// Clears words up to the first that is zero already; answers how many.
#[inline(always)]
pub fn clear_used(words: &[AtomicU64]) -> usize {
    let mut left = words;
    while let Some((eight, rest)) = left.split_first_chunk::<8>() {
        // Valid descriptors have bit 0; others are looked at one by one.
        let mut all = 1;
        for word in eight {
            all &= word.load(Ordering::Relaxed);
        }
        if all == 0 {
            break;
        }
        for word in eight {
            word.store(0, Ordering::Relaxed);
        }
        left = rest;
    }
    while let Some((word, rest)) = left.split_first() {
        if word.load(Ordering::Relaxed) == 0 {
            break;
        }
        word.store(0, Ordering::Relaxed);
        left = rest;
    }
    words.len() - left.len()
}

/// A format with its configuration. All level arguments are constants at the
/// call, so that after inlining every shift is one.
pub trait Format: Send + Sync + 'static {
    /// One table.
    type Words: Words;
    /// Shallowest level that can hold a root.
    const TOP: i8;
    /// The level of pages.
    const LAST: i8;
    /// Whether a word of a run repeats the run's address (v7s), or has its own (LPAE).
    const REPEATS: bool;

    /// log2 of the bytes that one entry of `level` covers.
    fn shift(level: i8) -> u32;

    /// log2 of the number of entries in one table of `level`.
    fn bits(level: i8) -> u32;

    /// log2 of the number of entries in a run at `level`; 0 where there are no runs.
    fn run(level: i8) -> u32;

    /// Reads an entry.
    #[inline(always)]
    fn load(words: &[AtomicU64], index: usize) -> u64 {
        words.get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Writes an entry.
    #[inline(always)]
    fn store(words: &[AtomicU64], index: usize, value: u64) {
        if let Some(word) = words.get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Writes an entry that is seen only after all earlier stores.
    #[inline(always)]
    fn publish(words: &[AtomicU64], index: usize, value: u64) {
        if let Some(word) = words.get(index) {
            palisade_hal::barrier::publish(word, value);
        }
    }

    /// Replaces an entry if it still is `old`; hardware may be changing it.
    #[inline]
    fn exchange(words: &[AtomicU64], index: usize, old: u64, new: u64) -> Result<u64, u64> {
        match words.get(index) {
            Some(word) => word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire),
            None => Err(0),
        }
    }

    /// Replaces an entry and answers what it was; hardware may be changing it.
    #[inline]
    fn swap(words: &[AtomicU64], index: usize, value: u64) -> u64 {
        words.get(index).map_or(0, |word| word.swap(value, Ordering::AcqRel))
    }

    /// Whether leaves that map below `end` hold their addresses as they are, so
    /// that the next leaf is this one plus its size.
    #[inline(always)]
    fn is_linear(end: u64) -> bool {
        let _ = end;
        false
    }

    /// The first entry in use of `count` entries from `start`.
    #[inline(always)]
    fn first_used(words: &[AtomicU64], start: usize, count: usize) -> Option<usize> {
        first_used(words.get(start..start + count)?).map(|nth| start + nth)
    }

    /// Writes `count` leaves from `start`, `1 << shift` bytes apart.
    #[inline(always)]
    fn fill(
        &self,
        words: &[AtomicU64],
        start: usize,
        count: usize,
        attributes: u64,
        pa: u64,
        shift: u32,
    ) {
        if let Some(words) = words.get(start..start + count) {
            self.fill_words(words, attributes, pa, shift);
        }
    }

    /// Writes a leaf to each of these words, `1 << shift` bytes apart.
    #[inline(always)]
    fn fill_words(&self, words: &[AtomicU64], attributes: u64, pa: u64, shift: u32) {
        if Self::is_linear(pa + ((words.len() as u64) << shift)) {
            let mut leaf = self.leaf(attributes, pa);
            let mut each = |word: &AtomicU64| {
                word.store(leaf, Ordering::Relaxed);
                leaf = leaf.wrapping_add(1 << shift);
            };
            let mut left = words;
            while let Some((eight, rest)) = left.split_first_chunk::<8>() {
                eight.iter().for_each(&mut each);
                left = rest;
            }
            left.iter().for_each(each);
            return;
        }
        let mut at = pa;
        for word in words {
            word.store(self.leaf(attributes, at), Ordering::Relaxed);
            at = at.wrapping_add(1 << shift);
        }
    }

    /// Clears up to `count` entries of the last level from `start`, until one is
    /// empty already; answers how many.
    #[inline(always)]
    fn clear_used(words: &[AtomicU64], start: usize, count: usize) -> usize {
        words.get(start..start + count).map_or(0, clear_used)
    }

    /// The entry that points to the table at `pa`.
    fn link(&self, pa: u64, level: i8) -> u64;

    /// The address that `word` points to if it is a [`link`](Self::link); if it
    /// is anything else, an address that is not aligned to a table.
    fn linked(&self, word: u64) -> u64;

    /// What `word` says at `level`.
    fn entry(&self, word: u64, level: i8) -> Entry;

    /// The bits other than the address of a leaf, or 0 if `prot` permits nothing.
    fn attributes(&self, prot: Prot, level: i8, run: bool) -> u64;

    /// The leaf with these attributes that maps to `pa`.
    fn leaf(&self, attributes: u64, pa: u64) -> u64;

    /// The attributes of a leaf of `level`, as a leaf of `to` would have them.
    fn reattribute(&self, word: u64, level: i8, to: i8) -> u64;

    /// Whether the leaf belongs to a run.
    fn in_run(&self, word: u64, level: i8) -> bool;

    /// `attributes` of a leaf of `level` with or without the mark of a run.
    fn with_run(&self, attributes: u64, level: i8, run: bool) -> u64;

    /// Whether the leaf records writes, and was written since it was last cleaned.
    fn is_written(&self, word: u64) -> bool;

    /// The same entry, clean: the next write is recorded again.
    fn cleaned(&self, word: u64) -> u64;
}
