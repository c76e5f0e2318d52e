//! Physical interrupts: the guest's own, and the rest.
use palisade_gic::{Ack, AnyGic, FIRST_SPI, Gic, KICK_SGI, Trigger};
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
///
/// `arrived` is what [`take_one_by_one`] answered.
#[inline(never)]
pub fn settle(vm: &Vm, vcpu: usize, gic: &AnyGic, arrived: u32) {
    let (lines, high) = timer_lines();
    vm.vgic().look(vcpu, gic, lines, high, arrived);
}

/// Takes what brought a guest out. A timer of its own, or a kick, mostly comes alone: what else is
/// pending brings it out again. Answers the bit of the timer, if it was one: [`settle`] has to be
/// told of it.
#[inline(never)]
pub fn take_one_by_one(vm: &Vm, vcpu: usize, host: &dyn Host) -> u32 {
    let gic = host.gic();
    let Some(ack) = gic.acknowledge() else { return 0 };
    if ack.intid() < FIRST_SPI
        && let Some(linked) = vm.vgic().linked(ack.intid())
    {
        // Active from now on until the guest ends it.
        gic.priority_drop(ack);
        return 1 << (linked & 31);
    }
    if ack.intid() == KICK_SGI {
        kicked(host, ack);
    } else {
        take_these(vm, vcpu, host, ack);
    }
    0
}

#[inline(never)]
fn kicked(host: &dyn Host, ack: Ack) {
    host.interrupt(KICK_SGI);
    host.gic().priority_drop(ack);
    host.gic().deactivate(ack);
}

/// Takes what is pending on this core.
pub fn take(vm: &Vm, vcpu: usize, host: &dyn Host) {
    if let Some(first) = host.gic().acknowledge() {
        take_these(vm, vcpu, host, first);
    }
}

#[inline(never)]
fn take_these(vm: &Vm, vcpu: usize, host: &dyn Host, first: Ack) {
    let gic = host.gic();
    let mut next = Some(first);
    for _ in 0..BOUND {
        let Some(ack) = next.take().or_else(|| gic.acknowledge()) else { return };
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
