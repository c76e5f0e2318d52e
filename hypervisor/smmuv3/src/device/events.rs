//! Draining what the SMMU reports: events, page requests, global errors (§7, §8).

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use palisade_hal::{Env, StreamId, SubstreamId};
use palisade_iommu::{Drained, FaultRecord};

use crate::command;
use crate::device::batch::{Batch, Phase};
use crate::device::smmu::{Inputs, Smmu};
use crate::error::QueueError;
use crate::event::decode::decode;
use crate::event::storm::Verdict;
use crate::regs::{self, GERROR};
use crate::spec::{Cmd, EventRecord, PageRequest, PriResponse};

/// Page requests refused per call.
const REQUESTS_PER_CALL: usize = 32;

impl<E: Env> Smmu<E> {
    /// See [`palisade_iommu::IommuDriver::drain_events`].
    pub(crate) fn drain_all(&self, sink: &mut dyn FnMut(&FaultRecord), budget: usize) -> Drained {
        let mut inputs = self.inputs.lock();
        let Inputs { events, storm, overflowed, .. } = &mut *inputs;
        let now = self.env.now();
        let mut storms = ArrayVec::new();
        let drain = events.drain(&self.mmio, budget, |words| {
            let fault = decode(&EventRecord(*words));
            match storm.record(fault.stream, now) {
                Verdict::Deliver => sink(&fault),
                Verdict::Contain => {
                    sink(&fault);
                    // Where a list is full the stream is over its budget still: forgetting it
                    // makes its next records put it here again.
                    if storms.try_push(fault.stream).is_err() {
                        storm.forget(fault.stream);
                    }
                }
                Verdict::Drop => {}
            }
        });
        // Who filled the queue is known when all of it was read.
        *overflowed |= drain.overflowed;
        if *overflowed && !drain.more {
            *overflowed = false;
            if let Some(stream) = storm.overflow(now, events.entries())
                && storms.try_push(stream).is_err()
            {
                storm.forget(stream);
            }
        }
        drop(inputs);
        let lost = self.check_global_errors();
        let (records, overflowed, more) = (drain.entries, drain.overflowed || lost, drain.more);
        Drained { records, overflowed, more, storms }
    }

    /// Responds to page requests: nothing is paged, so each group is refused at its last request.
    pub fn deny_page_requests(&self) {
        let mut inputs = self.inputs.lock();
        let Some(requests) = &mut inputs.requests else { return };
        let mut answers: arrayvec::ArrayVec<Cmd, REQUESTS_PER_CALL> = arrayvec::ArrayVec::new();
        requests.drain(&self.mmio, REQUESTS_PER_CALL, |words| {
            if PageRequest::LAST.get(words) == 0 {
                return;
            }
            let stream = StreamId::new(PageRequest::STREAM_ID.get(words) as u32);
            let number = SubstreamId::new(PageRequest::SUBSTREAM_ID.get(words) as u32);
            let substream = (PageRequest::SSV.get(words) == 1).then_some(number);
            let group = PageRequest::PRG_INDEX.get(words) as u16;
            // The drain's budget is the list's capacity.
            let _ =
                answers.try_push(command::pri_resp(stream, substream, group, PriResponse::Failure));
        });
        drop(inputs);
        let mut batch = Batch::new(self);
        let sent = answers.into_iter().try_for_each(|answer| batch.push(Phase::Device, answer));
        if let Err(error) = sent.and_then(|()| batch.finish())
            && self.may_log()
        {
            log::error!("{}: page request responses: {error}", self.name());
        }
    }

    /// Whether a line about something that can happen at any rate is due: one a second.
    fn may_log(&self) -> bool {
        let second = self.env.now() / self.env.frequency().max(1);
        // Never 0, so that the first second has its line too.
        let second = second.wrapping_add(1) as u32;
        self.logged.swap(second, Ordering::Relaxed) != second
    }

    /// Handles SMMU_GERROR (§7.5): the interrupt's work, and part of every drain. Returns whether
    /// event records may have been lost.
    pub fn check_global_errors(&self) -> bool {
        if self.dead.load(Ordering::Acquire) {
            return false;
        }
        let active = self.mmio.get(regs::GERROR) ^ self.mmio.get(regs::GERRORN);
        if active == 0 {
            return false;
        }
        let is_active =
            |field: tock_registers::fields::Field<u32, GERROR::Register>| field.read(active) != 0;
        if is_active(GERROR::SFM_ERR) {
            log::error!("{}: service failure mode", self.name());
            self.die();
            return true;
        }
        if is_active(GERROR::CMDQ_ERR)
            && let Err(QueueError::Dead) = self.queue.check_errors(&self.mmio)
        {
            self.die();
            return true;
        }
        // Aborted writes of records or messages: what was lost is lost, and told. Completion
        // messages are not waited for alone.
        let simple = GERROR::EVENTQ_ABT_ERR::SET
            + GERROR::PRIQ_ABT_ERR::SET
            + GERROR::MSI_CMDQ_ABT_ERR::SET
            + GERROR::MSI_EVENTQ_ABT_ERR::SET
            + GERROR::MSI_PRIQ_ABT_ERR::SET
            + GERROR::MSI_GERROR_ABT_ERR::SET;
        if active & simple.mask() != 0 {
            self.queue.acknowledge(&self.mmio, simple.mask());
            if self.may_log() {
                log::warn!("{}: global error {active:#x} acknowledged", self.name());
            }
        }
        is_active(GERROR::EVENTQ_ABT_ERR)
    }
}
