//! Barriers (DDI 0487, B2.3). None is `nomem`: each also stops the compiler
//! from moving or deleting the stores that it orders.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! barrier {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() {
            // SAFETY: a barrier orders accesses and has no other effect.
            unsafe { asm!($instruction, options(nostack, preserves_flags)) }
        }
    };
}

barrier!(
    /// ISB: later instructions are fetched anew, after system-register writes took effect.
    isb, "isb"
);
barrier!(
    /// DSB ISH: all accesses and TLB maintenance are complete in the inner shareable domain.
    dsb_ish, "dsb ish"
);
barrier!(
    /// DSB ISHST: all stores are complete in the inner shareable domain (the table walkers').
    dsb_ishst, "dsb ishst"
);
barrier!(
    /// DSB SY: all accesses are complete for the whole system, devices included.
    dsb_sy, "dsb sy"
);
barrier!(
    /// DSB ST: all stores are complete for the whole system, devices included.
    dsb_st, "dsb st"
);
barrier!(
    /// DMB OSHST: earlier stores are seen before later ones, devices included.
    dmb_oshst, "dmb oshst"
);
barrier!(
    /// DMB OSHLD: earlier loads are done before later accesses, devices included.
    dmb_oshld, "dmb oshld"
);
barrier!(
    /// DMB ISH: orders accesses between cores.
    dmb_ish, "dmb ish"
);

/// STLR: stores `value` to `word`, seen only after every earlier store, by table
/// walkers in the same shareability domain too (DDI 0487, B2.3.9).
#[inline(always)]
pub fn publish(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
}
