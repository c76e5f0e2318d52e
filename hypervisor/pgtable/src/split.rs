//! Cutting a block or a run at the edge of a range, under the table's policy.

use palisade_hal::{Iova, barrier};
use palisade_mem::TableMemory;

use crate::config::SplitPolicy;
use crate::error::Error;
use crate::format::{Entry, Format};
use crate::gather::Gather;
use crate::reserve::Reserve;
use crate::space::Space;
use crate::walk::Found;

/// The longest run of entries: 128 (16 KiB granule, level 3).
const LONGEST_RUN: usize = 128;

impl<F: Format, M: TableMemory> Space<F, M> {
    /// Makes sure that no block and no run reaches over either end of
    /// `[first, last]`: refuses, or splits. Nothing inside the range is changed in
    /// meaning, so a refusal at one end leaves a split at the other harmless; to
    /// leave nothing at all behind, both ends are looked at before one is split.
    #[inline(never)]
    pub(crate) fn cut(&self, first: u64, last: u64, gather: &mut Gather<'_>) -> Result<(), Error> {
        let inside = |start: u64, end: u64| start >= first && end <= last;
        // All tables first: then neither end can fail for want of memory.
        let (mut any, mut tables) = (false, 0);
        for edge in [first, last] {
            let found = self.find(edge)?;
            let (start, end) = self.extent(&found, edge);
            if found.word != 0 && !inside(start, end) {
                any = true;
                let other = if start <= first && end >= last { last } else { edge };
                tables += Self::tables_to_cut(found.level, [edge, other], first, last);
            }
            if end >= last {
                // The other end is in the same leaf.
                break;
            }
        }
        if !any {
            return Ok(());
        }
        if self.config.split == SplitPolicy::Refuse {
            return Err(Error::PartialBlock(self.iova(first)));
        }
        let no_memory = Error::NoMemory(self.iova(first));
        let mut reserve = Reserve::new(self, tables).ok_or(no_memory)?;
        for edge in [first, last] {
            let end = loop {
                let found = self.find(edge)?;
                let (start, end) = self.extent(&found, edge);
                if found.word == 0 || inside(start, end) {
                    break end;
                }
                if self.in_run(&found) {
                    self.break_run(&found, start, end, gather)?;
                } else {
                    self.split_block(&found, start, end, &mut reserve, gather)?;
                }
            };
            if end >= last {
                break;
            }
        }
        Ok(())
    }

    /// How many tables it takes to cut one leaf of `level` at these ends, the same
    /// one twice if it holds only one of them: at each level one for each piece
    /// that reaches over the range.
    fn tables_to_cut(level: i8, ends: [u64; 2], first: u64, last: u64) -> usize {
        let mut tables = 0;
        for level in level..F::LAST {
            let size = 1u64 << F::shift(level);
            let over = |edge: u64| edge & !(size - 1) < first || edge | (size - 1) > last;
            tables += usize::from(over(ends[0]));
            if ends[0] & !(size - 1) != ends[1] & !(size - 1) {
                tables += usize::from(over(ends[1]));
            }
        }
        tables
    }

    fn in_run(&self, found: &Found<'_, F::Words>) -> bool {
        self.runs && F::run(found.level) != 0 && self.format.in_run(found.word, found.level)
    }

    /// First and last byte that the leaf, with its run, covers.
    fn extent(&self, found: &Found<'_, F::Words>, va: u64) -> (u64, u64) {
        let run = if self.in_run(found) { F::run(found.level) } else { 0 };
        let size = 1u64 << (F::shift(found.level) + run);
        (va & !(size - 1), va | (size - 1))
    }

    /// Replaces a block by a table of the next smaller leaves.
    fn split_block(
        &self,
        found: &Found<'_, F::Words>,
        start: u64,
        end: u64,
        reserve: &mut Reserve<'_, F, M>,
        gather: &mut Gather<'_>,
    ) -> Result<(), Error> {
        let Found { table: above, index, word, level } = *found;
        let corrupt = || self.corrupt(start, level, word);
        let Entry::Leaf(pa) = self.format.entry(word, level) else { return Err(corrupt()) };
        if level >= F::LAST {
            return Err(corrupt());
        }
        let (child, table) = reserve.take().ok_or_else(corrupt)?;
        let below = level + 1;
        let entries = Self::entries(below);
        let attributes = self.format.reattribute(word, level, below);
        self.format.fill(table.words(), 0, entries, attributes, pa, F::shift(below));
        table.add_live(entries);
        self.clean(table, 0, entries);
        let link = self.format.link(child.get(), level);
        if self.config.split == SplitPolicy::BreakBeforeMake {
            F::store(above.words(), index, 0);
            self.clean(above, index, 1);
            if let Err(error) = self.forget(start, end, gather) {
                F::publish(above.words(), index, word);
                self.clean(above, index, 1);
                table.sub_live(entries);
                self.memory.discard(child);
                return Err(error);
            }
        } else {
            gather.add(start | self.base, end | self.base, 1 << F::shift(F::LAST));
        }
        table.expose();
        F::publish(above.words(), index, link);
        self.clean(above, index, 1);
        self.sync();
        Ok(())
    }

    /// Takes the mark of a run from all its entries (D8.7.1).
    fn break_run(
        &self,
        found: &Found<'_, F::Words>,
        start: u64,
        end: u64,
        gather: &mut Gather<'_>,
    ) -> Result<(), Error> {
        let Found { table, index, level, .. } = *found;
        let words = table.words();
        let span = 1usize << F::run(level);
        let base = index & !(span - 1);
        let plain = |nth: usize, word: u64| match self.format.entry(word, level) {
            Entry::Leaf(pa) if F::REPEATS => {
                let attributes = self.format.with_run(word, level, false);
                self.format.leaf(attributes, pa + ((nth as u64) << F::shift(level)))
            }
            _ => self.format.with_run(word, level, false),
        };
        if self.config.split == SplitPolicy::InPlace && !F::REPEATS {
            for nth in 0..span {
                // Hardware may be setting a dirty bit meanwhile: change what is there.
                let mut old = F::load(words, base + nth);
                while let Err(now) = F::exchange(words, base + nth, old, plain(nth, old)) {
                    old = now;
                }
            }
            self.clean(table, base, span);
            gather.add(start | self.base, end | self.base, 1 << F::shift(F::LAST));
            self.sync();
            return Ok(());
        }
        let mut old = [0; LONGEST_RUN];
        for (nth, old) in old.iter_mut().enumerate().take(span) {
            *old = F::swap(words, base + nth, 0);
        }
        self.clean(table, base, span);
        let forgotten = self.forget(start, end, gather);
        for (nth, &old) in old.iter().enumerate().take(span) {
            let new = if forgotten.is_ok() { plain(nth, old) } else { old };
            F::store(words, base + nth, new);
        }
        self.clean(table, base, span);
        self.sync();
        forgotten
    }

    /// The waiting part of break before make.
    pub(crate) fn forget(&self, start: u64, end: u64, gather: &Gather<'_>) -> Result<(), Error> {
        barrier::dsb_ishst();
        let (iova, size) = (Iova::new(start | self.base), end - start + 1);
        gather.tlb().flush_walk(iova, size, 1 << F::shift(F::LAST))?;
        Ok(())
    }
}
