//! How much one exit may do for the guest's queue.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use palisade_hal::cpu::Counter;
use palisade_hal::{Deadline, Env};

/// Work of one exit: one for each command read from the queue, each configuration byte read, each
/// command given to the physical ITS. The last piece may go over by its own length.
pub const WORK_PER_EXIT: u32 = 128;
/// Time of one exit, in microseconds; the last piece may go over by its own wait.
const TIME_PER_EXIT: u64 = 200;

/// What is left of an exit's share.
#[derive(Debug)]
pub struct Budget {
    work: u32,
    until: Deadline,
    /// Others who wait for the translation service and go first: the operator.
    hurry: Arc<AtomicU32>,
}

impl Budget {
    /// A budget that gives way to whoever counts himself in `hurry`.
    pub fn new(hurry: Arc<AtomicU32>) -> Self {
        Self { work: 0, until: Deadline::after(&Counter, 0), hurry }
    }

    /// A new exit.
    pub fn renew(&mut self) {
        self.work = WORK_PER_EXIT;
        self.until = Deadline::after(&Counter, TIME_PER_EXIT);
    }

    /// Charges for work that is done.
    pub fn charge(&mut self, work: usize) {
        self.work = self.work.saturating_sub(u32::try_from(work).unwrap_or(u32::MAX));
    }

    /// Whether there is room for another piece.
    pub fn is_left(&self, env: &impl Env) -> bool {
        self.work > 0 && self.hurry.load(Ordering::Relaxed) == 0 && !self.until.expired(env)
    }
}
