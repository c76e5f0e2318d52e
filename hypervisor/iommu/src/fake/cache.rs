//! What the fake's hardware remembers.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::driver::{Context, StageTwo, StreamState};

/// A cached translation: under which tags, from which root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cached {
    /// VMID, 0 without a stage 2.
    pub vmid: u16,
    /// ASID, `None` for stage 2 alone.
    pub asid: Option<u16>,
    /// Root of the innermost table that was walked.
    pub root: u64,
}

/// Where a transaction went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It aborted, with no record.
    Aborted,
    /// It was terminated by a quiesced context, with no record.
    Quiet,
    /// It used an invalid context: C_BAD_CD.
    BadContext,
    /// It passed untranslated.
    Physical,
    /// It went through the tables of this root, under these tags.
    Through(Cached),
}

/// One stream's entry and context table in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) state: Config,
    pub(super) stage_two: Option<StageTwo>,
    pub(super) contexts: Option<BTreeMap<u32, Option<Context>>>,
    pub(super) bits: u8,
    pub(super) fetch: u64,
    pub(super) guest: Option<[u64; 8]>,
}

/// Which stages are configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) state: Option<StreamState>,
}

/// Configuration and translation caches.
#[derive(Clone, Debug, Default)]
pub(super) struct Caches {
    pub(super) entries: BTreeMap<u32, Entry>,
    pub(super) contexts: BTreeMap<(u32, u32), Option<Context>>,
    pub(super) translations: BTreeSet<Cached>,
}

impl Caches {
    pub(super) fn forget_stream(&mut self, stream: u32) {
        self.entries.remove(&stream);
        self.contexts.retain(|&(owner, _), _| owner != stream);
    }
}
