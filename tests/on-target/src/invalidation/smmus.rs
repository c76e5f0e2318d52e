//! The SMMUs, and all paths on each.

use alloc::boxed::Box;
use alloc::sync::Arc;

use palisade_hal::cpu::Counter;
use palisade_hal::machine::{Machine, MapKind};
use palisade_hal::mmio::Mmio;
use palisade_hal::{Env, PhysAddr, StreamId};
use palisade_iommu::{Invalidation, IommuDriver, StageTwo, StreamPolicy};
use palisade_mem::Frames;
use palisade_on_target::memory::{Memory, POOL};
use palisade_on_target::say;
use palisade_smmuv3::{BringUpError, IdRegisters, Options, REGISTER_BYTES, Smmu, bound};

use crate::count::count;
use crate::paper::Paper;
use crate::paths::{HALF_LAP, STREAM, VMID, paths};
use crate::verdict::Verdict;
use crate::{operations, planted, refusals, time_out};

/// QEMU's SMMU on its virt machine.
const SMMU: u64 = 0x0905_0000;
/// Streams with an attachment: the others are there to be searched through.
const STREAMS: u32 = 256;
/// RAM of one SMMU.
const SHARE: u64 = 16 << 20;

/// Bits of IDR0 (IHI 0070 §6.3.1) and of IDR3 (§6.3.4).
const MSI: u32 = 1 << 13;
const ATS: u32 = 1 << 10;
const HYP: u32 = 1 << 9;
const COHACC: u32 = 1 << 4;
const RIL: u32 = 1 << 10;

/// ID registers like QEMU's, with EL2 regimes, ATS and 16 substreams.
const FULL: IdRegisters =
    IdRegisters { idr0: 0x0d44_101b | ATS | HYP, idr1: 0x0273_0110, idr3: 0x1404, idr5: 0x74 };

/// Memory for one SMMU after the other.
struct Shares(u64);

impl Shares {
    fn next(&mut self) -> Arc<Frames> {
        let start = self.0;
        self.0 += SHARE;
        assert!(self.0 <= POOL.end, "an SMMU too many");
        // SAFETY: a part of the pool, which is mapped one to one, that is given to nobody else.
        unsafe { Memory::new(start..self.0) }.frames().clone()
    }
}

/// What became of all calls.
pub struct Sum {
    calls: u64,
    passed: bool,
}

impl Sum {
    /// Adds a path's worst call.
    pub fn add(&mut self, calls: u64, worst: &Verdict) {
        self.calls += calls;
        self.passed &= worst.holds() && worst.means();
    }
}

/// Makes every call of every path and says each path's worst.
fn measure<E: Env + Send + Sync>(
    name: &str,
    smmu: &Smmu<E>,
    turns: impl Fn() -> u64,
    sum: &mut Sum,
) {
    let stage_two = StageTwo { vmid: VMID, table: PhysAddr::new(POOL.end), control: 0x4_3558 };
    let policy = StreamPolicy { ats: true, stalls: false };
    for stream in 0..STREAMS {
        smmu.attach(StreamId::new(stream), &stage_two, policy).expect("an attachment");
    }
    assert!(STREAM.get() < STREAMS, "the stream is attached");
    for path in paths() {
        let mut worst = Verdict::default();
        let mut calls = 0;
        for call in path.calls {
            if calls % HALF_LAP == 0 {
                // Three commands, so that those of two come to lie across the queue's end too.
                smmu.invalidate(&[Invalidation::Vmid(VMID); 2]).expect("an SMMU that answers");
            }
            calls += 1;
            let (count, result) = count(smmu, &turns, |driver| driver.invalidate(&call));
            result.expect("an SMMU that answers");
            let bound = smmu.bound(&call);
            let verdict = Verdict {
                count,
                commands: bound.commands,
                batches: bound.batches,
                instructions: bound.instructions + bound::TURN * count.turns,
            };
            let worse = verdict.count.instructions > worst.count.instructions;
            if worst.holds() && (worse || !verdict.holds()) {
                worst = verdict;
            }
        }
        say!("on-target: {name}: {}: {worst}", path.name);
        sum.add(calls, &worst);
    }
}

/// Runs everything; whether all bounds hold and mean something.
pub fn all(machine: &'static dyn Machine) -> bool {
    if machine.map(SMMU..SMMU + REGISTER_BYTES, MapKind::Device).is_err() {
        return false;
    }
    // SAFETY: mapped as Device memory just now, for good; this runs once, and one driver at a time
    // is used.
    let mmio = unsafe { Mmio::new(PhysAddr::new(SMMU), REGISTER_BYTES) };
    let mut shares = Shares(POOL.start);
    let mut sum = Sum { calls: 0, passed: true };
    for (name, coherent) in [("QEMU", true), ("QEMU, not coherent", false)] {
        let options = Options { coherent, ..Options::default() };
        match Smmu::bring_up(mmio.clone(), &shares.next(), Counter, options) {
            Ok(smmu) => {
                measure(name, &smmu, || 0, &mut sum);
                if coherent {
                    sum.passed &= planted::all(&smmu);
                    operations::at_once(&smmu);
                }
            }
            Err(error) => {
                say!("on-target: {name}: {error}");
                return false;
            }
        }
    }
    let mut on_paper = |id: &IdRegisters, options| {
        let paper: &'static Paper = Box::leak(Box::new(Paper::new(id)));
        let smmu = Smmu::bring_up(paper.mmio(), &shares.next(), paper, options)?;
        Ok::<_, BringUpError>((paper, smmu))
    };
    let single = IdRegisters { idr3: FULL.idr3 & !RIL, ..FULL };
    let message = IdRegisters { idr0: FULL.idr0 | MSI, ..FULL };
    let distant = IdRegisters { idr0: FULL.idr0 & !COHACC, ..single };
    for (name, id) in [
        ("paper", FULL),
        ("paper, no ranges", single),
        ("paper, messages", message),
        ("paper, no ranges, not coherent", distant),
    ] {
        match on_paper(&id, Options::default()) {
            Ok((paper, smmu)) => {
                measure(name, &smmu, || paper.turns(), &mut sum);
                if name == "paper, no ranges" {
                    operations::single(paper, &smmu);
                }
            }
            Err(error) => {
                say!("on-target: {name}: {error}");
                return false;
            }
        }
    }
    sum.passed &= time_out::all(&mut |options| on_paper(&FULL, options), &mut sum);
    match on_paper(&single, Options::default()) {
        Ok((paper, smmu)) => sum.passed &= refusals::all(paper, &smmu, &mut sum),
        Err(error) => {
            say!("on-target: refused: {error}");
            return false;
        }
    }
    say!("on-target: {} calls", sum.calls);
    sum.passed
}
