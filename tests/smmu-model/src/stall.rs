//! Stalled transactions (3.12.2, 4.7.1, 4.7.2).

use crate::driver_fault::DriverFault;
use crate::event::Event;
use crate::model::Model;
use crate::transaction::{Outcome, Request, Resolution};

/// What software has decided about a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Retry,
    Terminate { abort: bool },
}

/// One stalled transaction.
#[derive(Clone, Debug)]
pub(crate) struct Stall {
    pub id: u64,
    pub tag: u16,
    pub request: Request,
    decision: Option<Decision>,
}

impl Model {
    /// Holds `request` and records why; the event carries the tag.
    pub(crate) fn stall(&mut self, id: u64, request: Request, event: Event) -> u16 {
        let tag = self.next_tag;
        self.next_tag = self.next_tag.wrapping_add(1);
        self.stalls.push(Stall { id, tag, request, decision: None });
        self.record(Event { stall: Some(tag), ..event }, false);
        tag
    }

    pub(crate) fn resume(&mut self, stream: u32, tag: u16, retry: bool, abort: bool) {
        let abort = abort || self.features.terminate_aborts;
        let decision = if retry { Decision::Retry } else { Decision::Terminate { abort } };
        let found =
            self.stalls.iter_mut().find(|stall| stall.tag == tag && stall.request.stream == stream);
        match found {
            Some(stall) if stall.decision.is_none() => stall.decision = Some(decision),
            _ => self.blame(DriverFault::NoSuchStall { stream, tag }),
        }
    }

    pub(crate) fn terminate_stalls(&mut self, stream: u32) {
        for stall in self.stalls.iter_mut().filter(|stall| stall.request.stream == stream) {
            stall.decision = Some(Decision::Terminate { abort: true });
        }
    }

    /// Disabling the SMMU ends every stall (6.3.9.6).
    pub(crate) fn terminate_all_stalls(&mut self) {
        for stall in std::mem::take(&mut self.stalls) {
            let outcome = Outcome::Aborted { event: None };
            self.completed.push((stall.id, stall.request, outcome));
        }
        self.events.retain(|event| event.stall.is_none());
    }

    /// Carries out one decision.
    pub(crate) fn settle_one_stall(&mut self) {
        let Some(index) = self.stalls.iter().position(|stall| stall.decision.is_some()) else {
            return;
        };
        let Stall { id, tag, request, decision } = self.stalls.remove(index);
        self.events.retain(|event| event.stall != Some(tag));
        let outcome = match decision {
            Some(Decision::Terminate { abort: false }) => Outcome::Ignored { event: None },
            Some(Decision::Terminate { abort: true }) | None => Outcome::Aborted { event: None },
            Some(Decision::Retry) => match self.resolve(&request) {
                Resolution::Pass(pa) => self.perform(pa, &request),
                Resolution::Abort(event) => Outcome::Aborted { event },
                Resolution::Ignore(event) => Outcome::Ignored { event },
                Resolution::Stall(event) => {
                    self.stall(id, request, event);
                    return;
                }
            },
        };
        self.completed.push((id, request, outcome));
    }

    /// How many transactions are stalled.
    pub fn stalled(&self) -> usize {
        self.stalls.len()
    }
}
