//! Ctrl-C, remembered until the running session notices.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Asks every session to stop at its next poll; called from a signal handler's thread.
pub fn ask() {
    ASKED.store(true, Ordering::SeqCst);
}

/// Whether somebody asked to stop.
#[must_use]
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
