//! The EL2 vector table.
//!
//! Exceptions from EL2 itself are fatal: interrupts are masked there, so that
//! only a bug or broken hardware gets here. They are reported on an emergency
//! stack, because the usual one may be what has run out. Exceptions from a
//! lower level are guests coming back and go to the hal's exit path.

use core::arch::global_asm;
use core::ptr;

use palisade_hal::machine::Fatal;

use crate::area::{WORDS_FRAME, Words};
use crate::entry::park;

// A slot is 128 bytes. A fatal one saves x0 in SP_EL0, which no guest will need
// again, finds the core's words and leaves for the common path. A guest's slot
// leaves x0 and x1 on the stack, as hal's exit path wants it.
global_asm!(
    ".section .vectors, \"ax\"",
    ".macro fatal kind",
    "    .balign 128",
    "    msr sp_el0, x0",
    "    mrs x0, tpidr_el2",
    "    str x1, [x0, #({frame} + 8)]",
    "    mov x1, #\\kind",
    "    b __palisade_el2_fault",
    ".endm",
    ".macro guest kind",
    "    .balign 128",
    "    stp x0, x1, [sp, #-16]!",
    "    mov x0, #\\kind",
    "    b __palisade_guest_exit",
    ".endm",
    ".balign 2048",
    ".global __palisade_vectors",
    "__palisade_vectors:",
    "    fatal 0",
    "    fatal 1",
    "    fatal 2",
    "    fatal 3",
    "    fatal 0",
    "    fatal 1",
    "    fatal 2",
    "    fatal 3",
    "    guest 0",
    "    guest 1",
    "    guest 2",
    "    guest 3",
    "    guest 0",
    "    guest 1",
    "    guest 2",
    "    guest 3",
    "    .balign 128",
    "__palisade_el2_fault:",
    "    stp x2, x3, [x0, #({frame} + 16)]",
    "    stp x4, x5, [x0, #({frame} + 32)]",
    "    stp x6, x7, [x0, #({frame} + 48)]",
    "    stp x8, x9, [x0, #({frame} + 64)]",
    "    stp x10, x11, [x0, #({frame} + 80)]",
    "    stp x12, x13, [x0, #({frame} + 96)]",
    "    stp x14, x15, [x0, #({frame} + 112)]",
    "    stp x16, x17, [x0, #({frame} + 128)]",
    "    stp x18, x19, [x0, #({frame} + 144)]",
    "    stp x20, x21, [x0, #({frame} + 160)]",
    "    stp x22, x23, [x0, #({frame} + 176)]",
    "    stp x24, x25, [x0, #({frame} + 192)]",
    "    stp x26, x27, [x0, #({frame} + 208)]",
    "    stp x28, x29, [x0, #({frame} + 224)]",
    "    mov x2, sp",
    "    stp x30, x2, [x0, #({frame} + 240)]",
    "    mrs x2, sp_el0",
    "    str x2, [x0, #{frame}]",
    "    mrs x2, elr_el2",
    "    mrs x3, spsr_el2",
    "    stp x2, x3, [x0, #({frame} + 256)]",
    "    mrs x2, esr_el2",
    "    mrs x3, far_el2",
    "    stp x2, x3, [x0, #({frame} + 272)]",
    "    mov sp, x0",
    "    mov x29, xzr",
    "    mov x30, xzr",
    "    b {fault}",
    frame = const WORDS_FRAME,
    fault = sym fault,
);

unsafe extern "C" {
    static __palisade_vectors: u8;
}

unsafe extern "Rust" {
    safe fn palisade_fatal(fatal: &Fatal<'_>) -> !;
}

/// What `VBAR_EL2` is set to.
pub(crate) fn base() -> u64 {
    (&raw const __palisade_vectors) as u64
}

extern "C" fn fault(words: *mut Words, kind: u64) -> ! {
    // SAFETY: `words` is this core's own, from TPIDR_EL2; the vectors have just
    // filled its frame and nobody else looks at it.
    let frame = unsafe {
        if ptr::read_volatile(&raw const (*words).dying) != 0 {
            park();
        }
        ptr::write_volatile(&raw mut (*words).dying, 1);
        &(*words).frame
    };
    let kind = match kind {
        0 => "synchronous exception",
        1 => "IRQ",
        2 => "FIQ",
        _ => "SError",
    };
    palisade_fatal(&Fatal { kind, frame })
}
