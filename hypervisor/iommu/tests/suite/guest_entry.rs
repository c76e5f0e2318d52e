//! Properties of entries of the guest's own making:
//! 1. Only the owner's own streams can be configured, and only through an assigned group.
//! 2. A refused word changes nothing and is named.
//! 3. A guest's invalidations stay under its VMID.

use std::sync::Arc;

use crate::common::House;
use palisade_hal::StreamId;
use palisade_iommu::fake::Reach;
use palisade_iommu::{
    Condition, DefaultSubstream, DriverError, Error, Group, PhysicalView, Refusal, Response,
    StreamPolicy, StreamState,
};

const STREAM: StreamId = StreamId::new(0x10);

fn words(config: u64) -> [u64; 8] {
    [1 | config << 1, 0, 0, 0, 0, 0, 0, 0]
}

#[test]
fn what_a_guest_asks_for_is_mapped_and_never_copied() {
    let house = House::new();
    let group = house.assign(1, &house.domain());
    let attach = |config| house.iommus.attach_guest_entry(&group, house.owner, &words(config));
    assert_eq!(attach(0), Ok(StreamState::Abort));
    assert_eq!(attach(4), Ok(StreamState::Stage2), "bypass is stage 2, never bypass");
    assert_eq!(attach(5), Ok(StreamState::Nested));
    for config in [1, 2, 3, 6, 7] {
        let before = house.footprint();
        let refused = DriverError::Refused { word: 0, reason: Refusal::Configuration };
        assert_eq!(attach(config), Err(Error::Driver(refused)));
        assert_eq!(house.footprint(), before);
    }
}

#[test]
fn only_ones_own_streams() {
    let house = House::new();
    let group = house.assign(1, &house.domain());
    let stranger = house.iommus.owners().open(1).unwrap();
    let entry = words(4);
    let before = house.footprint();
    let attach = |group: &Group, owner| house.iommus.attach_guest_entry(group, owner, &entry);
    assert_eq!(attach(&group, stranger), Err(Error::NotOwner));
    assert_eq!(attach(&house.group(2), house.owner), Err(Error::NotOwner), "not assigned");
    let resumed = house.iommus.resume(&group, stranger, STREAM, 1, Response::Abort);
    assert_eq!(resumed, Err(Error::NotOwner));
    let resumed = house.iommus.resume(&group, house.owner, STREAM, 1, Response::Abort);
    assert_eq!(resumed, Err(Error::Mode), "its manifest allows no stalls");
    assert_eq!(house.footprint(), before);
    let stalling = house.group(3);
    let policy = StreamPolicy { ats: false, stalls: true };
    house.iommus.assign(&stalling, &house.domain(), policy).unwrap();
    let resumed = house.iommus.resume(&stalling, house.owner, STREAM, 1, Response::Abort);
    assert_eq!(resumed, Err(Error::NotOfGroup(STREAM)));
}

#[test]
fn the_two_ways_of_nesting_do_not_mix() {
    let house = House::new();
    let group = house.assign(1, &house.domain());
    house.iommus.attach_guest_entry(&group, house.owner, &words(5)).unwrap();
    let enable = || {
        let view = Arc::new(PhysicalView);
        house.iommus.enable_contexts(&group, house.owner, 4, DefaultSubstream::Zero, view)
    };
    assert_eq!(enable().err(), Some(Error::Mode));
    house.iommus.disable_nesting(&group, house.owner).unwrap();
    enable().unwrap();
    assert_eq!(house.iommus.attach_guest_entry(&group, house.owner, &words(5)), Err(Error::Mode));
}

#[test]
fn a_guests_invalidations_stay_under_its_own_vmid() {
    let house = House::new();
    let mine = house.assign(1, &house.domain());
    let theirs = house.assign(2, &house.domain_at(0x5000_0000));
    let _ = theirs;
    house.iommus.attach_guest_entry(&mine, house.owner, &words(4)).unwrap();
    house.driver.transaction(STREAM, None);
    house.driver.transaction(StreamId::new(0x20), None);
    assert_eq!(house.driver.cached().len(), 2);
    let map = |virtual_stream, nth| (virtual_stream == 0 && nth == 0).then_some(STREAM);
    // NSNH_ALL from the guest's mouth.
    let all = [[0x30, 0], [0x05, 0]];
    assert_eq!(house.iommus.guest_invalidate(&mine, house.owner, &map, &all), Ok(2));
    assert_eq!(house.driver.cached().len(), 1, "the other VM's entries are not its business");
    // Another's stream, or another's opcode, ends the batch there.
    let bad = [[0x11, 0], [0x05 | 7 << 32, 0], [0x11, 0]];
    let refused = DriverError::Refused { word: 0, reason: Refusal::Stream };
    assert_eq!(
        house.iommus.guest_invalidate(&mine, house.owner, &map, &bad),
        Err((1, Error::Driver(refused)))
    );
    // SYNC, RESUME, TLBI_EL2_ALL and everything unknown are no commands of a guest.
    for opcode in [0x46, 0x44, 0x20, 0xff] {
        let answer = house.iommus.guest_invalidate(&mine, house.owner, &map, &[[opcode, 0]]);
        assert!(matches!(answer, Err((0, Error::Driver(DriverError::Refused { .. })))));
    }
}

#[test]
fn detaching_ends_a_guests_configuration() {
    let house = House::new();
    let group = house.assign(1, &house.domain());
    house.iommus.attach_guest_entry(&group, house.owner, &words(5)).unwrap();
    house.iommus.detach(&group).unwrap();
    assert_eq!(house.driver.transaction(STREAM, None), Reach::Aborted);
    assert_eq!(
        house.iommus.attach_guest_entry(&group, house.owner, &words(5)),
        Err(Error::NotOwner)
    );
    let _ = StreamPolicy::default();
}

/// A group of three streams: an entry is everybody's or nobody's, whatever was in force before.
#[test]
fn every_failing_step_of_a_guests_entry_leaves_every_stream_as_it_was() {
    for (before, now) in [(None, 5), (Some(4), 5), (Some(5), 0), (Some(0), 4)] {
        let house = House::new();
        let domain = house.domain();
        let group = house.assign(2, &domain);
        let attach = |config| house.iommus.attach_guest_entry(&group, house.owner, &words(config));
        if let Some(config) = before {
            attach(config).unwrap();
        }
        let footprint = house.footprint();
        let mut k = 0;
        let state = loop {
            house.driver.fail_after(k, DriverError::NoMemory);
            match attach(now) {
                Ok(state) => break state,
                Err(error) => assert_eq!(error, Error::Driver(DriverError::NoMemory)),
            }
            assert_eq!(house.footprint(), footprint, "{before:?} to {now}, step {k}");
            assert_eq!(group.condition(), Condition::Assigned, "step {k}");
            k += 1;
        };
        assert_eq!(k, 3, "one entry per stream");
        house.driver.disarm();
        for row in house.iommus.posture().iter().filter(|row| row.devices == group.devices()) {
            assert_eq!(row.state, state);
        }
        // Where one does not answer, forth or back, none is left behind.
        house.driver.fail_after(1, DriverError::Timeout(StreamId::new(0x21)));
        assert!(attach(4).is_err());
        assert_eq!(group.condition(), Condition::Dead);
        assert!(house.iommus.posture().iter().all(|row| row.state == StreamState::Abort));
        house.iommus.retire(&domain, |_| true).unwrap();
        assert_eq!(house.iommus.footprint().vmids_lost, 1);
    }
}
