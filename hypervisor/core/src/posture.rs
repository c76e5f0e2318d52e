//! The DMA posture: what every stream does now, read back from the entries in memory.

use alloc::vec::Vec;
use core::fmt;

use palisade_iommu::{Condition, DeviceId, Iommus, StreamState};

use crate::pcie::Host;
use crate::report::Record;
use crate::{console, fault};

/// One line of the table.
struct Line<'a> {
    stream: Option<u32>,
    device: DeviceId,
    owner: Option<&'a str>,
    state: Option<StreamState>,
    condition: Condition,
}

impl Line<'_> {
    fn isolation(&self) -> &'static str {
        if self.stream.is_some() { "smmu" } else { "none" }
    }

    fn send(&self) {
        Record::new("posture")
            .maybe("stream", self.stream.map(u64::from))
            .text("device", fault::Name(self.device))
            .maybe_text("owner", self.owner)
            .maybe_text("state", self.state.map(StreamState::name))
            .text("condition", self.condition.name())
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
            fault::Name(self.device),
            self.owner.unwrap_or("-"),
            self.state.map_or("-", StreamState::name),
            self.condition.name(),
            self.isolation(),
        )
    }
}

/// Prints the table. `vm` names a VM by its index; `unguarded` says who owns a
/// device that no SMMU stands before.
pub(crate) fn print<'a>(
    iommus: &Iommus,
    hosts: &[Host],
    vm: &dyn Fn(u16) -> &'a str,
    unguarded: &dyn Fn(DeviceId) -> Option<&'a str>,
) {
    if !console::is_muxed() {
        log::info!("DMA posture:");
    }
    let mut shown = Vec::new();
    for entry in iommus.posture() {
        for device in entry.devices {
            shown.push(device);
            let owner = entry.owner.map(|owner| vm(owner.index()));
            let (state, condition) = (Some(entry.state), entry.condition);
            let stream = Some(entry.stream.get());
            Line { stream, device, owner, state, condition }.send();
        }
    }
    for function in hosts.iter().flat_map(|host| host.topology.functions()) {
        let device = DeviceId::new(function.address.number());
        if !function.is_endpoint() || shown.contains(&device) {
            continue;
        }
        let owner = unguarded(device);
        let condition = if owner.is_some() { Condition::Assigned } else { Condition::Free };
        Line { stream: None, device, owner, state: None, condition }.send();
    }
}
