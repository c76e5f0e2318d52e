//! PSCI.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

/// SYSTEM_OFF (Arm DEN 0022, section 5.9).
const SYSTEM_OFF: u32 = 0x8400_0008;

/// SYSTEM_RESET (5.10).
const SYSTEM_RESET: u32 = 0x8400_0009;

static SMC: AtomicBool = AtomicBool::new(false);

/// Says that the machine wants SMC instead of HVC.
pub fn use_smc() {
    SMC.store(true, Ordering::Relaxed);
}

/// Calls the firmware with up to three arguments.
pub fn call(function: u64, arguments: [u64; 3]) -> i64 {
    let [a, b, c] = arguments;
    let result;
    // SAFETY: SMCCC 1.1 preserves x4 and up; memory may change.
    unsafe {
        if SMC.load(Ordering::Relaxed) {
            asm!("smc #0", inout("x0") function => result, inout("x1") a => _, inout("x2") b => _,
                 inout("x3") c => _, options(nostack));
        } else {
            asm!("hvc #0", inout("x0") function => result, inout("x1") a => _, inout("x2") b => _,
                 inout("x3") c => _, options(nostack));
        }
    }
    result
}

/// Starts the machine anew; comes back only where that is refused.
pub fn reset() {
    let _ = call(u64::from(SYSTEM_RESET), [0; 3]);
}

/// Powers off.
pub fn off() -> ! {
    let _ = call(u64::from(SYSTEM_OFF), [0; 3]);
    loop {
        core::hint::spin_loop();
    }
}
