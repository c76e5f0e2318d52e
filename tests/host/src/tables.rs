//! The tables of one DMA view, and how its users are told to forget.

use std::sync::{Arc, Mutex, PoisonError};

use palisade_hal::{Iova, Ipa, PhysAddr};
use palisade_iommu::{Domain, Flush};
use palisade_mem::{Agent, FrameTables, Frames, Owner, Proof, Scope};
use palisade_pgtable::{
    Config, Error, Gather, PageTable, Prot, SplitPolicy, TlbError, TlbOps, alloc,
};

use crate::ledger::Page;

/// Whoever uses the tables, as one voice: it speaks only when every SMMU of the domain has
/// forgotten.
pub struct Users {
    agent: Arc<Agent>,
    domain: Arc<Domain>,
    scope: Scope,
    queued: Mutex<Option<(u64, u64, u64)>>,
}

impl Users {
    /// The users of `domain`, speaking as `agent` about `scope`.
    pub fn new(agent: Arc<Agent>, domain: Arc<Domain>, scope: Scope) -> Self {
        Users { agent, domain, scope, queued: Mutex::new(None) }
    }

    fn flush(&self, what: Flush) -> Result<Proof, TlbError> {
        let ticket = self.agent.begin(self.scope);
        let mut smmu = Proof::new(self.domain.scope());
        let flushed = self.domain.flush(what, &mut smmu);
        flushed.map_err(|_| TlbError { agent: "iommu" })?;
        Ok(Proof::new(self.scope).with(ticket.complete()))
    }
}

impl TlbOps for Users {
    fn flush_all(&self) -> Result<Proof, TlbError> {
        self.flush(Flush::All)
    }

    fn flush_walk(&self, iova: Iova, size: u64, _granule: u64) -> Result<Proof, TlbError> {
        self.flush(Flush::Range { start: Ipa::new(iova.get()), size, leaf: None })
    }

    fn add_leaf(&self, iova: Iova, size: u64, granule: u64) {
        let mut queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner);
        let end = iova.get() + (size - 1);
        *queued = Some(match *queued {
            None => (iova.get(), end, granule),
            Some((start, last, least)) => {
                (start.min(iova.get()), last.max(end), least.min(granule))
            }
        });
    }

    fn sync(&self) -> Result<Proof, TlbError> {
        let queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((start, end, granule)) = queued else { return self.flush_all() };
        let size = end - start + 1;
        // One size for all is known only where there is one leaf.
        let leaf = (size == granule).then_some(granule);
        self.flush(Flush::Range { start: Ipa::new(start), size, leaf })
    }
}

/// What a DMA view is made with.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bits of output address.
    pub oas: u32,
    /// The SMMU sees the CPU's caches.
    pub coherent: bool,
    /// Parts of blocks are replaced in place (BBML 2), or by break-before-make.
    pub in_place: bool,
    /// The contiguous hint is used.
    pub contiguous: bool,
}

/// Empty tables for a VM's devices.
///
/// # Errors
/// Out of frames.
pub fn dma_tables(
    frames: &Arc<Frames>,
    owner: Owner,
    scope: Scope,
    agent: &Agent,
    shape: Shape,
) -> Option<Box<dyn PageTable>> {
    let mut config = Config::iommu_stage2(39, shape.oas as u8, shape.coherent);
    config.split = if shape.in_place { SplitPolicy::InPlace } else { SplitPolicy::BreakBeforeMake };
    config.contiguous = shape.contiguous;
    let memory = FrameTables::new(frames.clone(), owner, scope, agent.set());
    alloc(&config, memory).ok()
}

/// Maps `bytes` from `start` to the memory from `to`.
///
/// # Errors
/// The table's.
pub fn map(table: &mut dyn PageTable, start: u64, bytes: u64, to: Page) -> Result<(), Error> {
    let rights = if to.writable { Prot::MEMORY } else { Prot::READ | Prot::CACHE };
    table.map_range(Iova::new(start), PhysAddr::new(to.pa), bytes, rights)
}

/// Unmaps `bytes` from `start` and, when everybody has forgotten, gives the tables back.
///
/// # Errors
/// What went wrong, in words; then nothing may be reused.
pub fn unmap(
    table: &mut dyn PageTable,
    frames: &Frames,
    users: &Users,
    start: u64,
    bytes: u64,
) -> Result<(), Refusal> {
    let mut gather = Gather::new(users);
    let done = table.unmap_range(Iova::new(start), bytes, &mut gather);
    let finished = finish(frames, gather);
    match done {
        Ok(_) => finished,
        // A split waits for an invalidation of its own.
        Err(Error::Tlb(_)) => Err(Refusal::Tlb),
        Err(Error::NoMemory(_)) => finished.and(Err(Refusal::NoMemory)),
        Err(error) => Err(Refusal::Table(error)),
    }
}

/// Takes the whole table apart.
///
/// # Errors
/// As [`unmap`].
pub fn destroy(table: Box<dyn PageTable>, frames: &Frames, users: &Users) -> Result<(), Refusal> {
    let mut gather = Gather::new(users);
    table.free(&mut gather);
    finish(frames, gather)
}

/// Why an unmap did not come to its end.
#[derive(Debug)]
pub enum Refusal {
    /// Somebody did not forget.
    Tlb,
    /// No memory to split a block: nothing has changed.
    NoMemory,
    /// The table refused.
    Table(Error),
    /// The frames were not given back.
    Proof(String),
}

fn finish(frames: &Frames, gather: Gather<'_>) -> Result<(), Refusal> {
    match gather.finish() {
        Ok(None) => Ok(()),
        Ok(Some(flushed)) => match flushed.tables {
            Some(tables) => frames
                .release(tables, &flushed.proof)
                .map_err(|error| Refusal::Proof(error.to_string())),
            None => Ok(()),
        },
        Err(unflushed) => {
            if let Some(tables) = unflushed.tables {
                frames.quarantine(tables);
            }
            Err(Refusal::Tlb)
        }
    }
}
