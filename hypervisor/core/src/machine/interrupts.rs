//! The physical interrupt controller: brought up, and who handles which line.

use alloc::vec::Vec;

use palisade_board::{BoardInfo, Interrupt, Range, Trigger, Version};
use palisade_gic::v2::{GicV2, GicV2Regions};
use palisade_gic::v3::GicV3;
use palisade_gic::{AnyGic, Gic};
use palisade_hal::machine::{Machine as Firmware, MapKind};
use palisade_hal::mmio::Mmio;
use palisade_vm::passthrough::LineBook;

use crate::machine::error::Error;
use crate::machine::instances::Machine;

use crate::wire::console;

/// Priority of every line that is switched on here.
const PRIORITY: u8 = 0x80;

fn map(firmware: &dyn Firmware, range: &Range) -> Result<Mmio, Error> {
    firmware.map(range.start()..range.end(), MapKind::Device)?;
    // SAFETY: mapped as Device memory just now, for good; only this file makes
    // pointers to the interrupt controller, for its one driver.
    Ok(unsafe { Mmio::new(range.base(), range.size()) })
}

/// Maps the controller and takes its distributor into service.
///
/// # Errors
/// It cannot be mapped, does not answer, or has no virtual interface.
pub(crate) fn bring_up(board: &BoardInfo<'_>, firmware: &dyn Firmware) -> Result<AnyGic, Error> {
    let distributor = map(firmware, &board.gic.distributor)?;
    match &board.gic.version {
        Version::V3 { redistributors, .. } => {
            let regions: Result<Vec<Mmio>, Error> =
                redistributors.iter().map(|range| map(firmware, range)).collect();
            Ok(AnyGic::V3(GicV3::new(distributor, regions?)?))
        }
        Version::V2 { cpu, hypervisor: Some(hypervisor), .. } => {
            let regions = GicV2Regions {
                distributor,
                cpu: map(firmware, cpu)?,
                control: map(firmware, hypervisor)?,
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
fn claim(gic: &AnyGic, line: Interrupt, what: &str) {
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
    // Whatever was before: nothing of it is active or pending for whoever has the line now.
    gic.set_enabled(line.intid, false)?;
    gic.configure(line.intid, trigger, PRIORITY)?;
    gic.route(line.intid, core)?;
    gic.clear(line.intid)?;
    gic.set_enabled(line.intid, true)
}

/// Whose a line of the hypervisor's own is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// The UART's input.
    Uart,
    /// An SMMU's events or errors.
    Smmu,
}

impl Own {
    const fn name(self) -> &'static str {
        match self {
            Self::Uart => "UART",
            Self::Smmu => "SMMU",
        }
    }
}

/// Every line of the hypervisor's own, and whether it is switched on: what no SMMU raises here
/// is no VM's either.
fn own_lines(board: &BoardInfo<'_>) -> impl Iterator<Item = (Own, Interrupt, bool)> {
    let uart = board.uart.and_then(|uart| uart.interrupt).map(|line| (Own::Uart, line, true));
    let smmus = board.smmus.iter().flat_map(|smmu| {
        let on = [smmu.eventq, smmu.gerror, smmu.combined].map(|line| (line, true));
        on.into_iter().chain([smmu.cmdq_sync, smmu.priq].map(|line| (line, false)))
    });
    let smmus = smmus.filter_map(|(line, on)| Some((Own::Smmu, line?, on)));
    uart.into_iter().chain(smmus)
}

/// Whose line `intid` is; none if it is not one of the hypervisor's own.
pub(crate) fn owner_of(board: &BoardInfo<'_>, intid: u32) -> Option<Own> {
    own_lines(board).find(|(_, line, _)| line.intid == intid).map(|(own, ..)| own)
}

/// Keeps the hypervisor's own lines from every VM.
pub(crate) fn reserve_all(board: &BoardInfo<'_>, lines: &LineBook) {
    own_lines(board).for_each(|(own, line, _)| lines.reserve(line.intid, own.name()));
}

/// Switches on the hypervisor's own lines: the UART's input, the SMMUs' events and errors.
pub(crate) fn claim_all(machine: &Machine) {
    for (own, line, _) in own_lines(machine.board).filter(|(.., on)| *on) {
        claim(&machine.gic, line, own.name());
    }
    if machine.board.uart.is_some() {
        console::enable_input();
    }
}
