//! Properties of the registry:
//! 1. A conflicting registration is refused before anything is touched.
//! 2. Whatever step of a registration fails, everything is as before, and trying again works.
//! 3. Other instances' devices are never touched.
//! 4. Probing again claims nothing twice; unregistering releases exactly one's own.
//! 5. Groups do not depend on the order of announcement.
//! 6. Without an instance every question has a typed answer.

use crate::common::{House, device};
use palisade_hal::{PhysAddr, StreamId};
use palisade_iommu::fake::{Call, FakeDriver, agent, registration};
use palisade_iommu::{
    Condition, DeviceId, DeviceInfo, DriverError, Error, Footprint, Iommus, Resource, StreamPolicy,
};

#[test]
fn a_conflicting_registration_touches_nothing() {
    let house = House::new();
    let before = house.footprint();
    let other = FakeDriver::new();
    let rejected = house.iommus.register(registration(1, other.clone())).err().unwrap();
    assert_eq!(rejected.error, Error::Conflict(1));
    assert_eq!(rejected.registration.phandle, 1, "what was given comes back");
    assert!(other.take_calls().is_empty(), "refused before the first probe");
    assert_eq!(house.footprint(), before);
}

#[test]
fn every_failing_step_of_a_registration_leaves_the_footprint_as_it_was() {
    let house = House::new();
    for id in 0..4 {
        house.iommus.add_device(device(20 + id, 2, &[0x100 + id, 0x200 + id / 2])).unwrap();
    }
    let before = house.footprint();
    let mut pending = registration(2, FakeDriver::new());
    // Without memory, and without an answer to a command.
    for error in [DriverError::NoMemory, DriverError::InvalidationTimeout, DriverError::Dead] {
        for k in 0..6 {
            let driver = FakeDriver::new();
            driver.fail_after(k, error);
            pending.driver = driver;
            let rejected = house.iommus.register(pending).err().unwrap();
            assert_eq!(rejected.error, Error::Driver(error));
            assert_eq!(house.footprint(), before, "after step {k}: {error}");
            assert!(matches!(
                house.iommus.group_of(DeviceId::new(20)),
                Err(Error::NotReady { phandle: 2, .. })
            ));
            pending = rejected.registration;
        }
    }
    let driver = FakeDriver::new();
    pending.driver = driver.clone();
    house.iommus.register(pending).map_err(|rejected| rejected.error).unwrap();
    assert_eq!(driver.take_calls().len(), 6, "one step per stream, shared ones once");
    let after = house.iommus.footprint();
    assert_eq!((after.claimed, after.groups, after.routes), (8, 3 + 2, 6 + 6));
}

#[test]
fn another_instances_devices_stay_where_they_are() {
    let house = House::new();
    let domain = house.domain();
    house.assign(1, &domain);
    house.iommus.add_device(device(9, 2, &[0x10])).unwrap();
    let driver = FakeDriver::new();
    driver.fail_after(0, DriverError::Dead);
    assert!(house.iommus.register(registration(2, driver)).is_err());
    assert_eq!(house.group(1).condition(), Condition::Assigned);
    // The same StreamID behind another instance is another stream.
    house.iommus.register(registration(2, FakeDriver::new())).map_err(|r| r.error).unwrap();
    assert_eq!(house.group(9).condition(), Condition::Free);
    assert_eq!(house.iommus.unregister(2), Ok(1));
    assert_eq!(house.group(1).condition(), Condition::Assigned);
    assert!(matches!(
        house.iommus.group_of(DeviceId::new(9)),
        Err(Error::NotReady { phandle: 2, .. })
    ));
}

#[test]
fn probing_is_replayable_and_unregistering_exact() {
    let house = House::new();
    house.driver.take_calls();
    // A device that comes later is probed alone; those claimed before are not asked again.
    house.iommus.add_device(device(7, 1, &[0x70])).unwrap();
    assert_eq!(house.driver.take_calls(), [Call::Prepare(0x70)]);
    assert_eq!(
        house.iommus.add_device(device(7, 1, &[0x71])),
        Err(Error::DuplicateDevice(DeviceId::new(7)))
    );
    assert_eq!(house.iommus.unregister(1), Ok(5));
    assert_eq!(house.iommus.footprint(), Footprint::default());
    assert_eq!(house.iommus.unregister(1), Err(Error::UnknownInstance(1)));
    house
        .iommus
        .register(registration(1, house.driver.clone()))
        .map_err(|rejected| rejected.error)
        .unwrap();
    assert_eq!(house.iommus.footprint().claimed, 5, "the probe can be replayed");
}

#[test]
fn an_instance_in_use_is_not_unregistered() {
    let house = House::new();
    let domain = house.domain();
    let group = house.assign(1, &domain);
    let in_use = Err(Error::InUse { phandle: 1, device: DeviceId::new(1) });
    assert_eq!(house.iommus.unregister(1), in_use);
    house.iommus.detach(&group).unwrap();
    // A quarantine cannot be escaped by registering anew.
    assert_eq!(house.iommus.unregister(1), in_use);
    house.iommus.release(&group, palisade_iommu::Idle::Reset).unwrap();
    assert_eq!(house.iommus.unregister(1), Ok(4));
}

#[test]
fn a_failing_late_device_is_as_unknown_as_before() {
    let house = House::new();
    let before = house.footprint();
    house.driver.fail_after(1, DriverError::NoMemory);
    assert!(house.iommus.add_device(device(7, 1, &[0x30, 0x70, 0x71])).is_err());
    assert_eq!(house.footprint(), before);
    assert_eq!(house.group(3).streams().len(), 2, "the group it would have joined is as it was");
    assert_eq!(
        house.iommus.group_of(DeviceId::new(7)).err(),
        Some(Error::UnknownDevice(DeviceId::new(7)))
    );
}

#[test]
fn groups_do_not_depend_on_the_order_of_announcement() {
    // 1 and 2 are apart until 3 ties them together; 4 is tied to 5 by the bus alone.
    let devices = [
        device(1, 1, &[0x10]),
        device(2, 1, &[0x20]),
        device(3, 1, &[0x10, 0x20]),
        DeviceInfo { isolation: Some(7), ..device(4, 1, &[0x40]) },
        DeviceInfo { isolation: Some(7), ..device(5, 1, &[0x50]) },
        device(6, 1, &[0x60]),
    ];
    for rotation in 0..devices.len() {
        let iommus = Iommus::new(1, 16);
        for device in devices.iter().cycle().skip(rotation).take(devices.len()) {
            iommus.add_device(device.clone()).unwrap();
        }
        iommus.register(registration(1, FakeDriver::new())).map_err(|r| r.error).unwrap();
        let members = |id| {
            let mut ids: Vec<u32> = iommus
                .group_of(DeviceId::new(id))
                .unwrap()
                .devices()
                .into_iter()
                .map(DeviceId::get)
                .collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(members(2), [1, 2, 3], "rotation {rotation}");
        assert_eq!(members(5), [4, 5], "rotation {rotation}");
        assert_eq!(members(6), [6], "rotation {rotation}");
    }
}

#[test]
fn a_late_device_never_ties_used_groups_together() {
    let house = House::new();
    let before = house.footprint();
    let tangled = Err(Error::Tangled(DeviceId::new(8)));
    assert_eq!(house.iommus.add_device(device(8, 1, &[0x10, 0x20])), tangled);
    let domain = house.domain();
    house.assign(1, &domain);
    assert_eq!(house.iommus.add_device(device(8, 1, &[0x10, 0x80])), tangled);
    assert_eq!(house.iommus.footprint().groups, before.0.groups);
}

#[test]
fn without_an_instance_every_answer_is_typed() {
    let iommus = Iommus::new(1, 16);
    let (lone, waiting) = (DeviceId::new(1), DeviceId::new(2));
    iommus.add_device(DeviceInfo { iommu: None, ..device(1, 0, &[]) }).unwrap();
    iommus.add_device(device(2, 5, &[0x20])).unwrap();
    assert_eq!(iommus.group_of(lone).err(), Some(Error::NoIommu(lone)));
    assert_eq!(
        iommus.group_of(waiting).err(),
        Some(Error::NotReady { device: waiting, phandle: 5 })
    );
    // VMs still get VMIDs for their CPUs.
    let owner = iommus.owners().open(0).unwrap();
    let domain = iommus.paging_domain(owner, PhysAddr::new(0x1000), 0).unwrap();
    assert_eq!(domain.agents(), None);
    iommus.retire(&domain, |_| true).unwrap();
    assert_eq!(iommus.footprint(), Footprint::default());
    let _ = agent("unused");
    assert!(iommus.posture().is_empty());
    let _ = (StreamId::new(0), StreamPolicy::default());
}

#[test]
fn different_drivers_and_widths_live_side_by_side() {
    let house = House::new();
    let narrow = palisade_iommu::Capabilities {
        vmid_bits: 8,
        ..palisade_iommu::IommuDriver::capabilities(&*house.driver)
    };
    house
        .iommus
        .register(registration(2, FakeDriver::with(narrow)))
        .map_err(|rejected| rejected.error)
        .unwrap();
    // Every VMID that is given out fits every instance.
    for _ in 0..255 {
        assert!(house.domain().vmid().unwrap().get() <= 255);
    }
    assert_eq!(
        house.iommus.paging_domain(house.owner, PhysAddr::new(0x1000), 0).err(),
        Some(Error::Exhausted(Resource::Vmid))
    );
}
