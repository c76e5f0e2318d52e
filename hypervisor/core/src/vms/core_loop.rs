//! What each core does once everything is built: run its vCPU, end its VM, wait.

use palisade_gic::Gic;
use palisade_hal::Deadline;
use palisade_hal::cpu::{self, Counter};
use palisade_vm::vcpu::{self, Outcome};

use crate::vms::built::BuiltVm;
use crate::vms::end::{end, left};
use crate::vms::host::{Dispatch, Hypervisor};
use crate::vms::rebuild::rebuild;
use crate::vms::system::System;

/// Interrupts handled before an idle core looks at its orders again.
const BOUND: usize = 32;

/// Cores that have not left an ended VM after this time never will, in microseconds.
const PARKING: u64 = 5_000_000;

/// Sleeps until an interrupt is pending, and handles what is.
pub(crate) fn nap(system: &'static System, dispatch: Dispatch) {
    let gic = &system.machine.gic;
    cpu::wfi();
    for _ in 0..BOUND {
        let Some(ack) = gic.acknowledge() else { return };
        dispatch(system, ack.intid());
        gic.priority_drop(ack);
        gic.deactivate(ack);
    }
}

/// What core `core` does once everything is built: whatever vCPU belongs on it, as often as its
/// VM starts. The first core comes back when all VMs have ended, the others never do.
pub(crate) fn serve(system: &'static System, core: usize, dispatch: Dispatch) {
    let host = Hypervisor { system, dispatch };
    let mut slots = system.slots().iter();
    let place = slots.find_map(|slot| Some((slot, slot.vcpu(core)?)));
    while core != 0 || !system.all_ended() {
        if let Some((slot, vcpu)) = place {
            let built = slot.built();
            if !built.is_gone() {
                run(&host, &built, vcpu);
                continue;
            }
            drop(built);
            if vcpu == 0 && slot.is_requested() {
                rebuild(system, slot);
                continue;
            }
        }
        nap(system, dispatch);
    }
}

/// Runs a vCPU until its VM has ended for good.
fn run(host: &Hypervisor, built: &BuiltVm, vcpu: usize) {
    let system = host.system;
    loop {
        let outcome = vcpu::run(&built.vm, vcpu, host);
        if vcpu == 0 {
            // The others have been told and are on their way out.
            if !Deadline::after(&Counter, PARKING).wait(&Counter, || built.vm.is_parked()) {
                log::error!(
                    "vm {}: not all its cores came back: all stays its own",
                    built.vm.name()
                );
                return left(system, built);
            }
            if outcome != Outcome::Reset {
                return end(system, built, outcome);
            }
            if !built.restart(&system.machine) {
                return end(system, built, Outcome::Crashed);
            }
        } else {
            while built.ended() {
                if built.is_gone() {
                    return;
                }
                nap(system, host.dispatch);
            }
        }
    }
}
