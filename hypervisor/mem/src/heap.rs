//! The hypervisor's own small heap.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use palisade_hal::lock::{Mutex, Rank};

/// A fixed heap, for the binaries' `#[global_allocator]`. The lock is a leaf;
/// EL2 runs with interrupts masked, so it is never taken twice on one core.
pub struct Heap(Mutex<buddy_system_allocator::Heap<32>>);

impl Heap {
    /// A heap without memory; every allocation fails until [`Heap::init`].
    pub const fn empty() -> Self {
        Self(Mutex::new(Rank::Heap, buddy_system_allocator::Heap::empty()))
    }

    /// Gives the heap its memory.
    ///
    /// # Safety
    /// `[start, start + bytes)` must be mapped, writable, unused by anything
    /// else for ever, and given once.
    pub unsafe fn init(&self, start: usize, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.0.lock().init(start, bytes) }
    }

    /// Bytes that users asked for and hold, and bytes in all.
    pub fn usage(&self) -> (usize, usize) {
        let heap = self.0.lock();
        (heap.stats_alloc_user(), heap.stats_total_bytes())
    }
}

// SAFETY: the buddy heap hands out disjoint, suitably aligned memory, and the
// lock makes each call exclusive.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().alloc(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(pointer) = NonNull::new(pointer) {
            // SAFETY: the caller of `dealloc` promises that `alloc` gave this
            // pointer for this layout.
            #[allow(unused_unsafe)]
            unsafe {
                self.0.lock().dealloc(pointer, layout)
            }
        }
    }
}
