//! Physical interrupts: the guest's own, and the rest.
use palisade_gic::{AnyGic, Gic, Trigger};
use palisade_hal::guest::{self, El1};

use super::host::Host;
use crate::{Vm, its::FIRST_LPI, layout};

/// Interrupts taken per exit; more come out again.
const BOUND: usize = 32;
/// CNTx_CTL_EL0 (DDI 0487, D24.10.16): enabled, not masked, condition met.
const FIRING: u64 = 0b101;
const CONTROL: u64 = 0b111;
/// Priority of the guest's interrupts and of the maintenance interrupt.
const PRIORITY: u8 = 0x80;

/// Switches the core's private interrupts on that a guest needs.
pub fn prepare(vm: &Vm, gic: &impl Gic) {
    let wires = vm.wires();
    for intid in [wires.virtual_timer, wires.physical_timer, wires.maintenance] {
        let ready = gic
            .configure(intid, Trigger::Level, PRIORITY)
            .and_then(|()| gic.set_enabled(intid, true));
        if let Err(error) = ready {
            log::error!("[{}] interrupt {intid}: {error}", vm.name());
        }
    }
}

/// Switches them off again.
pub fn retire(vm: &Vm, gic: &impl Gic) {
    let wires = vm.wires();
    for intid in [wires.virtual_timer, wires.physical_timer, wires.maintenance] {
        if let Err(error) = gic.set_enabled(intid, false) {
            log::error!("[{}] interrupt {intid}: {error}", vm.name());
        }
    }
}

/// Looks at the guest's controller before the guest goes in.
#[inline(never)]
pub fn settle(vm: &Vm, vcpu: usize, gic: &AnyGic) {
    let (lines, high) = timer_lines();
    vm.vgic().look(vcpu, gic, lines, high);
}

/// Takes what is pending on this core.
#[inline(never)]
pub fn take(vm: &Vm, vcpu: usize, host: &dyn Host) {
    let gic = host.gic();
    for _ in 0..BOUND {
        let Some(ack) = gic.acknowledge() else { return };
        let intid = ack.intid();
        if intid >= FIRST_LPI {
            // An LPI has no active state: dropping its priority is its end.
            gic.priority_drop(ack);
            vm.raise(intid);
            continue;
        }
        if let Some(linked) = vm.vgic().linked(intid) {
            // Active from now on until the guest ends it.
            gic.priority_drop(ack);
            if !vm.vgic().forward(vcpu, linked) {
                gic.deactivate(ack);
            }
            continue;
        }
        if intid == vm.wires().maintenance {
            vm.vgic().rest(vcpu, gic);
        } else {
            host.interrupt(intid);
        }
        gic.priority_drop(ack);
        gic.deactivate(ack);
    }
}

/// Tells the guest's controller how its timers' lines stand.
pub fn sample_timers(vm: &Vm, vcpu: usize) {
    let (lines, high) = timer_lines();
    vm.vgic().sample(vcpu, lines, high);
}

/// The timers' lines, and which of them are high. They are the hardware's, and change without an
/// exit.
fn timer_lines() -> (u32, u32) {
    let firing = |register| guest::read_el1(register) & CONTROL == FIRING;
    let mut high = 0;
    if firing(El1::CntvCtl) {
        high |= 1 << layout::VIRTUAL_TIMER;
    }
    if firing(El1::CntpCtl) {
        high |= 1 << layout::PHYSICAL_TIMER;
    }
    (1 << layout::VIRTUAL_TIMER | 1 << layout::PHYSICAL_TIMER, high)
}
