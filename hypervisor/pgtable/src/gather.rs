//! What an unmap leaves to be done: one range to invalidate, and the tables that
//! may be released only after that.

use palisade_hal::{Iova, barrier};
use palisade_mem::{Detached, Proof};

use crate::error::TlbError;

/// The invalidations that a table's users know how to do.
///
/// They may be called with interrupts masked and under the domain's lock; they
/// never allocate, and however many leaves are queued, queueing never fails.
/// Each implementation issues the barrier that makes earlier stores to the
/// tables visible before its first invalidation. A proof covers what was
/// detached before the call: its tickets are taken first.
pub trait TlbOps {
    /// Forgets everything of the address space and waits for it.
    ///
    /// # Errors
    /// The agent that did not complete: nothing may be released.
    fn flush_all(&self) -> Result<Proof, TlbError>;

    /// Forgets all levels of `[iova, iova + size)` and waits for it. `granule` is
    /// the smallest page that may have been mapped there, in bytes.
    ///
    /// # Errors
    /// As [`flush_all`](Self::flush_all).
    fn flush_walk(&self, iova: Iova, size: u64, granule: u64) -> Result<Proof, TlbError>;

    /// Queues forgetting the leaves of `[iova, iova + size)`.
    fn add_leaf(&self, iova: Iova, size: u64, granule: u64);

    /// Waits for all that was queued.
    ///
    /// # Errors
    /// As [`flush_all`](Self::flush_all).
    fn sync(&self) -> Result<Proof, TlbError>;
}

/// When the invalidations of an unmap happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlushPolicy {
    /// With each unmap: the exact range.
    #[default]
    Strict,
    /// Later, for many unmaps together: everything. Memory still waits for it.
    Deferred,
}

/// Collects one contiguous range (the hull, if unmaps were apart) and the tables
/// taken out of the tree.
#[must_use = "what was unmapped is still cached until the gather is finished"]
pub struct Gather<'t> {
    tlb: &'t dyn TlbOps,
    start: u64,
    end: u64,
    /// All sizes of pages that were told, one bit each.
    granules: u64,
    /// Whether everything must be forgotten: asked for, or by the policy.
    everything: bool,
    deferred: bool,
    pub(crate) tables: Option<Detached>,
}

/// What a finished gather hands over: the proof, and the tables it releases.
#[derive(Debug)]
#[must_use = "the tables are released against the proof, or lost"]
pub struct Flushed {
    /// Proves that what was unmapped before is no longer cached.
    pub proof: Proof,
    /// Tables to give to [`palisade_mem::Frames::release`] with the proof.
    pub tables: Option<Detached>,
}

/// A gather whose invalidation failed: the tables must be quarantined.
#[derive(Debug)]
#[must_use = "what may still be cached must never be reused"]
pub struct Unflushed {
    /// Why.
    pub error: TlbError,
    /// Tables to give to [`palisade_mem::Frames::quarantine`].
    pub tables: Option<Detached>,
}

impl<'t> Gather<'t> {
    /// Nothing gathered yet; `tlb` is who will be told.
    #[inline]
    pub fn new(tlb: &'t dyn TlbOps) -> Self {
        Self::with_policy(tlb, FlushPolicy::Strict)
    }

    /// Nothing gathered yet, with a stated policy.
    #[inline]
    pub fn with_policy(tlb: &'t dyn TlbOps, policy: FlushPolicy) -> Self {
        Self {
            tlb,
            start: u64::MAX,
            end: 0,
            granules: 0,
            everything: false,
            deferred: policy == FlushPolicy::Deferred,
            tables: None,
        }
    }

    /// Whether nothing needs to be invalidated.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start > self.end && !self.everything && self.tables.is_none()
    }

    /// First and last byte of the range gathered, if any.
    #[inline]
    pub fn range(&self) -> Option<(Iova, Iova)> {
        (self.start <= self.end).then(|| (Iova::new(self.start), Iova::new(self.end)))
    }

    /// The tables gathered so far.
    #[inline]
    pub fn tables(&self) -> Option<&Detached> {
        self.tables.as_ref()
    }

    /// Widens the range by `[first, last]`, which was mapped by pages of `granule` bytes.
    #[inline(always)]
    pub(crate) fn add(&mut self, first: u64, last: u64, granule: u64) {
        self.start = self.start.min(first);
        self.end = self.end.max(last);
        self.granules |= granule;
    }

    pub(crate) fn add_everything(&mut self) {
        self.everything = true;
    }

    pub(crate) fn tlb(&self) -> &'t dyn TlbOps {
        self.tlb
    }

    /// Invalidates what was gathered, once, and waits for it. An empty gather
    /// invalidates nothing and answers `None`.
    ///
    /// # Errors
    /// [`Unflushed`] when an agent did not complete; the tables are handed back
    /// to be quarantined, and nothing that was unmapped may be reused.
    #[inline(always)]
    pub fn finish(self) -> Result<Option<Flushed>, Unflushed> {
        if self.everything | self.deferred || self.tables.is_some() {
            return self.finish_widely();
        }
        if self.start > self.end {
            return Ok(None);
        }
        // The cleared entries are seen by walkers before any of them is asked to forget.
        barrier::dsb_ishst();
        let (start, size, granule) = self.stretch();
        self.tlb.add_leaf(start, size, granule);
        match self.tlb.sync() {
            Ok(proof) => Ok(Some(Flushed { proof, tables: None })),
            Err(error) => Err(Unflushed { error, tables: None }),
        }
    }

    /// The same where more than leaves must be forgotten.
    #[cold]
    #[inline(never)]
    fn finish_widely(mut self) -> Result<Option<Flushed>, Unflushed> {
        if self.is_empty() {
            return Ok(None);
        }
        barrier::dsb_ishst();
        let (start, size, granule) = self.stretch();
        let proof = if self.everything || self.deferred {
            self.tlb.flush_all()
        } else {
            self.tlb.flush_walk(start, size, granule)
        };
        let tables = self.tables.take();
        match proof {
            Ok(proof) => Ok(Some(Flushed { proof, tables })),
            Err(error) => Err(Unflushed { error, tables }),
        }
    }

    /// First byte, bytes, and the smallest page of what was gathered.
    #[inline(always)]
    fn stretch(&self) -> (Iova, u64, u64) {
        let size = self.end.wrapping_sub(self.start).saturating_add(1);
        let smallest = self.granules & self.granules.wrapping_neg();
        (Iova::new(self.start), size, smallest)
    }
}
