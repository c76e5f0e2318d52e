//! What is behind a context table.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::{Asid, Iova, StreamId, SubstreamId, Vmid};

use crate::driver::{Context, ContextView, DriverError, Invalidation};
use crate::instance::Instance;
use crate::sva::Range;

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
    /// The driver's; the entry is then `old` again, wherever the hardware still answers.
    fn write(
        &self,
        substream: SubstreamId,
        old: Option<&Context>,
        new: Option<&Context>,
    ) -> Result<(), DriverError>;

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
    ) -> Result<(), DriverError> {
        let driver = self.instance.driver();
        for (done, &stream) in self.streams.iter().enumerate() {
            if let Err(error) = driver.write_context(stream, substream, new) {
                for &stream in self.streams.iter().take(done).rev() {
                    // Nothing better can be done than to try; the caller learns of the failure.
                    let _ = driver.write_context(stream, substream, old);
                }
                return Err(error);
            }
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
