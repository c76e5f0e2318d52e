//! Time that passes when somebody waits, and the model with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::Env;

use crate::machine::Machine;

/// A clock of one tick per microsecond; each turn of a waiting loop is one, and lets the
/// machine live.
#[derive(Clone)]
pub struct ModelClock {
    machine: Arc<Machine>,
    ticks: Arc<AtomicU64>,
}

impl ModelClock {
    /// A clock at 0.
    pub fn new(machine: Arc<Machine>) -> Self {
        ModelClock { machine, ticks: Arc::new(AtomicU64::new(0)) }
    }
}

impl Env for ModelClock {
    fn relax(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        self.machine.live();
    }

    fn now(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    fn frequency(&self) -> u64 {
        1_000_000
    }
}
