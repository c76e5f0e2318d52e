//! The one descent: from the root towards an address, level by level.

use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Table, TableMemory, Words};

use crate::error::Error;
use crate::format::{Entry, Format};
use crate::space::Space;
use crate::table::{Leaf, Walk};

/// Where a descent arrived: the table of the wanted level, and the entry of the
/// table above that points to it (none for the root).
pub(crate) struct Reached<'a, W> {
    pub table: Table<'a, W>,
    pub parent: Option<(Table<'a, W>, usize)>,
}

/// Where a descent ended early.
pub(crate) enum Stop<'a, W> {
    /// At an entry that does not lead to a table.
    Entry { table: Table<'a, W>, index: usize, word: u64, level: i8 },
    /// The root itself is not one of our tables.
    Root,
}

/// An entry met by a walk at run-time levels.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a, W> {
    pub table: Table<'a, W>,
    pub index: usize,
    pub word: u64,
    pub level: i8,
}

impl<F: Format, M: TableMemory> Space<F, M> {
    /// Index of `va` in its table at `level`.
    #[inline(always)]
    pub(crate) fn index(level: i8, va: u64) -> usize {
        (va >> F::shift(level)) as usize & ((1 << F::bits(level)) - 1)
    }

    /// The (piece of the) root that covers `va`.
    #[inline(always)]
    pub(crate) fn root_table(&self, va: u64) -> Option<Table<'_, F::Words>> {
        let nth = va >> self.root_shift;
        let at = self.root.get().wrapping_add(nth.wrapping_mul(F::Words::BYTES));
        self.memory.table(PhysAddr::new(at))
    }

    /// The table that an entry points to, if it points to one of ours.
    #[inline(always)]
    pub(crate) fn next(&self, word: u64) -> Option<Table<'_, F::Words>> {
        self.memory.table(PhysAddr::new(self.format.linked(word)))
    }

    /// Goes down to the table of level `T` that covers `va`.
    #[inline(always)]
    pub(crate) fn descend<const T: i8>(
        &self,
        va: u64,
    ) -> Result<Reached<'_, F::Words>, Stop<'_, F::Words>> {
        let mut table = self.root_table(va).ok_or(Stop::Root)?;
        let mut parent = None;
        // Constant bounds: unrolled, so that every shift is a constant.
        let mut level = F::TOP;
        while level < T {
            if level >= self.start {
                let index = Self::index(level, va);
                let word = F::load(table.words(), index);
                match self.next(word) {
                    Some(next) => {
                        parent = Some((table, index));
                        table = next;
                    }
                    None => return Err(Stop::Entry { table, index, word, level }),
                }
            }
            level += 1;
        }
        Ok(Reached { table, parent })
    }

    /// The entry that decides about `va`, at whatever level.
    pub(crate) fn find(&self, va: u64) -> Result<Found<'_, F::Words>, Error> {
        let mut table = self.root_table(va).ok_or(self.root_lost(va))?;
        let mut level = self.start;
        loop {
            let index = Self::index(level, va);
            let word = F::load(table.words(), index);
            if level < F::LAST
                && let Some(next) = self.next(word)
            {
                table = next;
                level += 1;
                continue;
            }
            return match self.format.entry(word, level) {
                Entry::Invalid if word == 0 => Ok(Found { table, index, word, level }),
                Entry::Leaf(_) => Ok(Found { table, index, word, level }),
                _ => Err(self.corrupt(va, level, word)),
            };
        }
    }

    /// Translates `va`. The walk cache holds only what is in range.
    #[inline(always)]
    pub(crate) fn translate(&self, va: u64) -> Option<PhysAddr> {
        if let Some((table, last)) = self.cached(va) {
            // Each arm with constant shifts.
            let pa = if last {
                let word = F::load(table.words(), Self::index(F::LAST, va));
                self.leaf_address(word, F::LAST, va)
            } else {
                let word = F::load(table.words(), Self::index(F::LAST - 1, va));
                self.leaf_address(word, F::LAST - 1, va)
            };
            if pa.is_some() {
                return pa;
            }
        }
        self.translate_by_walk(va)
    }

    #[inline(never)]
    fn translate_by_walk(&self, va: u64) -> Option<PhysAddr> {
        if va > self.mask {
            return None;
        }
        let mut table = self.root_table(va)?;
        let mut at = self.root.get();
        let mut level = F::TOP;
        while level <= F::LAST {
            if level >= self.start {
                let word = F::load(table.words(), Self::index(level, va));
                match if level < F::LAST { self.next(word) } else { None } {
                    Some(next) => {
                        table = next;
                        at = self.format.linked(word);
                    }
                    None => {
                        let pa = self.leaf_address(word, level, va);
                        if pa.is_some() && level >= F::LAST - 1 && level > self.start {
                            self.remember(va, at, level == F::LAST);
                        }
                        return pa;
                    }
                }
            }
            level += 1;
        }
        None
    }

    #[inline(always)]
    fn leaf_address(&self, word: u64, level: i8, va: u64) -> Option<PhysAddr> {
        let Entry::Leaf(pa) = self.format.entry(word, level) else { return None };
        let mut shift = F::shift(level);
        if F::REPEATS && self.format.in_run(word, level) {
            shift += F::run(level);
        }
        Some(PhysAddr::new(pa | va & ((1 << shift) - 1)))
    }

    /// Every entry on the way to `va`.
    pub(crate) fn walk_to(&self, va: u64) -> Walk {
        let mut walk = Walk::default();
        let mut steps = walk.steps.iter_mut();
        let mut table = self.root_table(va);
        let mut level = self.start;
        while let Some(at) = table {
            let index = Self::index(level, va);
            let word = F::load(at.words(), index);
            if let Some(step) = steps.next() {
                *step = Some((level, index, word));
            }
            table = if level < F::LAST { self.next(word) } else { None };
            if table.is_none() {
                match self.format.entry(word, level) {
                    Entry::Leaf(_) => walk.leaf = Some(self.leaf(va, level, word)),
                    Entry::Invalid => walk.corrupt = word != 0,
                    Entry::Table(_) => walk.corrupt = true,
                }
                return walk;
            }
            level += 1;
        }
        walk.corrupt = true;
        walk
    }

    /// The leaf `word` of `level` that covers `va`.
    pub(crate) fn leaf(&self, va: u64, level: i8, word: u64) -> Leaf {
        let size = 1u64 << F::shift(level);
        let first = va & !(size - 1);
        let pa = match self.format.entry(word, level) {
            Entry::Leaf(pa) if F::REPEATS && self.format.in_run(word, level) => {
                pa | first & ((size << F::run(level)) - 1)
            }
            Entry::Leaf(pa) | Entry::Table(pa) => pa,
            Entry::Invalid => 0,
        };
        Leaf { iova: Iova::new(first | self.base), pa: PhysAddr::new(pa), size, level, word }
    }

    #[cold]
    pub(crate) fn corrupt(&self, va: u64, level: i8, word: u64) -> Error {
        Error::Corrupt { iova: Iova::new(va | self.base), level, word }
    }

    #[cold]
    pub(crate) fn root_lost(&self, va: u64) -> Error {
        self.corrupt(va, self.start, 0)
    }
}
