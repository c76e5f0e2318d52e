//! Unmapping. Entries are cleared first; a table that became empty is unlinked
//! and handed to the gather, to be released only after the invalidation.

use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Table, TableMemory};

use crate::error::Error;
use crate::format::{Entry, Format, clear_used};
use crate::gather::Gather;
use crate::space::Space;
use crate::walk::{Reached, Stop};

impl<F: Format, M: TableMemory> Space<F, M> {
    /// Unmaps one page of the last level where the walk cache knows its table;
    /// `None` for the general way.
    #[inline(always)]
    pub(crate) fn unmap_page(&self, iova: Iova, gather: &mut Gather<'_>) -> Option<u64> {
        let va = iova.get() ^ self.base;
        let page = 1u64 << F::shift(F::LAST);
        if va & (page - 1) != 0 {
            return None;
        }
        let table = self.cached_last(va)?;
        let index = Self::index(F::LAST, va);
        if F::load(table.words(), index) == 0 {
            return Some(0);
        }
        F::store(table.words(), index, 0);
        self.clean(table, index, 1);
        gather.add(iova.get(), iova.get() + (page - 1), page);
        if table.sub_live(1) == 0 {
            self.prune(va, F::LAST, gather);
        }
        Some(page)
    }

    /// Unmaps pages of the last level in one table that the walk cache knows;
    /// `None` for the general way.
    #[inline(always)]
    pub(crate) fn unmap_known(
        &self,
        iova: Iova,
        count: usize,
        gather: &mut Gather<'_>,
    ) -> Option<u64> {
        let va = iova.get() ^ self.base;
        let page = 1u64 << F::shift(F::LAST);
        if va & (page - 1) != 0 {
            return None;
        }
        let table = self.cached_last(va)?;
        let index = Self::index(F::LAST, va);
        let done = clear_used(table.words().get(index..)?.get(..count)?);
        if done == 0 {
            // Nothing there, or nothing asked for.
            return None;
        }
        self.clean(table, index, done);
        let bytes = (done as u64) << F::shift(F::LAST);
        gather.add(iova.get(), iova.get() + (bytes - 1), page);
        if table.sub_live(done) == 0 {
            self.prune(va, F::LAST, gather);
        }
        Some(bytes)
    }

    /// Unmaps `count` pages of level `T` (or runs of them).
    #[inline(always)]
    pub(crate) fn unmap_at<const T: i8>(
        &self,
        iova: Iova,
        count: usize,
        run: bool,
        gather: &mut Gather<'_>,
    ) -> Result<u64, Error> {
        let shift = F::shift(T) + if run { F::run(T) } else { 0 };
        if count == 0 {
            return Err(Error::PageSize(0));
        }
        if count as u64 - 1 > self.mask >> shift {
            return Err(Error::InputRange(iova));
        }
        let va = self.input(iova, (count as u64) << shift)?;
        if va & ((1 << shift) - 1) != 0 {
            return Err(Error::Unaligned(iova));
        }
        let entries = count << if run { F::run(T) } else { 0 };
        let mut done = self.unmap_entries::<T>(va, entries, gather)?;
        if run && done < entries {
            let hole = va + ((done as u64) << F::shift(T));
            done = self
                .unmap_sparse::<T>(va, entries, done, gather)
                .map_err(|error| self.stopped(va, hole, gather, error))?;
        }
        if done > 0 {
            let last = va + ((done as u64) << F::shift(T)) - 1;
            gather.add(va | self.base, last | self.base, 1 << F::shift(F::LAST));
        }
        Ok((done as u64) << F::shift(T))
    }

    /// Goes on behind a hole at entry `done`: a unit the size of a run that had
    /// something in it goes as a whole, one with nothing in it is where it ends.
    #[cold]
    #[inline(never)]
    fn unmap_sparse<const T: i8>(
        &self,
        va: u64,
        entries: usize,
        mut done: usize,
        gather: &mut Gather<'_>,
    ) -> Result<usize, Error> {
        let span = 1usize << F::run(T);
        while done < entries {
            let unit = done & !(span - 1);
            let hole = va + ((done as u64) << F::shift(T));
            let rest = ((unit + span - done) as u64) << F::shift(T);
            if self.unmap_all(self.iova(hole), rest, gather)? == 0 && unit == done {
                break;
            }
            done = unit + span;
        }
        Ok(done)
    }

    /// Unmaps `entries` entries of level `T` and answers how many there were
    /// before the first hole.
    #[inline(always)]
    fn unmap_entries<const T: i8>(
        &self,
        va: u64,
        entries: usize,
        gather: &mut Gather<'_>,
    ) -> Result<usize, Error> {
        let index = Self::index(T, va);
        if index + entries > Self::entries(T) || self.runs {
            return self.unmap_long::<T>(va, entries, gather);
        }
        self.unmap_chunk::<T>(va, entries, gather)
    }

    /// The same where the walk cache does not know the table, or there are holes.
    #[inline(never)]
    fn unmap_chunk<const T: i8>(
        &self,
        va: u64,
        entries: usize,
        gather: &mut Gather<'_>,
    ) -> Result<usize, Error> {
        match self.descend::<T>(va) {
            Ok(reached) => {
                let done = self.clear::<T>(&reached, va, entries, gather);
                if T == F::LAST {
                    self.remember_table(va);
                }
                Ok(done)
            }
            Err(_) => self.unmap_long::<T>(va, entries, gather),
        }
    }

    /// The same over several tables, or where blocks or runs may be cut.
    #[inline(never)]
    fn unmap_long<const T: i8>(
        &self,
        va: u64,
        entries: usize,
        gather: &mut Gather<'_>,
    ) -> Result<usize, Error> {
        let bytes = (entries as u64) << F::shift(T);
        self.cut(va, va + (bytes - 1), gather)?;
        let mut done = 0;
        while done < entries {
            let at = va + ((done as u64) << F::shift(T));
            let left = entries - done;
            match self.descend::<T>(at) {
                Ok(reached) => {
                    let room = left.min(Self::entries(T) - Self::index(T, at));
                    if T == F::LAST && room == Self::entries(T) {
                        let whole = self.unlink_full::<T>(&reached, at, left, gather);
                        if whole > 0 {
                            done += whole;
                            continue;
                        }
                    }
                    let cleared = self.clear::<T>(&reached, at, room, gather);
                    done += cleared;
                    if cleared < room {
                        break;
                    }
                }
                Err(Stop::Root) => return Err(self.root_lost(at)),
                Err(Stop::Entry { word: 0, .. }) => break,
                Err(Stop::Entry { table, index, word, level }) => {
                    let Entry::Leaf(_) = self.format.entry(word, level) else {
                        let corrupt = self.corrupt(at, level, word);
                        return Err(self.stopped(va, at, gather, corrupt));
                    };
                    // After `cut`, a block met here lies in the range as a whole.
                    F::store(table.words(), index, 0);
                    self.clean(table, index, 1);
                    if table.sub_live(1) == 0 {
                        self.prune(at, level, gather);
                    }
                    done += 1 << (F::shift(level) - F::shift(T));
                }
            }
        }
        Ok(done)
    }

    /// Gathers `[first, end)`, which was unmapped before the request came to an end by `error`.
    #[cold]
    fn stopped(&self, first: u64, end: u64, gather: &mut Gather<'_>, error: Error) -> Error {
        if first < end {
            gather.add(first | self.base, (end - 1) | self.base, 1 << F::shift(F::LAST));
        }
        error
    }

    /// Clears up to `count` entries of one table and answers how many it cleared
    /// before a hole. A table left empty is unlinked.
    #[inline(always)]
    fn clear<const T: i8>(
        &self,
        reached: &Reached<'_, F::Words>,
        va: u64,
        count: usize,
        gather: &mut Gather<'_>,
    ) -> usize {
        let table = reached.table;
        let index = Self::index(T, va);
        let cleared = if T == F::LAST {
            F::clear_used(table.words(), index, count)
        } else {
            self.clear_each(table, T, index, count, gather)
        };
        self.clean(table, index, cleared);
        if table.sub_live(cleared) == 0 {
            self.unlink_empty::<T>(reached, va, gather);
        }
        cleared
    }

    /// Above the last level: leaves are cleared, tables below go as a whole.
    #[inline(never)]
    fn clear_each(
        &self,
        table: Table<'_, F::Words>,
        level: i8,
        index: usize,
        count: usize,
        gather: &mut Gather<'_>,
    ) -> usize {
        for nth in 0..count {
            let word = F::load(table.words(), index + nth);
            if word == 0 {
                return nth;
            }
            F::store(table.words(), index + nth, 0);
            if self.next(word).is_some() {
                self.forget_all();
                self.retire_tree(self.format.linked(word), level + 1, gather);
            }
        }
        count
    }

    /// Unlinks tables of the last level that are full and wholly in the range,
    /// without touching their entries. Answers how many entries went.
    fn unlink_full<const T: i8>(
        &self,
        reached: &Reached<'_, F::Words>,
        va: u64,
        left: usize,
        gather: &mut Gather<'_>,
    ) -> usize {
        let Some((parent, first)) = reached.parent else { return 0 };
        let tables = (left >> F::bits(T)).min(Self::entries(T - 1) - first);
        let gone = self.memory.retire_full::<F::Words>(
            tables,
            Self::entries(T),
            |nth| PhysAddr::new(self.format.linked(F::load(parent.words(), first + nth))),
            |nth| F::store(parent.words(), first + nth, 0),
            &mut gather.tables,
        );
        if gone > 0 {
            self.forget_all();
            self.clean(parent, first, gone);
            if parent.sub_live(gone) == 0 {
                self.prune(va, T - 1, gather);
            }
        }
        gone << F::bits(T)
    }

    /// Unlinks the empty table just reached.
    #[inline(never)]
    fn unlink_empty<const T: i8>(
        &self,
        reached: &Reached<'_, F::Words>,
        va: u64,
        gather: &mut Gather<'_>,
    ) {
        let Some((parent, index)) = reached.parent else { return };
        let word = F::load(parent.words(), index);
        F::store(parent.words(), index, 0);
        self.clean(parent, index, 1);
        if T == F::LAST {
            self.forget_last(va);
        } else {
            self.forget_all();
        }
        self.memory.retire(PhysAddr::new(self.format.linked(word)), &mut gather.tables);
        if parent.sub_live(1) == 0 {
            self.prune(va, T - 1, gather);
        }
    }

    /// Unlinks the empty table of `level` on the way to `va`, and those above that
    /// it leaves empty. Roots stay.
    #[cold]
    #[inline(never)]
    pub(crate) fn prune(&self, va: u64, level: i8, gather: &mut Gather<'_>) {
        let mut level = level;
        while level > self.start {
            let Some(parent) = self.table_at(va, level - 1) else { return };
            let index = Self::index(level - 1, va);
            let word = F::load(parent.words(), index);
            F::store(parent.words(), index, 0);
            self.clean(parent, index, 1);
            if level == F::LAST {
                self.forget_last(va);
            } else {
                self.forget_all();
            }
            self.memory.retire(PhysAddr::new(self.format.linked(word)), &mut gather.tables);
            if parent.sub_live(1) > 0 {
                return;
            }
            level -= 1;
        }
    }

    /// The table of `level` on the way to `va`, if it exists.
    pub(crate) fn table_at(&self, va: u64, level: i8) -> Option<Table<'_, F::Words>> {
        let mut table = self.root_table(va)?;
        for at in self.start..level {
            table = self.next(F::load(table.words(), Self::index(at, va)))?;
        }
        Some(table)
    }

    /// Hands over an unlinked table and all tables below it. They are not written
    /// to: a walker may still be in them.
    #[inline(never)]
    pub(crate) fn retire_tree(&self, at: u64, level: i8, gather: &mut Gather<'_>) {
        let at = PhysAddr::new(at);
        if level < F::LAST {
            let Some(table) = self.memory.table::<F::Words>(at) else { return };
            for index in 0..Self::entries(level) {
                let word = F::load(table.words(), index);
                if self.next(word).is_some() {
                    self.retire_tree(self.format.linked(word), level + 1, gather);
                }
            }
        }
        self.memory.retire(at, &mut gather.tables);
    }

    /// Unmaps whatever is mapped in a range.
    pub(crate) fn unmap_all(
        &self,
        iova: Iova,
        size: u64,
        gather: &mut Gather<'_>,
    ) -> Result<u64, Error> {
        let smallest = 1u64 << F::shift(F::LAST);
        if size == 0 || size & (smallest - 1) != 0 {
            return Err(Error::PageSize(size));
        }
        let va = self.input(iova, size)?;
        if va & (smallest - 1) != 0 {
            return Err(Error::Unaligned(iova));
        }
        let last = va + (size - 1);
        self.cut(va, last, gather)?;
        let (mut at, mut bytes) = (va, 0);
        loop {
            let pages = ((last - at) >> F::shift(F::LAST)) as usize + 1;
            let done = match F::LAST {
                3 => self.unmap_entries::<3>(at, pages, gather),
                _ => self.unmap_entries::<2>(at, pages, gather),
            };
            let before = if bytes > 0 { at } else { va };
            let done = done.map_err(|error| self.stopped(va, before, gather, error))?;
            let done = (done as u64) << F::shift(F::LAST);
            bytes += done;
            if done > last - at {
                break;
            }
            at += done;
            // A hole: on to the end of what the empty entry covers.
            let found = self.find(at).map_err(|error| self.stopped(va, at, gather, error))?;
            let hole = 1u64 << F::shift(found.level);
            match (at | (hole - 1)).checked_add(1) {
                Some(next) if next <= last => at = next,
                _ => break,
            }
        }
        if bytes > 0 {
            gather.add(va | self.base, last | self.base, smallest);
        }
        Ok(bytes)
    }

    /// Hands over every table, the roots as one block.
    pub(crate) fn take_apart(&self, gather: &mut Gather<'_>) {
        let covers = 1u64 << self.root_shift;
        for nth in 0..self.roots as u64 {
            let Some(table) = self.root_table(nth * covers) else { continue };
            if self.start == F::LAST {
                continue;
            }
            for index in 0..Self::entries(self.start) {
                let word = F::load(table.words(), index);
                if self.next(word).is_some() {
                    self.retire_tree(self.format.linked(word), self.start + 1, gather);
                }
            }
        }
        self.memory.retire_root(self.root, &mut gather.tables);
        gather.add_everything();
    }
}
