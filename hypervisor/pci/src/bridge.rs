//! Programming a bridge: bus numbers and windows (7.5.1.3).

use crate::bar::halves;
use crate::ecam::Config;
use crate::regs::{bridge, header};

/// Windows come in units of this many bytes.
pub(crate) const GRANULE: u64 = 1 << 20;

/// A window on the bus: first address and one past the last.
pub(crate) type Span = (u64, u64);

/// Sets the bus numbers.
pub(crate) fn number(config: Config<'_>, primary: u8, secondary: u8, subordinate: u8) {
    let timer = config.read32(bridge::BUSES) & 0xff00_0000;
    let buses = u32::from_le_bytes([primary, secondary, subordinate, 0]);
    config.write32(bridge::BUSES, timer | buses);
}

/// Whether the prefetchable window takes 64-bit addresses.
pub(crate) fn wide(config: Config<'_>) -> bool {
    config.read32(bridge::PREFETCHABLE) & 0xf == 1
}

/// Opens the windows, closes those that are empty, and lets the bridge forward
/// in both directions. I/O stays closed.
pub(crate) fn open(config: Config<'_>, low: Span, high: Span) {
    // Base above limit: closed.
    config.write16(bridge::IO, 0x00f0);
    config.write32(bridge::MEMORY, window(low));
    config.write32(bridge::PREFETCHABLE, window(high));
    let (base, limit) = if high.0 < high.1 { (high.0, high.1.wrapping_sub(1)) } else { (0, 0) };
    config.write32(bridge::PREFETCHABLE_BASE_UPPER, halves(base)[1]);
    config.write32(bridge::PREFETCHABLE_LIMIT_UPPER, halves(limit)[1]);
    let on = header::COMMAND_MEMORY | header::COMMAND_MASTER | header::COMMAND_INTX_OFF;
    config.write16(header::COMMAND, on);
}

/// Base and limit registers of a window: address bits 31:20 in bits 15:4 each.
fn window((start, end): Span) -> u32 {
    if start >= end {
        return 0x0000_fff0;
    }
    let [base, _] = halves(start);
    let [limit, _] = halves(end.wrapping_sub(1));
    ((base >> 16) & 0xfff0) | (limit & 0xfff0_0000)
}
