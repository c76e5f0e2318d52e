//! A hierarchy that firmware has set up: its numbers and addresses are checked and stay.

use alloc::vec::Vec;

use palisade_board::{PcieHost, Space};

use crate::Error;
use crate::bar::BarKind;
use crate::ecam::Config;
use crate::function::Header;
use crate::regs::{bridge, header};
use crate::topology::Topology;

const PAGE: u64 = 4096;

/// The buses that were scanned.
pub(crate) struct Seen([bool; 256]);

impl Seen {
    /// Only the root bus was.
    pub(crate) fn new(root: u8) -> Self {
        let mut seen = Self([false; 256]);
        seen.take(root);
        seen
    }

    /// Marks a bus; answers whether it was not marked before.
    pub(crate) fn take(&mut self, bus: u8) -> bool {
        let seen = self.0.get_mut(usize::from(bus));
        seen.is_some_and(|seen| !core::mem::replace(seen, true))
    }
}

/// Secondary and subordinate bus of a bridge (7.5.1.3.2).
pub(crate) fn buses(config: Config<'_>) -> (u8, u8) {
    let [_, secondary, subordinate, _] = config.read32(bridge::BUSES).to_le_bytes();
    (secondary, subordinate)
}

/// Finds where the CPU sees every memory BAR, and lets the bridges forward. A BAR without a place
/// of its own loses its address: its function is refused.
pub(crate) fn place(topology: &mut Topology, host: &PcieHost) {
    let shared = shared(topology);
    for (index, function) in topology.functions.iter_mut().enumerate() {
        let config = topology.ecam.config(function.address);
        let mut lost = false;
        for (slot, bar) in function.bars.iter_mut().enumerate() {
            let Some(bar) = bar.as_mut().filter(|bar| bar.kind != BarKind::Io) else { continue };
            let own = !shared.contains(&(index, slot));
            bar.cpu = bar.bus.filter(|_| own).and_then(|bus| seen_at(host, bus, bar.size));
            if bar.cpu.is_none() {
                bar.bus = None;
                bar.write(config);
                lost = true;
            }
        }
        if lost {
            topology.problems.push(Error::Unplaced(function.address));
        }
        if let Header::Bridge { secondary, .. } = function.header
            && secondary != 0
        {
            // Its windows are firmware's too. Nothing behind it masters the bus.
            let on = header::COMMAND_MEMORY | header::COMMAND_MASTER | header::COMMAND_INTX_OFF;
            config.write16(header::COMMAND, on);
        }
    }
}

/// Where the CPU sees these addresses of the bus: whole pages inside one of the host's windows.
fn seen_at(host: &PcieHost, bus: u64, size: u64) -> Option<u64> {
    let end = bus.checked_add(size.max(PAGE))?;
    if bus == 0 || !bus.is_multiple_of(size.max(PAGE)) {
        return None;
    }
    let memory = host.windows.iter().filter(|window| window.space != Space::Io);
    memory.into_iter().find_map(|window| {
        let inside = window.bus <= bus && end <= window.bus.checked_add(window.cpu.size())?;
        let cpu = window.cpu.start().checked_add(bus.checked_sub(window.bus)?)?;
        (inside && cpu.is_multiple_of(PAGE)).then_some(cpu)
    })
}

/// BARs that share a page with another: function and slot.
fn shared(topology: &Topology) -> Vec<(usize, usize)> {
    let mut all = Vec::new();
    for (index, function) in topology.functions.iter().enumerate() {
        for (slot, bar) in function.bars.iter().enumerate() {
            if let Some(bar) = bar
                && bar.kind != BarKind::Io
                && let Some(bus) = bar.bus.filter(|bus| *bus != 0)
            {
                let start = bus & !(PAGE - 1);
                let end = bus.saturating_add(bar.size).checked_next_multiple_of(PAGE);
                all.push((start, end.unwrap_or(u64::MAX), (index, slot)));
            }
        }
    }
    all.sort_unstable();
    let mut shared = Vec::new();
    // One past the last page of all before, and whose that is.
    let mut last: Option<(u64, (usize, usize))> = None;
    for (start, end, who) in all {
        if let Some((before, other)) = last.filter(|(before, _)| start < *before) {
            shared.extend([other, who]);
            last = Some(if before < end { (end, who) } else { (before, other) });
        } else {
            last = Some((end, who));
        }
    }
    shared
}
