//! The region that is counted.

/// Runs `body`; callgrind collects between entry and exit of this function.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "Rust" fn palisade_measured_region(body: &mut dyn FnMut()) {
    body();
}
