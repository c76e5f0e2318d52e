//! What a VM's devices are plugged into, besides its memory.

use alloc::sync::Arc;

use palisade_gic::FIRST_SPI;
use palisade_hal::cpu::Counter;
use palisade_iommu::Group;
use palisade_vm::passthrough::{Assigned, Fittings, PlugError};
use palisade_vm::pci::PciHost;
use palisade_vm::{Vm, WireError};

use crate::machine::instances::Machine;
use crate::machine::interrupts;
use crate::vms::{interface, senders};

/// A VM's guest interface, messages, wires and bus.
pub(crate) struct VmFittings<'s> {
    pub(crate) machine: &'s Machine,
    pub(crate) vm: &'s Vm,
    pub(crate) pci: &'s PciHost,
}

impl VmFittings<'_> {
    /// Takes every wire that leads to the VM.
    pub(crate) fn disconnect_all(&self) {
        for line in self.vm.vgic().linked_physical() {
            if let Err(error) = self.disconnect(line) {
                log::error!("vm {}: {error}", self.vm.name());
            }
        }
    }
}

impl Fittings for VmFittings<'_> {
    fn share(&self, device: &Assigned) -> Result<(), PlugError> {
        let streams = self.machine.devices.streams_of(self.vm.index() as u16, &self.machine.iommus);
        if self.vm.memory().set_aside_contexts(streams as u64).is_err() {
            return Err(palisade_iommu::Error::NoMemory.into());
        }
        if let Some(service) = self.vm.service()
            && device.isolated
        {
            service.add_device(interface::device(self.machine, device)?);
        }
        Ok(())
    }

    fn unshare(&self, group: &Arc<Group>, clean: bool) {
        if let Some(service) = self.vm.service() {
            service.remove_group(group, clean);
        }
    }

    fn open_messages(&self, device: &Assigned) -> Result<(), PlugError> {
        // While it is built a VM gets its ITS after its devices.
        if let Some(its) = self.vm.its()
            && let Some((_, found)) =
                senders::of(self.machine, Some(its), core::slice::from_ref(device))
        {
            found.into_iter().for_each(|sender| self.vm.add_sender(sender));
        }
        Ok(())
    }

    fn close_messages(&self, guest: u16) {
        self.vm.remove_sender(u32::from(guest));
    }

    fn connect(&self, device: &Assigned) -> Result<(), PlugError> {
        if let Some((line, guest)) = device.wire {
            self.vm.vgic().link(guest, line.intid);
            let core = self.vm.cores().first().copied().unwrap_or(0);
            interrupts::forward(&self.machine.gic, line, core, self.vm.name());
        }
        Ok(())
    }

    fn disconnect(&self, intid: u32) -> Result<(), WireError> {
        if intid < FIRST_SPI {
            return Ok(());
        }
        self.vm.take_wire(intid, &self.machine.gic, &Counter)
    }

    fn show(&self, device: &Assigned) -> Result<(), PlugError> {
        Ok(self.pci.add(&device.topology, device.guest)?)
    }

    fn hide(&self, guest: u16) {
        self.pci.remove(guest);
    }

    fn kick(&self) {
        self.vm.kick_pending(&self.machine.gic);
    }

    fn expose(&self) {
        self.vm.memory().expose();
    }
}
