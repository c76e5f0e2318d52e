//! Table memory over the frame allocator.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use palisade_hal::PhysAddr;

use super::seam::{TableMemory, one_by_one};
use super::words::{Table, Words};
use crate::tag::FRAME_SHIFT;
use crate::{AgentSet, Detached, Frames, Owner, Reserve, Scope, Space, Tag, Use};

/// The tables of one address space, taken from the machine's frames.
#[derive(Clone, Debug)]
pub struct FrameTables {
    frames: Arc<Frames>,
    owner: Owner,
    scope: Scope,
    agents: AgentSet,
    /// What the tags of its tables say.
    identity: u64,
    /// What a root waits for besides the agents.
    closing: Option<AgentSet>,
    /// Where they are taken from; without one, from what is free.
    reserve: Option<Arc<Reserve>>,
}

impl FrameTables {
    /// Table memory for `owner`. `agents` are all that may walk or cache these
    /// tables, through the address space `scope`.
    pub fn new(frames: Arc<Frames>, owner: Owner, scope: Scope, agents: AgentSet) -> Self {
        let identity = Tag::identity(Use::Table, owner) | 1 << Tag::CLASS_SHIFT;
        Self { frames, owner, scope, agents, identity, closing: None, reserve: None }
    }

    /// The same for a space that walkers are pointed at: its roots, and whatever is retired with
    /// them, come back only after the space was closed.
    pub fn in_space(frames: Arc<Frames>, owner: Owner, space: &Space, agents: AgentSet) -> Self {
        let closing = Some(AgentSet::CLOSING);
        Self { closing, ..Self::new(frames, owner, space.scope(), agents) }
    }

    /// The same memory, every table of which is taken from `reserve`, and goes back to it.
    #[must_use]
    pub fn from_reserve(mut self, reserve: Arc<Reserve>) -> Self {
        self.reserve = Some(reserve);
        self
    }

    /// The frames beneath.
    pub fn frames(&self) -> &Arc<Frames> {
        &self.frames
    }

    /// The address space.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    fn list<'l>(&self, into: &'l mut Option<Detached>) -> &'l mut Detached {
        match into {
            Some(list) => list,
            None => into.insert(self.frames.detached_list(self.scope, self.agents)),
        }
    }

    /// `count` frames of tables were taken from the tree.
    #[inline]
    fn put_back(&self, count: u64) {
        if let Some(reserve) = &self.reserve {
            reserve.put_back(count);
        }
    }

    #[inline(always)]
    fn identity<W: Words>(&self) -> u64 {
        // The commonest size is in it already.
        self.identity ^ ((W::CLASS ^ 1) << Tag::CLASS_SHIFT)
    }
}

impl TableMemory for FrameTables {
    fn alloc<W: Words>(&self, count: usize) -> Option<PhysAddr> {
        let frames = W::BYTES.checked_mul(count as u64)? >> FRAME_SHIFT;
        if !frames.is_power_of_two() {
            return None;
        }
        let order = frames.trailing_zeros() as u8;
        let block = match &self.reserve {
            Some(reserve) => reserve.alloc_zeroed(order, Use::Table, self.owner),
            None => self.frames.alloc_zeroed(order, Use::Table, self.owner),
        };
        let block = block.ok()?;
        for nth in 0..count as u64 {
            let at = PhysAddr::new(block.start().get() + nth * W::BYTES);
            if let Some(tag) = self.frames.tag_word(at) {
                tag.fetch_or(W::CLASS << Tag::CLASS_SHIFT, Ordering::Relaxed);
            }
        }
        Some(block.start())
    }

    fn discard(&self, block: PhysAddr) {
        if let Some(block) = self.frames.reclaim(block, Use::Table, self.owner) {
            let frames = 1 << block.order();
            // A block that was linked after all is lost rather than reused.
            if self.frames.free(block).is_ok() {
                self.put_back(frames);
            }
        }
    }

    #[inline(always)]
    fn table<W: Words>(&self, at: PhysAddr) -> Option<Table<'_, W>> {
        let mask = Tag::IDENTITY | Tag::CLASS;
        let (pointer, tag) = self.frames.tagged(at, mask, self.identity::<W>())?;
        // SAFETY: a tag with a size class stands only on the first frame of a table
        // of that class, written by `alloc` above on a block that holds all of it;
        // table frames are reached as atomics only. While the tag says so the
        // frames are not free, and the direct map lasts for ever.
        let words = unsafe { pointer.cast::<W>().as_ref() };
        Some(Table::new(words, tag))
    }

    #[inline(always)]
    fn retire_full<W: Words>(
        &self,
        count: usize,
        live: usize,
        at: impl Fn(usize) -> PhysAddr,
        unlink: impl Fn(usize),
        into: &mut Option<Detached>,
    ) -> usize {
        if W::BYTES > 1 << FRAME_SHIFT {
            return one_by_one::<Self, W>(self, count, live, at, unlink, into);
        }
        let mask = Tag::IDENTITY | Tag::CLASS | u64::from(u32::MAX) << Tag::COUNT_SHIFT;
        let want = self.identity::<W>() | (live as u64) << Tag::COUNT_SHIFT;
        let list = self.list(into);
        let done = self.frames.detach_tables(list, count, (mask, want), at, unlink);
        if list.frames() == 0 {
            *into = None;
        }
        self.put_back(done as u64);
        done
    }

    fn retire(&self, block: PhysAddr, into: &mut Option<Detached>) {
        let Some((_, tag)) =
            self.frames.tagged(block, Tag::IDENTITY, self.identity & Tag::IDENTITY)
        else {
            return;
        };
        let list = self.list(into);
        if self.frames.detach_single(list, block, tag) {
            self.put_back(1);
            return;
        }
        if let Some(block) = self.frames.reclaim(block, Use::Table, self.owner) {
            let frames = 1 << block.order();
            self.frames.detach_onto(list, block);
            self.put_back(frames);
        }
    }

    fn retire_root(&self, root: PhysAddr, into: &mut Option<Detached>) {
        self.retire(root, into);
        if let (Some(closing), Some(list)) = (self.closing, into) {
            list.agents = list.agents.with(closing);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;

    use super::*;
    use crate::{Arena, Proof};

    type Small = [AtomicU64; 512];
    type Large = [AtomicU64; 8192];

    fn tables(agents: &str) -> (FrameTables, crate::Agent) {
        assert!(!agents.is_empty());
        let arena = Arena::new(PhysAddr::new(0x8000_0000), 1024);
        let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
        let agent = frames.register_agent("test").unwrap();
        (FrameTables::new(frames, Owner::vm(3), Scope::new(1), agent.set()), agent)
    }

    #[test]
    fn only_a_live_table_of_this_owner_and_size_is_reached() {
        let (memory, _) = tables("one");
        let at = memory.alloc::<Small>(1).unwrap();
        assert!(memory.table::<Small>(at).is_some());
        assert!(memory.table::<Large>(at).is_none());
        assert!(memory.table::<Small>(PhysAddr::new(at.get() + 0x1000)).is_none());
        assert!(memory.table::<Small>(PhysAddr::new(at.get() + 8)).is_none());
        assert!(memory.table::<Small>(PhysAddr::new(0)).is_none());
        assert!(memory.table::<Small>(PhysAddr::new(!0xfff)).is_none());
        let (frames, agents) = (memory.frames.clone(), memory.agents);
        let other = FrameTables::new(frames, Owner::vm(4), Scope::new(1), agents);
        assert!(other.table::<Small>(at).is_none());
        let large = memory.alloc::<Large>(2).unwrap();
        let second = PhysAddr::new(large.get() + 0x1_0000);
        assert!(memory.table::<Large>(second).is_some());
        assert!(memory.table::<Small>(PhysAddr::new(large.get() + 0x1000)).is_none());
        memory.discard(large);
        assert!(memory.table::<Large>(second).is_none());
    }

    #[test]
    fn an_exposed_table_comes_back_against_a_proof_only() {
        let (memory, agent) = tables("one");
        let before = memory.frames().footprint();
        let at = memory.alloc::<Small>(1).unwrap();
        let table = memory.table::<Small>(at).unwrap();
        table.expose();
        table.add_live(3);
        assert_eq!(table.sub_live(2), 1);
        memory.discard(at);
        assert!(memory.table::<Small>(at).is_some(), "exposed, so discard refuses");
        let mut list = None;
        memory.retire(at, &mut list);
        assert!(memory.table::<Small>(at).is_none());
        let list = memory.frames().release(list.unwrap(), &Proof::new(Scope::new(1)));
        let list = list.unwrap_err().0;
        let proof = Proof::new(Scope::new(1)).with(agent.begin(Scope::new(1)).complete());
        memory.frames().release(list, &proof).unwrap();
        assert_eq!(memory.frames().footprint(), before);
    }
}
