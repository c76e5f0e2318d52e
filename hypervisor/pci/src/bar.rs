//! Base Address Registers (7.5.1.2.1): size, address.

use crate::ecam::Config;
use crate::regs::header;

/// BARs of an endpoint; a bridge has two.
pub const MAX_BARS: usize = 6;

/// What a BAR decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarKind {
    /// I/O ports. Placed where the host has a window for them.
    Io,
    /// 32-bit memory.
    Memory32,
    /// 64-bit memory; takes two registers.
    Memory64,
}

/// A BAR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    /// Number of its (lower) register.
    pub index: u8,
    /// What it decodes.
    pub kind: BarKind,
    /// Reads have no side effects.
    pub prefetchable: bool,
    /// Size in bytes, a power of two.
    pub size: u64,
    /// Its address on the bus, once it is placed.
    pub bus: Option<u64>,
    /// Where the CPU sees it, once it is placed. A multiple of 4 KiB, and no
    /// other BAR lies in its pages.
    pub cpu: Option<u64>,
}

/// Offset of register `index`.
pub(crate) fn offset(index: u8) -> u16 {
    header::BAR0.saturating_add(u16::from(index).saturating_mul(4))
}

/// Sizes the BARs `0..count`. Memory and I/O decoding must be off. With `keep` the firmware's
/// addresses are noted and stay; otherwise they are 0 afterwards.
pub(crate) fn read_all(config: Config<'_>, count: u8, keep: bool) -> [Option<Bar>; MAX_BARS] {
    let mut bars = [None; MAX_BARS];
    let mut index = 0u8;
    while index < count {
        let before = kept(config, index, count);
        let mut bar = read(config, index, count);
        if keep && let Some(bar) = &mut bar {
            keep_address(bar, config, before);
        }
        let wide = bar.is_some_and(|bar| bar.kind == BarKind::Memory64);
        if let Some(slot) = bars.get_mut(usize::from(index)) {
            *slot = bar;
        }
        index = index.saturating_add(if wide { 2 } else { 1 });
    }
    bars
}

/// A register and the one behind it, as firmware left them.
fn kept(config: Config<'_>, index: u8, count: u8) -> [u32; 2] {
    let at = offset(index);
    let wide = index.saturating_add(1) < count;
    [config.read32(at), if wide { config.read32(at.saturating_add(4)) } else { 0 }]
}

/// Gives a BAR back the address that it had.
fn keep_address(bar: &mut Bar, config: Config<'_>, [low, high]: [u32; 2]) {
    bar.bus = match bar.kind {
        // Written back as it was: never decoded, never ours.
        BarKind::Io => {
            config.write32(offset(bar.index), low);
            return;
        }
        BarKind::Memory32 => Some(u64::from(low & !0xf)),
        BarKind::Memory64 => Some(u64::from(low & !0xf) | u64::from(high) << 32),
    };
    bar.write(config);
}

/// What register `at` keeps of all ones. The old value is not restored: until
/// it is placed a BAR decodes nothing, as decoding is off.
fn writable(config: Config<'_>, at: u16) -> u32 {
    config.write32(at, u32::MAX);
    let mask = config.read32(at);
    config.write32(at, 0);
    mask
}

fn read(config: Config<'_>, index: u8, count: u8) -> Option<Bar> {
    let at = offset(index);
    let low = writable(config, at);
    if low == 0 || low == u32::MAX && config.read32(at) == u32::MAX {
        return None;
    }
    let prefetchable = low & 9 == 8;
    let (kind, mask) = if low & 1 != 0 {
        // The upper half of an I/O BAR may be hard-wired to 0.
        (BarKind::Io, u64::from(low & !3) | 0xffff_ffff_ffff_0000)
    } else if low & 6 == 0 {
        (BarKind::Memory32, u64::from(low & !0xf) | 0xffff_ffff_0000_0000)
    } else if low & 6 == 4 && index.saturating_add(1) < count {
        let high = writable(config, at.saturating_add(4));
        (BarKind::Memory64, u64::from(low & !0xf) | (u64::from(high) << 32))
    } else {
        // Below 1 MiB (PCI 2.x), reserved, or half a register.
        return None;
    };
    if mask == 0 {
        return None;
    }
    let size = 1u64 << mask.trailing_zeros();
    Some(Bar { index, kind, prefetchable, size, bus: None, cpu: None })
}

impl Bar {
    /// Writes the BAR's address; 0 if it has none.
    pub(crate) fn write(&self, config: Config<'_>) {
        if self.kind == BarKind::Io && self.bus.is_none() {
            return;
        }
        let [low, high] = halves(self.bus.unwrap_or(0));
        config.write32(offset(self.index), low);
        if self.kind == BarKind::Memory64 {
            config.write32(offset(self.index).saturating_add(4), high);
        }
    }

    /// Whether the device holds the address that was written.
    pub(crate) fn holds(&self, config: Config<'_>) -> bool {
        let Some(bus) = self.bus else { return true };
        let [low, high] = halves(bus);
        let flags = if self.kind == BarKind::Io { 3 } else { 0xf };
        config.read32(offset(self.index)) & !flags == low
            && (self.kind != BarKind::Memory64
                || config.read32(offset(self.index).saturating_add(4)) == high)
    }
}

/// Lower and upper word.
pub(crate) const fn halves(value: u64) -> [u32; 2] {
    [(value & 0xffff_ffff) as u32, (value >> 32) as u32]
}
