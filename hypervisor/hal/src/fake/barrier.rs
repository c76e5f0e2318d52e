//! Barriers: told to the observer, and a real fence so that threads agree.

use core::panic::Location;
use core::sync::atomic::{Ordering, fence};

use super::observer::{Barrier, Op, tell};

macro_rules! barrier {
    ($(#[$doc:meta])* $name:ident, $kind:ident) => {
        $(#[$doc])*
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
