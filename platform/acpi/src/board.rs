//! The reader: tables to a [`BoardInfo`].

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use palisade_board::{
    BoardInfo, Chosen, MAX_RESERVED, MAX_WINDOWS, Part, Problem, Range, Reservation, Version,
    Window,
};

use crate::error::{Error, Fault, Signature};
use crate::memory::{ram, reserve};
use crate::notes::Notes;
use crate::pcie::Topology;
use crate::tables::Tables;
use crate::{console, fadt, gic, timer};

/// What notes call what is said outside the tables.
const FIRMWARE: &str = "root bridge of the firmware";

/// What the firmware says outside its tables.
#[derive(Clone, Copy, Debug, Default)]
pub struct Firmware<'a> {
    /// RAM that is free; in any order.
    pub memory: &'a [Range],
    /// What of it must not be used.
    pub reserved: &'a [Reservation],
    /// The command line.
    pub bootargs: &'a str,
    /// Where the bundle is.
    pub bundle: Option<Range>,
    /// Address windows of PCIe hosts, by their segment.
    pub windows: &'a [(u16, Window)],
}

/// Gives the hosts their windows. One in which there is something else of the machine is left out:
/// a BAR there would show it to a guest.
fn open(board: &mut BoardInfo<'_>, windows: &[(u16, Window)], notes: &mut Notes) {
    let mut taken: Vec<Range> = board.memory.to_vec();
    taken.extend(board.reserved.iter().map(|reserved| reserved.range));
    taken.extend(board.smmus.iter().map(|smmu| smmu.registers));
    taken.extend(board.pcie.iter().map(|host| host.ecam));
    taken.extend(board.uart.iter().map(|uart| uart.registers));
    taken.push(board.gic.distributor);
    if let Version::V3 { redistributors, its, .. } = &board.gic.version {
        taken.extend(redistributors);
        taken.extend(its.iter().map(|its| its.registers));
    }
    for (segment, window) in windows {
        let Some(host) = board.pcie.iter_mut().find(|host| host.segment == *segment) else {
            continue;
        };
        if taken.iter().any(|range| range.overlaps(&window.cpu)) {
            notes.other(FIRMWARE, Part::PcieWindow, "window", Problem::Overlap);
        } else if host.windows.try_push(*window).is_err() {
            notes.too_many(FIRMWARE, Part::PcieWindow, MAX_WINDOWS);
        }
    }
}

/// Reads the whole machine out of its tables.
///
/// What cannot be read and nobody needs is left out, with a note. ACPI's tables have no windows
/// and no INTx wires of PCIe hosts, which stand in AML: of the one there is what firmware says
/// itself, of the other nothing.
///
/// # Errors
/// Memory, cores, interrupt controller or timer are missing; the IORT is damaged; or there are
/// more SMMUs than can be made to abort, or more reserved memory than is kept.
pub fn board<'a>(tables: &Tables<'a>, firmware: &Firmware<'a>) -> Result<BoardInfo<'a>, Error> {
    let mut notes = Notes::default();
    let memory = ram(firmware.memory, &mut notes);
    let none = |what| Error { table: Signature::RSDP, offset: 0, what, fault: Fault::Missing };
    if memory.is_empty() {
        return Err(none("free memory in the firmware's memory map"));
    }
    let mut reserved = ArrayVec::<Reservation, MAX_RESERVED>::new();
    for kept in firmware.reserved {
        if !reserve(&mut reserved, *kept) {
            let fault = Fault::TooMany(MAX_RESERVED);
            return Err(Error { fault, ..none("reserved memory") });
        }
    }
    let psci = notes.keep(Part::Psci, fadt::conduit(tables)).flatten();
    let controllers = gic::read(tables, psci.is_some(), &mut notes)?;
    let topology = Topology::new(tables, &controllers.its, &mut reserved, &mut notes)?;
    let mut board = BoardInfo {
        model: tables.oem(),
        compatible: tables.oem(),
        memory,
        reserved,
        cpus: controllers.cpus,
        psci,
        gic: controllers.gic,
        power: None,
        timer: timer::read(tables)?,
        uart: console::read(tables, &mut notes),
        pcie: topology.hosts(tables, &mut notes),
        smmus: topology.smmus,
        chosen: Chosen { bootargs: firmware.bootargs, initrd: firmware.bundle },
        notes: Vec::new(),
        more_notes: 0,
    };
    open(&mut board, firmware.windows, &mut notes);
    (board.notes, board.more_notes) = (notes.list, notes.more);
    Ok(board)
}
