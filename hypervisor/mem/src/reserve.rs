//! Frames set aside for one user.
//!
//! What a guest makes the hypervisor take is taken from a reserve that was set aside when the VM
//! was built: it can use up its own and nothing else, and nobody else can use up its own.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::block::Block;
use crate::error::FrameError;
use crate::frames::Frames;
use crate::tag::{Owner, Use};

/// A number of frames that only its holder takes. Which frames they are is not said; single ones
/// can always be had, longer blocks while memory is not in pieces. Dropped, it sets what is left
/// of it free.
#[derive(Debug)]
pub struct Reserve {
    frames: Arc<Frames>,
    left: AtomicU64,
}

impl Reserve {
    /// Nothing yet.
    pub fn new(frames: Arc<Frames>) -> Self {
        Self { frames, left: AtomicU64::new(0) }
    }

    /// Sets `count` frames more aside.
    ///
    /// # Errors
    /// [`FrameError::TooFew`]: so many are not available; nothing has changed.
    pub fn grow(&self, count: u64) -> Result<(), FrameError> {
        self.frames.set_aside(count)?;
        self.left.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// Frames that are set aside and not taken.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// 2^`order` zeroed frames of the reserve.
    ///
    /// # Errors
    /// [`FrameError::TooFew`] when the reserve is used up; [`FrameError::OutOfMemory`].
    pub(crate) fn alloc_zeroed(
        &self,
        order: u8,
        of: Use,
        owner: Owner,
    ) -> Result<Block, FrameError> {
        let count = 1u64.checked_shl(u32::from(order)).unwrap_or(u64::MAX);
        let less = |left: u64| left.checked_sub(count);
        let spent = self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let left = spent.err();
        if let Some(available) = left {
            return Err(FrameError::TooFew { wanted: count, available });
        }
        let block = self.frames.alloc_set_aside(order, of, owner);
        if block.is_err() {
            self.left.fetch_add(count, Ordering::Relaxed);
        }
        block
    }

    /// `count` frames that were taken come back, now or against a proof soon.
    #[inline]
    pub(crate) fn put_back(&self, count: u64) {
        self.frames.count_set_aside(count);
        self.left.fetch_add(count, Ordering::Relaxed);
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.frames.set_free(*self.left.get_mut());
    }
}
