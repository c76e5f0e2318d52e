//! Off by the Raspberry Pi's watchdog: there is no PSCI to ask. The registers and their password
//! are those of the BCM2835's power manager, which the BCM2711 kept.

use palisade_hal::mmio::Mmio;

/// Reset control, reset status, watchdog count.
const RSTC: u64 = 0x1c;
const RSTS: u64 = 0x20;
const WDOG: u64 = 0x24;
/// Every write carries it in bits 31:24.
const PASSWORD: u32 = 0x5a00_0000;
/// RSTC: the reset that the watchdog makes, bits 5:4; 2 is a full one.
const WRCFG: u32 = 0x30;
const FULL_RESET: u32 = 0x20;
/// RSTS: the partition to boot next, spread over bits 0, 2, 4, 6, 8, 10. 63 tells the firmware to
/// halt instead of booting.
const PARTITION: u32 = 0x555;
/// In units of 1/65536 s.
const SOON: u32 = 10;

/// Has the firmware halt the machine. When this returns, it happens in an instant.
pub(crate) fn halt(registers: &Mmio) {
    let status = registers.read32(RSTS) & 0x00ff_ffff;
    registers.write32(RSTS, PASSWORD | status | PARTITION);
    registers.write32(WDOG, PASSWORD | SOON);
    let control = registers.read32(RSTC) & 0x00ff_ffff & !WRCFG;
    registers.write32(RSTC, PASSWORD | control | FULL_RESET);
}
