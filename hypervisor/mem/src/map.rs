//! How physical memory appears to this program: one linear window.

use core::ptr::NonNull;

use palisade_hal::PhysAddr;

/// A linear window from physical addresses to pointers. On the machine it is
/// one to one; in a test it is shifted, so that mixing the two up crashes.
#[derive(Clone, Copy, Debug)]
pub struct DirectMap {
    /// Pointer of physical address 0, modulo 2^64.
    shift: usize,
    start: u64,
    end: u64,
}

impl DirectMap {
    /// The window onto `[start, end)` whose first byte lies at `pointer`.
    ///
    /// # Safety
    /// The whole range must be mapped there, readable and writable, for ever,
    /// and Rust must know no other object inside.
    pub unsafe fn new(start: PhysAddr, end: PhysAddr, pointer: usize) -> Self {
        Self {
            shift: pointer.wrapping_sub(start.get() as usize),
            start: start.get(),
            end: end.get().max(start.get()),
        }
    }

    /// Where `bytes` bytes from `pa` are, or `None` if not all inside.
    pub(crate) fn pointer(&self, pa: PhysAddr, bytes: u64) -> Option<NonNull<u8>> {
        let end = pa.get().checked_add(bytes)?;
        if pa.get() < self.start || end > self.end {
            return None;
        }
        let at = (pa.get() as usize).wrapping_add(self.shift);
        NonNull::new(core::ptr::with_exposed_provenance_mut(at))
    }

    /// Where `pa` is, for a frame that is already known to lie inside.
    #[inline(always)]
    pub(crate) fn pointer_within(&self, pa: PhysAddr) -> NonNull<u8> {
        let at = (pa.get() as usize).wrapping_add(self.shift);
        let pointer = core::ptr::with_exposed_provenance_mut::<u8>(at);
        debug_assert!(!pointer.is_null());
        // SAFETY: pointers ascend through the window, so only the first frame of a
        // range can be at the null pointer, and `Frames::new` leaves that one out.
        unsafe { NonNull::new_unchecked(pointer) }
    }

    /// The physical address of a pointer into the window, or `None` outside.
    pub fn physical(&self, pointer: *const u8) -> Option<PhysAddr> {
        let pa = pointer.addr().wrapping_sub(self.shift) as u64;
        (self.start..self.end).contains(&pa).then_some(PhysAddr::new(pa))
    }

    /// The first physical address of the window.
    pub fn start(&self) -> PhysAddr {
        PhysAddr::new(self.start)
    }

    /// One past the last physical address of the window.
    pub fn end(&self) -> PhysAddr {
        PhysAddr::new(self.end)
    }
}
