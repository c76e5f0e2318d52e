//! The stream table (§3.3.1, §5.1, §5.2): linear, or two levels with second levels on demand.
//!
//! Invariant: every StreamID that reaches an entry reaches one that aborts, unless the driver was
//! told otherwise; one that reaches none aborts too.

use alloc::sync::Arc;

use palisade_hal::StreamId;
use palisade_hal::mmio::Mmio;
use palisade_iommu::DriverError;
use palisade_mem::Frames;

use crate::entry::encode::ste_abort;
use crate::features::Features;
use crate::regs::{self, STRTAB_BASE_CFG};
use crate::spec::{L1std, Words};
use crate::table::memory::{Reach, Table};
use crate::table::sparse::Small;

/// log2 of the STEs in a second level.
pub const SPLIT: u32 = 8;
/// L1STD.Span of a full second level: 2^(Span − 1) STEs (§5.1).
const FULL_SPAN: u64 = SPLIT as u64 + 1;
/// Widest linear table: 4 MiB of memory.
const LINEAR_BITS_MAX: u8 = 16;
/// Widest two-level table: a first level of 1 MiB. StreamIDs beyond abort as out of range.
const TWO_LEVEL_BITS_MAX: u8 = 25;
/// 64-bit words per STE.
const STE_WORDS: usize = 8;

enum Shape {
    Linear(Table),
    TwoLevel { first: Table, second: Small<Table> },
}

/// The stream table's memory.
pub(crate) struct StreamTable {
    shape: Shape,
    bits: u8,
    frames: Arc<Frames>,
    reach: Reach,
}

/// Whether a second level had to be made, so that its L1STD may be cached as invalid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prepared {
    Present,
    New,
}

impl StreamTable {
    /// A table in which every stream aborts.
    ///
    /// # Errors
    /// [`DriverError::NoMemory`].
    pub fn new(frames: &Arc<Frames>, features: &Features) -> Result<Self, DriverError> {
        let reach = features.reach();
        let two_level = features.two_level_streams && u32::from(features.stream_bits) > SPLIT;
        let (shape, bits) = if two_level {
            let bits = features.stream_bits.min(TWO_LEVEL_BITS_MAX);
            let entries = 1u64 << (u32::from(bits) - SPLIT);
            let first = Table::new(frames, entries * 8, reach)?;
            (Shape::TwoLevel { first, second: Small::new() }, bits)
        } else {
            let bits = features.stream_bits.min(LINEAR_BITS_MAX);
            let table = Table::new(frames, (STE_WORDS as u64 * 8) << bits, reach)?;
            fill_abort(&table, 1 << bits);
            (Shape::Linear(table), bits)
        };
        Ok(Self { shape, bits, frames: frames.clone(), reach })
    }

    /// Gives the memory back; only before [`install`](Self::install).
    pub fn free(self) {
        match self.shape {
            Shape::Linear(table) => table.free(),
            Shape::TwoLevel { first, .. } => first.free(),
        }
    }

    /// Width of the StreamIDs it covers.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Tells the SMMU where it is; CR0.SMMUEN must be 0 (§6.3.24, §6.3.25).
    pub fn install(&self, mmio: &Mmio) {
        let size = STRTAB_BASE_CFG::LOG2SIZE.val(u32::from(self.bits));
        let (table, shape) = match &self.shape {
            Shape::Linear(table) => (table, STRTAB_BASE_CFG::FMT::Linear),
            Shape::TwoLevel { first, .. } => {
                (first, STRTAB_BASE_CFG::FMT::TwoLevel + STRTAB_BASE_CFG::SPLIT.val(SPLIT))
            }
        };
        table.expose();
        // Zeroed (no second level, all invalid) or full of abort entries, and visible.
        table.publish(0, (table.bytes() / 8) as usize);
        mmio.set(regs::STRTAB_BASE, regs::BASE_ALLOCATE | table.pa().get());
        mmio.write(regs::STRTAB_BASE_CFG, size + shape);
    }

    fn check(&self, stream: StreamId) -> Result<(), DriverError> {
        if u64::from(stream.get()) >> self.bits != 0 {
            return Err(DriverError::UnknownStream(stream));
        }
        Ok(())
    }

    /// Makes sure that `stream` has an entry. After `New` the caller must have the SMMU forget
    /// the L1STD (CMD_CFGI_STE with Leaf = 0) before it relies on the entry.
    ///
    /// # Errors
    /// [`DriverError::UnknownStream`], [`DriverError::NoMemory`].
    pub fn prepare(&mut self, stream: StreamId) -> Result<Prepared, DriverError> {
        self.check(stream)?;
        let Shape::TwoLevel { first, second } = &mut self.shape else {
            return Ok(Prepared::Present);
        };
        let index = stream.get() >> SPLIT;
        if second.contains(index) {
            return Ok(Prepared::Present);
        }
        second.reserve()?;
        let table = Table::new(&self.frames, (STE_WORDS as u64 * 8) << SPLIT, self.reach)?;
        fill_abort(&table, 1 << SPLIT);
        table.expose();
        // The entries are visible before the pointer to them is.
        table.publish(0, (table.bytes() / 8) as usize);
        let mut descriptor = [0];
        L1std::SPAN.set(&mut descriptor, FULL_SPAN);
        L1std::L2_PTR.set_address(&mut descriptor, table.pa().get());
        first.store(index as usize, descriptor[0]);
        first.publish(index as usize, 1);
        second.put(index, table);
        Ok(Prepared::New)
    }

    /// The memory that holds the entry of `stream`, and the index of its first word.
    ///
    /// # Errors
    /// [`DriverError::UnknownStream`] outside the table; [`DriverError::State`] before
    /// [`prepare`](Self::prepare).
    pub fn entry(&self, stream: StreamId) -> Result<(&Table, usize), DriverError> {
        self.check(stream)?;
        match &self.shape {
            Shape::Linear(table) => Ok((table, stream.get() as usize * STE_WORDS)),
            Shape::TwoLevel { second, .. } => {
                let table = second.get(stream.get() >> SPLIT).ok_or(DriverError::State(stream))?;
                let index = (stream.get() & ((1 << SPLIT) - 1)) as usize;
                Ok((table, index * STE_WORDS))
            }
        }
    }

    /// The entry of `stream` as it is in memory; `None` where it has none, and so aborts.
    pub fn read(&self, stream: StreamId) -> Option<Words> {
        let (table, first) = self.entry(stream).ok()?;
        Some(table.load_entry(first))
    }

    /// Every stream with an entry, in order.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> {
        let (linear, second) = match &self.shape {
            Shape::Linear(_) => (Some(0..1u32 << self.bits), None),
            Shape::TwoLevel { second, .. } => (None, Some(second)),
        };
        let two = second
            .into_iter()
            .flat_map(|second| second.keys())
            .flat_map(|index| (index << SPLIT)..((index << SPLIT) | ((1 << SPLIT) - 1)) + 1);
        linear.into_iter().flatten().chain(two).map(StreamId::new)
    }
}

fn fill_abort(table: &Table, entries: usize) {
    // Every word but the first is 0 in an abort entry, and the table is zeroed.
    let abort = ste_abort().0[0];
    for entry in 0..entries {
        table.store(entry * STE_WORDS, abort);
    }
}
