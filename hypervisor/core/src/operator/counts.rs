//! How many faults there were, by device and owner.

use arrayvec::ArrayVec;
use palisade_hal::lock::{Mutex, Rank};
use palisade_iommu::{DeviceId, Fault};

/// The faults of one device while one VM, or no VM, owned it.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    /// The device; none where the stream is no device's, or the list was full.
    pub(crate) device: Option<DeviceId>,
    /// Index of the VM.
    pub(crate) vm: Option<u16>,
    /// How many.
    pub(crate) faults: u64,
    /// Kind and address of the last.
    pub(crate) last: (&'static str, u64),
}

/// Pairs of device and owner that are told apart; what does not fit is counted in the last one.
const PAIRS: usize = 32;

static COUNTS: Mutex<ArrayVec<Count, PAIRS>> = Mutex::new(Rank::FaultCounts, ArrayVec::new_const());

/// Counts one.
pub(crate) fn count(fault: &Fault) {
    let vm = fault.owner.map(|owner| owner.index());
    let mut counts = COUNTS.lock();
    let last = (fault.record.kind.name(), fault.record.address);
    let full = counts.is_full();
    let same = |count: &&mut Count| (count.device, count.vm) == (fault.device, vm);
    if let Some(known) = counts.iter_mut().find(same) {
        (known.faults, known.last) = (known.faults.saturating_add(1), last);
    } else if !full {
        counts.push(Count { device: fault.device, vm, faults: 1, last });
    } else if let Some(rest) = counts.last_mut() {
        *rest = Count { device: None, vm: None, faults: rest.faults.saturating_add(1), last };
    }
}

/// How many faults there were of a VM's devices.
pub(crate) fn count_of(vm: u16) -> u64 {
    let counts = COUNTS.lock();
    counts.iter().filter(|count| count.vm == Some(vm)).map(|count| count.faults).sum()
}

/// How many faults there were of a device, whoever owned it.
pub(crate) fn count_of_device(device: DeviceId) -> u64 {
    let counts = COUNTS.lock();
    counts.iter().filter(|count| count.device == Some(device)).map(|count| count.faults).sum()
}

/// The count at `index` of the list, if there are so many.
pub(crate) fn at(index: usize) -> Option<Count> {
    COUNTS.lock().get(index).copied()
}
