//! Time that passes only when somebody waits.

use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;

use crate::Env;

/// A clock of one tick per microsecond that advances by one per [`Env::relax`],
/// which also runs a hook: the place where a model of a device makes a step.
pub struct SteppedClock {
    ticks: AtomicU64,
    hook: Option<Box<dyn Fn() + Send + Sync>>,
}

impl SteppedClock {
    /// A clock at 0 without a hook.
    pub fn new() -> Self {
        Self { ticks: AtomicU64::new(0), hook: None }
    }

    /// A clock at 0 that runs `hook` at every turn of a waiting loop.
    pub fn with_hook(hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self { ticks: AtomicU64::new(0), hook: Some(Box::new(hook)) }
    }

    /// Lets `ticks` microseconds pass at once.
    pub fn advance(&self, ticks: u64) {
        self.ticks.fetch_add(ticks, Ordering::Relaxed);
    }
}

impl Default for SteppedClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for SteppedClock {
    fn relax(&self) {
        self.advance(1);
        if let Some(hook) = &self.hook {
            hook();
        }
    }

    fn now(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    fn frequency(&self) -> u64 {
        1_000_000
    }
}
