//! Faults of the SMMUs, on their way to the log and the report.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use palisade_bundle::MAX_VMS;
use palisade_gic::{Gic, KICK_SGI};
use palisade_hal::Env;
use palisade_hal::cpu::{self, Counter};
use palisade_hal::lock::{Mutex, Rank};
use palisade_iommu::{DeviceId, Fault};
use palisade_vm::RateLimit;

use crate::operator::counts;
use crate::operator::shown::{Kept, Shown};
use crate::operator::storm::Storms;
use crate::vms::system::System;
use crate::wire::report::Record;

/// Records taken from one queue at a time.
const BUDGET: usize = 64;
/// Times that a queue is looked at in one interrupt. What is left then is a storm's.
const TURNS: usize = 4;

/// Lines about events that were lost.
static LOST_LINES: RateLimit = RateLimit::new(4);
/// Lines of the log, as opposed to the report, for the faults of each owner; the last is no VM.
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

static SHOWN: Mutex<Shown> = Mutex::new(Rank::FaultCounts, Shown::new());
static STORMS: Storms = Storms::new();
/// A queue was left with records in it: its interrupt does not come again (IHI 0070, 3.18).
static LEFT: AtomicBool = AtomicBool::new(false);
/// Cores whose VM's ring is to be filled, a bit each.
static NOTICED: AtomicU64 = AtomicU64::new(0);

/// Whether a fault is shown. Sums up the last second when it is over.
fn admit(fault: &Fault, system: &System) -> bool {
    let now = Counter.now();
    let mut shown = SHOWN.lock();
    let kept: ArrayVec<Kept, { MAX_VMS + 1 }> = match shown.is_over(now, Counter.frequency()) {
        true => shown.begin(now).collect(),
        false => ArrayVec::new(),
    };
    let admitted = shown.admit(fault.owner.map(|owner| owner.index()), fault.record.address);
    drop(shown);
    kept.iter().for_each(|kept| report_kept(kept, system));
    admitted
}

fn report_kept(kept: &Kept, system: &System) {
    let vm = kept.vm.map(|vm| system.vm_name(vm));
    log::warn!("vm {}: {} more SMMU faults were not shown", vm.unwrap_or("-"), kept.faults);
    Record::new("faults_not_shown")
        .maybe_text("vm", vm)
        .number("faults", kept.faults.into())
        .send();
}

/// Sums up what was not shown until now.
pub(crate) fn report_rest(system: &System) {
    let kept: ArrayVec<Kept, { MAX_VMS + 1 }> = SHOWN.lock().begin(Counter.now()).collect();
    kept.iter().for_each(|kept| report_kept(kept, system));
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

/// An SMMU's interrupt at count `now`: drains its events, unless a storm is going on, which its
/// owner's core drains.
pub(crate) fn interrupt(system: &System, now: u64) {
    match STORMS.core(now, Counter.frequency()) {
        Some(core) => hand_over(system, core),
        None => drain(system),
    }
}

fn hand_over(system: &System, core: usize) {
    LEFT.store(true, Ordering::Release);
    system.machine.gic.send_sgi(core, KICK_SGI);
}

/// A core was kicked: it drains what was left to it, and fills the ring of its own VM. Most kicks
/// are about something else, and cost two loads here.
pub(crate) fn kicked(system: &System, core: usize) {
    if LEFT.load(Ordering::Acquire) && LEFT.swap(false, Ordering::AcqRel) {
        drain(system);
    }
    let own = 1 << (core & 63);
    if NOTICED.load(Ordering::Acquire) & own == 0 {
        return;
    }
    NOTICED.fetch_and(!own, Ordering::AcqRel);
    for built in system.vms().iter().filter(|built| built.vm.cores().contains(&core)) {
        // What a guest's own tables did, it finds in its ring.
        if let Some(service) = built.vm.service() {
            service.pump(&mut |_| {});
        }
    }
}

/// Takes what the event queues hold, but no more than a bounded number: what is left, a core of
/// the VM whose device filled them takes. Runs on any core.
pub(crate) fn drain(system: &System) {
    let iommus = &system.machine.iommus;
    let mut owners = 0_u64;
    let mut last = None;
    let mut left = false;
    for instance in iommus.instances() {
        for turn in 1..=TURNS {
            let drained = iommus.drain(&instance, BUDGET);
            if drained.overflowed && LOST_LINES.admit(&Counter).is_some() {
                log::warn!("SMMU {:#x}: events were lost", instance.phandle());
            }
            let lost = iommus.take_operator_faults(&mut |fault| {
                counts::count(fault);
                last = fault.owner;
                owners |= fault.owner.map_or(0, |owner| 1 << (owner.index() & 63));
                if admit(fault, system) {
                    report(fault, system);
                }
            });
            if lost > 0 {
                // Whose they were is not known.
                owners = u64::MAX;
                if LOST_LINES.admit(&Counter).is_some() {
                    log::warn!("{lost} SMMU faults were lost");
                }
            }
            if !drained.more {
                break;
            }
            left |= turn == TURNS;
        }
    }
    notify(system, owners);
    if left {
        // The interrupt comes when an empty queue gets a record: this one must be emptied.
        let vms = system.vms();
        let own = |index: u16| vms.iter().find(|built| built.vm.index() == usize::from(index));
        let owner = last.and_then(|owner| own(owner.index()));
        let core = owner.and_then(|built| built.vm.cores().first().copied());
        let core = core.unwrap_or(cpu::index());
        STORMS.note(core, Counter.now());
        hand_over(system, core);
    }
}

/// Has each of the VMs of the set `owners` fill its ring on a core of its own.
fn notify(system: &System, owners: u64) {
    for built in system.vms() {
        let concerned = owners >> (built.vm.index() & 63) & 1 != 0;
        if let Some(&core) = built.vm.cores().first()
            && concerned
            && built.vm.service().is_some()
        {
            NOTICED.fetch_or(1 << (core & 63), Ordering::AcqRel);
            system.machine.gic.send_sgi(core, KICK_SGI);
        }
    }
}

fn report(fault: &Fault, system: &System) {
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
