//! From an IOMMU's event queue to the logs, and what is done about storms.

use alloc::sync::Arc;

use arrayvec::ArrayVec;
use palisade_hal::StreamId;

use super::Fault;
use crate::attach::abort_all;
use crate::driver::{Drained, FaultRecord, Response, STORMS};
use crate::error::Error;
use crate::group::{Condition, Group};
use crate::instance::Instance;
use crate::registry::{Iommus, OPERATOR_LOG};

/// Records of one drain at most, so that a stall among them is never forgotten.
const STALLS_PER_DRAIN: usize = 256;

/// Streams that went over their budgets.
pub(crate) type Storms = ArrayVec<StreamId, STORMS>;

impl Iommus {
    /// Takes at most `budget` records from the instance's event queue, each to its owner's log
    /// and to the operator's. A stalled transaction whose record reaches no owner is aborted: no
    /// one else would ever answer it. The group of a stream that went over its budget is
    /// contained before this returns.
    ///
    /// Taking records needs no lock but the logs' (and the driver's queues); containing takes the
    /// group's, so the caller holds none.
    pub fn drain(&self, instance: &Instance, budget: usize) -> Drained {
        let drained = self.take_records(instance, budget);
        self.contain(instance, &drained.storms);
        drained
    }

    /// [`drain`](Self::drain) for a caller that holds a group's lock: who storms is only named.
    pub(crate) fn take_records(&self, instance: &Instance, budget: usize) -> Drained {
        let mut orphans = ArrayVec::<_, STALLS_PER_DRAIN>::new();
        let budget = budget.min(STALLS_PER_DRAIN);
        let mut sink = |record: &FaultRecord| {
            let route = instance.routes().find(record.stream);
            let owner = route.and_then(|(_, owner)| owner);
            let owner = owner.filter(|&owner| self.owners.is_open(owner));
            let device = route.map(|(device, _)| device);
            let fault = Fault { phandle: instance.phandle(), device, owner, record: *record };
            let delivered = owner.is_some_and(|owner| self.owners.deliver(owner, fault));
            if let (Some(tag), false) = (record.stall, delivered) {
                let _ = orphans.try_push((record.stream, tag));
            }
            self.operator.lock().push(fault);
        };
        let drained = instance.driver().drain_events(&mut sink, budget);
        for (stream, tag) in orphans {
            // A failure has already made the driver abort the stream.
            let _ = instance.driver().resume(stream, tag, Response::Abort);
        }
        drained
    }

    /// Contains the groups of `storms`: every stream of each aborts, and stays so whatever its
    /// owner asks for. One message each.
    pub(crate) fn contain(&self, instance: &Instance, storms: &[StreamId]) {
        for &stream in storms {
            let mut index = 0;
            // One at a time: nothing is waited for under the registry's lock.
            while let Some(group) = self.nth_group(index) {
                index += 1;
                if core::ptr::eq(&**group.instance(), instance)
                    && self.contain_group(&group, stream)
                {
                    break;
                }
            }
        }
    }

    /// Contains a group if `stream` is of it; whether it is.
    fn contain_group(&self, group: &Group, stream: StreamId) -> bool {
        let mut state = group.lock();
        if !state.streams.contains(&stream) {
            return false;
        }
        // Each stream is named once; another of the group may have been before.
        if state.contained || matches!(state.condition, Condition::Free | Condition::Dead) {
            return true;
        }
        let device = state.first_device();
        log::warn!("device {device}: too many faults; it aborts until the operator resets it");
        state.contained = true;
        if state.attachment.is_some()
            && let Err(error) = abort_all(group.instance(), state.streams.iter())
        {
            log::error!("device {device}: containing it: {error}; it is dead");
            self.kill(group, &mut state);
        }
        true
    }

    /// Ends the containment of a group that no domain has: the operator's word, after its devices
    /// were reset. Nothing that a guest can ask for leads here.
    ///
    /// # Errors
    /// [`Error::Condition`] while it is attached.
    pub fn end_containment(&self, group: &Group) -> Result<(), Error> {
        let mut state = group.lock();
        if state.contained && state.attachment.is_some() {
            let (device, condition) = (state.first_device(), state.condition());
            return Err(Error::Condition { device, condition });
        }
        state.contained = false;
        Ok(())
    }

    /// Hands every fault that the operator has not seen to `sink`, oldest first, and returns
    /// how many were lost. No lock is held while `sink` runs.
    pub fn take_operator_faults(&self, sink: &mut dyn FnMut(&Fault)) -> u64 {
        // Bounded: what arrives meanwhile waits for the next call.
        for _ in 0..OPERATOR_LOG {
            let fault = self.operator.lock().pop();
            match fault {
                Some(fault) => sink(&fault),
                None => break,
            }
        }
        self.operator.lock().take_lost()
    }

    fn nth_group(&self, index: usize) -> Option<Arc<Group>> {
        self.inner.lock().groups.get(index).cloned()
    }
}
