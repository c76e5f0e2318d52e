//! The physical interrupt controller: brought up, and who handles which line.

use alloc::vec::Vec;

use palisade_board::{BoardInfo, Interrupt, Range, Trigger, Version};
use palisade_gic::v2::{GicV2, GicV2Regions};
use palisade_gic::v3::GicV3;
use palisade_gic::{AnyGic, Gic};
use palisade_hal::machine::{Machine, MapKind};
use palisade_hal::mmio::Mmio;

use crate::machine::error::Error;
use crate::operator::faults;
use crate::vms::system::System;
use crate::wire::console;

/// Priority of every line that is switched on here.
const PRIORITY: u8 = 0x80;

fn map(machine: &dyn Machine, range: &Range) -> Result<Mmio, Error> {
    machine.map(range.start()..range.end(), MapKind::Device)?;
    // SAFETY: mapped as Device memory just now, for good; only this file makes
    // pointers to the interrupt controller, for its one driver.
    Ok(unsafe { Mmio::new(range.base(), range.size()) })
}

/// Maps the controller and takes its distributor into service.
///
/// # Errors
/// It cannot be mapped, does not answer, or has no virtual interface.
pub(crate) fn bring_up(board: &BoardInfo<'_>, machine: &dyn Machine) -> Result<AnyGic, Error> {
    let distributor = map(machine, &board.gic.distributor)?;
    match &board.gic.version {
        Version::V3 { redistributors, .. } => {
            let regions: Result<Vec<Mmio>, Error> =
                redistributors.iter().map(|range| map(machine, range)).collect();
            Ok(AnyGic::V3(GicV3::new(distributor, regions?)?))
        }
        Version::V2 { cpu, hypervisor: Some(hypervisor), .. } => {
            let regions = GicV2Regions {
                distributor,
                cpu: map(machine, cpu)?,
                control: map(machine, hypervisor)?,
            };
            Ok(AnyGic::V2(GicV2::new(regions)?))
        }
        Version::V2 { hypervisor: None, .. } => {
            Err(palisade_gic::GicError::NoVirtualInterface.into())
        }
    }
}

/// Sends one of the hypervisor's own lines to the first core and switches it on.
/// A line that cannot be is named; the hypervisor lives without.
pub(crate) fn claim(gic: &AnyGic, line: Option<Interrupt>, what: &str) {
    let Some(line) = line else { return };
    if let Err(error) = route(gic, line, 0) {
        log::error!("interrupt {} of the {what}: {error}", line.intid);
    }
}

/// Sends a device's line to the core of a VM and switches it on; the guest ends
/// it. A line that cannot be is named; the device works without interrupts.
pub(crate) fn forward(gic: &AnyGic, line: Interrupt, core: usize, vm: &str) {
    if let Err(error) = route(gic, line, core) {
        log::error!("interrupt {} of vm {vm}: {error}", line.intid);
    }
}

fn route(gic: &AnyGic, line: Interrupt, core: usize) -> Result<(), palisade_gic::GicError> {
    let trigger = match line.trigger {
        Trigger::Edge => palisade_gic::Trigger::Edge,
        Trigger::Level => palisade_gic::Trigger::Level,
    };
    gic.configure(line.intid, trigger, PRIORITY)?;
    gic.route(line.intid, core)?;
    gic.set_enabled(line.intid, true)
}

/// Switches on the hypervisor's own lines: the UART's input, the SMMUs' events
/// and errors.
pub(crate) fn claim_all(system: &System) {
    for smmu in &system.board.smmus {
        for line in [smmu.eventq, smmu.gerror, smmu.combined] {
            claim(&system.gic, line, "SMMU");
        }
    }
    if let Some(uart) = &system.board.uart {
        claim(&system.gic, uart.interrupt, "UART");
        console::enable_input();
    }
}

/// Handles interrupt `intid` if it is one of the hypervisor's own lines; answers
/// whether it was.
pub(crate) fn handle(system: &'static System, intid: u32) -> bool {
    let is = |line: Option<Interrupt>| line.is_some_and(|line| line.intid == intid);
    let board = system.board;
    if board.uart.as_ref().is_some_and(|uart| is(uart.interrupt)) {
        console::poll(|channel, byte| system.input(channel, byte));
        return true;
    }
    let smmu = board.smmus.iter().any(|smmu| {
        [smmu.eventq, smmu.gerror, smmu.cmdq_sync, smmu.priq, smmu.combined].into_iter().any(is)
    });
    if smmu {
        faults::drain(system);
    }
    smmu
}
