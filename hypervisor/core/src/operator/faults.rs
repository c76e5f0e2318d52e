//! Faults of the SMMUs, on their way to the log and the report.

use core::fmt;

use palisade_bundle::MAX_VMS;
use palisade_hal::Env;
use palisade_hal::cpu::Counter;
use palisade_hal::lock::Mutex;
use palisade_iommu::{DeviceId, Fault};
use palisade_vm::RateLimit;

use crate::operator::counts;
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

/// Shows the operator how many faults there were, of which device and VM, and the last of each.
pub(crate) fn report_counts(system: &System) {
    // One at a time, so that nothing is written under the lock.
    for count in (0..).map_while(counts::at) {
        let vm = count.vm.map_or("-", |vm| system.vm_name(vm));
        match count.device {
            Some(device) => log::info!("device {}", Name(device)),
            None => log::info!("no device"),
        }
        let (kind, address) = count.last;
        log::info!("  vm {vm}: {} faults, last {kind} of {address:#x}", count.faults);
    }
    if counts::at(0).is_none() {
        log::info!("no faults");
    }
}

/// Empties the event queues and tells the operator. Runs on any core.
pub(crate) fn drain(system: &System) {
    let iommus = &system.machine.iommus;
    for instance in iommus.instances() {
        // The interrupt comes when an empty queue gets a record: it must be left
        // empty. A stream that does not stop is contained by the driver.
        for _ in 0..TURNS {
            let drained = iommus.drain(&instance, BUDGET);
            if drained.overflowed {
                log::warn!("SMMU {:#x}: events were lost", instance.phandle());
            }
            let lost = iommus.take_operator_faults(&mut |fault| {
                counts::count(fault);
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
    for service in system.vms().iter().filter_map(|built| built.vm.service()) {
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
