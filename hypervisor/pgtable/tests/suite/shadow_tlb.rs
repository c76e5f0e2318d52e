//! Random operations against a shadow map, with a walker beside them that caches
//! everything it may: leaves, runs and table pointers.
//!
//! 1. Every operation answers what the shadow says, and every address translates
//!    as in the shadow.
//! 2. The walker only ever reads tables that are alive (it walks at every barrier
//!    and every invalidation, from the deepest table it has cached).
//! 3. Once a gather is finished, nothing that the walker still holds disagrees
//!    with the shadow or with the tables: no stale entry survives the invalidations
//!    that were really issued.
//! 4. A refused operation changes nothing; after the last unmap only the root is left.
//! 5. Where entries are broken before they are made, the walker never holds two leaves
//!    of different size for one address.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::common::shadow::Shadow;
use crate::common::{GRANULES, Random, config, fail_fast, sizes};
use palisade_hal::fake::{Observer, Op, observe};
use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Agent, Arena, FrameTables, Frames, Owner, Proof, Scope, Use};
use palisade_pgtable::{
    Config, Error, FormatId, Gather, PageTable, Prot, SplitPolicy, TlbError, TlbOps, alloc,
};

/// Where operations happen: a few windows in which they collide.
const WINDOWS: [u64; 3] = [0, 0x3f_c000_0000, 0x7f_e000_0000];

/// The walker, written from the manual (D8.2, D8.3), not from the crate.
struct Walker {
    memory: FrameTables,
    granule: u32,
    root: u64,
    ias: u32,
    start: i8,
    /// Whether leaves of different size may overlap for a while (FEAT_BBM, level 2).
    overlaps: bool,
    state: RefCell<State>,
}

struct State {
    random: Random,
    /// First address of a leaf (or run) → length and output.
    leaves: BTreeMap<u64, (u64, u64)>,
    /// (level, number of the table at that level) → address of the table.
    tables: BTreeMap<(i8, u64), u64>,
    walks: u64,
}

impl Walker {
    fn shift(&self, level: i8) -> u32 {
        self.granule + (3 - level) as u32 * (self.granule - 3)
    }

    fn word(&self, table: u64, index: u64) -> u64 {
        // A detached table may still be walked; a free one is somebody else's.
        let count = 1 << (self.granule - 3);
        let frames = self.memory.frames();
        let words = [Use::Table, Use::Detached]
            .into_iter()
            .find_map(|of| frames.words(PhysAddr::new(table), count, of, Owner::vm(0)));
        let words = words.expect("the walker is in memory that was released");
        words[index as usize].load(Ordering::Acquire)
    }

    /// Number and address of the root table for `va`.
    fn root(&self, va: u64) -> (u64, u64) {
        let number = va >> (self.shift(self.start) + self.granule - 3);
        (number, self.root + (number << self.granule))
    }

    /// Forgets something when there is much: caches are finite.
    fn evict(state: &mut State) {
        if state.leaves.len() > 200 {
            state.leaves.pop_first();
        }
    }

    /// Walks for `va` as hardware may: from the deepest table it remembers.
    fn walk(&self, va: u64) {
        let mut state = self.state.borrow_mut();
        state.walks += 1;
        let (mut level, mut table) = (self.start, self.root(va).1);
        for at in (self.start + 1..=3).rev() {
            let number = va >> (self.shift(at) + self.granule - 3);
            if let Some(&known) = state.tables.get(&(at, number)) {
                (level, table) = (at, known);
                break;
            }
        }
        loop {
            let shift = self.shift(level);
            let index = va >> shift & ((1 << (self.granule - 3)) - 1);
            let word = self.word(table, index);
            let address = word & 0xffff_ffff_f000 & !((1 << self.granule) - 1);
            match (word & 3, level) {
                (3, 3) | (1, -1..=2) => {
                    let runs = match (self.granule, level) {
                        (12, 1..=3) => 4,
                        (14, 3) => 7,
                        (14, 2) | (16, 2..=3) => 5,
                        _ => 0,
                    };
                    let run = if word >> 52 & 1 != 0 { runs } else { 0 };
                    let size = 1u64 << (shift + run);
                    let first = va & !(size - 1);
                    let pa = address & !(size - 1);
                    let mut others = state.leaves.range(..first + size).rev();
                    let other = others.next().filter(|&(&at, &(length, _))| at + length > first);
                    let alike =
                        other.is_none_or(|(&at, &(length, _))| (at, length) == (first, size));
                    assert!(alike || self.overlaps, "a TLB conflict at {first:#x}");
                    state.leaves.insert(first, (size, pa));
                    Self::evict(&mut state);
                    return;
                }
                (3, _) => {
                    level += 1;
                    table = address;
                    let number = va >> (self.shift(level) + self.granule - 3);
                    state.tables.insert((level, number), table);
                }
                _ => return,
            }
        }
    }

    /// Some walks somewhere.
    fn wander(&self, shadow: Option<&Shadow>) {
        for _ in 0..2 {
            let seed = self.state.borrow_mut().random.next();
            if seed & 0x300 == 0 {
                // Walk caches are small: leaves often outlive the pointers to their tables.
                self.state.borrow_mut().tables.clear();
            }
            let window = WINDOWS[seed as usize % WINDOWS.len()];
            let spread = if seed & 64 != 0 { 30 } else { 22 };
            let va = (window + (seed >> 16) % (1 << spread)) & ((1 << self.ias) - 1);
            self.walk(shadow.and_then(|shadow| shadow.some(seed >> 4)).unwrap_or(va));
        }
    }

    fn forget(&self, start: u64, size: u64, tables_too: bool) {
        let end = start.saturating_add(size);
        let mut state = self.state.borrow_mut();
        state.leaves.retain(|&first, &mut (length, _)| first >= end || first + length <= start);
        if tables_too {
            state.tables.retain(|&(level, number), _| {
                let shift = self.shift(level) + self.granule - 3;
                let first = number << shift;
                first >= end || first + (1 << shift) <= start
            });
        }
    }

    /// Nothing remembered disagrees with the shadow or with the tables.
    fn check(&self, shadow: &Shadow) {
        let state = self.state.borrow();
        for (&first, &(size, pa)) in &state.leaves {
            for offset in [0, size / 2, size - 1, 0xfff & (size - 1)] {
                let now = shadow.get(first + offset);
                assert_eq!(now, Some(pa + offset), "a stale leaf for {:#x}", first + offset);
            }
        }
        for (&(level, number), &table) in &state.tables {
            let va = number << (self.shift(level) + self.granule - 3);
            let (mut at, mut now) = (self.start, self.root(va).1);
            while at < level {
                let index = va >> self.shift(at) & ((1 << (self.granule - 3)) - 1);
                let word = self.word(now, index);
                assert_eq!(word & 3, 3, "a stale table pointer for {va:#x} at level {level}");
                now = word & 0xffff_ffff_f000 & !((1 << self.granule) - 1);
                at += 1;
            }
            assert_eq!(now, table, "a stale table pointer for {va:#x} at level {level}");
        }
    }
}

/// The walker's TLB, as the code under test reaches it.
struct Caches(Rc<Walker>, Agent);

impl TlbOps for Caches {
    fn flush_all(&self) -> Result<Proof, TlbError> {
        self.0.wander(None);
        self.0.forget(0, u64::MAX, true);
        self.sync()
    }
    fn flush_walk(&self, iova: Iova, size: u64, _: u64) -> Result<Proof, TlbError> {
        self.0.wander(None);
        self.0.forget(iova.get(), size, true);
        self.sync()
    }
    fn add_leaf(&self, iova: Iova, size: u64, _: u64) {
        self.0.wander(None);
        self.0.forget(iova.get(), size, false);
    }
    fn sync(&self) -> Result<Proof, TlbError> {
        self.0.wander(None);
        let scope = Scope::new(1);
        Ok(Proof::new(scope).with(self.1.begin(scope).complete()))
    }
}

/// Walks at every barrier.
struct AtBarriers(Rc<Walker>);

impl Observer for AtBarriers {
    fn observe(&self, op: Op, _: &'static Location<'static>) {
        if matches!(op, Op::Barrier(_)) {
            self.0.wander(None);
        }
    }
}

struct World {
    frames: Arc<Frames>,
    table: Box<dyn PageTable>,
    walker: Rc<Walker>,
    tlb: Caches,
    shadow: Shadow,
    random: Random,
    collapsed: u64,
    _arena: Arena,
}

impl World {
    fn new(config: &Config, seed: u64) -> Self {
        fail_fast();
        let arena =
            Arena::new(PhysAddr::new(0x8000_0000), if cfg!(miri) { 1 << 12 } else { 1 << 15 });
        let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
        let agent = frames.register_agent("walker").unwrap();
        let memory = FrameTables::new(frames.clone(), Owner::vm(0), Scope::new(1), agent.set());
        let table = alloc(config, memory.clone()).unwrap();
        let regs = table.registers().stage2().unwrap();
        let granule = table.config().pgsize_bitmap.trailing_zeros();
        let start = if granule == 12 { 2 - regs.sl0 as i8 } else { 3 - regs.sl0 as i8 };
        let walker = Rc::new(Walker {
            memory,
            granule,
            root: regs.vttbr_baddr.get(),
            ias: 64 - u32::from(regs.t0sz),
            start,
            overlaps: config.split != SplitPolicy::BreakBeforeMake,
            state: RefCell::new(State {
                random: Random(seed ^ 0x5eed),
                leaves: BTreeMap::new(),
                tables: BTreeMap::new(),
                walks: 0,
            }),
        });
        let tlb = Caches(walker.clone(), agent);
        let (shadow, random) = (Shadow::default(), Random(seed));
        Self { frames, table, walker, tlb, shadow, random, collapsed: 0, _arena: arena }
    }

    fn step(&mut self, split: SplitPolicy) {
        let random = self.random.next();
        let page = 1u64 << self.walker.granule;
        let all = sizes(self.table.config());
        let window = WINDOWS[random as usize % WINDOWS.len()];
        // Pages mostly; blocks now and then, aligned as they must be.
        let unit = all[(if random >> 8 & 7 == 0 { random >> 12 } else { 0 }) as usize % all.len()];
        let span = (64 * page).max(unit * 4);
        let near = if random >> 16 & 3 == 0 { page << 11 } else { 0 };
        let iova = (window + near + (random >> 20) % span) & !(unit - 1);
        let iova = iova & ((1 << self.walker.ias) - 1);
        let count = if unit == page { 1 + (random >> 44) % 40 } else { 1 + (random >> 44) % 2 };
        let bytes = unit * count;
        if random >> 59 == 0 {
            self.collapse(iova, split);
        }
        match random >> 56 & 7 {
            0..=2 => {
                let pa = (self.random.next() % (1 << 38)) & !(unit - 1);
                let free = !self.shadow.any(iova, bytes);
                let (at, to) = (Iova::new(iova), PhysAddr::new(pa));
                let count = count as usize;
                let result = self.table.map_pages(at, to, unit, count, Prot::MEMORY);
                self.mapped(result, free, iova, pa, bytes);
            }
            3 => {
                // Both addresses a little off a block, so that sizes mix.
                let pa = (self.random.next() % (1 << 38)) & !(all[all.len() - 1] - 1);
                let pa = pa | iova & (all[all.len() - 1] - 1);
                let bytes = ((random >> 30) % (all[1.min(all.len() - 1)] * 2)) & !(page - 1);
                let bytes = bytes.max(page);
                let free = !self.shadow.any(iova, bytes);
                let (at, to) = (Iova::new(iova), PhysAddr::new(pa));
                let result = self.table.map_range(at, to, bytes, Prot::MEMORY);
                self.mapped(result, free, iova, pa, bytes);
            }
            4..=6 => {
                let mut gather = Gather::new(&self.tlb);
                let at = Iova::new(iova);
                let result = self.table.unmap_pages(at, unit, count as usize, &mut gather);
                self.unmapped(result, gather.finish(), split, |shadow| {
                    shadow.unmap_units(iova, unit, count)
                });
            }
            _ => {
                let mut gather = Gather::new(&self.tlb);
                let bytes = bytes.max(page * ((random >> 30) % 3000));
                let at = Iova::new(iova);
                let result = self.table.unmap_range(at, bytes, &mut gather);
                self.unmapped(result, gather.finish(), split, |shadow| shadow.unmap(iova, bytes));
            }
        }
        self.walker.wander(Some(&self.shadow));
        let probe = iova + (random >> 3) % bytes;
        let found = self.table.iova_to_phys(Iova::new(probe)).map(PhysAddr::get);
        assert_eq!(found, self.shadow.get(probe), "{probe:#x}");
    }

    /// Makes a block where pages are, or tries to.
    fn collapse(&mut self, iova: u64, split: SplitPolicy) {
        let page = 1u64 << self.walker.granule;
        let block = page << (self.walker.granule - 3);
        let at = iova & !(block - 1);
        if !self.shadow.any(at, block) {
            let pa = (self.random.next() % (1 << 38)) & !(block - 1);
            let (iova, to) = (Iova::new(at), PhysAddr::new(pa));
            let count = (block / page) as usize;
            self.table.map_pages(iova, to, page, count, Prot::MEMORY).unwrap();
            self.shadow.map(at, pa, block);
            self.walker.wander(Some(&self.shadow));
        }
        let tables = self.frames.footprint().table;
        let mut gather = Gather::new(&self.tlb);
        match self.table.collapse(Iova::new(at), block, &mut gather) {
            Ok(()) => {}
            Err(Error::Refused(_)) => assert_eq!(split, SplitPolicy::Refuse),
            Err(Error::NotUniform(_)) => assert!(gather.is_empty()),
            Err(error) => panic!("{error}"),
        }
        let Some(flushed) = gather.finish().unwrap() else { return };
        self.walker.check(&self.shadow);
        assert_eq!(self.table.walk(Iova::new(at)).leaf.unwrap().size, block);
        self.frames.release(flushed.tables.unwrap(), &flushed.proof).unwrap();
        assert_eq!(self.frames.footprint().table, tables - (page >> 12));
        self.collapsed += 1;
    }

    fn mapped(&mut self, result: Result<(), Error>, free: bool, iova: u64, pa: u64, bytes: u64) {
        match result {
            Ok(()) => {
                assert!(free, "an overlap was not refused");
                self.shadow.map(iova, pa, bytes);
            }
            Err(Error::Exists(at)) => {
                assert!(!free);
                // The page or block of the request that is in the way.
                let largest = sizes(self.table.config()).pop().unwrap();
                assert!(self.shadow.any(at.get(), largest), "blamed in vain");
            }
            Err(Error::NoMemory(_)) => panic!("memory runs out: the test is too large"),
            Err(error) => panic!("{error}"),
        }
    }

    fn unmapped(
        &mut self,
        result: Result<u64, Error>,
        flushed: Result<Option<palisade_pgtable::Flushed>, palisade_pgtable::Unflushed>,
        split: SplitPolicy,
        expected: impl FnOnce(&mut Shadow) -> u64,
    ) {
        let before = self.shadow.clone();
        let bytes = expected(&mut self.shadow);
        match result {
            Ok(done) => assert_eq!(done, bytes),
            Err(Error::PartialBlock(_)) => {
                assert_eq!(split, SplitPolicy::Refuse);
                self.shadow = before;
            }
            Err(error) => panic!("{error}"),
        }
        if let Some(flushed) = flushed.unwrap() {
            // Nothing stale is left before memory goes back.
            self.walker.check(&self.shadow);
            if let Some(tables) = flushed.tables {
                self.frames.release(tables, &flushed.proof).unwrap();
            }
        }
    }

    fn finish(mut self) {
        let mut gather = Gather::new(&self.tlb);
        for window in WINDOWS {
            let first = window & ((1 << self.walker.ias) - 1);
            let size = (8u64 << 42).min((1 << self.walker.ias) - first);
            self.table.unmap_range(Iova::new(first), size, &mut gather).unwrap();
        }
        let flushed = gather.finish().unwrap();
        if let Some(tables) = flushed {
            self.frames.release(tables.tables.unwrap(), &tables.proof).unwrap();
        }
        let roots = {
            let mut gather = Gather::new(&self.tlb);
            let roots = self.frames.footprint().table;
            self.table.free(&mut gather);
            let flushed = gather.finish().unwrap().unwrap();
            self.frames.release(flushed.tables.unwrap(), &flushed.proof).unwrap();
            roots
        };
        assert!(roots <= 16 << (self.walker.granule - 12), "more than the root is left");
        assert_eq!(self.frames.footprint().table, 0);
        assert!(self.walker.state.borrow().walks > 0);
    }
}

fn run(granule: u64, steps: u64, seed: u64) {
    let policies = [SplitPolicy::BreakBeforeMake, SplitPolicy::InPlace, SplitPolicy::Refuse];
    for (nth, split) in policies.into_iter().enumerate() {
        for contiguous in [false, true] {
            let mut config = config(FormatId::Arm64LpaeS2, granule, 40, 44);
            (config.split, config.contiguous) = (split, contiguous);
            let mut world = World::new(&config, seed + nth as u64);
            let observer = Rc::new(AtBarriers(world.walker.clone()));
            observe(observer, || {
                for _ in 0..steps.div_ceil(6) {
                    world.step(split);
                }
            });
            let collapsed = world.collapsed > 0;
            assert!(cfg!(miri) || collapsed == (split != SplitPolicy::Refuse));
            world.finish();
        }
    }
}

/// A million operations per granule in long mode.
fn steps(short: u64) -> u64 {
    match std::env::var_os("PALISADE_LONG") {
        _ if cfg!(miri) => 60,
        Some(_) => 1_000_000,
        None => short,
    }
}

#[test]
fn no_stale_entry_survives_4k() {
    run(GRANULES[0], steps(12_000), 11);
}

#[test]
fn no_stale_entry_survives_16k() {
    run(GRANULES[1], steps(6_000), 22);
}

#[test]
fn no_stale_entry_survives_64k() {
    run(GRANULES[2], steps(2_400), 33);
}
