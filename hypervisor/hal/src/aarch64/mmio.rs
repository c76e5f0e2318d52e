//! A block of device registers.

use core::arch::asm;

use crate::PhysAddr;

/// A pointer to a block of device registers. Cheap to copy; every access is
/// exactly one load or store of the named width.
#[derive(Clone)]
pub struct Mmio {
    base: usize,
    bytes: u64,
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $ldr:literal, $str:literal) => {
        #[doc = concat!("One load of a `", stringify!($type), "` at `offset` bytes; 0 outside the block.")]
        #[inline]
        pub fn $read(&self, offset: u64) -> $type {
            let Some(at) = self.at(offset, size_of::<$type>() as u64) else { return 0 };
            let value: $type;
            // SAFETY: `at` lies inside the block that `new` was promised to be
            // mapped as Device memory. Plain LDR: syndromes stay decodable if a
            // hypervisor runs below.
            unsafe {
                asm!($ldr, out(reg) value, in(reg) at, options(nostack, preserves_flags));
            }
            value
        }

        #[doc = concat!("One store of a `", stringify!($type), "` at `offset` bytes; ignored outside the block.")]
        #[inline]
        pub fn $write(&self, offset: u64, value: $type) {
            let Some(at) = self.at(offset, size_of::<$type>() as u64) else { return };
            // SAFETY: as for the load; what the device does with the value is the
            // business of the driver that owns the block.
            unsafe {
                asm!($str, in(reg) value, in(reg) at, options(nostack, preserves_flags));
            }
        }
    };
}

impl Mmio {
    /// The block of `bytes` bytes at `base`.
    ///
    /// # Safety
    /// `base` must be mapped one to one as Device memory, read-write, for as long
    /// as the value or a clone lives, and the caller must own the device there.
    pub unsafe fn new(base: PhysAddr, bytes: u64) -> Self {
        Self { base: base.get() as usize, bytes }
    }

    /// Length of the block in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The sub-block of `bytes` bytes at `offset`, clipped to this block.
    pub fn slice(&self, offset: u64, bytes: u64) -> Self {
        let start = offset.min(self.bytes);
        Self { base: self.base + start as usize, bytes: bytes.min(self.bytes - start) }
    }

    #[inline]
    fn at(&self, offset: u64, width: u64) -> Option<usize> {
        let fits = offset.checked_add(width)? <= self.bytes;
        fits.then_some(self.base + offset as usize)
    }

    access!(read8, write8, u8, "ldrb {0:w}, [{1}]", "strb {0:w}, [{1}]");
    access!(read16, write16, u16, "ldrh {0:w}, [{1}]", "strh {0:w}, [{1}]");
    access!(read32, write32, u32, "ldr {0:w}, [{1}]", "str {0:w}, [{1}]");
    access!(read64, write64, u64, "ldr {0:x}, [{1}]", "str {0:x}, [{1}]");
}
