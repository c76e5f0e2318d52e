//! Address spaces for devices: three levels of 4 KiB tables for one stretch of 2 MiB.

use crate::memory::{Page, barrier, write64};

/// First virtual address of the stretch.
pub const BASE: u64 = 0x20_0000_0000;
/// TCR: 39 bits, 4 KiB, cacheable walks, inner shareable, 40 bits out.
pub const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 32;
/// MAIR: attribute 0 is normal memory.
pub const MAIR: u64 = 0xff;

/// One address space.
pub struct Space {
    tables: [Page; 3],
}

impl Space {
    /// Nothing is mapped, and the tables are not tied together yet.
    pub const fn new() -> Self {
        Self { tables: [const { Page::new() }; 3] }
    }

    /// The root.
    pub fn root(&self) -> u64 {
        self.tables[0].address() as u64
    }

    /// Ties the tables together.
    pub fn tie(&self) {
        let table = |level: usize| self.tables[level].address() as u64 | 0b11;
        self.put(0, BASE >> 30 & 511, table(1));
        self.put(1, BASE >> 21 & 511, table(2));
    }

    /// Lets a page of the stretch lead to `ipa`, for reads and writes; without one nowhere.
    /// What is cached is the caller's to invalidate.
    pub fn set(&self, address: u64, ipa: Option<u64>) {
        const PAGE: u64 = 0b11 | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11;
        self.put(2, address >> 12 & 511, ipa.map_or(0, |ipa| ipa & !0xfff | PAGE));
    }

    fn put(&self, level: usize, index: u64, entry: u64) {
        // SAFETY: inside our own page, aligned.
        unsafe { write64(self.tables[level].address() + index as usize * 8, entry) };
        barrier();
    }
}

impl Default for Space {
    fn default() -> Self {
        Self::new()
    }
}
