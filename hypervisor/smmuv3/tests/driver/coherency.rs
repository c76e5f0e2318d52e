//! An SMMU that does not see the caches is given what was written by a clean, and nothing more.

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;

use palisade_hal::fake::{Observer, Op, observe};
use palisade_iommu::{IommuDriver, StreamPolicy};
use palisade_smmuv3::{IdRegisters, Options};

use crate::fake::{QEMU, bare, options, stage_two, stream};

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
