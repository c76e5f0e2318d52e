//! What is behind a context table.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::{Asid, Iova, StreamId, SubstreamId, Vmid};

use crate::driver::{Context, ContextView, DriverError, Invalidation};
use crate::instance::Instance;
use crate::sva::Range;

/// Why an entry was not changed, and whether a trace of the new one is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// Why.
    pub error: DriverError,
    /// Every stream has the old entry again, and nothing is cached under the new one's ASID; else
    /// that ASID can never be given to another address space.
    pub undone: bool,
}

/// The memory and the hardware behind a context table.
///
/// Called under the space's lock: nothing here may call back.
pub trait ContextStore: Send + Sync {
    /// Width of a SubstreamID in this table.
    fn bits(&self) -> u8;

    /// Makes sure that `write` of this entry needs no memory. Replayable.
    ///
    /// # Errors
    /// The driver's; nothing is then changed.
    fn prepare(&self, substream: SubstreamId) -> Result<(), DriverError>;

    /// Changes an entry from `old` to `new`, synchronised when it returns.
    ///
    /// # Errors
    /// The driver's. Some streams may have translated by `new` meanwhile; unless
    /// [`Unwritten::undone`] says that they have not left anything, its ASID is unclean for good.
    fn write(
        &self,
        substream: SubstreamId,
        old: Option<&Context>,
        new: Option<&Context>,
    ) -> Result<(), Unwritten>;

    /// Forgets every translation under `asid`, and every translation that a device holds for
    /// the given entries. One batch.
    ///
    /// # Errors
    /// The driver's: nothing counts as forgotten.
    fn forget(&self, asid: Asid, substreams: &[SubstreamId]) -> Result<(), DriverError>;

    /// As [`forget`](Self::forget), for ranges of addresses; empty ones send nothing.
    ///
    /// # Errors
    /// The driver's: nothing counts as forgotten.
    fn forget_ranges(
        &self,
        asid: Asid,
        substreams: &[SubstreamId],
        ranges: &[Range],
    ) -> Result<(), DriverError>;
}

/// The context tables of all streams of one group, behind one IOMMU.
pub struct StreamContexts {
    pub(crate) instance: Arc<Instance>,
    pub(crate) streams: Vec<StreamId>,
    pub(crate) vmid: Vmid,
    pub(crate) bits: u8,
    pub(crate) ats: bool,
    pub(crate) view: Arc<dyn ContextView + Send + Sync>,
}

/// Device invalidations of one batch at most; where more would be needed, the devices forget
/// everything instead. The batch lives on the hypervisor's heap, and a guest says how much there
/// is to forget.
const DEVICE_ITEMS: usize = 256;

impl StreamContexts {
    /// Appends what devices must forget, where they remember anything: `ranges` of every one of
    /// `substreams`, each its start and length.
    fn devices(
        &self,
        batch: &mut Vec<Invalidation>,
        substreams: &[SubstreamId],
        ranges: impl Iterator<Item = (Iova, u64)> + Clone,
    ) {
        if !self.ats {
            return;
        }
        let each = ranges.clone().count().saturating_mul(substreams.len());
        if each.saturating_mul(self.streams.len()) > DEVICE_ITEMS {
            batch.extend(self.streams.iter().map(|&stream| Invalidation::Device {
                stream,
                substream: None,
                start: Iova::new(0),
                size: u64::MAX,
            }));
            return;
        }
        for (start, size) in ranges {
            for &stream in &self.streams {
                batch.extend(substreams.iter().map(|&substream| Invalidation::Device {
                    stream,
                    substream: Some(substream),
                    start,
                    size,
                }));
            }
        }
    }
}

impl ContextStore for StreamContexts {
    fn bits(&self) -> u8 {
        self.bits
    }

    fn prepare(&self, substream: SubstreamId) -> Result<(), DriverError> {
        self.streams.iter().try_for_each(|&stream| {
            self.instance.driver().prepare_context(stream, substream, &*self.view)
        })
    }

    fn write(
        &self,
        substream: SubstreamId,
        old: Option<&Context>,
        new: Option<&Context>,
    ) -> Result<(), Unwritten> {
        let driver = self.instance.driver();
        for (done, &stream) in self.streams.iter().enumerate() {
            let Err(error) = driver.write_context(stream, substream, new) else { continue };
            // All of them, whatever one says.
            let back = |&stream| driver.write_context(stream, substream, old);
            let restored = self.streams.iter().take(done).rev().map(back).fold(Ok(()), Result::and);
            // The streams before this one translated under the new ASID for a while, and so did
            // this one, if what failed is the answer.
            let forgotten = match new {
                Some(new) if !new.quiet => self.forget(new.asid, &[substream]),
                _ => Ok(()),
            };
            let undone = restored.and(forgotten);
            if let Err(also) = undone {
                log::error!("stream {stream}: {error}, and undoing it: {also}");
            }
            return Err(Unwritten { error, undone: undone.is_ok() });
        }
        Ok(())
    }

    fn forget(&self, asid: Asid, substreams: &[SubstreamId]) -> Result<(), DriverError> {
        let mut batch = alloc::vec![Invalidation::Asid { vmid: self.vmid, asid }];
        self.devices(&mut batch, substreams, core::iter::once((Iova::new(0), u64::MAX)));
        self.instance.driver().invalidate(&batch)
    }

    fn forget_ranges(
        &self,
        asid: Asid,
        substreams: &[SubstreamId],
        ranges: &[Range],
    ) -> Result<(), DriverError> {
        let vmid = self.vmid;
        let changed = || ranges.iter().filter(|range| range.size() > 0);
        let own = changed().map(|range| {
            let Range { start, granule, leaf, .. } = *range;
            Invalidation::StageOne { vmid, asid, start, size: range.size(), granule, leaf }
        });
        let mut batch: Vec<Invalidation> = own.collect();
        if batch.is_empty() {
            return Ok(());
        }
        // The devices last: asked before, one could fetch anew what the IOMMU still holds.
        self.devices(&mut batch, substreams, changed().map(|range| (range.start, range.size())));
        self.instance.driver().invalidate(&batch)
    }
}
