//! What each operation costs: commands, syncs, PROD writes, register accesses. These are bounds
//! that the driver states, so they are equalities or upper limits here, never times.

use palisade_hal::{Asid, Iova, Ipa, Vmid};
use palisade_iommu::{Invalidation, IommuDriver, StreamPolicy};
use palisade_smmuv3::range::SINGLE_COMMANDS_MAX;
use palisade_smmuv3::{IdRegisters, Options};

use crate::fake::{Bench, Fault, QEMU, bare, bench, options, stage_two, stream};

const SYNC: u8 = 0x46;
const PROD: u64 = 0x98;
const CONS: u64 = 0x9c;
const POLICY: StreamPolicy = StreamPolicy { ats: false, stalls: false };

#[derive(Debug, PartialEq)]
struct Cost {
    commands: usize,
    syncs: usize,
    prod_writes: usize,
    accesses: usize,
}

fn cost(bench: &Bench, run: impl FnOnce()) -> Cost {
    bench.clear();
    run();
    let opcodes = bench.opcodes();
    let syncs = opcodes.iter().filter(|&&opcode| opcode == SYNC).count();
    Cost {
        commands: opcodes.len() - syncs,
        syncs,
        prod_writes: bench.writes(PROD),
        accesses: bench.fake.state().accesses.len(),
    }
}

fn stage_2_range(size: u64) -> [Invalidation; 1] {
    [Invalidation::StageTwo {
        vmid: Vmid::new(1),
        start: Ipa::new(0x4000_0000),
        size,
        granule: 4096,
        leaf: None,
    }]
}

/// With range invalidation an unmap of any size is one TLBI, one SYNC, one PROD write and one
/// look at CONS.
#[test]
fn one_unmap_is_one_command() {
    let bench = bench(QEMU);
    let one = Cost { commands: 1, syncs: 1, prod_writes: 1, accesses: 2 };
    for size in [1 << 12, 3 << 12, 100 << 12, 1 << 21, 1 << 30, (1 << 36) + 4096, 1 << 39] {
        let seen = cost(&bench, || bench.smmu.invalidate(&stage_2_range(size)).unwrap());
        assert_eq!(seen, one, "{size:#x} bytes");
    }
    let stage1 = [Invalidation::StageOne {
        vmid: Vmid::new(0),
        asid: Asid::new(1),
        start: Iova::new(0),
        size: 12345 << 12,
        granule: 4096,
        leaf: Some(4096),
    }];
    assert_eq!(cost(&bench, || bench.smmu.invalidate(&stage1).unwrap()), one);
}

/// Without it: at most SINGLE_COMMANDS_MAX, then one for the whole VMID.
#[test]
fn without_ranges_the_commands_are_bounded() {
    let bench = bench(IdRegisters { idr3: 0, ..QEMU });
    for pages in [1, 2, 62, 63, 64] {
        let seen = cost(&bench, || bench.smmu.invalidate(&stage_2_range(pages << 12)).unwrap());
        assert_eq!(seen.commands as u64, pages);
        assert_eq!(seen.syncs, seen.prod_writes);
        assert_eq!(seen.prod_writes as u64, pages.div_ceil(63));
    }
    let pages = SINGLE_COMMANDS_MAX + 1;
    let seen = cost(&bench, || bench.smmu.invalidate(&stage_2_range(pages << 12)).unwrap());
    assert_eq!(seen, Cost { commands: 1, syncs: 1, prod_writes: 1, accesses: 2 });
}

/// A nest parent's unmap: stage 2, then the combined entries, in one PROD write with one wait.
#[test]
fn ordered_batch_is_one_prod_write() {
    let bench = bench(QEMU);
    let [two] = stage_2_range(1 << 21);
    let batch = [two, Invalidation::StageOneOf(Vmid::new(1))];
    let seen = cost(&bench, || bench.smmu.invalidate(&batch).unwrap());
    assert_eq!(seen, Cost { commands: 2, syncs: 2, prod_writes: 1, accesses: 2 });
    assert_eq!(bench.opcodes(), [0x2a, SYNC, 0x10, SYNC]);
}

/// Assigning a prepared device: two commands, each with its sync; taking it back as many.
#[test]
fn assigning_a_device() {
    let bench = bench(QEMU);
    let id = stream(3);
    bench.smmu.prepare(id).unwrap();
    let four = Cost { commands: 2, syncs: 2, prod_writes: 2, accesses: 4 };
    assert_eq!(cost(&bench, || bench.smmu.attach(id, &stage_two(1), POLICY).unwrap()), four);
    assert_eq!(cost(&bench, || bench.smmu.detach(id).unwrap()), four);
    // Unchanged: nothing at all.
    let nothing = Cost { commands: 0, syncs: 0, prod_writes: 0, accesses: 0 };
    assert_eq!(cost(&bench, || bench.smmu.detach(id).unwrap()), nothing);
}

/// The worst case of one wait: as many turns as the deadline has microseconds, three register
/// reads each, and then an error.
#[test]
fn the_longest_wait_is_bounded() {
    for sync_micros in [100, 2_000] {
        let bench = bare(QEMU).bring_up(Options { sync_micros, ..options() });
        bench.inject(Fault::Stop { opcode: 0x28 });
        bench.clear();
        let batch = [Invalidation::Vmid(Vmid::new(1))];
        assert!(bench.smmu.invalidate(&batch).is_err());
        let state = bench.fake.state();
        let looks = state.accesses.iter().filter(|a| !a.0 && a.1 == CONS).count() as u64;
        // The batch and the lone sync that asks whether the queue still moves, each with the turn
        // at the deadline and the last look after it.
        assert!(looks <= 2 * (sync_micros + 3), "{looks} looks in {sync_micros} µs");
        assert!(looks >= sync_micros, "a deadline that comes early is a time-out too many");
    }
}
