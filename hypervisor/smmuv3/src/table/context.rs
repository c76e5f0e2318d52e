//! Context-descriptor tables that the hypervisor owns (§3.3.3, §5.3, §5.4): linear, or two levels
//! with 64 KiB leaves on demand.

use alloc::sync::Arc;

use palisade_hal::{StreamId, SubstreamId};
use palisade_iommu::{Argument, ContextView, DriverError, Feature};
use palisade_mem::{Agent, Frames};

use crate::features::Features;
use crate::spec::{L1cd, S1Fmt, Words};
use crate::table::memory::{Reach, Table};
use crate::table::sparse::Small;

/// log2 of the CDs in a leaf of 64 KiB.
const LEAF_BITS: u8 = 10;
/// Bytes per CD.
const CD_BYTES: u64 = 64;
/// 64-bit words per CD.
const CD_WORDS: usize = 8;
/// What a [`ContextView`] is asked for in multiples of.
const PAGE: u64 = 4096;

/// Memory with the address the SMMU fetches it from.
struct Fetched {
    table: Table,
    fetch: u64,
}

impl Fetched {
    /// Withdraws the memory and gives it back; `forget` makes the SMMU forget what it held of it.
    fn give_back(
        self,
        agent: &Agent,
        view: &dyn ContextView,
        forget: &dyn Fn() -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        let bytes = self.table.bytes().next_multiple_of(PAGE) as usize;
        self.table.release(agent, || view.withdraw(self.fetch, bytes).and_then(|()| forget()))
    }
}

/// A leaf of 2^10 descriptors that no table points at yet.
pub(crate) struct Leaf(Fetched);

impl Leaf {
    /// An empty leaf.
    ///
    /// # Errors
    /// [`DriverError::NoMemory`], or the view's.
    pub fn new(
        frames: &Arc<Frames>,
        reach: Reach,
        view: &dyn ContextView,
    ) -> Result<Self, DriverError> {
        publish(frames, CD_BYTES << LEAF_BITS, reach, view).map(Self)
    }

    /// Gives a leaf back that was never linked.
    ///
    /// # Errors
    /// The view's; its memory is then quarantined.
    pub fn discard(self, agent: &Agent, view: &dyn ContextView) -> Result<(), DriverError> {
        self.0.give_back(agent, view, &|| Ok(()))
    }
}

enum Shape {
    Linear(Fetched),
    TwoLevel { first: Fetched, leaves: Small<Fetched> },
}

/// One stream's table.
pub(crate) struct ContextTable {
    shape: Shape,
    bits: u8,
}

fn publish(
    frames: &Arc<Frames>,
    bytes: u64,
    reach: Reach,
    view: &dyn ContextView,
) -> Result<Fetched, DriverError> {
    let table = Table::new(frames, bytes, reach)?;
    let shown = bytes.next_multiple_of(PAGE) as usize;
    // Zeroes, and visible, before anyone knows the address.
    table.publish(0, (table.bytes() / 8) as usize);
    match view.publish(table.pa(), shown, table.bytes() as usize) {
        Ok(fetch) => {
            table.expose();
            Ok(Fetched { table, fetch })
        }
        Err(error) => {
            table.free();
            Err(error)
        }
    }
}

impl ContextTable {
    /// An empty table of 2^`bits` substreams.
    ///
    /// # Errors
    /// `Unsupported(Feature::Substreams)`, those of [`Table::new`], or the view's.
    pub fn new(
        frames: &Arc<Frames>,
        features: &Features,
        bits: u8,
        view: &dyn ContextView,
    ) -> Result<Self, DriverError> {
        if bits > features.context_bits() {
            return Err(DriverError::Unsupported(Feature::Substreams));
        }
        let reach = features.reach();
        let shape = if bits <= LEAF_BITS {
            Shape::Linear(publish(frames, CD_BYTES << bits, reach, view)?)
        } else {
            let first = publish(frames, 8 << (bits - LEAF_BITS), reach, view)?;
            Shape::TwoLevel { first, leaves: Small::new() }
        };
        Ok(Self { shape, bits })
    }

    /// log2 of the number of substreams: S1CDMax.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// S1Fmt.
    pub fn format(&self) -> S1Fmt {
        match self.shape {
            Shape::Linear(_) => S1Fmt::Linear,
            Shape::TwoLevel { .. } => S1Fmt::Leaf64K,
        }
    }

    /// S1ContextPtr.
    pub fn pointer(&self) -> u64 {
        match &self.shape {
            Shape::Linear(table) => table.fetch,
            Shape::TwoLevel { first, .. } => first.fetch,
        }
    }

    fn check(&self, substream: SubstreamId) -> Result<(), DriverError> {
        if substream.get() >> self.bits != 0 {
            return Err(DriverError::Argument(Argument::Substream));
        }
        Ok(())
    }

    /// Whether `substream` has no place yet, so that a leaf must be linked; there is room to note
    /// it then.
    ///
    /// # Errors
    /// `Argument(Argument::Substream)` beyond the table, [`DriverError::NoMemory`].
    pub fn lacks_leaf(&mut self, substream: SubstreamId) -> Result<bool, DriverError> {
        self.check(substream)?;
        let Shape::TwoLevel { leaves, .. } = &mut self.shape else { return Ok(false) };
        if leaves.contains(substream.get() >> LEAF_BITS) {
            return Ok(false);
        }
        leaves.reserve()?;
        Ok(true)
    }

    /// Links the leaf that `substream` lacks; the SMMU must then forget the L1CD (CMD_CFGI_CD with
    /// Leaf = 0).
    pub fn link(&mut self, substream: SubstreamId, Leaf(leaf): Leaf) {
        let Shape::TwoLevel { first, leaves } = &mut self.shape else { return };
        let index = substream.get() >> LEAF_BITS;
        let mut descriptor = [0];
        L1cd::V.set(&mut descriptor, 1);
        L1cd::L2_PTR.set_address(&mut descriptor, leaf.fetch);
        first.table.store(index as usize, descriptor[0]);
        first.table.publish(index as usize, 1);
        leaves.put(index, leaf);
    }

    /// The memory that holds the descriptor of `substream`, and the index of its first word.
    ///
    /// # Errors
    /// `Argument(Argument::Substream)` beyond the table; [`DriverError::State`] before
    /// [`link`](Self::link).
    pub fn entry(
        &self,
        stream: StreamId,
        substream: SubstreamId,
    ) -> Result<(&Table, usize), DriverError> {
        self.check(substream)?;
        match &self.shape {
            Shape::Linear(table) => Ok((&table.table, substream.get() as usize * CD_WORDS)),
            Shape::TwoLevel { leaves, .. } => {
                let leaf =
                    leaves.get(substream.get() >> LEAF_BITS).ok_or(DriverError::State(stream))?;
                let index = (substream.get() & ((1 << LEAF_BITS) - 1)) as usize;
                Ok((&leaf.table, index * CD_WORDS))
            }
        }
    }

    /// The descriptor of `substream` as it is in memory.
    ///
    /// # Errors
    /// As [`entry`](Self::entry).
    pub fn read(&self, stream: StreamId, substream: SubstreamId) -> Result<Words, DriverError> {
        let (table, first) = self.entry(stream, substream)?;
        Ok(table.load_entry(first))
    }

    /// Gives the memory back, the leaves first. `forget` makes the SMMU forget the whole table
    /// and must have been proven before anything is reused; it runs once per piece.
    ///
    /// # Errors
    /// The first error of `forget` or of the view; what it concerned is quarantined or lost.
    pub fn destroy(
        self,
        agent: &Agent,
        view: &dyn ContextView,
        forget: &dyn Fn() -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        let mut outcome = Ok(());
        let mut give_back = |piece: Fetched| {
            let result = piece.give_back(agent, view, forget);
            if outcome.is_ok() {
                outcome = result;
            }
        };
        match self.shape {
            Shape::Linear(table) => give_back(table),
            Shape::TwoLevel { first, leaves } => {
                leaves.into_values().for_each(&mut give_back);
                give_back(first);
            }
        }
        outcome
    }
}
