//! This core: identity, time, waiting.

use core::arch::asm;

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTPCT_EL0, MPIDR_EL1, Readable};

use crate::Env;

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
