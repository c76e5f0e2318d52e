//! Barriers: told to the observer, and a real fence so that threads agree.

use core::panic::Location;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use super::observer::{Barrier, Op, tell};

macro_rules! barrier {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
        #[inline]
        #[track_caller]
        pub fn $name() {
            fence(Ordering::SeqCst);
            tell(Op::Barrier(Barrier::$kind), Location::caller());
        }
    };
}

barrier!(
    /// ISB.
    isb, Isb
);
barrier!(
    /// DSB ISH.
    dsb_ish, DsbIsh
);
barrier!(
    /// DSB ISHST.
    dsb_ishst, DsbIshst
);
barrier!(
    /// DSB SY.
    dsb_sy, DsbSy
);
barrier!(
    /// DSB ST.
    dsb_st, DsbSt
);
barrier!(
    /// DMB OSHST.
    dmb_oshst, DmbOshst
);
barrier!(
    /// DMB OSHLD.
    dmb_oshld, DmbOshld
);
barrier!(
    /// DMB ISH.
    dmb_ish, DmbIsh
);

/// STLR: the observer hears of it before the store, when the stores it orders are done.
#[inline]
#[track_caller]
pub fn publish(word: &AtomicU64, value: u64) {
    tell(Op::Barrier(Barrier::Publish), Location::caller());
    word.store(value, Ordering::Release);
}
