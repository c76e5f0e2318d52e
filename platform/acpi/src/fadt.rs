//! The FADT (5.2.9): how PSCI is called.

use palisade_board::Conduit;

use crate::error::{Error, Fault, Signature};
use crate::tables::Tables;

/// Table 5.9: Flags, bit 20, and ARM_BOOT_ARCH.
const FLAGS: usize = 112;
const HW_REDUCED_ACPI: u32 = 1 << 20;
const ARM_BOOT_ARCH: usize = 129;
/// 5.2.9.4: bits of ARM_BOOT_ARCH.
const PSCI_COMPLIANT: u16 = 1;
const PSCI_USE_HVC: u16 = 1 << 1;

/// The conduit, if there is PSCI.
///
/// # Errors
/// There is no FADT, or it is none of an Arm machine.
pub(crate) fn conduit(tables: &Tables<'_>) -> Result<Option<Conduit>, Error> {
    let fadt = tables.need(Signature::FADT)?;
    let flags = fadt.u32(FLAGS, "Flags")?;
    if flags & HW_REDUCED_ACPI == 0 {
        // 4.1: all Arm machines are hardware-reduced; another one's bits mean something else.
        return Err(fadt.error(FLAGS, "Flags", Fault::Value(flags.into())));
    }
    let arch = fadt.u16(ARM_BOOT_ARCH, "ARM_BOOT_ARCH")?;
    let conduit = if arch & PSCI_USE_HVC != 0 { Conduit::Hvc } else { Conduit::Smc };
    Ok((arch & PSCI_COMPLIANT != 0).then_some(conduit))
}
