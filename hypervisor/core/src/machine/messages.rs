//! Message-signalled interrupts: the ITS in service, and what a VM gets of it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_board::{PcieHost, Version};
use palisade_gic::AnyGic;
use palisade_gic::its::{Its, ItsError, LpiTable};
use palisade_hal::PhysAddr;
use palisade_hal::cpu::Counter;
use palisade_hal::machine::{Machine, MapKind};
use palisade_hal::mmio::Mmio;
use palisade_vm::its::{Messages, Sender};
use palisade_vm::passthrough::Assigned;

use crate::vms::system::System;

/// Takes the board's ITS into service for `cores`; `None` where there is none, or it does not
/// answer, which is said: devices then interrupt by wire.
pub(crate) fn bring_up(
    system: &System,
    machine: &dyn Machine,
    cores: &[usize],
) -> Option<Arc<Messages>> {
    let Version::V3 { its: Some(info), .. } = &system.board.gic.version else { return None };
    let range = info.registers;
    if let Err(error) = machine.map(range.start()..range.end(), MapKind::Device) {
        log::error!("ITS at {:#x}: {error}", range.start());
        return None;
    }
    // SAFETY: mapped as Device memory just now, for good; the driver is its only user.
    let mmio = unsafe { Mmio::new(range.base(), range.size()) };
    match start(system, mmio, range.base(), cores) {
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
    system: &System,
    mmio: Mmio,
    base: PhysAddr,
    cores: &[usize],
) -> Result<Arc<Messages>, ItsError> {
    let AnyGic::V3(gic) = &system.gic else { return Err(ItsError::Unsupported("GICv3")) };
    let lpis = LpiTable::new(&system.frames)?;
    let its = Its::new(mmio, base, &system.frames, &Counter)?;
    for &core in cores {
        let frame = gic.frame_of(core).ok_or(ItsError::Range("core", core as u64))?;
        let target = lpis.init_redistributor(&frame.2, place(system, &frame), its.by_address())?;
        its.map_core(&Counter, core, target)?;
    }
    Ok(Messages::new(its, lpis))
}

/// The physical address of a redistributor's frame.
fn place(system: &System, frame: &(usize, u64, Mmio)) -> PhysAddr {
    let Version::V3 { redistributors, .. } = &system.board.gic.version else {
        return PhysAddr::new(0);
    };
    let start = redistributors.get(frame.0).map_or(0, |range| range.start());
    PhysAddr::new(start.saturating_add(frame.1))
}

/// The devices of a VM that can send messages. None if one of them is not behind an SMMU: its
/// messages could not be told from writes to anywhere.
pub(crate) fn senders(hosts: &[PcieHost], devices: &[Assigned]) -> Vec<Sender> {
    if devices.iter().any(|device| !device.isolated) {
        return Vec::new();
    }
    let sender = |device: &Assigned| {
        let number = device.address.number();
        let host = hosts.iter().find(|host| u32::from(host.segment) == number >> 16)?;
        let (_, physical) = host.msi_map.lookup(number as u16)?;
        Some(Sender { guest: u32::from(device.guest.bdf), physical })
    };
    devices.iter().filter_map(sender).collect()
}
