//! The book of all assignable devices.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_board::PcieHost;
use palisade_hal::lock::{Mutex, Rank};
use palisade_iommu::{Condition, DeviceId, Group, Iommus};
use palisade_pci::{Address, Config, Function, ResetMethod, Topology};

use super::lines::LineBook;
use super::refusal::Refusal;

/// Base class of bridges and host bridges (PCI Code and ID Assignment, 1.7).
const CLASS_BRIDGE: u32 = 0x06;

/// A physical host with everything behind it.
#[derive(Clone)]
pub struct Bus {
    /// What the board says of it.
    pub host: PcieHost,
    /// What enumeration found.
    pub topology: Arc<Topology>,
}

/// A device that has, or had, an owner.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The device.
    pub address: Address,
    /// Index of the VM that owns it.
    pub owner: Option<u16>,
    /// Where its owner's guest sees it: bus << 8 | device << 3 | function.
    pub guest: u16,
    /// Where it is in its life.
    pub condition: Condition,
    /// An SMMU keeps its DMA inside its owner.
    pub isolated: bool,
    /// INTID of its INTx wire, while its owner receives it.
    pub wire: Option<u32>,
    /// It translates by itself.
    pub(super) ats: bool,
    /// Segment and requester ID of its messages, while its owner receives them.
    pub(super) messages: Option<u32>,
    /// How it is reset; `None`: not at all, as the operator said.
    pub(super) method: Option<ResetMethod>,
    /// How long it may still access memory, in milliseconds.
    pub(super) settle_ms: u32,
}

/// The book of all assignable devices.
///
/// One assignment or return runs at a time; another core that wants one waits for the resets of
/// the first. Lock order: before the IOMMU core's.
pub struct Passthrough {
    buses: Vec<Bus>,
    pub(super) operation: Mutex<()>,
    pub(super) rows: Mutex<Vec<Row>>,
    lines: Arc<LineBook>,
}

/// A function and where it was found.
#[derive(Clone, Copy)]
pub(super) struct Found<'p> {
    pub(super) bus: &'p Bus,
    pub(super) index: usize,
    pub(super) function: &'p Function,
}

impl Found<'_> {
    /// Its configuration space.
    pub(super) fn config(&self) -> Config<'_> {
        self.bus.topology.ecam().config(self.function.address)
    }
}

impl Passthrough {
    /// A book without owners, over these hosts. Their wires are kept for their devices.
    pub fn new(buses: Vec<Bus>) -> Self {
        let lines = LineBook::new();
        for entry in buses.iter().flat_map(|bus| &bus.host.interrupt_map) {
            lines.reserve_wire(entry.interrupt.intid);
        }
        let (operation, rows) =
            (Mutex::new(Rank::Assignment, ()), Mutex::new(Rank::Ownership, Vec::new()));
        Self { buses, operation, rows, lines: Arc::new(lines) }
    }

    /// The owners of interrupt lines.
    pub fn lines(&self) -> &Arc<LineBook> {
        &self.lines
    }

    /// The hosts.
    pub fn buses(&self) -> &[Bus] {
        &self.buses
    }

    /// Every device that has or had an owner.
    pub fn rows(&self) -> Vec<Row> {
        self.rows.lock().clone()
    }

    /// How long a device may still access memory after its owner lost it, in milliseconds, as
    /// the manifest of an owner said; 0 where nobody has.
    pub fn settle_ms(&self, address: Address) -> u32 {
        let rows = self.rows.lock();
        rows.iter().find(|row| row.address == address).map_or(0, |row| row.settle_ms)
    }

    /// Finds an endpoint that a VM may own.
    pub(super) fn find(&self, address: Address) -> Result<Found<'_>, Refusal> {
        let found = self.buses.iter().find_map(|bus| {
            let index = bus.topology.find(address).ok()?;
            Some(Found { bus, index, function: bus.topology.function(index)? })
        });
        let found = found.ok_or(Refusal::Absent(address))?;
        if !found.function.is_endpoint() || found.function.class >> 24 == CLASS_BRIDGE {
            return Err(Refusal::NotAssignable(address));
        }
        Ok(found)
    }

    /// How many streams the devices of VM `vm` have, with all of their groups.
    pub fn streams_of(&self, vm: u16, iommus: &Iommus) -> usize {
        let mut groups: Vec<Arc<Group>> = Vec::new();
        for row in self.rows().iter().filter(|row| row.owner == Some(vm)) {
            let Ok(Some(group)) = group(iommus, row.address) else { continue };
            if !groups.iter().any(|known| Arc::ptr_eq(known, &group)) {
                groups.push(group);
            }
        }
        groups.iter().map(|group| group.streams().len()).sum()
    }

    /// A device's wire does not come back with it: its owner keeps it.
    pub(super) fn keep_wire(&self, address: Address) {
        let mut rows = self.rows.lock();
        rows.iter_mut().filter(|row| row.address == address).for_each(|row| row.wire = None);
    }

    /// Notes a device's new state.
    pub(super) fn note(&self, row: Row) {
        let mut rows = self.rows.lock();
        match rows.iter_mut().find(|known| known.address == row.address) {
            Some(known) => *known = row,
            None => rows.push(row),
        }
    }
}

/// The group of a device, if an IOMMU stands before it.
pub(super) fn group(
    iommus: &Iommus,
    address: Address,
) -> Result<Option<Arc<Group>>, palisade_iommu::Error> {
    match iommus.group_of(DeviceId::new(address.number())) {
        Ok(group) => Ok(Some(group)),
        Err(palisade_iommu::Error::NoIommu(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
