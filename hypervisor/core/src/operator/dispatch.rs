//! What the hypervisor's own interrupts, and the bytes on its wire, lead to.

use palisade_gic::KICK_SGI;
use palisade_hal::Env;
use palisade_hal::cpu::{self, Counter};

use crate::machine::interrupts::{self, Own};
use crate::operator::{faults, prompt};
use crate::vms::system::System;
use crate::wire::{console, mux};

/// Handles interrupt `intid`, if it is a kick or one of the hypervisor's own lines.
pub(crate) fn interrupt(system: &'static System, intid: u32) {
    if intid == KICK_SGI {
        return faults::kicked(system, cpu::index());
    }
    match interrupts::owner_of(system.machine.board, intid) {
        Some(Own::Uart) => console::poll(|channel, bytes| input(system, channel, bytes)),
        Some(Own::Smmu) => faults::interrupt(system, Counter.now()),
        None => {}
    }
}

/// Bytes that came in on the wire: for the operator's prompt, or the VM whose channel it is.
fn input(system: &'static System, channel: u8, bytes: &[u8]) {
    if channel == mux::LOG {
        return bytes.iter().for_each(|&byte| prompt::key(system, byte));
    }
    let Some(vm) = channel.checked_sub(mux::FIRST_VM) else { return };
    if let Some(built) = system.vms().iter().find(|built| built.vm.index() == usize::from(vm)) {
        built.vm.input(bytes, &system.machine.gic);
    }
}
