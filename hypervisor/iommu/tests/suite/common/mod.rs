//! What the tests of this crate share.

pub mod process;

use std::sync::Arc;

use palisade_hal::{PhysAddr, StreamId};
use palisade_iommu::fake::{self, FakeDriver, Snapshot};
use palisade_iommu::pasid::{Space, SpaceFootprint, TableId};
use palisade_iommu::{
    Access, DefaultSubstream, DeviceId, DeviceInfo, Domain, FaultClass, FaultKind, FaultRecord,
    Footprint, Group, Iommus, Owner, PhysicalView, StreamPolicy,
};

pub fn record(stream: u32, address: u64) -> FaultRecord {
    FaultRecord {
        kind: FaultKind::Translation,
        stream: StreamId::new(stream),
        substream: None,
        access: Access { write: true, ..Access::default() },
        class: FaultClass::Input,
        stage2: true,
        stall: None,
        address,
        ipa: address,
        raw: [0x10, 0, address, 0],
    }
}

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

/// A house whose device 2 (three streams) and device 1 share address spaces of one VM.
pub struct Shared {
    pub house: House,
    pub domain: Arc<Domain>,
    pub space: Arc<Space>,
    pub table: TableId,
    pub other: TableId,
}

impl Shared {
    pub fn new() -> Self {
        Self::with(StreamPolicy::default(), 16)
    }

    pub fn with(policy: StreamPolicy, asid_bits: u8) -> Self {
        let house = House::new();
        let domain = house.domain();
        let space = Space::new(asid_bits, 64);
        let table = |id| {
            let group = house.group(id);
            house.iommus.assign(&group, &domain, policy).unwrap();
            let store = house
                .iommus
                .enable_contexts(
                    &group,
                    house.owner,
                    6,
                    DefaultSubstream::Zero,
                    Arc::new(PhysicalView),
                )
                .unwrap();
            space.alloc_table(Arc::new(store))
        };
        let (table, other) = (table(2), table(1));
        house.driver.take_calls();
        Self { house, domain, space, table, other }
    }

    pub fn footprint(&self) -> (SpaceFootprint, Footprint, Snapshot) {
        let (iommus, memory) = self.house.footprint();
        (self.space.footprint(), iommus, memory)
    }
}
