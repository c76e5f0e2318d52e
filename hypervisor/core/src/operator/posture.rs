//! The DMA posture: what every stream does now, read back from the entries in memory.

use alloc::vec::Vec;
use core::fmt;

use palisade_iommu::{Condition, DeviceId, StreamState};

use crate::operator::faults;
use crate::vms::system::System;
use crate::wire::console;
use crate::wire::report::Record;

/// One line of the table.
struct Line<'a> {
    stream: Option<u32>,
    device: &'a dyn fmt::Display,
    owner: Option<&'a str>,
    state: Option<StreamState>,
    condition: &'static str,
    isolated: bool,
}

impl Line<'_> {
    fn isolation(&self) -> &'static str {
        if self.isolated { "smmu" } else { "none" }
    }

    fn send(&self) {
        Record::new("posture")
            .maybe("stream", self.stream.map(u64::from))
            .text("device", self.device)
            .maybe_text("owner", self.owner)
            .maybe_text("state", self.state.map(StreamState::name))
            .text("condition", self.condition)
            .text("dma_isolation", self.isolation())
            .send();
        if !console::is_muxed() {
            log::info!("  {self}");
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stream {
            Some(stream) => write!(f, "stream {stream:#06x}")?,
            None => write!(f, "no stream    ")?,
        }
        write!(
            f,
            " {} owner {} state {} {}, dma_isolation {}",
            self.device,
            self.owner.unwrap_or("-"),
            self.state.map_or("-", StreamState::name),
            self.condition,
            self.isolation(),
        )
    }
}

/// Reports the table.
pub(crate) fn report(system: &System) {
    let machine = &system.machine;
    let vm = |index: u16| system.vm_name(index);
    if !console::is_muxed() {
        log::info!("DMA posture:");
    }
    let rows = machine.devices.rows();
    let row_of = |device: DeviceId| rows.iter().find(|row| row.address.number() == device.get());
    let mut shown = Vec::new();
    for entry in machine.iommus.posture() {
        for device in entry.devices {
            shown.push(device);
            // A device may be owned without being kept in: then its owner is not the stream's.
            let row = row_of(device);
            let open = row.filter(|row| !row.isolated).and_then(|row| row.owner);
            let owner = entry.owner.map(|owner| owner.index()).or(open);
            Line {
                stream: Some(entry.stream.get()),
                device: &faults::Name(device),
                owner: owner.map(vm),
                state: Some(entry.state),
                condition: entry.condition.name(),
                isolated: row.is_none_or(|row| row.owner.is_none() || row.isolated),
            }
            .send();
        }
    }
    for function in machine.devices.buses().iter().flat_map(|bus| bus.topology.functions()) {
        let device = DeviceId::new(function.address.number());
        if !function.is_endpoint() || shown.contains(&device) {
            continue;
        }
        let row = row_of(device);
        Line {
            stream: None,
            device: &faults::Name(device),
            owner: row.and_then(|row| row.owner).map(vm),
            state: None,
            condition: row.map_or(Condition::Free, |row| row.condition).name(),
            isolated: false,
        }
        .send();
    }
    // Nothing stands before a device outside PCI.
    for row in machine.platform.rows() {
        let condition = match row.owner {
            Some(_) => Condition::Assigned,
            None if row.bus_master => Condition::Quarantined,
            None => Condition::Free,
        };
        Line {
            stream: None,
            device: &row.path,
            owner: row.owner.map(vm),
            state: None,
            condition: condition.name(),
            isolated: false,
        }
        .send();
    }
}
