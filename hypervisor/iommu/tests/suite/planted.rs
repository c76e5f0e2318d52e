//! Properties that single planted faults showed no test to see.

use std::sync::{Arc, Mutex};

use crate::common::{House, device, record};
use palisade_hal::{Ipa, PhysAddr};
use palisade_iommu::fake::{Call, FakeDriver};
use palisade_iommu::{
    Condition, Error, FaultRecord, Flush, Idle, Registration, StreamPolicy, StreamState,
};
use palisade_mem::{Arena, Frames, Owner as FrameOwner, Proof, Use};

/// What is detached while an invalidation is under way is not covered by it: the ticket is from
/// before.
#[test]
fn a_flush_says_nothing_of_what_was_detached_meanwhile() {
    let arena = Arena::new(PhysAddr::new(0x8000_0000), 64);
    let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
    let house = House::new();
    house.iommus.unregister(1).unwrap();
    let agent = frames.register_agent("smmu").unwrap();
    let driver: Arc<FakeDriver> = house.driver.clone();
    let registered = house.iommus.register(Registration { phandle: 1, driver, agent });
    registered.map_err(|rejected| rejected.error).unwrap();
    let domain = house.domain();
    house.assign(1, &domain);
    let (scope, agents) = (domain.scope(), domain.agents().unwrap());
    let block = frames.alloc_zeroed(0, Use::Guest, FrameOwner::vm(0)).unwrap();
    frames.expose(&block);
    let late = Arc::new(Mutex::new(None));
    let (there, put) = (frames.clone(), late.clone());
    house.driver.meanwhile(move || {
        *put.lock().unwrap() = Some(there.detach(block, scope, agents));
    });
    let mut proof = Proof::new(scope);
    let page = Flush::Range { start: Ipa::new(0x4000_0000), size: 4096, leaf: Some(4096) };
    domain.flush(page, &mut proof).unwrap();
    let late = late.lock().unwrap().take().unwrap();
    let refused = frames.release(late, &proof).unwrap_err();
    let mut proof = Proof::new(scope);
    domain.flush(page, &mut proof).unwrap();
    frames.release(refused.0, &proof).unwrap();
}

#[test]
fn only_a_quarantine_is_released() {
    let house = House::new();
    let group = house.assign(2, &house.domain());
    let refused = |condition| Err(Error::Condition { device: group.devices()[0], condition });
    let release = || house.iommus.release(&group, Idle::Reset);
    assert_eq!(release(), refused(Condition::Assigned));
    house.iommus.detach(&group).unwrap();
    release().unwrap();
    assert_eq!(release(), refused(Condition::Free));
}

#[test]
fn a_vmid_that_the_cpus_hold_is_lost() {
    let house = House::new();
    let domain = house.domain();
    house.iommus.retire(&domain, |_| false).unwrap();
    let footprint = house.iommus.footprint();
    assert_eq!((footprint.vmids, footprint.vmids_lost), (0, 1));
    let domain = house.domain();
    house.iommus.retire(&domain, |_| true).unwrap();
    assert_eq!(house.iommus.footprint(), footprint);
}

/// A group that is given up while assigned aborts, and its owner's domain lets go.
#[test]
fn what_is_buried_aborts_and_has_left() {
    let house = House::new();
    let domain = house.domain();
    let group = house.assign(2, &domain);
    house.iommus.bury(&group);
    assert_eq!((group.condition(), domain.attached()), (Condition::Dead, 0));
    for row in house.iommus.posture().iter().filter(|row| row.devices == group.devices()) {
        assert_eq!((row.state, row.owner), (StreamState::Abort, None));
    }
}

#[test]
fn a_stall_without_an_owner_is_aborted_at_once() {
    let house = House::new();
    house.driver.push_event(FaultRecord { stall: Some(7), ..record(0x10, 0x1000) });
    house.driver.take_calls();
    house.iommus.drain(house.group(1).instance(), 64);
    assert_eq!(house.driver.take_calls(), [Call::Drain, Call::Resume(0x10, 7)]);
}

/// A second group of an IOMMU that is in the domain already brings its device TLBs along.
#[test]
fn each_groups_device_tlbs_are_flushed() {
    let house = House::new();
    let domain = house.domain();
    let trusted = StreamPolicy { ats: true, stalls: false };
    for id in [1, 2] {
        house.iommus.assign(&house.group(id), &domain, trusted).unwrap();
    }
    house.iommus.add_device(device(9, 1, &[0x90])).unwrap();
    house.assign(9, &domain);
    house.driver.take_calls();
    domain.flush(Flush::All, &mut Proof::new(domain.scope())).unwrap();
    let mut asked: Vec<u32> = house
        .driver
        .take_calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Invalidate(palisade_iommu::Invalidation::Device { stream, .. }) => {
                Some(stream.get())
            }
            _ => None,
        })
        .collect();
    asked.sort_unstable();
    assert_eq!(asked, [0x10, 0x20, 0x21, 0x22], "and of no device without ATS");
}
