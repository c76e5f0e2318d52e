//! Counters of devices, for people and for the report.

use palisade_iommu::DeviceId;

use crate::operator::counts;
use crate::vms::system::System;
use crate::wire::report::Record;

/// Reports of each device that has, or had, an owner how often it did what it may not, how often its
/// stream's entry was changed, and how long that took; with `also_log` in the log too.
pub(crate) fn report(system: &System, also_log: bool) {
    for row in system.machine.devices.rows() {
        let device = DeviceId::new(row.address.number());
        let group = system.machine.iommus.group_of(device).ok();
        let waited = group.map(|group| group.waits().read()).unwrap_or_default();
        let faults = counts::count_of_device(device);
        if also_log {
            log::info!(
                "device {}: faults {faults}, changes {}, {} us of waiting",
                row.address,
                waited.count,
                waited.micros
            );
        }
        Record::new("device_counters")
            .text("device", row.address)
            .maybe_text("vm", row.owner.map(|vm| system.vm_name(vm)))
            .number("faults", faults)
            .number("changes", waited.count.into())
            .number("sync_wait_us", waited.micros)
            .send();
    }
}
