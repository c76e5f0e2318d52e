//! Ours: through `&mut dyn PageTable`, with the hypervisor's own table memory,
//! gather and proofs; tables go back to the allocator with every unmap.

use std::hint::black_box;
use std::sync::Arc;

use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Agent, Arena, FrameTables, Frames, Owner, Proof, Scope};
use palisade_pgtable::{
    Config, Flushed, FormatId, Gather, PageTable, Prot, SplitPolicy, TlbError, TlbOps,
    alloc_in_frames,
};

use crate::work::Subject;

/// A TLB that is empty already: what is measured is the page tables' part.
struct Tlb {
    agent: Agent,
    scope: Scope,
}

impl TlbOps for Tlb {
    fn flush_all(&self) -> Result<Proof, TlbError> {
        Ok(Proof::new(self.scope).with(self.agent.begin(self.scope).complete()))
    }
    fn flush_walk(&self, _: Iova, _: u64, _: u64) -> Result<Proof, TlbError> {
        self.flush_all()
    }
    fn add_leaf(&self, _: Iova, _: u64, _: u64) {}
    fn sync(&self) -> Result<Proof, TlbError> {
        self.flush_all()
    }
}

/// Ours.
pub struct Ours {
    table: Box<dyn PageTable>,
    frames: Arc<Frames>,
    tlb: Tlb,
    _arena: Arena,
}

impl Ours {
    /// An empty stage-2 table.
    pub fn new() -> Self {
        let arena = Arena::new(PhysAddr::new(0x8000_0000), 8192);
        let frames = Frames::new(arena.map(), &[arena.range()]).expect("frames");
        let agent = frames.register_agent("bench").expect("an agent");
        let scope = Scope::new(1);
        let memory = FrameTables::new(frames.clone(), Owner::vm(0), scope, agent.set());
        let mut config = Config::new(FormatId::Arm64LpaeS2);
        config.split = SplitPolicy::BreakBeforeMake;
        // Nobody knows from here on which table is behind the trait.
        let table = black_box(alloc_in_frames(&config, memory).expect("a table"));
        let mut ours = Self { table, frames, tlb: Tlb { agent, scope }, _arena: arena };
        // Warms the pool: the next tables come from frames that were tables before.
        ours.map(0, 0, 4096, 1 << 18);
        ours.unmap(0, 4096, 1 << 18);
        ours
    }
}

impl Subject for Ours {
    #[inline(never)]
    fn map(&mut self, iova: u64, pa: u64, size: u64, count: usize) {
        let table = &mut *self.table;
        let done = table.map_pages(Iova::new(iova), PhysAddr::new(pa), size, count, Prot::MEMORY);
        assert!(done.is_ok());
    }

    #[inline(never)]
    fn unmap(&mut self, iova: u64, size: u64, count: usize) {
        let table = &mut *self.table;
        let mut gather = Gather::new(&self.tlb);
        let done = table.unmap_pages(Iova::new(iova), size, count, &mut gather);
        assert!(done.is_ok());
        if let Ok(Some(Flushed { proof, tables: Some(tables) })) = gather.finish() {
            assert!(self.frames.release(tables, &proof).is_ok());
        }
    }

    #[inline(never)]
    fn unmap_each(&mut self, iova: u64, size: u64, calls: u64) {
        let table = &mut *self.table;
        let mut gather = Gather::new(&self.tlb);
        for call in 0..calls {
            let iova = Iova::new(black_box(iova + call * size));
            assert!(table.unmap_pages(iova, size, 1, &mut gather).is_ok());
        }
        if let Ok(Some(Flushed { proof, tables: Some(tables) })) = gather.finish() {
            assert!(self.frames.release(tables, &proof).is_ok());
        }
    }

    #[inline(always)]
    fn translate(&self, iova: u64) -> u64 {
        let table = &*self.table;
        table.iova_to_phys(Iova::new(iova)).map_or(0, PhysAddr::get)
    }

    #[inline(never)]
    fn split(&mut self, iova: u64) -> bool {
        self.unmap(iova, 4096, 1);
        true
    }
}
