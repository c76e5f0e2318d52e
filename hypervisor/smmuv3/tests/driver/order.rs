//! What is read of a queue is read before it is given back (§3.5.2): the barriers, seen.

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;

use palisade_hal::Vmid;
use palisade_hal::fake::{Barrier, Observer, Op, observe};
use palisade_iommu::{Invalidation, IommuDriver};
use palisade_smmuv3::IdRegisters;

use crate::fake::{
    EVENTQ_BASE, EVENTQ_CONS, EVENTQ_PROD, Fake, PRIQ_BASE, PRIQ_CONS, PRIQ_PROD, QEMU, bare,
    options, stream,
};

/// How many register accesses there were at each barrier that orders loads.
struct Loads {
    fake: Arc<Fake>,
    at: RefCell<Vec<usize>>,
}

impl Observer for Loads {
    fn observe(&self, op: Op, _: &'static Location<'static>) {
        if matches!(op, Op::Barrier(Barrier::DmbOshld)) {
            self.at.borrow_mut().push(self.fake.state().accesses.len());
        }
    }
}

const PRI: IdRegisters =
    IdRegisters { idr0: QEMU.idr0 | 1 << 16, idr1: QEMU.idr1 | 8 << 11, ..QEMU };

/// The write of a CONS register comes after a barrier, and that after the last load of an entry:
/// each load has one of its own before it, and the one more is the one that counts.
#[test]
fn entries_are_read_before_they_are_given_back() {
    for (base, prod, cons, entry) in [
        (EVENTQ_BASE, EVENTQ_PROD, EVENTQ_CONS, &[8 << 32 | 0x10, 0, 0, 0][..]),
        (PRIQ_BASE, PRIQ_PROD, PRIQ_CONS, &[8, 0][..]),
    ] {
        let bench = bare(PRI).bring_up(options());
        for _ in 0..3 {
            bench.fake.produce(base, prod, entry);
        }
        let loads = Rc::new(Loads { fake: bench.fake.clone(), at: RefCell::default() });
        observe(loads.clone(), || bench.smmu.drain_events(&mut |_| {}, 10));
        let accesses = bench.fake.state().accesses.clone();
        let write = accesses.iter().position(|&(write, at, _)| write && at == cons).unwrap();
        let before = loads.at.take().into_iter().filter(|&at| at == write).count();
        assert_eq!(before, 3 + 1, "one for each entry, and one between the last and CONS");
    }
}

/// What a completed CMD_SYNC made visible is read after CONS was.
#[test]
fn a_polled_completion_orders_what_follows() {
    let bench = bare(QEMU).bring_up(options());
    let loads = Rc::new(Loads { fake: bench.fake.clone(), at: RefCell::default() });
    observe(loads.clone(), || {
        bench.smmu.invalidate(&[Invalidation::Vmid(Vmid::new(1))]).unwrap();
    });
    let accesses = bench.fake.state().accesses.clone();
    let read = accesses.iter().rposition(|&(write, at, _)| !write && at == 0x9c).unwrap();
    assert!(loads.at.take().contains(&(read + 1)));
    assert!(bench.smmu.stream_state(stream(1)) == palisade_iommu::StreamState::Abort);
}
