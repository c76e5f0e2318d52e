//! Memory that the hypervisor shares with a device: queues, stream tables.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::{PhysAddr, barrier, cache};

use crate::block::Block;
use crate::error::FrameError;
use crate::frames::Frames;
use crate::tag::{FRAME_SHIFT, Owner, Use};

/// A zeroed, physically contiguous buffer that a device reads or writes,
/// aligned to its length (a power of two of at least one frame).
///
/// It is meant to live as long as the device; dropped, its frames stay lost,
/// since a device may hold the address for ever.
#[derive(Debug)]
pub struct DmaBuffer {
    block: Block,
    frames: Arc<Frames>,
    bytes: u64,
    coherent: bool,
}

impl DmaBuffer {
    /// A buffer of at least `bytes` bytes. `coherent` says whether the device
    /// sees the CPU's caches; if not, [`DmaBuffer::publish`] cleans.
    ///
    /// # Errors
    /// [`FrameError::OutOfMemory`].
    pub fn new(frames: &Arc<Frames>, bytes: u64, coherent: bool) -> Result<Self, FrameError> {
        let wanted = bytes.max(1).checked_next_power_of_two();
        let order = wanted.map_or(u32::MAX, |w| w.trailing_zeros().saturating_sub(FRAME_SHIFT));
        let order = u8::try_from(order).unwrap_or(u8::MAX);
        let block = frames.alloc_zeroed(order, Use::Dma, Owner::HYPERVISOR)?;
        frames.expose(&block);
        Ok(Self { block, frames: frames.clone(), bytes, coherent })
    }

    /// Where the device finds it.
    pub fn pa(&self) -> PhysAddr {
        self.block.start()
    }

    /// Length asked for, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its 8-byte words.
    pub fn words(&self) -> &[AtomicU64] {
        let count = (self.block.bytes() / 8) as usize;
        let owner = Owner::HYPERVISOR;
        self.frames.words(self.pa(), count, Use::Dma, owner).unwrap_or(&[])
    }

    /// Loads word `index`; 0 outside.
    pub fn load(&self, index: usize) -> u64 {
        self.words().get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Stores word `index`; nothing outside. Visible to the device after
    /// [`DmaBuffer::publish`] at the latest, and possibly at once.
    pub fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.words().get(index) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Makes words `[first, first + count)` visible to the device: a clean where
    /// it does not see the caches, and a barrier.
    #[track_caller]
    pub fn publish(&self, first: usize, count: usize) {
        if !self.coherent
            && let Some(words) = self.words().get(first..first.saturating_add(count))
        {
            cache::clean(words.as_ptr().cast(), count.saturating_mul(8));
        }
        barrier::dsb_st();
    }

    /// Forgets cached copies of words that the device has written.
    #[track_caller]
    pub fn refresh(&self, first: usize, count: usize) {
        if !self.coherent
            && let Some(words) = self.words().get(first..first.saturating_add(count))
        {
            cache::clean_invalidate(words.as_ptr().cast(), count.saturating_mul(8));
        }
        barrier::dmb_oshld();
    }
}
