//! Message-signalled interrupts: the ITSs in service.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_board::{BoardInfo, Its as Node, Version};
use palisade_gic::AnyGic;
use palisade_gic::its::{Its, ItsError, LpiTable};
use palisade_hal::PhysAddr;
use palisade_hal::cpu::Counter;
use palisade_hal::machine::{Machine as Firmware, MapKind};
use palisade_hal::mmio::Mmio;
use palisade_vm::its::Messages;

use crate::machine::instances::{Machine, Services};

/// The ITSs that a PCIe host's `msi-map` names, each once: those that are taken into service.
pub(crate) fn served<'b>(board: &'b BoardInfo<'_>) -> Vec<&'b Node> {
    let Version::V3 { its, .. } = &board.gic.version else { return Vec::new() };
    let named = |its: &&Node| {
        let mut lines = board.pcie.iter().flat_map(|host| &host.msi_map.entries);
        its.phandle != 0 && lines.any(|line| line.controller == its.phandle)
    };
    its.iter().filter(named).collect()
}

/// Takes every ITS that is [`served`] into service for `cores`. One that does not answer is named
/// and left out: devices whose messages go there interrupt by wire. `None` where none is left.
pub(crate) fn bring_up(
    machine: &Machine,
    firmware: &dyn Firmware,
    cores: &[usize],
) -> Option<Services> {
    let mut all: Vec<(u32, Arc<Messages>)> = Vec::new();
    for node in served(machine.board) {
        let range = node.registers;
        if let Err(error) = firmware.map(range.start()..range.end(), MapKind::Device) {
            log::error!("ITS at {:#x}: {error}", range.start());
            continue;
        }
        // SAFETY: mapped as Device memory just now, for good; the driver is its only user.
        let mmio = unsafe { Mmio::new(range.base(), range.size()) };
        let first = all.first().map(|(_, messages)| messages);
        match start(machine, mmio, range.base(), cores, first) {
            Ok(messages) => {
                log::debug!("ITS at {:#x}", range.start());
                all.push((node.phandle, messages));
            }
            Err(error) => log::error!("ITS at {:#x}: {error}; no messages", range.start()),
        }
    }
    let first = all.first()?.1.clone();
    Some(Services { first, all })
}

/// Takes one ITS into service; `first`, where there is one, has set the redistributors up.
fn start(
    machine: &Machine,
    mmio: Mmio,
    base: PhysAddr,
    cores: &[usize],
    first: Option<&Arc<Messages>>,
) -> Result<Arc<Messages>, ItsError> {
    let AnyGic::V3(gic) = &machine.gic else { return Err(ItsError::Unsupported("GICv3")) };
    let frame = |core| gic.frame_of(core).ok_or(ItsError::Range("core", core as u64));
    let its = Its::new(mmio, base, &machine.frames, &Counter)?;
    if let Some(first) = first {
        for &core in cores {
            let frame = frame(core)?;
            let target = LpiTable::target(&frame.2, place(machine, &frame), its.by_address());
            its.map_core(&Counter, core, target)?;
        }
        return Ok(first.beside(its));
    }
    let lpis = LpiTable::new(&machine.frames)?;
    for &core in cores {
        let frame = frame(core)?;
        let target = lpis.init_redistributor(&frame.2, place(machine, &frame), its.by_address())?;
        its.map_core(&Counter, core, target)?;
    }
    Ok(Messages::new(its, lpis))
}

/// The physical address of a redistributor's frame.
fn place(machine: &Machine, frame: &(usize, u64, Mmio)) -> PhysAddr {
    let Version::V3 { redistributors, .. } = &machine.board.gic.version else {
        return PhysAddr::new(0);
    };
    let start = redistributors.get(frame.0).map_or(0, |range| range.start());
    PhysAddr::new(start.saturating_add(frame.1))
}
