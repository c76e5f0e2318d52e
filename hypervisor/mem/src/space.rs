//! Address spaces that walkers are pointed at, and the word that none is any more.
//!
//! A proof of invalidations says that nothing which was *unlinked* is reachable. It says nothing
//! of what is linked still: while an entry of an IOMMU points at the root of the tables, whatever
//! was invalidated is walked anew. So what is released together with its tables (the tables
//! themselves, and the memory that they still map) waits for one word more: [`Closed`], which
//! only the owner of the [`Space`] has to give, once.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::block::Block;
use crate::detached::Detached;
use crate::frames::Frames;
use crate::ledger::{AgentSet, Scope};

/// Scopes below this number are free for others: [`Scope::new`].
const FIRST: u32 = 0x1_0000;

static NEXT: AtomicU32 = AtomicU32::new(FIRST);

/// An address space that walkers may be pointed at: there is one value of each, held by whoever
/// points them. Dropped, the space is never closed, and its tables are never released.
#[derive(Debug)]
#[must_use = "what belongs to a space that was dropped is never released"]
pub struct Space(Scope);

impl Space {
    /// A space with a scope of its own.
    pub fn open() -> Self {
        Self(Scope::new(NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Its scope in proofs.
    pub fn scope(&self) -> Scope {
        self.0
    }

    /// Gives the space up. The caller says: no register and no entry, in memory or in a cache of
    /// the hardware, points at its tables, and none will.
    pub fn close(self) -> Closed {
        Closed(self.0)
    }
}

/// The word that nothing points at the tables of a space any more, and nothing will.
#[derive(Debug)]
#[must_use = "without it the space's tables and memory can only be quarantined"]
pub struct Closed(Scope);

impl Closed {
    /// Which space it is about.
    pub fn scope(&self) -> Scope {
        self.0
    }
}

/// Blocks that the tables of a space map until its end: they are exposed, and come back against a
/// proof with the space's [`Closed`] only.
#[derive(Debug)]
#[must_use = "dropped blocks are lost"]
pub struct Mapped {
    frames: Arc<Frames>,
    scope: Scope,
    blocks: Vec<Block>,
}

impl Mapped {
    /// No blocks yet.
    pub fn new(frames: Arc<Frames>, scope: Scope) -> Self {
        Self { frames, scope, blocks: Vec::new() }
    }

    /// Takes a block in that is about to be mapped; hands it back where the list cannot grow.
    ///
    /// # Errors
    /// The block: no memory for the list.
    pub fn push(&mut self, block: Block) -> Result<(), Block> {
        if self.blocks.try_reserve(1).is_err() {
            return Err(block);
        }
        self.frames.expose(&block);
        self.blocks.push(block);
        Ok(())
    }

    /// Takes all of them from their user; `agents` are all that may hold a translation to them.
    pub fn detach(self, agents: AgentSet) -> Option<Detached> {
        let mut blocks = self.blocks.into_iter();
        let first = blocks.next()?;
        let agents = agents.with(AgentSet::CLOSING);
        let mut list = self.frames.detach(first, self.scope, agents);
        blocks.for_each(|block| self.frames.detach_onto(&mut list, block));
        Some(list)
    }
}
