//! Starting the other cores. By PSCI or from a spin table, behind one call.

use core::ptr;

use palisade_hal::machine::{Conduit, MachineError, StartMethod};
use palisade_hal::{cache, cpu};
use smccc::psci;

use crate::area::{self, Words};
use crate::entry::{__palisade_secondary, __palisade_secondary_spin, REGISTERS, Registers};

/// Starts core `index` (1 and up), whose affinity fields are `mpidr`. It comes
/// up in the board's `secondary` function; whether it has, the caller must see
/// for itself, with a deadline.
///
/// # Errors
/// [`MachineError`]: what could not be done, with the number or address.
pub(crate) fn start(index: usize, mpidr: u64, method: StartMethod) -> Result<(), MachineError> {
    if index == 0 {
        return Err(MachineError::NoCore(index));
    }
    let words = area::prepare(index, mpidr).ok_or(MachineError::NoCore(index))?;
    // The core reads these with its MMU off.
    cache::clean(words.cast_const().cast(), size_of::<Words>());
    cache::clean((&raw const REGISTERS).cast(), size_of::<Registers>());
    match method {
        StartMethod::Psci(conduit) => {
            let entry = (&raw const __palisade_secondary) as u64;
            let context = words as u64;
            match conduit {
                Conduit::Smc => psci::cpu_on::<smccc::Smc>(mpidr, entry, context),
                Conduit::Hvc => psci::cpu_on::<smccc::Hvc>(mpidr, entry, context),
            }
            .map_err(|_| MachineError::Refused(mpidr))
        }
        StartMethod::SpinTable(release) => {
            if release == 0 || !release.is_multiple_of(8) || release >= 1 << 48 {
                return Err(MachineError::Release(release));
            }
            let entry = (&raw const __palisade_secondary_spin) as u64;
            let slot = release as *mut u64;
            // SAFETY: the device tree names this aligned doubleword as the core's
            // release address, and the board's main has mapped it; nothing of
            // ours lies there, since the page is reserved.
            unsafe { ptr::write_volatile(slot, entry) };
            cache::clean(slot.cast_const().cast(), 8);
            cpu::sev();
            Ok(())
        }
    }
}
