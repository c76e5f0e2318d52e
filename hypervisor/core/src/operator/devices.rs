//! Counters of devices, for people and for the report.

use palisade_iommu::DeviceId;

use crate::operator::faults;
use crate::vms::system::System;
use crate::wire::report::Record;

/// Tells of each device that has, or had, an owner how often it did what it may not, how often its
/// stream's entry was changed, and how long that took; `aloud` also in the log.
pub(crate) fn tell(system: &System, aloud: bool) {
    for row in system.book.rows() {
        let device = DeviceId::new(row.address.number());
        let group = system.iommus.group_of(device).ok();
        let waited = group.map(|group| group.waits().read()).unwrap_or_default();
        let faults = faults::count_of_device(device);
        if aloud {
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
