//! Agents, epochs and proofs: who could still reach a detached frame.
//!
//! Every [`detach`](crate::Frames::detach) advances the epoch. An agent (the
//! CPUs' stage-2 TLB, one SMMU) takes a [`Ticket`] *before* it sends an
//! invalidation, which notes the epoch; when the invalidation is known to have
//! completed, the ticket turns into a [`Part`] which says: of this scope, I hold
//! nothing that was detached up to that epoch. A failed invalidation drops the
//! ticket, and nothing it would have covered can ever be released.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::space::Closed;

/// At most this many agents, each a bit of an [`AgentSet`]: the CPUs, and two of each SMMU (one
/// for its own tables, one for what it translates), so that 23 SMMUs have room.
pub const MAX_AGENTS: usize = 1 + 2 * 23;

// The highest bit of a set is no agent's.
const _: () = assert!(MAX_AGENTS < 63);

static NEXT_LEDGER: AtomicU32 = AtomicU32::new(1);

/// What an invalidation covers: one address space (a domain, a VM).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Scope(u32);

impl Scope {
    /// The scope with this number, unique among those that live.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A set of agents; never empty, since it starts from [`Agent::set`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AgentSet(u64);

impl AgentSet {
    /// The agents of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every agent of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What waits for its space to be closed: no agent has this bit, [`Closed`] alone.
    pub(crate) const CLOSING: Self = Self(1 << 63);

    /// The bit of the agent with this number, which is below [`MAX_AGENTS`].
    #[inline]
    const fn bit(id: u8) -> u64 {
        1 << (id & (u64::BITS as u8 - 1))
    }
}

#[derive(Debug)]
pub(crate) struct Ledger {
    id: u32,
    epoch: AtomicU64,
    agents: AtomicU32,
    pub(crate) leaked: AtomicU64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            id: NEXT_LEDGER.fetch_add(1, Ordering::Relaxed),
            epoch: AtomicU64::new(0),
            agents: AtomicU32::new(0),
            leaked: AtomicU64::new(0),
        }
    }

    /// A new epoch, later than every ticket that exists.
    pub(crate) fn advance(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(crate) fn register(self: &Arc<Self>, name: &'static str) -> Option<Agent> {
        let id = self.agents.fetch_add(1, Ordering::Relaxed);
        if id as usize >= MAX_AGENTS {
            self.agents.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Agent { id: id as u8, name, ledger: self.clone() })
    }

    /// Whether `proof` covers every one of `agents` at `epoch` in `scope`.
    pub(crate) fn covers(&self, proof: &Proof, agents: AgentSet, epoch: u64, scope: Scope) -> bool {
        proof.ledger == self.id
            && proof.scope == scope
            && proof.agents & agents.0 == agents.0
            && proof.epoch >= epoch
    }
}

/// Something that caches translations and can be told to forget. There is one
/// value per agent and no copy: it alone mints its part of a proof.
#[derive(Debug)]
pub struct Agent {
    id: u8,
    name: &'static str,
    ledger: Arc<Ledger>,
}

impl Agent {
    /// The set of this agent alone.
    pub fn set(&self) -> AgentSet {
        AgentSet(AgentSet::bit(self.id))
    }

    /// What it was registered as.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Notes the epoch, *before* the invalidation of `scope` is sent.
    pub fn begin(&self, scope: Scope) -> Ticket {
        Ticket {
            agent: self.id,
            ledger: self.ledger.id,
            scope,
            epoch: self.ledger.epoch.load(Ordering::Acquire),
        }
    }
}

/// An invalidation under way.
#[derive(Debug)]
#[must_use = "an invalidation that is not completed proves nothing"]
pub struct Ticket {
    agent: u8,
    ledger: u32,
    scope: Scope,
    epoch: u64,
}

impl Ticket {
    /// The invalidation is known to have completed (its SYNC was observed).
    pub fn complete(self) -> Part {
        Part { agent: self.agent, ledger: self.ledger, scope: self.scope, epoch: self.epoch }
    }
}

/// One agent's word that it holds nothing of a scope that was detached up to an epoch.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    agent: u8,
    ledger: u32,
    scope: Scope,
    epoch: u64,
}

/// The words of several agents about one scope, of one round of invalidations: the
/// oldest of them says up to which epoch it holds.
#[derive(Clone, Debug)]
pub struct Proof {
    ledger: u32,
    scope: Scope,
    agents: u64,
    epoch: u64,
}

impl Proof {
    /// A proof of nothing yet about `scope`.
    #[inline]
    pub const fn new(scope: Scope) -> Self {
        Self { ledger: 0, scope, agents: 0, epoch: u64::MAX }
    }

    /// Adds one agent's word; a word about another scope adds nothing.
    #[inline]
    #[must_use]
    pub fn with(mut self, part: Part) -> Self {
        self.add(part);
        self
    }

    /// Adds one agent's word; a word about another scope adds nothing.
    #[inline]
    pub fn add(&mut self, part: Part) {
        if self.ledger == 0 {
            self.ledger = part.ledger;
        }
        if part.scope != self.scope || part.ledger != self.ledger {
            return;
        }
        self.agents |= AgentSet::bit(part.agent);
        self.epoch = self.epoch.min(part.epoch);
    }

    /// Adds the word that nothing points at the roots of the space any more; of another space it
    /// adds nothing.
    #[inline]
    pub fn close(&mut self, closed: &Closed) {
        if closed.scope() == self.scope {
            self.agents |= AgentSet::CLOSING.0;
        }
    }

    /// What the proof is about.
    pub fn scope(&self) -> Scope {
        self.scope
    }
}
