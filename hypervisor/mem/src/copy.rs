//! Bounds- and owner-checked copies in and out of frames that a guest or a
//! device may change at any time.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use palisade_hal::{PhysAddr, cache, copy};

use crate::error::FrameError;
use crate::frames::Frames;
use crate::tag::{Owner, Use};

impl Frames {
    fn cells(&self, pa: PhysAddr, len: usize, owner: Owner) -> Result<&[AtomicU8], FrameError> {
        let bytes = len as u64;
        if !self.all(pa, bytes, Use::Guest, owner) {
            return Err(FrameError::NotOurs(pa));
        }
        let pointer = self.map().pointer(pa, bytes).ok_or(FrameError::NotOurs(pa))?;
        // SAFETY: the range is mapped for ever and is a guest's RAM, which Rust
        // reaches as atomics only.
        Ok(unsafe { core::slice::from_raw_parts(pointer.cast().as_ptr(), len) })
    }

    /// Copies a guest's RAM out. Each byte is read once.
    ///
    /// # Errors
    /// [`FrameError::NotOurs`] unless all of it is RAM of `owner`.
    pub fn copy_from_guest(
        &self,
        pa: PhysAddr,
        to: &mut [u8],
        owner: Owner,
    ) -> Result<(), FrameError> {
        let cells = self.cells(pa, to.len(), owner)?;
        let (head, body, tail) = split(cells);
        let (first, rest) = to.split_at_mut(head.len());
        let (middle, last) = rest.split_at_mut(body.len() * 8);
        for (byte, cell) in first.iter_mut().zip(head) {
            *byte = cell.load(Ordering::Relaxed);
        }
        for (chunk, word) in middle.chunks_exact_mut(8).zip(body) {
            chunk.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        for (byte, cell) in last.iter_mut().zip(tail) {
            *byte = cell.load(Ordering::Relaxed);
        }
        Ok(())
    }

    /// Zeroes a guest's RAM and leaves it clean to the point of coherency.
    ///
    /// # Errors
    /// [`FrameError::NotOurs`] unless all of it is RAM of `owner`.
    pub fn zero_guest(&self, pa: PhysAddr, bytes: usize, owner: Owner) -> Result<(), FrameError> {
        let cells = self.cells(pa, bytes, owner)?;
        let start = cells.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: all of it is RAM of `owner`, which Rust knows as atomic cells only; a guest or
        // a device that writes meanwhile harms its own contents.
        unsafe { cache::zero(start, bytes) };
        Ok(())
    }

    /// Copies into a guest's RAM and cleans it to the point of coherency, so that
    /// a guest with its caches off sees it.
    ///
    /// # Errors
    /// [`FrameError::NotOurs`] unless all of it is RAM of `owner`.
    pub fn copy_to_guest(&self, pa: PhysAddr, from: &[u8], owner: Owner) -> Result<(), FrameError> {
        let cells = self.cells(pa, from.len(), owner)?;
        let (head, body, tail) = split(cells);
        let (first, rest) = from.split_at(head.len());
        let (middle, last) = rest.split_at(body.len() * 8);
        for (byte, cell) in first.iter().zip(head) {
            cell.store(*byte, Ordering::Relaxed);
        }
        // SAFETY: `middle` has as many bytes as `body`, which is at an 8-byte boundary and known
        // as atomics only; a guest's RAM is never where a slice of ours is.
        unsafe {
            copy::copy_words(body.as_ptr().cast_mut().cast(), middle.as_ptr(), body.len());
        }
        for (byte, cell) in last.iter().zip(tail) {
            cell.store(*byte, Ordering::Relaxed);
        }
        cache::clean_invalidate(cells.as_ptr().cast(), cells.len());
        Ok(())
    }
}

/// Bytes up to the first 8-byte boundary, whole words, and the rest.
fn split(cells: &[AtomicU8]) -> (&[AtomicU8], &[AtomicU64], &[AtomicU8]) {
    // SAFETY: eight adjacent AtomicU8 at an 8-byte boundary have the size and
    // alignment of an AtomicU64, and any bit pattern is valid for both.
    unsafe { cells.align_to() }
}
