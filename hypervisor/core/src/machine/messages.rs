//! Message-signalled interrupts: the ITS in service.

use alloc::sync::Arc;

use palisade_board::{BoardInfo, Its as Node, Version};
use palisade_gic::AnyGic;
use palisade_gic::its::{Its, ItsError, LpiTable};
use palisade_hal::PhysAddr;
use palisade_hal::cpu::Counter;
use palisade_hal::machine::{Machine as Firmware, MapKind};
use palisade_hal::mmio::Mmio;
use palisade_vm::its::Messages;

use crate::machine::instances::Machine;

/// The ITS that is taken into service: the first that a PCIe host's `msi-map` names. Devices whose
/// messages go to another are refused theirs by name.
pub(crate) fn served<'b>(board: &'b BoardInfo<'_>) -> Option<&'b Node> {
    let Version::V3 { its, .. } = &board.gic.version else { return None };
    let mut named = board.pcie.iter().flat_map(|host| &host.msi_map.entries);
    named.find_map(|line| its.iter().find(|its| its.phandle != 0 && its.phandle == line.controller))
}

/// Takes the ITS that is [`served`] into service for `cores`; `None` where there is none, or it
/// does not answer, which is said: devices then interrupt by wire.
pub(crate) fn bring_up(
    machine: &Machine,
    firmware: &dyn Firmware,
    cores: &[usize],
) -> Option<Arc<Messages>> {
    let range = served(machine.board)?.registers;
    if let Err(error) = firmware.map(range.start()..range.end(), MapKind::Device) {
        log::error!("ITS at {:#x}: {error}", range.start());
        return None;
    }
    // SAFETY: mapped as Device memory just now, for good; the driver is its only user.
    let mmio = unsafe { Mmio::new(range.base(), range.size()) };
    match start(machine, mmio, range.base(), cores) {
        Ok(messages) => {
            log::debug!("ITS at {:#x}", range.start());
            Some(messages)
        }
        Err(error) => {
            log::error!("ITS at {:#x}: {error}; no messages", range.start());
            None
        }
    }
}

fn start(
    machine: &Machine,
    mmio: Mmio,
    base: PhysAddr,
    cores: &[usize],
) -> Result<Arc<Messages>, ItsError> {
    let AnyGic::V3(gic) = &machine.gic else { return Err(ItsError::Unsupported("GICv3")) };
    let lpis = LpiTable::new(&machine.frames)?;
    let its = Its::new(mmio, base, &machine.frames, &Counter)?;
    for &core in cores {
        let frame = gic.frame_of(core).ok_or(ItsError::Range("core", core as u64))?;
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
