//! The whole stack on real tables: registering, assigning, context tables, sharing and binding,
//! with the k-th frame missing and with the k-th command unanswered, for every k.
//!
//! 1. Without memory: an error, and everything is byte for byte as it was: what the SMMU reads,
//!    frames, ids, groups, processes. Only empty tables that were made ready for entries stay,
//!    with the driver; they are not made again.
//! 2. Without an answer: an error, and no stream of the group does anything but what it did or
//!    abort; nothing of another group changes, and no frame that the SMMU may hold is free.
//! 3. With neither: what all failures together cost is nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use palisade_hal::fake::SteppedClock;
use palisade_hal::{Asid, PhysAddr, StreamId, SubstreamId};
use palisade_iommu::pasid::{PasidError, Space, SpaceFootprint, TableId};
use palisade_iommu::sva::{self, AddressSpace, Bond, Process, ProcessKey, ProcessNotifier};
use palisade_iommu::{
    Condition, DefaultSubstream, DeviceId, DeviceInfo, Domain, Footprint, Group, IommuDriver,
    Iommus, Owner, PhysicalView, Registration, StreamPolicy,
};
use palisade_mem::{Block, Frames, Owner as FrameOwner, Use};
use palisade_smmuv3::{IdRegisters, Smmu};

use crate::fake::{Bare, Fault, QEMU, bare, options};

/// Substreams and two-level context tables.
const ID: IdRegisters =
    IdRegisters { idr0: QEMU.idr0 | 1 << 19, idr1: QEMU.idr1 | 16 << 6, ..QEMU };
const PHANDLE: u32 = 1;
/// The device that everything happens to: three streams in three second-level tables.
const WIDE: u32 = 1;
/// One that is somebody's from the start of assigning on.
const OTHER: u32 = 2;
const SUBSTREAM: SubstreamId = SubstreamId::new(3);
/// Beyond one leaf of a context table.
const FAR: SubstreamId = SubstreamId::new(0x1403);
const PAGE: u64 = 4096;

/// What can be shared.
struct OneProcess {
    pins: AtomicU32,
    asid: u16,
}

impl Process for OneProcess {
    fn key(&self) -> ProcessKey {
        ProcessKey(self.asid.into())
    }
    fn pin(&self) -> Option<Asid> {
        self.pins.fetch_add(1, Ordering::Relaxed);
        Some(Asid::new(self.asid))
    }
    fn unpin(&self) {
        self.pins.fetch_sub(1, Ordering::Relaxed);
    }
    fn address_space(&self) -> AddressSpace {
        let tcr = 16 | 1 << 8 | 1 << 10 | 3 << 12 | 4 << 32;
        AddressSpace { table: 0x9000_0000, tcr, mair: 0xff44, stalls: false }
    }
    fn register(&self, _notifier: Arc<dyn ProcessNotifier>) -> Result<(), PasidError> {
        Ok(())
    }
    fn unregister(&self, _notifier: &Arc<dyn ProcessNotifier>) {}
}

struct Rig {
    bare: Bare,
    iommus: Iommus,
    driver: Arc<Smmu<SteppedClock>>,
    registration: Option<Registration>,
    owner: Owner,
    space: Arc<Space>,
    process: Arc<OneProcess>,
    domain: Option<Arc<Domain>>,
    table: Option<TableId>,
    bond: Option<Bond>,
}

/// How far a rig is brought before anything fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Register,
    Assign,
    Contexts,
    Private,
    Share,
    Bind,
}

const STEPS: [Step; 6] =
    [Step::Register, Step::Assign, Step::Contexts, Step::Private, Step::Share, Step::Bind];

impl Step {
    /// It may leave empty tables behind.
    fn makes_ready(self) -> bool {
        matches!(self, Step::Register | Step::Private | Step::Bind)
    }
}

type Outcome = Result<(), String>;

fn said<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

impl Rig {
    /// Everything before `step` is done.
    fn before(step: Step) -> Self {
        let bare = bare(ID);
        let iommus = Iommus::new(2, 16);
        for (id, streams) in [(WIDE, vec![0x003, 0x103, 0x203]), (OTHER, vec![0x303, 0x304])] {
            let streams: Vec<StreamId> = streams.into_iter().map(StreamId::new).collect();
            let (id, name) = (DeviceId::new(id), format!("device {id}"));
            let info = DeviceInfo { id, name, iommu: Some(PHANDLE), streams, isolation: None };
            iommus.add_device(info).unwrap();
        }
        let clock = bare.clock();
        let driver = Smmu::bring_up(bare.mmio(), &bare.frames, clock, options()).unwrap();
        let driver = Arc::new(driver);
        let agent = bare.frames.register_agent("core").unwrap();
        let registration = Registration { phandle: PHANDLE, driver: driver.clone(), agent };
        let owner = iommus.owners().open(0).unwrap();
        let mut rig = Rig {
            bare,
            iommus,
            driver,
            registration: Some(registration),
            owner,
            space: Space::new(16, 4),
            process: Arc::new(OneProcess { pins: AtomicU32::new(0), asid: 1 }),
            domain: None,
            table: None,
            bond: None,
        };
        for done in STEPS.into_iter().take_while(|done| *done < step) {
            rig.act(done).unwrap();
            if done == Step::Register {
                let (other, domain) = (rig.group(OTHER), rig.domain(0xa000_0000));
                rig.iommus.assign(&other, &domain, StreamPolicy::default()).unwrap();
                rig.domain = Some(rig.domain(0x9000_0000));
            }
        }
        rig.bare.fake.state().commands.clear();
        rig
    }

    fn domain(&self, table: u64) -> Arc<Domain> {
        self.iommus.paging_domain(self.owner, PhysAddr::new(table), 0x4_3558).unwrap()
    }

    fn group(&self, id: u32) -> Arc<Group> {
        self.iommus.group_of(DeviceId::new(id)).unwrap()
    }

    fn act(&mut self, step: Step) -> Outcome {
        match step {
            Step::Register => {
                let registration = self.registration.take().unwrap();
                self.iommus.register(registration).map(|_| ()).map_err(|rejected| {
                    self.registration = Some(rejected.registration);
                    said(rejected.error)
                })
            }
            Step::Assign => {
                let domain = self.domain.clone().unwrap();
                let policy = StreamPolicy::default();
                self.iommus.assign(&self.group(WIDE), &domain, policy).map_err(said)
            }
            Step::Contexts => {
                let (view, zero) = (Arc::new(PhysicalView), DefaultSubstream::Zero);
                let group = self.group(WIDE);
                let store = self.iommus.enable_contexts(&group, self.owner, 13, zero, view);
                self.table = Some(self.space.alloc_table(Arc::new(store.map_err(said)?)));
                Ok(())
            }
            // A private descriptor that wears the very ASID of the process.
            Step::Private => {
                let (table, space) = (self.table.unwrap(), self.process.address_space());
                self.space.prepare(table, SUBSTREAM).map_err(said)?;
                self.space.write_private(table, SUBSTREAM, &space).map_err(said)
            }
            Step::Share => {
                let process: Arc<dyn Process> = self.process.clone();
                self.space.alloc_shared(self.table.unwrap(), &process).map(drop).map_err(said)
            }
            Step::Bind => {
                let process: Arc<dyn Process> = self.process.clone();
                let bond = sva::bind(&self.space, self.table.unwrap(), FAR, &process);
                self.bond = Some(bond.map_err(said)?);
                Ok(())
            }
        }
    }

    /// Everything: what the SMMU reads, and everybody's books.
    fn all(&self) -> All {
        All {
            image: self.image(),
            frames: self.bare.frames.footprint(),
            core: self.iommus.footprint(),
            space: self.space.footprint(),
            pins: self.process.pins.load(Ordering::Relaxed),
            rows: self.rows(),
        }
    }

    /// Every word that the SMMU may read, as one number per page, its queues left out: they tell
    /// of what was tried.
    fn image(&self) -> Vec<(u64, u64)> {
        let queues: Vec<std::ops::Range<u64>> = {
            let state = self.bare.fake.state();
            let queue = |register: u64, entry: u64| {
                let base = state.get(register);
                let start = base & 0x00ff_ffff_ffff_ffe0;
                start..start + (entry << (base & 0x1f)).next_multiple_of(PAGE)
            };
            vec![queue(0x90, 16), queue(0xa0, 32)]
        };
        let range = self.bare.arena.range();
        let pages = (range.start.get()..range.start.get() + range.bytes).step_by(PAGE as usize);
        let pages = pages.filter(|page| !queues.iter().any(|queue| queue.contains(page)));
        let words = |page: u64| {
            let frames = &self.bare.frames;
            let words = frames.words(PhysAddr::new(page), 512, Use::Dma, FrameOwner::HYPERVISOR)?;
            let mut sum = DefaultHasher::new();
            words.iter().for_each(|word| word.load(Ordering::Relaxed).hash(&mut sum));
            Some((page, sum.finish()))
        };
        pages.filter_map(words).collect()
    }

    fn rows(&self) -> Vec<String> {
        let rows = self.iommus.posture();
        rows.iter().map(|row| format!("{} {} {}", row.stream, row.state, row.condition)).collect()
    }
}

#[derive(Debug, PartialEq)]
struct All {
    image: Vec<(u64, u64)>,
    frames: palisade_mem::Footprint,
    core: Footprint,
    space: SpaceFootprint,
    pins: u32,
    rows: Vec<String>,
}

/// Takes every free frame but `left`.
fn starve(frames: &Frames, left: usize) -> Vec<Block> {
    let mut held = Vec::new();
    while let Ok(block) = frames.alloc(0, Use::Guest, FrameOwner::vm(0)) {
        held.push(block);
    }
    held.sort_by_key(|block| std::cmp::Reverse(block.start()));
    for block in held.split_off(held.len().saturating_sub(left)) {
        frames.free(block).map_err(|(error, _)| error).unwrap();
    }
    held
}

fn feed(frames: &Frames, held: Vec<Block>) {
    for block in held {
        frames.free(block).map_err(|(error, _)| error).unwrap();
    }
}

#[test]
fn without_the_kth_frame_everything_is_byte_for_byte_as_it_was() {
    for step in STEPS {
        let mut rig = Rig::before(step);
        let mut failures = 0;
        for left in 0.. {
            assert!(left < 1000, "{step:?} never succeeds");
            let held = starve(&rig.bare.frames, left);
            let before = rig.all();
            let answer = rig.act(step);
            if answer.is_err() {
                failures += 1;
                let mut after = rig.all();
                if step.makes_ready() {
                    // Empty tables, for the next try.
                    (after.image, after.frames) = (before.image.clone(), before.frames);
                }
                assert_eq!(after, before, "{step:?} with {left} frames");
            }
            feed(&rig.bare.frames, held);
            if answer.is_ok() {
                break;
            }
        }
        let needs = step.makes_ready() || step == Step::Contexts;
        assert_eq!(failures > 0, needs, "{step:?} failed {failures} times");
        // The same without failures costs as much.
        let mut clean = Rig::before(step);
        clean.act(step).unwrap();
        assert_eq!(rig.bare.frames.footprint(), clean.bare.frames.footprint(), "{step:?}");
        assert_eq!((rig.iommus.footprint(), rig.rows()), (clean.iommus.footprint(), clean.rows()));
        assert_eq!(rig.space.footprint(), clean.space.footprint());
    }
}

#[test]
fn without_the_kth_answer_nothing_but_the_group_concerned_changes() {
    for step in STEPS {
        let commands = {
            let mut rig = Rig::before(step);
            rig.act(step).unwrap();
            rig.bare.fake.state().commands.len()
        };
        assert!(commands > 0, "{step:?} says nothing to the SMMU");
        for k in 0..commands {
            let mut rig = Rig::before(step);
            let entries = |rig: &Rig| (step > Step::Register).then(|| entries(rig, OTHER));
            let (before, others) = (rig.all(), entries(&rig));
            rig.bare.fake.state().faults.push(Fault::StopAfter { commands: k });
            assert!(rig.act(step).is_err(), "{step:?} went on without answer {k}");
            let after = rig.all();
            for (was, is) in before.rows.iter().zip(&after.rows) {
                let aborts = is.contains(" abort ");
                assert!(aborts || is == was, "{step:?}, answer {k}: {was} became {is}");
            }
            if rig.driver.is_alive() {
                assert_eq!(entries(&rig), others, "{step:?}, answer {k}");
            }
            assert!(after.frames.free <= before.frames.free, "{step:?}, answer {k}");
            assert_eq!(after.pins, before.pins, "{step:?}, answer {k}");
            assert_eq!(after.space.bound, before.space.bound, "{step:?}, answer {k}");
            assert_eq!(after.space.notifiers, before.space.notifiers, "{step:?}, answer {k}");
            if step == Step::Register {
                assert_eq!(after.core, before.core, "answer {k}");
            } else if let Some(group) = after.rows.first().filter(|row| row.contains(" abort ")) {
                assert!(group.ends_with(Condition::Dead.name()) || !rig.driver.is_alive());
            }
        }
    }
}

/// The stream table entries of a device, where they exist.
fn entries(rig: &Rig, device: u32) -> Vec<[u64; 8]> {
    let streams = rig.iommus.streams_of(DeviceId::new(device)).unwrap_or_default();
    streams.iter().map(|stream| rig.bare.fake.ste(stream.get())).collect()
}
