//! Addresses and wires of the virtual host; the same on every board.

/// Configuration space of 256 buses.
pub const ECAM_BASE: u64 = 0x40_1000_0000;
/// Its length in bytes.
pub const ECAM_BYTES: u64 = 0x1000_0000;
/// The 32-bit window: first address and bytes.
pub const WINDOW32: (u64, u64) = (0x1000_0000, 0x2eff_0000);
/// The window of I/O ports: where the CPU sees port 0, and bytes.
pub const WINDOW_IO: (u64, u64) = (0x3eff_0000, 0x1_0000);
/// The 64-bit window: first address and bytes. The upper end is that of a 39-bit IPA space.
pub const WINDOW64: (u64, u64) = (0x60_0000_0000, 0x20_0000_0000);
/// SPI of device 0, pin INTA.
const FIRST_SPI: u32 = 3;
/// First SPI's INTID.
const SPI: u32 = 32;

/// INTID of the guest's wire for pin `pin` (1 = INTA … 4 = INTD) of device `device`.
pub const fn wire(device: u8, pin: u8) -> u32 {
    SPI + FIRST_SPI + (device as u32 + pin.saturating_sub(1) as u32) % 4
}

/// Buses that a virtual root port leads to: 1 up to this.
pub(super) const MAX_PORTS: u8 = 16;

/// Device number on bus 0 of the virtual root port that leads to `bus`, from 16 on. In ascending
/// order, so that a guest that numbers the buses anew comes to the same numbers.
pub(super) const fn port(bus: u8) -> u8 {
    15 + (bus.saturating_sub(1) % MAX_PORTS + 1)
}

/// INTID of the guest's wire for pin `pin` of the function at `bdf`, through the swizzle of its
/// root port if it stands behind one (2.2.8.1).
pub const fn wire_of(bdf: u16, pin: u8) -> u32 {
    let [bus, slot] = bdf.to_be_bytes();
    let device = slot >> 3;
    if bus == 0 || bus > MAX_PORTS {
        return wire(device, pin);
    }
    wire(port(bus), (pin.saturating_sub(1) + device) % 4 + 1)
}

/// Why a guest that scans its buses does not come to `bdf`; `None` where it does. `first`: the
/// device has a function 0, which says that there are others (7.5.1.1.9).
pub(crate) const fn hidden(bdf: u16, first: bool) -> Option<&'static str> {
    let [bus, slot] = bdf.to_be_bytes();
    if bus > MAX_PORTS {
        Some("no root port leads to its bus")
    } else if bus > 0 && slot >> 3 != 0 {
        Some("a link has device 0 only")
    } else if slot & 7 != 0 && !first {
        Some("its device has no function 0")
    } else {
        None
    }
}

/// Where the CPU sees `bytes` ports from `port` on; `None` outside the window, and for port 0,
/// which is no address.
pub(super) fn ports_at(port: u64, bytes: u64) -> Option<u64> {
    let (base, size) = WINDOW_IO;
    let end = port.checked_add(bytes)?;
    (port != 0 && end <= size).then(|| base.saturating_add(port))
}

/// Whether `bytes` bytes at `start` lie in one of the windows of memory.
pub(super) fn in_window(start: u64, bytes: u64) -> bool {
    [WINDOW32, WINDOW64].iter().any(|(base, size)| {
        start
            .checked_sub(*base)
            .and_then(|offset| offset.checked_add(bytes))
            .is_some_and(|end| end <= *size)
    })
}
