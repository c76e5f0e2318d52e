//! Off, and with which status.

use core::arch::asm;

use palisade_hal::machine::Conduit;
use smccc::psci;

use crate::entry::park;

/// Turns the machine off by PSCI; without it, or if that fails, this core stops.
pub fn off(conduit: Option<Conduit>) -> ! {
    let _refused = match conduit {
        Some(Conduit::Smc) => psci::system_off::<smccc::Smc>(),
        Some(Conduit::Hvc) => psci::system_off::<smccc::Hvc>(),
        None => Ok(()),
    };
    park()
}

/// Ends the emulator with `status`, by semihosting SYS_EXIT_EXTENDED.
///
/// # Safety
/// Semihosting must be on: without it this is an undefined instruction, which
/// the vectors report as a fatal exception.
pub unsafe fn exit(status: u32) -> ! {
    const SYS_EXIT_EXTENDED: u64 = 0x20;
    const ADP_STOPPED_APPLICATION_EXIT: u64 = 0x20026;
    let block = [ADP_STOPPED_APPLICATION_EXIT, u64::from(status)];
    // SAFETY: the caller promises that the call is taken; it reads `block` and
    // does not come back.
    unsafe {
        asm!("hlt #0xf000", in("x0") SYS_EXIT_EXTENDED, in("x1") block.as_ptr(), options(nostack));
    }
    park()
}
