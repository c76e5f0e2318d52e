//! Visiting leaves, and collecting which were written.

use palisade_hal::Iova;
use palisade_mem::TableMemory;

use crate::error::Error;
use crate::format::{Entry, Format};
use crate::gather::Gather;
use crate::space::Space;
use crate::walk::Found;

impl<F: Format, M: TableMemory> Space<F, M> {
    /// Calls `visit` for every leaf that overlaps the range, with an address in it.
    pub(crate) fn each_leaf(
        &self,
        iova: Iova,
        size: u64,
        mut visit: impl FnMut(Found<'_, F::Words>, u64),
    ) -> Result<(), Error> {
        if size == 0 {
            return Ok(());
        }
        let mut at = self.input(iova, size)?;
        let last = at + (size - 1);
        loop {
            let found = self.find(at)?;
            let shift = F::shift(found.level);
            // The rest of this table, as far as it holds leaves or nothing.
            for index in found.index..Self::entries(found.level) {
                let word = F::load(found.table.words(), index);
                match self.format.entry(word, found.level) {
                    Entry::Leaf(_) => visit(Found { index, word, ..found }, at),
                    Entry::Invalid if word == 0 => {}
                    Entry::Table(_) => break,
                    Entry::Invalid => return Err(self.corrupt(at, found.level, word)),
                }
                match (at | ((1 << shift) - 1)).checked_add(1) {
                    Some(next) if next <= last => at = next,
                    _ => return Ok(()),
                }
            }
        }
    }

    /// Records and cleans what was written in a range.
    pub(crate) fn harvest(
        &self,
        iova: Iova,
        size: u64,
        gather: &mut Gather<'_>,
        record: &mut dyn FnMut(Iova, u64),
    ) -> Result<(), Error> {
        if !self.config.tracks_dirty() {
            return Err(Error::Unsupported);
        }
        let granule = 1 << F::shift(F::LAST);
        self.each_leaf(iova, size, |found, va| {
            let Found { table, index, level, .. } = found;
            let mut word = found.word;
            while self.format.is_written(word) {
                match F::exchange(table.words(), index, word, self.format.cleaned(word)) {
                    Ok(_) => {
                        let leaf = self.leaf(va, level, word);
                        self.clean(table, index, 1);
                        let first = leaf.iova.get();
                        gather.add(first, first + (leaf.size - 1), granule);
                        record(leaf.iova, leaf.size);
                        return;
                    }
                    // Hardware changed it in between.
                    Err(now) => word = now,
                }
            }
        })
    }
}
