//! Properties of PASID tables and shared descriptors:
//! 1. Sharing a process takes its ASID, its notifier and a descriptor, in this order; whatever
//!    fails, nothing is leaked and everything is as before.
//! 2. An ASID used by the same process is reused, by another refused, by a private descriptor
//!    taken over: that one moves, and the old number is invalidated before it changes hands.
//! 3. The limit of ASIDs is inclusive, and ASID 0 is never given out.
//! 4. What was allocated is what is given back, and counts come out even.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::common::Shared;
use crate::common::process::TestProcess;
use palisade_hal::{Asid, StreamId, SubstreamId};
use palisade_iommu::fake::{Call, Reach};
use palisade_iommu::pasid::{ContextStore, MAX_ENTRIES, PasidError, Space, Unwritten};
use palisade_iommu::sva::{AddressSpace, Range};
use palisade_iommu::{Context, DriverError, Invalidation, StreamPolicy};

const ONE: SubstreamId = SubstreamId::new(1);
const TWO: SubstreamId = SubstreamId::new(2);
const PRIVATE: AddressSpace = AddressSpace { table: 0x9_0000, tcr: 25, mair: 0xff, stalls: false };

fn asids_written(calls: &[Call]) -> Vec<(u32, Option<u16>)> {
    let written = |call: &Call| match *call {
        Call::WriteContext(stream, _, asid) => Some((stream, asid)),
        _ => None,
    };
    calls.iter().filter_map(written).collect()
}

#[test]
fn sharing_pins_registers_and_counts_and_giving_back_undoes_all() {
    let shared = Shared::new();
    let before = shared.footprint();
    let process = TestProcess::new(1, 40);
    let first = shared.space.alloc_shared(shared.table, &process.shared()).unwrap();
    assert_eq!((process.pinned(), process.watched()), (1, 1));
    // The same pair: the same notifier, one more reference.
    let again = shared.space.alloc_shared(shared.table, &process.shared()).unwrap();
    assert!(Arc::ptr_eq(&first, &again), "reuse answers the notifier itself");
    assert_eq!((process.pinned(), process.watched()), (1, 1));
    // Another table: another notifier, the same descriptor and ASID.
    let other = shared.space.alloc_shared(shared.other, &process.shared()).unwrap();
    assert_eq!((process.pinned(), process.watched()), (1, 2));
    let footprint = shared.space.footprint();
    assert_eq!((footprint.descriptors, footprint.notifiers, footprint.asids), (1, 2, 1));

    shared.space.free_shared(&first).unwrap();
    assert_eq!(shared.space.footprint().notifiers, 2, "one reference is left");
    shared.space.free_shared(&again).unwrap();
    shared.space.free_shared(&other).unwrap();
    assert_eq!((process.pinned(), process.watched()), (0, 0));
    assert_eq!(shared.footprint(), before);
    assert_eq!(shared.space.free_shared(&other), Err(PasidError::NoProcess), "once only");
}

#[test]
fn a_process_that_has_gone_is_not_shared() {
    let shared = Shared::new();
    let before = shared.footprint();
    let process = TestProcess::new(1, 40);
    process.exit().unwrap();
    let answer = shared.space.alloc_shared(shared.table, &process.shared());
    assert_eq!(answer.err(), Some(PasidError::NoProcess));
    assert_eq!((process.pinned(), process.watched()), (0, 0));
    assert_eq!(shared.footprint(), before);
}

#[test]
fn a_refused_notifier_leaks_neither_pin_nor_descriptor() {
    let shared = Shared::new();
    let before = shared.footprint();
    let process = TestProcess::new(1, 40);
    process.refuse.store(true, Ordering::SeqCst);
    assert!(shared.space.alloc_shared(shared.table, &process.shared()).is_err());
    assert_eq!((process.pinned(), process.watched()), (0, 0));
    assert_eq!(shared.footprint(), before);
}

#[test]
fn another_process_with_the_same_asid_is_refused_and_leaks_nothing() {
    let shared = Shared::new();
    let (a, b) = (TestProcess::new(1, 40), TestProcess::new(2, 40));
    let notifier = shared.space.alloc_shared(shared.table, &a.shared()).unwrap();
    let before = shared.footprint();
    let answer = shared.space.alloc_shared(shared.other, &b.shared());
    assert_eq!(answer.err(), Some(PasidError::AsidInUse(Asid::new(40))));
    assert_eq!((b.pinned(), b.watched()), (0, 0), "pin and notifier are given back");
    assert_eq!(shared.footprint(), before);
    shared.space.free_shared(&notifier).unwrap();
    shared.space.alloc_shared(shared.other, &b.shared()).unwrap();
}

#[test]
fn a_private_descriptor_moves_before_its_asid_changes_hands() {
    let shared = Shared::new();
    shared.space.prepare(shared.table, ONE).unwrap();
    shared.space.write_private(shared.table, ONE, &PRIVATE).unwrap();
    let stream = StreamId::new(0x20);
    let Reach::Through(cached) = shared.house.driver.transaction(stream, Some(ONE)) else {
        panic!("the private space translates");
    };
    let old = cached.asid.unwrap();
    let process = TestProcess::new(1, old);
    shared.house.driver.take_calls();
    let notifier = shared.space.alloc_shared(shared.other, &process.shared()).unwrap();
    let calls = shared.house.driver.take_calls();
    // Three streams are rewritten, one write each, and only then the old number is forgotten.
    let written = asids_written(&calls);
    assert_eq!(written.iter().map(|w| w.0).collect::<Vec<_>>(), [0x20, 0x21, 0x22]);
    assert!(written.iter().all(|&(_, asid)| asid.is_some_and(|asid| asid != old && asid != 0)));
    let vmid = shared.domain.vmid().unwrap();
    let forget = Call::Invalidate(Invalidation::Asid { vmid, asid: Asid::new(old) });
    assert_eq!(&calls[calls.len() - 2..], [forget, Call::Sync]);
    // The private one still reaches its own tables, the process its own.
    let reach = shared.house.driver.transaction(stream, Some(ONE));
    assert!(matches!(reach, Reach::Through(c) if c.root == PRIVATE.table && c.asid != Some(old)));
    shared.space.prepare(shared.other, TWO).unwrap();
    shared.space.write(shared.other, TWO, &notifier).unwrap();
    let reach = shared.house.driver.transaction(StreamId::new(0x10), Some(TWO));
    assert!(matches!(reach, Reach::Through(c) if c.root == process.root()));
    assert_eq!(shared.house.driver.core_faults(), Vec::<String>::new());
}

#[test]
fn every_failing_step_of_sharing_with_a_move_leaves_everything_as_it_was() {
    let shared = Shared::new();
    shared.space.prepare(shared.table, ONE).unwrap();
    shared.space.write_private(shared.table, ONE, &PRIVATE).unwrap();
    let Reach::Through(cached) = shared.house.driver.transaction(StreamId::new(0x20), Some(ONE))
    else {
        panic!("the private space translates");
    };
    let process = TestProcess::new(1, cached.asid.unwrap());
    let before = shared.footprint();
    let steps = 4;
    for error in [DriverError::NoMemory, DriverError::InvalidationTimeout] {
        for k in 0..steps {
            shared.house.driver.fail_after(k, error);
            let answer = shared.space.alloc_shared(shared.other, &process.shared());
            assert_eq!(answer.err(), Some(PasidError::Driver(error)), "step {k}");
            assert_eq!(shared.footprint(), before, "step {k}: {error}");
            assert_eq!((process.pinned(), process.watched()), (0, 0), "step {k}");
        }
    }
    shared.house.driver.fail_after(steps, DriverError::NoMemory);
    let notifier = shared.space.alloc_shared(shared.other, &process.shared()).unwrap();
    assert!(shared.house.driver.disarm(), "three writes and an invalidation");
    shared.space.free_shared(&notifier).unwrap();
}

#[test]
fn the_limit_of_asids_is_inclusive_and_zero_is_nobodys() {
    let shared = Shared::with(StreamPolicy::default(), 8);
    let last = TestProcess::new(1, 255);
    let notifier = shared.space.alloc_shared(shared.table, &last.shared()).unwrap();
    for (key, asid) in [(2, 256), (3, 0)] {
        let process = TestProcess::new(key, asid);
        let answer = shared.space.alloc_shared(shared.table, &process.shared());
        assert_eq!(answer.err(), Some(PasidError::BadAsid(Asid::new(asid))));
        assert_eq!((process.pinned(), process.watched()), (0, 0));
    }
    // 254 private ones are left, each a number between 1 and 254; the next finds none.
    for n in 0..254 {
        let (table, n) = if n < 63 { (shared.table, n) } else { (shared.other, n - 63) };
        if n < 64 {
            shared.space.prepare(table, SubstreamId::new(n)).unwrap();
            shared.space.write_private(table, SubstreamId::new(n), &PRIVATE).unwrap();
        }
    }
    shared.space.free_shared(&notifier).unwrap();
    let full = Space::new(1, 4);
    assert_eq!(full.footprint().asids, 0);
}

#[test]
fn without_a_fresh_asid_a_private_descriptor_stays_and_sharing_fails() {
    // One bit: ASID 1 is all there is.
    let shared = Shared::with(StreamPolicy::default(), 1);
    shared.space.prepare(shared.table, ONE).unwrap();
    shared.space.write_private(shared.table, ONE, &PRIVATE).unwrap();
    let before = shared.footprint();
    let process = TestProcess::new(1, 1);
    let answer = shared.space.alloc_shared(shared.other, &process.shared());
    assert_eq!(answer.err(), Some(PasidError::NoAsid));
    assert_eq!((process.pinned(), process.watched()), (0, 0));
    assert_eq!(shared.footprint(), before);
}

#[test]
fn entries_beyond_the_table_or_unprepared_are_refused() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    let notifier = shared.space.alloc_shared(shared.table, &process.shared()).unwrap();
    let beyond = SubstreamId::new(64);
    assert_eq!(shared.space.prepare(shared.table, beyond), Err(PasidError::Substream(beyond)));
    assert_eq!(
        shared.space.write(shared.table, ONE, &notifier),
        Err(PasidError::Substream(ONE)),
        "not prepared"
    );
    shared.space.prepare(shared.other, ONE).unwrap();
    assert_eq!(
        shared.space.write(shared.other, ONE, &notifier),
        Err(PasidError::NotBound(ONE)),
        "a notifier of another table"
    );
    shared.space.prepare(shared.table, ONE).unwrap();
    shared.space.write(shared.table, ONE, &notifier).unwrap();
    assert_eq!(shared.space.write(shared.table, ONE, &notifier), Err(PasidError::Bound(ONE)));
    assert_eq!(shared.space.free_table(shared.table), Err(PasidError::TableInUse));
    shared.space.free_shared(&notifier).unwrap();
    shared.space.free_table(shared.table).unwrap();
}

#[test]
fn the_number_of_processes_is_bounded() {
    let shared = Shared::new();
    let processes: Vec<_> = (0..65).map(|n| TestProcess::new(n, n as u16 + 1)).collect();
    let mut notifiers = Vec::new();
    for process in &processes[..64] {
        notifiers.push(shared.space.alloc_shared(shared.table, &process.shared()).unwrap());
    }
    let answer = shared.space.alloc_shared(shared.table, &processes[64].shared());
    assert_eq!(answer.err(), Some(PasidError::Quota));
    assert_eq!(processes[64].pinned(), 0);
    // One that is shared already counts once.
    notifiers.push(shared.space.alloc_shared(shared.other, &processes[3].shared()).unwrap());
    for notifier in &notifiers {
        shared.space.free_shared(notifier).unwrap();
    }
    assert!(processes.iter().all(|process| process.pinned() == 0));
}

/// A table of any width without hardware.
struct Wide;

impl ContextStore for Wide {
    fn bits(&self) -> u8 {
        20
    }

    fn prepare(&self, _: SubstreamId) -> Result<(), DriverError> {
        Ok(())
    }

    fn write(
        &self,
        _: SubstreamId,
        _: Option<&Context>,
        _: Option<&Context>,
    ) -> Result<(), Unwritten> {
        Ok(())
    }

    fn forget(&self, _: Asid, _: &[SubstreamId]) -> Result<(), DriverError> {
        Ok(())
    }

    fn forget_ranges(&self, _: Asid, _: &[SubstreamId], _: &[Range]) -> Result<(), DriverError> {
        Ok(())
    }
}

#[test]
fn the_number_of_entries_is_bounded_over_all_tables() {
    let space = Space::new(16, 4);
    let (one, two) = (space.alloc_table(Arc::new(Wide)), space.alloc_table(Arc::new(Wide)));
    let each = MAX_ENTRIES as u32 / 2;
    for substream in (0..each).map(SubstreamId::new) {
        space.prepare(one, substream).unwrap();
        space.prepare(two, substream).unwrap();
    }
    let next = SubstreamId::new(each);
    assert_eq!(space.prepare(one, next), Err(PasidError::Quota));
    space.prepare(one, SubstreamId::new(0)).expect("it is ready");
    space.free_table(two).unwrap();
    space.prepare(one, next).expect("there is room again");
}
