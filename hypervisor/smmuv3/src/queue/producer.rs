//! What the lock of the command queue protects, without memory or registers.
//!
//! Positions count every command ever produced and never wrap. A position is a sync's unique
//! cookie: it is taken under the lock, it is never given twice, and a consumer that is late for
//! one sync can not be mistaken for one that is done with another.

use arrayvec::ArrayVec;

use crate::queue::ring::{Pointer, Ring};

/// How many failed commands are remembered, the newest ones.
const FAILURES_KEPT: usize = 8;

/// Batches under way whose CMD_SYNC waits for device TLBs; further ones count with the newest.
const DEVICE_WAITS: usize = 16;

/// Why a command at some position failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It was illegal; the opcode.
    Illegal(u8),
    /// A device TLB invalidation before this sync timed out.
    DeviceTlb,
}

/// The consumer's index is one that it cannot have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Impossible;

/// Producer's state.
#[derive(Debug)]
pub struct Producer {
    ring: Ring,
    produced: u64,
    consumed: u64,
    failures: ArrayVec<(u64, Failure), FAILURES_KEPT>,
    /// Failures before this position may have been forgotten.
    forgotten: u64,
    /// Where device TLBs are waited for: the first CMD_ATC_INV and the last CMD_SYNC of a batch.
    device_waits: ArrayVec<(u64, u64), DEVICE_WAITS>,
}

impl Producer {
    /// An empty queue whose registers both read 0.
    pub fn new(ring: Ring) -> Self {
        Self {
            ring,
            produced: 0,
            consumed: 0,
            failures: ArrayVec::new(),
            forgotten: 0,
            device_waits: ArrayVec::new(),
        }
    }

    /// The queue's geometry.
    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// The value of PROD.
    pub fn prod(&self) -> Pointer {
        self.pointer(self.produced)
    }

    /// The position the consumer is at.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The position of the next command.
    pub fn produced(&self) -> u64 {
        self.produced
    }

    /// The register form of a position.
    pub fn pointer(&self, position: u64) -> Pointer {
        // Both powers of two: the low bits of a position are index and wrap bit.
        self.ring.pointer(position as u32)
    }

    /// The entry that a position's command lies in.
    pub fn index(&self, position: u64) -> u32 {
        self.ring.index(self.pointer(position))
    }

    /// How many commands fit now, as far as is known without looking at CONS.
    pub fn space(&self) -> u32 {
        let used = self.produced.saturating_sub(self.consumed);
        self.ring.entries().saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Takes `count` positions; the first one, or `None` when they do not fit.
    pub fn reserve(&mut self, count: u32) -> Option<u64> {
        if self.space() < count {
            return None;
        }
        let first = self.produced;
        self.produced = self.produced.checked_add(u64::from(count))?;
        Some(first)
    }

    /// Learns CONS.
    ///
    /// # Errors
    /// [`Impossible`] when the consumer would be behind where it was or ahead of the producer.
    pub fn observe(&mut self, cons: Pointer) -> Result<(), Impossible> {
        let moved = u64::from(self.ring.distance(self.pointer(self.consumed), cons));
        if moved > self.produced.saturating_sub(self.consumed) {
            return Err(Impossible);
        }
        self.consumed = self.consumed.saturating_add(moved);
        let consumed = self.consumed;
        self.device_waits.retain(|(_, sync)| *sync >= consumed);
        Ok(())
    }

    /// Notes that the commands from `invalidation` to the CMD_SYNC at `sync` wait for device TLBs.
    pub fn expect_devices(&mut self, invalidation: u64, sync: u64) {
        if let Err(full) = self.device_waits.try_push((invalidation, sync))
            && let Some(newest) = self.device_waits.last_mut()
        {
            newest.1 = full.element().1;
        }
    }

    /// Whether the consumer may be held up by a device TLB: it has taken a CMD_ATC_INV and not
    /// passed the CMD_SYNC after it; that CMD_SYNC's position.
    pub fn held_by_device(&self) -> Option<u64> {
        let held = |&&(invalidation, sync): &&(u64, u64)| {
            invalidation < self.consumed && self.consumed <= sync
        };
        self.device_waits.iter().find(held).map(|&(_, sync)| sync)
    }

    /// Whether the consumer is past `position`.
    pub fn passed(&self, position: u64) -> bool {
        self.consumed > position
    }

    /// Notes that the command at `position` failed; again, if it did before.
    pub fn fail(&mut self, position: u64, failure: Failure) {
        if self.failures.iter().any(|&(at, _)| at == position) {
            return;
        }
        if self.failures.is_full() {
            let (oldest, _) = self.failures.remove(0);
            self.forgotten = self.forgotten.max(oldest.saturating_add(1));
        }
        self.failures.push((position, failure));
    }

    /// Where the first failure among the positions `[first, last]` is, if it is remembered.
    pub fn failed_at(&self, first: u64, last: u64) -> Option<u64> {
        self.failures.iter().map(|&(at, _)| at).find(|at| (first..=last).contains(at))
    }

    /// The first failure among the positions `[first, last]`; `Err` when one may have been
    /// forgotten, which counts as failed.
    ///
    /// # Errors
    /// `None` for a failure whose kind is no longer known.
    pub fn verdict(&self, first: u64, last: u64) -> Result<(), Option<Failure>> {
        let found = self.failures.iter().find(|(at, _)| (first..=last).contains(at));
        match found {
            Some(&(_, failure)) => Err(Some(failure)),
            None if first < self.forgotten => Err(None),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Against an unbounded list of commands, with a consumer that is up to a whole queue late.
    #[test]
    fn never_more_than_fits_and_never_lost() {
        for log2 in 1..=4 {
            let ring = Ring::new(log2);
            let mut producer = Producer::new(ring);
            let (mut produced, mut consumed) = (0u64, 0u64);
            let mut state = 1u64;
            for _ in 0..20_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let draw = (state >> 33) as u32;
                if draw & 1 == 0 {
                    let count = (draw >> 1) % (ring.entries() + 2);
                    let fits = produced - consumed + u64::from(count) <= u64::from(ring.entries());
                    match producer.reserve(count) {
                        Some(first) => {
                            assert_eq!(first, produced);
                            produced += u64::from(count);
                        }
                        // Not having looked at CONS, it may refuse what would fit, never the
                        // other way round.
                        None => {
                            producer.observe(producer.pointer(consumed)).unwrap();
                            assert!(
                                !fits
                                    || producer.reserve(count).is_some_and(|first| {
                                        produced += u64::from(count);
                                        first + u64::from(count) == produced
                                    })
                            );
                        }
                    }
                } else {
                    consumed += u64::from(draw >> 1) % (produced - consumed + 1);
                    producer.observe(producer.pointer(consumed)).unwrap();
                    assert_eq!(producer.consumed(), consumed);
                }
                assert!(produced - consumed <= u64::from(ring.entries()));
                assert_eq!(producer.prod(), producer.pointer(produced));
            }
        }
    }

    #[test]
    fn a_consumer_ahead_of_the_producer_is_impossible() {
        let mut producer = Producer::new(Ring::new(3));
        producer.reserve(2).unwrap();
        assert_eq!(producer.observe(producer.pointer(3)), Err(Impossible));
        assert_eq!(producer.observe(producer.pointer(u64::MAX)), Err(Impossible));
        assert_eq!(producer.observe(producer.pointer(2)), Ok(()));
    }

    /// A full lap later the same index is another position: a late consumer is not credited.
    #[test]
    fn a_late_consumer_is_not_credited_to_the_next_lap() {
        let mut producer = Producer::new(Ring::new(1));
        let first = producer.reserve(2).unwrap() + 1;
        producer.observe(producer.pointer(2)).unwrap();
        assert!(producer.passed(first));
        let second = producer.reserve(2).unwrap() + 1;
        assert_eq!(producer.index(first), producer.index(second));
        producer.observe(producer.pointer(2)).unwrap();
        assert!(!producer.passed(second));
    }

    #[test]
    fn failures_find_their_batch_and_forgotten_ones_count_as_failed() {
        let mut producer = Producer::new(Ring::new(8));
        producer.fail(5, Failure::Illegal(0xff));
        // The same one over and over pushes nothing out.
        for _ in 0..20 {
            producer.fail(5, Failure::Illegal(0xff));
        }
        assert_eq!(producer.verdict(0, 4), Ok(()));
        assert_eq!(producer.verdict(4, 6), Err(Some(Failure::Illegal(0xff))));
        for position in 10..18 {
            producer.fail(position, Failure::DeviceTlb);
        }
        assert_eq!(producer.verdict(4, 6), Err(None));
        assert_eq!(producer.verdict(6, 9), Ok(()));
    }

    /// The consumer is held by a device only between its CMD_ATC_INV and the CMD_SYNC after it.
    #[test]
    fn a_device_holds_the_consumer_up_between_its_command_and_the_sync() {
        let mut producer = Producer::new(Ring::new(4));
        producer.reserve(8).unwrap();
        producer.expect_devices(2, 4);
        let mut held = Vec::new();
        for consumed in 0..=8u64 {
            producer.observe(producer.pointer(consumed)).unwrap();
            held.push(producer.held_by_device());
        }
        let at = Some(4);
        assert_eq!(held, [None, None, None, at, at, None, None, None, None]);
        // More batches than are remembered one by one: held still, rather than given up.
        let mut producer = Producer::new(Ring::new(8));
        producer.reserve(200).unwrap();
        for batch in 0..20 {
            producer.expect_devices(batch * 10, batch * 10 + 9);
        }
        producer.observe(producer.pointer(195)).unwrap();
        assert_eq!(producer.held_by_device(), Some(199));
    }
}
