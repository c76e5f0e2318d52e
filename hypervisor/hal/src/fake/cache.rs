//! Cache maintenance: told to the observer, whose view of memory may need it.

use core::panic::Location;

use super::observer::{Op, tell};

/// DC CVAC over a range.
#[track_caller]
pub fn clean(start: *const u8, bytes: usize) {
    tell(Op::Clean { start: start.addr(), bytes, invalidate: false }, Location::caller());
}

/// DC CIVAC over a range.
#[track_caller]
pub fn clean_invalidate(start: *const u8, bytes: usize) {
    tell(Op::Clean { start: start.addr(), bytes, invalidate: true }, Location::caller());
}

/// DC ZVA and DC CIVAC over a range.
///
/// # Safety
/// The range is writable and nobody else uses it meanwhile.
#[track_caller]
pub unsafe fn zero(start: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { start.write_bytes(0, bytes) };
    clean_invalidate(start, bytes);
}

/// Makes freshly written instructions visible to every core's fetch.
#[track_caller]
pub fn sync_instructions(start: *const u8, bytes: usize) {
    clean(start, bytes);
}
