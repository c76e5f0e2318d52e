//! Event storms: a group of devices over its budget of events is named, once, for the IOMMU core to
//! contain.
//!
//! What is counted is what the SMMU could write. It drops records when the queue is full, so a
//! queue that overflowed counts as a budget exceeded too: by whoever filled it.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use palisade_hal::StreamId;

/// Streams watched at a time; the least noisy one makes room for a new one.
const STREAMS_WATCHED: usize = 16;

/// What to do with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Deliver it.
    Deliver,
    /// Deliver it, and name the stream: it just went over its budget.
    Contain,
    /// Drop it: the stream is being contained.
    Drop,
}

struct Watch {
    stream: StreamId,
    since: u64,
    records: u32,
    contained: bool,
}

/// Counts the records of each group in windows of time, under its first stream.
pub(crate) struct Storm {
    /// Streams that are not the first of their groups, in order, each with that one.
    shares: Vec<(StreamId, StreamId)>,
    watches: ArrayVec<Watch, STREAMS_WATCHED>,
    budget: u32,
    window: u64,
    dropped: u64,
}

impl Storm {
    /// At most `budget` records of a group per `window` ticks.
    pub fn new(budget: u32, window: u64) -> Self {
        Self { shares: Vec::new(), watches: ArrayVec::new(), budget, window, dropped: 0 }
    }

    /// Counts one record of `stream` at time `now`.
    pub fn record(&mut self, stream: StreamId, now: u64) -> Verdict {
        let (budget, window) = (self.budget, self.window);
        let watch = self.watch(self.account(stream), now);
        if now.saturating_sub(watch.since) > window {
            watch.since = now;
            watch.records = 0;
        }
        watch.records = watch.records.saturating_add(1);
        if watch.contained {
            self.dropped += 1;
            return Verdict::Drop;
        }
        if watch.records > budget {
            watch.contained = true;
            return Verdict::Contain;
        }
        Verdict::Deliver
    }

    /// The queue of `entries` overflowed, and all of it was read: the stream to contain, the one
    /// with the most records of its present window. `None` where that one is contained already, or
    /// has fewer than whoever is the loudest of those that filled the queue must have.
    pub fn overflow(&mut self, now: u64, entries: u32) -> Option<StreamId> {
        let window = self.window;
        let share = entries / STREAMS_WATCHED as u32;
        let loudest = self
            .watches
            .iter_mut()
            .filter(|watch| now.saturating_sub(watch.since) <= window)
            .max_by_key(|watch| watch.records)?;
        if loudest.contained || loudest.records < share || self.budget == u32::MAX {
            return None;
        }
        loudest.contained = true;
        Some(loudest.stream)
    }

    /// What `stream` did is forgotten, so that its next records count anew.
    pub fn forget(&mut self, stream: StreamId) {
        let account = self.account(stream);
        self.watches.retain(|watch| watch.stream != account);
    }

    /// Starts afresh for the streams of a group, which have one budget: it has a new owner. Without
    /// memory each of them has one of its own.
    pub fn renew(&mut self, streams: &[StreamId]) {
        streams.iter().for_each(|&stream| self.forget(stream));
        self.shares.retain(|(stream, _)| !streams.contains(stream));
        let Some((&first, rest)) = streams.split_first() else { return };
        if self.shares.try_reserve(rest.len()).is_ok() {
            self.shares.extend(rest.iter().map(|&stream| (stream, first)));
            self.shares.sort_unstable_by_key(|(stream, _)| *stream);
        }
    }

    /// Under which stream this one's records count.
    fn account(&self, stream: StreamId) -> StreamId {
        let found = self.shares.binary_search_by_key(&stream, |(stream, _)| *stream);
        found.ok().and_then(|at| self.shares.get(at)).map_or(stream, |(_, first)| *first)
    }

    /// Records dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn watch(&mut self, stream: StreamId, now: u64) -> &mut Watch {
        let found = self.watches.iter().position(|watch| watch.stream == stream);
        let at = found.unwrap_or_else(|| {
            let fresh = Watch { stream, since: now, records: 0, contained: false };
            if self.watches.is_full() {
                let quiet = (0..self.watches.len())
                    .min_by_key(|&at| (self.watches[at].contained, self.watches[at].records));
                let at = quiet.unwrap_or(0);
                self.watches[at] = fresh;
                at
            } else {
                self.watches.push(fresh);
                self.watches.len() - 1
            }
        });
        &mut self.watches[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contained_once_then_silent_until_reconfigured() {
        let mut storm = Storm::new(3, 100);
        let noisy = StreamId::new(1);
        let verdicts: [Verdict; 6] = core::array::from_fn(|_| storm.record(noisy, 5));
        use Verdict::{Contain, Deliver, Drop};
        assert_eq!(verdicts, [Deliver, Deliver, Deliver, Contain, Drop, Drop]);
        assert_eq!(storm.dropped(), 2);
        assert_eq!(storm.record(StreamId::new(2), 5), Deliver);
        storm.forget(noisy);
        assert_eq!(storm.record(noisy, 6), Deliver);
    }

    /// However many streams it has, a group has one budget.
    #[test]
    fn the_streams_of_a_group_have_one_budget() {
        let mut storm = Storm::new(4, 100);
        let group = [7, 3, 9].map(StreamId::new);
        storm.renew(&group);
        let mut next = |number: u32| storm.record(StreamId::new(number), 5);
        use Verdict::{Contain, Deliver, Drop};
        assert_eq!(
            [7, 3, 9, 3, 9, 7, 3].map(&mut next),
            [Deliver, Deliver, Deliver, Deliver, Contain, Drop, Drop]
        );
        assert_eq!(next(8), Deliver, "another group's");
        storm.renew(&group);
        assert_eq!(storm.record(StreamId::new(9), 6), Deliver, "its next owner's");
        // One of them alone, in another group now.
        storm.renew(&[StreamId::new(9)]);
        for _ in 0..4 {
            assert_eq!(storm.record(StreamId::new(9), 6), Deliver);
        }
    }

    #[test]
    fn a_window_that_passes_forgives() {
        let mut storm = Storm::new(2, 100);
        let stream = StreamId::new(1);
        for now in [0, 1, 102, 103, 300] {
            assert_eq!(storm.record(stream, now), Verdict::Deliver);
        }
    }

    /// Whoever has most records filled the queue, unless it is contained already.
    #[test]
    fn an_overflow_is_charged_to_the_loudest() {
        let mut storm = Storm::new(50, 100);
        let (loud, quiet) = (StreamId::new(1), StreamId::new(2));
        assert_eq!(storm.overflow(0, 16), None, "no record at all");
        for _ in 0..20 {
            storm.record(loud, 0);
        }
        storm.record(quiet, 0);
        assert_eq!(storm.overflow(0, 512), None, "that many do not fill it, even with 15 others");
        assert_eq!(storm.overflow(0, 128), Some(loud));
        assert_eq!(storm.record(loud, 1), Verdict::Drop);
        assert_eq!(storm.overflow(1, 128), None, "it is the same flood");
        // Long after, another's.
        storm.record(quiet, 500);
        assert_eq!(storm.overflow(500, 16), Some(quiet));
    }

    /// Many quiet streams never push out the noisy one.
    #[test]
    fn the_noisy_stream_is_not_forgotten_for_quiet_ones() {
        let mut storm = Storm::new(50, 1_000_000);
        let noisy = StreamId::new(1000);
        let mut contained = false;
        for round in 0..100u32 {
            contained |= storm.record(noisy, 0) == Verdict::Contain;
            for quiet in 0..3 {
                storm.record(StreamId::new(round * 3 + quiet), 0);
            }
        }
        assert!(contained);
    }
}
