//! The counter that reports the posture when a device's return first waits.

use core::cell::Cell;

use palisade_hal::Env;
use palisade_hal::cpu::Counter;

use crate::operator::posture;
use crate::vms::system::System;

/// The counter, for the waits of a device's return: the first of them begins when
/// every stream aborts, which is the moment to report the quarantine.
pub(crate) struct Watch {
    system: &'static System,
    told: Cell<bool>,
}

impl Watch {
    /// Nothing is told yet.
    pub(crate) fn new(system: &'static System) -> Self {
        Self { system, told: Cell::new(false) }
    }
}

impl Env for Watch {
    fn relax(&self) {
        if !self.told.replace(true) {
            posture::report(self.system);
        }
        Counter.relax();
    }

    fn now(&self) -> u64 {
        Counter.now()
    }

    fn frequency(&self) -> u64 {
        Counter.frequency()
    }
}
