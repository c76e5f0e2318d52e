//! Frames taken from their user whose unreachability is yet to be proven.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use crate::ledger::{AgentSet, Ledger, Scope};
use crate::tag::Tag;

/// End of a list that is linked through the tags.
pub(crate) const NIL: u32 = u32::MAX;

/// A list of blocks that a walker or a device may still reach. It goes back
/// through [`Frames::release`](crate::Frames::release) against a proof, or for
/// good into [`Frames::quarantine`](crate::Frames::quarantine). Dropped, it
/// leaks: the frames are counted and never used again.
///
/// The list is linked through the frames' own tags, so detaching allocates nothing.
#[derive(Debug)]
#[must_use = "dropping detached frames leaks them"]
pub struct Detached {
    pub(crate) head: Option<u32>,
    pub(crate) frames: u64,
    pub(crate) agents: AgentSet,
    pub(crate) scope: Scope,
    pub(crate) epoch: u64,
    pub(crate) ledger: Arc<Ledger>,
}

impl Detached {
    /// How many frames are in it.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Whose translations may still reach it.
    pub fn agents(&self) -> AgentSet {
        self.agents
    }

    /// Which address space it was reachable through.
    pub fn scope(&self) -> Scope {
        self.scope
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if self.head.is_some() {
            self.ledger.leaked.fetch_add(self.frames, Ordering::Relaxed);
        }
    }
}

/// A release that was refused: the proof does not cover what it must.
#[derive(Debug, Error)]
#[error(
    "{} frames stay detached: the proof lacks an agent or the closing of the space, is of another \
     scope, or is too old", .0.frames()
)]
pub struct Unreleased(
    /// What was not released, to be tried again or quarantined.
    pub Detached,
);

/// A detached list on its way to the free frames.
pub(crate) struct Freed {
    /// The next one detached.
    pub next: u32,
    /// First and last of the single frames that are free now, and how many.
    pub head: u32,
    pub tail: u32,
    pub singles: u64,
}

impl Freed {
    /// Nothing freed yet of the list that begins at `next`.
    pub fn new(next: u32) -> Self {
        Self { next, head: NIL, tail: NIL, singles: 0 }
    }

    /// Frees one frame.
    #[inline(always)]
    pub fn single(&mut self, tags: &[AtomicU64], index: u32, next: u32) {
        let Some(word) = tags.get(index as usize) else { return };
        word.store(Tag::free(self.head).word(), Ordering::Release);
        if self.tail == NIL {
            self.tail = index;
        }
        (self.head, self.next) = (index, next);
        self.singles += 1;
    }

    /// Frees the tables of one frame that come next, which are most of all.
    #[inline(never)]
    pub fn tables(&mut self, tags: &[AtomicU64]) {
        while let Some(word) = tags.get(self.next as usize) {
            let tag = Tag::from_word(word.load(Ordering::Relaxed));
            if !tag.is_table() || tag.order() > 0 {
                break;
            }
            self.single(tags, self.next, tag.count());
        }
    }
}
