//! Taking everything from a VM, for whatever reason: it has ended, or could not be built.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::Env;
use palisade_iommu::Owner;
use palisade_vm::memory::{GuestMemory, TornDown};
use palisade_vm::passthrough::{Returned, Which};

use crate::machine::instances::Machine;
use crate::vms::fittings::VmFittings;

/// Takes a VM's devices, after its vCPUs left: wires of devices by path too.
pub(crate) fn take_devices(
    machine: &Machine,
    fittings: &VmFittings<'_>,
    env: &impl Env,
) -> Vec<Returned> {
    let vm = fittings.vm;
    fittings.disconnect_all();
    let unplugged =
        machine.devices.unplug(fittings, vm.index() as u16, Which::All, &machine.iommus, env);
    vm.silence();
    if let Some(service) = vm.service() {
        service.shutdown();
    }
    unplugged.devices
}

/// Takes a VM's memory, after its devices: while one is attached nothing of it is released. Then
/// its devices by path and its owner's slot, which its memory's views name.
pub(crate) fn take_memory(machine: &Machine, vm: u16, owner: Owner, memory: &Arc<GuestMemory>) {
    if let TornDown::Quarantined(frames) = memory.tear_down() {
        log::error!("vm {vm}: {frames} frames stay quarantined");
    }
    machine.platform.take_back(vm);
    if let Err(error) = machine.iommus.owners().close(owner) {
        log::error!("vm {vm}: {error}");
    }
}
