//! What a synchronous exit asks for.
use palisade_hal::{
    cpu,
    guest::{ExitKind, GuestContext},
};

use super::{abort, host::Host, host::Outcome, inject, irq, skip};
use crate::{
    Vm,
    hypercall::Service,
    psci::{Call, SmcccCall, error},
    sysreg::{IdRegisters, SysregAccess, Treatment},
};

/// What comes after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The guest goes on.
    Continue,
    /// The vCPU goes off.
    Off,
    /// The VM ends.
    End(Outcome),
}

/// Exception classes (ESR_EL2.EC; DDI 0487, D24.2.37).
mod class {
    pub const WFX: u64 = 0x01;
    pub const HVC: u64 = 0x16;
    pub const SMC: u64 = 0x17;
    pub const SYSREG: u64 = 0x18;
    pub const INSTRUCTION_ABORT: u64 = 0x20;
    pub const DATA_ABORT: u64 = 0x24;
}

/// Answers a synchronous exit. What is frequent and short is done first; the rest has functions of
/// its own, so that the way through here keeps its few values in registers.
#[inline]
pub fn synchronous(
    vm: &Vm,
    vcpu: usize,
    context: &mut GuestContext,
    esr: u64,
    ids: &IdRegisters,
    host: &dyn Host,
) -> Next {
    match esr >> 26 & 0x3f {
        class::SYSREG => match ids.answer(esr) {
            Some((register, value)) => {
                context.set(register, value);
                skip::skip(context, esr);
            }
            None => sysreg(vm, vcpu, context, esr),
        },
        class::DATA_ABORT => abort::data(vm, vcpu, context, host.gic()),
        class::HVC => return hvc(vm, vcpu, context, host),
        _ => return rare(vm, vcpu, context),
    }
    Next::Continue
}

#[inline(never)]
fn rare(vm: &Vm, vcpu: usize, context: &mut GuestContext) -> Next {
    let exit = &context.exit(ExitKind::Sync);
    match exit.esr >> 26 & 0x3f {
        class::WFX => {
            skip::skip(context, exit.esr);
            // WFI (bit 0 clear): until something is pending on this core. WFE: go on.
            if exit.esr & 1 == 0 {
                cpu::wfi();
            }
        }
        class::SMC => {
            // The firmware is not the guest's; the trap is before the instruction.
            context.set(0, error::NOT_SUPPORTED as u64);
            skip::skip(context, exit.esr);
        }
        class::INSTRUCTION_ABORT => {
            if !abort::instruction(vm, vcpu, context, exit) {
                return Next::End(Outcome::Crashed);
            }
        }
        // Only AArch32 has instructions that trap although they do nothing.
        _ if !skip::passes(context, exit.esr) => skip::skip(context, exit.esr),
        other => {
            vm.complain(|| {
                log::warn!(
                    "[{}] vCPU {vcpu}: exception class {other:#x} at PC {:#x}",
                    vm.name(),
                    context.elr
                )
            });
            inject::undefined(context);
        }
    }
    Next::Continue
}

#[inline(never)]
fn hvc(vm: &Vm, vcpu: usize, context: &mut GuestContext, host: &dyn Host) -> Next {
    let call = SmcccCall {
        function: context.get(0) as u32,
        arguments: [context.get(1), context.get(2), context.get(3)],
    };
    let answer = match call.decode() {
        Call::Answer(answer) => answer,
        Call::Suspend => {
            suspend(vm, vcpu, host);
            0
        }
        Call::Off => return Next::Off,
        Call::On { target, entry, context: argument } => vm.start_vcpu(target, entry, argument),
        Call::AffinityInfo { target, level } => vm.power().info(target, level),
        Call::SystemOff => return Next::End(Outcome::Off),
        Call::SystemReset => return Next::End(Outcome::Reset),
        Call::Vendor(function) => {
            vendor(vm, context, function);
            return Next::Continue;
        }
    };
    context.set(0, answer as u64);
    Next::Continue
}

/// A call of the guest interface.
#[inline(never)]
fn vendor(vm: &Vm, context: &mut GuestContext, function: u32) {
    let Some(service) = vm.service().filter(|_| Service::knows(function)) else {
        context.set(0, error::NOT_SUPPORTED as u64);
        return;
    };
    let arguments = [1, 2, 3, 4, 5, 6].map(|n| context.get(n));
    let answers = service.handle(function, arguments);
    for (index, answer) in answers.into_iter().enumerate() {
        context.set(index, answer);
    }
}

/// Standby: until something is there for this vCPU, or its VM ends.
#[inline(never)]
fn suspend(vm: &Vm, vcpu: usize, host: &dyn Host) {
    // What it was told of and has not taken waits too.
    vm.vgic().fold(vcpu, host.gic());
    // Bounded by the guest's patience alone, with its core given to nobody else: it is asleep.
    while !vm.stopping() && !vm.vgic().has_pending(vcpu) {
        // What it waits for may stand in its queue of message commands.
        if !vm.go_on() {
            cpu::wfi();
        }
        irq::take(vm, vcpu, host);
        vm.kick_others(vcpu, host.gic());
    }
}

/// A system register that is none of those that identify the core, or a write.
#[inline(never)]
fn sysreg(vm: &Vm, vcpu: usize, context: &mut GuestContext, esr: u64) {
    let access = SysregAccess::decode((esr & 0x1ff_ffff) as u32);
    match (access.treatment(), access.read) {
        (Treatment::Value(value), true) => context.set(access.rt, value),
        (Treatment::Value(_), false) => {}
        (Treatment::Generate(group1), false)
            if vm.vgic().version() == palisade_gic::Version::V3 =>
        {
            vm.vgic().generate(vcpu, context.get(access.rt), group1);
        }
        _ => return no_register(vm, vcpu, context, esr),
    }
    skip::skip(context, esr);
}

#[cold]
#[inline(never)]
fn no_register(vm: &Vm, vcpu: usize, context: &mut GuestContext, esr: u64) {
    let register = SysregAccess::decode((esr & 0x1ff_ffff) as u32).register;
    vm.complain(|| {
        log::warn!(
            "[{}] vCPU {vcpu}: no register S{}_{}_C{}_C{}_{} at PC {:#x}",
            vm.name(),
            register.op0,
            register.op1,
            register.crn,
            register.crm,
            register.op2,
            context.elr
        );
    });
    inject::no_register(context, esr);
}
