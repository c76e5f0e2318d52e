//! An SMMU that does not see the caches is given what was written by a clean, and nothing more.

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;

use palisade_hal::fake::{Observer, Op, observe};
use palisade_hal::{SubstreamId, Vmid};
use palisade_iommu::{DriverError, Invalidation, IommuDriver, PhysicalView, StreamPolicy};
use palisade_smmuv3::{IdRegisters, Options};

use crate::fake::{Bench, EVENTQ_BASE, EVENTQ_PROD, Fault, QEMU, bare, options, stage_two, stream};

/// Bytes cleaned by the driver itself, and barriers between its stores and what follows.
#[derive(Default)]
struct Cleans(RefCell<Vec<usize>>);

impl Observer for Cleans {
    fn observe(&self, op: Op, site: &'static Location<'static>) {
        if let Op::Clean { bytes, .. } = op
            && site.file().contains("smmuv3")
        {
            self.0.borrow_mut().push(bytes);
        }
    }
}

fn cleaned(id: IdRegisters, options: Options) -> Vec<usize> {
    let bench = bare(id).bring_up(options);
    let device = stream(3);
    bench.smmu.prepare(device).unwrap();
    let cleans = Rc::new(Cleans::default());
    observe(cleans.clone(), || {
        bench.smmu.attach(device, &stage_two(1), StreamPolicy::default()).unwrap();
    });
    cleans.0.take()
}

#[test]
fn cleans_what_is_written_and_nothing_more() {
    let apart = IdRegisters { idr0: QEMU.idr0 & !(1 << 4), ..QEMU };
    // Twice: the entry, then the two commands of its batch.
    assert_eq!(cleaned(apart, options()), [64, 32, 64, 32]);
    assert_eq!(cleaned(QEMU, options()), []);
    // The device tree's word counts as much as the register's.
    assert_eq!(cleaned(QEMU, Options { coherent: false, ..options() }), [64, 32, 64, 32]);
}

const APART: IdRegisters = IdRegisters { idr0: QEMU.idr0 & !(1 << 4), ..QEMU };

/// What is cleaned while `act` runs, on an SMMU that does not see the caches.
fn cleaned_by(bench: &Bench, act: impl FnOnce()) -> Vec<usize> {
    let cleans = Rc::new(Cleans::default());
    observe(cleans.clone(), act);
    bench.clear();
    cleans.0.take()
}

/// Whatever is made at bring-up is in memory before the SMMU is told of it.
#[test]
fn tables_and_queues_are_cleaned_before_they_are_told() {
    let bare = bare(APART);
    let cleans = Rc::new(Cleans::default());
    let smmu = observe(cleans.clone(), || {
        palisade_smmuv3::Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options())
    });
    let smmu = smmu.unwrap();
    let cleaned = cleans.0.take();
    // First level of 256 descriptors, a page at least; 1,024 records of 32 bytes.
    assert!(cleaned.contains(&4096) && cleaned.contains(&(1024 * 32)), "{cleaned:?}");
    // A second level of 256 entries, then its descriptor.
    let cleans = Rc::new(Cleans::default());
    observe(cleans.clone(), || smmu.prepare(stream(3)).unwrap());
    assert_eq!(cleans.0.take()[..2], [256 * 64, 8]);
}

/// Context tables, their leaves, and the descriptors that name them.
#[test]
fn contexts_are_cleaned() {
    let id = IdRegisters { idr0: APART.idr0 | 1 << 19, idr1: APART.idr1 | 16 << 6, ..APART };
    let bench = bare(id).bring_up(options());
    let (device, process) = (stream(3), SubstreamId::new(5));
    let view = &PhysicalView;
    let made = cleaned_by(&bench, || bench.smmu.create_contexts(device, 16, view).unwrap());
    assert_eq!(made, [4096]);
    let leaf = cleaned_by(&bench, || bench.smmu.prepare_context(device, process, view).unwrap());
    assert_eq!(leaf[..2], [1 << 16, 8]);
}

/// The fail-safe: the abort entry is in memory, not in a cache, when a time-out ends a stream.
#[test]
fn the_abort_entry_of_a_dead_stream_is_cleaned() {
    let bench = bare(APART).bring_up(options());
    bench.smmu.attach(stream(3), &stage_two(1), StreamPolicy::default()).unwrap();
    let late = cleaned_by(&bench, || {
        bench.inject(Fault::Late { opcode: 0x46, turns: 3_000 });
        let error = bench.smmu.detach(stream(3));
        assert_eq!(error, Err(DriverError::Timeout(stream(3))));
    });
    // The entry and the batch that was late; the one word of the fail-safe, and its batch.
    assert_eq!(late, [64, 32, 8, 32]);
}

/// A command that is replaced after CERROR_ILL is fetched again from memory.
#[test]
fn a_replaced_command_is_cleaned() {
    let bench = bare(APART).bring_up(options());
    let replaced = cleaned_by(&bench, || {
        bench.inject(Fault::Error { opcode: 0x28, code: 1, times: 1 });
        let batch = [Invalidation::Vmid(Vmid::new(1))];
        bench.smmu.invalidate(&batch).unwrap_err();
    });
    assert_eq!(replaced, [32, 16]);
}

/// Records are read from memory, not from a cache that has what was there before.
#[test]
fn records_are_fetched_anew() {
    let bench = bare(APART).bring_up(options());
    for _ in 0..2 {
        bench.fake.produce(EVENTQ_BASE, EVENTQ_PROD, &[8 << 32 | 0x10, 0, 0, 0]);
    }
    let fetched = cleaned_by(&bench, || {
        bench.smmu.drain_events(&mut |_| {}, 10);
    });
    assert_eq!(fetched, [32, 32]);
}
