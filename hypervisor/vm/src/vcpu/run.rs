//! The life of a vCPU on its core.
use palisade_gic::{Gic, Version};
use palisade_hal::{
    cache, cpu,
    guest::{self, ExitKind, GuestContext, Stage2, hcr},
};

use super::{
    exit::{self, Next},
    host::{Host, Outcome},
    irq,
};
use crate::{
    Vm, layout,
    psci::affinity,
    sysreg::{Features, IdRegisters},
};

/// HCR_EL2 while a guest runs: stage 2, its interrupts and SErrors here, no SMC, no register
/// group 3 or implementation-defined register without asking, no memory tags. A walk of its tables
/// must not reach a device's registers: neither by its own accesses nor by an AT made here.
/// What traps beside, each core has set since it started: [`palisade_hal::controls`].
const HCR: u64 = hcr::VM
    | hcr::PTW
    | hcr::TID5
    | hcr::SWIO
    | hcr::AMO
    | hcr::IMO
    | hcr::FMO
    | hcr::FB
    | hcr::BSU_INNER
    | hcr::TID3
    | hcr::TSC
    | hcr::TIDCP
    | hcr::TACR
    | hcr::TLOR
    | hcr::TERR
    | hcr::APK
    | hcr::API
    | hcr::RW;

/// Runs vCPU `vcpu` of `vm` on the calling core until the VM ends. Interrupts are masked at EL2
/// throughout.
pub fn run(vm: &Vm, vcpu: usize, host: &dyn Host) -> Outcome {
    vm.enter_run();
    let outcome = loop {
        match wait_for_start(vm, vcpu, host) {
            Ok((entry, argument)) => {
                prepare(vm, vcpu, host);
                let next = guest_loop(vm, vcpu, entry, argument, host);
                retire(vm, vcpu, host);
                if vm.is_behind() {
                    // Another goes on with the queue.
                    vm.kick_all(host.gic());
                }
                match next {
                    Next::End(outcome) => break vm.end(outcome),
                    _ if vm.power().off(vcpu) => break vm.end(Outcome::Off),
                    _ => {}
                }
            }
            Err(outcome) => break outcome,
        }
    };
    vm.vgic().surrender(host.gic());
    // The others are to see it.
    vm.kick_all(host.gic());
    vm.leave_run();
    outcome
}

/// Off: until somebody starts this vCPU, or the VM ends.
fn wait_for_start(vm: &Vm, vcpu: usize, host: &dyn Host) -> Result<(u64, u64), Outcome> {
    loop {
        if let Some(outcome) = vm.outcome() {
            return Err(outcome);
        }
        if let Some(start) = vm.power().take_start(vcpu) {
            return Ok(start);
        }
        cpu::wfi();
        irq::take(vm, vcpu, host);
        vm.kick_others(vcpu, host.gic());
    }
}

fn prepare(vm: &Vm, vcpu: usize, host: &dyn Host) {
    guest::reset_el1();
    guest::set_identity(affinity(vcpu));
    guest::set_virtual_offset(0);
    guest::set_stage2(vm.memory().stage2());
    guest::set_hcr(HCR);
    // The last step before the guest's first instruction: whatever a speculated translation made
    // of the registers on their way here (erratum 1319367 and its kin) is forgotten with the rest.
    // Out of reset the TLBs hold anything (DDI 0487, D8.17), and the instruction caches may hold
    // what lay in the guest's RAM before it did.
    vm.memory().forget_translations();
    cache::sync_instructions(core::ptr::null(), 0);
    host.gic().reset_virtual();
    irq::prepare(vm, host.gic());
    host.entering(vm, vcpu);
}

/// Leaves nothing of the guest in force on this core.
fn retire(vm: &Vm, vcpu: usize, host: &dyn Host) {
    guest::reset_el1();
    vm.vgic().retire(vcpu, host.gic());
    irq::retire(vm, host.gic());
    guest::set_hcr(0);
    guest::set_stage2(Stage2::default());
}

#[inline(never)]
fn guest_loop(vm: &Vm, vcpu: usize, entry: u64, argument: u64, host: &dyn Host) -> Next {
    let gic = host.gic();
    let counters = vm.counters().of(vcpu);
    let mut context = GuestContext::start(entry, argument);
    let gicv3 = vm.vgic().version() == Version::V3;
    let ids = IdRegisters::here(Features { gicv3, ipa_bits: layout::IPA_BITS });
    let mut arrived = 0;
    loop {
        if let Some(outcome) = vm.outcome() {
            // The guest will not end them.
            irq::settle(vm, vcpu, gic, arrived);
            return Next::End(outcome);
        }
        // The queue of its message commands, a share at a time: what is left brings this vCPU out
        // again at once, after interrupts were taken and a stop was seen.
        if vm.go_on() {
            vm.kick(vcpu, gic);
        }
        // First told what others want of this vCPU, then looked at: nothing is lost between.
        vm.kick_others(vcpu, gic);
        if arrived == 0 && vm.vgic().is_quiet(vcpu) {
            counters.count_quiet();
        } else {
            irq::settle(vm, vcpu, gic, arrived);
            arrived = 0;
        }
        let exit = guest::enter(&mut context);
        counters.count(&exit);
        let next = match exit.kind {
            ExitKind::Irq | ExitKind::Fiq => {
                arrived = irq::take_one_by_one(vm, vcpu, host);
                Next::Continue
            }
            ExitKind::Sync => exit::synchronous(vm, vcpu, &mut context, exit.esr, &ids, host),
            ExitKind::SError => {
                give_back(vm, vcpu, exit.esr);
                Next::Continue
            }
        };
        if next != Next::Continue {
            return next;
        }
    }
}

/// An SError came of the guest's own access, or its device's: it gets it back as its own.
#[cold]
#[inline(never)]
fn give_back(vm: &Vm, vcpu: usize, esr: u64) {
    vm.complain(|| log::warn!("[{}] vCPU {vcpu}: SError, syndrome {esr:#x}", vm.name()));
    guest::set_hcr(HCR | hcr::VSE);
}
