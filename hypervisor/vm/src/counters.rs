//! How often guests came out, by cause.
use core::sync::atomic::{AtomicU32, Ordering};

use palisade_hal::guest::{Exit, ExitKind};

/// Causes of exits, in the order of [`Counters::read`].
pub const CAUSES: [&str; 8] =
    ["irq", "wfx", "hypercall", "sysreg", "mmio", "fetch", "serror", "other"];

/// Counts of one VM.
#[derive(Default)]
pub struct Counters {
    exits: [AtomicU32; CAUSES.len()],
    quiet: AtomicU32,
}

impl Counters {
    /// Counts an exit.
    pub fn count(&self, exit: &Exit) {
        let cause = match (exit.kind, exit.esr >> 26 & 0x3f) {
            (ExitKind::Irq | ExitKind::Fiq, _) => 0,
            (ExitKind::SError, _) => 6,
            (ExitKind::Sync, 0x01) => 1,
            (ExitKind::Sync, 0x16 | 0x17) => 2,
            (ExitKind::Sync, 0x18) => 3,
            (ExitKind::Sync, 0x24) => 4,
            (ExitKind::Sync, 0x20) => 5,
            (ExitKind::Sync, _) => 7,
        };
        if let Some(counter) = self.exits.get(cause) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an entry that left the interrupt controller as it was.
    pub fn count_quiet(&self) {
        self.quiet.fetch_add(1, Ordering::Relaxed);
    }

    /// How often vCPUs went in with nothing to do for their interrupt controller.
    pub fn quiet(&self) -> u32 {
        self.quiet.load(Ordering::Relaxed)
    }

    /// The counts, named by [`CAUSES`].
    pub fn read(&self) -> [u32; CAUSES.len()] {
        self.exits.each_ref().map(|counter| counter.load(Ordering::Relaxed))
    }
}
