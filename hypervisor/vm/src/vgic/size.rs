//! How many interrupts a controller has, and how it says so.
use palisade_gic::Version;

/// Banks of shared interrupts.
pub(super) const SPI_BANKS: usize = 8;
/// How many shared interrupts a VM has.
pub const SPIS: u32 = 32 * SPI_BANKS as u32;
/// How many LPIs a VM has, as GICD_TYPER.num_LPIs says (12.9.38): an eighth of the machine's, which
/// has eight VMs at most, so that no VM can take the others' from them.
pub const LPIS: usize = 1 << LPI_BITS;
/// Their number's logarithm.
pub const LPI_BITS: u32 = 10;

/// GICD_TYPER of a controller, with LPIs or without.
pub(super) fn typer(version: Version, vcpus: usize, lpis: bool) -> u32 {
    // ITLinesNumber; the CPU count is GICv2's; ten bits of INTID are GICv3's.
    let lines = SPIS / 32;
    let cpus = (vcpus as u32).saturating_sub(1) & 7;
    // With LPIs: bit 17, fourteen bits of INTID, and how many there are: 2^(n + 1) for n in num_LPIs,
    // bits 15:11 (12.9.38).
    let wide = if lpis { 13 << 19 | 1 << 17 | (LPI_BITS - 1) << 11 } else { 9 << 19 };
    lines | if version == Version::V3 { wide } else { cpus << 5 }
}
