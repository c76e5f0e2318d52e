//! Properties of a write of one entry for a group of several streams that fails in the middle: the
//! streams before the failing one translated for a while.
//! 1. The new ASID is invalidated before it is free.
//! 2. Where the way back, or that invalidation, fails too, the ASID is lost, the entry is never
//!    used again, and the caller hears of it.

use crate::common::Shared;
use crate::common::process::TestProcess;
use palisade_hal::{Asid, SubstreamId};
use palisade_iommu::pasid::PasidError;
use palisade_iommu::sva::{AddressSpace, bind, rebind};
use palisade_iommu::{DriverError, StreamPolicy};

const ONE: SubstreamId = SubstreamId::new(1);
const TWO: SubstreamId = SubstreamId::new(2);
const ERROR: DriverError = DriverError::InvalidationTimeout;

/// Entries of device 2 (three streams), whose devices use every context at once.
fn busy() -> Shared {
    let shared = Shared::with(StreamPolicy::default(), 8);
    for substream in [ONE, TWO] {
        shared.space.prepare(shared.table, substream).unwrap();
    }
    shared.house.driver.keep_devices_busy();
    shared
}

impl Shared {
    fn is_cached(&self, asid: u16) -> bool {
        self.house.driver.cached().iter().any(|cached| cached.asid == Some(asid))
    }

    fn lost(&self) -> u32 {
        self.space.footprint().asids_lost
    }
}

fn private(shared: &Shared, substream: SubstreamId) -> Result<(), PasidError> {
    let space = AddressSpace { table: 0x9000, tcr: 25, mair: 0xff, stalls: false };
    shared.space.write_private(shared.table, substream, &space)
}

#[test]
fn a_binding_that_fails_in_the_middle_leaves_nothing_cached() {
    for k in 0..3 {
        let shared = busy();
        let process = TestProcess::new(1, 40);
        shared.house.driver.fail_after(k, ERROR);
        assert!(bind(&shared.space, shared.table, ONE, &process.shared()).is_err());
        assert!(!shared.is_cached(40), "step {k}");
        let next = TestProcess::new(2, 40);
        let _bond = bind(&shared.space, shared.table, ONE, &next.shared()).unwrap();
        assert_eq!(shared.house.driver.core_faults(), Vec::<String>::new(), "step {k}");
        assert_eq!(shared.lost(), 0);
    }
}

#[test]
fn a_rebinding_that_fails_in_the_middle_leaves_nothing_cached() {
    // Three writes and an invalidation to park; then three writes.
    for k in 4..7 {
        let shared = busy();
        let (a, b) = (TestProcess::new(1, 40), TestProcess::new(2, 41));
        let bond = bind(&shared.space, shared.table, ONE, &a.shared()).unwrap();
        shared.house.driver.fail_after(k, ERROR);
        assert!(rebind(&shared.space, bond, &b.shared()).is_err());
        assert!(!shared.is_cached(41), "step {k}");
        let next = TestProcess::new(3, 41);
        let _bond = bind(&shared.space, shared.table, TWO, &next.shared()).unwrap();
        assert_eq!(shared.house.driver.core_faults(), Vec::<String>::new(), "step {k}");
        assert_eq!(shared.lost(), 0);
    }
}

#[test]
fn a_private_write_that_fails_in_the_middle_leaves_nothing_cached() {
    for k in 0..3 {
        let shared = busy();
        shared.house.driver.fail_after(k, ERROR);
        assert!(private(&shared, ONE).is_err());
        assert_eq!(shared.house.driver.cached(), [], "step {k}");
        assert_eq!((shared.space.footprint().asids, shared.lost()), (0, 0));
    }
}

/// Sharing the ASID that a private entry wears moves that entry to a fresh one, which is the one
/// that a failure in the middle leaves live.
#[test]
fn a_move_that_fails_in_the_middle_leaves_nothing_cached() {
    for k in 0..3 {
        let shared = busy();
        private(&shared, ONE).unwrap();
        let worn = shared.house.driver.cached()[0].asid.unwrap();
        let process = TestProcess::new(1, worn);
        shared.house.driver.fail_after(k, ERROR);
        assert!(shared.space.alloc_shared(shared.table, &process.shared()).is_err());
        let cached = shared.house.driver.cached();
        assert!(cached.iter().all(|cached| cached.asid == Some(worn)), "step {k}: {cached:?}");
        assert_eq!((shared.space.footprint().asids, shared.lost()), (1, 0), "step {k}");
    }
}

/// The write fails at the second stream; then the way back of the first, or the invalidation.
#[test]
fn a_way_back_that_fails_costs_the_asid_and_the_entry() {
    for also in [2, 3] {
        let shared = busy();
        let process = TestProcess::new(1, 40);
        shared.house.driver.fail_at(&[1, also], ERROR);
        let bound = bind(&shared.space, shared.table, ONE, &process.shared());
        assert_eq!(bound.err(), Some(PasidError::Driver(ERROR)));
        assert!(!shared.house.driver.disarm(), "both failed");
        assert_eq!((shared.space.footprint().asids, shared.lost()), (0, 1), "call {also}");
        let next = TestProcess::new(2, 40);
        let refused = bind(&shared.space, shared.table, TWO, &next.shared());
        assert_eq!(refused.err(), Some(PasidError::BadAsid(Asid::new(40))));
        let other = TestProcess::new(3, 41);
        let refused = bind(&shared.space, shared.table, ONE, &other.shared());
        assert_eq!(refused.err(), Some(PasidError::Bound(ONE)), "nobody knows what it holds");
        assert_eq!((shared.space.footprint().bound, shared.space.footprint().stuck), (0, 1));
        assert_eq!(shared.space.free_table(shared.table), Err(PasidError::TableInUse));

        let shared = busy();
        shared.house.driver.fail_at(&[1, also], ERROR);
        assert!(private(&shared, ONE).is_err());
        assert_eq!((shared.space.footprint().asids, shared.lost()), (0, 1), "call {also}");

        let shared = busy();
        private(&shared, ONE).unwrap();
        let worn = shared.house.driver.cached()[0].asid.unwrap();
        let process = TestProcess::new(1, worn);
        shared.house.driver.fail_at(&[1, also], ERROR);
        assert!(shared.space.alloc_shared(shared.table, &process.shared()).is_err());
        assert_eq!((shared.space.footprint().asids, shared.lost()), (1, 1), "call {also}");
    }
}

/// What is told of a rebinding whose way back fails is that.
#[test]
fn a_rebinding_that_can_go_neither_way_says_so() {
    let shared = busy();
    let (a, b) = (TestProcess::new(1, 40), TestProcess::new(2, 41));
    let bond = bind(&shared.space, shared.table, ONE, &a.shared()).unwrap();
    // Parked (4 calls); a stream takes the new process (5), the next does not (6, fails); undone
    // (7, 8); and the way back to the old process fails at its first stream (9).
    b.exit().unwrap();
    let (bond, error) = rebind(&shared.space, bond, &b.shared()).err().unwrap();
    assert_eq!(error, PasidError::NoProcess, "refused before anything is touched");
    let c = TestProcess::new(3, 42);
    shared.house.driver.fail_at(&[5, 8], ERROR);
    let (_, error) = rebind(&shared.space, bond, &c.shared()).err().unwrap();
    assert_eq!(error, PasidError::Driver(ERROR));
    assert!(!shared.house.driver.disarm(), "both failed");
    assert!(!shared.is_cached(42) && !shared.is_cached(40));
}
