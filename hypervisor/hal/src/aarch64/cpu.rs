//! This core: identity, time, waiting.

use core::arch::asm;

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTPCT_EL0, MPIDR_EL1, Readable};

use crate::Env;
use crate::machine::Frame;

/// The affinity fields of MPIDR_EL1 (DDI 0487, D24.2.111): Aff3 in bits 39:32, Aff2..0 in 23:0.
pub fn affinity() -> u64 {
    MPIDR_EL1.get() & 0xff_00ff_ffff
}

/// The number of this core, from 0 on. The boot code keeps it in the word that
/// TPIDR_EL2 points at.
pub fn index() -> usize {
    let number: u64;
    // SAFETY: the boot code points TPIDR_EL2 at such a word before it calls
    // anything else, on every core, and it stays there.
    unsafe {
        asm!("mrs {0}, tpidr_el2", "ldr {0}, [{0}]", out(reg) number,
            options(readonly, nostack, preserves_flags));
    }
    number as usize
}

/// The registers of the caller, and EL2's last exception, for a panic's report.
#[inline(always)]
pub fn capture() -> Frame {
    let mut frame = Frame { x: [0; 31], sp: 0, elr: 0, spsr: 0, esr: 0, far: 0 };
    let to = frame.x.as_mut_ptr();
    // SAFETY: stores x0..x30 to the 31 doublewords at `to`; the others are reads
    // of system registers.
    unsafe {
        asm!(
            "stp x0, x1, [{0}]", "stp x2, x3, [{0}, #16]", "stp x4, x5, [{0}, #32]",
            "stp x6, x7, [{0}, #48]", "stp x8, x9, [{0}, #64]", "stp x10, x11, [{0}, #80]",
            "stp x12, x13, [{0}, #96]", "stp x14, x15, [{0}, #112]",
            "stp x16, x17, [{0}, #128]", "stp x18, x19, [{0}, #144]",
            "stp x20, x21, [{0}, #160]", "stp x22, x23, [{0}, #176]",
            "stp x24, x25, [{0}, #192]", "stp x26, x27, [{0}, #208]",
            "stp x28, x29, [{0}, #224]", "str x30, [{0}, #240]",
            in(reg) to, options(nostack, preserves_flags));
        asm!("mov {0}, sp", "mrs {1}, elr_el2", "mrs {2}, spsr_el2", "mrs {3}, esr_el2",
            "mrs {4}, far_el2",
            out(reg) frame.sp, out(reg) frame.elr, out(reg) frame.spsr, out(reg) frame.esr,
            out(reg) frame.far, options(nomem, nostack, preserves_flags));
    }
    frame
}

/// WFI: sleeps until an interrupt is pending. Not `nomem`, see [`super::barrier`].
pub fn wfi() {
    // SAFETY: WFI suspends this core until an interrupt, masked or not, is pending.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) }
}

/// WFE: sleeps until an event or interrupt.
pub fn wfe() {
    // SAFETY: WFE suspends this core until an event.
    unsafe { asm!("wfe", options(nostack, preserves_flags)) }
}

/// SEV: wakes every core that waits in [`wfe`], after earlier stores are complete.
pub fn sev() {
    // SAFETY: a barrier and an event; neither changes memory.
    unsafe { asm!("dsb ish", "sev", options(nostack, preserves_flags)) }
}

/// The generic timer's physical counter as [`Env`].
#[derive(Clone, Copy, Default, Debug)]
pub struct Counter;

impl Env for Counter {
    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn now(&self) -> u64 {
        super::barrier::isb();
        CNTPCT_EL0.get()
    }

    fn frequency(&self) -> u64 {
        CNTFRQ_EL0.get().max(1)
    }
}
