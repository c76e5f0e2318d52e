//! A bound on what a guest can make the hypervisor say.
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use palisade_hal::Env;

/// Messages per second, if nothing else is said.
const PER_SECOND: u32 = 8;

/// Lets a few messages per second through and counts the rest.
pub struct RateLimit {
    per_second: u32,
    second: AtomicU64,
    said: AtomicU32,
    suppressed: AtomicU32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new(PER_SECOND)
    }
}

impl RateLimit {
    /// A bound of `per_second` messages per second.
    pub const fn new(per_second: u32) -> Self {
        Self {
            per_second,
            second: AtomicU64::new(0),
            said: AtomicU32::new(0),
            suppressed: AtomicU32::new(0),
        }
    }

    /// Whether a message may be said now; if so, how many were not since the last one.
    pub fn admit(&self, env: &impl Env) -> Option<u32> {
        let second = env.now() / env.frequency().max(1);
        // Two cores at the border of a second may each let a handful through: bounded still.
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.said.store(0, Ordering::Relaxed);
        }
        if self.said.fetch_add(1, Ordering::Relaxed) < self.per_second {
            Some(self.suppressed.swap(0, Ordering::Relaxed))
        } else {
            // Kept from wrapping back to zero within one second.
            self.said.store(self.per_second, Ordering::Relaxed);
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_hal::fake::SteppedClock;

    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let clock = SteppedClock::new();
        let limit = RateLimit::default();
        let said = (0..1000).filter(|_| limit.admit(&clock).is_some()).count();
        assert_eq!(said, PER_SECOND as usize);
        clock.advance(1_000_000);
        assert_eq!(limit.admit(&clock), Some(1000 - PER_SECOND));
        assert_eq!(limit.admit(&clock), Some(0));
    }
}
