//! Instructions that Rust cannot express.

use core::arch::{asm, naked_asm};

/// The exception level (DDI 0487, CurrentEL).
pub(crate) fn level() -> u64 {
    let level: u64;
    // SAFETY: reads CurrentEL.
    unsafe { asm!("mrs {}, CurrentEL", out(reg) level, options(nomem, nostack)) };
    (level >> 2) & 3
}

/// Whether the page of `address` can be read by the firmware's own translation (AT S1E2R,
/// PAR_EL1.F). Nothing is accessed.
pub(crate) fn mapped(address: u64) -> bool {
    let par: u64;
    // SAFETY: translates an address into PAR_EL1, and touches nothing else.
    unsafe {
        asm!(
            "at s1e2r, {address}",
            "isb",
            "mrs {par}, par_el1",
            address = in(reg) address,
            par = out(reg) par,
            options(nostack),
        );
    }
    par & 1 == 0
}

/// Whether all pages of `size` bytes from `start` are mapped.
pub(crate) fn all_mapped(start: u64, size: u64) -> bool {
    const PAGE: u64 = 4096;
    let Some(last) = start.checked_add(size.saturating_sub(1)) else { return false };
    let (mut at, last) = (start & !(PAGE - 1), last & !(PAGE - 1));
    loop {
        if !mapped(at) {
            return false;
        }
        if at >= last {
            return true;
        }
        at = at.saturating_add(PAGE);
    }
}

/// No interrupt is taken any more.
pub(crate) fn mask() {
    // SAFETY: boot services have ended; nobody waits for an interrupt.
    unsafe { asm!("msr daifset, #0xf", options(nomem, nostack)) };
}

/// Writes what the caches hold of `size` bytes from `start` back to memory, and forgets it: what
/// comes next runs with its MMU and caches off.
pub(crate) fn clean(start: u64, size: u64) {
    let ctr: u64;
    // SAFETY: reads CTR_EL0.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack)) };
    // DminLine, log2 of words (D24.2.34).
    let line = 4u64 << ((ctr >> 16) & 0xf);
    let end = start.saturating_add(size);
    let mut at = start & !(line - 1);
    while at < end {
        // SAFETY: a clean loses nothing; the caller's range is mapped memory.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack)) };
        at = at.saturating_add(line);
    }
    // SAFETY: waits for the cleans.
    unsafe { asm!("dsb sy", options(nostack)) };
}

/// Turns MMU and caches off and jumps: X0 the tree, X1 to X3 zero, as the boot protocol wants it.
///
/// # Safety
/// `entry` must be the hypervisor's first instruction, in memory whose caches are clean, and
/// `tree` its device tree; boot services must have ended, and this function itself be clean.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn jump(entry: u64, tree: u64) -> ! {
    naked_asm!(
        "msr daifset, #0xf",
        "mov x4, x0",
        "mov x0, x1",
        "dsb sy",
        // SCTLR_EL2: M, C and I off (D19.2.131). The map is one to one, so that this goes on.
        "mrs x2, sctlr_el2",
        "mov x3, #0x1005",
        "bic x2, x2, x3",
        "msr sctlr_el2, x2",
        "isb",
        "tlbi alle2",
        "ic iallu",
        "dsb sy",
        "isb",
        "mov x1, xzr",
        "mov x2, xzr",
        "mov x3, xzr",
        "br x4",
    )
}
