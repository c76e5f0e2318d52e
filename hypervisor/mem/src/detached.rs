//! Frames taken from their user whose unreachability is yet to be proven.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use thiserror::Error;

use crate::ledger::{AgentSet, Ledger, Scope};

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
#[error("{} frames stay detached: the proof lacks an agent, is of another scope, or is too old", .0.frames())]
pub struct Unreleased(
    /// What was not released, to be tried again or quarantined.
    pub Detached,
);
