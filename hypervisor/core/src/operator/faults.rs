//! Faults of the SMMUs, on their way to the log and the report.

use core::fmt;

use arrayvec::ArrayVec;
use palisade_bundle::MAX_VMS;
use palisade_hal::Env;
use palisade_hal::cpu::Counter;
use palisade_hal::lock::Mutex;
use palisade_iommu::{DeviceId, Fault};
use palisade_vm::RateLimit;

use crate::vms::system::System;
use crate::wire::report::Record;

/// Records taken from one queue at a time.
const BUDGET: usize = 64;
/// Times that a queue is looked at before its interrupt is over.
const TURNS: usize = 2048;
/// Faults of one owner that are shown per second.
const PER_SECOND: u32 = 256;

/// Lines of the log, as opposed to the report, for the faults of each owner; the last is nobody.
static LINES: [RateLimit; MAX_VMS + 1] = [const { RateLimit::new(4) }; MAX_VMS + 1];

/// A device's number in the form in which operators name PCI functions.
pub(crate) struct Name(pub(crate) DeviceId);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0.get();
        let (segment, bus) = (number >> 16, number >> 8 & 0xff);
        write!(f, "{segment:04x}:{bus:02x}:{:02x}.{}", number >> 3 & 0x1f, number & 7)
    }
}

/// How many faults were shown in the running second, by owner.
struct Shown {
    /// Count at which the second began.
    since: u64,
    /// Nobody's faults, then each VM's.
    counts: [u32; MAX_VMS + 1],
}

static SHOWN: Mutex<Shown> = Mutex::new(Shown { since: 0, counts: [0; MAX_VMS + 1] });

/// Whether one more fault of this owner is shown: so many a second, the rest is
/// counted, so that no device can drown the others' reports.
fn admit(owner: Option<u16>) -> bool {
    let now = Counter.now();
    let mut shown = SHOWN.lock();
    if now.wrapping_sub(shown.since) > Counter.frequency() {
        for (index, count) in shown.counts.iter().enumerate().filter(|(_, c)| **c > PER_SECOND) {
            let kept = count - PER_SECOND;
            log::warn!("{kept} more SMMU faults of owner {index} (0: nobody) were not shown");
        }
        *shown = Shown { since: now, counts: [0; MAX_VMS + 1] };
    }
    let index = owner.map_or(0, |vm| usize::from(vm) + 1);
    let Some(count) = shown.counts.get_mut(index) else { return false };
    *count = count.saturating_add(1);
    *count <= PER_SECOND
}

/// The faults of one device while one VM, or nobody, owned it.
struct Count {
    device: Option<DeviceId>,
    vm: Option<u16>,
    faults: u64,
    last: (&'static str, u64),
}

/// Pairs of device and owner that are told apart; what does not fit is counted in the last one.
const PAIRS: usize = 32;

static COUNTS: Mutex<ArrayVec<Count, PAIRS>> = Mutex::new(ArrayVec::new_const());

fn count(fault: &Fault) {
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

/// Tells the operator how many faults there were, of which device and VM, and the last of each.
pub(crate) fn tell_counts(system: &System) {
    let mut index = 0;
    // One at a time, so that nothing is written under the lock.
    loop {
        let line = COUNTS.lock().get(index).map(|c| (c.device, c.vm, c.faults, c.last));
        let Some((device, vm, faults, (kind, address))) = line else { break };
        let vm = vm.map_or("-", |vm| system.vm_name(vm));
        match device {
            Some(device) => log::info!("device {}", Name(device)),
            None => log::info!("no device"),
        }
        log::info!("  vm {vm}: {faults} faults, last {kind} of {address:#x}");
        index = index.saturating_add(1);
    }
    if index == 0 {
        log::info!("no faults");
    }
}

/// Empties the event queues and tells the operator. Runs on any core.
pub(crate) fn drain(system: &System) {
    let iommus = &system.iommus;
    for instance in iommus.instances() {
        // The interrupt comes when an empty queue gets a record: it must be left
        // empty. A stream that does not stop is contained by the driver.
        for _ in 0..TURNS {
            let drained = iommus.drain(&instance, BUDGET);
            if drained.overflowed {
                log::warn!("SMMU {:#x}: events were lost", instance.phandle());
            }
            let lost = iommus.take_operator_faults(&mut |fault| {
                count(fault);
                if admit(fault.owner.map(|owner| owner.index())) {
                    tell(fault, system);
                }
            });
            if lost > 0 {
                log::warn!("{lost} SMMU faults were lost");
            }
            if !drained.more {
                break;
            }
        }
    }
    // What a guest's own tables did, it finds in its ring.
    for service in system.units().iter().filter_map(|unit| unit.vm.service()) {
        service.pump(&mut |_| {});
    }
}

fn tell(fault: &Fault, system: &System) {
    let record = &fault.record;
    let owner = fault.owner.map(|owner| system.vm_name(owner.index()));
    let mut raw = [0; 32];
    for (bytes, word) in raw.chunks_exact_mut(8).zip(record.raw) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let index = fault.owner.map_or(MAX_VMS, |owner| usize::from(owner.index()));
    if LINES.get(index).is_some_and(|limit| limit.admit(&Counter).is_some()) {
        log::warn!(
            "{} of {:#x} by stream {:#x}, vm {}",
            record.kind.name(),
            record.address,
            record.stream.get(),
            owner.unwrap_or("-"),
        );
    }
    let line = Record::new("fault")
        .number("smmu", fault.phandle.into())
        .number("stream", record.stream.get().into());
    let line = match fault.device {
        Some(device) => line.text("device", Name(device)),
        None => line.maybe_text("device", None),
    };
    line.maybe_text("vm", owner)
        .text("kind", record.kind.name())
        .text("access", record.access.name())
        .address("address", record.address)
        .bytes("raw", &raw)
        .send();
}
