//! The other way round from a split: a full table of equal leaves becomes one block.
//! Never done by itself, only when asked for.

use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Table, TableMemory};

use crate::config::SplitPolicy;
use crate::error::Error;
use crate::format::{Entry, Format};
use crate::gather::Gather;
use crate::space::Space;

impl<F: Format, M: TableMemory> Space<F, M> {
    /// Replaces the table below one entry by a block of `size` bytes.
    #[cold]
    #[inline(never)]
    pub(crate) fn collapse_at(
        &self,
        iova: Iova,
        size: u64,
        gather: &mut Gather<'_>,
    ) -> Result<(), Error> {
        let level = match self.level_of(size) {
            Some((level, false)) if level < F::LAST => level,
            _ => return Err(Error::PageSize(size)),
        };
        let va = self.input(iova, size)?;
        if va & (size - 1) != 0 {
            return Err(Error::Unaligned(iova));
        }
        let found = self.find(va)?;
        if found.word != 0 && found.level <= level {
            // A block already, or part of a larger one.
            return Ok(());
        }
        let differ = Error::NotUniform(iova);
        let above = self.table_at(va, level).ok_or(differ)?;
        let index = Self::index(level, va);
        let word = F::load(above.words(), index);
        let table = self.next(word).ok_or(differ)?;
        let block = self.uniform(table, va, level).ok_or(differ)?;
        if self.config.split == SplitPolicy::Refuse {
            return Err(Error::Refused(iova));
        }
        // Hardware that records writes could do so in a page between look and store.
        if self.config.split == SplitPolicy::BreakBeforeMake || self.config.tracks_dirty() {
            F::store(above.words(), index, 0);
            self.clean(above, index, 1);
            let forgotten = self.forget(va, va + (size - 1), gather);
            let same = self.uniform(table, va, level) == Some(block);
            if forgotten.is_err() || !same {
                F::publish(above.words(), index, word);
                self.clean(above, index, 1);
                self.sync();
                return forgotten.and(Err(differ));
            }
        }
        F::publish(above.words(), index, block);
        self.clean(above, index, 1);
        self.sync();
        self.forget_all();
        self.memory.retire(PhysAddr::new(self.format.linked(word)), &mut gather.tables);
        gather.add(va | self.base, (va + (size - 1)) | self.base, 1 << F::shift(F::LAST));
        Ok(())
    }

    /// The block of `level` that says what the leaves of the table below it say, if it can.
    fn uniform(&self, table: Table<'_, F::Words>, va: u64, level: i8) -> Option<u64> {
        let below = level + 1;
        if table.live() != Self::entries(below) {
            return None;
        }
        let leaf = |nth: usize| {
            let word = F::load(table.words(), nth);
            let Entry::Leaf(_) = self.format.entry(word, below) else { return None };
            let pa = self.leaf(va + ((nth as u64) << F::shift(below)), below, word).pa.get();
            Some((pa, self.format.reattribute(word, below, level)))
        };
        let (first, attributes) = leaf(0)?;
        if first & ((1 << F::shift(level)) - 1) != 0 {
            return None;
        }
        let alike =
            |nth: usize| leaf(nth) == Some((first + ((nth as u64) << F::shift(below)), attributes));
        (0..Self::entries(below)).all(alike).then(|| self.format.leaf(attributes, first))
    }
}
