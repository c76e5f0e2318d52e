//! Memory for what is built, and who forgets it.

use alloc::sync::Arc;
use core::ops::Range;

use palisade_hal::{Iova, PhysAddr, tlb};
use palisade_mem::{Agent, DirectMap, FrameTables, Frames, Owner, PhysRange, Proof, Scope};
use palisade_pgtable::{Gather, PageTable, TlbError, TlbOps};

/// RAM for it: beside the image, below 4 GiB, so that a walk with a 32-bit output size still
/// reaches them.
pub const POOL: Range<u64> = 0x4800_0000..0x5800_0000;

/// The one address space that there is at a time.
const SCOPE: Scope = Scope::new(1);

/// Frames, and the CPU's TLB as the one agent that may hold them.
pub struct Memory {
    frames: Arc<Frames>,
    cpu: Agent,
}

impl Memory {
    /// All of `pool`.
    ///
    /// # Safety
    /// The pool is mapped one to one, writable, and used by nothing else.
    pub unsafe fn new(pool: Range<u64>) -> Self {
        let (start, end) = (PhysAddr::new(pool.start), PhysAddr::new(pool.end));
        // SAFETY: the caller's promise.
        let map = unsafe { DirectMap::new(start, end, pool.start as usize) };
        let range = PhysRange { start, bytes: pool.end - pool.start };
        let frames = Frames::new(map, &[range]).expect("a pool of frames");
        let cpu = frames.register_agent("cpu").expect("one agent");
        Self { frames, cpu }
    }

    /// The frames.
    pub fn frames(&self) -> &Arc<Frames> {
        &self.frames
    }

    /// Memory for one table.
    pub fn tables(&self) -> FrameTables {
        FrameTables::new(self.frames.clone(), Owner::vm(0), SCOPE, self.cpu.set())
    }

    /// Takes a table apart that is in no register any more.
    pub fn free(&self, table: alloc::boxed::Box<dyn PageTable>) {
        let mut gather = Gather::new(self);
        table.free(&mut gather);
        let flushed = gather.finish().expect("the CPU's TLB always answers");
        if let Some(flushed) = flushed
            && let Some(tables) = flushed.tables
        {
            self.frames.release(tables, &flushed.proof).expect("the proof covers the tables");
        }
    }

    /// Frames that tables hold or held and did not give back.
    pub fn held(&self) -> u64 {
        let now = self.frames.footprint();
        now.table + now.detached
    }
}

impl TlbOps for Memory {
    fn flush_all(&self) -> Result<Proof, TlbError> {
        let ticket = self.cpu.begin(SCOPE);
        tlb::flush_all_guests();
        Ok(Proof::new(SCOPE).with(ticket.complete()))
    }

    fn flush_walk(&self, _: Iova, _: u64, _: u64) -> Result<Proof, TlbError> {
        self.flush_all()
    }

    fn add_leaf(&self, _: Iova, _: u64, _: u64) {}

    fn sync(&self) -> Result<Proof, TlbError> {
        self.flush_all()
    }
}
