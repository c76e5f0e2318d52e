//! Devices outside PCI: known by their path in the board's device tree, without an IOMMU
//! between them and memory and without a reset of their own.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arrayvec::ArrayString;
use palisade_board::text::before;
use palisade_board::{BusMaster, Interrupt, MAX_DEVICE_PATH, PlainDevice, Range};
use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{Ipa, PhysAddr};
use palisade_iommu::{Iommus, StallModel};

use super::lines::{Held, LineBook};
use crate::layout::{PLAIN, PLAIN_BYTES, PLAIN_INTID};
use crate::load::TreeWriter;

const PAGE: u64 = 4096;
/// Most register ranges and interrupts of all plain devices of one VM.
const MAX_WINDOWS: usize = 32;
/// Specifier of a shared interrupt, and its flags.
const SPI: u32 = 0;
const EDGE_RISING: u32 = 1;
const LEVEL_HIGH: u32 = 4;

/// Why a VM does not get a device by path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlainRefusal<'a> {
    /// Another VM has it, or something in its pages.
    #[error("device {path}: already claimed by VM {vm}")]
    Claimed {
        /// The device.
        path: &'a str,
        /// Index of the VM.
        vm: u16,
    },
    /// It was a bus master's and nothing proves that it is idle.
    #[error("device {0}: quarantined, nothing proves that its last owner's transfers have ended")]
    Quarantined(&'a str),
    /// The hypervisor itself uses it, or something in its pages.
    #[error("device {0}: belongs to the hypervisor")]
    Hypervisor(&'a str),
    /// It may access memory by itself and nothing would stop it.
    #[error(
        "device {path}: {reason}, no SMMU stands before it, and the manifest does not say \
         dma_isolation = \"none\""
    )]
    BusMaster {
        /// The device.
        path: &'a str,
        /// Why it is taken for a bus master.
        reason: &'static str,
    },
    /// Its pages hold another device's registers, which the VM does not ask for.
    #[error("device {path}: shares a page of registers with {other}, which the VM does not have")]
    Shared {
        /// The device.
        path: &'a str,
        /// The other one.
        other: &'a str,
    },
    /// Another device pulls one of its interrupt lines, and the VM does not ask for that.
    #[error("device {path}: shares an interrupt with {other}, which the VM does not have")]
    SharedLine {
        /// The device.
        path: &'a str,
        /// The other one.
        other: &'a str,
    },
    /// One of its interrupt lines is not to be had.
    #[error("device {path}: its interrupt {intid} {holder}", intid = .held.intid, holder = .held.holder)]
    Line {
        /// The device.
        path: &'a str,
        /// The line, and what it belongs to.
        held: Held,
    },
    /// The manifest lets it stall, and nothing can stall it.
    #[error("device {path}: cannot stall: {reason}")]
    Stalls {
        /// The device.
        path: &'a str,
        /// Why.
        reason: &'static str,
    },
    /// It has no registers.
    #[error("device {0}: has no registers")]
    NoRegisters(&'a str),
    /// The VM's devices have more registers or interrupts than there is room for.
    #[error("device {0}: no room left for registers or interrupts of devices by path")]
    NoRoom(&'a str),
}

/// A range of registers in a guest's view, in whole pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainWindow {
    /// Where the guest sees the first page.
    pub ipa: Ipa,
    /// Where the first page is.
    pub pa: PhysAddr,
    /// Bytes, a multiple of 4 KiB.
    pub bytes: u64,
}

/// What a VM got of a device.
#[derive(Clone, Debug)]
pub struct AssignedPlain<'a> {
    /// The device.
    pub device: &'a PlainDevice<'a>,
    /// Guest addresses of its registers, in the order of its own.
    pub registers: Vec<Ipa>,
    /// Its interrupts with the guest's INTIDs.
    pub wires: Vec<(Interrupt, u32)>,
}

/// All that a VM got.
#[derive(Clone, Debug, Default)]
pub struct PlainSet<'a> {
    /// The devices.
    pub devices: Vec<AssignedPlain<'a>>,
    /// What to map into the CPU view. Pages that devices share appear once.
    pub windows: Vec<PlainWindow>,
}

/// A device that has an owner, or had one.
#[derive(Clone, Debug)]
pub struct PlainRow {
    /// Its path.
    pub path: String,
    /// Index of its owner; without one a bus master is quarantined, anything else free.
    pub owner: Option<u16>,
    /// It may access memory by itself.
    pub bus_master: bool,
    pages: Vec<Range>,
}

/// The book of devices by path.
pub struct PlainBook {
    rows: Mutex<Vec<PlainRow>>,
    lines: Arc<LineBook>,
}

/// The whole pages that hold a range; `None` at the end of the number space.
fn pages(range: &Range) -> Option<Range> {
    let start = range.start() & !(PAGE - 1);
    let end = range.end().checked_next_multiple_of(PAGE)?;
    Range::new(start, end.checked_sub(start)?)
}

impl PlainBook {
    /// A book without owners, which takes interrupt lines from `lines`.
    pub const fn new(lines: Arc<LineBook>) -> Self {
        Self { rows: Mutex::new(Rank::Ownership, Vec::new()), lines }
    }

    /// Every device that has an owner or had one.
    pub fn rows(&self) -> Vec<PlainRow> {
        self.rows.lock().clone()
    }

    /// Gives VM `vm` these devices: all of them or none. `own` is what the hypervisor uses
    /// itself: registers and RAM.
    ///
    /// # Errors
    /// The first [`PlainRefusal`]; nothing has changed then.
    pub fn assign<'a>(
        &self,
        vm: u16,
        devices: &'a [PlainDevice<'a>],
        own: &[Range],
        no_isolation: bool,
    ) -> Result<PlainSet<'a>, PlainRefusal<'a>> {
        let mut rows = self.rows.lock();
        let mut claimed = Vec::new();
        for device in devices {
            let path = device.path.as_str();
            let held = check(device, devices, own, no_isolation)?;
            for row in rows.iter() {
                if !row.pages.iter().any(|page| held.iter().any(|held| held.overlaps(page))) {
                    continue;
                }
                return Err(match row.owner {
                    Some(vm) => PlainRefusal::Claimed { path, vm },
                    None if row.bus_master => PlainRefusal::Quarantined(path),
                    None => continue,
                });
            }
            claimed.push(PlainRow {
                path: String::from(path),
                owner: Some(vm),
                bus_master: device.bus_master.is_some(),
                pages: held,
            });
        }
        let set = place(devices)?;
        self.take_lines(vm, devices)?;
        rows.retain(|row| row.owner.is_some() || claimed.iter().all(|new| new.path != row.path));
        rows.append(&mut claimed);
        Ok(set)
    }

    /// Gives the VM the lines of its devices: all of them or none. Last, when nothing else can be
    /// refused.
    fn take_lines<'a>(
        &self,
        vm: u16,
        devices: &'a [PlainDevice<'a>],
    ) -> Result<(), PlainRefusal<'a>> {
        let of = |device: &'a PlainDevice<'a>| device.interrupts.iter().map(|line| line.intid);
        let intids: Vec<u32> = devices.iter().flat_map(of).collect();
        self.lines.give(vm, &intids).map_err(|held| {
            let pulls = |device: &&PlainDevice<'_>| of_line(device, held.intid);
            let path = devices.iter().find(pulls).map_or("", |device| device.path.as_str());
            PlainRefusal::Line { path, held }
        })
    }

    /// Takes everything from a VM whose vCPUs have stopped and whose memory is torn down or about
    /// to be. A bus master stays quarantined: nothing can prove that it is idle.
    pub fn take_back(&self, vm: u16) {
        let mut rows = self.rows.lock();
        for row in rows.iter_mut().filter(|row| row.owner == Some(vm)) {
            row.owner = None;
        }
        self.lines.return_all(vm);
    }
}

/// Why a device that the manifest lets stall cannot: an SMMU would have to stand before it, offer
/// stalls (SMMU_IDR0.STALL_MODEL), and translate for it, which none does for devices by path yet.
pub fn no_stalls<'a>(device: &PlainDevice<'_>, path: &'a str, iommus: &Iommus) -> PlainRefusal<'a> {
    let instances = iommus.instances();
    let own = |&(phandle, _): &(u32, u32)| instances.iter().find(|one| one.phandle() == phandle);
    let reason = match device.streams.iter().find_map(own) {
        None => "no SMMU stands before it",
        Some(smmu) if smmu.capabilities().stall == StallModel::Never => "its SMMU never stalls",
        Some(_) => "no SMMU translates for devices by path",
    };
    PlainRefusal::Stalls { path, reason }
}

/// Checks one device by itself; answers the pages that it holds.
fn check<'a>(
    device: &'a PlainDevice<'a>,
    wanted: &[PlainDevice<'_>],
    own: &[Range],
    no_isolation: bool,
) -> Result<Vec<Range>, PlainRefusal<'a>> {
    let path = device.path.as_str();
    if device.registers.is_empty() {
        return Err(PlainRefusal::NoRegisters(path));
    }
    let mut held = Vec::new();
    for range in &device.registers {
        held.push(pages(range).ok_or(PlainRefusal::NoRoom(path))?);
    }
    if held.iter().any(|held| own.iter().any(|own| own.overlaps(held))) {
        return Err(PlainRefusal::Hypervisor(path));
    }
    // What the machine itself is made of is nothing that a manifest could waive.
    if device.bus_master == Some(BusMaster::System) {
        return Err(PlainRefusal::Hypervisor(path));
    }
    if let Some(reason) = device.bus_master
        && !no_isolation
    {
        return Err(PlainRefusal::BusMaster { path, reason: reason.reason() });
    }
    let missing = |other: &&ArrayString<MAX_DEVICE_PATH>| {
        !wanted.iter().any(|wanted| wanted.path.as_str() == other.as_str())
    };
    if let Some(other) = device.neighbours.iter().find(missing) {
        return Err(PlainRefusal::Shared { path, other: other.as_str() });
    }
    match device.line_sharers.iter().find(missing) {
        Some(other) => Err(PlainRefusal::SharedLine { path, other: other.as_str() }),
        None => Ok(held),
    }
}

/// Whether a device pulls line `intid`.
fn of_line(device: &PlainDevice<'_>, intid: u32) -> bool {
    device.interrupts.iter().any(|line| line.intid == intid)
}

/// Finds places in the guest's view.
fn place<'a>(devices: &'a [PlainDevice<'a>]) -> Result<PlainSet<'a>, PlainRefusal<'a>> {
    let mut set = PlainSet::default();
    let mut next = PLAIN;
    let mut intid = PLAIN_INTID;
    for device in devices {
        let full = || PlainRefusal::NoRoom(device.path.as_str());
        let mut registers = Vec::new();
        for range in &device.registers {
            let held = pages(range).ok_or_else(full)?;
            let shared = |window: &&PlainWindow| {
                window.pa.get() <= held.start()
                    && held.end() <= window.pa.get().saturating_add(window.bytes)
            };
            let window = match set.windows.iter().find(shared) {
                Some(window) => *window,
                None => {
                    let window =
                        PlainWindow { ipa: Ipa::new(next), pa: held.base(), bytes: held.size() };
                    next = next.checked_add(held.size()).ok_or_else(full)?;
                    if next > PLAIN + PLAIN_BYTES || set.windows.len() >= MAX_WINDOWS {
                        return Err(full());
                    }
                    set.windows.push(window);
                    window
                }
            };
            let offset = range.start().wrapping_sub(window.pa.get());
            registers.push(window.ipa.checked_add(offset).ok_or_else(full)?);
        }
        let mut wires = Vec::new();
        for interrupt in &device.interrupts {
            // Devices that share a line share it in the guest's view too.
            if let Some(known) = known_wire(&set, &wires, interrupt.intid) {
                wires.push((*interrupt, known));
                continue;
            }
            if intid >= PLAIN_INTID + MAX_WINDOWS as u32 {
                return Err(full());
            }
            wires.push((*interrupt, intid));
            intid += 1;
        }
        set.devices.push(AssignedPlain { device, registers, wires });
    }
    Ok(set)
}

/// The guest's INTID of a line that another device, or this one, pulls too.
fn known_wire(set: &PlainSet<'_>, own: &[(Interrupt, u32)], intid: u32) -> Option<u32> {
    let others = set.devices.iter().flat_map(|device| &device.wires);
    others.chain(own).find(|(wire, _)| wire.intid == intid).map(|(_, guest)| *guest)
}

/// Writes the nodes of a VM's devices: compatible, registers and interrupts as the guest sees
/// them. The parent must have two address and two size cells and lead to the GIC.
pub fn describe_plain(fdt: &mut TreeWriter, set: &PlainSet<'_>) {
    for assigned in &set.devices {
        let path = assigned.device.path.as_str();
        let name = path
            .bytes()
            .rposition(|byte| byte == b'/')
            .and_then(|at| path.get(at.wrapping_add(1)..));
        let Some(first) = assigned.registers.first() else { continue };
        fdt.begin_at(before(name.unwrap_or("device"), b'@'), first.get());
        fdt.bytes("compatible", assigned.device.compatible);
        let mut registers = Vec::new();
        for (ipa, range) in assigned.registers.iter().zip(&assigned.device.registers) {
            registers.extend([ipa.get(), range.size()]);
        }
        fdt.pairs("reg", &registers);
        let mut interrupts = Vec::new();
        for (wire, intid) in &assigned.wires {
            let flags = match wire.trigger {
                palisade_board::Trigger::Edge => EDGE_RISING,
                palisade_board::Trigger::Level => LEVEL_HIGH,
            };
            interrupts.extend([SPI, intid.saturating_sub(32), flags]);
        }
        if !interrupts.is_empty() {
            fdt.cells("interrupts", &interrupts);
        }
        if assigned.device.bus_master.is_some() {
            fdt.text("palisade,dma-isolation", "none");
        }
        fdt.end();
    }
}
