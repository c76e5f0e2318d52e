//! The end of boot services, and the jump.

use alloc::vec::Vec;

use palisade_acpi::{EfiMemory, usable};
use palisade_board::Range;
use palisade_uefi::{Refusal, abort_all, no_bus_mastering};
use uefi::Status;
use uefi::mem::memory_map::{MemoryDescriptor, MemoryMap};
use uefi::runtime::ResetType;

use crate::cpu;
use crate::physical::Mapping;

/// What must be quiet before the hypervisor runs, and where it is.
pub(crate) struct Plan {
    /// Configuration space from the first bus on, and how many buses.
    pub(crate) hosts: Vec<(u64, u64)>,
    /// Register page 0 of each SMMU.
    pub(crate) smmus: Vec<u64>,
    /// RAM that the tree gives to the hypervisor.
    pub(crate) ram: Vec<Range>,
    /// What the hypervisor reads with its caches off.
    pub(crate) clean: Vec<Range>,
    pub(crate) entry: u64,
    pub(crate) tree: u64,
}

impl Plan {
    /// Whether the firmware's own map reaches what must be written: it stays in force until then.
    ///
    /// # Errors
    /// Something is not mapped.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        const BUS: u64 = 1 << 20;
        for (base, buses) in &self.hosts {
            for bus in 0..*buses {
                let at = base.saturating_add(bus.saturating_mul(BUS));
                if !cpu::mapped(at) || !cpu::mapped(at.saturating_add(BUS - 4096)) {
                    return Err(Refusal::NotMapped { what: "PCIe configuration space", at });
                }
            }
        }
        match self.smmus.iter().find(|base| !cpu::mapped(**base)) {
            Some(base) => Err(Refusal::NotMapped { what: "an SMMU", at: *base }),
            None => Ok(()),
        }
    }

    /// Ends boot services, makes devices and SMMUs quiet, and jumps. Nothing is allocated.
    pub(crate) fn run(self) -> ! {
        // SAFETY: no protocol is open, and nothing is freed or printed any more.
        let map = unsafe { uefi::boot::exit_boot_services(None) };
        cpu::mask();
        for (base, buses) in &self.hosts {
            // SAFETY: mapped, as `check` saw; boot services have ended, and with them the drivers.
            no_bus_mastering(&unsafe { Mapping::new(*base) }, *buses);
        }
        for base in &self.smmus {
            // SAFETY: the same. One that does not answer the hypervisor will name: nothing masters
            // the bus until then.
            let _ = abort_all(&unsafe { Mapping::new(*base) });
        }
        // Drivers that end may have asked for memory to be kept. The tree cannot be mended now.
        if map.entries().any(|descriptor| self.given_away(descriptor)) {
            uefi::runtime::reset(ResetType::COLD, Status::ABORTED, None);
        }
        for range in &self.clean {
            cpu::clean(range.start(), range.size());
        }
        // The jump itself goes on with the caches off.
        cpu::clean(cpu::jump as *const () as u64, 256);
        core::mem::forget(map);
        // SAFETY: the image is at its address, the caches are clean, boot services have ended.
        unsafe { cpu::jump(self.entry, self.tree) }
    }

    /// Whether this memory is not free, although the tree says so.
    fn given_away(&self, descriptor: &MemoryDescriptor) -> bool {
        let descriptor = memory(descriptor);
        let Some(size) = descriptor.pages.checked_mul(4096) else { return true };
        let range = Range::new(descriptor.start, size);
        usable(&descriptor).is_none()
            && range.is_some_and(|range| self.ram.iter().any(|ram| ram.overlaps(&range)))
    }
}

/// The same in our words.
pub(crate) fn memory(descriptor: &MemoryDescriptor) -> EfiMemory {
    EfiMemory {
        kind: descriptor.ty.0,
        start: descriptor.phys_start,
        pages: descriptor.page_count,
        attributes: descriptor.att.bits(),
    }
}
