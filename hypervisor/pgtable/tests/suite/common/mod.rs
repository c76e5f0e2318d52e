//! Memory, a TLB that records, and random numbers, for all tests.

pub mod metered;
pub mod shadow;

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Once};

use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Agent, Arena, FrameTables, Frames, Owner, Proof, Scope};
use palisade_pgtable::{
    Config, ConfigError, Flushed, FormatId, Gather, PageTable, TlbError, TlbOps, alloc,
};

/// One invalidation that the code under test issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Issued {
    All,
    Walk(u64, u64),
    Leaf(u64, u64),
    Sync,
}

/// Records what is issued; fails on demand.
pub struct Tlb {
    agent: Agent,
    scope: Scope,
    pub issued: RefCell<Vec<Issued>>,
    /// The smallest page that the last of them was told of.
    pub granule: Cell<u64>,
    pub fails: Cell<bool>,
}

// One thread per test uses it.
impl Tlb {
    fn done(&self) -> Result<Proof, TlbError> {
        if self.fails.get() {
            return Err(TlbError { agent: self.agent.name() });
        }
        Ok(Proof::new(self.scope).with(self.agent.begin(self.scope).complete()))
    }
}

impl TlbOps for Tlb {
    fn flush_all(&self) -> Result<Proof, TlbError> {
        self.issued.borrow_mut().push(Issued::All);
        self.done()
    }
    fn flush_walk(&self, iova: Iova, size: u64, granule: u64) -> Result<Proof, TlbError> {
        self.granule.set(granule);
        self.issued.borrow_mut().push(Issued::Walk(iova.get(), size));
        self.done()
    }
    fn add_leaf(&self, iova: Iova, size: u64, granule: u64) {
        self.granule.set(granule);
        self.issued.borrow_mut().push(Issued::Leaf(iova.get(), size));
    }
    fn sync(&self) -> Result<Proof, TlbError> {
        self.issued.borrow_mut().push(Issued::Sync);
        self.done()
    }
}

/// A machine with nothing but memory.
pub struct Machine {
    pub frames: Arc<Frames>,
    pub memory: FrameTables,
    pub tlb: Tlb,
    _arena: Arena,
}

impl Machine {
    /// `frames` frames from 0x8000_0000.
    pub fn new(frames: u64) -> Self {
        Self::at(0x8000_0000, frames)
    }

    /// `frames` frames from `start`.
    pub fn at(start: u64, frames: u64) -> Self {
        fail_fast();
        let arena = Arena::new(PhysAddr::new(start), frames);
        let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
        let agent = frames.register_agent("test").unwrap();
        let scope = Scope::new(7);
        let memory = FrameTables::new(frames.clone(), Owner::vm(1), scope, agent.set());
        let (issued, granule, fails) = (RefCell::default(), Cell::new(0), Cell::new(false));
        let tlb = Tlb { agent, scope, issued, granule, fails };
        Self { frames, memory, tlb, _arena: arena }
    }

    pub fn alloc(&self, config: &Config) -> Result<Box<dyn PageTable>, ConfigError> {
        alloc(config, self.memory.clone())
    }

    /// Finishes a gather and gives its tables back.
    pub fn finish(&self, gather: Gather<'_>) {
        if let Some(flushed) = gather.finish().unwrap() {
            self.release(flushed);
        }
    }

    pub fn release(&self, flushed: Flushed) {
        if let Some(tables) = flushed.tables {
            self.frames.release(tables, &flushed.proof).unwrap();
        }
    }

    pub fn unmap(&self, table: &mut dyn PageTable, iova: u64, size: u64, count: usize) -> u64 {
        let mut gather = Gather::new(&self.tlb);
        let done = table.unmap_pages(Iova::new(iova), size, count, &mut gather).unwrap();
        self.finish(gather);
        done
    }

    pub fn free(&self, table: Box<dyn PageTable>) {
        let mut gather = Gather::new(&self.tlb);
        table.free(&mut gather);
        self.finish(gather);
    }

    /// Frames used by tables.
    pub fn tables(&self) -> u64 {
        self.frames.footprint().table
    }
}

/// With `PALISADE_FAIL_FAST` set, the first test that fails ends all: a mutant is noticed once.
pub fn fail_fast() {
    static ONCE: Once = Once::new();
    if std::env::var_os("PALISADE_FAIL_FAST").is_some() {
        ONCE.call_once(|| {
            let tell = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                tell(info);
                std::process::exit(101);
            }));
        });
    }
}

/// All of them; under Miri, which takes minutes for what takes a millisecond, the first and
/// the last.
pub fn few<T>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    if cfg!(miri) && all.len() > 2 {
        all.drain(1..all.len() - 1);
    }
    all
}

/// The granules; under Miri only the one whose tables have one frame.
pub fn granules() -> &'static [u64] {
    if cfg!(miri) { &GRANULES[..1] } else { &GRANULES }
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The granules, as page-size bitmaps.
pub const GRANULES: [u64; 3] =
    [palisade_pgtable::SIZES_4K, palisade_pgtable::SIZES_16K, palisade_pgtable::SIZES_64K];

pub fn config(format: FormatId, sizes: u64, ias: u8, oas: u8) -> Config {
    let mut config = Config::new(format);
    (config.pgsize_bitmap, config.ias, config.oas) = (sizes, ias, oas);
    config
}

/// The page sizes of a table, smallest first.
pub fn sizes(config: &Config) -> Vec<u64> {
    (0..64).map(|bit| 1u64 << bit).filter(|size| config.pgsize_bitmap & size != 0).collect()
}
