//! What each core does once everything is built: run its vCPU, end its VM, wait.

use core::cell::Cell;
use core::sync::atomic::{AtomicUsize, Ordering};

use palisade_gic::Gic;
use palisade_hal::cpu::{self, Counter};
use palisade_hal::{Deadline, Env};
use palisade_vm::memory::TornDown;
use palisade_vm::vcpu::{self, Outcome};

use crate::machine::interrupts;
use crate::operator::devices;
use crate::operator::footprint;
use crate::vms::host::Hypervisor;
use crate::vms::system::System;
use crate::vms::unit::Unit;

/// Interrupts handled before an idle core looks at its orders again.
const BOUND: usize = 32;

/// Cores that have not left an ended VM after this time never will, in microseconds.
const PARKING: u64 = 5_000_000;

/// VMs that have not ended.
static LEFT: AtomicUsize = AtomicUsize::new(0);

/// Sets how many VMs there are to end.
pub(crate) fn set_left(vms: usize) {
    LEFT.store(vms, Ordering::Release);
}

/// Whether every VM has ended.
pub(crate) fn all_ended() -> bool {
    LEFT.load(Ordering::Acquire) == 0
}

/// Sleeps until an interrupt is pending, and handles what is.
pub(crate) fn nap(system: &'static System) {
    cpu::wfi();
    for _ in 0..BOUND {
        let Some(ack) = system.gic.acknowledge() else { return };
        interrupts::handle(system, ack.intid());
        system.gic.priority_drop(ack);
        system.gic.deactivate(ack);
    }
}

/// One more VM is to end; false if all have, and the machine goes off.
pub(crate) fn one_more() -> bool {
    let more = |left: usize| if left == 0 { None } else { left.checked_add(1) };
    LEFT.try_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
}

/// One VM is over.
pub(crate) fn one_less(system: &System) {
    LEFT.fetch_sub(1, Ordering::AcqRel);
    system.wake_all();
}

/// What core `core` does once everything is built: whatever vCPU belongs on it, as often as its
/// VM starts. The first core comes back when all VMs have ended, the others never do.
pub(crate) fn serve(system: &'static System, core: usize) {
    let mut slots = system.slots().iter();
    let place = slots.find_map(|slot| Some((slot, slot.vcpu(core)?)));
    while core != 0 || !all_ended() {
        if let Some((slot, vcpu)) = place {
            let unit = slot.unit();
            if !unit.is_gone() {
                run(system, &unit, vcpu);
                continue;
            }
            drop(unit);
            if vcpu == 0 && slot.is_wanted() {
                slot.renew(system);
                continue;
            }
        }
        nap(system);
    }
}

/// Runs a vCPU until its VM has ended for good.
fn run(system: &'static System, unit: &Unit, vcpu: usize) {
    let host = Hypervisor(system);
    loop {
        let outcome = vcpu::run(&unit.vm, vcpu, &host);
        if vcpu == 0 {
            // The others have been told and are on their way out.
            if !Deadline::after(&Counter, PARKING).wait(&Counter, || unit.vm.is_parked()) {
                log::error!(
                    "vm {}: not all its cores came back: all stays its own",
                    unit.vm.name()
                );
                return left(system, unit);
            }
            if outcome != Outcome::Reset {
                return end(system, unit, outcome);
            }
            unit.tell("reset", None);
            if !unit.restart(system) {
                return end(system, unit, Outcome::Crashed);
            }
        } else {
            while unit.ended() {
                if unit.is_gone() {
                    return;
                }
                nap(system);
            }
        }
    }
}

/// Takes everything from a VM.
fn end(system: &'static System, unit: &Unit, outcome: Outcome) {
    let state = if outcome == Outcome::Crashed { "crashed" } else { "off" };
    unit.tell(state, None);
    // From here on the operator moves nothing in or out.
    unit.close();
    unit.unwire(system);
    unit.vm.silence();
    unit.pci.clear();
    let index = unit.vm.index() as u16;
    let watch = Watch::new(system);
    for device in system.book.take_back(index, &system.iommus, &watch) {
        log::info!("device {}: {}", device.address, device.condition.name());
    }
    if let Some(service) = unit.vm.service() {
        service.shutdown();
    }
    system.tell_posture();
    if let TornDown::Quarantined(frames) = unit.vm.memory().tear_down() {
        log::error!("vm {}: {frames} frames stay quarantined", unit.vm.name());
    }
    system.plain.take_back(index);
    if let Err(error) = system.iommus.owners().close(unit.owner) {
        log::error!("vm {}: {error}", unit.vm.name());
    }
    left(system, unit);
}

/// Notes that a VM is over.
fn left(system: &System, unit: &Unit) {
    unit.set_gone();
    unit.tell_counters();
    devices::tell(system, false);
    footprint::tell(system);
    one_less(system);
}

/// The counter, for the waits of a device's return: the first of them begins when
/// every stream aborts, which is the moment to tell of the quarantine.
pub(crate) struct Watch {
    system: &'static System,
    told: Cell<bool>,
}

impl Watch {
    /// Nothing is told yet.
    pub(crate) fn new(system: &'static System) -> Self {
        Self { system, told: Cell::new(false) }
    }
}

impl Env for Watch {
    fn relax(&self) {
        if !self.told.replace(true) {
            self.system.tell_posture();
        }
        Counter.relax();
    }

    fn now(&self) -> u64 {
        Counter.now()
    }

    fn frequency(&self) -> u64 {
        Counter.frequency()
    }
}
