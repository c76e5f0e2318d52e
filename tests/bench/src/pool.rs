//! Tables for the peers: a pool of zeroed pages, last in, first out.

use std::alloc::{Layout, alloc_zeroed};

/// Zeroed pages at addresses that are their physical addresses too.
pub struct Pool {
    free: Vec<usize>,
}

impl Pool {
    /// `pages` pages of 4 KiB.
    pub fn new(pages: usize) -> Self {
        let layout = Layout::from_size_align(pages << 12, 4096).expect("a sane size");
        // SAFETY: the size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        assert!(!base.is_null(), "out of memory");
        let base = base.expose_provenance();
        Self { free: (0..pages).rev().map(|page| base + (page << 12)).collect() }
    }

    /// The next page.
    pub fn take(&mut self) -> Option<usize> {
        self.free.pop()
    }

    /// Takes a page back.
    pub fn give(&mut self, page: usize) {
        self.free.push(page);
    }
}
