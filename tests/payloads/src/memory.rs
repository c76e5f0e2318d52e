//! The identity map, pages of our own, and single accesses.

use core::cell::UnsafeCell;

/// A 4 KiB page of memory that devices may also write.
#[repr(C, align(4096))]
pub struct Page(UnsafeCell<[u8; 4096]>);

// SAFETY: a payload has one core; what a device writes is only ever read volatile.
unsafe impl Sync for Page {}

impl Page {
    /// A page of zeros.
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; 4096]))
    }

    /// Its address, the same for us and for our devices.
    pub fn address(&self) -> usize {
        self.0.get() as usize
    }

    /// Fills it with a 32-bit pattern.
    pub fn fill(&self, pattern: u32) {
        for at in (0..4096).step_by(4) {
            // SAFETY: inside this page, aligned.
            unsafe { write32(self.address() + at, pattern) };
        }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

/// One level of 512 blocks of 1 GiB: devices below RAM and above 256 GiB, RAM in between.
#[repr(C, align(4096))]
pub struct Table([u64; 512]);

const fn table() -> Table {
    const BLOCK: u64 = 0b01;
    const NORMAL: u64 = 1 << 2;
    const INNER_SHAREABLE: u64 = 3 << 8;
    const ACCESSED: u64 = 1 << 10;
    const NO_EXECUTE: u64 = 3 << 53;
    let mut entries = [0; 512];
    let mut at = 0;
    while at < 512 {
        let address = (at as u64) << 30;
        let kind = if at >= 1 && at < 256 { NORMAL | INNER_SHAREABLE } else { NO_EXECUTE };
        entries[at] = address | kind | ACCESSED | BLOCK;
        at += 1;
    }
    Table(entries)
}

/// The map that the first instructions switch on.
pub static TABLE: Table = table();

/// Reads a word of a register or of memory.
///
/// # Safety
/// The address is aligned and reading there is harmless, or the fault is wanted.
pub unsafe fn read32(address: usize) -> u32 {
    let value;
    // SAFETY: the caller's. One plain load: a trap on it can be decoded from its syndrome.
    unsafe {
        core::arch::asm!("ldr {0:w}, [{1}]", out(reg) value, in(reg) address,
                         options(nostack, preserves_flags));
    }
    value
}

/// Writes a word of a register or of memory.
///
/// # Safety
/// The address is aligned and what lies there is ours to write, or the fault is wanted.
pub unsafe fn write32(address: usize, value: u32) {
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!("str {0:w}, [{1}]", in(reg) value, in(reg) address,
                         options(nostack, preserves_flags));
    }
}

/// Reads eight bytes.
///
/// # Safety
/// As [`read32`].
pub unsafe fn read64(address: usize) -> u64 {
    let value;
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!("ldr {0}, [{1}]", out(reg) value, in(reg) address,
                         options(nostack, preserves_flags));
    }
    value
}

/// Writes eight bytes.
///
/// # Safety
/// As [`write32`].
pub unsafe fn write64(address: usize, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!("str {0}, [{1}]", in(reg) value, in(reg) address,
                         options(nostack, preserves_flags));
    }
}

/// Orders our accesses to memory before what a device is told next.
pub fn barrier() {
    // SAFETY: a barrier has no other effect.
    unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Cleans `bytes` bytes to the point of coherency, for a device that does not see the caches.
pub fn clean(address: usize, bytes: usize) {
    for at in (address..address + bytes).step_by(16) {
        // SAFETY: cleaning a line changes nothing that can be read.
        unsafe { core::arch::asm!("dc cvac, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    barrier();
}
