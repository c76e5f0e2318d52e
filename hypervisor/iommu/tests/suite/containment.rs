//! Properties of containing a device that faults more than it may:
//! 1. Every stream of its group aborts, and no other group's.
//! 2. Nothing that its owner can ask for lets one of them translate again, nor does a new owner.
//! 3. The operator ends it, once nobody has the group.

use std::sync::Arc;

use crate::common::{House, Shared, record};
use palisade_hal::{PhysAddr, StreamId, SubstreamId};
use palisade_iommu::fake::Reach;
use palisade_iommu::{
    Condition, DefaultSubstream, DriverError, Error, Group, Idle, PhysicalView, StreamPolicy,
};

const STREAMS: [u32; 3] = [0x20, 0x21, 0x22];
const BUDGET: u32 = 5;

fn storm(house: &House, stream: u32) {
    house.driver.set_event_budget(BUDGET);
    (0..=u64::from(BUDGET)).for_each(|n| house.driver.push_event(record(stream, n)));
    house.iommus.drain(house.group(1).instance(), 64);
}

fn reach(house: &House) -> [Reach; 3] {
    STREAMS.map(|stream| house.driver.transaction(StreamId::new(stream), None))
}

fn contained(group: &Group) -> Result<(), Error> {
    let device = group.devices()[0];
    Err(Error::Condition { device, condition: Condition::Contained })
}

#[test]
fn a_storm_of_one_stream_contains_its_group_and_no_other() {
    let house = House::new();
    let domain = house.domain();
    let (group, other) = (house.assign(2, &domain), house.assign(1, &domain));
    storm(&house, 0x21);
    assert_eq!(reach(&house), [Reach::Aborted; 3]);
    assert_eq!(group.condition(), Condition::Contained);
    assert_eq!(other.condition(), Condition::Assigned);
    let theirs = house.driver.transaction(StreamId::new(0x10), None);
    assert!(matches!(theirs, Reach::Through(_)), "{theirs:?}");
    // It is its owner's still, and taken back as from any owner.
    let row = house.iommus.posture().into_iter().find(|row| row.stream.get() == 0x20).unwrap();
    assert_eq!((row.owner, row.condition), (Some(house.owner), Condition::Contained));
}

#[test]
fn nothing_that_the_owner_asks_for_lifts_a_containment() {
    let house = House::new();
    let domain = house.domain();
    let group = house.assign(2, &domain);
    storm(&house, 0x20);
    for config in [4, 5, 0] {
        let words = [1 | config << 1, 0, 0, 0, 0, 0, 0, 0];
        let answer = house.iommus.attach_guest_entry(&group, house.owner, &words).map(drop);
        assert_eq!(answer, contained(&group), "entry {config}");
    }
    let view = Arc::new(PhysicalView);
    let enabled =
        house.iommus.enable_contexts(&group, house.owner, 6, DefaultSubstream::Zero, view);
    assert_eq!(enabled.map(drop), contained(&group));
    assert_eq!(house.driver.context_tables(), 0);
    assert_eq!(house.iommus.replace(&group, &house.domain_at(0x6000_0000)), contained(&group));
    assert_eq!(reach(&house), [Reach::Aborted; 3]);
}

/// What it had made of its streams before ends with its kernel, and the streams go on aborting.
#[test]
fn a_restart_of_its_owner_leaves_it_contained() {
    for contexts in [false, true] {
        let shared = contexts.then(Shared::new);
        let plain = (!contexts).then(House::new);
        let house = shared.as_ref().map(|shared| &shared.house).or(plain.as_ref()).unwrap();
        let group = house.group(2);
        if !contexts {
            house.assign(2, &house.domain());
            let nested = [1 | 5 << 1, 0, 0, 0, 0, 0, 0, 0];
            house.iommus.attach_guest_entry(&group, house.owner, &nested).unwrap();
        }
        storm(house, 0x22);
        house.iommus.disable_nesting(&group, house.owner).unwrap();
        assert_eq!(group.condition(), Condition::Contained);
        for stream in STREAMS {
            let reach = house.driver.transaction(StreamId::new(stream), Some(SubstreamId::new(1)));
            assert_eq!(reach, Reach::Aborted);
        }
        let own_tables = usize::from(contexts);
        assert_eq!(house.driver.context_tables(), own_tables, "those of device 1 alone");
    }
}

#[test]
fn the_operator_ends_it_after_nobody_has_it() {
    let house = House::new();
    let group = house.assign(2, &house.domain());
    storm(&house, 0x20);
    assert_eq!(house.iommus.end_containment(&group), contained(&group), "it is attached");
    house.iommus.detach(&group).unwrap();
    assert_eq!(group.condition(), Condition::Quarantined);
    house.iommus.release(&group, Idle::Reset).unwrap();
    assert_eq!(group.condition(), Condition::Contained, "a reset alone does not end it");
    let next = house.iommus.owners().open(1).unwrap();
    let theirs = house.iommus.paging_domain(next, PhysAddr::new(0x5000_0000), 0).unwrap();
    let assign = || house.iommus.assign(&group, &theirs, StreamPolicy::default());
    assert_eq!(assign(), contained(&group));
    house.iommus.end_containment(&group).unwrap();
    assign().unwrap();
    assert!(matches!(reach(&house)[0], Reach::Through(_)));
    // Its budget is whole again, and is kept as the first one was.
    storm(&house, 0x20);
    assert_eq!((group.condition(), reach(&house)[1]), (Condition::Contained, Reach::Aborted));
}

/// A group has one budget, however many streams it spreads its faults over; its neighbour another.
#[test]
fn the_streams_of_a_group_share_its_budget() {
    let house = House::new();
    let domain = house.domain();
    let (group, other) = (house.assign(2, &domain), house.assign(1, &domain));
    house.driver.set_event_budget(BUDGET);
    for n in 0..=BUDGET {
        house.driver.push_event(record(STREAMS[n as usize % STREAMS.len()], n.into()));
        house.driver.push_event(record(0x10, n.into()));
        if n < BUDGET {
            house.iommus.drain(group.instance(), 64);
            assert_eq!(group.condition(), Condition::Assigned);
        }
    }
    // The neighbour's last one is not over its own.
    house.iommus.drain(group.instance(), 1);
    assert_eq!(group.condition(), Condition::Contained);
    assert_eq!((other.condition(), reach(&house)), (Condition::Assigned, [Reach::Aborted; 3]));
}

/// What its owner does with its entries gives it no new budget.
#[test]
fn a_change_of_its_entry_does_not_renew_its_budget() {
    let house = House::new();
    let group = house.assign(2, &house.domain());
    house.driver.set_event_budget(BUDGET);
    for n in 0..=u64::from(BUDGET) {
        house.driver.push_event(record(0x20, n));
        house.iommus.drain(group.instance(), 64);
        for config in [0, 4] {
            let words = [1 | config << 1, 0, 0, 0, 0, 0, 0, 0];
            let _ = house.iommus.attach_guest_entry(&group, house.owner, &words);
        }
    }
    assert_eq!((group.condition(), reach(&house)[0]), (Condition::Contained, Reach::Aborted));
}

#[test]
fn a_storm_that_a_detach_finds_contains_another_group_too() {
    let house = House::new();
    let domain = house.domain();
    let (group, other) = (house.assign(2, &domain), house.assign(1, &domain));
    house.driver.set_event_budget(BUDGET);
    (0..=u64::from(BUDGET)).for_each(|n| house.driver.push_event(record(0x20, n)));
    house.iommus.detach(&other).unwrap();
    assert_eq!(
        (other.condition(), group.condition()),
        (Condition::Quarantined, Condition::Contained)
    );
}

#[test]
fn a_containment_without_an_answer_makes_the_group_dead() {
    let house = House::new();
    let domain = house.domain();
    let group = house.assign(2, &domain);
    house.driver.fail_after(1, DriverError::Timeout(StreamId::new(0x21)));
    storm(&house, 0x20);
    assert_eq!(group.condition(), Condition::Dead);
    house.iommus.retire(&domain, |_| true).unwrap();
    assert_eq!(house.iommus.footprint().vmids_lost, 1);
}

/// A device of a contained group keeps its ATS off: its stream aborts.
#[test]
fn a_contained_device_is_not_told_to_translate_again() {
    let house = House::new();
    let (group, device) = (house.group(2), house.group(2).devices()[0]);
    assert_eq!(house.iommus.set_device_tlb(device, true), Ok(false), "nobody granted it");
    let trusted = StreamPolicy { ats: true, ..StreamPolicy::default() };
    house.iommus.assign(&group, &house.domain(), trusted).unwrap();
    assert_eq!(house.iommus.set_device_tlb(device, false), Ok(false));
    assert_eq!(house.iommus.set_device_tlb(device, true), Ok(true));
    storm(&house, 0x20);
    assert_eq!(house.iommus.set_device_tlb(device, true), Ok(false));
}
