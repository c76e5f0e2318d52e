//! The bounded fault log of one VM.

use alloc::collections::VecDeque;

use super::Owner;
use crate::device::DeviceId;
use crate::driver::FaultRecord;

/// Records that one VM's log holds; further ones are counted.
pub const LOG_CAPACITY: usize = 64;

/// A fault with the party that it is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Phandle of the IOMMU that saw it.
    pub phandle: u32,
    /// The device, if the stream belongs to one.
    pub device: Option<DeviceId>,
    /// The VM that owned the stream when the record was taken from the queue.
    pub owner: Option<Owner>,
    /// The record.
    pub record: FaultRecord,
}

/// A ring of faults; its memory is taken once.
#[derive(Debug)]
pub(crate) struct FaultLog {
    faults: VecDeque<Fault>,
    capacity: usize,
    lost: u64,
}

impl FaultLog {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { faults: VecDeque::with_capacity(capacity), capacity, lost: 0 }
    }

    /// Appends, or counts as lost when the ring is full: the first faults of a storm say more
    /// than its last.
    pub(crate) fn push(&mut self, fault: Fault) -> bool {
        if self.faults.len() >= self.capacity {
            self.lost = self.lost.saturating_add(1);
            return false;
        }
        self.faults.push_back(fault);
        true
    }

    pub(crate) fn pop(&mut self) -> Option<Fault> {
        self.faults.pop_front()
    }

    /// The number lost since the last call.
    pub(crate) fn take_lost(&mut self) -> u64 {
        core::mem::take(&mut self.lost)
    }

    pub(crate) fn clear(&mut self) {
        self.faults.clear();
        self.lost = 0;
    }
}
