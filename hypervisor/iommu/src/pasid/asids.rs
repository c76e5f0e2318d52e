//! Who holds which ASID of a space.

use palisade_hal::{Asid, SubstreamId};
use palisade_mem::SortedMap;

use super::space::{PasidError, TableId};
use crate::ids::IdPool;
use crate::sva::ProcessKey;

/// Who holds an ASID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A descriptor of one table entry alone; it can move to another ASID.
    Private {
        /// The table.
        table: TableId,
        /// The entry.
        substream: SubstreamId,
    },
    /// A process, whose CPUs use the number too.
    Process(ProcessKey),
    /// Nobody; something may still be cached under it, for ever.
    Lost,
}

/// The ASIDs `1..=2^bits − 1` of a space.
#[derive(Debug)]
pub(super) struct Asids {
    pool: IdPool,
    holders: SortedMap<u16, Holder>,
}

impl Asids {
    /// ASIDs of `bits` (at most 16). The shift is done in 32 bits and the limit is inclusive:
    /// the last number of the space is given out, and the one after it never.
    pub(super) fn new(bits: u8) -> Self {
        let max = (1u32 << bits.min(16)) - 1;
        Self { pool: IdPool::new(max as u16), holders: SortedMap::new() }
    }

    pub(super) fn holder(&self, asid: Asid) -> Option<Holder> {
        self.holders.get(&asid.get()).copied()
    }

    /// A free ASID for `holder`.
    pub(super) fn alloc(&mut self, holder: Holder) -> Result<Asid, PasidError> {
        let asid = self.pool.alloc(u16::MAX).ok_or(PasidError::NoAsid)?;
        self.holders.insert(asid, holder);
        Ok(Asid::new(asid))
    }

    /// Exactly `asid` for `holder`.
    pub(super) fn take(&mut self, asid: Asid, holder: Holder) -> Result<(), PasidError> {
        if !self.pool.take(asid.get()) {
            return Err(PasidError::BadAsid(asid));
        }
        self.holders.insert(asid.get(), holder);
        Ok(())
    }

    /// Gives a clean ASID back.
    pub(super) fn free(&mut self, asid: Asid) {
        self.holders.remove(&asid.get());
        self.pool.free(asid.get());
    }

    /// Gives an ASID up that may still tag something.
    pub(super) fn lose(&mut self, asid: Asid) {
        self.holders.insert(asid.get(), Holder::Lost);
        self.pool.lose(asid.get());
    }

    pub(super) fn used(&self) -> u32 {
        self.pool.used()
    }

    pub(super) fn lost(&self) -> u32 {
        self.pool.lost()
    }
}
