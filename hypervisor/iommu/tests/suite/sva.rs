//! Properties of sharing address spaces with devices:
//! 1. A bound substream translates by its process, an unbound one by nothing, with no bad
//!    descriptor at any moment in between.
//! 2. Nothing stale is reachable after unbind, exit, or change plus invalidation.
//! 3. Rebinding invalidates the old ASID before the new one is published.
//! 4. A process may end at any moment; what its end has done is not repeated.
//! 5. Invalidations cover exactly what changed, and devices that remember are told.
//! 6. Whatever step of a binding fails, everything is as before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::Shared;
use crate::common::process::TestProcess;
use palisade_hal::{Asid, Iova, StreamId, SubstreamId};
use palisade_iommu::fake::{Call, Reach};
use palisade_iommu::pasid::PasidError;
use palisade_iommu::sva::{ProcessNotifier, Range, bind, rebind, unbind};
use palisade_iommu::{
    Condition, DriverError, Error, Flush, Invalidation, StreamPolicy, StreamState,
};
use palisade_mem::Proof;

const ONE: SubstreamId = SubstreamId::new(1);
const TWO: SubstreamId = SubstreamId::new(2);
const STREAM: StreamId = StreamId::new(0x20);

impl Shared {
    fn reach(&self, substream: SubstreamId) -> Reach {
        self.house.driver.transaction(STREAM, Some(substream))
    }

    fn assert_well(&self) {
        assert_eq!(self.house.driver.core_faults(), Vec::<String>::new());
    }
}

fn goes_to(reach: Reach, process: &TestProcess) -> bool {
    matches!(reach, Reach::Through(cached) if cached.root == process.root())
}

#[test]
fn a_bound_substream_translates_by_its_process_and_an_unbound_one_by_nothing() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    assert_eq!(shared.reach(ONE), Reach::BadContext, "nothing was ever bound here");
    let bond = bind(&shared.space, shared.table, ONE, &process.shared()).unwrap();
    for stream in [0x20, 0x21, 0x22] {
        let reach = shared.house.driver.transaction(StreamId::new(stream), Some(ONE));
        assert!(goes_to(reach, &process), "every stream of the group");
    }
    unbind(&shared.space, bond).unwrap();
    assert_eq!(shared.reach(ONE), Reach::Quiet, "valid, but it leads nowhere");
    assert!(shared.house.driver.cached().iter().all(|cached| cached.asid != Some(40)));
    assert_eq!((process.pinned(), process.watched()), (0, 0));
    shared.assert_well();
}

#[test]
fn unbinding_one_substream_cuts_it_off_from_what_another_keeps_cached() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    let one = bind(&shared.space, shared.table, ONE, &process.shared()).unwrap();
    let two = bind(&shared.space, shared.table, TWO, &process.shared()).unwrap();
    unbind(&shared.space, one).unwrap();
    // The second substream warms the TLB again under the process's ASID …
    assert!(goes_to(shared.reach(TWO), &process));
    // … and the first, whose walks are off, must not be served from it.
    assert_eq!(shared.reach(ONE), Reach::Quiet);
    unbind(&shared.space, two).unwrap();
    shared.assert_well();
}

#[test]
fn rebinding_invalidates_the_old_asid_before_the_new_one_is_published() {
    let shared = Shared::new();
    let (a, b) = (TestProcess::new(1, 40), TestProcess::new(2, 41));
    let bond = bind(&shared.space, shared.table, ONE, &a.shared()).unwrap();
    assert!(goes_to(shared.reach(ONE), &a));
    shared.house.driver.take_calls();
    let bond = rebind(&shared.space, bond, &b.shared()).map_err(|(_, error)| error).unwrap();
    let vmid = shared.domain.vmid().unwrap();
    let mut expected: Vec<Call> =
        [0x20, 0x21, 0x22].map(|s| Call::WriteContext(s, 1, Some(0))).into();
    expected.push(Call::Invalidate(Invalidation::Asid { vmid, asid: Asid::new(40) }));
    expected.push(Call::Sync);
    expected.extend([0x20, 0x21, 0x22].map(|s| Call::WriteContext(s, 1, Some(41))));
    assert_eq!(shared.house.driver.take_calls(), expected);
    assert!(goes_to(shared.reach(ONE), &b));
    assert_eq!((a.pinned(), a.watched(), b.pinned(), b.watched()), (0, 0, 1, 1));
    unbind(&shared.space, bond).unwrap();
    shared.assert_well();
}

#[test]
fn every_failing_step_of_a_binding_leaves_everything_as_it_was() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    let before = shared.footprint();
    let errors = [DriverError::NoMemory, DriverError::InvalidationTimeout];
    for error in errors {
        for k in 0..3 {
            shared.house.driver.fail_after(k, error);
            let answer = bind(&shared.space, shared.table, ONE, &process.shared());
            assert_eq!(answer.err(), Some(PasidError::Driver(error)), "place {k}");
            assert_eq!(shared.footprint(), before, "place {k}: {error}");
            assert_eq!((process.pinned(), process.watched()), (0, 0), "place {k}");
        }
    }
    // Prepared entries stay prepared: that is memory of the table, not of a binding.
    shared.space.prepare(shared.table, ONE).unwrap();
    let before = shared.footprint();
    let steps = 3;
    for error in errors {
        for k in 0..steps {
            shared.house.driver.fail_after(k, error);
            let answer = bind(&shared.space, shared.table, ONE, &process.shared());
            assert_eq!(answer.err(), Some(PasidError::Driver(error)), "step {k}");
            assert_eq!(shared.footprint(), before, "step {k}: {error}");
            assert_eq!((process.pinned(), process.watched()), (0, 0), "step {k}");
        }
    }
    shared.house.driver.fail_after(steps, DriverError::NoMemory);
    let bond = bind(&shared.space, shared.table, ONE, &process.shared()).unwrap();
    assert!(shared.house.driver.disarm(), "one write per stream");
    // A substream that translates for somebody is refused and left alone.
    let other = TestProcess::new(2, 41);
    let bound = shared.footprint();
    let answer = bind(&shared.space, shared.table, ONE, &other.shared());
    assert_eq!(answer.err(), Some(PasidError::Bound(ONE)));
    assert_eq!(shared.footprint(), bound);
    assert_eq!((other.pinned(), other.watched()), (0, 0));
    unbind(&shared.space, bond).unwrap();
}

#[test]
fn every_failing_step_of_a_rebinding_leaves_the_old_one_in_force() {
    let shared = Shared::new();
    let (a, b) = (TestProcess::new(1, 40), TestProcess::new(2, 41));
    let mut bond = bind(&shared.space, shared.table, ONE, &a.shared()).unwrap();
    let before = shared.footprint();
    for k in 0..3 {
        shared.house.driver.fail_after(k, DriverError::NoMemory);
        let (old, _) = rebind(&shared.space, bond, &b.shared()).err().unwrap();
        assert_eq!(shared.footprint(), before, "step {k}");
        assert!(goes_to(shared.reach(ONE), &a), "step {k}");
        assert_eq!((b.pinned(), b.watched()), (0, 0), "step {k}");
        bond = old;
    }
    unbind(&shared.space, bond).unwrap();
    shared.assert_well();
}

#[test]
fn a_process_may_end_in_the_middle_of_dma() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    let one = bind(&shared.space, shared.table, ONE, &process.shared()).unwrap();
    let two = bind(&shared.space, shared.table, TWO, &process.shared()).unwrap();
    let elsewhere = bind(&shared.space, shared.other, TWO, &process.shared()).unwrap();
    assert!(goes_to(shared.reach(ONE), &process));
    process.exit().unwrap();
    for reach in [
        shared.reach(ONE),
        shared.reach(TWO),
        shared.house.driver.transaction(StreamId::new(0x10), Some(TWO)),
    ] {
        assert_eq!(reach, Reach::Quiet, "valid, so no bad descriptor, and nothing is reached");
    }
    // What the end has done is not repeated: neither by a second end nor by the unbinding.
    shared.house.driver.take_calls();
    process.exit().unwrap();
    for bond in [one, two, elsewhere] {
        unbind(&shared.space, bond).unwrap();
    }
    assert_eq!(shared.house.driver.take_calls(), []);
    assert_eq!((process.pinned(), process.watched()), (0, 0));
    let footprint = shared.space.footprint();
    assert_eq!((footprint.asids, footprint.bound, footprint.descriptors), (0, 0, 0));
    shared.assert_well();
}

#[test]
fn an_end_between_sharing_and_writing_is_noticed() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    let notifier = shared.space.alloc_shared(shared.table, &process.shared()).unwrap();
    shared.space.prepare(shared.table, ONE).unwrap();
    process.exit().unwrap();
    assert_eq!(shared.space.write(shared.table, ONE, &notifier), Err(PasidError::NoProcess));
    assert_eq!(
        shared.space.alloc_shared(shared.table, &process.shared()).err(),
        Some(PasidError::NoProcess),
        "nor is it shared again"
    );
    shared.space.free_shared(&notifier).unwrap();
    assert_eq!(process.pinned(), 0);
}

#[test]
fn an_old_bond_does_not_touch_its_successor() {
    let shared = Shared::new();
    let (a, b) = (TestProcess::new(1, 40), TestProcess::new(2, 41));
    let old = bind(&shared.space, shared.table, ONE, &a.shared()).unwrap();
    a.exit().unwrap();
    // The entry is free once the process has gone; somebody else takes it.
    let new = bind(&shared.space, shared.table, ONE, &b.shared()).unwrap();
    unbind(&shared.space, old).unwrap();
    assert!(goes_to(shared.reach(ONE), &b));
    unbind(&shared.space, new).unwrap();
}

#[test]
fn a_notifier_that_was_given_back_does_nothing() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    let bond = bind(&shared.space, shared.table, ONE, &process.shared()).unwrap();
    let old = bond.notifier().clone();
    unbind(&shared.space, bond).unwrap();
    let bond = bind(&shared.space, shared.table, ONE, &process.shared()).unwrap();
    shared.house.driver.take_calls();
    old.invalidate(&[Range::ALL]).unwrap();
    old.release().unwrap();
    assert_eq!(shared.house.driver.take_calls(), []);
    assert!(goes_to(shared.reach(ONE), &process), "its successor lives");
    unbind(&shared.space, bond).unwrap();
    drop(shared);
    old.release().unwrap();
}

#[test]
fn invalidations_are_as_long_as_what_changed() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    let bond = bind(&shared.space, shared.table, ONE, &process.shared()).unwrap();
    let vmid = shared.domain.vmid().unwrap();
    let asid = Asid::new(40);
    shared.house.driver.take_calls();
    process.change(0x1000, 0x3000).unwrap();
    let range = |start, size| {
        let (start, leaf) = (Iova::new(start), Some(4096));
        Call::Invalidate(Invalidation::StageOne { vmid, asid, start, size, granule: 4096, leaf })
    };
    assert_eq!(shared.house.driver.take_calls(), [range(0x1000, 0x2000), Call::Sync]);
    process.change(0x1000, 0x1000).unwrap();
    process.change(0x2000, 0x1000).unwrap();
    assert_eq!(shared.house.driver.take_calls(), [], "nothing changed, nothing is sent");
    process.change(0, u64::MAX).unwrap();
    let all = Call::Invalidate(Invalidation::Asid { vmid, asid });
    assert_eq!(shared.house.driver.take_calls(), [all, Call::Sync], "all of it is the ASID");
    unbind(&shared.space, bond).unwrap();
}

#[test]
fn devices_that_remember_are_told() {
    let shared = Shared::with(StreamPolicy { ats: true, stalls: false }, 16);
    let process = TestProcess::new(1, 40);
    let one = bind(&shared.space, shared.other, ONE, &process.shared()).unwrap();
    let two = bind(&shared.space, shared.other, TWO, &process.shared()).unwrap();
    let told = |size: u64, substream| {
        let start = Iova::new(if size == u64::MAX { 0 } else { 0x1000 });
        let stream = StreamId::new(0x10);
        Call::Invalidate(Invalidation::Device { stream, substream: Some(substream), start, size })
    };
    shared.house.driver.take_calls();
    process.change(0x1000, 0x2000).unwrap();
    let calls = shared.house.driver.take_calls();
    assert_eq!(calls[1..], [told(0x1000, ONE), told(0x1000, TWO), Call::Sync], "one batch");
    unbind(&shared.space, one).unwrap();
    let calls = shared.house.driver.take_calls();
    assert_eq!(calls[2..], [told(u64::MAX, ONE), Call::Sync], "only the one that is unbound");
    process.exit().unwrap();
    let calls = shared.house.driver.take_calls();
    assert_eq!(calls[2..], [told(u64::MAX, TWO), Call::Sync]);
    unbind(&shared.space, two).unwrap();
}

/// What is forgotten in one go is put together on the hypervisor's heap.
#[test]
fn what_devices_must_forget_is_bounded() {
    let shared = Shared::with(StreamPolicy { ats: true, stalls: false }, 16);
    let process = TestProcess::new(1, 40);
    let bind = |substream| {
        let substream = SubstreamId::new(substream);
        bind(&shared.space, shared.table, substream, &process.shared()).unwrap()
    };
    let bonds: Vec<_> = (0..64).map(bind).collect();
    shared.house.driver.take_calls();
    let ranges = [1u64, 3, 5].map(|page| Range {
        start: Iova::new(page << 12),
        end: Iova::new((page + 1) << 12),
        granule: 4096,
        leaf: None,
    });
    process.change_all(&ranges).unwrap();
    let calls = shared.house.driver.take_calls();
    let everything = |stream| {
        let (stream, start) = (StreamId::new(stream), Iova::new(0));
        Call::Invalidate(Invalidation::Device { stream, substream: None, start, size: u64::MAX })
    };
    let devices = [0x20, 0x21, 0x22].map(everything);
    assert_eq!(calls.len(), 3 + 3 + 1, "three ranges, three streams, one synchronisation");
    assert_eq!(calls[3..6], devices);
    bonds.into_iter().for_each(|bond| unbind(&shared.space, bond).unwrap());
}

#[test]
fn a_failed_invalidation_is_told_and_its_asid_never_reused() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    let bond = bind(&shared.space, shared.table, ONE, &process.shared()).unwrap();
    let timeout = DriverError::InvalidationTimeout;
    shared.house.driver.fail_after(0, timeout);
    assert_eq!(process.change(0x1000, 0x2000), Err(PasidError::Driver(timeout)));
    unbind(&shared.space, bond).unwrap();
    let footprint = shared.space.footprint();
    assert_eq!((footprint.asids, footprint.asids_lost), (0, 1));
    let next = TestProcess::new(2, 40);
    assert_eq!(
        bind(&shared.space, shared.table, ONE, &next.shared()).err(),
        Some(PasidError::BadAsid(Asid::new(40)))
    );
}

#[test]
fn a_failed_end_is_told_and_tried_again() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    let bond = bind(&shared.space, shared.table, ONE, &process.shared()).unwrap();
    shared.house.driver.fail_after(3, DriverError::InvalidationTimeout);
    assert!(process.exit().is_err());
    shared.house.driver.take_calls();
    process.exit().unwrap();
    assert!(shared.house.driver.take_calls().contains(&Call::Sync), "not counted as done");
    unbind(&shared.space, bond).unwrap();
    assert_eq!(shared.space.footprint().asids_lost, 1);
}

#[test]
fn a_table_whose_streams_abort_is_dropped_with_everything_in_it() {
    let shared = Shared::new();
    let (a, b) = (TestProcess::new(1, 40), TestProcess::new(2, 41));
    let bonds = [
        bind(&shared.space, shared.table, ONE, &a.shared()).unwrap(),
        bind(&shared.space, shared.table, TWO, &b.shared()).unwrap(),
    ];
    let elsewhere = bind(&shared.space, shared.other, ONE, &a.shared()).unwrap();
    let group = shared.house.group(2);
    shared.house.iommus.detach(&group).unwrap();
    assert_eq!(shared.house.driver.context_tables(), 1, "the group's tables are gone");
    shared.house.driver.take_calls();
    shared.space.abandon_table(shared.table, true).unwrap();
    assert_eq!(shared.house.driver.take_calls(), [], "the hardware is not touched");
    assert_eq!((a.pinned(), a.watched(), b.pinned(), b.watched()), (1, 1, 0, 0));
    for bond in bonds {
        assert_eq!(unbind(&shared.space, bond), Err(PasidError::Table));
    }
    unbind(&shared.space, elsewhere).unwrap();
    assert_eq!(shared.space.footprint().asids, 0);
}

#[test]
fn enabling_contexts_is_all_or_nothing() {
    let house = crate::common::House::new();
    let domain = house.domain();
    let group = house.assign(2, &domain);
    let before = house.footprint();
    let enable = || {
        house.iommus.enable_contexts(
            &group,
            house.owner,
            6,
            palisade_iommu::DefaultSubstream::Zero,
            Arc::new(palisade_iommu::PhysicalView),
        )
    };
    let mut k = 0;
    loop {
        house.driver.fail_after(k, DriverError::NoMemory);
        match enable() {
            Ok(_) => break,
            Err(error) => assert_eq!(error, Error::Driver(DriverError::NoMemory)),
        }
        assert_eq!(house.footprint(), before, "step {k}");
        assert_eq!(group.condition(), Condition::Assigned, "step {k}");
        k += 1;
    }
    assert_eq!(k, 6, "a table and an entry per stream");
    house.driver.disarm();
    assert_eq!(enable().err(), Some(Error::Mode), "once");
    let stranger = house.iommus.owners().open(1).unwrap();
    assert_eq!(house.iommus.disable_nesting(&group, stranger), Err(Error::NotOwner));
    house.iommus.disable_nesting(&group, house.owner).unwrap();
    assert_eq!(house.footprint(), before);
}

#[test]
fn a_failure_that_leaves_doubt_kills_the_group() {
    for k in 0..9 {
        let house = crate::common::House::new();
        let domain = house.domain();
        let group = house.assign(2, &domain);
        house.driver.fail_after(k, DriverError::Dead);
        let enabled = house.iommus.enable_contexts(
            &group,
            house.owner,
            6,
            palisade_iommu::DefaultSubstream::Zero,
            Arc::new(palisade_iommu::PhysicalView),
        );
        if enabled.is_ok() && house.iommus.disable_nesting(&group, house.owner).is_ok() {
            panic!("step {k} was not reached");
        }
        if group.condition() == Condition::Dead {
            for row in house.iommus.posture().iter().filter(|row| row.devices == group.devices()) {
                assert_eq!((row.state, row.owner), (StreamState::Abort, None), "step {k}");
            }
            house.iommus.retire(&domain, |_| true).unwrap();
            assert_eq!(house.iommus.footprint().vmids_lost, 1, "step {k}");
        } else {
            // Nothing had been attached yet: it is as it was.
            assert!(k < 3, "step {k}");
        }
    }
}

#[test]
fn unmapping_in_stage_two_takes_combined_entries_of_nested_streams_with_it() {
    let shared = Shared::new();
    let process = TestProcess::new(1, 40);
    let bond = bind(&shared.space, shared.table, ONE, &process.shared()).unwrap();
    assert!(goes_to(shared.reach(ONE), &process));
    let start = palisade_hal::Ipa::new(0x4000_0000);
    let page = Flush::Range { start, size: 4096, leaf: Some(4096) };
    shared.domain.flush(page, &mut Proof::new(shared.domain.scope())).unwrap();
    assert_eq!(shared.house.driver.cached(), [], "stage 2 by IPA alone would leave them");
    unbind(&shared.space, bond).unwrap();
}

#[test]
fn ends_changes_and_bindings_from_several_cores_leak_nothing() {
    let shared = Shared::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for core in 0..3u32 {
            let (shared, stop) = (&shared, &stop);
            threads.spawn(move || {
                for round in 0..200u32 {
                    let key = u64::from(core * 1000 + round);
                    let process = TestProcess::new(key, (core * 3 + round % 3 + 1) as u16);
                    let substream = SubstreamId::new(core);
                    let bound = bind(&shared.space, shared.table, substream, &process.shared());
                    let Ok(bond) = bound else { panic!("{:?}", bound.err()) };
                    shared.reach(substream);
                    if round % 2 == 0 {
                        let ending = process.clone();
                        std::thread::scope(|inner| {
                            inner.spawn(move || ending.exit().unwrap());
                            unbind(&shared.space, bond).unwrap();
                        });
                    } else {
                        process.change(0x1000, 0x2000).unwrap();
                        unbind(&shared.space, bond).unwrap();
                    }
                    assert_eq!((process.pinned(), process.watched()), (0, 0));
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
    });
    let footprint = shared.space.footprint();
    assert_eq!((footprint.asids, footprint.asids_lost, footprint.bound), (0, 0, 0));
    shared.assert_well();
}
