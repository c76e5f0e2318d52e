//! Who drains the event queues while a device storms: a core of the VM that owns the device, not
//! whichever core takes the SMMUs' interrupt.

use palisade_hal::lock::{Mutex, Rank};

/// How long a storm counts as going on after it was last seen, in milliseconds.
const LASTS: u64 = 20;

/// A storm: more records than one interrupt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Storm {
    /// Core of the VM that owns the device.
    core: usize,
    /// Count at which it was last seen.
    seen: u64,
}

/// The storm that was seen last.
pub(crate) struct Storms(Mutex<Option<Storm>>);

impl Storms {
    /// None was seen.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Rank::FaultCounts, None))
    }

    /// A storm of a device whose owner runs on `core`, seen at count `now`.
    pub(crate) fn note(&self, core: usize, now: u64) {
        *self.0.lock() = Some(Storm { core, seen: now });
    }

    /// The core that drains at count `now`; none if no storm is going on.
    pub(crate) fn core(&self, now: u64, frequency: u64) -> Option<usize> {
        let storm = (*self.0.lock())?;
        let lasts = frequency.saturating_mul(LASTS) / 1000;
        (now.saturating_sub(storm.seen) <= lasts).then_some(storm.core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_drained_by_its_owner_until_it_is_over() {
        let storms = Storms::new();
        assert_eq!(storms.core(0, 1000), None);
        storms.note(3, 100);
        assert_eq!(storms.core(120, 1000), Some(3));
        assert_eq!(storms.core(121, 1000), None, "whoever takes the interrupt drains again");
    }
}
