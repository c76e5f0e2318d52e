//! The core a test thread plays.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Instant;

use crate::Env;
use crate::machine::Frame;

std::thread_local! {
    static AFFINITY: Cell<u64> = const { Cell::new(0) };
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// The affinity fields of MPIDR_EL1 of the core that this thread plays.
pub fn affinity() -> u64 {
    AFFINITY.with(Cell::get)
}

/// Lets this thread play another core.
pub fn set_affinity(value: u64) {
    AFFINITY.with(|cell| cell.set(value));
}

/// The number of the core that this thread plays, from 0 on.
pub fn index() -> usize {
    INDEX.with(Cell::get)
}

/// Lets this thread play core `number`.
pub fn set_index(number: usize) {
    INDEX.with(|cell| cell.set(number));
}

/// No registers: a test's panic is the host's business.
pub fn capture() -> Frame {
    Frame { x: [0; 31], sp: 0, elr: 0, spsr: 0, esr: 0, far: 0 }
}

/// WFI: a test thread never sleeps.
pub fn wfi() {}

/// WFE: lets another thread run.
pub fn wfe() {
    std::thread::yield_now();
}

/// SEV.
pub fn sev() {}

/// The host's clock in nanoseconds. Tests that must be repeatable use
/// [`SteppedClock`](super::SteppedClock) instead.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counter;

impl Env for Counter {
    fn relax(&self) {
        std::thread::yield_now();
    }

    fn now(&self) -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn frequency(&self) -> u64 {
        1_000_000_000
    }
}
