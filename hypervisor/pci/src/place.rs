//! Placing BARs in the host's windows.
//!
//! Two cursors run through the host's 32-bit and 64-bit windows, depth first;
//! what they passed while a bridge's buses were placed is that bridge's window.
//! Every BAR gets whole pages of its own, so that mapping one into a VM never
//! maps another's registers.

use alloc::vec::Vec;

use palisade_board::{PcieHost, Space};

use crate::Error;
use crate::bar::BarKind;
use crate::bridge::{self, GRANULE};
use crate::function::Header;
use crate::topology::Topology;

const PAGE: u64 = 4096;

/// A window of the host, and how far it is used up.
#[derive(Clone, Copy)]
struct Cursor {
    next: u64,
    end: u64,
    /// CPU address less bus address, modulo 2^64.
    shift: u64,
}

impl Cursor {
    /// The first window of this kind; empty where there is none.
    fn of(host: &PcieHost, space: Space) -> Self {
        match host.windows.iter().find(|window| window.space == space) {
            Some(window) => Self {
                // Address 0 reads as "no address" in a BAR.
                next: window.bus.max(PAGE),
                end: window.bus.saturating_add(window.cpu.size()),
                shift: window.cpu.start().wrapping_sub(window.bus),
            },
            None => Self { next: 0, end: 0, shift: 0 },
        }
    }

    fn take(&mut self, size: u64) -> Option<u64> {
        let size = size.max(PAGE);
        let start = self.next.checked_next_multiple_of(size)?;
        let end = start.checked_add(size).filter(|end| *end <= self.end)?;
        self.next = end;
        Some(start)
    }

    fn align(&mut self) {
        self.next = self.next.checked_next_multiple_of(GRANULE).unwrap_or(self.end);
    }
}

/// Places every memory BAR and opens every bridge.
pub(crate) fn place(topology: &mut Topology, host: &PcieHost) {
    let mut cursors =
        Cursors { low: Cursor::of(host, Space::Memory32), high: Cursor::of(host, Space::Memory64) };
    cursors.bus(topology, None, true);
}

struct Cursors {
    low: Cursor,
    high: Cursor,
}

impl Cursors {
    /// Places the bus behind `parent`. `wide`: every bridge above forwards
    /// 64-bit addresses.
    fn bus(&mut self, topology: &mut Topology, parent: Option<usize>, wide: bool) {
        let mut bars = Vec::<(u64, usize, usize)>::new();
        let mut bridges = Vec::new();
        for (index, function) in topology.functions.iter().enumerate() {
            if function.parent != parent {
                continue;
            }
            if let Header::Bridge { secondary, .. } = function.header
                && secondary != 0
            {
                bridges.push(index);
            }
            for (slot, bar) in function.bars.iter().enumerate() {
                if let Some(bar) = bar
                    && bar.kind != BarKind::Io
                {
                    // Largest first: natural alignment then leaves the fewest holes.
                    let at = bars.partition_point(|other| other.0 >= bar.size);
                    bars.insert(at, (bar.size, index, slot));
                }
            }
        }
        for (_, index, slot) in bars {
            self.bar(topology, index, slot, parent.is_none(), wide);
        }
        for index in bridges {
            self.bridge(topology, index, wide);
        }
    }

    fn bar(&mut self, topology: &mut Topology, index: usize, slot: usize, root: bool, wide: bool) {
        let Some(function) = topology.functions.get_mut(index) else { return };
        let address = function.address;
        let Some(Some(bar)) = function.bars.get_mut(slot) else { return };
        // A bridge's only 64-bit window is the prefetchable one.
        let high = bar.kind == BarKind::Memory64 && wide && (root || bar.prefetchable);
        let high =
            if high { self.high.take(bar.size).map(|at| (at, self.high.shift)) } else { None };
        let place = high.or_else(|| self.low.take(bar.size).map(|at| (at, self.low.shift)));
        if let Some((bus, shift)) = place {
            bar.bus = Some(bus);
            bar.cpu = Some(bus.wrapping_add(shift)).filter(|cpu| cpu.is_multiple_of(PAGE));
            bar.write(topology.ecam.config(address));
            if !bar.holds(topology.ecam.config(address)) {
                bar.bus = None;
                bar.cpu = None;
            }
        }
        if bar.cpu.is_none() {
            topology.problems.push(Error::Unplaced(address));
        }
    }

    fn bridge(&mut self, topology: &mut Topology, index: usize, wide: bool) {
        let Some(address) = topology.functions.get(index).map(|function| function.address) else {
            return;
        };
        let wide = wide && bridge::wide(topology.ecam.config(address));
        self.low.align();
        self.high.align();
        let starts = (self.low.next, self.high.next);
        self.bus(topology, Some(index), wide);
        self.low.align();
        self.high.align();
        let low = (starts.0, self.low.next.min(self.low.end));
        let high = (starts.1, self.high.next.min(self.high.end));
        bridge::open(topology.ecam.config(address), low, high);
    }
}
