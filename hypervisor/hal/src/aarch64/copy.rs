//! Copies of whole words from anywhere: what the compiler does byte by byte where alignment is not
//! known, the CPU's loads of Normal memory do at once (DDI 0487, B2.5.2; SCTLR_EL2.A is 0).

use core::arch::asm;

/// Copies `words` 64-bit words. The source may have any alignment; each word of `to` is stored at
/// once, so that whoever looks meanwhile sees the old one or the new one.
///
/// # Safety
/// Both ranges are Normal memory; `to` is a multiple of 8, writable, and known to Rust as atomics
/// only, or not at all; the ranges do not overlap.
pub unsafe fn copy_words(to: *mut u64, from: *const u8, words: usize) {
    // SAFETY: the caller's promise; the block touches nothing else.
    unsafe {
        asm!(
            "2:",
            "subs {n}, {n}, #8",
            "b.lo 3f",
            "ldp {a}, {b}, [{from}]",
            "ldp {c}, {d}, [{from}, #16]",
            "stp {a}, {b}, [{to}]",
            "stp {c}, {d}, [{to}, #16]",
            "ldp {a}, {b}, [{from}, #32]",
            "ldp {c}, {d}, [{from}, #48]",
            "stp {a}, {b}, [{to}, #32]",
            "stp {c}, {d}, [{to}, #48]",
            "add {from}, {from}, #64",
            "add {to}, {to}, #64",
            "b 2b",
            "3:",
            "adds {n}, {n}, #8",
            "b.eq 5f",
            "4:",
            "ldr {a}, [{from}], #8",
            "str {a}, [{to}], #8",
            "subs {n}, {n}, #1",
            "b.ne 4b",
            "5:",
            n = inout(reg) words => _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            options(nostack),
        );
    }
}
