//! What the tests of this crate share.
#![allow(missing_docs)]
#![allow(unused)]

use std::sync::Arc;

use palisade_hal::{PhysAddr, StreamId};
use palisade_iommu::fake::{self, FakeDriver, Snapshot};
use palisade_iommu::{
    DeviceId, DeviceInfo, Domain, Footprint, Group, Iommus, Owner, Registration, StreamPolicy,
};

pub fn device(id: u32, phandle: u32, streams: &[u32]) -> DeviceInfo {
    DeviceInfo {
        id: DeviceId::new(id),
        name: format!("dev{id}"),
        iommu: Some(phandle),
        streams: streams.iter().copied().map(StreamId::new).collect(),
        isolation: None,
    }
}

/// One IOMMU (phandle 1), and devices 1, 2 (apart) and 3+4 (sharing stream 0x30).
pub struct House {
    pub iommus: Iommus,
    pub driver: Arc<FakeDriver>,
    pub owner: Owner,
}

impl House {
    pub fn new() -> Self {
        Self::with(FakeDriver::new())
    }

    pub fn with(driver: Arc<FakeDriver>) -> Self {
        let iommus = Iommus::new(4, 16);
        iommus.add_device(device(1, 1, &[0x10])).unwrap();
        iommus.add_device(device(2, 1, &[0x20, 0x21, 0x22])).unwrap();
        iommus.add_device(device(3, 1, &[0x30])).unwrap();
        iommus.add_device(device(4, 1, &[0x31, 0x30])).unwrap();
        iommus
            .register(fake::registration(1, driver.clone()))
            .map_err(|rejected| rejected.error)
            .unwrap();
        let owner = iommus.owners().open(0).unwrap();
        driver.take_calls();
        Self { iommus, driver, owner }
    }

    pub fn group(&self, id: u32) -> Arc<Group> {
        self.iommus.group_of(DeviceId::new(id)).unwrap()
    }

    pub fn domain(&self) -> Arc<Domain> {
        self.domain_at(0x4000_0000)
    }

    pub fn domain_at(&self, table: u64) -> Arc<Domain> {
        self.iommus.paging_domain(self.owner, PhysAddr::new(table), 0x8059).unwrap()
    }

    pub fn footprint(&self) -> (Footprint, Snapshot) {
        (self.iommus.footprint(), self.driver.snapshot())
    }

    pub fn assign(&self, id: u32, domain: &Arc<Domain>) -> Arc<Group> {
        let group = self.group(id);
        self.iommus.assign(&group, domain, StreamPolicy::default()).unwrap();
        group
    }
}
