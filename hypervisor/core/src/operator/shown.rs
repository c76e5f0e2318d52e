//! Which faults the operator is shown: a few of each owner in a second, the rest is counted and
//! summed up in one line. A record on the wire takes longer than the fault that it is about.

use palisade_bundle::MAX_VMS;

/// Faults of one owner that are shown per second.
const PER_SECOND: u32 = 32;
/// Faults in a row of one page that are shown: the next say nothing new.
const REPEATS: u32 = 4;
/// No owner, then each VM.
const OWNERS: usize = MAX_VMS + 1;

/// One owner's faults in the running second.
#[derive(Clone, Copy)]
struct Row {
    shown: u32,
    kept: u32,
    page: u64,
    repeats: u32,
}

const NONE: Row = Row { shown: 0, kept: 0, page: u64::MAX, repeats: 0 };

/// The faults that were shown in the running second, by owner.
pub(crate) struct Shown {
    /// Count at which the second began.
    since: u64,
    rows: [Row; OWNERS],
}

/// How many faults of an owner were not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Index of the VM; none: the stream had no owner.
    pub(crate) vm: Option<u16>,
    /// How many.
    pub(crate) faults: u32,
}

impl Shown {
    /// Nothing was shown.
    pub(crate) const fn new() -> Self {
        Self { since: 0, rows: [NONE; OWNERS] }
    }

    /// Whether a new second has begun at count `now`, with `frequency` counts a second.
    pub(crate) const fn is_over(&self, now: u64, frequency: u64) -> bool {
        now.wrapping_sub(self.since) > frequency
    }

    /// Begins a new second at count `now`; returns what the last one kept back.
    pub(crate) fn begin(&mut self, now: u64) -> impl Iterator<Item = Kept> + use<> {
        let rows = core::mem::replace(&mut self.rows, [NONE; OWNERS]);
        self.since = now;
        let kept = |(index, row): (usize, Row)| {
            let vm = index.checked_sub(1).map(|vm| vm as u16);
            (row.kept > 0).then_some(Kept { vm, faults: row.kept })
        };
        rows.into_iter().enumerate().filter_map(kept)
    }

    /// Whether one more fault of VM `vm` at `address` is shown.
    pub(crate) fn admit(&mut self, vm: Option<u16>, address: u64) -> bool {
        let index = vm.map_or(0, |vm| usize::from(vm) + 1);
        let Some(row) = self.rows.get_mut(index) else { return false };
        let page = address >> 12;
        row.repeats = if row.page == page { row.repeats.saturating_add(1) } else { 0 };
        row.page = page;
        let admitted = row.repeats < REPEATS && row.shown < PER_SECOND;
        if admitted {
            row.shown = row.shown.saturating_add(1);
        } else {
            row.kept = row.kept.saturating_add(1);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_cut_and_summed_up_and_hides_nobody_elses_faults() {
        let mut shown = Shown::new();
        let same = (0..1000).filter(|_| shown.admit(Some(1), 0x8000)).count();
        assert_eq!(same, 4, "one page says nothing new");
        let other = (0..1000).filter(|n| shown.admit(Some(1), 0x10_0000 + n * 0x1000)).count();
        assert_eq!(other, 28, "so many a second");
        assert!(shown.admit(Some(0), 0x8000) && shown.admit(None, 0x8000));
        assert!(!shown.is_over(1000, 1000) && shown.is_over(1001, 1000));
        let kept: alloc::vec::Vec<Kept> = shown.begin(1001).collect();
        assert_eq!(kept, [Kept { vm: Some(1), faults: 2000 - 32 }]);
        assert!(shown.admit(Some(1), 0x8000), "a new second");
        assert_eq!(shown.begin(5000).count(), 0);
    }
}
