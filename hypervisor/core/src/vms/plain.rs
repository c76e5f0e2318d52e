//! Devices by device tree path: resolved, claimed, mapped and wired.

use alloc::boxed::Box;
use alloc::vec::Vec;

use palisade_board::{BoardInfo, PlainDevice, Range, Version};
use palisade_bundle::{Place, Vm as Manifest};
use palisade_vm::Vm;
use palisade_vm::passthrough::{PlainSet, no_stalls};

use crate::machine::instances::Machine;
use crate::machine::interrupts;
use crate::vms::refusal::BuildError;

/// Gives a VM its devices by path: maps their registers and forwards their interrupts.
///
/// # Errors
/// The first device that is not there or is refused. What was claimed is given back with the
/// rest of the VM.
pub(crate) fn assign(
    machine: &'static Machine,
    manifest: &Manifest<'static>,
    vm: &Vm,
) -> Result<PlainSet<'static>, BuildError> {
    let mut devices: Vec<PlainDevice<'static>> = Vec::new();
    for device in &manifest.devices {
        if let Place::Path(path) = device.place {
            let found = machine.tree.device(path, machine.board.gic.phandle)?;
            if device.stalls {
                return Err(no_stalls(&found, path, &machine.iommus).into());
            }
            devices.push(found);
        }
    }
    if devices.is_empty() {
        return Ok(PlainSet::default());
    }
    // As the VM itself they stay until power-off.
    let devices: &'static [PlainDevice<'static>] = Box::leak(devices.into_boxed_slice());
    let own = own(machine.board);
    let index = vm.index() as u16;
    let set = machine.platform.assign(index, devices, &own, manifest.no_dma_isolation)?;
    for window in &set.windows {
        vm.memory().map_device(window.ipa, window.pa, window.bytes)?;
    }
    let core = vm.cores().first().copied().unwrap_or(0);
    for (wire, guest) in set.devices.iter().flat_map(|device| &device.wires) {
        vm.vgic().link(*guest, wire.intid);
        interrupts::forward(&machine.gic, *wire, core, vm.name());
    }
    for device in &set.devices {
        if let Some(reason) = device.device.bus_master {
            // Nothing confines it and nothing resets it.
            vm.memory().expose();
            log::warn!(
                "vm {}: device {}: {}, dma_isolation = none",
                vm.name(),
                device.device.path,
                reason.reason()
            );
        }
    }
    Ok(set)
}

/// What no VM may have by path: RAM, and everything that the hypervisor drives itself or hands
/// out in another way.
pub(super) fn own(board: &BoardInfo<'_>) -> Vec<Range> {
    let mut own: Vec<Range> = board.memory.iter().copied().collect();
    own.push(board.gic.distributor);
    match &board.gic.version {
        Version::V2 { cpu, hypervisor, virtual_cpu, v2m } => {
            own.push(*cpu);
            own.extend([hypervisor, virtual_cpu, v2m].into_iter().flatten());
        }
        Version::V3 { redistributors, its, .. } => {
            own.extend(redistributors);
            own.extend(its.iter().map(|its| its.registers));
        }
    }
    // Whoever has them switches the machine off.
    own.extend(board.power.map(|manager| manager.registers));
    own.extend(board.uart.map(|uart| uart.registers));
    own.extend(board.smmus.iter().map(|smmu| smmu.registers));
    for host in &board.pcie {
        own.push(host.ecam);
        own.extend(host.windows.iter().map(|window| window.cpu));
    }
    own
}
