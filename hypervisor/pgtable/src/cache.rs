//! The walk cache: which table decides about an address, remembered, as the
//! hardware's own walkers do. An entry is a hint: the table it names is looked up
//! by its frame's tag like any other, and forgotten when it is unlinked.

use core::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::PhysAddr;
use palisade_mem::{Table, TableMemory};

use crate::format::Format;
use crate::space::Space;

/// Number of entries: with the 4 KiB granule they reach over 1 GiB.
const ENTRIES: usize = 512;
/// No entry: the number of no stretch together with no frame.
const NONE: u64 = u64::MAX;

/// Direct-mapped, by the number of the stretch that one table of the last level
/// covers. An entry is one word, so that concurrent translations cannot tear it:
/// stretch in bits 63:33; in bit 32 whether the table is of the last level or of
/// the one above; frame number of the table in bits 31:0.
pub(crate) struct WalkCache {
    entries: [AtomicU64; ENTRIES],
}

impl WalkCache {
    pub const fn new() -> Self {
        Self { entries: [const { AtomicU64::new(NONE) }; ENTRIES] }
    }

    #[inline(always)]
    fn slot(&self, stretch: u64) -> &AtomicU64 {
        &self.entries[stretch as usize & (ENTRIES - 1)]
    }

    /// Frame address of the table, and whether it is of the last level.
    #[inline(always)]
    fn get(&self, stretch: u64) -> Option<(PhysAddr, bool)> {
        let word = self.slot(stretch).load(Ordering::Relaxed);
        if word >> 33 != stretch {
            return None;
        }
        Some((PhysAddr::new((word & 0xffff_ffff) << 12), word & 1 << 32 != 0))
    }

    /// Frame address of the table, if it is of the last level.
    #[inline(always)]
    fn get_last(&self, stretch: u64) -> Option<PhysAddr> {
        let word = self.slot(stretch).load(Ordering::Relaxed);
        if word >> 32 != stretch << 1 | 1 {
            return None;
        }
        Some(PhysAddr::new((word & 0xffff_ffff) << 12))
    }

    #[inline]
    fn set(&self, stretch: u64, table: u64, last: bool) {
        let frame = table >> 12;
        if frame < 0xffff_ffff {
            let word = stretch << 33 | u64::from(last) << 32 | frame;
            self.slot(stretch).store(word, Ordering::Relaxed);
        }
    }
}

impl<F: Format, M: TableMemory> Space<F, M> {
    /// The number of the stretch of `va`: at most 31 bits.
    #[inline(always)]
    fn stretch(va: u64) -> u64 {
        va >> (F::shift(F::LAST) + F::bits(F::LAST))
    }

    /// The table of the last level for `va`, if remembered.
    #[inline(always)]
    pub(crate) fn cached_last(&self, va: u64) -> Option<Table<'_, F::Words>> {
        self.memory.table(self.cache.get_last(Self::stretch(va))?)
    }

    /// The table of the last level, or of the one above, if remembered.
    #[inline(always)]
    pub(crate) fn cached(&self, va: u64) -> Option<(Table<'_, F::Words>, bool)> {
        let (at, last) = self.cache.get(Self::stretch(va))?;
        Some((self.memory.table(at)?, last))
    }

    /// Remembers the table that decides about `va`.
    #[inline]
    pub(crate) fn remember(&self, va: u64, table: u64, last: bool) {
        self.cache.set(Self::stretch(va), table, last);
    }

    /// Forgets the table of the last level for `va`, which is about to be unlinked.
    #[inline]
    pub(crate) fn forget_last(&self, va: u64) {
        self.cache.slot(Self::stretch(va)).store(NONE, Ordering::Relaxed);
    }

    /// Forgets everything: tables above the last level are about to be unlinked.
    pub(crate) fn forget_all(&self) {
        for entry in &self.cache.entries {
            entry.store(NONE, Ordering::Relaxed);
        }
    }
}
