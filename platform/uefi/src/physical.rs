//! The firmware's memory, as its own map shows it: one to one.

use palisade_acpi::Physical;

use crate::cpu;

/// Memory that the firmware has mapped.
pub(crate) struct Mapped;

impl Physical for Mapped {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        if address == 0 || length == 0 || length > isize::MAX as usize {
            return None;
        }
        if !cpu::all_mapped(address, length as u64) {
            return None;
        }
        // SAFETY: every page of it is mapped, and UEFI maps one to one (2.3.6.1). Firmware's
        // tables are written by nobody while an application runs.
        Some(unsafe { core::slice::from_raw_parts(address as *const u8, length) })
    }
}

/// Registers at a physical address, mapped by the firmware.
pub(crate) struct Mapping {
    base: u64,
}

impl Mapping {
    /// Registers at `base`, of which `size` bytes are mapped and will be accessed.
    ///
    /// # Safety
    /// They are a device's, and nobody else uses it.
    pub(crate) const unsafe fn new(base: u64) -> Self {
        Self { base }
    }
}

impl palisade_uefi::Registers for Mapping {
    fn read(&self, offset: u64) -> u32 {
        // SAFETY: promised by who made this.
        unsafe { ((self.base + offset) as *const u32).read_volatile() }
    }

    fn write(&self, offset: u64, value: u32) {
        // SAFETY: promised by who made this.
        unsafe { ((self.base + offset) as *mut u32).write_volatile(value) }
    }
}
