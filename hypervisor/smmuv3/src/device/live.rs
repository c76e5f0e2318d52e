//! One entry that the SMMU may be reading: an STE or a CD in a table of ours.

use palisade_hal::Env;

use crate::device::smmu::Smmu;
use crate::entry::writer::EntryWriter;
use crate::error::QueueError;
use crate::spec::{Cmd, Words};
use crate::table::memory::Table;

/// What hardware makes of the bits of one kind of entry.
pub(crate) struct Kind {
    /// Those of an entry that are read.
    pub used: fn(&Words) -> Words,
    /// Those that may change all the same, from one entry to another.
    pub safe: fn(&Words, &Words) -> Words,
}

/// The entry at word `first` of `table`, and the command that makes the SMMU forget it.
pub(crate) struct LiveEntry<'a, E: Env> {
    pub smmu: &'a Smmu<E>,
    pub kind: &'static Kind,
    pub table: &'a Table,
    pub first: usize,
    pub forget: Cmd,
}

impl<E: Env> EntryWriter for LiveEntry<'_, E> {
    type Error = QueueError;

    fn used(&self, entry: &Words) -> Words {
        (self.kind.used)(entry)
    }

    fn safe(&self, current: &Words, target: &Words) -> Words {
        (self.kind.safe)(current, target)
    }

    fn store(&mut self, word: usize, value: u64) {
        self.table.store(self.first + word, value);
    }

    fn sync(&mut self) -> Result<(), QueueError> {
        self.table.publish(self.first, Words::default().len());
        self.smmu.run(&[self.forget])
    }
}
