//! The fake as an [`IommuDriver`].

use crate::driver::Argument;
use crate::driver::Feature;
use alloc::collections::BTreeMap;

use arrayvec::ArrayVec;
use palisade_hal::{PhysAddr, StreamId, SubstreamId, Vmid};

use super::cache::{Cached, Config};
use super::driver::{Call, FakeDriver, Inner};
use crate::driver::{
    Capabilities, Context, ContextView, DefaultSubstream, Drained, DriverError, FaultRecord,
    Invalidation, IommuDriver, Refusal, Response, StageTwo, StreamPolicy, StreamState,
};

fn set(
    inner: &mut Inner,
    stream: StreamId,
    state: StreamState,
    stage_two: Option<&StageTwo>,
) -> Result<(), DriverError> {
    let entry = inner.entry(stream)?;
    entry.state = Config { state: Some(state) };
    entry.stage_two = stage_two.copied();
    entry.guest = None;
    // The configuration is invalidated by the driver itself.
    inner.caches.forget_stream(stream.get());
    Ok(())
}

impl IommuDriver for FakeDriver {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn prepare(&self, stream: StreamId) -> Result<(), DriverError> {
        let mut inner = self.inner.lock();
        inner.step(Call::Prepare(stream.get()))?;
        inner.prepared.insert(stream.get());
        Ok(())
    }

    fn attach(
        &self,
        stream: StreamId,
        stage_two: &StageTwo,
        _policy: StreamPolicy,
    ) -> Result<(), DriverError> {
        let mut inner = self.inner.lock();
        let vmid = stage_two.vmid.get();
        inner.step(Call::Attach(stream.get(), vmid))?;
        inner.check_tags(vmid, None, stage_two.table.get());
        set(&mut inner, stream, StreamState::Stage2, Some(stage_two))
    }

    fn attach_identity(&self, stream: StreamId) -> Result<(), DriverError> {
        let mut inner = self.inner.lock();
        inner.step(Call::Identity(stream.get()))?;
        set(&mut inner, stream, StreamState::Bypass, None)
    }

    fn detach(&self, stream: StreamId) -> Result<(), DriverError> {
        let mut inner = self.inner.lock();
        let answer = inner.step(Call::Detach(stream.get()));
        // The entry says abort even where nothing confirms it.
        let entry = inner.entry(stream)?;
        entry.state = Config::default();
        entry.stage_two = None;
        entry.guest = None;
        inner.without_ats.remove(&stream.get());
        answer?;
        inner.caches.forget_stream(stream.get());
        Ok(())
    }

    fn stream_state(&self, stream: StreamId) -> StreamState {
        let inner = self.inner.lock();
        let entry = inner.entries.get(&stream.get());
        entry.and_then(|entry| entry.state.state).unwrap_or(StreamState::Abort)
    }

    fn create_contexts(
        &self,
        stream: StreamId,
        bits: u8,
        view: &dyn ContextView,
    ) -> Result<(), DriverError> {
        let mut inner = self.inner.lock();
        inner.step(Call::CreateContexts(stream.get()))?;
        if bits > self.capabilities.substream_bits {
            return Err(DriverError::Unsupported(Feature::Substreams));
        }
        if inner.entry(stream)?.contexts.is_some() {
            return Err(DriverError::State(stream));
        }
        drop(inner);
        let pa = PhysAddr::new(0x10_0000 + u64::from(stream.get()) * 0x1_0000);
        let fetch = view.publish(pa, 4096, 4096)?;
        let mut inner = self.inner.lock();
        let entry = inner.entry(stream)?;
        if entry.contexts.is_some() {
            drop(inner);
            view.withdraw(fetch, 4096)?;
            return Err(DriverError::State(stream));
        }
        entry.fetch = fetch;
        entry.contexts = Some(BTreeMap::new());
        entry.bits = bits;
        Ok(())
    }

    fn destroy_contexts(
        &self,
        stream: StreamId,
        view: &dyn ContextView,
    ) -> Result<(), DriverError> {
        let mut inner = self.inner.lock();
        inner.step(Call::DestroyContexts(stream.get()))?;
        let entry = inner.entry(stream)?;
        let used = matches!(entry.state.state, Some(StreamState::Stage1 | StreamState::Nested));
        if used || entry.contexts.is_none() {
            return Err(DriverError::State(stream));
        }
        entry.contexts = None;
        entry.bits = 0;
        let fetch = core::mem::take(&mut entry.fetch);
        inner.caches.contexts.retain(|&(owner, _), _| owner != stream.get());
        drop(inner);
        view.withdraw(fetch, 4096)
    }

    fn attach_contexts(
        &self,
        stream: StreamId,
        stage_two: Option<&StageTwo>,
        _default: DefaultSubstream,
        _policy: StreamPolicy,
    ) -> Result<(), DriverError> {
        let mut inner = self.inner.lock();
        inner.step(Call::AttachContexts(stream.get()))?;
        if inner.entry(stream)?.contexts.is_none() {
            return Err(DriverError::State(stream));
        }
        let state = if stage_two.is_some() { StreamState::Nested } else { StreamState::Stage1 };
        set(&mut inner, stream, state, stage_two)
    }

    fn prepare_context(
        &self,
        stream: StreamId,
        substream: SubstreamId,
        _view: &dyn ContextView,
    ) -> Result<(), DriverError> {
        let mut inner = self.inner.lock();
        inner.step(Call::PrepareContext(stream.get(), substream.get()))?;
        let entry = inner.entry(stream)?;
        if substream.get() >> entry.bits != 0 {
            return Err(DriverError::Argument(Argument::Substream));
        }
        entry.contexts.as_mut().map(|_| ()).ok_or(DriverError::State(stream))
    }

    fn write_context(
        &self,
        stream: StreamId,
        substream: SubstreamId,
        context: Option<&Context>,
    ) -> Result<(), DriverError> {
        let mut inner = self.inner.lock();
        let asid = context.map(|context| context.asid.get());
        inner.step(Call::WriteContext(stream.get(), substream.get(), asid))?;
        let vmid = inner.entry(stream)?.stage_two.map_or(0, |stage_two| stage_two.vmid.get());
        if let Some(context) = context.filter(|context| !context.quiet) {
            inner.check_tags(vmid, Some(context.asid.get()), context.table);
        }
        let contexts = inner.entry(stream)?.contexts.as_mut().ok_or(DriverError::State(stream))?;
        let old = contexts.get(&substream.get()).copied().flatten();
        let slot = context.copied();
        match slot {
            Some(_) => contexts.insert(substream.get(), slot),
            None => contexts.remove(&substream.get()),
        };
        // Two valid, unquiesced contexts may follow each other only if the ASID alone differs.
        if let (Some(old), Some(new)) = (old, slot)
            && !old.quiet
            && !new.quiet
            && old.table != new.table
        {
            inner.faults.push(alloc::format!("stream {stream}: root changed without quiesce"));
        }
        inner.caches.contexts.remove(&(stream.get(), substream.get()));
        if let Some(context) = context.filter(|context| inner.busy && !context.quiet) {
            let asid = Some(context.asid.get());
            inner.caches.translations.insert(Cached { vmid, asid, root: context.table });
        }
        Ok(())
    }

    fn attach_nested(
        &self,
        stream: StreamId,
        stage_two: &StageTwo,
        _policy: StreamPolicy,
        words: &[u64; 8],
    ) -> Result<StreamState, DriverError> {
        let mut inner = self.inner.lock();
        inner.step(Call::AttachNested(stream.get()))?;
        let [first, ..] = *words;
        let state = match (first & 1, first >> 1 & 7) {
            (0, _) | (1, 0) => StreamState::Abort,
            (1, 4) => StreamState::Stage2,
            (1, 5) => StreamState::Nested,
            _ => {
                let reason = Refusal::Configuration;
                return Err(DriverError::Refused { word: 0, reason });
            }
        };
        set(&mut inner, stream, state, Some(stage_two))?;
        inner.entry(stream)?.guest = Some(*words);
        Ok(state)
    }

    fn cache_invalidate(
        &self,
        vmid: Vmid,
        stream: &dyn Fn(u32, usize) -> Option<StreamId>,
        words: &[[u64; 2]],
    ) -> Result<usize, (usize, DriverError)> {
        let mut inner = self.inner.lock();
        inner.step(Call::CacheInvalidate(words.len())).map_err(|error| (0, error))?;
        for (done, [first, _]) in words.iter().enumerate() {
            let refused = |reason| (done, DriverError::Refused { word: 0, reason });
            match first & 0xff {
                // CFGI_CD, CFGI_CD_ALL.
                0x05 | 0x06 => {
                    let targets = |nth| stream((first >> 32) as u32, nth);
                    targets(0).ok_or(refused(Refusal::Stream))?;
                    for target in (0..).map_while(targets) {
                        inner.caches.contexts.retain(|&(owner, _), _| owner != target.get());
                    }
                }
                // NH_ALL, NH_ASID, NH_VA, NH_VAA, NSNH_ALL: the fake forgets more than asked.
                0x10..=0x13 | 0x30 => {
                    inner.caches.translations.retain(|cached| cached.vmid != vmid.get());
                }
                _ => return Err(refused(Refusal::Opcode)),
            }
        }
        Ok(words.len())
    }

    fn invalidate(&self, batch: &[Invalidation]) -> Result<(), DriverError> {
        let meanwhile = self.inner.lock().meanwhile.take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        let mut inner = self.inner.lock();
        for item in batch {
            inner.calls.push(Call::Invalidate(*item));
        }
        inner.step(Call::Sync)?;
        for item in batch {
            let keep = |cached: &Cached| match *item {
                Invalidation::All => false,
                Invalidation::Vmid(vmid) => cached.vmid != vmid.get(),
                Invalidation::StageOneOf(vmid) => {
                    cached.vmid != vmid.get() || cached.asid.is_none()
                }
                Invalidation::StageTwo { vmid, size, .. } => {
                    size == 0 || cached.vmid != vmid.get() || cached.asid.is_some()
                }
                Invalidation::Asid { vmid, asid } => {
                    cached.vmid != vmid.get() || cached.asid != Some(asid.get())
                }
                Invalidation::StageOne { vmid, asid, size, .. } => {
                    size == 0 || cached.vmid != vmid.get() || cached.asid != Some(asid.get())
                }
                Invalidation::Context { .. }
                | Invalidation::Contexts(_)
                | Invalidation::Device { .. } => true,
            };
            inner.caches.translations.retain(keep);
            match *item {
                Invalidation::Context { stream, substream } => {
                    inner.caches.contexts.remove(&(stream.get(), substream.get()));
                }
                Invalidation::Contexts(stream) => {
                    inner.caches.contexts.retain(|&(owner, _), _| owner != stream.get());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn resume(&self, stream: StreamId, tag: u16, _response: Response) -> Result<(), DriverError> {
        self.inner.lock().step(Call::Resume(stream.get(), tag))
    }

    fn set_device_tlb(&self, stream: StreamId, on: bool) -> Result<(), DriverError> {
        let mut inner = self.inner.lock();
        inner.step(Call::DeviceTlb(stream.get(), on))?;
        if on {
            inner.without_ats.remove(&stream.get());
        } else {
            inner.without_ats.insert(stream.get());
        }
        Ok(())
    }

    fn drain_events(&self, sink: &mut dyn FnMut(&FaultRecord), budget: usize) -> Drained {
        let mut inner = self.inner.lock();
        inner.calls.push(Call::Drain);
        let (mut records, mut storms) = (0, ArrayVec::new());
        while records < budget
            && let Some(record) = inner.events.pop_front()
        {
            records += 1;
            let limit = inner.event_budget;
            let stream = record.stream.get();
            let account = inner.accounts.get(&stream).copied().unwrap_or(stream);
            let count = inner.counts.entry(account).or_default();
            *count += 1;
            if *count <= limit {
                sink(&record);
            }
            if *count == limit.saturating_add(1) && storms.try_push(record.stream).is_err() {
                *count = limit;
            }
        }
        Drained { records, overflowed: false, more: !inner.events.is_empty(), storms }
    }

    fn renew_budget(&self, streams: &[StreamId]) {
        let mut inner = self.inner.lock();
        let Some(first) = streams.first() else { return };
        for stream in streams {
            inner.counts.remove(&stream.get());
            inner.accounts.insert(stream.get(), first.get());
        }
    }

    fn is_alive(&self) -> bool {
        !self.inner.lock().dead
    }

    fn shutdown(&self) {
        let mut inner = self.inner.lock();
        inner.entries.values_mut().for_each(|entry| entry.state = Config::default());
        inner.caches = Default::default();
    }
}
