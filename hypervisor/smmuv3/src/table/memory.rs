//! Memory that the SMMU reads or writes.

use alloc::sync::Arc;

use palisade_hal::{PhysAddr, barrier, cache};
use palisade_iommu::{Argument, DriverError};
use palisade_mem::{Agent, Block, FRAME_SHIFT, Frames, Owner, Proof, Scope, Use};

use crate::spec::Words;

/// How an SMMU reaches memory.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    /// It sees the CPUs' caches.
    pub coherent: bool,
    /// Width of the addresses that it puts out, in bits: OAS (§3.4).
    pub output_bits: u8,
}

/// A zeroed, physically contiguous table or queue, aligned to its size rounded up to a power of
/// two of at least one frame.
pub(crate) struct Table {
    block: Block,
    frames: Arc<Frames>,
    coherent: bool,
}

impl Table {
    /// A table of at least `bytes` bytes that nothing knows of yet.
    ///
    /// # Errors
    /// [`DriverError::NoMemory`]; `Argument(Argument::OutputSize)` where the memory lies beyond
    /// what the SMMU can address: it would use the address cut short, or abort (§3.4).
    pub fn new(frames: &Arc<Frames>, bytes: u64, reach: Reach) -> Result<Self, DriverError> {
        let frames_log2 = bytes
            .max(1)
            .checked_next_power_of_two()
            .map(|size| size.trailing_zeros().saturating_sub(FRAME_SHIFT))
            .and_then(|log2| u8::try_from(log2).ok())
            .ok_or(DriverError::NoMemory)?;
        let block = frames
            .alloc_zeroed(frames_log2, Use::Dma, Owner::HYPERVISOR)
            .map_err(|_| DriverError::NoMemory)?;
        let table = Self { block, frames: frames.clone(), coherent: reach.coherent };
        // Aligned to its size, so that its first address says it of all.
        if table.pa().get() >> reach.output_bits != 0 {
            table.free();
            return Err(DriverError::Argument(Argument::OutputSize));
        }
        Ok(table)
    }

    /// Notes that the SMMU is about to be told of it.
    pub fn expose(&self) {
        self.frames.expose(&self.block);
    }

    /// Where the SMMU finds it.
    pub fn pa(&self) -> PhysAddr {
        self.block.start()
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.block.bytes()
    }

    /// Loads 64-bit word `index`; 0 outside.
    pub fn load(&self, index: usize) -> u64 {
        self.word(index, |word| word.load(core::sync::atomic::Ordering::Relaxed)).unwrap_or(0)
    }

    /// Loads the entry whose first word is `first`; zeroes outside.
    pub fn load_entry(&self, first: usize) -> Words {
        let mut entry = [0; 8];
        for (to, word) in entry.iter_mut().zip(self.words(first, 8).unwrap_or_default()) {
            *to = word.load(core::sync::atomic::Ordering::Relaxed);
        }
        entry
    }

    /// Stores 64-bit word `index` in one access; nothing outside.
    pub fn store(&self, index: usize, value: u64) {
        self.word(index, |word| word.store(value, core::sync::atomic::Ordering::Relaxed));
    }

    /// Stores pairs of words from `first` on, each word in one access; nothing when the last lies
    /// outside.
    pub fn store_pairs(&self, first: usize, pairs: impl ExactSizeIterator<Item = [u64; 2]>) {
        let Some(words) = self.words(first, pairs.len() * 2) else { return };
        for (to, [low, high]) in words.chunks_exact(2).zip(pairs) {
            let [first, second] = to else { continue };
            first.store(low, core::sync::atomic::Ordering::Relaxed);
            second.store(high, core::sync::atomic::Ordering::Relaxed);
        }
    }

    fn word<R>(
        &self,
        index: usize,
        then: impl FnOnce(&core::sync::atomic::AtomicU64) -> R,
    ) -> Option<R> {
        let offset = (index as u64).checked_mul(8).filter(|&at| at < self.block.bytes())?;
        let pa = self.block.start().checked_add(offset)?;
        self.frames.words(pa, 1, Use::Dma, Owner::HYPERVISOR)?.first().map(then)
    }

    /// Makes words `[first, first + count)` visible to the SMMU: a clean where it does not see
    /// the caches, and a barrier after it.
    #[track_caller]
    pub fn publish(&self, first: usize, count: usize) {
        if !self.coherent
            && let Some(words) = self.words(first, count)
        {
            cache::clean(words.as_ptr().cast(), count.saturating_mul(8));
        }
        barrier::dsb_st();
    }

    /// Orders the loads of words the SMMU has written after the load that showed they are there.
    #[track_caller]
    pub fn refresh(&self, first: usize, count: usize) {
        if !self.coherent
            && let Some(words) = self.words(first, count)
        {
            cache::clean_invalidate(words.as_ptr().cast(), count.saturating_mul(8));
        }
        barrier::dmb_oshld();
    }

    fn words(&self, first: usize, count: usize) -> Option<&[core::sync::atomic::AtomicU64]> {
        let offset = (first as u64).checked_mul(8)?;
        let end = offset.checked_add((count as u64).checked_mul(8)?)?;
        if end > self.block.bytes() {
            return None;
        }
        let pa = self.block.start().checked_add(offset)?;
        self.frames.words(pa, count, Use::Dma, Owner::HYPERVISOR)
    }

    /// Gives back a table that the SMMU was never told of; an exposed one is lost and counted.
    pub fn free(self) {
        // The only error hands the block back because it was exposed: dropping it leaks it, which
        // is what an unprovable release must do.
        let _ = self.frames.free(self.block);
    }

    /// Gives back a table that the SMMU knew of, after `forget` made it forget.
    ///
    /// # Errors
    /// That of `forget`; the frames are then quarantined.
    pub fn release(
        self,
        agent: &Agent,
        forget: impl FnOnce() -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        let Self { block, frames, .. } = self;
        let scope = Scope::new(CONFIGURATION_SCOPE);
        let detached = frames.detach(block, scope, agent.set());
        let ticket = agent.begin(scope);
        match forget() {
            Ok(()) => {
                let proof = Proof::new(scope).with(ticket.complete());
                frames.release_or_quarantine(detached, Some(&proof));
                Ok(())
            }
            Err(error) => {
                frames.release_or_quarantine(detached, None);
                Err(error)
            }
        }
    }
}

/// The scope of configuration structures: no domain has this number, and only the SMMU's own
/// agent is asked about it.
const CONFIGURATION_SCOPE: u32 = u32::MAX;
