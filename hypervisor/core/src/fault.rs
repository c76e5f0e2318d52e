//! Faults of the SMMUs, on their way to the log and the report.

use core::fmt;

use palisade_iommu::{DeviceId, Fault};

use crate::report::Record;
use crate::system::System;

/// Records taken from one queue at a time.
const BUDGET: usize = 64;

/// A device's number in the form in which operators name PCI functions.
pub(crate) struct Name(pub(crate) DeviceId);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.get();
        let (segment, bus) = (number >> 16, number >> 8 & 0xff);
        write!(f, "{segment:04x}:{bus:02x}:{:02x}.{}", number >> 3 & 0x1f, number & 7)
    }
}

/// Empties the event queues and tells the operator. Runs on any core, holds no
/// lock while it writes.
pub(crate) fn drain(system: &System) {
    let iommus = &system.iommus;
    for instance in iommus.instances() {
        if iommus.drain(&instance, BUDGET).overflowed {
            log::warn!("SMMU {:#x}: events were lost", instance.phandle());
        }
    }
    let lost = iommus.take_operator_faults(&mut |fault| tell(fault, system));
    if lost > 0 {
        log::warn!("{lost} SMMU faults were not shown");
    }
    // What a guest's own tables did, it finds in its ring.
    for service in system.units().iter().filter_map(|unit| unit.vm.service()) {
        service.pump(&mut |_| {});
    }
}

fn tell(fault: &Fault, system: &System) {
    let record = &fault.record;
    let owner = fault.owner.map(|owner| system.vm_name(owner.index()));
    let mut raw = [0; 32];
    for (bytes, word) in raw.chunks_exact_mut(8).zip(record.raw) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    log::warn!(
        "{} of {:#x} by stream {:#x}, vm {}",
        record.kind.name(),
        record.address,
        record.stream.get(),
        owner.unwrap_or("-"),
    );
    let line = Record::new("fault")
        .number("smmu", fault.phandle.into())
        .number("stream", record.stream.get().into());
    let line = match fault.device {
        Some(device) => line.text("device", Name(device)),
        None => line.maybe_text("device", None),
    };
    line.maybe_text("vm", owner)
        .text("kind", record.kind.name())
        .text("access", record.access.name())
        .address("address", record.address)
        .bytes("raw", &raw)
        .send();
}
