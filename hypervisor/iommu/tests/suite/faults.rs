//! Properties of the way of a fault:
//! 1. It is charged to the owner at the time, or to nobody; never to the next owner.
//! 2. A handle of a VM that has gone matches nothing.
//! 3. Logs are bounded, what is lost is counted.

use crate::common::{House, record};
use palisade_iommu::{Error, Idle, LOG_CAPACITY, StreamPolicy};

#[test]
fn a_fault_still_queued_at_detach_is_the_old_owners() {
    let house = House::new();
    let group = house.assign(1, &house.domain());
    house.driver.push_event(record(0x10, 0xdead_0000));
    // Nobody has drained the queue when the device is taken back and given to another VM.
    house.iommus.detach(&group).unwrap();
    house.iommus.release(&group, Idle::Reset).unwrap();
    let next = house.iommus.owners().open(1).unwrap();
    let theirs =
        house.iommus.paging_domain(next, palisade_hal::PhysAddr::new(0x5000_0000), 0).unwrap();
    house.iommus.assign(&group, &theirs, StreamPolicy::default()).unwrap();
    house.iommus.drain(group.instance(), 64);

    let mut old = Vec::new();
    house.iommus.owners().take(house.owner, &mut |fault| old.push(*fault));
    assert_eq!(old.len(), 1);
    assert_eq!(old[0].record.address, 0xdead_0000);
    assert_eq!(old[0].owner, Some(house.owner));
    assert_eq!(house.iommus.owners().take(next, &mut |_| panic!("not theirs")), 0);
}

#[test]
fn a_stale_handle_matches_nothing() {
    let house = House::new();
    let group = house.assign(1, &house.domain());
    house.driver.push_event(record(0x10, 0x1000));
    house.iommus.owners().close(house.owner).unwrap();
    let successor = house.iommus.owners().open(0).unwrap();
    assert_ne!(successor, house.owner);
    house.iommus.drain(group.instance(), 64);
    house.iommus.owners().take(successor, &mut |_| panic!("a predecessor's fault"));
    house.iommus.owners().take(house.owner, &mut |_| panic!("it has gone"));
    assert_eq!(house.iommus.owners().close(house.owner), Err(Error::StaleOwner));
    // The operator sees it, charged to nobody.
    let mut seen = Vec::new();
    house.iommus.take_operator_faults(&mut |fault| seen.push(*fault));
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].owner, seen[0].device.map(|d| d.get())), (None, Some(1)));
}

#[test]
fn a_stream_without_a_device_is_reported_to_the_operator() {
    let house = House::new();
    house.driver.push_event(record(0x999, 0x1000));
    house.iommus.drain(house.group(1).instance(), 64);
    let mut seen = Vec::new();
    house.iommus.take_operator_faults(&mut |fault| seen.push(*fault));
    assert_eq!((seen[0].owner, seen[0].device), (None, None));
}

#[test]
fn logs_are_bounded_and_losses_counted() {
    let house = House::new();
    let group = house.assign(1, &house.domain());
    for n in 0..LOG_CAPACITY as u64 + 10 {
        house.driver.push_event(record(0x10, n));
    }
    let drained = house.iommus.drain(group.instance(), 1000);
    assert_eq!((drained.records, drained.more), (LOG_CAPACITY + 10, false));
    let mut addresses = Vec::new();
    let lost =
        house.iommus.owners().take(house.owner, &mut |fault| addresses.push(fault.record.address));
    assert_eq!(lost, 10);
    assert!(addresses.into_iter().eq(0..LOG_CAPACITY as u64), "the first are kept, in order");
    assert_eq!(house.iommus.owners().take(house.owner, &mut |_| {}), 0, "counted once");
}

#[test]
fn draining_keeps_its_budget() {
    let house = House::new();
    for n in 0..5 {
        house.driver.push_event(record(0x10, n));
    }
    let drained = house.iommus.drain(house.group(1).instance(), 3);
    assert_eq!((drained.records, drained.more), (3, true));
}
