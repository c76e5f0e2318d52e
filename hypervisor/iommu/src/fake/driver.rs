//! The fake's state, its knobs and its transactions.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{StreamId, SubstreamId};

use super::cache::{Cached, Caches, Entry, Reach};
use crate::driver::{Capabilities, DriverError, FaultRecord, StallModel, StreamState};

/// One call that the core made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `prepare`.
    Prepare(u32),
    /// `attach`, with the VMID.
    Attach(u32, u16),
    /// `attach_identity`.
    Identity(u32),
    /// `detach`.
    Detach(u32),
    /// `create_contexts`.
    CreateContexts(u32),
    /// `destroy_contexts`.
    DestroyContexts(u32),
    /// `attach_contexts`.
    AttachContexts(u32),
    /// `prepare_context`.
    PrepareContext(u32, u32),
    /// `write_context`, with the ASID if it is made valid.
    WriteContext(u32, u32, Option<u16>),
    /// `attach_nested`.
    AttachNested(u32),
    /// `cache_invalidate`, with the number of commands.
    CacheInvalidate(usize),
    /// One item of `invalidate`.
    Invalidate(crate::driver::Invalidation),
    /// The end of a batch: the synchronisation.
    Sync,
    /// `resume`.
    Resume(u32, u16),
    /// `set_device_tlb`.
    DeviceTlb(u32, bool),
    /// `drain_events`.
    Drain,
}

/// Everything in the fake's memory that the core can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub(super) entries: BTreeMap<u32, Entry>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) entries: BTreeMap<u32, Entry>,
    pub(super) prepared: BTreeSet<u32>,
    pub(super) caches: Caches,
    pub(super) events: VecDeque<FaultRecord>,
    pub(super) calls: Vec<Call>,
    pub(super) faults: Vec<String>,
    /// Fallible calls that fail, counted from the next one on, in order.
    pub(super) fail: VecDeque<usize>,
    pub(super) failure: Option<DriverError>,
    pub(super) dead: bool,
    /// Events of one stream that are no storm yet.
    pub(super) event_budget: u32,
    pub(super) counts: BTreeMap<u32, u32>,
    /// Streams that share the budget of another.
    pub(super) accounts: BTreeMap<u32, u32>,
    /// Streams whose devices were said to have their ATS off.
    pub(super) without_ats: BTreeSet<u32>,
    /// The devices use every context at once.
    pub(super) busy: bool,
    /// Runs once, while the next batch is under way.
    pub(super) meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

/// See the module's text.
pub struct FakeDriver {
    pub(super) capabilities: Capabilities,
    pub(super) inner: Mutex<Inner>,
}

impl FakeDriver {
    /// A fake that can do everything.
    pub fn new() -> Arc<Self> {
        Self::with(Capabilities {
            stage1: true,
            stage2: true,
            nested: true,
            coherent: true,
            range_invalidation: true,
            ats: true,
            stall: StallModel::Selectable,
            stream_bits: 16,
            substream_bits: 8,
            asid_bits: 16,
            vmid_bits: 16,
            output_bits: 44,
            granules: 1 << 12 | 1 << 14 | 1 << 16,
        })
    }

    /// A fake that can do what it is told.
    pub fn with(capabilities: Capabilities) -> Arc<Self> {
        let inner = Inner { event_budget: u32::MAX, ..Inner::default() };
        Arc::new(Self { capabilities, inner: Mutex::new(Rank::SmmuStreams, inner) })
    }

    /// More events of one stream than this are a storm.
    pub fn set_event_budget(&self, events: u32) {
        self.inner.lock().event_budget = events;
    }

    /// Lets the fallible call after `calls` further ones fail with `error`, once.
    pub fn fail_after(&self, calls: usize, error: DriverError) {
        self.fail_at(&[calls], error);
    }

    /// Lets several fallible calls fail with `error`: each the one after so many further ones,
    /// in rising order.
    pub fn fail_at(&self, calls: &[usize], error: DriverError) {
        let mut inner = self.inner.lock();
        inner.fail = calls.iter().copied().collect();
        inner.failure = Some(error);
    }

    /// Takes planned failures back; returns whether one was still pending.
    pub fn disarm(&self) -> bool {
        !core::mem::take(&mut self.inner.lock().fail).is_empty()
    }

    /// What happens elsewhere while the next batch of invalidations is under way.
    pub fn meanwhile(&self, hook: impl FnOnce() + Send + 'static) {
        self.inner.lock().meanwhile = Some(Box::new(hook));
    }

    /// From now on the devices use every context the moment it is written, so that something is
    /// cached under its ASID.
    pub fn keep_devices_busy(&self) {
        self.inner.lock().busy = true;
    }

    /// Every fallible call fails from now on.
    pub fn kill(&self) {
        self.inner.lock().dead = true;
    }

    /// The calls since the last time.
    pub fn take_calls(&self) -> Vec<Call> {
        core::mem::take(&mut self.inner.lock().calls)
    }

    /// What the core did wrong; empty is well.
    pub fn core_faults(&self) -> Vec<String> {
        self.inner.lock().faults.clone()
    }

    /// What is in memory now.
    pub fn snapshot(&self) -> Snapshot {
        let mut entries = self.inner.lock().entries.clone();
        entries.retain(|_, entry| *entry != Entry::default());
        Snapshot { entries }
    }

    /// Whether the device behind `stream` is thought to translate itself, where it may.
    pub fn device_tlb(&self, stream: StreamId) -> bool {
        !self.inner.lock().without_ats.contains(&stream.get())
    }

    /// Number of context tables that exist.
    pub fn context_tables(&self) -> usize {
        self.inner.lock().entries.values().filter(|entry| entry.contexts.is_some()).count()
    }

    /// Cached translations.
    pub fn cached(&self) -> Vec<Cached> {
        self.inner.lock().caches.translations.iter().copied().collect()
    }

    /// Puts a record into the event queue.
    pub fn push_event(&self, record: FaultRecord) {
        self.inner.lock().events.push_back(record);
    }

    /// A transaction of a device: goes by the caches, and fills them where they are empty.
    pub fn transaction(&self, stream: StreamId, substream: Option<SubstreamId>) -> Reach {
        let mut inner = self.inner.lock();
        let Inner { entries, caches, .. } = &mut *inner;
        let id = stream.get();
        let live = entries.get(&id).cloned().unwrap_or_default();
        let entry = caches.entries.entry(id).or_insert(live).clone();
        let vmid = entry.stage_two.map_or(0, |stage_two| stage_two.vmid.get());
        let cached = match entry.state.state {
            None | Some(StreamState::Abort) => return Reach::Aborted,
            Some(StreamState::Bypass) => return Reach::Physical,
            Some(StreamState::Stage2) => {
                let root = entry.stage_two.map_or(0, |stage_two| stage_two.table.get());
                Cached { vmid, asid: None, root }
            }
            Some(StreamState::Stage1 | StreamState::Nested) => {
                let key = (id, substream.map_or(0, SubstreamId::get));
                let live = entries
                    .get(&id)
                    .and_then(|entry| entry.contexts.as_ref()?.get(&key.1).copied())
                    .flatten();
                match *caches.contexts.entry(key).or_insert(live) {
                    None => return Reach::BadContext,
                    // A quiet context makes no walks, but what is cached under its ASID serves.
                    Some(context) if context.quiet => {
                        let asid = Some(context.asid.get());
                        let tags = |c: &&Cached| c.vmid == vmid && c.asid == asid;
                        return match caches.translations.iter().find(tags) {
                            Some(&cached) => Reach::Through(cached),
                            None => Reach::Quiet,
                        };
                    }
                    Some(context) => {
                        Cached { vmid, asid: Some(context.asid.get()), root: context.table }
                    }
                }
            }
        };
        // A translation of the same tags answers before any walk.
        let tags = |other: &&Cached| other.vmid == cached.vmid && other.asid == cached.asid;
        let hit = caches.translations.iter().find(tags).copied();
        let answer = hit.unwrap_or(cached);
        caches.translations.insert(answer);
        Reach::Through(answer)
    }
}

impl Inner {
    /// One fallible step.
    pub(super) fn step(&mut self, call: Call) -> Result<(), DriverError> {
        self.calls.push(call);
        if self.dead {
            return Err(DriverError::Dead);
        }
        let now = self.fail.front() == Some(&0);
        if now {
            self.fail.pop_front();
        }
        self.fail.iter_mut().for_each(|left| *left = left.saturating_sub(1));
        match self.failure {
            Some(error) if now => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn entry(&mut self, stream: StreamId) -> Result<&mut Entry, DriverError> {
        if !self.prepared.contains(&stream.get()) {
            self.faults.push(alloc::format!("stream {stream} was not prepared"));
            return Err(DriverError::UnknownStream(stream));
        }
        Ok(self.entries.entry(stream.get()).or_default())
    }

    /// Something is about to be published under these tags.
    pub(super) fn check_tags(&mut self, vmid: u16, asid: Option<u16>, root: u64) {
        let stale = self
            .caches
            .translations
            .iter()
            .any(|cached| cached.vmid == vmid && cached.asid == asid && cached.root != root);
        if stale {
            self.faults.push(alloc::format!(
                "root {root:#x} published under VMID {vmid} ASID {asid:?} while another is cached"
            ));
        }
    }
}
