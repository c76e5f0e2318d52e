//! How often an IOMMU was asked to forget or change something, and how long its word took.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use palisade_hal::Env;
use palisade_hal::cpu::Counter;

/// Counts of one VM, or of one group of devices.
#[derive(Debug, Default)]
pub struct Waits {
    count: AtomicU32,
    ticks: AtomicU64,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Requests, each answered by a completed synchronisation, or by its failure.
    pub count: u32,
    /// Microseconds from the requests to their answers.
    pub micros: u64,
}

impl Waits {
    /// Counts a request, and the time until `ask` comes back.
    pub fn around<T>(&self, ask: impl FnOnce() -> T) -> T {
        let before = Counter.now();
        let answer = ask();
        let ticks = Counter.now().wrapping_sub(before);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ticks.fetch_add(ticks, Ordering::Relaxed);
        answer
    }

    /// What was counted so far.
    pub fn read(&self) -> Waited {
        let ticks = u128::from(self.ticks.load(Ordering::Relaxed));
        let micros = ticks * 1_000_000 / u128::from(Counter.frequency().max(1));
        Waited {
            count: self.count.load(Ordering::Relaxed),
            micros: u64::try_from(micros).unwrap_or(u64::MAX),
        }
    }
}

impl core::ops::Add for Waited {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            micros: self.micros.saturating_add(other.micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_with_its_time() {
        let waits = Waits::default();
        let answer = waits.around(|| {
            let start = Counter.now();
            while Counter.now().wrapping_sub(start) < Counter.frequency() / 1000 {}
            7
        });
        assert_eq!(answer, 7);
        let read = waits.read();
        assert!(read.count == 1 && read.micros >= 1000, "{read:?}");
        assert_eq!(read + Waited { count: 2, micros: 0 }, Waited { count: 3, ..read });
    }
}
