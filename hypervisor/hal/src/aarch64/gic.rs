//! What the GICv3 driver's library lacks of the CPU interface's system registers (IHI 0069,
//! chapter 12). The virtual side is in [`guest`](crate::guest).

use core::arch::asm;

/// ICC_CTLR_EL1 of EL2's own interface (12.2.6).
pub fn ctlr() -> u64 {
    let value: u64;
    // SAFETY: reading the register has no side effect.
    unsafe { asm!("mrs {}, S3_0_C12_C12_4", out(reg) value, options(nostack, preserves_flags)) };
    value
}

/// Writes ICC_CTLR_EL1.
pub fn set_ctlr(value: u64) {
    // SAFETY: governs how this core's interrupts end; no memory is touched.
    unsafe { asm!("msr S3_0_C12_C12_4, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// ICC_EOIR1_EL1: drops the priority of the physical interrupt `intid` of group 1 (12.2.10).
#[inline]
pub fn priority_drop(intid: u32) {
    // SAFETY: governs which interrupts this core takes next; no memory is touched.
    unsafe {
        asm!("msr S3_0_C12_C12_1, {}", in(reg) u64::from(intid), options(nostack, preserves_flags));
    }
}

/// ICC_DIR_EL1: ends the physical interrupt `intid` after its priority was dropped (12.2.8).
pub fn deactivate(intid: u32) {
    // SAFETY: the distributor forgets that the interrupt is active; no memory is touched. The
    // barrier lets a device write that silenced the line complete first.
    unsafe {
        asm!("dsb sy", "msr S3_0_C12_C11_1, {}", "isb", in(reg) u64::from(intid),
            options(nostack, preserves_flags));
    }
}

macro_rules! zero {
    ($index:expr, $($n:literal $group0:literal $group1:literal),*) => {
        match $index {
            $($n => {
                // SAFETY: registers of the guest's CPU interface; no guest runs meanwhile.
                unsafe {
                    asm!(concat!("msr ", $group0, ", xzr"), concat!("msr ", $group1, ", xzr"),
                        options(nostack, preserves_flags));
                }
            })*
            _ => {}
        }
    };
}

/// Zeroes the guest's active priorities, `ICH_AP0R<n>_EL2` and `ICH_AP1R<n>_EL2` for n < `count`
/// (12.4.1, 12.4.2). `count` is what the preemption bits of ICH_VTR_EL2 imply: 1, 2 or 4.
pub fn clear_active_priorities(count: usize) {
    for index in 0..count {
        zero!(index, 0 "S3_4_C12_C8_0" "S3_4_C12_C9_0", 1 "S3_4_C12_C8_1" "S3_4_C12_C9_1",
            2 "S3_4_C12_C8_2" "S3_4_C12_C9_2", 3 "S3_4_C12_C8_3" "S3_4_C12_C9_3");
    }
}
