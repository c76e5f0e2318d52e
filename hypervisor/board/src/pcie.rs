//! A PCIe host bridge with ECAM.

use arrayvec::ArrayVec;

use crate::{Interrupt, Range};

/// Most address windows that are kept per host.
pub const MAX_WINDOWS: usize = 16;
/// Most lines of an interrupt-map that are kept.
pub const MAX_INTERRUPT_MAP: usize = 128;
/// Most lines of an iommu-map or msi-map that are kept.
pub const MAX_ID_MAP: usize = 32;

/// A PCIe host bridge whose configuration space is memory-mapped (ECAM).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PcieHost {
    /// Configuration space: 1 MiB per bus, from `first_bus`.
    pub ecam: Range,
    /// `linux,pci-domain`: the segment number.
    pub segment: u16,
    /// First bus number.
    pub first_bus: u8,
    /// Last bus number, clipped to what `ecam` holds.
    pub last_bus: u8,
    /// Address windows.
    pub windows: ArrayVec<Window, MAX_WINDOWS>,
    /// `interrupt-map-mask`: the bits of the unit address (its first cell) and
    /// of the pin that take part.
    pub interrupt_mask: (u32, u32),
    /// INTx pins to wires.
    pub interrupt_map: ArrayVec<InterruptMapEntry, MAX_INTERRUPT_MAP>,
    /// Requester IDs to StreamIDs.
    pub iommu_map: IdMap,
    /// Requester IDs to DeviceIDs.
    pub msi_map: IdMap,
    /// Devices' DMA snoops the CPUs' caches.
    pub coherent: bool,
    /// Bus numbers and addresses are the firmware's, and stay as they are.
    pub keep: bool,
}

impl PcieHost {
    /// The wire of pin `pin` (1 = INTA … 4 = INTD) of the device in slot
    /// `device` (0..=31) of the root bus.
    pub fn interrupt(&self, device: u8, pin: u8) -> Option<Interrupt> {
        let unit = (u32::from(device) << 11) & self.interrupt_mask.0;
        let pin = u32::from(pin) & self.interrupt_mask.1;
        self.interrupt_map
            .iter()
            .find(|line| line.unit == unit && line.pin == pin)
            .map(|line| line.interrupt)
    }
}

/// What kind of addresses a window carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// I/O ports.
    Io,
    /// 32-bit memory.
    Memory32,
    /// 64-bit memory.
    Memory64,
}

/// A window through which the CPU reaches the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// What kind of addresses it carries.
    pub space: Space,
    /// Reads have no side effects.
    pub prefetchable: bool,
    /// First address on the bus.
    pub bus: u64,
    /// Where the CPU sees it.
    pub cpu: Range,
}

/// A line of an interrupt-map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterruptMapEntry {
    /// First cell of the child's unit address, already masked.
    pub unit: u32,
    /// The pin, already masked.
    pub pin: u32,
    /// Where it leads.
    pub interrupt: Interrupt,
}

/// A map from requester IDs to the IDs of an SMMU or an ITS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IdMap {
    /// `iommu-map-mask`/`msi-map-mask`: applied to a requester ID first.
    pub mask: Option<u32>,
    /// The lines, in the tree's order.
    pub entries: ArrayVec<IdMapEntry, MAX_ID_MAP>,
}

impl IdMap {
    /// The controller's phandle and the ID there of a requester ID
    /// (bus << 8 | device << 3 | function). `None`: nothing stands before it.
    pub fn lookup(&self, requester: u16) -> Option<(u32, u32)> {
        let id = u32::from(requester) & self.mask.unwrap_or(u32::MAX);
        self.entries.iter().find_map(|entry| {
            let offset = id.checked_sub(entry.input)?;
            if offset >= entry.length {
                return None;
            }
            Some((entry.controller, entry.output.checked_add(offset)?))
        })
    }
}

/// A line of an [`IdMap`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdMapEntry {
    /// First requester ID.
    pub input: u32,
    /// The controller's phandle.
    pub controller: u32,
    /// The ID of `input` there.
    pub output: u32,
    /// How many IDs follow one another.
    pub length: u32,
}
