//! [`IommuDriver`]: what the core asks for, in the order of its trait.

use core::sync::atomic::Ordering;

use palisade_hal::{Env, StreamId, SubstreamId, Vmid};
use palisade_iommu::{
    Capabilities, Context, ContextView, DefaultSubstream, Drained, DriverError, FaultRecord,
    Feature, GuestIdentity, Invalidation, IommuDriver, Response, StageTwo, StreamPolicy,
    StreamState,
};

use crate::command::{self, ATC_SIZE_ALL};
use crate::device::batch::Batch;
use crate::device::guest::{Stop, guest_ste};
use crate::device::identity;
use crate::device::smmu::{DeviceTlb, Smmu, Streams};
use crate::entry::encode::{SteStage1, ste_bypass, ste_nested, ste_stage1, ste_stage2};
use crate::error::QueueError;
use crate::spec::{Eats, ResumeAction, S1Dss, Ste};
use crate::table::context::{ContextTable, Leaf};

/// The VMID of streams without a stage 2; no VM has it.
const NO_VMID: u16 = 0;

impl<E: Env> Smmu<E> {
    fn check_alive(&self) -> Result<(), DriverError> {
        if self.dead.load(Ordering::Acquire) { Err(DriverError::Dead) } else { Ok(()) }
    }

    /// Installs an entry that lets transactions through, and notes whether it grants ATS.
    ///
    /// A device's TLB does not forget with the entry (§3.9.2). Where one is on, it is invalidated
    /// whole after the change: it would find again what is unmapped while its stream does without
    /// ATS, or by other addresses. Where it is not on yet, EATS is set last, after everything else
    /// is confirmed: no translation is given out by the entry that was there before.
    fn install(
        &self,
        streams: &mut Streams,
        stream: StreamId,
        mut ste: Ste,
    ) -> Result<(), DriverError> {
        // A stall that starts under the old configuration would survive it.
        let before = self.read_state(streams, stream);
        streams.device_tlbs.reserve()?;
        let granted = Ste::EATS.get(&ste.0) == Eats::Full as u64;
        let held = streams.device_tlbs.get(stream.get()).copied();
        let quiet = without_ats(&ste);
        let off = matches!(held, Some(DeviceTlb::Off { .. }));
        if off {
            ste = quiet;
        }
        if granted && !off && held.is_none() && before != StreamState::Abort {
            self.set_entry(streams, stream, &quiet)?;
        }
        self.set_entry(streams, stream, &ste)?;
        if off {
            streams.device_tlbs.put(stream.get(), DeviceTlb::Off { granted });
        } else if granted {
            streams.device_tlbs.put(stream.get(), DeviceTlb::On);
        } else {
            streams.device_tlbs.take(stream.get());
        }
        if held == Some(DeviceTlb::On) {
            self.forget_device(streams, stream)?;
        }
        Ok(())
    }

    /// Makes the device behind `stream` forget every translation.
    pub(crate) fn forget_device(
        &self,
        streams: &mut Streams,
        stream: StreamId,
    ) -> Result<(), DriverError> {
        self.run(&[command::atc_inv(stream, None, 0, ATC_SIZE_ALL)])
            .map_err(|error| self.fail_stream(streams, stream, error))
    }
}

fn without_ats(ste: &Ste) -> Ste {
    let mut words = ste.0;
    Ste::EATS.set(&mut words, Eats::Off as u64);
    Ste(words)
}

/// An entry of a stream that translates. Floods of one fault become one record where hardware can
/// merge them.
fn merging(mut ste: Ste) -> Ste {
    Ste::MEV.set(&mut ste.0, 1);
    ste
}

impl<E: Env + Send + Sync> IommuDriver for Smmu<E> {
    fn capabilities(&self) -> Capabilities {
        self.features.capabilities(self.stream_bits)
    }

    fn guest_identity(&self, ipa_bits: u8) -> Option<GuestIdentity> {
        // A guest's tables and queues are ordinary memory of its own, which a non-coherent SMMU
        // would read stale.
        let can = self.features.nested && self.features.coherent;
        can.then(|| identity::shown(&self.features, ipa_bits))
    }

    fn prepare(&self, stream: StreamId) -> Result<(), DriverError> {
        self.check_alive()?;
        self.prepare_entry(&mut self.streams.lock(), stream)
    }

    fn attach(
        &self,
        stream: StreamId,
        stage_two: &StageTwo,
        policy: StreamPolicy,
    ) -> Result<(), DriverError> {
        self.check_alive()?;
        let stage2 = self.stage_two(stage_two, policy)?;
        let ste = merging(ste_stage2(self.features.image(), &stage2));
        self.install(&mut self.streams.lock(), stream, ste)
    }

    fn attach_identity(&self, stream: StreamId) -> Result<(), DriverError> {
        self.check_alive()?;
        self.install(&mut self.streams.lock(), stream, ste_bypass(self.features.image()))
    }

    fn detach(&self, stream: StreamId) -> Result<(), DriverError> {
        self.check_alive()?;
        self.abort_stream(&mut self.streams.lock(), stream)
    }

    fn stream_state(&self, stream: StreamId) -> StreamState {
        if !self.is_alive() {
            return StreamState::Abort;
        }
        self.read_state(&self.streams.lock(), stream)
    }

    fn create_contexts(
        &self,
        stream: StreamId,
        bits: u8,
        view: &dyn ContextView,
    ) -> Result<(), DriverError> {
        self.check_alive()?;
        if !self.features.stage1 {
            return Err(DriverError::Unsupported(Feature::StageOne));
        }
        let vacant = |streams: &mut Streams| {
            if streams.contexts.contains(stream.get()) {
                return Err(DriverError::State(stream));
            }
            streams.contexts.reserve()?;
            streams.dead.reserve()
        };
        vacant(&mut self.streams.lock())?;
        // The view takes the VM's map, which comes before the streams: it is asked under no lock,
        // and what was made in vain goes back the same way.
        let table = ContextTable::new(&self.frames, &self.features, bits, view)?;
        let mut streams = self.streams.lock();
        match vacant(&mut streams) {
            Ok(()) => {
                streams.contexts.put(stream.get(), table);
                Ok(())
            }
            Err(error) => {
                drop(streams);
                table.destroy(&self.agent, view, &|| Ok(()))?;
                Err(error)
            }
        }
    }

    fn destroy_contexts(
        &self,
        stream: StreamId,
        view: &dyn ContextView,
    ) -> Result<(), DriverError> {
        let mut streams = self.streams.lock();
        let state = self.read_state(&streams, stream);
        if self.is_alive() && !matches!(state, StreamState::Abort | StreamState::Stage2) {
            return Err(DriverError::State(stream));
        }
        let table = streams.contexts.take(stream.get()).ok_or(DriverError::State(stream))?;
        drop(streams);
        let forget = || self.run_all(&[command::cfgi_cd_all(stream)]);
        table.destroy(&self.agent, view, &forget)
    }

    fn attach_contexts(
        &self,
        stream: StreamId,
        stage_two: Option<&StageTwo>,
        default: DefaultSubstream,
        policy: StreamPolicy,
    ) -> Result<(), DriverError> {
        self.check_alive()?;
        let stage2 = stage_two.map(|two| self.stage_two(two, policy)).transpose()?;
        if !self.features.stage1 {
            return Err(DriverError::Unsupported(Feature::StageOne));
        }
        if stage2.is_some() && !self.features.nested {
            return Err(DriverError::Unsupported(Feature::Nested));
        }
        let mut streams = self.streams.lock();
        let contexts = streams.contexts.get(stream.get()).ok_or(DriverError::State(stream))?;
        let stage1 = SteStage1 {
            s1_fmt: contexts.format(),
            s1_context_ptr: contexts.pointer(),
            s1_cd_max: contexts.bits(),
            s1_dss: match default {
                DefaultSubstream::Terminate => S1Dss::Terminate,
                DefaultSubstream::Bypass => S1Dss::Bypass,
                DefaultSubstream::Zero => S1Dss::Substream0,
            },
            stall: policy.stalls,
            ats: policy.ats && self.features.ats,
        };
        let image = self.features.image();
        let ste = match &stage2 {
            Some(stage2) => ste_nested(image, &stage1, stage2),
            None => ste_stage1(image, &stage1, NO_VMID),
        };
        self.install(&mut streams, stream, merging(ste))
    }

    fn prepare_context(
        &self,
        stream: StreamId,
        substream: SubstreamId,
        view: &dyn ContextView,
    ) -> Result<(), DriverError> {
        self.check_alive()?;
        let lacks_leaf = |streams: &mut Streams| {
            let table = streams.contexts.get_mut(stream.get()).ok_or(DriverError::State(stream))?;
            table.lacks_leaf(substream)
        };
        if !lacks_leaf(&mut self.streams.lock())? {
            return Ok(());
        }
        // As for the table itself: the view is asked under no lock.
        let leaf = Leaf::new(&self.frames, self.features.reach(), view)?;
        let mut streams = self.streams.lock();
        let table = match lacks_leaf(&mut streams) {
            Ok(true) => streams.contexts.get_mut(stream.get()),
            _ => None,
        };
        let Some(table) = table else {
            // Made by someone else meanwhile, or nothing is left to make it for.
            let present = streams.contexts.contains(stream.get());
            drop(streams);
            leaf.discard(&self.agent, view)?;
            return if present { Ok(()) } else { Err(DriverError::State(stream)) };
        };
        table.link(substream, leaf);
        // Leaf = 0: the L1CD that said "none" may be cached (§4.3.3).
        self.run(&[command::cfgi_cd(stream, substream, false)])
            .map_err(|error| self.fail_stream(&mut streams, stream, error))
    }

    fn write_context(
        &self,
        stream: StreamId,
        substream: SubstreamId,
        context: Option<&Context>,
    ) -> Result<(), DriverError> {
        self.check_alive()?;
        let target = match context {
            Some(context) => self.descriptor(context)?.0,
            None => [0; 8],
        };
        self.set_context(&mut self.streams.lock(), stream, substream, &target)
    }

    fn attach_nested(
        &self,
        stream: StreamId,
        stage_two: &StageTwo,
        policy: StreamPolicy,
        words: &[u64; 8],
    ) -> Result<StreamState, DriverError> {
        self.check_alive()?;
        // EATS is never the guest's, nor on while a guest writes its own entries.
        let policy = StreamPolicy { ats: false, ..policy };
        let stage2 = self.stage_two(stage_two, policy)?;
        let ste = guest_ste(&self.features, words, &stage2, policy)?;
        let mut streams = self.streams.lock();
        if Ste::CONFIG.get(&ste.0) == 0 {
            self.abort_stream(&mut streams, stream)?;
        } else {
            self.install(&mut streams, stream, merging(ste))?;
        }
        Ok(self.read_state(&streams, stream))
    }

    fn cache_invalidate(
        &self,
        vmid: Vmid,
        stream: &dyn Fn(u32, usize) -> Option<StreamId>,
        words: &[[u64; 2]],
    ) -> Result<usize, (usize, DriverError)> {
        self.check_alive().map_err(|error| (0, error))?;
        let mut batch = Batch::new(self);
        let mut refused = None;
        for (at, words) in words.iter().enumerate() {
            let command = self.guest_command(vmid, words);
            match command.and_then(|command| self.fan_out(&mut batch, &command, stream)) {
                Ok(()) => {}
                Err(Stop::Refused(error)) => {
                    refused = Some((at, error));
                    break;
                }
                // Nothing counts as done when the SMMU does not confirm it.
                Err(Stop::Driver(error)) => return Err((0, self.blame(error))),
            }
        }
        batch.finish().map_err(|error| (0, self.blame(error)))?;
        refused.map_or(Ok(words.len()), Err)
    }

    fn invalidate(&self, batch: &[Invalidation]) -> Result<(), DriverError> {
        self.check_alive()?;
        self.invalidate_all(batch)
    }

    fn resume(&self, stream: StreamId, tag: u16, response: Response) -> Result<(), DriverError> {
        self.check_alive()?;
        if !self.can_stall() {
            return Err(DriverError::Unsupported(Feature::Stall));
        }
        let action = match response {
            Response::Retry => ResumeAction::Retry,
            Response::Abort => ResumeAction::Abort,
            Response::Terminate if self.features.term_abort_only => ResumeAction::Abort,
            Response::Terminate => ResumeAction::TerminateSilently,
        };
        self.run(&[command::resume(stream, tag, action)]).map_err(|error| match error {
            QueueError::Timeout => self.fail_stream(&mut self.streams.lock(), stream, error),
            other => self.judge(other),
        })
    }

    fn set_device_tlb(&self, stream: StreamId, on: bool) -> Result<(), DriverError> {
        self.check_alive()?;
        let mut streams = self.streams.lock();
        let now = streams.device_tlbs.get(stream.get()).copied();
        let granted = matches!(now, Some(DeviceTlb::On | DeviceTlb::Off { granted: true }));
        match (now, on) {
            (None | Some(DeviceTlb::On), true) | (Some(DeviceTlb::Off { .. }), false) => {
                return Ok(());
            }
            (Some(DeviceTlb::Off { granted: false }), true) => {
                streams.device_tlbs.take(stream.get());
                return Ok(());
            }
            _ => streams.device_tlbs.reserve()?,
        }
        if granted && let Some(mut words) = streams.table.read(stream) {
            let eats = if on { Eats::Full } else { Eats::Off };
            Ste::EATS.set(&mut words, eats as u64);
            self.set_entry(&mut streams, stream, &Ste(words))?;
        }
        let to = if on { DeviceTlb::On } else { DeviceTlb::Off { granted } };
        streams.device_tlbs.put(stream.get(), to);
        Ok(())
    }

    fn drain_events(&self, sink: &mut dyn FnMut(&FaultRecord), budget: usize) -> Drained {
        let drained = self.drain_all(sink, budget);
        if self.features.pri {
            self.deny_page_requests();
        }
        drained
    }

    fn renew_budget(&self, streams: &[StreamId]) {
        self.inputs.lock().storm.renew(streams);
    }

    fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::Acquire)
    }

    fn shutdown(&self) {
        self.power_down();
    }
}
