//! What a GICv3 driver does to its core's CPU interface, kept per thread.

use std::cell::{Cell, RefCell};
use std::vec::Vec;

std::thread_local! {
    static CTLR: Cell<u64> = const { Cell::new(0) };
    static DEACTIVATED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// ICC_CTLR_EL1.
pub fn ctlr() -> u64 {
    CTLR.get()
}

/// Writes ICC_CTLR_EL1.
pub fn set_ctlr(value: u64) {
    CTLR.set(value);
}

/// ICC_DIR_EL1.
pub fn deactivate(intid: u32) {
    DEACTIVATED.with_borrow_mut(|list| list.push(intid));
}

/// What [`deactivate`] was called for on this thread, oldest first; forgets it.
pub fn take_deactivated() -> Vec<u32> {
    DEACTIVATED.take()
}

/// `ICH_AP0R<n>_EL2` and `ICH_AP1R<n>_EL2`: the fake guest has no active priorities.
pub fn clear_active_priorities(_count: usize) {}

/// ICC_EOIR1_EL1: priorities are not kept here.
pub fn priority_drop(_intid: u32) {}
