//! What was written to EL2's control registers on this thread's core.

use std::cell::RefCell;
use std::collections::BTreeMap;

std::thread_local! {
    static WRITTEN: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// The registers, by their encodings, with what was written last; forgotten afterwards.
pub fn take_written() -> BTreeMap<&'static str, u64> {
    WRITTEN.take()
}

/// Notes a write.
pub(crate) fn note(register: &'static str, value: u64) {
    WRITTEN.with_borrow_mut(|written| written.insert(register, value));
}

macro_rules! msr {
    ($register:literal, $value:expr) => {
        crate::twin::controls::note($register, $value)
    };
}
pub(crate) use msr;

/// MPAMIDR_EL1 with HAS_HCR and HAS_TIDR.
pub(crate) fn mpam_identity() -> u64 {
    1 << 17 | 1 << 56
}

/// PMCR_EL0.N.
pub(crate) fn pmu_counters() -> u64 {
    6
}

/// The profiling buffer is ours.
pub(crate) fn profiling_owner() -> bool {
    true
}

/// The trace buffer is ours.
pub(crate) fn trace_owner() -> bool {
    true
}
