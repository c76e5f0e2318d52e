//! The virtual counter.

use core::arch::asm;

/// Ticks now.
pub fn now() -> u64 {
    let ticks;
    // SAFETY: reading the counter has no side effect.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack)) };
    ticks
}

/// Ticks per second.
pub fn frequency() -> u64 {
    let hertz: u64;
    // SAFETY: reading the register has no side effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hertz, options(nomem, nostack)) };
    hertz.max(1)
}

/// Spends microseconds without an access that traps.
pub fn pause(micros: u64) {
    let start = now();
    let ticks = frequency() * micros / 1_000_000;
    while now().wrapping_sub(start) < ticks {
        core::hint::spin_loop();
    }
}

/// Whether more than `millis` have passed since `start`.
pub fn passed(start: u64, millis: u64) -> bool {
    now().wrapping_sub(start) > frequency() / 1000 * millis
}
