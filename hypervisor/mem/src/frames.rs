//! The frame allocator: buddy_system_allocator below, a tag per frame before it.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use buddy_system_allocator::FrameAllocator;
use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{PhysAddr, cache};

use crate::block::Block;
use crate::detached::{Detached, Freed, NIL, Unreleased};
use crate::error::FrameError;
use crate::footprint::Footprint;
use crate::ledger::{Agent, AgentSet, Ledger, Proof, Scope};
use crate::map::DirectMap;
use crate::tag::{FRAME_BYTES, FRAME_SHIFT, Owner, Tag, Use};

/// Orders 0..=20: blocks of up to 4 GiB.
const ORDERS: usize = 21;

/// A range of physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhysRange {
    /// First byte.
    pub start: PhysAddr,
    /// Length in bytes.
    pub bytes: u64,
}

impl PhysRange {
    /// One past the last byte, saturating.
    pub const fn end(&self) -> PhysAddr {
        PhysAddr::new(self.start.get().saturating_add(self.bytes))
    }
}

struct Inner {
    buddy: FrameAllocator<ORDERS>,
    /// Free single frames, last in first out, linked through their tags: giving
    /// a frame back never allocates, and the next taker finds it warm.
    singles: u32,
}

/// All frames of the machine that may be given out. The lock is a leaf: nothing
/// else is locked and nothing waited for while it is held.
pub struct Frames {
    map: DirectMap,
    /// Number of the first frame, and its address.
    first: u64,
    base: u64,
    tags: &'static [AtomicU64],
    inner: Mutex<Inner>,
    counts: [AtomicU64; Use::COUNT],
    /// Of the free frames: set aside for the holders of reserves.
    reserved: AtomicU64,
    ledger: Arc<Ledger>,
}

impl Frames {
    /// An allocator over the given ranges, which lie inside `map`. The tags (8
    /// bytes per frame) are taken from the first range that is long enough.
    ///
    /// # Errors
    /// [`FrameError::NoMemory`] when no range can hold the tags.
    pub fn new(map: DirectMap, ranges: &[PhysRange]) -> Result<Arc<Self>, FrameError> {
        let whole = |range: &PhysRange| {
            let mut start = range.start.get().div_ceil(FRAME_BYTES);
            if map.pointer(PhysAddr::new(start << FRAME_SHIFT), FRAME_BYTES).is_none() {
                // A frame at the null pointer cannot be given to anyone.
                start += 1;
            }
            let end = range.start.get().saturating_add(range.bytes) >> FRAME_SHIFT;
            (start, end.max(start))
        };
        let used = || ranges.iter().map(whole).filter(|(start, end)| start < end);
        let first = used().map(|(start, _)| start).min().ok_or(FrameError::NoMemory)?;
        let last = used().map(|(_, end)| end).max().ok_or(FrameError::NoMemory)?;
        let count = last - first;
        if count >= u64::from(NIL) {
            return Err(FrameError::NoMemory);
        }
        let tag_frames = (count * 8).div_ceil(FRAME_BYTES);
        let home = used()
            .find(|(start, end)| end - start > tag_frames)
            .map(|(start, _)| start)
            .ok_or(FrameError::NoMemory)?;
        let pointer = map
            .pointer(PhysAddr::new(home << FRAME_SHIFT), tag_frames << FRAME_SHIFT)
            .ok_or(FrameError::NoMemory)?;
        let beside_tags = |(start, end): (u64, u64)| {
            (if start == home { start + tag_frames } else { start }, end)
        };
        let given = || used().map(beside_tags);
        // SAFETY: `DirectMap` promises that the range is mapped for ever and holds
        // no other object; these frames are never given out. The pointer is
        // frame-aligned, the loop writes each of the `count` tags that the slice has.
        let tags = unsafe {
            let tags = pointer.cast::<AtomicU64>();
            let mut at = first;
            while at < last {
                // Up to the next range nobody gets a frame, and in it somebody may.
                let next = given().filter(|(_, end)| *end > at).min();
                let (start, end) = next.unwrap_or((last, last));
                let of = if at < start { Use::Reserved } else { Use::Free };
                let until = if at < start { start } else { end }.min(last);
                let word = Tag::new(of, Owner::HYPERVISOR, false, 0).word();
                for number in at..until {
                    tags.add((number - first) as usize).write(AtomicU64::new(word));
                }
                at = until;
            }
            core::slice::from_raw_parts(tags.as_ptr(), count as usize)
        };

        let mut buddy = FrameAllocator::new();
        let mut free = 0;
        for (start, end) in given() {
            buddy.add_frame(start as usize, end as usize);
            free += end - start;
        }
        let frames = Self {
            map,
            first,
            base: first << FRAME_SHIFT,
            tags,
            inner: Mutex::new(Rank::Frames, Inner { buddy, singles: NIL }),
            counts: [const { AtomicU64::new(0) }; Use::COUNT],
            reserved: AtomicU64::new(0),
            ledger: Arc::new(Ledger::new()),
        };
        frames.counts[Use::Free as usize].store(free, Ordering::Relaxed);
        Ok(Arc::new(frames))
    }

    /// Registers something that caches translations.
    ///
    /// # Errors
    /// [`FrameError::TooManyAgents`].
    pub fn register_agent(&self, name: &'static str) -> Result<Agent, FrameError> {
        self.ledger.register(name).ok_or(FrameError::TooManyAgents)
    }

    /// 2^order frames with undefined contents.
    ///
    /// # Errors
    /// [`FrameError::OutOfMemory`], also where what is free is set aside for others.
    pub fn alloc(&self, order: u8, of: Use, owner: Owner) -> Result<Block, FrameError> {
        self.take(order, of, owner, false)
    }

    /// The same for the holder of a reserve; `set_aside`: the frames are its own.
    fn take(&self, order: u8, of: Use, owner: Owner, set_aside: bool) -> Result<Block, FrameError> {
        let out = FrameError::OutOfMemory { order };
        if usize::from(order) >= ORDERS {
            return Err(out);
        }
        let length = 1 << order;
        let index = {
            let mut inner = self.inner.lock();
            if !set_aside && self.available() < length {
                return Err(out);
            }
            let index = match self.pop_single(&mut inner, order) {
                Some(index) => index,
                None => {
                    let mut found = inner.buddy.alloc(1 << order);
                    if found.is_none() {
                        // The free singles may be what a larger block is missing.
                        self.drain_singles(&mut inner);
                        found = inner.buddy.alloc(1 << order);
                    }
                    let number = found.ok_or(out)? as u64;
                    u32::try_from(number - self.first).map_err(|_| out)?
                }
            };
            // Under the lock: who asks next must see it.
            self.count(Use::Free, of, length);
            if set_aside {
                self.reserved.fetch_sub(length, Ordering::Relaxed);
            }
            index
        };
        self.retag(index, order, Tag::new(of, owner, false, 0));
        let pa = PhysAddr::new((self.first + u64::from(index)) << FRAME_SHIFT);
        Ok(Block { index, order, pa })
    }

    /// Frames that are free and not set aside.
    pub fn available(&self) -> u64 {
        let free = self.counts[Use::Free as usize].load(Ordering::Relaxed);
        free.saturating_sub(self.reserved.load(Ordering::Relaxed))
    }

    /// Sets `count` available frames aside.
    pub(crate) fn set_aside(&self, wanted: u64) -> Result<(), FrameError> {
        let _inner = self.inner.lock();
        let available = self.available();
        if wanted > available {
            return Err(FrameError::TooFew { wanted, available });
        }
        self.count_set_aside(wanted);
        Ok(())
    }

    /// Sets `count` frames aside that are free, or will be soon.
    #[inline]
    pub(crate) fn count_set_aside(&self, count: u64) {
        self.reserved.fetch_add(count, Ordering::Relaxed);
    }

    /// Ends a reserve of `count` frames.
    pub(crate) fn set_free(&self, count: u64) {
        self.reserved.fetch_sub(count, Ordering::Relaxed);
    }

    /// 2^order zeroed frames of those that are set aside.
    pub(crate) fn alloc_set_aside(
        &self,
        order: u8,
        of: Use,
        owner: Owner,
    ) -> Result<Block, FrameError> {
        let block = self.take(order, of, owner, true)?;
        self.zero(&block);
        Ok(block)
    }

    /// 2^order frames of zeroes, clean to the point of coherency.
    ///
    /// # Errors
    /// [`FrameError::OutOfMemory`].
    pub fn alloc_zeroed(&self, order: u8, of: Use, owner: Owner) -> Result<Block, FrameError> {
        let block = self.alloc(order, of, owner)?;
        self.zero(&block);
        Ok(block)
    }

    /// Notes that a walker or a device is about to be told of the block. From
    /// now on it comes back against a proof only.
    pub fn expose(&self, block: &Block) {
        for tag in self.block_tags(block.index, block.order) {
            tag.fetch_or(Tag::EXPOSED, Ordering::Release);
        }
    }

    /// Gives back a block that was never exposed.
    ///
    /// # Errors
    /// The block itself, when it was exposed.
    pub fn free(&self, block: Block) -> Result<(), (FrameError, Block)> {
        match self.block_tag(&block) {
            Some(tag) if tag.is_exposed() => Err((FrameError::Exposed(block.pa), block)),
            Some(tag) => {
                self.give_back(block.index, block.order, tag.usage());
                Ok(())
            }
            None => Err((FrameError::NotOurs(block.pa), block)),
        }
    }

    /// Takes a block from its user, after the entries that pointed to it were
    /// cleared and before they are invalidated. `agents` are all that may hold
    /// a translation to it, through the address space `scope`.
    pub fn detach(&self, block: Block, scope: Scope, agents: AgentSet) -> Detached {
        let mut list = self.detached_list(scope, agents);
        self.detach_onto(&mut list, block);
        list
    }

    /// An empty list for [`detach_onto`](Self::detach_onto).
    pub(crate) fn detached_list(&self, scope: Scope, agents: AgentSet) -> Detached {
        let ledger = self.ledger.clone();
        Detached { head: None, frames: 0, agents, scope, epoch: 0, ledger }
    }

    /// Adds one more block to a list of detached ones of the same scope and agents.
    pub fn detach_onto(&self, list: &mut Detached, block: Block) {
        let Some(tag) = self.block_tag(&block) else { return };
        self.retag(block.index, block.order, tag.with_use(Use::Detached));
        self.count(tag.usage(), Use::Detached, 1 << block.order);
        if let Some(head) = self.tags.get(block.index as usize) {
            let word = Tag::from_word(head.load(Ordering::Relaxed));
            head.store(word.with_count(list.head.unwrap_or(NIL)).word(), Ordering::Relaxed);
        }
        list.head = Some(block.index);
        list.frames += 1 << block.order;
        list.epoch = self.ledger.advance();
    }

    /// Gives detached frames back, wiped (but for tables, which are zeroed when
    /// they are taken again), if `proof` shows that nothing reaches them.
    ///
    /// # Errors
    /// [`Unreleased`] hands the frames back when an agent is missing from the
    /// proof, when it is about another scope, or older than the detaching.
    pub fn release(&self, mut detached: Detached, proof: &Proof) -> Result<(), Unreleased> {
        let Detached { agents, epoch, scope, .. } = detached;
        if !self.ledger.covers(proof, agents, epoch, scope) {
            return Err(Unreleased(detached));
        }
        let Some(first) = detached.head.take() else { return Ok(()) };
        // Single frames join the free ones at once, linked the other way round.
        let mut freed = Freed::new(first);
        loop {
            freed.tables(self.tags);
            let Some(tag) = self.tag_at(freed.next) else { break };
            let index = freed.next;
            if !tag.is_table() {
                // Tables hold no secrets, and are zeroed when they are taken again.
                let pa = PhysAddr::new((self.first + u64::from(index)) << FRAME_SHIFT);
                self.zero(&Block { index, order: tag.order(), pa });
            }
            if tag.order() > 0 {
                freed.next = tag.count();
                self.give_back(index, tag.order(), Use::Detached);
            } else {
                freed.single(self.tags, index, tag.count());
            }
        }
        if let Some(tail) = self.tags.get(freed.tail as usize) {
            self.count(Use::Detached, Use::Free, freed.singles);
            let mut inner = self.inner.lock();
            tail.store(Tag::free(inner.singles).word(), Ordering::Release);
            inner.singles = freed.head;
        }
        Ok(())
    }

    /// Gives detached frames back against `proof`, or, without one that covers them, up for good.
    /// Returns how many frames are lost.
    pub fn release_or_quarantine(&self, detached: Detached, proof: Option<&Proof>) -> u64 {
        let kept = match proof {
            Some(proof) => self.release(detached, proof).err().map(|refused| refused.0),
            None => Some(detached),
        };
        let lost = kept.as_ref().map_or(0, Detached::frames);
        if let Some(kept) = kept {
            self.quarantine(kept);
        }
        lost
    }

    /// [`detach_onto`](Self::detach_onto) for a block of one frame whose tag was
    /// just compared: `false` if it is larger, and nothing has changed.
    #[inline]
    pub(crate) fn detach_single(
        &self,
        list: &mut Detached,
        pa: PhysAddr,
        word: &AtomicU64,
    ) -> bool {
        let tag = Tag::from_word(word.load(Ordering::Relaxed));
        if !tag.is_head() || tag.order() > 0 {
            return false;
        }
        let link = list.head.unwrap_or(NIL);
        word.store(tag.with_use(Use::Detached).with_count(link).word(), Ordering::Release);
        self.count(Use::Table, Use::Detached, 1);
        list.head = Some((pa.get().wrapping_sub(self.base) >> FRAME_SHIFT) as u32);
        list.frames += 1;
        list.epoch = self.ledger.advance();
        true
    }

    /// Detaches tables of one frame each, at most `count`, for as long as `at(nth)` is one whose
    /// tag is `want` in the bits of `mask` ([`Tag::IDENTITY`] among them), each after `unlink(nth)`.
    /// Answers how many.
    #[inline(always)]
    pub(crate) fn detach_tables(
        &self,
        list: &mut Detached,
        count: usize,
        (mask, want): (u64, u64),
        at: impl Fn(usize) -> PhysAddr,
        unlink: impl Fn(usize),
    ) -> usize {
        let (tags, base) = (self.tags, self.base);
        // A linked table is a block of its own, and exposed.
        let single = Tag::new(Use::Free, Owner::HYPERVISOR, true, 0).with_exposed().word();
        let (mask, want) = (mask | Tag::SHAPE, want | single);
        let detached = Tag::from_word(want & 0xffff_ffff).with_use(Use::Detached);
        let mut head = list.head.unwrap_or(NIL);
        let mut done = 0;
        while done < count {
            let number = at(done).get().wrapping_sub(base).rotate_right(FRAME_SHIFT);
            let Some(word) = tags.get(number as usize) else { break };
            if word.load(Ordering::Relaxed) & mask != want {
                break;
            }
            unlink(done);
            word.store(detached.with_count(head).word(), Ordering::Release);
            head = number as u32;
            done += 1;
        }
        if done > 0 {
            self.count(Use::Table, Use::Detached, done as u64);
            list.head = Some(head);
            list.frames += done as u64;
            list.epoch = self.ledger.advance();
        }
        done
    }

    /// Gives detached frames up for good: unreachability cannot be proven.
    pub fn quarantine(&self, mut detached: Detached) {
        let mut next = detached.head.take();
        while let Some(index) = next {
            let Some(tag) = self.tag_at(index) else { break };
            next = Some(tag.count()).filter(|&link| link != NIL);
            self.retag(index, tag.order(), tag.with_use(Use::Quarantined).with_count(0));
            self.count(Use::Detached, Use::Quarantined, 1 << tag.order());
        }
    }

    /// The tag of the frame at `pa`, or `None` where no frame of this allocator is.
    pub fn tag(&self, pa: PhysAddr) -> Option<Tag> {
        self.tag_word(pa).map(|word| Tag::from_word(word.load(Ordering::Relaxed)))
    }

    /// The tag word of the frame at `pa`; its user owns the upper 32 bits.
    #[inline]
    pub fn tag_word(&self, pa: PhysAddr) -> Option<&AtomicU64> {
        let index = (pa.get() >> FRAME_SHIFT).wrapping_sub(self.first);
        self.tags.get(index as usize)
    }

    /// The pointer to and the tag of the frame that starts at `pa`, if
    /// `tag & mask == want`: one load. Where a tag is, the window is too.
    #[inline(always)]
    pub(crate) fn tagged(
        &self,
        pa: PhysAddr,
        mask: u64,
        want: u64,
    ) -> Option<(core::ptr::NonNull<u8>, &AtomicU64)> {
        // The rotation turns low bits that should be zero into a number past any frame.
        let from_first = pa.get().wrapping_sub(self.base);
        let tag = self.tags.get(from_first.rotate_right(FRAME_SHIFT) as usize)?;
        if tag.load(Ordering::Relaxed) & mask != want {
            return None;
        }
        Some((self.map.pointer_within(pa), tag))
    }

    /// `count` 8-byte words at `pa`, if the frames have that use and owner.
    /// `pa` is a multiple of 8 and all words lie in one block.
    pub fn words(&self, pa: PhysAddr, count: usize, of: Use, owner: Owner) -> Option<&[AtomicU64]> {
        let bytes = (count as u64).checked_mul(8)?;
        if !pa.is_aligned(8) || !self.all(pa, bytes, of, owner) {
            return None;
        }
        let pointer = self.map.pointer(pa, bytes)?;
        // SAFETY: the window is mapped for ever, the pointer is 8-byte aligned, and
        // frames with a tag other than Private are only ever reached as atomics.
        Some(unsafe { core::slice::from_raw_parts(pointer.cast().as_ptr(), count) })
    }

    /// The window onto memory.
    pub fn map(&self) -> &DirectMap {
        &self.map
    }

    /// How many frames have which use.
    pub fn footprint(&self) -> Footprint {
        let count = |of: Use| self.counts[of as usize].load(Ordering::Relaxed);
        Footprint {
            free: count(Use::Free),
            private: count(Use::Private),
            table: count(Use::Table),
            guest: count(Use::Guest),
            dma: count(Use::Dma),
            detached: count(Use::Detached),
            quarantined: count(Use::Quarantined),
            leaked: self.ledger.leaked.load(Ordering::Relaxed),
        }
    }

    /// The block that starts at `pa` and has that use and owner: takes over the
    /// handle from whoever recorded only the address (a table entry).
    ///
    /// The caller must be the user of the block, who dropped its handle when it
    /// recorded the address; a wrong call is a logic error, never memory unsafety.
    pub fn reclaim(&self, pa: PhysAddr, of: Use, owner: Owner) -> Option<Block> {
        let tag = self.tag(pa)?;
        if !tag.is_head() || tag.word() & Tag::IDENTITY != Tag::identity(of, owner) {
            return None;
        }
        let index = u32::try_from((pa.get() >> FRAME_SHIFT) - self.first).ok()?;
        Some(Block { index, order: tag.order(), pa: pa.align_down(FRAME_BYTES) })
    }

    /// Whether all frames of the range have that use and owner.
    pub(crate) fn all(&self, pa: PhysAddr, bytes: u64, of: Use, owner: Owner) -> bool {
        let Some(end) = pa.checked_add(bytes) else { return false };
        let mut at = pa.align_down(FRAME_BYTES);
        while at < end {
            let fits = self
                .tag(at)
                .is_some_and(|tag| tag.word() & Tag::IDENTITY == Tag::identity(of, owner));
            if !fits {
                return false;
            }
            let Some(next) = at.checked_add(FRAME_BYTES) else { return false };
            at = next;
        }
        true
    }

    /// Zeroes the block and cleans it to the point of coherency, so that a guest
    /// that starts with its caches off reads zeroes too.
    pub(crate) fn zero(&self, block: &Block) {
        let Some(pointer) = self.map.pointer(block.pa, block.bytes()) else { return };
        // SAFETY: the block is ours, mapped, and nobody's: it was just taken from
        // the allocator, or was proven unreachable.
        unsafe { cache::zero(pointer.as_ptr(), block.bytes() as usize) };
    }

    fn tag_at(&self, index: u32) -> Option<Tag> {
        self.tags.get(index as usize).map(|word| Tag::from_word(word.load(Ordering::Relaxed)))
    }

    fn block_tag(&self, block: &Block) -> Option<Tag> {
        self.tag_at(block.index).filter(|tag| tag.is_head() && tag.order() == block.order)
    }

    fn block_tags(&self, index: u32, order: u8) -> &[AtomicU64] {
        let start = index as usize;
        self.tags.get(start..start + (1 << order)).unwrap_or(&[])
    }

    /// Writes `tag` to all frames of a block, the head bit and order to the first.
    fn retag(&self, index: u32, order: u8, tag: Tag) {
        let body = Tag::from_word(tag.word() & (Tag::IDENTITY | Tag::EXPOSED));
        for (nth, word) in self.block_tags(index, order).iter().enumerate() {
            let head = Tag::new(body.usage(), body.owner(), true, order);
            let mut value = if nth == 0 { head } else { body };
            if body.is_exposed() {
                value = value.with_exposed();
            }
            word.store(value.word(), Ordering::Release);
        }
    }

    fn count(&self, from: Use, to: Use, frames: u64) {
        self.counts[from as usize].fetch_sub(frames, Ordering::Relaxed);
        self.counts[to as usize].fetch_add(frames, Ordering::Relaxed);
    }

    fn give_back(&self, index: u32, order: u8, from: Use) {
        self.retag(index, order, Tag::new(Use::Free, Owner::HYPERVISOR, false, 0));
        self.count(from, Use::Free, 1 << order);
        let mut inner = self.inner.lock();
        if order == 0 {
            if let Some(word) = self.tags.get(index as usize) {
                word.store(Tag::free(inner.singles).word(), Ordering::Relaxed);
                inner.singles = index;
            }
        } else {
            let number = (self.first + u64::from(index)) as usize;
            inner.buddy.dealloc(number, 1 << order);
        }
    }

    fn pop_single(&self, inner: &mut Inner, order: u8) -> Option<u32> {
        if order != 0 || inner.singles == NIL {
            return None;
        }
        let index = inner.singles;
        inner.singles = self.tag_at(index)?.count();
        Some(index)
    }

    fn drain_singles(&self, inner: &mut Inner) {
        while let Some(index) = self.pop_single(inner, 0) {
            inner.buddy.dealloc((self.first + u64::from(index)) as usize, 1);
        }
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames({:?})", self.footprint())
    }
}
