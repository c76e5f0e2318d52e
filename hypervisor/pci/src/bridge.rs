//! Programming a bridge: bus numbers and windows (7.5.1.3).

use crate::bar::halves;
use crate::ecam::Config;
use crate::regs::{bridge, header};

/// Windows come in units of this many bytes.
pub(crate) const GRANULE: u64 = 1 << 20;

/// The same for I/O ports.
pub(crate) const IO_GRANULE: u64 = 1 << 12;
/// Base and limit of windows that forward nothing.
const CLOSED: u32 = 0x0000_fff0;
const IO_CLOSED: u16 = 0x00f0;

/// A window on the bus: first address and one past the last.
pub(crate) type Span = (u64, u64);

/// Sets the bus numbers.
pub(crate) fn number(config: Config<'_>, primary: u8, secondary: u8, subordinate: u8) {
    let timer = config.read32(bridge::BUSES) & 0xff00_0000;
    let buses = u32::from_le_bytes([primary, secondary, subordinate, 0]);
    config.write32(bridge::BUSES, timer | buses);
}

/// What a bridge, or a chain of them, forwards besides 32-bit memory.
#[derive(Clone, Copy, Default)]
pub(crate) struct Forwards {
    /// I/O ports.
    pub(crate) io: bool,
    /// Prefetchable memory.
    pub(crate) prefetchable: bool,
    /// Prefetchable memory at 64-bit addresses.
    pub(crate) wide: bool,
}

impl Forwards {
    /// What the root bus takes.
    pub(crate) const ALL: Self = Self { io: true, prefetchable: true, wide: true };

    /// What both forward.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            io: self.io && other.io,
            prefetchable: self.prefetchable && other.prefetchable,
            wide: self.wide && other.wide,
        }
    }
}

/// What the bridge forwards: a window that it lacks reads as zeros (7.5.1.3.6, 7.5.1.3.9).
pub(crate) fn forwards(config: Config<'_>) -> Forwards {
    // Base above limit: closed.
    config.write16(bridge::IO, IO_CLOSED);
    config.write32(bridge::PREFETCHABLE, CLOSED);
    let prefetchable = config.read32(bridge::PREFETCHABLE);
    Forwards {
        io: config.read16(bridge::IO) & 0xf0 != 0,
        prefetchable: prefetchable & 0xfff0 != 0,
        wide: prefetchable & 0xfff0 != 0 && prefetchable & 0xf == 1,
    }
}

/// Opens the windows for I/O, memory and prefetchable memory, closes those that are empty, and
/// lets the bridge forward in both directions.
pub(crate) fn open(config: Config<'_>, [io, low, high]: [Span; 3]) {
    config.write16(bridge::IO, io_window(io));
    // Ports have 16 bits here.
    config.write32(bridge::IO_UPPER, 0);
    config.write32(bridge::MEMORY, window(low));
    config.write32(bridge::PREFETCHABLE, window(high));
    let (base, limit) = if high.0 < high.1 { (high.0, high.1.wrapping_sub(1)) } else { (0, 0) };
    config.write32(bridge::PREFETCHABLE_BASE_UPPER, halves(base)[1]);
    config.write32(bridge::PREFETCHABLE_LIMIT_UPPER, halves(limit)[1]);
    let on = header::COMMAND_MEMORY | header::COMMAND_MASTER | header::COMMAND_INTX_OFF;
    let ports = if io.0 < io.1 { header::COMMAND_IO } else { 0 };
    config.write16(header::COMMAND, on | ports);
}

/// I/O Base and I/O Limit of a window: address bits 15:12 in bits 7:4 of each.
fn io_window((start, end): Span) -> u16 {
    if start >= end {
        return IO_CLOSED;
    }
    let base = (start >> 8) & 0xf0;
    let limit = end.wrapping_sub(1) & 0xf000;
    (base | limit) as u16
}

/// Base and limit registers of a window: address bits 31:20 in bits 15:4 each.
fn window((start, end): Span) -> u32 {
    if start >= end {
        return CLOSED;
    }
    let [base, _] = halves(start);
    let [limit, _] = halves(end.wrapping_sub(1));
    ((base >> 16) & 0xfff0) | (limit & 0xfff0_0000)
}
