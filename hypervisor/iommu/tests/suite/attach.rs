//! Properties of assigning and taking back:
//! 1. All streams of a group move or none; whatever step fails, everything is as before.
//! 2. Taking back is done in one order, and ends in quarantine.
//! 3. Nothing that failed to be confirmed is ever counted as clean.
//! 4. An owner is replaced only through quarantine and proof.
//! 5. Proofs need the word of every IOMMU that could hold something.

use crate::common::{House, device};
use palisade_hal::{Iova, Ipa, PhysAddr, StreamId};
use palisade_iommu::fake::{Call, FakeDriver, Reach, registration};
use palisade_iommu::{
    Capabilities, Condition, DeviceId, DriverError, Error, Flush, Idle, Invalidation, IommuDriver,
    Registration, StreamPolicy, StreamState,
};
use palisade_mem::{Arena, Frames, Owner as FrameOwner, Proof, Use};

const POLICY: StreamPolicy = StreamPolicy { ats: false, stalls: false };

#[test]
fn every_failing_step_of_an_assignment_leaves_everything_as_it_was() {
    let house = House::new();
    let domain = house.domain();
    let group = house.group(2);
    let before = house.footprint();
    for k in 0..3 {
        house.driver.fail_after(k, DriverError::NoMemory);
        let answer = house.iommus.assign(&group, &domain, POLICY);
        assert_eq!(answer, Err(Error::Driver(DriverError::NoMemory)), "step {k}");
        assert_eq!(house.footprint(), before, "step {k}");
        assert_eq!(group.condition(), Condition::Free, "step {k}");
        assert_eq!((domain.attached(), domain.agents()), (0, None), "step {k}");
    }
    house.driver.take_calls();
    house.iommus.assign(&group, &domain, POLICY).unwrap();
    assert_eq!(house.driver.take_calls().len(), 3, "a failed assignment leaves no debts");
}

/// A step without an answer leaves doubt about its own group and about nothing else.
#[test]
fn every_step_of_an_assignment_without_an_answer_makes_this_group_dead_and_no_other() {
    let doubts = [
        DriverError::Timeout(StreamId::new(0x20)),
        DriverError::InvalidationTimeout,
        DriverError::Dead,
    ];
    for error in doubts {
        for k in 0..3 {
            let house = House::new();
            let domain = house.domain();
            let group = house.group(2);
            let others = |rows: Vec<palisade_iommu::Posture>| -> Vec<_> {
                let other = rows.into_iter().filter(|row| row.devices != group.devices());
                other.map(|row| (row.stream, row.state, row.owner, row.condition)).collect()
            };
            let (before, (footprint, _)) = (others(house.iommus.posture()), house.footprint());
            house.driver.fail_after(k, error);
            let answer = house.iommus.assign(&group, &domain, POLICY);
            assert_eq!(answer, Err(Error::Driver(error)), "step {k}");
            assert_eq!(group.condition(), Condition::Dead, "step {k}");
            assert!(house.iommus.posture().iter().all(|row| row.state == StreamState::Abort));
            assert_eq!(others(house.iommus.posture()), before, "step {k}");
            assert_eq!(house.footprint().0, footprint, "step {k}");
            house.iommus.retire(&domain, |_| true).unwrap();
            assert_eq!(house.iommus.footprint().vmids_lost, 1, "step {k}");
        }
    }
}

#[test]
fn what_fails_on_the_way_back_is_dead_and_never_clean() {
    let house = House::new();
    let domain = house.domain();
    let group = house.group(2);
    // The third attach times out: where its stream stands is not known.
    house.driver.fail_after(2, DriverError::Timeout(StreamId::new(0x22)));
    assert!(house.iommus.assign(&group, &domain, POLICY).is_err());
    assert_eq!(group.condition(), Condition::Dead);
    assert!(domain.agents().is_some(), "the IOMMU's word is still needed");
    for row in house.iommus.posture() {
        assert_eq!(row.state, StreamState::Abort);
    }
    house.iommus.retire(&domain, |_| true).unwrap();
    let footprint = house.iommus.footprint();
    assert_eq!((footprint.vmids, footprint.vmids_lost), (0, 1), "its VMID is never reused");
    assert!(matches!(
        house.iommus.assign(&group, &house.domain(), POLICY),
        Err(Error::Condition { condition: Condition::Dead, .. })
    ));
}

#[test]
fn detaching_aborts_then_invalidates_then_delivers_then_lets_go() {
    let house = House::new();
    let domain = house.domain();
    let vmid = domain.vmid().unwrap();
    let group = house.assign(2, &domain);
    house.driver.take_calls();
    house.iommus.detach(&group).unwrap();
    assert_eq!(
        house.driver.take_calls(),
        [
            Call::Detach(0x20),
            Call::Detach(0x21),
            Call::Detach(0x22),
            Call::Invalidate(Invalidation::Vmid(vmid)),
            Call::Sync,
            Call::Drain,
        ]
    );
    assert_eq!(group.condition(), Condition::Quarantined);
    assert!(matches!(
        house.iommus.assign(&group, &domain, POLICY),
        Err(Error::Condition { condition: Condition::Quarantined, .. })
    ));
    house.iommus.release(&group, Idle::Reset).unwrap();
    house.iommus.assign(&group, &domain, POLICY).unwrap();
}

#[test]
fn nothing_stale_is_left_for_the_next_owner() {
    let house = House::new();
    let first = house.domain_at(0x4000_0000);
    let group = house.assign(1, &first);
    let stream = StreamId::new(0x10);
    assert!(
        matches!(house.driver.transaction(stream, None), Reach::Through(c) if c.root == 0x4000_0000)
    );
    house.iommus.detach(&group).unwrap();
    assert_eq!(house.driver.transaction(stream, None), Reach::Aborted);
    assert!(house.driver.cached().is_empty());
    house.iommus.release(&group, Idle::Reset).unwrap();
    house.iommus.retire(&first, |_| true).unwrap();
    let second = house.domain_at(0x5000_0000);
    house.assign(1, &second);
    assert!(
        matches!(house.driver.transaction(stream, None), Reach::Through(c) if c.root == 0x5000_0000)
    );
    assert!(house.driver.core_faults().is_empty(), "{:?}", house.driver.core_faults());
}

#[test]
fn every_failing_step_of_a_detach_makes_the_group_dead() {
    for k in 0..4 {
        let house = House::new();
        let domain = house.domain();
        let group = house.assign(2, &domain);
        let error = DriverError::Timeout(StreamId::new(0x20));
        house.driver.fail_after(k, error);
        assert_eq!(house.iommus.detach(&group), Err(Error::Driver(error)), "step {k}");
        assert_eq!(group.condition(), Condition::Dead, "step {k}");
        for row in house.iommus.posture().iter().filter(|row| row.devices == group.devices()) {
            assert_eq!(row.state, StreamState::Abort, "every stream was told, step {k}");
        }
        assert!(matches!(
            house.iommus.release(&group, Idle::Reset),
            Err(Error::Condition { condition: Condition::Dead, .. })
        ));
        house.iommus.retire(&domain, |_| true).unwrap();
        assert_eq!(house.iommus.footprint().vmids_lost, 1, "step {k}");
    }
}

#[test]
fn aliases_move_together() {
    let house = House::new();
    let domain = house.domain();
    // Device 4 shares stream 0x30 with device 3: asking for one takes both.
    let group = house.assign(4, &domain);
    assert_eq!(house.driver.stream_state(StreamId::new(0x30)), StreamState::Stage2);
    assert_eq!(house.driver.stream_state(StreamId::new(0x31)), StreamState::Stage2);
    let other = house.iommus.owners().open(1).unwrap();
    let theirs = house.iommus.paging_domain(other, PhysAddr::new(0x5000_0000), 0).unwrap();
    assert_eq!(
        house.iommus.assign(&house.group(3), &theirs, POLICY),
        Err(Error::Assigned { device: DeviceId::new(3), owner: house.owner })
    );
    house.iommus.detach(&group).unwrap();
    assert_eq!(house.driver.stream_state(StreamId::new(0x31)), StreamState::Abort);
}

#[test]
fn replacing_keeps_the_owner_and_forgets_the_old_tables() {
    let house = House::new();
    let (old, new) = (house.domain_at(0x4000_0000), house.domain_at(0x6000_0000));
    let group = house.assign(2, &old);
    for stream in [0x20, 0x21, 0x22] {
        house.driver.transaction(StreamId::new(stream), None);
    }
    for k in 0..3 {
        let before = house.footprint();
        house.driver.fail_after(k, DriverError::NoMemory);
        assert!(house.iommus.replace(&group, &new).is_err());
        assert_eq!(house.footprint(), before, "step {k}");
        assert_eq!((old.attached(), new.attached()), (1, 0), "step {k}");
    }
    house.iommus.replace(&group, &new).unwrap();
    assert_eq!((old.attached(), new.attached()), (0, 1));
    assert!(house.driver.cached().iter().all(|c| c.vmid != old.vmid().unwrap().get()));
    // Another VM's domain is not a replacement.
    let other = house.iommus.owners().open(1).unwrap();
    let theirs = house.iommus.paging_domain(other, PhysAddr::new(0x7000_0000), 0).unwrap();
    assert_eq!(house.iommus.replace(&group, &theirs), Err(Error::NotOwner));
}

#[test]
fn a_replacement_that_can_go_neither_way_aborts() {
    let house = House::new();
    let (old, new) = (house.domain_at(0x4000_0000), house.domain_at(0x6000_0000));
    let group = house.assign(2, &old);
    house.driver.fail_after(1, DriverError::Timeout(StreamId::new(0x21)));
    assert!(house.iommus.replace(&group, &new).is_err());
    assert_eq!(group.condition(), Condition::Dead);
    assert!(house.iommus.posture().iter().all(|row| row.state == StreamState::Abort));
    house.iommus.retire(&old, |_| true).unwrap();
    house.iommus.retire(&new, |_| true).unwrap();
    assert_eq!(house.iommus.footprint().vmids_lost, 2);
}

#[test]
fn no_stage_two_no_passthrough() {
    let whole = IommuDriver::capabilities(&*FakeDriver::new());
    let house = House::with(FakeDriver::with(Capabilities { stage2: false, ..whole }));
    let before = house.footprint();
    let refused = Err(Error::NoStageTwo { device: DeviceId::new(1), phandle: 1 });
    let domain = house.domain();
    assert_eq!(house.iommus.assign(&house.group(1), &domain, POLICY), refused);
    assert!(house.driver.take_calls().is_empty(), "refused before the hardware is touched");
    house.iommus.retire(&domain, |_| true).unwrap();
    assert_eq!(house.footprint(), before);
}

#[test]
fn a_vm_that_has_gone_gets_nothing() {
    let house = House::new();
    let domain = house.domain();
    house.iommus.owners().close(house.owner).unwrap();
    assert_eq!(house.iommus.assign(&house.group(1), &domain, POLICY), Err(Error::StaleOwner));
    assert_eq!(house.group(1).condition(), Condition::Free);
}

#[test]
fn identity_is_for_the_hypervisor_alone() {
    let house = House::new();
    let group = house.group(1);
    house.iommus.assign(&group, &house.iommus.identity_domain(), POLICY).unwrap();
    assert_eq!(house.driver.stream_state(StreamId::new(0x10)), StreamState::Bypass);
    // A VM's domain cannot take its place without abort and proof.
    assert_eq!(house.iommus.replace(&group, &house.domain()), Err(Error::NotOwner));
    house.iommus.detach(&group).unwrap();
    assert_eq!(house.driver.stream_state(StreamId::new(0x10)), StreamState::Abort);
}

#[test]
fn memory_comes_back_only_with_every_iommus_word() {
    let arena = Arena::new(PhysAddr::new(0x8000_0000), 64);
    let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
    let house = House::new();
    let second = FakeDriver::new();
    house.iommus.add_device(device(9, 2, &[0x90])).unwrap();
    // Re-registered with agents of this allocator.
    house.iommus.unregister(1).unwrap();
    for (phandle, driver) in [(1, house.driver.clone()), (2, second.clone())] {
        let agent = frames.register_agent("smmu").unwrap();
        let answer = house.iommus.register(Registration { phandle, driver, agent });
        answer.map_err(|rejected| rejected.error).unwrap();
    }
    let domain = house.domain();
    house.assign(1, &domain);
    house.assign(9, &domain);

    let block = frames.alloc_zeroed(0, Use::Guest, FrameOwner::vm(0)).unwrap();
    frames.expose(&block);
    let detached = frames.detach(block, domain.scope(), domain.agents().unwrap());
    let page = Flush::Range { start: Ipa::new(0x4000_0000), size: 4096, leaf: Some(4096) };

    second.fail_after(0, DriverError::InvalidationTimeout);
    let mut proof = Proof::new(domain.scope());
    assert!(domain.flush(page, &mut proof).is_err());
    let refused = frames.release(detached, &proof).unwrap_err();
    // The page is still out of reach for everybody; a whole proof frees it.
    let mut proof = Proof::new(domain.scope());
    domain.flush(page, &mut proof).unwrap();
    frames.release(refused.0, &proof).unwrap();
    assert_eq!(frames.footprint().leaked, 0);
}

#[test]
fn a_range_of_a_nested_domain_takes_the_combined_entries_with_it() {
    let house = House::new();
    let domain = house.domain();
    house.assign(1, &domain);
    house.driver.take_calls();
    let mut proof = Proof::new(domain.scope());
    let page = Flush::Range { start: Ipa::new(0x4000_0000), size: 4096, leaf: Some(4096) };
    domain.flush(page, &mut proof).unwrap();
    assert_eq!(house.driver.take_calls().len(), 2, "one command and one sync when not nested");
}

#[test]
fn registration_and_assignment_work_with_a_second_instance_of_another_kind() {
    let house = House::new();
    house.iommus.add_device(device(9, 2, &[0x90])).unwrap();
    house
        .iommus
        .register(registration(2, FakeDriver::new()))
        .map_err(|rejected| rejected.error)
        .unwrap();
    let domain = house.domain();
    let (a, b) = (house.assign(1, &domain), house.assign(9, &domain));
    house.iommus.detach(&a).unwrap();
    assert!(domain.agents().is_some(), "the second still holds it");
    house.iommus.detach(&b).unwrap();
    assert_eq!(domain.agents(), None);
}

#[test]
fn a_domain_closes_once_and_only_clean() {
    let house = House::new();
    let domain = house.domain();
    let group = house.assign(1, &domain);
    assert_eq!(domain.close().err(), Some(Error::Domain), "a group is attached");
    house.iommus.detach(&group).unwrap();
    let closed = domain.close().unwrap();
    assert_eq!(closed.scope(), domain.scope());
    assert_eq!(domain.close().err(), Some(Error::Domain), "once");
    house.iommus.release(&group, Idle::Reset).unwrap();
    let refused = house.iommus.assign(&group, &domain, StreamPolicy::default());
    assert_eq!(refused, Err(Error::Domain), "nothing enters what is closed");
    house.iommus.retire(&domain, |_| true).unwrap();
    assert_eq!(house.iommus.footprint().vmids, 0);

    let domain = house.domain();
    let group = house.assign(1, &domain);
    house.driver.fail_after(0, DriverError::Timeout(StreamId::new(0x10)));
    house.iommus.detach(&group).unwrap_err();
    assert_eq!(domain.close().err(), Some(Error::Unclean { phandle: 1 }));
    assert_eq!(domain.close().err(), Some(Error::Domain), "never");
    house.iommus.retire(&domain, |_| true).unwrap();
    assert_eq!(house.iommus.footprint().vmids_lost, 1);
}

#[test]
fn a_flush_reaches_the_iommu_and_its_devices_in_one_batch() {
    let house = House::new();
    let domain = house.domain();
    let ats = StreamPolicy { ats: true, stalls: false };
    house.iommus.assign(&house.group(2), &domain, ats).unwrap();
    house.driver.take_calls();
    let mut proof = Proof::new(domain.scope());
    let start = Ipa::new(0x4000_0000);
    domain.flush(Flush::Range { start, size: 4096, leaf: None }, &mut proof).unwrap();
    let vmid = domain.vmid().unwrap();
    let leaf = None;
    let own = Invalidation::StageTwo { vmid, start, size: 4096, granule: 4096, leaf };
    let device = |stream, start, size| {
        let (stream, start) = (StreamId::new(stream), Iova::new(start));
        Call::Invalidate(Invalidation::Device { stream, substream: None, start, size })
    };
    let devices = [0x20, 0x21, 0x22].map(|stream| device(stream, start.get(), 4096));
    let calls = house.driver.take_calls();
    assert_eq!(calls.first(), Some(&Call::Invalidate(own)));
    assert_eq!(calls[1..], [&devices[..], &[Call::Sync]].concat());
    domain.flush(Flush::All, &mut proof).unwrap();
    let devices = [0x20, 0x21, 0x22].map(|stream| device(stream, 0, u64::MAX));
    let calls = house.driver.take_calls();
    assert_eq!(calls.first(), Some(&Call::Invalidate(Invalidation::Vmid(vmid))));
    assert_eq!(calls[1..], [&devices[..], &[Call::Sync]].concat());
}

/// More devices with TLBs of their own than go into one batch: none is left out.
#[test]
fn every_device_tlb_is_flushed_however_many_there_are() {
    let house = House::new();
    let streams: Vec<u32> = (0x100..0x128).collect();
    house.iommus.add_device(device(9, 1, &streams)).unwrap();
    let domain = house.domain();
    let ats = StreamPolicy { ats: true, stalls: false };
    house.iommus.assign(&house.group(9), &domain, ats).unwrap();
    house.driver.take_calls();
    domain.flush(Flush::All, &mut Proof::new(domain.scope())).unwrap();
    let calls = house.driver.take_calls();
    let asked = |stream: &&u32| {
        calls.iter().any(|call| {
            matches!(call, Call::Invalidate(Invalidation::Device { stream: asked, .. })
                if asked.get() == **stream)
        })
    };
    assert_eq!(streams.iter().filter(asked).count(), streams.len());
    assert_eq!(calls.last(), Some(&Call::Sync));
}

/// What one group left behind unclean, no other group's clean leave makes good.
#[test]
fn a_clean_leave_does_not_launder_an_unclean_one() {
    for unclean_first in [true, false] {
        let house = House::new();
        let domain = house.domain();
        let (one, other) = (house.assign(1, &domain), house.assign(3, &domain));
        let fail = |now: bool| {
            if now {
                house.driver.fail_after(0, DriverError::Timeout(StreamId::new(0x10)));
            }
        };
        fail(unclean_first);
        assert_eq!(house.iommus.detach(&one).is_err(), unclean_first);
        fail(!unclean_first);
        assert_eq!(house.iommus.detach(&other).is_err(), !unclean_first);
        assert!(domain.agents().is_some(), "an entry may lead here still");
        // Nor does one that comes and goes later.
        let third = house.assign(2, &domain);
        house.iommus.detach(&third).unwrap();
        assert!(domain.agents().is_some());
        house.iommus.retire(&domain, |_| true).unwrap();
        let footprint = house.iommus.footprint();
        assert_eq!((footprint.vmids, footprint.vmids_lost), (0, 1));
    }
}
