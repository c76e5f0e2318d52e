//! The order of locks, where a view of the VM takes part: its map comes before a group's lock, a
//! domain's and a driver's. The fake lock panics where a wait would be in the wrong order.

use std::sync::Arc;

use crate::common::{House, Shared};
use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{Ipa, PhysAddr, StreamId, SubstreamId};
use palisade_iommu::{
    ContextView, DefaultSubstream, Domain, DriverError, Flush, StreamPolicy, StreamState,
};
use palisade_mem::Proof;

/// As a VM's memory: takes its map, and flushes what it withdraws under it.
struct Map {
    map: Mutex<()>,
    domain: Arc<Domain>,
}

impl ContextView for Map {
    fn publish(&self, pa: PhysAddr, _: usize, _: usize) -> Result<u64, DriverError> {
        let _map = self.map.lock();
        Ok(pa.get())
    }

    fn withdraw(&self, fetch: u64, bytes: usize) -> Result<(), DriverError> {
        let _map = self.map.lock();
        let what = Flush::Range { start: Ipa::new(fetch), size: bytes as u64, leaf: Some(4096) };
        self.domain
            .flush(what, &mut Proof::new(self.domain.scope()))
            .map_err(|_| DriverError::InvalidationTimeout)
    }
}

const TRUSTED: StreamPolicy = StreamPolicy { ats: true, stalls: false };

#[test]
fn a_view_is_asked_with_no_groups_lock_held() {
    let house = House::new();
    let domain = house.domain();
    let group = house.group(2);
    house.iommus.assign(&group, &domain, TRUSTED).unwrap();
    let view = || Arc::new(Map { map: Mutex::new(Rank::VmMap, ()), domain: domain.clone() });
    let enable =
        || house.iommus.enable_contexts(&group, house.owner, 6, DefaultSubstream::Zero, view());
    // Forth, back after a failure of every step, and back as asked.
    for k in 0..6 {
        house.driver.fail_after(k, DriverError::NoMemory);
        assert!(enable().is_err(), "step {k}");
    }
    assert_eq!(house.driver.context_tables(), 0);
    enable().unwrap();
    house.iommus.disable_nesting(&group, house.owner).unwrap();
    let store = enable().unwrap();
    let space = palisade_iommu::pasid::Space::new(16, 4);
    let table = space.alloc_table(Arc::new(store));
    space.prepare(table, SubstreamId::new(1)).unwrap();
    house.iommus.detach(&group).unwrap();
    assert_eq!(house.driver.context_tables(), 0);
}

/// A VM's map is held while its domain is flushed, device TLBs included.
#[test]
fn a_flush_goes_down_from_the_map() {
    let shared = Shared::with(TRUSTED, 16);
    let map = Mutex::new(Rank::VmMap, ());
    let _held = map.lock();
    shared.domain.flush(Flush::All, &mut Proof::new(shared.domain.scope())).unwrap();
}

/// While a detach gives the tables back, with no lock held, the group is nobody's to use; and who
/// asks for tables meanwhile gets none.
#[test]
fn a_group_whose_tables_are_going_is_nobodys() {
    struct Asking<'h>(&'h House, std::sync::Mutex<Vec<String>>);
    impl ContextView for Asking<'_> {
        fn publish(&self, pa: PhysAddr, _: usize, _: usize) -> Result<u64, DriverError> {
            Ok(pa.get())
        }
        fn withdraw(&self, _: u64, _: usize) -> Result<(), DriverError> {
            let (house, mut said) = (self.0, self.1.lock().unwrap());
            let group = house.group(2);
            let iommus = &house.iommus;
            let mut note = |what: &str, refused: bool| {
                if !refused {
                    said.push(what.into());
                }
            };
            let other = house.domain_at(0x7000_0000);
            note("assign", iommus.assign(&group, &other, TRUSTED).is_err());
            note("detach", iommus.detach(&group).is_err());
            note("release", iommus.release(&group, palisade_iommu::Idle::Reset).is_err());
            let view = Arc::new(palisade_iommu::PhysicalView);
            let zero = DefaultSubstream::Zero;
            let enabled = iommus.enable_contexts(&group, house.owner, 6, zero, view);
            note("enable", enabled.is_err());
            iommus.retire(&other, |_| true).unwrap();
            Ok(())
        }
    }
    let house: &'static House = Box::leak(Box::new(House::new()));
    let domain = house.domain();
    let group = house.group(2);
    house.iommus.assign(&group, &domain, TRUSTED).unwrap();
    let view = Arc::new(Asking(house, std::sync::Mutex::default()));
    let zero = DefaultSubstream::Zero;
    house.iommus.enable_contexts(&group, house.owner, 6, zero, view.clone()).unwrap();
    house.iommus.detach(&group).unwrap();
    assert_eq!(*view.1.lock().unwrap(), Vec::<String>::new());
    for stream in [0x20, 0x21, 0x22] {
        let state =
            palisade_iommu::IommuDriver::stream_state(&*house.driver, StreamId::new(stream));
        assert_eq!(state, StreamState::Abort);
    }
}
