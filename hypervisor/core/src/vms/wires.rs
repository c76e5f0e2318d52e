//! The wires of a VM's PCI devices.

use palisade_vm::Vm;
use palisade_vm::passthrough::Assigned;

use crate::machine::instances::Machine;
use crate::machine::interrupts;

/// Sends a device's wire to the VM's first core, and on to the guest.
pub(crate) fn wire(machine: &Machine, vm: &Vm, device: &Assigned) {
    let Some((line, guest)) = device.wire else { return };
    vm.vgic().link(guest, line.intid);
    let core = vm.cores().first().copied().unwrap_or(0);
    interrupts::forward(&machine.gic, line, core, vm.name());
}
