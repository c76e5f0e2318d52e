//! The end of a VM.

use palisade_vm::vcpu::Outcome;

use crate::operator::{devices, faults, footprint, posture};
use crate::vms::built::BuiltVm;
use crate::vms::release::{take_devices, take_memory};
use crate::vms::system::System;
use crate::vms::watch::Watch;

/// Takes everything from a VM.
pub(crate) fn end(system: &'static System, built: &BuiltVm, outcome: Outcome) {
    let machine = &system.machine;
    let state = if outcome == Outcome::Crashed { "crashed" } else { "off" };
    built.report(state, None);
    // From here on the operator moves nothing in or out.
    built.close();
    let watch = Watch::new(system);
    for device in take_devices(machine, &built.fittings(machine), &watch) {
        log::info!("device {}: {}", device.address, device.condition.name());
    }
    posture::report(system);
    take_memory(machine, built.vm.index() as u16, built.owner, built.vm.memory());
    left(system, built);
}

/// Notes that a VM is over.
pub(crate) fn left(system: &System, built: &BuiltVm) {
    built.set_gone();
    faults::report_rest(system);
    built.report_counters();
    devices::report(system, false);
    footprint::report(&system.machine);
    system.one_less();
}
