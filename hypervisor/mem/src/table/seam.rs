//! The seam itself.

use palisade_hal::PhysAddr;

use super::words::{Table, Words};
use crate::Detached;

/// Memory for the tables of one owner (one address space).
///
/// Locking: a caller holds its domain's lock around every call that concerns one
/// table. Frame allocation beneath may take the allocator's own lock, a leaf.
pub trait TableMemory: Send + Sync {
    /// Allocates `count` consecutive zeroed tables of `W`, naturally aligned as
    /// one block (`count` is a power of two, at most 16), each with live count 0.
    /// `None` when memory or the owner's quota is used up.
    fn alloc<W: Words>(&self, count: usize) -> Option<PhysAddr>;

    /// Takes back a block that no walker can ever have seen: allocated, never linked.
    fn discard(&self, block: PhysAddr);

    /// The table at `at`, when that is a live table of this owner and of this size.
    fn table<W: Words>(&self, at: PhysAddr) -> Option<Table<'_, W>>;

    /// Moves an unlinked block that a walker may still hold onto the list `into`,
    /// begun here if there is none. From now on [`table`](Self::table) answers
    /// `None` for it; its words stay as they are until the release.
    fn retire(&self, block: PhysAddr, into: &mut Option<Detached>);

    /// The same for the root of a tree, which is unlinked by whoever points walkers at it.
    fn retire_root(&self, root: PhysAddr, into: &mut Option<Detached>) {
        self.retire(root, into);
    }

    /// The same for up to `count` linked tables, for as long as `at(nth)` is one in which
    /// exactly `live` entries are in use: `unlink(nth)`, then retire it. Answers how many.
    #[inline(always)]
    fn retire_full<W: Words>(
        &self,
        count: usize,
        live: usize,
        at: impl Fn(usize) -> PhysAddr,
        unlink: impl Fn(usize),
        into: &mut Option<Detached>,
    ) -> usize {
        one_by_one::<Self, W>(self, count, live, at, unlink, into)
    }
}

/// [`TableMemory::retire_full`] for any memory.
pub(super) fn one_by_one<M: TableMemory + ?Sized, W: Words>(
    memory: &M,
    count: usize,
    live: usize,
    at: impl Fn(usize) -> PhysAddr,
    unlink: impl Fn(usize),
    into: &mut Option<Detached>,
) -> usize {
    for nth in 0..count {
        let at = at(nth);
        if memory.table::<W>(at).is_none_or(|table| table.live() != live) {
            return nth;
        }
        unlink(nth);
        memory.retire(at, into);
    }
    count
}

impl<M: TableMemory + ?Sized> TableMemory for &M {
    #[inline]
    fn alloc<W: Words>(&self, count: usize) -> Option<PhysAddr> {
        (**self).alloc::<W>(count)
    }
    #[inline]
    fn discard(&self, block: PhysAddr) {
        (**self).discard(block);
    }
    #[inline(always)]
    fn table<W: Words>(&self, at: PhysAddr) -> Option<Table<'_, W>> {
        (**self).table::<W>(at)
    }
    #[inline]
    fn retire(&self, block: PhysAddr, into: &mut Option<Detached>) {
        (**self).retire(block, into);
    }
    #[inline]
    fn retire_root(&self, root: PhysAddr, into: &mut Option<Detached>) {
        (**self).retire_root(root, into);
    }
    #[inline(always)]
    fn retire_full<W: Words>(
        &self,
        count: usize,
        live: usize,
        at: impl Fn(usize) -> PhysAddr,
        unlink: impl Fn(usize),
        into: &mut Option<Detached>,
    ) -> usize {
        (**self).retire_full::<W>(count, live, at, unlink, into)
    }
}
