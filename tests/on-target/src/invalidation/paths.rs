//! The paths: every kind of invalidation, alone with all arguments that could be its worst, and
//! in batches.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use palisade_hal::{Asid, Iova, Ipa, StreamId, SubstreamId, Vmid};
use palisade_iommu::Invalidation;

/// The stream whose device has a TLB of its own, where the SMMU has ATS.
pub const STREAM: StreamId = StreamId::new(3);
/// The VMID of its stage 2.
pub const VMID: Vmid = Vmid::new(7);
/// An ASID of its guest.
pub const ASID: Asid = Asid::new(9);
const SUBSTREAM: SubstreamId = SubstreamId::new(1);

/// Starts: aligned to everything, to a page, to nothing, and the last page.
const STARTS: [u64; 5] = [0, 0x1000, 0x1234_5000, 0x1800, u64::MAX - 0xfff];
/// Granules: those that there are, and nonsense.
const GRANULES: [u64; 4] = [0x1000, 0x4000, 0x1_0000, 0x2000];
/// Leaves: unknown, a page, a contiguous group, a block, a larger one.
const LEAVES: [Option<u64>; 5] = [None, Some(0x1000), Some(0x1_0000), Some(1 << 21), Some(1 << 30)];
/// Sizes in bytes: none, pages around what one command of each kind can say, everything.
const SIZES: [u64; 13] = [
    0,
    0x1000,
    31 << 12,
    32 << 12,
    33 << 12,
    63 << 12,
    64 << 12,
    65 << 12,
    513 << 12,
    64 << 21,
    (1 << 36) + 0x1000,
    1 << 48,
    u64::MAX,
];
/// Calls of two commands in a lap of the queue's 256 entries.
pub const HALF_LAP: u64 = 128;
/// Calls of a path without a range: enough to lie across the queue's end in every way.
const LAP: u64 = 2 * HALF_LAP;
/// Entries of the long batches.
const LONG: usize = 64;

/// Calls, made when they are asked for: there are thousands.
type Calls = Box<dyn Iterator<Item = Vec<Invalidation>>>;

/// A path and all its calls.
pub struct Path {
    /// What its line says.
    pub name: &'static str,
    /// The batches.
    pub calls: Calls,
}

/// Every combination of what a range can be.
fn ranges(
    make: impl Fn(u64, u64, u64, Option<u64>) -> Invalidation,
) -> impl Iterator<Item = Invalidation> {
    let all = STARTS.len() * SIZES.len() * GRANULES.len() * LEAVES.len();
    (0..all).map(move |nth| {
        let (start, nth) = (STARTS[nth % STARTS.len()], nth / STARTS.len());
        let (size, nth) = (SIZES[nth % SIZES.len()], nth / SIZES.len());
        make(start, size, GRANULES[nth % GRANULES.len()], LEAVES[nth / GRANULES.len()])
    })
}

fn stage_two() -> impl Iterator<Item = Invalidation> {
    ranges(|start, size, granule, leaf| {
        let start = Ipa::new(start);
        Invalidation::StageTwo { vmid: VMID, start, size, granule, leaf }
    })
}

fn stage_one() -> impl Iterator<Item = Invalidation> {
    ranges(|start, size, granule, leaf| {
        let start = Iova::new(start);
        Invalidation::StageOne { vmid: VMID, asid: ASID, start, size, granule, leaf }
    })
}

fn device() -> impl Iterator<Item = Invalidation> {
    ranges(|start, size, granule, _| {
        let substream = (granule == GRANULES[0]).then_some(SUBSTREAM);
        Invalidation::Device { stream: STREAM, substream, start: Iova::new(start), size }
    })
}

/// All of them.
pub fn paths() -> [Path; 16] {
    let context = Invalidation::Context { stream: STREAM, substream: SUBSTREAM };
    let contexts = Invalidation::Contexts(STREAM);
    let asid = Invalidation::Asid { vmid: VMID, asid: ASID };
    let of = Invalidation::StageOneOf(VMID);
    let lap = |one| Box::new((0..LAP).map(move |_| vec![one]));
    let path = |name, calls: Calls| Path { name, calls };
    [
        path("nothing", Box::new([vec![]].into_iter())),
        path("All", lap(Invalidation::All)),
        path("Vmid", lap(Invalidation::Vmid(VMID))),
        path("StageOneOf", lap(of)),
        path("StageTwo", Box::new(stage_two().map(|one| vec![one]))),
        path("Asid", lap(asid)),
        path("StageOne", Box::new(stage_one().map(|one| vec![one]))),
        path("Context", lap(context)),
        path("Contexts", lap(contexts)),
        path("Device", Box::new(device().map(|one| vec![one]))),
        path("StageTwo, StageOneOf", Box::new(stage_two().map(move |one| vec![one, of]))),
        path("64 × All", Box::new((0..LAP).map(|_| vec![Invalidation::All; LONG]))),
        path("64 × StageTwo", Box::new(stage_two().map(|one| vec![one; LONG]))),
        path("64 × StageOne", Box::new(stage_one().map(|one| vec![one; LONG]))),
        path("64 × Device", Box::new(device().map(|one| vec![one; LONG]))),
        path(
            "64 of each phase in turn",
            Box::new(stage_two().zip(device()).map(move |(two, device)| {
                [context, two, asid, device].into_iter().cycle().take(LONG).collect()
            })),
        ),
    ]
}
