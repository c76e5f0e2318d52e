//! Placing BARs in the host's windows.
//!
//! A cursor runs through each of the host's windows, depth first. A BAR on the root bus takes the
//! first window that suits it and has room. What stands behind a bridge of the root bus shares
//! the windows that the bridge can forward, one of each kind, so that for each such bridge every
//! choice of windows is tried on paper and the one that leaves the fewest BARs without a place is
//! taken. Every BAR gets whole pages of its own, so that mapping one into a VM never maps
//! another's registers; that holds for I/O ports where the CPU sees them.

use alloc::vec::Vec;

use palisade_board::{PcieHost, Space, Window};

use crate::Error;
use crate::bar::{Bar, BarKind};
use crate::bridge::{self, Forwards, GRANULE, IO_GRANULE, Span};
use crate::error::Room;
use crate::function::Header;
use crate::topology::{MAX_FUNCTIONS, Topology};

const PAGE: u64 = 4096;
/// One past the last address of 32 bits, and of I/O ports as every device takes them.
const NARROW: u64 = 1 << 32;
const PORTS: u64 = 1 << 16;

/// A window of the host, and how far it is used up.
#[derive(Clone, Copy)]
struct Cursor {
    next: u64,
    end: u64,
    /// CPU address less bus address, modulo 2^64.
    shift: u64,
    io: bool,
    prefetchable: bool,
}

impl Cursor {
    /// `None` for a window in which no whole page of the CPU's is one of the bus.
    fn new(window: &Window) -> Option<Self> {
        let io = window.space == Space::Io;
        let end = window.bus.saturating_add(window.cpu.size());
        let shift = window.cpu.start().wrapping_sub(window.bus);
        let cursor = Self {
            // Address 0 reads as "no address" in a BAR.
            next: window.bus.max(PAGE),
            end: if io { end.min(PORTS) } else { end },
            shift,
            io,
            prefetchable: window.prefetchable,
        };
        shift.is_multiple_of(PAGE).then_some(cursor)
    }

    /// All of it has addresses of 32 bits.
    fn narrow(&self) -> bool {
        self.end <= NARROW
    }

    /// Whether a BAR on the root bus can be here. Registers that reads change are never where
    /// the host may read ahead.
    fn suits(&self, bar: &Bar) -> bool {
        match bar.kind {
            BarKind::Io => self.io,
            BarKind::Memory32 | BarKind::Memory64 => {
                !self.io
                    && (!self.prefetchable || bar.prefetchable)
                    && (bar.kind == BarKind::Memory64 || self.narrow())
            }
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
        let granule = if self.io { IO_GRANULE } else { GRANULE };
        self.next = self.next.checked_next_multiple_of(granule).unwrap_or(self.end);
    }
}

/// The windows that what is behind a bridge shares: by number, none where there is none.
#[derive(Clone, Copy, Default)]
struct Lanes {
    io: Option<usize>,
    /// 32-bit memory.
    low: Option<usize>,
    /// What a bridge's prefetchable window leads to.
    high: Option<usize>,
}

/// Address on the bus, and what is added to it where the CPU sees it.
type Place = Result<(u64, u64), Room>;

/// What is to be written: BARs with their addresses, bridges with their windows.
#[derive(Default)]
struct Plan {
    bars: Vec<(usize, usize, Place)>,
    bridges: Vec<(usize, [Span; 3])>,
}

impl Plan {
    /// BARs without a place: those that a device needs count first.
    fn lost(&self, topology: &Topology) -> (usize, usize) {
        let ports = |&&(index, slot, _): &&(usize, usize, Place)| {
            bar(topology, index, slot).is_some_and(|bar| bar.kind == BarKind::Io)
        };
        let lost: Vec<_> = self.bars.iter().filter(|(.., place)| place.is_err()).collect();
        let io = lost.iter().copied().filter(|one| ports(one)).count();
        (lost.len().saturating_sub(io), io)
    }
}

fn bar(topology: &Topology, index: usize, slot: usize) -> Option<&Bar> {
    topology.functions.get(index)?.bars.get(slot)?.as_ref()
}

/// Places every BAR and opens every bridge.
pub(crate) fn place(topology: &mut Topology, host: &PcieHost) {
    let forwards = topology.functions.iter().map(|function| match function.header {
        Header::Bridge { secondary, .. } if secondary != 0 => {
            Some(bridge::forwards(topology.ecam.config(function.address)))
        }
        _ => None,
    });
    let forwards: Vec<_> = forwards.collect();
    let mut windows: Vec<Cursor> = host.windows.iter().filter_map(Cursor::new).collect();
    let mut plan = Plan::default();
    let Level { bars, bridges } = Level::of(topology, None);
    for (index, slot) in bars {
        let place = match bar(topology, index, slot) {
            Some(bar) => at_root(&mut windows, bar),
            None => Err(Room::NoWindow),
        };
        plan.bars.push((index, slot, place));
    }
    for index in bridges {
        let mut best: Option<((usize, usize), Plan, Vec<Cursor>)> = None;
        for lanes in choices(&windows) {
            let mut paper =
                Paper { topology, forwards: &forwards, windows: windows.clone(), lanes };
            let mut tried = Plan::default();
            paper.bridge(index, Forwards::ALL, &mut tried);
            let lost = tried.lost(topology);
            if best.as_ref().is_none_or(|(least, ..)| lost < *least) {
                best = Some((lost, tried, paper.windows));
            }
            if lost == (0, 0) {
                break;
            }
        }
        if let Some((_, mut tried, used)) = best {
            plan.bars.append(&mut tried.bars);
            plan.bridges.append(&mut tried.bridges);
            windows = used;
        }
    }
    write(topology, plan);
}

/// A place on the root bus: 64-bit addresses first, since 32-bit ones are few.
fn at_root(windows: &mut [Cursor], bar: &Bar) -> Place {
    let mut why = Room::NoWindow;
    for narrow in [false, true] {
        for window in windows.iter_mut().filter(|w| w.narrow() == narrow && w.suits(bar)) {
            match window.take(bar.size) {
                Some(at) => return Ok((at, window.shift)),
                None => why = Room::Full,
            }
        }
    }
    Err(why)
}

/// Every choice of one window for each lane; a lane without a window goes without.
fn choices(windows: &[Cursor]) -> Vec<Lanes> {
    let find = |suits: &dyn Fn(&Cursor) -> bool| {
        let all = windows.iter().enumerate().filter(|(_, window)| suits(window));
        all.map(|(index, _)| Some(index)).collect::<Vec<_>>()
    };
    let or_none = |mut found: Vec<Option<usize>>| {
        if found.is_empty() {
            found.push(None);
        }
        found
    };
    let io = or_none(find(&|window| window.io));
    let low = or_none(find(&|window| !window.io && window.narrow() && !window.prefetchable));
    // 32-bit addresses last: they are few.
    let mut high = find(&|window| !window.io && !window.narrow());
    high.append(&mut find(&|window| !window.io && window.narrow() && window.prefetchable));
    let high = or_none(high);
    let mut all = Vec::new();
    for &io in &io {
        for &high in &high {
            all.extend(low.iter().map(|&low| Lanes { io, low, high }));
        }
    }
    all
}

/// What stands on one bus.
struct Level {
    /// Function and slot, the largest first: natural alignment then leaves the fewest holes.
    bars: Vec<(usize, usize)>,
    bridges: Vec<usize>,
}

impl Level {
    fn of(topology: &Topology, parent: Option<usize>) -> Self {
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
                if let Some(bar) = bar {
                    let at = bars.partition_point(|other| other.0 >= bar.size);
                    bars.insert(at, (bar.size, index, slot));
                }
            }
        }
        Self { bars: bars.into_iter().map(|(_, index, slot)| (index, slot)).collect(), bridges }
    }
}

/// A placement that is tried: nothing is written.
struct Paper<'t> {
    topology: &'t Topology,
    forwards: &'t [Option<Forwards>],
    windows: Vec<Cursor>,
    lanes: Lanes,
}

impl Paper<'_> {
    fn take(&mut self, lane: Option<usize>, size: u64) -> Place {
        let window = lane.and_then(|lane| self.windows.get_mut(lane)).ok_or(Room::NoWindow)?;
        let shift = window.shift;
        window.take(size).map(|at| (at, shift)).ok_or(Room::Full)
    }

    fn lanes(&self) -> [Option<usize>; 3] {
        [self.lanes.io, self.lanes.low, self.lanes.high]
    }

    fn align(&mut self) -> [u64; 3] {
        self.lanes().map(|lane| {
            let window = lane.and_then(|lane| self.windows.get_mut(lane));
            window.map_or(0, |window| {
                window.align();
                window.next.min(window.end)
            })
        })
    }

    /// A bridge with everything behind it. `above`: what all bridges above it forward.
    fn bridge(&mut self, index: usize, above: Forwards, plan: &mut Plan) {
        let own = self.forwards.get(index).copied().flatten();
        let here = own.map_or(Forwards::default(), |own| own.and(above));
        let starts = self.align();
        let Level { bars, bridges } = Level::of(self.topology, Some(index));
        for (function, slot) in bars {
            let Some(bar) = bar(self.topology, function, slot) else { continue };
            plan.bars.push((function, slot, self.bar(bar, here)));
        }
        for below in bridges {
            self.bridge(below, here, plan);
        }
        let [io, low, high] = self.align();
        plan.bridges.push((index, [(starts[0], io), (starts[1], low), (starts[2], high)]));
    }

    fn bar(&mut self, bar: &Bar, here: Forwards) -> Place {
        if bar.kind == BarKind::Io {
            return if here.io { self.take(self.lanes.io, bar.size) } else { Err(Room::Bridge) };
        }
        let window = self.lanes.high.and_then(|lane| self.windows.get(lane));
        let narrow = window.is_some_and(Cursor::narrow);
        let wide = bar.kind == BarKind::Memory64 && here.wide;
        let high = if bar.prefetchable && here.prefetchable && (narrow || wide) {
            self.take(self.lanes.high, bar.size)
        } else {
            Err(Room::NoWindow)
        };
        high.or_else(|_| self.take(self.lanes.low, bar.size))
    }
}

/// Writes the addresses, opens the bridges, and names what is without a place.
fn write(topology: &mut Topology, plan: Plan) {
    for (index, slot, place) in plan.bars {
        let Some(function) = topology.functions.get_mut(index) else { continue };
        let device = function.address;
        let Some(Some(bar)) = function.bars.get_mut(slot) else { continue };
        let config = topology.ecam.config(device);
        let placed = place.and_then(|(bus, shift)| {
            (bar.bus, bar.cpu) = (Some(bus), Some(bus.wrapping_add(shift)));
            bar.write(config);
            if bar.holds(config) { Ok(()) } else { Err(Room::NotHeld) }
        });
        let Err(why) = placed else { continue };
        (bar.bus, bar.cpu) = (None, None);
        // A device works without its ports, and a host may well have none.
        let without = bar.kind == BarKind::Io && why == Room::NoWindow;
        if !without && topology.problems.len() < MAX_FUNCTIONS {
            topology.problems.push(Error::NoRoom { device, bar: bar.index, why });
        }
    }
    for (index, spans) in plan.bridges {
        let Some(function) = topology.functions.get(index) else { continue };
        bridge::open(topology.ecam.config(function.address), spans);
    }
}
