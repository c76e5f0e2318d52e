//! The end of a VM.

use palisade_vm::memory::TornDown;
use palisade_vm::vcpu::Outcome;

use crate::operator::{devices, faults, footprint, posture};
use crate::vms::built::BuiltVm;
use crate::vms::system::System;
use crate::vms::watch::Watch;

/// Takes everything from a VM.
pub(crate) fn end(system: &'static System, built: &BuiltVm, outcome: Outcome) {
    let machine = &system.machine;
    let state = if outcome == Outcome::Crashed { "crashed" } else { "off" };
    built.report(state, None);
    // From here on the operator moves nothing in or out.
    built.close();
    built.unwire(machine);
    built.vm.silence();
    built.pci.clear();
    let index = built.vm.index() as u16;
    let watch = Watch::new(system);
    for device in machine.devices.take_back(index, &machine.iommus, &watch) {
        log::info!("device {}: {}", device.address, device.condition.name());
    }
    if let Some(service) = built.vm.service() {
        service.shutdown();
    }
    posture::report(system);
    if let TornDown::Quarantined(frames) = built.vm.memory().tear_down() {
        log::error!("vm {}: {frames} frames stay quarantined", built.vm.name());
    }
    machine.platform.take_back(index);
    if let Err(error) = machine.iommus.owners().close(built.owner) {
        log::error!("vm {}: {error}", built.vm.name());
    }
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
