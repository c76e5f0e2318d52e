//! Data-cache maintenance by virtual address (DDI 0487, D7.5.9).

use core::arch::asm;

use super::barrier;

/// The smallest data-cache line of the system in bytes (CTR_EL0.DminLine, D24.2.34).
fn line() -> usize {
    let ctr: u64;
    // SAFETY: reading CTR_EL0 has no side effect.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    4usize << ((ctr >> 16) & 0xf)
}

/// An instruction at every `step` bytes from `at` to `end`, which is beyond it.
macro_rules! by_step {
    ($instruction:literal, $at:expr, $end:expr, $step:expr) => {
        asm!(
            "2:",
            $instruction,
            "add {at}, {at}, {step}",
            "cmp {at}, {end}",
            "b.lo 2b",
            at = inout(reg) $at => _,
            end = in(reg) $end,
            step = in(reg) $step,
            options(nostack),
        )
    };
}

macro_rules! by_line {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        pub fn $name(start: *const u8, bytes: usize) {
            let line = line();
            let at = start.addr() & !(line - 1);
            let Some(end) = start.addr().checked_add(bytes) else { return };
            if at < end {
                // SAFETY: cleaning a line changes no value a program can read; an
                // unmapped address faults and is reported, it corrupts nothing.
                unsafe { by_step!($instruction, at, end, line) };
            }
            barrier::dsb_sy();
        }
    };
}

by_line!(
    /// DC CVAC over a range: what was written is in memory when this returns.
    clean, "dc cvac, {at}"
);
by_line!(
    /// DC CIVAC over a range: in memory, and later loads come from there.
    clean_invalidate, "dc civac, {at}"
);

/// Zeroes `bytes` bytes and leaves them clean to the point of coherency and in no cache: DC ZVA
/// where the core permits it (DCZID_EL0, D24.2.36), which writes whole lines without reading them.
///
/// # Safety
/// The range is writable Normal memory that nobody else uses meanwhile.
pub unsafe fn zero(start: *mut u8, bytes: usize) {
    let dczid: usize;
    // SAFETY: reading DCZID_EL0 has no side effect.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) dczid, options(nomem, nostack, preserves_flags)) };
    let block = 4usize << (dczid & 0xf);
    let at = start.addr();
    let permitted = dczid & 1 << 4 == 0;
    let whole = permitted && at.is_multiple_of(block) && bytes.is_multiple_of(block);
    if whole && bytes > 0 {
        // SAFETY: blocks inside the range, which the caller owns.
        unsafe { by_step!("dc zva, {at}", at, at.wrapping_add(bytes), block) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { start.write_bytes(0, bytes) };
    }
    clean_invalidate(start, bytes);
}

/// Makes freshly written instructions visible to every core's fetch.
pub fn sync_instructions(start: *const u8, bytes: usize) {
    clean(start, bytes);
    // SAFETY: invalidating the instruction cache only makes fetches read anew.
    unsafe { asm!("ic ialluis", options(nostack, preserves_flags)) };
    barrier::dsb_ish();
    barrier::isb();
}
