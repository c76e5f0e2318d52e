//! What each operation costs: commands, syncs, PROD writes, register accesses. These are bounds
//! that the driver states, so they are equalities or upper limits here, never times.

use palisade_hal::{Asid, Iova, Ipa, StreamId, SubstreamId, Vmid};
use palisade_iommu::{
    Context, DefaultSubstream, Invalidation, IommuDriver, PhysicalView, StreamPolicy,
};
use palisade_smmuv3::command::range::SINGLE_COMMANDS_MAX;
use palisade_smmuv3::{IdRegisters, Options, Smmu};

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
        assert_eq!((seen.syncs, seen.prod_writes), (1, 1));
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
    for micros in [100, 2_000] {
        let bench = bare(QEMU).bring_up(Options { sync_micros: micros, ..options() });
        bench.inject(Fault::Stop { opcode: 0x28 });
        bench.clear();
        let batch = [Invalidation::Vmid(Vmid::new(1))];
        assert!(bench.smmu.invalidate(&batch).is_err());
        let looks = reads(&bench, CONS);
        // The batch and the lone sync that asks whether the queue still moves, each with the turn
        // at the deadline and the last look after it.
        assert!(looks <= 2 * (micros + 3), "{looks} looks in {micros} µs");
        assert!(looks >= micros, "a deadline that comes early is a time-out too many");
    }
}

fn reads(bench: &Bench, register: u64) -> u64 {
    let state = bench.fake.state();
    state.accesses.iter().filter(|access| !access.0 && access.1 == register).count() as u64
}

/// A clock that stands still.
struct Still;

impl palisade_hal::Env for Still {
    fn relax(&self) {}
    fn now(&self) -> u64 {
        0
    }
    fn frequency(&self) -> u64 {
        1
    }
}

/// The turns are counted, so the wait ends all the same.
#[test]
fn a_clock_that_stands_still_ends_the_wait() {
    let bare = bare(QEMU);
    let smmu = Smmu::bring_up(
        bare.mmio(),
        &bare.frames,
        Still,
        Options { sync_micros: 1, sync_turns: 500, ..options() },
    )
    .unwrap();
    bare.fake.state().faults.push(Fault::Stop { opcode: 0x28 });
    bare.fake.state().accesses.clear();
    assert!(smmu.invalidate(&[Invalidation::Vmid(Vmid::new(1))]).is_err());
    let state = bare.fake.state();
    let looks = state.accesses.iter().filter(|access| !access.0 && access.1 == CONS).count();
    assert!(looks <= 2 * (500 + 3), "{looks}");
}

/// Likewise for the registers that are to say that a dead SMMU is disabled.
#[test]
fn a_clock_that_stands_still_ends_the_wait_for_a_register() {
    const CR0: u64 = 0x20;
    const CR0ACK: u64 = 0x24;
    let bare = bare(QEMU);
    let turns = Options { sync_turns: 10, register_turns: 300, ..options() };
    let smmu = Smmu::bring_up(bare.mmio(), &bare.frames, Still, turns).unwrap();
    let mut state = bare.fake.state();
    state.faults.push(Fault::Stop { opcode: 0x28 });
    state.ignore.push(CR0);
    state.accesses.clear();
    drop(state);
    assert!(smmu.invalidate(&[Invalidation::Vmid(Vmid::new(1))]).is_err());
    let state = bare.fake.state();
    let reads = state.accesses.iter().filter(|access| !access.0 && access.1 == CR0ACK).count();
    // SMMUEN alone, then all of CR0, each with a last look.
    assert_eq!(reads, 2 * (300 + 1));
}

/// Every invalidation's worst case, with and without range invalidation: the commands of one call
/// stay inside what the driver states, whatever sizes it names, and the worst one gets there.
/// (The instructions need the target: tests/on-target.)
#[test]
fn every_invalidation_is_bounded() {
    let idr0 = QEMU.idr0 | 1 << 9 | 1 << 10;
    for idr3 in [0, QEMU.idr3] {
        let bench = bench(IdRegisters { idr0, idr3, ..QEMU });
        let policy = StreamPolicy { ats: true, stalls: false };
        bench.smmu.attach(stream(1), &stage_two(1), policy).unwrap();
        for make in KINDS {
            let mut worst = 0;
            for size in [0, 1, 4096, 63 << 12, 64 << 12, 65 << 12, 1 << 30, u64::MAX] {
                for (start, leaf) in
                    [(0, None), (0x1234_5000, None), (0, Some(1 << 21)), (u64::MAX, None)]
                {
                    let invalidation = make(start, size, leaf);
                    let bound = bench.smmu.bound(&[invalidation]);
                    let seen = cost(&bench, || bench.smmu.invalidate(&[invalidation]).unwrap());
                    let commands = (seen.commands + seen.syncs) as u64;
                    assert!(commands <= bound.commands, "{invalidation:?}: {seen:?}");
                    assert!(bound.commands <= SINGLE_COMMANDS_MAX + 1, "{bound:?}");
                    assert_eq!(seen.syncs, seen.prod_writes, "{invalidation:?}");
                    assert!(seen.prod_writes as u64 <= bound.batches, "{invalidation:?}: {seen:?}");
                    assert!(seen.accesses <= 2 * seen.prod_writes, "{invalidation:?}: {seen:?}");
                    worst = commands.max(worst);
                }
            }
            let bound = bench.smmu.bound(&[make(0, 4096, None)]);
            assert_eq!(worst, bound.commands, "{:?}", make(0, 4096, None));
        }
    }
}

/// Start, size and leaf of a range to an invalidation.
type Make = fn(u64, u64, Option<u64>) -> Invalidation;

/// Each kind of invalidation, of a range where it has one.
const KINDS: [Make; 9] = {
    const VMID: Vmid = Vmid::new(1);
    const ASID: Asid = Asid::new(1);
    const STREAM: StreamId = StreamId::new(1);
    [
        |_, _, _| Invalidation::All,
        |_, _, _| Invalidation::Vmid(VMID),
        |_, _, _| Invalidation::StageOneOf(VMID),
        |start, size, leaf| {
            let start = Ipa::new(start);
            Invalidation::StageTwo { vmid: VMID, start, size, granule: 4096, leaf }
        },
        |_, _, _| Invalidation::Asid { vmid: VMID, asid: ASID },
        |start, size, leaf| {
            let start = Iova::new(start);
            Invalidation::StageOne { vmid: VMID, asid: ASID, start, size, granule: 4096, leaf }
        },
        |_, _, _| Invalidation::Context { stream: STREAM, substream: SubstreamId::new(0) },
        |_, _, _| Invalidation::Contexts(STREAM),
        |start, size, _| {
            let start = Iova::new(start);
            Invalidation::Device { stream: STREAM, substream: None, start, size }
        },
    ]
};

/// A batch that is longer than the queue takes at once, with the CMD_SYNCs that order it: what is
/// sent is what the driver states.
#[test]
fn long_batches_are_bounded() {
    for idr3 in [0, QEMU.idr3] {
        let bench = bench(IdRegisters { idr3, ..QEMU });
        let four = [7, 3, 0, 4].map(|kind| KINDS[kind](0, 64 << 12, None));
        for length in [0, 1, 2, 3, 64, 200] {
            let batch: Vec<_> = four.into_iter().cycle().take(length).collect();
            let bound = bench.smmu.bound(&batch);
            let seen = cost(&bench, || bench.smmu.invalidate(&batch).unwrap());
            let commands = (seen.commands + seen.syncs) as u64;
            // A CMD_SYNC that would follow the last one of a full batch is left out.
            assert!((bound.commands - bound.batches..=bound.commands).contains(&commands));
            assert_eq!(seen.prod_writes as u64, bound.batches, "{length}");
        }
    }
}

/// What `cargo xtask bench` shows: one line per operation, in a form it reads.
#[test]
fn table() {
    let show = |name: &str, bench: &Bench, run: &dyn Fn()| {
        let seen = cost(bench, run);
        println!(
            "cost {name} commands={} syncs={} prod_writes={} mmio={}",
            seen.commands, seen.syncs, seen.prod_writes, seen.accesses
        );
    };
    let (id, vmid, asid) = (stream(3), Vmid::new(1), Asid::new(1));
    for (suffix, features) in
        [("", QEMU), ("_without_range_invalidation", IdRegisters { idr3: 0, ..QEMU })]
    {
        let bench = bench(features);
        let smmu = &bench.smmu;
        for (name, size) in [("4k", 1u64 << 12), ("256k", 1 << 18), ("1g", 1 << 30)] {
            let batch = stage_2_range(size);
            show(&format!("smmu_unmap_{name}{suffix}"), &bench, &|| {
                smmu.invalidate(&batch).unwrap()
            });
        }
    }
    let bench = bench(IdRegisters { idr1: QEMU.idr1 | 4 << 6, ..QEMU });
    let smmu = &bench.smmu;
    let [two] = stage_2_range(1 << 21);
    let nested = [two, Invalidation::StageOneOf(vmid)];
    show("smmu_unmap_nested", &bench, &|| smmu.invalidate(&nested).unwrap());
    show("smmu_flush_vmid", &bench, &|| smmu.invalidate(&[Invalidation::Vmid(vmid)]).unwrap());
    let flush = [Invalidation::Asid { vmid, asid }];
    show("smmu_flush_asid", &bench, &|| smmu.invalidate(&flush).unwrap());
    show("smmu_prepare_first_of_256_streams", &bench, &|| smmu.prepare(id).unwrap());
    show("smmu_attach", &bench, &|| smmu.attach(id, &stage_two(1), POLICY).unwrap());
    show("smmu_detach", &bench, &|| smmu.detach(id).unwrap());
    smmu.create_contexts(id, 4, &PhysicalView).unwrap();
    smmu.attach_contexts(id, None, DefaultSubstream::Zero, POLICY).unwrap();
    let context = |asid: u16| Context {
        asid: Asid::new(asid),
        table: 0x9000_0000 + (u64::from(asid) << 12),
        tcr: 16 | 1 << 8 | 1 << 10 | 3 << 12 | 4 << 32,
        mair: 0xff44,
        stalls: false,
        record: true,
        private: true,
        quiet: false,
    };
    let quiet = Context { quiet: true, ..context(0) };
    let process = SubstreamId::new(1);
    let write = |context: &Context| smmu.write_context(id, process, Some(context)).unwrap();
    show("smmu_context_bind", &bench, &|| write(&context(1)));
    show("smmu_context_quiesce", &bench, &|| write(&quiet));
    show("smmu_context_rebind", &bench, &|| write(&context(2)));
    show("smmu_drain_nothing", &bench, &|| {
        smmu.drain_events(&mut |_| {}, 64);
    });
}
