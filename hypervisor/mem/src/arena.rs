//! Memory for tests, at physical addresses that are no pointers.

use core::sync::atomic::AtomicU64;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::vec::Vec;

use palisade_hal::PhysAddr;

use crate::frames::PhysRange;
use crate::map::DirectMap;
use crate::tag::FRAME_BYTES;

/// A stretch of host memory that plays physical memory from `start`. Its host
/// address differs from every physical address in it. The memory goes back to a
/// pool when the arena is dropped and is never unmapped, so a stale pointer in
/// a test reads wrong data rather than crashing the test run.
#[derive(Debug)]
pub struct Arena {
    start: PhysAddr,
    frames: u64,
    host: usize,
}

static POOL: Mutex<BTreeMap<u64, Vec<usize>>> = Mutex::new(BTreeMap::new());

/// Host alignment: roots of 16 concatenated 64 KiB tables and 2 MiB blocks fit.
const ALIGN: u64 = 1 << 21;

impl Arena {
    /// `frames` frames of zeroes at physical address `start`, which should be a
    /// multiple of 2 MiB so that alignment means the same on both sides.
    ///
    /// # Panics
    /// When the host is out of memory.
    pub fn new(start: PhysAddr, frames: u64) -> Self {
        let bytes = frames * FRAME_BYTES;
        let pooled = POOL.lock().ok().and_then(|mut pool| pool.get_mut(&frames)?.pop());
        let host = pooled.unwrap_or_else(|| {
            let layout = Layout::from_size_align(bytes as usize, ALIGN as usize)
                .expect("an arena has a sane size");
            // SAFETY: the layout has a size above zero for any frame count above zero.
            let pointer = unsafe { alloc_zeroed(layout) };
            if pointer.is_null() {
                handle_alloc_error(layout);
            }
            pointer.expose_provenance()
        });
        if pooled.is_some() {
            let pointer = core::ptr::with_exposed_provenance_mut::<u8>(host);
            // SAFETY: the pool holds whole allocations of this many frames.
            unsafe { pointer.write_bytes(0, bytes as usize) };
        }
        Self { start, frames, host }
    }

    /// The window onto it.
    pub fn map(&self) -> DirectMap {
        let end = PhysAddr::new(self.start.get() + self.frames * FRAME_BYTES);
        // SAFETY: the allocation is that long and is never given back to the host.
        unsafe { DirectMap::new(self.start, end, self.host) }
    }

    /// All its memory, as the 8-byte words that anybody may change at any time.
    pub fn words(&self) -> &[AtomicU64] {
        let pointer = core::ptr::with_exposed_provenance::<AtomicU64>(self.host);
        // SAFETY: the allocation is that long, 2 MiB aligned and never given back; what lies
        // in it is reached as atomics only.
        unsafe { core::slice::from_raw_parts(pointer, (self.frames * FRAME_BYTES / 8) as usize) }
    }

    /// The physical range it plays.
    pub fn range(&self) -> PhysRange {
        PhysRange { start: self.start, bytes: self.frames * FRAME_BYTES }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Ok(mut pool) = POOL.lock() {
            pool.entry(self.frames).or_default().push(self.host);
        }
    }
}
